//! The options for several images of an archive.

use std::path::PathBuf;

use clap::ArgGroup;

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
    #[arg(long, requires = SEVERAL, value_name = "PATTERN", help_heading = "Several images")]
    exclude: Vec<String>,
    /// Keep the registry of a name as the first part of its repository: quay.io/org/app
    #[arg(long, requires = SEVERAL, help_heading = "Several images")]
    keep_registry: bool,
    /// Start no more pushes after a failure
    #[arg(long, help_heading = "Several images")]
    fail_fast: bool,
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
    /// Whether the registry of a name is kept.
    pub keep_registry: bool,
    /// Whether repository names are converted by Docker's rules.
    pub docker_naming: bool,
    /// Whether no push starts after a failure.
    pub fail_fast: bool,
}

impl BundleArgs {
    /// Returns whether several images of an archive are pushed.
    pub(super) fn is_used(&self) -> bool {
        self.all_images || self.image_list.is_some()
    }

    /// Returns whether no push starts after a failure.
    pub(super) fn is_fail_fast(&self) -> bool {
        self.fail_fast
    }

    /// Returns whether no push starts after a failure, and resets it.
    pub(super) fn take_fail_fast(&mut self) -> bool {
        std::mem::take(&mut self.fail_fast)
    }

    /// Reads the options. `None` if one image is pushed.
    pub(super) fn read(self, docker_naming: bool) -> Option<Bundle> {
        let Self { all_images, image_list: list, exclude, keep_registry, fail_fast } = self;
        (all_images || list.is_some()).then_some(Bundle { list, exclude, keep_registry, docker_naming, fail_fast })
    }
}
