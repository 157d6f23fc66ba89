//! The rate of all uploads and the time left. indicatif's estimator smooths over about 15 seconds; when its numbers are
//! meaningful is decided here.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;

/// How long uploads must run before a rate is shown, and before a time left is.
const FIRST_RATE: Duration = Duration::from_secs(1);
const FIRST_ESTIMATE: Duration = Duration::from_secs(3);

/// After this time without a byte, no time left is shown.
const NO_ESTIMATE: Duration = Duration::from_secs(15);

/// After this time without a byte, uploads are stalled: a smoothed rate would decay and look like a slow network.
const STALLED: Duration = Duration::from_secs(5);

/// How far all uploads are at one moment, in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Totals {
    /// Bytes of the archive to upload.
    pub(super) total: u64,
    /// Bytes of the archive that are covered by what was sent.
    pub(super) position: u64,
    /// Compressed bytes sent by this run.
    pub(super) sent: u64,
    /// Compressed bytes sent by an earlier run.
    pub(super) resumed: u64,
}

/// The rate and the time left, as far as they are known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Throughput {
    /// Bytes sent a second.
    pub(super) rate: Option<u64>,
    /// The estimated time left.
    pub(super) left: Option<Duration>,
    /// How long no byte was sent, once that is longer than [`STALLED`].
    pub(super) stalled: Option<Duration>,
}

/// Estimates the rate from successive totals.
#[derive(Debug)]
pub(super) struct RateEstimator {
    last: Totals,
    /// Hidden bars, as estimators: compressed bytes, and bytes of the archive, whose total is known.
    sent: ProgressBar,
    archive: ProgressBar,
    /// When the first byte was sent, or the estimators were reset.
    started: Option<Instant>,
    /// Since when the total is unchanged: while layers are being planned there is no estimate.
    settled: Option<Instant>,
    /// When a byte was last sent.
    moved: Option<Instant>,
}

impl Default for RateEstimator {
    fn default() -> Self {
        Self {
            last: Totals::default(),
            sent: ProgressBar::hidden(),
            archive: ProgressBar::hidden(),
            started: None,
            settled: None,
            moved: None,
        }
    }
}

impl RateEstimator {
    /// Adds the totals at a moment.
    pub(super) fn measure(&mut self, now: Instant, totals: Totals) -> Throughput {
        let last = std::mem::replace(&mut self.last, totals);
        if last.total != totals.total {
            self.settled = Some(now);
            self.archive.set_length(totals.total);
        }
        self.sent.set_position(totals.sent);
        self.archive.set_position(totals.position);
        if (last.position, last.sent) != (totals.position, totals.sent) {
            self.moved = Some(now);
        }
        // Before the first byte, or when a layer restarts or resumes an earlier run, the estimators start again.
        let is_back = totals.position < last.position || totals.sent < last.sent;
        if self.started.is_none() || is_back || last.resumed != totals.resumed || totals.sent == 0 {
            self.sent.reset_eta();
            self.archive.reset_eta();
            self.started = Some(now);
        }
        self.throughput(now)
    }

    fn throughput(&self, now: Instant) -> Throughput {
        let is_past = |since: Option<Instant>, time| since.is_some_and(|since| now.duration_since(since) >= time);
        let still = self.moved.map(|moved| now.duration_since(moved));
        let stalled = still.filter(|still| *still >= STALLED && self.last.sent > 0);
        let is_moving = is_past(self.started, FIRST_RATE) && stalled.is_none();
        let rate = is_moving.then(|| self.sent.per_sec() as u64);
        let is_known = is_past(self.started, FIRST_ESTIMATE)
            && is_past(self.settled, FIRST_ESTIMATE)
            && !is_past(self.moved, NO_ESTIMATE);
        let left = Some(self.archive.eta()).filter(|left| is_known && !left.is_zero());
        Throughput { rate: rate.filter(|_| self.last.sent > 0), left, stalled }
    }
}

