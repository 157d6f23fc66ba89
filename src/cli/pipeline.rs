//! The CI system, and the variables and summary that it receives.

use std::path::PathBuf;

use super::values::Environment;
use crate::error::{Error, Result, one_line};
use crate::output::report::ci::{
    CiSystem, LogCommands, OutputFormat, OutputScope, OutputTarget, SYSTEMS, SummaryTarget, VARIABLE_SUFFIXES,
};

/// The default display name.
pub(super) const DISPLAY_NAME: &str = "Push Image";

/// The arguments.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct PipelineArgs {
    /// CI variable to set to the first reference; also sets NAME_DIGEST, NAME_REF (by digest), NAME_ALL and NAME_REFS
    #[arg(long, value_name = "NAME", help_heading = "Output")]
    output_variable: Option<String>,
    /// Azure Pipelines: make the variables available to later jobs and stages (isOutput=true)
    #[arg(long, requires = "output_variable", help_heading = "Output")]
    output_variable_across_jobs: bool,
    /// File to append the variables to, in the CI system's format or as NAME=VALUE; a folder for Tekton and Argo
    #[arg(long, value_name = "FILE", requires = "output_variable", help_heading = "Output")]
    pub(super) output_file: Option<PathBuf>,
    /// CI system to write for, or none [default: detected from the environment]
    #[arg(long, value_name = "NAME", help_heading = "Output")]
    ci: Option<String>,
    /// Name of the push in the logs and summaries of CI systems
    #[arg(long, value_name = "NAME", default_value = DISPLAY_NAME, help_heading = "Output")]
    display_name: String,
}

/// The output of a push for a CI system.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Pipeline {
    /// The name of the push.
    pub display_name: String,
    /// The commands in the log.
    pub log_commands: Option<LogCommands>,
    /// The target of the summary.
    pub summary: Option<SummaryTo>,
    /// The variables to set.
    pub variables: Option<Variables<VariablesTo>>,
}

/// Variables to set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Variables<T> {
    /// The name of the first variable, and the prefix of the others.
    pub name: String,
    /// The format of the variables.
    pub format: OutputFormat,
    /// The target.
    pub to: T,
    /// The form of the reference in the first variable.
    pub form: ReferenceForm,
}

/// The form of a reference in a variable.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum ReferenceForm {
    /// `HOST/REPOSITORY:TAG`
    #[default]
    WithTag,
    /// `HOST/REPOSITORY`
    WithoutTag,
}

/// The target of variables.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum VariablesTo {
    /// `buildkite-agent`.
    Buildkite,
    /// A file, to which they are appended.
    File(PathBuf),
    /// A folder, with one file per variable.
    Folder(PathBuf),
    /// stderr.
    Stderr,
    /// stdout.
    Stdout,
}

/// The target of a summary.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum SummaryTo {
    /// `buildkite-agent`.
    Buildkite,
    /// A file, to which it is appended.
    File(PathBuf),
    /// A folder for a new file, which a command of Azure Pipelines uploads.
    Folder(PathBuf),
}

impl PipelineArgs {
    /// Returns the option that is set and is for the push of one image.
    pub(super) fn of_one_image(&self) -> Option<&'static str> {
        self.output_variable.is_some().then_some("--output-variable")
    }

    /// Returns the CI system: the one of `--ci`, else the one detected from the environment.
    pub(super) fn system(&self, environment: Environment<'_>) -> Result<Option<&'static CiSystem>> {
        Ok(match self.ci.as_deref().map(str::trim) {
            None => CiSystem::detect(environment),
            Some("none") => None,
            Some(name) => Some(CiSystem::by_name(name).ok_or_else(|| {
                let names: Vec<&str> = SYSTEMS.iter().map(|system| system.name).collect();
                Error::invalid(format!("--ci {name:?} is not a supported CI system"))
                    .about_option("--ci")
                    .hint(format!("Use none, or one of {}.", names.join(", ")))
            })?),
        })
    }

    /// Reads the options.
    pub(super) fn read(self, environment: Environment<'_>) -> Result<Pipeline> {
        let system = self.system(environment)?;
        let summary = system.and_then(|system| summary(system, environment));
        let variables = self.output_variable.map(|name| {
            let (format, to) = target(system, self.output_file, environment)?;
            let format = across_jobs(format, self.output_variable_across_jobs)?;
            checked(name.trim(), format).map(|name| Variables { name, format, to, form: ReferenceForm::default() })
        });
        Ok(Pipeline {
            display_name: one_line(&self.display_name, usize::MAX),
            log_commands: system.and_then(|system| system.log_commands),
            summary,
            variables: variables.transpose()?,
        })
    }
}

