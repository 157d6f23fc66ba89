//! The registry's face, continued: uploads and blobs.

use axum::http::{StatusCode, header};
use axum::response::Response;

use super::exchange::Exchange;
use super::refusal::Refusal;
use super::route::query_value;
use super::rules::{Absent, BlobMounting, ClosedTwice, CreationTemplate, LayerState, Locations, Parts, UploadStatus};
use super::store::{Feed, NoSession};
use super::upload::{Blob, Incomplete, LARGEST_PART, Upload, WrongOffset};
use super::{Registry, answer, api, bucket, empty, set};
use crate::oci::{Digest, Repository};

/// `POST .../blobs/uploads/`: opens a session. There is no `Docker-Upload-UUID` in the answer
/// (<https://github.com/distribution/distribution/issues/2927>).
///
/// `?digest=` with a whole blob is taken for a plain start, which the specification allows; nobody saw ECR do more.
pub(super) fn begin(registry: &Registry, exchange: &Exchange, name: &Repository) -> Result<Response, Refusal> {
    if registry.store.look(name, |_| ()).is_none() {
        match (template(registry, name), registry.rules(|rules| rules.absent_repository)) {
            (Some(template), _) => {
                registry.store.create(name, api::settings_of_template(&template))?;
            }
            (None, Absent::NameUnknown) => return Err(Refusal::absent(name, &registry.account)),
            (None, Absent::HangUp) => return Err(Refusal::HangUp),
        }
    }
    if let Some(digest) = mount(registry, exchange, name)? {
        return Ok(completed(registry, exchange, name, &digest));
    }
    let id = registry.begin_upload(name)?;
    let mut response = empty(StatusCode::ACCEPTED);
    set(&mut response, "location", location(registry, exchange, name, &format!("uploads/{id}")));
    let is_quay = registry.rules(|rules| rules.upload_status) == UploadStatus::Counted;
    set(&mut response, "range", if is_quay { "bytes=0--1" } else { "0-0" });
    if let Parts::AtLeast(least) = registry.rules(|rules| rules.parts.clone()) {
        set(&mut response, "oci-chunk-min-length", least.to_string());
    }
    Ok(response)
}

/// The template by which a push creates a repository: that with the longest prefix.
fn template(registry: &Registry, name: &Repository) -> Option<CreationTemplate> {
    let templates = registry.templates().into_iter();
    let on_push = templates.filter(|template| template.applied_for.iter().any(|it| it == "CREATE_ON_PUSH"));
    let fits = on_push.filter_map(|template| Some((template.fit(name.as_str())?, template)));
    fits.max_by_key(|(fit, _)| *fit).map(|(_, template)| template)
}

/// Tries what `?mount=` asks for. Where it can't be done, the request is a plain start.
fn mount(registry: &Registry, exchange: &Exchange, name: &Repository) -> Result<Option<Digest>, Refusal> {
    let value = |key| query_value(exchange.uri.query(), key);
    let digest = value("mount").and_then(|digest| digest.parse::<Digest>().ok());
    let from = value("from").and_then(|from| from.parse::<Repository>().ok());
    let (Some(digest), Some(from)) = (digest, from) else { return Ok(None) };
    if let BlobMounting::Refused { status, code } = registry.rules(|rules| rules.blob_mounting.clone()) {
        return Err(Refusal::new(answer::status_of(status), &code, "This registry mounts no blobs"));
    }
    let is_mounted = registry.setting("BLOB_MOUNTING").as_deref() == Some("ENABLED")
        && registry.permit("ecr:GetDownloadUrlForLayer", &from).is_ok()
        && registry.store.mount(&digest, &from, name)?;
    Ok(is_mounted.then_some(digest))
}

/// Where `rest` is below the repository's blobs, by the host that the client asked.
fn location(registry: &Registry, exchange: &Exchange, name: &Repository, rest: &str) -> String {
    let host = exchange.host(registry.server.address);
    let path = format!("/v2/{name}/blobs/{rest}");
    match (registry.rules(|rules| rules.locations), rest.strip_prefix("uploads/")) {
        (Locations::Absolute, _) | (Locations::Query, None) => format!("http://{host}{path}"),
        (Locations::Path, _) => path,
        (Locations::Query, Some(id)) => format!("http://{host}{path}?_state={}", registry.server.logins.sign(id)),
        // Requests about uploads all lie in one folder.
        (Locations::Relative, Some(id)) => id.to_owned(),
        (Locations::Relative, None) => format!("../{rest}"),
    }
}

