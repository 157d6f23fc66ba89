//! One repository: its settings, blobs and images, and the references of its images.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::SystemTime;

use axum::body::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::upload::Blob;
use crate::oci::Digest;

/// The maximum size of a manifest in bytes
/// (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_PutImage.html>).
pub(super) const LARGEST_MANIFEST: usize = 4 << 20;

/// A repository.
#[derive(Clone, Debug)]
pub(super) struct Repo {
    pub(super) settings: Settings,
    pub(super) created: SystemTime,
    pub(super) blobs: HashMap<Digest, Blob>,
    pub(super) images: BTreeMap<Digest, Image>,
    pub(super) tags: BTreeMap<String, Digest>,
    /// The images that were archived. The registry does not serve them; the API describes them, and a push restores them
    /// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/archive_restore_image.html>).
    pub(super) archived: BTreeSet<Digest>,
    /// When images were last pulled, since the start.
    pub(super) pulled: HashMap<Digest, SystemTime>,
    /// When images were last scanned, since the start.
    pub(super) scanned: HashMap<Digest, SystemTime>,
}

impl Repo {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            created: SystemTime::now(),
            blobs: HashMap::new(),
            images: BTreeMap::new(),
            tags: BTreeMap::new(),
            archived: BTreeSet::new(),
            pulled: HashMap::new(),
            scanned: HashMap::new(),
        }
    }

    /// Removes an image with all its tags.
    pub(super) fn forget_image(&mut self, digest: &Digest) {
        self.images.remove(digest);
        self.tags.retain(|_, to| to != digest);
        self.archived.remove(digest);
        self.pulled.remove(digest);
        self.scanned.remove(digest);
    }

    /// Returns the image under a tag or a digest, unless it is archived.
    pub(super) fn image(&self, reference: &str) -> Option<(Digest, &Image)> {
        self.any_image(reference).filter(|(digest, _)| !self.archived.contains(digest))
    }

    /// Deletes an image with all its tags by digest, or one of its tags, and with the last tag the image
    /// (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchDeleteImage.html>). An image that an index lists
    /// stays.
    ///
    /// # Errors
    /// If there is no such image, or an index lists one that is named by digest.
    pub(super) fn delete(&mut self, reference: &str) -> Result<(), NotDeleted> {
        let (digest, _) = self.any_image(reference).ok_or(NotDeleted::Absent)?;
        let by_tag = self.tags.contains_key(reference);
        let parents = self.images.iter().filter(|(_, image)| image.facts.children.contains(&digest));
        let parents: Vec<Digest> = parents.map(|(parent, _)| *parent).collect();
        if !by_tag && !parents.is_empty() {
            return Err(NotDeleted::Referenced(parents));
        }
        self.tags.retain(|tag, to| *to != digest || by_tag && tag != reference);
        if parents.is_empty() && !self.tags.values().any(|to| *to == digest) {
            self.forget_image(&digest);
        }
        Ok(())
    }

    /// Returns the image under a tag or a digest, archived or not.
    pub(super) fn any_image(&self, reference: &str) -> Option<(Digest, &Image)> {
        let digest = match reference.parse() {
            Ok(digest) => digest,
            Err(_) => *self.tags.get(reference)?,
        };
        Some((digest, self.images.get(&digest)?))
    }
}

/// Why an image cannot be deleted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum NotDeleted {
    /// It does not exist.
    Absent,
    /// These indexes list it.
    Referenced(Vec<Digest>),
}

/// A manifest or an index.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) bytes: Bytes,
    pub(super) media_type: String,
    pub(super) pushed: SystemTime,
    pub(super) facts: Facts,
}

/// The settings of a repository, as CreateRepository and similar calls define them.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Settings {
    pub(super) mutability: Mutability,
    pub(super) exclusion_filters: Vec<String>,
    pub(super) scan_on_push: bool,
    pub(super) encryption: Encryption,
    pub(super) kms_key: Option<String>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) lifecycle_policy: Option<String>,
    pub(super) repository_policy: Option<String>,
}

