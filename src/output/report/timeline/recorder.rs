//! Records the events of a push while it runs.

use std::sync::{Arc, Mutex};

use super::page;
use super::recording::Recording;
use crate::push::{Events, Outcome};
use crate::sync::lock;

/// Records the events of a push for a page.
pub(crate) struct Timeline(Arc<Mutex<Recording>>);

impl Timeline {
    /// Starts to record.
    pub(crate) fn start() -> Self {
        Self(Arc::new(Mutex::new(Recording::start())))
    }

    /// Records events, and passes them on.
    pub(crate) fn events(&self, next: Events) -> Events {
        let recording = Arc::clone(&self.0);
        Arc::new(move |event| {
            lock(&recording).add(&event);
            next(event);
        })
    }

    /// Returns the page: HTML that needs nothing else, neither a script nor another file.
    pub(crate) fn page(&self, outcome: &Outcome) -> String {
        page::page(&lock(&self.0), outcome)
    }
}
