//! What stderr looks like.

use clap::ValueEnum;

use crate::output::log::Format;

/// How stderr is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people
    #[default]
    Text,
    /// An object a line, for programs
    Json,
}

impl From<LogFormat> for Format {
    fn from(argument: LogFormat) -> Self {
        match argument {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
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
