//! One request and its answer, as whoever watches is told of it.
//!
//! It holds nothing that is a secret: no header, no body, and of an address neither the query, which may be a signature,
//! nor a login. Of hosts that others named the path is left out, too.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use reqwest::Url;

use crate::error::root_cause;

/// The headers that name a request: AWS's, S3's, and that of most others.
pub(crate) const REQUEST_IDS: [&str; 3] = ["x-amzn-requestid", "x-amz-request-id", "x-request-id"];

/// As much of a request ID as is told. AWS's have 36 characters.
const LONGEST_ID: usize = 100;

/// As much of a reason as is told.
const LONGEST_FAULT: usize = 200;

/// A request, sent once, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestRecord {
    /// `PATCH`
    pub method: String,
    /// `https://HOST/PATH`: without a query, without a login.
    pub url: String,
    /// The HTTP status, where an answer came.
    pub status: Option<u16>,
    /// In a few words why none came, where none did.
    pub error: Option<String>,
    /// When the request went out.
    pub began: Instant,
    /// Seconds until the answer began, or until there was none. Its body is read after that.
    pub seconds: f64,
    /// Whether the answer asks to slow down.
    pub is_throttle: bool,
    /// By what whoever answered calls the request.
    pub request_id: Option<String>,
    /// Bytes of the request's body that went out, or were about to.
    pub sent: u64,
    /// The repository whose registry was asked: `HOST/REPOSITORY`.
    pub repository: Option<String>,
    /// What it was about: `layer sha256:2c26b46b68ff`, `ecr:GetAuthorizationToken`.
    pub about: Option<String>,
    /// How often the very same request was sent by then, from 1. An upload that goes on at some byte asks something new.
    pub attempt: u32,
}

impl fmt::Display for RequestRecord {
    /// One line. What is longest stands last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.map_or_else(|| "---".to_owned(), |status| status.to_string());
        write!(f, "{:<5} {status} {:>6.0} ms", self.method, self.seconds * 1000.0)?;
        if self.attempt > 1 {
            write!(f, "  try {}", self.attempt)?;
        }
        match (self.sent, &self.about) {
            (0, None) => {}
            (0, Some(about)) => write!(f, "  {about}")?,
            (sent, None) => write!(f, "  {sent} bytes")?,
            (sent, Some(about)) => write!(f, "  {about}, {sent} bytes")?,
        }
        write!(f, "  {}", self.url)?;
        if let Some(id) = &self.request_id {
            write!(f, "  request {id}")?;
        }
        self.error.iter().try_for_each(|error| write!(f, "  no answer: {error}"))
    }
}

/// Who is told of requests, each at its end.
pub(crate) type RequestObserver = Arc<dyn Fn(RequestRecord) + Send + Sync>;

/// Nobody is told.
pub(crate) fn ignore() -> RequestObserver {
    Arc::new(|_| {})
}

/// How much of an address is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum UrlDetail {
    /// Host and path.
    Path,
    /// The host alone: the path may hold what not everybody is to know.
    Host,
}

/// A request under way. The witness hears of it once: when its answer begins, when it failed, or when nobody waits for the
/// answer any more.
pub(crate) struct RequestTimer {
    witness: RequestObserver,
    exchange: Option<RequestRecord>,
    sent: Arc<AtomicU64>,
}

impl RequestTimer {
    /// A request that goes out now. `sent` counts the bytes of its body.
    pub(crate) fn new(
        witness: &RequestObserver,
        method: impl Into<String>,
        url: &Url,
        shown: UrlDetail,
        sent: Arc<AtomicU64>,
    ) -> Self {
        let exchange = RequestRecord {
            method: method.into(),
            url: address(url, shown),
            status: None,
            error: None,
            began: Instant::now(),
            seconds: 0.0,
            is_throttle: false,
            request_id: None,
            sent: 0,
            repository: None,
            about: None,
            attempt: 1,
        };
        Self { witness: Arc::clone(witness), exchange: Some(exchange), sent }
    }

    /// Says in which repository it is.
    #[must_use]
    pub(crate) fn within(mut self, repository: String) -> Self {
        self.exchange.iter_mut().for_each(|exchange| exchange.repository = Some(repository.clone()));
        self
    }

    /// Says what it is about.
    #[must_use]
    pub(crate) fn about(mut self, about: Option<String>) -> Self {
        self.exchange.iter_mut().for_each(|exchange| exchange.about.clone_from(&about));
        self
    }

