//! What happens, shown while it happens: bars on a terminal, plain lines in a log, or nothing.
//!
//! Positions are read from meters when a picture is due, so a display can be late but never wrong. All of it goes to
//! stderr.

use std::io::Write as _;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::layer::{Meter, size};
use crate::push::{Event, Events, ImageSummary, Planned};

/// How often a picture of the bars is due.
const FRAME: Duration = Duration::from_millis(100);

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
pub enum Tell {
    /// What people want to know.
    Usual,
    /// What explains it, too.
    Reasons,
    /// And every request.
    Requests,
}

/// A display that is being kept up to date.
pub struct Progress {
    board: Arc<Mutex<Board>>,
    ticker: Option<(mpsc::Sender<()>, thread::JoinHandle<()>)>,
}

struct Board {
    mode: Mode,
    tell: Tell,
    started: Instant,
    bars: MultiProgress,
    /// What is being done with the archive, as long as it is.
    now: Option<(String, ProgressBar)>,
    total: Option<ProgressBar>,
    uploads: Vec<Upload>,
}

struct Upload {
    layer: String,
    meter: Arc<Meter>,
    /// From the moment that it moves, so that only layers under way take room on the screen.
    bar: Option<ProgressBar>,
    arrived: bool,
}

impl Progress {
    /// Starts a display.
    pub fn start(mode: Mode, tell: Tell) -> Self {
        let board = Board {
            mode,
            tell,
            started: Instant::now(),
            bars: MultiProgress::with_draw_target(match mode {
                Mode::Bars => ProgressDrawTarget::stderr_with_hz(15),
                Mode::Plain | Mode::Quiet => ProgressDrawTarget::hidden(),
            }),
            now: None,
            total: None,
            uploads: Vec::new(),
        };
        let board = Arc::new(Mutex::new(board));
        let pause = match mode {
            Mode::Bars => Some(FRAME),
            Mode::Plain => Some(LINE),
            Mode::Quiet => None,
        };
        let ticker = pause.and_then(|pause| {
            let (stop, stopped) = mpsc::channel();
            let ticking = Arc::clone(&board);
            let tick = move || {
                while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                    lock(&ticking).tick();
                }
            };
            // Without a thread the display stands still, and the push goes on.
            thread::Builder::new().name("progress".into()).spawn(tick).ok().map(|handle| (stop, handle))
        });
        Self { board, ticker }
    }

    /// What to hand to a push.
    pub fn events(&self) -> Events {
        let board = Arc::clone(&self.board);
        Arc::new(move |event| lock(&board).take(event))
    }

    /// Writes lines above the bars.
    pub fn say(&self, text: &str) {
        let board = lock(&self.board);
        text.lines().for_each(|line| board.say(line));
    }

    /// Shows what is being done, in place of what was before, until something else is said.
    pub fn now(&self, text: String) {
        lock(&self.board).now(text);
    }

    /// Whether nothing is shown.
    pub fn is_quiet(&self) -> bool {
        lock(&self.board).mode == Mode::Quiet
    }

    /// Clears the bars away.
    pub fn finish(mut self) {
        if let Some((stop, handle)) = self.ticker.take() {
            drop(stop);
            let _panicked = handle.join();
        }
        let board = lock(&self.board);
        let _closed_terminal = board.bars.clear();
    }
}

impl Board {
    fn take(&mut self, event: Event) {
        match event {
            Event::Detail(text) if self.tell != Tell::Usual => self.say(&text),
            Event::Asked(exchange) if self.tell == Tell::Requests => self.say(&exchange.to_string()),
            Event::Detail(_) | Event::Asked(_) | Event::Reading { .. } => {}
            Event::Spooled(bytes) => self.now(format!("{} of the archive are in a temporary file", size(bytes))),
            Event::Opened(image) => {
                if let Some((_, bar)) = self.now.take() {
                    bar.finish_and_clear();
                }
                self.say(&opened(&image));
            }
            Event::Note(text) => self.say(&format!("note: {text}")),
            Event::Warning(text) => self.say(&format!("warning: {text}")),
            Event::Planned { layer, bytes, action: Planned::Reuse(why), .. } => {
                self.say(&format!("layer {layer}  {:>10}  reused: {why}", size(bytes)));
            }
            Event::Planned { layer, bytes, action: Planned::Mount(why), .. } => {
                self.say(&format!("layer {layer}  {:>10}  mount: {why}", size(bytes)));
            }
            Event::Planned { layer, bytes, action: Planned::Upload { why, meter }, .. } => {
                if self.mode == Mode::Plain {
                    self.say(&format!("layer {layer}  {:>10}  upload: {why}", size(bytes)));
                }
                self.add(layer, meter);
            }
            Event::Arrived { meter, sent } => self.arrived(&meter, sent),
            Event::Mounted { layer, bytes } => self.say(&format!("layer {layer}  {:>10}  mounted", size(bytes))),
            Event::Finishing(target) => self.say(&format!("all layers are in {target}; putting the manifest")),
        }
    }

