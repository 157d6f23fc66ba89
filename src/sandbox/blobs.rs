//! The registry's face, continued: uploads, blobs, and the bucket that downloads come from.

use std::fs::File;
use std::io::Read as _;
use std::sync::atomic::Ordering;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::Response;
use futures_util::stream;

use super::exchange::{Ending, Exchange};
use super::faults::Trouble;
use super::refusal::Refusal;
use super::repository::{Mutability, Settings};
use super::route::query_value;
use super::rules::{Absent, BlobMounting, ClosedTwice, CreationTemplate, LayerState, Locations, Parts, UploadStatus};
use super::store::{Feed, NoSession};
use super::upload::{Blob, Incomplete, LARGEST_PART, Upload};
use super::{Server, empty, reply, set};
use crate::oci::{Digest, Repository};

/// What requests to the bucket are called in the log.
pub(super) const BUCKET_OPERATION: &str = "s3:GetObject";

/// `POST .../blobs/uploads/`: opens a session. There is no `Docker-Upload-UUID` in the answer
/// (<https://github.com/distribution/distribution/issues/2927>).
///
/// `?digest=` with a whole blob is taken for a plain start, which the specification allows; nobody saw ECR do more.
pub(super) fn begin(server: &Server, exchange: &Exchange, name: &Repository) -> Result<Response, Refusal> {
    if server.store.look(name, |_| ()).is_none() {
        match (template(server, name), server.rules(|rules| rules.absent_repository)) {
            (Some(template), _) => {
                let mutability = if template.immutable { Mutability::Immutable } else { Mutability::default() };
                server.store.create(name, Settings { mutability, ..Settings::default() })?;
            }
            (None, Absent::NameUnknown) => return Err(Refusal::absent(name, &server.account)),
            (None, Absent::HangUp) => return Err(Refusal::HangUp),
        }
    }
    let mut response = empty(StatusCode::ACCEPTED);
    if let Some(digest) = mount(server, exchange, name)? {
        *response.status_mut() = StatusCode::CREATED;
        set(&mut response, "location", location(server, exchange, name, &digest.to_string()));
        set(&mut response, "docker-content-digest", digest.to_string());
        return Ok(response);
    }
    let id = server.store.begin_upload(name)?;
    set(&mut response, "location", location(server, exchange, name, &format!("uploads/{id}")));
    let is_quay = server.rules(|rules| rules.upload_status) == UploadStatus::Counted;
    set(&mut response, "range", if is_quay { "bytes=0--1" } else { "0-0" });
    if let Parts::AtLeast(least) = server.rules(|rules| rules.parts.clone()) {
        set(&mut response, "oci-chunk-min-length", least.to_string());
    }
    Ok(response)
}

/// The template by which a push creates a repository: that with the longest prefix.
fn template(server: &Server, name: &Repository) -> Option<CreationTemplate> {
    server.rules(|rules| {
        let on_push =
            rules.templates.iter().filter(|template| template.applied_for.iter().any(|it| it == "CREATE_ON_PUSH"));
        on_push
            .filter_map(|template| Some((template.fit(name.as_str())?, template)))
            .max_by_key(|(fit, _)| *fit)
            .map(|(_, template)| template.clone())
    })
}

/// Tries what `?mount=` asks for. Where it can't be done, the request is a plain start.
fn mount(server: &Server, exchange: &Exchange, name: &Repository) -> Result<Option<Digest>, Refusal> {
    let value = |key| query_value(exchange.uri.query(), key);
    let digest = value("mount").and_then(|digest| digest.parse::<Digest>().ok());
    let from = value("from").and_then(|from| from.parse::<Repository>().ok());
    let (Some(digest), Some(from)) = (digest, from) else { return Ok(None) };
    match server.rules(|rules| rules.blob_mounting.clone()) {
        BlobMounting::Disabled => Ok(None),
        BlobMounting::Enabled => {
            let is_mounted = server.permit("ecr:GetDownloadUrlForLayer", &from).is_ok()
                && server.store.mount(&digest, &from, name)?;
            Ok(is_mounted.then_some(digest))
        }
        BlobMounting::Refused { status, code } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::METHOD_NOT_ALLOWED);
            Err(Refusal::new(status, &code, "This registry mounts no blobs"))
        }
    }
}

