//! The room that temporary files have: never the last of their file system, of which others keep a share.

use std::fmt::Display;
use std::fs::File;
use std::path::Path;

use crate::compress::size;
use crate::error::{Code, Error, Result};
use crate::file::Capacity;

/// The most that is left to others.
const MOST_RESERVE: u64 = 1 << 30;

/// What a file system has free, where that can be known.
pub struct DiskSpace<'a> {
    folder: &'a Path,
    space: Option<Space>,
}

/// How many bytes a file system has free, and how many of them are left to others.
struct Space {
    free: u64,
    reserve: u64,
}

impl<'a> DiskSpace<'a> {
    /// The room that `file` has right now, which lies in `folder`.
    pub fn of(file: &File, folder: &'a Path) -> Self {
        Self { folder, space: space(file) }
    }

    /// Sees that `more` bytes of `what`, behind those `written`, leave others their share.
    ///
    /// # Errors
    /// If they do not.
    pub fn check(&self, what: &dyn Display, written: u64, more: u64) -> Result<()> {
        let Some(Space { free, reserve }) = self.space else { return Ok(()) };
        if more <= free.saturating_sub(reserve) {
            return Ok(());
        }
        let (needed, free) = (size(written.saturating_add(more)), size(written.saturating_add(free)));
        let (reserve, folder) = (size(reserve), self.folder.display());
        let what = format!("{what} takes a temporary file of {needed} or more, and {folder} had {free} free");
        Err(Error::input(format!("{what}, of which {reserve} are left to others"))
            .code(Code::ResourcesExhausted)
            .hint("Name a folder with more room: --temp-dir DIR"))
    }
}

fn space(file: &File) -> Option<Space> {
    let Capacity { free, total } = Capacity::around(file)?;
    Some(Space { free, reserve: (total / 20).min(MOST_RESERVE) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn others_keep_their_share_of_the_disk() {
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
        let words = "standard input takes a temporary file of 8.0 MiB or more, and /var/tmp had 8.0 MiB free, of which \
                     2.0 MiB are left to others";
        assert_eq!(error.to_string(), words);
        assert_eq!(error.advice().unwrap().to_string(), "Name a folder with more room: --temp-dir DIR");
    }

    #[cfg(unix)]
    #[test]
    fn what_a_file_system_has_free_is_known() {
        let space = space(&tempfile::tempfile().unwrap()).unwrap();
        assert!(space.free > 0 && space.reserve > 0 && space.reserve <= MOST_RESERVE);
    }
}
