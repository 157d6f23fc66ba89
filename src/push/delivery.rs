//! The layers on their way: each read and packed once, and sent to every target that needs it.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::{Semaphore, mpsc};

use super::destination::Destination;
use super::outcome::label;
use super::{Event, Events, Request};
use crate::archive::{Config, Manifest};
use crate::compress::{LayerSummary, Pool, ReadTimeline, compress};
use crate::error::{Advice, Code, Error, Kind, Result};
use crate::push::plan::{Stored, Wanted};
use crate::registry::{self, Blob, DEFAULT_CHUNK_SIZE, LayerData, LayerStream};
use crate::reuse::{CachedLayer, LayerCache};

/// How many pieces wait in a feed. What a layer holds in memory is the same for any number of targets: they share the
/// bytes, and the slowest of them holds back the packing.
const FEED: usize = 1;

/// What a layer that is larger than a chunk takes of the room.
const KIB_TO_A_CHUNK: u32 = (DEFAULT_CHUNK_SIZE >> 10) as u32;

/// Something to be sent.
enum Item<'a> {
    Layer(&'a Wanted),
    Config(&'a Config),
}

/// The delivery of an image's layers and configs.
pub(super) struct Delivery<'a> {
    pool: Arc<Pool>,
    cache: &'a LayerCache,
    events: &'a Events,
    pub(super) lanes: usize,
    /// Room for the bytes of layers that are kept, in KiB: a chunk for each of those that may be larger than one.
    room: Semaphore,
}

impl<'a> Delivery<'a> {
    /// A delivery with as many layers under way at a time as the request wants.
    pub(super) fn new(pool: Arc<Pool>, cache: &'a LayerCache, events: &'a Events, request: &Request) -> Self {
        let room = Semaphore::new(
            request.large_at_once.max(1).saturating_mul(KIB_TO_A_CHUNK as usize).min(Semaphore::MAX_PERMITS),
        );
        Self { pool, cache, events, lanes: request.concurrency.max(1), room }
    }

    /// Who is told.
    pub(super) fn events(&self) -> &Events {
        self.events
    }

    /// Sends the layers, in their order, and after them the configs of these manifests, each to all destinations that need
    /// it.
    pub(super) async fn run(&self, wanted: &[Wanted], manifests: &[&Manifest], destinations: &[&Destination]) {
        let layers = wanted.iter().map(Item::Layer);
        let items = layers.chain(manifests.iter().map(|manifest| Item::Config(&manifest.config)));
        let sending = async |item| match item {
            Item::Layer(wanted) => self.deliver(wanted, destinations, &|takers| self.read(wanted, takers)).await,
            Item::Config(config) => {
                let puts = destinations.iter().filter(|to| to.takes_more()).map(|to| async {
                    to.put_config(config).await.unwrap_or_else(|error| to.fail(error));
                });
                futures_util::future::join_all(puts).await;
            }
        };
        futures_util::stream::iter(items).for_each_concurrent(self.lanes, sending).await;
    }

