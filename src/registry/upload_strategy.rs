//! How large blobs go to a registry: what is known of it beforehand, and what the first of them teaches.
//!
//! Where nothing is known, one blob tries chunks while the others wait for what becomes of its first two. If chunks are
//! refused, this and all later blobs are streamed as one body each, as docker does it. If they are taken, the registry is
//! asked afterwards how large it stored the blob: there are registries that keep the last chunk only and say that all is
//! well (<https://github.com/wasmCloud/wasmCloud/issues/3405>).
//!
//! A blob that goes to several targets at once waits for nobody but finds out by itself: its targets share what is read
//! of it, so one that waits stops the others, and one of those may be whom it waits for.

use std::sync::{Mutex as StdMutex, MutexGuard as StdGuard, PoisonError};

use reqwest::header::HeaderMap;
use tokio::sync::{Mutex, MutexGuard};

use super::quirks::{OTHER, Parts, Quirks, Sizes};
use crate::compress::size;

/// Bytes to a chunk where four layers or more are under way at once. With fewer, a chunk can be larger.
pub const DEFAULT_CHUNK_SIZE: u64 = 5 << 20;

/// The bytes that are kept for all layers under way: chunks that the registry has not acknowledged, and what is packed
/// meanwhile.
const KEPT: u64 = 24 << 20;

/// The sizes of chunks that are tried where larger ones are refused: GitHub's limit, and nginx's where nobody raised it.
const SMALLER: [u64; 2] = [4 << 20, 1 << 20];

/// The number of layers for which [`KEPT`] is meant.
const LAYERS: u64 = 4;

/// The most bytes that a layer holds in memory where `layers` are under way at once, with chunks of a size that is `wanted` or
/// the usual one: what is kept of it, and the pieces that are gathered, in the feed, and one too many.
pub fn retained_bytes(wanted: Option<u64>, layers: u64) -> u64 {
    let share = KEPT / layers.clamp(1, LAYERS);
    wanted.map_or(share, |chunk| share.max(chunk + chunk / 5)) + (2 << 20)
}

/// How blobs go to one registry.
pub(super) struct UploadStrategy {
    known: StdMutex<Known>,
    /// Held by the blob that tries chunks first.
    first: Mutex<()>,
    /// The size of chunks that the user wants.
    wanted: Option<u64>,
    /// The bytes that may be kept for a layer.
    share: u64,
}

#[derive(Clone, Copy)]
struct Known {
    quirks: &'static Quirks,
    chunks: Chunks,
    /// The most bytes to a chunk, once a larger one was refused.
    most: u64,
}

/// The task to find out how a registry takes chunks.
#[derive(Debug)]
pub(super) struct StrategyProbe<'a> {
    /// Keeps those waiting who wait.
    _first: Option<MutexGuard<'a, ()>>,
}

/// What is known about chunks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Chunks {
    /// Nothing.
    Unknown,
    /// Two have been accepted, one after the other.
    Accepted,
    /// They work.
    Proven,
    /// They do not.
    Refused,
}

impl UploadStrategy {
    /// The ways to a registry with these quirks, with `layers` under way at once.
    pub(super) fn new(quirks: &'static Quirks, wanted: Option<u64>, layers: usize) -> Self {
        let layers = u64::try_from(layers).unwrap_or(LAYERS).clamp(1, LAYERS);
        let known = Known { quirks, chunks: Chunks::of(quirks), most: u64::MAX };
        Self { known: StdMutex::new(known), first: Mutex::default(), wanted, share: KEPT / layers }
    }

    /// Takes from an answer to a POST what it gives away about the registry, and tells whether that was something.
    pub(super) fn learn(&self, headers: &HeaderMap) -> bool {
        let mut known = self.known();
        if std::ptr::eq(known.quirks, &raw const OTHER)
            && known.chunks == Chunks::Unknown
            && let Some(quirks) = Quirks::of_answer(headers)
        {
            *known = Known { quirks, chunks: Chunks::of(quirks), ..*known };
            return true;
        }
        false
    }

