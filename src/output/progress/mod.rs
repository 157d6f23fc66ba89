//! What happens, shown while it happens: bars on a terminal, lines in a log, or nothing.
//!
//! Positions are read from meters when a picture is due, so a display can be late but never wrong. All of it goes to
//! stderr.

mod board;
mod fit;
mod flow;
mod rows;
mod screen;

use std::io::Write as _;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use board::Board;
use rows::{Places, Tone, rows};
use screen::Screen;

use crate::output::log::{Entry, Level, LogFormat, sanitize_line, wrapped};
use crate::push::{Event, Events};
pub use rows::ColorMode;
pub use screen::ask_secret;

/// How often a picture of the bars is due.
const FRAME: Duration = Duration::from_millis(100);

/// How often is looked how far it is where no picture is shown.
const LOOK: Duration = Duration::from_millis(500);

/// How often a log gets a line: often enough that no CI system takes silence for a hang.
const LINE: Duration = Duration::from_secs(5);

/// How progress is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// A bar a layer and one in total.
    Bars,
    /// Lines.
    Plain,
    /// Not at all.
    Quiet,
}

/// What is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verbosity {
    /// What people want to know.
    Normal,
    /// What explains it, too.
    Details,
    /// And every request.
    Requests,
}

/// How everything on stderr looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Style {
    /// How progress is shown.
    pub mode: Mode,
    /// What is told.
    pub verbosity: Verbosity,
    /// How lines are written. Bars are for people only.
    pub format: LogFormat,
    /// Whether there are colours.
    pub color: ColorMode,
}

impl Style {
    /// An entry as it stands in a log or on a terminal, with its line end.
    pub fn line(self, entry: &Entry) -> String {
        match self.format {
            LogFormat::Json => entry.json(SystemTime::now()),
            LogFormat::Text => self.lines(entry) + "\n",
        }
    }

    /// An error's text with its first word in colour.
    pub fn failure(self, text: &str) -> String {
        self.marked(text, "error:", Tone::Failure)
    }

    /// The words of an entry. A terminal breaks lines itself.
    fn lines(self, entry: &Entry) -> String {
        let text = entry.text();
        let fit = |line: &str| if self.mode == Mode::Bars { sanitize_line(line) } else { wrapped(line) };
        let lines: Vec<String> = text.lines().map(fit).collect();
        self.marked(&lines.join("\n"), "warning:", Tone::Warning)
    }

    fn marked(self, text: &str, mark: &str, tone: Tone) -> String {
        let marked = text.strip_prefix(mark).map(|rest| format!("{}{rest}", self.color.paint(tone, mark)));
        marked.unwrap_or_else(|| text.to_owned())
    }
}

/// A display that is being kept up to date.
pub struct Progress {
    display: Arc<Mutex<Display>>,
    ticker: Option<(mpsc::Sender<()>, thread::JoinHandle<()>)>,
}

struct Display {
    style: Style,
    board: Board,
    places: Places,
    screen: Screen,
    /// When a log got its last line about how things stand.
    beat: Instant,
    is_over: bool,
}

impl Progress {
    /// Starts a display of a push to so many targets.
    pub fn start(style: Style, targets: usize) -> Self {
        let now = Instant::now();
        let display = Display {
            style,
            board: Board::new(targets, now),
            places: Places::default(),
            screen: Screen::new(),
            beat: now,
            is_over: false,
        };
        let display = Arc::new(Mutex::new(display));
        let pause = match style.mode {
            Mode::Bars => Some(FRAME),
            Mode::Plain => Some(LOOK),
            Mode::Quiet => None,
        };
        let ticker = pause.and_then(|pause| {
            let (stop, stopped) = mpsc::channel();
            let ticking = Arc::clone(&display);
            let tick = move || {
                while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                    lock(&ticking).tick(Instant::now());
                }
            };
            // Without a thread the display stands still, and the push goes on.
            thread::Builder::new().name("progress".into()).spawn(tick).ok().map(|handle| (stop, handle))
        });
        Self { display, ticker }
    }

    /// What to hand to a push.
    pub fn events(&self) -> Events {
        let display = Arc::clone(&self.display);
        Arc::new(move |event| lock(&display).take(event))
    }

    /// Who is told something from outside of the push.
    pub fn teller(&self) -> impl Fn(&Entry) + Send + Sync + 'static {
        let display = Arc::clone(&self.display);
        move |entry| lock(&display).say(entry)
    }

    /// Who is told that the push was interrupted, and ends.
    pub fn interruption(&self) -> impl Fn(&Entry) + Send + Sync + 'static {
        let display = Arc::clone(&self.display);
        move |entry| {
            let mut display = lock(&display);
            display.board.end();
            display.say(entry);
        }
    }

    /// Who takes the bars away when the process ends at once.
    pub fn curtain(&self) -> impl Fn() + Send + Sync + 'static {
        let display = Arc::clone(&self.display);
        move || lock(&display).end()
    }

    /// Shows what is being done, in place of what was before, until something else is said.
    pub fn now(&self, text: String) {
        lock(&self.display).board.now(text, Instant::now());
    }

    /// Clears the bars away.
    pub fn finish(mut self) {
        if let Some((stop, handle)) = self.ticker.take() {
            drop(stop);
            let _panicked = handle.join();
        }
        lock(&self.display).end();
    }
}

impl Display {
    fn take(&mut self, event: Event) {
        if matches!(event, Event::Asked(_)) && self.style.verbosity != Verbosity::Requests {
            return;
        }
        // Where each layer has a row of its own its lot is seen there.
        let is_in_a_row = matches!(
            event,
            Event::Planned { .. } | Event::Arrived { .. } | Event::Mounted { .. } | Event::Finishing(_)
        );
        let is_shown = is_in_a_row && self.style.mode == Mode::Bars && self.style.verbosity == Verbosity::Normal;
        if let Some(entry) = self.board.take(event, Instant::now()).filter(|_| !is_shown) {
            self.say(&entry);
        }
    }

    fn tick(&mut self, now: Instant) {
        if self.is_over {
            return;
        }
        self.board.look(now);
        match self.style.mode {
            Mode::Bars => {
                let size = self.screen.size();
                let rows = rows(&self.board, &mut self.places, size, now, self.style.color);
                self.screen.show(rows, size);
            }
            Mode::Plain if now.duration_since(self.beat) >= LINE => {
                self.beat = now;
                let entry = self.board.beat(now);
                self.say(&entry);
            }
            Mode::Plain | Mode::Quiet => {}
        }
    }

    fn say(&mut self, entry: &Entry) {
        let is_wanted = entry.level() != Level::Debug || self.style.verbosity != Verbosity::Normal;
        match self.style.mode {
            Mode::Quiet => {}
            _ if !is_wanted => {}
            Mode::Bars => self.screen.say(&self.style.lines(entry)),
            Mode::Plain => {
                let _closed_log = std::io::stderr().write_all(self.style.line(entry).as_bytes());
            }
        }
    }

    fn end(&mut self) {
        self.is_over = true;
        self.screen.clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
}

#[cfg(test)]
mod tests;
