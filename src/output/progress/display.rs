//! The display of a push: bars on a terminal, a line every few seconds in a log. It belongs to the thread that writes.
//!
//! Positions are read from meters when a display is due, so it can be late but never wrong.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use console::Term;
use indicatif::ProgressDrawTarget;

use super::bars::Bars;
use super::state::State;
use super::terminal::Terminal;
use crate::output::log::{Mode, Style};
use crate::output::stderr::write;
use crate::sync::lock;

/// How often bars are drawn, and the rate is measured.
const TICK: Duration = Duration::from_millis(100);

/// How often a log gets a line: often enough that no CI system ends the job for a lack of output.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// The state of a push, shared by those that report events and the one that displays it.
pub(crate) type SharedState = Arc<Mutex<State>>;

/// What stderr shows.
pub(crate) struct Display {
    style: Style,
    terminal: Terminal,
    shown: Option<(SharedState, Bars)>,
    last_heartbeat: Instant,
}

impl Display {
    pub(crate) fn new(style: Style) -> Self {
        // On Windows this query turns on support for escape sequences.
        let _ = Term::stderr().features().colors_supported();
        Self { style, terminal: Terminal::default(), shown: None, last_heartbeat: Instant::now() }
    }

    /// Starts to display a push.
    pub(crate) fn show(&mut self, state: SharedState) {
        let target = match self.style.mode {
            Mode::Bars => ProgressDrawTarget::term_like(Box::new(self.terminal.clone())),
            Mode::Plain => ProgressDrawTarget::hidden(),
            Mode::Quiet => return,
        };
        self.hide();
        self.last_heartbeat = Instant::now();
        self.shown = Some((state, Bars::new(target, self.last_heartbeat)));
    }

    /// Ends the display of a push, and removes the bars.
    pub(crate) fn hide(&mut self) {
        if let Some((_, bars)) = self.shown.take() {
            bars.all.clear().ok();
            // Bars that are dropped are drawn for the last time.
            bars.all.set_draw_target(ProgressDrawTarget::hidden());
        }
    }

    /// How often [`tick`](Self::tick) is due, if at all.
    pub(crate) fn interval(&self) -> Option<Duration> {
        self.shown.as_ref().map(|_| TICK)
    }

    /// Draws the bars, or writes a line if one is due.
    pub(crate) fn tick(&mut self, now: Instant) {
        let Some((state, bars)) = &mut self.shown else { return };
        // The lock is not held while anything is written: those that report events must not wait for a terminal.
        let state = lock(state).clone();
        self.terminal.lock().is_unfinished = true;
        bars.measure(&state.layers, now);
        let status = bars.status(&state, now);
        if self.style.mode == Mode::Bars {
            bars.update(&state, &status, Term::stderr().size().0.into(), self.style.color);
            self.terminal.lock().is_unfinished = false;
            bars.status.tick();
        } else if now.duration_since(self.last_heartbeat) >= HEARTBEAT {
            self.last_heartbeat = now;
            write(&self.style.line(&status));
        }
    }

    /// Writes lines, above the bars if there are any.
    pub(crate) fn print(&self, lines: &str) {
        match &self.shown {
            Some((_, bars)) => bars.all.suspend(|| write(lines)),
            None => write(lines),
        }
    }
}
