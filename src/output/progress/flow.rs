//! How fast bytes flow, and when they will all be there. indicatif does the sums, over about the last 15 seconds; when they
//! mean something is decided here.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;

/// How long something has to be seen before a rate is said, and before a time left is.
const FIRST_RATE: Duration = Duration::from_secs(1);
const FIRST_END: Duration = Duration::from_secs(3);

/// Who has stood still for so long will never be there, as far as can be told.
const STILL: Duration = Duration::from_secs(15);

/// After so long without a byte uploads are stalled: a mean of the last seconds would decay and look like a slow line.
const STALLED: Duration = Duration::from_secs(5);

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

/// What can be said of how fast it goes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Pace {
    /// Bytes that are sent a second.
    pub(super) rate: Option<u64>,
    /// How long it will take.
    pub(super) left: Option<Duration>,
    /// For how long no byte was sent, if that is long enough to be reported in place of a rate.
    pub(super) stalled: Option<Duration>,
}

/// What is seen of it.
#[derive(Debug)]
pub(super) struct Flow {
    last: Reach,
    /// Bars that nobody sees: the packed bytes, and those of the archive, whose end is known.
    packed: ProgressBar,
    archive: ProgressBar,
    /// When the first byte was sent, or the clock started again.
    begun: Option<Instant>,
    /// Since when the total is what it is: as long as layers are planned, nobody knows when all will be over.
    settled: Option<Instant>,
    /// When a byte was last sent.
    moved: Option<Instant>,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            last: Reach::default(),
            packed: ProgressBar::hidden(),
            archive: ProgressBar::hidden(),
            begun: None,
            settled: None,
            moved: None,
        }
    }
}

impl Flow {
    /// Takes a look, and says what can be said.
    pub(super) fn look(&mut self, now: Instant, reach: Reach) -> Pace {
        let last = std::mem::replace(&mut self.last, reach);
        if last.total != reach.total {
            self.settled = Some(now);
            self.archive.set_length(reach.total);
        }
        self.packed.set_position(reach.sent);
        self.archive.set_position(reach.position);
        if (last.position, last.sent) != (reach.position, reach.sent) {
            self.moved = Some(now);
        }
        // Before the first byte, or when a layer starts anew or goes on where an earlier run ended: the clock starts then.
        let is_back = reach.position < last.position || reach.sent < last.sent;
        if self.begun.is_none() || is_back || last.resumed != reach.resumed || reach.sent == 0 {
            self.packed.reset_eta();
            self.archive.reset_eta();
            self.begun = Some(now);
        }
        self.pace(now)
    }

    fn pace(&self, now: Instant) -> Pace {
        let is_past = |since: Option<Instant>, time| since.is_some_and(|since| now.duration_since(since) >= time);
        let still = self.moved.map(|moved| now.duration_since(moved));
        let stalled = still.filter(|still| *still >= STALLED && self.last.sent > 0);
        let is_moving = is_past(self.begun, FIRST_RATE) && stalled.is_none();
        let rate = is_moving.then(|| self.packed.per_sec() as u64);
        let is_known =
            is_past(self.begun, FIRST_END) && is_past(self.settled, FIRST_END) && !is_past(self.moved, STILL);
        let left = Some(self.archive.eta()).filter(|left| is_known && *left > Duration::ZERO);
        Pace { rate: rate.filter(|_| self.last.sent > 0), left, stalled }
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

    const SECOND: Duration = Duration::from_secs(1);

    fn reach(total: u64, position: u64) -> Reach {
        Reach { total, position, sent: position / 2, resumed: 0 }
    }

    /// Looks every second, from a position on, and says what could be said each time: a rate, a time left.
    fn run(flow: &mut Flow, now: &mut Instant, positions: impl IntoIterator<Item = u64>) -> Vec<(bool, bool)> {
        let look = |position| {
            *now += SECOND;
            let Pace { rate, left, .. } = flow.look(*now, reach(100_000, position));
            (rate.is_some(), left.is_some())
        };
        positions.into_iter().map(look).collect()
    }

    #[test]
    fn nothing_is_said_before_it_is_known() {
        let (mut flow, mut now) = (Flow::default(), Instant::now());
        assert_eq!(run(&mut flow, &mut now, [0; 5]), [(false, false); 5], "nothing is sent");
        let said = run(&mut flow, &mut now, [1_000, 2_000, 3_000]);
        assert_eq!(said, [(true, false), (true, false), (true, true)]);
        assert_eq!(run(&mut flow, &mut now, [100_000]), [(true, false)], "all is sent");
        let said = run(&mut Flow::default(), &mut now, [1_000, 2_000, 3_000, 4_000]);
        assert_eq!(said, [(false, false), (true, false), (true, false), (true, true)], "the first look came late");
    }

    #[test]
    fn who_stands_still_will_never_be_there() {
        let (mut flow, mut now) = (Flow::default(), Instant::now());
        run(&mut flow, &mut now, [0, 1_000, 2_000, 3_000]);
        let said = run(&mut flow, &mut now, [3_000; 15]);
        assert_eq!((said[3], said[4]), ((true, true), (false, true)), "a rate is reported while bytes flow");
        assert_eq!((said[13], said[14]), ((false, true), (false, false)));
    }

    #[test]
    fn uploads_that_send_nothing_are_stalled_until_they_send_again() {
        let (mut flow, mut now) = (Flow::default(), Instant::now());
        run(&mut flow, &mut now, [0, 1_000, 2_000, 3_000]);
        let mut look = |position| {
            now += SECOND;
            flow.look(now, reach(100_000, position)).stalled
        };
        let stalled: Vec<_> = (0..7).map(|_| look(3_000)).collect();
        assert_eq!(stalled[..4], [None; 4]);
        assert_eq!(stalled[4..], [5, 6, 7].map(|seconds| Some(seconds * SECOND)));
        assert_eq!(look(4_000), None);
    }

    #[test]
    fn nothing_is_promised_while_layers_are_planned() {
        let (mut flow, mut now) = (Flow::default(), Instant::now());
        assert!(run(&mut flow, &mut now, (0..10).map(|n| n * 1_000))[9].1);
        let pace = flow.look(now + SECOND, reach(900_000, 10_000));
        assert!(pace.rate.is_some() && pace.left.is_none());
    }

    #[test]
    fn a_layer_that_starts_anew_starts_the_clock() {
        let (mut flow, mut now) = (Flow::default(), Instant::now());
        run(&mut flow, &mut now, (0..10).map(|n| n * 1_000));
        assert_eq!(run(&mut flow, &mut now, [10, 20]), [(false, false), (true, false)]);
        let resumed = Reach { resumed: 5_000, ..reach(100_000, 6_000) };
        assert_eq!(
            flow.look(now + SECOND, resumed),
            Pace::default(),
            "what an earlier run sent is no speed of this one"
        );
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
