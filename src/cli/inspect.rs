//! `ecr-push inspect`: shows what an archive contains.

use std::path::PathBuf;

use super::output::Output;
use super::transports;
use super::values::{Environment, image_selector};
use crate::archive::{ImageSelector, Platforms, Selection, Source};
use crate::error::Result;
use crate::output::report::ci::CiSystem;

/// The inspection of an archive.
#[derive(Debug)]
pub(super) struct Inspect {
    /// The archive.
    pub archive: Source,
    /// The image to show.
    pub choice: ImageSelector,
    /// The platforms and attestations to show.
    pub part: Selection,
    /// The folder for temporary files.
    pub temp_dir: PathBuf,
    /// Whether to read and hash the layers.
    pub verify: bool,
    /// The format of the result.
    pub output: Output,
    /// Whether a CI system reads the output, which must not contain its log commands.
    pub is_in_ci: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct InspectArgs {
    /// Archive to inspect, in any format that can be pushed; - reads standard input
    archive: PathBuf,
    /// Select an image of the archive by name [default tag: latest]
    #[arg(long, value_name = "NAME[:TAG]", conflicts_with = "image_id")]
    image: Option<String>,
    /// Select an image of the archive by its ID or a prefix of the ID
    #[arg(long, value_name = "ID", conflicts_with = "image")]
    image_id: Option<String>,
    /// Show all images of an OCI layout as one multi-platform image
    #[arg(long, conflicts_with_all = ["image", "image_id"])]
    index: bool,
    /// Show one platform of a multi-platform image: OS/ARCH[/VARIANT]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Read every layer and verify its digest and diff_id
    #[arg(long)]
    verify: bool,
    /// Format of the result
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    output: Output,
    /// Folder for the temporary file that streamed and compressed archives may need [default: the system's]
    #[arg(long, value_name = "DIR")]
    temp_dir: Option<PathBuf>,
}

impl InspectArgs {
    /// Reads the options.
    pub(super) fn read(self, environment: Environment<'_>) -> Result<Inspect> {
        let Self { archive: path, image, image_id, index, platform, verify, output, temp_dir } = self;
        let platforms = match platform {
            Some(platform) => Platforms::One(platform.parse()?),
            None => Platforms::All,
        };
        let (archive, named_image) = transports::source(path)?;
        Ok(Inspect {
            archive,
            choice: image_selector(image, image_id, index, named_image)?,
            part: Selection { platforms, ..Selection::default() },
            temp_dir: temp_dir.unwrap_or_else(std::env::temp_dir),
            verify,
            output,
            is_in_ci: CiSystem::detect(environment).is_some(),
        })
    }
}

impl Inspect {
    /// Returns whether the whole archive is shown.
    pub(super) fn is_of_all(&self) -> bool {
        self.choice == ImageSelector::Only && self.part == Selection::default()
    }
}
