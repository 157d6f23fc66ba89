//! Collects from the events of a push what its report lists.

use std::sync::{Arc, Mutex};

use super::requests::Requests;
use crate::push::{Event, Events};
use crate::sync::lock;

/// The most warnings that a report lists, and the most notes: the first ones, each once.
const MAX_MESSAGES: usize = 100;

/// The warnings, notes and requests of a push.
#[derive(Debug, Default)]
pub(crate) struct ReportCollector(Mutex<Lists>);

#[derive(Debug, Default)]
struct Lists {
    warnings: Vec<String>,
    notes: Vec<String>,
    omitted: u64,
    requests: Requests,
}

impl ReportCollector {
    /// Collects from events, and passes them on.
    pub(crate) fn observe(self: &Arc<Self>, next: Events) -> Events {
        let collector = Arc::clone(self);
        Arc::new(move |event| {
            lock(&collector.0).add(&event);
            next(event);
        })
    }

    /// The warnings, in order.
    pub(super) fn warnings(&self) -> Vec<String> {
        lock(&self.0).warnings.clone()
    }

    /// The notes, in order.
    pub(super) fn notes(&self) -> Vec<String> {
        lock(&self.0).notes.clone()
    }

    /// The requests so far.
    pub(super) fn requests(&self) -> Requests {
        lock(&self.0).requests.clone()
    }

    /// How many warnings and notes are not listed.
    pub(super) fn omitted(&self) -> u64 {
        lock(&self.0).omitted
    }
}

impl Lists {
    fn add(&mut self, event: &Event) {
        let (list, text) = match event {
            Event::Warning(text) | Event::Retrying { reason: text, .. } => (&mut self.warnings, text),
            Event::Note(text) => (&mut self.notes, text),
            Event::Request(record) => return self.requests.add(record),
            _ => return,
        };
        if list.contains(text) {
            return;
        }
        match list.len() {
            ..MAX_MESSAGES => list.push(text.clone()),
            _ => self.omitted += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_first_messages_are_listed_once_and_all_events_are_passed_on() {
        let passed = Arc::new(Mutex::new(0));
        let count = Arc::clone(&passed);
        let collector = Arc::new(ReportCollector::default());
        let events = collector.observe(Arc::new(move |_| *count.lock().unwrap() += 1));
        events(Event::Warning("w".into()));
        events(Event::Retrying { reason: "w".into(), pause: Duration::from_secs(1), retry: 1, retries: 4 });
        events(Event::Spooled { bytes: 1 });
        (0..MAX_MESSAGES + 3).for_each(|n| events(Event::Note(n.to_string())));
        assert_eq!(*passed.lock().unwrap(), MAX_MESSAGES + 6);
        assert_eq!((collector.warnings(), collector.omitted()), (vec!["w".to_owned()], 3));
        assert_eq!((collector.notes().len(), collector.notes()[MAX_MESSAGES - 1].as_str()), (MAX_MESSAGES, "99"));
    }
}
