//! The record of one request and its response, for observers.
//!
//! It contains no secrets: no headers, no bodies, and no part of a URL that may be secret, such as credentials and the query,
//! which may be a signature. The path is omitted for hosts that another service named.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use reqwest::Url;
use serde::Serialize;

use crate::error::{one_line, root_cause};

mod subject;

pub use subject::{Named, Subject, TargetId};

/// The headers with a request ID: AWS's, S3's, and that of most other services.
pub(crate) const REQUEST_IDS: [&str; 3] = ["x-amzn-requestid", "x-amz-request-id", "x-request-id"];

/// The maximum length of a request ID in characters. AWS's have 36.
const MAX_ID: usize = 100;

/// The maximum length of a reason in characters.
const MAX_REASON: usize = 200;

/// One attempt to send a request, and its result.
///
/// Lists the calls of AWS's API:
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// # use ecr_push::{CancellationToken, Options, PushRequest, Pusher, Source};
/// use std::sync::{Arc, Mutex};
///
/// use ecr_push::{Event, Subject};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let create = vec!["team/app".parse()?];
/// # let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
/// # let mut options = Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// let calls = Arc::new(Mutex::new(Vec::new()));
/// let log = calls.clone();
/// let on_event = move |event| {
///     if let Event::Request(request) = event
///         && let Some(Subject::Operation(action)) = &request.subject
///     {
///         log.lock().unwrap().push((action.clone(), request.status));
///     }
/// };
/// let pusher = Pusher::builder().options(options).on_event(on_event).start().await?;
/// # let archive = Source::Path("testdata/docker-20.10-save.tar".into());
/// # let request = PushRequest::new(archive, ["team/app:1.4".parse()?]);
/// pusher.push(request, CancellationToken::new()).await.into_result()?;
/// assert_eq!(calls.lock().unwrap()[0], ("ecr:GetAuthorizationToken".to_owned(), Some(200)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RequestRecord {
    /// `PATCH`
    pub method: String,
    /// `https://HOST/PATH`: without a query, without a login.
    pub url: String,
    /// The HTTP status, if there was a response.
    pub status: Option<u16>,
    /// Why there was no response, in a few words.
    #[serde(rename = "fault")]
    pub error: Option<String>,
    /// When the request was sent.
    #[serde(skip)]
    pub began: Instant,
    /// Seconds until the response began, or until the request failed. Reading the body is not included.
    pub seconds: f64,
    /// Whether the response throttles.
    #[serde(skip)]
    pub is_throttle: bool,
    /// The ID that the service gave the request.
    pub request_id: Option<String>,
    /// The bytes of the request's body that were handed to the connection.
    pub sent: u64,
    /// The repository: `HOST/REPOSITORY`.
    #[serde(skip)]
    pub repository: Option<String>,
    /// What the request was about.
    #[serde(rename = "about")]
    pub subject: Option<Subject>,
    /// The number of the attempt, from 1. A resumed upload is a new request.
    pub attempt: u32,
}

impl fmt::Display for RequestRecord {
    /// Formats it as one line, with the longest part last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.map_or_else(|| "---".to_owned(), |status| status.to_string());
        write!(f, "{:<5} {status} {:>6.0} ms", self.method, self.seconds * 1000.0)?;
        if self.attempt > 1 {
            write!(f, "  attempt {}", self.attempt)?;
        }
        match (self.sent, &self.subject) {
            (0, None) => {}
            (0, Some(subject)) => write!(f, "  {subject}")?,
            (sent, None) => write!(f, "  {sent} bytes")?,
            (sent, Some(subject)) => write!(f, "  {subject}, {sent} bytes")?,
        }
        write!(f, "  {}", self.url)?;
        if let Some(id) = &self.request_id {
            write!(f, "  request {id}")?;
        }
        self.error.iter().try_for_each(|error| write!(f, "  no answer: {error}"))
    }
}

/// Called with the record of each request at its end.
pub(crate) type RequestObserver = Arc<dyn Fn(RequestRecord) + Send + Sync>;

/// Returns an observer that does nothing.
pub(crate) fn ignore() -> RequestObserver {
    Arc::new(|_| {})
}

/// How much of a URL is recorded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum UrlDetail {
    /// Host and path.
    Path,
    /// The host only: the path may contain a secret.
    Host,
}

/// A request in flight. The observer is called once: when the response begins, when the request fails, or when it is
/// cancelled.
pub(crate) struct RequestTimer {
    observer: RequestObserver,
    record: Option<RequestRecord>,
    sent: Arc<AtomicU64>,
}

impl RequestTimer {
    /// Starts the record of a request that is sent now. `sent` counts the bytes of its body.
    pub(crate) fn new(
        observer: &RequestObserver,
        method: impl Into<String>,
        url: &Url,
        detail: UrlDetail,
        sent: Arc<AtomicU64>,
    ) -> Self {
        let record = RequestRecord {
            method: method.into(),
            url: address(url, detail),
            status: None,
            error: None,
            began: Instant::now(),
            seconds: 0.0,
            is_throttle: false,
            request_id: None,
            sent: 0,
            repository: None,
            subject: None,
            attempt: 1,
        };
        Self { observer: Arc::clone(observer), record: Some(record), sent }
    }

    /// Sets the repository.
    #[must_use]
    pub(crate) fn within(mut self, repository: String) -> Self {
        self.record.iter_mut().for_each(|record| record.repository = Some(repository.clone()));
        self
    }

