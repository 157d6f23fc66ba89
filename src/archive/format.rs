//! The interface of archive formats.

use super::contents::Contents;
use super::files::Files;
use crate::error::Result;

/// An archive format.
pub(super) struct Format {
    /// The name in messages and reports.
    pub(super) name: &'static str,
    /// Returns whether an archive of these files has the format.
    pub(super) matches: fn(&Files) -> Result<bool>,
    /// Reads everything except the layers.
    pub(super) read: fn(&Files) -> Result<Contents>,
}
