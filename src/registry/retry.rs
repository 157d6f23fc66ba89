//! Retries: how often, after which delay, and the time limits of requests.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use reqwest::Method;

use super::request_error::RequestError;

/// How often requests are retried, and their time limits.
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// # use ecr_push::{CancellationToken, Options, PushRequest, Pusher, Source};
/// use ecr_push::Kind;
/// use ecr_push::sandbox::{Fault, Trouble};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let create = vec!["team/app".parse()?];
/// # let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
/// # let mut options = Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// options.registries.retry.retries = 0;
/// # let archive = Source::Path("testdata/docker-20.10-save.tar".into());
/// # let request = PushRequest::new(archive, ["team/app:1.4".parse()?]);
/// let pusher = Pusher::builder().options(options).start().await?;
/// sandbox.set_rules(|rules| rules.faults = vec![Fault::once("ecr:PutImage", Trouble::HangUp)]);
/// let outcome = pusher.push(request.clone(), CancellationToken::new()).await;
/// assert_eq!(outcome.error().map(|error| error.kind()), Some(Kind::Unavailable));
/// // The layers are there: the next push only puts the manifest.
/// let outcome = pusher.push(request, CancellationToken::new()).await.into_result()?;
/// assert_eq!(outcome.targets[0].sent(), 0);
/// # Ok(())
/// # }
/// ```
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
    /// The host, and the reason for the retry.
    pub why: String,
    /// The time until the retry.
    pub pause: Duration,
    /// The number of the retry, from 1.
    pub retry: usize,
    /// The maximum number of retries.
    pub retries: usize,
}

/// The factor between delays after a failure of the service: four delays outlast a minute, as long as a restart takes.
const FACTOR: f32 = 5.0;

/// The longest delay after a failure of the service.
const LONGEST: Duration = Duration::from_secs(60);

/// The remaining delays of one request.
pub(super) struct Delays {
    config: RetryConfig,
    /// The method of the requests whose success shows that the registry makes progress, and how many of them had succeeded
    /// before the last attempt. A retry has none of its own, or it would go on forever.
    progress: Method,
    succeeded: u64,
    retry: usize,
    usual: ExponentialBackoff,
    of_service: ExponentialBackoff,
}

/// The delay before one retry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delay {
    /// The number of the retry, from 1.
    pub(super) retry: usize,
    /// The delay after a status of 500 or more.
    pub(super) of_service: Duration,
    /// The delay after any other failure, such as a broken connection.
    pub(super) usual: Duration,
}

impl Delays {
    /// Returns the delays of a request that has not been retried, while `succeeded` requests with the method `progress` have
    /// succeeded.
    pub(super) fn new(config: &RetryConfig, progress: &Method, succeeded: u64) -> Self {
        let delays = ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(config.initial_delay)
            .with_max_times(config.retries);
        Self {
            config: *config,
            progress: progress.clone(),
            succeeded,
            retry: 0,
            usual: delays.with_max_delay(config.max_delay).build(),
            of_service: delays.with_factor(FACTOR).with_max_delay(LONGEST).build(),
        }
    }

    /// Returns the delay after a failed attempt. `None` if no retry is left.
    ///
    /// That a request is throttled while others succeed is no failure, however often: its turn comes.
    pub(super) fn after(&mut self, error: &RequestError, succeeded: impl Fn(&Method) -> u64) -> Option<Delay> {
        let succeeded = succeeded(&self.progress);
        if error.is_throttle() && succeeded > self.succeeded {
            *self = Self::new(&self.config, &self.progress, succeeded);
        }
        self.succeeded = succeeded;
        self.retry += 1;
        Some(Delay { retry: self.retry, usual: self.usual.next()?, of_service: self.of_service.next()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ServiceError;

    /// Returns the delays that are left if so many requests succeed before each attempt.
    fn delays(left: &mut Delays, error: &RequestError, succeeding: u64) -> Vec<Delay> {
        (1..=20).map_while(|attempt| left.after(error, |_| attempt * succeeding)).collect()
    }

    #[test]
    fn a_throttle_counts_only_if_no_request_succeeds() {
        let throttle =
            RequestError::Status(Box::new(ServiceError { status: Some(429), ..ServiceError::default() }), None);
        let lengths = |error: &RequestError| {
            [0, 1].map(|succeeding| {
                delays(&mut Delays::new(&RetryConfig::default(), &Method::PUT, 0), error, succeeding).len()
            })
        };
        assert_eq!(lengths(&throttle), [4, 20]);
        assert_eq!(lengths(&RequestError::Transport("cut".into())), [4, 4], "a failure counts although others succeed");
    }

    #[test]
    fn the_default_retries_outlast_a_minute_of_service_failures() {
        let all = delays(
            &mut Delays::new(&RetryConfig::default(), &Method::PUT, 0),
            &RequestError::Transport("cut".into()),
            0,
        );
        assert_eq!(all.iter().map(|delay| delay.retry).collect::<Vec<_>>(), [1, 2, 3, 4]);
        let sum = |delay: fn(&Delay) -> Duration| all.iter().map(delay).sum::<Duration>();
        assert!(sum(|delay| delay.of_service) > Duration::from_secs(60));
        assert!(sum(|delay| delay.usual) < Duration::from_secs(20));
        assert!(all[0].of_service < Duration::from_secs(1), "one failure costs little");
    }
}
