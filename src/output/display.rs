//! The display of a push: rows on a terminal, a line every few seconds in a log. It belongs to the thread that writes.
//!
//! Positions are read from meters when a display is due, so it can be late but never wrong.

use std::time::{Duration, Instant};

use console::Term;

use super::log::{Mode, SharedStatus, Style};
use super::progress::Rows;
use super::stderr::write;
use crate::sync::lock;

/// How often rows are updated, and the rate is measured.
const TICK: Duration = Duration::from_millis(100);

/// How often a log gets a line: often enough that no CI system ends the job for a lack of output.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// What stderr shows.
pub(super) struct Display {
    style: Style,
    push: Option<SharedStatus>,
    rows: Option<Rows>,
    last_heartbeat: Instant,
}

impl Display {
    pub(super) fn new(style: Style) -> Self {
        // On Windows this query turns on support for escape sequences.
        let _ = Term::stderr().features().colors_supported();
        Self { style, push: None, rows: None, last_heartbeat: Instant::now() }
    }

    /// Starts to display a push, or ends it: then its rows are removed.
    pub(super) fn show(&mut self, push: Option<SharedStatus>) {
        if let Some(rows) = self.rows.take() {
            rows.clear();
        }
        self.push = push.filter(|_| self.style.mode != Mode::Quiet);
        self.rows = (self.push.is_some() && self.style.mode == Mode::Bars).then(Rows::start);
        self.last_heartbeat = Instant::now();
    }

    /// How often [`tick`](Self::tick) is due, if at all.
    pub(super) fn interval(&self) -> Option<Duration> {
        self.push.as_ref().map(|_| TICK)
    }

    /// Updates the rows, or writes a line if one is due.
    pub(super) fn tick(&mut self, now: Instant) {
        let Some(push) = &self.push else { return };
        // The lock is not held while anything is written: those that report events must not wait for a terminal.
        let push = lock(push).measured(now);
        if let Some(rows) = &mut self.rows {
            rows.update(&push, now, Term::stderr().size().0.into());
        } else if now.duration_since(self.last_heartbeat) >= HEARTBEAT {
            self.last_heartbeat = now;
            write(&self.style.line(&push.entry(now)));
        }
    }

    /// Writes lines, above the rows if there are any.
    pub(super) fn print(&self, lines: &str) {
        match &self.rows {
            Some(rows) => rows.all.suspend(|| write(lines)),
            None => write(lines),
        }
    }
}
