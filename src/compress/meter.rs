//! The progress of a layer, as absolute positions that can be read at any time.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The progress of one layer on its way to one target.
///
/// Positions are set, never incremented, so a layer that starts again resets them, and they cannot drift.
#[derive(Debug, Default)]
pub struct Meter {
    total: u64,
    position: AtomicU64,
    sent: AtomicU64,
    resumed_at: AtomicU64,
    retries: AtomicU32,
}

impl Meter {
    /// Creates the meter of a layer of `total` bytes in the archive.
    pub fn new(total: u64) -> Self {
        Self { total, ..Self::default() }
    }

    /// Returns the layer's size in the archive, in bytes.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Returns the number of the archive's bytes that the sent bytes represent.
    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    /// Returns the number of sent bytes, as the registry stores them.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Returns the number of those bytes that an earlier run sent.
    pub fn resumed_at(&self) -> u64 {
        self.resumed_at.load(Ordering::Relaxed)
    }

    /// Sets the number of bytes that an earlier run sent.
    pub fn resume_at(&self, offset: u64) {
        self.resumed_at.store(offset, Ordering::Relaxed);
    }

    /// Returns the number of retries of requests or of the whole upload.
    pub fn retries(&self) -> u32 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Counts a retry.
    pub fn retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets the number of the archive's bytes that are represented, and the number of sent bytes.
    pub fn set(&self, position: u64, sent: u64) {
        self.position.store(position.min(self.total), Ordering::Relaxed);
        self.sent.store(sent, Ordering::Relaxed);
    }
}

/// Formats a number of bytes: `17 B`, `320.0 KiB`, `1.5 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut value, mut unit) = (bytes as f64 / 1024.0, 0);
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_formatted_at_the_unit_boundaries() {
        let sizes = [0, 1023, 1024, 1_048_524, 1_048_575, 1 << 20, 3 << 29, u64::MAX].map(size);
        assert_eq!(
            sizes,
            ["0 B", "1023 B", "1.0 KiB", "1023.9 KiB", "1.0 MiB", "1.0 MiB", "1.5 GiB", "16777216.0 TiB"]
        );
    }

    #[test]
    fn a_position_never_exceeds_the_total() {
        let meter = Meter::new(10);
        meter.set(12, 5);
        assert_eq!((meter.position(), meter.sent()), (10, 5));
        meter.set(0, 0);
        assert_eq!((meter.position(), meter.sent()), (0, 0));
    }
}
