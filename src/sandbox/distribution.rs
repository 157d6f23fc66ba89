//! The registry's API: the OCI distribution API as implemented by Amazon ECR. Blobs are in `blobs.rs`.

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::exchange::{Ending, Exchange};
use super::faults::Trouble;
use super::logins::Access;
use super::manifest::{self, Sent};
use super::refusal::Refusal;
use super::repository::LARGEST_MANIFEST;
use super::route::{Route, query_value};
use super::rules::{Asks, Parts};
use super::{Registry, answer, blobs, empty, reply, set, tokens};
use crate::oci::{Digest, Repository};

/// Responds to a request to the registry.
pub(super) async fn answer(registry: &Registry, exchange: &mut Exchange, route: &Route) -> Response {
    if let Parts::AtMost(most) = registry.rules(|rules| rules.parts.clone()) {
        exchange.limit(most);
    }
    if exchange.is_too_large {
        return refuse_by_proxy();
    }
    let outcome = serve(registry, exchange, route).await;
    if exchange.is_too_large {
        return refuse_by_proxy();
    }
    let mut response = outcome.unwrap_or_else(|refusal| refuse(registry, exchange, refusal));
    set(&mut response, "docker-distribution-api-version", "registry/2.0");
    response
}

async fn serve(registry: &Registry, exchange: &mut Exchange, route: &Route) -> Result<Response, Refusal> {
    if *route == Route::Token {
        return tokens::serve(registry, exchange).await;
    }
    match tokens::asks(registry, exchange) {
        Asks::Ecr => authenticate(registry, &exchange.headers)?,
        asks => tokens::authenticate(registry, exchange, route, &asks)?,
    }
    let operation = route.operation(&exchange.method);
    let (name, last) = match route {
        Route::Check => return Ok(reply(StatusCode::OK, "")),
        Route::Catalog if operation == "ecr:DescribeRepositories" => return catalog(registry, exchange),
        Route::Catalog => return Err(unsupported()),
        Route::Unknown | Route::Token => return Err(Refusal::Silent(StatusCode::NOT_FOUND)),
        Route::Uploads(name) | Route::Tags(name) => (name, ""),
        Route::Upload(name, last)
        | Route::Blob(name, last)
        | Route::Manifest(name, last)
        | Route::Referrers(name, last) => (name, last.as_str()),
    };
    let invalid = || Refusal::new(StatusCode::BAD_REQUEST, "NAME_INVALID", "Invalid repository name");
    // https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreateRepository.html
    let name: Repository =
        name.parse().ok().filter(|name: &Repository| name.as_str().len() >= 2).ok_or_else(invalid)?;
    if registry.server.registries.any_account && tokens::asks(registry, exchange) == Asks::EcrPublic {
        registry.store.expect(&name);
    }
    if operation.starts_with("ecr:") {
        registry.permit(operation, &name)?;
    }
    match operation {
        "ecr:InitiateLayerUpload" => blobs::begin(registry, exchange, &name),
        "ecr:UploadLayerPart" => blobs::add(registry, exchange, &name, last).await,
        "ecr:CompleteLayerUpload" => blobs::complete(registry, exchange, &name, last).await,
        "v2:UploadStatus" => blobs::status(registry, exchange, &name, last),
        "v2:CancelUpload" => blobs::cancel(registry, &name, last),
        "ecr:BatchCheckLayerAvailability" => blobs::head(registry, &name, last),
        "ecr:GetDownloadUrlForLayer" => blobs::redirect(registry, exchange, &name, last),
        "ecr:BatchGetImage" if matches!(route, Route::Referrers(..)) => referrers(registry, &name, last),
        "ecr:BatchGetImage" => serve_manifest(registry, exchange, &name, last),
        "ecr:PutImage" => put_manifest(registry, exchange, &name, last).await,
        "ecr:ListImages" => list_tags(registry, exchange, &name),
        "ecr:BatchDeleteImage" => delete_manifest(registry, &name, last),
        _ => Err(unsupported()),
    }
}

