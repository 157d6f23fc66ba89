//! What is true of a push to one target so far. The task that pushes owns it, so an outcome is complete after an error, a
//! deadline or Ctrl-C.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::debug;

use super::outcome::{LayerOutcome, TargetOutcome};
use super::plan::{Blobs, Candidate, LayerAction, PlannedLayer, Stored};
use super::run_blobs::{self, BlobKey};
use super::session::TargetSession;
use super::source::TargetSource;
use super::tags::{PlannedTag, TagOutcome, TagPlan, TagState};
use super::{Event, explain};
use crate::archive::Layer;
use crate::compress::{CompressionSpec, Meter};
use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, LayerId, OriginalManifest, Repository, Tag};

/// What is true of a push to one target so far.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// `HOST/REPOSITORY`, once the host is known.
    pub(super) name: Option<String>,
    /// The tags that were asked for.
    pub(super) tags: Vec<Tag>,
    /// Whether this push created the repository.
    pub(super) created_repository: bool,
    /// Whether a push would create the repository, if this is only a plan.
    pub(super) would_create_repository: bool,
    /// Whether the registry does not mount layers, as far as a dry run found out.
    pub(super) is_mounting_off: bool,
    /// Whether anything was sent or put.
    pub(super) is_changed: bool,
    /// The layers, largest first, as far as they were planned.
    pub(super) layers: Vec<LayerRecord>,
    /// The tags that were placed, or left where they are.
    pub(super) placed: Vec<TagOutcome>,
    /// What a dry run decided about the tags.
    pub(super) planned_tags: Vec<PlannedTag>,
    /// The digest of the image there, and its media type.
    pub(super) root: Option<(Digest, String)>,
}

/// What is true of one layer.
#[derive(Clone, Debug)]
pub(super) struct LayerRecord {
    pub(super) planned: PlannedLayer,
    /// What identifies its blob in all images.
    pub(super) key: Option<BlobKey>,
    pub(super) action: LayerAction,
    pub(super) meter: Arc<Meter>,
    /// What the registry has, once it has it.
    pub(super) stored: Option<Stored>,
    started: Option<Instant>,
    seconds: f64,
}

impl Record {
    /// Returns the record of a layer, if it was planned.
    pub(super) fn layer(&self, id: &LayerId) -> Option<&LayerRecord> {
        self.layers.iter().find(|layer| layer.planned.id == *id)
    }

    /// Returns what a layer is in the registry.
    ///
    /// # Errors
    /// If it is not there.
    pub(super) fn stored(&self, id: &LayerId) -> Result<Stored> {
        let stored = self.layer(id).and_then(|layer| layer.stored);
        stored.ok_or_else(|| {
            let name = self.name.as_deref().unwrap_or("the registry");
            Error::new(Kind::Refused, format!("a layer was not uploaded to {name}"))
        })
    }

    /// Adds layers whose action is decided, and reports each.
    pub(super) fn plan(
        &mut self,
        session: &TargetSession,
        planned: Vec<(PlannedLayer, LayerAction)>,
        available: &Blobs,
    ) -> Vec<LayerId> {
        let layers: Vec<LayerRecord> =
            planned.into_iter().map(|(planned, action)| LayerRecord::new(planned, action)).collect();
        for layer in &layers {
            session.emit(layer.event(session));
            debug!("{}", explain::layer(&layer.planned, &layer.action, available));
        }
        let ids = layers.iter().map(|layer| layer.planned.id).collect();
        self.layers.extend(layers);
        ids
    }

    /// Returns a layer that is still to be sent or mounted.
    pub(super) fn missing_layer(&self, id: &LayerId) -> Option<LayerRecord> {
        self.layer(id).filter(|layer| layer.stored.is_none()).cloned()
    }

    /// Notes what a layer has become in the registry, and returns how long that took since `started`.
    pub(super) fn finish_layer(&mut self, id: &LayerId, stored: Stored, started: Instant) -> Duration {
        let took = started.elapsed();
        self.is_changed = true;
        if let Some(layer) = self.layers.iter_mut().find(|layer| layer.planned.id == *id) {
            (layer.stored, layer.started, layer.seconds) = (Some(stored), Some(started), took.as_secs_f64());
        }
        took
    }

    /// Sets another action for a layer that is still to be sent, and returns it.
    pub(super) fn decide_again(&mut self, id: &LayerId, action: LayerAction) -> Option<LayerRecord> {
        let is_it = |layer: &&mut LayerRecord| layer.planned.id == *id && layer.stored.is_none();
        let layer = self.layers.iter_mut().find(is_it)?;
        if let LayerAction::Reuse(candidate) = &action {
            layer.stored = Some(candidate.stored);
        }
        layer.action = action;
        Some(layer.clone())
    }

