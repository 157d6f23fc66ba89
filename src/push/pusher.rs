//! The push: what all targets share, and the chain of phases that each of them goes through.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::agreement::Agreement;
use super::connect::Registries;
use super::context::PushContext;
use super::hub::Hub;
use super::outcome::{ImageSummary, Outcome, TargetOutcome};
use super::plan;
use super::planning::{look_ahead, plan_image};
use super::policies::Policies;
use super::producer::LayerReader;
use super::publish::{configs, publish};
use super::record::Record;
use super::remote::{Known, suggest_reuse};
use super::repository::look_up;
use super::request::{Request, Reuse};
use super::session::TargetSession;
use super::source::{ArchiveReader, OpenedArchive, Source, SourceImage, TargetSource};
use super::upload::Uploader;
use super::{Event, Events, explain, trust, warnings};
use crate::compress::Pool;
use crate::error::{Error, Kind, Result};
use crate::oci::Target;
use crate::registry::Rate;
use crate::reuse::LayerCache;

/// How long a push that is told to stop may take to close its uploads. What hangs then is left behind.
const CLOSING: Duration = Duration::from_secs(4);

/// What the pushes of a run share.
struct Pusher {
    context: PushContext,
    pool: Arc<Pool>,
    registries: Registries,
}

/// Pushes an image from an archive to every target of the request.
///
/// Nothing is tagged before everything it refers to is there, and nothing is tagged at a target where something failed.
/// Targets are independent of each other. After `stop` is cancelled the push closes its uploads and ends.
pub async fn push(request: Request, events: Events, stop: CancellationToken) -> Outcome {
    let Some(deadline) = request.deadline else { return push_inner(request, events, stop).await };
    let in_time = stop.child_token();
    let mut pushing = std::pin::pin!(push_inner(request, events, in_time.clone()));
    match tokio::time::timeout(deadline, &mut pushing).await {
        Ok(outcome) => outcome,
        Err(_) => {
            // In good order, as after Ctrl-C: sessions are closed.
            in_time.cancel();
            let outcome = pushing.await;
            if stop.is_cancelled() { outcome } else { outcome.too_late(deadline) }
        }
    }
}

async fn push_inner(request: Request, events: Events, stop: CancellationToken) -> Outcome {
    let mut outcome = Outcome::new(&request);
    let request = Arc::new(request);
    let pusher = match unless_stopped(&stop, Pusher::start(&request, &events)).await {
        Ok(pusher) => pusher,
        Err(error) => return outcome.of_failure(error),
    };
    let mut reader = ArchiveReader::start(&request, &pusher.pool, &events, &stop);
    // No registry is asked anything before the image is known, unless its layers have to be sent before that.
    let opened = match unless_stopped(&stop, reader.begin()).await {
        Ok(opened) => opened,
        Err(error) => return outcome.of_failure(error),
    };
    let layer_reader = LayerReader { pool: Arc::clone(&pusher.pool), events: Arc::clone(&events) };
    let hub = Hub::new(request.targets.len(), layer_reader);
    let reader = if opened.is_some() { None } else { Some(reader) };
    let (source, targets) = Source::new(&request, &events, &hub, reader);
    let image = opened.map(|opened| pusher.announce(opened, &mut outcome.image));
    let layers = image.as_ref().map(|image| image.layers.len());
    explain::start(&request, &pusher.context.cache, layers)
        .into_iter()
        .for_each(|line| pusher.context.emit(Event::Detail(line)));
    if let Some(image) = image {
        source.set_image(Ok(image));
    }
    let pushes = targets.into_iter().zip(&request.targets).zip(&mut outcome.targets);
    let pushes = pushes.map(|((source, target), outcome)| pusher.push(source, target, stop.child_token(), outcome));
    // The source ends with the last target, if not before.
    let run = source.run(&pusher.context.cache, |opened| pusher.announce(opened, &mut outcome.image));
    futures_util::future::join(futures_util::future::join_all(pushes), run).await;
    warnings::of_digests(&outcome).into_iter().for_each(|warning| pusher.context.emit(Event::Warning(warning)));
    outcome
}

impl Pusher {
    /// Reads the files that the request names.
    async fn start(request: &Arc<Request>, events: &Events) -> Result<Self> {
        let trust = trust::of(request).await?;
        let policies = Policies::of(request).await?;
        let own = request.cache.clone().filter(|_| request.reuse != Reuse::Off);
        let opened = if request.dry_run { LayerCache::read(own.clone()) } else { LayerCache::open(own.clone()) };
        let cache = opened.unwrap_or_else(|error| {
            let path = own.unwrap_or_default();
            let text = format!("the cache cannot be read and is not used: {}: {error}", path.display());
            events(Event::Warning(text));
            LayerCache::default()
        });
        let rate = request.limit_rate.map(|limit| Arc::new(Rate::new(limit)));
        let agreement = request.same_digest.then(|| Agreement::new(request.targets.len()));
        let registries = Registries::new(request, trust, rate, events);
        let pool = Arc::new(Pool::start(request.compress_threads));
        let (request, events) = (Arc::clone(request), Arc::clone(events));
        Ok(Self { context: PushContext { request, events, policies, cache, agreement }, pool, registries })
    }

