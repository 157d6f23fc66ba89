//! A layer that goes by, kept in a temporary file as it is packed, for a registry that may lose a broken upload: then it is
//! sent again from there.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::layer::{FileRange, Packed, Piece};
use crate::registry::{Fed, Feed};

/// A layer, as far as it has come.
pub(super) struct Kept {
    file: Arc<File>,
    so_far: Mutex<SoFar>,
    grown: Condvar,
}

#[derive(Default)]
struct SoFar {
    /// Where each piece ends in the file, and its position in the archive's bytes.
    pieces: Vec<(u64, u64)>,
    /// What it was, or why there is no more.
    end: Option<Result<Packed>>,
}

impl Kept {
    /// Starts to write what `feed` brings into a file without a name in `folder`.
    ///
    /// # Errors
    /// If no file can be made there.
    pub(super) fn fill(feed: Feed, folder: &Path) -> Result<Arc<Self>> {
        let file = tempfile::tempfile_in(folder).map_err(|error| cannot_keep(folder, error))?;
        let kept = Arc::new(Self { file: Arc::new(file), so_far: Mutex::default(), grown: Condvar::new() });
        let (filling, folder) = (Arc::clone(&kept), folder.to_owned());
        tokio::task::spawn_blocking(move || {
            let end = filling.write(feed).map_err(|error| cannot_keep(&folder, error)).and_then(|end| end);
            filling.so_far().end = Some(end);
            filling.grown.notify_all();
        });
        Ok(kept)
    }

    fn write(&self, mut feed: Feed) -> io::Result<Result<Packed>> {
        let mut end = 0;
        loop {
            match feed.blocking_recv() {
                Some(Fed::Piece(Piece { bytes, position })) => {
                    (&*self.file).write_all(&bytes)?;
                    end += bytes.len() as u64;
                    self.so_far().pieces.push((end, position));
                    self.grown.notify_all();
                }
                Some(Fed::End(packed)) => return Ok(Ok(packed)),
                Some(Fed::Failed(error)) => return Ok(Err(error)),
                None => return Ok(Err(Error::interrupted())),
            }
        }
    }

    /// All of it, from its start, as it grows.
    pub(super) fn feed(self: &Arc<Self>) -> Feed {
        let (taker, feed) = mpsc::channel(1);
        let kept = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let mut start = 0;
            for n in 0.. {
                let fed = match kept.piece(n, start) {
                    Ok(Some(piece)) => Fed::Piece(piece),
                    Ok(None) => break,
                    Err(error) => Fed::Failed(Error::input("a temporary file cannot be read back").because(error)),
                };
                start += if let Fed::Piece(piece) = &fed { piece.bytes.len() as u64 } else { 0 };
                if taker.blocking_send(fed).is_err() {
                    return;
                }
            }
            let end = kept.so_far().end.clone();
            let _stopped_listening = taker.blocking_send(match end {
                Some(Ok(packed)) => Fed::End(packed),
                Some(Err(error)) => Fed::Failed(error),
                None => Fed::Failed(Error::interrupted()),
            });
        });
        feed
    }

    /// The piece of that number, once it is there. `None` if there are no more.
    fn piece(&self, n: usize, start: u64) -> io::Result<Option<Piece>> {
        let waits = |so_far: &mut SoFar| so_far.pieces.len() <= n && so_far.end.is_none();
        let so_far = self.grown.wait_while(self.so_far(), waits).unwrap_or_else(PoisonError::into_inner);
        let Some((end, position)) = so_far.pieces.get(n).copied() else { return Ok(None) };
        drop(so_far);
        let bytes = FileRange::new(Arc::clone(&self.file), start, end - start).read_all(end - start)?;
        Ok(Some(Piece { bytes: bytes.into(), position }))
    }

    fn so_far(&self) -> MutexGuard<'_, SoFar> {
        self.so_far.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cannot_keep(folder: &Path, error: io::Error) -> Error {
    Error::input(format!("a layer that goes by cannot be kept in a temporary file in {}", folder.display()))
        .because(error)
        .hint("Name a folder with more room: --temp-dir DIR")
}
