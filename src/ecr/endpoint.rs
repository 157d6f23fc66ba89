//! Small HTTP endpoints that are not AWS's own API: a CI system's token endpoint, a container's credentials endpoint.

use std::time::{Duration, SystemTime};

use aws_sdk_ecr::primitives::{DateTime, DateTimeFormat};
use backon::{BackoffBuilder as _, ExponentialBuilder};

use crate::error::root_cause;
use crate::request_log::RequestTimer;

/// The most bytes of an answer. Tokens and credentials are some kilobytes.
const LONGEST: usize = 1 << 20;

/// How much of an error's text is shown.
const LONGEST_REASON: usize = 300;

/// Azure's endpoint times out now and then (aws/aws-toolkit-azure-devops#591), so that endpoints get up to five requests.
const RETRIES: usize = 4;

/// Why an endpoint gave nothing usable.
pub(super) enum Failed {
    /// It may work in a moment.
    Passing(String),
    /// A retry does not help.
    Lasting(String),
}

/// An answer whose body was read to its end.
pub(super) struct Answered {
    pub(super) status: reqwest::StatusCode,
    pub(super) body: Vec<u8>,
}

impl Answered {
    /// The failure that a status other than 2xx stands for, with the reason that the endpoint gives.
    pub(super) fn failure(&self, reason: &str) -> Failed {
        let status = self.status;
        let text = match reason {
            "" => format!("HTTP {}", status.as_u16()),
            reason => format!("HTTP {}: {reason}", status.as_u16()),
        };
        if status.is_server_error() || status.as_u16() == 429 { Failed::Passing(text) } else { Failed::Lasting(text) }
    }
}

/// Sends one request and reads its answer.
///
/// # Errors
/// If no whole answer comes, or one that is longer than tokens and credentials are.
pub(super) async fn ask(request: reqwest::RequestBuilder, asking: RequestTimer) -> Result<Answered, Failed> {
    // A URL may hold a secret.
    let failed = |error: reqwest::Error| Failed::Passing(root_cause(&error.without_url()));
    let mut answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) => {
            asking.failed(&error);
            return Err(failed(error));
        }
    };
    asking.answered(answer.status().as_u16(), |name| {
        let header = answer.headers().get(name)?;
        header.to_str().ok().map(str::to_owned)
    });
    let status = answer.status();
    let mut body = Vec::new();
    while let Some(some) = answer.chunk().await.map_err(failed)? {
        body.extend_from_slice(&some);
        if body.len() > LONGEST {
            return Err(Failed::Lasting(format!("the answer is longer than {LONGEST} bytes")));
        }
    }
    Ok(Answered { status, body })
}

/// Repeats a request while its failure may pass.
///
/// # Errors
/// The last failure.
pub(super) async fn retried<T, F>(request: impl Fn() -> F) -> Result<T, Failed>
where
    F: Future<Output = Result<T, Failed>>,
{
    let waits =
        ExponentialBuilder::default().with_min_delay(Duration::from_millis(500)).with_max_times(RETRIES).with_jitter();
    let mut waits = waits.build();
    loop {
        match (request().await, waits.next()) {
            (Err(Failed::Passing(_)), Some(wait)) => tokio::time::sleep(wait).await,
            (result, _) => return result,
        }
    }
}

/// Reads when credentials end. `None` if that is not said.
///
/// # Errors
/// If it is not a time.
pub(super) fn expiration(text: Option<&str>) -> Result<Option<SystemTime>, String> {
    let Some(text) = text else { return Ok(None) };
    let time = DateTime::from_str(text, DateTimeFormat::DateTimeWithOffset).ok();
    let time = time.and_then(|time| SystemTime::try_from(time).ok());
    time.map(Some).ok_or_else(|| "the credentials' Expiration is not a time".to_owned())
}

/// Text of an error as it can be shown: one line, bounded, without control characters.
pub(super) fn shown(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().filter(|c| !c.is_control()).take(LONGEST_REASON).collect()
}
