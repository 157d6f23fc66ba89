//! The status of a push, built from its events: a line of the log every few seconds, and rows on a terminal.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::HumanDuration;

use super::entry::Entry;
use super::sanitize::sanitize_line;
use crate::compress::{Meter, size};
use crate::error::one_line;
use crate::oci::LayerId;
use crate::push::{Event, LayerAction};
use crate::request_log::{Named, TargetId};

/// The rate is that of so many seconds.
const WINDOW: Duration = Duration::from_secs(15);

/// After this time without a byte, uploads are stalled: a rate would look like a slow network.
const STALLED: Duration = Duration::from_secs(5);

/// The status of a push, shared by those that report events and the one that displays it.
pub(crate) type SharedStatus = Arc<Mutex<PushStatus>>;

/// A layer on its way to one target.
#[derive(Clone, Debug)]
struct TargetLayer {
    target: TargetId,
    layer: Named<LayerId>,
    /// The bytes in the archive.
    bytes: u64,
    action: LayerAction,
    is_done: bool,
    meter: Arc<Meter>,
}

/// The status of a push to all its targets.
#[derive(Clone, Debug)]
pub(crate) struct PushStatus {
    targets: usize,
    /// What is done while no layer is uploaded, the details, and since when.
    activity: (&'static str, String, Instant),
    is_open: bool,
    pub(super) is_stopping: bool,
    /// Why requests wait, before which retries, and until when. Others that wait for the same reason are not logged.
    pauses: Vec<(String, String, Instant)>,
    /// In the order in which they were planned, those for several targets beside each other.
    layers: Vec<TargetLayer>,
    /// How many bytes were sent, measured over the last seconds.
    samples: VecDeque<(Instant, u64)>,
    /// When a byte was last sent.
    moved: Instant,
}

/// A layer at all its targets, or all layers.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) name: String,
    /// The bytes in the archive, and how many of them are covered by what was sent.
    pub(crate) bytes: u64,
    pub(crate) position: u64,
    /// What became of it, once nothing is uploaded.
    pub(crate) result: Option<String>,
}

impl PushStatus {
    /// A push to so many targets that has just started.
    pub(super) fn new(targets: usize, now: Instant) -> Self {
        Self {
            targets,
            activity: ("reading the archive", String::new(), now),
            is_open: false,
            is_stopping: false,
            pauses: Vec::new(),
            layers: Vec::new(),
            samples: VecDeque::new(),
            moved: now,
        }
    }