/// The tag mutability.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Mutability {
    #[default]
    Mutable,
    Immutable,
    /// All tags are immutable except those that match a filter.
    ImmutableWithExclusion,
    /// All tags are mutable except those that match a filter.
    MutableWithExclusion,
}

/// The encryption of a repository.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum Encryption {
    #[default]
    #[serde(rename = "AES256")]
    Aes256,
    #[serde(rename = "KMS")]
    Kms,
    #[serde(rename = "KMS_DSSE")]
    KmsDsse,
}

impl Settings {
    /// Returns whether an existing tag is immutable.
    pub(super) fn is_immutable(&self, tag: &str) -> bool {
        let excluded = || self.exclusion_filters.iter().any(|filter| matches_wildcard(filter, tag));
        match self.mutability {
            Mutability::Mutable => false,
            Mutability::Immutable => true,
            Mutability::ImmutableWithExclusion => !excluded(),
            Mutability::MutableWithExclusion => excluded(),
        }
    }
}

/// Returns whether `text` matches `pattern`, in which `*` matches any number of characters.
pub(super) fn matches_wildcard(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some((_, after)) = text.split_once(piece) else { return false };
        text = after;
    }
    text.ends_with(last)
}

/// A manifest or an index, parsed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    pub(super) schema_version: Option<u64>,
    pub(super) media_type: Option<String>,
    pub(super) artifact_type: Option<String>,
    pub(super) config: Option<Descriptor>,
    pub(super) layers: Option<Vec<Descriptor>>,
    pub(super) manifests: Option<Vec<Descriptor>>,
    pub(super) subject: Option<Descriptor>,
    pub(super) annotations: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: Option<String>,
    pub(super) digest: String,
    pub(super) size: u64,
    pub(super) platform: Option<Value>,
    pub(super) annotations: Option<Value>,
    pub(super) urls: Option<Vec<String>>,
}

impl Descriptor {
    /// A layer that says where else it lies, and that need not be pushed: ECR takes Windows images so by default
    /// (<https://github.com/awsdocs/amazon-ecr-user-guide/pull/29>). What it makes of one without an address was never
    /// seen; the reference registry refuses it.
    pub(super) fn is_foreign(&self) -> bool {
        let is = |kind: &str| kind.contains("foreign") || kind.contains("nondistributable");
        self.media_type.as_deref().is_some_and(is) && self.urls.as_ref().is_some_and(|urls| !urls.is_empty())
    }
}

/// The references of an image.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// The images that an index lists.
    pub(super) children: Vec<Digest>,
    /// Their media types, in the same order.
    pub(super) child_types: Vec<String>,
    /// Config and layers.
    pub(super) blobs: BTreeSet<Digest>,
    /// The bytes of all layers.
    pub(super) layers_size: u64,
    pub(super) subject: Option<Digest>,
    pub(super) artifact_type: Option<String>,
    pub(super) annotations: Option<Map<String, Value>>,
}

impl Facts {
    /// Parses a manifest that was accepted before. Ignores unknown fields.
    pub(super) fn of(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).map(|document| Self::from(&document)).unwrap_or_default()
    }
}

impl From<&Document> for Facts {
    fn from(document: &Document) -> Self {
        let mut facts = Self {
            subject: document.subject.as_ref().and_then(|subject| subject.digest.parse().ok()),
            annotations: document.annotations.clone(),
            ..Self::default()
        };
        for child in document.manifests.iter().flatten() {
            if let Ok(digest) = child.digest.parse() {
                facts.children.push(digest);
                facts.child_types.push(child.media_type.clone().unwrap_or_default());
            }
        }
        for layer in document.layers.iter().flatten() {
            facts.layers_size = facts.layers_size.saturating_add(layer.size);
            facts.blobs.extend(layer.digest.parse::<Digest>());
        }
        if let Some(config) = &document.config {
            facts.blobs.extend(config.digest.parse::<Digest>());
        }
        let config_type = document.config.as_ref().and_then(|config| config.media_type.clone());
        facts.artifact_type = document.artifact_type.clone().or(config_type);
        facts
    }
}
