//! The layers and configs of one target on their way: so many at a time, each mounted or uploaded.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Semaphore, mpsc};

use super::Event;
use super::availability::available;
use super::hub::Hub;
use super::mount::not_mounted;
use super::plan::{self, Blobs, LayerAction, PlannedLayer, Stored};
use super::record::{LayerRecord, Record};
use super::remote::Known;
use super::session::TargetSession;
use super::source::{OfferedLayer, TargetSource};
use crate::archive::Config;
use crate::compress::{CompressionSpec, DataBlock, LayerSummary, Meter};
use crate::error::{Advice, Error, Result, Setting};
use crate::oci::{Digest, LayerId, Repository};
use crate::registry::{self, Blob, DEFAULT_CHUNK_SIZE, LayerData, LayerStream, Mount, OpenedUpload};
use crate::request_log::{Subject, TargetId};
use crate::reuse::CachedLayer;

/// What a layer that is larger than a chunk takes of the memory.
const KIB_OF_A_CHUNK: u32 = (DEFAULT_CHUNK_SIZE >> 10) as u32;

/// How long uploads in progress may take to end once something failed.
const CLOSING: Duration = Duration::from_secs(3);

/// Uploads what one target needs. It never waits for another target.
pub(super) struct Uploader<'a> {
    session: &'a TargetSession,
    source: Arc<LayerSource>,
    record: &'a mut Record,
    known: &'a mut Known,
    queue: VecDeque<Item>,
    steps: FuturesUnordered<Pin<Box<dyn Future<Output = Step> + Send + 'a>>>,
    /// Memory for the bytes of layers that the registry has not acknowledged, in KiB: a chunk for each of
    /// those that may be larger than one.
    memory: Arc<Semaphore>,
    /// Repositories whose layers were not all mounted, which is reported once.
    not_mounted: Vec<Repository>,
}

/// Something to be sent.
enum Item {
    Layer(LayerId),
    Config(Config),
}

/// The result of a step in progress.
enum Step {
    Decided(Arc<OfferedLayer>, Vec<PlannedLayer>, Result<Blobs>),
    Mounted(Box<(LayerRecord, Instant, Stored, Result<Mount>)>),
    Sent(Box<(LayerRecord, Instant, Result<LayerSummary>)>),
    Config(Digest, u64, Result<()>),
}

/// Where the bytes of layers come from.
struct LayerSource {
    hub: Arc<Hub>,
    target: TargetId,
    /// Layers of a pipe, which came before their image.
    streamed: Mutex<HashMap<LayerId, Arc<OfferedLayer>>>,
}

impl LayerSource {
    fn streamed(&self) -> MutexGuard<'_, HashMap<LayerId, Arc<OfferedLayer>>> {
        self.streamed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Uploader<'a> {
    pub(super) fn new(
        session: &'a TargetSession,
        source: &TargetSource,
        record: &'a mut Record,
        known: &'a mut Known,
    ) -> Self {
        let layers = session.options().layers.large_per_target(session.targets);
        let kib = layers.saturating_mul(KIB_OF_A_CHUNK as usize);
        let source = LayerSource { hub: Arc::clone(&source.hub), target: source.target, streamed: Default::default() };
        Self {
            session,
            source: Arc::new(source),
            record,
            known,
            queue: VecDeque::new(),
            steps: FuturesUnordered::new(),
            memory: Arc::new(Semaphore::new(kib.min(Semaphore::MAX_PERMITS))),
            not_mounted: Vec::new(),
        }
    }

    /// Sends these layers, in their order, and after them these configs.
    ///
    /// # Errors
    /// The first error, after steps in progress have been brought to an end.
    pub(super) async fn send(mut self, layers: Vec<LayerId>, configs: Vec<Config>) -> Result<()> {
        let layers = layers.into_iter().map(Item::Layer);
        self.queue.extend(layers.chain(configs.into_iter().map(Item::Config)));
        let sent = async {
            loop {
                self.fill()?;
                match self.steps.next().await {
                    Some(step) => self.finish(step)?,
                    None => return Ok(()),
                }
            }
        };
        let sent = sent.await;
        self.close(sent).await
    }

    /// Sends layers of a pipe as they come, until the image is known.
    ///
    /// # Errors
    /// The first error, after steps in progress have been brought to an end.
    pub(super) async fn send_streamed(mut self, source: &mut TargetSource) -> Result<()> {
        let sent = self.stream(source).await;
        self.close(sent).await
    }

