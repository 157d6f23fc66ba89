//! How large blobs are uploaded: what is known about the registry in advance, and what the first blobs show.
//!
//! With an unknown registry, one blob tries chunks while the others wait for the result of its first two. If chunks are
//! rejected, this and all later blobs are sent in a single request each, as docker does. If they are accepted, the registry
//! is asked afterwards for the size of the blob: some registries keep the last chunk only and report success
//! (<https://github.com/wasmCloud/wasmCloud/issues/3405>).
//!
//! With chunks, each waits for the response to the one before. Where the [`Line`] would idle for that, blobs are streamed in a
//! single request, too, as long as nothing breaks.
//!
//! A blob with a shared stream does not wait but tries chunks itself: the targets share the stream, so waiting would block
//! the others, possibly the one that it waits for.

use std::sync::{Arc, Mutex as StdMutex, MutexGuard as StdGuard, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderMap;
use tokio::sync::{Mutex, MutexGuard};

use super::line::{Line, Reason};
use super::quirks::{ChunkLimits, LargeBlobs, OTHER, Quirks, Streams};
use crate::compress::size;

/// The chunk size in bytes if four or more layers are uploaded concurrently. With fewer, chunks can be larger.
pub const DEFAULT_CHUNK_SIZE: u64 = 5 << 20;

/// The bytes that all concurrent layers together hold in memory: chunks that the registry has not acknowledged, and data that
/// is compressed meanwhile.
const RETAINED: u64 = 24 << 20;

/// The chunk sizes that are tried after larger ones were rejected: GitHub's limit, and nginx's default.
const SMALLER_CHUNKS: [u64; 2] = [4 << 20, 1 << 20];

/// The number of layers that share [`RETAINED`].
const MAX_SHARES: u64 = 4;

/// Returns the most bytes that a layer holds in memory with `layers` concurrent uploads and chunks of `wanted` bytes or the
/// default size: the window, the blocks in the stream, and one more block.
pub(crate) fn retained_bytes(wanted: Option<u64>, layers: u64) -> u64 {
    let share = RETAINED / layers.clamp(1, MAX_SHARES);
    wanted.map_or(share, |chunk| share.max(chunk + chunk / 5)) + (2 << 20)
}

/// How blobs are uploaded to one registry by one push. What is known of the registry is shared by all pushes.
#[derive(Clone)]
pub(super) struct UploadStrategy {
    learned: Arc<Learned>,
    /// The chunk size that the user sets.
    wanted: Option<u64>,
    /// The bytes that a layer may hold in memory.
    share: u64,
}

struct Learned {
    known: StdMutex<Known>,
    /// Locked by the blob that tries chunks first.
    probing: Mutex<()>,
    line: Line,
}

#[derive(Clone, Copy)]
struct Known {
    quirks: &'static Quirks,
    chunks: Chunks,
    /// The largest chunk in bytes, once a larger one was rejected.
    max: u64,
}

/// The task to find out whether a registry accepts chunks.
pub(super) struct StrategyProbe<'a> {
    /// The lock that other blobs wait for.
    _first: Option<MutexGuard<'a, ()>>,
}

/// Whether a registry accepts chunks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Chunks {
    /// Not known yet.
    Unknown,
    /// Two chunks of one blob were accepted.
    Accepted,
    /// A blob in chunks was stored completely.
    Proven,
    /// Chunks are rejected.
    Rejected,
}

impl UploadStrategy {
    /// Creates the strategy for a registry with these quirks, and for one upload at a time.
    pub(super) fn new(quirks: &'static Quirks, wanted: Option<u64>) -> Self {
        let known = Known { quirks, chunks: Chunks::of(quirks), max: u64::MAX };
        let learned = Learned { known: StdMutex::new(known), probing: Mutex::default(), line: Line::default() };
        Self { learned: Arc::new(learned), wanted, share: RETAINED }
    }

    /// Returns the strategy of a push with `layers` concurrent uploads.
    pub(super) fn shared_by(&self, layers: usize) -> Self {
        let layers = u64::try_from(layers).unwrap_or(MAX_SHARES).clamp(1, MAX_SHARES);
        Self { share: RETAINED / layers, ..self.clone() }
    }

