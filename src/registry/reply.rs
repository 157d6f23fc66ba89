//! The answer to a request. Bodies of answers are read here and nowhere else: each has a limit in size and a limit in time.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use reqwest::{RequestBuilder, Response, StatusCode, Url};

use super::error_envelope::Envelope;
use super::request_error::RequestError;
use super::transport::text_of;
use crate::error::{ServiceError, page_title};
use crate::proxy::{Proxies, ProxyError};
use crate::request_log::RequestTimer;

/// As much of a refusal, or of a web page, as is read.
const REFUSAL: usize = 64 << 10;

/// How much of an answer's body is read, and how long that may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The most bytes of a success. With 0 the body is not read, unless it is a web page.
    pub(super) bytes: usize,
    /// The most time for the body.
    pub(super) time: Duration,
}

/// An answer whose body was read as far as its limits allow.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) url: Url,
    body: Vec<u8>,
    end: End,
    limits: Limits,
}

/// Why the reading of a body ended.
#[derive(Debug)]
enum End {
    /// That was all.
    Complete,
    /// It is larger than the limit.
    TooLarge,
    /// The connection broke, or the rest did not come in time.
    Cut(RequestError),
}

/// Sends a request once and reads the answer. `asking` learns of the answer when it begins.
///
/// # Errors
/// Without an answer. What happens to its body afterwards is told by [`Reply::complete`].
pub(super) async fn send(request: RequestBuilder, asking: RequestTimer, limits: Limits) -> Result<Reply, SendError> {
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => {
            asking.failed(&error);
            return Err(SendError::of(error).await);
        }
    };
    asking.answered(response.status().as_u16(), |name| text_of(response.headers(), name));
    Ok(Reply::read(response, limits).await)
}

/// Why no answer came.
#[derive(Debug)]
pub(super) enum SendError {
    /// The proxy refuses to connect.
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

    /// The error without URLs, which may be signed.
    pub(super) fn into_source(self) -> Box<dyn std::error::Error + Send + Sync> {
        match self {
            Self::Proxy(error) => error.into(),
            Self::Other(error) => error.without_url().into(),
        }
    }
}

impl Reply {
    async fn read(mut response: Response, limits: Limits) -> Self {
        let (status, headers, url) = (response.status(), response.headers().clone(), response.url().clone());
        let limit = match status.is_success() && !is_page(&headers) {
            true => limits.bytes,
            false => limits.bytes.max(REFUSAL),
        };
        let mut body = Vec::new();
        let end = if limit == 0 {
            End::Complete
        } else {
            let reading = tokio::time::timeout(limits.time, read(&mut response, limit, &mut body));
            reading.await.unwrap_or_else(|_| End::Cut(timed_out(limits.time)))
        };
        Self { status, headers, url, body, end, limits }
    }

    /// A header's value, if it is text.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        text_of(&self.headers, name)
    }

    /// Whether the body is a web page, which no registry sends.
    pub(super) fn is_page(&self) -> bool {
        is_page(&self.headers)
    }

    /// The title of the web page that the body is.
    pub(super) fn page_title(&self) -> Option<String> {
        page_title(&self.body)
    }

    /// The error that the body holds.
    pub(super) fn envelope(&self) -> Envelope {
        Envelope::of(&self.body)
    }

    /// Why the body ended before its end and before its limit, if it did.
    pub(super) fn cut(self) -> Option<RequestError> {
        match self.end {
            End::Complete | End::TooLarge => None,
            End::Cut(fault) => Some(fault),
        }
    }

    /// Checks that a body that was wanted is complete.
    ///
    /// # Errors
    /// If it is too large, or if the connection broke or the time was over before its end.
    pub(super) fn complete(mut self) -> Result<Self, RequestError> {
        if self.limits.bytes == 0 || !self.status.is_success() {
            return Ok(self);
        }
        match std::mem::replace(&mut self.end, End::Complete) {
            End::Complete => Ok(self),
            End::TooLarge => {
                let message = format!("it sent more than the {} bytes that were expected at most", self.limits.bytes);
                Err(RequestError::Status(Box::new(ServiceError { message, ..ServiceError::default() }), None))
            }
            End::Cut(fault) => Err(fault),
        }
    }

    /// The body of a complete answer.
    pub(super) fn body(self) -> Bytes {
        self.body.into()
    }
}

/// Reads a body to its end or to the limit.
async fn read(response: &mut Response, limit: usize, body: &mut Vec<u8>) -> End {
    loop {
        match response.chunk().await {
            Ok(None) => return End::Complete,
            Ok(Some(more)) => {
                let some = more.len().min(limit - body.len());
                body.extend_from_slice(&more[..some]);
                if some < more.len() {
                    return End::TooLarge;
                }
            }
            Err(error) => return End::Cut(RequestError::of_silence(error)),
        }
    }
}

fn timed_out(time: Duration) -> RequestError {
    RequestError::Transport(format!("the answer was not complete within {} s", time.as_secs()).into())
}

/// Whether the body is declared as HTML and not empty. Frameworks declare empty bodies so as well.
fn is_page(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text(CONTENT_TYPE).trim_start().to_ascii_lowercase().starts_with("text/html") && text(CONTENT_LENGTH) != "0"
}
