//! The log on stderr: entries, their words and formats, the status of a push, and text that is safe to show.

mod entry;
mod explanations;
mod push_log;
mod sanitize;
mod status;
mod style;
mod words;

pub(crate) use entry::{Entry, Failure, Level, rfc3339};
pub(crate) use explanations::log_explanations;
pub(crate) use push_log::PushLog;
pub(crate) use sanitize::{escape_controls, replace_controls, sanitize, sanitize_line};
#[cfg(test)]
pub(crate) use status::fixtures;
pub(crate) use status::{Progress, PushStatus, SharedStatus};
pub(crate) use style::{ColorMode, LogFormat, Mode, Style, Verbosity};
