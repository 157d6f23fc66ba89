//! A layer that is written to a temporary file as it is compressed, and sent from there: one from a pipe, for a registry that may
//! lose a broken upload or turn out to take no chunks, or one that several images have.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::growing_list::{GrowingList, Next};
use crate::archive::DiskSpace;
use crate::compress::{ByteSource, DataBlock, LayerSummary, Pool, size, write_at};
use crate::error::{Advice, Error, Result};
use crate::registry::LayerData;

/// A layer, as far as it has arrived.
pub(super) struct SpooledLayer {
    /// The layer, for people.
    what: String,
    folder: PathBuf,
    file: Arc<File>,
    /// Where buffers come from.
    pool: Arc<Pool>,
    /// For each block, the offset in the file at which it ends, and its position in the archive's bytes.
    blocks: GrowingList<(u64, u64), LayerSummary, Error>,
    has_no_space: AtomicBool,
}

/// How the sending of a spooled layer ended.
pub(super) enum Sent {
    /// Everything was sent.
    All,
    /// The receiver takes no more.
    Closed,
    /// The layer or its file cannot be read. So many bytes were sent.
    Failed(u64, Error),
}

impl SpooledLayer {
    /// Creates a file without a name in `folder` for a layer of `least` bytes or more.
    ///
    /// # Errors
    /// Fails if no file can be created there, or there is no space for it.
    pub(super) fn create(what: String, folder: &Path, least: u64, pool: &Arc<Pool>) -> Result<Arc<Self>> {
        let file = tempfile::tempfile_in(folder).map_err(|error| {
            let what = format!("cannot write {what} of the archive to a temporary file in {}", folder.display());
            Error::usage(what).because(error).hint(Advice::new("Choose another folder").setting_with("temp-dir", "DIR"))
        })?;
        // Reported before the first byte is written, as far as it is known.
        DiskSpace::of(&file, folder).check(&what, 0, least)?;
        let (file, folder) = (Arc::new(file), folder.to_owned());
        let (pool, blocks, has_no_space) = (Arc::clone(pool), GrowingList::new(), AtomicBool::new(false));
        Ok(Arc::new(Self { what, folder, file, pool, blocks, has_no_space }))
    }

    /// Starts to write the data of `receiver`.
    pub(super) fn fill(self: &Arc<Self>, mut receiver: mpsc::Receiver<LayerData>) {
        let mut writer = SpoolWriter::new(self);
        tokio::task::spawn_blocking(move || {
            let end = loop {
                match receiver.blocking_recv() {
                    Some(LayerData::Data(block)) => {
                        if writer.write(block).is_break() {
                            return;
                        }
                    }
                    Some(LayerData::End(summary)) => break Ok(summary),
                    Some(LayerData::Failed(error)) => break Err(error),
                    None => break Err(Error::interrupted()),
                }
            };
            writer.end(end);
        });
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

    /// Returns whether the layer cannot be read from the file to its end.
    pub(super) fn has_failed(&self) -> bool {
        self.blocks.has_failed()
    }

    /// Returns the number of bytes that are in the file so far.
    pub(super) fn len(&self) -> u64 {
        self.blocks.last().map_or(0, |(end, _)| end)
    }

    /// Returns the file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Returns all data from the start, as it arrives. A layer that fails ends at once: it is not read to where it failed.
    pub(super) fn read(self: &Arc<Self>) -> mpsc::Receiver<LayerData> {
        let (sender, receiver) = mpsc::channel(1);
        let spooled = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            if let Sent::Failed(_, error) = spooled.send(&sender) {
                // The receiver may be gone.
                let _closed = sender.blocking_send(LayerData::Failed(error));
            }
        });
        receiver
    }

    /// Sends all data from the start, as it arrives, but not the error of a layer that fails.
    pub(super) fn send(&self, sender: &mpsc::Sender<LayerData>) -> Sent {
        let mut sent = 0;
        for n in 0.. {
            let (data, end) = match self.blocks.wait_for(n) {
                Ok(Next::Item((end, position))) => match self.block(sent, end) {
                    Ok(bytes) => (LayerData::Data(DataBlock { bytes, position }), Some(end)),
                    Err(error) => return Sent::Failed(sent, error),
                },
                Ok(Next::End(summary)) => (LayerData::End(summary), None),
                Err(error) => return Sent::Failed(sent, error),
            };
            if sender.blocking_send(data).is_err() {
                return Sent::Closed;
            }
            match end {
                Some(end) => sent = end,
                None => break,
            }
        }
        Sent::All
    }

    /// Reads a block back.
    fn block(&self, start: u64, end: u64) -> Result<Bytes> {
        let block = ByteSource::new(Arc::clone(&self.file), start, end - start);
        block.read_block(&self.pool).map_err(|error| {
            Error::input(format!("the temporary file of {} cannot be read back", self.what)).because(error)
        })
    }
}

