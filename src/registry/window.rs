//! The part of a blob that a registry has not acknowledged yet: cut into chunks, kept for another try, dropped when it
//! has arrived.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use super::rate::Rate;
use crate::error::{Error, Result};
use crate::layer::{Meter, Packed, Piece};

/// Where a blob's bytes come from.
pub type Feed = mpsc::Receiver<Fed>;

/// What comes through a feed: pieces, then one of the ends.
#[derive(Debug)]
pub enum Fed {
    /// The next bytes.
    Piece(Piece),
    /// That was all, and this is what it was.
    End(Packed),
    /// There is no more: the archive is at fault.
    Failed(Error),
}

/// A window on a feed that moves on when bytes are acknowledged. Holds at most one and a half chunks
/// and a piece: what is packed already waits in the feed, so a larger window would only take memory.
pub(super) struct Window {
    feed: Feed,
    /// Bytes to a chunk.
    chunk: u64,
    pieces: VecDeque<Piece>,
    len: u64,
    /// The offset in the blob of the first byte that is not acknowledged.
    start: u64,
    /// The position in the archive's bytes that `start` stands for.
    position: u64,
    end: Option<Packed>,
}

impl Window {
    pub(super) fn new(feed: Feed, chunk: u64) -> Self {
        Self { feed, chunk, pieces: VecDeque::new(), len: 0, start: 0, position: 0, end: None }
    }

    /// Takes from the feed until there is a chunk and a further byte, or all there is.
    pub(super) async fn fill(&mut self) -> Result<()> {
        self.fill_to(self.chunk + 1).await
    }

    /// Takes from the feed, while a chunk is sent, until there is half of the next, or all there is.
    pub(super) async fn fill_ahead(&mut self) -> Result<()> {
        self.fill_to(self.chunk + self.chunk / 2 + 1).await
    }

    async fn fill_to(&mut self, wanted: u64) -> Result<()> {
        while self.end.is_none() && self.len < wanted {
            match self.feed.recv().await {
                Some(Fed::Piece(piece)) => {
                    self.len += piece.bytes.len() as u64;
                    self.pieces.push_back(piece);
                }
                Some(Fed::End(packed)) => self.end = Some(packed),
                Some(Fed::Failed(error)) => return Err(error),
                // Whoever feeds us stopped without a word, which happens on cancellation only.
                None => return Err(Error::interrupted()),
            }
        }
        Ok(())
    }

    /// The next chunk, and what the blob is if that is all that is left of it. The bytes stay in the window.
    pub(super) fn chunk(&self) -> (Chunk, Option<Packed>) {
        let (mut pieces, mut left, mut to) = (Vec::new(), self.chunk, self.position);
        for Piece { bytes, position } in &self.pieces {
            let len = bytes.len() as u64;
            if len > left {
                // Less than the piece's length, which is a usize.
                pieces.push(bytes.slice(..left as usize));
                to += (position - to) * left / len;
                left = 0;
                break;
            }
            pieces.push(bytes.clone());
            left -= len;
            to = *position;
        }
        let chunk = Chunk { pieces: pieces.into(), start: self.start, len: self.chunk - left, from: self.position, to };
        (chunk, self.end.filter(|_| self.len <= self.chunk))
    }

    /// Forgets bytes that have arrived: up to `offset`, which must lie in the window.
    pub(super) fn advance(&mut self, offset: u64) {
        let mut gone = (offset - self.start).min(self.len);
        self.start += gone;
        self.len -= gone;
        while let Some(piece) = self.pieces.front_mut() {
            let len = piece.bytes.len() as u64;
            if len > gone {
                self.position += (piece.position - self.position) * gone / len;
                // Less than the piece's length, which is a usize.
                drop(piece.bytes.split_to(gone as usize));
                break;
            }
            gone -= len;
            self.position = piece.position;
            self.pieces.pop_front();
        }
    }
}

/// What one request carries.
#[derive(Clone)]
pub(super) struct Chunk {
    pieces: Arc<[Bytes]>,
    /// The offset in the blob.
    pub(super) start: u64,
    pub(super) len: u64,
    /// The positions in the archive's bytes at which the chunk starts and ends.
    from: u64,
    to: u64,
}

impl Chunk {
    /// The offset in the blob behind the last byte.
    pub(super) fn end(&self) -> u64 {
        self.start + self.len
    }

    /// Tells the meter that all of the chunk is there.
    pub(super) fn arrived(&self, meter: &Meter) {
        meter.set(self.to, self.end());
    }

    /// The chunk as a request body.
    pub(super) fn body(&self, meter: &Arc<Meter>, pulse: &Arc<Pulse>, rate: Option<Arc<Rate>>) -> ChunkBody {
        pulse.beat(self.len == 0);
        ChunkBody {
            chunk: self.clone(),
            next: 0,
            taken: 0,
            sent: 0,
            meter: Arc::clone(meter),
            pulse: Arc::clone(pulse),
            rate,
            turn: None,
        }
    }
}

/// The most bytes that are handed over at once, so that a slow connection is seen to move.
const FRAME: usize = 64 << 10;

