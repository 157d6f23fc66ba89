//! Numbers from a seed.

/// splitmix64.
pub(crate) struct Dice(u64);

impl Dice {
    /// Dice that fall the same way whenever the seed is the same.
    pub(crate) fn of_seed(seed: u64) -> Self {
        // Neighbouring seeds are far apart.
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1))
    }

    pub(crate) fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % below.max(1) as u64) as usize
    }

    pub(crate) fn of<T: Clone>(&mut self, some: &[T]) -> T {
        some[self.roll(some.len())].clone()
    }

    pub(crate) fn one_in(&mut self, chances: usize) -> bool {
        self.roll(chances) == 0
    }

    /// Damages bytes: flips, cuts, inserts, doubles.
    pub(crate) fn damage(&mut self, bytes: &mut Vec<u8>) {
        let at = self.roll(bytes.len());
        let some = 1 + self.roll(16);
        match self.roll(6) {
            0 => bytes.truncate(at),
            1 => bytes.splice(at..at, (0..some).map(|n| n as u8)).for_each(drop),
            2 => bytes.splice(at..(at + some).min(bytes.len()), []).for_each(drop),
            3 => bytes.extend_from_within(at..),
            _ if bytes.is_empty() => {}
            4 => bytes[at] = self.of(&[0, 0xff, b'0', b'"', 0x1f]),
            _ => bytes[at] ^= 1 << self.roll(8),
        }
    }
}
