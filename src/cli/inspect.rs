//! The verb that shows what is in an archive.

use std::path::PathBuf;

use clap::ValueEnum;

use super::values::archive;
use crate::image::Source;

/// A look into an archive.
#[derive(Debug)]
pub struct Inspect {
    /// The archive.
    pub archive: Source,
    /// The folder for temporary files.
    pub temp_dir: PathBuf,
    /// Whether the layers are read and hashed.
    pub verify: bool,
    /// How the result is written.
    pub output: Output,
}

/// How a result is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

#[derive(Debug, clap::Args)]
pub(super) struct InspectArgs {
    /// Archive to look into, as a push takes it; - for standard input
    archive: PathBuf,
    /// Read every layer, and compare it with its digest and its diff_id
    #[arg(long)]
    verify: bool,
    /// How the result is written to stdout
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Output::Text)]
    output: Output,
    /// Folder for the temporary file that a pipe or a compressed archive takes [default: the system's]
    #[arg(long, value_name = "DIR")]
    temp_dir: Option<PathBuf>,
}

impl From<InspectArgs> for Inspect {
    fn from(args: InspectArgs) -> Self {
        let InspectArgs { archive: path, verify, output, temp_dir } = args;
        Self { archive: archive(path), temp_dir: temp_dir.unwrap_or_else(std::env::temp_dir), verify, output }
    }
}
