//! The line to a registry, as it was measured, and whether chunks would use it.
//!
//! Each chunk waits for the response to the one before, and nothing is sent meanwhile. On a long line, or with a registry that
//! takes its time, a blob in one streamed request arrives sooner. A stream that breaks is lost as a whole, so it is only used
//! where it gains something, and where that loss is small.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The latency below which nothing is streamed: chunks lose little.
const SHORT: Duration = Duration::from_millis(20);

/// The same before the rate is known: a busy machine may take as long for the response of a registry next to it.
const SHORT_UNTIL_MEASURED: Duration = Duration::from_millis(50);

/// The part of the line that chunks must use, or they are not used.
const ENOUGH: f64 = 0.9;

/// The longest time for which a blob may be streamed: losing more would hurt.
const LONGEST_STREAM: Duration = Duration::from_secs(120);

/// The smallest chunk by which the rate is measured, in bytes. The variation of the latency dominates the time of smaller ones.
const SMALLEST_SAMPLE: u64 = 4 << 20;

/// The shortest time that a chunk can take.
const SHORTEST_TIME: Duration = Duration::from_millis(1);

/// The longest time between two looks at the counter of streams. After a longer one the counter was not observed.
const LONGEST_WINDOW: Duration = Duration::from_secs(1);

/// How many intervals are remembered in which something was sent. Bodies that are sent at once overlap the latest few.
const INTERVALS: usize = 16;

/// The time of which the rate is an average.
const MEMORY: Duration = Duration::from_secs(8);

/// What was measured on the line to one registry.
#[derive(Debug, Default)]
pub(super) struct Line {
    measured: Mutex<Measured>,
    /// The bytes of all streams that were handed to the connections.
    streamed: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Measured {
    /// The shortest time in which a request without a body had a response, or a chunk after its last byte.
    latency: Option<Duration>,
    /// The rate limit that the user sets, in bytes per second.
    limit: Option<u64>,
    /// The counter of streams when it was looked at last, and when that was.
    window: Option<(u64, Instant)>,
    /// The latest intervals in which something was sent. They do not overlap.
    intervals: VecDeque<(Instant, Instant)>,
    /// The bytes that arrived lately, and the time in which they were sent: neither pauses nor waiting for a response count.
    arrived: u64,
    busy: Duration,
    /// The sizes of the blobs in progress, in bytes before compression.
    blobs: Vec<u64>,
    /// Whether a stream broke or was rejected, so that nothing is streamed any more.
    is_unfit: bool,
    /// Whether it was logged that blobs are streamed.
    is_explained: bool,
}

/// Why a blob is streamed, or is not streamed any more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Reason {
    /// The latency is long, and the rate is not known yet.
    Latency(Duration),
    /// With this latency, chunks would use only this part of the line.
    Idle(Duration, f64),
    /// With this rate, chunks use the line as well.
    Chunks(u64),
    /// A stream would take this long.
    TooLong(Duration),
}

impl Line {
    /// Notes how long the response to a request without a body took.
    pub(super) fn note_latency(&self, latency: Duration) {
        let mut measured = self.measured();
        measured.latency = Some(measured.latency.map_or(latency, |shortest| shortest.min(latency)));
    }

    /// Notes the rate limit that the user sets, in bytes per second.
    pub(super) fn limit(&self, rate: u64) {
        self.measured().limit = Some(rate);
    }

    /// Notes that a chunk of `bytes` bytes was acknowledged now. Its frames were handed to the connection from `first` to `last`.
    pub(super) fn note_chunk(&self, bytes: u64, (first, last): (Instant, Instant)) {
        // It took at least as long to respond as the latency: the last bytes were still on their way.
        self.note_latency(last.elapsed());
        if bytes >= SMALLEST_SAMPLE {
            let latency = self.latency();
            let arrived = Instant::now().checked_sub(latency).unwrap_or(first);
            self.measured().add(bytes, (first, arrived.max(first + SHORTEST_TIME)));
        }
    }

    /// Looks at the counter of streams from now on.
    pub(super) fn begin_window(&self) {
        self.measured().window = Some((self.streamed.load(Ordering::Relaxed), Instant::now()));
    }

