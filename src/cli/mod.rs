//! The command line: typed text in, a [`Request`] out. It opens nothing and asks nobody.
//!
//! Every option can also stand in the environment as `ECR_PUSH_<OPTION>`. That is done here by writing such variables
//! in front of the arguments, so that there is one parser, one set of rules and one set of messages.

use std::ffi::OsString;
use std::path::PathBuf;
#[cfg(feature = "sandbox")]
use std::time::Duration;

use clap::{ArgAction, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::archive::{Attestations, Platforms, Selection};
use crate::ecr::Access;
use crate::error::{Code, Error, Result};
use crate::oci::{Tag, Target};
use crate::output::log::LogFormat;
use crate::output::progress::Verbosity;
use crate::push::Request;
use crate::registry::RetryConfig;

mod arguments;
mod credentials;
mod environment;
mod files;
mod generate;
mod hearers;
mod inspect;
mod logins;
mod output;
mod pipeline;
mod policy;
mod rejected;
mod repository;
mod surroundings;
mod targets;
mod transports;
mod values;
mod verb;

use arguments::{PushArgs, ReuseArg};
use credentials::CredentialArgs;
pub use environment::strangers;
use environment::{traced, with_environment};
use files::FileArgs;
pub use files::Files;
pub use hearers::{Hearers, hearers};
pub use inspect::{Inspect, Output};
pub use output::Show;
use pipeline::PipelineArgs;
pub use pipeline::{Pipeline, SummaryTo, Variables, VariablesTo};
pub use policy::PolicyText;
use rejected::usage;
use values::{at_least_one, bytes, choice, chunk_size, compression, digest, region, registry_endpoint};

/// What the program is asked to do.
#[derive(Debug)]
pub enum Command {
    /// Push an image.
    Push(Box<Push>),
    /// Show what is in an archive.
    Inspect(Inspect),
    /// Print the IAM policy of a push.
    Policy(PolicyText),
    /// Run a sandbox until it is stopped.
    #[cfg(feature = "sandbox")]
    Sandbox(Sandbox),
    /// Print this text to stdout: help or a version that was asked for.
    Print(String),
    /// Print the short help to stderr, since nothing was typed, and fail.
    Help(String),
}

/// A push, with what is around it.
#[derive(Debug)]
pub struct Push {
    /// The push itself.
    pub request: Request,
    /// What was made of the arguments that a person should know.
    pub said: Vec<String>,
    /// What the environment decides, for those who want to know.
    pub reasons: Vec<String>,
    /// The user whose password is at standard input.
    pub username: Option<String>,
    /// What goes to stdout.
    pub output: Output,
    /// What is written for programs.
    pub files: Files,
    /// What a CI system is to see.
    pub pipeline: Pipeline,
    /// How progress is shown.
    pub progress: Show,
    /// What is told.
    pub verbosity: Verbosity,
    /// How stderr is written.
    pub log_format: LogFormat,
    /// Whether a sandbox stands in for AWS, and in which folder it keeps its images.
    pub sandbox: Option<Option<PathBuf>>,
}

/// A sandbox.
#[cfg(feature = "sandbox")]
#[derive(Debug)]
pub struct Sandbox {
    /// Where it listens.
    pub listen: std::net::SocketAddr,
    /// Where it keeps its images.
    pub dir: Option<PathBuf>,
    /// Whether it keeps no bytes of layers.
    pub discard: bool,
    /// How much later each answer of the registry's face comes.
    pub delay: Duration,
    /// The repositories it has from the start.
    pub create: Vec<crate::oci::Repository>,
}

/// As many as docker and skopeo have or more. What a layer costs most of is round trips.
const LAYERS_AT_ONCE: usize = 6;

/// But of those that are larger than a chunk, since of each of them a chunk and more is held in memory.
const LARGE_AT_ONCE: usize = 4;

/// Each costs 2 MiB, and a push is to stay under 68 MiB on any machine, also if the registry takes nothing.
const MOST_PACK_THREADS: usize = 6;

const SHORT_EXAMPLES: &str = "\
Examples:
  ecr-push image.tar team/app:1.4 --region eu-west-1 --create-repository
  docker save app:1 | ecr-push - team/app:1 --region eu-west-1
  ecr-push --sandbox image.tar team/app:1     (try it without an AWS account)

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
  ecr-push inspect image.tar                  (show what the archive contains)
  ecr-push policy team/app --region eu-west-1 (print the IAM policy for a push)
  ecr-push --sandbox image.tar team/app:1     (try it without an AWS account)";

/// Push container images from archives into Amazon ECR or any OCI registry
///
/// No daemon, no root and no login step. Archives are read in place: only streamed and compressed ones may need a
/// temporary file.
#[derive(Debug, Parser)]
#[command(name = "ecr-push", version, after_help = SHORT_EXAMPLES, after_long_help = LONG_EXAMPLES, args_conflicts_with_subcommands = true)]
#[command(subcommand_negates_reqs = true)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    push: PushArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show what an archive contains (works offline)
    Inspect(inspect::InspectArgs),
    /// Print the smallest IAM policy that allows a push to these targets (works offline)
    ///
    /// Takes all options of a push, since they decide which permissions it needs.
    Policy(Box<policy::PolicyArgs>),
    /// Run a local fake ECR, for trials and for tests of pipelines
    #[cfg(feature = "sandbox")]
    Sandbox(SandboxArgs),
    /// Generate shell completions
    Completions(generate::CompletionArgs),
    /// Print the manual page of the program or of a command, as roff
    Man(generate::ManArgs),
}

