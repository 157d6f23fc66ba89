//! The pace of requests of one kind, for services that limit how many they accept per second.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::sync::lock;

/// The share of a second that is added to each: requests may take different times to arrive.
const MARGIN: f64 = 0.05;

/// Delays requests so that no period has more than so many of them.
#[derive(Debug)]
pub(crate) struct Pacer {
    count: usize,
    period: Duration,
    /// When the last requests were sent, or will be: as many as a period may have.
    sent: Mutex<VecDeque<Instant>>,
}

impl Pacer {
    /// Paces requests to `per_second`, which may be a fraction of one.
    pub(crate) fn new(per_second: f64) -> Self {
        let (count, period) = window(per_second);
        Self { count, period, sent: Mutex::default() }
    }

    /// Returns when a request may be sent that is ready now. It counts as sent then.
    pub(super) fn reserve(&self) -> Instant {
        let (now, mut sent) = (Instant::now(), lock(&self.sent));
        let earlier = if sent.len() < self.count { None } else { sent.pop_front() };
        let at = earlier.map_or(now, |earlier| now.max(earlier + self.period));
        sent.push_back(at);
        at
    }
}

/// Returns how many requests a period may have, and how long the period is: about a second, so that a few requests wait for
/// nothing.
fn window(per_second: f64) -> (usize, Duration) {
    let per_second = if per_second.is_finite() { per_second.clamp(0.001, 100_000.0) } else { 100_000.0 };
    let count = per_second.floor().max(1.0);
    (count as usize, Duration::from_secs_f64(count / per_second * (1.0 + MARGIN)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_has_whole_requests() {
        let millis = |rate| {
            let (count, period) = window(rate);
            (count, period.as_millis())
        };
        assert_eq!([10.0, 2.5, 1.0, 0.5].map(millis), [(10, 1050), (2, 840), (1, 1050), (1, 2100)]);
        assert_eq!(millis(0.0).0, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn no_second_has_more_requests_than_the_rate() {
        let (pacer, start) = (Pacer::new(10.0), Instant::now());
        let mut sent = Vec::new();
        for n in 0..100_u64 {
            let at = pacer.reserve();
            tokio::time::sleep_until(at).await;
            sent.push(start.elapsed());
            tokio::time::sleep(Duration::from_millis(n % 7)).await;
        }
        assert!(sent[9] < Duration::from_millis(100), "a few wait for nothing: {sent:?}");
        for (first, eleventh) in sent.iter().zip(&sent[10..]) {
            assert!(*eleventh - *first >= Duration::from_secs(1), "{first:?} {eleventh:?}");
        }
        assert!(sent[99] < Duration::from_secs(10), "{:?}", sent[99]);
    }
}
