//! What is known already: which packed blobs a plain layer has become before, here or in the registry.

mod cache;
mod held;

pub use cache::{Cache, Known};
pub use held::{Held, HeldLayer, blobs, is_of, manifests, read};
