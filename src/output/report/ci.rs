//! What CI systems read: variables for later steps, annotations, groups in the log. One row of [`SYSTEMS`] each.
//!
//! Nothing is written here. Values are hosts, repositories, tags and digests: no blank, quote or line end is ever in one.

use std::ffi::OsString;

use crate::error::Error;
use crate::output::log::replace_controls;
use crate::push::Outcome;

/// A CI system.
#[derive(Debug)]
pub struct CiSystem {
    /// Its name as a value of `--ci`.
    pub name: &'static str,
    /// Its name in front of people.
    pub title: &'static str,
    /// The environment variable by which it is found. Some have none, and are named.
    detected_by: Option<&'static str>,
    /// The environment variable that identifies the run, or the job where that is more precise.
    pub run: Option<&'static str>,
    /// How variables are set.
    pub format: OutputFormat,
    /// Where they are set, if the user names no file.
    pub target: OutputTarget,
    /// How its log is written.
    pub log_commands: Option<LogCommands>,
    /// Where Markdown about the push goes.
    pub summary: Option<SummaryTarget>,
    /// Where all this is documented.
    pub link: &'static str,
}

/// How variables are set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OutputFormat {
    /// `NAME=VALUE`, a line each.
    Assignments,
    /// Azure's logging commands.
    AzureCommands(OutputScope),
    /// `buildkite-agent meta-data set`, a run each.
    BuildkiteMetadata,
    /// `export NAME='VALUE'`, a line each, for a shell that reads the file.
    Exports,
    /// A file each, with the value alone.
    Files,
    /// GitHub's form for values of several lines, which is safe for all.
    Heredocs,
    /// `NAME=VALUE` as Java reads it.
    Properties,
    /// TeamCity's service messages.
    ServiceMessages,
}

/// Who may read a variable of Azure's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OutputScope {
    /// Later steps of the same job.
    Job,
    /// Later jobs and stages, too.
    Jobs,
}

/// Where variables are set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OutputTarget {
    /// By a program of the CI system's.
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
pub enum SummaryTarget {
    /// To the end of the file that this environment variable names.
    FileOf(&'static str),
    /// Into a file of its own in the folder that this environment variable names, which a logging command then uploads.
    UploadFrom(&'static str),
    /// To the standard input of `buildkite-agent annotate`.
    BuildkiteAnnotation,
}

/// How a log is written that a CI system reads. It reads stderr as well as stdout.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogCommands {
    /// Azure's: <https://github.com/microsoft/azure-pipelines-agent/blob/master/src/Agent.Worker/Handlers/NodeHandler.cs>
    Azure,
    /// GitHub's: <https://github.com/actions/runner/blob/main/src/Runner.Worker/Handlers/ScriptHandler.cs>
    GitHub,
}

/// The systems. The first that is found counts, so those stand last inside of which others run.
pub static SYSTEMS: [CiSystem; 12] = [
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
    /// The system of this name.
    pub fn by_name(name: &str) -> Option<&'static Self> {
        SYSTEMS.iter().find(|system| system.name == name)
    }

    /// The environment variables that name files of its own.
    pub fn file_variables(&self) -> Vec<&'static str> {
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

    /// The system in which this runs, as far as the environment tells. Whoever says `false` is none.
    pub fn detect(environment: &dyn Fn(&str) -> Option<OsString>) -> Option<&'static Self> {
        let is_set = |name: &str| {
            environment(name).is_some_and(|value| !value.is_empty() && !value.eq_ignore_ascii_case("false"))
        };
        SYSTEMS.iter().find(|system| system.detected_by.is_some_and(is_set))
    }
}

/// A variable for later steps.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What stands behind the name of the further variables.
pub const VARIABLE_SUFFIXES: [&str; 4] = ["DIGEST", "REF", "ALL", "REFS"];

/// The variables of a push. None if it failed, or nothing was meant to be there after it.
pub fn variables(name: &str, outcome: &Outcome) -> Vec<Variable> {
    if outcome.dry_run || outcome.error().is_some() {
        return Vec::new();
    }
    let placed = || outcome.targets.iter().flat_map(|to| to.placed.iter().map(|placed| (&to.name, placed)));
    let Some((first, digest)) = placed().next().map(|(to, placed)| (to, placed.digest)) else { return Vec::new() };
    let all: Vec<String> = placed().map(|(to, placed)| format!("{to}:{}", placed.tag)).collect();
    let mut refs: Vec<String> = Vec::new();
    for by_digest in placed().map(|(to, placed)| format!("{to}@{}", placed.digest)) {
        if !refs.contains(&by_digest) {
            refs.push(by_digest);
        }
    }
    set(name, [&all[0], &digest.to_string(), &format!("{first}@{digest}"), &all.join(","), &refs.join(",")])
}

