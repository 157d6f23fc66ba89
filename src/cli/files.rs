//! The files that a push writes for programs.

use std::path::{Path, PathBuf};

use super::output::PushOutput;
use super::pipeline::{Pipeline, VariablesTo};
use crate::archive::Source;
use crate::error::{Error, Result};

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

/// A file that a push writes for programs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum OutputFile {
    Report,
    Digest,
    /// In BuildKit's format.
    Metadata,
    Timeline,
    /// A variable in a file of its own: a reference, a digest, or references with commas between.
    Variable,
}

impl OutputFile {
    /// Returns what it holds, for messages.
    pub(super) fn what(self) -> &'static str {
        self.names().0
    }

    /// Returns the option that names it.
    pub(super) fn option(self) -> &'static str {
        self.names().1
    }

    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Report => ("report", "report"),
            Self::Digest => ("digest", "digest-file"),
            Self::Metadata => ("metadata", "metadata-file"),
            Self::Timeline => ("timeline", "timeline"),
            Self::Variable => ("variable", "output-file"),
        }
    }
}

/// The files of a push.
pub(super) type Files = Vec<(OutputFile, PathBuf)>;

impl FileArgs {
    /// Returns the first option that is set and is for the push of one image.
    pub(super) fn of_one_image(&self) -> Option<&'static str> {
        let set = [
            ("--digest-file", self.digest_file.is_some()),
            ("--metadata-file", self.metadata_file.is_some()),
            ("--timeline", self.timeline.is_some()),
        ];
        set.into_iter().find_map(|(option, is_set)| is_set.then_some(option))
    }

    /// Returns the output format and the files. The archives, the file of variables and these files must all differ.
    pub(super) fn read(self, archives: &[&Source], variables: Option<&Path>) -> Result<(PushOutput, Files)> {
        let Self { output, report, digest_file, metadata_file, timeline } = self;
        let named = [
            (OutputFile::Report, report),
            (OutputFile::Digest, digest_file),
            (OutputFile::Metadata, metadata_file),
            (OutputFile::Timeline, timeline),
        ];
        let files: Files = named.into_iter().filter_map(|(file, path)| Some((file, path?))).collect();
        let variables = variables.map(|path| (OutputFile::Variable, path));
        let all = variables.into_iter().chain(files.iter().map(|(file, path)| (*file, path.as_path())));
        let all: Vec<(&str, &Path)> = all.map(|(file, path)| (file.option(), path)).collect();
        for (at, (option, file)) in all.iter().enumerate() {
            if *file == Path::new("-") {
                return Err(Error::invalid(format!("--{option} needs a file: it cannot write to - (stdout)"))
                    .about_option(format!("--{option}"))
                    .hint("Use --output json for the report on stdout."));
            }
            if archives.iter().any(|archive| matches!(archive, Source::Path(archive) if archive == file)) {
                let what = format!("--{option} would overwrite the archive");
                return Err(Error::conflict(what).about_option(format!("--{option}")).hint("Use another file."));
            }
            if let Some((other, _)) = all[..at].iter().find(|(_, other)| other == file) {
                return Err(Error::conflict(format!("--{other} and --{option} write to the same file"))
                    .about_option(format!("--{other}"))
                    .about_option(format!("--{option}"))
                    .hint("Use a separate file for each."));
            }
        }
        Ok((output, files))
    }
}

/// Rejects JSON and variables on the same stdout.
pub(super) fn check_stdout(output: PushOutput, pipeline: &Pipeline) -> Result<()> {
    let is_shared = pipeline.variables.as_ref().is_some_and(|variables| variables.to == VariablesTo::Stdout);
    if output != PushOutput::Text && is_shared {
        return Err(Error::conflict("--output json and the variables of TeamCity cannot both go to stdout")
            .about_option("--output")
            .hint("Use --output-file FILE for the variables, or --report FILE for the JSON."));
    }
    Ok(())
}
