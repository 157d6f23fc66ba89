//! The push: what all pushes share, and the chain of phases that each target goes through.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::agreement::Agreement;
use super::connect::Registries;
use super::context::{PushContext, Run};
use super::hub::Hub;
use super::options::{Options, PushRequest, Reuse};
use super::outcome::{ImageSummary, Outcome, TargetOutcome};
use super::plan;
use super::planning::{look_ahead, note_mounting, note_tags, plan_image};
use super::policies::Policies;
use super::producer::LayerReader;
use super::publish::{configs, publish};
use super::record::Record;
use super::remote::{Known, suggest_reuse};
use super::repository::look_up;
use super::run_blobs::RunBlobs;
use super::session::TargetSession;
use super::shared_layers::SharedLayers;
use super::source::{self, ArchiveReader, OpenedImage, SourceImage, TargetSource, open_archive};
use super::upload::Uploader;
use super::{Event, Events, explain, trust, warnings};
use crate::archive::{OpenedArchive, Source};
use crate::compress::Pool;
use crate::error::{Error, Kind, Result};
use crate::oci::Target;
use crate::request_log::{Named, TargetId};
use crate::reuse::LayerCache;

/// How long a stopped push may take to close its uploads. What hangs then is abandoned.
const CLOSING: Duration = Duration::from_secs(4);

/// Pushes images from archives to registries.
///
/// Logins, connections, the layer cache and the threads that compress are shared by all pushes of a `Pusher`.
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// # use ecr_push::{CancellationToken, Options, PushRequest, Pusher, Source};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let create = vec!["team/app".parse()?, "team/base".parse()?];
/// # let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
/// # let mut options = Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// let pusher = Pusher::builder().options(options).start().await?;
/// let push = async |archive: &str, target: &str| {
///     let request = PushRequest::new(Source::Path(archive.into()), [target.parse()?]);
///     pusher.push(request, CancellationToken::new()).await.into_result()
/// };
/// tokio::try_join!(
///     push("testdata/docker-20.10-save.tar", "team/app:1"),
///     push("testdata/skopeo-oci-layout-multiarch", "team/base:1"),
/// )?;
/// let logins = sandbox.log().into_iter().filter(|entry| entry.operation == "ecr:GetAuthorizationToken");
/// assert_eq!(logins.count(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Pusher {
    pub(super) run: Arc<Run>,
    pub(super) registries: Arc<Registries>,
}

/// Builds a [`Pusher`].
#[derive(Clone)]
#[must_use]
pub struct PusherBuilder {
    options: Options,
    events: Events,
}

impl PusherBuilder {
    /// Sets all options.
    pub fn options(self, options: Options) -> Self {
        Self { options, ..self }
    }

    /// Sets what takes the events. It is called from several threads and must not block.
    pub fn on_event(self, take: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self { events: Arc::new(take), ..self }
    }

    /// Reads the files that the options name, and starts the threads that compress. Opens no connection yet.
    ///
    /// # Errors
    /// If a file of certificates or policies cannot be used.
    pub async fn start(self) -> Result<Pusher> {
        let Self { options, events } = self;
        let trust = trust::of(&options.registries).await?;
        let policies = Policies::of(&options.repositories).await?;
        let own = options.layers.cache.clone().filter(|_| options.layers.reuse != Reuse::Off);
        let opened = if options.dry_run { LayerCache::read(own.clone()) } else { LayerCache::open(own.clone()) };
        let cache = opened.unwrap_or_else(|error| {
            let path = own.unwrap_or_default();
            let text = format!("the cache cannot be read and is not used: {}: {error}", path.display());
            events(Event::Warning(text));
            LayerCache::default()
        });
        let pool = Arc::new(Pool::start(options.layers.threads));
        let (blobs, small) = (RunBlobs::default(), Arc::default());
        let shared = Arc::new(SharedLayers::new(options.temp_dir.clone(), &pool));
        let run = Arc::new(Run { options, events, policies, cache, blobs, pool, small, shared });
        let registries = Arc::new(Registries::new(&run, trust));
        Ok(Pusher { run, registries })
    }
}

