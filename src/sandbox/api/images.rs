//! The operations on images.

use std::collections::BTreeSet;

use axum::body::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Call, present, with};
use super::exception::{Exception, Outcome};
use super::scans;
use crate::oci::{Digest, Repository, Tag};
use crate::sandbox::manifest::{self, Sent};
use crate::sandbox::refusal::Refusal;
use crate::sandbox::repository::{Image, Repo};
use crate::sandbox::store::epoch;

/// The code of a failure, and its reason.
type Failure = (&'static str, String);

/// A tag, a digest, or both.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageId {
    image_tag: Option<String>,
    image_digest: Option<String>,
}

impl ImageId {
    fn new(digest: &Digest, tag: Option<&str>) -> Self {
        Self { image_tag: tag.map(str::to_owned), image_digest: Some(digest.to_string()) }
    }

    pub(super) fn to_json(&self) -> Value {
        present(json!({"imageTag": self.image_tag, "imageDigest": self.image_digest}))
    }

    /// Returns the image that this names, archived or not.
    fn find<'a>(&self, repo: &'a Repo) -> Result<(Digest, &'a Image), Failure> {
        let absent = || ("ImageNotFound", "Requested image not found".to_owned());
        let by_digest = self.image_digest.as_deref().map(str::parse::<Digest>).transpose();
        let by_digest =
            by_digest.map_err(|_| ("InvalidImageDigest", "Invalid request parameters: image digest".to_owned()))?;
        let by_tag = self.image_tag.as_deref().map(|tag| repo.tags.get(tag).copied().ok_or_else(absent)).transpose()?;
        if by_digest.is_some() && by_tag.is_some() && by_digest != by_tag {
            return Err(("ImageTagDoesNotMatchDigest", "Requested image tag does not match the digest".to_owned()));
        }
        let missing =
            || ("MissingDigestAndTag", "Invalid request parameters: both tag and digest are missing".to_owned());
        let digest = by_digest.or(by_tag).ok_or_else(missing)?;
        repo.images.get(&digest).map(|image| (digest, image)).ok_or_else(absent)
    }

    /// The image's name in messages.
    pub(super) fn quoted(&self) -> String {
        let [digest, tag] = [&self.image_digest, &self.image_tag].map(|it| it.as_deref().unwrap_or("null"));
        format!("{{imageDigest:'{digest}', imageTag:'{tag}'}}")
    }

    pub(super) fn not_found(&self, call: &Call<'_>, name: &Repository) -> Exception {
        let message = format!("The image with imageId {} does not exist within {}", self.quoted(), call.place(name));
        Exception::new("ImageNotFoundException", message)
    }
}

/// Returns the image that a call is about: its ID, and what `look` finds.
pub(super) fn find_one<T>(
    call: &Call<'_>,
    name: &Repository,
    look: impl FnOnce(&Repo, Digest, &Image) -> T,
) -> Result<(ImageId, T), Exception> {
    let id: ImageId = call.member("imageId")?;
    let found =
        call.look(name, |repo| id.find(repo).ok().map(|(digest, image)| (digest, look(repo, digest, image))))?;
    let (digest, found) = found.ok_or_else(|| id.not_found(call, name))?;
    Ok((ImageId { image_digest: Some(digest.to_string()), ..id }, found))
}

/// The statuses and the tags that a call wants.
struct Filter<'a> {
    status: &'a str,
    tags: &'a str,
}

impl<'a> Filter<'a> {
    /// Without a status only images that are active are listed
    /// (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeImagesFilter.html>).
    fn of(call: &'a Call<'_>) -> Self {
        let filter = &call.input["filter"];
        Self {
            status: filter["imageStatus"].as_str().unwrap_or("ACTIVE"),
            tags: filter["tagStatus"].as_str().unwrap_or("ANY"),
        }
    }

    fn wants(&self, repo: &Repo, digest: &Digest) -> bool {
        let has_tag = || repo.tags.values().any(|to| to == digest);
        (self.status == "ANY" || status(repo, digest) == self.status)
            && (self.tags == "ANY" || (self.tags == "TAGGED") == has_tag())
    }
}

fn status(repo: &Repo, digest: &Digest) -> &'static str {
    if repo.archived.contains(digest) { "ARCHIVED" } else { "ACTIVE" }
}

