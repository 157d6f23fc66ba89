//! The failure of one request: what it means, and whether a retry may help.

use std::time::Duration;

use super::transport_error;
use crate::error::{Advice, Code, Error, Kind, ServiceError, root_cause};
use crate::proxy;

/// The failure of one request.
#[derive(Debug)]
pub(super) enum RequestError {
    /// No response came: name resolution, connection, TLS, a broken connection, a time limit.
    Transport(Box<dyn std::error::Error + Send + Sync>),
    /// A response with an unexpected status, and the delay that its `Retry-After` asks for.
    Status(Box<ServiceError>, Option<Duration>),
    /// The failure is on this side: the archive, the credentials, Ctrl-C. It is never retried here.
    Local(Error),
}

impl From<Error> for RequestError {
    fn from(error: Error) -> Self {
        Self::Local(error)
    }
}

impl RequestError {
    /// Returns whether the same request may succeed a little later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Transport(error) => transport_error::is_transient(error.as_ref()),
            Self::Status(response, _) => {
                response.status.is_some_and(is_transient) && !is_about_the_manifest(&response.code)
            }
            Self::Local(_) => false,
        }
    }

    /// Returns the response with an unexpected status, if there is one.
    fn response(&self) -> Option<&ServiceError> {
        match self {
            Self::Status(response, _) => Some(response),
            Self::Transport(_) | Self::Local(_) => None,
        }
    }

    fn is_response(&self, is: impl FnOnce(&ServiceError) -> bool) -> bool {
        self.response().is_some_and(is)
    }

    /// Returns whether the service itself fails, which may last as long as its restart.
    pub(super) fn is_failure_of_service(&self) -> bool {
        self.is_response(|it| it.status >= Some(500))
    }

    /// Returns whether the body is larger than the registry, or a proxy in front of it, accepts: 413, or 416 with a message
    /// of GitHub's registry (<https://github.com/oras-project/rust-oci-client/issues/35>).
    pub(super) fn is_too_large(&self) -> bool {
        self.is_response(|it| {
            it.status == Some(413) || it.status == Some(416) && it.message.to_ascii_lowercase().contains("too large")
        })
    }

    /// Returns whether the failure is on this side.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// Returns whether an upload session is lost, so that a new one may succeed.
    pub(super) fn is_lost_session(&self) -> bool {
        // distribution 2.8 responds 404 BLOB_UPLOAD_INVALID after a chunk was cut: its state has another offset than its
        // file (registry/handlers/blobupload.go, ResumeBlobUpload).
        self.is_response(|it| {
            it.status == Some(416)
                || it.code == "BLOB_UPLOAD_UNKNOWN"
                || it.status == Some(404) && it.code == "BLOB_UPLOAD_INVALID"
        })
    }

    /// Returns whether the registry rejects a chunk in a way that may mean chunks as such: any reason except the caller, the
    /// repository, the size and the rate.
    pub(super) fn rejects_chunks(&self) -> bool {
        self.is_response(|it| {
            let is_other = matches!(it.code.as_str(), "DENIED" | "UNAUTHORIZED" | "NAME_UNKNOWN" | "NAME_INVALID");
            !is_other && matches!(it.status, Some(400 | 404 | 405 | 411 | 415 | 416 | 501))
        })
    }

    /// Returns whether a stream is rejected in a way that may mean streams as such: any reason except the registry's own about
    /// the caller and the repository. Proxies that limit the size of a request respond with various statuses.
    pub(super) fn rejects_stream(&self) -> bool {
        self.is_response(|it| {
            let is_denied = matches!(it.status, Some(401 | 403)) && !it.is_page && !it.code.is_empty();
            let is_other = matches!(it.code.as_str(), "DENIED" | "UNAUTHORIZED" | "NAME_UNKNOWN" | "NAME_INVALID");
            !is_denied && !is_other && it.status != Some(407)
        })
    }

    /// Returns whether the registry says that there were too many requests, which says nothing about this one.
    pub(super) fn is_too_many_requests(&self) -> bool {
        self.is_response(|it| it.status == Some(429))
    }

    /// Returns whether a later run may succeed.
    pub(super) fn may_succeed_later(&self) -> bool {
        match self {
            Self::Local(error) => error.kind() == Kind::Interrupted,
            Self::Transport(_) | Self::Status(..) => self.is_transient(),
        }
    }

    /// Returns whether the registry computed another digest than the one that was sent: DIGEST_INVALID, or ECR's "None of
    /// the provided layer digests match the calculated layer digest".
    pub(super) fn is_wrong_digest(&self) -> bool {
        self.is_response(|it| it.code == "DIGEST_INVALID" || it.message.contains("match the calculated layer digest"))
    }

    /// Returns whether the registry states that it already has the blob, as ECR may of an archived one:
    /// LayerAlreadyExistsException of CompleteLayerUpload (ECR API reference), under whichever code it appears here.
    pub(super) fn is_already_uploaded(&self) -> bool {
        self.is_response(|it| {
            it.code.starts_with("LayerAlreadyExists")
                || it.code == "BLOB_UPLOAD_INVALID" && it.message.contains("already exists")
        })
    }

    /// Returns the offset that the registry expects, if it names one: "First byte of the layer part is 0 instead of
    /// 11304960" is the only offset that ECR was seen to report correctly (apple/containerization#790).
    pub(super) fn expected_offset(&self) -> Option<u64> {
        let response = self.response().filter(|it| it.status == Some(416))?;
        let (_, rest) = response.message.rsplit_once(" instead of ")?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    }

    /// Returns whether new credentials may cure the rejection: 401, ECR's 403 without a challenge (flipt-io/flipt#3043), or
    /// ECR Public's 400 "Your Authorization Token is invalid" (aws/containers-roadmap).
    pub(super) fn wants_new_login(&self) -> bool {
        self.is_response(|it| {
            let message = it.message.to_ascii_lowercase();
            it.status == Some(401)
                || it.status == Some(403) && message.contains("authorization token has expired")
                || it.status == Some(400) && it.code == "DENIED" && message.contains("authorization token")
        })
    }

    /// Returns whether the request is forbidden.
    pub(super) fn is_denied(&self) -> bool {
        self.is_response(|it| it.status == Some(403))
    }

    /// Returns whether the registry itself denies access, by its response or because there is no login, and not a web page.
    pub(super) fn is_denied_by_registry(&self) -> bool {
        match self {
            Self::Status(response, _) => matches!(response.status, Some(401 | 403)) && !response.is_page,
            Self::Local(error) => error.kind() == Kind::Permission,
            Self::Transport(_) => false,
        }
    }

    /// Returns the delay that the registry asks for.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status(_, retry_after) => *retry_after,
            Self::Transport(_) | Self::Local(_) => None,
        }
    }

    /// Returns whether the registry asks all clients to slow down, not only this request.
    pub(super) fn is_throttle(&self) -> bool {
        self.is_too_many_requests() || self.retry_after().is_some()
    }

    /// Describes the failure in a few words, for the line about the next retry.
    pub(super) fn summary(&self) -> String {
        match self {
            Self::Transport(error) => root_cause(error.as_ref()),
            Self::Status(response, _) if response.status == Some(429) => "throttled by the registry".into(),
            // The same failure of ten uploads has the same text.
            Self::Status(response, _) => ServiceError { request_id: None, ..ServiceError::clone(response) }.to_string(),
            Self::Local(error) => error.to_string(),
        }
    }

    /// Turns the failure of `doing` into an error with advice.
    pub(super) fn into_error(self, registry: &str, doing: &str) -> Error {
        let is_lost_session = self.is_lost_session();
        let response = match self {
            Self::Local(error) => return error,
            Self::Transport(error) => return transport_error::explain(error.as_ref(), registry, doing),
            Self::Status(response, _) => *response,
        };
        if response.status == Some(407) {
            return Error::new(Kind::Permission, format!("{doing}: the proxy rejects the connection to {registry}"))
                .with_service_error(response)
                .code(Code::ProxyFailed)
                .hint(proxy::login());
        }
        let kind = match response.status {
            _ if is_lost_session => Kind::Unavailable,
            Some(401 | 403) => Kind::Permission,
            _ if is_about_the_manifest(&response.code) => Kind::Refused,
            Some(status) if is_transient(status) => Kind::Unavailable,
            _ => Kind::Refused,
        };
        let is_unexpected = response.status.is_some_and(|status| status < 400);
        let advice: Option<Advice> = match response.status {
            Some(300..=399) => Some("Redirects of a push are not followed. Push to the address that it names.".into()),
            Some(..300) => Some("Check that the address is that of a registry that accepts pushes.".into()),
            Some(401) => Some("The registry requires a login; none was sent, or it was not accepted.".into()),
            // nginx, Cloudflare and others are in front of many registries and limit the size of a request.
            Some(413) => Some(Advice::new("Send less in one request").setting_with("chunk-size", "1M")),
            _ if kind == Kind::Unavailable => Some("Run the same command again to resume.".into()),
            _ => None,
        };
        let (what, code) = match is_unexpected {
            true => ("did not respond as registries do", Code::ProtocolViolation),
            false => ("rejected the request", code_of(&response, kind)),
        };
        let error = Error::new(kind, format!("{doing}: {registry} {what}")).with_service_error(response).code(code);
        match advice {
            Some(advice) => error.hint(advice),
            None => error,
        }
    }
}