impl Pusher {
    /// Returns a builder with the default options.
    pub fn builder() -> PusherBuilder {
        PusherBuilder { options: Options::default(), events: Arc::new(|_| {}) }
    }

    /// Pushes an image to every target of the request.
    ///
    /// An archive that cannot be read is an error of every target:
    ///
    /// ```
    /// use ecr_push::{CancellationToken, Kind, PushRequest, Pusher, Source};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> ecr_push::Result<()> {
    /// let pusher = Pusher::builder().start().await?;
    /// let request = PushRequest::new(Source::Path("missing.tar".into()), ["registry.example/app:1".parse()?]);
    /// let outcome = pusher.push(request, CancellationToken::new()).await;
    /// assert_eq!(outcome.error().map(|error| error.kind()), Some(Kind::Input));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Nothing is tagged before everything it refers to is there, and nothing is tagged at a target where something failed.
    /// Targets are independent of each other. Once `stop` is cancelled the push closes its uploads and ends within
    /// seconds; the outcome is complete then, too. [`Options::deadline`] does the same after a time:
    ///
    /// ```
    /// # use ecr_push::sandbox::{self, Fault, Sandbox, Trouble};
    /// # use ecr_push::{CancellationToken, Options, PushRequest, Pusher, Source};
    /// use std::time::Duration;
    ///
    /// use ecr_push::Code;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> ecr_push::Result<()> {
    /// # let create = vec!["team/app".parse()?];
    /// # let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
    /// // The registry does not respond to a request.
    /// sandbox.set_rules(|rules| rules.faults = vec![Fault::once("ecr:InitiateLayerUpload", Trouble::Stall)]);
    /// # let archive = Source::Path("testdata/docker-20.10-save.tar".into());
    /// # let request = PushRequest::new(archive, ["team/app:1.4".parse()?]);
    /// # let mut options = Options::default();
    /// # options.registries.access = sandbox.endpoint_override().into();
    /// options.deadline = Some(Duration::from_secs(1));
    /// let pusher = Pusher::builder().options(options).start().await?;
    /// let outcome = pusher.push(request.clone(), CancellationToken::new()).await;
    /// assert_eq!(outcome.error().map(|error| error.stable_code()), Some(Code::DeadlineExceeded));
    /// assert_eq!(sandbox.open_uploads(), 0);
    ///
    /// let stop = CancellationToken::new();
    /// stop.cancel();
    /// let outcome = pusher.push(request, stop).await;
    /// assert_eq!(outcome.error().map(|error| error.stable_code()), Some(Code::Interrupted));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn push(&self, request: PushRequest, stop: CancellationToken) -> Outcome {
        let in_time = stop.child_token();
        self.within_deadline(&stop, &in_time, self.push_inner(request, in_time.clone())).await
    }

    /// Returns the outcome of `running`, which `in_time` stops at the deadline.
    pub(super) async fn within_deadline(
        &self,
        stop: &CancellationToken,
        in_time: &CancellationToken,
        running: impl Future<Output = Outcome>,
    ) -> Outcome {
        let Some(deadline) = self.run.options.deadline else { return running.await };
        let mut running = std::pin::pin!(running);
        match tokio::time::timeout(deadline, &mut running).await {
            Ok(outcome) => outcome,
            Err(_) => {
                // In good order, as after Ctrl-C: upload sessions are closed.
                in_time.cancel();
                let outcome = running.await;
                if stop.is_cancelled() { outcome } else { outcome.too_late(deadline) }
            }
        }
    }

    async fn push_inner(&self, request: PushRequest, stop: CancellationToken) -> Outcome {
        let mut outcome = Outcome::new(&request, &self.run.options);
        let targets = request.targets.len();
        let agreement = self.run.options.layers.same_digest.then(|| Arc::new(Agreement::new(targets)));
        let context = Arc::new(PushContext { run: Arc::clone(&self.run), request, agreement });
        let mut reader = ArchiveReader::start(&context, &stop);
        // No registry is asked anything before the image is known, unless its layers have to be sent before that.
        let opened = match unless_stopped(&stop, reader.begin()).await {
            Ok(opened) => opened,
            Err(error) => return outcome.of_failure(error),
        };
        let hub = Hub::new(targets, LayerReader::of(&self.run));
        let reader = if opened.is_some() { None } else { Some(reader) };
        let (source, sources) = source::Source::new(&context, &hub, reader);
        let image = opened.map(|opened| announce(&context, opened, &mut outcome.image));
        let layers = image.as_ref().map(|image| image.layers.len());
        explain::start(&context, layers);
        if let Some(image) = image {
            source.set_image(Ok(image));
        }
        let pushes = sources.into_iter().zip(&context.request.targets).zip(&mut outcome.targets);
        let pushes = pushes.map(|((source, target), outcome)| {
            TargetPush { context: &context, registries: &self.registries, target }.run(
                source,
                stop.child_token(),
                outcome,
            )
        });
        // The source ends with the last target, if not before.
        let run = source.run(|opened| announce(&context, opened, &mut outcome.image));
        futures_util::future::join(futures_util::future::join_all(pushes), run).await;
        warnings::of_digests(&outcome).into_iter().for_each(|warning| context.emit(Event::Warning(warning)));
        outcome
    }

    /// Returns the options.
    pub fn options(&self) -> &Options {
        &self.run.options
    }

    /// Opens an archive, for pushes of several of its images. What cannot be read in place is decompressed once.
    ///
    /// # Errors
    /// Fails if it is not an archive of images, or is damaged.
    pub async fn open(&self, source: &Source, stop: &CancellationToken) -> Result<OpenedArchive> {
        unless_stopped(stop, open_archive(Arc::clone(&self.run), source.clone(), stop.clone())).await
    }
}