/// A chunk as a request body of known length that tells the meter how far it is.
pub(super) struct ChunkBody {
    chunk: Chunk,
    /// The piece that is being sent, and how much of it has been.
    next: usize,
    taken: usize,
    sent: u64,
    meter: Arc<Meter>,
    pulse: Arc<Pulse>,
    rate: Option<Arc<Rate>>,
    /// When the next frame may be sent, if there is a rate to keep to.
    turn: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for ChunkBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let Some(piece) = this.chunk.pieces.get(this.next) else { return Poll::Ready(None) };
        let grain = this.rate.as_ref().map_or(FRAME, |rate| rate.grain().min(FRAME));
        let to = piece.len().min(this.taken + grain);
        if let Some(rate) = &this.rate {
            let bytes = to - this.taken;
            let turn = this.turn.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(rate.reserve(bytes))));
            std::task::ready!(turn.as_mut().poll(context));
            this.turn = None;
        }
        let bytes = piece.slice(this.taken..to);
        (this.next, this.taken) = if to == piece.len() { (this.next + 1, 0) } else { (this.next, to) };
        // What was handed out before is sent when the next is asked for.
        let Chunk { start, len, from, to, .. } = this.chunk;
        this.meter.set(from + (to - from) * this.sent / len.max(1), start + this.sent);
        this.sent += bytes.len() as u64;
        this.pulse.beat(this.sent == len);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.next == self.chunk.pieces.len()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.chunk.len - self.sent)
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
}

impl Beats {
    fn new() -> Self {
        let now = Instant::now();
        Self { first: now, last: now, all_sent: false }
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

    /// Returns when no byte has moved for `limit`.
    ///
    /// Once all bytes are handed to the operating system, it may still be sending them, and the registry may have to
    /// store them: the answer has three times the limit, and twice the time that the body took so far.
    pub(super) async fn stops(&self, limit: Duration) {
        // It begins now, however long ago it was made.
        *self.beats() = Beats::new();
        loop {
            let Beats { first, last, all_sent } = *self.beats();
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
    use crate::reference::Digest;

    /// A small generator, so that a failure names its seed.
    fn random(state: &mut u64, below: u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) % below
    }

    fn window(pieces: &[Vec<u8>], chunk: u64) -> Window {
        let (sender, feed) = mpsc::channel(pieces.len() + 1);
        let mut position = 0;
        for piece in pieces {
            // As if two bytes of the archive had become one.
            position += 2 * piece.len() as u64;
            sender.try_send(Fed::Piece(Piece { bytes: piece.clone().into(), position })).unwrap();
        }
        sender.try_send(Fed::End(Packed { digest: Digest::of(b""), size: 0, diff_id: None })).unwrap();
        Window::new(feed, chunk)
    }

    #[tokio::test]
    async fn whatever_arrives_of_a_chunk_nothing_is_lost_or_sent_twice_and_only_the_last_is_short() {
        for seed in 0..3000_u64 {
            let state = &mut (seed * 7919 + 1);
            let size = 1 + random(state, 40);
            let count = random(state, 12);
            let pieces: Vec<Vec<u8>> =
                (0..count).map(|_| (0..random(state, 3 * size)).map(|_| random(state, 256) as u8).collect()).collect();
            let all = pieces.concat();
            let mut window = window(&pieces, size);
            let (mut arrived, mut position) = (Vec::new(), 0);
            loop {
                window.fill().await.unwrap();
                if random(state, 2) == 0 {
                    window.fill_ahead().await.unwrap();
                }
                assert!(window.len <= 2 * size + 3 * size, "seed {seed}: the window grows");
                let (chunk, end) = window.chunk();
                let bytes = chunk.pieces.concat();
                assert_eq!((chunk.start, chunk.len), (arrived.len() as u64, bytes.len() as u64), "seed {seed}");
                assert!(chunk.from >= position && chunk.from <= chunk.to, "seed {seed}: the position runs backwards");
                position = chunk.from;
                match end {
                    None => assert_eq!(chunk.len, size, "seed {seed}: a chunk that is not the last is short"),
                    Some(_) => {
                        assert!(chunk.len > 0 || all.is_empty(), "seed {seed}: a closing PUT without a byte");
                        arrived.extend_from_slice(&bytes);
                        assert_eq!(chunk.to, 2 * all.len() as u64, "seed {seed}");
                        break;
                    }
                }
                // All of it arrives, or some, or nothing.
                let some = if random(state, 3) == 0 { random(state, chunk.len + 1) } else { chunk.len };
                arrived.extend_from_slice(&bytes[..some as usize]);
                window.advance(chunk.start + some);
            }
            assert_eq!(arrived, all, "seed {seed}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn two_bodies_together_keep_to_the_rate_without_jerks() {
        let rate = Arc::new(Rate::new(100_000));
        let start = Instant::now();
        let send = |len: usize| {
            let rate = Arc::clone(&rate);
            async move {
                let mut window = window(&[vec![7; len]], 1 << 20);
                window.fill().await.unwrap();
                let (meter, pulse) = (Arc::new(Meter::new(1)), Arc::new(Pulse::new()));
                let mut body = window.chunk().0.body(&meter, &pulse, Some(rate));
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
}
