//! The part of a blob that the registry has not acknowledged: cut into chunks, retained for a retry, dropped once it is
//! acknowledged.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::stream::LayerStream;
use super::upload_strategy::DEFAULT_CHUNK_SIZE;
use crate::compress::{DataBlock, LayerSummary, Meter};
use crate::error::{Error, Result};

/// An item of a [`LayerStream`](super::LayerStream): data, then one of the ends.
#[derive(Debug)]
pub(crate) enum LayerData {
    /// The next bytes.
    Data(DataBlock),
    /// The end, with the summary of all bytes.
    End(LayerSummary),
    /// The layer cannot be read.
    Failed(Error),
}

/// A window on a stream that advances when bytes are acknowledged. It holds at most `retained` bytes and one block.
pub(super) struct Window {
    stream: LayerStream,
    /// The chunk size in bytes.
    chunk: u64,
    /// The bytes to hold while a chunk is sent, including that chunk.
    retained: u64,
    blocks: VecDeque<DataBlock>,
    len: u64,
    /// The offset in the blob of the first byte that is not acknowledged.
    start: u64,
    /// The position in the uncompressed layer that corresponds to `start`.
    position: u64,
    end: Option<LayerSummary>,
}

impl Window {
    /// Creates a window with the default chunk size.
    pub(super) fn new(stream: LayerStream) -> Self {
        Self {
            stream,
            chunk: DEFAULT_CHUNK_SIZE,
            retained: DEFAULT_CHUNK_SIZE,
            blocks: VecDeque::new(),
            len: 0,
            start: 0,
            position: 0,
            end: None,
        }
    }

    /// Returns whether the stream is read together with those of other targets, which wait for the slowest.
    pub(super) fn is_shared(&self) -> bool {
        self.stream.is_shared()
    }

    /// Sets the chunk size, and the bytes to hold while a chunk is sent, including that chunk.
    pub(super) fn set_chunk(&mut self, chunk: u64, retained: u64) {
        (self.chunk, self.retained) = (chunk, retained);
    }

    /// Skips bytes that the registry already has: everything up to `offset`, which must not be before the window.
    ///
    /// # Errors
    /// Fails if the stream fails. If the stream ends too early, [`start`](Self::start) is not `offset` afterwards.
    pub(super) async fn skip_to(&mut self, offset: u64) -> Result<()> {
        while self.start < offset {
            self.fill_to(1).await?;
            if self.len == 0 {
                break;
            }
            self.advance(offset);
        }
        Ok(())
    }

    /// Returns the offset in the blob of the first byte that is not acknowledged.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Takes the rest of the blob out of the window.
    pub(super) fn take_rest(&mut self) -> Rest {
        let (_sender, closed) = mpsc::channel(1);
        self.len = 0;
        Rest {
            blocks: std::mem::take(&mut self.blocks),
            stream: std::mem::replace(&mut self.stream, LayerStream::own(closed)),
            end: self.end,
        }
    }

    /// Notes that the rest was sent. The uncompressed layer has `total` bytes.
    pub(super) fn finish_rest(&mut self, summary: LayerSummary, total: u64) {
        (self.start, self.position, self.end) = (summary.size, total, Some(summary));
    }

    /// Gathers a chunk and one more byte, or the rest.
    pub(super) async fn fill(&mut self) -> Result<()> {
        self.fill_to(self.chunk + 1).await
    }

    /// Gathers as many bytes as may be retained while a chunk is sent, or the rest.
    pub(super) async fn fill_ahead(&mut self) -> Result<()> {
        self.fill_to(self.retained).await
    }

    async fn fill_to(&mut self, wanted: u64) -> Result<()> {
        while self.end.is_none() && self.len < wanted {
            match self.stream.recv().await {
                Some(LayerData::Data(block)) => {
                    self.len += block.bytes.len() as u64;
                    self.blocks.push_back(block);
                }
                Some(LayerData::End(summary)) => self.end = Some(summary),
                Some(LayerData::Failed(error)) => return Err(error),
                // The producer stops without an end only when it is cancelled.
                None => return Err(Error::interrupted()),
            }
        }
        Ok(())
    }

    /// Returns the next chunk, and the summary of the blob if the chunk is its last. The bytes stay in the window.
    pub(super) fn chunk(&self) -> (Chunk, Option<LayerSummary>) {
        let (mut pieces, mut left, mut to) = (Vec::new(), self.chunk, self.position);
        for DataBlock { bytes, position } in &self.blocks {
            let len = bytes.len() as u64;
            if len > left {
                // Less than the block's length, which is a usize.
                pieces.push(bytes.slice(..left as usize));
                to += (position - to) * left / len;
                left = 0;
                break;
            }
            pieces.push(bytes.clone());
            left -= len;
            to = *position;
        }
        let chunk = Chunk { pieces: pieces.into(), start: self.start, len: self.chunk - left, from: self.position, to };
        (chunk, self.end.filter(|_| self.len <= self.chunk))
    }

