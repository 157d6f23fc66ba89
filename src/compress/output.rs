//! What is sent of a layer: hashed once and cut into blocks of one size.

use std::io;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::buffer::{BLOCK_SIZE, Buffer, BufferStock};
use super::hash::Hasher;
use crate::oci::{DiffId, Digest};

/// The next bytes to send.
#[derive(Clone, Debug)]
pub struct DataBlock {
    /// The bytes, as the registry stores them.
    pub bytes: Bytes,
    /// The offset in the archive's bytes up to which the layer is represented once these bytes are sent.
    pub position: u64,
}

/// What a layer turned out to be once all of it was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LayerSummary {
    /// The digest of the bytes that were sent.
    pub digest: Digest,
    /// The number of bytes that were sent.
    pub size: u64,
    /// The hash of the uncompressed bytes, where the [`CompressionSpec`](super::CompressionSpec) learns it.
    pub diff_id: Option<DiffId>,
}

/// Hashes the bytes of a layer, cuts them into blocks and hands those to a sink.
pub(super) struct LayerOutput<'a, S> {
    sink: S,
    hasher: Hasher,
    size: u64,
    stock: &'a BufferStock,
    /// Compressed bytes that do not fill a block yet.
    gathered: Option<Buffer>,
    /// The offset in the archive's bytes that everything handed in so far represents.
    position: u64,
}

impl<'a, S: FnMut(DataBlock) -> ControlFlow<()>> LayerOutput<'a, S> {
    pub(super) fn new(sink: S, stock: &'a BufferStock) -> Self {
        Self { sink, hasher: Hasher::new(), size: 0, stock, gathered: None, position: 0 }
    }

    /// Sends a block.
    pub(super) fn send(&mut self, bytes: Buffer, position: u64) -> io::Result<()> {
        self.hasher.update(&bytes);
        self.size += bytes.len() as u64;
        self.position = position;
        match (self.sink)(DataBlock { bytes: bytes.into(), position }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(io::ErrorKind::Interrupted.into()),
        }
    }

    /// Sends as many whole blocks as there are, and gathers the rest.
    pub(super) fn gather(&mut self, mut bytes: &[u8], position: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut gathered = self.gathered.take().unwrap_or_else(|| {
                let mut buffer = self.stock.take();
                buffer.clear();
                buffer
            });
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_SIZE - gathered.len()));
            gathered.extend_from_slice(now);
            if gathered.len() == BLOCK_SIZE {
                // The share of these bytes, as if all of them compressed equally well.
                let so_far = (position - self.position) * now.len() as u64 / bytes.len() as u64;
                self.send(gathered, self.position + so_far)?;
            } else {
                self.gathered = Some(gathered);
            }
            bytes = later;
        }
        self.position = position;
        Ok(())
    }

    pub(super) fn finish(mut self, diff_id: Option<DiffId>) -> io::Result<LayerSummary> {
        if let Some(rest) = self.gathered.take() {
            self.send(rest, self.position)?;
        }
        Ok(LayerSummary { digest: Digest::from_hash(self.hasher.finish()), size: self.size, diff_id })
    }
}
