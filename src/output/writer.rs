//! The thread that writes everything on stderr, behind a bounded queue.
//!
//! A terminal or a pipe that is not read blocks this thread and nothing else. Lines of the log that do not fit the queue are
//! dropped, the oldest first, and counted: the first line that is written afterwards has their number. Results and
//! errors are never dropped; the end of the program waits for them, for a limited time.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::display::Display;
use super::log::{Entry, Level, Mode, SharedStatus, Style, Verbosity};
use super::stderr;

/// The bytes of lines that wait at most. Lines that must not be dropped may exceed it.
const CAPACITY: usize = 128 << 10;

/// How long the end of the program waits for a line to be read.
const LAST_WAIT: Duration = Duration::from_secs(3);

/// Owns the thread. When it is dropped, rows are removed and what waits is written.
pub(crate) struct Writer {
    log: Log,
}

/// A handle to write with. Nothing here blocks.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    style: Style,
    queue: Arc<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

/// What is to be done.
#[derive(Debug)]
enum Item {
    Lines { text: String, may_be_dropped: bool },
    Show(Option<SharedStatus>),
}

#[derive(Debug, Default)]
struct Waiting {
    items: VecDeque<Item>,
    bytes: usize,
    dropped: u64,
    is_writing: bool,
    is_closed: bool,
    /// How often the thread took something.
    steps: u64,
    /// The end of the program waited for too long: stderr is not read.
    is_abandoned: bool,
}

/// What the thread does next.
enum Next {
    Item(Item),
    Dropped(u64),
    Tick,
    End,
}

impl Writer {
    /// Starts the thread. If none can be started, lines are written at once, and no progress is displayed.
    pub(crate) fn start(style: Style) -> Self {
        let queue = Arc::<Queue>::default();
        let its = Arc::clone(&queue);
        let write = move || {
            let _closed_at_the_end = Closing(&its);
            write(&its, Display::new(style), style);
        };
        if thread::Builder::new().name("writer".into()).spawn(write).is_err() {
            queue.close();
        }
        Self { log: Log { style, queue } }
    }

    /// The handle to write with.
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.log.show(None);
        self.log.drain();
        self.log.queue.close();
    }
}

/// Closes the queue even if the thread panics. From then on lines are written at once.
struct Closing<'a>(&'a Queue);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
        let items = std::mem::take(&mut self.0.lock().items);
        items.into_iter().for_each(|item| self.0.add(item));
    }
}

impl Log {
    /// How stderr looks.
    pub(crate) fn style(&self) -> Style {
        self.style
    }

    /// Logs an entry, unless verbosity or mode exclude it. It may be dropped.
    pub(crate) fn log(&self, entry: &Entry) {
        let is_wanted = entry.level() != Level::Debug || self.style.verbosity != Verbosity::Normal;
        if is_wanted && self.style.mode != Mode::Quiet {
            self.add(self.style.line(entry), true);
        }
    }

    /// Writes lines that may be dropped, as they are.
    pub(crate) fn log_raw(&self, lines: String) {
        self.add(lines, true);
    }

    /// Writes an entry.
    pub(crate) fn write_entry(&self, entry: &Entry) {
        self.add(self.style.line(entry), false);
    }

    /// Writes lines as they are: a CI system may act on them.
    pub(crate) fn write_raw(&self, lines: String) {
        self.add(lines, false);
    }

    /// Starts to display a push, or ends it.
    pub(super) fn show(&self, push: Option<SharedStatus>) {
        self.queue.add(Item::Show(push));
    }

    /// Waits until all is written, as long as stderr is read: this is for the end of the program.
    pub(crate) fn drain(&self) {
        let mut waiting = self.queue.lock();
        let (mut steps, mut until) = (waiting.steps, Instant::now() + LAST_WAIT);
        while !waiting.is_closed && !waiting.is_abandoned && waiting.has_work() {
            waiting = self.queue.wait(waiting, until.saturating_duration_since(Instant::now()));
            if waiting.steps != steps {
                (steps, until) = (waiting.steps, Instant::now() + LAST_WAIT);
            }
            waiting.is_abandoned = Instant::now() >= until;
        }
    }

    fn add(&self, text: String, may_be_dropped: bool) {
        if !text.is_empty() {
            self.queue.add(Item::Lines { text, may_be_dropped });
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    fn wait<'a>(&self, waiting: MutexGuard<'a, Waiting>, time: Duration) -> MutexGuard<'a, Waiting> {
        self.changed.wait_timeout(waiting, time).unwrap_or_else(PoisonError::into_inner).0
    }

