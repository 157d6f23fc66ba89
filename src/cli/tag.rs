//! `ecr-push tag`: additional tags for an image that a repository has.

use clap::ArgAction;

use super::output::{ProgressArg, verbosity};
use super::pipeline::{Pipeline, PipelineArgs};
use super::push::Reporting;
use super::registries::{AwsUse, RegionArgs, RegistryArgs};
use super::repository::IfExistsArgs;
use super::values::Environment;
use super::{env_checks, files, logins, transports};
use crate::error::{Advice, Error, Result};
use crate::oci::{Digest, Tag, Target};
use crate::output::log::LogFormat;
use crate::push::{ImageReference, LayerOptions, Options, RegistryOptions, Reuse, TagRequest};

/// Tags to put, and what is reported.
#[derive(Debug)]
pub(super) struct Tagging {
    /// The image and its tags.
    pub request: TagRequest,
    /// How they are put.
    pub options: Options,
    /// The user whose password is on standard input.
    pub username: Option<String>,
    /// What is reported.
    pub reporting: Reporting,
}

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct TagArgs {
    /// Image: [HOST/]REPOSITORY[:TAG] or [HOST/]REPOSITORY@sha256:...; without HOST, in your own ECR registry
    target: String,
    /// Tag to put: TAG, or a reference of the same repository
    #[arg(required = true, value_name = "NEW-TAG")]
    new: Vec<String>,
    #[command(flatten)]
    region: RegionArgs,
    #[command(flatten)]
    if_exists: IfExistsArgs,
    #[command(flatten)]
    registry: RegistryArgs,
    /// Hide progress and notes; print errors, and the plan of a dry run
    #[arg(short, long, help_heading = "Output")]
    quiet: bool,
    /// Explain decisions; -vv also logs every request
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet", help_heading = "Output")]
    verbose: u8,
    /// Print what would happen to each tag, without putting any
    #[arg(long, help_heading = "Trial")]
    dry_run: bool,
    /// Use plain HTTP for registries that are not ECR
    #[arg(long, conflicts_with = "ca_file", help_heading = "Trial")]
    insecure: bool,
}

/// Reads the arguments and the environment.
pub(super) fn tagging(args: TagArgs, environment: Environment<'_>) -> Result<Tagging> {
    let TagArgs { target, new, region, if_exists, mut registry, quiet, verbose, dry_run, insecure } = args;
    let (target, image) = image(&target)?;
    let tags = new.iter().map(|text| new_tag(text, &target)).collect::<Result<_>>()?;
    let targets = region.place(vec![Target { tags, ..target }])?;
    let aws = AwsUse::of(&targets);
    let username = logins::username(registry.username.take(), &targets, &[])?;
    let notes = aws.replaced_endpoint(environment).into_iter().collect();
    let ci = PipelineArgs::default();
    let options = Options {
        registries: RegistryOptions {
            report_caller: verbose > 0,
            registry_id: region.registry_id,
            insecure,
            ci: ci.system(environment)?.map(|system| system.name),
            ..registry.read(aws, environment)?
        },
        // No layer is read.
        layers: LayerOptions { threads: 0, reuse: Reuse::Off, ..LayerOptions::default() },
        if_exists: if_exists.into(),
        dry_run,
        ..Options::default()
    };
    let reporting = Reporting {
        notes,
        details: env_checks::proxies(environment),
        files: files::Files::default(),
        // Only a push has a summary.
        pipeline: Pipeline { display_name: "Tag Image".to_owned(), summary: None, ..ci.read(environment)? },
        progress: if quiet { ProgressArg::None } else { ProgressArg::Auto },
        verbosity: verbosity(verbose),
        log_format: LogFormat::Text,
    };
    Ok(Tagging { request: TagRequest::new(image, targets), options, username, reporting })
}

/// Parses the image. A digest counts more than a tag before it, as in the references that a push prints.
fn image(text: &str) -> Result<(Target, ImageReference)> {
    let text = transports::target(text)?;
    let (name, digest) = text.split_once('@').map_or((text.as_str(), None), |(name, digest)| (name, Some(digest)));
    let mut target: Target = name.parse()?;
    let tag = target.tags.pop().unwrap_or_else(Tag::latest);
    let Some(digest) = digest else { return Ok((target, ImageReference::Tag(tag))) };
    let digest = digest.parse::<Digest>().map_err(|_| {
        Error::invalid(format!("{digest:?} is not a digest")).hint("Use sha256: followed by 64 lower-case hex digits.")
    })?;
    Ok((target, ImageReference::Digest(digest)))
}

/// Parses a new tag, alone or in a reference of the image's repository.
fn new_tag(text: &str, image: &Target) -> Result<Tag> {
    if !text.contains(['/', ':', '@']) {
        return text.parse();
    }
    let mut new: Target = transports::target(text)?.parse()?;
    if (&new.host, &new.repository) == (&image.host, &image.repository) {
        return Ok(new.tags.pop().unwrap_or_else(Tag::latest));
    }
    let what = format!("{new} is not in the repository of the image, {image}");
    let advice = Advice::new("Write the tag alone. To have the image in another repository, push its archive there:");
    Err(Error::invalid_target(what).hint(advice.command(format!("ecr-push image.tar {new}"))))
}
