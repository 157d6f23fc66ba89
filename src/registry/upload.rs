//! One blob on its way into a registry: a session, chunks, the closing PUT.
//!
//! Bytes come from a [`Feed`] in order and are cut into chunks. A chunk goes out as a PATCH only when a further byte
//! is there, so the closing PUT carries the last chunk and the digest, and a blob that fits into one chunk takes two
//! requests. While one chunk is sent the next is gathered: memory holds at most two chunks and a piece. This is the only
//! retry loop around a layer's bytes; each try is a session of its own from byte 0, and a session that is given up is
//! closed.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue};
use reqwest::{Body, Method, Url};
use tokio::sync::mpsc;

use super::fault::Fault;
use super::manifest::content_digest;
use super::wire::{Ask, Client};
use crate::error::{Error, Kind, Result};
use crate::layer::{Meter, Packed, Piece};

/// Bytes to a chunk. ECR takes 5 to 10 MiB with a Content-Range, only the last may be smaller
/// (dotnet/sdk-container-builds#424, openai/tart#179).
pub const CHUNK: u64 = 8 << 20;

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

/// Uploads the blob that `feed` delivers. If a try breaks, `again` opens a feed from byte 0.
///
/// # Errors
/// When the registry refuses, when it keeps failing, when the feed fails, on cancellation. No session is left open where
/// the registry can still be told.
pub async fn upload(
    client: &Client,
    what: &str,
    meter: &Arc<Meter>,
    mut feed: Feed,
    again: impl Fn() -> Feed,
) -> Result<Packed> {
    let doing = format!("cannot upload {what} to {}", client.repository());
    let mut delays = client.delays();
    loop {
        meter.set(0, 0);
        let fault = match session(client, meter, feed).await {
            Ok(packed) => return Ok(packed),
            Err(Broken::ForGood(fault)) => return Err(client.explain(fault, &doing)),
            Err(Broken::ForNow(fault)) => fault,
        };
        if !fault.is_transient() && !fault.is_lost_session() {
            return Err(client.explain(fault, &doing));
        }
        client.pause(fault, delays.next()).await.map_err(|fault| client.explain(fault, &doing))?;
        feed = again();
    }
}

/// Why a try ended.
enum Broken {
    /// A new session may do.
    ForNow(Fault),
    /// It has been tried often enough, or nothing will help.
    ForGood(Fault),
}

async fn session(client: &Client, meter: &Arc<Meter>, feed: Feed) -> Result<Packed, Broken> {
    // The trailing slash is part of the route (OCI distribution specification, "Pushing blobs").
    let ask = Ask::new(Method::POST, client.url("blobs/uploads/"), &[202]);
    let opened = client.ask(&ask).await.map_err(Broken::ForGood)?;
    let location = client.location(&ask.url, &opened).map_err(Broken::ForGood)?;
    let Some(location) = location else {
        let error = Error::new(Kind::Refused, format!("{} opened an upload without saying where", client.name()));
        return Err(Broken::ForGood(Fault::Ours(error)));
    };
    let mut session = Session { client, meter, location, offset: 0 };
    match session.run(feed).await {
        Ok(packed) => Ok(packed),
        Err(fault) => {
            client.forget(session.location).await;
            Err(Broken::ForNow(fault))
        }
    }
}

/// An open upload session.
struct Session<'a> {
    client: &'a Client,
    meter: &'a Arc<Meter>,
    location: Url,
    /// How many bytes the registry has acknowledged. Counted here: ECR's `Range` answer stays at the first chunk
    /// (aws/containers-roadmap#2831).
    offset: u64,
}