    /// Drops the acknowledged bytes: up to `offset`, which must be in the window.
    pub(super) fn advance(&mut self, offset: u64) {
        let mut acknowledged = offset.saturating_sub(self.start).min(self.len);
        self.start += acknowledged;
        self.len -= acknowledged;
        while let Some(block) = self.blocks.front_mut() {
            let len = block.bytes.len() as u64;
            if len > acknowledged {
                self.position += (block.position - self.position) * acknowledged / len;
                // Less than the block's length, which is a usize.
                drop(block.bytes.split_to(acknowledged as usize));
                break;
            }
            acknowledged -= len;
            self.position = block.position;
            self.blocks.pop_front();
        }
    }
}

/// The rest of a blob: what was gathered, then what the stream delivers.
pub(super) struct Rest {
    pub(super) blocks: VecDeque<DataBlock>,
    pub(super) stream: LayerStream,
    /// The end of the stream, if it was gathered already.
    pub(super) end: Option<LayerSummary>,
}

/// The bytes of one request.
#[derive(Clone)]
pub(super) struct Chunk {
    pub(super) pieces: Arc<[Bytes]>,
    /// The offset in the blob.
    pub(super) start: u64,
    pub(super) len: u64,
    /// The positions in the uncompressed layer at which the chunk starts and ends.
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Chunk {
    /// Returns the offset in the blob after the last byte.
    pub(super) fn end(&self) -> u64 {
        self.start + self.len
    }

    /// Records in the meter that the whole chunk was sent.
    pub(super) fn arrived(&self, meter: &Meter) {
        meter.set(self.to, self.end());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::oci::Digest;

    fn window(blocks: &[Vec<u8>], chunk: u64) -> Window {
        let (sender, stream) = mpsc::channel(blocks.len() + 1);
        let mut position = 0;
        for block in blocks {
            // As if two bytes of the layer were compressed to one.
            position += 2 * block.len() as u64;
            sender.try_send(LayerData::Data(DataBlock { bytes: block.clone().into(), position })).unwrap();
        }
        sender.try_send(LayerData::End(LayerSummary { digest: Digest::of(b""), size: 0, diff_id: None })).unwrap();
        let mut window = Window::new(LayerStream::own(stream));
        window.set_chunk(chunk, chunk + chunk / 2);
        window
    }

    #[test]
    fn the_progress_stays_complete_after_the_rest_was_sent() {
        let (meter, size) = (Meter::new(200), 100);
        let mut window = window(&[vec![7; 100]], 10);
        drop(window.take_rest());
        window.finish_rest(LayerSummary { digest: Digest::of(b""), size, diff_id: None }, 200);
        // The closing request has no body.
        window.chunk().0.arrived(&meter);
        assert_eq!((meter.position(), meter.sent()), (200, 100));
    }

    /// One attempt to send a chunk: whether the next is gathered meanwhile, and which part of the chunk is acknowledged.
    fn attempts() -> impl Strategy<Value = Vec<(bool, prop::sample::Index, bool)>> {
        prop::collection::vec((any::<bool>(), any::<prop::sample::Index>(), prop::bool::weighted(0.7)), 1..60)
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_sent_twice_and_only_the_last_chunk_is_short(
            blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 0..12),
            size in 1..40_u64,
            attempts in attempts(),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let all = blocks.concat();
            let longest = blocks.iter().map(Vec::len).max().unwrap_or_default() as u64;
            let mut window = window(&blocks, size);
            let mut acknowledged = Vec::new();
            for (ahead, part, is_complete) in attempts.iter().cycle() {
                runtime.block_on(window.fill()).unwrap();
                if *ahead {
                    runtime.block_on(window.fill_ahead()).unwrap();
                }
                prop_assert!(window.len <= size + size.max(size / 2 + 1) + longest, "the window grows");
                let (chunk, end) = window.chunk();
                let bytes = chunk.pieces.concat();
                prop_assert_eq!((chunk.start, chunk.len), (acknowledged.len() as u64, bytes.len() as u64));
                prop_assert_eq!((chunk.from, chunk.to), (2 * chunk.start, 2 * chunk.end()), "wrong positions");
                if end.is_some() {
                    prop_assert!(chunk.len > 0 || all.is_empty(), "a closing PUT without a byte");
                    acknowledged.extend_from_slice(&bytes);
                    break;
                }
                prop_assert_eq!(chunk.len, size, "a chunk that is not the last is short");
                let sent = if *is_complete { bytes.len() } else { part.index(bytes.len() + 1) };
                // Without any progress the test would not end.
                let sent = sent.max(usize::from(attempts.iter().all(|(.., is_complete)| !is_complete)));
                acknowledged.extend_from_slice(&bytes[..sent]);
                window.advance(chunk.start + sent as u64);
            }
            prop_assert_eq!(acknowledged, all);
        }

        #[test]
        fn a_resumed_window_starts_at_the_offset(
            blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..8),
            offset in any::<prop::sample::Index>(),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let all = blocks.concat();
            let offset = offset.index(all.len() + 1);
            let mut window = window(&blocks, 1 << 20);
            runtime.block_on(window.skip_to(offset as u64)).unwrap();
            runtime.block_on(window.fill()).unwrap();
            let (chunk, end) = window.chunk();
            prop_assert_eq!(chunk.pieces.concat(), &all[offset..]);
            prop_assert_eq!((chunk.start, end.is_some()), (offset as u64, true));
        }
    }
}
