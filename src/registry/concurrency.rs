//! What all lanes to a registry share: the clock of retries, since when a registry asks one lane to slow down every lane
//! does, and how many requests are under way at once, which falls when the registry says that it is too much and rises
//! again while it does not.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// The pace of everything that is sent to one registry.
#[derive(Debug)]
pub(super) struct ConcurrencyLimiter {
    pace: Mutex<Pace>,
    left: Notify,
}

#[derive(Debug)]
struct Pace {
    /// A moment before which nobody sends.
    held: Option<Instant>,
    /// How many requests may be under way.
    allowed: usize,
    /// How many may be when all is well.
    most: usize,
    under_way: usize,
    /// When `allowed` fell last. What was sent before that says nothing new.
    lowered: Option<Instant>,
    /// How many requests went well since `allowed` changed.
    went_well: usize,
}

impl ConcurrencyLimiter {
    /// A pace of `most` requests at once, at least one.
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        let pace = Pace { held: None, allowed: most, most, under_way: 0, lowered: None, went_well: 0 };
        Self { pace: Mutex::new(pace), left: Notify::new() }
    }

    /// Returns when sending is allowed: the time that the registry asked for is over, and not too many others send.
    pub(super) async fn turn(&self) -> Permit<'_> {
        loop {
            // From now on one that leaves is not missed, and two that leave wake two.
            let mut left = std::pin::pin!(self.left.notified());
            left.as_mut().enable();
            let held = {
                let mut pace = self.pace();
                let held = pace.held.filter(|until| *until > Instant::now());
                if held.is_none() && pace.under_way < pace.allowed {
                    pace.under_way += 1;
                    return Permit { pacer: self, since: Instant::now() };
                }
                held
            };
            match held {
                Some(until) => {
                    // Who was woken and is held may not live to take his turn: another has to know of it.
                    self.left.notify_one();
                    sleep_until(until).await;
                }
                None => left.await,
            }
        }
    }

    /// Nobody sends for the next `pause`.
    pub(super) fn hold(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut pace = self.pace();
        pace.held = Some(pace.held.map_or(until, |before| before.max(until)));
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to have one request under way, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    pacer: &'a ConcurrencyLimiter,
    since: Instant,
}

impl Permit<'_> {
    /// The registry did not mind: after as many such answers as there are turns, there is one turn more.
    pub(super) fn went_well(&self) {
        let mut pace = self.pacer.pace();
        pace.went_well += 1;
        if pace.allowed < pace.most && pace.went_well >= pace.allowed {
            (pace.allowed, pace.went_well) = (pace.allowed + 1, 0);
            self.pacer.left.notify_one();
        }
    }

    /// The registry said that it was too much: half as many turns from now on. Ten lanes that are told so at once are one
    /// reason to do that, not ten.
    pub(super) fn was_too_much(&self) {
        let mut pace = self.pacer.pace();
        if pace.lowered.is_none_or(|lowered| self.since > lowered) {
            pace.allowed = (pace.under_way.min(pace.allowed) / 2).max(1);
            (pace.lowered, pace.went_well) = (Some(Instant::now()), 0);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.pacer.pace().under_way -= 1;
        self.pacer.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_lane_waits_for_the_longest_hold() {
        let (pacer, start) = (ConcurrencyLimiter::new(8), Instant::now());
        drop(pacer.turn().await);
        assert_eq!(start.elapsed(), Duration::ZERO);
        pacer.hold(Duration::from_secs(4));
        pacer.hold(Duration::from_secs(1));
        tokio::join!(pacer.turn(), pacer.turn());
        assert_eq!(start.elapsed(), Duration::from_secs(4));
    }

    /// How many turns there are to be had.
    async fn turns(pacer: &ConcurrencyLimiter) -> usize {
        let mut held = Vec::new();
        while let Ok(turn) = tokio::time::timeout(Duration::from_millis(1), pacer.turn()).await {
            held.push(turn);
        }
        held.len()
    }

    #[tokio::test(start_paused = true)]
    async fn too_much_halves_the_turns_once_a_round_and_success_brings_them_back() {
        let pacer = ConcurrencyLimiter::new(8);
        assert_eq!(turns(&pacer).await, 8);
        let round: Vec<Permit<'_>> = futures_util::future::join_all((0..8).map(|_| pacer.turn())).await;
        tokio::time::advance(Duration::from_millis(5)).await;
        // All eight are told so, and one of them had gone well before.
        round[0].went_well();
        round.iter().for_each(Permit::was_too_much);
        drop(round);
        assert_eq!(turns(&pacer).await, 4);
        tokio::time::advance(Duration::from_millis(5)).await;
        let next = pacer.turn().await;
        next.was_too_much();
        drop(next);
        assert_eq!(turns(&pacer).await, 1, "half of the one that was under way, and never none");
        // One success for the second turn, two for the third, ...
        let mut needed = 0;
        while turns(&pacer).await < 8 {
            pacer.turn().await.went_well();
            needed += 1;
        }
        assert_eq!(needed, 1 + 2 + 3 + 4 + 5 + 6 + 7);
        pacer.turn().await.went_well();
        assert_eq!(turns(&pacer).await, 8, "and no more than at first");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_turn_gets_the_next_one_that_is_free() {
        let pacer = ConcurrencyLimiter::new(1);
        let first = pacer.turn().await;
        let (start, second) = (Instant::now(), pacer.turn());
        let leave = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            drop(first);
        };
        let (second, ()) = tokio::join!(second, leave);
        assert_eq!(start.elapsed(), Duration::from_secs(2));
        drop(second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_nobody_takes_any_more_goes_to_the_next() {
        let pacer = ConcurrencyLimiter::new(1);
        let under_way = pacer.turn().await;
        // Whose turn it would be, and who gives up before the hold is over; and somebody behind him.
        let (mut first, mut second) = (Box::pin(pacer.turn()), Box::pin(pacer.turn()));
        assert!(futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut second).is_pending());
        pacer.hold(Duration::from_secs(4));
        drop(under_way);
        assert!(futures_util::poll!(&mut first).is_pending());
        drop(first);
        assert!(tokio::time::timeout(Duration::from_secs(60), second).await.is_ok(), "he waits for ever");
    }
}
