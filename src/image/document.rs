//! The JSON documents of an archive: how much of them is read, and what we look at in them.
//!
//! Only views: a document's bytes are kept beside them and are what gets pushed. The views are narrower than
//! oci-client's types on purpose: a digest is parsed and a size has no sign, so that a lie is refused where it stands,
//! with its line and column.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use oci_client::manifest::{self as media, OciDescriptor};
use serde::Deserialize;

use super::archive::Entries;
use super::model::{Config, Origin, Role, is_foreign};
use super::shown;
use crate::error::{Error, Result};
use crate::oci::{DiffId, Digest, Host, Platform};

/// The limit for manifests and nested indexes: what registries take. ECR has it in its API (`imageManifest`, PutImage), and
/// the specification asks for no more
/// (<https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests>).
pub(super) const MAX_MANIFEST: u64 = 4 << 20;
/// The limit for configs, index.json and manifest.json.
pub(super) const MAX_LIST: u64 = 8 << 20;
/// What all documents of an archive may take together; thousands of images fit.
pub(super) const MAX_TOTAL: u64 = 64 << 20;
/// The origins that a descriptor may name; one is common.
const MAX_ORIGINS: usize = 8;
/// How containerd says which repositories of a host content came from: their names, with commas between them.
const ORIGIN: &str = "containerd.io/distribution.source.";

/// What to do about a manifest that is too long.
pub(super) const TOO_LARGE: &str =
    "Registries take manifests of 4 MiB at most: make an image of fewer layers, or an index of fewer images.";

/// The annotation by which an attestation names the manifest that it is about.
pub(super) const ATTESTED: &str = "vnd.docker.reference.digest";

/// Reads documents.
#[derive(Debug)]
pub(super) struct Documents<'a> {
    entries: &'a Entries,
    left: u64,
}

impl<'a> Documents<'a> {
    /// Nothing read yet.
    pub(super) fn new(entries: &'a Entries) -> Self {
        Self { entries, left: MAX_TOTAL }
    }

    /// The archive's files.
    pub(super) fn entries(&self) -> &'a Entries {
        self.entries
    }

    /// The document's bytes and their digest, or `None` if the archive lacks it.
    ///
    /// A document that is read again counts again: indexes that name each other's children many times over would
    /// otherwise cost any amount of time and memory.
    pub(super) fn find(&mut self, name: &str, limit: u64) -> Result<Option<(Bytes, Digest)>> {
        let Some(range) = self.entries.find(name)? else { return Ok(None) };
        if range.len() > limit {
            let (name, len) = (shown(name), range.len());
            return Err(Error::input(format!(
                "{name} of the archive is {len} bytes long, and at most {limit} are read"
            ))
            .hint(if limit == MAX_MANIFEST {
                TOO_LARGE
            } else {
                "No writer's is that long: save the image again."
            }));
        }
        if range.len() > self.left {
            return Err(Error::input(format!(
                "the manifests and configs of the archive take more than {MAX_TOTAL} bytes"
            )));
        }
        let bytes = range
            .read_all(limit)
            .map_err(|error| Error::input(format!("cannot read {} of the archive", shown(name))).because(error))?;
        self.left -= bytes.len() as u64;
        let digest = Digest::of(&bytes);
        Ok(Some((Bytes::from(bytes), digest)))
    }
}

/// Reads a view out of a document.
pub(super) fn parse<'de, T: Deserialize<'de>>(bytes: &'de [u8], name: &str) -> Result<T> {
    serde_json::from_slice(bytes)
        // Its text may quote the document.
        .map_err(|error| {
            Error::input(format!("{} of the archive is malformed", shown(name)))
                .because(shown(&error.to_string()))
                .hint("The archive is damaged: write it again.")
        })
}

/// What points at a blob.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) urls: Option<Vec<String>>,
    pub(super) platform: Option<StatedPlatform>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

/// What an index says that an image runs on.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct StatedPlatform {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
}

impl Descriptor {
    /// The value of an annotation, if there is one.
    pub(super) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// What an index lists it for, as far as the index says.
    pub(super) fn role(&self) -> Role {
        let word = |word: &Option<String>| word.clone().unwrap_or_default();
        let words = self.platform.as_ref().map(|it| (word(&it.os), word(&it.architecture), word(&it.variant)));
        let is_unknown =
            words.as_ref().is_some_and(|(os, architecture, _)| os == "unknown" && architecture == "unknown");
        if is_unknown || self.annotation("vnd.docker.reference.type") == Some("attestation-manifest") {
            return Role::Attestation(self.annotation(ATTESTED).and_then(|digest| digest.parse().ok()));
        }
        Role::Image(words.and_then(|(os, architecture, variant)| Platform::new(&os, &architecture, &variant)))
    }

    /// What points at a blob that nothing points at.
    pub(super) fn new(media_type: String, digest: Digest, size: u64) -> Self {
        Self { media_type, digest, size, urls: None, platform: None, annotations: None }
    }

