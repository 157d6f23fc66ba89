//! The options of a push: its [`Request`], and its output.

use std::ffi::OsString;
use std::path::PathBuf;

use super::arguments::{PushArgs, ReuseArg};
use super::files::Files;
use super::output::{Output, ProgressArg};
use super::pipeline::Pipeline;
use super::values::{at_least_one, bytes, chunk_size, compression, digest, image_selector, region, registry_endpoint};
use super::{credentials, env_checks, files, logins, targets, transports};
use crate::archive::{Attestations, Platforms, Selection};
use crate::ecr::Access;
use crate::error::{Code, Error, Result};
use crate::oci::{Tag, Target};
use crate::output::log::LogFormat;
use crate::output::log::Verbosity;
use crate::push::Request;
use crate::registry::RetryConfig;

/// A push and its output.
#[derive(Debug)]
pub(super) struct Push {
    /// The push itself.
    pub request: Request,
    /// Notes about the arguments.
    pub said: Vec<String>,
    /// Settings of the environment, explained with `-v`.
    pub reasons: Vec<String>,
    /// The user whose password is on standard input.
    pub username: Option<String>,
    /// The format of stdout.
    pub output: Output,
    /// The files to write.
    pub files: Files,
    /// What the CI system receives.
    pub pipeline: Pipeline,
    /// The progress display.
    pub progress: ProgressArg,
    /// What is logged.
    pub verbosity: Verbosity,
    /// The format of stderr.
    pub log_format: LogFormat,
    /// Whether to push into a sandbox, and the folder of its images.
    pub sandbox: Option<Option<PathBuf>>,
}

/// As many as docker and skopeo use, or more: small layers cost round trips most of all.
const LAYERS_AT_ONCE: usize = 6;

/// The limit for layers larger than a chunk: each of them holds a chunk and more in memory.
const LARGE_AT_ONCE: usize = 4;

/// Each thread costs 2 MiB, and a push stays under 68 MiB on any machine, even if the registry accepts no data.
const MOST_PACK_THREADS: usize = 6;

/// Reads the options of a push and the environment.
pub(super) fn push(args: PushArgs, environment: &dyn Fn(&str) -> Option<OsString>) -> Result<Push> {
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
    // A sandbox does not use the user's cache.
    let cache = args.cache.or_else(|| sandbox.is_none().then(|| default_cache(environment)).flatten());
    let (archive, named_image) = transports::source(path.unwrap_or_default())?;
    let (targets, said) = args.repository.targets(&targets::texts(&target)?)?;
    let targets = targets::in_registry(targets, args.registry_id.as_deref())?;
    let regions = args.region.into_iter().map(region).collect::<Result<_>>()?;
    let targets = targets::in_regions(targets, regions)?;
    // Other registries and the sandbox need no AWS credentials.
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
    let reasons = if sandbox.is_some() { Vec::new() } else { env_checks::proxies(environment) };
    let replaced = env_checks::endpoints(environment).filter(|_| needs_aws);
    let said = said.into_iter().chain(replaced).collect();
    let ci = args.pipeline.system(environment)?.map(|system| system.name);
    let pipeline = args.pipeline.read(environment)?;
    files::check_stdout(output, &pipeline)?;
    let request = Request {
        archive,
        temp_dir: args.temp_dir.unwrap_or_else(std::env::temp_dir),
        choice: image_selector(args.image, args.image_id, args.index, named_image)?,
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
        same_digest: args.same_digest,
        ci,
        dry_run: args.dry_run,
    };
    let progress = if args.quiet { ProgressArg::None } else { args.progress };
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
