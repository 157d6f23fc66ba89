//! The state of a push, built from its events.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::rate::{RateEstimator, Throughput, Totals};
use crate::compress::{Meter, size};
use crate::oci::LayerId;
use crate::output::log::Entry;
use crate::push::{Event, LayerAction};
use crate::request_log::{Named, TargetId};

/// A layer on its way to one target.
#[derive(Debug)]
pub(super) struct TargetLayer {
    pub(super) target: TargetId,
    pub(super) layer: Named<LayerId>,
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
    pub(super) reason: String,
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
        let entry = Entry::of(&event, self.targets);
        match event {
            Event::Spooled { bytes } => {
                let text = format!("copied {} of the archive to a temporary file", size(bytes));
                self.begin(Activity::Spooling, text, now);
            }
            Event::Opened(_) => {
                self.is_open = true;
                self.begin(Activity::LookingUp, "checking what already exists".into(), now);
            }
            Event::LookingUp { target } => {
                self.lookups += 1;
                let place = if self.lookups > 1 { format!("{} targets", self.lookups) } else { target.to_string() };
                self.begin(Activity::LookingUp, format!("checking what already exists in {place}"), now);
            }
            Event::TargetFailed { target, .. } => {
                // A single target's error is logged at the same moment anyway, and after Ctrl-C all targets end.
                if self.targets < 2 || self.is_stopping {
                    return None;
                }
                self.layers.retain(|layer| layer.target != target.id);
            }
            Event::Retrying { reason, pause, retry, retries } => {
                let next = format!("retry {retry} of {retries}");
                if self.is_repeated(&reason, now + pause, now) {
                    self.pause = Some(Pause { reason, next, until: now + pause });
                    return entry.map(Entry::at_debug);
                }
                self.pause = Some(Pause { reason, next, until: now + pause });
            }
            Event::LayerPlanned { target, layer, bytes, action, meter, .. } => {
                let state = match action {
                    LayerAction::Reuse(_) => LayerState::Reused,
                    LayerAction::Mount(..) => LayerState::MountPending,
                    LayerAction::Upload => LayerState::Upload { meter, sent: None },
                };
                if !self.is_open {
                    self.begin(Activity::Reading, "reading the archive".into(), now);
                }
                match self.layer(target.id, layer.id) {
                    Some(known) => known.state = state,
                    None => self.layers.push(TargetLayer { target: target.id, layer, bytes, state }),
                }
            }
            Event::LayerUploaded { target, layer, sent, .. } => {
                match &mut self.layer(target.id, layer.id)?.state {
                    LayerState::Upload { sent: of_upload, .. } => *of_upload = Some(sent),
                    LayerState::Reused | LayerState::MountPending | LayerState::Mounted => {}
                }
                if !self.is_uploading() && self.is_open {
                    self.begin(Activity::Config, "uploading the image config".into(), now);
                }
            }
            Event::LayerMounted { target, layer, .. } => {
                if let Some(mounted) = self.layer(target.id, layer.id) {
                    mounted.state = LayerState::Mounted;
                }
            }
            Event::Publishing { target } => {
                self.begin(Activity::Manifest, format!("uploading the manifest to {target}"), now);
            }
            Event::Request(_) | Event::Note(_) | Event::Warning(_) | Event::LayerReading { .. } => {}
        }
        entry
    }

    /// Whether the same reason for a pause was logged, and that pause is not over. Otherwise it is logged now, until `until`.
    fn is_repeated(&mut self, reason: &str, until: Instant, now: Instant) -> bool {
        self.reported.retain(|(_, until)| *until > now);
        let is_reported = self.reported.iter().any(|(reported, _)| reported == reason);
        if !is_reported {
            self.reported.push((reason.to_owned(), until));
        }
        is_reported
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

    fn layer(&mut self, target: TargetId, layer: LayerId) -> Option<&mut TargetLayer> {
        self.layers.iter_mut().find(|known| known.target == target && known.layer.id == layer)
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
        let mut targets = self.layers.iter().filter(|layer| layer.meter().is_some()).map(|layer| layer.target);
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
