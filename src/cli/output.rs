//! The formats of stdout and stderr.

use clap::ValueEnum;

use crate::error::{Advice, Error, Result};
use crate::output::log::{LogFormat, Verbosity};

/// The format of stderr.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(super) enum LogFormatArg {
    /// Text for people
    #[default]
    Text,
    /// One JSON object per line
    Json,
}

impl From<LogFormatArg> for LogFormat {
    fn from(argument: LogFormatArg) -> Self {
        match argument {
            LogFormatArg::Text => Self::Text,
            LogFormatArg::Json => Self::Json,
        }
    }
}

/// The progress display.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum ProgressArg {
    /// Bars on a terminal, lines elsewhere
    Auto,
    /// Bars, if stderr is a terminal
    Bars,
    /// Lines
    Plain,
    /// No progress
    None,
}

/// The format of a result on stdout.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(super) enum Output {
    /// Text for people
    #[default]
    Text,
    /// JSON for programs
    Json,
}

/// The format of the result of a push on stdout.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(super) enum PushOutput {
    /// The references, one per line
    #[default]
    Text,
    /// The report of one image as JSON, also if the push fails
    Json,
    /// One JSON object a line for each of several images, and one for all of them
    Jsonl,
}

impl PushOutput {
    /// Rejects the format of several images where one is pushed.
    pub(super) fn check_for_one(self) -> Result<()> {
        match self {
            Self::Jsonl => Err(misplaced("jsonl", "several images", "json")),
            Self::Text | Self::Json => Ok(()),
        }
    }

    /// Rejects the format of one image where several are pushed.
    pub(super) fn check_for_several(self) -> Result<()> {
        match self {
            Self::Json => Err(misplaced("json", "one image", "jsonl")),
            Self::Text | Self::Jsonl => Ok(()),
        }
    }
}

fn misplaced(format: &str, for_what: &str, instead: &str) -> Error {
    Error::conflict(format!("--output {format} is for {for_what}"))
        .about_option("--output")
        .hint(Advice::new("Use the other format").setting_with("output", instead))
}

/// Returns what is logged if `-v` is given so many times.
pub(super) fn verbosity(count: u8) -> Verbosity {
    match count {
        0 => Verbosity::Normal,
        1 => Verbosity::Details,
        _ => Verbosity::Requests,
    }
}
