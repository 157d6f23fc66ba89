//! The formats of stdout and stderr.

use clap::ValueEnum;

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

/// Returns what is logged if `-v` is given so many times.
pub(super) fn verbosity(count: u8) -> Verbosity {
    match count {
        0 => Verbosity::Normal,
        1 => Verbosity::Details,
        _ => Verbosity::Requests,
    }
}
