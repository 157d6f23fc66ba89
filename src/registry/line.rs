//! The line to a registry, as it was measured, and whether chunks would use it.
//!
//! Each chunk waits for the response to the one before, and nothing is sent meanwhile. On a long line, or with a registry that
//! takes its time, a blob in one streamed request arrives sooner. A stream that breaks is lost as a whole, so it is only used
//! where it gains something, and where that loss is small.

use std::sync::atomic::AtomicU64;
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

/// The smallest body by which the rate is measured, in bytes. The latency dominates the time of smaller ones.
const SMALLEST_SAMPLE: u64 = 1 << 20;

/// The time of which the rate is an average.
const MEMORY: Duration = Duration::from_secs(8);

/// What was measured on the line to one registry.
#[derive(Debug, Default)]
pub(super) struct Line {
    measured: Mutex<Measured>,
    sent: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Measured {
    /// The shortest time in which a request without a body had a response.
    latency: Option<Duration>,
    /// The rate limit that the user sets, in bytes per second.
    limit: Option<u64>,
    /// The number of bodies in flight, and since when there was one.
    bodies: usize,
    busy_since: Option<Instant>,
    /// The bytes that arrived lately, and the time that they took.
    arrived: u64,
    busy: Duration,
    /// The sizes of the blobs in progress that are larger than a chunk, in bytes before compression.
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
    /// At this rate, a stream would take this long.
    TooLong(u64, Duration),
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

    /// Notes that `bytes` bytes of streams arrived in this time.
    pub(super) fn observe(&self, bytes: u64, time: Duration) {
        self.measured().add(bytes, time);
    }

    /// Notes that a stream broke or was rejected: nothing is streamed from now on.
    pub(super) fn note_unfit(&self) {
        self.measured().is_unfit = true;
    }

    /// Returns the counter of all bytes that are handed to the connections.
    pub(super) fn sent(&self) -> &Arc<AtomicU64> {
        &self.sent
    }

    /// Notes that a body is sent.
    pub(super) fn begin_body(&self) -> BodyInFlight<'_> {
        let mut measured = self.measured();
        measured.bodies += 1;
        measured.busy_since.get_or_insert_with(Instant::now);
        BodyInFlight { line: self, acknowledged: 0 }
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
        let measured = self.measured();
        match measured.judge(total, chunk) {
            Some(reason @ Reason::Chunks(_)) => Some(reason),
            _ if left > LONGEST_STREAM => Some(Reason::TooLong(measured.rate().unwrap_or_default(), left)),
            _ => None,
        }
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
    /// Adds what arrived in some time. What is long ago counts less and less.
    fn add(&mut self, bytes: u64, time: Duration) {
        if self.busy > MEMORY {
            (self.arrived, self.busy) = (self.arrived / 2, self.busy / 2);
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
        if takes(total) > LONGEST_STREAM {
            return Some(Reason::TooLong(rate, takes(total)));
        }
        let sending = takes(chunk).as_secs_f64();
        let used = self.lanes(total) * sending / (sending + latency.as_secs_f64());
        Some(if used < ENOUGH { Reason::Idle(latency, used) } else { Reason::Chunks(rate) })
    }
}

/// A body that is being sent.
#[must_use = "it counts until it is dropped"]
pub(super) struct BodyInFlight<'a> {
    line: &'a Line,
    acknowledged: u64,
}

impl BodyInFlight<'_> {
    /// Notes that the registry acknowledged `bytes` bytes.
    pub(super) fn acknowledged(mut self, bytes: u64) {
        self.acknowledged = bytes;
    }
}

impl Drop for BodyInFlight<'_> {
    fn drop(&mut self) {
        let mut measured = self.line.measured();
        measured.bodies -= 1;
        let is_sample = self.acknowledged >= SMALLEST_SAMPLE;
        if measured.bodies == 0 || is_sample {
            let since = measured.busy_since.take();
            measured.busy_since = (measured.bodies > 0).then(Instant::now);
            if let Some(since) = since.filter(|_| is_sample) {
                measured.add(self.acknowledged, since.elapsed());
            }
        }
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

    /// A line of so many MiB per second.
    fn measured(latency: u64, rate: u64) -> Line {
        let line = line(latency);
        line.observe(rate * MIB, Duration::from_secs(1));
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
        assert_eq!(line.rejects_stream(1100 * MIB, MIB, long), Some(Reason::TooLong(10 * MIB, long)));
    }

    #[test]
    fn a_stream_on_a_slow_line_is_ended() {
        let line = line(100);
        let second = Duration::from_secs(1);
        assert!(line.prefers_stream(200 * MIB, 5 * MIB).is_some());
        assert_eq!(line.rejects_stream(200 * MIB, 5 * MIB, second), None);
        line.observe(4 * MIB, second);
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

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_that_of_all_bodies_and_small_ones_and_failures_do_not_count() {
        let line = line(100);
        let send = async |bytes: u64, seconds: u64| {
            let body = line.begin_body();
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            if bytes > 0 {
                body.acknowledged(bytes);
            }
        };
        tokio::join!(send(0, 3), send(1000, 2));
        assert_eq!(line.measured().rate(), None);
        tokio::join!(send(8 * MIB, 2), send(8 * MIB, 2), send(4 * MIB, 4), send(0, 5));
        assert_eq!(line.measured().rate(), Some(5 * MIB));
        line.observe(12 * MIB, Duration::from_secs(8));
        assert_eq!(line.measured().rate(), Some(32 * MIB / 12));
        line.observe(60 * MIB, Duration::from_secs(6));
        assert_eq!(line.measured().rate(), Some(76 * MIB / 12), "older figures count half");
    }
}