    fn now(&mut self, text: String) {
        let bar = || self.bars.add(ProgressBar::new_spinner().with_style(line_style()));
        self.now.get_or_insert_with(|| (String::new(), bar())).0 = text;
    }

    fn add(&mut self, layer: String, meter: Arc<Meter>) {
        let total = self
            .total
            .get_or_insert_with(|| self.bars.add(ProgressBar::new(0).with_style(bar_style()).with_message("total")));
        total.inc_length(meter.total());
        self.uploads.push(Upload { layer, meter, bar: None, arrived: false });
    }

    fn arrived(&mut self, meter: &Arc<Meter>, sent: u64) {
        let Some(upload) = self.uploads.iter_mut().find(|upload| Arc::ptr_eq(&upload.meter, meter)) else { return };
        upload.arrived = true;
        if let Some(bar) = upload.bar.take() {
            bar.finish_and_clear();
        }
        let line = format!("layer {}  {:>10}  sent", upload.layer, size(sent));
        self.say(&line);
    }

    fn tick(&mut self) {
        if let Some((line, bar)) = &self.now {
            match self.mode {
                Mode::Bars => bar.set_message(line.clone()),
                Mode::Plain | Mode::Quiet => self.say(line),
            }
        }
        if self.uploads.is_empty() {
            return;
        }
        let position: u64 = self.uploads.iter().map(|upload| upload.meter.position()).sum();
        let sent: u64 = self.uploads.iter().map(|upload| upload.meter.sent()).sum();
        let total: u64 = self.uploads.iter().map(|upload| upload.meter.total()).sum();
        let arrived = self.uploads.iter().filter(|upload| upload.arrived).count();
        let rate = (sent as f64 / self.started.elapsed().as_secs_f64().max(0.001)) as u64;
        match self.mode {
            Mode::Bars => {
                let Some(total) = &self.total else { return };
                let moving = |upload: &&mut Upload| !upload.arrived && upload.meter.sent() > 0;
                for Upload { layer, meter, bar, .. } in self.uploads.iter_mut().filter(moving) {
                    let bar = bar.get_or_insert_with(|| {
                        let bar = ProgressBar::new(meter.total()).with_style(bar_style()).with_message(layer.clone());
                        self.bars.insert_before(total, bar)
                    });
                    bar.set_position(meter.position());
                    bar.set_prefix(format!("{} sent", size(meter.sent())));
                }
                total.set_position(position);
                total.set_prefix(format!("{} sent, {}/s", size(sent), size(rate)));
            }
            Mode::Plain if arrived < self.uploads.len() => {
                let percent = position * 100 / total.max(1);
                let layers = self.uploads.len();
                self.say(&format!(
                    "{percent:>3} % of {} packed and sent as {} at {}/s, {arrived} of {layers} layers arrived",
                    size(total),
                    size(sent),
                    size(rate)
                ));
            }
            Mode::Plain | Mode::Quiet => {}
        }
    }

    fn say(&self, line: &str) {
        let line = harmless(line);
        match self.mode {
            Mode::Bars => {
                let _closed_terminal = self.bars.println(&line);
            }
            Mode::Plain => {
                let _closed_log = writeln!(std::io::stderr(), "{line}");
            }
            Mode::Quiet => {}
        }
    }
}

/// Text that may hold words of others, names in an archive and answers of registries, without what the agents of CI systems take
/// for a command of the step's: `##vso[...]` and `##[...]` anywhere in a line, `::...` at its start.
pub fn harmless(text: &str) -> String {
    let line = |line: &str| {
        let line = line.replace("##", "# #");
        let start = line.len() - line.trim_start().len();
        if line[start..].starts_with("::") { format!("{}: {}", &line[..start], &line[start + 1..]) } else { line }
    };
    text.split_inclusive('\n').map(line).collect()
}

fn opened(image: &ImageSummary) -> String {
    let name = match (image.names.first(), image.image_ids.first()) {
        (Some(name), _) => name.clone(),
        (None, Some(id)) => id.short(),
        (None, None) => "an image".into(),
    };
    let about = std::iter::once(image.format.as_str()).chain(image.platforms.iter().map(String::as_str));
    let about = about.collect::<Vec<_>>().join(", ");
    let layers = if image.layers == 1 { "layer" } else { "layers" };
    format!("{name} ({about}): {} {layers}, {}", image.layers, size(image.archive_bytes))
}

fn line_style() -> ProgressStyle {
    ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn bar_style() -> ProgressStyle {
    // The template is a constant and right; if not, a plain bar does.
    let style = ProgressStyle::with_template("{msg:19} [{bar:30}] {percent:>3}%  {prefix}");
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
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
mod tests {
    use super::*;

    #[test]
    fn no_line_is_a_command_of_a_ci_system() {
        assert_eq!(
            harmless("a ##vso[task.x]b\n ::set-env::c\r\n###[d]"),
            "a # #vso[task.x]b\n : :set-env::c\r\n# ##[d]"
        );
        let same = "error: h.example:443/app::1 # 1\n\n  because: ::\n";
        assert_eq!(harmless(same), same);
    }
}