    /// Sends a layer to all destinations that need it. `supply` starts reading it for so many takers at once.
    pub(super) async fn deliver(
        &self,
        wanted: &Wanted,
        destinations: &[&Destination],
        supply: &(dyn Fn(usize) -> Vec<LayerStream> + Sync),
    ) {
        let takers = destinations.iter().filter_map(|to| Some((*to, to.needs(&wanted.key)?)));
        let takers: Vec<_> = takers.filter(|(to, _)| to.has_room_for(wanted)).collect();
        if takers.is_empty() {
            return;
        }
        let kib = u32::try_from(wanted.layer.bytes.len() >> 10).unwrap_or(u32::MAX).min(KIB_TO_A_CHUNK);
        // It is never closed.
        let _room = self.room.acquire_many(kib).await.ok();
        // What is mounted is not even read, and what goes by is read otherwise where the registry may ask for it again.
        let mounts = takers.into_iter().map(|(to, meter)| async move {
            let opened = to.mount(wanted, self.events).await.continue_value()?;
            let opened = if opened.is_none() { to.open_first(wanted).await.continue_value()? } else { opened };
            Some((to, meter, opened))
        });
        let takers: Vec<_> = futures_util::future::join_all(mounts).await.into_iter().flatten().collect();
        if takers.is_empty() {
            return;
        }
        let (is_shared, feeds) = (takers.len() > 1, supply(takers.len()));
        let uploads = takers.into_iter().zip(feeds).map(|((to, meter, opened), feed)| async move {
            let again = || supply(1).pop().unwrap_or_else(|| mpsc::channel(1).1);
            let what = format!("layer {}", label(wanted));
            let blob = Blob { what, identity: wanted.identity(), meter, is_shared };
            match registry::upload(&to.client, &blob, opened, feed, again).await {
                Ok(packed) => {
                    let Blob { meter, .. } = blob;
                    let LayerSummary { digest, size, .. } = packed;
                    let took =
                        to.arrived(&wanted.key, Stored { digest, size, compression: wanted.recipe.compression() });
                    // Of what an earlier run sent a part of, nobody knows how long it took.
                    self.remember(wanted, &packed, Some(took).filter(|_| meter.resumed_at() == 0));
                    (self.events)(Event::Arrived { sent: packed.size - meter.resumed_at(), meter });
                }
                Err(error) => to.fail(to.reason(error).await),
            }
        });
        futures_util::future::join_all(uploads).await;
    }

    /// Starts reading a layer for `takers` at once. It stops when none of them listens any more.
    fn read(&self, wanted: &Wanted, takers: usize) -> Vec<LayerStream> {
        let (feeding, feeds) = Feeding::new(wanted, takers, self.events);
        let (bytes, pool) = (wanted.layer.bytes.clone(), Arc::clone(&self.pool));
        tokio::task::spawn_blocking(move || {
            if bytes.is_consumed() {
                let gone = gone(&feeding.wanted);
                feeding.fail(gone);
            } else {
                // Whoever is fed hears of it, too.
                let _told = feeding.run(&mut bytes.reader(), &pool);
            }
        });
        feeds
    }

    fn remember(&self, wanted: &Wanted, packed: &LayerSummary, took: Option<Duration>) {
        let Some(diff_id) = packed.diff_id else { return };
        let known = CachedLayer::new(diff_id, packed.digest, packed.size, wanted.recipe);
        let known = match took {
            Some(took) => known.in_time(took),
            None => known,
        };
        if let Err(error) = self.cache.record(known) {
            (self.events)(Event::Note(format!("layer cache disabled: {error} (--cache FILE)")));
        }
    }
}

/// A layer that is being read, for several takers at once.
pub(super) struct Feeding {
    wanted: Wanted,
    takers: Vec<mpsc::Sender<LayerData>>,
    events: Events,
}

impl Feeding {
    /// One for so many takers, each with its feed.
    pub(super) fn new(wanted: &Wanted, takers: usize, events: &Events) -> (Self, Vec<LayerStream>) {
        let (takers, feeds) = (0..takers).map(|_| mpsc::channel(FEED)).unzip();
        (Self { wanted: wanted.clone(), takers, events: Arc::clone(events) }, feeds)
    }

