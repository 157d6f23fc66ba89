//! The events of a push, recorded for its page. The number of things recorded for one lane is bounded.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::lane::Lane;
use super::requests::{LAYER, RequestList};
use crate::push::Event;

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
    pub(super) finishing: Vec<(String, Instant)>,
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
            Event::Planned { target, layer, bytes, action, reason, meter } => {
                let lane = Lane {
                    target: target.clone(),
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
                };
                self.planned(lane);
            }
            Event::Reading { layer, course: timeline } => {
                let reads = |lane: &&mut Lane| lane.layer == *layer && lane.arrived.is_none();
                self.lanes.iter_mut().filter(reads).for_each(|lane| lane.read(timeline));
            }
            Event::Asked(exchange) => {
                let (repository, about) = (exchange.repository.as_ref(), exchange.about.as_deref());
                let layer = about.and_then(|about| about.strip_prefix(LAYER));
                let is_its = |lane: &&mut Lane| Some(&lane.target) == repository && Some(&*lane.layer) == layer;
                match self.lanes.iter_mut().find(is_its) {
                    Some(lane) => lane.requests.add(exchange),
                    None => self.other(repository).add(exchange),
                }
            }
            Event::Arrived { meter, sent } => {
                let is_its = |lane: &&mut Lane| Arc::ptr_eq(&lane.meter, meter);
                if let Some(lane) = self.lanes.iter_mut().find(is_its) {
                    (lane.arrived, lane.sent) = (Some(now), *sent);
                }
            }
            Event::Mounted { target, layer, .. } => {
                let waits = |lane: &&mut Lane| lane.target == *target && lane.layer == *layer;
                if let Some(lane) = self.lanes.iter_mut().find(waits) {
                    lane.arrived = Some(now);
                }
            }
            Event::Finishing(target) => self.finishing.push((target.clone(), now)),
            Event::Spooled(_)
            | Event::Detail(_)
            | Event::Note(_)
            | Event::Warning(_)
            | Event::Looking(_)
            | Event::GivenUp { .. }
            | Event::Waiting { .. } => {}
        }
    }

    /// Records what happens to a layer. What was recorded of it before stays.
    fn planned(&mut self, planned: Lane) {
        match self.lanes.iter_mut().find(|lane| lane.target == planned.target && lane.layer == planned.layer) {
            Some(lane) => (lane.action, lane.reason, lane.meter) = (planned.action, planned.reason, planned.meter),
            None => self.lanes.push(planned),
        }
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