impl Session<'_> {
    async fn run(&mut self, feed: Feed) -> Result<Packed, Fault> {
        let client = self.client;
        let mut gather = Gather::new(feed, CHUNK);
        let mut next = client.or_cancelled(gather.next()).await??;
        loop {
            match next {
                Next::Chunk(chunk) => {
                    let following = client.or_cancelled(gather.next());
                    let (_, following) = futures_util::future::try_join(self.patch(chunk), following).await?;
                    next = following?;
                }
                Next::Last(chunk, packed) => {
                    self.close(chunk, &packed).await?;
                    return Ok(packed);
                }
            }
        }
    }

    async fn patch(&mut self, chunk: Chunk) -> Result<(), Fault> {
        let (len, to) = (chunk.len, chunk.to);
        // ECR answers 201, the specification says 202 (regclient/regclient#81).
        let mut ask = self.carry(Method::PATCH, self.location.clone(), chunk, &[200, 201, 202, 204]);
        ask.headers.insert(CONTENT_RANGE, content_range(self.offset, len));
        let response = self.client.send(&ask).await?;
        if let Some(location) = self.client.location(&ask.url, &response)? {
            self.location = location;
        }
        self.offset += len;
        self.meter.set(to, self.offset);
        Ok(())
    }

    async fn close(&mut self, chunk: Chunk, packed: &Packed) -> Result<(), Fault> {
        let (len, to) = (chunk.len, chunk.to);
        let mut url = self.location.clone();
        url.query_pairs_mut().append_pair("digest", &packed.digest.to_string());
        let mut ask = self.carry(Method::PUT, url, chunk, &[200, 201, 204]);
        // A blob in one piece goes without: with a Content-Range, ECR applies the rules for parts.
        if self.offset > 0 && len > 0 {
            ask.headers.insert(CONTENT_RANGE, content_range(self.offset, len));
        }
        let response = self.client.send(&ask).await?;
        self.meter.set(to, self.offset + len);
        match content_digest(response.headers()) {
            Some(confirmed) if confirmed != packed.digest => {
                let what = format!("{} stored {confirmed} where {} was sent", self.client.name(), packed.digest);
                Err(Fault::Ours(Error::new(Kind::Refused, what)))
            }
            _ => Ok(()),
        }
    }

    fn carry(&self, method: Method, url: Url, chunk: Chunk, expect: &'static [u16]) -> Ask {
        let mut ask = Ask::new(method, url, expect);
        ask.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let (meter, offset) = (Arc::clone(self.meter), self.offset);
        ask.payload = Arc::new(move || {
            let body = ChunkBody { chunk: chunk.clone(), next: 0, sent: 0, offset, meter: Arc::clone(&meter) };
            Body::wrap(body)
        });
        ask
    }
}

/// `START-END`, both inclusive and without a unit (OCI distribution specification, "Pushing a blob in chunks").
fn content_range(offset: u64, len: u64) -> HeaderValue {
    HeaderValue::try_from(format!("{offset}-{}", offset + len - 1)).unwrap_or_else(|_| HeaderValue::from_static("0-0"))
}

/// What one request carries.
#[derive(Clone)]
struct Chunk {
    pieces: Arc<[Bytes]>,
    len: u64,
    /// The positions in the archive's bytes at which the chunk starts and ends.
    from: u64,
    to: u64,
}

enum Next {
    /// A full chunk, and there is more.
    Chunk(Chunk),
    /// The rest.
    Last(Chunk, Packed),
}

/// Cuts a feed into chunks.
struct Gather {
    feed: Feed,
    /// Bytes to a chunk.
    chunk: u64,
    pieces: VecDeque<Piece>,
    len: u64,
    position: u64,
    end: Option<Packed>,
}

impl Gather {
    fn new(feed: Feed, chunk: u64) -> Self {
        Self { feed, chunk, pieces: VecDeque::new(), len: 0, position: 0, end: None }
    }

    async fn next(&mut self) -> Result<Next, Fault> {
        while self.end.is_none() && self.len <= self.chunk {
            match self.feed.recv().await {
                Some(Fed::Piece(piece)) => {
                    self.len += piece.bytes.len() as u64;
                    self.pieces.push_back(piece);
                }
                Some(Fed::End(packed)) => self.end = Some(packed),
                Some(Fed::Failed(error)) => return Err(Fault::Ours(error)),
                // Whoever feeds us stopped without a word, which happens on cancellation only.
                None => return Err(Fault::Ours(Error::interrupted())),
            }
        }
        match self.end {
            Some(packed) if self.len <= self.chunk => Ok(Next::Last(self.cut(), packed)),
            _ => Ok(Next::Chunk(self.cut())),
        }
    }

