//! The display of a push: bars on a terminal, a line every few seconds in a log. It belongs to the thread that writes.
//!
//! Positions are read from meters when a display is due, so it can be late but never wrong.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::bars::Bars;
use super::rate::Totals;
use super::rows::{Slots, rows};
use super::screen::Screen;
use super::state::State;
use super::status::heartbeat;
use crate::output::log::{Mode, Style};

/// How often bars are drawn.
const FRAME: Duration = Duration::from_millis(100);

/// How often the rate is measured where there are no bars.
const MEASURE: Duration = Duration::from_millis(500);

/// How often a log gets a line: often enough that no CI system ends the job for a lack of output.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// The state of a push, shared by those that report events and the one that displays it.
pub(crate) type SharedState = Arc<Mutex<State>>;

/// What stderr shows.
pub(crate) struct Display {
    style: Style,
    state: Option<SharedState>,
    slots: Slots,
    bars: Bars,
    screen: Screen,
    last_heartbeat: Instant,
    last_totals: Totals,
}

impl Display {
    pub(crate) fn new(style: Style) -> Self {
        Self {
            style,
            state: None,
            slots: Slots::default(),
            bars: Bars::new(),
            screen: Screen::new(),
            last_heartbeat: Instant::now(),
            last_totals: Totals::default(),
        }
    }

    /// Starts to display a push.
    pub(crate) fn show(&mut self, state: SharedState) {
        self.state = Some(state);
        self.last_heartbeat = Instant::now();
    }

    /// Ends the display of a push, and removes the bars.
    pub(crate) fn hide(&mut self) {
        self.state = None;
        self.screen.clear();
    }

    /// How often [`tick`](Self::tick) is due, if at all.
    pub(crate) fn interval(&self) -> Option<Duration> {
        self.state.as_ref()?;
        match self.style.mode {
            Mode::Bars => Some(FRAME),
            Mode::Plain => Some(MEASURE),
            Mode::Quiet => None,
        }
    }

    /// Draws the bars, or writes a line if one is due.
    pub(crate) fn tick(&mut self, now: Instant) {
        let Some(state) = self.state.clone() else { return };
        // Not held while anything is written: those that report events must not wait for a terminal.
        let mut state = lock(&state);
        state.measure(now);
        match self.style.mode {
            Mode::Bars => {
                let size = self.screen.size();
                let rows = rows(&state, &mut self.slots, size, now, self.style.color);
                drop(state);
                self.screen.show(self.bars.draw(rows, size.0), size);
            }
            Mode::Plain if now.duration_since(self.last_heartbeat) >= HEARTBEAT => {
                self.last_heartbeat = now;
                let entry = heartbeat(&state, &mut self.last_totals, now);
                drop(state);
                self.print(&self.style.line(&entry));
            }
            Mode::Plain | Mode::Quiet => {}
        }
    }

    /// Writes lines, above the bars if there are any.
    pub(crate) fn print(&self, lines: &str) {
        self.screen.print(lines);
    }
}

pub(super) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
