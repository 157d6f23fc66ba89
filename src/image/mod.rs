//! What is in the archive.
mod model;
pub use model::*;