    /// Notes what was streamed since the counter was looked at last, and looks at it again.
    pub(super) fn end_window(&self) {
        let (streamed, now) = (self.streamed.load(Ordering::Relaxed), Instant::now());
        let mut measured = self.measured();
        if let Some((before, since)) = measured.window.replace((streamed, now))
            && now - since <= LONGEST_WINDOW
        {
            measured.add(streamed - before, (since, now));
        }
    }

    /// Notes that a stream broke or was rejected: nothing is streamed from now on.
    pub(super) fn note_unfit(&self) {
        self.measured().is_unfit = true;
    }

    /// Returns the counter of the bytes of all streams that are handed to the connections.
    pub(super) fn streamed(&self) -> &Arc<AtomicU64> {
        &self.streamed
    }

    /// Notes that a blob of `total` bytes before compression is uploaded.
    pub(super) fn begin_blob(&self, total: u64) -> BlobInProgress<'_> {
        self.measured().blobs.push(total);
        BlobInProgress { line: self, total }
    }

    /// Returns why a blob of `total` bytes should be streamed instead of being sent in chunks of `chunk` bytes, if it should.
    pub(super) fn prefers_stream(&self, total: u64, chunk: u64) -> Option<Reason> {
        let measured = self.measured();
        match measured.judge(total, chunk) {
            Some(reason @ (Reason::Latency(_) | Reason::Idle(..))) if !measured.is_unfit => Some(reason),
            _ => None,
        }
    }

    /// Returns why a stream of a blob should be ended after all, if it should. `left` is what it will still take.
    pub(super) fn rejects_stream(&self, total: u64, chunk: u64, left: Duration) -> Option<Reason> {
        if left > LONGEST_STREAM {
            return Some(Reason::TooLong(left));
        }
        self.measured().judge(total, chunk).filter(|reason| matches!(reason, Reason::Chunks(_)))
    }

    /// Returns the latency.
    pub(super) fn latency(&self) -> Duration {
        self.measured().latency.unwrap_or_default()
    }

    /// Returns whether it was not logged before that blobs are streamed.
    pub(super) fn explain(&self) -> bool {
        !std::mem::replace(&mut self.measured().is_explained, true)
    }

    fn measured(&self) -> MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Measured {
    /// Adds what was sent in an interval, of which only that part counts that others do not cover. What is long ago counts
    /// less and less.
    fn add(&mut self, bytes: u64, (from, to): (Instant, Instant)) {
        if self.busy > MEMORY {
            (self.arrived, self.busy) = (self.arrived / 2, self.busy / 2);
        }
        let (mut time, mut all) = (to - from, (from, to));
        self.intervals.retain(|&(start, end)| {
            let is_apart = end < from || start > to;
            if !is_apart {
                time = time.saturating_sub(end.min(to) - start.max(from));
                all = (all.0.min(start), all.1.max(end));
            }
            is_apart
        });
        self.intervals.push_back(all);
        if self.intervals.len() > INTERVALS {
            self.intervals.pop_front();
        }
        (self.arrived, self.busy) = (self.arrived + bytes, self.busy + time);
    }

    /// Returns the rate in bytes per second, if it is known: that of the line, or the limit.
    fn rate(&self) -> Option<u64> {
        let measured = (!self.busy.is_zero()).then(|| (self.arrived as f64 / self.busy.as_secs_f64()) as u64);
        match (measured, self.limit) {
            (Some(measured), Some(limit)) => Some(measured.min(limit)),
            (measured, limit) => measured.or(limit),
        }
    }

    /// Returns how many blobs are uploaded at once on average while one of `total` bytes is.
    fn lanes(&self, total: u64) -> f64 {
        let shares = self.blobs.iter().map(|other| (*other).min(total) as f64 / total.max(1) as f64);
        shares.sum::<f64>().max(1.0)
    }

    fn judge(&self, total: u64, chunk: u64) -> Option<Reason> {
        let latency = self.latency.filter(|latency| *latency >= SHORT)?;
        let Some(rate) = self.rate() else {
            return (latency >= SHORT_UNTIL_MEASURED).then_some(Reason::Latency(latency));
        };
        let takes = |bytes: u64| Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        let lanes = self.lanes(total);
        let time = takes(total).mul_f64(lanes);
        if time > LONGEST_STREAM {
            return Some(Reason::TooLong(time));
        }
        let sending = takes(chunk).as_secs_f64();
        let used = lanes * sending / (sending + latency.as_secs_f64());
        Some(if used < ENOUGH { Reason::Idle(latency, used) } else { Reason::Chunks(rate) })
    }
}

