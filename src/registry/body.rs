//! Request bodies that report their progress, respect the rate limit and notice a stall.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::rate::Rate;
use super::stream::LayerStream;
use super::window::{Chunk, LayerData, Rest};
use crate::compress::{DataBlock, LayerSummary, Meter};
use crate::error::{Error, Result};

/// The largest frame in bytes: small enough to notice progress on a slow connection.
const FRAME: usize = 64 << 10;

/// Where a body reports its progress, and the rate limit that it respects.
#[derive(Clone)]
pub(super) struct Watch {
    pub(super) meter: Arc<Meter>,
    pub(super) stall: Arc<StallDetector>,
    pub(super) rate: Option<Arc<Rate>>,
    /// The number of bytes that were handed out.
    pub(super) sent: Arc<AtomicU64>,
}

impl Watch {
    /// Creates the watch of one body.
    pub(super) fn new(meter: &Arc<Meter>, rate: Option<&Arc<Rate>>, sent: &Arc<AtomicU64>) -> Self {
        let (meter, sent) = (Arc::clone(meter), Arc::clone(sent));
        Self { meter, stall: Arc::new(StallDetector::new()), rate: rate.cloned(), sent }
    }
}

/// Hands out bytes in frames, at the rate limit.
struct Framer {
    watch: Watch,
    /// When the next frame may be sent, with a rate limit.
    delay: Option<Pin<Box<Sleep>>>,
}

impl Framer {
    fn new(watch: Watch) -> Self {
        watch.sent.store(0, Ordering::Relaxed);
        watch.stall.progress().started = None;
        Self { watch, delay: None }
    }

    /// Splits the next frame off `bytes`.
    fn poll_frame(&mut self, context: &mut Context<'_>, bytes: &mut Bytes) -> Poll<Bytes> {
        let granularity = self.watch.rate.as_ref().map_or(FRAME, |rate| rate.granularity().min(FRAME));
        let len = bytes.len().min(granularity);
        if let Some(rate) = &self.watch.rate {
            let delay = self.delay.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(rate.reserve(len))));
            ready!(delay.as_mut().poll(context));
            self.delay = None;
        }
        self.watch.sent.fetch_add(len as u64, Ordering::Relaxed);
        self.watch.stall.progress().started.get_or_insert_with(Instant::now);
        Poll::Ready(bytes.split_to(len))
    }
}

/// A chunk as a request body of known length.
pub(super) struct ChunkBody {
    chunk: Chunk,
    pieces: VecDeque<Bytes>,
    sent: u64,
    framer: Framer,
}

impl ChunkBody {
    pub(super) fn new(chunk: &Chunk, watch: Watch) -> Self {
        watch.stall.note_progress(chunk.len == 0);
        let pieces = chunk.pieces.iter().filter(|piece| !piece.is_empty()).cloned().collect();
        Self { chunk: chunk.clone(), pieces, sent: 0, framer: Framer::new(watch) }
    }
}

impl Body for ChunkBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let Some(piece) = this.pieces.front_mut() else { return Poll::Ready(None) };
        let bytes = ready!(this.framer.poll_frame(context, piece));
        if piece.is_empty() {
            this.pieces.pop_front();
        }
        // A frame counts as sent when the next one is requested.
        let Chunk { start, len, from, to, .. } = this.chunk;
        this.framer.watch.meter.set(from + (to - from) * this.sent / len.max(1), start + this.sent);
        this.sent += bytes.len() as u64;
        this.framer.watch.stall.note_progress(this.sent == len);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.chunk.len - self.sent)
    }
}

/// The summary of a streamed blob, or why its stream failed, once it ended.
pub(super) type Ended = Arc<OnceLock<Result<LayerSummary>>>;

/// The rest of a blob as a request body of unknown length. It cannot be sent twice.
pub(super) struct StreamBody {
    blocks: VecDeque<DataBlock>,
    stream: LayerStream,
    ended: Ended,
    /// The end, if the stream delivered it already.
    end: Option<LayerSummary>,
    sent: u64,
    /// The bytes of all streams to the registry.
    all: Arc<AtomicU64>,
    framer: Framer,
}

