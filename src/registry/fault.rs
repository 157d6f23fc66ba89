//! What went wrong with one request, and whether to try it again.

use std::time::{Duration, SystemTime};

use oci_client::errors::{OciEnvelope, OciErrorCode};
use reqwest::header::{DATE, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};

use super::silence::{self, Unanswered};
use crate::error::{Answer, Error, Kind, page_title, root_cause};
use crate::exchange::REQUEST_IDS;

/// As much of an error body as is read. Longer ones are somebody's web page.
const BODY_LIMIT: usize = 64 << 10;

/// The failure of one request.
#[derive(Debug)]
pub(super) enum Fault {
    /// No answer came: name resolution, connection, TLS, a cut, a time limit.
    Silence(Box<dyn std::error::Error + Send + Sync>),
    /// An answer came, and it was not the one that was asked for.
    Answered(Box<Answer>, Option<Duration>),
    /// The failure is on this side: the archive, the credentials, Ctrl-C. Trying again is not the wire's business.
    Ours(Error),
}

impl Fault {
    /// The fault of a response that was not expected.
    pub(super) async fn of_response(mut response: Response, asked: &Method) -> Self {
        let status = response.status();
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let request_id = REQUEST_IDS.iter().find_map(|name| header(name)).map(|id| printable(&id));
        let date = header(DATE.as_str()).and_then(|text| httpdate::parse_http_date(text.trim()).ok());
        let asked = Some(format!("{asked} {}", response.url().path()));
        let retry_after = header(RETRY_AFTER.as_str()).and_then(|text| pause(&text, SystemTime::now()));
        let mut body = Vec::new();
        while body.len() < BODY_LIMIT {
            match response.chunk().await {
                Ok(Some(bytes)) => body.extend_from_slice(&bytes[..bytes.len().min(BODY_LIMIT - body.len())]),
                Ok(None) => break,
                // Half a refusal does not say which: a lost session is a 404, and so is a repository that is not there.
                Err(cut) if !may_pass(status.as_u16()) => return Self::of_silence(cut),
                Err(_) => break,
            }
        }
        let title = page_title(&body);
        let (code, message) = title.clone().map_or_else(|| read_envelope(&body), |title| (String::new(), title));
        let message = if message.is_empty() && code.is_empty() { reason(status) } else { message };
        let status = Some(status.as_u16());
        let answer = Answer { status, code, message, request_id, asked, date, is_page: title.is_some() };
        Self::Answered(Box::new(answer), retry_after)
    }

    /// The fault of a request whose connection broke before the answer.
    pub(super) fn of_cut(error: reqwest::Error, asked: &Method) -> Self {
        match error.url() {
            Some(url) if silence::is_hang_up(&error) => {
                let asked = format!("{asked} {}", url.path());
                Self::Silence(Box::new(Unanswered { asked, why: error.without_url() }))
            }
            _ => Self::of_silence(error),
        }
    }

    /// The fault of a request that got no answer. URLs are left out: they may be signed.
    pub(super) fn of_silence(error: reqwest::Error) -> Self {
        Self::Silence(Box::new(error.without_url()))
    }

