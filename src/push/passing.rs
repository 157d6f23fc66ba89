//! Layers that are sent while their archive goes by: each is taken as it comes, before its image is known.
//!
//! What the registry is known to have is read past; everything else is packed and sent as it is read, and is gone then. If
//! the registry loses it before it is whole, the push has to be run again; a registry of which that is known gets it from a
//! file that keeps it so long. So does one of which nothing is known, until a large layer has told how it takes them.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::delivery::{Delivery, Feeding, gone};
use super::destination::Destination;
use super::kept::Kept;
use super::outcome::label;
use super::{Event, Events, Opened, Pass, Request};
use crate::archive::{HashOf, ImageSelector, Layer, Selection, StreamedLayer};
use crate::compress::{Compression, CompressionSpec, Pool};
use crate::error::{Error, Result};
use crate::oci::DiffId;
use crate::push::plan::{self, Wanted};
use crate::registry::LayerStream;
use crate::reuse::LayerCache;

/// A layer that has come, and who waits to be told what becomes of it: without a word it is read past.
struct Arrival {
    layer: Layer,
    verdict: SyncSender<Feeding>,
}

/// An archive that is being read.
pub(super) struct Reading<'a> {
    opening: Pin<Box<dyn Future<Output = Result<Opened>> + Send + 'a>>,
    arrivals: mpsc::Receiver<Arrival>,
    /// What has come and was not taken yet.
    waiting: Option<Arrival>,
    request: &'a Request,
    cancel: &'a CancellationToken,
}

impl<'a> Reading<'a> {
    /// Starts to read. Layers may come before the image is known only if everything else is decided beforehand.
    pub(super) fn start(
        request: &'a Request,
        pool: &Arc<Pool>,
        events: &'a Events,
        cancel: &'a CancellationToken,
    ) -> Self {
        let (sender, arrivals) = mpsc::channel(1);
        let pool = Arc::clone(pool);
        let pass: Pass = Box::new(move |passing: StreamedLayer<'_>| {
            let (verdict, told) = sync_channel(1);
            let arrival = Arrival { layer: layer(&passing), verdict };
            sender.blocking_send(arrival).map_err(|_nobody| Error::interrupted())?;
            match told.recv() {
                Ok(feeding) => feeding.run(passing.bytes, &pool),
                Err(_) => Ok(()),
            }
        });
        let is_chosen =
            request.choice != ImageSelector::Only || request.part != Selection::default() || request.referrers;
        let is_judged = request.dry_run || request.expect_digest.is_some();
        let may_pass = !is_chosen && !is_judged && request.mount_from.is_empty();
        let opening = Box::pin(super::open(request, events, cancel, may_pass.then_some(pass)));
        Self { opening, arrivals, waiting: None, request, cancel }
    }

    /// The archive, if it can be opened; `None` if layers come before that.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub(super) async fn begin(&mut self) -> Result<Option<Opened>> {
        tokio::select! {
            Some(arrival) = self.arrivals.recv() => {
                self.waiting = Some(arrival);
                Ok(None)
            }
            opened = &mut self.opening => opened.map(Some),
        }
    }

    /// Reads the archive to its end, and sends its layers to all destinations.
    ///
    /// # Errors
    /// If it cannot be read, or nobody wants it any more. What is under way is brought to its end before that, in good order.
    pub(super) async fn go_on(
        mut self,
        destinations: &[&Destination],
        cache: &LayerCache,
        delivery: &Delivery<'_>,
    ) -> Result<Opened> {
        let taking = Taking { destinations, cache, delivery, request: self.request, is_told: AtomicBool::new(false) };
        let mut under_way = FuturesUnordered::new();
        let mut opened = None;
        under_way.extend(self.waiting.map(|arrival| taking.take(arrival)));
        while opened.is_none() || !under_way.is_empty() {
            // Whoever reads is told with the next layer, and nobody waits for that, unless it is the archive that is broken.
            let is_over = self.cancel.is_cancelled() || destinations.iter().all(|to| to.wants_no_archive());
            if is_over && under_way.is_empty() {
                return Err(Error::interrupted());
            }
            tokio::select! {
                Some(arrival) = self.arrivals.recv(), if !is_over && under_way.len() < delivery.lanes => {
                    under_way.push(taking.take(arrival));
                }
                Some(()) = under_way.next() => {}
                done = &mut self.opening, if opened.is_none() => opened = Some(done),
                () = self.cancel.cancelled(), if !is_over => {}
            }
        }
        opened.unwrap_or_else(|| Err(Error::interrupted()))
    }
}

/// What is needed to decide what becomes of a layer, and to send it.
struct Taking<'a> {
    destinations: &'a [&'a Destination],
    cache: &'a LayerCache,
    delivery: &'a Delivery<'a>,
    request: &'a Request,
    /// That layers are kept has been told.
    is_told: AtomicBool,
}

