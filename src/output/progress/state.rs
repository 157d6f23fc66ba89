//! The state of a push, built from its events, and the log entry of each event.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::rate::{RateEstimator, Throughput, Totals};
use crate::compress::{Meter, size};
use crate::output::log::{Entry, Level};
use crate::push::{Event, ImageSummary, LayerAction};
use crate::request_log::RequestRecord;

/// A layer on its way to one target.
#[derive(Debug)]
pub(super) struct TargetLayer {
    pub(super) target: String,
    pub(super) layer: String,
    /// The bytes in the archive.
    pub(super) bytes: u64,
    pub(super) state: LayerState,
}

/// What happens to it, and how far that is.
#[derive(Debug)]
pub(super) enum LayerState {
    Reused,
    MountPending,
    Mounted,
    /// `sent` is known once the upload is complete.
    Upload {
        meter: Arc<Meter>,
        sent: Option<u64>,
    },
}

/// What is done while no layer is uploaded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Activity {
    Reading,
    Spooling,
    LookingUp,
    Config,
    Manifest,
    Other,
}

/// A pause before a retry.
#[derive(Debug)]
pub(super) struct Pause {
    pub(super) why: String,
    /// `retry 2 of 4`
    pub(super) next: String,
    until: Instant,
}

/// The state of a push to all its targets.
#[derive(Debug)]
pub(crate) struct State {
    targets: usize,
    pub(super) started: Instant,
    activity: (Activity, String, Instant),
    lookups: usize,
    is_open: bool,
    pub(super) is_stopping: bool,
    pause: Option<Pause>,
    /// Reasons for pauses that were logged, and until when each holds: uploads that meet the same one log nothing new.
    reported: Vec<(String, Instant)>,
    pub(super) layers: Vec<TargetLayer>,
    rate: RateEstimator,
    pub(super) throughput: Throughput,
}

impl State {
    /// A push to so many targets that has just started.
    pub(super) fn new(targets: usize, now: Instant) -> Self {
        Self {
            targets,
            started: now,
            activity: (Activity::Reading, "reading the archive".into(), now),
            lookups: 0,
            is_open: false,
            is_stopping: false,
            pause: None,
            reported: Vec::new(),
            layers: Vec::new(),
            rate: RateEstimator::default(),
            throughput: Throughput::default(),
        }
    }

    /// Applies an event, and returns its log entry if it has one.
    pub(super) fn apply(&mut self, event: Event, now: Instant) -> Option<Entry> {
        match event {
            Event::Detail(text) => Some(Entry::new(Level::Debug, "detail", text)),
            Event::Asked(record) => Some(request(&record)),
            Event::Reading { .. } => None,
            Event::Note(text) => Some(Entry::note(text)),
            Event::Warning(text) => Some(Entry::warning(text)),
            Event::GivenUp { target, why } => self.target_failed(&target, &why),
            Event::Waiting { why, pause, retry, retries } => Some(self.pause(why, pause, (retry, retries), now)),
            Event::Spooled(bytes) => {
                self.begin(
                    Activity::Spooling,
                    format!("copied {} of the archive to a temporary file", size(bytes)),
                    now,
                );
                None
            }
            Event::Opened(image) => {
                self.is_open = true;
                self.begin(Activity::LookingUp, "checking what already exists".into(), now);
                Some(opened(&image))
            }
            Event::Looking(target) => {
                self.lookups += 1;
                let place = if self.lookups > 1 { format!("{} targets", self.lookups) } else { target };
                self.begin(Activity::LookingUp, format!("checking what already exists in {place}"), now);
                None
            }
            Event::Planned { target, layer, bytes, action, reason, meter } => {
                let state = match action {
                    LayerAction::Reuse(_) => LayerState::Reused,
                    LayerAction::Mount(..) => LayerState::MountPending,
                    LayerAction::Upload => LayerState::Upload { meter, sent: None },
                };
                Some(self.planned(TargetLayer { target, layer, bytes, state }, &action, reason, now))
            }
            Event::Arrived { meter, sent } => self.uploaded(&meter, sent, now),
            Event::Mounted { target, layer, bytes } => Some(self.mounted(&target, layer, bytes)),
            Event::Finishing(target) => {
                self.begin(Activity::Manifest, format!("uploading the manifest to {target}"), now);
                let text = format!("all layers are in {target}; uploading the manifest");
                Some(Entry::info("finishing", text).with("target", target))
            }
        }
    }

