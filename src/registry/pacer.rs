//! What all lanes share: the clock of retries, since when a registry asks one lane to slow down every lane does, and the
//! rate that the whole program keeps to.

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

/// A rate that everything that is sent keeps to, together.
#[derive(Debug)]
pub struct Rate {
    bytes_per_second: u64,
    /// When the bytes that were handed out so far will have been sent at this rate.
    free: Mutex<Instant>,
}

impl Rate {
    /// At most `bytes_per_second`, which must not be 0.
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), free: Mutex::new(Instant::now()) }
    }

    /// The most that is worth handing out at once, for a stream without jerks: a twentieth of a second's worth.
    pub(super) fn grain(&self) -> usize {
        usize::try_from(self.bytes_per_second / 20).unwrap_or(usize::MAX).max(512)
    }

    /// Hands out so many bytes, and says when they may be sent.
    pub(super) fn reserve(&self, bytes: usize) -> Instant {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let at = (*free).max(Instant::now());
        *free = at + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        at
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