#[cfg(feature = "sandbox")]
#[derive(Debug, clap::Args)]
struct SandboxArgs {
    /// Loopback address and port to listen on; port 0 selects a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5050")]
    listen: std::net::SocketAddr,
    /// Folder to store images in, as one OCI layout per repository [default: in memory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Verify digests and discard blobs above 1 MiB, for benchmarks
    #[arg(long)]
    discard: bool,
    /// Delay of each registry response, in milliseconds or with a unit: 50ms, 1s
    #[arg(long, value_parser = values::milliseconds, value_name = "DURATION", default_value = "0")]
    delay: Duration,
    /// Repository to create at the start (repeatable)
    #[arg(long, value_name = "NAME")]
    repository: Vec<String>,
}

/// Reads the arguments (without the program's name) and the environment.
///
/// # Errors
/// Of [`Kind::Usage`](crate::error::Kind::Usage), worded for people.
pub fn parse(arguments: Vec<OsString>, environment: &dyn Fn(&str) -> Option<OsString>) -> Result<Command> {
    read(arguments.clone(), environment).map_err(|error| traced(error, &arguments, environment))
}

fn read(arguments: Vec<OsString>, environment: &dyn Fn(&str) -> Option<OsString>) -> Result<Command> {
    verb::refuse_misspelled(&arguments)?;
    let arguments = with_environment(verb::first(arguments), environment)?;
    let mut command = command();
    if arguments.is_empty() {
        return Ok(Command::Help(command.render_help().to_string()));
    }
    let matches = match command.try_get_matches_from_mut([OsString::from("ecr-push")].into_iter().chain(arguments)) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => return Ok(Command::Print(error.render().to_string())),
        Err(error) => return Err(usage(&error)),
    };
    let cli = Cli::from_arg_matches(&matches).map_err(|error| usage(&error))?;
    match cli.verb {
        Some(Verb::Inspect(args)) => args.read(environment).map(Command::Inspect),
        Some(Verb::Completions(args)) => generate::completions(&args, self::command()).map(Command::Print),
        Some(Verb::Man(args)) => generate::manual(&args, self::command()).map(Command::Print),
        Some(Verb::Policy(args)) => policy_of(*args, environment).map(Command::Policy),
        #[cfg(feature = "sandbox")]
        Some(Verb::Sandbox(args)) => {
            let create = args.repository.iter().map(|name| name.parse()).collect::<Result<_>>()?;
            let SandboxArgs { listen, dir, discard, delay, .. } = args;
            Ok(Command::Sandbox(Sandbox { listen, dir, discard, delay, create }))
        }
        None => push(cli.push, environment).map(|push| Command::Push(Box::new(push))),
    }
}