/// A blob that is being uploaded.
#[must_use = "it counts until it is dropped"]
pub(super) struct BlobInProgress<'a> {
    line: &'a Line,
    total: u64,
}

impl Drop for BlobInProgress<'_> {
    fn drop(&mut self) {
        let mut measured = self.line.measured();
        if let Some(index) = measured.blobs.iter().position(|total| *total == self.total) {
            measured.blobs.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn line(latency: u64) -> Line {
        let line = Line::default();
        for sample in [latency + 300, latency, latency + 7] {
            line.note_latency(Duration::from_millis(sample));
        }
        line
    }

    /// Notes that so many bytes were sent in a second.
    fn observe(line: &Line, bytes: u64) {
        let now = Instant::now();
        line.measured().add(bytes, (now, now + Duration::from_secs(1)));
    }

    /// A line of so many MiB per second.
    fn measured(latency: u64, rate: u64) -> Line {
        let line = line(latency);
        observe(&line, rate * MIB);
        line
    }

    #[test]
    fn before_the_rate_is_known_a_long_latency_decides() {
        assert_eq!(Line::default().prefers_stream(200 * MIB, 10 * MIB), None);
        for (latency, streams) in [(1, false), (49, false), (50, true), (163, true)] {
            let reason = streams.then_some(Reason::Latency(Duration::from_millis(latency)));
            assert_eq!(line(latency).prefers_stream(200 * MIB, 10 * MIB), reason, "{latency} ms");
        }
    }

    #[test]
    fn chunks_are_used_where_they_use_the_line() {
        for (latency, rate, chunk, used) in [
            (160, 100, 10, Some(0.38)),
            (160, 100, 5, Some(0.24)),
            (230, 60, 10, Some(0.42)),
            (30, 100, 10, Some(0.77)),
            (19, 1000, 5, None),
            (100, 10, 10, None),
            (160, 5, 10, None),
        ] {
            let reason = measured(latency, rate).prefers_stream(200 * MIB, chunk * MIB);
            let found = match reason {
                Some(Reason::Idle(by, used)) if by.as_millis() == u128::from(latency) => Some((used * 100.0).round()),
                _ => None,
            };
            assert_eq!(found, used.map(|used: f64| (used * 100.0).round()), "{latency} ms, {rate} MiB/s: {reason:?}");
        }
    }

    #[test]
    fn blobs_in_progress_share_the_line_and_a_dominant_one_is_alone_in_the_end() {
        let line = measured(160, 25);
        let blobs = [50, 50, 50].map(|total| line.begin_blob(total * MIB));
        let dominant = line.begin_blob(1000 * MIB);
        let streams = |total: u64| line.prefers_stream(total * MIB, 5 * MIB).is_some();
        assert_eq!([streams(50), streams(1000)], [false, true]);
        drop(blobs);
        assert!(streams(50));
        drop(dominant);
    }

    #[test]
    fn a_blob_that_would_be_streamed_for_long_is_sent_in_chunks() {
        let line = measured(500, 10);
        assert_eq!(line.prefers_stream(1300 * MIB, MIB), None);
        assert!(line.prefers_stream(1100 * MIB, MIB).is_some());
        let second = Duration::from_secs(1);
        assert_eq!(line.rejects_stream(1100 * MIB, MIB, second), None);
        let long = 130 * second;
        assert_eq!(line.rejects_stream(1100 * MIB, MIB, long), Some(Reason::TooLong(long)));
    }

    #[test]
    fn a_stream_on_a_slow_line_is_ended() {
        let line = line(100);
        let second = Duration::from_secs(1);
        assert!(line.prefers_stream(200 * MIB, 5 * MIB).is_some());
        assert_eq!(line.rejects_stream(200 * MIB, 5 * MIB, second), None);
        observe(&line, 4 * MIB);
        assert_eq!(line.rejects_stream(200 * MIB, 5 * MIB, second), Some(Reason::Chunks(4 * MIB)));
        assert_eq!(line.prefers_stream(200 * MIB, 5 * MIB), None);
    }

    #[test]
    fn a_rate_limit_is_known_in_advance_and_a_break_ends_streams() {
        let limited = line(100);
        limited.limit(MIB);
        assert_eq!(limited.prefers_stream(60 * MIB, 5 * MIB), None);
        let other = line(100);
        other.limit(100 * MIB);
        assert!(other.prefers_stream(60 * MIB, 5 * MIB).is_some());
        other.note_unfit();
        assert_eq!(other.prefers_stream(60 * MIB, 5 * MIB), None);
    }

    /// Sends chunks over a line of `rate` bytes per second that `lanes` uploads share, and returns which part of it they use,
    /// as it is judged and in truth.
    async fn used(rate: u64, latency: u64, lanes: usize, chunk: u64) -> (f64, f64) {
        let line = &line(latency);
        let (way, latency) = (&tokio::sync::Mutex::new(()), Duration::from_millis(latency));
        let (began, sending) = (Instant::now(), Duration::from_secs_f64(chunk as f64 / rate as f64));
        let lane = async |_| {
            for _ in 0..20 {
                let first = Instant::now();
                let turn = way.lock().await;
                tokio::time::sleep(sending).await;
                drop(turn);
                let last = Instant::now();
                tokio::time::sleep(latency).await;
                line.note_chunk(chunk, (first, last));
            }
        };
        futures_util::future::join_all((0..lanes).map(lane)).await;
        let truth = (20 * lanes as u64 * chunk) as f64 / rate as f64 / began.elapsed().as_secs_f64();
        let total = 20 * chunk;
        let _blobs: Vec<_> = (0..lanes).map(|_| line.begin_blob(total)).collect();
        match line.measured().judge(total, chunk) {
            Some(Reason::Idle(_, used)) => (used, truth),
            other => panic!("{other:?}, while chunks use {truth}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_without_a_byte_on_the_line_is_not_that_of_the_line() {
        for (rate, latency, lanes, chunk) in
            [(125_000_000, 160, 2, 6), (1_250_000_000, 40, 4, 5), (125_000_000, 160, 1, 10), (125_000_000, 160, 3, 6)]
        {
            let (judged, truth) = used(rate, latency, lanes, chunk * MIB).await;
            assert!((judged - truth).abs() < 0.1, "{rate} B/s, {latency} ms, {lanes} lanes: {judged} is {truth}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn chunks_and_streams_are_measured_together_and_pauses_are_not() {
        let (line, second) = (line(100), Duration::from_secs(1));
        let rate = || line.measured().rate();
        line.note_chunk(1000, (Instant::now(), Instant::now()));
        assert_eq!(rate(), None, "too small");
        // A stream and a chunk share the line.
        line.begin_window();
        let first = Instant::now();
        for _ in 0..4 {
            tokio::time::sleep(second / 2).await;
            line.streamed().fetch_add(3 * MIB, Ordering::Relaxed);
            line.end_window();
        }
        line.note_chunk(4 * MIB, (first, Instant::now()));
        assert_eq!(rate(), Some(8 * MIB));
        // The counter was not observed.
        tokio::time::sleep(30 * second).await;
        line.streamed().fetch_add(3 * MIB, Ordering::Relaxed);
        line.end_window();
        assert_eq!(rate(), Some(8 * MIB));
        tokio::time::sleep(second).await;
        line.end_window();
        assert_eq!(rate(), Some(16 * MIB / 3));
        line.measured().add(8 * MIB, (Instant::now(), Instant::now() + 7 * second));
        line.measured().add(70 * MIB, (Instant::now() + 9 * second, Instant::now() + 14 * second));
        assert_eq!(rate(), Some(82 * MIB / 10), "older figures count half");
    }

    #[tokio::test(start_paused = true)]
    async fn the_response_to_a_chunk_shows_a_shorter_latency() {
        let line = line(90);
        let last = Instant::now();
        tokio::time::sleep(Duration::from_millis(15)).await;
        line.note_chunk(1, (last, last));
        assert_eq!(line.latency().as_millis(), 15);
        assert_eq!(line.prefers_stream(200 * MIB, 5 * MIB), None);
    }
}