    /// How large layers go to the registry of that name, and why, in words.
    pub(super) fn reason(&self, name: &str) -> String {
        let whole = |bytes| size(bytes).replace(".0 ", " ");
        let (chunk, Sizes { least, most, .. }) = (whole(self.chunk(0)), self.quirks().sizes());
        let why = match (self.wanted, KEPT / self.share) {
            (Some(_), _) => "--chunk-size".to_owned(),
            (None, 1) => format!("one large layer has {}", whole(KEPT)),
            (None, layers) => format!("{layers} large layers share {}", whole(KEPT)),
        };
        match self.quirks().parts {
            Parts::Chunks(_) => {
                format!("chunks of {chunk} to {name}: {why}; it takes {} to {}", whole(least), whole(most))
            }
            Parts::Whole => format!("no chunks to {name}: {} takes a layer as one body", self.quirks().name),
            Parts::Unknown => {
                format!("chunks of {chunk} to {name}: {why}; the first finds out whether it takes them")
            }
        }
    }

    /// What is special about the registry.
    pub(super) fn quirks(&self) -> &'static Quirks {
        self.known().quirks
    }

    /// What is known about chunks.
    pub(super) fn chunks(&self) -> Chunks {
        self.known().chunks
    }

    /// Notes what was seen of chunks. That they are refused is never taken back.
    pub(super) fn saw(&self, chunks: Chunks) {
        let mut known = self.known();
        known.chunks = match (known.chunks, chunks) {
            (Chunks::Refused, _) => Chunks::Refused,
            (Chunks::Proven, Chunks::Accepted) => Chunks::Proven,
            _ => chunks,
        };
    }

    /// Waits until it is known how the registry takes chunks, or makes somebody the one who has to find out. Who does not
    /// wait finds out by himself.
    pub(super) async fn find_out(&self, waits: bool) -> Option<StrategyProbe<'_>> {
        if self.chunks() != Chunks::Unknown {
            return None;
        }
        let first = if waits { Some(self.first.lock().await) } else { None };
        (self.chunks() == Chunks::Unknown).then_some(StrategyProbe { _first: first })
    }

    /// The bytes to a chunk of a blob that is made of `total` bytes: half of what may be kept for it, so that the next chunk
    /// is ready when one has arrived; more where it would be too many chunks.
    pub(super) fn chunk(&self, total: u64) -> u64 {
        let Sizes { least, most, count } = self.quirks().sizes();
        let usual = self.wanted.unwrap_or_else(|| DEFAULT_CHUNK_SIZE.max(self.share / 2).clamp(least, most));
        usual.max(most_packed(total).div_ceil(count).min(most)).min(self.known().most)
    }

    /// Makes chunks smaller after one of so many bytes was too large. Whether that is possible: not below what the registry
    /// takes, nor if the user wants another size.
    pub(super) fn shrink(&self, refused: u64) -> bool {
        let least = self.quirks().sizes().least;
        let smaller = SMALLER.into_iter().find(|size| *size < refused && *size >= least);
        match smaller.filter(|_| self.wanted.is_none()) {
            Some(size) => {
                let mut known = self.known();
                known.most = known.most.min(size);
                true
            }
            None => false,
        }
    }

    /// Whether a blob that is made of `total` bytes may have to be sent again from its start, though nothing breaks, since it
    /// is not known how the registry takes chunks.
    pub(super) fn may_refuse(&self, total: u64) -> bool {
        matches!(self.chunks(), Chunks::Unknown | Chunks::Accepted) && most_packed(total) > self.chunk(total)
    }

    /// How many bytes are kept of a blob while a chunk of so many is on its way: that chunk, and what is ready of the next.
    pub(super) fn retained(&self, chunk: u64) -> u64 {
        chunk + self.share.saturating_sub(chunk).clamp(chunk / 5, chunk)
    }

    /// The most bytes that a blob can have.
    pub(super) fn largest(&self) -> u64 {
        let Known { quirks, chunks, most: seen } = *self.known();
        let Sizes { most, count, .. } = quirks.sizes();
        let most = most.min(seen);
        if chunks == Chunks::Refused { quirks.most } else { most.saturating_mul(count).min(quirks.most) }
    }

    fn known(&self) -> StdGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The most bytes of a packed blob, which can be a little larger than what it is made of.
