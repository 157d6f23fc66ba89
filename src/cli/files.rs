//! The files that a push writes for programs.

use std::path::{Path, PathBuf};

use super::output::PushOutput;
use super::pipeline::{Pipeline, VariablesTo};
use crate::archive::Source;
use crate::error::{Code, Error, Result};

/// The arguments.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct FileArgs {
    /// Result on stdout
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = PushOutput::Text, help_heading = "Output")]
    pub(super) output: PushOutput,
    /// Write the report to a file, as JSON; of several images as JSON lines
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    report: Option<PathBuf>,
    /// Write the digest to a file: sha256:...; no file remains if the push fails
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    digest_file: Option<PathBuf>,
    /// Write names, digest and descriptor to a file, as docker buildx does; no file remains if the push fails
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    metadata_file: Option<PathBuf>,
    /// Write an HTML page that shows how long each layer and request took
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    timeline: Option<PathBuf>,
}

/// The files of a push.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Files {
    /// The path of the report.
    pub report: Option<PathBuf>,
    /// The path of the digest.
    pub digest: Option<PathBuf>,
    /// The path of the metadata, in BuildKit's format.
    pub metadata: Option<PathBuf>,
    /// The path of the timeline page.
    pub timeline: Option<PathBuf>,
}

impl FileArgs {
    /// Returns the output format and the files. The archives, the file of variables and these files must all differ.
    pub(super) fn read(self, archives: &[&Source], variables: Option<&Path>) -> Result<(PushOutput, Files)> {
        let Self { output, report, digest_file: digest, metadata_file: metadata, timeline } = self;
        let files = [
            ("--output-file", variables),
            ("--report", report.as_deref()),
            ("--digest-file", digest.as_deref()),
            ("--metadata-file", metadata.as_deref()),
            ("--timeline", timeline.as_deref()),
        ];
        let files: Vec<(&str, &Path)> = files.into_iter().filter_map(|(option, file)| Some((option, file?))).collect();
        for (at, (option, file)) in files.iter().enumerate() {
            if *file == Path::new("-") {
                return Err(Error::usage(format!("{option} needs a file: it cannot write to - (stdout)"))
                    .code(Code::ValueInvalid)
                    .hint("Use --output json for the report on stdout."));
            }
            if archives.iter().any(|archive| matches!(archive, Source::Path(archive) if archive == file)) {
                let what = format!("{option} would overwrite the archive");
                return Err(Error::usage(what).code(Code::OptionConflict).hint("Use another file."));
            }
            if let Some((other, _)) = files[..at].iter().find(|(_, other)| other == file) {
                return Err(Error::usage(format!("{other} and {option} write to the same file"))
                    .code(Code::OptionConflict)
                    .hint("Use a separate file for each."));
            }
        }
        Ok((output, Files { report, digest, metadata, timeline }))
    }
}

/// Rejects JSON and variables on the same stdout.
pub(super) fn check_stdout(output: PushOutput, pipeline: &Pipeline) -> Result<()> {
    let is_shared = pipeline.variables.as_ref().is_some_and(|variables| variables.to == VariablesTo::Stdout);
    if output != PushOutput::Text && is_shared {
        return Err(Error::usage("--output json and the variables of TeamCity cannot both go to stdout")
            .code(Code::OptionConflict)
            .hint("Use --output-file FILE for the variables, or --report FILE for the JSON."));
    }
    Ok(())
}