    /// Reports the image that was chosen, and plans its layers.
    fn announce(&self, opened: OpenedArchive, summary: &mut Option<ImageSummary>) -> SourceImage {
        let OpenedArchive { archive, image, events } = opened;
        let request = &self.context.request;
        let opened = ImageSummary::of(&archive, &image);
        self.context.emit(Event::Opened(opened.clone()));
        *summary = Some(opened);
        let unusable = archive.unusable.iter().map(ToString::to_string);
        let notes = archive.notes.iter().chain(&image.notes).cloned().chain(unusable);
        notes.for_each(|note| self.context.emit(Event::Note(note)));
        let foreign = image.content.manifests().into_iter().flat_map(|manifest| &manifest.non_distributable);
        foreign.for_each(|layer| self.context.emit(Event::Note(layer.note())));
        events.into_iter().for_each(|event| self.context.emit(event));
        warnings::of(request, &image).into_iter().for_each(|warning| self.context.emit(Event::Warning(warning)));
        let layers = plan::layers(&image, &self.context.cache, request.compression);
        self.context.emit(Event::Detail(explain::compression(&layers)));
        SourceImage { image, layers }
    }

    /// Pushes to one target, and fills in its outcome. Once the push is told to stop it ends within [`CLOSING`].
    async fn push(
        &self,
        mut source: TargetSource,
        target: &Target,
        stop: CancellationToken,
        outcome: &mut TargetOutcome,
    ) {
        let (hub, id) = (Arc::clone(&source.hub), source.target);
        let mut record = Record::default();
        let is_told_to_stop = async {
            stop.cancelled().await;
            tokio::time::sleep(CLOSING).await;
        };
        let chain: BoxFuture<'_, Result<()>> =
            Box::pin(self.push_target(&mut source, target, stop.child_token(), &mut record));
        let mut pushed = tokio::select! {
            pushed = chain => pushed,
            () = is_told_to_stop => Err(Error::interrupted()),
        };
        if let Err(error) = &mut pushed
            && error.kind() == Kind::Input
            && source.may_be_damaged()
            && let Some(Err(archive)) = stop.run_until_cancelled(source.image()).await
        {
            // What is wrong with the archive explains more than that a layer of it could not be read.
            *error = archive;
        }
        hub.leave(id);
        self.context.agreement.iter().for_each(|agreement| agreement.leave(id));
        if let Err(error) = &pushed {
            let target = record.name.clone().unwrap_or_else(|| target.to_string());
            self.context.emit(Event::GivenUp { target, why: error.to_string() });
        }
        outcome.error = pushed.err();
        record.into_outcome(outcome);
    }

    /// The chain: each phase by its name, in the order in which facts become known.
    async fn push_target(
        &self,
        source: &mut TargetSource,
        target: &Target,
        stop: CancellationToken,
        record: &mut Record,
    ) -> Result<()> {
        self.context.emit(Event::Looking(target.to_string()));
        let connecting: BoxFuture<'_, _> =
            Box::pin(self.registries.connect(target, source.layer_count(), stop.clone()));
        let connection = unless_stopped(&stop, connecting).await?;
        let session = TargetSession::new(&self.context, source.target, target, connection, stop.clone());
        (record.name, record.tags) = (Some(session.name()), session.tags.clone());
        let (mut lookup, repository) = unless_stopped(&stop, look_up(&session, record)).await?;
        let mut known = Known::default();
        if source.is_streamed() {
            known = unless_stopped(&stop, look_ahead(&session, &mut lookup, &repository)).await?;
            Uploader::new(&session, source, record, &mut known).send_streamed(source).await?;
        }
        let image = unless_stopped(&stop, source.image()).await?;
        let planning = plan_image(&session, &image, &mut lookup, &repository, &mut known, record);
        let Some(layers) = unless_stopped(&stop, planning).await? else {
            record.mark_up_to_date(&known.tags.unchanged, self.context.request.dry_run);
            return Ok(());
        };
        if self.context.request.dry_run {
            return Ok(());
        }
        record.decline_others(source, &image.layers);
        let image = &image.image;
        let (is_new, compressed) = (record.created_repository, record.compressed());
        let uploader = Uploader::new(&session, source, record, &mut known);
        tokio::select! {
            sent = uploader.send(layers, configs(image)) => sent?,
            // It never ends before the upload does.
            () = async {
                suggest_reuse(&session, &lookup, is_new, &compressed, image).await;
                std::future::pending::<()>().await;
            } => {}
        }
        publish(&session, source, image, &lookup, &mut known, record).await
    }
}

/// Returns what comes of `doing`, if it is done before the push is stopped.
async fn unless_stopped<T>(stop: &CancellationToken, doing: impl Future<Output = Result<T>>) -> Result<T> {
    stop.run_until_cancelled(doing).await.unwrap_or_else(|| Err(Error::interrupted()))
}