    /// Applies an event, and returns its log entry if it has one.
    pub(crate) fn apply(&mut self, event: Event, now: Instant) -> Option<Entry> {
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

    /// Measures how much was sent, for the rate, and returns the status.
    pub(crate) fn measured(&mut self, now: Instant) -> Self {
        let (sent, before) = (self.sent(), self.samples.back().map_or(0, |(_, sent)| *sent));
        if sent != before {
            self.moved = now;
        }
        // Nothing is sent yet, or a layer starts again.
        if sent == 0 || sent < before {
            self.samples.clear();
        }
        self.samples.push_back((now, sent));
        while self.samples.get(1).is_some_and(|(second, _)| now.duration_since(*second) >= WINDOW) {
            self.samples.pop_front();
        }
        self.clone()
    }

    /// The compressed bytes that this run sent. Those of an earlier run do not count.
    fn sent(&self) -> u64 {
        sum(&self.layers, |meter| meter.sent().saturating_sub(meter.resumed_at()))
    }

    /// The bytes sent in a second.
    fn rate(&self) -> Option<f64> {
        let ((from, before), (to, after)) = (self.samples.front()?, self.samples.back()?);
        let seconds = to.duration_since(*from).as_secs_f64();
        Some((after - before) as f64 / seconds).filter(|rate| rate.is_normal())
    }

    /// Returns the current status as a line of the log.
    pub(crate) fn entry(&self, now: Instant) -> Entry {
        let uploads = || self.layers.iter().filter(|layer| layer.meter().is_some());
        let (count, complete) = (uploads().count(), uploads().filter(|layer| layer.is_done).count());
        let still = now.duration_since(self.moved);
        if self.is_stopping {
            return Entry::info("working", "interrupted: closing upload sessions");
        }
        let pause = self.pauses.iter().rfind(|(.., until)| *until > now);
        if let Some((reason, next, until)) = pause.filter(|_| complete == count || still.as_secs() > 0) {
            let left = until.duration_since(now);
            let text = format!("{next} in {}: {reason}", HumanDuration(left));
            return Entry::info("waiting", text).with("why", reason.as_str()).with("seconds", left.as_secs_f64());
        }
        if complete == count {
            let (activity, details, since) = &self.activity;
            let seconds = now.duration_since(*since).as_secs();
            return Entry::info("working", format!("{activity}{details} ({seconds} s)")).with("seconds", seconds);
        }
        let (sent, Progress { bytes, position, .. }) = (self.sent(), self.total());
        // 100 means complete.
        let percent = position * 100 / bytes.max(1);
        let stalled = Some(still).filter(|still| sent > 0 && *still >= STALLED);
        let rate = self.rate().filter(|_| sent > 0 && stalled.is_none());
        // What is left is compressed as well as what was sent. As long as layers are being planned, the total is not known.
        let ratio = sum(&self.layers, Meter::sent) as f64 / position.max(1) as f64;
        let left = rate.filter(|_| self.is_open).map(|rate| (bytes - position) as f64 * ratio / rate);
        let left = left.and_then(|left| Duration::try_from_secs_f64(left).ok()).filter(|left| !left.is_zero());
        let mut text = format!("{} sent", size(sent));
        text.extend(rate.map(|rate| format!(" at {}/s", size(rate as u64))));
        text.extend(stalled.map(|stalled| format!(", stalled for {}", HumanDuration(stalled))));
        text.extend(left.map(|left| format!(", {} left", HumanDuration(left))));
        text += &format!(", {complete} of {count} uploads done, {percent} % of {}", size(bytes));
        Entry::info("progress", text)
            .with("bytes", bytes)
            .with("position", position)
            .with("percent", percent)
            .with("sent", sent)
            .with("rate", rate.map(|rate| rate as u64))
            .with("stalled_seconds", stalled.map(|stalled| stalled.as_secs()))
            .with("seconds_left", left.map(|left| left.as_secs_f64().ceil() as u64))
            .with("layers", count)
            .with("layers_arrived", complete)
    }

    /// The progress of each layer at all its targets.
    pub(crate) fn layers(&self) -> Vec<Progress> {
        let layers = self.layers.chunk_by(|one, other| one.layer == other.layer);
        let progress = |targets: &[TargetLayer]| {
            let name = &targets[0].layer.name;
            let uploads = targets.iter().filter_map(TargetLayer::meter).count().max(1);
            let is_uploaded = |layer: &TargetLayer| layer.is_done || layer.meter().is_none();
            let mut results: Vec<String> = targets.iter().map(TargetLayer::result).collect();
            results.dedup();
            Progress {
                name: sanitize_line(&one_line(name.strip_prefix("sha256:").unwrap_or(name), usize::MAX)),
                bytes: targets[0].bytes,
                position: sum(targets, Meter::position) / uploads as u64,
                result: targets.iter().all(is_uploaded).then(|| results.join(", ")),
            }
        };
        layers.map(progress).collect()
    }

    /// The progress of all uploads.
    pub(crate) fn total(&self) -> Progress {
        let (bytes, position) = (sum(&self.layers, Meter::total), sum(&self.layers, Meter::position));
        Progress { name: "total".into(), bytes, position, result: None }
    }
}

impl TargetLayer {
    /// The progress of an upload.
    fn meter(&self) -> Option<&Meter> {
        matches!(self.action, LayerAction::Upload).then_some(&self.meter)
    }

    /// What became of it.
    fn result(&self) -> String {
        match (&self.action, self.is_done) {
            (LayerAction::Reuse(_), _) => "reused".into(),
            (LayerAction::Mount(..), false) => "to be mounted".into(),
            (LayerAction::Mount(..), true) => "mounted".into(),
            (LayerAction::Upload, _) => format!("sent {}", size(self.meter.sent())),
        }
    }
}

fn sum(layers: &[TargetLayer], of: impl Fn(&Meter) -> u64) -> u64 {
    layers.iter().filter_map(TargetLayer::meter).map(of).sum()
}

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
