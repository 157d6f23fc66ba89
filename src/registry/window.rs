//! The part of a blob that the registry has not acknowledged: cut into chunks, retained for a retry, dropped once it is
//! acknowledged.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::upload_strategy::DEFAULT_CHUNK_SIZE;
use crate::compress::{DataBlock, LayerSummary, Meter};
use crate::error::{Error, Result};

/// The stream of a blob's bytes.
pub type LayerStream = mpsc::Receiver<LayerData>;

/// An item of a [`LayerStream`]: data, then one of the ends.
#[derive(Debug)]
pub enum LayerData {
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
    /// The stream is read together with those of other targets, which wait for the slowest.
    pub(super) is_shared: bool,
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
    pub(super) fn new(stream: LayerStream, is_shared: bool) -> Self {
        Self {
            stream,
            is_shared,
            chunk: DEFAULT_CHUNK_SIZE,
            retained: DEFAULT_CHUNK_SIZE,
            blocks: VecDeque::new(),
            len: 0,
            start: 0,
            position: 0,
            end: None,
        }
    }

    /// Sets the chunk size, and the bytes to hold while a chunk is sent, including that chunk.
    pub(super) fn set_chunk(&mut self, chunk: u64, retained: u64) {
        (self.chunk, self.retained) = (chunk, retained);
    }

    /// Skips what the registry already has: everything up to `offset`, which must not lie before the window.
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

    /// Takes everything that is left out of the window.
    pub(super) fn take_rest(&mut self) -> Rest {
        let (_sender, closed) = mpsc::channel(1);
        self.len = 0;
        Rest {
            blocks: std::mem::take(&mut self.blocks),
            stream: std::mem::replace(&mut self.stream, closed),
            end: self.end,
        }
    }

    /// Notes that the rest was sent.
    pub(super) fn finish_rest(&mut self, packed: LayerSummary) {
        (self.start, self.end) = (packed.size, Some(packed));
    }

    /// Gathers a chunk and one more byte, or the rest.
    pub(super) async fn fill(&mut self) -> Result<()> {
        self.fill_to(self.chunk + 1).await
    }

    /// Gathers, while a chunk is sent, as much as may be held, or the rest.
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
                Some(LayerData::End(packed)) => self.end = Some(packed),
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
                // Less than the piece's length, which is a usize.
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

    /// Drops the acknowledged bytes: up to `offset`, which must lie in the window.
    pub(super) fn advance(&mut self, offset: u64) {
        let mut gone = offset.saturating_sub(self.start).min(self.len);
        self.start += gone;
        self.len -= gone;
        while let Some(block) = self.blocks.front_mut() {
            let len = block.bytes.len() as u64;
            if len > gone {
                self.position += (block.position - self.position) * gone / len;
                // Less than the piece's length, which is a usize.
                drop(block.bytes.split_to(gone as usize));
                break;
            }
            gone -= len;
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

    /// Notes in the meter that the whole chunk was sent.
    pub(super) fn arrived(&self, meter: &Meter) {
        meter.set(self.to, self.end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    /// A small generator, so that a failure names its seed.
    fn random(state: &mut u64, below: u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) % below
    }

    fn window(pieces: &[Vec<u8>], chunk: u64) -> Window {
        let (sender, stream) = mpsc::channel(pieces.len() + 1);
        let mut position = 0;
        for piece in pieces {
            // As if two bytes of the archive had become one.
            position += 2 * piece.len() as u64;
            sender.try_send(LayerData::Data(DataBlock { bytes: piece.clone().into(), position })).unwrap();
        }
        sender.try_send(LayerData::End(LayerSummary { digest: Digest::of(b""), size: 0, diff_id: None })).unwrap();
        let mut window = Window::new(stream, false);
        window.set_chunk(chunk, chunk + chunk / 2);
        window
    }

    #[tokio::test]
    async fn whatever_arrives_of_a_chunk_nothing_is_lost_or_sent_twice_and_only_the_last_is_short() {
        for seed in 0..3000_u64 {
            let state = &mut (seed * 7919 + 1);
            let size = 1 + random(state, 40);
            let count = random(state, 12);
            let pieces: Vec<Vec<u8>> =
                (0..count).map(|_| (0..random(state, 3 * size)).map(|_| random(state, 256) as u8).collect()).collect();
            let all = pieces.concat();
            let mut window = window(&pieces, size);
            let (mut arrived, mut position) = (Vec::new(), 0);
            loop {
                window.fill().await.unwrap();
                if random(state, 2) == 0 {
                    window.fill_ahead().await.unwrap();
                }
                assert!(window.len <= 2 * size + 3 * size, "seed {seed}: the window grows");
                let (chunk, end) = window.chunk();
                let bytes = chunk.pieces.concat();
                assert_eq!((chunk.start, chunk.len), (arrived.len() as u64, bytes.len() as u64), "seed {seed}");
                assert!(chunk.from >= position && chunk.from <= chunk.to, "seed {seed}: the position runs backwards");
                position = chunk.from;
                match end {
                    None => assert_eq!(chunk.len, size, "seed {seed}: a chunk that is not the last is short"),
                    Some(_) => {
                        assert!(chunk.len > 0 || all.is_empty(), "seed {seed}: a closing PUT without a byte");
                        arrived.extend_from_slice(&bytes);
                        assert_eq!(chunk.to, 2 * all.len() as u64, "seed {seed}");
                        break;
                    }
                }
                // All of it arrives, or some, or nothing.
                let some = if random(state, 3) == 0 { random(state, chunk.len + 1) } else { chunk.len };
                arrived.extend_from_slice(&bytes[..some as usize]);
                window.advance(chunk.start + some);
            }
            assert_eq!(arrived, all, "seed {seed}");
        }
    }
}
