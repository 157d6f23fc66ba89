//! Error responses of the registry's API, in ECR's words.
//!
//! Codes and their statuses follow the table of the reference registry, with the differences that were seen on ECR
//! (<https://github.com/distribution/distribution/blob/main/registry/api/errcode/register.go>).

use std::io;

use axum::http::StatusCode;

use super::upload::WrongOffset;
use crate::error::Error;
use crate::oci::Repository;

/// An error response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// With the registry's list of errors, which has one entry.
    Custom {
        status: StatusCode,
        code: String,
        message: String,
        retry_after: Option<String>,
        /// The exception that AWS's API raises for it.
        exception: &'static str,
    },
    /// With an empty body.
    Silent(StatusCode),
    /// 401, with ECR's challenge.
    Challenge,
    /// 401, with these challenges.
    ChallengedBy(Vec<String>),
    /// With no answer at all.
    HangUp,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let exception = "InvalidParameterException";
        Self::Custom { status, code: code.into(), message: message.into(), retry_after: None, exception }
    }

    /// Sets the exception that AWS's API raises for it.
    pub(super) fn raises(mut self, name: &'static str) -> Self {
        if let Self::Custom { exception, .. } = &mut self {
            *exception = name;
        }
        self
    }

    /// The request has a value that the service's model does not allow. The registry's face makes 405 of it
    /// (<https://github.com/moby/moby/issues/47661>).
    pub(super) fn parameter(name: &str, constraint: &str) -> Self {
        Self::unsupported(parameter_message(name, constraint))
    }

    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message)
    }

    /// The message is ECR's (<https://github.com/containers/skopeo/issues/851>).
    pub(super) fn absent(name: impl std::fmt::Display, account: &str) -> Self {
        let message = format!("The repository with name '{name}' does not exist in the registry with id '{account}'");
        Self::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", message).raises("RepositoryNotFoundException")
    }

    /// A session that cannot be fed or completed: 400 on ECR, where the reference registry has 404.
    pub(super) fn upload(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", message)
    }

    pub(super) fn no_session(id: &str, name: &Repository, account: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "BLOB_UPLOAD_UNKNOWN",
            format!(
                "The upload with id '{id}' in the repository with name '{name}' in registry with id '{account}' does \
                 not exist"
            ),
        )
        .raises("UploadNotFoundException")
    }

    pub(super) fn manifest(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", message)
    }
}

impl From<WrongOffset> for Refusal {
    /// Bytes that do not follow the last one (<https://github.com/apple/containerization/issues/790>).
    fn from(wrong: WrongOffset) -> Self {
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", wrong.to_string())
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        // Nothing more fits. The reference registry has the same status, code and words, the latter in `detail`
        // (https://github.com/distribution/distribution/blob/main/registry/handlers/blobupload.go: `copyFullPayload`).
        let message = match error.kind() {
            io::ErrorKind::StorageFull => "no space left on device".to_owned(),
            _ => format!("the sandbox's folder: {error}"),
        };
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", message).raises("ServerException")
    }
}

impl From<Error> for Refusal {
    /// The registry cannot be opened.
    fn from(error: Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", error.to_string()).raises("ServerException")
    }
}

/// `InvalidParameterException` in ECR's words.
pub(super) fn parameter_message(name: &str, constraint: &str) -> String {
    format!("Invalid parameter at '{name}' failed to satisfy constraint: '{constraint}'")
}
