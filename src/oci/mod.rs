//! The model of the OCI specifications: digests, references, media types, platforms, descriptors, manifests, indexes and
//! image configs. Each is parsed once, at the border; unknown fields and original bytes are kept.
//!
//! Reading archives, layer reuse, the registry client and the push share these types. Who a host belongs to is decided in
//! [`Host`] and nowhere else, because that decides who gets AWS credentials; platforms are compared by
//! [`Platform::matches`] and nowhere else.

use std::borrow::Cow;

mod digest;
mod document;
mod host;
mod media_type;
mod name;
mod pattern;
mod platform;
mod strict;
mod target;
#[cfg(test)]
mod tests;

pub use digest::{DiffId, Digest};
pub use document::{Descriptor, DescriptorDigest, Document, ImageConfig, OriginalManifest};
pub use host::{EcrHost, Host, Owner, is_link_local, is_private, is_region, region_code};
pub use media_type::{Compression, DocumentKind, Family, MediaType};
pub use name::{Repository, Tag};
pub use pattern::{TagFilter, TagPattern};
pub use platform::Platform;
pub use strict::StrictField;
pub use target::{MountSource, Target};

/// Text from outside, short enough for a sentence, without the login that may precede a host.
fn shorten(text: &str) -> String {
    let text = strip_credentials(text);
    if text.chars().count() <= 80 { text.into() } else { text.chars().take(77).chain("...".chars()).collect() }
}

/// Replaces the login in front of a host by `***`: `https://***@host/app`. A digest behind an `@` is kept.
pub fn strip_credentials(text: &str) -> Cow<'_, str> {
    let is_digest = |end: &str| end.starts_with("sha256:") || end.starts_with("sha512:");
    let (place, digest) = match text.rsplit_once('@') {
        Some((place, end)) if is_digest(end) => (place, &text[place.len()..]),
        _ => (text, ""),
    };
    let Some((login, rest)) = place.rsplit_once('@') else { return Cow::Borrowed(text) };
    let scheme = login.split_once("://").map(|(scheme, _)| scheme);
    let scheme = scheme.filter(|scheme| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    Cow::Owned(format!("{}***@{rest}{digest}", scheme.map(|scheme| format!("{scheme}://")).unwrap_or_default()))
}
