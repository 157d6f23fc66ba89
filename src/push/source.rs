//! The archive of a push, as its targets see it: an image that is known at once, or layers that come before their image.
//!
//! A file is opened first, and its layers are read by position. From a pipe each layer is offered to every target as it comes;
//! what no target needs is skipped. For one target a layer is compressed and sent as it is read, and cannot be read again: if the
//! registry loses it before it is whole, the push has to be run again. A registry of which that is known gets it from a
//! temporary file, and so does an unknown one, until a large layer has shown how it accepts them. Several
//! targets always take layers from a file, so that none waits for another.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::compression;
use super::context::{PushContext, Run};
use super::hub::Hub;
use super::plan::{self, PlannedLayer};
use super::producer::{LayerProducer, LayerReader, gone};
use super::spool::SpooledLayer;
use super::{Event, referrers};
use crate::archive::{
    self, Archive, ChildProcesses, Image, ImageSelector, Layer, OpenedArchive, Selection, Spool, StreamedLayer,
};
use crate::compress::CompressionSpec;
use crate::error::{Error, Result};
use crate::registry::{LayerData, LayerStream};
use crate::request_log::TargetId;

/// How long a layer of a pipe waits in all for targets that have not decided whether they need it.
const DECISION: Duration = Duration::from_millis(800);

/// An archive, the image of it that is pushed, and what is to be reported of that.
pub(super) struct OpenedImage {
    /// One, or those whose images are joined.
    pub(super) archives: Vec<Arc<Archive>>,
    pub(super) image: Image,
    pub(super) events: Vec<Event>,
}

/// An image whose archive was opened, and its layers, largest first.
#[derive(Debug)]
pub(super) struct SourceImage {
    pub(super) image: Image,
    pub(super) layers: Vec<PlannedLayer>,
}

/// The image, once it is known.
type ImageSlot = watch::Receiver<Option<Result<Arc<SourceImage>>>>;

/// A layer that has come, and the reader that waits for the decision: without one it skips the layer.
struct Arrival {
    layer: Layer,
    verdict: SyncSender<LayerProducer>,
}