    /// Says how often the same was sent by now.
    #[must_use]
    pub(crate) fn attempt(mut self, attempt: u32) -> Self {
        self.exchange.iter_mut().for_each(|exchange| exchange.attempt = attempt);
        self
    }

    /// An answer begins. `header` finds a header of it.
    pub(crate) fn answered(mut self, status: u16, header: impl Fn(&str) -> Option<String>) {
        let id = REQUEST_IDS.iter().find_map(|name| header(name));
        let id = id.map(|id| id.chars().filter(char::is_ascii_graphic).take(LONGEST_ID).collect());
        // AWS's API throttles with status 400 and the name of the error.
        let names = |name: &str| {
            ["Throttling", "TooManyRequests", "RequestLimitExceeded"].iter().any(|it| name.starts_with(it))
        };
        let is_throttle = status == 429 || header("x-amzn-errortype").is_some_and(|name| names(&name));
        self.end(|exchange| {
            (exchange.status, exchange.request_id, exchange.is_throttle) = (Some(status), id, is_throttle);
        });
    }

    /// No answer came.
    pub(crate) fn failed(mut self, why: &(dyn std::error::Error + 'static)) {
        let words: String = root_cause(why).split_whitespace().collect::<Vec<_>>().join(" ");
        self.end(|exchange| exchange.error = Some(words.chars().take(LONGEST_FAULT).collect()));
    }

    fn end(&mut self, note: impl FnOnce(&mut RequestRecord)) {
        if let Some(mut exchange) = self.exchange.take() {
            note(&mut exchange);
            exchange.seconds = exchange.began.elapsed().as_secs_f64();
            exchange.sent = self.sent.load(Ordering::Relaxed);
            (self.witness)(exchange);
        }
    }
}

impl Drop for RequestTimer {
    /// Ctrl-C, or a time limit of ours.
    fn drop(&mut self) {
        self.end(|exchange| exchange.error = Some("given up".into()));
    }
}

impl fmt::Debug for RequestTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Asking({:?})", self.exchange)
    }
}

fn address(url: &Url, shown: UrlDetail) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path = match shown {
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

    /// A witness, and what it was told.
    fn witness() -> (RequestObserver, Arc<Mutex<Vec<RequestRecord>>>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        (Arc::new(move |exchange| heard.lock().unwrap().push(exchange)), told)
    }

    #[test]
    fn of_an_address_nothing_is_told_that_may_be_a_secret() {
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
    fn each_request_is_told_once_however_it_ends() {
        let ((witness, told), url) = (witness(), Url::parse("https://a.example/v2/").unwrap());
        let ask = || RequestTimer::new(&witness, "GET", &url, UrlDetail::Path, Arc::new(AtomicU64::new(7)));
        ask()
            .within("a.example/team".into())
            .about(Some("layer a".into()))
            .attempt(2)
            .answered(200, |name| (name == "x-amz-request-id").then(|| format!("1\u{1b}[2 {}", "3".repeat(200))));
        ask().failed(&std::io::Error::other("broken"));
        drop(ask());
        let told = told.lock().unwrap();
        let ends: Vec<_> = told.iter().map(|it| (it.status, it.error.as_deref(), it.sent)).collect();
        assert_eq!(ends, [(Some(200), None, 7), (None, Some("broken"), 7), (None, Some("given up"), 7)]);
        assert_eq!((told[0].attempt, told[0].about.as_deref()), (2, Some("layer a")));
        assert_eq!((told[0].repository.as_deref(), &told[1].repository), (Some("a.example/team"), &None));
        assert_eq!(told[0].request_id.as_ref().map(String::len), Some(LONGEST_ID));
        assert!(told[0].request_id.as_ref().unwrap().starts_with("1[23"));
        let line = |told: &RequestRecord| RequestRecord {
            seconds: 0.0124,
            request_id: told.status.map(|_| "8".into()),
            ..told.clone()
        };
        assert_eq!(
            told.iter().map(|told| line(told).to_string()).collect::<Vec<_>>(),
            [
                "GET   200     12 ms  try 2  layer a, 7 bytes  https://a.example/v2/  request 8",
                "GET   ---     12 ms  7 bytes  https://a.example/v2/  no answer: broken",
                "GET   ---     12 ms  7 bytes  https://a.example/v2/  no answer: given up",
            ]
        );
    }
}
