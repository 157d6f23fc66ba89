//! The layers and configs of one target on their way: so many at a time, each mounted or uploaded.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tracing::debug;

use super::Event;
use super::availability::available;
use super::blob_upload::{blob, check_size, remember, resume_identity, send_config, send_streamed};
use super::hub::Hub;
use super::mount::{blob_mounting, not_mounted};
use super::plan::{self, Blobs, Candidate, Evidence, LayerAction, PlannedLayer, Stored};
use super::record::{LayerRecord, Record};
use super::remote::Known;
use super::run_blobs::{BlobKey, Changes, Next};
use super::session::TargetSession;
use super::source::{OfferedLayer, TargetSource};
use crate::archive::Config;
use crate::compress::LayerSummary;
use crate::error::{Error, Result};
use crate::oci::{Digest, LayerId, Repository};
use crate::registry::{self, DEFAULT_CHUNK_SIZE, Mount, OpenedUpload};
use crate::request_log::TargetId;

/// What a layer that is larger than a chunk takes of the memory.
const KIB_OF_A_CHUNK: u32 = (DEFAULT_CHUNK_SIZE >> 10) as u32;

/// How long uploads in progress may take to end once something failed.
const CLOSING: Duration = Duration::from_secs(3);

/// Uploads what one target needs. It waits for another push only where that sends the same blob ([`super::run_blobs`]).
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
    /// What happens to blobs in other pushes.
    changes: Changes,
    /// Since when layers of the queue wait for other pushes.
    waits_since: Option<Instant>,
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
    /// Another push has begun to send the layer meanwhile.
    Deferred(LayerId),
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
        let layers = session.options().layers.large_per_target(session.repositories.len());
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
            changes: session.blobs.changes(),
            waits_since: None,
        }
    }

    /// Sends these layers, in their order, and after them these configs.
    ///
    /// # Errors
    /// The first error, after steps in progress have been brought to an end.
    pub(super) async fn send(mut self, layers: Vec<LayerId>, configs: Vec<Config>) -> Result<()> {
        let keys = self.keys(&layers);
        let is_shared = layers.iter().filter_map(|id| self.record.layer(id)).any(|layer| layer.planned.is_shared);
        need(self.session, &keys, is_shared).await;
        let layers = layers.into_iter().map(Item::Layer);
        self.queue.extend(layers.chain(configs.into_iter().map(Item::Config)));
        let sent = async {
            loop {
                self.fill()?;
                tokio::select! {
                    Some(step) = self.steps.next(), if !self.steps.is_empty() => self.finish(step)?,
                    () = self.changes.next(), if self.waits_since.is_some() => {}
                    () = self.session.stop.cancelled(), if self.steps.is_empty() && self.waits_since.is_some() => {
                        return Err(Error::interrupted());
                    }
                    else => return Ok(()),
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
            if !has_more && self.steps.is_empty() && self.queue.is_empty() {
                return Ok(());
            }
            // Several targets take layers from a file, so a decision waits for nothing.
            let may_decide = source.is_shared() || self.steps.len() + self.queue.len() < self.lanes();
            tokio::select! {
                Some(step) = self.steps.next(), if !self.steps.is_empty() => match step {
                    Step::Decided(layer, planned, found) => self.plan(&layer, planned, found?).await,
                    step => self.finish(step)?,
                },
                layer = source.next_layer(), if has_more && may_decide => match layer {
                    Some(layer) => self.decide(layer)?,
                    None => has_more = false,
                },
                () = self.changes.next(), if self.waits_since.is_some() => {}
                () = self.session.stop.cancelled() => return Err(Error::interrupted()),
            }
        }
    }

    /// Returns the keys of layers.
    fn keys(&self, layers: &[LayerId]) -> Vec<BlobKey> {
        layers.iter().filter_map(|id| self.key(id)).collect()
    }

    /// Returns the key of a layer that other pushes may share: not of one that has to be read as it comes.
    fn key(&self, id: &LayerId) -> Option<BlobKey> {
        let is_held_up = is_held_up(&self.source.streamed(), id);
        self.record.layer(id).filter(|_| !is_held_up).and_then(|layer| layer.key)
    }

    fn lanes(&self) -> usize {
        self.session.options().layers.concurrency.max(1)
    }

    /// Begins as many of the waiting steps as may be in progress at a time. What another push sends stays in the queue.
    fn fill(&mut self) -> Result<()> {
        if self.queue.is_empty() || self.steps.len() >= self.lanes() {
            self.waits_since = self.waits_since.filter(|_| !self.queue.is_empty());
            return Ok(());
        }
        self.changes.mark_seen();
        // Looked at after every step, of which there are as many as layers: so each is found once.
        let streamed = self.source.streamed();
        let keys = self.queue.iter().map(|item| match item {
            Item::Layer(id) => {
                self.record.layer(id).filter(|layer| layer.is_to_upload() && !is_held_up(&streamed, id))?.key
            }
            Item::Config(_) => None,
        });
        let keys: Vec<Option<BlobKey>> = keys.collect();
        drop(streamed);
        let next = self.session.blobs.decide(&keys, self.waited());
        let (queue, mut waiting) = (std::mem::take(&mut self.queue), VecDeque::new());
        let mut is_waiting = false;
        for (item, next) in queue.into_iter().zip(next) {
            match (item, next) {
                (item, _) if self.steps.len() >= self.lanes() => waiting.push_back(item),
                (item, Next::Wait) => {
                    self.hold(&item);
                    is_waiting = true;
                    waiting.push_back(item);
                }
                (Item::Layer(id), next) => self.begin(&id, next)?,
                (Item::Config(config), _) => self.send_config(config),
            }
        }
        self.waits_since = match (is_waiting, waiting.is_empty()) {
            (true, _) => self.waits_since.or_else(|| Some(Instant::now())),
            // What is left has waited long enough.
            (false, false) => self.waits_since,
            (false, true) => None,
        };
        self.queue = waiting;
        Ok(())
    }

    fn waited(&self) -> Duration {
        self.waits_since.map(|since| since.elapsed()).unwrap_or_default()
    }

    /// Has no other target of this push wait for a layer that this one waits for.
    fn hold(&self, item: &Item) {
        if let Item::Layer(id) = item {
            self.source.hub.decline(self.source.target, id);
        }
    }

    /// Begins to mount or send a layer, unless it is there already.
    fn begin(&mut self, id: &LayerId, next: Next) -> Result<()> {
        let layer = match next {
            Next::Exists(stored) => {
                let found = LayerAction::Reuse(Candidate { stored, why: Evidence::Run });
                if let Some(layer) = self.record.decide_again(id, found) {
                    self.source.hub.decline(self.source.target, id);
                    self.source.streamed().remove(id);
                    self.session.emit(layer.event(self.session));
                }
                return Ok(());
            }
            Next::Mount(stored, from) => {
                let mount = LayerAction::Mount(Candidate { stored, why: Evidence::Run }, from);
                let layer = self.record.decide_again(id, mount);
                layer.iter().for_each(|layer| self.session.emit(layer.event(self.session)));
                layer
            }
            Next::Send | Next::Wait => self.record.missing_layer(id),
        };
        let Some(layer) = layer else { return Ok(()) };
        check_size(self.session, &layer.planned)?;
        match &layer.action {
            LayerAction::Mount(candidate, from) => {
                let (stored, from, session) = (candidate.stored, from.clone(), self.session);
                self.steps.push(Box::pin(async move {
                    let started = Instant::now();
                    let client = session.client.about(&session.subject(&layer.planned));
                    let mounted = client.mount(&stored.digest, &from, resume_identity(&layer.planned).as_deref()).await;
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
    fn upload(&mut self, mut layer: LayerRecord, opened: Option<OpenedUpload>) {
        let (session, source, memory) = (self.session, Arc::clone(&self.source), Arc::clone(&self.memory));
        let (key, waited) = (self.key(&layer.planned.id), self.waited());
        let is_shared = layer.planned.is_shared;
        layer.planned.is_shared = key.is_some_and(|key| session.blobs.is_copied(key, is_shared, &session.repositories));
        self.steps.push(Box::pin(async move {
            let kib = u32::try_from(layer.planned.layer.bytes.len() >> 10).unwrap_or(u32::MAX).min(KIB_OF_A_CHUNK);
            // It is never closed.
            let _memory = memory.acquire_many(kib).await.ok();
            let sending = match (key, &opened) {
                (None, _) => None,
                (Some(key), Some(_)) => Some(session.blobs.claim_anyway(key, &layer.meter)),
                (Some(key), None) => match session.blobs.claim(key, &layer.meter, waited) {
                    None => return Step::Deferred(layer.planned.id),
                    claimed => claimed,
                },
            };
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
                Ok(summary) => {
                    sending.into_iter().for_each(|sending| sending.end(layer.planned.stored(&summary)));
                    Ok(summary)
                }
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
            Step::Deferred(id) => {
                self.queue.push_front(Item::Layer(id));
                Ok(())
            }
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
                let is_as_sent = matches!(&layer.action, LayerAction::Mount(mounted, _) if mounted.why == Evidence::Run)
                    || plan::is_as_sent(&layer.planned, &stored, &self.session.run.cache);
                self.session.blobs.mounted(self.key(id).filter(|_| is_as_sent), stored);
                self.source.streamed().remove(id);
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
        if let Some((layer, candidate, from)) = self.record.send_instead(id) {
            // No option and no archive names that repository.
            if let (Evidence::Run, Some(key)) = (candidate.why, self.key(id)) {
                self.session.blobs.not_mounted(key, &from);
                debug!("{}", not_mounted(self.session, &from, &why));
            } else if !self.not_mounted.contains(&from) {
                self.session.note(not_mounted(self.session, &from, &why));
                self.not_mounted.push(from);
            }
            self.session.emit(layer.event(self.session));
            self.upload(layer, opened);
        }
    }

    fn finish_upload(&mut self, layer: &LayerRecord, started: Instant, sent: &LayerSummary) {
        let stored = layer.planned.stored(sent);
        let took = self.record.finish_layer(&layer.planned.id, stored, started);
        // How long a layer took is not known if an earlier run sent a part of it.
        remember(self.session, &layer.planned, sent, Some(took).filter(|_| layer.meter.resumed_at() == 0));
        self.session.emit(Event::LayerUploaded {
            target: self.session.target(),
            layer: layer.planned.named(),
            bytes: layer.planned.layer.bytes.len(),
            sent: stored.size - layer.meter.resumed_at(),
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
    async fn plan(&mut self, layer: &Arc<OfferedLayer>, planned: Vec<PlannedLayer>, found: Blobs) {
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
            let keys = self.keys(&ids);
            need(self.session, &keys, false).await;
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

/// Returns whether a layer of a pipe has to be read as it comes.
fn is_held_up(streamed: &HashMap<LayerId, Arc<OfferedLayer>>, id: &LayerId) -> bool {
    streamed.get(id).is_some_and(|layer| !layer.is_spooled())
}

/// Has other pushes know which blobs this one needs, and finds out whether the registry mounts those that are shared.
async fn need(session: &TargetSession, keys: &[BlobKey], is_shared: bool) {
    // Rarely polled, and large: all that send layers would be as large otherwise.
    let read: BoxFuture<'_, _> = Box::pin(blob_mounting(session));
    let needed = session.blobs.need(keys, is_shared, read);
    // After a stop it does not matter.
    let _known = session.stop.run_until_cancelled(needed).await;
}
