//! What a request carries, as a body that tells how far it is, keeps to the rate, and is seen to move.

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
use super::window::{Chunk, LayerData, LayerStream};
use crate::compress::{DataBlock, LayerSummary, Meter};
use crate::error::{Error, Result};

/// The most bytes that are handed over at once, so that a slow connection is seen to move.
const FRAME: usize = 64 << 10;

/// Who hears of what is sent, and the rate that it keeps to.
#[derive(Clone)]
pub(super) struct Watch {
    pub(super) meter: Arc<Meter>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) rate: Option<Arc<Rate>>,
    /// Counts what was handed out.
    pub(super) sent: Arc<AtomicU64>,
}

impl Watch {
    pub(super) fn new(meter: &Arc<Meter>, rate: Option<&Arc<Rate>>, sent: &Arc<AtomicU64>) -> Self {
        let (meter, sent) = (Arc::clone(meter), Arc::clone(sent));
        Self { meter, pulse: Arc::new(Pulse::new()), rate: rate.cloned(), sent }
    }
}

/// Hands out bytes in frames, at the rate.
struct Framer {
    watch: Watch,
    /// When the next frame may be sent, if there is a rate to keep to.
    turn: Option<Pin<Box<Sleep>>>,
}

impl Framer {
    fn new(watch: Watch) -> Self {
        watch.sent.store(0, Ordering::Relaxed);
        Self { watch, turn: None }
    }

    /// The next frame of `bytes`, of which it takes what it hands out.
    fn poll_frame(&mut self, context: &mut Context<'_>, bytes: &mut Bytes) -> Poll<Bytes> {
        let grain = self.watch.rate.as_ref().map_or(FRAME, |rate| rate.grain().min(FRAME));
        let len = bytes.len().min(grain);
        if let Some(rate) = &self.watch.rate {
            let turn = self.turn.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(rate.reserve(len))));
            ready!(turn.as_mut().poll(context));
            self.turn = None;
        }
        self.watch.sent.fetch_add(len as u64, Ordering::Relaxed);
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
        watch.pulse.beat(chunk.len == 0);
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
        // What was handed out before is sent when the next is asked for.
        let Chunk { start, len, from, to, .. } = this.chunk;
        this.framer.watch.meter.set(from + (to - from) * this.sent / len.max(1), start + this.sent);
        this.sent += bytes.len() as u64;
        this.framer.watch.pulse.beat(this.sent == len);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.chunk.len - self.sent)
    }
}

/// What a streamed blob turned out to be, or why its feed failed, once that is known.
pub(super) type Ended = Arc<OnceLock<Result<LayerSummary>>>;

/// A whole blob as a request body whose length nobody knows: as it comes out of its feed. It cannot be sent twice.
pub(super) struct StreamBody {
    pieces: VecDeque<DataBlock>,
    feed: LayerStream,
    ended: Ended,
    /// The end came before the stream was asked for it.
    end: Option<LayerSummary>,
    sent: u64,
    framer: Framer,
}