/// Takes layers that come before their image.
type Pass = Box<dyn Fn(StreamedLayer<'_>) -> Result<()> + Send>;

/// An archive that is being opened.
pub(super) struct ArchiveReader {
    opening: Pin<Box<dyn Future<Output = Result<OpenedImage>> + Send>>,
    arrivals: mpsc::Receiver<Arrival>,
    /// What has come and was not offered yet.
    waiting: Option<Arrival>,
}

impl ArchiveReader {
    /// Starts to read. Layers may come before the image is known only if everything else is decided beforehand.
    pub(super) fn start(context: &Arc<PushContext>, stop: &CancellationToken) -> Self {
        let (sender, arrivals) = mpsc::channel(1);
        let pass: Pass = Box::new(move |streamed: StreamedLayer<'_>| {
            let (verdict, decision) = sync_channel(1);
            let arrival = Arrival { layer: streamed.layer(), verdict };
            sender.blocking_send(arrival).map_err(|_closed| Error::interrupted())?;
            match decision.recv() {
                Ok(producer) => producer.run(streamed.bytes),
                Err(_) => Ok(()),
            }
        });
        let (options, image) = (context.options(), &context.request.image);
        let is_chosen =
            image.selector != ImageSelector::Only || image.selection != Selection::default() || image.referrers;
        let is_judged = options.dry_run || image.expect_digest.is_some() || options.layers.same_digest;
        let may_pass =
            !is_chosen && !is_judged && options.layers.mount_from.is_empty() && context.request.join.is_empty();
        let opening = Box::pin(open(Arc::clone(context), stop.clone(), may_pass.then_some(pass)));
        Self { opening, arrivals, waiting: None }
    }

    /// Returns the archive, if it can be opened; `None` if layers come before that.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub(super) async fn begin(&mut self) -> Result<Option<OpenedImage>> {
        tokio::select! {
            Some(arrival) = self.arrivals.recv() => {
                self.waiting = Some(arrival);
                Ok(None)
            }
            opened = &mut self.opening => opened.map(Some),
        }
    }

    /// Reads the archive to its end, and offers each layer to every target. Stops when no target takes any more.
    ///
    /// # Errors
    /// If it cannot be read, or no target takes it any more.
    async fn offer(mut self, offers: &Offers) -> Result<OpenedImage> {
        let mut allowance = DECISION;
        // The layer that was offered last, as long as it is not decided what happens to it.
        let mut undecided: Option<(std::sync::Weak<OfferedLayer>, Instant)> = None;
        loop {
            let decided_by = undecided.as_ref().map(|(_, since)| *since + allowance);
            let decision = async {
                match decided_by {
                    Some(end) => tokio::time::sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            let arrival = if let Some(arrival) = self.waiting.take() {
                arrival
            } else {
                tokio::select! {
                    Some(arrival) = self.arrivals.recv() => arrival,
                    opened = &mut self.opening => return opened,
                    () = offers.are_closed() => return Err(Error::interrupted()),
                    () = decision => {
                        let layer = undecided.take().and_then(|(layer, since)| Some((layer.upgrade()?, since)));
                        if let Some((layer, since)) = layer && layer.spool_undecided() {
                            allowance = allowance.saturating_sub(since.elapsed());
                        }
                        continue;
                    }
                }
            };
            let run = &offers.storage.context.run;
            let planned = plan::streamed(arrival.layer, &run.cache, run.options.layers.compression);
            let layer = Arc::new(OfferedLayer::new(planned, arrival.verdict, Arc::clone(&offers.storage)));
            undecided = offers.storage.is_shared.then(|| (Arc::downgrade(&layer), Instant::now()));
            offers.send(&layer);
        }
    }
}

/// The targets that layers of a pipe are offered to.
struct Offers {
    targets: Vec<mpsc::UnboundedSender<Arc<OfferedLayer>>>,
    storage: Arc<Storage>,
}

impl Offers {
    fn send(&self, layer: &Arc<OfferedLayer>) {
        for target in &self.targets {
            // One that takes no more declines by that.
            let _closed = target.send(Arc::clone(layer));
        }
    }

    async fn are_closed(&self) {
        futures_util::future::join_all(self.targets.iter().map(mpsc::UnboundedSender::closed)).await;
    }
}

/// What the layers of a pipe have in common: whether they are spooled, and where.
struct Storage {
    context: Arc<PushContext>,
    reader: LayerReader,
    /// Several targets take them.
    is_shared: bool,
    /// It has been reported that layers are spooled.
    is_reported: AtomicBool,
    /// A layer could not be spooled: the disk is full.
    is_full: AtomicBool,
    /// A target has sent its layers, and asks for the image.
    image_is_wanted: Notify,
}

/// A layer of a pipe, offered to targets before its image is known.
pub(super) struct OfferedLayer {
    pub(super) planned: PlannedLayer,
    state: Mutex<StreamState>,
    storage: Arc<Storage>,
}

/// Where the bytes of a layer of a pipe are.
enum StreamState {
    /// They come as soon as a target takes them.
    Coming(SyncSender<LayerProducer>),
    /// In a temporary file.
    Spooled(Arc<SpooledLayer>),
    /// They could not be spooled.
    Failed(Error),
    /// They were read.
    Gone,
}

impl OfferedLayer {
    fn new(planned: PlannedLayer, verdict: SyncSender<LayerProducer>, storage: Arc<Storage>) -> Self {
        Self { planned, state: Mutex::new(StreamState::Coming(verdict)), storage }
    }

    /// Spools the bytes for a target that needs them, if there are several targets.
    pub(super) fn claim(&self) {
        if self.storage.is_shared {
            self.ensure_spooled("layers are in temporary files until every target has uploaded them");
        }
    }

    /// Returns the bytes from the first one, as they come or, if there is a reason to spool them, from a file.
    pub(super) fn open(&self, reason_to_spool: Option<&str>) -> LayerStream {
        if let Some(why) = reason_to_spool {
            self.ensure_spooled(why);
        }
        let mut state = self.state();
        match std::mem::replace(&mut *state, StreamState::Gone) {
            StreamState::Coming(verdict) => {
                let (producer, receiver) = self.storage.reader.produce(&self.planned);
                // If the archive is not read any more, the stream ends.
                drop(verdict.send(producer));
                return LayerStream::own(receiver);
            }
            left => *state = left,
        }
        match &*state {
            StreamState::Spooled(spooled) => LayerStream::own(spooled.read()),
            StreamState::Failed(error) => failing(error.clone()),
            StreamState::Coming(_) | StreamState::Gone => failing(gone(&self.planned)),
        }
    }

    /// Returns whether the bytes are in a file, from which they can be read again.
    pub(super) fn is_spooled(&self) -> bool {
        matches!(*self.state(), StreamState::Spooled(_))
    }

    /// Returns whether the bytes could not be spooled, which is no fault of the archive.
    pub(super) fn has_no_space(&self) -> bool {
        match &*self.state() {
            StreamState::Spooled(spooled) => spooled.has_no_space(),
            StreamState::Failed(_) => true,
            StreamState::Coming(_) | StreamState::Gone => false,
        }
    }

    /// Notes that the bytes could not be spooled, so that no error of the archive is waited for.
    pub(super) fn note_no_space(&self) {
        self.storage.is_full.store(true, Ordering::Relaxed);
    }

    /// Spools the bytes for targets that have not decided yet. Returns whether there were any.
    fn spool_undecided(&self) -> bool {
        let is_undecided = matches!(*self.state(), StreamState::Coming(_));
        if is_undecided {
            self.claim();
        }
        is_undecided
    }

    /// Has the bytes written to a file, from which they can be read any number of times, unless they were read already.
    fn ensure_spooled(&self, why: &str) {
        let mut state = self.state();
        *state = match std::mem::replace(&mut *state, StreamState::Gone) {
            StreamState::Coming(verdict) => match self.spool(verdict) {
                Ok(spooled) => {
                    if !self.storage.is_reported.swap(true, Ordering::Relaxed) {
                        self.storage.context.emit(Event::Note(why.into()));
                    }
                    StreamState::Spooled(spooled)
                }
                Err(error) => StreamState::Failed(error),
            },
            left => left,
        };
    }

    fn spool(&self, verdict: SyncSender<LayerProducer>) -> Result<Arc<SpooledLayer>> {
        let planned = &self.planned;
        let (producer, receiver) = self.storage.reader.produce(planned);
        let least = if let CompressionSpec::Keep { .. } = planned.spec { planned.layer.bytes.len() } else { 0 };
        let folder = &self.storage.context.options().temp_dir;
        let pool = &self.storage.reader.pool;
        let spooled = SpooledLayer::create(format!("layer {}", planned.label()), folder, least, pool)?;
        spooled.fill(receiver);
        drop(verdict.send(producer));
        Ok(spooled)
    }

    fn state(&self) -> MutexGuard<'_, StreamState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The archive, as one target sees it.
pub(super) struct TargetSource {
    pub(super) target: TargetId,
    pub(super) hub: Arc<Hub>,
    image: ImageSlot,
    /// The layers that come before the image, if they do.
    offers: Option<mpsc::UnboundedReceiver<Arc<OfferedLayer>>>,
    storage: Arc<Storage>,
}

impl TargetSource {
    /// Returns whether layers come before the image is known.
    pub(super) fn is_streamed(&self) -> bool {
        self.offers.is_some()
    }

    /// Returns whether there are several targets.
    pub(super) fn is_shared(&self) -> bool {
        self.storage.is_shared
    }

    /// Returns how many layers there are, or the most that there can be as long as the image is not known.
    pub(super) fn layer_count(&self) -> usize {
        let image = self.image.borrow();
        image.as_ref().and_then(|image| image.as_ref().ok()).map_or(usize::MAX, |image| image.layers.len())
    }

    /// Returns the next layer that comes before the image, or `None` after the last one.
    pub(super) async fn next_layer(&mut self) -> Option<Arc<OfferedLayer>> {
        match &mut self.offers {
            Some(offers) => offers.recv().await,
            None => None,
        }
    }

    /// Waits until the image is known, and declines all layers that come before.
    ///
    /// # Errors
    /// If the archive cannot be read.
    pub(super) async fn image(&mut self) -> Result<Arc<SourceImage>> {
        self.storage.image_is_wanted.notify_one();
        let mut image = self.image.clone();
        let mut known = std::pin::pin!(image.wait_for(Option::is_some));
        loop {
            tokio::select! {
                biased;
                known = &mut known => {
                    return known.ok().and_then(|slot| slot.clone()).unwrap_or_else(|| Err(Error::interrupted()));
                }
                Some(_declined) = self.next_layer() => {}
            }
        }
    }

    /// Returns whether an error of the archive would explain more than one of a layer.
    pub(super) fn may_be_damaged(&self) -> bool {
        self.is_streamed() && !self.storage.is_full.load(Ordering::Relaxed)
    }
}

/// An archive that was begun, for all targets.
pub(super) struct Source {
    reader: Option<ArchiveReader>,
    image: watch::Sender<Option<Result<Arc<SourceImage>>>>,
    offers: Offers,
}

impl Source {
    /// Returns the source for each target. `reader` is given if layers come before the image is known.
    pub(super) fn new(
        context: &Arc<PushContext>,
        hub: &Arc<Hub>,
        reader: Option<ArchiveReader>,
    ) -> (Self, Vec<TargetSource>) {
        let (image, slot) = watch::channel(None);
        let targets = context.request.targets.len();
        let storage = Arc::new(Storage {
            context: Arc::clone(context),
            reader: hub.reader().clone(),
            is_shared: targets > 1,
            is_reported: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            image_is_wanted: Notify::new(),
        });
        let mut senders = Vec::new();
        let targets = (0..targets).map(|target| {
            let offers = reader.is_some().then(|| {
                let (sender, receiver) = mpsc::unbounded_channel();
                senders.push(sender);
                receiver
            });
            let (hub, storage) = (Arc::clone(hub), Arc::clone(&storage));
            TargetSource { target, hub, image: slot.clone(), offers, storage }
        });
        let targets = targets.collect();
        (Self { reader, image, offers: Offers { targets: senders, storage } }, targets)
    }

    /// Makes the image known to all targets.
    pub(super) fn set_image(&self, image: Result<SourceImage>) {
        self.image.send_replace(Some(image.map(Arc::new)));
    }

    /// Reads what is left of the archive, and makes the image known as `announce` makes it.
    pub(super) async fn run(mut self, announce: impl FnOnce(OpenedImage) -> SourceImage) {
        let Some(reader) = self.reader.take() else { return };
        let opened = reader.offer(&self.offers).await;
        // By that the targets know that there are no more layers; each asks for the image once it has sent its own.
        self.offers.targets.clear();
        if opened.is_ok() {
            tokio::select! {
                () = self.offers.storage.image_is_wanted.notified() => {}
                // None of them will ask any more.
                () = self.image.closed() => {}
            }
        }
        self.set_image(opened.map(announce));
    }
}

/// Opens an archive for several pushes.
///
/// # Errors
/// If it is not an archive of images, or is damaged.
pub(super) async fn open_archive(
    run: Arc<Run>,
    source: archive::Source,
    stop: CancellationToken,
) -> Result<OpenedArchive> {
    let (processes, _ended) = ChildProcesses::guarded();
    let opening = tokio::task::spawn_blocking(move || {
        let watch = |written| {
            run.emit(Event::Spooled { bytes: written });
            if stop.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let spool = Spool { folder: &run.options.temp_dir, watch: &watch, handler: None, processes: &processes };
        let archive = archive::open(&source, &spool)?;
        archive.notes.iter().for_each(|note| run.emit(Event::Note(note.clone())));
        Ok(OpenedArchive(archive))
    });
    opening.await.unwrap_or_else(|died| Err(Error::internal("reading the archive failed").because(died)))
}

/// Opens the archive and chooses the image.
///
/// A pipe may block it for ever: a stopped push does not wait for the thread, and ends the program of a container engine.
async fn open(context: Arc<PushContext>, stop: CancellationToken, pass: Option<Pass>) -> Result<OpenedImage> {
    let (processes, _ended) = ChildProcesses::guarded();
    let opening = tokio::task::spawn_blocking(move || {
        let watch = |written| {
            context.emit(Event::Spooled { bytes: written });
            if stop.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let (run, wanted) = (context.options(), &context.request.image);
        let handler = pass.as_ref().map(|pass| pass as _);
        let (mut archives, mut images) = (Vec::new(), Vec::new());
        for (source, selector) in context.request.sources() {
            let spool = Spool { folder: &run.temp_dir, watch: &watch, handler, processes: &processes };
            let archive = archive::open(source, &spool)?;
            let mut image = archive.select(selector, &wanted.selection)?;
            if wanted.non_distributable_layers {
                image.include_non_distributable_layers();
            }
            if wanted.repair {
                image.repair()?;
            }
            archives.push(archive);
            images.push((source.to_string(), image));
        }
        let mut image = match <[_; 1]>::try_from(images) {
            Ok([(_, image)]) => image,
            Err(images) => archive::join(images, &|content| compression::family_of(content, run.layers.compression))?,
        };
        compression::check(&image, run.layers.compression)?;
        let events = referrers::prepare(&archives, &mut image, wanted, run.layers.compression)?;
        archives.iter().try_for_each(|archive| archive.load(&mut image))?;
        Ok(OpenedImage { archives, image, events })
    });
    opening.await.unwrap_or_else(|died| Err(Error::internal("reading the archive failed").because(died)))
}

/// A stream that brings an error and nothing else.
fn failing(error: Error) -> LayerStream {
    let (sender, receiver) = mpsc::channel(1);
    // The channel has capacity for it.
    let _sent = sender.try_send(LayerData::Failed(error));
    LayerStream::own(receiver)
}