fn unsupported() -> Refusal {
    Refusal::unsupported("The operation is unsupported.")
}

/// Returns the response to a request with a fault.
pub(super) fn injected(registry: &Registry, exchange: &mut Exchange, trouble: &Trouble) -> Response {
    let refusal = match trouble {
        Trouble::Status { status, code, message } => {
            let code = if code.is_empty() { code_of(*status) } else { code };
            Refusal::new(answer::status_of(*status), code, message)
        }
        Trouble::Throttle { .. } | Trouble::ThrottleUntil(_) => Refusal::Custom {
            status: StatusCode::TOO_MANY_REQUESTS,
            code: "TOOMANYREQUESTS".into(),
            message: "Rate exceeded".into(),
            retry_after: trouble.retry_after(),
            exception: "ThrottlingException",
        },
        _ => Refusal::HangUp,
    };
    refuse(registry, exchange, refusal)
}

/// Returns the error code that a status stands for where a fault names none.
fn code_of(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHORIZED",
        403 => "DENIED",
        404 => "NAME_UNKNOWN",
        405 => "UNSUPPORTED",
        _ => "UNKNOWN",
    }
}

/// Returns an error response with a request ID, as the API's responses have.
fn refuse(registry: &Registry, exchange: &mut Exchange, refusal: Refusal) -> Response {
    let mut response = match refusal {
        // The response to a HEAD has no body.
        Refusal::Custom { status, .. } if exchange.method == Method::HEAD => empty(status),
        Refusal::Custom { status, code, message, retry_after, .. } => {
            let body = json!({"errors": [{"code": code, "message": message}]});
            let mut response = answer::json(status, body.to_string());
            if let Some(when) = retry_after {
                set(&mut response, "retry-after", when);
            }
            response
        }
        Refusal::Silent(status) => empty(status),
        Refusal::Challenge => {
            // https://github.com/awslabs/amazon-ecr-credential-helper: Basic, with no token service behind it.
            let mut response = reply(StatusCode::UNAUTHORIZED, "Not Authorized\n");
            let challenge = format!("Basic realm=\"https://{}/\",service=\"ecr.amazonaws.com\"", registry.host());
            set(&mut response, "www-authenticate", challenge);
            set(&mut response, "content-type", "text/plain; charset=utf-8");
            response
        }
        Refusal::ChallengedBy(challenges) => {
            let body = json!({"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]});
            let head = exchange.method == Method::HEAD;
            let body = if head { String::new() } else { body.to_string() };
            let mut response = answer::json(StatusCode::UNAUTHORIZED, body);
            for challenge in challenges {
                if let Ok(value) = HeaderValue::from_str(&challenge) {
                    response.headers_mut().append(header::WWW_AUTHENTICATE, value);
                }
            }
            response
        }
        Refusal::HangUp => exchange.end_response(Ending::Cut),
    };
    set(&mut response, "x-amzn-requestid", registry.uuid());
    set(&mut response, "docker-distribution-api-version", "registry/2.0");
    response
}

/// The answer of a proxy in front to a body that it does not let through: nginx's page, word for word
/// (<https://github.com/nginx/nginx/blob/master/src/http/ngx_http_special_response.c>).
fn refuse_by_proxy() -> Response {
    const PAGE: &str = "<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n\
                        <center><h1>413 Request Entity Too Large</h1></center>\r\n\
                        <hr><center>nginx</center>\r\n</body>\r\n</html>\r\n";
    let mut response = reply(StatusCode::PAYLOAD_TOO_LARGE, PAGE);
    set(&mut response, "server", "nginx");
    set(&mut response, "content-type", "text/html");
    set(&mut response, "connection", "close");
    response
}

fn authenticate(registry: &Registry, headers: &HeaderMap) -> Result<(), Refusal> {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match authorization.map(|authorization| registry.server.logins.access(authorization)) {
        // A login is for the registries of its region
        // (https://docs.aws.amazon.com/AmazonECR/latest/userguide/common-errors-docker.html).
        Some(Access::Granted(login)) if login.region == registry.region => Ok(()),
        None if registry.rules(|rules| rules.anonymous) => Ok(()),
        // 403 and no challenge (https://github.com/flipt-io/flipt/issues/3043).
        Some(Access::Expired) => Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "DENIED",
            "Your authorization token has expired. Reauthenticate and try again.",
        )),
        Some(Access::Granted(_) | Access::Unknown) | None => Err(Refusal::Challenge),
    }
}

