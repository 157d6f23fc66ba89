//! The JSON documents of an archive: the limits of their sizes, and the fields that are used.
//!
//! [`crate::oci`] parses manifests, indexes and configs; this file has the documents that only archives have.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use oci_client::manifest::OciDescriptor;
use serde::Deserialize;

use super::model::{Config, Origin, Role};
use crate::error::{Code, Error, Result, shown};
use crate::oci::{Descriptor, DiffId, Digest, Document, Host, ImageConfig};

/// The limit for manifests and nested indexes, as registries have it: ECR in its API (`imageManifest`, PutImage), and the
/// specification requires no more
/// (<https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests>).
pub(super) const MAX_MANIFEST: u64 = 4 << 20;
/// The limit for configs, index.json and manifest.json.
pub(super) const MAX_LIST: u64 = 8 << 20;
/// The limit for all documents of an archive together: enough for thousands of images.
pub(super) const MAX_TOTAL: u64 = 64 << 20;
/// The limit for the origins of a descriptor; one is common.
const MAX_ORIGINS: usize = 8;
/// The prefix of containerd's annotation that lists the repositories of a host from which content was pulled, separated by
/// commas.
const ORIGIN: &str = "containerd.io/distribution.source.";

/// The hint for a manifest that is too large.
pub(super) const TOO_LARGE: &str =
    "Registries take manifests of 4 MiB at most: make an image of fewer layers, or an index of fewer images.";

/// The annotation of an attestation with the digest of the manifest that it describes.
pub(super) const ATTESTED: &str = "vnd.docker.reference.digest";

/// Parses a document.
pub(super) fn parse<'de, T: Deserialize<'de>>(bytes: &'de [u8], name: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| malformed(name, &error))
}

/// Parses a manifest or an index.
pub(super) fn document(bytes: &[u8], name: &str) -> Result<Document> {
    Document::parse(bytes).map_err(|error| malformed(name, &error))
}

/// Returns the error that a file cannot be read.
pub(super) fn unreadable(name: &str, error: io::Error) -> Error {
    Error::input(format!("cannot read {} of the archive", shown(name))).code(Code::ArchiveUnreadable).because(error)
}

fn malformed(name: &str, error: &serde_json::Error) -> Error {
    Error::input(format!("{} of the archive is malformed", shown(name)))
        // Its text may quote the document.
        .because(shown(&error.to_string()))
        .hint("The archive is damaged: write it again.")
}

/// Returns the role of a descriptor in its index, according to the index alone.
pub(super) fn role(descriptor: &Descriptor) -> Role {
    let is_attestation = descriptor.annotation("vnd.docker.reference.type") == Some("attestation-manifest");
    if is_attestation || descriptor.is_of_unknown_platform() {
        return Role::Attestation(descriptor.annotation(ATTESTED).and_then(|digest| digest.parse().ok()));
    }
    Role::Image(descriptor.platform())
}

/// Returns the origins in the annotations of a blob's descriptor, else those of the document that lists it (containerd,
/// `core/remotes/handlers.go`, annotateDistributionSourceHandler). Invalid names are skipped.
pub(super) fn origins(descriptor: &Descriptor, inherited: &Arc<[Origin]>) -> Arc<[Origin]> {
    let hosts = descriptor.annotations.iter();
    let hosts = hosts.filter_map(|(key, names)| Some((key.strip_prefix(ORIGIN)?.parse::<Host>().ok()?, names)));
    let origins = hosts.flat_map(|(host, names)| {
        let names = names.split(',').filter_map(|name| name.parse().ok());
        names.map(move |repository| Origin { host: host.clone(), repository })
    });
    let origins: Vec<Origin> = origins.take(MAX_ORIGINS).collect();
    if origins.is_empty() { Arc::clone(inherited) } else { origins.into() }
}

/// Converts a descriptor into the form that is written into a manifest.
pub(super) fn into_oci(descriptor: Descriptor) -> OciDescriptor {
    let Descriptor { media_type, digest, size, urls, annotations, .. } = descriptor;
    // No file is larger than an i64.
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    let digest = digest.to_string();
    let urls = Some(urls).filter(|urls| !urls.is_empty());
    let annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
    OciDescriptor { media_type, digest, size, urls, annotations, ..OciDescriptor::default() }
}

/// An image in `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SavedImage {
    pub(super) config: String,
    repo_tags: Option<Vec<String>>,
    pub(super) layers: Option<Vec<String>>,
    /// The descriptors of non-distributable layers
    /// (<https://github.com/moby/moby/blob/v24.0.7/image/tarexport/save.go>).
    pub(super) layer_sources: Option<HashMap<DiffId, Descriptor>>,
}

impl SavedImage {
    /// Returns the names of the image, without the empty ones that some tools write.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.repo_tags.iter().flatten().filter(|name| !name.is_empty())
    }
}

/// The file `oci-layout`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LayoutMarker {
    pub(super) image_layout_version: String,
}

/// Parses an image config, and returns its diff_ids if it has a `rootfs`.
pub(super) fn image_config(bytes: Bytes, digest: Digest, name: &str) -> Result<(Config, Option<Vec<DiffId>>)> {
    let config = ImageConfig::parse(&bytes).map_err(|error| malformed(name, &error))?;
    let (platform, diff_ids) = (config.platform(), config.diff_ids().map(<[_]>::to_vec));
    Ok((Config { bytes, digest, media_type: None, platform }, diff_ids))
}
