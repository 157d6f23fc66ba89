//! The shared clock of retries: when a registry asks one lane to slow down, every lane does.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// A moment before which nobody sends to this registry.
#[derive(Debug, Default)]
pub(super) struct Pacer(Mutex<Option<Instant>>);

impl Pacer {
    /// Nobody sends for the next `pause`.
    pub(super) fn hold(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *held = Some(held.map_or(until, |before| before.max(until)));
    }

    /// Returns when sending is allowed.
    pub(super) async fn ready(&self) {
        loop {
            let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match until {
                Some(until) if until > Instant::now() => sleep_until(until).await,
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_lane_waits_for_the_longest_hold() {
        let (pacer, start) = (Pacer::default(), Instant::now());
        pacer.ready().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        pacer.hold(Duration::from_secs(4));
        pacer.hold(Duration::from_secs(1));
        tokio::join!(pacer.ready(), pacer.ready());
        assert_eq!(start.elapsed(), Duration::from_secs(4));
    }
}
