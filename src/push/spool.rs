//! A layer from a pipe, written to a temporary file as it is compressed, for a registry that may lose a broken upload or turn
//! out to take no chunks: then it is sent again from there.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use super::growing_list::{GrowingList, Next};
use crate::archive::DiskSpace;
use crate::compress::{ByteSource, DataBlock, LayerSummary, size, write_at};
use crate::error::{Advice, Error, Result};
use crate::registry::LayerData;

/// A layer, as far as it has arrived.
pub(super) struct SpooledLayer {
    /// The layer, for people.
    what: String,
    folder: PathBuf,
    file: Arc<File>,
    /// For each block, the offset in the file at which it ends, and its position in the archive's bytes.
    blocks: GrowingList<(u64, u64), LayerSummary, Error>,
    has_no_space: AtomicBool,
}

impl SpooledLayer {
    /// Starts to write the data of `receiver` into a file without a name in `folder`. It takes `least` bytes or more.
    ///
    /// # Errors
    /// Fails if no file can be created there, or there is no space for it.
    pub(super) fn fill(
        what: String,
        receiver: mpsc::Receiver<LayerData>,
        folder: &Path,
        least: u64,
    ) -> Result<Arc<Self>> {
        let file = tempfile::tempfile_in(folder).map_err(|error| {
            let what =
                format!("cannot write {what} of the streamed archive to a temporary file in {}", folder.display());
            Error::usage(what).because(error).hint(Advice::new("Choose another folder").setting_with("temp-dir", "DIR"))
        })?;
        // Reported before the first byte is written, as far as it is known.
        DiskSpace::of(&file, folder).check(&what, 0, least)?;
        let (file, folder) = (Arc::new(file), folder.to_owned());
        let spooled =
            Arc::new(Self { what, folder, file, blocks: GrowingList::new(), has_no_space: AtomicBool::new(false) });
        let writer = Arc::clone(&spooled);
        tokio::task::spawn_blocking(move || writer.blocks.finish(writer.write(receiver)));
        Ok(spooled)
    }

    fn write(&self, mut receiver: mpsc::Receiver<LayerData>) -> Result<LayerSummary> {
        let mut end = 0;
        loop {
            match receiver.blocking_recv() {
                Some(LayerData::Data(DataBlock { bytes, position })) => {
                    self.append(end, &bytes).inspect_err(|_| self.has_no_space.store(true, Ordering::Relaxed))?;
                    end += bytes.len() as u64;
                    self.blocks.push((end, position));
                }
                Some(LayerData::End(summary)) => return Ok(summary),
                Some(LayerData::Failed(error)) => return Err(error),
                None => return Err(Error::interrupted()),
            }
        }
    }

    /// Writes the next bytes after the first `written`. Others read meanwhile, so the file's cursor is not used.
    fn append(&self, written: u64, bytes: &[u8]) -> Result<()> {
        DiskSpace::of(&self.file, &self.folder).check(&self.what, written, bytes.len() as u64)?;
        write_at(&self.file, bytes, written).map_err(|error| {
            let (what, folder) = (&self.what, self.folder.display());
            let what = format!("cannot write more than {} of {what} into a temporary file in {folder}", size(written));
            Error::input(what).because(error).hint(Advice::new("Choose another folder").setting_with("temp-dir", "DIR"))
        })
    }

    /// Returns whether the file could not be written to its end, although the archive could be read.
    pub(super) fn has_no_space(&self) -> bool {
        self.has_no_space.load(Ordering::Relaxed)
    }

    /// Returns all data from the start, as it arrives. A layer that fails ends at once: it is not read to where it failed.
    pub(super) fn read(self: &Arc<Self>) -> mpsc::Receiver<LayerData> {
        let (sender, receiver) = mpsc::channel(1);
        let spooled = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let mut start = 0;
            for n in 0.. {
                let data = match spooled.blocks.wait_for(n) {
                    Ok(Next::Item((end, position))) => spooled.block(&mut start, end, position),
                    Ok(Next::End(summary)) => LayerData::End(summary),
                    Err(error) => LayerData::Failed(error),
                };
                let is_last = !matches!(data, LayerData::Data(_));
                if sender.blocking_send(data).is_err() || is_last {
                    return;
                }
            }
        });
        receiver
    }

    /// Reads a block back, and sets `start` to its end.
    fn block(&self, start: &mut u64, end: u64, position: u64) -> LayerData {
        let len = end - std::mem::replace(start, end);
        match ByteSource::new(Arc::clone(&self.file), end - len, len).read_all(len) {
            Ok(bytes) => LayerData::Data(DataBlock { bytes: bytes.into(), position }),
            Err(error) => {
                let what = format!("the temporary file of {} cannot be read back", self.what);
                LayerData::Failed(Error::input(what).because(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[tokio::test]
    async fn a_layer_that_is_too_large_for_the_disk_is_not_started() {
        let (_sender, receiver) = mpsc::channel(1);
        let folder = std::env::temp_dir();
        let error = SpooledLayer::fill("layer a".into(), receiver, &folder, 1 << 60).err().unwrap();
        assert_eq!(error.kind(), Kind::Input);
        assert!(error.to_string().starts_with("layer a takes a temporary file of 1048576.0 TiB or more, but "));
    }

    #[tokio::test]
    async fn a_failure_is_reported_before_the_blocks_in_front_of_it() {
        let (sender, receiver) = mpsc::channel(1);
        let spooled = SpooledLayer::fill("layer a".into(), receiver, &std::env::temp_dir(), 0).unwrap();
        let block = DataBlock { bytes: vec![7; 1000].into(), position: 1000 };
        sender.send(LayerData::Data(block)).await.unwrap();
        let mut early = spooled.read();
        assert!(matches!(early.recv().await, Some(LayerData::Data(_))));
        sender.send(LayerData::Failed(Error::input("it is broken"))).await.unwrap();
        assert!(matches!(early.recv().await, Some(LayerData::Failed(_))));
        assert!(matches!(spooled.read().recv().await, Some(LayerData::Failed(_))));
        assert!(!spooled.has_no_space());
    }
}
