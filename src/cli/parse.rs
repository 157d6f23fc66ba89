//! Parsing of arguments and environment into a [`Command`].

use std::ffi::OsString;

use clap::FromArgMatches as _;

use super::arguments::PushArgs;
use super::azure_task::{AzureTask, azure_task};
use super::batch::BatchArgs;
use super::clap_errors::usage;
use super::credentials::{self, CredentialArgs};
use super::environment::{with_environment, with_origin};
use super::files::FileArgs;
use super::inspect::Inspect;
use super::parser::{Cli, CliCommand, command};
use super::pipeline::PipelineArgs;
use super::policy::{self, PolicyArgs, PolicyText};
use super::push::{Push, push};
#[cfg(feature = "sandbox")]
use super::sandbox::SandboxArgs;
use super::tag::{Tagging, tagging};
use super::values::{Environment, region};
use super::{generated_docs, negative_values, subcommand, targets};
use crate::error::{Error, Result};
#[cfg(feature = "sandbox")]
use crate::oci::Repository;

/// The command to run.
#[derive(Debug)]
pub(super) enum Command {
    /// Push an image.
    Push(Box<Push>),
    /// Push with the inputs of the Azure Pipelines task.
    AzureTask(AzureTask),
    /// Put additional tags.
    Tag(Box<Tagging>),
    /// Show what an archive contains.
    Inspect(Inspect),
    /// Push the images of a batch.
    Batch(Box<BatchArgs>),
    /// Print the IAM policy of a push.
    Policy(PolicyText),
    /// Run a sandbox with these repositories.
    #[cfg(feature = "sandbox")]
    Sandbox(SandboxArgs, Vec<Repository>),
    /// Push a small image into a sandbox.
    #[cfg(feature = "sandbox")]
    Demo,
    /// Print this text to stdout: the help or the version.
    Print(String),
    /// Print the short help to stderr and fail, since there are no arguments.
    Help(String),
}

/// Parses the arguments (without the program's name) and the environment.
///
/// # Errors
/// Of [`Kind::Usage`](crate::error::Kind::Usage).
pub(super) fn parse(arguments: Vec<OsString>, environment: Environment<'_>) -> Result<Command> {
    read(arguments.clone(), environment).map_err(|error| with_origin(error, &arguments, environment))
}

fn read(arguments: Vec<OsString>, environment: Environment<'_>) -> Result<Command> {
    subcommand::refuse_unknown(&arguments)?;
    let arguments = with_environment(negative_values::joined(subcommand::first(arguments)), environment)?;
    #[cfg(feature = "sandbox")]
    let ends_with_separator = arguments.last().is_some_and(|last| last == "--");
    let mut parser = command();
    if arguments.is_empty() {
        return Ok(Command::Help(parser.render_help().to_string()));
    }
    let matches = match parser.try_get_matches_from_mut([OsString::from("ecr-push")].into_iter().chain(arguments)) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => return Ok(Command::Print(error.render().to_string())),
        Err(error) => return Err(usage(&error)),
    };
    let cli = Cli::from_arg_matches(&matches).map_err(|error| usage(&error))?;
    match cli.subcommand {
        Some(CliCommand::Inspect(args)) => args.read(environment).map(Command::Inspect),
        Some(CliCommand::Tag(args)) => tagging(*args, environment).map(|tagging| Command::Tag(Box::new(tagging))),
        Some(CliCommand::Completions(args)) => generated_docs::completions(&args, command()).map(Command::Print),
        Some(CliCommand::Man(args)) => generated_docs::manual(&args, command()).map(Command::Print),
        Some(CliCommand::Batch(args)) => Ok(Command::Batch(args)),
        Some(CliCommand::AzureTask) => azure_task(environment).map(Command::AzureTask),
        Some(CliCommand::Policy(args)) => policy_of(*args, environment).map(Command::Policy),
        #[cfg(feature = "sandbox")]
        Some(CliCommand::Sandbox(args)) => {
            args.check_command(ends_with_separator)?;
            let create = args.repository.iter().map(|name| name.parse()).collect::<Result<_>>()?;
            Ok(Command::Sandbox(*args, create))
        }
        #[cfg(feature = "sandbox")]
        Some(CliCommand::Demo) => Ok(Command::Demo),
        None => push(cli.push, environment).map(|push| Command::Push(Box::new(push))),
    }
}

/// Returns the policy that a push with these options needs.
fn policy_of(args: PolicyArgs, environment: Environment<'_>) -> Result<PolicyText> {
    let PolicyArgs { target, terraform, signing_profile, mut options } = args;
    // The push runs elsewhere, in another environment. No password is read.
    (options.registry.credentials, options.registry.username) = (CredentialArgs::default(), None);
    (options.pipeline, options.files) = (PipelineArgs::default(), FileArgs::default());
    let without_aws = |name: &str| environment(name).filter(|_| !name.starts_with("AWS_"));
    let target = targets::without_archive(target)?;
    let Push { request, options, bundle, .. } =
        push(PushArgs { archive: Some("-".into()), target, options }, &without_aws)?;
    if bundle.is_some() {
        return Err(Error::invalid_target("the policy of several images needs their repositories")
            .hint("Name each repository as a target, or replace the name in the policy of one of them by a pattern such as mirror/*."));
    }
    let region = credentials::region(environment).map(|(_, text)| region(text)).transpose()?;
    policy::text(&request, &options, region.as_deref(), terraform, signing_profile)
}