    fn add(&self, item: Item) {
        let mut waiting = self.lock();
        match item {
            Item::Lines { text, .. } if waiting.is_closed => return stderr::write(&text),
            _ if waiting.is_closed => return,
            item => waiting.add(item),
        }
        drop(waiting);
        self.changed.notify_all();
    }

    /// Waits for what comes next, at most until `tick`.
    fn next(&self, tick: Option<Instant>) -> Next {
        let mut waiting = self.lock();
        loop {
            let left = tick.map(|tick| tick.saturating_duration_since(Instant::now()));
            let next = match waiting.dropped {
                _ if left.is_some_and(|left| left.is_zero()) => Some(Next::Tick),
                0 => waiting.take().map(Next::Item),
                _ => Some(Next::Dropped(std::mem::take(&mut waiting.dropped))),
            };
            waiting.is_writing = next.is_some();
            if let Some(next) = next {
                waiting.steps += 1;
                return next;
            }
            self.changed.notify_all();
            if waiting.is_closed {
                return Next::End;
            }
            waiting = self.wait(waiting, left.unwrap_or(Duration::from_secs(3600)));
        }
    }
}

impl Waiting {
    fn add(&mut self, item: Item) {
        self.bytes += item.len();
        self.items.push_back(item);
        while self.bytes > CAPACITY
            && let Some(oldest) = self.items.iter().position(Item::may_be_dropped)
            && let Some(item) = self.items.remove(oldest)
        {
            self.bytes -= item.len();
            self.dropped += 1;
        }
    }

    fn has_work(&self) -> bool {
        self.is_writing || self.dropped > 0 || !self.items.is_empty()
    }

    fn take(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.bytes -= item.len();
        Some(item)
    }
}

impl Item {
    fn len(&self) -> usize {
        if let Self::Lines { text, .. } = self { text.len() } else { 0 }
    }

    fn may_be_dropped(&self) -> bool {
        matches!(self, Self::Lines { may_be_dropped: true, .. })
    }
}

/// The thread.
fn write(queue: &Queue, mut display: Display, style: Style) {
    let mut tick = None;
    loop {
        match queue.next(tick) {
            Next::Item(Item::Lines { text, .. }) => display.print(&text),
            Next::Item(Item::Show(push)) => display.show(push),
            Next::Dropped(lines) => {
                let text = format!("{lines} lines of the log were dropped because stderr was not read");
                let entry = Entry::new(Level::Warning, "dropped", text).with("lines", lines);
                display.print(&style.line(&entry));
            }
            Next::Tick => {
                display.tick(Instant::now());
                tick = None;
            }
            Next::End => return,
        }
        let now = Instant::now();
        tick = display.interval().map(|interval| tick.unwrap_or(now + interval));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, may_be_dropped: bool) -> Item {
        Item::Lines { text: text.repeat(1 << 10), may_be_dropped }
    }

    #[test]
    fn the_oldest_lines_are_dropped_and_counted_and_results_are_not() {
        let queue = Queue::default();
        queue.add(line("a", false));
        (0..300).for_each(|_| queue.add(line("b", true)));
        queue.add(line("c", true));
        queue.add(line("d", false));
        assert_eq!(queue.lock().bytes, CAPACITY);
        assert!(matches!(queue.next(None), Next::Dropped(175)), "303 KiB are 175 too many");
        let mut texts = Vec::new();
        while let Some(Item::Lines { text, .. }) = queue.lock().take() {
            texts.push(text.chars().next().unwrap());
        }
        assert_eq!((texts.len(), texts[0], texts[1]), (128, 'a', 'b'));
        assert_eq!(texts[126..], ['c', 'd'], "the last ones stay");
        assert_eq!(queue.lock().bytes, 0);
    }

    #[test]
    fn a_thread_that_panics_closes_the_queue() {
        let queue = Queue::default();
        queue.add(Item::Show(None));
        drop(Closing(&queue));
        let waiting = queue.lock();
        assert!(waiting.is_closed && waiting.items.is_empty());
    }

    #[test]
    fn what_must_not_be_dropped_may_exceed_the_bound() {
        let queue = Queue::default();
        (0..300).for_each(|_| queue.add(line("a", false)));
        let waiting = queue.lock();
        assert_eq!((waiting.items.len(), waiting.dropped), (300, 0));
    }

    #[test]
    fn a_display_is_due_however_many_lines_wait() {
        let queue = Queue::default();
        queue.add(line("a", true));
        assert!(matches!(queue.next(Some(Instant::now())), Next::Tick));
        assert!(matches!(queue.next(Some(Instant::now() + Duration::from_secs(60))), Next::Item(_)));
    }
}