    /// Recognizes an unknown registry by its response to a POST, and returns whether it did.
    pub(super) fn learn(&self, headers: &HeaderMap) -> bool {
        let mut known = self.known();
        if std::ptr::eq(known.quirks, &raw const OTHER)
            && known.chunks == Chunks::Unknown
            && let Some(quirks) = Quirks::of_response(headers)
        {
            *known = Known { quirks, chunks: Chunks::of(quirks), ..*known };
            return true;
        }
        false
    }

    /// Describes how large layers are uploaded to the registry `name`, and why.
    pub(super) fn describe(&self, name: &str) -> String {
        let whole = |bytes| size(bytes).replace(".0 ", " ");
        let (chunk, ChunkLimits { min, max, .. }) = (whole(self.chunk(0)), self.quirks().chunk_limits());
        let why = match (self.wanted, RETAINED / self.share) {
            (Some(_), _) => "as requested".to_owned(),
            (None, 1) => format!("one large layer may use {}", whole(RETAINED)),
            (None, layers) => format!("{layers} large layers share {}", whole(RETAINED)),
        };
        match self.quirks().large_blobs {
            LargeBlobs::Chunks(_) => {
                format!("chunks of {chunk} to {name}: {why}; it accepts {} to {}", whole(min), whole(max))
            }
            LargeBlobs::SingleRequest => {
                format!("no chunks to {name}: {} requires a layer in a single request", self.quirks().name)
            }
            LargeBlobs::Unknown => {
                format!("chunks of {chunk} to {name}: {why}; the first layer shows whether it accepts them")
            }
        }
    }

    /// Returns what was measured on the line to the registry.
    pub(super) fn line(&self) -> &Line {
        &self.learned.line
    }

    /// Returns why a blob of `total` bytes before compression should be streamed although the registry accepts chunks, if it
    /// should.
    pub(super) fn prefers_stream(&self, total: u64) -> Option<Reason> {
        let Known { quirks, chunks, .. } = *self.known();
        let is_possible = self.wanted.is_none() && quirks.streams == Streams::Accepted && chunks != Chunks::Rejected;
        is_possible.then(|| self.line().prefers_stream(total, self.chunk(total))).flatten()
    }

    /// Returns why such a stream should be ended after all, if it should. `left` is what it will still take.
    pub(super) fn rejects_stream(&self, total: u64, left: Duration) -> Option<Reason> {
        self.line().rejects_stream(total, self.chunk(total), left)
    }