    async fn stream(&mut self, source: &mut TargetSource) -> Result<()> {
        let mut has_more = true;
        loop {
            self.fill()?;
            if !has_more && self.steps.is_empty() {
                return Ok(());
            }
            // Several targets take layers from a file, so a decision waits for nothing.
            let may_decide = source.is_shared() || self.steps.len() + self.queue.len() < self.lanes();
            tokio::select! {
                Some(step) = self.steps.next(), if !self.steps.is_empty() => match step {
                    Step::Decided(layer, planned, found) => self.plan(&layer, planned, found?),
                    step => self.finish(step)?,
                },
                layer = source.next_layer(), if has_more && may_decide => match layer {
                    Some(layer) => self.decide(layer)?,
                    None => has_more = false,
                },
                () = self.session.stop.cancelled() => return Err(Error::interrupted()),
            }
        }
    }

    fn lanes(&self) -> usize {
        self.session.options().layers.concurrency.max(1)
    }

    /// Begins as many of the waiting steps as may be in progress at a time.
    fn fill(&mut self) -> Result<()> {
        while self.steps.len() < self.lanes()
            && let Some(item) = self.queue.pop_front()
        {
            match item {
                Item::Layer(id) => self.begin(&id)?,
                Item::Config(config) => self.send_config(config),
            }
        }
        Ok(())
    }

    /// Begins to mount or send a layer, unless it is there already.
    fn begin(&mut self, id: &LayerId) -> Result<()> {
        let Some(layer) = self.record.missing_layer(id) else { return Ok(()) };
        check_size(self.session, &layer.planned)?;
        match &layer.action {
            LayerAction::Mount(candidate, from) => {
                let (stored, from, session) = (candidate.stored, from.clone(), self.session);
                self.steps.push(Box::pin(async move {
                    let started = Instant::now();
                    let client = session.client.about(&session.subject(&layer.planned));
                    let mounted = client.mount(&stored.digest, &from, layer.planned.identity().as_deref()).await;
                    let mounted = match mounted {
                        Err(error) => Err(session.explain_upload(error).await),
                        mounted => mounted,
                    };
                    Step::Mounted(Box::new((layer, started, stored, mounted)))
                }));
            }
            LayerAction::Reuse(_) | LayerAction::Upload => self.upload(layer, None),
        }
        Ok(())
    }

    /// Begins to send a layer, in the session that is open for it already, if one is.
    fn upload(&mut self, layer: LayerRecord, opened: Option<OpenedUpload>) {
        let (session, source, memory) = (self.session, Arc::clone(&self.source), Arc::clone(&self.memory));
        self.steps.push(Box::pin(async move {
            let kib = u32::try_from(layer.planned.layer.bytes.len() >> 10).unwrap_or(u32::MAX).min(KIB_OF_A_CHUNK);
            // It is never closed.
            let _memory = memory.acquire_many(kib).await.ok();
            // It is worked on from now.
            let started = Instant::now();
            let streamed = source.streamed().get(&layer.planned.id).cloned();
            let sent = match streamed {
                Some(streamed) => send_streamed(session, &layer, &streamed, opened).await,
                None => {
                    let first = source.hub.join(source.target, &layer.planned);
                    let again = || source.hub.read_alone(&layer.planned);
                    registry::upload(&session.client, &blob(session, &layer), opened, first, again).await
                }
            };
            let sent = match sent {
                Err(error) => Err(session.explain_upload(error).await),
                sent => sent,
            };
            Step::Sent(Box::new((layer, started, sent)))
        }));
    }

    /// Begins to send a config, unless it is there already.
    fn send_config(&mut self, config: Config) {
        if self.known.blobs.contains_key(&config.digest) {
            return;
        }
        let session = self.session;
        self.steps.push(Box::pin(async move {
            let (digest, size) = (config.digest, config.bytes.len() as u64);
            let sent = send_config(session, &config).await;
            Step::Config(digest, size, sent)
        }));
    }

