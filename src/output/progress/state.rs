//! The state of a push, built from its events.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::compress::{Meter, size};
use crate::oci::LayerId;
use crate::output::log::Entry;
use crate::push::{Event, LayerAction};
use crate::request_log::{Named, TargetId};

/// A layer on its way to one target.
#[derive(Clone, Debug)]
pub(super) struct TargetLayer {
    target: TargetId,
    pub(super) layer: Named<LayerId>,
    /// The bytes in the archive.
    pub(super) bytes: u64,
    pub(super) action: LayerAction,
    pub(super) is_done: bool,
    meter: Arc<Meter>,
}

/// The state of a push to all its targets.
#[derive(Clone, Debug)]
pub(crate) struct State {
    targets: usize,
    /// What is done while no layer is uploaded, the details, and since when.
    pub(super) activity: (&'static str, String, Instant),
    pub(super) is_open: bool,
    pub(super) is_stopping: bool,
    /// Why requests wait, before which retries, and until when. Others that wait for the same reason are not logged.
    pauses: Vec<(String, String, Instant)>,
    /// In the order in which they were planned, those for several targets beside each other.
    pub(super) layers: Vec<TargetLayer>,
}

impl State {
    /// A push to so many targets that has just started.
    pub(super) fn new(targets: usize, now: Instant) -> Self {
        let activity = ("reading the archive", String::new(), now);
        Self { targets, activity, is_open: false, is_stopping: false, pauses: Vec::new(), layers: Vec::new() }
    }

    /// Applies an event, and returns its log entry if it has one.
    pub(super) fn apply(&mut self, event: Event, now: Instant) -> Option<Entry> {
        let entry = Entry::of(&event, self.targets);
        match event {
            Event::Spooled { bytes } => {
                self.begin("copying the archive to a temporary file", format!(": {}", size(bytes)), now);
            }
            Event::Opened(_) => {
                self.is_open = true;
                self.begin("checking what already exists", String::new(), now);
            }
            Event::LookingUp { target } => self.begin("checking what already exists", format!(" in {target}"), now),
            Event::TargetFailed { target, .. } => {
                // A single target's error is logged at the same moment anyway, and after Ctrl-C all targets end.
                if self.targets < 2 || self.is_stopping {
                    return None;
                }
                self.layers.retain(|layer| layer.target != target.id);
            }
            Event::Retrying { reason, pause, retry, retries } => {
                self.pauses.retain(|(.., until)| *until > now);
                if self.pauses.iter().any(|(known, ..)| *known == reason) {
                    return entry.map(Entry::at_debug);
                }
                self.pauses.push((reason, format!("retry {retry} of {retries}"), now + pause));
            }
            Event::LayerPlanned { target, layer, bytes, action, meter, .. } => {
                if !self.is_open {
                    self.begin("reading the archive", String::new(), now);
                }
                let is_done = matches!(action, LayerAction::Reuse(_));
                let planned = TargetLayer { target: target.id, layer, bytes, action, is_done, meter };
                let is_same = |known: &TargetLayer| known.layer == planned.layer;
                match self.layers.iter().position(|known| is_same(known) && known.target == planned.target) {
                    Some(at) => self.layers[at] = planned,
                    None => {
                        let end = self.layers.iter().rposition(is_same).map_or(self.layers.len(), |last| last + 1);
                        self.layers.insert(end, planned);
                    }
                }
            }
            Event::LayerUploaded { target, layer, .. } | Event::LayerMounted { target, layer, .. } => {
                let is_it = |known: &&mut TargetLayer| known.layer == layer && known.target == target.id;
                if let Some(known) = self.layers.iter_mut().find(is_it) {
                    known.is_done = true;
                }
                if self.is_open && self.layers.iter().all(|layer| layer.is_done) {
                    self.begin("uploading the image config", String::new(), now);
                }
            }
            Event::Publishing { target } => self.begin("uploading the manifest", format!(" to {target}"), now),
            Event::Request(_) | Event::Note(_) | Event::Warning(_) | Event::LayerReading { .. } => {}
        }
        entry
    }

    /// Sets what is done while no layer is uploaded.
    pub(super) fn begin(&mut self, activity: &'static str, details: String, now: Instant) {
        let since = if self.activity.0 == activity { self.activity.2 } else { now };
        self.activity = (activity, details, since);
    }

    /// The last pause that is not over: the reason, the retry after it, and the time until then.
    pub(super) fn pause(&self, now: Instant) -> Option<(&str, &str, Duration)> {
        let (reason, next, until) = self.pauses.iter().rfind(|(.., until)| *until > now)?;
        Some((reason, next, until.duration_since(now)))
    }
}

impl TargetLayer {
    /// The progress of an upload.
    pub(super) fn meter(&self) -> Option<&Meter> {
        matches!(self.action, LayerAction::Upload).then_some(&self.meter)
    }
}
