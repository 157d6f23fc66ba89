//! AWS's API: the operations of Amazon ECR that a push needs, in AWS JSON 1.1.
//!
//! Names, members and limits are those of the service's model
//! (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_Operations.html>).

mod exception;
mod policies;
mod public;
mod repositories;
mod templates;

use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use self::exception::{Exception, Outcome, Page, look, name_of, read};
use super::exchange::Exchange;
use super::faults::{Trouble, http_date};
use super::repository::{Image, Repo, Settings};
use super::rules::LayerState;
use super::store::epoch;
use super::{Registry, identity, reply, set};
use crate::oci::{Digest, Repository};

/// The service's name in `X-Amz-Target`.
const TARGET: &str = "AmazonEC2ContainerRegistry_V20150921.";
/// The name of ECR Public's API.
const PUBLIC_TARGET: &str = "SpencerFrontendService.";
/// A limit above any request that the model allows.
const LARGEST_REQUEST: usize = 8 << 20;

/// Returns the name of a request in the log and in faults: the IAM action.
pub(super) fn operation(headers: &HeaderMap) -> String {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let services = [(TARGET, "ecr"), (PUBLIC_TARGET, "ecr-public")];
    let named = services.iter().find_map(|(start, service)| Some((*service, target.strip_prefix(start)?)));
    let named = named.filter(|(_, name)| name.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    named.map_or_else(|| "ecr:Unknown".to_owned(), |(service, name)| format!("{service}:{name}"))
}

/// Responds to a request to the API.
pub(super) async fn answer(registry: &Registry, exchange: &mut Exchange) -> Response {
    let outcome = serve(registry, exchange).await;
    respond(registry, outcome)
}

/// Returns the response to a request with a fault.
pub(super) fn injected(registry: &Registry, trouble: &Trouble) -> Response {
    let exception = match trouble {
        Trouble::Status { status, code, message } => Exception {
            status: StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            ..Exception::new(code, message)
        },
        Trouble::Throttle { .. } | Trouble::ThrottleUntil(_) => {
            Exception { retry_after: trouble.retry_after(), ..Exception::new("ThrottlingException", "Rate exceeded") }
        }
        _ => Exception::new("ServerException", ""),
    };
    respond(registry, Err(exception))
}

fn respond(registry: &Registry, outcome: Outcome) -> Response {
    let mut response = match outcome {
        Ok(body) => reply(StatusCode::OK, body.to_string()),
        Err(exception) => {
            let body = json!({"__type": exception.name, "message": exception.message});
            let mut response = reply(exception.status, body.to_string());
            set(&mut response, "x-amzn-errortype", &exception.name);
            if let Some(when) = exception.retry_after {
                set(&mut response, "retry-after", when);
            }
            response
        }
    };
    set(&mut response, "content-type", "application/x-amz-json-1.1");
    set(&mut response, "x-amzn-requestid", registry.uuid());
    response
}

async fn serve(registry: &Registry, exchange: &mut Exchange) -> Outcome {
    let action = operation(&exchange.headers);
    if exchange.method != "POST" || action == "ecr:Unknown" {
        return Err(Exception::new("UnknownOperationException", ""));
    }
    // Only the presence of a signature is checked: every client on this machine is the caller.
    if !exchange.header(header::AUTHORIZATION).is_some_and(|value| value.starts_with("AWS4-HMAC-SHA256 ")) {
        return Err(Exception::new("MissingAuthenticationTokenException", "Missing Authentication Token"));
    }
    if identity::signed_region(&exchange.headers).is_some_and(|region| region != registry.region) {
        let message = "Credential should be scoped to a valid region.";
        return Err(Exception::new("InvalidSignatureException", message));
    }
    if let Some((code, message)) = identity::doubt(registry, &exchange.headers) {
        return Err(Exception::new(code, message));
    }
    if registry.rules(|rules| rules.clock_ahead) > Duration::from_secs(5 * 60) {
        return Err(Exception::new("InvalidSignatureException", expired(registry, exchange)));
    }
    let Ok(Some(body)) = exchange.whole(LARGEST_REQUEST).await else {
        return Err(Exception::new("SerializationException", "The request cannot be read"));
    };
    let named = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    // A request may name the registry of another account.
    let other = named["registryId"].as_str().map(|id| registry.of_account(id)).transpose()?;
    let registry = other.as_ref().unwrap_or(registry);
    let named = named["repositoryName"].as_str().or_else(|| named["repositoryNames"][0].as_str());
    let repository = named.and_then(|name| name.parse::<Repository>().ok());
    if let Some(message) = registry.denial(&action, repository.as_ref()) {
        return Err(Exception::new("AccessDeniedException", message));
    }
    if let Some(action) = action.strip_prefix("ecr-public:") {
        return public::serve(registry, action, &body);
    }
    match action.trim_start_matches("ecr:") {
        "GetAuthorizationToken" => Ok(get_authorization_token(registry)),
        "CreateRepository" => {
            if let (Some(Trouble::LoseRace), Some(name)) = (exchange.trouble(), &repository) {
                registry.store.create(name, Settings::default())?;
            }
            repositories::create(registry, read(&body)?)
        }
        "DescribeRepositories" => repositories::describe(registry, read(&body)?),
        "DescribeRepositoryCreationTemplates" => templates::describe(registry, read(&body)?),
        "GetLifecyclePolicy" => policies::get_lifecycle(registry, read(&body)?),
        "GetRepositoryPolicy" => policies::get(registry, read(&body)?),
        "ListTagsForResource" => repositories::list_tags(registry, read(&body)?),
        "PutLifecyclePolicy" => policies::put_lifecycle(registry, read(&body)?),
        "SetRepositoryPolicy" => policies::set(registry, read(&body)?),
        "InitiateLayerUpload" => initiate_layer_upload(registry, read(&body)?),
        "BatchCheckLayerAvailability" => batch_check_layer_availability(registry, read(&body)?),
        "BatchGetImage" => batch_get_image(registry, read(&body)?),
        "DescribeImages" => describe_images(registry, read(&body)?),
        _ => Err(Exception::new("UnknownOperationException", "")),
    }
}

/// Why a signature does not count any more: `Signature expired: 20261122T080000Z is now earlier than 20261122T081500Z
/// (20261122T082000Z - 5 min.)` (<https://github.com/aws/aws-sdk-js/issues/527>).
fn expired(registry: &Registry, exchange: &Exchange) -> String {
    let signed = exchange.header("x-amz-date").unwrap_or_default();
    let now = SystemTime::now() + registry.rules(|rules| rules.clock_ahead);
    let (least, now) = (compact(now - Duration::from_secs(5 * 60)), compact(now));
    format!("Signature expired: {signed} is now earlier than {least} ({now} - 5 min.)")
}

/// Formats a time as in signatures.
fn compact(time: SystemTime) -> String {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let text = http_date(time);
    let words: Vec<&str> = text.split(' ').collect();
    let [_, day, month, year, clock, _] = words[..] else { return text };
    let month = MONTHS.find(month).unwrap_or_default() / 3 + 1;
    format!("{year}{month:02}{day}T{}Z", clock.replace(':', ""))
}

fn get_authorization_token(registry: &Registry) -> Value {
    let (token, ends) = registry.issue_token();
    let endpoint = format!("https://{}", registry.host());
    json!({"authorizationData": [
        {"authorizationToken": token, "expiresAt": epoch(ends), "proxyEndpoint": endpoint},
    ]})
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CheckLayers {
    registry_id: Option<String>,
    repository_name: String,
    layer_digests: Vec<String>,
}

fn batch_check_layer_availability(registry: &Registry, request: CheckLayers) -> Outcome {
    let name = name_of(registry, request.registry_id.as_deref(), &request.repository_name)?;
    if !(1..=100).contains(&request.layer_digests.len()) {
        let constraint = "Member must have length less than or equal to 100 and greater than or equal to 1";
        return Err(Exception::parameter("layerDigests", constraint));
    }
    let state = registry.rules(|rules| rules.layers);
    let (mut layers, mut failures) = (Vec::new(), Vec::new());
    look(registry, &name, |repo| {
        for text in &request.layer_digests {
            let Ok(digest) = text.parse::<Digest>() else {
                let reason = "Invalid layer digest";
                failures.push(json!({
                    "layerDigest": text, "failureCode": "InvalidLayerDigest", "failureReason": reason,
                }));
                continue;
            };
            layers.push(match (repo.blobs.get(&digest), state) {
                (Some(_), LayerState::Failing) => {
                    failures.push(json!({
                        "layerDigest": text, "failureCode": "MissingLayerDigest", "failureReason": "Layer not found",
                    }));
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InitiateUpload {
    registry_id: Option<String>,
    repository_name: String,
}

fn initiate_layer_upload(registry: &Registry, request: InitiateUpload) -> Outcome {
    let name = name_of(registry, request.registry_id.as_deref(), &request.repository_name)?;
    look(registry, &name, |_| ())?;
    let id = registry.begin_upload(&name)?;
    Ok(json!({"uploadId": id, "partSize": 10 << 20}))
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImageId {
    image_tag: Option<String>,
    image_digest: Option<String>,
}

impl ImageId {
    fn to_json(&self) -> Value {
        let mut id = json!({});
        for (key, value) in [("imageTag", &self.image_tag), ("imageDigest", &self.image_digest)] {
            if let Some(value) = value {
                id[key] = json!(value);
            }
        }
        id
    }

    /// Returns the image that this names, or the failure code and its reason.
    fn find<'a>(&self, repo: &'a Repo) -> Result<(Digest, &'a Image), (&'static str, &'static str)> {
        let absent = ("ImageNotFound", "Requested image not found");
        let by_digest = match self.image_digest.as_deref().map(str::parse::<Digest>) {
            Some(Err(_)) => return Err(("InvalidImageDigest", "Invalid request parameters: image digest")),
            Some(Ok(digest)) => Some(digest),
            None => None,
        };
        let by_tag = self.image_tag.as_deref().map(|tag| repo.tags.get(tag).copied().ok_or(absent)).transpose()?;
        let digest = match (by_digest, by_tag) {
            (Some(digest), Some(tagged)) if digest != tagged => {
                return Err(("ImageTagDoesNotMatchDigest", "Requested image tag does not match the digest"));
            }
            (Some(digest), _) | (None, Some(digest)) => digest,
            (None, None) => {
                return Err(("MissingDigestAndTag", "Invalid request parameters: both tag and digest are missing"));
            }
        };
        repo.images.get(&digest).map(|image| (digest, image)).ok_or(absent)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GetImages {
    registry_id: Option<String>,
    repository_name: String,
    image_ids: Vec<ImageId>,
}

fn batch_get_image(registry: &Registry, request: GetImages) -> Outcome {
    let name = name_of(registry, request.registry_id.as_deref(), &request.repository_name)?;
    if !(1..=100).contains(&request.image_ids.len()) {
        let constraint = "Member must have length less than or equal to 100 and greater than or equal to 1";
        return Err(Exception::parameter("imageIds", constraint));
    }
    let (mut images, mut failures) = (Vec::new(), Vec::new());
    look(registry, &name, |repo| {
        for id in &request.image_ids {
            let archived = ("ImageNotFound", "Requested image not found");
            let found = id.find(repo);
            match found.and_then(|it| if repo.archived.contains(&it.0) { Err(archived) } else { Ok(it) }) {
                Ok((digest, image)) => {
                    let id = ImageId { image_digest: Some(digest.to_string()), ..id.clone() };
                    images.push(json!({
                        "registryId": registry.account, "repositoryName": name, "imageId": id.to_json(),
                        "imageManifest": String::from_utf8_lossy(&image.bytes),
                        "imageManifestMediaType": image.media_type,
                    }));
                }
                Err((code, reason)) => failures.push(json!({
                    "imageId": id.to_json(), "failureCode": code, "failureReason": reason,
                })),
            }
        }
    })?;
    Ok(json!({"images": images, "failures": failures}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescribeImages {
    registry_id: Option<String>,
    repository_name: String,
    image_ids: Option<Vec<ImageId>>,
    max_results: Option<usize>,
    next_token: Option<String>,
    filter: Option<DescribeImagesFilter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescribeImagesFilter {
    tag_status: Option<String>,
    image_status: Option<String>,
}

fn describe_images(registry: &Registry, request: DescribeImages) -> Outcome {
    let name = name_of(registry, request.registry_id.as_deref(), &request.repository_name)?;
    let page = Page::of(registry, request.max_results, request.next_token.as_deref())?;
    let filter = request.filter.as_ref();
    // Without a filter only images that are active are described (ECR API reference, DescribeImagesFilter).
    let status = filter.and_then(|filter| filter.image_status.as_deref()).unwrap_or("ACTIVE");
    let mut details = look(registry, &name, |repo| {
        let status_of = |digest: &Digest| if repo.archived.contains(digest) { "ARCHIVED" } else { "ACTIVE" };
        let is_wanted = |digest: &Digest| status == "ANY" || status_of(digest) == status;
        let describe = |digest: &Digest, image: &Image| {
            let tags: Vec<&String> = repo.tags.iter().filter(|(_, to)| *to == digest).map(|(tag, _)| tag).collect();
            let mut detail = json!({
                "registryId": registry.account, "repositoryName": name, "imageDigest": digest,
                "imageSizeInBytes": image.facts.layers_size, "imagePushedAt": epoch(image.pushed),
                "imageManifestMediaType": image.media_type, "artifactMediaType": image.facts.artifact_type,
                "imageStatus": status_of(digest),
            });
            if !tags.is_empty() {
                detail["imageTags"] = json!(tags);
            }
            detail
        };
        match &request.image_ids {
            Some(ids) => ids
                .iter()
                .map(|id| match id.find(repo) {
                    Ok((digest, image)) if is_wanted(&digest) => Ok(describe(&digest, image)),
                    _ => Err(id.clone()),
                })
                .collect::<Result<Vec<_>, _>>(),
            None => {
                let wanted = repo.images.iter().filter(|(digest, _)| is_wanted(digest));
                Ok(wanted.map(|(digest, image)| describe(digest, image)).collect())
            }
        }
    })?
    .map_err(|id| {
        let message = format!(
            "The image with imageId {{imageDigest:'{}', imageTag:'{}'}} does not exist within the repository with name \
             '{name}' in the registry with id '{}'",
            id.image_digest.as_deref().unwrap_or("null"),
            id.image_tag.as_deref().unwrap_or("null"),
            registry.account
        );
        Exception::new("ImageNotFoundException", message)
    })?;
    match filter.and_then(|filter| filter.tag_status.as_deref()) {
        Some("TAGGED") => details.retain(|detail| detail.get("imageTags").is_some()),
        Some("UNTAGGED") => details.retain(|detail| detail.get("imageTags").is_none()),
        _ => {}
    }
    Ok(page.cut("imageDetails", details))
}
