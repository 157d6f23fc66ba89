//! One repository: its settings, blobs and images, and the references of its images.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::SystemTime;

use axum::body::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::iam;
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

    /// Returns the image under a tag or a digest, unless it is archived.
    pub(super) fn image(&self, reference: &str) -> Option<(Digest, &Image)> {
        self.any_image(reference).filter(|(digest, _)| !self.archived.contains(digest))
    }

    /// Returns the tags of an image.
    pub(super) fn tags_of(&self, digest: &Digest) -> Vec<String> {
        self.tags.iter().filter(|(_, to)| *to == digest).map(|(tag, _)| tag.clone()).collect()
    }

    /// Deletes an image with all its tags, or one of its tags, and with the last tag the image
    /// (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchDeleteImage.html>). An image that an index lists
    /// stays. Returns the tags that are gone.
    ///
    /// # Errors
    /// If an index lists an image that is to be deleted with all its tags. The message is the reason in ECR's words.
    pub(super) fn delete(&mut self, digest: &Digest, tag: Option<&str>) -> Result<Vec<String>, String> {
        let parents = self.images.iter().filter(|(_, image)| image.facts.children.contains(digest));
        let parents: Vec<String> = parents.map(|(parent, _)| parent.to_string()).collect();
        if tag.is_none() && !parents.is_empty() {
            return Err(format!("Requested image referenced by manifest list: [{}]", parents.join(", ")));
        }
        let tags = tag.map_or_else(|| self.tags_of(digest), |tag| vec![tag.to_owned()]);
        self.tags.retain(|tag, _| !tags.contains(tag));
        if parents.is_empty() && self.tags_of(digest).is_empty() {
            self.images.remove(digest);
            self.archived.remove(digest);
            self.pulled.remove(digest);
            self.scanned.remove(digest);
        }
        Ok(tags)
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

/// A manifest or an index.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) bytes: Bytes,
    pub(super) media_type: String,
    pub(super) pushed: SystemTime,
    pub(super) facts: Facts,
}

impl Image {
    /// Returns the descriptor of the image in a list.
    pub(super) fn descriptor(&self, digest: &Digest) -> Value {
        json!({"mediaType": self.media_type, "digest": digest, "size": self.bytes.len()})
    }

    /// Returns the descriptor of the image in a list of referrers.
    pub(super) fn referrer(&self, digest: &Digest) -> Value {
        let mut descriptor = self.descriptor(digest);
        descriptor["artifactType"] = json!(self.facts.artifact_type);
        descriptor["annotations"] = json!(self.facts.annotations);
        descriptor
    }
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
        let excluded = || self.exclusion_filters.iter().any(|filter| iam::matches(filter.as_bytes(), tag.as_bytes()));
        match self.mutability {
            Mutability::Mutable => false,
            Mutability::Immutable => true,
            Mutability::ImmutableWithExclusion => !excluded(),
            Mutability::MutableWithExclusion => excluded(),
        }
    }
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