/// Formats an estimated time, rounded to its precision: `8 s`, `1 min 20 s`, `12 min`, `2 h 5 min`.
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

    fn totals(total: u64, position: u64) -> Totals {
        Totals { total, position, sent: position / 2, resumed: 0 }
    }

    /// Measures every second, and returns each time whether there is a rate and a time left.
    fn run(rate: &mut RateEstimator, now: &mut Instant, positions: impl IntoIterator<Item = u64>) -> Vec<(bool, bool)> {
        let measure = |position| {
            *now += SECOND;
            let Throughput { rate: shown, left, .. } = rate.measure(*now, totals(100_000, position));
            (shown.is_some(), left.is_some())
        };
        positions.into_iter().map(measure).collect()
    }

    #[test]
    fn nothing_is_shown_before_it_can_be_estimated() {
        let (mut rate, mut now) = (RateEstimator::default(), Instant::now());
        assert_eq!(run(&mut rate, &mut now, [0; 5]), [(false, false); 5], "nothing is sent");
        let shown = run(&mut rate, &mut now, [1_000, 2_000, 3_000]);
        assert_eq!(shown, [(true, false), (true, false), (true, true)]);
        assert_eq!(run(&mut rate, &mut now, [100_000]), [(true, false)], "all is sent");
        let shown = run(&mut RateEstimator::default(), &mut now, [1_000, 2_000, 3_000, 4_000]);
        assert_eq!(
            shown,
            [(false, false), (true, false), (true, false), (true, true)],
            "the first measurement came late"
        );
    }

    #[test]
    fn a_stalled_upload_has_no_time_left() {
        let (mut rate, mut now) = (RateEstimator::default(), Instant::now());
        run(&mut rate, &mut now, [0, 1_000, 2_000, 3_000]);
        let shown = run(&mut rate, &mut now, [3_000; 15]);
        assert_eq!((shown[3], shown[4]), ((true, true), (false, true)), "a rate is shown until the upload is stalled");
        assert_eq!((shown[13], shown[14]), ((false, true), (false, false)));
    }

    #[test]
    fn uploads_that_send_nothing_are_stalled_until_they_send_again() {
        let (mut rate, mut now) = (RateEstimator::default(), Instant::now());
        run(&mut rate, &mut now, [0, 1_000, 2_000, 3_000]);
        let mut measure = |position| {
            now += SECOND;
            rate.measure(now, totals(100_000, position)).stalled
        };
        let stalled: Vec<_> = (0..7).map(|_| measure(3_000)).collect();
        assert_eq!(stalled[..4], [None; 4]);
        assert_eq!(stalled[4..], [5, 6, 7].map(|seconds| Some(seconds * SECOND)));
        assert_eq!(measure(4_000), None);
    }

    #[test]
    fn there_is_no_estimate_while_layers_are_planned() {
        let (mut rate, mut now) = (RateEstimator::default(), Instant::now());
        assert!(run(&mut rate, &mut now, (0..10).map(|n| n * 1_000))[9].1);
        let throughput = rate.measure(now + SECOND, totals(900_000, 10_000));
        assert!(throughput.rate.is_some() && throughput.left.is_none());
    }

    #[test]
    fn a_layer_that_restarts_resets_the_estimate() {
        let (mut rate, mut now) = (RateEstimator::default(), Instant::now());
        run(&mut rate, &mut now, (0..10).map(|n| n * 1_000));
        assert_eq!(run(&mut rate, &mut now, [10, 20]), [(false, false), (true, false)]);
        let resumed = Totals { resumed: 5_000, ..totals(100_000, 6_000) };
        assert_eq!(
            rate.measure(now + SECOND, resumed),
            Throughput::default(),
            "bytes of an earlier run do not count for the rate of this one"
        );
    }

    #[test]
    fn times_are_rounded_to_their_precision() {
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
