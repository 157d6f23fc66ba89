//! Where a push reports its events.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::display::{SharedState, lock};
use super::state::State;
use crate::output::log::{Entry, Mode, Verbosity};
use crate::output::writer::Log;
use crate::push::{Event, Events};

/// The progress of a push. Clones report to the same one.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    log: Log,
    state: SharedState,
}

impl Progress {
    /// Starts to display a push to `targets` targets.
    pub(crate) fn start(log: &Log, targets: usize) -> Self {
        let state = Arc::new(Mutex::new(State::new(targets, Instant::now())));
        log.show(Arc::clone(&state));
        Self { log: log.clone(), state }
    }

    /// Returns the receiver of the events of the push.
    pub(crate) fn events(&self) -> Events {
        let progress = self.clone();
        Arc::new(move |event| progress.report(event))
    }

    fn report(&self, event: Event) {
        let style = self.log.style();
        if matches!(event, Event::Request(_)) && style.verbosity != Verbosity::Requests {
            return;
        }
        let is_in_a_row = matches!(
            event,
            Event::LayerPlanned { .. }
                | Event::LayerUploaded { .. }
                | Event::LayerMounted { .. }
                | Event::Publishing { .. }
        );
        // Bars show the same.
        let is_shown = is_in_a_row && style.mode == Mode::Bars && style.verbosity == Verbosity::Normal;
        let entry = lock(&self.state).apply(event, Instant::now());
        if let Some(entry) = entry.filter(|_| !is_shown) {
            self.log.log(&entry);
        }
    }

    /// Shows that the push was interrupted and closes its upload sessions.
    pub(crate) fn stop(&self, entry: &Entry) {
        lock(&self.state).stop();
        self.log.log(entry);
    }

    /// Shows an activity, until an event replaces it.
    pub(crate) fn set_activity(&self, text: String) {
        lock(&self.state).set_activity(text, Instant::now());
    }

    /// Ends the display.
    pub(crate) fn finish(&self) {
        self.log.hide();
    }
}
