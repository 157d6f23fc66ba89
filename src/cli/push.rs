//! The options of a push: its request and options, and its output.

use std::path::{Path, PathBuf};

use super::arguments::{OptionArgs, PushArgs, ReuseArg};
use super::bundle::Bundle;
use super::files::Files;
use super::output::{ProgressArg, PushOutput, verbosity};
use super::pipeline::Pipeline;
use super::registries::AwsUse;
use super::values::{Environment, at_least_one, bytes, chunk_size, compression, digest, image_selector};
use super::{env_checks, files, logins, targets, transports};
use crate::archive::{Attestations, ImageSelector, Platforms, Selection, Source};
use crate::error::{Error, Result};
use crate::oci::{Tag, Target, TargetPrefix};
use crate::output::log::{LogFormat, Verbosity};
use crate::push::{ImageOptions, LayerOptions, Options, PushRequest, RegistryOptions, RepositoryOptions};
use crate::registry::RetryConfig;

/// A push and its output.
#[derive(Debug)]
pub(super) struct Push {
    /// What is pushed.
    pub request: PushRequest,
    /// How it is pushed.
    pub options: Options,
    /// The user whose password is on standard input.
    pub username: Option<String>,
    /// The format of stdout.
    pub output: PushOutput,
    /// What is reported besides.
    pub reporting: Reporting,
    /// Which images of the archive are pushed, if several are. The targets of the request are examples of prefixes then.
    pub bundle: Option<Bundle>,
    /// Whether to push into a sandbox, and the folder of its images.
    pub sandbox: Option<Option<PathBuf>>,
}

/// What a push reports, besides its result on stdout.
#[derive(Debug)]
pub(super) struct Reporting {
    /// Notes about the arguments.
    pub notes: Vec<String>,
    /// Settings of the environment, explained with `-v`.
    pub details: Vec<String>,
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
}

/// How many images are pushed at once, if there are several.
pub(super) const PUSHES: usize = 4;

/// Reads the options of a push and the environment.
pub(super) fn push(args: PushArgs, environment: Environment<'_>) -> Result<Push> {
    let PushArgs { archive: path, target, options: mut args } = args;
    let platforms = match args.platform.take() {
        Some(platform) => Platforms::One(platform.parse()?),
        None if args.present_platforms => Platforms::Present,
        None => Platforms::All,
    };
    let attestations = if args.no_attestations { Attestations::Dropped } else { Attestations::Kept };
    let sandbox = args.sandbox();
    // A sandbox does not use the user's cache.
    let cache = args.cache.take().or_else(|| sandbox.is_none().then(|| default_cache(environment)).flatten());
    let (archive, selected) = transports::source(path.unwrap_or_default())?;
    let selector = image_selector(args.image.take(), args.image_id.take(), args.index, selected.clone())?;
    let join = joined(std::mem::take(&mut args.join), &selector, selected.is_some())?;
    let archives: Vec<&Source> = std::iter::once(&archive).chain(join.iter().map(|(source, _)| source)).collect();
    if archives.iter().filter(|archive| ***archive == Source::StandardInput).count() > 1 {
        return Err(Error::conflict("two archives are on standard input").hint("Write all but one of them to files."));
    }
    let ci = args.pipeline.system(environment)?.map(|system| system.name);
    let (output, mut reporting) = reporting(&mut args, &archives, environment)?;
    let bundle = args.bundle.read(args.repository.docker_naming, environment)?;
    let texts = targets::texts(&target)?;
    let (targets, notes) = match &bundle {
        Some(bundle) => {
            output.check_for_several()?;
            if matches!(selector, ImageSelector::Name(_)) {
                return Err(Error::conflict("the archive argument selects an image, and several images are pushed")
                    .hint("Leave out the name of the image, or push it alone, to a target that is a repository."));
            }
            let is_list_on_stdin = bundle.list.as_deref() == Some(Path::new("-"));
            if is_list_on_stdin && (archives.contains(&&Source::StandardInput) || args.registry.username.is_some()) {
                return Err(Error::conflict("--image-list - needs standard input for itself")
                    .about_option("--image-list")
                    .hint("Write the list to a file."));
            }
            prefixes(&texts, bundle)?
        }
        None => {
            output.check_for_one()?;
            targets::refuse_prefixes(&texts)?;
            args.repository.targets(&texts)?
        }
    };
    let targets = args.region.place(targets)?;
    let aws = if sandbox.is_some() { AwsUse::Unneeded } else { AwsUse::of(&targets) };
    let chunk_size = args.chunk_size.as_deref().map(|text| chunk_size(text, &targets)).transpose()?;
    if !args.reuse_from.is_empty() && args.reuse != ReuseArg::Tag {
        return Err(Error::conflict("--reuse-from needs --reuse tag")
            .about_option("--reuse-from")
            .about_option("--reuse")
            .hint("Use only one of the two options."));
    }
    let username = logins::username(args.registry.username.take(), &targets, &archives)?;
    reporting.details = if sandbox.is_some() { Vec::new() } else { env_checks::proxies(environment) };
    reporting.notes = notes.into_iter().chain(aws.replaced_endpoint(environment)).collect();
    let request = PushRequest {
        source: archive,
        join,
        image: ImageOptions {
            selector,
            selection: Selection { platforms, attestations },
            expect_digest: args.expect_digest.as_deref().map(digest).transpose()?,
            referrers: args.referrers,
            non_distributable_layers: args.foreign_layers,
            repair: args.repair,
        },
        targets: Target::join(targets),
        tags: args.tag.iter().map(|tag| tag.parse::<Tag>()).collect::<Result<_>>()?,
    };
    let usual = LayerOptions::default();
    let options = Options {
        registries: RegistryOptions {
            report_caller: args.verbose > 0,
            registry_id: args.region.registry_id,
            insecure: args.insecure,
            retry: RetryConfig { retries: args.retries, stall_timeout: args.stall_timeout, ..RetryConfig::default() },
            limit_rate: args.limit_rate.as_deref().map(|text| bytes("--limit-rate", text)).transpose()?,
            put_rate: args.put_rate.map(|rate| at_least_one("--put-rate", rate)).transpose()?.map(|rate| rate as f64),
            machines: bundle.as_ref().and_then(|bundle| Some(bundle.shard?.count())),
            ci,
            ..args.registry.read(aws, environment)?
        },
        layers: LayerOptions {
            compression: compression(args.compression, args.compression_level, args.compression_recipe)?,
            threads: at_least_one("--pack-threads", args.compress_threads.unwrap_or(usual.threads))?,
            concurrency: at_least_one("--concurrency", args.concurrency.unwrap_or(usual.concurrency))?,
            large_concurrency: args.concurrency.unwrap_or(usual.large_concurrency),
            pushes: if bundle.is_some() { PUSHES } else { 1 },
            chunk_size,
            cache,
            reuse: args.reuse.into(),
            reuse_from: args.reuse_from.iter().map(|pattern| pattern.parse()).collect::<Result<_>>()?,
            mount_from: args.mount_from.iter().map(|source| source.parse()).collect::<Result<_>>()?,
            same_digest: args.same_digest,
        },
        repositories: RepositoryOptions {
            create: args.repository.create_repository,
            settings: args.repository.settings()?,
            lifecycle_policy: args.repository.lifecycle_policy.clone(),
            repository_policy: args.repository.repository_policy.clone(),
        },
        if_exists: args.repository.if_exists.into(),
        temp_dir: args.temp_dir.unwrap_or_else(std::env::temp_dir),
        deadline: args.deadline,
        dry_run: args.dry_run,
    };
    Ok(Push { request, options, username, output, reporting, bundle, sandbox })
}