impl StreamBody {
    /// The pieces that were taken from the feed already, then the rest of it.
    pub(super) fn new(
        pieces: VecDeque<DataBlock>,
        feed: LayerStream,
        end: Option<LayerSummary>,
        watch: Watch,
    ) -> (Self, Ended) {
        let ended = Ended::default();
        watch.pulse.beat(false);
        let (framer, shared) = (Framer::new(watch), Arc::clone(&ended));
        (Self { pieces, feed, ended, end, sent: 0, framer }, shared)
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let watch = &this.framer.watch;
        loop {
            match this.pieces.front() {
                Some(piece) if piece.bytes.is_empty() => {
                    watch.meter.set(piece.position, this.sent);
                    this.pieces.pop_front();
                    continue;
                }
                Some(_) => break,
                None => {}
            }
            if let Some(packed) = this.end {
                watch.pulse.beat(true);
                this.ended.get_or_init(|| Ok(packed));
                return Poll::Ready(None);
            }
            let fed = this.feed.poll_recv(context);
            watch.pulse.waits_for_us(fed.is_pending());
            let error = match ready!(fed) {
                Some(LayerData::Data(piece)) => {
                    this.pieces.push_back(piece);
                    continue;
                }
                Some(LayerData::End(packed)) => {
                    this.end = Some(packed);
                    continue;
                }
                Some(LayerData::Failed(error)) => error,
                None => Error::interrupted(),
            };
            this.ended.get_or_init(|| Err(error.clone()));
            return Poll::Ready(Some(Err(error)));
        }
        let Some(piece) = this.pieces.front_mut() else { return Poll::Ready(None) };
        let bytes = ready!(this.framer.poll_frame(context, &mut piece.bytes));
        this.sent += bytes.len() as u64;
        this.framer.watch.pulse.beat(false);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

/// Whether a request with a body still moves.
#[derive(Debug)]
pub(super) struct Pulse(Mutex<Beats>);

#[derive(Clone, Copy, Debug)]
struct Beats {
    first: Instant,
    last: Instant,
    all_sent: bool,
    /// Nothing moves because nothing is there to be sent.
    waits_for_us: bool,
}

impl Beats {
    fn new() -> Self {
        let now = Instant::now();
        Self { first: now, last: now, all_sent: false, waits_for_us: false }
    }
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Beats::new()))
    }

    fn beat(&self, all_sent: bool) {
        let mut beats = self.beats();
        beats.last = Instant::now();
        beats.all_sent = all_sent;
    }

    /// Whether it is the archive that keeps the connection waiting. What is waited for is no fault of the connection's.
    fn waits_for_us(&self, waits: bool) {
        let mut beats = self.beats();
        beats.last = Instant::now();
        beats.waits_for_us = waits;
    }

    /// Returns when no byte has moved for `limit`.
    ///
    /// Once all bytes are handed to the operating system, it may still be sending them, and the registry may have to
    /// store them: the answer has three times the limit, and twice the time that the body took so far.
    pub(super) async fn stops(&self, limit: Duration) {
        // It begins now, however long ago it was made.
        let now = Instant::now();
        (self.beats().first, self.beats().last) = (now, now);
        loop {
            let Beats { first, last, all_sent, waits_for_us } = *self.beats();
            if waits_for_us {
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

    fn beats(&self) -> MutexGuard<'_, Beats> {
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
    async fn two_bodies_together_keep_to_the_rate_without_jerks() {
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
    async fn a_request_that_moves_slowly_lives_and_one_that_stands_still_does_not() {
        let (pulse, limit, start) = (Arc::new(Pulse::new()), Duration::from_secs(60), Instant::now());
        let slow = Arc::clone(&pulse);
        let sending = tokio::spawn(async move {
            for n in 1..=10 {
                tokio::time::sleep(Duration::from_secs(59)).await;
                slow.beat(n == 10);
            }
        });
        pulse.stops(limit).await;
        assert!(sending.is_finished());
        // 590 s of sending, then three limits and twice those 590 s for the answer.
        assert_eq!(start.elapsed().as_secs(), 590 + 180 + 1180);
        let (stuck, start) = (Pulse::new(), Instant::now());
        stuck.stops(limit).await;
        assert_eq!(start.elapsed(), limit);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_what_was_kept_and_what_is_fed_and_waiting_for_the_archive_is_no_stall() {
        let (sender, feed) = mpsc::channel(1);
        let piece = |bytes: &'static [u8], position| DataBlock { bytes: Bytes::from_static(bytes), position };
        let watch = watch(None);
        let kept = VecDeque::from([piece(b"one, ", 10), piece(b"", 11)]);
        let (mut body, ended) = StreamBody::new(kept, feed, None, watch.clone());
        let packed = LayerSummary { digest: Digest::of(b""), size: 8, diff_id: None };
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(300)).await;
            sender.send(LayerData::Data(piece(b"two", 20))).await.unwrap();
            sender.send(LayerData::End(packed)).await.unwrap();
        });
        let mut sent = Vec::new();
        let mut reading = async || {
            while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
                sent.extend_from_slice(&frame.unwrap().into_data().unwrap());
            }
        };
        tokio::select! {
            () = reading() => {}
            () = watch.pulse.stops(Duration::from_secs(60)) => panic!("nobody stood still"),
        }
        assert_eq!(sent, b"one, two");
        assert_eq!((watch.meter.position(), watch.meter.sent()), (20, 8));
        assert_eq!(ended.get().unwrap().as_ref().unwrap(), &packed);
    }
}