/// Where `rest` is below the repository's blobs, by the host that the client asked.
fn location(server: &Server, exchange: &Exchange, name: &Repository, rest: &str) -> String {
    let address = server.address.to_string();
    let host = exchange.header(header::HOST).unwrap_or(&address);
    let path = format!("/v2/{name}/blobs/{rest}");
    match (server.rules(|rules| rules.locations), rest.strip_prefix("uploads/")) {
        (Locations::Absolute, _) | (Locations::Query, None) => format!("http://{host}{path}"),
        (Locations::Path, _) => path,
        (Locations::Query, Some(id)) => format!("http://{host}{path}?_state={}", server.store.sign(id)),
        // Requests about uploads all lie in one folder.
        (Locations::Relative, Some(id)) => id.to_owned(),
        (Locations::Relative, None) => format!("../{rest}"),
    }
}

/// Borrows a session.
fn feed<'a>(server: &'a Server, exchange: &Exchange, name: &Repository, id: &str) -> Result<Feed<'a>, Refusal> {
    server.look(name, |_| ())?;
    let (interrupted, locations) = server.rules(|rules| (rules.interrupted, rules.locations));
    let state = query_value(exchange.uri.query(), "_state");
    if locations == Locations::Query && state.as_deref() != Some(server.store.sign(id).as_str()) {
        return Err(Refusal::no_session(id, name, &server.account));
    }
    server.store.feed(name, id, interrupted).map_err(|no_session| match no_session {
        NoSession::Unknown => Refusal::no_session(id, name, &server.account),
        // Another request is still at it, so whatever this one has does not follow.
        NoSession::Busy(received) => Refusal::wrong_offset(received, received + 1),
    })
}

/// `PATCH`: adds to a session.
///
/// ECR answers 201 where the specification has 202, and keeps doing so because clients count on it
/// (<https://github.com/aws/containers-roadmap/issues/2831>). Its `Range` stays at the end of the first part, however
/// much more came (<https://github.com/crashappsec/chalk/pull/682>).
pub(super) async fn add(
    server: &Server,
    exchange: &mut Exchange,
    name: &Repository,
    id: &str,
) -> Result<Response, Refusal> {
    let mut feed = feed(server, exchange, name, id)?;
    let parts = server.rules(|rules| rules.parts.clone());
    feed = receive(server, exchange, feed, &parts).await?;
    let (status, received) = match parts {
        Parts::Ecr => (StatusCode::CREATED, feed.upload()?.first_part()),
        _ => (StatusCode::ACCEPTED, feed.upload()?.received()),
    };
    let last = received.saturating_sub(1);
    feed.release();
    let mut response = empty(status);
    set(&mut response, "location", location(server, exchange, name, &format!("uploads/{id}")));
    set(&mut response, "range", format!("0-{last}"));
    Ok(response)
}

