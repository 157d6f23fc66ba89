//! What went wrong with one request, and whether to try it again.

use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, LOCATION, RETRY_AFTER};
use reqwest::{Method, StatusCode};

use super::error_envelope::{Envelope, printable};
use super::reply::{Reply, SendError};
use super::transport_error::{self, Unanswered};
use crate::error::{Code, Error, Kind, ServiceError, root_cause};
use crate::proxy;
use crate::request_log::REQUEST_IDS;

/// The failure of one request.
#[derive(Debug)]
pub(super) enum RequestError {
    /// No answer came: name resolution, connection, TLS, a cut, a time limit.
    Transport(Box<dyn std::error::Error + Send + Sync>),
    /// An answer came, and it was not the one that was asked for.
    Status(Box<ServiceError>, Option<Duration>),
    /// The failure is on this side: the archive, the credentials, Ctrl-C. Trying again is not the wire's business.
    Local(Error),
}

impl RequestError {
    /// The fault of an answer that was not expected.
    pub(super) fn of_reply(reply: Reply, asked: &Method) -> Self {
        let (answer, retry_after) = Self::read(&reply, asked);
        match reply.cut() {
            // Half a refusal does not say which: a lost session is a 404, and so is a repository that is not there.
            Some(cut) if !answer.status.is_some_and(may_pass) => cut,
            _ => Self::Status(Box::new(answer), retry_after),
        }
    }

    /// An answer as the service's words, and how long it asks to be left alone.
    pub(super) fn read(reply: &Reply, asked: &Method) -> (ServiceError, Option<Duration>) {
        let status = reply.status;
        let request_id = REQUEST_IDS.iter().find_map(|name| reply.header(name)).map(|id| printable(&id));
        let date = reply.header(DATE.as_str()).and_then(|text| httpdate::parse_http_date(text.trim()).ok());
        let asked = Some(format!("{asked} {}", reply.url.path()));
        let retry_after = reply.header(RETRY_AFTER.as_str()).and_then(|text| pause(&text, SystemTime::now()));
        let title = reply.page_title();
        let is_page = title.is_some();
        let Envelope { code, message, detail } = match title {
            Some(message) => Envelope { message, ..Envelope::default() },
            None => reply.envelope(),
        };
        let message = match reply.header(LOCATION.as_str()) {
            Some(location) if status.is_redirection() => format!("{} to {}", reason(status), printable(&location)),
            _ if message.is_empty() && code.is_empty() => reason(status),
            _ => message,
        };
        let status = Some(status.as_u16());
        (ServiceError { status, code, message, detail, request_id, asked, date, is_page }, retry_after)
    }

    /// The fault of a request whose connection broke before the answer.
    pub(super) fn of_cut(error: SendError, asked: &Method) -> Self {
        match error {
            SendError::Other(error) if transport_error::is_hang_up(&error) && error.url().is_some() => {
                let asked = format!("{asked} {}", error.url().map_or("", |url| url.path()));
                Self::Transport(Box::new(Unanswered { asked, why: error.without_url() }))
            }
            error => Self::Transport(error.into_source()),
        }
    }

    /// The fault of a request that got no answer. URLs are left out: they may be signed.
    pub(super) fn of_silence(error: reqwest::Error) -> Self {
        Self::Transport(Box::new(error.without_url()))
    }