    /// Sets what the request is about.
    #[must_use]
    pub(crate) fn about(mut self, subject: Option<Subject>) -> Self {
        self.record.iter_mut().for_each(|record| record.subject.clone_from(&subject));
        self
    }

    /// Sets the number of the attempt.
    #[must_use]
    pub(crate) fn attempt(mut self, attempt: u32) -> Self {
        self.record.iter_mut().for_each(|record| record.attempt = attempt);
        self
    }

    /// Ends the record when the response begins. `header` returns a header of it.
    pub(crate) fn answered(mut self, status: u16, header: impl Fn(&str) -> Option<String>) {
        let id = REQUEST_IDS.iter().find_map(|name| header(name));
        let id = id.map(|id| id.chars().filter(char::is_ascii_graphic).take(MAX_ID).collect());
        // AWS's API throttles with status 400 and the name of the error.
        let names = |name: &str| {
            ["Throttling", "TooManyRequests", "RequestLimitExceeded"].iter().any(|it| name.starts_with(it))
        };
        let is_throttle = status == 429 || header("x-amzn-errortype").is_some_and(|name| names(&name));
        self.end(|record| {
            (record.status, record.request_id, record.is_throttle) = (Some(status), id, is_throttle);
        });
    }

    /// Ends the record without a response.
    pub(crate) fn failed(mut self, why: &(dyn std::error::Error + 'static)) {
        self.end(|record| record.error = Some(one_line(&root_cause(why), MAX_REASON)));
    }

    fn end(&mut self, note: impl FnOnce(&mut RequestRecord)) {
        if let Some(mut record) = self.record.take() {
            note(&mut record);
            record.seconds = record.began.elapsed().as_secs_f64();
            record.sent = self.sent.load(Ordering::Relaxed);
            (self.observer)(record);
        }
    }
}

impl Drop for RequestTimer {
    /// Ends the record after a cancellation or a time limit.
    fn drop(&mut self) {
        self.end(|record| record.error = Some("given up".into()));
    }
}

impl fmt::Debug for RequestTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestTimer({:?})", self.record)
    }
}

/// Formats a URL without its secret parts.
fn address(url: &Url, detail: UrlDetail) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path = match detail {
        UrlDetail::Path => url.path(),
        UrlDetail::Host if url.path() == "/" => "/",
        UrlDetail::Host => "/***",
    };
    format!("{}://{}{port}{path}", url.scheme(), url.host_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::oci::LayerId;

    /// Returns an observer, and the records that it has received.
    fn observer() -> (RequestObserver, Arc<Mutex<Vec<RequestRecord>>>) {
        let records = Arc::new(Mutex::new(Vec::new()));
        let received = Arc::clone(&records);
        (Arc::new(move |record| received.lock().unwrap().push(record)), records)
    }

    #[test]
    fn secret_parts_of_a_url_are_not_recorded() {
        for (url, path, host) in [
            ("https://me:word@a.example:444/v2/a?sig=1#x", "https://a.example:444/v2/a", "https://a.example:444/***"),
            ("http://[::1]:5000/", "http://[::1]:5000/", "http://[::1]:5000/"),
            ("https://a.example?sig=1", "https://a.example/", "https://a.example/"),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(
                (address(&url, UrlDetail::Path).as_str(), address(&url, UrlDetail::Host).as_str()),
                (path, host)
            );
        }
    }

    #[test]
    fn each_request_is_recorded_once_however_it_ends() {
        let ((observer, records), url) = (observer(), Url::parse("https://a.example/v2/").unwrap());
        let subject = Subject::Layer { target: 0, layer: Named::new(LayerId::Place(0), "a") };
        let timer = || RequestTimer::new(&observer, "GET", &url, UrlDetail::Path, Arc::new(AtomicU64::new(7)));
        timer()
            .within("a.example/team".into())
            .about(Some(subject.clone()))
            .attempt(2)
            .answered(200, |name| (name == "x-amz-request-id").then(|| format!("1\u{1b}[2 {}", "3".repeat(200))));
        timer().failed(&std::io::Error::other("broken"));
        drop(timer());
        let records = records.lock().unwrap();
        let ends: Vec<_> = records.iter().map(|it| (it.status, it.error.as_deref(), it.sent)).collect();
        assert_eq!(ends, [(Some(200), None, 7), (None, Some("broken"), 7), (None, Some("given up"), 7)]);
        assert_eq!((records[0].attempt, &records[0].subject), (2, &Some(subject)));
        assert_eq!((records[0].repository.as_deref(), &records[1].repository), (Some("a.example/team"), &None));
        assert_eq!(records[0].request_id.as_ref().map(String::len), Some(MAX_ID));
        assert!(records[0].request_id.as_ref().unwrap().starts_with("1[23"));
        let line = |record: &RequestRecord| RequestRecord {
            seconds: 0.0124,
            request_id: record.status.map(|_| "8".into()),
            ..record.clone()
        };
        assert_eq!(
            records.iter().map(|record| line(record).to_string()).collect::<Vec<_>>(),
            [
                "GET   200     12 ms  attempt 2  layer a, 7 bytes  https://a.example/v2/  request 8",
                "GET   ---     12 ms  7 bytes  https://a.example/v2/  no answer: broken",
                "GET   ---     12 ms  7 bytes  https://a.example/v2/  no answer: given up",
            ]
        );
    }
}
