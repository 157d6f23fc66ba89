//! The disk space for temporary files. They never fill their file system: a reserve stays free.

use std::fmt::Display;
use std::fs::File;
use std::path::Path;

use crate::compress::size;
use crate::error::{Advice, Code, Error, Result};
use crate::file::Capacity;

/// The largest reserve, in bytes.
const MAX_RESERVE: u64 = 1 << 30;

/// The free space in a folder, if it is known.
pub(crate) struct DiskSpace<'a> {
    folder: &'a Path,
    space: Option<Space>,
}

/// The free bytes of a file system, and the part of them that stays free.
struct Space {
    free: u64,
    reserve: u64,
}

impl<'a> DiskSpace<'a> {
    /// Returns the current space of the file system of `file`, which is in `folder`.
    pub(crate) fn of(file: &File, folder: &'a Path) -> Self {
        Self { folder, space: space(file) }
    }

    /// Checks that the reserve stays free if `more` bytes of `what` are written after `written` bytes.
    ///
    /// # Errors
    /// If it would not.
    pub(crate) fn check(&self, what: &dyn Display, written: u64, more: u64) -> Result<()> {
        let Some(Space { free, reserve }) = self.space else { return Ok(()) };
        if more <= free.saturating_sub(reserve) {
            return Ok(());
        }
        let (needed, free) = (size(written.saturating_add(more)), size(written.saturating_add(free)));
        let (reserve, folder) = (size(reserve), self.folder.display());
        let what = format!("{what} takes a temporary file of {needed} or more, but {folder} has {free} free");
        Err(Error::input(format!("{what}, and {reserve} of that stay reserved"))
            .code(Code::ResourcesExhausted)
            .hint(Advice::new("Use a folder with more space").setting_with("temp-dir", "DIR")))
    }
}

fn space(file: &File) -> Option<Space> {
    let Capacity { free, total } = Capacity::around(file)?;
    Some(Space { free, reserve: (total / 20).min(MAX_RESERVE) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_reserve_of_the_disk_stays_free() {
        let check = |space: Option<(u64, u64)>, written, more| {
            let space = space.map(|(free, reserve)| Space { free, reserve });
            DiskSpace { folder: Path::new("/var/tmp"), space }.check(&"standard input", written, more)
        };
        check(Some((1000, 100)), 5000, 900).unwrap();
        check(Some((0, 0)), 0, 0).unwrap();
        check(None, 0, u64::MAX).unwrap();
        for (free, more) in [(1000, 901), (99, 1), (0, u64::MAX)] {
            assert_eq!(check(Some((free, 100)), 0, more).unwrap_err().kind(), Kind::Input);
        }
        let error = check(Some((3 << 20, 2 << 20)), 5 << 20, 3 << 20).unwrap_err();
        let text = "standard input takes a temporary file of 8.0 MiB or more, but /var/tmp has 8.0 MiB free, and 2.0 MiB \
                     of that stay reserved";
        assert_eq!(error.to_string(), text);
        assert_eq!(error.advice().unwrap().to_string(), "Use a folder with more space: --temp-dir DIR");
    }

    #[cfg(unix)]
    #[test]
    fn the_free_space_of_a_file_system_is_known() {
        let space = space(&tempfile::tempfile().unwrap()).unwrap();
        assert!(space.free > 0 && space.reserve > 0 && space.reserve <= MAX_RESERVE);
    }
}
