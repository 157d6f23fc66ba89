//! The variables of a push, and the commands that set them in a CI system.

use super::escape::{azure_message, azure_property, teamcity};
use crate::push::Outcome;

/// How a variable is set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OutputFormat {
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
    /// GitHub's form for values of several lines.
    Heredocs,
    /// `NAME=VALUE` as Java reads it.
    Properties,
    /// TeamCity's service messages.
    ServiceMessages,
}

/// The scope of a variable of Azure Pipelines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OutputScope {
    /// Later steps of the same job.
    Job,
    /// Later jobs and stages, too.
    Jobs,
}

/// A variable for later steps.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// The suffixes of the additional variables.
pub(crate) const VARIABLE_SUFFIXES: [&str; 4] = ["DIGEST", "REF", "ALL", "REFS"];

/// Returns the variables of a push; none if it failed or was a dry run.
pub(crate) fn variables(name: &str, outcome: &Outcome) -> Vec<Variable> {
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

/// Returns the names of the variables of a push.
pub(crate) fn names(name: &str) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(VARIABLE_SUFFIXES.map(|suffix| format!("{name}_{suffix}"))).collect()
}

pub(super) fn set(name: &str, values: [&str; 1 + VARIABLE_SUFFIXES.len()]) -> Vec<Variable> {
    names(name).into_iter().zip(values).map(|(name, value)| Variable { name, value: value.to_owned() }).collect()
}

impl OutputFormat {
    /// Whether a variable may have this name. Names in shells are letters, digits and underscores.
    pub(crate) fn takes(self, name: &str) -> bool {
        let is_of_a_shell = matches!(self, Self::Assignments | Self::Exports);
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        let other = |c: char| c.is_ascii_alphanumeric() || c == '_' || !is_of_a_shell && ['.', '-'].contains(&c);
        name.starts_with(first) && name.chars().all(other)
    }

    /// Returns the text that sets a variable, with a line end; for [`OutputFormat::Files`] the content of its file.
    ///
    /// Values are hosts, repositories, tags and digests, so none has a blank, a quote or a line end.
    pub(crate) fn text(self, variable: &Variable) -> String {
        // No reference holds a bracket, so no value ends the heredoc.
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
