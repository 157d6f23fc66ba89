//! The model of the OCI specifications: digests, references, media types, platforms, descriptors, manifests, indexes and
//! image configs. Each is parsed once, at the border; unknown fields and original bytes are kept.
//!
//! Reading archives, layer reuse, the registry client and the push share these types. Who a host belongs to is decided in
//! [`Host`] and nowhere else, because that decides who gets AWS credentials; platforms are compared by
//! [`Platform::matches`] and nowhere else.

mod digest;
mod host;
mod name;
mod pattern;
mod platform;
mod target;
#[cfg(test)]
mod tests;

pub use digest::{DiffId, Digest};
pub use host::{EcrHost, Host, Owner, is_link_local, is_private, is_region, region_code};
pub use name::{Repository, Tag};
pub use pattern::{TagFilter, TagPattern};
pub use platform::Platform;
pub use target::{MountSource, Target};

/// Text from outside, short enough for a sentence.
fn shorten(text: &str) -> String {
    if text.chars().count() <= 80 { text.to_owned() } else { text.chars().take(77).chain("...".chars()).collect() }
}