/// `PUT ?digest=`: adds the last bytes, if there are any, and makes a blob of the session.
pub(super) async fn complete(
    server: &Server,
    exchange: &mut Exchange,
    name: &Repository,
    id: &str,
) -> Result<Response, Refusal> {
    let digest = query_value(exchange.uri.query(), "digest").unwrap_or_default();
    let invalid = |_| Refusal::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "Invalid digest");
    let digest: Digest = digest.parse().map_err(invalid)?;
    if exchange.announces_body() {
        server.permit("ecr:UploadLayerPart", name)?;
    }
    let twice = server.rules(|rules| rules.closed_twice);
    if twice == ClosedTwice::Created && server.store.closed(name, id) == Some(digest) {
        return Ok(completed(server, exchange, name, &digest));
    }
    let parts = server.rules(|rules| rules.parts.clone());
    let mut feed = feed(server, exchange, name, id)?;
    if exchange.announces_body() {
        feed = receive(server, exchange, feed, &parts).await?;
    } else if feed.upload()?.is_spoiled() {
        let spoiled = feed.upload()?.expects(None);
        feed.release();
        return Err(
            spoiled.map_or_else(|wrong| Refusal::wrong_offset(wrong.stated, wrong.expected), |()| Refusal::HangUp)
        );
    }
    let is_kept = server.rules(|rules| rules.layers == LayerState::ArchivedAndKept)
        && server.look(name, |repo| repo.blobs.contains_key(&digest))?;
    // The messages are those of CompleteLayerUpload
    // (https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CompleteLayerUpload.html).
    feed.complete(&digest, &parts)?.map_err(|incomplete| match incomplete {
        Incomplete::Empty => Refusal::upload(format!(
            "The upload with id '{id}' in the repository with name '{name}' in registry with id '{}' cannot be \
             completed because it does not have any parts.",
            server.account
        )),
        Incomplete::PartTooSmall => Refusal::upload("All layer parts except the last part should be at least 5MB"),
        Incomplete::OtherDigest => {
            Refusal::upload("None of the provided layer digests match the calculated layer digest")
        }
    })?;
    if is_kept {
        let account = &server.account;
        return Err(Refusal::upload(format!(
            "The layer with digest '{digest}' already exists in the repository with name '{name}' in registry with id \
             '{account}'"
        )));
    }
    Ok(completed(server, exchange, name, &digest))
}

fn completed(server: &Server, exchange: &Exchange, name: &Repository, digest: &Digest) -> Response {
    let mut response = empty(StatusCode::CREATED);
    set(&mut response, "location", location(server, exchange, name, &digest.to_string()));
    set(&mut response, "docker-content-digest", digest.to_string());
    response
}

/// Where a body says it belongs.
#[derive(Clone, Copy)]
struct ContentRange {
    start: u64,
    length: u64,
}

/// Reads `START-END`. That is the form of the specification, without the `bytes` of HTTP
/// (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-a-blob-in-chunks>).
fn content_range(exchange: &Exchange, parts: &Parts) -> Result<Option<ContentRange>, Refusal> {
    if !exchange.headers.contains_key(header::CONTENT_RANGE) {
        return Ok(None);
    }
    let text = exchange.header(header::CONTENT_RANGE).unwrap_or_default();
    let ends = text.split_once('-').and_then(|(start, end)| Some((digits(start)?, digits(end)?)));
    let range =
        ends.and_then(|(start, end)| Some(ContentRange { start, length: end.checked_sub(start)?.checked_add(1)? }));
    let range = range.ok_or_else(|| Refusal::upload(format!("Invalid Content-Range '{text}'")))?;
    // That ECR refuses it is known (https://github.com/dotnet/sdk-container-builds/issues/424), its words are not.
    if *parts == Parts::Ecr && range.length > LARGEST_PART {
        return Err(Refusal::upload(format!("The layer part has {} bytes, and 10MB is the most", range.length)));
    }
    match exchange.header(header::CONTENT_LENGTH) {
        Some(length) if digits(length.trim()) != Some(range.length) => Err(other_length(text)),
        _ => Ok(Some(range)),
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
        Parts::Refused { status, code }
            if exchange.headers.contains_key(header::CONTENT_RANGE) || upload.is_begun() =>
        {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::METHOD_NOT_ALLOWED);
            Err(Refusal::new(status, code, "This registry takes no blobs in parts"))
        }
        Parts::AtLeast(least) if (1..*least).contains(&upload.last_part()) => {
            Err(Refusal::small_part(upload.last_part(), *least))
        }
        _ => Ok(()),
    }
}

