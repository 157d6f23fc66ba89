//! The pauses between tries of one request.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

use super::client::RetryConfig;

/// How much longer each pause after a failure of the service is: four pauses outlast a minute of failures, as a restart takes.
const FACTOR: f32 = 5.0;

/// The longest of them.
const LONGEST: Duration = Duration::from_secs(60);

/// The pauses that are left.
pub(super) struct Delays {
    retry: usize,
    usual: ExponentialBackoff,
    of_service: ExponentialBackoff,
}

/// The pause before one retry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delay {
    /// The number of the retry, from 1.
    pub(super) retry: usize,
    /// After a broken connection and its like.
    pub(super) usual: Duration,
    /// After a status from 500 up.
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
    fn the_usual_retries_outlast_a_minute_of_a_service_that_fails() {
        let all: Vec<Delay> = Delays::of(&RetryConfig::default()).collect();
        assert_eq!(all.iter().map(|delay| delay.retry).collect::<Vec<_>>(), [1, 2, 3, 4]);
        let sum = |pause: fn(&Delay) -> Duration| all.iter().map(pause).sum::<Duration>();
        assert!(sum(|delay| delay.of_service) > Duration::from_secs(60));
        assert!(sum(|delay| delay.usual) < Duration::from_secs(20));
        assert!(all[0].of_service < Duration::from_secs(1), "one failure costs little");
    }
}
