//! One target, reached: its registry, what is there, what is planned, what arrived.

mod planning;
mod public;
mod refused;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OnceCell, mpsc};
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Registries};
use super::outcome::{LayerOutcome, TagFate, TagOutcome, TargetOutcome, label};
use super::policies::Policies;
use super::tags::{Found, Stay};
use super::{Event, Events, Request, Reuse};
use crate::archive::{Config, Image, Layer, Manifest};
use crate::compress::{Compression, CompressionSpec, DataBlock, LayerSummary, Meter};
use crate::ecr::{Ecr, EcrPublic, Mutability, RepositoryLocation};
use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Host, OriginalManifest, Repository, Tag, Target};
use crate::push::plan::{Action, CompressionPolicy, Key, Stored, Wanted};
use crate::registry::{self, Blob, Client, LayerData, RemoteManifest};
use crate::reuse::RemoteImage;

/// Blobs that a repository has, with their sizes where it said so.
pub(super) type Blobs = HashMap<Digest, Option<u64>>;

/// How many blobs are asked for at once where there is no call that asks for many.
pub(super) const QUESTIONS_AT_ONCE: usize = 8;

/// A target whose registry answered.
pub(super) struct Destination {
    pub(super) client: Client,
    pub(super) host: Host,
    repository: Repository,
    pub(super) tags: Vec<Tag>,
    pub(super) ecr: Option<(Ecr, RepositoryLocation)>,
    place: Option<RepositoryLocation>,
    pub(super) public: Option<EcrPublic>,
    /// The repository could not be created, which matters as soon as it turns out to be missing.
    pub(super) creation_denied: Option<Error>,
    /// The repository does not exist yet and this is only a plan.
    pub(super) only_planned: bool,
    /// How plain layers are packed.
    pub(super) compression: CompressionPolicy,
    /// What the repository holds of this image or images like it.
    pub(super) held: Vec<RemoteImage>,
    /// What the tags point at that exist.
    pub(super) there: Vec<(Tag, RemoteManifest)>,
    /// The tags that lead to an archived image, with what is known of it; once tags are decided on, those that must not move.
    pub(super) archived: Vec<(Tag, RemoteManifest)>,
    /// Whether tags may move, and whether that could be learned, once it was asked.
    pub(super) mutability: Option<Option<Mutability>>,
    /// The tags of them that may only be there if they point at this image, before that is known.
    pub(super) fixed: Vec<Tag>,
    /// The tags of them that stay where they are.
    pub(super) stays: Vec<Stay>,
    /// There is nothing to be done.
    done: bool,
    pub(super) cancel: CancellationToken,
    /// Who is told that it is given up.
    events: Events,
    /// Why the registry hung up, as soon as that is in doubt. `None` if nobody says.
    doubt: OnceCell<Option<Error>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The blobs that the repository has, as far as it was asked.
    available: Blobs,
    layers: Vec<LayerState>,
    placed: Vec<TagOutcome>,
    root: Option<(Digest, String)>,
    created: bool,
    /// Whether anything was sent or put.
    changed: bool,
    failure: Option<Error>,
    /// Whatever the archive turns out to be, it does not matter any more.
    needs_no_archive: bool,
    /// Repositories whose layers were not all mounted, of which that was said.
    not_mounted: Vec<Repository>,
}

/// A layer on its way to this target.
#[derive(Clone)]
struct LayerState {
    wanted: Wanted,
    action: Action,
    meter: Arc<Meter>,
    stored: Option<Stored>,
    started: Option<Instant>,
    seconds: f64,
}

