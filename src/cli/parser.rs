//! The parser: commands, options and help, as clap reads them.

use clap::{ArgAction, CommandFactory as _, Parser, Subcommand};

use super::arguments::PushArgs;
use super::batch::{BatchArgs, REFUSED};
use super::generated_docs::{CompletionArgs, ManArgs};
use super::inspect::InspectArgs;
use super::policy::PolicyArgs;
#[cfg(feature = "sandbox")]
use super::sandbox::SandboxArgs;
use super::tag::TagArgs;

const SHORT_EXAMPLES: &str = "\
Examples:
  ecr-push image.tar team/app:1.4 --region eu-west-1 --create-repository
  docker save app:1 | ecr-push - team/app:1 --region eu-west-1
  ecr-push --sandbox image.tar team/app:1     (try it without an AWS account)
  ecr-push demo                               (the same with a small image of its own)

All options: ecr-push --help";

const LONG_EXAMPLES: &str = "\
Exit codes:
  0    The image was pushed, or was already there
  1    The archive is invalid, or the registry rejected the push
  2    The command line is invalid
  3    Credentials or permissions are missing
  4    The network or the service failed; running the same command again resumes the push
  130  Interrupted by Ctrl-C or a signal
  With several targets: 4 only if a rerun can fix every failure, otherwise the gravest failure.

Environment:
  ECR_PUSH_<OPTION>   Sets any option: ECR_PUSH_REGION=eu-west-1, ECR_PUSH_DRY_RUN=true.
                      Repeatable options take a list separated by commas.
                      The command line takes precedence.
  AWS_<NAME>          Profile, region, keys, endpoints: as the AWS CLI reads them
  HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY
                      Proxies
  DOCKER_CONFIG, DOCKER_AUTH_CONFIG, REGISTRY_AUTH_FILE
                      Where docker and podman store logins
  NO_COLOR            Disables colors

Examples:
  ecr-push image.tar team/app:1.4 --region eu-west-1 --create-repository
  ecr-push image.tar 123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app:1.4 --tag latest
  ecr-push image.tar localhost:5000/app:1
  docker save app:1 | ecr-push - team/app:1 --region eu-west-1
  ecr-push tag team/app:1.4 stable            (give a pushed image another tag)
  ecr-push inspect image.tar                  (show what the archive contains)
  ecr-push policy team/app --region eu-west-1 (print the IAM policy for a push)
  ecr-push --sandbox image.tar team/app:1     (try it without an AWS account)
  ecr-push demo                               (the same with a small image of its own)";

/// Push container images from archives into Amazon ECR or any OCI registry
///
/// No daemon, no root and no login step. Archives are read in place: only streamed and compressed ones may need a
/// temporary file.
#[derive(Debug, Parser)]
#[command(name = "ecr-push", version, after_help = SHORT_EXAMPLES, after_long_help = LONG_EXAMPLES, args_conflicts_with_subcommands = true)]
#[command(subcommand_negates_reqs = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) subcommand: Option<CliCommand>,
    #[command(flatten)]
    pub(super) push: PushArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum CliCommand {
    /// Show what an archive contains (works offline)
    Inspect(InspectArgs),
    /// Push many images: a file has the arguments of one push on each line
    Batch(Box<BatchArgs>),
    /// Give an image that is in a repository additional tags, without the archive
    ///
    /// Reads its manifest and puts it under each tag. Nothing else is sent, and the digest stays the same.
    Tag(Box<TagArgs>),
    /// Print the smallest IAM policy that allows a push to these targets (works offline)
    ///
    /// Takes all options of a push, since they decide which permissions it needs.
    Policy(Box<PolicyArgs>),
    /// Push with the inputs of the Azure Pipelines task, from the environment of an agent
    #[command(hide = true)]
    AzureTask,
    /// Run a local fake ECR, for trials and for tests of pipelines
    #[cfg(feature = "sandbox")]
    Sandbox(Box<SandboxArgs>),
    /// Push a small image into a built-in fake ECR, to see what a push prints
    #[cfg(feature = "sandbox")]
    Demo,
    /// Generate shell completions
    Completions(CompletionArgs),
    /// Print the manual page of the program or of a command, as roff
    Man(ManArgs),
}

/// Returns the parser. `-h` shows the common options, on one screen. The help of `policy` omits the options of a push, which
/// `--help` shows, and that of `batch` those that it refuses.
pub(super) fn command() -> clap::Command {
    let often = [
        "archive", "target", "tag", "region", "platform", "if_exists", "create_repository", "profile", "role_arn",
        "output", "quiet", "verbose", "dry_run", "sandbox",
    ];
    switches_repeatable(Cli::command())
        .mut_args(|arg| if often.contains(&arg.get_id().as_str()) { arg } else { arg.hide_short_help(true) })
        .mut_subcommand("policy", |policy| {
            policy.mut_args(|arg| {
                let is_own = ["target", "terraform", "signing_profile"].contains(&arg.get_id().as_str());
                arg.hide(!is_own)
            })
        })
        .mut_subcommand("batch", |batch| {
            batch.mut_args(|arg| if REFUSED.contains(&arg.get_id().as_str()) { arg.hide(true) } else { arg })
        })
}

/// Permits repeated switches: unlike repeated values, they cannot contradict each other.
fn switches_repeatable(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| match arg.get_action() {
        ArgAction::SetTrue => {
            let id = arg.get_id().clone();
            arg.overrides_with(id)
        }
        _ => arg,
    });
    let names: Vec<String> = command.get_subcommands().map(|known| known.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, name| command.mut_subcommand(name, switches_repeatable))
}
