//! The identity of a layer within one push.

use super::digest::{DiffId, Digest};

/// Identifies a layer: two with the same ID need to be pushed only once.
///
/// ```
/// use ecr_push::{DiffId, LayerId, Named};
///
/// let id = LayerId::Plain(DiffId::of(b"tar"));
/// // Events name a layer by its ID, with a short name for people.
/// let (one, other) = (Named::new(id, "base"), Named::new(id, "the first layer"));
/// assert_eq!(one, other);
/// assert_eq!(one.to_string(), "base");
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum LayerId {
    /// A layer that is pushed unchanged, by the digest that the archive states.
    Stated(Digest),
    /// A layer by its uncompressed bytes.
    Plain(DiffId),
    /// A layer of which only the position in the archive is known.
    Place(u64),
}