/// Borrows a session.
fn feed<'a>(registry: &'a Registry, exchange: &Exchange, name: &Repository, id: &str) -> Result<Feed<'a>, Refusal> {
    registry.look(name, |_| ())?;
    let (interrupted, locations) = registry.rules(|rules| (rules.interrupted, rules.locations));
    let state = query_value(exchange.uri.query(), "_state");
    if locations == Locations::Query && state.as_deref() != Some(registry.server.logins.sign(id).as_str()) {
        return Err(Refusal::no_session(id, name, &registry.account));
    }
    registry.store.feed(name, id, interrupted).map_err(|no_session| match no_session {
        NoSession::Unknown => Refusal::no_session(id, name, &registry.account),
        // Another request is still at it, so whatever this one has does not follow.
        NoSession::Busy(received) => WrongOffset { stated: received, expected: received + 1 }.into(),
    })
}

/// `PATCH`: adds to a session.
///
/// ECR answers 201 where the specification has 202, and keeps doing so because clients count on it
/// (<https://github.com/aws/containers-roadmap/issues/2831>). Its `Range` stays at the end of the first part, however
/// much more came (<https://github.com/crashappsec/chalk/pull/682>).
pub(super) async fn add(
    registry: &Registry,
    exchange: &mut Exchange,
    name: &Repository,
    id: &str,
) -> Result<Response, Refusal> {
    let mut feed = feed(registry, exchange, name, id)?;
    let parts = registry.rules(|rules| rules.parts.clone());
    receive(registry, exchange, &mut feed, &parts).await?;
    let (status, received) = match parts {
        Parts::Ecr => (StatusCode::CREATED, feed.upload()?.first_part),
        _ => (StatusCode::ACCEPTED, feed.upload()?.received),
    };
    let last = received.saturating_sub(1);
    drop(feed);
    let mut response = empty(status);
    set(&mut response, "location", location(registry, exchange, name, &format!("uploads/{id}")));
    set(&mut response, "range", format!("0-{last}"));
    Ok(response)
}

/// `PUT ?digest=`: adds the last bytes, if there are any, and makes a blob of the session.
pub(super) async fn complete(
    registry: &Registry,
    exchange: &mut Exchange,
    name: &Repository,
    id: &str,
) -> Result<Response, Refusal> {
    let digest = query_value(exchange.uri.query(), "digest").unwrap_or_default();
    let invalid = |_| Refusal::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "Invalid digest");
    let digest: Digest = digest.parse().map_err(invalid)?;
    if exchange.announces_body() {
        registry.permit("ecr:UploadLayerPart", name)?;
    }
    let twice = registry.rules(|rules| rules.closed_twice);
    if twice == ClosedTwice::Created && registry.store.closed(name, id) == Some(digest) {
        return Ok(completed(registry, exchange, name, &digest));
    }
    let parts = registry.rules(|rules| rules.parts.clone());
    let mut feed = feed(registry, exchange, name, id)?;
    if exchange.announces_body() {
        receive(registry, exchange, &mut feed, &parts).await?;
    } else if feed.upload()?.is_spoiled() {
        feed.upload()?.expects(None)?;
    }
    let is_kept = registry.rules(|rules| rules.layers == LayerState::ArchivedAndKept)
        && registry.look(name, |repo| repo.blobs.contains_key(&digest))?;
    feed.complete(&digest, &parts)?.map_err(|why| incomplete(registry, name, id, why))?;
    if is_kept {
        return Err(exists(registry, name, &digest));
    }
    Ok(completed(registry, exchange, name, &digest))
}