impl Destination {
    /// Finds the registry, logs in, and sees to it that the repository is there.
    pub(super) async fn reach(
        registries: &Registries<'_>,
        target: &Target,
        policies: &Policies,
        events: &Events,
        cancel: CancellationToken,
    ) -> Result<Self> {
        let request = registries.request();
        events(Event::Looking(target.to_string()));
        let Connection { client, host, ecr, place, public } =
            Box::pin(registries.connect(target, cancel.clone())).await?;
        let mut reached = Self {
            client,
            host,
            repository: target.repository.clone(),
            tags: tags(request, target),
            ecr,
            place,
            public,
            creation_denied: None,
            only_planned: false,
            compression: request.compression,
            held: Vec::new(),
            there: Vec::new(),
            archived: Vec::new(),
            mutability: None,
            fixed: Vec::new(),
            stays: Vec::new(),
            done: false,
            cancel,
            events: Arc::clone(events),
            doubt: OnceCell::new(),
            state: Mutex::default(),
        };
        // The look at the tags tells whether there is a repository; where nothing is reused from them, it is the other way
        // round.
        let looks_first = request.reuse == Reuse::Tag || reached.ecr.is_none() && reached.wants_tags_seen(request);
        let mut found = Found::default();
        if looks_first {
            let looked = reached.look_at_tags(request, events).await;
            found = looked.map_err(|error| reached.advise(error))?;
        }
        let ensured = reached.ensure_repository(found.exists, request, policies, events).await;
        ensured.map_err(|error| reached.advise(error))?;
        if !looks_first && reached.wants_tags_seen(request) && !reached.only_planned {
            let looked = reached.look_at_tags(request, events).await;
            looked.map_err(|error| reached.advise(error))?;
        }
        Ok(reached)
    }

    /// The plain layers that are packed and sent.
    pub(super) fn packed(&self) -> Vec<Layer> {
        let state = self.state();
        let sent = state.layers.iter().filter(|layer| layer.action == Action::Upload).map(|layer| &layer.wanted);
        sent.filter(|wanted| !matches!(wanted.recipe, CompressionSpec::Keep { .. }))
            .map(|it| it.layer.clone())
            .collect()
    }

    /// The repository was made just now.
    pub(super) fn was_created(&self) {
        let mut state = self.state();
        (state.created, state.changed) = (true, true);
    }

    /// Whether it was.
    pub(super) fn has_no_image(&self) -> bool {
        self.state().created
    }

