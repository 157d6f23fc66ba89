//! Placeholder.
pub mod error;
pub mod image;
pub mod layer;
pub mod reference;