    /// Whether its bytes need not be in archives and registries, since it says where else they are. Without an address
    /// it is a layer like others, or nobody could pull it.
    pub(super) fn is_foreign(&self) -> bool {
        is_foreign(&self.media_type) && self.urls.as_ref().is_some_and(|urls| !urls.is_empty())
    }

    /// Where the blob came from: as its annotations say, else whatever named it (containerd, `core/remotes/handlers.go`,
    /// annotateDistributionSourceHandler). Names that cannot be are passed over.
    pub(super) fn origins(&self, inherited: &Arc<[Origin]>) -> Arc<[Origin]> {
        let hosts = self.annotations.iter().flatten();
        let hosts = hosts.filter_map(|(key, names)| Some((key.strip_prefix(ORIGIN)?.parse::<Host>().ok()?, names)));
        let origins = hosts.flat_map(|(host, names)| {
            let names = names.split(',').filter_map(|name| name.parse().ok());
            names.map(move |repository| Origin { host: host.clone(), repository })
        });
        let origins: Vec<Origin> = origins.take(MAX_ORIGINS).collect();
        if origins.is_empty() { Arc::clone(inherited) } else { origins.into() }
    }

    /// The same as it is written into a manifest.
    pub(super) fn into_oci(self) -> OciDescriptor {
        let Self { media_type, digest, size, urls, annotations, .. } = self;
        // No file is larger than an i64.
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        OciDescriptor { media_type, digest: digest.to_string(), size, urls, annotations, ..OciDescriptor::default() }
    }

    /// Whether it points at the config of an image, and not of something else that is kept in registries.
    pub(super) fn is_image_config(&self) -> bool {
        [media::IMAGE_CONFIG_MEDIA_TYPE, media::IMAGE_DOCKER_CONFIG_MEDIA_TYPE].contains(&self.media_type.as_str())
    }
}

/// What a manifest or an index may be, and at most one of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sort {
    Index,
    Manifest,
}

impl Sort {
    /// The sort that a media type means.
    pub(super) fn of(media_type: &str) -> Option<Self> {
        match media_type {
            media::OCI_IMAGE_MEDIA_TYPE | media::IMAGE_MANIFEST_MEDIA_TYPE => Some(Self::Manifest),
            media::OCI_IMAGE_INDEX_MEDIA_TYPE | media::IMAGE_MANIFEST_LIST_MEDIA_TYPE => Some(Self::Index),
            _ => None,
        }
    }
}

/// A manifest or an index. Go writes empty lists as `null`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listing {
    pub(super) schema_version: Option<u64>,
    pub(super) media_type: Option<String>,
    pub(super) config: Option<Descriptor>,
    pub(super) layers: Option<Vec<Descriptor>>,
    pub(super) manifests: Option<Vec<Descriptor>>,
    subject: Option<Subject>,
}

impl Listing {
    /// What it says it belongs to. A digest that we cannot know names nothing here.
    pub(super) fn subject(&self) -> Option<Digest> {
        self.subject.as_ref()?.digest.parse().ok()
    }

    /// What it is where nothing that points at it says so. Of OCI's types it need not say so itself.
    pub(super) fn said_media_type(&self) -> String {
        let unsaid =
            if self.manifests.is_some() { media::OCI_IMAGE_INDEX_MEDIA_TYPE } else { media::OCI_IMAGE_MEDIA_TYPE };
        self.media_type.clone().unwrap_or_else(|| unsaid.to_owned())
    }
}

#[derive(Debug, Deserialize)]
struct Subject {
    digest: String,
}

/// One image in `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SavedImage {
    pub(super) config: String,
    pub(super) repo_tags: Option<Vec<String>>,
    pub(super) layers: Option<Vec<String>>,
    /// The descriptors of foreign layers
    /// (<https://github.com/moby/moby/blob/v24.0.7/image/tarexport/save.go>).
    pub(super) layer_sources: Option<HashMap<DiffId, Descriptor>>,
}

/// The file `oci-layout`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LayoutMarker {
    pub(super) image_layout_version: String,
}

#[derive(Debug, Default, Deserialize)]
struct ImageConfig {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    rootfs: Option<RootFs>,
}

#[derive(Debug, Default, Deserialize)]
struct RootFs {
    diff_ids: Option<Vec<DiffId>>,
}

/// Reads an image config: what the model keeps of it, and its diff_ids.
pub(super) fn image_config(bytes: Bytes, digest: Digest, name: &str) -> Result<(Config, Vec<DiffId>)> {
    let view: ImageConfig = parse(&bytes, name)?;
    let part = |part: Option<String>| part.filter(|part| !part.is_empty());
    let platform = part(view.os).zip(part(view.architecture)).map(|(os, architecture)| {
        let variant = part(view.variant).map(|variant| format!("/{variant}")).unwrap_or_default();
        shown(&format!("{os}/{architecture}{variant}"))
    });
    let diff_ids = view.rootfs.and_then(|rootfs| rootfs.diff_ids).unwrap_or_default();
    Ok((Config { bytes, digest, media_type: None, platform }, diff_ids))
}
