//! The CI systems. To add one, add a row to [`SYSTEMS`].

use std::ffi::OsString;

use super::log_commands::LogCommands;
use super::variables::{OutputFormat, OutputScope};

/// A CI system.
#[derive(Debug)]
pub struct CiSystem {
    /// Its name as a value of `--ci`.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// The environment variable that identifies it. Systems without one are named by `--ci`.
    pub(super) detected_by: Option<&'static str>,
    /// The environment variable that identifies the run, or the job where that is more precise.
    pub(crate) run: Option<&'static str>,
    /// How variables are set.
    pub(crate) format: OutputFormat,
    /// Where they are set, if the user names no file.
    pub(crate) target: OutputTarget,
    /// The commands that it finds in a log.
    pub(crate) log_commands: Option<LogCommands>,
    /// Where Markdown about the push goes.
    pub(crate) summary: Option<SummaryTarget>,
    /// Where all this is documented.
    pub link: &'static str,
}

/// Where variables are set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OutputTarget {
    /// By a program of the CI system.
    Command,
    /// In a file that the user has to name.
    File,
    /// In the file that this environment variable names.
    FileOf(&'static str),
    /// In a folder that the user has to name.
    Folder,
    /// In this folder.
    FolderAt(&'static str),
    /// In the log: a line on stderr.
    Stderr,
    /// In the log, of which only stdout is documented to be read.
    Stdout,
}

/// Where Markdown about the push goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SummaryTarget {
    /// To the end of the file that this environment variable names.
    FileOf(&'static str),
    /// Into a file of its own in the folder that this environment variable names, which a logging command then uploads.
    UploadFrom(&'static str),
    /// To the standard input of `buildkite-agent annotate`.
    BuildkiteAnnotation,
}

/// The CI systems. The first one that is detected counts, so those in which others run come last.
pub static SYSTEMS: &[CiSystem] = &[
    CiSystem {
        name: "azure",
        title: "Azure Pipelines",
        detected_by: Some("TF_BUILD"),
        run: Some("BUILD_BUILDID"),
        format: OutputFormat::AzureCommands(OutputScope::Job),
        target: OutputTarget::Stderr,
        log_commands: Some(LogCommands::Azure),
        summary: Some(SummaryTarget::UploadFrom("AGENT_TEMPDIRECTORY")),
        link: "https://learn.microsoft.com/en-us/azure/devops/pipelines/scripts/logging-commands",
    },
    CiSystem {
        name: "github",
        title: "GitHub Actions",
        detected_by: Some("GITHUB_ACTIONS"),
        run: Some("GITHUB_RUN_ID"),
        format: OutputFormat::Heredocs,
        target: OutputTarget::FileOf("GITHUB_OUTPUT"),
        log_commands: Some(LogCommands::GitHub),
        summary: Some(SummaryTarget::FileOf("GITHUB_STEP_SUMMARY")),
        link: "https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands",
    },
    CiSystem {
        name: "gitlab",
        title: "GitLab",
        detected_by: Some("GITLAB_CI"),
        run: Some("CI_JOB_ID"),
        format: OutputFormat::Assignments,
        target: OutputTarget::File,
        log_commands: None,
        summary: None,
        link: "https://docs.gitlab.com/ci/variables/dotenv_variables",
    },
    CiSystem {
        name: "circleci",
        title: "CircleCI",
        detected_by: Some("CIRCLECI"),
        run: Some("CIRCLE_BUILD_NUM"),
        format: OutputFormat::Exports,
        target: OutputTarget::FileOf("BASH_ENV"),
        log_commands: None,
        summary: None,
        link: "https://circleci.com/docs/guides/security/set-environment-variable/",
    },
    CiSystem {
        name: "bitbucket",
        title: "Bitbucket",
        detected_by: Some("BITBUCKET_BUILD_NUMBER"),
        run: Some("BITBUCKET_BUILD_NUMBER"),
        format: OutputFormat::Assignments,
        target: OutputTarget::FileOf("BITBUCKET_PIPELINES_VARIABLES_PATH"),
        log_commands: None,
        summary: None,
        link: "https://support.atlassian.com/bitbucket-cloud/docs/variable-sharing/",
    },
    CiSystem {
        name: "buildkite",
        title: "Buildkite",
        detected_by: Some("BUILDKITE"),
        run: Some("BUILDKITE_JOB_ID"),
        format: OutputFormat::BuildkiteMetadata,
        target: OutputTarget::Command,
        log_commands: None,
        summary: Some(SummaryTarget::BuildkiteAnnotation),
        link: "https://buildkite.com/docs/agent/cli-meta-data",
    },
    CiSystem {
        name: "teamcity",
        title: "TeamCity",
        detected_by: Some("TEAMCITY_VERSION"),
        run: Some("BUILD_NUMBER"),
        format: OutputFormat::ServiceMessages,
        target: OutputTarget::Stdout,
        log_commands: None,
        summary: None,
        link: "https://www.jetbrains.com/help/teamcity/service-messages.html",
    },
    CiSystem {
        name: "drone",
        title: "Drone, Harness",
        detected_by: Some("DRONE_OUTPUT"),
        run: Some("DRONE_BUILD_NUMBER"),
        format: OutputFormat::Assignments,
        target: OutputTarget::FileOf("DRONE_OUTPUT"),
        log_commands: None,
        summary: None,
        link: "https://developer.harness.io/docs/infra-as-code-management/configuration-management/ansible/output-variables-for-ansible",
    },
    CiSystem {
        name: "tekton",
        title: "Tekton",
        detected_by: None,
        run: None,
        format: OutputFormat::Files,
        target: OutputTarget::FolderAt("/tekton/results"),
        log_commands: None,
        summary: None,
        link: "https://github.com/tektoncd/pipeline/blob/v0.41.0/docs/developers/results-lifecycle.md",
    },
    CiSystem {
        name: "argo",
        title: "Argo Workflows",
        detected_by: None,
        run: None,
        format: OutputFormat::Files,
        target: OutputTarget::Folder,
        log_commands: None,
        summary: None,
        link: "https://argo-workflows.readthedocs.io/en/latest/walk-through/output-parameters/",
    },
    CiSystem {
        name: "jenkins",
        title: "Jenkins",
        detected_by: Some("JENKINS_URL"),
        run: Some("BUILD_TAG"),
        format: OutputFormat::Properties,
        target: OutputTarget::File,
        log_commands: None,
        summary: None,
        link: "https://www.jenkins.io/doc/pipeline/steps/pipeline-utility-steps/",
    },
    CiSystem {
        name: "codebuild",
        title: "AWS CodeBuild",
        detected_by: Some("CODEBUILD_BUILD_ID"),
        run: Some("CODEBUILD_BUILD_ID"),
        format: OutputFormat::Exports,
        target: OutputTarget::File,
        log_commands: None,
        summary: None,
        link: "https://docs.aws.amazon.com/codebuild/latest/userguide/build-env-ref-env-vars.html",
    },
];

impl CiSystem {
    /// Returns the system of this name.
    pub(crate) fn by_name(name: &str) -> Option<&'static Self> {
        SYSTEMS.iter().find(|system| system.name == name)
    }

    /// The environment variables that name its files.
    pub(crate) fn file_variables(&self) -> Vec<&'static str> {
        let place = match self.target {
            OutputTarget::FileOf(name) => Some(name),
            _ => None,
        };
        let summary = match self.summary {
            Some(SummaryTarget::FileOf(name)) => Some(name),
            _ => None,
        };
        place.into_iter().chain(summary).collect()
    }

    /// Detects the system by the environment. A variable that is `false` does not count.
    pub(crate) fn detect(environment: &dyn Fn(&str) -> Option<OsString>) -> Option<&'static Self> {
        let is_set = |name: &str| {
            environment(name).is_some_and(|value| !value.is_empty() && !value.eq_ignore_ascii_case("false"))
        };
        SYSTEMS.iter().find(|system| system.detected_by.is_some_and(is_set))
    }
}