    /// The root of the image, if a tag points at it: then everything below it is there. Of referrers that says nothing.
    pub(super) fn has_all_of<'a>(&self, image: &'a Image) -> Option<&'a OriginalManifest> {
        let is_there = |root: &&OriginalManifest| self.there.iter().any(|(_, there)| there.digest == root.digest);
        let root = image.content.original().filter(is_there)?;
        let is_another = |manifest: &Manifest| {
            manifest.repaired.is_some() || manifest.layers.iter().any(Layer::is_non_distributable)
        };
        if !image.referrers.is_empty() || image.manifests().into_iter().any(is_another) {
            return None;
        }
        // One with plain layers that are to be packed would not be what was asked for.
        self.state().layers.iter().all(|layer| layer.wanted.is_verbatim()).then_some(root)
    }

    /// The manifest that the repository holds of an image without one, if its layers are those that were stored: with its
    /// bytes the digest stays the same.
    pub(super) fn held(&self, manifest: &Manifest, layers: &[(Digest, u64, Compression)]) -> Option<OriginalManifest> {
        let same = |held: &&RemoteImage| {
            let (held_layers, stored) = (held.layers.iter().map(|it| it.digest), layers.iter().map(|it| it.0));
            held.config == manifest.config.digest && held_layers.eq(stored)
        };
        let held = self.held.iter().filter(|_| manifest.original.is_none()).find(same)?;
        let RemoteManifest { bytes, digest, media_type } = held.manifest.clone();
        Some(OriginalManifest { bytes, digest, media_type, subject: None })
    }

    /// The meter of a layer that is still to come here. `None` if it is not, or not any more.
    pub(super) fn needs(&self, key: &Key) -> Option<Arc<Meter>> {
        let mut state = self.state();
        if state.failure.is_some() {
            return None;
        }
        let layer = state.layers.iter_mut().find(|layer| layer.wanted.key == *key && layer.stored.is_none())?;
        layer.started = Some(Instant::now());
        Some(Arc::clone(&layer.meter))
    }

    /// Whether the registry takes a layer of that size, as far as that is known before it is packed.
    fn can_store(&self, wanted: &Wanted) -> Result<()> {
        match wanted.recipe {
            CompressionSpec::Keep { .. } => {
                let what = format!("layer {}", label(wanted));
                let hint = "Packed with gzip it has some: --compression gzip. The manifest then gets another digest.";
                registry::check_blob_size(&self.client, &what, wanted.layer.bytes.len())
                    .map_err(|error| if error.advice().is_none() { error.hint(hint) } else { error })
            }
            _ => Ok(()),
        }
    }

    /// The same, now that more may be known of the registry. If it does not, the target is given up before a byte of the
    /// layer is sent.
    pub(super) fn has_room_for(&self, wanted: &Wanted) -> bool {
        self.can_store(wanted).map_err(|error| self.fail(error)).is_ok()
    }

    /// The blob that a layer is to be mounted as, and where from, if that is the plan.
    pub(super) fn mountable(&self, key: &Key) -> Option<(Stored, Repository)> {
        let state = self.state();
        match &state.layers.iter().find(|layer| layer.wanted.key == *key)?.action {
            Action::Mount(candidate, from) => Some((candidate.stored, from.clone())),
            Action::Reuse(_) | Action::Upload => None,
        }
    }

    /// A layer was not mounted, and is sent. Why is said once for each repository.
    pub(super) fn send_instead(&self, key: &Key, why: &str, events: &Events) {
        let mut told = Vec::new();
        let mut state = self.state();
        let State { layers, not_mounted, .. } = &mut *state;
        for layer in layers.iter_mut().filter(|layer| layer.wanted.key == *key) {
            if let Action::Mount(_, from) = std::mem::replace(&mut layer.action, Action::Upload)
                && !not_mounted.contains(&from)
            {
                told.push(Event::Note(self.not_mounted(&from, why)));
                not_mounted.push(from);
            }
            told.push(self.planned(layer));
        }
        drop(state);
        told.into_iter().for_each(|event| events(event));
    }

    /// A layer has arrived, as this. Says how long that took.
    pub(super) fn arrived(&self, key: &Key, stored: Stored) -> Duration {
        let mut state = self.state();
        state.changed = true;
        let mut took = Duration::ZERO;
        for layer in state.layers.iter_mut().filter(|layer| layer.wanted.key == *key) {
            layer.stored = Some(stored);
            took = layer.started.map_or(Duration::ZERO, |started| started.elapsed());
            layer.seconds = took.as_secs_f64();
        }
        took
    }

    /// What a layer is in this registry.
    pub(super) fn stored(&self, key: &Key) -> Result<Stored> {
        let state = self.state();
        let stored = state.layers.iter().find(|layer| layer.wanted.key == *key).and_then(|layer| layer.stored);
        stored.ok_or_else(|| Error::new(Kind::Refused, format!("a layer did not arrive in {}", self.name())))
    }

    /// Uploads a config unless it is there.
    pub(super) async fn put_config(&self, config: &Config) -> Result<()> {
        if self.state().available.contains_key(&config.digest) {
            return Ok(());
        }
        let size = config.bytes.len() as u64;
        let feed = || {
            let (sender, feed) = mpsc::channel(2);
            let piece = DataBlock { bytes: config.bytes.clone(), position: size };
            let packed = LayerSummary { digest: config.digest, size, diff_id: None };
            // The channel has room for both.
            let _room = sender.try_send(LayerData::Data(piece)).and_then(|()| sender.try_send(LayerData::End(packed)));
            feed
        };
        let what = format!("the config {}", config.digest.short());
        let blob = Blob { what, identity: None, meter: Arc::new(Meter::new(size)), is_shared: false };
        let sent = registry::upload(&self.client, &blob, None, feed(), feed).await;
        if let Err(error) = sent {
            return Err(self.reason(error).await);
        }
        let mut state = self.state();
        state.available.insert(config.digest, Some(size));
        state.changed = true;
        Ok(())
    }

    /// Puts a manifest under a digest or a tag.
    pub(super) async fn put_manifest(&self, reference: &str, stated: &OriginalManifest) -> Result<()> {
        let OriginalManifest { bytes, digest, media_type, .. } = stated;
        // Before the request goes out, an interruption leaves no doubt.
        let is_sent = !self.cancel.is_cancelled();
        let put = self.client.put_manifest(reference, media_type, *digest, bytes.clone()).await;
        self.state().changed |= put.is_ok();
        put.map_err(|error| match error.kind() {
            Kind::Interrupted if is_sent => error.because(format!(
                "no answer came to the manifest {reference} of {}: the registry may have accepted it",
                self.name()
            )),
            _ => self.advise_on(error, stated),
        })
    }

    /// Puts the root under every tag, in their order, but those that point at it and those that stay.
    pub(super) async fn put_tags(&self, root: &OriginalManifest) -> Result<()> {
        for tag in &self.tags {
            let placed = match (self.stay(tag), self.points_at(tag)) {
                (Some(stay), _) => TagOutcome::of(stay),
                (None, Some(there)) if there.digest == root.digest => TagOutcome::new(tag, root, TagFate::There),
                (None, before) => {
                    self.check_archived(tag, root.digest)?;
                    self.put_tag(tag, root).await?;
                    if let Some(before) = before {
                        let text = format!("{}:{tag} moved here from {}", self.name(), before.digest.short());
                        (self.events)(Event::Note(text));
                    }
                    TagOutcome::new(tag, root, TagFate::Pushed)
                }
            };
            let mut state = self.state();
            state.placed.push(placed);
            state.root = Some((root.digest, root.media_type.clone()));
        }
        Ok(())
    }

    /// How a tag stays where it is, if it does.
    pub(super) fn stay(&self, tag: &Tag) -> Option<&Stay> {
        self.stays.iter().find(|stay| stay.tag == *tag)
    }

    /// Whether all tags stay where they are.
    pub(super) fn is_settled(&self) -> bool {
        self.tags.iter().all(|tag| self.stay(tag).is_some())
    }

    /// All tags stay where they are, so nothing is sent.
    pub(super) fn give_over(&mut self) {
        self.done = true;
        self.state().layers.clear();
    }

    /// Whether nothing is to be done, in which case that is what came of it.
    pub(super) fn settle(&self) -> bool {
        if self.done {
            let mut state = self.state();
            let same = self.stays.iter().find(|stay| stay.is_same);
            state.root = same.map(|stay| (stay.digest, stay.media_type.clone()));
            state.placed = self.tags.iter().filter_map(|tag| self.stay(tag)).map(TagOutcome::of).collect();
        }
        self.done
    }

    /// Whether every tag points at the image already or stays where it is, so that no manifest is put.
    pub(super) fn is_up_to_date(&self, image: &Image) -> bool {
        let Some(root) = self.root_of(image, &|key| self.stored(key).ok()) else { return false };
        let is_there = |tag: &Tag| self.points_at(tag).is_some_and(|there| there.digest == root);
        self.tags.iter().all(|tag| self.stay(tag).is_some() || is_there(tag))
    }

    /// Whether anything is still to be sent here.
    pub(super) fn takes_more(&self) -> bool {
        !self.done && !self.has_failed()
    }

    /// Puts a manifest under a tag. One that must not move is refused even if it points here already, as after an answer
    /// that got lost (aws/containers-roadmap#2179).
    pub(super) async fn put_tag(&self, tag: &Tag, stated: &OriginalManifest) -> Result<()> {
        let Err(error) = self.put_manifest(tag.as_str(), stated).await else { return Ok(()) };
        let is_kept = error.service_error().is_some_and(|answer| answer.code == "TAG_INVALID");
        let there = if is_kept { self.client.manifest(tag.as_str()).await.ok().flatten() } else { None };
        if there.is_some_and(|there| there.digest == stated.digest) { Ok(()) } else { Err(error) }
    }

    /// Gives the target up. The first reason counts: what follows is its consequence.
    pub(super) fn fail(&self, error: Error) {
        let is_first = !self.has_failed();
        let why = self.state().failure.get_or_insert(error).to_string();
        self.cancel.cancel();
        if is_first {
            (self.events)(Event::GivenUp { target: self.name(), why });
        }
    }

    /// The target was given up, and not for want of a better archive.
    pub(super) fn give_up_archive(&self) {
        self.state().needs_no_archive = true;
    }

    /// Whether the target was given up for reasons that no archive could change.
    pub(super) fn wants_no_archive(&self) -> bool {
        let state = self.state();
        state.needs_no_archive || state.failure.as_ref().is_some_and(|error| error.kind() != Kind::Input)
    }

    /// Gives the target up because the archive cannot be read, which is the better reason where a layer could not.
    pub(super) fn fail_for_want_of(&self, archive: Error) {
        let mut state = self.state();
        if state.failure.as_ref().is_none_or(|error| error.kind() == Kind::Input && archive.kind() == Kind::Input) {
            state.failure = Some(archive);
        }
        self.cancel.cancel();
    }

    /// Whether the target was given up.
    pub(super) fn has_failed(&self) -> bool {
        self.state().failure.is_some()
    }

    /// `HOST/REPOSITORY`
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// What came of it.
    pub(super) fn report(self, outcome: &mut TargetOutcome) {
        outcome.name = self.name();
        outcome.tags = self.tags.clone();
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcome.created_repository = state.created;
        outcome.changed = state.changed;
        outcome.placed = state.placed;
        (outcome.digest, outcome.media_type) = state.root.unzip();
        outcome.layers = state.layers.iter().map(LayerState::report).collect();
        outcome.error = state.failure;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LayerState {
    fn new(action: Action, wanted: Wanted) -> Self {
        let meter = Arc::new(Meter::new(wanted.layer.bytes.len()));
        let stored = match &action {
            Action::Reuse(candidate) => Some(candidate.stored),
            Action::Mount(..) | Action::Upload => None,
        };
        Self { wanted, action, meter, stored, started: None, seconds: 0.0 }
    }

    fn report(&self) -> LayerOutcome {
        LayerOutcome {
            name: self.wanted.layer.name.clone(),
            diff_id: self.wanted.layer.diff_id,
            archive_bytes: self.wanted.layer.bytes.len(),
            media_type: self.stored.and_then(|stored| self.wanted.media_type(&stored)),
            digest: self.stored.map(|stored| stored.digest),
            size: self.stored.map(|stored| stored.size),
            action: self.action.name(),
            why: super::reason(&self.action, &self.wanted),
            sent: self.meter.sent().saturating_sub(self.meter.resumed_at()),
            resumed: self.meter.resumed_at(),
            retries: self.meter.retries(),
            started: self.started.filter(|_| self.stored.is_some()),
            seconds: self.seconds,
            took: self.wanted.took,
        }
    }
}

/// The target's tag and those for all targets, each once; `latest` only if nobody named any.
fn tags(request: &Request, target: &Target) -> Vec<Tag> {
    let mut tags: Vec<Tag> = Vec::new();
    for tag in target.tags.iter().chain(&request.tags) {
        if !tags.contains(tag) {
            tags.push(tag.clone());
        }
    }
    if tags.is_empty() {
        tags.push(Tag::latest());
    }
    tags
}
