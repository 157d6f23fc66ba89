//! Buffers that are used again: a layer's bytes are in one of them from the archive to the registry's acknowledgement.
//!
//! All have the same size, so that the heap has no holes: memory is what is in use at the worst moment, and no more.
//! Each buffer was measured to cost its bytes once, where a fresh one for each block cost twice as many.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// The most bytes that are read, packed or sent as one.
pub(super) const PIECE: usize = 512 << 10;

/// The most bytes that compressors make of `plain` ones: noise is stored as it is, with a header now and then.
pub(super) const fn worst(plain: usize) -> usize {
    plain + plain / 64 + 256
}

/// The bytes that a buffer has room for: any packing of a piece.
const ROOM: usize = worst(PIECE) + (4 << 10);

/// The buffers that wait for their next use. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Stock(Arc<Mutex<Vec<Vec<u8>>>>);

impl Stock {
    /// A buffer with whatever was in it.
    pub(super) fn take(&self) -> Buffer {
        let used = self.buffers().pop();
        Buffer { bytes: used.unwrap_or_else(|| Vec::with_capacity(ROOM)), stock: self.clone() }
    }

    fn buffers(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many buffers wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.buffers().len()
    }

    /// Whether every buffer that waits had room enough for everything that it was used for.
    #[cfg(test)]
    pub(super) fn none_has_grown(&self) -> bool {
        self.buffers().iter().all(|buffer| buffer.capacity() == ROOM)
    }
}

/// A buffer. It goes back to its stock when nobody uses it any more.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    stock: Stock,
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
        self.stock.buffers().push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_when_the_last_slice_of_it_is_gone() {
        let stock = Stock::default();
        let mut buffer = stock.take();
        buffer.extend_from_slice(b"some bytes");
        let place = buffer.as_ptr();
        let bytes = Bytes::from(buffer);
        let slice = bytes.slice(5..);
        drop(bytes);
        assert_eq!(stock.waiting(), 0);
        drop(slice);
        let again = stock.take();
        assert_eq!((again.as_ptr(), again.capacity() >= ROOM), (place, true));
        assert_ne!(stock.take().as_ptr(), place);
    }
}
