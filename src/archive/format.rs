//! What a format of archives has to provide.

use super::contents::Contents;
use super::files::Files;
use crate::error::Result;

/// A format of archives.
pub(super) struct Format {
    /// Its name, as messages have it.
    pub(super) name: &'static str,
    /// Returns whether an archive of these files has the format.
    pub(super) matches: fn(&Files) -> Result<bool>,
    /// Reads everything but the layers.
    pub(super) read: fn(&Files) -> Result<Contents>,
}