    fn pause(&mut self, why: String, pause: Duration, (retry, retries): (usize, usize), now: Instant) -> Entry {
        let next = format!("retry {retry} of {retries}");
        self.pause = Some(Pause { why: why.clone(), next: next.clone(), until: now + pause });
        self.reported.retain(|(_, until)| *until > now);
        let is_reported = self.reported.iter().any(|(reported, _)| *reported == why);
        if !is_reported {
            self.reported.push((why.clone(), now + pause));
        }
        let (level, seconds) = (if is_reported { Level::Debug } else { Level::Warning }, pause.as_secs_f64());
        let text = format!("{why}; {next} in {seconds:.1} s");
        Entry::new(level, "waiting", text)
            .with("why", why)
            .with("seconds", seconds)
            .with("retry", retry)
            .with("retries", retries)
    }

    /// A single target's error is logged at the same moment anyway, and after Ctrl-C all targets end.
    fn target_failed(&mut self, target: &str, why: &str) -> Option<Entry> {
        if self.targets < 2 || self.is_stopping {
            return None;
        }
        self.layers.retain(|layer| layer.target != target);
        let text = format!("{target} failed, the other targets continue: {why}");
        Some(Entry::info("given_up", text).with("target", target).with("why", why))
    }

    /// Sets what is done, in words.
    pub(super) fn set_activity(&mut self, text: String, now: Instant) {
        self.begin(Activity::Other, text, now);
    }

    /// The push was interrupted and closes its upload sessions.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
    }

    fn begin(&mut self, activity: Activity, text: String, now: Instant) {
        let since = if self.activity.0 == activity { self.activity.2 } else { now };
        self.activity = (activity, text, since);
    }

    /// What is done while no layer is uploaded, and since when.
    pub(super) fn activity(&self) -> (&str, Instant) {
        (&self.activity.1, self.activity.2)
    }

    fn planned(&mut self, planned: TargetLayer, action: &LayerAction, reason: String, now: Instant) -> Entry {
        let TargetLayer { target, layer, bytes, .. } = &planned;
        let (word, preposition) = match action {
            LayerAction::Reuse(_) => ("reused", "in"),
            LayerAction::Mount(..) => ("mount", "in"),
            LayerAction::Upload => ("upload", "to"),
        };
        let text = format!("{}{word}{}: {reason}", layer_text(layer, *bytes), self.target_text(preposition, target));
        let entry = layer_entry("layer", text, target, layer, *bytes).with("action", action.name()).with("why", reason);
        if !self.is_open {
            self.begin(Activity::Reading, "reading the archive".into(), now);
        }
        match self.layer(&planned.target, &planned.layer) {
            Some(known) => *known = planned,
            None => self.layers.push(planned),
        }
        entry
    }

    fn uploaded(&mut self, meter: &Arc<Meter>, bytes: u64, now: Instant) -> Option<Entry> {
        let has_meter = |layer: &&mut TargetLayer| layer.meter().is_some_and(|its| Arc::ptr_eq(its, meter));
        let layer = self.layers.iter_mut().find(has_meter)?;
        layer.state = LayerState::Upload { meter: Arc::clone(meter), sent: Some(bytes) };
        let (target, layer, archive_bytes) = (layer.target.clone(), layer.layer.clone(), layer.bytes);
        let text = format!("{}sent{}", layer_text(&layer, bytes), self.target_text("to", &target));
        if !self.is_uploading() && self.is_open {
            self.begin(Activity::Config, "uploading the image config".into(), now);
        }
        Some(layer_entry("arrived", text, &target, &layer, archive_bytes).with("sent", bytes))
    }

    fn mounted(&mut self, target: &str, layer: String, bytes: u64) -> Entry {
        if let Some(mounted) = self.layer(target, &layer) {
            mounted.state = LayerState::Mounted;
        }
        let text = format!("{}mounted{}", layer_text(&layer, bytes), self.target_text("in", target));
        layer_entry("mounted", text, target, &layer, bytes)
    }

    fn layer(&mut self, target: &str, layer: &str) -> Option<&mut TargetLayer> {
        self.layers.iter_mut().find(|known| known.target == target && known.layer == layer)
    }

    /// Names the target where there are several.
    fn target_text(&self, preposition: &str, target: &str) -> String {
        if self.targets > 1 { format!(" {preposition} {target}") } else { String::new() }
    }

    /// Reads all meters.
    pub(super) fn measure(&mut self, now: Instant) {
        self.throughput = self.rate.measure(now, self.totals());
    }

    /// How far all uploads are.
    pub(super) fn totals(&self) -> Totals {
        self.layers.iter().filter_map(TargetLayer::meter).fold(Totals::default(), |all, meter| Totals {
            total: all.total + meter.total(),
            position: all.position + meter.position(),
            sent: all.sent + meter.sent().saturating_sub(meter.resumed_at()),
            resumed: all.resumed + meter.resumed_at(),
        })
    }

    /// Whether a layer is still to be uploaded.
    pub(super) fn is_uploading(&self) -> bool {
        self.layers.iter().any(|layer| matches!(layer.state, LayerState::Upload { sent: None, .. }))
    }

    /// How many layers are uploaded in all, and how many of them are complete.
    pub(super) fn uploads(&self) -> (usize, usize) {
        let complete = |layer: &&TargetLayer| matches!(layer.state, LayerState::Upload { sent: Some(_), .. });
        (self.layers.iter().filter_map(TargetLayer::meter).count(), self.layers.iter().filter(complete).count())
    }

    /// Whether layers are uploaded to more than one target.
    pub(super) fn uploads_to_several(&self) -> bool {
        let mut targets = self.layers.iter().filter(|layer| layer.meter().is_some()).map(|layer| &layer.target);
        let first = targets.next();
        targets.any(|target| Some(target) != first)
    }

    /// The pause that is not over yet, and how long it lasts.
    pub(super) fn current_pause(&self, now: Instant) -> Option<(&Pause, Duration)> {
        let pause = self.pause.as_ref()?;
        let left = pause.until.checked_duration_since(now).filter(|left| !left.is_zero())?;
        Some((pause, left))
    }
}