/// Takes a body into a session.
async fn receive<'a>(
    server: &Server,
    exchange: &mut Exchange,
    mut feed: Feed<'a>,
    parts: &Parts,
) -> Result<Feed<'a>, Refusal> {
    let range = object(exchange, feed.upload()?, parts).and_then(|()| content_range(exchange, parts));
    let range = match range {
        Ok(range) => range,
        Err(refusal) => {
            feed.release();
            return Err(refusal);
        }
    };
    if let Err(wrong) = feed.upload()?.expects(range.map(|range| range.start)) {
        feed.release();
        return Err(Refusal::wrong_offset(wrong.stated, wrong.expected));
    }
    // Where the length is known, so is what becomes of it; otherwise the disk fills up in the middle.
    let length = exchange.header(header::CONTENT_LENGTH).and_then(|length| digits(length.trim()));
    let length = range.map(|range| range.length).or(length).unwrap_or_default();
    if let Err(full) = feed.check_room(length, server.rules(|rules| rules.space)) {
        feed.release();
        return Err(full.into());
    }
    let before = feed.upload()?.received();
    // Returning early from here on drops the session as cut.
    while let Some(piece) = exchange.piece().await {
        let Ok(piece) = piece else { return Err(Refusal::HangUp) };
        let upload = feed.upload()?;
        let after = upload.received() - before + piece.len() as u64;
        if range.is_some_and(|range| after > range.length) {
            return Err(other_length(exchange.header(header::CONTENT_RANGE).unwrap_or_default()));
        }
        feed.write(piece, server.rules(|rules| rules.space))?;
    }
    let upload = feed.upload()?;
    let length = upload.received() - before;
    if range.is_some_and(|range| length != range.length) {
        return Err(other_length(exchange.header(header::CONTENT_RANGE).unwrap_or_default()));
    }
    upload.end_part(length);
    Ok(feed)
}

/// `GET` on a session: how much arrived, where the rules let it be asked.
pub(super) fn status(server: &Server, exchange: &Exchange, name: &Repository, id: &str) -> Result<Response, Refusal> {
    let status = server.rules(|rules| rules.upload_status);
    if status == UploadStatus::Unknown {
        return Err(Refusal::no_session(id, name, &server.account));
    }
    let mut feed = feed(server, exchange, name, id)?;
    let upload = feed.upload()?;
    let bytes = if status == UploadStatus::Stuck { upload.first_part() } else { upload.received() };
    let spoiled = upload.is_spoiled();
    feed.release();
    if spoiled {
        return Err(Refusal::no_session(id, name, &server.account));
    }
    let mut response = empty(StatusCode::NO_CONTENT);
    set(&mut response, "location", location(server, exchange, name, &format!("uploads/{id}")));
    let range = match status {
        UploadStatus::Counted => format!("bytes=0-{bytes}"),
        _ => format!("0-{}", bytes.saturating_sub(1)),
    };
    set(&mut response, "range", range);
    Ok(response)
}

/// `DELETE`: drops a session. Undocumented on ECR, and harmless.
pub(super) fn cancel(server: &Server, name: &Repository, id: &str) -> Result<Response, Refusal> {
    server.look(name, |_| ())?;
    if server.store.cancel_upload(name, id) {
        Ok(empty(StatusCode::NO_CONTENT))
    } else {
        Err(Refusal::no_session(id, name, &server.account))
    }
}

fn find(server: &Server, name: &Repository, digest: &str) -> Result<(Digest, Blob), Refusal> {
    let unknown = || Refusal::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "blob unknown to registry");
    let blob = server.look(name, |repo| {
        let digest: Digest = digest.parse().ok()?;
        Some((digest, repo.blobs.get(&digest)?.clone()))
    })?;
    blob.ok_or_else(unknown)
}

