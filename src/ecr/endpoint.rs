//! Small HTTP endpoints that are not AWS's own API: a CI system's token endpoint, a container's credentials endpoint.

use std::time::{Duration, SystemTime};

use aws_sdk_ecr::primitives::{DateTime, DateTimeFormat};
use backon::{ExponentialBuilder, Retryable as _};

use crate::error::{one_line, root_cause};
use crate::request_log::RequestTimer;

/// The maximum size of a response in bytes. Tokens and credentials are some kilobytes.
const MAX_SIZE: usize = 1 << 20;

/// The maximum length of an endpoint's reason in characters.
const MAX_REASON: usize = 300;

/// The number of retries. Azure's endpoint times out now and then (aws/aws-toolkit-azure-devops#591).
const RETRIES: usize = 4;

/// The failure of a request to an endpoint.
pub(super) enum EndpointError {
    /// A retry may succeed.
    Transient(String),
    /// A retry does not help.
    Permanent(String),
}

/// A response with its complete body.
pub(super) struct Response {
    pub(super) status: reqwest::StatusCode,
    pub(super) body: Vec<u8>,
}

impl Response {
    /// Turns a status other than 2xx into an error with the endpoint's reason.
    pub(super) fn failure(&self, reason: &str) -> EndpointError {
        let status = self.status;
        let text = match reason {
            "" => format!("HTTP {}", status.as_u16()),
            reason => format!("HTTP {}: {reason}", status.as_u16()),
        };
        match status.is_server_error() || status.as_u16() == 429 {
            true => EndpointError::Transient(text),
            false => EndpointError::Permanent(text),
        }
    }
}

/// Sends a request once and reads the response.
///
/// # Errors
/// Fails without a complete response, and if it is longer than tokens and credentials are.
pub(super) async fn send(request: reqwest::RequestBuilder, timer: RequestTimer) -> Result<Response, EndpointError> {
    // A URL may contain a secret.
    let failed = |error: reqwest::Error| EndpointError::Transient(root_cause(&error.without_url()));
    let mut response = match request.send().await {
        Ok(response) => response,
        Err(error) => {
            timer.failed(&error);
            return Err(failed(error));
        }
    };
    let status = response.status();
    timer.answered(status.as_u16(), |name| Some(response.headers().get(name)?.to_str().ok()?.to_owned()));
    let mut body = Vec::new();
    while let Some(more) = response.chunk().await.map_err(failed)? {
        body.extend_from_slice(&more);
        if body.len() > MAX_SIZE {
            return Err(EndpointError::Permanent(format!("the answer is longer than {MAX_SIZE} bytes")));
        }
    }
    Ok(Response { status, body })
}

/// Sends a request again while its failure is transient.
///
/// # Errors
/// Returns the last failure.
pub(super) async fn with_retries<T, F>(send: impl FnMut() -> F) -> Result<T, EndpointError>
where
    F: Future<Output = Result<T, EndpointError>>,
{
    let delays =
        ExponentialBuilder::default().with_min_delay(Duration::from_millis(500)).with_max_times(RETRIES).with_jitter();
    send.retry(delays).sleep(tokio::time::sleep).when(|error| matches!(error, EndpointError::Transient(_))).await
}

/// Parses the expiry of credentials. `None` if there is none.
///
/// # Errors
/// Fails if it is not a time.
pub(super) fn expiration(text: Option<&str>) -> Result<Option<SystemTime>, String> {
    let Some(text) = text else { return Ok(None) };
    let time = DateTime::from_str(text, DateTimeFormat::DateTimeWithOffset).ok();
    let time = time.and_then(|time| SystemTime::try_from(time).ok());
    time.map(Some).ok_or_else(|| "the credentials' Expiration is not a time".to_owned())
}

/// Returns the text of an error as one line of limited length.
pub(super) fn reason_line(text: &str) -> String {
    one_line(text, MAX_REASON)
}
