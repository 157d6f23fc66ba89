//! The part of a blob that a registry has not acknowledged yet: cut into chunks, kept for another try, dropped when it
//! has arrived.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::body::{Ended, StreamBody, Watch};
use super::upload_strategy::DEFAULT_CHUNK_SIZE;
use crate::compress::{DataBlock, LayerSummary, Meter};
use crate::error::{Error, Result};

/// Where a blob's bytes come from.
pub type LayerStream = mpsc::Receiver<LayerData>;

/// What comes through a feed: pieces, then one of the ends.
#[derive(Debug)]
pub enum LayerData {
    /// The next bytes.
    Data(DataBlock),
    /// That was all, and this is what it was.
    End(LayerSummary),
    /// There is no more: the archive is at fault.
    Failed(Error),
}

/// A window on a feed that moves on when bytes are acknowledged. Holds as many bytes as it was told, and a piece.
pub(super) struct Window {
    feed: LayerStream,
    /// Who does not take from the feed holds back others.
    pub(super) is_shared: bool,
    /// Bytes to a chunk.
    chunk: u64,
    /// Bytes to take from the feed while a chunk is on its way, and that chunk's.
    kept: u64,
    pieces: VecDeque<DataBlock>,
    len: u64,
    /// The offset in the blob of the first byte that is not acknowledged.
    start: u64,
    /// The position in the archive's bytes that `start` stands for.
    position: u64,
    end: Option<LayerSummary>,
}

impl Window {
    /// A window that still has to be told how large chunks are.
    pub(super) fn new(feed: LayerStream, is_shared: bool) -> Self {
        Self {
            feed,
            is_shared,
            chunk: DEFAULT_CHUNK_SIZE,
            kept: DEFAULT_CHUNK_SIZE,
            pieces: VecDeque::new(),
            len: 0,
            start: 0,
            position: 0,
            end: None,
        }
    }

    /// From now on chunks have so many bytes, and as many are `kept`, with those of the chunk that is on its way.
    pub(super) fn set_chunk(&mut self, chunk: u64, kept: u64) {
        (self.chunk, self.kept) = (chunk, kept);
    }

    /// Takes from the feed what the registry has already: everything up to `offset`. It must lie in front of the window.
    ///
    /// # Errors
    /// If the feed fails. That it ends too early is for the caller to see: then [`start`](Self::start) is not `offset`.
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

    /// The offset in the blob of the first byte that is not acknowledged.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// All that is left, as one body. The window is empty from then on.
    pub(super) fn stream(&mut self, watch: Watch) -> (StreamBody, Ended) {
        let (_nobody, closed) = mpsc::channel(1);
        let feed = std::mem::replace(&mut self.feed, closed);
        self.len = 0;
        StreamBody::new(std::mem::take(&mut self.pieces), feed, self.end, watch)
    }

    /// All that was left has been sent.
    pub(super) fn was_streamed(&mut self, packed: LayerSummary) {
        (self.start, self.end) = (packed.size, Some(packed));
    }

    /// Takes from the feed until there is a chunk and a further byte, or all there is.
    pub(super) async fn fill(&mut self) -> Result<()> {
        self.fill_to(self.chunk + 1).await
    }

    /// Takes from the feed, while a chunk is sent, as much as may be kept, or all there is.
    pub(super) async fn fill_ahead(&mut self) -> Result<()> {
        self.fill_to(self.kept).await
    }

    async fn fill_to(&mut self, wanted: u64) -> Result<()> {
        while self.end.is_none() && self.len < wanted {
            match self.feed.recv().await {
                Some(LayerData::Data(piece)) => {
                    self.len += piece.bytes.len() as u64;
                    self.pieces.push_back(piece);
                }
                Some(LayerData::End(packed)) => self.end = Some(packed),
                Some(LayerData::Failed(error)) => return Err(error),
                // Whoever feeds us stopped without a word, which happens on cancellation only.
                None => return Err(Error::interrupted()),
            }
        }
        Ok(())
    }

    /// The next chunk, and what the blob is if that is all that is left of it. The bytes stay in the window.
    pub(super) fn chunk(&self) -> (Chunk, Option<LayerSummary>) {
        let (mut pieces, mut left, mut to) = (Vec::new(), self.chunk, self.position);
        for DataBlock { bytes, position } in &self.pieces {
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

    /// Forgets bytes that have arrived: up to `offset`, which must lie in the window.
    pub(super) fn advance(&mut self, offset: u64) {
        let mut gone = offset.saturating_sub(self.start).min(self.len);
        self.start += gone;
        self.len -= gone;
        while let Some(piece) = self.pieces.front_mut() {
            let len = piece.bytes.len() as u64;
            if len > gone {
                self.position += (piece.position - self.position) * gone / len;
                // Less than the piece's length, which is a usize.
                drop(piece.bytes.split_to(gone as usize));
                break;
            }
            gone -= len;
            self.position = piece.position;
            self.pieces.pop_front();
        }
    }
}

/// What one request carries.
#[derive(Clone)]
pub(super) struct Chunk {
    pub(super) pieces: Arc<[Bytes]>,
    /// The offset in the blob.
    pub(super) start: u64,
    pub(super) len: u64,
    /// The positions in the archive's bytes at which the chunk starts and ends.
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Chunk {
    /// The offset in the blob behind the last byte.
    pub(super) fn end(&self) -> u64 {
        self.start + self.len
    }

    /// Tells the meter that all of the chunk is there.
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
        let (sender, feed) = mpsc::channel(pieces.len() + 1);
        let mut position = 0;
        for piece in pieces {
            // As if two bytes of the archive had become one.
            position += 2 * piece.len() as u64;
            sender.try_send(LayerData::Data(DataBlock { bytes: piece.clone().into(), position })).unwrap();
        }
        sender.try_send(LayerData::End(LayerSummary { digest: Digest::of(b""), size: 0, diff_id: None })).unwrap();
        let mut window = Window::new(feed, false);
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