/// Returns the parser. `-h` shows what people use daily, on one screen; the help of `policy` leaves out the options of a
/// push, which `--help` has.
fn command() -> clap::Command {
    let often = [
        "archive",
        "target",
        "tag",
        "region",
        "platform",
        "if_exists",
        "create_repository",
        "profile",
        "role_arn",
        "output",
        "quiet",
        "verbose",
        "dry_run",
        "sandbox",
    ];
    switches_repeatable(Cli::command())
        .mut_args(|arg| if often.contains(&arg.get_id().as_str()) { arg } else { arg.hide_short_help(true) })
        .mut_subcommand("policy", |policy| {
            policy.mut_args(|arg| {
                let is_own = ["target", "terraform", "signing_profile"].contains(&arg.get_id().as_str());
                arg.hide(!is_own)
            })
        })
}

/// Lets switches be given more than once: unlike two values, they cannot contradict each other.
fn switches_repeatable(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| match arg.get_action() {
        ArgAction::SetTrue => {
            let id = arg.get_id().clone();
            arg.overrides_with(id)
        }
        _ => arg,
    });
    let verbs: Vec<String> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    verbs.into_iter().fold(command, |command, verb| command.mut_subcommand(verb, switches_repeatable))
}

/// The policy of a push, without the push.
fn policy_of(args: policy::PolicyArgs, environment: &dyn Fn(&str) -> Option<OsString>) -> Result<PolicyText> {
    let policy::PolicyArgs { target, terraform, signing_profile, mut options } = args;
    // Whoever pushes is somewhere else, and has its own environment there. No password is read.
    (options.credentials, options.username) = (CredentialArgs::default(), None);
    (options.pipeline, options.files) = (PipelineArgs::default(), FileArgs::default());
    let without_aws = |name: &str| environment(name).filter(|_| !name.starts_with("AWS_"));
    let Push { request, .. } = push(PushArgs { archive: Some("-".into()), target, options }, &without_aws)?;
    let region = credentials::region(environment).map(|(_, text)| region(text)).transpose()?;
    policy::text(&request, region.as_deref(), terraform, signing_profile)
}