/// Reads what is reported, without notes. The files and the pipeline are taken out of the options.
pub(super) fn reporting(
    args: &mut OptionArgs,
    archives: &[&Source],
    environment: Environment<'_>,
) -> Result<(PushOutput, Reporting)> {
    let (files, pipeline) = (std::mem::take(&mut args.files), std::mem::take(&mut args.pipeline));
    let (output, files) = files.read(archives, pipeline.output_file.as_deref())?;
    let pipeline = pipeline.read(environment)?;
    files::check_stdout(output, &pipeline)?;
    let progress = if args.quiet { ProgressArg::None } else { args.progress };
    let verbosity = verbosity(args.verbose);
    let log_format = args.log_format.into();
    let (notes, details) = (Vec::new(), Vec::new());
    Ok((output, Reporting { notes, details, files, pipeline, progress, verbosity, log_format }))
}

/// Parses the prefixes of several images, and returns notes about those that are converted.
fn prefixes(texts: &[String], bundle: &Bundle) -> Result<(Vec<Target>, Vec<String>)> {
    if !bundle.docker_naming {
        let targets: Result<_> = texts.iter().map(|text| TargetPrefix::example(text)).collect();
        return Ok((targets?, Vec::new()));
    }
    let converted: Result<Vec<_>> = texts.iter().map(|text| TargetPrefix::example_with_docker_naming(text)).collect();
    let (targets, notes): (Vec<_>, Vec<_>) = converted?.into_iter().unzip();
    Ok((targets, notes.into_iter().flatten().collect()))
}

/// Parses the archives to join, each with the image that its transport names, or else that the options select.
fn joined(archives: Vec<PathBuf>, selector: &ImageSelector, is_own: bool) -> Result<Vec<(Source, ImageSelector)>> {
    let read = |path| {
        let (source, selected) = transports::source(path)?;
        let selector = match selected {
            Some(selected) => selected,
            // A transport selects an image of its own archive only.
            None if is_own => ImageSelector::Only,
            None => selector.clone(),
        };
        Ok((source, selector))
    };
    archives.into_iter().map(read).collect()
}

fn default_cache(environment: Environment<'_>) -> Option<PathBuf> {
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
