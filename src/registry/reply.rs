//! The response to a request. Bodies of responses are read here and nowhere else: each has a limit in size and in time.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};

use super::error_envelope::{Envelope, printable};
use super::request_error::{RequestError, is_transient};
use super::transport::text_of;
use super::transport_error::{Unanswered, is_hang_up};
use crate::error::{ServiceError, page_title};
use crate::proxy::{Proxies, ProxyError};
use crate::request_log::{REQUEST_IDS, RequestTimer};

/// The part of an error response, or of a web page, that is read, in bytes.
const LONGEST_ERROR: usize = 64 << 10;

/// The limits on reading the body of a response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The largest body of a success. With 0 the body is not read, unless it is a web page.
    pub(super) bytes: usize,
    /// The time limit for the body.
    pub(super) time: Duration,
}

/// A response whose body was read as far as its limits allow.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) url: Url,
    body: Vec<u8>,
    end: BodyEnd,
    limits: Limits,
}

/// Why reading a body ended.
#[derive(Debug)]
enum BodyEnd {
    /// The body is complete.
    Complete,
    /// The body is larger than the limit.
    TooLarge,
    /// The connection broke, or the time limit passed.
    Cut(RequestError),
}

/// Sends a request once and reads the response. `timer` ends when the response begins.
///
/// # Errors
/// Fails without a response. [`Reply::complete`] reports what happened to its body.
pub(super) async fn send(request: RequestBuilder, timer: RequestTimer, limits: Limits) -> Result<Reply, SendError> {
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => {
            timer.failed(&error);
            return Err(SendError::of(error).await);
        }
    };
    timer.answered(response.status().as_u16(), |name| text_of(response.headers(), name));
    Ok(Reply::read(response, limits).await)
}

/// Why no response came.
#[derive(Debug)]
pub(super) enum SendError {
    /// The proxy rejects the connection.
    Proxy(ProxyError),
    /// Any other reason.
    Other(reqwest::Error),
}

impl SendError {
    async fn of(error: reqwest::Error) -> Self {
        let url = error.url().filter(|_| error.is_connect()).cloned();
        let refusal = match url {
            Some(url) => Proxies::from_env().refusal(&url).await,
            None => None,
        };
        refusal.map_or(Self::Other(error), Self::Proxy)
    }

    /// Returns the error without URLs, which may be signed.
    pub(super) fn into_source(self) -> Box<dyn std::error::Error + Send + Sync> {
        match self {
            Self::Proxy(error) => error.into(),
            Self::Other(error) => error.without_url().into(),
        }
    }

    /// Turns it into the failure of a request; names the request if the peer hung up instead of responding.
    pub(super) fn into_request_error(self, method: &Method) -> RequestError {
        match self {
            Self::Other(error) if is_hang_up(&error) && error.url().is_some() => {
                let request = format!("{method} {}", error.url().map_or("", |url| url.path()));
                RequestError::Transport(Box::new(Unanswered { request, why: error.without_url() }))
            }
            error => RequestError::Transport(error.into_source()),
        }
    }
}

impl Reply {
    async fn read(mut response: Response, limits: Limits) -> Self {
        let (status, headers, url) = (response.status(), response.headers().clone(), response.url().clone());
        let limit = match status.is_success() && !is_page(&headers) {
            true => limits.bytes,
            false => limits.bytes.max(LONGEST_ERROR),
        };
        let mut body = Vec::new();
        let end = if limit == 0 {
            BodyEnd::Complete
        } else {
            let reading = tokio::time::timeout(limits.time, read(&mut response, limit, &mut body));
            reading.await.unwrap_or_else(|_| {
                let why = format!("the response was not complete within {} s", limits.time.as_secs());
                BodyEnd::Cut(RequestError::Transport(why.into()))
            })
        };
        Self { status, headers, url, body, end, limits }
    }

