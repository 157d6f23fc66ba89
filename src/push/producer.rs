//! Layers that are read and compressed, each on a thread of its own, for the targets that consume them.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;

use tokio::sync::mpsc;

use super::context::Run;
use super::plan::PlannedLayer;
use super::shared_layers::SharedLayers;
use super::small_layers::{Gathering, SmallLayers};
use super::spool::{Sent, SpoolWriter, SpooledLayer};
use super::{Event, Events};
use crate::compress::{DataBlock, LayerSummary, Pool, ReadTimeline, compress};
use crate::error::{Advice, Code, Error, Kind, Result};
use crate::registry::{LayerData, LayerStream};

/// How many blocks wait in a stream of a layer.
pub(super) const BLOCKS: usize = 1;

/// Reads layers from an archive that can be read by position.
#[derive(Clone)]
pub(super) struct LayerReader {
    pub(super) pool: Arc<Pool>,
    pub(super) small: Arc<SmallLayers>,
    pub(super) shared: Arc<SharedLayers>,
    pub(super) events: Events,
}

impl LayerReader {
    /// Returns the reader of a run.
    pub(super) fn of(run: &Run) -> Self {
        let Run { pool, small, shared, events, .. } = run;
        let (small, shared) = (Arc::clone(small), Arc::clone(shared));
        Self { pool: Arc::clone(pool), small, shared, events: Arc::clone(events) }
    }

    /// Starts to read a layer from its first byte. It stops when no target takes the bytes any more.
    pub(super) fn read(&self, layer: &PlannedLayer) -> mpsc::Receiver<LayerData> {
        let (sender, receiver) = mpsc::channel(BLOCKS);
        self.read_into(layer, sender);
        receiver
    }

    /// Returns the bytes of a layer for one target.
    pub(super) fn stream(&self, layer: &PlannedLayer) -> LayerStream {
        self.small.stream(layer).unwrap_or_else(|| LayerStream::own(self.read(layer)))
    }

    /// Returns a producer of a layer that somebody else reads, and what it produces.
    pub(super) fn produce(&self, layer: &PlannedLayer) -> (LayerProducer, mpsc::Receiver<LayerData>) {
        let (sender, receiver) = mpsc::channel(BLOCKS);
        (self.producer(layer, sender), receiver)
    }

    fn producer(&self, layer: &PlannedLayer, sender: mpsc::Sender<LayerData>) -> LayerProducer {
        LayerProducer { layer: layer.clone(), sender, skip: 0, reader: self.clone() }
    }

    /// Starts to read a layer into `sender`: from the archive, or from the file of one that several images have.
    pub(super) fn read_into(&self, layer: &PlannedLayer, sender: mpsc::Sender<LayerData>) {
        let mut producer = self.producer(layer, sender);
        let file = self.shared.open(layer, |file| self.fill(layer, file));
        tokio::task::spawn_blocking(move || {
            if let Some(file) = file {
                let shared = &producer.reader.shared;
                match file.send(&producer.sender) {
                    Sent::All => return shared.retain(&producer.layer, &file),
                    Sent::Closed => return,
                    Sent::Failed(sent, error) => {
                        shared.note_failure(&file, &error);
                        producer.skip = sent;
                    }
                }
            }
            let bytes = producer.layer.layer.bytes.clone();
            if bytes.is_consumed() {
                producer.fail(gone(&producer.layer));
            } else {
                // The consumers get the error, too.
                let _reported = producer.run(&mut bytes.reader());
            }
        });
    }

    /// Starts to compress a layer into a file.
    ///
    /// # Errors
    /// If no thread can be started. It is not one of the runtime: where these are few, all of them may wait for this one.
    fn fill(&self, layer: &PlannedLayer, file: &Arc<SpooledLayer>) -> io::Result<()> {
        let (reader, layer, mut writer) = (self.clone(), layer.clone(), SpoolWriter::new(file));
        let fill = move || {
            let bytes = layer.layer.bytes.clone();
            if let Some(end) = reader.compress(&layer, &mut bytes.reader(), |block| writer.write(block)) {
                writer.end(end);
            }
        };
        thread::Builder::new().name("layer".into()).spawn(fill).map(drop)
    }

    /// Reads `bytes` to their end, once, and passes the layer to `take`. Returns `None` if that breaks.
    fn compress(
        &self,
        planned: &PlannedLayer,
        bytes: &mut dyn Read,
        mut take: impl FnMut(DataBlock) -> ControlFlow<()> + Send,
    ) -> Option<Result<LayerSummary>> {
        let PlannedLayer { layer, spec, .. } = planned;
        let timeline = Arc::new(ReadTimeline::start());
        (self.events)(Event::LayerReading { layer: planned.named(), timeline: Arc::clone(&timeline) });
        let watched = Watched { bytes, timeline: &timeline };
        let mut gathering = Gathering::of(planned);
        let compressed = compress(watched, layer.bytes.len(), *spec, &self.pool, |block| {
            gathering.add(&block.bytes);
            timeline.blocked(|| take(block))
        });
        timeline.end();
        let end = match compressed {
            Err(stopped) if stopped.kind() == io::ErrorKind::Interrupted => return None,
            Err(error) => Err(nothing_tagged(layer.unreadable(error))),
            Ok(summary) => layer.check(*spec, &summary).map(|()| summary).map_err(nothing_tagged),
        };
        if let Ok(summary) = end {
            self.small.retain(planned, gathering, summary);
        }
        Some(end)
    }
}

