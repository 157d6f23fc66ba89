//! The output of a layer: hashed, and split into blocks of one size.

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

/// The digests and size of a layer, known once all of it was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LayerSummary {
    /// The digest of the bytes that were sent.
    pub digest: Digest,
    /// The number of bytes that were sent.
    pub size: u64,
    /// The hash of the uncompressed bytes, if the [`CompressionSpec`](super::CompressionSpec) computes it.
    pub diff_id: Option<DiffId>,
}

/// Where a block of a compressed layer starts: a point from which the layer can be decompressed.
///
/// For gzip, the compressed bytes from here on are a deflate stream (RFC 1951) whose dictionary is the 32 KiB of uncompressed
/// bytes before the block. For zstd, they are frames, which need no dictionary.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BlockStart {
    /// The offset in the uncompressed bytes: a multiple of 512 KiB.
    pub position: u64,
    /// The offset in the compressed bytes.
    pub offset: u64,
}

/// The output of a layer: hashes the bytes, splits them into blocks and passes these to a sink.
pub(super) struct LayerOutput<'a, S> {
    sink: S,
    hasher: Hasher,
    size: u64,
    stock: &'a BufferStock,
    /// Compressed bytes that do not fill a block yet.
    buffered: Option<Buffer>,
    /// The offset in the archive's bytes up to which the layer was received.
    position: u64,
    blocks: Vec<BlockStart>,
}

impl<'a, S: FnMut(DataBlock) -> ControlFlow<()>> LayerOutput<'a, S> {
    pub(super) fn new(sink: S, stock: &'a BufferStock) -> Self {
        Self { sink, hasher: Hasher::new(), size: 0, stock, buffered: None, position: 0, blocks: Vec::new() }
    }

    /// Records that the bytes that follow are those of the next block.
    pub(super) fn start_block(&mut self) {
        let buffered = self.buffered.as_ref().map_or(0, |buffered| buffered.len() as u64);
        self.blocks.push(BlockStart { position: self.position, offset: self.size + buffered });
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

    /// Sends as many whole blocks as possible, and buffers the rest.
    pub(super) fn buffer(&mut self, mut bytes: &[u8], position: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut buffered = self.buffered.take().unwrap_or_else(|| {
                let mut buffer = self.stock.take();
                buffer.clear();
                buffer
            });
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_SIZE - buffered.len()));
            buffered.extend_from_slice(now);
            if buffered.len() == BLOCK_SIZE {
                // The part of the input that these bytes represent, if all of it compresses equally well.
                let so_far = (position - self.position) * now.len() as u64 / bytes.len() as u64;
                self.send(buffered, self.position + so_far)?;
            } else {
                self.buffered = Some(buffered);
            }
            bytes = later;
        }
        self.position = position;
        Ok(())
    }

    /// Sends the rest, and returns the blocks that were recorded, too.
    pub(super) fn finish(mut self, diff_id: Option<DiffId>) -> io::Result<(LayerSummary, Vec<BlockStart>)> {
        if let Some(rest) = self.buffered.take() {
            self.send(rest, self.position)?;
        }
        let digest = Digest::from_hash(self.hasher.finish());
        Ok((LayerSummary { digest, size: self.size, diff_id }, self.blocks))
    }
}