    /// Notes the result of a step.
    fn finish(&mut self, step: Step) -> Result<()> {
        match step {
            // Of a layer that came too late.
            Step::Decided(..) => Ok(()),
            Step::Mounted(mounted) => {
                let (layer, started, stored, mounted) = *mounted;
                self.finish_mount(&layer, started, stored, mounted?);
                Ok(())
            }
            Step::Sent(sent) => {
                let (layer, started, sent) = *sent;
                // A temporary file of it goes with that.
                let streamed = self.source.streamed().remove(&layer.planned.id);
                if let (Err(_), Some(streamed)) = (&sent, streamed)
                    && streamed.has_no_space()
                {
                    streamed.note_no_space();
                }
                self.finish_upload(&layer, started, &sent?);
                Ok(())
            }
            Step::Config(digest, size, sent) => {
                sent?;
                self.known.blobs.insert(digest, Some(size));
                self.record.is_changed = true;
                Ok(())
            }
        }
    }

    fn finish_mount(&mut self, layer: &LayerRecord, started: Instant, stored: Stored, mounted: Mount) {
        let id = &layer.planned.id;
        let (opened, why) = match mounted {
            Mount::Mounted => {
                let _not_sent = self.record.finish_layer(id, stored, started);
                self.source.hub.decline(self.source.target, id);
                let (target, layer) = (self.session.target(), layer.planned.named());
                self.session.emit(Event::LayerMounted { target, layer, bytes: stored.size });
                return;
            }
            Mount::Open(opened) => {
                let why = match self.session.ecr {
                    Some(_) => {
                        "ECR requires an upload; it mounts only with the account setting BLOB_MOUNTING, and if the caller \
                         has ecr:GetDownloadUrlForLayer"
                    }
                    None => "the registry requires an upload",
                };
                (Some(opened), why.to_owned())
            }
            Mount::Refused(answer) => (None, answer.to_string()),
        };
        if let Some((layer, from)) = self.record.send_instead(id) {
            if !self.not_mounted.contains(&from) {
                self.session.note(not_mounted(self.session, &from, &why));
                self.not_mounted.push(from);
            }
            self.session.emit(layer.event(self.session));
            self.upload(layer, opened);
        }
    }

    fn finish_upload(&mut self, layer: &LayerRecord, started: Instant, sent: &LayerSummary) {
        let LayerSummary { digest, size, .. } = *sent;
        let stored = Stored { digest, size, compression: layer.planned.spec.compression() };
        let took = self.record.finish_layer(&layer.planned.id, stored, started);
        // How long a layer took is not known if an earlier run sent a part of it.
        remember(self.session, &layer.planned, sent, Some(took).filter(|_| layer.meter.resumed_at() == 0));
        self.session.emit(Event::LayerUploaded {
            target: self.session.target(),
            layer: layer.planned.named(),
            bytes: layer.planned.layer.bytes.len(),
            sent: size - layer.meter.resumed_at(),
        });
    }

    /// Asks what the repository has in place of a layer of a pipe, if it was not seen before.
    fn decide(&mut self, layer: Arc<OfferedLayer>) -> Result<()> {
        let session = self.session;
        if self.known.tags.leaves_all(&session.tags) || self.record.layer(&layer.planned.id).is_some() {
            return Ok(());
        }
        self.known.check_layer(session, &layer.planned)?;
        let planned = plan::with_remote(std::slice::from_ref(&layer.planned), &[], &self.known.images);
        let mut unknown = plan::questions(&[], &planned);
        unknown.retain(|digest| !self.known.blobs.contains_key(digest));
        self.steps.push(Box::pin(async move {
            let found = match unknown.is_empty() {
                true => Ok(None),
                false => available(session, &session.client, &unknown).await,
            };
            let found = found.map(Option::unwrap_or_default).map_err(|error| session.explain(error));
            Step::Decided(layer, planned, found)
        }));
        Ok(())
    }

    /// Decides what happens to a layer of a pipe, and has it sent where that is needed.
    fn plan(&mut self, layer: &Arc<OfferedLayer>, planned: Vec<PlannedLayer>, found: Blobs) {
        if self.record.layer(&layer.planned.id).is_some() {
            return;
        }
        self.known.blobs.extend(found);
        let decided = plan::decide_layers(planned, &self.known.blobs);
        let is_sent = decided.iter().any(|(_, action)| *action == LayerAction::Upload);
        let ids = self.record.plan(self.session, decided, &self.known.blobs);
        if is_sent {
            layer.claim();
            self.source.streamed().extend(ids.iter().map(|id| (*id, Arc::clone(layer))));
            self.queue.extend(ids.into_iter().map(Item::Layer));
        }
    }