/// Returns the target of the summary, if the environment names one.
pub(super) fn summary(system: &CiSystem, environment: Environment<'_>) -> Option<SummaryTo> {
    let path = |name| environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    match system.summary? {
        SummaryTarget::BuildkiteAnnotation => Some(SummaryTo::Buildkite),
        SummaryTarget::FileOf(name) => path(name).map(SummaryTo::File),
        SummaryTarget::UploadFrom(name) => path(name).map(SummaryTo::Folder),
    }
}

/// Returns the format and target of variables.
fn target(
    system: Option<&CiSystem>,
    file: Option<PathBuf>,
    environment: Environment<'_>,
) -> Result<(OutputFormat, VariablesTo)> {
    let Some(CiSystem { title, format, target, .. }) = system else {
        return file.map(|file| (OutputFormat::Assignments, VariablesTo::File(file))).ok_or_else(|| {
            Error::conflict("--output-variable needs a CI system, and none was detected")
                .about_option("--output-variable")
                .hint("Use --ci NAME, or --output-file FILE for lines of NAME=VALUE.")
        });
    };
    let to = match (target, file) {
        (OutputTarget::Folder | OutputTarget::FolderAt(_), Some(folder)) => VariablesTo::Folder(folder),
        (OutputTarget::File | OutputTarget::FileOf(_), Some(file)) => VariablesTo::File(file),
        // No CI system reads a file in that format.
        (OutputTarget::Command | OutputTarget::Stderr | OutputTarget::Stdout, Some(file)) => {
            return Ok((OutputFormat::Assignments, VariablesTo::File(file)));
        }
        (OutputTarget::Command, None) => VariablesTo::Buildkite,
        (OutputTarget::Stderr, None) => VariablesTo::Stderr,
        (OutputTarget::Stdout, None) => VariablesTo::Stdout,
        (OutputTarget::FolderAt(folder), None) => VariablesTo::Folder(PathBuf::from(folder)),
        (OutputTarget::FileOf(name), None) => {
            let path = environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
            VariablesTo::File(path.ok_or_else(|| {
                Error::usage(format!("{title} reads variables from the file in {name}, which is not set"))
                    .hint("Use --output-file FILE.")
            })?)
        }
        (OutputTarget::File, None) => {
            return Err(Error::usage(format!("{title} reads variables from a file that the pipeline names"))
                .hint("Use --output-file FILE with that file."));
        }
        (OutputTarget::Folder, None) => {
            return Err(Error::usage(format!("{title} reads each variable from a separate file"))
                .hint("Use --output-file DIR with the folder of these files."));
        }
    };
    Ok((*format, to))
}

/// Returns the format for variables of later jobs, if requested.
fn across_jobs(format: OutputFormat, is_requested: bool) -> Result<OutputFormat> {
    match (format, is_requested) {
        (OutputFormat::AzureCommands(_), true) => Ok(OutputFormat::AzureCommands(OutputScope::Jobs)),
        (format, false) => Ok(format),
        (_, true) => Err(Error::conflict("--output-variable-across-jobs is for Azure Pipelines only")
            .about_option("--output-variable-across-jobs")
            .hint("Leave it out: other systems configure this in the pipeline.")),
    }
}

