//! The rate limit of the whole program.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A rate limit that all uploads share.
#[derive(Debug)]
pub(crate) struct Rate {
    bytes_per_second: u64,
    /// When all bytes reserved so far will have been sent at this rate.
    free_at: Mutex<Instant>,
}

impl Rate {
    /// Limits uploads to `bytes_per_second`, at least 1.
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), free_at: Mutex::new(Instant::now()) }
    }

    /// Returns the limit in bytes per second.
    pub(super) fn bytes_per_second(&self) -> u64 {
        self.bytes_per_second
    }

    /// Returns the largest frame for an even stream: the bytes of a twentieth of a second.
    pub(super) fn granularity(&self) -> usize {
        usize::try_from(self.bytes_per_second / 20).unwrap_or(usize::MAX).max(512)
    }

    /// Reserves `bytes` bytes, and returns when they may be sent.
    pub(super) fn reserve(&self, bytes: usize) -> Instant {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let at = (*free_at).max(Instant::now());
        *free_at = at + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        at
    }
}
