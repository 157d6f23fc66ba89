//! How fast bytes flow, and when they will all be there: from a moving window, so that neither jumps.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How much of the past counts.
const WINDOW: Duration = Duration::from_secs(15);

/// How often is looked. What is shown changes no more often.
const STEP: Duration = Duration::from_millis(500);

/// How long something has to be seen before a rate is said, and before a time left is.
const FIRST_RATE: Duration = Duration::from_secs(1);
const FIRST_END: Duration = Duration::from_secs(3);

/// How far all uploads are, at a moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Reach {
    /// The archive's bytes that are to be sent.
    pub(super) total: u64,
    /// Those that are represented in what was sent.
    pub(super) position: u64,
    /// The packed bytes that this run sent.
    pub(super) sent: u64,
    /// Those that an earlier run had sent.
    pub(super) resumed: u64,
}

/// What is seen of it. Never more than the window holds.
#[derive(Debug, Default)]
pub(super) struct Flow {
    seen: VecDeque<(Instant, Reach)>,
    /// Since when the total is what it is: as long as layers are planned, nobody knows when all will be over.
    settled: Option<Instant>,
    end: Option<Instant>,
}

impl Flow {
    /// Takes a look. More often than every half second is no harm.
    pub(super) fn look(&mut self, now: Instant, reach: Reach) {
        let Some((last_look, last)) = self.seen.back().copied() else {
            self.settled = Some(now);
            return self.seen.push_back((now, reach));
        };
        if now.duration_since(last_look) < STEP {
            return;
        }
        if last.total != reach.total {
            (self.settled, self.end) = (Some(now), None);
        }
        // Before the first byte, or when a layer starts anew or goes on where an earlier run ended: the clock starts then.
        let is_back = reach.position < last.position || reach.sent < last.sent;
        if is_back || last.resumed != reach.resumed || reach.sent == 0 {
            self.seen.clear();
        }
        self.seen.push_back((now, reach));
        while self.seen.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.seen.pop_front();
        }
        self.end = self.expected(now);
    }

    /// Bytes that are sent a second.
    pub(super) fn rate(&self) -> Option<u64> {
        let (time, from, to) = self.window()?;
        (time >= FIRST_RATE).then(|| ((to.sent - from.sent) as f64 / time.as_secs_f64()) as u64)
    }

    /// How long it will take, as far as that can be said.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        self.end?.checked_duration_since(now).filter(|left| *left > Duration::ZERO)
    }

    fn window(&self) -> Option<(Duration, Reach, Reach)> {
        let ((begin, from), (end, to)) = (self.seen.front()?, self.seen.back()?);
        Some((end.duration_since(*begin), *from, *to))
    }

    /// The end, which moves only a little with every look.
    fn expected(&self, now: Instant) -> Option<Instant> {
        let (time, from, to) = self.window()?;
        let is_settled = self.settled.is_some_and(|since| now.duration_since(since) >= FIRST_END);
        let gained = to.position - from.position;
        let left = to.total.saturating_sub(to.position);
        if time < FIRST_END || !is_settled || gained == 0 || left == 0 {
            return None;
        }
        let left = Duration::try_from_secs_f64(left as f64 * time.as_secs_f64() / gained as f64).ok()?;
        let new = now.checked_add(left)?;
        Some(match self.end {
            None => new,
            Some(end) if new > end => end + new.duration_since(end) / 8,
            Some(end) => end - end.duration_since(new) / 8,
        })
    }
}

