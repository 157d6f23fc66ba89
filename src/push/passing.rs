//! Layers that are sent while their archive goes by: each is taken as it comes, before its image is known.
//!
//! What the registry is known to have is read past; everything else is packed and sent as it is read, and is gone then. If
//! the registry loses it before it is whole, the push has to be run again.

use std::pin::Pin;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::delivery::{Delivery, Feeding, gone};
use super::destination::Destination;
use super::{Events, Pass, Request};
use crate::error::{Error, Result};
use crate::image::{Archive, Choice, Image, Layer, Naming, Passing};
use crate::layer::{Packing, Pool};
use crate::plan::{self, Compression};
use crate::reference::DiffId;
use crate::reuse::Cache;

/// A layer that has come, and who waits to be told what becomes of it: without a word it is read past.
struct Arrival {
    layer: Layer,
    verdict: SyncSender<Feeding>,
}

/// An archive that is being read.
pub(super) struct Reading<'a> {
    opening: Pin<Box<dyn Future<Output = Result<(Archive, Image)>> + Send + 'a>>,
    arrivals: mpsc::Receiver<Arrival>,
    /// What has come and was not taken yet.
    waiting: Option<Arrival>,
    compression: Compression,
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
        let pass: Pass = Box::new(move |passing: Passing<'_>| {
            let (verdict, told) = sync_channel(1);
            let arrival = Arrival { layer: layer(&passing), verdict };
            sender.blocking_send(arrival).map_err(|_nobody| Error::interrupted())?;
            match told.recv() {
                Ok(feeding) => feeding.run(passing.bytes, &pool),
                Err(_) => Ok(()),
            }
        });
        let may_pass = request.choice == Choice::Only && !request.dry_run && request.mount_from.is_empty();
        let opening = Box::pin(super::open(request, events, cancel, may_pass.then_some(pass)));
        Self { opening, arrivals, waiting: None, compression: request.compression, cancel }
    }

    /// The archive, if it can be opened; `None` if layers come before that.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub(super) async fn begin(&mut self) -> Result<Option<(Archive, Image)>> {
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
        cache: &Cache,
        delivery: &Delivery<'_>,
    ) -> Result<(Archive, Image)> {
        let mut under_way = FuturesUnordered::new();
        let mut opened = None;
        let take = |arrival| take(arrival, self.compression, destinations, cache, delivery);
        under_way.extend(self.waiting.map(take));
        while opened.is_none() || !under_way.is_empty() {
            // Whoever reads is told with the next layer, and nobody waits for that.
            let is_over = self.cancel.is_cancelled() || destinations.iter().all(|to| to.has_failed());
            if is_over && under_way.is_empty() {
                return Err(Error::interrupted());
            }
            tokio::select! {
                Some(arrival) = self.arrivals.recv(), if !is_over => under_way.push(take(arrival)),
                Some(()) = under_way.next() => {}
                done = &mut self.opening, if opened.is_none() => opened = Some(done),
                () = self.cancel.cancelled(), if !is_over => {}
            }
        }
        opened.unwrap_or_else(|| Err(Error::interrupted()))
    }
}

/// Decides what becomes of a layer, and sends it where it is wanted.
async fn take(
    arrival: Arrival,
    compression: Compression,
    destinations: &[&Destination],
    cache: &Cache,
    delivery: &Delivery<'_>,
) {
    let Arrival { layer, verdict } = arrival;
    let wanted = plan::passing(layer, cache, compression);
    let planning = destinations.iter().map(|to| async {
        to.plan_passing(&wanted, delivery.events()).await.unwrap_or_else(|error| to.fail(error));
    });
    futures_util::future::join_all(planning).await;
    let verdict = Mutex::new(Some(verdict));
    let supply = |takers: usize| {
        let (feeding, feeds) = Feeding::new(&wanted, takers);
        match verdict.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // If nobody reads any more, the feeds end.
            Some(verdict) => drop(verdict.send(feeding)),
            None => feeding.fail(gone(&wanted)),
        }
        feeds
    };
    delivery.deliver(&wanted, destinations, &supply).await;
}

fn layer(passing: &Passing<'_>) -> Layer {
    let Passing { name, hash, naming, packing, range, .. } = passing;
    let is_plain = *packing == Packing::Plain;
    Layer {
        // Of plain bytes both hashes are one.
        diff_id: is_plain.then(|| DiffId::from_hash(hash.hash())),
        digest: (*naming == Naming::Digest).then_some(*hash),
        bytes: range.clone(),
        packing: *packing,
        named_digest: None,
        media_type: None,
        name: name.clone(),
        origins: Arc::default(),
    }
}
