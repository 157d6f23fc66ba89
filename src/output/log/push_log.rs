//! Where a push reports its events.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::entry::Entry;
use super::status::{PushStatus, SharedStatus};
use super::style::{Mode, Style, Verbosity};
use crate::output::writer::Log;
use crate::push::{Event, Events};
use crate::sync::lock;

/// The log and the status of a push. Clones report to the same one.
#[derive(Clone, Debug)]
pub(crate) struct PushLog {
    log: Log,
    status: SharedStatus,
}

impl PushLog {
    /// Starts to display a push to `targets` targets.
    pub(crate) fn start(log: &Log, targets: usize) -> Self {
        let status = Arc::new(Mutex::new(PushStatus::new(targets, Instant::now())));
        log.show(Some(Arc::clone(&status)));
        Self { log: log.clone(), status }
    }

    /// Returns the receiver of the events of the push.
    pub(crate) fn events(&self) -> Events {
        let push = self.clone();
        Arc::new(move |event| push.report(event))
    }

    fn report(&self, event: Event) {
        let Style { mode, verbosity, .. } = self.log.style();
        let is_wanted = match event {
            // The text of each would cost more than all else that a small request does here.
            Event::Request(_) if verbosity != Verbosity::Requests => return,
            // Rows show the same.
            Event::LayerPlanned { .. }
            | Event::LayerUploaded { .. }
            | Event::LayerMounted { .. }
            | Event::Publishing { .. } => mode != Mode::Bars || verbosity != Verbosity::Normal,
            _ => true,
        };
        let entry = lock(&self.status).apply(event, Instant::now());
        if let Some(entry) = entry.filter(|_| is_wanted) {
            self.log.log(&entry);
        }
    }

    /// Shows that the push was interrupted and closes its upload sessions.
    pub(crate) fn stop(&self, entry: &Entry) {
        lock(&self.status).is_stopping = true;
        self.log.log(entry);
    }

    /// Shows an activity, until an event replaces it.
    pub(crate) fn set_activity(&self, text: String) {
        lock(&self.status).begin("", text, Instant::now());
    }

    /// Ends the display.
    pub(crate) fn finish(&self) {
        self.log.show(None);
    }
}