impl TargetLayer {
    /// The meter of an upload.
    pub(super) fn meter(&self) -> Option<&Arc<Meter>> {
        if let LayerState::Upload { meter, .. } = &self.state { Some(meter) } else { None }
    }
}

fn layer_text(layer: &str, bytes: u64) -> String {
    format!("layer {layer}  {:>10}  ", size(bytes))
}

fn layer_entry(event: &'static str, text: String, target: &str, layer: &str, bytes: u64) -> Entry {
    Entry::info(event, text).with("target", target).with("layer", layer).with("bytes", bytes)
}

fn request(record: &RequestRecord) -> Entry {
    Entry::new(Level::Debug, "request", record.to_string())
        .with("method", record.method.as_str())
        .with("url", record.url.as_str())
        .with("status", record.status)
        .with("fault", record.error.as_deref())
        .with("seconds", record.seconds)
        .with("request_id", record.request_id.as_deref())
        .with("sent", record.sent)
        .with("about", record.about.as_deref())
        .with("attempt", record.attempt)
}

fn opened(image: &ImageSummary) -> Entry {
    let name = match (image.names.first(), image.image_ids.first()) {
        (Some(name), _) => name.clone(),
        (None, Some(id)) => id.short(),
        (None, None) => "an image".into(),
    };
    let about = std::iter::once(image.format.as_str()).chain(image.platforms.iter().map(String::as_str));
    let about = about.collect::<Vec<_>>().join(", ");
    let layers = if image.layers == 1 { "layer" } else { "layers" };
    let text = format!("{name} ({about}): {} {layers}, {}", image.layers, size(image.archive_bytes));
    let ids: Vec<String> = image.image_ids.iter().map(ToString::to_string).collect();
    Entry::info("opened", text)
        .with("format", image.format.as_str())
        .with("names", image.names.clone())
        .with("image_ids", ids)
        .with("platforms", image.platforms.clone())
        .with("layers", image.layers)
        .with("bytes", image.archive_bytes)
}