    /// Whether the same request may well succeed a little later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Silence(error) => silence::is_transient(error.as_ref()),
            Self::Answered(answer, _) => answer.status.is_some_and(may_pass),
            Self::Ours(_) => false,
        }
    }

    /// Whether an upload session is lost, so that a new one may succeed.
    pub(super) fn is_lost_session(&self) -> bool {
        match self {
            // distribution 2.8 says 404 BLOB_UPLOAD_INVALID when a part was cut: its state has another offset than its
            // file (registry/handlers/blobupload.go, ResumeBlobUpload).
            Self::Answered(answer, _) => {
                answer.status == Some(416)
                    || answer.code == "BLOB_UPLOAD_UNKNOWN"
                    || answer.status == Some(404) && answer.code == "BLOB_UPLOAD_INVALID"
            }
            Self::Silence(_) | Self::Ours(_) => false,
        }
    }

    /// Whether the registry says no to a chunk in a way that may mean chunks as such: anything that is not about who we
    /// are, where we push to, how much, or how often.
    pub(super) fn refuses_chunks(&self) -> bool {
        match self {
            Self::Answered(answer, _) => {
                let means_others =
                    matches!(answer.code.as_str(), "DENIED" | "UNAUTHORIZED" | "NAME_UNKNOWN" | "NAME_INVALID");
                !means_others && matches!(answer.status, Some(400 | 404 | 405 | 411 | 415 | 416 | 501))
            }
            Self::Silence(_) | Self::Ours(_) => false,
        }
    }

    /// Whether a later run may have more luck.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Ours(error) => error.kind() == Kind::Interrupted,
            Self::Silence(_) | Self::Answered(..) => self.is_transient(),
        }
    }

    /// Whether the registry hashed other bytes than those that were sent: DIGEST_INVALID, or ECR's "None of the provided
    /// layer digests match the calculated layer digest".
    pub(super) fn is_wrong_digest(&self) -> bool {
        match self {
            Self::Answered(answer, _) => {
                answer.code == "DIGEST_INVALID" || answer.message.contains("match the calculated layer digest")
            }
            Self::Silence(_) | Self::Ours(_) => false,
        }
    }

    /// Whether the registry says of a whole blob that it has it, as ECR may of an archived one: LayerAlreadyExistsException
    /// of CompleteLayerUpload (ECR API reference), in whatever code that is told here.
    pub(super) fn is_already_there(&self) -> bool {
        match self {
            Self::Answered(answer, _) => {
                answer.code.starts_with("LayerAlreadyExists")
                    || answer.code == "BLOB_UPLOAD_INVALID" && answer.message.contains("already exists")
            }
            Self::Silence(_) | Self::Ours(_) => false,
        }
    }

    /// The offset that the registry expected, where it says so: "First byte of the layer part is 0 instead of 11304960"
    /// is the only word about it that ECR was seen to be right with (apple/containerization#790).
    pub(super) fn expected_offset(&self) -> Option<u64> {
        match self {
            Self::Answered(answer, _) if answer.status == Some(416) => {
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
            Self::Answered(answer, _) => {
                let message = answer.message.to_ascii_lowercase();
                answer.status == Some(401)
                    || answer.status == Some(403) && message.contains("authorization token has expired")
                    || answer.status == Some(400) && answer.code == "DENIED" && message.contains("authorization token")
            }
            Self::Silence(_) | Self::Ours(_) => false,
        }
    }

    /// Whether we may not do that.
    pub(super) fn is_denial(&self) -> bool {
        matches!(self, Self::Answered(answer, _) if answer.status == Some(403))
    }

    /// How long the registry asks to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Answered(_, retry_after) => *retry_after,
            Self::Silence(_) | Self::Ours(_) => None,
        }
    }

    /// Whether the registry asks everybody to slow down, not only this request.
    pub(super) fn is_throttle(&self) -> bool {
        matches!(self, Self::Answered(answer, _) if answer.status == Some(429)) || self.retry_after().is_some()
    }

    /// A few words for a line about the next try.
    pub(super) fn summary(&self) -> String {
        match self {
            Self::Silence(error) => root_cause(error.as_ref()),
            Self::Answered(answer, _) if answer.status == Some(429) => "throttled by the registry".into(),
            // Ten lanes that meet the same thing say the same.
            Self::Answered(answer, _) => Answer { request_id: None, ..Answer::clone(answer) }.to_string(),
            Self::Ours(error) => error.to_string(),
        }
    }

    /// The error for people. `doing` says what was tried, with which registry.
    pub(super) fn into_error(self, registry: &str, doing: &str) -> Error {
        let is_lost_session = self.is_lost_session();
        match self {
            Self::Ours(error) => error,
            Self::Silence(error) => silence::explain(error.as_ref(), registry, doing),
            Self::Answered(answer, _) => {
                let kind = match answer.status {
                    _ if is_lost_session => Kind::Unavailable,
                    Some(401 | 403) => Kind::Permission,
                    Some(408 | 425 | 429 | 500..) => Kind::Unavailable,
                    _ => Kind::Refused,
                };
                let hint = match answer.status {
                    Some(401) => Some("It wants a login, and has none from us or not the right one."),
                    // nginx, Cloudflare and their like stand in front of many registries and limit a request's body.
                    Some(413) => Some("Send less in one request: add --chunk-size 1M."),
                    _ if kind == Kind::Unavailable => Some("Run the same command again to carry on."),
                    _ => None,
                };
                let error = Error::new(kind, format!("{doing}: {registry} said no")).answered(*answer);
                match hint {
                    Some(hint) => error.hint(hint),
                    None => error,
                }
            }
        }
    }
}

/// Whether what a status stands for may pass by itself.
fn may_pass(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..)
}

/// The first error's code and all errors' messages, or the body as text.
fn read_envelope(body: &[u8]) -> (String, String) {
    if let Ok(envelope) = serde_json::from_slice::<OciEnvelope>(body) {
        let code = envelope.errors.first().map(|error| code_text(&error.code)).unwrap_or_default();
        let messages: Vec<_> = envelope.errors.iter().map(|error| printable(&error.message)).collect();
        return (code, messages.join("; "));
    }
    let text = String::from_utf8_lossy(body);
    (String::new(), printable(text.trim()))
}

/// What `Retry-After` asks for: seconds, or a moment (RFC 9110, 10.2.3).
fn pause(text: &str, now: SystemTime) -> Option<Duration> {
    let seconds = text.trim().parse().ok().map(Duration::from_secs);
    seconds.or_else(|| Some(httpdate::parse_http_date(text.trim()).ok()?.duration_since(now).unwrap_or_default()))
}

fn code_text(code: &OciErrorCode) -> String {
    match serde_json::to_value(code) {
        Ok(serde_json::Value::String(text)) => printable(&text),
        _ => String::new(),
    }
}

/// Text from the network for a terminal: one line, no control characters, no longer than a paragraph.
fn printable(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).take(1000).collect()
}

fn reason(status: StatusCode) -> String {
    status.canonical_reason().unwrap_or("an answer without a body").to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    fn answered(status: u16, code: &str, message: &str) -> Fault {
        let answer = Answer { status: Some(status), code: code.into(), message: message.into(), ..Answer::default() };
        Fault::Answered(Box::new(answer), None)
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

    #[test]
    fn unknown_codes_many_errors_and_other_people_s_pages_are_read() {
        let body = br#"{"errors":[{"code":"STRANGE","message":"a\nb"},{"code":"DENIED","message":"c"}]}"#;
        assert_eq!(read_envelope(body), ("STRANGE".into(), "a b; c".into()));
        assert_eq!(read_envelope(b"<html>\x1b[31mBad gateway"), (String::new(), "<html>[31mBad gateway".into()));
    }

    /// What comes of an answer with this status and `body`, of which `promised` bytes were to come.
    async fn met(status: u16, body: &str, promised: usize) -> Fault {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let answer = format!("HTTP/1.1 {status} Said\r\nContent-Length: {promised}\r\n\r\n{body}");
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            // It is short and comes in one piece.
            let _head = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let response = http.get(url).send().await.unwrap();
        answering.join().unwrap();
        Fault::of_response(response, &Method::GET).await
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
