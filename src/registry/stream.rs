//! The stream of a blob's bytes from its producer to its upload.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::window::LayerData;
use crate::compress::{DataBlock, LayerSummary};

/// Reads the same blob again, from its first byte.
type Reopen = Box<dyn FnOnce() -> mpsc::Receiver<LayerData> + Send + Sync>;

/// A blob's bytes, in order, from its first one.
///
/// A stream that several uploads share is as fast as the slowest of them. An upload that is cut off for that reason continues
/// alone: the blob is read again, and the delivered bytes are skipped.
pub(crate) struct LayerStream {
    receiver: mpsc::Receiver<LayerData>,
    /// The number of bytes that were delivered.
    delivered: u64,
    /// The number of bytes to skip.
    skip: u64,
    shared: Option<Shared>,
}

struct Shared {
    is_cut_off: CancellationToken,
    demand: Arc<Demand>,
    reopen: Reopen,
}

/// The demand of a stream: whether its upload waits for bytes.
#[derive(Debug)]
pub(crate) struct Demand {
    is_waiting: AtomicBool,
    changed: Arc<Notify>,
}

impl Demand {
    /// Creates the demand of a stream that was not read yet. Notifies `changed` when the upload begins to wait.
    pub(crate) fn new(changed: Arc<Notify>) -> Self {
        Self { is_waiting: AtomicBool::new(false), changed }
    }

    /// Returns whether the upload waits for bytes.
    pub(crate) fn is_waiting(&self) -> bool {
        self.is_waiting.load(Ordering::Relaxed)
    }

    fn set(&self, is_waiting: bool) {
        if !self.is_waiting.swap(is_waiting, Ordering::Relaxed) && is_waiting {
            self.changed.notify_waiters();
        }
    }
}

impl LayerStream {
    /// Creates a stream that no other upload shares.
    pub(crate) fn own(receiver: mpsc::Receiver<LayerData>) -> Self {
        Self { receiver, delivered: 0, skip: 0, shared: None }
    }

    /// Creates a stream of bytes that are in memory.
    pub(crate) fn in_memory(bytes: DataBlock, summary: LayerSummary) -> Self {
        let (sender, receiver) = mpsc::channel(2);
        // The channel has capacity for both.
        let _sent = sender.try_send(LayerData::Data(bytes)).and_then(|()| sender.try_send(LayerData::End(summary)));
        Self::own(receiver)
    }

    /// Creates one of several streams of the same blob. The producer cuts it off by cancelling `is_cut_off` and dropping the
    /// sender. Then the stream continues with the receiver that `reopen` returns.
    pub(crate) fn shared(
        receiver: mpsc::Receiver<LayerData>,
        is_cut_off: CancellationToken,
        demand: Arc<Demand>,
        reopen: impl FnOnce() -> mpsc::Receiver<LayerData> + Send + Sync + 'static,
    ) -> Self {
        let shared = Some(Shared { is_cut_off, demand, reopen: Box::new(reopen) });
        Self { receiver, delivered: 0, skip: 0, shared }
    }

    /// Returns whether other uploads wait for the one that reads this stream.
    pub(super) fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Returns the next bytes, or one of the ends.
    pub(crate) async fn recv(&mut self) -> Option<LayerData> {
        std::future::poll_fn(|context| self.poll_recv(context)).await
    }

    /// Polls for the next bytes, or one of the ends.
    pub(super) fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<LayerData>> {
        loop {
            let polled = self.receiver.poll_recv(context);
            if let Some(shared) = &self.shared {
                shared.demand.set(polled.is_pending());
            }
            match ready!(polled) {
                Some(LayerData::Data(mut block)) => {
                    let len = block.bytes.len() as u64;
                    let skipped = self.skip.min(len);
                    self.skip -= skipped;
                    if skipped == len && len > 0 {
                        continue;
                    }
                    // At most the length, which is a usize.
                    drop(block.bytes.split_to(skipped as usize));
                    self.delivered += len - skipped;
                    return Poll::Ready(Some(LayerData::Data(block)));
                }
                None => match self.shared.take_if(|shared| shared.is_cut_off.is_cancelled()) {
                    Some(Shared { reopen, .. }) => {
                        self.skip = self.delivered;
                        self.receiver = reopen();
                    }
                    None => return Poll::Ready(None),
                },
                end => return Poll::Ready(end),
            }
        }
    }
}

impl fmt::Debug for LayerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerStream").field("delivered", &self.delivered).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::compress::{DataBlock, LayerSummary};
    use crate::oci::Digest;

    fn sent(pieces: &[&'static [u8]], end: bool) -> mpsc::Receiver<LayerData> {
        let (sender, receiver) = mpsc::channel(10);
        for bytes in pieces {
            let piece = DataBlock { bytes: Bytes::from_static(bytes), position: 0 };
            assert!(sender.try_send(LayerData::Data(piece)).is_ok());
        }
        if end {
            assert!(
                sender
                    .try_send(LayerData::End(LayerSummary { digest: Digest::of(b""), size: 9, diff_id: None }))
                    .is_ok()
            );
        }
        receiver
    }

    fn demand() -> Arc<Demand> {
        Arc::new(Demand::new(Arc::default()))
    }

    async fn all(stream: &mut LayerStream) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        loop {
            match stream.recv().await {
                Some(LayerData::Data(piece)) => bytes.extend_from_slice(&piece.bytes),
                Some(LayerData::End(_)) => return (bytes, true),
                Some(LayerData::Failed(_)) | None => return (bytes, false),
            }
        }
    }

    #[tokio::test]
    async fn a_stream_that_is_cut_off_continues_after_the_delivered_bytes() {
        const BLOCKS: [&[&[u8]]; 3] = [&[b"ab", b"cdef", b"ghi"], &[b"abcdefghi"], &[b"abc", b"", b"def", b"ghi"]];
        for again in BLOCKS {
            let cut_off = CancellationToken::new();
            let mut stream =
                LayerStream::shared(sent(&[b"abc"], false), cut_off.clone(), demand(), || sent(again, true));
            cut_off.cancel();
            assert_eq!(all(&mut stream).await, (b"abcdefghi".to_vec(), true));
        }
    }

    #[tokio::test]
    async fn a_stream_that_ends_without_a_cut_off_is_not_read_again() {
        let mut stream =
            LayerStream::shared(sent(&[b"abc"], false), CancellationToken::new(), demand(), || sent(&[], true));
        assert_eq!(all(&mut stream).await, (b"abc".to_vec(), false));
        assert_eq!(all(&mut LayerStream::own(sent(&[b"abc"], true))).await, (b"abc".to_vec(), true));
    }
}