    /// Returns the registry's quirks.
    pub(super) fn quirks(&self) -> &'static Quirks {
        self.known().quirks
    }

    /// Returns whether the registry accepts chunks.
    pub(super) fn chunks(&self) -> Chunks {
        self.known().chunks
    }

    /// Notes what an upload showed about chunks. A rejection is final.
    pub(super) fn note_chunks(&self, chunks: Chunks) {
        let mut known = self.known();
        known.chunks = match (known.chunks, chunks) {
            (Chunks::Rejected, _) => Chunks::Rejected,
            (Chunks::Proven, Chunks::Accepted) => Chunks::Proven,
            _ => chunks,
        };
    }

    /// Waits until it is known whether the registry accepts chunks, or returns the task to find out. With `waits` false the
    /// caller gets the task without waiting.
    pub(super) async fn probe(&self, waits: bool) -> Option<StrategyProbe<'_>> {
        if self.chunks() != Chunks::Unknown {
            return None;
        }
        let first = if waits { Some(self.learned.probing.lock().await) } else { None };
        (self.chunks() == Chunks::Unknown).then_some(StrategyProbe { _first: first })
    }

    /// Returns the chunk size in bytes for a blob of `total` bytes before compression: half of what it may hold in memory, so
    /// that the next chunk is ready in time; more if there would be too many chunks.
    pub(super) fn chunk(&self, total: u64) -> u64 {
        let ChunkLimits { min, max, count } = self.quirks().chunk_limits();
        let usual = self.wanted.unwrap_or_else(|| DEFAULT_CHUNK_SIZE.max(self.share / 2).clamp(min, max));
        usual.max(max_compressed(total).div_ceil(count).min(max)).min(self.known().max)
    }

    /// Shrinks the chunks after one of `rejected` bytes was too large, and returns whether that is possible: not below the
    /// registry's minimum, and not if the user sets the size.
    pub(super) fn shrink(&self, rejected: u64) -> bool {
        let min = self.quirks().chunk_limits().min;
        let smaller = SMALLER_CHUNKS.into_iter().find(|size| *size < rejected && *size >= min);
        let smaller = smaller.filter(|_| self.wanted.is_none());
        if let Some(size) = smaller {
            let mut known = self.known();
            known.max = known.max.min(size);
        }
        smaller.is_some()
    }

    /// Returns whether a blob of `total` bytes before compression may have to be sent again from its start, because it is not
    /// known whether the registry accepts chunks.
    pub(super) fn may_reject(&self, total: u64) -> bool {
        matches!(self.chunks(), Chunks::Unknown | Chunks::Accepted) && max_compressed(total) > self.chunk(total)
    }

    /// Returns the bytes that a blob may hold while a chunk is sent: that chunk, and the part of the next that is ready.
    pub(super) fn retained(&self, chunk: u64) -> u64 {
        chunk + self.share.saturating_sub(chunk).clamp(chunk / 5, chunk)
    }

    /// Returns the largest blob in bytes.
    pub(super) fn largest_blob(&self) -> u64 {
        let Known { quirks, chunks, max: seen } = *self.known();
        let ChunkLimits { max, count, .. } = quirks.chunk_limits();
        let max = max.min(seen);
        if chunks == Chunks::Rejected {
            quirks.max_blob_size
        } else {
            max.saturating_mul(count).min(quirks.max_blob_size)
        }
    }

    fn known(&self) -> StdGuard<'_, Known> {
        self.learned.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the largest size of a compressed blob, which can be slightly larger than its content.
fn max_compressed(total: u64) -> u64 {
    total.saturating_add(total / 1000).saturating_add(64)
}