impl std::fmt::Debug for Pusher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pusher").field("options", &self.run.options).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for PusherBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PusherBuilder").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Reports the image that was chosen, and plans its layers.
fn announce(context: &PushContext, opened: OpenedImage, summary: &mut Option<ImageSummary>) -> SourceImage {
    let OpenedImage { archives, image, events } = opened;
    let compression = context.options().layers.compression;
    let opened = ImageSummary::of(&archives, &image);
    context.emit(Event::Opened(opened.clone()));
    *summary = Some(opened);
    // Notes about an archive that was opened before are not repeated for each of its images.
    let is_new = |(_, source): &(_, &Source)| !matches!(source, Source::Opened(_));
    let (new, opened): (Vec<_>, Vec<_>) = archives.iter().zip(context.request.archives()).partition(is_new);
    let of_archives = new.iter().flat_map(|(archive, _)| &archive.notes).chain(&image.notes).cloned();
    let unusable = new.iter().flat_map(|(archive, _)| &archive.unusable).map(ToString::to_string);
    of_archives.chain(unusable).for_each(|note| context.emit(Event::Note(note)));
    let foreign = image.content.manifests().into_iter().flat_map(|manifest| &manifest.non_distributable);
    foreign.for_each(|layer| context.emit(Event::Note(layer.note())));
    events.into_iter().for_each(|event| context.emit(event));
    let warnings = warnings::of(&image, &context.request.targets, compression);
    warnings.into_iter().for_each(|warning| context.emit(Event::Warning(warning)));
    let mut layers = plan::layers(&image, &context.run.cache, compression);
    for planned in &mut layers {
        // The other images of an archive that was opened for this push alone are not pushed.
        let is_shared = |diff_id| opened.iter().any(|(archive, _)| archive.is_shared(diff_id));
        planned.is_shared = planned.layer.diff_id.as_ref().is_some_and(is_shared);
    }
    debug!("{}", explain::compression(&layers));
    SourceImage { image, layers }
}

