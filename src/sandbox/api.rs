//! AWS's API: Amazon ECR and ECR Public, in AWS JSON 1.1.
//!
//! `model.rs` has the operations and the constraints of their members, `operations.rs` the handlers. A handler gets a request that
//! the model allows (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_Operations.html>).

mod account;
mod call;
mod exception;
mod images;
mod layers;
mod model;
mod operations;
mod policies;
mod public;
mod repositories;
mod scans;
mod templates;

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use self::call::{Call, with};
use self::exception::{Exception, Outcome};
use super::answer::status_of;
use super::exchange::Exchange;
use super::faults::{Trouble, compact};
use super::repository::Settings;
use super::{Registry, identity, reply, set};
use crate::oci::Repository;

pub(super) use self::templates::settings_of_template;

/// The services: their names in `X-Amz-Target` and in IAM.
const SERVICES: [(&str, &str); 2] =
    [("AmazonEC2ContainerRegistry_V20150921.", "ecr"), ("SpencerFrontendService.", "ecr-public")];
/// A limit above any request that the model allows: a part of 20 MiB in base64.
const LARGEST_REQUEST: usize = 28 << 20;

/// Returns the name of a request in the log and in faults: the IAM action.
pub(super) fn operation(headers: &HeaderMap) -> String {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let named = SERVICES.iter().find_map(|(start, service)| Some((*service, target.strip_prefix(start)?)));
    let named = named.filter(|(_, name)| name.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    named.map_or_else(|| "ecr:Unknown".to_owned(), |(service, name)| format!("{service}:{name}"))
}

/// Returns the names of the operations of Amazon ECR.
pub(super) fn operation_names() -> impl Iterator<Item = &'static str> {
    model::service("ecr").operations.keys().map(String::as_str)
}

/// Responds to a request to the API.
pub(super) async fn answer(registry: &Registry, exchange: &mut Exchange) -> Response {
    let outcome = serve(registry, exchange).await;
    #[cfg(test)]
    tests::check(&operation(&exchange.headers), &outcome);
    respond(registry, outcome)
}

/// Returns the response to a request with a fault.
pub(super) fn injected(registry: &Registry, trouble: &Trouble) -> Response {
    let exception = match trouble {
        Trouble::Status { status, code, message } => Exception {
            status: status_of(*status),
            ..Exception::new(if code.is_empty() { exception_of(*status) } else { code }, message)
        },
        Trouble::Throttle { .. } | Trouble::ThrottleUntil(_) => {
            Exception { retry_after: trouble.retry_after(), ..Exception::new("ThrottlingException", "Rate exceeded") }
        }
        _ => Exception::new("ServerException", ""),
    };
    respond(registry, Err(exception))
}

/// Returns the exception that a status stands for where a fault names none.
fn exception_of(status: u16) -> &'static str {
    match status {
        401 => "UnrecognizedClientException",
        403 => "AccessDeniedException",
        404 => "RepositoryNotFoundException",
        400..=499 => "InvalidParameterException",
        _ => "ServerException",
    }
}

fn respond(registry: &Registry, outcome: Outcome) -> Response {
    let mut response = match outcome {
        Ok(body) => reply(StatusCode::OK, body.to_string()),
        Err(exception) => {
            let body = with(json!({"__type": exception.name, "message": exception.message}), exception.members);
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
    let input = serde_json::from_slice::<Value>(&body);
    let input = input.map_err(|error| Exception::new("SerializationException", error.to_string()))?;
    // A request may name the registry of another account, also by the ARN of a repository.
    let of_arn = || input["resourceArn"].as_str()?.split(':').nth(4);
    let other = input["registryId"].as_str().or_else(of_arn).map(|id| registry.of_account(id)).transpose()?;
    let registry = other.as_ref().unwrap_or(registry);
    let repository = repository_of(&input);
    registry.allow(&action, repository.as_ref())?;
    let (service, name) = action.split_once(':').unwrap_or_default();
    let handler = operations::handler(service, name)?;
    let model = model::service(service);
    model.check(&model.operations[name].input, "", &input)?;
    match (&exchange.trouble, &repository) {
        (Some(Trouble::LoseRace), Some(name)) => {
            registry.store.create(name, Settings::default())?;
        }
        (Some(Trouble::ForgetUpload), Some(name)) => {
            registry.store.cancel_upload(name, input["uploadId"].as_str().unwrap_or_default());
        }
        _ => {}
    }
    handler(&Call { registry, exchange, input })
}

/// Returns the repository that a request names, for the permission on it.
fn repository_of(input: &Value) -> Option<Repository> {
    let arn = || Some(input["resourceArn"].as_str()?.split_once(":repository/")?.1);
    let name = input["repositoryName"].as_str().or_else(|| input["repositoryNames"][0].as_str()).or_else(arn);
    name?.parse().ok()
}

/// Why a signature does not count any more: `Signature expired: 20261122T080000Z is now earlier than 20261122T081500Z
/// (20261122T082000Z - 5 min.)` (<https://github.com/aws/aws-sdk-js/issues/527>).
fn expired(registry: &Registry, exchange: &Exchange) -> String {
    let signed = exchange.header("x-amz-date").unwrap_or_default();
    let now = registry.server.now();
    let (least, now) = (compact(now - Duration::from_secs(5 * 60)), compact(now));
    format!("Signature expired: {signed} is now earlier than {least} ({now} - 5 min.)")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exceptions that any operation may raise, and those of the sandbox itself.
    const COMMON: [&str; 8] = [
        "AccessDeniedException",
        "ExpiredTokenException",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
        "SerializationException",
        "UnknownOperationException",
        "UnrecognizedClientException",
        "InvalidParameterException",
    ];

    /// Checks that a response, or an exception, is one that the model has.
    pub(super) fn check(action: &str, outcome: &Outcome) {
        let (service, name) = action.split_once(':').unwrap();
        let service = model::service(service);
        let Some(operation) = service.operations.get(name) else { return };
        match outcome {
            Ok(output) => service.assert_modelled(&operation.output, output),
            Err(Exception { name, message, .. }) => assert!(
                COMMON.contains(&name.as_str()) || operation.errors.contains(name),
                "{action} does not raise {name}: {message}"
            ),
        }
    }

    #[test]
    fn every_handler_is_for_an_operation_of_the_model() {
        for (service, table) in [("ecr", operations::PRIVATE), ("ecr-public", operations::PUBLIC)] {
            let known = &model::service(service).operations;
            for (name, _) in table {
                assert!(known.contains_key(*name), "{service}:{name}");
            }
            assert!(table.is_sorted_by_key(|(name, _)| *name), "{service}");
        }
    }

    /// `docs/sandbox.md` has a row for each operation: `yes`, what is missing, or `no`.
    #[test]
    fn the_documentation_lists_every_operation() {
        let page = include_str!("../../docs/sandbox.md");
        for (service, title) in [("ecr", "Amazon ECR"), ("ecr-public", "Amazon ECR Public")] {
            let section = page.split(&format!("### {title}\n")).nth(1).unwrap().split("\n#").next().unwrap();
            let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
            let rows: Vec<(&str, bool)> = rows.map(|(name, state)| (name, state != "no |")).collect();
            let known = model::service(service).operations.keys();
            let expected: Vec<_> =
                known.map(|name| (name.as_str(), operations::handler(service, name).is_ok())).collect();
            assert_eq!(rows, expected, "{title}");
        }
    }
}