    /// Whether the same request may well succeed a little later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Transport(error) => transport_error::is_transient(error.as_ref()),
            Self::Status(answer, _) => answer.status.is_some_and(may_pass) && !is_about_the_manifest(&answer.code),
            Self::Local(_) => false,
        }
    }

    /// Whether the service itself fails, which may take as long as its restart.
    pub(super) fn is_failure_of_service(&self) -> bool {
        matches!(self, Self::Status(answer, _) if answer.status.is_some_and(|status| status >= 500))
    }

    /// Whether a request has a larger body than the registry, or a proxy before it, accepts: 413, or a 416 that says so as GitHub's
    /// registry does (<https://github.com/oras-project/rust-oci-client/issues/35>).
    pub(super) fn is_too_large(&self) -> bool {
        match self {
            Self::Status(answer, _) => {
                answer.status == Some(413)
                    || answer.status == Some(416) && answer.message.to_ascii_lowercase().contains("too large")
            }
            Self::Transport(_) | Self::Local(_) => false,
        }
    }

    /// Whether the failure is on this side.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// Whether an upload session is lost, so that a new one may succeed.
    pub(super) fn is_lost_session(&self) -> bool {
        match self {
            // distribution 2.8 says 404 BLOB_UPLOAD_INVALID when a part was cut: its state has another offset than its
            // file (registry/handlers/blobupload.go, ResumeBlobUpload).
            Self::Status(answer, _) => {
                answer.status == Some(416)
                    || answer.code == "BLOB_UPLOAD_UNKNOWN"
                    || answer.status == Some(404) && answer.code == "BLOB_UPLOAD_INVALID"
            }
            Self::Transport(_) | Self::Local(_) => false,
        }
    }

    /// Whether the registry says no to a chunk in a way that may mean chunks as such: anything that is not about who we
    /// are, where we push to, how much, or how often.
    pub(super) fn refuses_chunks(&self) -> bool {
        match self {
            Self::Status(answer, _) => {
                let means_others =
                    matches!(answer.code.as_str(), "DENIED" | "UNAUTHORIZED" | "NAME_UNKNOWN" | "NAME_INVALID");
                !means_others && matches!(answer.status, Some(400 | 404 | 405 | 411 | 415 | 416 | 501))
            }
            Self::Transport(_) | Self::Local(_) => false,
        }
    }

    /// Whether a later run may have more luck.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Local(error) => error.kind() == Kind::Interrupted,
            Self::Transport(_) | Self::Status(..) => self.is_transient(),
        }
    }

    /// Whether the registry hashed other bytes than those that were sent: DIGEST_INVALID, or ECR's "None of the provided
    /// layer digests match the calculated layer digest".
    pub(super) fn is_wrong_digest(&self) -> bool {
        match self {
            Self::Status(answer, _) => {
                answer.code == "DIGEST_INVALID" || answer.message.contains("match the calculated layer digest")
            }
            Self::Transport(_) | Self::Local(_) => false,
        }
    }

    /// Whether the registry says of a whole blob that it has it, as ECR may of an archived one: LayerAlreadyExistsException
    /// of CompleteLayerUpload (ECR API reference), in whatever code that is told here.
    pub(super) fn is_already_there(&self) -> bool {
        match self {
            Self::Status(answer, _) => {
                answer.code.starts_with("LayerAlreadyExists")
                    || answer.code == "BLOB_UPLOAD_INVALID" && answer.message.contains("already exists")
            }
            Self::Transport(_) | Self::Local(_) => false,
        }
    }

    /// The offset that the registry expected, where it says so: "First byte of the layer part is 0 instead of 11304960"
    /// is the only word about it that ECR was seen to be right with (apple/containerization#790).
    pub(super) fn expected_offset(&self) -> Option<u64> {
        match self {
            Self::Status(answer, _) if answer.status == Some(416) => {
                let (_, rest) = answer.message.rsplit_once(" instead of ")?;
                let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                rest[..digits].parse().ok()
            }
            _ => None,
        }
    }

    /// Whether the credentials were refused in a way that fresh ones may cure: 401, ECR's 403 without a challenge
    /// (flipt-io/flipt#3043), or ECR Public's 400 "Your Authorization Token is invalid" (aws/containers-roadmap).
    pub(super) fn wants_fresh_login(&self) -> bool {
        match self {
            Self::Status(answer, _) => {
                let message = answer.message.to_ascii_lowercase();
                answer.status == Some(401)
                    || answer.status == Some(403) && message.contains("authorization token has expired")
                    || answer.status == Some(400) && answer.code == "DENIED" && message.contains("authorization token")
            }
            Self::Transport(_) | Self::Local(_) => false,
        }
    }

    /// Whether we may not do that.
    pub(super) fn is_denial(&self) -> bool {
        matches!(self, Self::Status(answer, _) if answer.status == Some(403))
    }

    /// Whether it is the registry that denies it, by its own answer or for want of a login, and not a web page.
    pub(super) fn is_denial_of_registry(&self) -> bool {
        match self {
            Self::Status(answer, _) => matches!(answer.status, Some(401 | 403)) && !answer.is_page,
            Self::Local(error) => error.kind() == Kind::Permission,
            Self::Transport(_) => false,
        }
    }

    /// How long the registry asks to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status(_, retry_after) => *retry_after,
            Self::Transport(_) | Self::Local(_) => None,
        }
    }

    /// Whether the registry asks everybody to slow down, not only this request.
    pub(super) fn is_throttle(&self) -> bool {
        matches!(self, Self::Status(answer, _) if answer.status == Some(429)) || self.retry_after().is_some()
    }

    /// A few words for a line about the next try.
    pub(super) fn summary(&self) -> String {
        match self {
            Self::Transport(error) => root_cause(error.as_ref()),
            Self::Status(answer, _) if answer.status == Some(429) => "throttled by the registry".into(),
            // Ten lanes that meet the same thing say the same.
            Self::Status(answer, _) => ServiceError { request_id: None, ..ServiceError::clone(answer) }.to_string(),
            Self::Local(error) => error.to_string(),
        }
    }

    /// The error for people. `doing` says what was tried, with which registry.
    pub(super) fn into_error(self, registry: &str, doing: &str) -> Error {
        let is_lost_session = self.is_lost_session();
        match self {
            Self::Local(error) => error,
            Self::Transport(error) => transport_error::explain(error.as_ref(), registry, doing),
            Self::Status(answer, _) if answer.status == Some(407) => {
                let what = format!("{doing}: the proxy does not let us through to {registry}");
                let error = Error::new(Kind::Permission, what).with_service_error(*answer);
                error.code(Code::ProxyFailed).hint(proxy::login())
            }
            Self::Status(answer, _) => {
                let kind = match answer.status {
                    _ if is_lost_session => Kind::Unavailable,
                    Some(401 | 403) => Kind::Permission,
                    _ if is_about_the_manifest(&answer.code) => Kind::Refused,
                    Some(408 | 425 | 429 | 500..) => Kind::Unavailable,
                    _ => Kind::Refused,
                };
                let is_odd = answer.status.is_some_and(|status| status < 400);
                let hint = match answer.status {
                    Some(300..=399) => Some("Redirects of a push are not followed. Push to the address that it names."),
                    Some(..300) => Some("Check that the address is that of a registry which accepts pushes."),
                    Some(401) => Some("It wants a login, and has none from us or not the right one."),
                    // nginx, Cloudflare and their like stand in front of many registries and limit a request's body.
                    Some(413) => Some("Send less in one request: add --chunk-size 1M."),
                    _ if kind == Kind::Unavailable => Some("Run the same command again to carry on."),
                    _ => None,
                };
                let code = code_of(&answer, kind);
                let what = if is_odd { "did not answer as registries do" } else { "said no" };
                let error = Error::new(kind, format!("{doing}: {registry} {what}")).with_service_error(*answer);
                let error = if is_odd { error.code(Code::ProtocolViolation) } else { error.code(code) };
                match hint {
                    Some(hint) => error.hint(hint),
                    None => error,
                }
            }
        }
    }
}