/// A push to one target.
struct TargetPush<'a> {
    context: &'a Arc<PushContext>,
    registries: &'a Registries,
    target: &'a Target,
}

impl TargetPush<'_> {
    /// Pushes to one target, and fills in its outcome. Once the push is stopped it ends within [`CLOSING`].
    async fn run(self, mut source: TargetSource, stop: CancellationToken, outcome: &mut TargetOutcome) {
        let (hub, id) = (Arc::clone(&source.hub), source.target);
        let mut record = Record::default();
        let stopped = async {
            stop.cancelled().await;
            tokio::time::sleep(CLOSING).await;
        };
        let chain: BoxFuture<'_, Result<()>> = Box::pin(self.push(&mut source, stop.child_token(), &mut record));
        let mut pushed = tokio::select! {
            pushed = chain => pushed,
            () = stopped => Err(Error::interrupted()),
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
        settle(&self.context.run, id, pushed, record, outcome);
    }

    /// The chain: each phase by its name, in the order in which facts become known.
    ///
    /// Large phases are boxed: unoptimized, this function's frame would have several copies of each, 1.4 MB in all, and the
    /// stack of a thread has 2 MiB.
    async fn push(&self, source: &mut TargetSource, stop: CancellationToken, record: &mut Record) -> Result<()> {
        let Self { context, registries, target } = *self;
        context.emit(Event::LookingUp { target: Named::new(source.target, target.to_string()) });
        let shares = context.options().layers.memory_shares(context.request.targets.len(), source.layer_count());
        let connecting: BoxFuture<'_, _> =
            Box::pin(registries.connect(target, &context.request.targets, shares, stop.clone()));
        let connection = unless_stopped(&stop, connecting).await?;
        let session = TargetSession::of_push(context, source.target, target, connection, stop.clone());
        (record.name, record.tags) = (Some(session.name()), session.tags.clone());
        let looking: BoxFuture<'_, _> = Box::pin(look_up(&session, record));
        let mut lookup = unless_stopped(&stop, looking).await?;
        let mut known = Known::default();
        if source.is_streamed() {
            let looking: BoxFuture<'_, _> = Box::pin(look_ahead(&session, &mut lookup));
            known = unless_stopped(&stop, looking).await?;
            Uploader::new(&session, source, record, &mut known).send_streamed(source).await?;
        }
        let image = unless_stopped(&stop, source.image()).await?;
        let planning: BoxFuture<'_, _> = Box::pin(plan_image(&session, &image, &mut lookup, &mut known, record));
        let layers = unless_stopped(&stop, planning).await?;
        if context.options().dry_run {
            note_tags(&session, &image.image, &lookup, &known, record);
            let noting: BoxFuture<'_, _> = Box::pin(note_mounting(&session, record));
            return stop.run_until_cancelled(noting).await.ok_or_else(Error::interrupted);
        }
        let Some(layers) = layers else {
            record.mark_up_to_date(&known.tags);
            return Ok(());
        };
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

/// Fills in the outcome of a target, and reports that it failed.
pub(super) fn settle(run: &Run, id: TargetId, done: Result<()>, record: Record, outcome: &mut TargetOutcome) {
    record.into_outcome(outcome);
    if let Err(error) = &done {
        run.emit(Event::TargetFailed { target: Named::new(id, outcome.name.clone()), reason: error.to_string() });
    }
    outcome.error = done.err();
}

/// Returns the result of `doing`, or an error as soon as the push is stopped.
pub(super) async fn unless_stopped<T>(stop: &CancellationToken, doing: impl Future<Output = Result<T>>) -> Result<T> {
    stop.run_until_cancelled(doing).await.unwrap_or_else(|| Err(Error::interrupted()))
}