impl Chunks {
    fn of(quirks: &Quirks) -> Self {
        match quirks.large_blobs {
            LargeBlobs::Chunks(_) => Self::Proven,
            LargeBlobs::SingleRequest => Self::Rejected,
            LargeBlobs::Unknown => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::quirks::ECR;
    use super::*;

    #[test]
    fn pushes_share_what_is_known_of_a_registry_but_not_the_memory() {
        let one = UploadStrategy::new(&OTHER, None);
        let four = one.shared_by(4);
        assert_eq!([one.chunk(0), four.chunk(0)], [12 << 20, DEFAULT_CHUNK_SIZE]);
        four.note_chunks(Chunks::Rejected);
        assert_eq!(one.chunks(), Chunks::Rejected);
    }

    #[test]
    fn concurrent_chunks_share_the_memory_and_a_huge_layer_has_larger_ones() {
        let chunk = |layers, total| UploadStrategy::new(&ECR, None).shared_by(layers).chunk(total) >> 10;
        assert_eq!([1, 2, 3, 4, 100].map(|layers| chunk(layers, 0)), [10240, 6144, 5120, 5120, 5120]);
        assert_eq!(UploadStrategy::new(&OTHER, None).chunk(0), 12 << 20);
        let retained =
            |layers, chunk: u64| UploadStrategy::new(&OTHER, None).shared_by(layers).retained(chunk << 20) >> 20;
        let all = [retained(4, 5), retained(4, 20), retained(4, 2), retained(1, 12), retained(1, 10)];
        assert_eq!(all, [6, 24, 4, 24, 20]);
        assert_eq!([20 << 30, 40 << 30].map(|total| chunk(4, total)), [5120, 9996]);
        assert_eq!(UploadStrategy::new(&ECR, Some(5 << 20)).chunk(4200 * (10 << 20)), 10 << 20);
        assert_eq!(UploadStrategy::new(&ECR, None).largest_blob(), 4200 * (10 << 20));
        assert_eq!(UploadStrategy::new(Quirks::of_host("ghcr.io"), None).chunk(0), 4 << 20);
        assert_eq!(UploadStrategy::new(Quirks::of_host("eu.gcr.io"), None).largest_blob(), u64::MAX);
    }

    #[test]
    fn a_stream_is_sent_where_chunks_are_slow_and_no_size_was_asked_for() {
        let far = |quirks, wanted| {
            let strategy = UploadStrategy::new(quirks, wanted);
            strategy.line().note_latency(Duration::from_millis(160));
            strategy
        };
        let streams = |quirks, wanted| far(quirks, wanted).prefers_stream(100 << 20).is_some();
        assert!(streams(&ECR, None) && streams(&OTHER, None) && streams(Quirks::of_host("ghcr.io"), None));
        assert!(!streams(&ECR, Some(5 << 20)));
        assert!(!streams(Quirks::of_host("acme.azurecr.io"), None), "not every size is accepted");
        let rejecting = far(&OTHER, None);
        rejecting.note_chunks(Chunks::Rejected);
        assert_eq!(rejecting.prefers_stream(100 << 20), None, "it gets one anyway, without a second thought");
        assert_eq!(UploadStrategy::new(&ECR, None).prefers_stream(100 << 20), None);
    }

    #[test]
    fn chunks_may_be_rejected_until_they_are_proven() {
        let strategy = UploadStrategy::new(&OTHER, None).shared_by(4);
        let may_reject =
            |strategy: &UploadStrategy| [4 << 20, 5 << 20, 6 << 20].map(|total| strategy.may_reject(total));
        assert_eq!(may_reject(&strategy), [false, true, true]);
        strategy.note_chunks(Chunks::Accepted);
        assert_eq!(may_reject(&strategy), [false, true, true]);
        strategy.note_chunks(Chunks::Proven);
        assert_eq!(may_reject(&strategy), [false; 3]);
        for known in [&ECR, Quirks::of_host("docker.io"), Quirks::of_host("gcr.io")] {
            assert_eq!(may_reject(&UploadStrategy::new(known, None).shared_by(4)), [false; 3]);
        }
        assert!(UploadStrategy::new(&OTHER, Some(1 << 20)).shared_by(4).may_reject(2 << 20));
    }

    #[test]
    fn chunks_shrink_to_the_minimum_of_the_registry() {
        let strategy = UploadStrategy::new(&OTHER, None);
        let shrunk = |rejected: u64| (strategy.shrink(rejected), strategy.chunk(0) >> 20);
        assert_eq!([shrunk(12 << 20), shrunk(4 << 20), shrunk(1 << 20)], [(true, 4), (true, 1), (false, 1)]);
        assert!(!UploadStrategy::new(&ECR, None).shrink(10 << 20), "ECR rejects chunks below 5 MiB");
        assert!(!UploadStrategy::new(&OTHER, Some(12 << 20)).shrink(12 << 20), "the user sets the size");
    }

    #[tokio::test]
    async fn one_blob_tries_chunks_and_the_others_wait() {
        let strategy = UploadStrategy::new(&OTHER, None).shared_by(4);
        let first = strategy.probe(true).await;
        assert!(first.is_some() && strategy.probe(false).await.is_some());
        let others = futures_util::future::join(strategy.probe(true), strategy.probe(true));
        let find = async {
            tokio::task::yield_now().await;
            strategy.note_chunks(Chunks::Rejected);
            drop(first);
        };
        let ((one, other), ()) = futures_util::future::join(others, find).await;
        assert!(one.is_none() && other.is_none());
        strategy.note_chunks(Chunks::Accepted);
        assert_eq!(strategy.chunks(), Chunks::Rejected);
        let strategy = UploadStrategy::new(&OTHER, None).shared_by(4);
        for (seen, known) in
            [(Chunks::Accepted, Chunks::Accepted), (Chunks::Proven, Chunks::Proven), (Chunks::Accepted, Chunks::Proven)]
        {
            strategy.note_chunks(seen);
            assert_eq!(strategy.chunks(), known);
            assert!(strategy.probe(true).await.is_none());
        }
    }
}