/// `HEAD` on a blob. One that no image refers to yet counts as there.
pub(super) fn head(server: &Server, name: &Repository, digest: &str) -> Result<Response, Refusal> {
    let (digest, blob) = find(server, name, digest)?;
    // The same question as BatchCheckLayerAvailability.
    if server.rules(|rules| rules.layers) != LayerState::Available {
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
pub(super) fn redirect(server: &Server, name: &Repository, digest: &str) -> Result<Response, Refusal> {
    let (digest, blob) = find(server, name, digest)?;
    if let Blob::Discarded(size) = blob {
        let message = format!("The sandbox discarded the {size} bytes of this blob, as configured");
        return Err(Refusal::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", message));
    }
    let object = format!("/blob/{name}/{digest}");
    let signature = server.store.sign(&object);
    let mut response = empty(StatusCode::TEMPORARY_REDIRECT);
    set(&mut response, "location", format!("http://{}{object}?X-Amz-Signature={signature}", server.bucket));
    Ok(response)
}

/// The bucket: whoever has a signed URL gets the object, unless they show credentials that are none of its business.
pub(super) async fn serve_bucket(server: &Server, exchange: &mut Exchange) -> Response {
    if exchange.headers.contains_key(header::AUTHORIZATION) {
        server.leaked.fetch_add(1, Ordering::SeqCst);
        let message = "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query \
                       string parameter or the Authorization header should be specified";
        return refuse_object(StatusCode::BAD_REQUEST, "InvalidArgument", message);
    }
    match exchange.trouble() {
        Some(Trouble::HangUp | Trouble::Reset | Trouble::HalfClose) => return exchange.end_response(Ending::Cut),
        Some(Trouble::Stall) => exchange.stall().await,
        Some(Trouble::Status { status, code, message }) => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return refuse_object(status, code, message);
        }
        Some(Trouble::Throttle { .. }) => {
            return refuse_object(StatusCode::SERVICE_UNAVAILABLE, "SlowDown", "Please reduce your request rate.");
        }
        _ => {}
    }
    let path = exchange.uri.path();
    if query_value(exchange.uri.query(), "X-Amz-Signature").as_deref() != Some(server.store.sign(path).as_str()) {
        return refuse_object(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied");
    }
    let object = path.strip_prefix("/blob/").and_then(|object| object.rsplit_once('/'));
    let found = object.and_then(|(name, digest)| find(server, &name.parse().ok()?, digest).ok());
    let Some((_, blob)) = found else {
        return refuse_object(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist.");
    };
    let size = blob.size();
    let body = match blob {
        Blob::Memory(pieces, _) => {
            let pieces: Vec<Bytes> = pieces.to_vec();
            Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>)))
        }
        Blob::File(path, _) => match File::open(path) {
            Ok(file) => Body::from_stream(stream::iter(pieces_of(file))),
            Err(_) => return refuse_object(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "The file is gone"),
        },
        Blob::Discarded(_) => return refuse_object(StatusCode::NOT_FOUND, "NoSuchKey", "The bytes were discarded."),
    };
    let mut response = reply(StatusCode::OK, body);
    set(&mut response, "content-length", size.to_string());
    set(&mut response, "content-type", "application/octet-stream");
    response
}

/// A file in pieces, none of which is read before it is wanted.
fn pieces_of(mut file: File) -> impl Iterator<Item = std::io::Result<Bytes>> {
    const PIECE: usize = 1 << 18;
    let mut done = false;
    std::iter::from_fn(move || {
        let mut piece = vec![0; PIECE];
        let read = if done { Ok(0) } else { file.read(&mut piece) };
        done = !matches!(read, Ok(1..));
        match read {
            Ok(0) => None,
            Ok(read) => {
                piece.truncate(read);
                Some(Ok(piece.into()))
            }
            Err(error) => Some(Err(error)),
        }
    })
}

fn refuse_object(status: StatusCode, code: &str, message: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    let mut response = reply(status, body);
    set(&mut response, "content-type", "application/xml");
    response
}