    /// Takes a chunk's worth of bytes, or all if there are fewer.
    fn cut(&mut self) -> Chunk {
        let (mut pieces, mut left, from) = (Vec::new(), self.chunk, self.position);
        while let Some(piece) = self.pieces.front_mut() {
            let len = piece.bytes.len() as u64;
            if len <= left {
                left -= len;
                self.position = piece.position;
                pieces.extend(self.pieces.pop_front().map(|piece| piece.bytes));
            } else {
                // Less than the piece's length, which is a usize.
                pieces.push(piece.bytes.split_to(left as usize));
                self.position += (piece.position - self.position) * left / len;
                left = 0;
            }
            if left == 0 {
                break;
            }
        }
        let len = self.chunk - left;
        self.len -= len;
        Chunk { pieces: pieces.into(), len, from, to: self.position }
    }
}

/// A chunk as a request body of known length that tells the meter how far it is.
struct ChunkBody {
    chunk: Chunk,
    next: usize,
    sent: u64,
    offset: u64,
    meter: Arc<Meter>,
}

impl HttpBody for ChunkBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Self { chunk, sent, offset, .. } = &*self;
        // What was handed out before is sent when the next is asked for.
        let position = chunk.from + (chunk.to - chunk.from) * sent / chunk.len.max(1);
        self.meter.set(position, offset + sent);
        let Some(bytes) = self.chunk.pieces.get(self.next).cloned() else { return Poll::Ready(None) };
        self.next += 1;
        self.sent += bytes.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.next == self.chunk.pieces.len()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.chunk.len - self.sent)
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

    async fn chunks(pieces: &[Vec<u8>], chunk: u64) -> Vec<Chunk> {
        let (sender, feed) = mpsc::channel(pieces.len() + 1);
        let mut position = 0;
        for piece in pieces {
            // As if two bytes of the archive had become one.
            position += 2 * piece.len() as u64;
            let piece = Piece { bytes: piece.clone().into(), position };
            sender.try_send(Fed::Piece(piece)).unwrap();
        }
        sender.try_send(Fed::End(Packed { digest: Digest::of(b""), size: 0, diff_id: None })).unwrap();
        let (mut gather, mut chunks) = (Gather::new(feed, chunk), Vec::new());
        loop {
            match gather.next().await {
                Ok(Next::Chunk(chunk)) => chunks.push(chunk),
                Ok(Next::Last(last, _)) => {
                    chunks.push(last);
                    return chunks;
                }
                Err(fault) => panic!("{fault:?}"),
            }
        }
    }

    #[tokio::test]
    async fn whatever_the_pieces_all_chunks_but_the_last_are_full_and_nothing_is_lost() {
        for seed in 0..2000_u64 {
            let state = &mut (seed * 7919 + 1);
            let size = 1 + random(state, 40);
            let count = random(state, 12);
            let pieces: Vec<Vec<u8>> =
                (0..count).map(|_| (0..random(state, 3 * size)).map(|_| random(state, 256) as u8).collect()).collect();
            let all = pieces.concat();
            let chunks = chunks(&pieces, size).await;
            let (last, full) = chunks.split_last().unwrap();
            assert!(full.iter().all(|chunk| chunk.len == size), "seed {seed}");
            assert!(last.len <= size && (last.len > 0 || all.is_empty()), "seed {seed}: a closing PUT without a byte");
            let sent: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.pieces.concat()).collect();
            assert_eq!(sent, all, "seed {seed}");
            assert!(
                chunks.windows(2).all(|pair| pair[0].to == pair[1].from && pair[0].from <= pair[0].to),
                "seed {seed}"
            );
            assert_eq!((chunks[0].from, last.to), (0, 2 * all.len() as u64), "seed {seed}");
        }
    }

    #[test]
    fn a_content_range_names_the_first_and_the_last_byte() {
        assert_eq!(content_range(0, 1), "0-0");
        assert_eq!(content_range(8 << 20, 5), "8388608-8388612");
    }
}
