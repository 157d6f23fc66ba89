//! Injected faults. Data only: tests define what fails, how often, and after how many successes.

use std::time::{Duration, SystemTime};

/// A fault that is injected.
///
/// ```
/// use ecr_push::sandbox::{self, Fault, Sandbox, Trouble};
/// # use ecr_push::{CancellationToken, Options, PushRequest, Pusher, Source};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let create = vec!["team/app".parse()?];
/// # let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
/// # let mut options = Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// // The connection breaks once, in the middle of a blob.
/// let fault = Fault::once("ecr:CompleteLayerUpload", Trouble::CutAfter(1000));
/// sandbox.set_rules(|rules| rules.faults = vec![fault]);
/// # let pusher = Pusher::builder().options(options).start().await?;
/// # let archive = Source::Path("testdata/docker-20.10-save.tar".into());
/// # let request = PushRequest::new(archive, ["team/app:1.4".parse()?]);
/// pusher.push(request, CancellationToken::new()).await.into_result()?;
/// let broken = sandbox.log().into_iter().filter(|entry| entry.status == 0);
/// assert_eq!(broken.map(|entry| entry.operation).collect::<Vec<_>>(), ["ecr:CompleteLayerUpload"]);
/// assert_eq!(sandbox.open_uploads(), 0, "nothing is left behind");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// The operation that it affects, as in [`LogEntry::operation`](super::LogEntry::operation); `*` is any.
    pub on: String,
    /// The number of matching requests that still succeed.
    pub skip: u32,
    /// The number of matching requests that are affected after them.
    pub times: u32,
    /// The effect.
    pub what: Trouble,
}

/// The effect of a fault on a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// It is rejected after its body has been read.
    Status {
        /// The HTTP status.
        status: u16,
        /// The error code: `DENIED`, `ServerException`. If it is empty, each API uses its own for the status.
        code: String,
        /// The message.
        message: String,
    },
    /// A proxy on the way answers with a web page of this title.
    Page {
        /// The HTTP status.
        status: u16,
        /// The title.
        title: String,
    },
    /// It is throttled: 429 `TOOMANYREQUESTS` "Rate exceeded"
    /// (<https://github.com/google/go-containerregistry/issues/750>), 400 `ThrottlingException` in the JSON API. ECR was never
    /// seen to send a `Retry-After`.
    Throttle {
        /// The value of `Retry-After` in whole seconds.
        retry_after: Option<Duration>,
    },
    /// It is throttled, and `Retry-After` is an HTTP date (RFC 9110, section 10.2.3).
    ThrottleUntil(Duration),
    /// The connection is closed after this many bytes of its body. A shorter body is processed, and the response is lost.
    CutAfter(u64),
    /// It is processed, and the connection is closed after this many bytes of the response.
    CutAnswer(u64),
    /// It is processed, and the response is delayed.
    Delay(Duration),
    /// Nothing is read and no response is sent until the client closes the connection.
    Stall,
    /// The connection is closed at once.
    HangUp,
    /// The connection is reset at once (RST).
    Reset,
    /// The sending half of the connection is closed at once, and the body is still read to its end.
    HalfClose,
    /// All tokens expire, and then the request is served as usual.
    ExpireTokens,
    /// Its upload session is removed, and then the request is served as usual.
    ForgetUpload,
    /// A layer that its manifest lists is removed, and then the request is served as usual.
    LoseLayer,
    /// The repository that it creates is created by another client first, and then the request is served as usual.
    LoseRace,
    /// It is served as usual, and a success has this status.
    TellStatus(u16),
    /// It is served as usual, and the response has this `Location`, or none.
    TellLocation(Option<String>),
    /// The response is this JSON, after its body has been read.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The body.
        body: String,
    },
    /// It is served as usual, and a success has this status and no `Docker-Content-Digest`.
    Unconfirmed(u16),
    /// It is served as usual, and the response's body stops half-way while the connection stays open.
    StallBody,
    /// It is served as usual, and the response's body has no end.
    EndlessBody,
}

impl Trouble {
    /// Returns the value of `Retry-After`.
    pub(super) fn retry_after(&self) -> Option<String> {
        match self {
            Self::Throttle { retry_after } => retry_after.map(|wait| wait.as_secs().to_string()),
            Self::ThrottleUntil(wait) => Some(http_date(SystemTime::now() + *wait)),
            _ => None,
        }
    }
}

/// Formats a time as HTTP does (RFC 9110, section 5.6.7). A part of a second counts as a whole one, so that no client is too
/// early.
pub(super) fn http_date(time: SystemTime) -> String {
    httpdate::fmt_http_date(time + Duration::from_millis(999))
}

/// Formats a time as AWS's XML does: `1994-11-06T08:49:37Z`.
pub(super) fn utc(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// Formats a time as signatures do: `19941106T084937Z`.
pub(super) fn compact(time: SystemTime) -> String {
    utc(time).replace(['-', ':'], "")
}

impl Fault {
    /// The first matching request goes wrong.
    pub fn once(on: impl Into<String>, what: Trouble) -> Self {
        Self { on: on.into(), skip: 0, times: 1, what }
    }

    /// Lets `skip` matching requests pass first.
    #[must_use]
    pub fn after(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }

    /// Harms `times` requests.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }
}

/// Takes what befalls a request for `operation` off the list. Of several faults that are due, the first one wins.
pub(super) fn next(faults: &mut [Fault], operation: &str) -> Option<Trouble> {
    let mut due = None;
    for fault in faults.iter_mut().filter(|fault| fault.on == "*" || fault.on == operation) {
        if fault.skip > 0 {
            fault.skip -= 1;
        } else if fault.times > 0 && due.is_none() {
            fault.times -= 1;
            due = Some(fault.what.clone());
        }
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_http_writes_it() {
        for (milliseconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777_000, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399_000, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_399_001, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_735_689_599_000, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (4_107_542_400_000, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(http_date(SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds)), text);
        }
    }
}
