//! Reused buffers: a layer's bytes stay in one from the archive until the registry has acknowledged them.
//!
//! All have the same capacity, so that the heap does not fragment and memory equals the peak of buffers in use. Measured: a
//! reused buffer costs its size in memory once, a new buffer per block twice as much.

use std::ops::{Deref, DerefMut};

use bytes::Bytes;

use super::sync::{Arc, Mutex, lock};

/// The largest number of bytes that are read, compressed or sent at once.
pub(super) const BLOCK_SIZE: usize = 512 << 10;

/// Returns the largest size that `len` bytes can have after compression: incompressible data is stored, with some headers.
pub(super) const fn max_compressed_len(len: usize) -> usize {
    len + len / 64 + 256
}

/// The capacity of a buffer: enough for a block in any format.
const CAPACITY: usize = max_compressed_len(BLOCK_SIZE) + (4 << 10);

static ZEROS: [u8; 4 << 10] = [0; 4 << 10];

/// Sets the length of `bytes`, which end with zeros if they become longer.
///
/// [`Vec::resize`] writes the zeros one by one where code is optimized for size, which took 6 % of a push.
pub(super) fn resize(bytes: &mut Vec<u8>, len: usize) {
    bytes.truncate(len);
    while bytes.len() < len {
        let missing = len - bytes.len();
        bytes.extend_from_slice(&ZEROS[..missing.min(ZEROS.len())]);
    }
}

/// The unused buffers. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct BufferStock(Arc<Mutex<Vec<Vec<u8>>>>);

impl BufferStock {
    /// Returns a buffer. It may contain bytes of its last use.
    pub(super) fn take(&self) -> Buffer {
        let used = lock(&self.0).pop();
        Buffer { bytes: used.unwrap_or_else(|| Vec::with_capacity(CAPACITY)), stock: self.clone() }
    }

    /// Returns the capacities of the unused buffers.
    #[cfg(test)]
    pub(super) fn capacities(&self) -> Vec<usize> {
        lock(&self.0).iter().map(Vec::capacity).collect()
    }
}

/// A buffer that returns to its stock when it is dropped.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_cut_off_or_end_with_zeros() {
        let mut bytes = vec![7; 3];
        for len in [5, 1, 1, 10_000, 0, 4096] {
            let mut expected = bytes.clone();
            expected.resize(len, 0);
            resize(&mut bytes, len);
            assert_eq!(bytes, expected, "{len}");
        }
    }
}
