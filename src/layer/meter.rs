//! How far a layer has come, as absolute positions that a display may read at any time.

use std::sync::atomic::{AtomicU64, Ordering};

/// The progress of one layer on its way to one target.
///
/// Positions are set, never added up, so a layer that starts again simply says so, and nothing can drift.
#[derive(Debug, Default)]
pub struct Meter {
    total: u64,
    position: AtomicU64,
    sent: AtomicU64,
}

impl Meter {
    /// A layer of `total` bytes in the archive, of which none has arrived.
    pub fn new(total: u64) -> Self {
        Self { total, ..Self::default() }
    }

    /// The layer's bytes in the archive.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How many of the archive's bytes are represented in what the registry has been sent.
    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    /// How many packed bytes the registry has been sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Says how far the layer has come.
    pub fn set(&self, position: u64, sent: u64) {
        self.position.store(position.min(self.total), Ordering::Relaxed);
        self.sent.store(sent, Ordering::Relaxed);
    }
}