/// Whether a code says that the manifest itself is rejected. distribution sends it with status 500 if a layer's URL is not
/// allowed, and a retry does not change that.
fn is_about_the_manifest(code: &str) -> bool {
    matches!(code, "MANIFEST_BLOB_UNKNOWN" | "MANIFEST_INVALID")
}

/// Whether what a status stands for may pass by itself.
fn may_pass(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..)
}

/// What `Retry-After` asks for: seconds, or a moment (RFC 9110, 10.2.3)./// Returns the stable code of an answer: by its status, else by the code of the distribution specification.
fn code_of(answer: &ServiceError, kind: Kind) -> Code {
    match (answer.status, answer.code.as_str()) {
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

fn pause(text: &str, now: SystemTime) -> Option<Duration> {
    let seconds = text.trim().parse().ok().map(Duration::from_secs);
    seconds.or_else(|| Some(httpdate::parse_http_date(text.trim()).ok()?.duration_since(now).unwrap_or_default()))
}

fn reason(status: StatusCode) -> String {
    status.canonical_reason().unwrap_or("an answer without a body").to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::sync::Arc;

    use reqwest::Url;

    use super::super::reply::{self, Limits};
    use super::*;
    use crate::request_log::{RequestTimer, UrlDetail, ignore};

    fn answered(status: u16, code: &str, message: &str) -> RequestError {
        let answer = ServiceError {
            status: Some(status),
            code: code.into(),
            message: message.into(),
            ..ServiceError::default()
        };
        RequestError::Status(Box::new(answer), None)
    }

    #[test]
    fn what_may_pass_by_itself_is_tried_again_and_nothing_else() {
        for status in [408, 425, 429, 500, 502, 503, 504] {
            assert!(answered(status, "", "").is_transient(), "{status}");
        }
        for status in [400, 401, 403, 404, 405, 413, 416] {
            assert!(!answered(status, "", "").is_transient(), "{status}");
        }
        assert!(answered(416, "BLOB_UPLOAD_INVALID", "").is_lost_session());
        assert!(answered(404, "BLOB_UPLOAD_UNKNOWN", "").is_lost_session());
        assert!(!answered(404, "NAME_UNKNOWN", "").is_lost_session());
        let there = "The layer with digest 'sha256:12' already exists in the repository with name 'a'";
        assert!(answered(400, "BLOB_UPLOAD_INVALID", there).is_already_there());
        assert!(answered(400, "LayerAlreadyExistsException", "").is_already_there());
        assert!(!answered(400, "TAG_INVALID", "The image tag '1' already exists").is_already_there());
    }

    #[test]
    fn the_offset_that_a_416_names_is_believed() {
        let message = "First byte of the layer part is 0 instead of 11304960";
        assert_eq!(answered(416, "BLOB_UPLOAD_INVALID", message).expected_offset(), Some(11_304_960));
        assert_eq!(answered(400, "BLOB_UPLOAD_INVALID", message).expected_offset(), None);
        assert_eq!(answered(416, "", "0 instead of ").expected_offset(), None);
        assert_eq!(answered(416, "", "0 instead of 99999999999999999999999").expected_offset(), None);
    }

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_as_a_moment() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        assert_eq!(pause(" 120", now), Some(Duration::from_secs(120)));
        assert_eq!(pause("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(7)));
        assert_eq!(pause("Sun, 06 Nov 1994 08:49:17 GMT", now), Some(Duration::ZERO));
        assert_eq!(pause("soon", now), None);
    }

    #[test]
    fn only_an_expired_token_is_worth_a_fresh_one_after_403() {
        assert!(answered(401, "UNAUTHORIZED", "").wants_fresh_login());
        let expired = "Your authorization token has expired. Reauthenticate and try again.";
        assert!(answered(403, "DENIED", expired).wants_fresh_login());
        assert!(!answered(403, "DENIED", "not authorized to perform: ecr:PutImage").wants_fresh_login());
    }

    #[test]
    fn the_kind_follows_from_the_status() {
        for (status, code) in [(401, 3), (403, 3), (404, 1), (405, 1), (429, 4), (500, 4)] {
            assert_eq!(answered(status, "", "").into_error("r", "d").kind().exit_code(), code, "{status}");
        }
    }

    /// What comes of an answer with this status and `body`, of which `promised` bytes were to come.
    async fn met(status: u16, body: &str, promised: usize) -> RequestError {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let answer = format!("HTTP/1.1 {status} Said\r\nContent-Length: {promised}\r\n\r\n{body}");
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            // It is short and comes in one piece.
            let _head = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let limits = Limits { bytes: 0, time: Duration::from_secs(60) };
        let asking = RequestTimer::new(&ignore(), "GET", &url, UrlDetail::Path, Arc::default());
        let reply = reply::send(http.get(url), asking, limits).await.unwrap();
        answering.join().unwrap();
        RequestError::of_reply(reply, &Method::GET)
    }

    #[tokio::test]
    async fn half_a_refusal_is_none() {
        let body = r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"gone"}]}"#;
        for status in [400, 401, 403, 404, 416] {
            let whole = met(status, body, body.len()).await;
            assert!(!whole.is_transient() && whole.is_lost_session(), "{status}");
            assert!(met(status, &body[..13], body.len()).await.is_transient(), "{status}, cut");
        }
        // What says all that matters in its first line is taken at its word.
        let busy = met(429, "slow", 100).await;
        assert!(busy.is_throttle() && busy.is_transient());
    }
}
