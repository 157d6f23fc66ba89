//! What stderr looks like.

use clap::ValueEnum;

use crate::output::log::LogFormat;

/// How stderr is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(super) enum LogFormatArg {
    /// For people
    #[default]
    Text,
    /// An object a line, for programs
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
    /// Rows on a terminal, lines elsewhere
    Auto,
    /// Rows, if it is a terminal
    Bars,
    /// Lines
    Plain,
    /// Nothing
    None,
}