/// What writes a layer. When it is dropped before its end, the layer has failed.
pub(super) struct SpoolWriter {
    layer: Arc<SpooledLayer>,
    written: u64,
    is_ended: bool,
}

impl SpoolWriter {
    /// Creates the only writer of a layer.
    pub(super) fn new(layer: &Arc<SpooledLayer>) -> Self {
        Self { layer: Arc::clone(layer), written: 0, is_ended: false }
    }

    /// Writes the next bytes. Breaks if that fails, or once the writer alone has the layer.
    pub(super) fn write(&mut self, DataBlock { bytes, position }: DataBlock) -> ControlFlow<()> {
        if Arc::strong_count(&self.layer) == 1 {
            return ControlFlow::Break(());
        }
        if let Err(error) = self.layer.append(self.written, &bytes) {
            self.layer.has_no_space.store(true, Ordering::Relaxed);
            self.set_end(Err(error));
            return ControlFlow::Break(());
        }
        self.written += bytes.len() as u64;
        self.layer.blocks.push((self.written, position));
        ControlFlow::Continue(())
    }

    /// Ends the layer.
    pub(super) fn end(mut self, end: Result<LayerSummary>) {
        self.set_end(end);
    }

    fn set_end(&mut self, end: Result<LayerSummary>) {
        self.is_ended = true;
        self.layer.blocks.finish(end);
    }
}

impl Drop for SpoolWriter {
    fn drop(&mut self) {
        if !self.is_ended {
            self.set_end(Err(Error::interrupted()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    /// A layer of `least` bytes or more.
    fn spooled(least: u64) -> Result<Arc<SpooledLayer>> {
        SpooledLayer::create("layer a".into(), &std::env::temp_dir(), least, &Arc::new(Pool::start(1)))
    }

    #[test]
    fn a_layer_that_is_too_large_for_the_disk_is_not_started() {
        let error = spooled(1 << 60).err().unwrap();
        assert_eq!(error.kind(), Kind::Input);
        assert!(error.to_string().starts_with("layer a takes a temporary file of 1048576.0 TiB or more, but "));
    }

    #[tokio::test]
    async fn a_file_without_readers_is_not_written_to_its_end() {
        let (sender, receiver) = mpsc::channel(1);
        let spooled = spooled(0).unwrap();
        spooled.fill(receiver);
        let block = || LayerData::Data(DataBlock { bytes: vec![7; 1000].into(), position: 1000 });
        sender.send(block()).await.unwrap();
        drop(spooled);
        for _ in 0..1000 {
            if sender.send(block()).await.is_err() {
                return;
            }
        }
        panic!("it is written on and on");
    }

    #[tokio::test]
    async fn a_failure_is_reported_before_the_blocks_in_front_of_it() {
        let (sender, receiver) = mpsc::channel(1);
        let spooled = spooled(0).unwrap();
        spooled.fill(receiver);
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
