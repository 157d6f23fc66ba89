//! The images that ECR accepts, and its errors about others.

use std::time::SystemTime;

use axum::body::Bytes;
use axum::http::StatusCode;

use super::refusal::Refusal;
use super::repository::{Descriptor, Document, Facts, Image, Repo};
use super::rules::{ImmutableWords, ManifestRules, Rules};
use super::server::Registry;
use crate::oci::{Digest, Repository, Tag};

/// The media types of an image with layers. Docker's schema 1, which ECR still accepts, is too old to be worth its signatures.
const IMAGES: [&str; 2] =
    ["application/vnd.docker.distribution.manifest.v2+json", "application/vnd.oci.image.manifest.v1+json"];
/// The media types of a list of images.
const INDEXES: [&str; 2] =
    ["application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.oci.image.index.v1+json"];

/// The destination of a manifest.
struct Place<'a> {
    repository: &'a Repository,
    account: &'a str,
    repo: &'a Repo,
}

/// A manifest as a client sends it.
pub(super) struct Sent<'a> {
    pub(super) bytes: Bytes,
    pub(super) media_type: &'a str,
    /// Its digest, if the client states it.
    pub(super) digest: Option<&'a str>,
    pub(super) tag: Option<Tag>,
}

/// Stores a manifest, if the repository accepts it and `may` allows it.
pub(super) fn put(
    registry: &Registry,
    name: &Repository,
    sent: &Sent<'_>,
    may: impl FnOnce(&Repo, &Digest) -> Result<(), Refusal>,
) -> Result<(Digest, Image), Refusal> {
    let Sent { bytes, media_type, digest: stated, tag } = sent;
    let digest = Digest::of(bytes);
    if let Some(stated) = stated.filter(|stated| *stated != digest.to_string()) {
        return Err(other_digest(stated, name, &registry.account));
    }
    let rules = registry.rules(|rules| rules.clone());
    let stored = registry.store.put_image(name, tag.as_ref(), |repo| {
        let place = Place { repository: name, account: &registry.account, repo };
        let image = admit(bytes, media_type, &rules, &place, (&digest, tag.as_ref()))?;
        may(repo, &digest)?;
        Ok((digest, image))
    });
    stored.ok_or_else(|| Refusal::absent(name, &registry.account))?
}

/// Returns the image that a manifest is, if the repository accepts it under this tag.
fn admit(
    bytes: &Bytes,
    media_type: &str,
    rules: &Rules,
    place: &Place<'_>,
    (digest, tag): (&Digest, Option<&Tag>),
) -> Result<Image, Refusal> {
    let repo = place.repo;
    let facts = judge(bytes, media_type, &rules.manifest, place)?;
    // An archived image that is pushed again is restored.
    let restores = |tag: &Tag| repo.tags.get(tag.as_str()) == Some(digest) && repo.archived.contains(digest);
    if let Some(tag) = tag.filter(|tag| repo.tags.contains_key(tag.as_str()) && !restores(tag))
        && (rules.immutable || repo.settings.is_immutable(tag.as_str()))
    {
        return Err(immutable(rules.immutable_words, tag, place.repository));
    }
    check_quotas(&rules.manifest, place, digest, tag)?;
    let pushed = SystemTime::now();
    Ok(Image { bytes: bytes.clone(), media_type: media_type.to_owned(), pushed, facts })
}

/// ECR's quotas. The messages were seen in 2026 (<https://github.com/medic/cht-core/issues/11099>,
/// <https://github.com/vllm-project/vllm/issues/48065>).
fn check_quotas(rules: &ManifestRules, place: &Place<'_>, digest: &Digest, tag: Option<&Tag>) -> Result<(), Refusal> {
    let Place { repository, account, repo } = place;
    let refuse =
        |message: String| Err(Refusal::new(StatusCode::FORBIDDEN, "DENIED", message).raises("LimitExceededException"));
    if !repo.images.contains_key(digest) && repo.images.len() >= rules.image_limit {
        return refuse(format!(
            "The repository with name '{repository}' in registry with id '{account}' already has the maximum allowed \
             number of images which is '{}'",
            rules.image_limit
        ));
    }
    match tag.filter(|tag| repo.tags.get(tag.as_str()) != Some(digest)) {
        Some(tag) if repo.tags_of(digest).len() >= rules.tag_limit => refuse(format!(
            "Adding tag '{tag}' to an image in the repository with name '{repository}' in registry with id '{account}' \
             exceeds the maximum allowed number of tags per image which is '{}'",
            rules.tag_limit
        )),
        _ => Ok(()),
    }
}

/// Returned even if the tag has that very digest (<https://github.com/aws/containers-roadmap/issues/2179>).
fn immutable(words: ImmutableWords, tag: &Tag, name: &Repository) -> Refusal {
    let what = match words {
        ImmutableWords::Repository => "repository",
        ImmutableWords::Tag => "tag",
    };
    let message = format!(
        "The image tag '{tag}' already exists in the '{name}' repository and cannot be overwritten because the {what} \
         is immutable."
    );
    Refusal::new(StatusCode::BAD_REQUEST, "TAG_INVALID", message).raises("ImageTagAlreadyExistsException")
}

/// Returns a tag that ECR accepts.
pub(super) fn tag_of(text: &str) -> Result<Tag, Refusal> {
    let constraint = "must satisfy regular expression '[a-zA-Z0-9-_.]+'";
    text.parse().map_err(|_| Refusal::parameter("imageTag", constraint))
}

