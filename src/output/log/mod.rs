//! The log on stderr: entries, their formats, and text that is safe to show.

mod entry;
mod sanitize;
mod style;

pub(crate) use entry::Entry;
pub(crate) use entry::{Level, millis, rfc3339};
pub(crate) use sanitize::{escape_controls, sanitize_line};
pub(crate) use sanitize::{replace_controls, sanitize};
pub(crate) use style::Tone;
pub(crate) use style::{ColorMode, LogFormat, Mode, Style, Verbosity};