impl StreamBody {
    /// Returns the body, and where its end is reported. Its bytes are added to `all`.
    pub(super) fn new(Rest { blocks, stream, end }: Rest, watch: Watch, all: &Arc<AtomicU64>) -> (Self, Ended) {
        let ended = Ended::default();
        watch.stall.note_progress(false);
        let (framer, shared) = (Framer::new(watch), Arc::clone(&ended));
        (Self { blocks, stream, ended, end, sent: 0, all: Arc::clone(all), framer }, shared)
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let watch = &this.framer.watch;
        loop {
            match this.blocks.front() {
                Some(piece) if piece.bytes.is_empty() => {
                    watch.meter.set(piece.position, this.sent);
                    this.blocks.pop_front();
                    continue;
                }
                Some(_) => break,
                None => {}
            }
            if let Some(summary) = this.end {
                watch.stall.note_progress(true);
                this.ended.get_or_init(|| Ok(summary));
                return Poll::Ready(None);
            }
            let received = this.stream.poll_recv(context);
            watch.stall.set_starved(received.is_pending());
            let error = match ready!(received) {
                Some(LayerData::Data(piece)) => {
                    this.blocks.push_back(piece);
                    continue;
                }
                Some(LayerData::End(summary)) => {
                    this.end = Some(summary);
                    continue;
                }
                Some(LayerData::Failed(error)) => error,
                None => Error::interrupted(),
            };
            this.ended.get_or_init(|| Err(error.clone()));
            return Poll::Ready(Some(Err(error)));
        }
        let Some(piece) = this.blocks.front_mut() else { return Poll::Ready(None) };
        let bytes = ready!(this.framer.poll_frame(context, &mut piece.bytes));
        this.sent += bytes.len() as u64;
        this.all.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        this.framer.watch.stall.note_progress(false);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

/// Notices when a request with a body makes no progress.
#[derive(Debug)]
pub(super) struct StallDetector(Mutex<Progress>);

#[derive(Clone, Copy, Debug)]
struct Progress {
    first: Instant,
    last: Instant,
    /// When the first frame was handed to the connection.
    started: Option<Instant>,
    all_sent: bool,
    /// Whether nothing is sent because the archive delivers nothing.
    is_starved: bool,
    /// Since when that is so, and for how long it was before, since it was asked last.
    starved_since: Option<Instant>,
    starved: Duration,
}

impl Progress {
    fn new() -> Self {
        let now = Instant::now();
        let (starved_since, starved) = (None, Duration::ZERO);
        Self { first: now, last: now, started: None, all_sent: false, is_starved: false, starved_since, starved }
    }
}

impl StallDetector {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Progress::new()))
    }

    fn note_progress(&self, all_sent: bool) {
        let mut progress = self.progress();
        progress.last = Instant::now();
        progress.all_sent = all_sent;
    }

    /// Notes whether the connection waits for the archive, which is no stall of the connection.
    fn set_starved(&self, is_starved: bool) {
        let mut progress = self.progress();
        progress.last = Instant::now();
        progress.is_starved = is_starved;
        match (is_starved, progress.starved_since) {
            (true, None) => progress.starved_since = Some(Instant::now()),
            (false, Some(since)) => {
                progress.starved += since.elapsed();
                progress.starved_since = None;
            }
            _ => {}
        }
    }

    /// Returns for how long the connection waited for the archive since this was asked last.
    pub(super) fn take_starved(&self) -> Duration {
        let mut progress = self.progress();
        let current = progress.starved_since.map(|since| since.elapsed()).unwrap_or_default();
        progress.starved_since = progress.starved_since.map(|_| Instant::now());
        std::mem::take(&mut progress.starved) + current
    }

    /// Returns when the first frame was handed to the connection, and the last. `None` while the request waits for a permit,
    /// a login or a connection.
    pub(super) fn handed_out(&self) -> Option<(Instant, Instant)> {
        let progress = self.progress();
        Some((progress.started?, progress.last))
    }

    /// Returns whether everything was handed out.
    pub(super) fn is_all_sent(&self) -> bool {
        self.progress().all_sent
    }

    /// Returns when no byte was sent for `limit`.
    ///
    /// Once all bytes are handed to the operating system, it may still be sending them, and the registry may have to
    /// store them: the response may take three times the limit, plus twice the time that the body took.
    pub(super) async fn stalled(&self, limit: Duration) {
        // The time starts now, not when the detector was created.
        let now = Instant::now();
        (self.progress().first, self.progress().last) = (now, now);
        loop {
            let Progress { first, last, all_sent, is_starved, .. } = *self.progress();
            if is_starved {
                tokio::time::sleep(limit).await;
                continue;
            }
            let allowed = if all_sent { 3 * limit + 2 * (last - first) } else { limit };
            if last.elapsed() >= allowed {
                return;
            }
            tokio::time::sleep_until(last + allowed).await;
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;
    use tokio::sync::mpsc;

    fn chunk(len: usize) -> Chunk {
        Chunk { pieces: Arc::from([Bytes::from(vec![7; len])]), start: 0, len: len as u64, from: 0, to: len as u64 }
    }

    fn watch(rate: Option<&Arc<Rate>>) -> Watch {
        Watch::new(&Arc::new(Meter::new(1 << 30)), rate, &Arc::default())
    }

    #[tokio::test(start_paused = true)]
    async fn two_bodies_share_the_rate_limit_evenly() {
        let rate = Arc::new(Rate::new(100_000));
        let start = Instant::now();
        let send = |len: usize| {
            let rate = Arc::clone(&rate);
            async move {
                let mut body = ChunkBody::new(&chunk(len), watch(Some(&rate)));
                let (mut sent, mut last, mut longest) = (0, Instant::now(), Duration::ZERO);
                while let Some(Ok(frame)) =
                    std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
                {
                    sent += frame.into_data().map_or(0, |bytes| bytes.len());
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
                assert_eq!(sent, len);
                longest
            }
        };
        let (one, other) = tokio::join!(send(400_000), send(600_000));
        let seconds = start.elapsed().as_secs_f64();
        assert!((9.8..10.1).contains(&seconds), "{seconds} s for 1,000,000 bytes at 100,000 a second");
        assert!(one.max(other) <= Duration::from_millis(110), "{one:?} and {other:?} without a byte");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_request_continues_and_a_stalled_one_ends() {
        let (stall, limit, start) = (Arc::new(StallDetector::new()), Duration::from_secs(60), Instant::now());
        let slow = Arc::clone(&stall);
        let sending = tokio::spawn(async move {
            for n in 1..=10 {
                tokio::time::sleep(Duration::from_secs(59)).await;
                slow.note_progress(n == 10);
            }
        });
        stall.stalled(limit).await;
        assert!(sending.is_finished());
        // 590 s of sending, then three limits and twice those 590 s for the response.
        assert_eq!(start.elapsed().as_secs(), 590 + 180 + 1180);
        let (stalled, start) = (StallDetector::new(), Instant::now());
        stalled.stalled(limit).await;
        assert_eq!(start.elapsed(), limit);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_known_for_how_long_the_archive_was_waited_for() {
        let (stall, second) = (StallDetector::new(), Duration::from_secs(1));
        stall.set_starved(true);
        tokio::time::sleep(3 * second).await;
        stall.set_starved(true);
        tokio::time::sleep(second).await;
        stall.set_starved(false);
        tokio::time::sleep(5 * second).await;
        assert_eq!([stall.take_starved(), stall.take_starved()], [4 * second, Duration::ZERO]);
        stall.set_starved(true);
        tokio::time::sleep(2 * second).await;
        assert_eq!(stall.take_starved(), 2 * second);
        tokio::time::sleep(second).await;
        assert_eq!(stall.take_starved(), second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_body_is_the_rest_and_waiting_for_the_archive_is_no_stall() {
        let (sender, receiver) = mpsc::channel(1);
        let piece = |bytes: &'static [u8], position| DataBlock { bytes: Bytes::from_static(bytes), position };
        let (watch, all) = (watch(None), Arc::default());
        let blocks = VecDeque::from([piece(b"one, ", 10), piece(b"", 11)]);
        let (mut body, ended) =
            StreamBody::new(Rest { blocks, stream: LayerStream::own(receiver), end: None }, watch.clone(), &all);
        let summary = LayerSummary { digest: Digest::of(b""), size: 8, diff_id: None };
        assert_eq!(watch.stall.handed_out(), None);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(300)).await;
            sender.send(LayerData::Data(piece(b"two", 20))).await.unwrap();
            sender.send(LayerData::End(summary)).await.unwrap();
        });
        let mut sent = Vec::new();
        let mut reading = async || {
            while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
                sent.extend_from_slice(&frame.unwrap().into_data().unwrap());
            }
        };
        tokio::select! {
            () = reading() => {}
            () = watch.stall.stalled(Duration::from_secs(60)) => panic!("the connection did not stall"),
        }
        assert_eq!(sent, b"one, two");
        assert_eq!((watch.meter.position(), watch.meter.sent(), all.load(Ordering::Relaxed)), (20, 8, 8));
        let (first, last) = watch.stall.handed_out().unwrap();
        assert_eq!((last - first).as_secs(), 300);
        assert_eq!(ended.get().unwrap().as_ref().unwrap(), &summary);
    }
}
