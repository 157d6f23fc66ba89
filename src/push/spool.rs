//! A layer that goes by, kept in a temporary file as it is packed, for a registry that may lose a broken upload or turn out to
//! take no chunks: then it is sent again from there.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::archive::DiskSpace;
use crate::compress::{ByteSource, DataBlock, LayerSummary, size, write_at};
use crate::error::{Error, Result};
use crate::registry::LayerData;

/// A layer, as far as it has come.
pub(super) struct SpooledLayer {
    /// The layer, for people.
    what: String,
    folder: PathBuf,
    file: Arc<File>,
    so_far: Mutex<SoFar>,
    grown: Condvar,
}

#[derive(Default)]
struct SoFar {
    /// Where each piece ends in the file, and its position in the archive's bytes.
    pieces: Vec<(u64, u64)>,
    /// What it was, or why there is no more.
    end: Option<Result<LayerSummary>>,
    /// The archive could be read, and the file is why there is no more.
    has_no_space: bool,
}

impl SpooledLayer {
    /// Starts to write what `feed` brings of a layer into a file without a name in `folder`. It takes `least` bytes or more.
    ///
    /// # Errors
    /// If no file can be made there, or there is no room for it.
    pub(super) fn fill(what: String, feed: mpsc::Receiver<LayerData>, folder: &Path, least: u64) -> Result<Arc<Self>> {
        let file = tempfile::tempfile_in(folder).map_err(|error| {
            let what =
                format!("cannot write {what} of the streamed archive to a temporary file in {}", folder.display());
            Error::usage(what).because(error).hint("Choose another folder: --temp-dir DIR")
        })?;
        // Told before the first byte is written, as far as it is known.
        DiskSpace::of(&file, folder).check(&what, 0, least)?;
        let (file, folder) = (Arc::new(file), folder.to_owned());
        let kept = Arc::new(Self { what, folder, file, so_far: Mutex::default(), grown: Condvar::new() });
        let filling = Arc::clone(&kept);
        tokio::task::spawn_blocking(move || {
            let end = filling.write(feed);
            filling.so_far().end = Some(end);
            filling.grown.notify_all();
        });
        Ok(kept)
    }

    fn write(&self, mut feed: mpsc::Receiver<LayerData>) -> Result<LayerSummary> {
        let mut end = 0;
        loop {
            match feed.blocking_recv() {
                Some(LayerData::Data(DataBlock { bytes, position })) => {
                    self.append(end, &bytes).inspect_err(|_| self.so_far().has_no_space = true)?;
                    end += bytes.len() as u64;
                    self.so_far().pieces.push((end, position));
                    self.grown.notify_all();
                }
                Some(LayerData::End(packed)) => return Ok(packed),
                Some(LayerData::Failed(error)) => return Err(error),
                None => return Err(Error::interrupted()),
            }
        }
    }

    /// Writes the next bytes behind the first `written`. Others read meanwhile, so nobody moves the file's cursor.
    fn append(&self, written: u64, bytes: &[u8]) -> Result<()> {
        DiskSpace::of(&self.file, &self.folder).check(&self.what, written, bytes.len() as u64)?;
        write_at(&self.file, bytes, written).map_err(|error| {
            let (what, folder) = (&self.what, self.folder.display());
            let what = format!("cannot write more than {} of {what} into a temporary file in {folder}", size(written));
            Error::input(what).because(error).hint("Choose another folder: --temp-dir DIR")
        })
    }

    /// Whether the file could not be written to its end.
    pub(super) fn has_no_space(&self) -> bool {
        self.so_far().has_no_space
    }

    /// All of it, from its start, as it grows.
    pub(super) fn read(self: &Arc<Self>) -> mpsc::Receiver<LayerData> {
        let (taker, feed) = mpsc::channel(1);
        let kept = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let mut start = 0;
            for n in 0.. {
                let fed = match kept.piece(n, start) {
                    Ok(Some(piece)) => LayerData::Data(piece),
                    Ok(None) => break,
                    Err(error) => {
                        let what = format!("the temporary file of {} cannot be read back", kept.what);
                        LayerData::Failed(Error::input(what).because(error))
                    }
                };
                start += if let LayerData::Data(piece) = &fed { piece.bytes.len() as u64 } else { 0 };
                if taker.blocking_send(fed).is_err() {
                    return;
                }
            }
            let end = kept.so_far().end.clone();
            let _stopped_listening = taker.blocking_send(match end {
                Some(Ok(packed)) => LayerData::End(packed),
                Some(Err(error)) => LayerData::Failed(error),
                None => LayerData::Failed(Error::interrupted()),
            });
        });
        feed
    }

    /// The piece of that number, once it is there. `None` if there are no more, or will never be all of them.
    fn piece(&self, n: usize, start: u64) -> io::Result<Option<DataBlock>> {
        let waits = |so_far: &mut SoFar| so_far.pieces.len() <= n && so_far.end.is_none();
        let so_far = self.grown.wait_while(self.so_far(), waits).unwrap_or_else(PoisonError::into_inner);
        if matches!(so_far.end, Some(Err(_))) {
            return Ok(None);
        }
        let Some((end, position)) = so_far.pieces.get(n).copied() else { return Ok(None) };
        drop(so_far);
        let bytes = ByteSource::new(Arc::clone(&self.file), start, end - start).read_all(end - start)?;
        Ok(Some(DataBlock { bytes: bytes.into(), position }))
    }

    fn so_far(&self) -> MutexGuard<'_, SoFar> {
        self.so_far.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[tokio::test]
    async fn what_surely_does_not_fit_is_not_begun() {
        let (_taker, feed) = mpsc::channel(1);
        let folder = std::env::temp_dir();
        let error = SpooledLayer::fill("layer a".into(), feed, &folder, 1 << 60).err().unwrap();
        assert_eq!(error.kind(), Kind::Input);
        assert!(error.to_string().starts_with("layer a takes a temporary file of 1048576.0 TiB or more, but "));
    }

    #[tokio::test]
    async fn that_there_is_no_more_is_told_before_what_there_was() {
        let (taker, feed) = mpsc::channel(1);
        let kept = SpooledLayer::fill("layer a".into(), feed, &std::env::temp_dir(), 0).unwrap();
        let piece = DataBlock { bytes: vec![7; 1000].into(), position: 1000 };
        taker.send(LayerData::Data(piece)).await.unwrap();
        let mut early = kept.read();
        assert!(matches!(early.recv().await, Some(LayerData::Data(_))));
        taker.send(LayerData::Failed(Error::input("it is broken"))).await.unwrap();
        assert!(matches!(early.recv().await, Some(LayerData::Failed(_))));
        assert!(matches!(kept.read().recv().await, Some(LayerData::Failed(_))));
        assert!(!kept.has_no_space());
    }
}
