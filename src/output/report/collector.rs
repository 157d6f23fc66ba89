//! What was told on the way, for reports.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::requests::Requests;
use crate::push::{Event, Events};

/// How many warnings are kept, and how many notes: the first ones, each once. A report has to stay one.
pub const MAX_MESSAGES: usize = 100;

/// Warnings and notes of a push, as far as they are kept.
#[derive(Debug, Default)]
pub struct ReportCollector(Mutex<Lists>);

#[derive(Debug, Default)]
struct Lists {
    warnings: Vec<String>,
    notes: Vec<String>,
    untold: u64,
    requests: Requests,
}

impl ReportCollector {
    /// Tells `tell`, and keeps what is worth a line in a report.
    pub fn beside(self: &Arc<Self>, tell: Events) -> Events {
        let told = Arc::clone(self);
        Arc::new(move |event| {
            match &event {
                Event::Warning(text) => told.lists().keep(text, |lists| &mut lists.warnings),
                Event::Waiting { why, .. } => told.lists().keep(why, |lists| &mut lists.warnings),
                Event::Note(text) => told.lists().keep(text, |lists| &mut lists.notes),
                Event::Asked(exchange) => told.lists().requests.add(exchange),
                _ => {}
            }
            tell(event);
        })
    }

    /// What may not be as it was wanted, in its order.
    pub fn warnings(&self) -> Vec<String> {
        self.lists().warnings.clone()
    }

    /// What was worth a line, in its order.
    pub fn notes(&self) -> Vec<String> {
        self.lists().notes.clone()
    }

    /// The requests so far.
    pub(super) fn requests(&self) -> Requests {
        self.lists().requests.clone()
    }

    /// How many more there were.
    pub fn untold(&self) -> u64 {
        self.lists().untold
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lists {
    fn keep(&mut self, text: &str, list: impl Fn(&mut Self) -> &mut Vec<String>) {
        match list(self) {
            list if list.iter().any(|known| known == text) => {}
            list if list.len() < MAX_MESSAGES => list.push(text.to_owned()),
            _ => self.untold += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_first_are_kept_once_and_all_are_told() {
        let heard = Arc::new(Mutex::new(0));
        let ear = Arc::clone(&heard);
        let told = Arc::new(ReportCollector::default());
        let tell = told.beside(Arc::new(move |_| *ear.lock().unwrap() += 1));
        tell(Event::Warning("w".into()));
        tell(Event::Waiting { why: "w".into(), pause: Duration::from_secs(1), retry: 1, retries: 4 });
        tell(Event::Detail("d".into()));
        (0..MAX_MESSAGES + 3).for_each(|n| tell(Event::Note(n.to_string())));
        assert_eq!(*heard.lock().unwrap(), MAX_MESSAGES + 6);
        assert_eq!((told.warnings(), told.untold()), (vec!["w".to_owned()], 3));
        assert_eq!((told.notes().len(), told.notes()[MAX_MESSAGES - 1].as_str()), (MAX_MESSAGES, "99"));
    }
}
