//! What stderr looks like.

use clap::ValueEnum;

use crate::output::log::LogFormat;

/// How stderr is written.
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

/// How progress is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Show {
    /// Bars on a terminal, lines elsewhere
    Auto,
    /// Bars, if stderr is a terminal
    Bars,
    /// Lines
    Plain,
    /// No progress
    None,
}
