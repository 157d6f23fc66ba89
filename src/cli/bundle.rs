//! The options for several images of an archive.

use std::path::PathBuf;

use clap::ArgGroup;

use super::shard::shard;
use super::values::{Environment, number};
use crate::error::{Advice, Error, Result};
use crate::push::Shard;

/// The group of options that select several images.
pub(super) const SEVERAL: &str = "several";

/// The arguments.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(group = ArgGroup::new(SEVERAL).conflicts_with_all(ONE_IMAGE))]
pub(super) struct BundleArgs {
    /// Push every image of the archive; the target is a prefix for their repositories: HOST/mirror/
    #[arg(long, group = SEVERAL, help_heading = "Several images")]
    all_images: bool,
    /// Push the images that a file lists, one name a line; - reads standard input
    #[arg(long, group = SEVERAL, value_name = "FILE", help_heading = "Several images")]
    image_list: Option<PathBuf>,
    /// Leave out images whose name matches, with * for any characters (repeatable)
    #[arg(long, value_name = "PATTERN", help_heading = "Several images")]
    exclude: Vec<String>,
    /// Keep the registry of a name as the first part of its repository: quay.io/org/app
    #[arg(long, help_heading = "Several images")]
    keep_registry: bool,
    /// Start no more pushes after a failure
    #[arg(long, help_heading = "Several images")]
    fail_fast: bool,
    /// Push a part of the images, for runs on several machines: I/N with I from 1, or auto for the number that AWS Batch,
    /// Kubernetes, Slurm or GitLab gives to the machine
    #[arg(long, value_name = "I/N", help_heading = "Several images")]
    shard: Option<String>,
    /// Number of machines, where --shard auto cannot find it (Kubernetes)
    #[arg(long, value_parser = number::<u64>, value_name = "N", help_heading = "Several images")]
    shards: Option<u64>,
}

/// Options that are for the push of one image.
const ONE_IMAGE: [&str; 9] = [
    "image", "image_id", "index", "join", "expect_digest", "digest_file", "metadata_file", "timeline",
    "output_variable",
];

/// Which images of the archive are pushed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Bundle {
    /// The list of names. Without it, all images are pushed.
    pub list: Option<PathBuf>,
    /// Patterns of names that are left out.
    pub exclude: Vec<String>,
    /// Whether the registry of a name becomes a part of the repository.
    pub keep_registry: bool,
    /// Whether repository names are converted by Docker's rules.
    pub docker_naming: bool,
    /// Whether no push starts after a failure.
    pub fail_fast: bool,
    /// The part that is pushed.
    pub shard: Option<Shard>,
}

impl BundleArgs {
    /// Returns the option for several images of one archive that is used, if any is.
    pub(super) fn used(&self) -> Option<&'static str> {
        let used = [
            ("--all-images", self.all_images),
            ("--image-list", self.image_list.is_some()),
            ("--exclude", !self.exclude.is_empty()),
            ("--keep-registry", self.keep_registry),
        ];
        used.into_iter().find_map(|(option, is_used)| is_used.then_some(option))
    }

    /// Takes out what also applies to a batch: whether no push starts after a failure, and the part that is pushed.
    ///
    /// # Errors
    /// If there is no such part.
    pub(super) fn take_run(&mut self, environment: Environment<'_>) -> Result<(bool, Option<Shard>)> {
        let shard = shard(self.shard.take().as_deref(), self.shards.take(), environment)?;
        Ok((std::mem::take(&mut self.fail_fast), shard))
    }

    /// Reads the options. `None` if one image is pushed.
    ///
    /// # Errors
    /// If options for several images are used for one.
    pub(super) fn read(mut self, docker_naming: bool, environment: Environment<'_>) -> Result<Option<Bundle>> {
        let (fail_fast, shard) = self.take_run(environment)?;
        if self.all_images || self.image_list.is_some() {
            let Self { image_list: list, exclude, keep_registry, .. } = self;
            return Ok(Some(Bundle { list, exclude, keep_registry, docker_naming, fail_fast, shard }));
        }
        let of_run = fail_fast.then_some("--fail-fast").or_else(|| shard.map(|_| "--shard"));
        match self.used().or(of_run) {
            None => Ok(None),
            Some(option) => Err(Error::conflict(format!("{option} is for several images"))
                .about_option(option)
                .hint(Advice::new("Leave it out, or push every image of the archive").setting("all-images"))),
        }
    }
}
