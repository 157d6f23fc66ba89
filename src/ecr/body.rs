//! Bodies of answers to the SDK, which reads them into memory whatever their length.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::error::find_cause;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why the body of an answer could not be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// It broke off. A repeated request may help.
    Cut(BoxError),
    /// It is longer than this many bytes, which no answer of AWS is.
    TooLong(u64),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut(_) => f.write_str("the answer broke off"),
            Self::TooLong(most) => write!(f, "the answer is longer than {} MiB", most >> 20),
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

/// Finds out whether a body that could not be read is the cause of an error.
pub(super) fn unreadable<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Unreadable> {
    find_cause(error)
}

/// Limits the body of an answer to `most` bytes.
pub(super) fn bounded(mut answer: HttpResponse, most: u64) -> HttpResponse {
    let body = answer.take_body();
    *answer.body_mut() = SdkBody::from_body_1_x(Bounded { body, most, left: most });
    answer
}

struct Bounded<B> {
    body: B,
    most: u64,
    left: u64,
}

impl<B: Body<Data = Bytes, Error = BoxError> + Unpin> Body for Bounded<B> {
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
                        None => Err(Unreadable::TooLong(self.most).into()),
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
