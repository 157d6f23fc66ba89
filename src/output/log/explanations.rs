//! Explanations: what `-v` adds to the log.
//!
//! The library explains its decisions with `tracing::debug!`. The AWS SDK and the HTTP client emit `tracing` events, too, and
//! theirs may contain headers with credentials. So events of this crate are logged, and no others.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::entry::{Entry, Level};
use super::style::Verbosity;
use crate::output::writer::Log;

/// The root of this crate's targets.
const CRATE: &str = "ecr_push";

/// Logs explanations from now on, if the user wants them.
pub(crate) fn log_explanations(log: &Log) {
    if log.style().verbosity != Verbosity::Normal {
        let log = log.clone();
        let write = move |line| log.log(&Entry::new(Level::Debug, "detail", line));
        // It fails only if the process has a subscriber, and the program starts with none.
        let _is_first = tracing::subscriber::set_global_default(Explanations(write));
    }
}

/// Passes the message of each event of this crate on. It records no spans, since the crate has none.
struct Explanations<F>(F);

impl<F: Fn(String) + 'static> Subscriber for Explanations<F> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let rest = metadata.target().strip_prefix(CRATE);
        metadata.is_event() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    }

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        (self.0)(message.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The message of an event.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{debug, info_span};

    use super::*;

    #[test]
    fn events_of_this_crate_are_logged_and_no_others() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&lines);
        tracing::subscriber::with_default(Explanations(move |line| written.lock().unwrap().push(line)), || {
            let why = "it is new";
            let _span = info_span!("request", password = "a-word").entered();
            debug!("layer a: {why}");
            debug!(target: "ecr_push", "from the root");
            debug!(target: "ecr_pushed", "another crate");
            debug!(target: "hyper::client", "authorization: a-word");
            debug!(target: "aws_config", "a-word");
        });
        assert_eq!(*lines.lock().unwrap(), ["layer a: it is new", "from the root"]);
    }
}
