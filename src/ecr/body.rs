//! A limit on the bodies of responses: the SDK reads them into memory, whatever their length.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why the body of a response could not be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// It is incomplete. A retry may help.
    Cut(BoxError),
    /// It is longer than this many bytes. No response of AWS is.
    TooLong(u64),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut(_) => f.write_str("the answer broke off"),
            Self::TooLong(limit) => write!(f, "the answer is longer than {} MiB", limit >> 20),
        }
    }
}

impl std::error::Error for Unreadable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Cut(why) => Some(why.as_ref()),
            Self::TooLong(_) => None,
        }
    }
}

/// Limits the body of a response to `limit` bytes.
pub(super) fn limited(mut response: HttpResponse, limit: u64) -> HttpResponse {
    let body = response.take_body();
    *response.body_mut() = SdkBody::from_body_1_x(LimitedBody { body, limit, left: limit });
    response
}

struct LimitedBody<B> {
    body: B,
    limit: u64,
    left: u64,
}

impl<B: Body<Data = Bytes, Error = BoxError> + Unpin> Body for LimitedBody<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        polled.map(|frame| {
            Some(match frame? {
                Ok(frame) => {
                    let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                    match self.left.checked_sub(length) {
                        Some(left) => {
                            self.left = left;
                            Ok(frame)
                        }
                        None => Err(Unreadable::TooLong(self.limit).into()),
                    }
                }
                Err(why) => Err(Unreadable::Cut(why).into()),
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