/// The messages are those of CompleteLayerUpload
/// (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CompleteLayerUpload.html>).
pub(super) fn incomplete(registry: &Registry, name: &Repository, id: &str, why: Incomplete) -> Refusal {
    match why {
        Incomplete::Empty => Refusal::upload(format!(
            "The upload with id '{id}' in the repository with name '{name}' in registry with id '{}' cannot be \
             completed because it does not have any parts.",
            registry.account
        ))
        .raises("EmptyUploadException"),
        Incomplete::PartTooSmall => Refusal::upload("All layer parts except the last part should be at least 5MB")
            .raises("LayerPartTooSmallException"),
        Incomplete::OtherDigest => {
            Refusal::upload("None of the provided layer digests match the calculated layer digest")
                .raises("InvalidLayerException")
        }
    }
}

/// The layer is in the repository already.
pub(super) fn exists(registry: &Registry, name: &Repository, digest: &Digest) -> Refusal {
    let account = &registry.account;
    Refusal::upload(format!(
        "The layer with digest '{digest}' already exists in the repository with name '{name}' in registry with id \
         '{account}'"
    ))
    .raises("LayerAlreadyExistsException")
}

fn completed(registry: &Registry, exchange: &Exchange, name: &Repository, digest: &Digest) -> Response {
    let mut response = empty(StatusCode::CREATED);
    set(&mut response, "location", location(registry, exchange, name, &digest.to_string()));
    set(&mut response, "docker-content-digest", digest.to_string());
    response
}