async fn put_manifest(
    registry: &Registry,
    exchange: &mut Exchange,
    name: &Repository,
    reference: &str,
) -> Result<Response, Refusal> {
    registry.look(name, |_| ())?;
    let media_type = exchange.header(header::CONTENT_TYPE).unwrap_or_default().to_owned();
    let bytes = match exchange.whole(LARGEST_MANIFEST).await {
        Ok(Some(bytes)) => Bytes::from(bytes),
        Ok(None) => {
            let constraint = "Member must have length less than or equal to 4194304";
            return Err(Refusal::parameter("imageManifest", constraint));
        }
        Err(_) => return Err(Refusal::HangUp),
    };
    let digest = Some(reference).filter(|reference| reference.contains(':'));
    let tag = if digest.is_some() { None } else { Some(manifest::tag_of(reference)?) };
    if exchange.trouble == Some(Trouble::LoseLayer) {
        let layers = serde_json::from_slice::<Value>(&bytes).unwrap_or_default()["layers"].take();
        let first = layers[0]["digest"].as_str().and_then(|digest| digest.parse::<Digest>().ok());
        registry.change(name, |repo| first.and_then(|digest| repo.blobs.remove(&digest)))?;
    }
    let sent = Sent { bytes, media_type: &media_type, digest, tag };
    let (digest, image) = manifest::put(registry, name, &sent, |_, _| Ok(()))?;
    // No Location (https://github.com/apple/swift-container-plugin/issues/27).
    let mut response = empty(StatusCode::CREATED);
    set(&mut response, "docker-content-digest", digest.to_string());
    if let Some(subject) = image.facts.subject.filter(|_| !registry.rules(|rules| rules.no_referrers)) {
        set(&mut response, "oci-subject", subject.to_string());
    }
    Ok(response)
}

fn serve_manifest(
    registry: &Registry,
    exchange: &Exchange,
    name: &Repository,
    reference: &str,
) -> Result<Response, Refusal> {
    let by_digest = reference.contains(':');
    if !by_digest && let Err(refusal) = manifest::tag_of(reference) {
        // The same tag for which a PUT gets 405.
        let head = exchange.method == Method::HEAD;
        return Err(if head { Refusal::Silent(StatusCode::BAD_REQUEST) } else { refusal });
    }
    let found = registry.look(name, |repo| {
        repo.image(reference).map(|(digest, image)| (digest, image.bytes.clone(), image.media_type.clone()))
    })?;
    let (digest, bytes, media_type) = found.ok_or_else(|| unknown_image("Requested image not found"))?;
    // By tag ECR may convert to what is accepted, by digest it never does; this never does, and says so as the
    // reference registry would (https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-manifest-formats.html).
    if !by_digest && !accepts(&exchange.headers, &media_type) {
        return Err(unknown_image("The image has a media type that the Accept header does not list"));
    }
    let length = bytes.len();
    let mut response = reply(StatusCode::OK, bytes);
    set(&mut response, "content-type", media_type);
    set(&mut response, "content-length", length.to_string());
    if exchange.method == Method::GET {
        registry.store.record_pulls(name, [digest]);
    } else {
        // GET leaves it out (https://github.com/oras-project/oras-go/issues/237).
        set(&mut response, "docker-content-digest", digest.to_string());
    }
    Ok(response)
}

fn unknown_image(message: &str) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", message)
}

fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let lines = headers.get_all(header::ACCEPT);
    let mut types = lines.iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).peekable();
    types.peek().is_none()
        || types.any(|accepted| {
            let accepted = accepted.split(';').next().unwrap_or_default().trim();
            matches!(accepted, "*/*" | "application/*") || accepted.eq_ignore_ascii_case(media_type)
        })
}

/// Returns how many results a request for a list wants.
fn page(exchange: &Exchange) -> Result<usize, Refusal> {
    match query_value(exchange.uri.query(), "n").map(|n| n.parse::<usize>()) {
        // https://github.com/genuinetools/reg/issues/206
        None => Ok(100),
        Some(Ok(limit)) if (1..=1000).contains(&limit) => Ok(limit),
        // https://github.com/google/go-containerregistry/issues/681
        Some(_) => {
            let constraint = "Member must have value less than or equal to 1000";
            Err(Refusal::parameter("maxResults", constraint))
        }
    }
}

/// Returns the response with a page of names after `last`, of which `names` has one more than the page if there are more.
fn listed(path: &str, key: &str, mut body: Value, mut names: Vec<String>, limit: usize) -> Response {
    let more = names.len() > limit;
    names.truncate(limit);
    body[key] = json!(names);
    let mut response = answer::json(StatusCode::OK, body.to_string());
    if let (true, Some(last)) = (more, names.last()) {
        set(&mut response, "link", format!("<{path}?last={last}&n={limit}>; rel=\"next\""));
    }
    response
}

fn list_tags(registry: &Registry, exchange: &Exchange, name: &Repository) -> Result<Response, Refusal> {
    let limit = page(exchange)?;
    let last = query_value(exchange.uri.query(), "last").unwrap_or_default();
    let tags = registry.look(name, |repo| {
        repo.tags.keys().filter(|tag| last.is_empty() || **tag > last).take(limit + 1).cloned().collect()
    })?;
    Ok(listed(&format!("/v2/{name}/tags/list"), "tags", json!({"name": name}), tags, limit))
}

/// Lists repositories, at most 1,000 in a page (<https://github.com/google/go-containerregistry/issues/1091>).
fn catalog(registry: &Registry, exchange: &Exchange) -> Result<Response, Refusal> {
    registry.allow("ecr:DescribeRepositories", None)?;
    let limit = page(exchange)?;
    let last = query_value(exchange.uri.query(), "last").unwrap_or_default();
    let names = registry.store.repositories().into_iter().map(|name| name.as_str().to_owned());
    let names = names.filter(|name| last.is_empty() || *name > last).take(limit + 1).collect();
    Ok(listed("/v2/_catalog", "repositories", json!({}), names, limit))
}

/// Deletes an image by digest, or a tag (<https://github.com/google/go-containerregistry/pull/1862>).
fn delete_manifest(registry: &Registry, name: &Repository, reference: &str) -> Result<Response, Refusal> {
    registry.change(name, |repo| {
        let (digest, _) = repo.any_image(reference).ok_or_else(|| unknown_image("Requested image not found"))?;
        let tag = repo.tags.contains_key(reference).then_some(reference);
        // The reason of BatchDeleteImage. Its status is not known.
        repo.delete(&digest, tag).map_err(Refusal::unsupported)
    })??;
    Ok(empty(StatusCode::ACCEPTED))
}

/// What refers to a manifest: signatures, attestations
/// (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-referrers>).
fn referrers(registry: &Registry, name: &Repository, subject: &str) -> Result<Response, Refusal> {
    if registry.rules(|rules| rules.no_referrers) {
        return Err(Refusal::Silent(StatusCode::NOT_FOUND));
    }
    let invalid = |_| Refusal::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "Invalid digest");
    let subject: Digest = subject.parse().map_err(invalid)?;
    let manifests = registry.look(name, |repo| {
        let referring = repo.images.iter().filter(|(_, image)| image.facts.subject == Some(subject));
        referring.map(|(digest, image)| image.referrer(digest)).collect::<Vec<_>>()
    })?;
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
    let mut response = reply(StatusCode::OK, index.to_string());
    set(&mut response, "content-type", media_type);
    Ok(response)
}
