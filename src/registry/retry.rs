//! Retries: how often, after which delay, and the time limits of requests.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// How often requests are retried, and their time limits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RetryConfig {
    /// The number of retries of one request.
    pub retries: usize,
    /// The delay before the first retry. The following delays grow, up to `max_delay`.
    pub initial_delay: Duration,
    /// The longest delay, unless the registry asks for a longer one.
    pub max_delay: Duration,
    /// The time limit of a small request, including its response.
    pub request_timeout: Duration,
    /// How long a request with a body may make no progress before its connection is closed.
    pub stall_timeout: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            retries: 4,
            initial_delay: Duration::from_millis(400),
            max_delay: Duration::from_secs(20),
            request_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(60),
        }
    }
}

/// The wait before a retry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct RetryNotice {
    /// The host and why its last response calls for a retry.
    pub why: String,
    /// The time until the retry.
    pub pause: Duration,
    /// Which retry it is, counted from 1.
    pub retry: usize,
    /// How many retries there are at most.
    pub retries: usize,
}

/// The growth of the delays after a failure of the service: four delays outlast a minute, as long as a restart takes.
const FACTOR: f32 = 5.0;

/// The longest of these delays.
const LONGEST: Duration = Duration::from_secs(60);

/// The remaining delays of one request.
pub(super) struct Delays {
    retry: usize,
    usual: ExponentialBackoff,
    of_service: ExponentialBackoff,
}

/// The delay before one retry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delay {
    /// The number of the retry, from 1.
    pub(super) retry: usize,
    /// After a broken connection and the like.
    pub(super) usual: Duration,
    /// After a status of 500 or more.
    pub(super) of_service: Duration,
}

impl Delays {
    pub(super) fn of(patience: &RetryConfig) -> Self {
        let pauses = ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(patience.initial_delay)
            .with_max_times(patience.retries);
        Self {
            retry: 0,
            usual: pauses.with_max_delay(patience.max_delay).build(),
            of_service: pauses.with_factor(FACTOR).with_max_delay(LONGEST).build(),
        }
    }
}

impl Iterator for Delays {
    type Item = Delay;

    fn next(&mut self) -> Option<Delay> {
        self.retry += 1;
        Some(Delay { retry: self.retry, usual: self.usual.next()?, of_service: self.of_service.next()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_retries_outlast_a_minute_of_service_failures() {
        let all: Vec<Delay> = Delays::of(&RetryConfig::default()).collect();
        assert_eq!(all.iter().map(|delay| delay.retry).collect::<Vec<_>>(), [1, 2, 3, 4]);
        let sum = |pause: fn(&Delay) -> Duration| all.iter().map(pause).sum::<Duration>();
        assert!(sum(|delay| delay.of_service) > Duration::from_secs(60));
        assert!(sum(|delay| delay.usual) < Duration::from_secs(20));
        assert!(all[0].of_service < Duration::from_secs(1), "one failure costs little");
    }
}
