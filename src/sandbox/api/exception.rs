//! Exceptions of the API, and what its operations share.

use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::oci::Repository;
use crate::sandbox::refusal::{absent_message, parameter_message};
use crate::sandbox::repository::Repo;
use crate::sandbox::server::Registry;

/// An exception: its name and what it says.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Exception {
    pub(super) status: StatusCode,
    pub(super) name: String,
    pub(super) message: String,
    pub(super) retry_after: Option<String>,
}

impl Exception {
    /// No modelled exception has a status of its own, so all client errors are 400.
    pub(super) fn new(name: &str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, name: name.into(), message: message.into(), retry_after: None }
    }

    pub(super) fn parameter(name: &str, constraint: &str) -> Self {
        Self::new("InvalidParameterException", parameter_message(name, constraint))
    }

    pub(super) fn absent(name: &str, registry: &Registry) -> Self {
        Self::new("RepositoryNotFoundException", absent_message(name, &registry.account))
    }
}

impl From<std::io::Error> for Exception {
    fn from(error: std::io::Error) -> Self {
        let message = format!("the sandbox's folder: {error}");
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, ..Self::new("ServerException", message) }
    }
}

impl From<crate::error::Error> for Exception {
    /// The registry cannot be opened.
    fn from(error: crate::error::Error) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, ..Self::new("ServerException", error.to_string()) }
    }
}

pub(super) type Outcome = Result<Value, Exception>;

/// Reads what an operation was asked.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Exception> {
    serde_json::from_slice(body).map_err(|error| Exception::new("SerializationException", error.to_string()))
}

/// The repository that a request names, in the registry that is the caller's.
pub(super) fn name_of(registry: &Registry, id: Option<&str>, name: &str) -> Result<Repository, Exception> {
    if id.is_some_and(|id| id.len() != 12 || !id.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(Exception::parameter("registryId", "must satisfy regular expression '[0-9]{12}'"));
    }
    let valid = (2..=256).contains(&name.len());
    let parsed = name.parse().ok().filter(|_| valid).ok_or_else(|| {
        let pattern = r"(?:[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*/)*[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*";
        Exception::parameter("repositoryName", &format!("must satisfy regular expression '{pattern}'"))
    })?;
    if id.is_some_and(|id| id != registry.account) {
        let message = absent_message(name, id.unwrap_or_default());
        return Err(Exception::new("RepositoryNotFoundException", message));
    }
    Ok(parsed)
}

pub(super) fn look<T>(registry: &Registry, name: &Repository, look: impl FnOnce(&Repo) -> T) -> Result<T, Exception> {
    registry.store.look(name, look).ok_or_else(|| Exception::absent(name.as_str(), registry))
}

/// Which of many answers a request wants.
pub(super) struct Page {
    start: usize,
    length: usize,
}

impl Page {
    pub(super) fn of(
        registry: &Registry,
        max_results: Option<usize>,
        next_token: Option<&str>,
    ) -> Result<Self, Exception> {
        let length = max_results.unwrap_or(100);
        if !(1..=1000).contains(&length) {
            let constraint = "Member must have value less than or equal to 1000 and greater than or equal to 1";
            return Err(Exception::parameter("maxResults", constraint));
        }
        let start = next_token.map_or(Ok(0), |token| {
            let start = token.strip_prefix("page-").and_then(|start| start.parse().ok());
            start.ok_or_else(|| Exception::parameter("nextToken", "must be a token from an earlier answer"))
        })?;
        let most = registry.rules(|rules| rules.page).unwrap_or(length);
        Ok(Self { start, length: length.min(most) })
    }

    pub(super) fn cut(&self, key: &str, all: Vec<Value>) -> Value {
        let end = self.start.saturating_add(self.length);
        let more = all.len() > end;
        let mut answer = json!({});
        answer[key] = all.into_iter().skip(self.start).take(self.length).collect();
        if more {
            answer["nextToken"] = json!(format!("page-{end}"));
        }
        answer
    }
}
