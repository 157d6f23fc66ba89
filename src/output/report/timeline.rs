//! The course of a push as one page: a lane a layer, with what it waited for and every request. It shows why a push took as
//! long as it did: the drive, the packing, the network, or a registry that asked for patience.
//!
//! What happens is noted while it happens, the page is made at the end. Of each lane a bounded number of things is kept.

mod asked;
mod drawing;
mod lane;
mod page;
mod shares;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use crate::push::{Event, Events, Outcome, Planned};

use asked::{Asked, LAYER};
use lane::{Lane, Lot};

/// What happens in a push, noted for its page.
pub struct Timeline(Arc<Mutex<Notes>>);

/// What was noted.
struct Notes {
    began: Instant,
    /// For people: when that was.
    clock: SystemTime,
    /// When the image was known.
    opened: Option<Instant>,
    /// Layers, each once a target, as they were planned.
    lanes: Vec<Lane>,
    /// Requests that are about no layer: which repository they were about, and what was asked.
    others: Vec<(Option<String>, Asked)>,
    /// Targets that had all layers, and since when.
    finishing: Vec<(String, Instant)>,
}

impl Timeline {
    /// Begins to note.
    pub fn start() -> Self {
        Self(Arc::new(Mutex::new(Notes {
            began: Instant::now(),
            clock: SystemTime::now(),
            opened: None,
            lanes: Vec::new(),
            others: Vec::new(),
            finishing: Vec::new(),
        })))
    }

    /// What to hand to a push: it notes what happens, and passes it on.
    pub fn events(&self, tell: Events) -> Events {
        let notes = Arc::clone(&self.0);
        Arc::new(move |event| {
            lock(&notes).take(&event);
            tell(event);
        })
    }

    /// The page: HTML that needs nothing else, neither a script nor another file.
    pub fn page(&self, outcome: &Outcome) -> String {
        page::page(&lock(&self.0), outcome)
    }
}

impl std::fmt::Debug for Timeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Timeline")
    }
}

impl Notes {
    fn take(&mut self, event: &Event) {
        let now = Instant::now();
        match event {
            Event::Opened(_) => self.opened = Some(now),
            Event::Planned { target, layer, bytes, action } => self.planned((target, layer), *bytes, action, now),
            Event::Reading { layer, course } => {
                let reads = |lane: &&mut Lane| lane.layer == *layer && lane.arrived.is_none();
                self.lanes.iter_mut().filter(reads).for_each(|lane| lane.read(course));
            }
            Event::Asked(exchange) => {
                let (repository, about) = (exchange.repository.as_ref(), exchange.about.as_deref());
                let layer = about.and_then(|about| about.strip_prefix(LAYER));
                let is_its = |lane: &&mut Lane| Some(&lane.target) == repository && Some(&*lane.layer) == layer;
                match self.lanes.iter_mut().find(is_its) {
                    Some(lane) => lane.asked.add(exchange),
                    None => self.other(repository).add(exchange),
                }
            }
            Event::Arrived { meter, sent } => {
                let is_its = |lane: &&mut Lane| matches!(&lane.lot, Lot::Upload(_, its) if Arc::ptr_eq(its, meter));
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

    /// A layer's lot is known; what was noted of it before stays.
    fn planned(&mut self, (target, layer): (&str, &str), bytes: u64, action: &Planned, now: Instant) {
        let lot = Lot::of(action);
        match self.lanes.iter_mut().find(|lane| lane.target == target && lane.layer == layer) {
            Some(lane) => lane.lot = lot,
            None => self.lanes.push(Lane::new((target, layer), bytes, lot, now)),
        }
    }

    /// What was asked in a repository that is about no layer.
    fn other(&mut self, repository: Option<&String>) -> &mut Asked {
        let known = self.others.iter().position(|(its, _)| its.as_ref() == repository);
        let place = known.unwrap_or_else(|| {
            self.others.push((repository.cloned(), Asked::default()));
            self.others.len() - 1
        });
        &mut self.others[place].1
    }
}

fn lock(notes: &Mutex<Notes>) -> MutexGuard<'_, Notes> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}