pub(super) fn batch_get(call: &Call<'_>) -> Outcome {
    let (name, ids): (_, Vec<ImageId>) = (call.name()?, call.member("imageIds")?);
    let (mut images, mut failures) = (Vec::new(), Vec::new());
    call.look(&name, |repo| {
        for id in &ids {
            match id.find(repo) {
                Ok((digest, image)) if !repo.archived.contains(&digest) => {
                    let id = ImageId { image_digest: Some(digest.to_string()), ..id.clone() };
                    images.push((digest, describe_one(call, &name, &id, image)));
                }
                Ok(_) => failures.push(failure(id, ("ImageNotFound", "Requested image not found".to_owned()))),
                Err(why) => failures.push(failure(id, why)),
            }
        }
    })?;
    call.registry.store.record_pulls(&name, images.iter().map(|(digest, _)| *digest));
    let images: Vec<Value> = images.into_iter().map(|(_, image)| image).collect();
    Ok(json!({"images": images, "failures": failures}))
}

fn describe_one(call: &Call<'_>, name: &Repository, id: &ImageId, image: &Image) -> Value {
    let manifest = String::from_utf8_lossy(&image.bytes);
    let members = json!({
        "imageId": id.to_json(), "imageManifest": manifest, "imageManifestMediaType": image.media_type,
    });
    call.about(name, members)
}

fn failure(id: &ImageId, (code, reason): Failure) -> Value {
    json!({"imageId": id.to_json(), "failureCode": code, "failureReason": reason})
}

pub(super) fn list(call: &Call<'_>) -> Outcome {
    let (name, filter) = (call.name()?, Filter::of(call));
    let ids = call.look(&name, |repo| {
        let tagged = repo.tags.iter().map(|(tag, digest)| (digest, Some(tag.as_str())));
        let with_tag: BTreeSet<&Digest> = repo.tags.values().collect();
        let untagged = repo.images.keys().filter(|digest| !with_tag.contains(digest)).map(|digest| (digest, None));
        let wanted = tagged.chain(untagged).filter(|(digest, _)| filter.wants(repo, digest));
        wanted.map(|(digest, tag)| ImageId::new(digest, tag).to_json()).collect()
    })?;
    call.page("imageIds", |id| format!("{} {}", id["imageTag"], id["imageDigest"]), ids)
}

pub(super) fn describe(call: &Call<'_>) -> Outcome {
    let (name, filter, ids): (_, _, Option<Vec<ImageId>>) = (call.name()?, Filter::of(call), call.member("imageIds")?);
    if ids.is_some() && (call.input["maxResults"].is_u64() || call.text("nextToken").is_some()) {
        return Err(Exception::parameter("imageIds", "must not be set together with paging"));
    }
    let details = call.look(&name, |repo| {
        let describe = |digest: &Digest| detail(call, &name, repo, digest);
        let Some(ids) = &ids else {
            let wanted = repo.images.keys().filter(|digest| filter.wants(repo, digest));
            return Ok(wanted.map(describe).collect());
        };
        let find = |id: &ImageId| {
            let found = id.find(repo).ok().filter(|(digest, _)| filter.wants(repo, digest));
            found.map(|(digest, _)| describe(&digest)).ok_or_else(|| id.clone())
        };
        ids.iter().map(find).collect::<Result<Vec<_>, _>>()
    })?;
    call.page(
        "imageDetails",
        |detail| detail["imageDigest"].to_string(),
        details.map_err(|id| id.not_found(call, &name))?,
    )
}

fn detail(call: &Call<'_>, name: &Repository, repo: &Repo, digest: &Digest) -> Value {
    let Some(image) = repo.images.get(digest) else { return Value::Null };
    let tags = repo.tags_of(digest);
    // The size of an index is that of its largest image
    // (https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageDetail.html).
    let children = image.facts.children.iter().filter_map(|child| repo.images.get(child));
    let size = children.map(|child| child.facts.layers_size).max().unwrap_or(image.facts.layers_size);
    let detail = json!({
        "imageDigest": digest,
        "imageTags": (!tags.is_empty()).then_some(tags),
        "imageSizeInBytes": size,
        "imagePushedAt": epoch(image.pushed),
        "imageManifestMediaType": image.media_type,
        "artifactMediaType": image.facts.artifact_type,
        "lastRecordedPullTime": repo.pulled.get(digest).map(|time| epoch(*time)),
        "subjectManifestDigest": image.facts.subject,
        "imageStatus": status(repo, digest),
    });
    let scan = repo.scanned.get(digest).map(|time| scans::summary(call, *time)).unwrap_or_default();
    present(call.about(name, with(detail, scan)))
}

