//! Layers that are sent while their archive goes by: each is taken as it comes, before its image is known.
//!
//! What the registry is known to have is read past; everything else is packed and sent as it is read, and is gone then. If
//! the registry loses it before it is whole, the push has to be run again.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Request;
use super::delivery::{Delivery, Feeding, gone};
use super::destination::Destination;
use crate::error::{Error, Result};
use crate::image::{Archive, Choice, Image, Layer, Naming, Passing};
use crate::plan;
use crate::reference::DiffId;
use crate::reuse::Cache;

/// A layer that has come, and who waits to be told what becomes of it: without a word it is read past.
struct Arrival {
    layer: Layer,
    verdict: SyncSender<Feeding>,
}

/// Whether the archive goes by once, and all is decided that has to be decided beforehand.
pub(super) fn may_pass(request: &Request) -> bool {
    let is_open = request.choice == Choice::Only && !request.dry_run && request.mount_from.is_empty();
    is_open && request.archive.goes_by()
}

/// Reads an archive that goes by, and sends its layers to all destinations.
pub(super) async fn open(
    request: &Request,
    destinations: &[&Destination],
    cache: &Cache,
    delivery: &Delivery<'_>,
    cancel: &CancellationToken,
) -> Result<(Archive, Image)> {
    let (sender, mut arrivals) = mpsc::channel(1);
    let pool = Arc::clone(delivery.pool());
    let pass = move |passing: Passing<'_>| {
        let (verdict, told) = sync_channel(1);
        let nobody = |_| Error::interrupted();
        sender.blocking_send(Arrival { layer: layer(&passing), verdict }).map_err(nobody)?;
        match told.recv() {
            Ok(feeding) => feeding.run(passing.bytes, &pool),
            Err(_) => Ok(()),
        }
    };
    let mut reading = Box::pin(super::open(request, delivery.events(), cancel, Some(Box::new(pass))));
    let mut under_way = FuturesUnordered::new();
    let mut opened = None;
    while opened.is_none() || !under_way.is_empty() {
        tokio::select! {
            Some(arrival) = arrivals.recv() => under_way.push(take(arrival, request, destinations, cache, delivery)),
            Some(()) = under_way.next() => {}
            done = &mut reading, if opened.is_none() => opened = Some(done),
            () = cancel.cancelled(), if under_way.is_empty() => break,
        }
        if opened.is_none() && destinations.iter().all(|to| to.has_failed()) {
            // Nobody wants the rest.
            break;
        }
    }
    opened.unwrap_or_else(|| Err(Error::interrupted()))
}

/// Decides what becomes of a layer, and sends it where it is wanted.
async fn take(
    arrival: Arrival,
    request: &Request,
    destinations: &[&Destination],
    cache: &Cache,
    delivery: &Delivery<'_>,
) {
    let Arrival { layer, verdict } = arrival;
    let wanted = plan::passing(layer, cache, request.compression);
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
    let is_plain = *packing == crate::layer::Packing::Plain;
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