fn checked(name: &str, format: OutputFormat) -> Result<String> {
    if format.takes(name) {
        return Ok(name.to_owned());
    }
    let takes = if format.takes("a.b") { "letters, digits, _, . and -" } else { "letters, digits and _" };
    let suffixed = VARIABLE_SUFFIXES.map(|suffix| format!("NAME_{suffix}")).join(", ");
    Err(Error::invalid(format!("--output-variable {name:?} is not a valid variable name"))
        .about_option("--output-variable")
        .hint(format!("Use {takes}, starting with a letter or _. Also set: {suffixed}.")))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn read(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Pipeline> {
        let pairs: Vec<(&str, &str)> = arguments.chunks(2).map(|pair| (pair[0], pair[1])).collect();
        let value = |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let args = PipelineArgs {
            output_variable: value("variable"),
            output_variable_across_jobs: value("across").is_some(),
            output_file: value("file").map(PathBuf::from),
            ci: value("ci"),
            display_name: value("display").unwrap_or_else(|| "Push Image".into()),
        };
        args.read(&|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value)))
    }

    fn to(arguments: &[&str], variables: &[(&str, &str)]) -> (OutputFormat, VariablesTo) {
        let set = read(arguments, variables).unwrap().variables.unwrap();
        (set.format, set.to)
    }

    #[track_caller]
    fn rejected(arguments: &[&str], variables: &[(&str, &str)], part: &str) {
        let error = read(arguments, variables).unwrap_err();
        assert_eq!(error.kind().exit_code(), 2);
        let text = format!("{error} {}", error.advice().cloned().unwrap_or_default());
        assert!(text.contains(part), "{text}");
    }

    #[test]
    fn variables_go_to_the_target_of_the_system_or_of_the_option() {
        let file = |path: &str| VariablesTo::File(PathBuf::from(path));
        let folder = |path: &str| VariablesTo::Folder(PathBuf::from(path));
        let azure = OutputFormat::AzureCommands(OutputScope::Job);
        let mine = ["variable", "A", "file", "f"];
        assert_eq!(to(&["variable", "A"], &[("TF_BUILD", "True")]), (azure, VariablesTo::Stderr));
        assert_eq!(to(&mine, &[("TF_BUILD", "True")]), (OutputFormat::Assignments, file("f")));
        let github = [("GITHUB_ACTIONS", "true"), ("GITHUB_OUTPUT", "/o")];
        assert_eq!(to(&["variable", "A"], &github), (OutputFormat::Heredocs, file("/o")));
        assert_eq!(to(&mine, &github), (OutputFormat::Heredocs, file("f")));
        assert_eq!(to(&mine, &[("GITLAB_CI", "true")]), (OutputFormat::Assignments, file("f")));
        assert_eq!(to(&["variable", "A", "ci", "tekton"], &github), (OutputFormat::Files, folder("/tekton/results")));
        assert_eq!(to(&["variable", "A", "file", "f", "ci", "argo"], &[]), (OutputFormat::Files, folder("f")));
        assert_eq!(to(&mine, &[]), (OutputFormat::Assignments, file("f")));
        assert_eq!(to(&["variable", "A", "ci", "teamcity"], &[]), (OutputFormat::ServiceMessages, VariablesTo::Stdout));
        assert_eq!(
            to(&["variable", "A", "ci", "buildkite"], &[]),
            (OutputFormat::BuildkiteMetadata, VariablesTo::Buildkite)
        );
    }

    #[test]
    fn variables_that_cannot_be_set_are_rejected() {
        rejected(&["variable", "A"], &[], "none was detected");
        rejected(&["variable", "A", "ci", "none"], &[("TF_BUILD", "True")], "none was detected");
        rejected(&["ci", "gitub"], &[], "azure, github, gitlab");
        rejected(&["variable", "A"], &[("GITLAB_CI", "true")], "--output-file");
        rejected(&["variable", "A", "ci", "argo"], &[], "--output-file");
        rejected(&["variable", "A"], &[("GITHUB_ACTIONS", "true")], "GITHUB_OUTPUT");
        rejected(&["variable", "A B"], &[("TF_BUILD", "True")], "letters, digits, _, . and -");
        rejected(&["variable", "a-b", "file", "f"], &[("GITLAB_CI", "true")], "letters, digits and _,");
        rejected(&["variable", "A", "across", "yes", "file", "f"], &[("TF_BUILD", "True")], "Azure Pipelines");
    }

    #[test]
    fn nothing_is_written_without_a_ci_system() {
        let nothing = Pipeline { display_name: "a b".into(), log_commands: None, summary: None, variables: None };
        assert_eq!(read(&["display", " a\n b\t"], &[]).unwrap(), nothing);
        let github = [("GITHUB_ACTIONS", "true"), ("GITHUB_STEP_SUMMARY", "/s")];
        assert_eq!(read(&["ci", "none", "display", "a b"], &github).unwrap(), nothing);
        let found = read(&[], &github).unwrap();
        assert_eq!(
            (found.log_commands, found.summary),
            (Some(LogCommands::GitHub), Some(SummaryTo::File("/s".into())))
        );
    }
}