pub(super) fn batch_delete(call: &Call<'_>) -> Outcome {
    let (name, ids): (_, Vec<ImageId>) = (call.name()?, call.member("imageIds")?);
    let (mut deleted, mut failures) = (Vec::new(), Vec::new());
    call.change(&name, |repo| {
        for id in &ids {
            match delete_one(repo, id) {
                Ok(ids) => deleted.extend(ids.iter().map(ImageId::to_json)),
                Err(why) => failures.push(failure(id, why)),
            }
        }
    })?;
    Ok(json!({"imageIds": deleted, "failures": failures}))
}

/// Removes a tag or an image. Returns the IDs that are gone.
fn delete_one(repo: &mut Repo, id: &ImageId) -> Result<Vec<ImageId>, Failure> {
    let (digest, _) = id.find(repo)?;
    let tags = repo.delete(&digest, id.image_tag.as_deref());
    let tags = tags.map_err(|reason| ("ImageReferencedByManifestList", reason))?;
    let ids = tags.iter().map(|tag| ImageId::new(&digest, Some(tag)));
    Ok(if tags.is_empty() { vec![ImageId::new(&digest, None)] } else { ids.collect() })
}

pub(super) fn put(call: &Call<'_>) -> Outcome {
    let (registry, name, text) = (call.registry, call.name()?, call.required("imageManifest"));
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    let own = serde_json::from_str::<Value>(text).ok().and_then(|own| Some(own["mediaType"].as_str()?.to_owned()));
    let media_type = call.text("imageManifestMediaType").map(str::to_owned).or(own).unwrap_or_default();
    let tag: Option<Tag> = call.text("imageTag").map(manifest::tag_of).transpose()?;
    let sent = Sent { bytes, media_type: &media_type, digest: call.text("imageDigest"), tag: tag.clone() };
    let (digest, image) = manifest::put(registry, &name, &sent, |repo, digest| {
        let is_tagged = tag.as_ref().is_none_or(|tag| repo.tags.get(tag.as_str()) == Some(digest));
        if !is_tagged || !repo.images.contains_key(digest) || repo.archived.contains(digest) {
            return Ok(());
        }
        let tag = tag.as_ref().map(|tag| format!(" and tag '{tag}'")).unwrap_or_default();
        let message = format!(
            "Image with digest '{digest}'{tag} already exists in the repository with name '{name}' in registry with id \
             '{}'",
            registry.account
        );
        Err(Refusal::manifest(message).raises("ImageAlreadyExistsException"))
    })?;
    let id = ImageId::new(&digest, tag.as_ref().map(Tag::as_str));
    Ok(json!({"image": describe_one(call, &name, &id, &image)}))
}

pub(super) fn referrers(call: &Call<'_>) -> Outcome {
    let (name, input) = (call.name()?, &call.input);
    let subject = input["subjectId"]["imageDigest"].as_str().unwrap_or_default();
    let invalid = |_| Exception::parameter("subjectId.imageDigest", "Invalid image digest");
    let subject: Digest = subject.parse().map_err(invalid)?;
    let wanted = input["filter"]["artifactStatus"].as_str().unwrap_or("ACTIVE");
    let types = input["filter"]["artifactTypes"].as_array();
    let referrers = call.look(&name, |repo| {
        let is_wanted = |(digest, image): &(&Digest, &Image)| {
            let has_type = |types: &Vec<Value>| types.is_empty() || types.contains(&json!(image.facts.artifact_type));
            image.facts.subject == Some(subject)
                && (wanted == "ANY" || status(repo, digest) == wanted)
                && types.is_none_or(has_type)
        };
        let describe = |(digest, image): (&Digest, &Image)| {
            present(with(image.referrer(digest), json!({"artifactStatus": status(repo, digest)})))
        };
        repo.images.iter().filter(is_wanted).map(describe).collect()
    })?;
    call.page("referrers", |referrer| referrer["digest"].to_string(), referrers)
}

pub(super) fn update_storage_class(call: &Call<'_>) -> Outcome {
    let name = call.name()?;
    let (id, digest) = find_one(call, &name, |_, digest, _| digest)?;
    let archives = call.text("targetStorageClass") == Some("ARCHIVE");
    let status = call.change(&name, |repo| {
        if archives {
            repo.archived.insert(digest)
        } else {
            repo.archived.remove(&digest)
        };
        status(repo, &digest)
    })?;
    Ok(call.about(&name, json!({"imageId": id.to_json(), "imageStatus": status})))
}
