//! SHA-256 of long streams, by the assembly that rustls links anyway. On CPUs without SHA instructions it is twice as fast as
//! portable code.

use aws_lc_rs::digest::{Context, SHA256};

/// An incremental SHA-256.
pub(super) struct Hasher(Context);

impl Hasher {
    /// Creates the hasher.
    pub(super) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// Hashes the next bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the hash of all bytes.
    pub(super) fn finish(self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(self.0.finish().as_ref());
        hash
    }
}

impl std::io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    #[test]
    fn the_hash_equals_that_of_the_portable_implementation_for_any_split() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for cut in [0, 1, 63, 64, 65, 4096, 99_999] {
            let mut hasher = Hasher::new();
            hasher.update(&bytes[..cut]);
            hasher.update(&bytes[cut..]);
            assert_eq!(Digest::from_hash(hasher.finish()), Digest::of(&bytes), "cut at {cut}");
        }
    }
}
