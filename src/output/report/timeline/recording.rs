//! The events of a push, recorded for its page: a lane for each layer at each target. The number of things recorded for one
//! lane is bounded.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::requests::{Request, RequestList};
use crate::compress::{Meter, ReadTimeline};
use crate::oci::LayerId;
use crate::push::{Event, LayerAction};
use crate::request_log::{Named, Subject, TargetId};

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

/// A layer at a target.
pub(super) struct Lane {
    pub(super) target: TargetId,
    pub(super) layer: Named<LayerId>,
    /// Its bytes in the archive.
    pub(super) bytes: u64,
    pub(super) action: LayerAction,
    /// The reason for the action.
    pub(super) reason: String,
    /// How far it is, if it is uploaded.
    pub(super) meter: Arc<Meter>,
    pub(super) planned: Instant,
    /// What its reads waited for.
    pub(super) reads: Vec<Arc<ReadTimeline>>,
    pub(super) requests: RequestList,
    pub(super) arrived: Option<Instant>,
    /// The bytes that were sent, once it has arrived.
    pub(super) sent: u64,
}

/// A time between two requests.
pub(super) struct Gap {
    pub(super) from: Instant,
    pub(super) to: Instant,
}

/// The most reads that are recorded: a layer is read again only if the registry lost it.
const MAX_READS: usize = 20;

impl Lane {
    /// Records a read, if the layer is uploaded.
    pub(super) fn read(&mut self, timeline: &Arc<ReadTimeline>) {
        if self.action == LayerAction::Upload && self.reads.len() < MAX_READS {
            self.reads.push(Arc::clone(timeline));
        }
    }

    /// Whether it was reused without a request.
    pub(super) fn is_reused(&self) -> bool {
        matches!(self.action, LayerAction::Reuse(_)) && self.requests.requests().is_empty()
    }

    /// When it was first read or requested.
    pub(super) fn began(&self) -> Option<Instant> {
        let read = self.reads.iter().filter_map(|timeline| Some(timeline.spans().first()?.from));
        read.chain(self.requests.requests().iter().map(|request| request.from)).min()
    }
}

/// The pauses before retries: from a failed request to the next one.
pub(super) fn pauses(requests: &[Request]) -> Vec<Gap> {
    let after = |pair: &[Request]| {
        let (failed, next) = (&pair[0], &pair[1]);
        (failed.failed.is_some() && next.from > failed.to).then_some(Gap { from: failed.to, to: next.from })
    };
    requests.windows(2).filter_map(after).collect()
}

#[cfg(test)]
mod tests {
    use super::super::requests::tests::record;
    use super::*;

    #[test]
    fn a_pause_is_between_a_failed_request_and_the_next_one() {
        let (start, mut requests) = (Instant::now(), RequestList::default());
        for (millis, method, status) in
            [(0, "POST", 202), (50, "PATCH", 429), (300, "PATCH", 201), (400, "PATCH", 0), (402, "PUT", 503)]
        {
            requests.add(&record(start, millis, method, status));
        }
        let since = |at: Instant| (at - start).as_millis();
        let pauses: Vec<_> = pauses(requests.requests()).iter().map(|gap| (since(gap.from), since(gap.to))).collect();
        assert_eq!(
            pauses,
            [(58, 300)],
            "requests at the same time have no pause between them, nor is there one after the last"
        );
    }
}