fn most_packed(total: u64) -> u64 {
    total.saturating_add(total / 1000).saturating_add(64)
}

impl Chunks {
    fn of(quirks: &Quirks) -> Self {
        match quirks.parts {
            Parts::Chunks(_) => Self::Proven,
            Parts::Whole => Self::Refused,
            Parts::Unknown => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::quirks::ECR;
    use super::*;

    #[test]
    fn all_chunks_under_way_take_the_same_memory_and_a_huge_layer_has_larger_ones() {
        let chunk = |layers, total| UploadStrategy::new(&ECR, None, layers).chunk(total) >> 10;
        assert_eq!([1, 2, 3, 4, 100].map(|layers| chunk(layers, 0)), [10240, 6144, 5120, 5120, 5120]);
        assert_eq!(UploadStrategy::new(&OTHER, None, 1).chunk(0), 12 << 20);
        let kept = |layers, chunk: u64| UploadStrategy::new(&OTHER, None, layers).retained(chunk << 20) >> 20;
        assert_eq!([kept(4, 5), kept(4, 20), kept(4, 2), kept(1, 12), kept(1, 10)], [6, 24, 4, 24, 20]);
        assert_eq!([20 << 30, 40 << 30].map(|total| chunk(4, total)), [5120, 9996]);
        assert_eq!(UploadStrategy::new(&ECR, Some(5 << 20), 1).chunk(4200 * (10 << 20)), 10 << 20);
        assert_eq!(UploadStrategy::new(&ECR, None, 1).largest(), 4200 * (10 << 20));
        assert_eq!(UploadStrategy::new(Quirks::of_host("ghcr.io"), None, 1).chunk(0), 4 << 20);
        assert_eq!(UploadStrategy::new(Quirks::of_host("eu.gcr.io"), None, 1).largest(), u64::MAX);
    }

    #[test]
    fn what_may_be_cut_may_be_refused_until_chunks_are_proven() {
        let ways = UploadStrategy::new(&OTHER, None, 4);
        let may_refuse = |ways: &UploadStrategy| [4 << 20, 5 << 20, 6 << 20].map(|total| ways.may_refuse(total));
        assert_eq!(may_refuse(&ways), [false, true, true]);
        ways.saw(Chunks::Accepted);
        assert_eq!(may_refuse(&ways), [false, true, true]);
        ways.saw(Chunks::Proven);
        assert_eq!(may_refuse(&ways), [false; 3]);
        for known in [&ECR, Quirks::of_host("docker.io"), Quirks::of_host("gcr.io")] {
            assert_eq!(may_refuse(&UploadStrategy::new(known, None, 4)), [false; 3]);
        }
        assert!(UploadStrategy::new(&OTHER, Some(1 << 20), 4).may_refuse(2 << 20));
    }

    #[tokio::test]
    async fn one_finds_out_and_the_others_wait_for_it() {
        let ways = UploadStrategy::new(&OTHER, None, 4);
        let first = ways.find_out(true).await;
        assert!(first.is_some() && ways.find_out(false).await.is_some());
        let others = futures_util::future::join(ways.find_out(true), ways.find_out(true));
        let find = async {
            tokio::task::yield_now().await;
            ways.saw(Chunks::Refused);
            drop(first);
        };
        let ((one, other), ()) = futures_util::future::join(others, find).await;
        assert!(one.is_none() && other.is_none());
        ways.saw(Chunks::Accepted);
        assert_eq!(ways.chunks(), Chunks::Refused);
        let ways = UploadStrategy::new(&OTHER, None, 4);
        for (seen, known) in
            [(Chunks::Accepted, Chunks::Accepted), (Chunks::Proven, Chunks::Proven), (Chunks::Accepted, Chunks::Proven)]
        {
            ways.saw(seen);
            assert_eq!(ways.chunks(), known);
            assert!(ways.find_out(true).await.is_none());
        }
    }
}