/// A layer that is being read.
pub(super) struct LayerProducer {
    layer: PlannedLayer,
    sender: mpsc::Sender<LayerData>,
    /// The number of bytes that the consumers have already.
    skip: u64,
    reader: LayerReader,
}

impl LayerProducer {
    /// Reads `bytes` to their end, once, and sends the layer. Stops reading when no target takes it any more.
    ///
    /// # Errors
    /// If the bytes cannot be read, or are not those that the archive promised.
    pub(super) fn run(self, bytes: &mut dyn Read) -> Result<()> {
        let mut skip = self.skip;
        let end = self.reader.compress(&self.layer, bytes, |mut block| {
            let skipped = skip.min(block.bytes.len() as u64);
            skip -= skipped;
            // At most the length, which is a usize.
            drop(block.bytes.split_to(skipped as usize));
            if block.bytes.is_empty() {
                return ControlFlow::Continue(());
            }
            match self.sender.blocking_send(LayerData::Data(block)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_closed) => ControlFlow::Break(()),
            }
        });
        let Some(end) = end else { return Ok(()) };
        self.end(end.clone());
        end.map(drop)
    }

    /// Sends an error instead of the layer.
    pub(super) fn fail(&self, error: Error) {
        self.end(Err(error));
    }

    fn end(&self, end: Result<LayerSummary>) {
        let end = end.map_or_else(LayerData::Failed, LayerData::End);
        // The channel has capacity for the first item, on any thread; a later one waits, on a thread of its own.
        let _closed = match self.sender.try_send(end) {
            Err(mpsc::error::TrySendError::Full(end)) => self.sender.blocking_send(end).is_ok(),
            sent => sent.is_ok(),
        };
    }
}

impl Drop for LayerProducer {
    /// Sends an error after a panic: a stream that just ends means an interruption.
    fn drop(&mut self) {
        if thread::panicking() {
            self.fail(Error::internal(format!("reading layer {} failed", self.layer.label())));
        }
    }
}

/// Bytes whose reading is timed.
struct Watched<'a> {
    bytes: &'a mut dyn Read,
    timeline: &'a ReadTimeline,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.timeline.reading(|| self.bytes.read(buffer))
    }
}

/// Returns the error of a streamed layer that cannot be read again.
pub(super) fn gone(layer: &PlannedLayer) -> Error {
    let what = format!("layer {} was streamed and cannot be read again", layer.label());
    Error::new(Kind::Unavailable, what)
        .code(Code::ConnectionLost)
        .hint("Run the same command again: uploaded layers are not sent again.")
}

/// Returns the error of a streamed layer that the image turned out to need in another form than it was sent in. Without
/// another option a rerun ends here, too.
pub(super) fn streamed_otherwise(layer: &PlannedLayer) -> Error {
    Error::input(format!("cannot push layer {} of the streamed archive as its manifest lists it", layer.label()))
        .code(Code::ArchiveUnsupported)
        .because("uncompressed layers were compressed while they were read, before the manifest came")
        .hint(
            Advice::new("Push the archive from a file, or choose what happens to uncompressed layers")
                .setting_with("compression", "keep")
                .setting_with("compression", "gzip"),
        )
}

/// Returns the error of a layer that neither the archive nor the repository has.
pub(super) fn missing(layer: &PlannedLayer) -> Error {
    Error::input(format!("the archive does not contain layer {}", layer.label()))
        .code(Code::ArchiveIncomplete)
        .because("the repository does not have it either")
        .hint(
            "Push the image that has it, such as the base image, to this repository first. Or save the archive with all layers.",
        )
}

/// Adds to an error of the archive that it did no harm.
fn nothing_tagged(error: Error) -> Error {
    let hint = format!("{} Nothing was tagged.", error.advice().cloned().unwrap_or_default());
    error.hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::fixtures::{layer, planned, reader};

    /// Bytes whose reader is broken.
    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("a fault of ours")
        }
    }

    #[test]
    fn a_panic_is_not_an_interruption() {
        let layer = planned(layer(1), &[]);
        let reader = reader(|_| {});
        let (producer, mut receiver) = reader.produce(&layer);
        let reading = thread::spawn(move || producer.run(&mut Broken));
        assert!(reading.join().is_err());
        let Some(LayerData::Failed(error)) = receiver.blocking_recv() else { panic!("nothing is reported") };
        assert_eq!(error.kind(), Kind::Internal);
        assert!(receiver.blocking_recv().is_none());
    }
}
