//! The model of the OCI specifications: digests, references, media types, platforms, descriptors, manifests, indexes and
//! image configs. Each is parsed once, on input; unknown fields and original bytes are preserved.
//!
//! Archives, layer reuse, the registry client and the push share these types. Only [`Host`] decides which registries are
//! Amazon's, because they receive AWS credentials. Only [`Platform::matches`] compares platforms.

mod digest;
mod document;
mod host;
mod layer_id;
mod media_type;
mod name;
mod pattern;
mod platform;
mod quote;
mod strict;
mod target;
#[cfg(test)]
mod tests;

pub use digest::{DiffId, Digest};
#[cfg(feature = "sandbox")]
pub(crate) use document::DescriptorDigest;
pub use document::OriginalManifest;
pub(crate) use document::{Descriptor, Document, ImageConfig};
#[cfg(feature = "sandbox")]
pub(crate) use host::is_region;
pub use host::{EcrHost, EndpointOverride, Host};
pub(crate) use host::{is_link_local, is_private, region_code};
pub use layer_id::LayerId;
pub use media_type::Compression;
pub(crate) use media_type::{DocumentKind, Family, MediaType};
pub use name::{Repository, Tag};
pub(crate) use pattern::glob;
pub use pattern::{TagFilter, TagPattern};
pub use platform::Platform;
pub(crate) use quote::strip_credentials;
pub(crate) use strict::StrictField;
pub use target::{MountSource, Target, TargetPrefix};