/// Reads `START-END`: the first byte, and the length. That is the form of the specification, without the `bytes` of HTTP
/// (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-a-blob-in-chunks>).
fn content_range(exchange: &Exchange, parts: &Parts) -> Result<Option<(u64, u64)>, Refusal> {
    if !exchange.headers.contains_key(header::CONTENT_RANGE) {
        return Ok(None);
    }
    let text = exchange.header(header::CONTENT_RANGE).unwrap_or_default();
    let ends = text.split_once('-').and_then(|(start, end)| Some((digits(start)?, digits(end)?)));
    let range = ends.and_then(|(start, end)| Some((start, end.checked_sub(start)?.checked_add(1)?)));
    let (start, length) = range.ok_or_else(|| Refusal::upload(format!("Invalid Content-Range '{text}'")))?;
    // That ECR refuses it is known (https://github.com/dotnet/sdk-container-builds/issues/424), its words are not.
    if *parts == Parts::Ecr && length > LARGEST_PART {
        return Err(Refusal::upload(format!("The layer part has {length} bytes, and 10MB is the most")));
    }
    match exchange.header(header::CONTENT_LENGTH) {
        Some(stated) if digits(stated.trim()) != Some(length) => Err(other_length(text)),
        _ => Ok(Some((start, length))),
    }
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn other_length(range: &str) -> Refusal {
    Refusal::upload(format!("The Content-Range '{range}' does not have the length of the body"))
}

/// What the registry has against a body for that session, whatever is in it.
fn object(exchange: &Exchange, upload: &Upload, parts: &Parts) -> Result<(), Refusal> {
    match parts {
        Parts::Refused { status, code } if exchange.headers.contains_key(header::CONTENT_RANGE) || upload.is_begun => {
            Err(Refusal::new(answer::status_of(*status), code, "This registry takes no blobs in parts"))
        }
        Parts::AtLeast(least) if (1..*least).contains(&upload.last_part) => {
            // The table of the reference registry has nothing closer.
            let message = format!("The part before this one has {} bytes, and {least} is the least", upload.last_part);
            Err(Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", message))
        }
        _ => Ok(()),
    }
}

/// Takes a body into a session.
async fn receive(
    registry: &Registry,
    exchange: &mut Exchange,
    feed: &mut Feed<'_>,
    parts: &Parts,
) -> Result<(), Refusal> {
    object(exchange, feed.upload()?, parts)?;
    let range = content_range(exchange, parts)?;
    feed.upload()?.expects(range.map(|(start, _)| start))?;
    // Where the length is known, so is what becomes of it; otherwise the disk fills up in the middle.
    let length = exchange.header(header::CONTENT_LENGTH).and_then(|length| digits(length.trim()));
    let length = range.map(|(_, length)| length).or(length).unwrap_or_default();
    feed.check_room(length, registry.rules(|rules| rules.space))?;
    let before = feed.upload()?.received;
    feed.begin_part();
    while let Some(piece) = exchange.piece().await {
        let Ok(piece) = piece else { return Err(Refusal::HangUp) };
        let upload = feed.upload()?;
        let after = upload.received - before + piece.len() as u64;
        if range.is_some_and(|(_, length)| after > length) {
            return Err(other_length(exchange.header(header::CONTENT_RANGE).unwrap_or_default()));
        }
        feed.write(piece, registry.rules(|rules| rules.space))?;
    }
    let length = feed.upload()?.received - before;
    if range.is_some_and(|(_, stated)| length != stated) {
        return Err(other_length(exchange.header(header::CONTENT_RANGE).unwrap_or_default()));
    }
    Ok(feed.end_part(length)?)
}

/// `GET` on a session: how much arrived, where the rules let it be asked.
pub(super) fn status(
    registry: &Registry,
    exchange: &Exchange,
    name: &Repository,
    id: &str,
) -> Result<Response, Refusal> {
    let status = registry.rules(|rules| rules.upload_status);
    if status == UploadStatus::Unknown {
        return Err(Refusal::no_session(id, name, &registry.account));
    }
    let mut feed = feed(registry, exchange, name, id)?;
    let upload = feed.upload()?;
    let bytes = if status == UploadStatus::Stuck { upload.first_part } else { upload.received };
    if upload.is_spoiled() {
        return Err(Refusal::no_session(id, name, &registry.account));
    }
    let mut response = empty(StatusCode::NO_CONTENT);
    set(&mut response, "location", location(registry, exchange, name, &format!("uploads/{id}")));
    let range = match status {
        UploadStatus::Counted => format!("bytes=0-{bytes}"),
        _ => format!("0-{}", bytes.saturating_sub(1)),
    };
    set(&mut response, "range", range);
    Ok(response)
}

/// `DELETE`: drops a session. Undocumented on ECR, and harmless.
pub(super) fn cancel(registry: &Registry, name: &Repository, id: &str) -> Result<Response, Refusal> {
    registry.look(name, |_| ())?;
    if registry.store.cancel_upload(name, id) {
        Ok(empty(StatusCode::NO_CONTENT))
    } else {
        Err(Refusal::no_session(id, name, &registry.account))
    }
}

pub(super) fn find(registry: &Registry, name: &Repository, digest: &str) -> Result<(Digest, Blob), Refusal> {
    let unknown = || Refusal::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "blob unknown to registry");
    let blob = registry.look(name, |repo| {
        let digest: Digest = digest.parse().ok()?;
        Some((digest, repo.blobs.get(&digest)?.clone()))
    })?;
    blob.ok_or_else(unknown)
}

/// `HEAD` on a blob. One that no image refers to yet counts as there.
pub(super) fn head(registry: &Registry, name: &Repository, digest: &str) -> Result<Response, Refusal> {
    let (digest, blob) = find(registry, name, digest)?;
    // The same question as BatchCheckLayerAvailability.
    if registry.rules(|rules| rules.layers) != LayerState::Available {
        return Err(Refusal::Silent(StatusCode::NOT_FOUND));
    }
    let mut response = empty(StatusCode::OK);
    set(&mut response, "content-length", blob.size().to_string());
    set(&mut response, "content-type", "application/octet-stream");
    set(&mut response, "docker-content-digest", digest.to_string());
    Ok(response)
}

/// `GET` on a blob: ECR sends its clients to S3, with a signed URL that must not be asked with ECR's credentials
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html#ecr-minimum-s3-perms>).
pub(super) fn redirect(
    registry: &Registry,
    exchange: &Exchange,
    name: &Repository,
    digest: &str,
) -> Result<Response, Refusal> {
    let (digest, blob) = find(registry, name, digest)?;
    if let Blob::Discarded(size) = blob {
        let message = format!("The sandbox discarded the {size} bytes of this blob, as configured");
        return Err(Refusal::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", message));
    }
    let mut response = empty(StatusCode::TEMPORARY_REDIRECT);
    set(&mut response, "location", bucket::signed_url(registry, exchange, name, &digest));
    Ok(response)
}
