//! The identity of a layer within one push.

use super::digest::{DiffId, Digest};

/// Identifies a layer: two with the same ID need to be pushed only once.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum LayerId {
    /// A layer that is pushed unchanged, by the digest that the archive states.
    Stated(Digest),
    /// A layer by its uncompressed bytes.
    Plain(DiffId),
    /// A layer of which only the position in the archive is known.
    Place(u64),
}