/// Returns whether a code means that the manifest itself is rejected. distribution sends it with status 500 if a layer's
/// URL is not allowed, and a retry does not change that.
fn is_about_the_manifest(code: &str) -> bool {
    matches!(code, "MANIFEST_BLOB_UNKNOWN" | "MANIFEST_INVALID")
}

/// Returns whether a status means a failure that may pass by itself.
pub(super) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..)
}

/// Returns the stable code of a response: by its status, else by the code of the distribution specification.
fn code_of(response: &ServiceError, kind: Kind) -> Code {
    match (response.status, response.code.as_str()) {
        (Some(401), _) => Code::CredentialsRejected,
        (Some(403), _) => Code::PermissionDenied,
        (Some(429), _) => Code::Throttled,
        (Some(500..), _) => Code::ServerError,
        _ if kind == Kind::Unavailable => Code::Unavailable,
        (_, "NAME_UNKNOWN") => Code::RepositoryNotFound,
        (_, "MANIFEST_INVALID" | "MANIFEST_BLOB_UNKNOWN" | "TAG_INVALID") => Code::ManifestRejected,
        (_, "BLOB_UPLOAD_INVALID" | "BLOB_UNKNOWN" | "DIGEST_INVALID" | "SIZE_INVALID") | (Some(413), _) => {
            Code::BlobRejected
        }
        _ => Code::Rejected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, code: &str, message: &str) -> RequestError {
        let response = ServiceError {
            status: Some(status),
            code: code.into(),
            message: message.into(),
            ..ServiceError::default()
        };
        RequestError::Status(Box::new(response), None)
    }

    #[test]
    fn only_transient_failures_are_retried() {
        for status in [408, 425, 429, 500, 502, 503, 504] {
            assert!(response(status, "", "").is_transient(), "{status}");
        }
        for status in [400, 401, 403, 404, 405, 413, 416] {
            assert!(!response(status, "", "").is_transient(), "{status}");
        }
        for code in ["MANIFEST_INVALID", "MANIFEST_BLOB_UNKNOWN"] {
            assert!(!response(500, code, "").is_transient(), "{code}");
            assert_eq!(response(500, code, "").into_error("r", "d").kind(), Kind::Refused, "{code}");
        }
    }

    #[test]
    fn a_lost_session_is_recognized() {
        for (status, code, is_lost) in [
            (416, "", true),
            (404, "BLOB_UPLOAD_UNKNOWN", true),
            (404, "BLOB_UPLOAD_INVALID", true),
            (400, "BLOB_UPLOAD_INVALID", false),
            (404, "NAME_UNKNOWN", false),
        ] {
            assert_eq!(response(status, code, "").is_lost_session(), is_lost, "{status} {code}");
        }
    }

    #[test]
    fn a_rejection_of_chunks_is_not_about_the_caller_the_repository_or_the_size() {
        for (status, code, is_about_chunks) in [
            (400, "UNSUPPORTED", true),
            (404, "", true),
            (416, "", true),
            (501, "", true),
            (400, "DENIED", false),
            (404, "NAME_UNKNOWN", false),
            (401, "UNAUTHORIZED", false),
            (413, "", false),
            (429, "", false),
        ] {
            assert_eq!(response(status, code, "").rejects_chunks(), is_about_chunks, "{status} {code}");
        }
        assert!(response(413, "", "").is_too_large());
        assert!(response(416, "", "the request body is too large").is_too_large());
        assert!(!response(416, "", "another offset").is_too_large());
    }

    #[test]
    fn a_stream_is_rejected_by_all_but_the_registrys_own_denial() {
        for (status, code, is_rejection) in [
            (403, "", true),
            (413, "", true),
            (422, "", true),
            (400, "UNSUPPORTED", true),
            (403, "DENIED", false),
            (401, "UNAUTHORIZED", false),
            (404, "NAME_UNKNOWN", false),
            (403, "FORBIDDEN", false),
            (407, "", false),
        ] {
            assert_eq!(response(status, code, "").rejects_stream(), is_rejection, "{status} {code}");
        }
    }

    #[test]
    fn a_blob_that_exists_already_is_recognized() {
        let exists = "The layer with digest 'sha256:12' already exists in the repository with name 'a'";
        assert!(response(400, "BLOB_UPLOAD_INVALID", exists).is_already_uploaded());
        assert!(response(400, "LayerAlreadyExistsException", "").is_already_uploaded());
        assert!(!response(400, "TAG_INVALID", "The image tag '1' already exists").is_already_uploaded());
    }

    #[test]
    fn a_416_names_the_expected_offset() {
        let message = "First byte of the layer part is 0 instead of 11304960";
        assert_eq!(response(416, "BLOB_UPLOAD_INVALID", message).expected_offset(), Some(11_304_960));
        assert_eq!(response(400, "BLOB_UPLOAD_INVALID", message).expected_offset(), None);
        assert_eq!(response(416, "", "0 instead of ").expected_offset(), None);
        assert_eq!(response(416, "", "0 instead of 99999999999999999999999").expected_offset(), None);
    }

    #[test]
    fn a_403_asks_for_a_new_login_only_after_expiry() {
        assert!(response(401, "UNAUTHORIZED", "").wants_new_login());
        let expired = "Your authorization token has expired. Reauthenticate and try again.";
        assert!(response(403, "DENIED", expired).wants_new_login());
        assert!(!response(403, "DENIED", "not authorized to perform: ecr:PutImage").wants_new_login());
        assert!(response(400, "DENIED", "Your Authorization Token is invalid").wants_new_login());
        assert!(!response(400, "DENIED", "not allowed").wants_new_login());
    }

    #[test]
    fn a_web_page_is_not_a_denial_by_the_registry() {
        for (status, is_page, is_denied) in
            [(401, false, true), (403, false, true), (403, true, false), (404, false, false)]
        {
            let response = ServiceError { status: Some(status), is_page, ..ServiceError::default() };
            let error = RequestError::Status(Box::new(response), None);
            assert_eq!(error.is_denied_by_registry(), is_denied, "{status}, {is_page}");
        }
    }

    #[test]
    fn the_code_follows_from_the_status_and_the_registry_s_code() {
        for (status, code, expected) in [
            (200, "", Code::ProtocolViolation),
            (302, "", Code::ProtocolViolation),
            (400, "BLOB_UPLOAD_INVALID", Code::BlobRejected),
            (400, "MANIFEST_INVALID", Code::ManifestRejected),
            (400, "", Code::Rejected),
            (401, "UNAUTHORIZED", Code::CredentialsRejected),
            (403, "DENIED", Code::PermissionDenied),
            (404, "NAME_UNKNOWN", Code::RepositoryNotFound),
            (407, "", Code::ProxyFailed),
            (408, "", Code::Unavailable),
            (413, "", Code::BlobRejected),
            (429, "", Code::Throttled),
            (503, "", Code::ServerError),
        ] {
            assert_eq!(response(status, code, "").into_error("r", "d").stable_code(), expected, "{status} {code}");
        }
    }

    #[test]
    fn the_kind_follows_from_the_status() {
        for (status, code) in [(401, 3), (403, 3), (404, 1), (405, 1), (429, 4), (500, 4)] {
            assert_eq!(response(status, "", "").into_error("r", "d").kind().exit_code(), code, "{status}");
        }
    }
}