/// Returns the message about a manifest with another digest than stated.
fn other_digest(stated: &str, name: &Repository, account: &str) -> Refusal {
    let message = format!(
        "The image with digest '{stated}' in repository '{name}' and registry ID '{account}' does not match the image \
         digest that Amazon ECR has calculated."
    );
    Refusal::manifest(message).raises("ImageDigestDoesNotMatchException")
}

/// Checks a manifest as ECR does.
fn judge(bytes: &Bytes, media_type: &str, rules: &ManifestRules, place: &Place<'_>) -> Result<Facts, Refusal> {
    let bad_syntax = || Refusal::parameter("ImageManifest", "Invalid JSON syntax");
    let document: Document = serde_json::from_slice(bytes).map_err(|_| bad_syntax())?;
    if !IMAGES.contains(&media_type) && !INDEXES.contains(&media_type) {
        return Err(Refusal::unsupported(format!("Manifest media type '{media_type}' is not supported")));
    }
    if document.schema_version != Some(2) {
        return Err(bad_syntax());
    }
    // ECR's message for this is not known.
    if let Some(own) = document.media_type.as_deref().filter(|own| *own != media_type) {
        let message = format!("The manifest says that it is '{own}', but it was sent as '{media_type}'");
        return Err(Refusal::manifest(message));
    }
    refuse_strict_fields(&document, rules).map_err(|()| bad_syntax())?;
    if INDEXES.contains(&media_type) {
        judge_index(document.manifests.as_deref().ok_or_else(bad_syntax)?, place)?;
    } else {
        let config = document.config.as_ref().ok_or_else(bad_syntax)?;
        // Go writes `null` for an empty list.
        let layers = document.layers.as_deref().unwrap_or_default();
        if layers.is_empty() && rules.no_image_without_layers {
            return Err(Refusal::unsupported("Image has to have at least 1 layer"));
        }
        // https://github.com/cirruslabs/tart/issues/890
        if layers.len() > rules.layer_limit {
            return Err(Refusal::parameter("ImageManifest", "Limit on number of layers per image exceeded"));
        }
        judge_image(config, layers, place)?;
    }
    Ok(Facts::from(&document))
}

/// The unknown fields that ECR rejects: see [`ManifestRules`] for reports.
fn refuse_strict_fields(document: &Document, rules: &ManifestRules) -> Result<(), ()> {
    let config = document.config.as_ref();
    let everywhere = config
        .into_iter()
        .chain(document.layers.iter().flatten())
        .chain(document.manifests.iter().flatten())
        .chain(&document.subject);
    let mut media_types = everywhere
        .filter_map(|descriptor| descriptor.media_type.as_deref())
        .chain(document.media_type.as_deref())
        .chain(document.artifact_type.as_deref());
    let has_features = |entry: &Descriptor| entry.platform.as_ref().is_some_and(|it| it.get("features").is_some());
    let refused = rules.no_config_platform && config.is_some_and(|config| config.platform.is_some())
        || rules.no_config_annotations && config.is_some_and(|config| config.annotations.is_some())
        || rules.no_subject_platform && document.subject.as_ref().is_some_and(|subject| subject.platform.is_some())
        || rules.no_platform_features && document.manifests.iter().flatten().any(has_features)
        || rules.no_media_type_parameters && media_types.any(|media_type| media_type.contains(';'));
    if refused { Err(()) } else { Ok(()) }
}

/// Children are pushed before their index
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/docker-push-multi-architecture-image.html>).
fn judge_index(children: &[Descriptor], place: &Place<'_>) -> Result<(), Refusal> {
    let find = |child: &Descriptor| child.digest.parse().ok().and_then(|digest: Digest| place.repo.images.get(&digest));
    refuse_missing("Images", children.iter().filter(|child| find(child).is_none()), place)?;
    for child in children {
        refuse_other_size(child, find(child).map(|image| image.bytes.len() as u64))?;
    }
    Ok(())
}

fn judge_image(config: &Descriptor, layers: &[Descriptor], place: &Place<'_>) -> Result<(), Refusal> {
    let find = |blob: &Descriptor| blob.digest.parse().ok().and_then(|digest: Digest| place.repo.blobs.get(&digest));
    let blobs = || std::iter::once(config).chain(layers).filter(|blob| !blob.is_foreign());
    refuse_missing("Layers", blobs().filter(|blob| find(blob).is_none()), place)?;
    for blob in blobs() {
        refuse_other_size(blob, find(blob).map(|blob| blob.size()))?;
    }
    Ok(())
}

/// The message is the one that ECR sends for images; it is assumed to be the same for layers.
fn refuse_missing<'a>(
    what: &str,
    missing: impl Iterator<Item = &'a Descriptor>,
    place: &Place<'_>,
) -> Result<(), Refusal> {
    let missing: Vec<&str> = missing.map(|descriptor| descriptor.digest.as_str()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let exception = if what == "Layers" { "LayersNotFoundException" } else { "ReferencedImagesNotFoundException" };
    let message = format!(
        "{what} with digests '[{}]' required for pushing image into repository with name '{}' in the registry with id \
         '{}' do not exist",
        missing.join(", "),
        place.repository,
        place.account,
    );
    Err(Refusal::new(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN", message).raises(exception))
}

/// The sandbox's own strictness: whether ECR compares sizes is unknown, but what pulls the image does.
fn refuse_other_size(descriptor: &Descriptor, actual: Option<u64>) -> Result<(), Refusal> {
    match actual {
        Some(actual) if actual != descriptor.size => Err(Refusal::manifest(format!(
            "The manifest says that '{}' has {} bytes, but it has {actual}",
            descriptor.digest, descriptor.size
        ))),
        _ => Ok(()),
    }
}
