//! The events of a push, recorded for its page. The number of things recorded for one lane is bounded.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::lane::Lane;
use super::requests::RequestList;
use crate::oci::LayerId;
use crate::push::Event;
use crate::request_log::{Subject, TargetId};

/// What was recorded.
pub(super) struct Recording {
    pub(super) began: Instant,
    /// The same time for people.
    pub(super) clock: SystemTime,
    /// When the image was known.
    pub(super) opened: Option<Instant>,
    /// Layers, each once a target, as they were planned.
    pub(super) lanes: Vec<Lane>,
    /// Requests that are not about a layer, by repository.
    pub(super) others: Vec<(Option<String>, RequestList)>,
    /// Targets that have all layers, and since when.
    pub(super) finishing: Vec<(TargetId, Instant)>,
}

impl Recording {
    pub(super) fn start() -> Self {
        Self {
            began: Instant::now(),
            clock: SystemTime::now(),
            opened: None,
            lanes: Vec::new(),
            others: Vec::new(),
            finishing: Vec::new(),
        }
    }

    /// Records an event.
    pub(super) fn add(&mut self, event: &Event) {
        let now = Instant::now();
        match event {
            Event::Opened(_) => self.opened = Some(now),
            Event::LayerPlanned { target, layer, bytes, action, reason, meter } => {
                match self.lane(target.id, layer.id) {
                    // What was recorded before stays.
                    Some(lane) => (lane.action, lane.reason) = (action.clone(), reason.clone()),
                    None => self.lanes.push(Lane {
                        target: target.id,
                        layer: layer.clone(),
                        bytes: *bytes,
                        action: action.clone(),
                        reason: reason.clone(),
                        meter: Arc::clone(meter),
                        planned: now,
                        reads: Vec::new(),
                        requests: RequestList::default(),
                        arrived: None,
                        sent: 0,
                    }),
                }
            }
            Event::LayerReading { layer, timeline } => {
                let reads = |lane: &&mut Lane| lane.layer == *layer && lane.arrived.is_none();
                self.lanes.iter_mut().filter(reads).for_each(|lane| lane.read(timeline));
            }
            Event::Request(record) => {
                let lane = match &record.subject {
                    Some(Subject::Layer { target, layer }) => self.lane(*target, layer.id),
                    _ => None,
                };
                match lane {
                    Some(lane) => lane.requests.add(record),
                    None => self.other(record.repository.as_ref()).add(record),
                }
            }
            Event::LayerUploaded { target, layer, sent, .. } => {
                if let Some(lane) = self.lane(target.id, layer.id) {
                    (lane.arrived, lane.sent) = (Some(now), *sent);
                }
            }
            Event::LayerMounted { target, layer, .. } => {
                if let Some(lane) = self.lane(target.id, layer.id) {
                    lane.arrived = Some(now);
                }
            }
            Event::Publishing { target } => self.finishing.push((target.id, now)),
            Event::Spooled { .. }
            | Event::Note(_)
            | Event::Warning(_)
            | Event::LookingUp { .. }
            | Event::TargetFailed { .. }
            | Event::Retrying { .. } => {}
        }
    }

    fn lane(&mut self, target: TargetId, layer: LayerId) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.target == target && lane.layer.id == layer)
    }

    /// The requests about a repository that are not about a layer.
    fn other(&mut self, repository: Option<&String>) -> &mut RequestList {
        let known = self.others.iter().position(|(its, _)| its.as_ref() == repository);
        let place = known.unwrap_or_else(|| {
            self.others.push((repository.cloned(), RequestList::default()));
            self.others.len() - 1
        });
        &mut self.others[place].1
    }
}