fn push(args: PushArgs, environment: &dyn Fn(&str) -> Option<OsString>) -> Result<Push> {
    let PushArgs { archive: path, target, options: args } = args;
    let platforms = match args.platform {
        Some(platform) => Platforms::One(platform.parse()?),
        None if args.present_platforms => Platforms::Present,
        None => Platforms::All,
    };
    let attestations = if args.no_attestations { Attestations::Dropped } else { Attestations::Kept };
    #[cfg(feature = "sandbox")]
    let sandbox = args.sandbox.map(|dir| (!dir.is_empty()).then(|| PathBuf::from(dir)));
    #[cfg(not(feature = "sandbox"))]
    let sandbox: Option<Option<PathBuf>> = None;
    // A sandbox leaves the user's own cache alone.
    let cache = args.cache.or_else(|| sandbox.is_none().then(|| default_cache(environment)).flatten());
    let (archive, named_image) = transports::source(path.unwrap_or_default())?;
    let (targets, said) = args.repository.targets(&targets::texts(&target)?)?;
    let targets = targets::in_registry(targets, args.registry_id.as_deref())?;
    let regions = args.region.into_iter().map(region).collect::<Result<_>>()?;
    let targets = targets::in_regions(targets, regions)?;
    // What others push to needs no AWS, and a sandbox uses none.
    let needs_aws = sandbox.is_none() && targets.iter().any(|to| to.host.as_ref().is_none_or(|it| it.is_amazon()));
    let access = if needs_aws { Access::Aws(args.credentials.sources(environment)?) } else { Access::default() };
    let ca_bundle = credentials::ca_bundle(&access, environment);
    let chunk_size = args.chunk_size.as_deref().map(|text| chunk_size(text, &targets)).transpose()?;
    if !args.reuse_from.is_empty() && args.reuse != ReuseArg::Tag {
        return Err(Error::usage("--reuse-from needs --reuse tag")
            .code(Code::OptionConflict)
            .hint("Use only one of the two options."));
    }
    let (output, files) = args.files.read(&archive, args.pipeline.output_file.as_deref())?;
    let username = logins::username(args.username, &targets, &archive)?;
    let reasons = if sandbox.is_some() { Vec::new() } else { surroundings::proxies(environment) };
    let replaced = surroundings::endpoints(environment).filter(|_| needs_aws);
    let said = said.into_iter().chain(replaced).collect();
    let ci = args.pipeline.system(environment)?.map(|system| system.name);
    let pipeline = args.pipeline.read(environment)?;
    files::agree(output, &pipeline)?;
    let request = Request {
        archive,
        temp_dir: args.temp_dir.unwrap_or_else(std::env::temp_dir),
        choice: choice(args.image, args.image_id, args.index, named_image)?,
        part: Selection { platforms, attestations },
        expect_digest: args.expect_digest.as_deref().map(digest).transpose()?,
        referrers: args.referrers,
        targets: Target::join(targets),
        tags: args.tag.iter().map(|tag| tag.parse::<Tag>()).collect::<Result<_>>()?,
        compression: compression(args.compression, args.compression_level)?,
        foreign_layers: args.foreign_layers,
        repair: args.repair,
        create_repository: args.repository.create_repository,
        new_repository: args.repository.settings()?,
        if_exists: args.repository.if_exists(),
        lifecycle_policy: args.repository.lifecycle_policy,
        repository_policy: args.repository.repository_policy,
        registry_id: args.registry_id,
        access,
        tell_caller: args.verbose > 0,
        login: None,
        keychain: logins::keychain(environment),
        registry_endpoint: registry_endpoint(environment)?,
        insecure: args.insecure,
        ca_file: args.ca_file,
        ca_bundle,
        concurrency: at_least_one("--concurrency", args.concurrency.unwrap_or(LAYERS_AT_ONCE))?,
        large_at_once: args.concurrency.unwrap_or(LARGE_AT_ONCE),
        compress_threads: match args.compress_threads {
            Some(threads) => at_least_one("--pack-threads", threads)?,
            None => std::thread::available_parallelism().map_or(1, usize::from).min(MOST_PACK_THREADS),
        },
        patience: RetryConfig {
            retries: args.retries,
            stall_timeout: at_least_one("--stall-timeout", args.stall_timeout)?,
            ..RetryConfig::default()
        },
        chunk_size,
        limit_rate: args.limit_rate.as_deref().map(|text| bytes("--limit-rate", text)).transpose()?,
        deadline: args.deadline.map(|deadline| at_least_one("--deadline", deadline)).transpose()?,
        cache,
        reuse: args.reuse.into(),
        reuse_from: args.reuse_from.iter().map(|pattern| pattern.parse()).collect::<Result<_>>()?,
        mount_from: args.mount_from.iter().map(|source| source.parse()).collect::<Result<_>>()?,
        ci,
        dry_run: args.dry_run,
    };
    let progress = if args.quiet { Show::None } else { args.progress };
    let verbosity = match args.verbose {
        0 => Verbosity::Normal,
        1 => Verbosity::Details,
        _ => Verbosity::Requests,
    };
    let log_format = args.log_format.into();
    Ok(Push { request, username, said, reasons, output, files, pipeline, progress, verbosity, log_format, sandbox })
}

fn default_cache(environment: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |name: &str| environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = if cfg!(windows) {
        folder("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        folder("HOME").map(|home| home.join("Library/Caches"))
    } else {
        folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")))
    };
    base.filter(|base| base.is_absolute()).map(|base| base.join("ecr-push").join("layers.jsonl"))
}

#[cfg(test)]
mod tests;