    /// Brings steps in progress to an end, in order if something failed.
    async fn close(mut self, sent: Result<()>) -> Result<()> {
        if sent.is_err() {
            self.session.stop.cancel();
            self.queue.clear();
            let ended = async {
                while let Some(step) = self.steps.next().await {
                    // The first error counts: what follows is its consequence.
                    let _consequence = self.finish(step);
                    self.queue.clear();
                }
            };
            // What hangs is abandoned.
            let _too_late = tokio::time::timeout(CLOSING, ended).await;
        }
        sent
    }
}

/// Checks that the registry stores a layer of that size, as far as it is known before the layer is compressed.
///
/// # Errors
/// If it does not.
pub(super) fn check_size(session: &TargetSession, planned: &PlannedLayer) -> Result<()> {
    if !matches!(planned.spec, CompressionSpec::Keep { .. }) {
        return Ok(());
    }
    let advice = || {
        Advice::new("With gzip it is not empty, and the manifest gets another digest")
            .setting_with("compression", "gzip")
    };
    registry::check_blob_size(&session.client, &session.subject(planned), planned.layer.bytes.len())
        .map_err(|error| if error.advice().is_none() { error.hint(advice()) } else { error })
}

/// Sends a layer of a pipe: as it comes, or from a file where the registry may ask for it again.
async fn send_streamed(
    session: &TargetSession,
    layer: &LayerRecord,
    streamed: &OfferedLayer,
    opened: Option<OpenedUpload>,
) -> Result<LayerSummary> {
    let (client, total) = (&session.client, layer.planned.layer.bytes.len());
    // The response may show whether the registry can ever ask for the layer again.
    let opened = match opened {
        None if client.may_reject_chunks(total) => Some(client.open_upload(&session.subject(&layer.planned)).await?),
        opened => opened,
    };
    let reason_to_spool = if !client.reports_upload_status() {
        Some(
            "each layer is in a temporary file until it is uploaded, because the registry may lose an interrupted upload",
        )
    } else if client.may_reject_chunks(total) {
        Some("large layers are in a temporary file until one is uploaded, because this registry is unknown")
    } else {
        None
    };
    let first = streamed.open(reason_to_spool);
    let blob = Blob { is_repeatable: streamed.is_spooled(), ..blob(session, layer) };
    registry::upload(client, &blob, opened, first, || streamed.open(None)).await
}

/// Uploads a config.
///
/// # Errors
/// If the registry refuses it, or does not answer.
async fn send_config(session: &TargetSession, config: &Config) -> Result<()> {
    let size = config.bytes.len() as u64;
    let stream = || {
        let (sender, receiver) = mpsc::channel(2);
        let piece = DataBlock { bytes: config.bytes.clone(), position: size };
        let summary = LayerSummary { digest: config.digest, size, diff_id: None };
        // The channel has capacity for both.
        let _sent = sender.try_send(LayerData::Data(piece)).and_then(|()| sender.try_send(LayerData::End(summary)));
        LayerStream::own(receiver)
    };
    let subject = Subject::Config(config.digest);
    let blob = Blob { subject, identity: None, is_repeatable: true, meter: Arc::new(Meter::new(size)) };
    match registry::upload(&session.client, &blob, None, stream(), stream).await {
        Ok(_) => Ok(()),
        Err(error) => Err(session.explain_upload(error).await),
    }
}

fn blob(session: &TargetSession, layer: &LayerRecord) -> Blob {
    let subject = session.subject(&layer.planned);
    Blob { subject, identity: layer.planned.identity(), is_repeatable: true, meter: Arc::clone(&layer.meter) }
}

/// Notes in the layer cache what a layer has become.
fn remember(session: &TargetSession, planned: &PlannedLayer, sent: &LayerSummary, took: Option<Duration>) {
    let Some(diff_id) = sent.diff_id else { return };
    let known = CachedLayer::new(diff_id, sent.digest, sent.size, planned.spec);
    let known = match took {
        Some(took) => known.with_time(took),
        None => known,
    };
    if let Err(error) = session.run.cache.record(known) {
        session.note(format!("layer cache disabled: {error} ({})", Setting::with("cache", "FILE")));
    }
}