impl Taking<'_> {
    /// Decides what becomes of a layer, and sends it where it is wanted.
    async fn take(&self, Arrival { layer, verdict }: Arrival) {
        let wanted = plan::passing(layer, self.cache, self.request.compression);
        let planning = self.destinations.iter().map(|to| async {
            let planning =
                super::unless_cancelled(&to.cancel, to.plan_passing(&wanted, self.request, self.delivery.events()));
            planning.await.unwrap_or_else(|error| to.fail(error));
        });
        futures_util::future::join_all(planning).await;
        let source = Mutex::new(Source::Comes(verdict));
        let source = &source;
        let supply = |takers: usize| {
            let mut source = source.lock().unwrap_or_else(PoisonError::into_inner);
            match std::mem::replace(&mut *source, Source::Gone) {
                Source::Comes(verdict) => match self.why_kept(&wanted) {
                    Some(why) => match self.keep(&wanted, verdict, why) {
                        Ok(kept) => *source = Source::Kept(kept),
                        Err(error) => {
                            *source = Source::NoRoom;
                            return failing(&wanted, takers, error);
                        }
                    },
                    None => {
                        let (feeding, feeds) = Feeding::new(&wanted, takers, self.delivery.events());
                        // If nobody reads any more, the feeds end.
                        drop(verdict.send(feeding));
                        return feeds;
                    }
                },
                left => *source = left,
            }
            match &*source {
                Source::Kept(kept) => (0..takers).map(|_| kept.feed()).collect(),
                _ => failing(&wanted, takers, gone(&wanted)),
            }
        };
        self.delivery.deliver(&wanted, self.destinations, &supply).await;
        let has_no_room = match &*source.lock().unwrap_or_else(PoisonError::into_inner) {
            Source::Kept(kept) => kept.has_no_room(),
            Source::NoRoom => true,
            Source::Comes(_) | Source::Gone => false,
        };
        if has_no_room {
            self.destinations.iter().filter(|to| to.has_failed()).for_each(|to| to.give_up_archive());
        }
    }

    /// Why a layer has to be kept until it has arrived, in a line, if it does.
    fn why_kept(&self, wanted: &Wanted) -> Option<&'static str> {
        let total = wanted.layer.bytes.len();
        let any = |is: &dyn Fn(&Destination) -> bool| self.destinations.iter().any(|to| !to.has_failed() && is(to));
        if any(&|to| !to.client.reports_upload_status()) {
            return Some(
                "each layer that is sent is in a temporary file until it has arrived: a broken upload may be lost at the \
                 registry",
            );
        }
        any(&|to| to.client.may_reject_chunks(total)).then_some(
            "large layers are in a temporary file until one has arrived: nothing is known of how the registry takes them",
        )
    }

    /// Has the layer read into a file from which it can be sent as often as need be.
    fn keep(&self, wanted: &Wanted, verdict: SyncSender<Feeding>, why: &str) -> Result<Arc<Kept>> {
        let (feeding, feeds) = Feeding::new(wanted, 1, self.delivery.events());
        let feed = feeds.into_iter().next().ok_or_else(Error::interrupted)?;
        let least = if let CompressionSpec::Keep { .. } = wanted.recipe { wanted.layer.bytes.len() } else { 0 };
        let kept = Kept::fill(format!("layer {}", label(wanted)), feed, &self.request.temp_dir, least)?;
        drop(verdict.send(feeding));
        if !self.is_told.swap(true, Ordering::Relaxed) {
            (self.delivery.events())(Event::Note(why.into()));
        }
        Ok(kept)
    }
}

/// Where the bytes of a layer are that goes by.
enum Source {
    /// They come as soon as somebody says so.
    Comes(SyncSender<Feeding>),
    /// In a file.
    Kept(Arc<Kept>),
    /// There is no file for them.
    NoRoom,
    /// They have gone by.
    Gone,
}

/// Feeds that bring an error and nothing else.
fn failing(wanted: &Wanted, takers: usize, error: Error) -> Vec<LayerStream> {
    let nobody: Events = Arc::new(|_| {});
    let (feeding, feeds) = Feeding::new(wanted, takers, &nobody);
    feeding.fail(error);
    feeds
}

fn layer(passing: &StreamedLayer<'_>) -> Layer {
    let StreamedLayer { name, hash, hash_of, compression, range, .. } = passing;
    let is_plain = *compression == Compression::Uncompressed;
    Layer {
        // Of plain bytes both hashes are one.
        diff_id: is_plain.then(|| DiffId::from_hash(hash.hash())),
        digest: (*hash_of == HashOf::Digest).then_some(*hash),
        bytes: range.clone(),
        compression: *compression,
        named_digest: None,
        media_type: None,
        name: name.clone(),
        origins: Arc::default(),
    }
}
