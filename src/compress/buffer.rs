//! Buffers that are reused: a layer's bytes stay in one of them from the archive to the registry's acknowledgement.
//!
//! All have the same capacity, so that the heap does not fragment: memory is what is in use at the worst moment, and no
//! more. Each buffer was measured to cost its bytes once, where a fresh one for each block cost twice as many.

use std::ops::{Deref, DerefMut};

use bytes::Bytes;

use super::sync::{Arc, Mutex, lock};

/// The most bytes that are read, compressed or sent at once.
pub(super) const BLOCK_SIZE: usize = 512 << 10;

/// Returns the most bytes that compressing `len` bytes can yield: incompressible data is stored, with a header now and then.
pub(super) const fn max_compressed_len(len: usize) -> usize {
    len + len / 64 + 256
}

/// The capacity of a buffer: enough for a block, however it is compressed.
const CAPACITY: usize = max_compressed_len(BLOCK_SIZE) + (4 << 10);

/// The buffers that wait for their next use. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct BufferStock(Arc<Mutex<Vec<Vec<u8>>>>);

impl BufferStock {
    /// Returns a buffer, with the bytes of its last use still in it.
    pub(super) fn take(&self) -> Buffer {
        let used = lock(&self.0).pop();
        Buffer { bytes: used.unwrap_or_else(|| Vec::with_capacity(CAPACITY)), stock: self.clone() }
    }

    /// Returns the capacities of the buffers that wait.
    #[cfg(test)]
    pub(super) fn capacities(&self) -> Vec<usize> {
        lock(&self.0).iter().map(Vec::capacity).collect()
    }
}

/// A buffer. It returns to its stock when its last user drops it.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    stock: BufferStock,
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<Buffer> for Bytes {
    fn from(buffer: Buffer) -> Self {
        Self::from_owner(buffer)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        lock(&self.stock.0).push(bytes);
    }
}