/// The names of the variables of a push.
pub fn names(name: &str) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(VARIABLE_SUFFIXES.map(|suffix| format!("{name}_{suffix}"))).collect()
}

fn set(name: &str, values: [&str; 1 + VARIABLE_SUFFIXES.len()]) -> Vec<Variable> {
    names(name).into_iter().zip(values).map(|(name, value)| Variable { name, value: value.to_owned() }).collect()
}

impl OutputFormat {
    /// Whether a variable may have this name. Those of shells are letters, digits and underscores.
    pub fn takes(self, name: &str) -> bool {
        let is_of_a_shell = matches!(self, Self::Assignments | Self::Exports);
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        let other = |c: char| c.is_ascii_alphanumeric() || c == '_' || !is_of_a_shell && ['.', '-'].contains(&c);
        name.starts_with(first) && name.chars().all(other)
    }

    /// What sets a variable, with a line end; for [`OutputFormat::Files`] what its file holds.
    pub fn text(self, variable: &Variable) -> String {
        // No delimiter of a heredoc: no reference can hold a bracket.
        const END: &str = "(ecr-push)";
        let Variable { name, value } = variable;
        match self {
            Self::Assignments | Self::Properties => format!("{name}={value}\n"),
            Self::AzureCommands(reach) => {
                let is_output = reach == OutputScope::Jobs;
                let (name, value) = (azure_property(name), azure_message(value));
                format!("##vso[task.setvariable variable={name};isOutput={is_output};issecret=false;]{value}\n")
            }
            Self::BuildkiteMetadata | Self::Files => value.clone(),
            Self::Exports => format!("export {name}='{value}'\n"),
            Self::Heredocs => format!("{name}<<{END}\n{value}\n{END}\n"),
            Self::ServiceMessages => {
                format!("##teamcity[setParameter name='{}' value='{}']\n", teamcity(name), teamcity(value))
            }
        }
    }
}

impl LogCommands {
    /// A failure, in place of the line that would say it.
    pub fn error(self, error: &Error) -> String {
        let text = super::error_text(error);
        let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
        match self {
            Self::Azure => format!("##vso[task.logissue type=error;]{}\n", azure_message(text)),
            Self::GitHub => format!("::error::{}\n", github(text)),
        }
    }

    /// A warning, in place of the line that would say it.
    pub fn warning(self, text: &str) -> String {
        match self {
            Self::Azure => format!("##vso[task.logissue type=warning;]{}\n", azure_message(text)),
            Self::GitHub => format!("::warning::{}\n", github(text)),
        }
    }

    /// Begins a group of lines.
    pub fn group(self, name: &str) -> String {
        match self {
            Self::Azure => format!("##[group]{name}\n"),
            Self::GitHub => format!("::group::{}\n", github(name)),
        }
    }

    /// Ends it.
    pub fn group_end(self) -> &'static str {
        match self {
            Self::Azure => "##[endgroup]\n",
            Self::GitHub => "::endgroup::\n",
        }
    }
}

/// The logging command that uploads a file of Markdown.
pub fn azure_summary(path: &str) -> String {
    format!("##vso[task.uploadsummary]{}\n", azure_message(path))
}

/// As Azure's agent decodes what stands behind a command.
fn azure_message(text: &str) -> String {
    replace_controls(text).replace('%', "%AZP25").replace('\r', "%0D").replace('\n', "%0A")
}

/// As it decodes a value inside of one.
fn azure_property(text: &str) -> String {
    azure_message(text).replace(']', "%5D").replace(';', "%3B")
}

fn github(text: &str) -> String {
    replace_controls(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn teamcity(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '\n' => "|n".to_owned(),
        '\r' => "|r".to_owned(),
        '|' | '\'' | '[' | ']' => format!("|{c}"),
        c if !c.is_ascii() => format!("|0x{:04X}", u32::from(c)),
        c => c.to_string(),
    });
    escaped.collect()
}

#[cfg(test)]
mod tests;
