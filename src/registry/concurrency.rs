//! The concurrency of all requests to one registry. When it throttles one request, all wait; the number of concurrent
//! requests is halved, and grows again while requests succeed.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Method;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Limits the concurrent requests to one registry.
#[derive(Debug)]
pub(super) struct ConcurrencyLimiter {
    state: Mutex<LimiterState>,
    left: Notify,
}

#[derive(Debug)]
struct LimiterState {
    /// No request is sent before this time.
    paused_until: Option<Instant>,
    /// The number of requests that may be in flight now.
    allowed: usize,
    /// The maximum number of requests in flight.
    max: usize,
    in_flight: usize,
    /// When `allowed` was lowered last. Responses to requests sent before that are no reason to lower it again.
    lowered_at: Option<Instant>,
    /// The number of requests that succeeded since `allowed` changed.
    successes: usize,
    /// The number of all requests that succeeded, by method.
    succeeded: HashMap<Method, u64>,
}

impl ConcurrencyLimiter {
    /// Creates a limiter for `max` requests at once, at least one.
    pub(super) fn new(max: usize) -> Self {
        let max = max.max(1);
        let state = LimiterState {
            paused_until: None,
            allowed: max,
            max,
            in_flight: 0,
            lowered_at: None,
            successes: 0,
            succeeded: HashMap::new(),
        };
        Self { state: Mutex::new(state), left: Notify::new() }
    }

    /// Waits until a request may be sent: the delay that the registry asked for has passed, and a permit is free.
    pub(super) async fn acquire(&self) -> Permit<'_> {
        loop {
            // From now on no release is missed, and two releases wake two waiters.
            let mut left = std::pin::pin!(self.left.notified());
            left.as_mut().enable();
            let paused = {
                let mut state = self.state();
                let paused = state.paused_until.filter(|until| *until > Instant::now());
                if paused.is_none() && state.in_flight < state.allowed {
                    state.in_flight += 1;
                    return Permit { limiter: self, since: Instant::now() };
                }
                paused
            };
            match paused {
                Some(until) => {
                    // This waiter may be cancelled during the pause: another one must be woken.
                    self.left.notify_one();
                    sleep_until(until).await;
                }
                None => left.await,
            }
        }
    }

    /// Returns how many requests with this method have succeeded.
    pub(super) fn succeeded(&self, method: &Method) -> u64 {
        self.state().succeeded.get(method).copied().unwrap_or_default()
    }

    /// Delays all requests by `pause`.
    pub(super) fn pause_all(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut state = self.state();
        state.paused_until = Some(state.paused_until.map_or(until, |before| before.max(until)));
    }

    fn state(&self) -> MutexGuard<'_, LimiterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The permission to have one request in flight, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    limiter: &'a ConcurrencyLimiter,
    since: Instant,
}

impl Permit<'_> {
    /// Notes a success: after as many successes as there are permits, there is one permit more.
    pub(super) fn succeeded(&self, method: &Method) {
        let mut state = self.limiter.state();
        state.successes += 1;
        *state.succeeded.entry(method.clone()).or_default() += 1;
        if state.allowed < state.max && state.successes >= state.allowed {
            (state.allowed, state.successes) = (state.allowed + 1, 0);
            self.limiter.left.notify_one();
        }
    }

    /// Notes that the registry throttled the request: halves the number of permits. Ten requests that are throttled together
    /// halve it once.
    pub(super) fn throttled(&self) {
        let mut state = self.limiter.state();
        if state.lowered_at.is_none_or(|lowered| self.since > lowered) {
            state.allowed = (state.in_flight.min(state.allowed) / 2).max(1);
            (state.lowered_at, state.successes) = (Some(Instant::now()), 0);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.limiter.state().in_flight -= 1;
        self.limiter.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_requests_wait_for_the_longest_pause() {
        let (limiter, start) = (ConcurrencyLimiter::new(8), Instant::now());
        drop(limiter.acquire().await);
        assert_eq!(start.elapsed(), Duration::ZERO);
        limiter.pause_all(Duration::from_secs(4));
        limiter.pause_all(Duration::from_secs(1));
        tokio::join!(limiter.acquire(), limiter.acquire());
        assert_eq!(start.elapsed(), Duration::from_secs(4));
    }

    /// Returns the number of permits.
    async fn permits(limiter: &ConcurrencyLimiter) -> usize {
        let mut permits = Vec::new();
        while let Ok(permit) = tokio::time::timeout(Duration::from_millis(1), limiter.acquire()).await {
            permits.push(permit);
        }
        permits.len()
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_halves_the_permits_once_and_successes_restore_them() {
        let limiter = ConcurrencyLimiter::new(8);
        assert_eq!(permits(&limiter).await, 8);
        let round: Vec<Permit<'_>> = futures_util::future::join_all((0..8).map(|_| limiter.acquire())).await;
        tokio::time::advance(Duration::from_millis(5)).await;
        // All eight requests are throttled. One succeeded before.
        round[0].succeeded(&Method::GET);
        round.iter().for_each(Permit::throttled);
        drop(round);
        assert_eq!(permits(&limiter).await, 4);
        tokio::time::advance(Duration::from_millis(5)).await;
        let next = limiter.acquire().await;
        next.throttled();
        drop(next);
        assert_eq!(permits(&limiter).await, 1, "one request was in flight, and one permit always remains");
        // One success for the second permit, two for the third, ...
        let mut successes = 0;
        while permits(&limiter).await < 8 {
            limiter.acquire().await.succeeded(&Method::GET);
            successes += 1;
        }
        assert_eq!(successes, 1 + 2 + 3 + 4 + 5 + 6 + 7);
        limiter.acquire().await.succeeded(&Method::GET);
        assert_eq!(permits(&limiter).await, 8, "no more than the maximum");
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_gets_the_next_free_permit() {
        let limiter = ConcurrencyLimiter::new(1);
        let first = limiter.acquire().await;
        let (start, second) = (Instant::now(), limiter.acquire());
        let leave = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            drop(first);
        };
        let (second, ()) = tokio::join!(second, leave);
        assert_eq!(start.elapsed(), Duration::from_secs(2));
        drop(second);
    }

    #[tokio::test(start_paused = true)]
    async fn the_permit_of_a_cancelled_waiter_goes_to_the_next() {
        let limiter = ConcurrencyLimiter::new(1);
        let in_flight = limiter.acquire().await;
        // The first waiter is next, and is cancelled during the pause.
        let (mut first, mut second) = (Box::pin(limiter.acquire()), Box::pin(limiter.acquire()));
        assert!(futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut second).is_pending());
        limiter.pause_all(Duration::from_secs(4));
        drop(in_flight);
        assert!(futures_util::poll!(&mut first).is_pending());
        drop(first);
        assert!(tokio::time::timeout(Duration::from_secs(60), second).await.is_ok(), "it waits forever");
    }
}
