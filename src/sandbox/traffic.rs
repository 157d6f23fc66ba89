//! The number of concurrent requests, and ECR's rates.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::response::Response;
use http_body::{Frame, SizeHint};

use super::registries::RegistryId;
use crate::sync::lock;

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
        let mut counts = lock(&self.0);
        counts.present += 1;
        counts.most_present = counts.most_present.max(counts.present);
        let is_served = limit.is_none_or(|limit| counts.served < limit);
        counts.served += usize::from(is_served);
        Presence { traffic: Arc::clone(self), is_served }
    }

    /// Returns the number of requests now.
    pub(super) fn now(&self) -> usize {
        lock(&self.0).present
    }

    /// Returns the maximum number of concurrent requests.
    pub(super) fn most(&self) -> usize {
        lock(&self.0).most_present
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
        let mut counts = lock(&self.traffic.0);
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

/// The requests in a second that ECR allows an account in a region by default
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html>).
const RATES: [(&str, u32); 8] = [
    ("ecr:BatchCheckLayerAvailability", 1000),
    ("ecr:BatchGetImage", 2000),
    ("ecr:CompleteLayerUpload", 100),
    ("ecr:GetAuthorizationToken", 500),
    ("ecr:GetDownloadUrlForLayer", 3000),
    ("ecr:InitiateLayerUpload", 100),
    ("ecr:PutImage", 10),
    ("ecr:UploadLayerPart", 500),
];

/// The requests that each registry may still serve of each operation: a second's worth at most.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<BTreeMap<(RegistryId, &'static str), Allowance>>);

/// The number of requests that are allowed at a moment.
#[derive(Debug)]
struct Allowance {
    left: f64,
    since: Instant,
}

impl Rates {
    /// Counts a request at a moment. Returns `false` if it is one too many.
    pub(super) fn allow(&self, registry: RegistryId, operation: &str, now: Instant) -> bool {
        let Some((operation, rate)) = RATES.iter().find(|(limited, _)| *limited == operation) else { return true };
        let rate = f64::from(*rate);
        let mut rates = lock(&self.0);
        let Allowance { left, since } =
            rates.entry((registry, operation)).or_insert(Allowance { left: rate, since: now });
        *left = (*left + now.saturating_duration_since(*since).as_secs_f64() * rate).min(rate);
        *since = now;
        let is_allowed = *left >= 1.0;
        *left -= f64::from(u8::from(is_allowed));
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_second_s_worth_of_requests_passes_in_each_registry() {
        let (rates, start) = (Rates::default(), Instant::now());
        let ask = |region: &str, operation: &str, at: Duration| {
            let registry = RegistryId { account: "000000000000".into(), region: region.into() };
            rates.allow(registry, operation, start + at)
        };
        let passed = |region, at| (0..50).filter(|_| ask(region, "ecr:PutImage", at)).count();
        assert_eq!((passed("us-east-1", Duration::ZERO), passed("eu-west-1", Duration::ZERO)), (10, 10));
        assert_eq!(passed("us-east-1", Duration::from_millis(550)), 5);
        assert_eq!(passed("us-east-1", Duration::from_secs(60)), 10);
        assert!((0..5000).all(|_| ask("us-east-1", "ecr:ListImages", Duration::ZERO)));
    }
}
