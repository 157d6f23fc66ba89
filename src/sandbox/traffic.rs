//! The number of concurrent requests.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::response::Response;
use http_body::{Frame, SizeHint};

/// The number of requests, and of those that are served.
#[derive(Debug, Default)]
pub(super) struct Traffic(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    present: usize,
    served: usize,
    most_present: usize,
}

impl Traffic {
    /// Counts a request until the returned value is dropped.
    ///
    /// If `limit` requests are served already, it is rejected and not counted as served.
    pub(super) fn enter(self: &Arc<Self>, limit: Option<usize>) -> Presence {
        let mut counts = self.lock();
        counts.present += 1;
        counts.most_present = counts.most_present.max(counts.present);
        let is_served = limit.is_none_or(|limit| counts.served < limit);
        counts.served += usize::from(is_served);
        Presence { traffic: Arc::clone(self), is_served }
    }

    /// Returns the number of requests now.
    pub(super) fn now(&self) -> usize {
        self.lock().present
    }

    /// Returns the maximum number of concurrent requests.
    pub(super) fn most(&self) -> usize {
        self.lock().most_present
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is counted.
#[derive(Debug)]
pub(super) struct Presence {
    traffic: Arc<Traffic>,
    is_served: bool,
}

impl Presence {
    /// Returns whether it is within the limit.
    pub(super) fn is_served(&self) -> bool {
        self.is_served
    }

    /// Counts it until the response is sent, including its body.
    pub(super) fn until_sent(self, response: Response) -> Response {
        response.map(|body| Body::new(Outgoing { body, _presence: self }))
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut counts = self.traffic.lock();
        counts.present -= 1;
        counts.served -= usize::from(self.is_served);
    }
}

/// The body of a response that is sent. Its size hint is unchanged, so that it is framed in the same way.
struct Outgoing {
    body: Body,
    _presence: Presence,
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
