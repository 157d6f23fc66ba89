//! The log on stderr: entries, their formats, and text that is safe to show.

mod entry;
mod explanations;
mod sanitize;
mod style;
mod words;

pub(crate) use entry::{Entry, Failure, Level, rfc3339};
pub(crate) use explanations::log_explanations;
pub(crate) use sanitize::{escape_controls, replace_controls, sanitize, sanitize_line};
pub(crate) use style::{ColorMode, LogFormat, Mode, Style, Tone, Verbosity};
