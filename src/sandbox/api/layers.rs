//! The operations on layers.

use axum::body::Bytes;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::call::Call;
use super::exception::{Exception, Outcome};
use crate::oci::Digest;
use crate::sandbox::refusal::Refusal;
use crate::sandbox::rules::LayerState;
use crate::sandbox::store::{Feed, NoSession};
use crate::sandbox::upload::{Blob, Incomplete, LARGEST_PART, WrongOffset};
use crate::sandbox::{blobs, bucket};

pub(super) fn check(call: &Call<'_>) -> Outcome {
    let (name, digests): (_, Vec<String>) = (call.name()?, call.member("layerDigests")?);
    let state = call.registry.rules(|rules| rules.layers);
    let failure = |digest: &str, code: &str, reason: &str| json!({"layerDigest": digest, "failureCode": code, "failureReason": reason});
    let (mut layers, mut failures) = (Vec::new(), Vec::new());
    call.look(&name, |repo| {
        for text in &digests {
            let Ok(digest) = text.parse::<Digest>() else {
                failures.push(failure(text, "InvalidLayerDigest", "Invalid layer digest"));
                continue;
            };
            layers.push(match (repo.blobs.get(&digest), state) {
                (Some(_), LayerState::Failing) => {
                    failures.push(failure(text, "MissingLayerDigest", "Layer not found"));
                    continue;
                }
                (Some(_), LayerState::Archived | LayerState::ArchivedAndKept) => {
                    json!({"layerDigest": text, "layerAvailability": "ARCHIVED"})
                }
                (Some(blob), LayerState::Available) => json!({
                    "layerDigest": text, "layerAvailability": "AVAILABLE", "layerSize": blob.size(),
                    "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                }),
                (None, _) => json!({"layerDigest": text, "layerAvailability": "UNAVAILABLE"}),
            });
        }
    })?;
    Ok(json!({"layers": layers, "failures": failures}))
}

pub(super) fn initiate(call: &Call<'_>) -> Outcome {
    let name = call.name()?;
    call.look(&name, |_| ())?;
    let id = call.registry.begin_upload(&name)?;
    Ok(json!({"uploadId": id, "partSize": LARGEST_PART}))
}

/// Borrows the session of a call.
fn feed<'a>(call: &'a Call<'_>) -> Result<Feed<'a>, Exception> {
    let (registry, name, id) = (call.registry, call.name()?, call.required("uploadId"));
    call.look(&name, |_| ())?;
    let feed = registry.store.feed(&name, id, registry.rules(|rules| rules.interrupted));
    feed.map_err(|no_session| match no_session {
        NoSession::Unknown => Refusal::no_session(id, &name, &registry.account).into(),
        NoSession::Busy(received) => invalid_part(call, WrongOffset { stated: received, expected: received + 1 }),
    })
}

fn invalid_part(call: &Call<'_>, wrong: WrongOffset) -> Exception {
    let id = call.required("uploadId");
    let members = json!({
        "registryId": call.registry.account, "repositoryName": call.required("repositoryName"), "uploadId": id,
        "lastValidByteReceived": wrong.expected.saturating_sub(1),
    });
    Exception { members, ..Exception::new("InvalidLayerPartException", wrong.to_string()) }
}

pub(super) fn upload(call: &Call<'_>) -> Outcome {
    let name = call.name()?;
    let [first, last] = ["partFirstByte", "partLastByte"].map(|end| call.input[end].as_u64().unwrap_or_default());
    let invalid = |_| Exception::new("SerializationException", "The layer part is not in base64");
    let bytes = BASE64_STANDARD.decode(call.required("layerPartBlob")).map_err(invalid)?;
    let length = bytes.len() as u64;
    // https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html
    if length > LARGEST_PART {
        let constraint = format!("Member must have length less than or equal to {LARGEST_PART}");
        return Err(Exception::parameter("layerPartBlob", &constraint));
    }
    if first.checked_add(length) != last.checked_add(1) {
        return Err(Exception::parameter("partLastByte", "Layer part size must match the range of its bytes"));
    }
    let mut feed = feed(call)?;
    feed.upload()?.expects(Some(first)).map_err(|wrong| invalid_part(call, wrong))?;
    feed.write(Bytes::from(bytes), call.registry.rules(|rules| rules.space))?;
    feed.end_part(length)?;
    Ok(call.about(&name, json!({"uploadId": call.required("uploadId"), "lastByteReceived": last})))
}

pub(super) fn complete(call: &Call<'_>) -> Outcome {
    let (registry, name, id, mut feed) = (call.registry, call.name()?, call.required("uploadId"), feed(call)?);
    let digests: Vec<String> = call.member("layerDigests")?;
    let digests: Vec<Digest> = digests.iter().filter_map(|digest| digest.parse().ok()).collect();
    let parts = registry.rules(|rules| rules.parts.clone());
    let upload = feed.upload()?;
    let other = |digest: &&Digest| upload.check(digest, &parts) != Err(Incomplete::OtherDigest);
    let digest = digests.iter().find(other);
    let digest = digest.ok_or_else(|| blobs::incomplete(registry, &name, id, Incomplete::OtherDigest))?;
    let is_known = call.look(&name, |repo| repo.blobs.contains_key(digest))?;
    feed.complete(digest, &parts)?.map_err(|why| blobs::incomplete(registry, &name, id, why))?;
    if is_known {
        return Err(blobs::exists(registry, &name, digest).into());
    }
    Ok(call.about(&name, json!({"uploadId": id, "layerDigest": digest})))
}

/// Layers of no image cannot be downloaded
/// (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetDownloadUrlForLayer.html>).
pub(super) fn download_url(call: &Call<'_>) -> Outcome {
    let (registry, name, text) = (call.registry, call.name()?, call.required("layerDigest"));
    let found = call.look(&name, |repo| {
        let digest: Digest = text.parse().ok()?;
        let blob = repo.blobs.get(&digest).filter(|blob| !matches!(blob, Blob::Discarded(_)));
        blob.map(|_| (digest, repo.images.values().any(|image| image.facts.blobs.contains(&digest))))
    })?;
    let place = call.place(&name);
    match found {
        Some((digest, true)) => Ok(
            json!({"downloadUrl": bucket::signed_url(registry, call.exchange, &name, &digest), "layerDigest": Value::from(text)}),
        ),
        Some((_, false)) => {
            let message = format!("The layer with digest '{text}' in {place} is not associated with an image");
            Err(Exception::new("LayerInaccessibleException", message))
        }
        None => {
            let message = format!("The layer with digest '{text}' does not exist in {place}");
            Err(Exception::new("LayersNotFoundException", message))
        }
    }
}
