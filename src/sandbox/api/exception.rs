//! Exceptions of the API.

use axum::http::StatusCode;
use serde_json::Value;

use crate::error::Error;
use crate::sandbox::refusal::{Refusal, parameter_message};

/// An exception: its name, its message, and other members that it has.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Exception {
    pub(super) status: StatusCode,
    pub(super) name: String,
    pub(super) message: String,
    pub(super) members: Value,
    pub(super) retry_after: Option<String>,
}

impl Exception {
    /// No modelled exception has a status of its own, so all client errors are 400.
    pub(super) fn new(name: &str, message: impl Into<String>) -> Self {
        let (status, members) = (StatusCode::BAD_REQUEST, Value::Null);
        Self { status, name: name.into(), message: message.into(), members, retry_after: None }
    }

    pub(super) fn parameter(name: &str, constraint: &str) -> Self {
        Self::new("InvalidParameterException", parameter_message(name, constraint))
    }
}

impl From<std::io::Error> for Exception {
    fn from(error: std::io::Error) -> Self {
        Refusal::from(error).into()
    }
}

impl From<Error> for Exception {
    /// The registry cannot be opened.
    fn from(error: Error) -> Self {
        Refusal::from(error).into()
    }
}

impl From<Refusal> for Exception {
    /// What the registry's API refuses, in the words of AWS's.
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Custom { status, exception, message, .. } => {
                let status = if status.is_server_error() { status } else { StatusCode::BAD_REQUEST };
                Self { status, ..Self::new(exception, message) }
            }
            _ => Self { status: StatusCode::INTERNAL_SERVER_ERROR, ..Self::new("ServerException", "") },
        }
    }
}

pub(super) type Outcome = Result<Value, Exception>;