    /// Reads `bytes` to their end, once, and feeds what becomes of them. Nothing more is read when nobody listens any more.
    ///
    /// # Errors
    /// If the bytes cannot be read, or are not those that the archive promised.
    pub(super) fn run(mut self, bytes: &mut dyn Read, pool: &Pool) -> Result<()> {
        let Wanted { layer, recipe, .. } = &self.wanted;
        let takers = &mut self.takers;
        let course = Arc::new(ReadTimeline::start());
        (self.events)(Event::Reading { layer: label(&self.wanted), course: Arc::clone(&course) });
        let watched = Watched { bytes, course: &course };
        let packed = compress(watched, layer.bytes.len(), *recipe, pool, |piece| {
            course.blocked(|| takers.retain(|taker| taker.blocking_send(LayerData::Data(piece.clone())).is_ok()));
            if takers.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        course.end();
        let end = match packed {
            Err(stopped) if stopped.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => Err(harmless(layer.unreadable(error))),
            Ok(packed) => layer.check(*recipe, &packed).map(|()| packed).map_err(harmless),
        };
        self.end(&end);
        end.map(drop)
    }

    /// There is nothing to be fed.
    pub(super) fn fail(&self, error: Error) {
        self.end(&Err(error));
    }

    fn end(&self, end: &Result<LayerSummary>) {
        for taker in &self.takers {
            let end = end.clone().map_or_else(LayerData::Failed, LayerData::End);
            // The first word finds room, whoever says it; a later one waits, on a thread of its own.
            let _stopped_listening = match taker.try_send(end) {
                Err(mpsc::error::TrySendError::Full(end)) => taker.blocking_send(end).is_ok(),
                sent => sent.is_ok(),
            };
        }
    }
}

/// Bytes of which it is told when they are waited for.
struct Watched<'a> {
    bytes: &'a mut dyn Read,
    course: &'a ReadTimeline,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.course.reading(|| self.bytes.read(buffer))
    }
}

impl Drop for Feeding {
    /// Who is fed takes silence for an interruption, which a panic is not.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fail(Error::internal(format!("reading layer {} failed", label(&self.wanted))));
        }
    }
}

/// The error that a layer cannot be read again.
pub(super) fn gone(wanted: &Wanted) -> Error {
    let what = format!("layer {} has gone by and cannot be read again", label(wanted));
    Error::new(Kind::Unavailable, what)
        .code(Code::ConnectionLost)
        .hint("Run the same command again: what has arrived is not sent again.")
}

/// A layer of a stream that the image turned out to need in another form than it was sent in. Without another option a
/// rerun ends here, too.
pub(super) fn streamed_otherwise(wanted: &Wanted) -> Error {
    Error::input(format!("cannot push layer {} of the streamed archive as its manifest lists it", label(wanted)))
        .code(Code::ArchiveUnsupported)
        .because("uncompressed layers were compressed while they were read, before the manifest came")
        .hint(
            Advice::new("Push the archive from a file, or choose what happens to uncompressed layers")
                .setting_with("compression", "keep")
                .setting_with("compression", "gzip"),
        )
}

/// A layer that neither the archive nor the repository has.
pub(super) fn missing(wanted: &Wanted) -> Error {
    Error::input(format!("the archive does not contain layer {}", label(wanted)))
        .code(Code::ArchiveIncomplete)
        .because("the repository does not have it either")
        .hint(
            "Push the image that has it, such as the base image, to this repository first. Or write the archive whole.",
        )
}

/// What is wrong with the archive, and that it did no harm.
fn harmless(error: Error) -> Error {
    let hint = format!("{} Nothing was tagged.", error.advice().cloned().unwrap_or_default());
    error.hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Layer;
    use crate::compress::{ByteSource, Compression};
    use crate::push::plan::{self, CompressionPolicy};

    /// Bytes whose reader is broken.
    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("a fault of ours")
        }
    }

    #[test]
    fn a_panic_is_no_interruption() {
        let layer = Layer {
            diff_id: None,
            digest: None,
            bytes: ByteSource::streamed(bytes::Bytes::new(), 0, 1000),
            compression: Compression::Uncompressed,
            named_digest: None,
            media_type: None,
            name: "a".into(),
            origins: Arc::default(),
        };
        let wanted = plan::passing(layer, &LayerCache::default(), CompressionPolicy::Usual);
        let nobody: Events = Arc::new(|_| {});
        let (feeding, mut feeds) = Feeding::new(&wanted, 2, &nobody);
        let reading = std::thread::spawn(move || feeding.run(&mut Broken, &Pool::start(1)));
        assert!(reading.join().is_err());
        for feed in &mut feeds {
            let Some(LayerData::Failed(error)) = feed.blocking_recv() else { panic!("nothing is said") };
            assert_eq!(error.kind(), Kind::Internal);
            assert!(feed.blocking_recv().is_none());
        }
    }
}