    /// Returns the value of a header, if it is text.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        text_of(&self.headers, name)
    }

    /// Returns whether the body is a web page, which no registry sends.
    pub(super) fn is_page(&self) -> bool {
        is_page(&self.headers)
    }

    /// Returns the response in the service's own words.
    pub(super) fn service_error(&self, method: &Method) -> ServiceError {
        let status = self.status;
        let title = page_title(&self.body);
        let is_page = title.is_some();
        let Envelope { code, message, detail } = match title {
            Some(message) => Envelope { message, ..Envelope::default() },
            None => Envelope::of(&self.body),
        };
        let message = match self.header(LOCATION.as_str()) {
            Some(location) if status.is_redirection() => format!("{} to {}", reason(status), printable(&location)),
            _ if message.is_empty() && code.is_empty() => reason(status),
            _ => message,
        };
        ServiceError {
            status: Some(status.as_u16()),
            code,
            message,
            detail,
            request_id: REQUEST_IDS.iter().find_map(|name| self.header(name)).map(|id| printable(&id)),
            request: Some(format!("{method} {}", self.url.path())),
            date: self.header(DATE.as_str()).and_then(|text| httpdate::parse_http_date(text.trim()).ok()),
            is_page,
        }
    }

    /// Turns a response that was not expected into an error.
    pub(super) fn into_error(self, method: &Method) -> RequestError {
        let service_error = self.service_error(method);
        match self.end {
            // Half an error response is ambiguous: a lost session is a 404, and so is a missing repository.
            BodyEnd::Cut(cut) if !is_transient(self.status.as_u16()) => cut,
            _ => {
                let delay = text_of(&self.headers, RETRY_AFTER.as_str());
                let delay = delay.and_then(|text| retry_after(&text, SystemTime::now()));
                RequestError::Status(Box::new(service_error), delay)
            }
        }
    }

    /// Checks that the body of a success is complete, if it was to be read.
    ///
    /// # Errors
    /// Fails if the body is too large, if the connection broke, and if the time limit passed.
    pub(super) fn complete(mut self) -> Result<Self, RequestError> {
        if self.limits.bytes == 0 || !self.status.is_success() {
            return Ok(self);
        }
        match std::mem::replace(&mut self.end, BodyEnd::Complete) {
            BodyEnd::Complete => Ok(self),
            BodyEnd::TooLarge => {
                let message = format!("the response is larger than {} bytes", self.limits.bytes);
                Err(RequestError::Status(Box::new(ServiceError { message, ..ServiceError::default() }), None))
            }
            BodyEnd::Cut(error) => Err(error),
        }
    }

    /// Returns the body of a complete response.
    pub(super) fn body(self) -> Bytes {
        self.body.into()
    }
}

/// Reads a body to its end or to the limit.
async fn read(response: &mut Response, limit: usize, body: &mut Vec<u8>) -> BodyEnd {
    loop {
        match response.chunk().await {
            Ok(None) => return BodyEnd::Complete,
            Ok(Some(more)) => {
                let some = more.len().min(limit - body.len());
                body.extend_from_slice(&more[..some]);
                if some < more.len() {
                    return BodyEnd::TooLarge;
                }
            }
            // The URL may be signed.
            Err(error) => return BodyEnd::Cut(RequestError::Transport(Box::new(error.without_url()))),
        }
    }
}

/// Returns whether the body is declared as HTML and not empty. Frameworks declare empty bodies as HTML, too.
fn is_page(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text(CONTENT_TYPE).trim_start().to_ascii_lowercase().starts_with("text/html") && text(CONTENT_LENGTH) != "0"
}

/// Parses `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let seconds = text.trim().parse().ok().map(Duration::from_secs);
    seconds.or_else(|| Some(httpdate::parse_http_date(text.trim()).ok()?.duration_since(now).unwrap_or_default()))
}

/// Returns the name of a status: `Not Found`.
fn reason(status: StatusCode) -> String {
    status.canonical_reason().unwrap_or("a response without a body").to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::sync::Arc;

    use super::*;
    use crate::request_log::{UrlDetail, ignore};

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        assert_eq!(retry_after(" 120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:17 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
    }

    /// Returns the error of a response with this status and `body`, whose declared length is `promised`.
    async fn error_of(status: u16, body: &str, promised: usize) -> RequestError {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let answer = format!("HTTP/1.1 {status} Status\r\nContent-Length: {promised}\r\n\r\n{body}");
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            // The request is short and comes in one piece.
            let _head = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let limits = Limits { bytes: 0, time: Duration::from_secs(60) };
        let timer = RequestTimer::new(&ignore(), "GET", &url, UrlDetail::Path, Arc::default());
        let reply = send(http.get(url), timer, limits).await.unwrap();
        answering.join().unwrap();
        reply.into_error(&Method::GET)
    }

    #[tokio::test]
    async fn half_an_error_response_is_transient() {
        let body = r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"gone"}]}"#;
        for status in [400, 401, 403, 404, 416] {
            let whole = error_of(status, body, body.len()).await;
            assert!(!whole.is_transient() && whole.is_lost_session(), "{status}");
            assert!(error_of(status, &body[..13], body.len()).await.is_transient(), "{status}, cut");
        }
        // A status that is transient by itself needs no body.
        let busy = error_of(429, "slow", 100).await;
        assert!(busy.is_throttle() && busy.is_transient());
    }
}