/// A time as people say it, and no more exactly than it is known: `8 s`, `1 min 20 s`, `12 min`, `2 h 5 min`.
pub(super) fn roughly(time: Duration) -> String {
    let up_to = |step: u64| (time.as_secs_f64() / step as f64).ceil() as u64 * step;
    match time.as_secs() {
        0..20 => format!("{} s", up_to(1)),
        20..55 => format!("{} s", up_to(5)),
        55..590 => match up_to(10) {
            whole if whole % 60 == 0 => format!("{} min", whole / 60),
            more => format!("{} min {} s", more / 60, more % 60),
        },
        590..3_540 => format!("{} min", up_to(60) / 60),
        _ => format!("{} h {} min", up_to(60) / 3_600, up_to(60) / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(total: u64, position: u64, sent: u64) -> Reach {
        Reach { total, position, sent, resumed: 0 }
    }

    /// Looks every half second for `seconds`, at a steady rate, from a position on.
    fn run(flow: &mut Flow, now: &mut Instant, seconds: u64, at: &mut u64, rate: u64) {
        for _ in 0..seconds * 2 {
            *now += STEP;
            *at += rate / 2;
            flow.look(*now, reach(100_000, *at, *at / 2));
        }
    }

    #[test]
    fn a_rate_begins_with_the_first_byte_and_follows_the_window() {
        let (mut flow, mut now, mut at) = (Flow::default(), Instant::now(), 0);
        run(&mut flow, &mut now, 60, &mut at, 0);
        assert_eq!((flow.rate(), flow.left(now)), (None, None), "nothing is sent");
        run(&mut flow, &mut now, 2, &mut at, 1_000);
        assert_eq!(flow.rate(), Some(500));
        assert_eq!(flow.left(now), None, "it is too early to say");
        run(&mut flow, &mut now, 8, &mut at, 1_000);
        assert_eq!(flow.rate(), Some(500));
        let left = flow.left(now).unwrap().as_secs();
        assert!((85..95).contains(&left), "{left}");
        run(&mut flow, &mut now, 15, &mut at, 2_000);
        assert_eq!(flow.rate(), Some(1_000), "what was before is forgotten");
        run(&mut flow, &mut now, 16, &mut at, 0);
        assert_eq!((flow.rate(), flow.left(now)), (Some(0), None), "who stands still will never be there");
        assert!(flow.seen.len() < 40);
    }

    #[test]
    fn the_end_does_not_jump() {
        let (mut flow, mut now, mut at) = (Flow::default(), Instant::now(), 0);
        run(&mut flow, &mut now, 20, &mut at, 1_000);
        let before = now + flow.left(now).unwrap();
        run(&mut flow, &mut now, 1, &mut at, 8_000);
        let after = now + flow.left(now).unwrap();
        assert!(before.duration_since(after) < Duration::from_secs(20), "a second of bliss is no reason to hope");
    }

    #[test]
    fn nothing_is_promised_while_layers_are_planned() {
        let (mut flow, mut now, mut at) = (Flow::default(), Instant::now(), 0);
        run(&mut flow, &mut now, 10, &mut at, 1_000);
        assert!(flow.left(now).is_some());
        now += STEP;
        flow.look(now, reach(900_000, at, at / 2));
        assert_eq!(flow.left(now), None);
        assert!(flow.rate().is_some());
    }

    #[test]
    fn a_layer_that_starts_anew_starts_the_clock() {
        let (mut flow, mut now, mut at) = (Flow::default(), Instant::now(), 0);
        run(&mut flow, &mut now, 10, &mut at, 1_000);
        now += STEP;
        flow.look(now, reach(100_000, 10, 5));
        assert_eq!((flow.rate(), flow.left(now)), (None, None));
    }

    #[test]
    fn times_are_as_exact_as_they_are_known() {
        let times = [1, 19, 21, 54, 55, 61, 119, 585, 600, 3_599, 3_600, 7_300].map(Duration::from_secs).map(roughly);
        assert_eq!(
            times,
            [
                "1 s",
                "19 s",
                "25 s",
                "55 s",
                "1 min",
                "1 min 10 s",
                "2 min",
                "9 min 50 s",
                "10 min",
                "1 h 0 min",
                "1 h 0 min",
                "2 h 2 min"
            ]
        );
    }
}
