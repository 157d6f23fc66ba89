//! The rate that the whole program keeps to.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A rate that everything that is sent keeps to, together.
#[derive(Debug)]
pub struct Rate {
    bytes_per_second: u64,
    /// When the bytes that were handed out so far will have been sent at this rate.
    free: Mutex<Instant>,
}

impl Rate {
    /// At most `bytes_per_second`, which must not be 0.
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), free: Mutex::new(Instant::now()) }
    }

    /// The most that is worth handing out at once, for a stream without jerks: a twentieth of a second's worth.
    pub(super) fn grain(&self) -> usize {
        usize::try_from(self.bytes_per_second / 20).unwrap_or(usize::MAX).max(512)
    }

    /// Hands out so many bytes, and says when they may be sent.
    pub(super) fn reserve(&self, bytes: usize) -> Instant {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let at = (*free).max(Instant::now());
        *free = at + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        at
    }
}