    /// Has a layer sent that was to be mounted, and returns what from where.
    pub(super) fn send_instead(&mut self, id: &LayerId) -> Option<(LayerRecord, Candidate, Repository)> {
        let layer = self.layers.iter_mut().find(|layer| layer.planned.id == *id)?;
        match std::mem::replace(&mut layer.action, LayerAction::Upload) {
            LayerAction::Mount(candidate, from) => Some((layer.clone(), candidate, from)),
            LayerAction::Reuse(_) | LayerAction::Upload => None,
        }
    }

    /// Has every layer sent again that the repository has lost, and returns them.
    pub(super) fn send_again(&mut self, available: &Blobs) -> Vec<LayerId> {
        let is_lost = |layer: &&mut LayerRecord| layer.stored.is_some_and(|it| !available.contains_key(&it.digest));
        let lost = self.layers.iter_mut().filter(is_lost).map(|layer| {
            (layer.stored, layer.action) = (None, LayerAction::Upload);
            layer.planned.id
        });
        lost.collect()
    }

    /// Tells other targets not to wait for this one where it needs no layer.
    pub(super) fn decline_others(&self, source: &TargetSource, layers: &[PlannedLayer]) {
        for layer in layers.iter().filter(|layer| self.layer(&layer.id).is_none_or(|it| it.stored.is_some())) {
            source.hub.decline(source.target, &layer.id);
        }
    }

    /// Returns the uncompressed layers that are compressed and sent.
    pub(super) fn compressed(&self) -> Vec<Layer> {
        let sent = self.layers.iter().filter(|layer| layer.action == LayerAction::Upload).map(|layer| &layer.planned);
        sent.filter(|planned| !matches!(planned.spec, CompressionSpec::Keep { .. }))
            .map(|it| it.layer.clone())
            .collect()
    }

    /// Notes that nothing was to be done, since all tags stay where they are.
    pub(super) fn mark_up_to_date(&mut self, plan: &TagPlan) {
        self.layers.clear();
        let same = plan.unchanged.iter().find(|tag| tag.state == TagState::Same);
        self.root = same.map(|tag| (tag.digest, tag.media_type.clone()));
        self.placed = self.tags.iter().filter_map(|tag| plan.unchanged(tag).cloned()).collect();
    }

    /// Notes that a tag points at the image, or was left where it is.
    pub(super) fn place(&mut self, placed: TagOutcome, root: &OriginalManifest) {
        self.placed.push(placed);
        self.root = Some((root.digest, root.media_type.clone()));
    }

    /// Fills in the outcome.
    pub(super) fn into_outcome(self, outcome: &mut TargetOutcome) {
        if let Some(name) = self.name {
            outcome.name = name;
        }
        outcome.tags = self.tags;
        outcome.created_repository = self.created_repository;
        outcome.would_create_repository = self.would_create_repository;
        outcome.is_mounting_off = self.is_mounting_off;
        outcome.changed = self.is_changed;
        outcome.placed = self.placed;
        outcome.planned_tags = self.planned_tags;
        (outcome.digest, outcome.media_type) = self.root.unzip();
        outcome.layers = self.layers.iter().map(LayerRecord::outcome).collect();
    }
}

impl LayerRecord {
    fn new(planned: PlannedLayer, action: LayerAction) -> Self {
        let meter = Arc::new(Meter::new(planned.layer.bytes.len()));
        let stored = match &action {
            LayerAction::Reuse(candidate) => Some(candidate.stored),
            LayerAction::Mount(..) | LayerAction::Upload => None,
        };
        let key = run_blobs::key(&planned);
        Self { planned, key, action, meter, stored, started: None, seconds: 0.0 }
    }

    /// Returns whether the layer is still to be sent.
    pub(super) fn is_to_upload(&self) -> bool {
        self.stored.is_none() && self.action == LayerAction::Upload
    }

    /// Returns the event that the layer's action was decided.
    pub(super) fn event(&self, session: &TargetSession) -> Event {
        let Self { planned, action, meter, .. } = self;
        Event::LayerPlanned {
            target: session.target(),
            layer: planned.named(),
            bytes: planned.layer.bytes.len(),
            reason: action.reason(planned),
            action: action.clone(),
            meter: Arc::clone(meter),
        }
    }

    fn outcome(&self) -> LayerOutcome {
        LayerOutcome {
            name: self.planned.layer.name.clone(),
            blob: self.key,
            diff_id: self.planned.layer.diff_id,
            archive_bytes: self.planned.layer.bytes.len(),
            media_type: self.stored.and_then(|stored| self.planned.media_type(&stored)),
            digest: self.stored.map(|stored| stored.digest),
            size: self.stored.map(|stored| stored.size),
            action: self.action.clone(),
            reason: self.action.reason(&self.planned),
            sent: self.meter.sent().saturating_sub(self.meter.resumed_at()),
            resumed: self.meter.resumed_at(),
            retries: self.meter.retries(),
            started: self.started,
            seconds: self.seconds,
            took: self.planned.took,
        }
    }
}
