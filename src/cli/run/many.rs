//! Runs many pushes, some at a time, and reports each as it ends. Of an image, only counts remain in memory.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::frame::Frame;
use super::stderr::print_summary;
use super::threads;
use crate::archive::shown;
use crate::cli::output::PushOutput;
use crate::cli::push::PUSHES;
use crate::cli::values::input_name;
use crate::compress::size;
use crate::error::{Code, Error, Kind, Result, one_line};
use crate::file;
use crate::output::log::{Entry, LogFormat, Verbosity};
use crate::output::report::{self, ImageCounts, PlannedTotals, RunInfo, Totals};
use crate::push::{Event, Events, Outcome, TagState, TargetOutcome};

/// How many threads a run starts beside those of its pushes.
pub(super) const THREADS: usize = 1;

/// The largest list or batch, in bytes.
const MAX_LIST: u64 = 64 << 20;

/// How long a reader of stdout may pause while pushes run, and after the last one.
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);
const STDOUT_WAIT: Duration = Duration::from_secs(60);

/// The most failures that are listed at the end or remembered, and the most characters of each.
const MAX_FAILURES: usize = 100;
const MAX_FAILURE: usize = 2000;

/// The pushes of a run so far.
pub(super) struct Pushes<'a> {
    frame: &'a Frame,
    output: PushOutput,
    /// The archive, or the list of pushes, as it was named.
    source: String,
    fail_fast: bool,
    /// What the pushes would do, if they are plans only.
    planned: Option<PlannedTotals>,
    started_at: SystemTime,
    started: Instant,
    images: ImageCounts,
    totals: Totals,
    /// One error of each kind: they decide the exit code.
    errors: Vec<Error>,
    failures: Vec<String>,
    /// The errors that were logged, each with the image that had it first.
    logged: HashMap<String, String>,
    /// Whether the report can be written.
    has_report: bool,
    /// Lines for stdout that wait for its reader.
    unsent: VecDeque<String>,
}

impl<'a> Pushes<'a> {
    /// Returns the state of a run of `all` pushes from `source` before the first of them.
    pub(super) fn new(frame: &'a Frame, output: PushOutput, source: String, all: usize) -> Self {
        Self {
            frame,
            output,
            source,
            fail_fast: false,
            planned: None,
            started_at: SystemTime::now(),
            started: Instant::now(),
            images: ImageCounts { all, ..ImageCounts::default() },
            totals: Totals::default(),
            errors: Vec::new(),
            failures: Vec::new(),
            logged: HashMap::new(),
            has_report: true,
            unsent: VecDeque::new(),
        }
    }

    /// Sets whether no push starts after a failure, and whether the pushes are plans only.
    pub(super) fn with(self, fail_fast: bool, dry_run: bool) -> Self {
        Self { fail_fast, planned: dry_run.then(PlannedTotals::default), ..self }
    }

    /// Runs the pushes, [`PUSHES`] at a time and each on any worker, and reports the whole run. Each of `jobs` is a push with
    /// the name of its image.
    ///
    /// # Errors
    /// If no thread can be started, or if a result cannot be serialized, which is a bug.
    pub(super) async fn run<F>(mut self, mut jobs: impl ExactSizeIterator<Item = F>) -> Result<ExitCode>
    where
        F: Future<Output = (String, Outcome)> + Send + 'static,
    {
        let frame = self.frame;
        let text = format!("{}: {} to push", self.source, images(self.images.all));
        let entry = Entry::info("images", text).with("archive", self.source.as_str()).with("images", self.images.all);
        frame.log().log(&entry);
        let results = ResultWriter::start()?;
        let mut pushing = JoinSet::new();
        loop {
            let is_over = frame.cancel.is_cancelled() || (self.fail_fast && self.images.failed > 0);
            if results.sender.is_closed() {
                // The reader is gone, or stdout cannot be written, which is reported at the end.
                self.unsent.clear();
            }
            // A slow reader of stdout delays the start of pushes, and stops none of those in progress.
            while !is_over
                && pushing.len() < PUSHES
                && self.unsent.len() < PUSHES
                && let Some(job) = jobs.next()
            {
                pushing.spawn(job);
            }
            tokio::select! {
                Some(ended) = pushing.join_next() => {
                    let (name, outcome) = threads::result_of(ended)?;
                    self.finish(&name, &outcome)?;
                }
                Some(space) = results.space(), if !self.unsent.is_empty() => {
                    if let Some(line) = self.unsent.pop_front() {
                        space.send(line);
                    }
                }
                // Once stdout is closed, its lines are dropped above and pushes go on.
                else => if !results.sender.is_closed() || is_over || jobs.len() == 0 { break },
            }
            if pushing.is_empty() && is_over {
                break;
            }
        }
        self.images.not_attempted = jobs.len();
        if frame.cancel.is_cancelled() {
            self.note_error(Error::interrupted());
        }
        frame.end_progress();
        self.summarize(results).await
    }

    /// Reports the outcome of an image.
    pub(super) fn finish(&mut self, name: &str, outcome: &Outcome) -> Result<()> {
        let frame = self.frame;
        self.totals += outcome;
        if let Some(planned) = &mut self.planned {
            *planned += outcome;
        }
        let is_planned = |target: &TargetOutcome| {
            target.planned_tags.iter().any(|tag| tag.state == TagState::Pushed) || target.layer_counts().upload > 0
        };
        let is_changed = |target: &TargetOutcome| if outcome.dry_run { is_planned(target) } else { target.changed };
        match outcome.error() {
            Some(error) => self.note_failure(name, error),
            None if outcome.targets.iter().any(is_changed) => self.images.pushed += 1,
            None => self.images.unchanged += 1,
        }
        if !frame.is_quiet() || outcome.dry_run {
            print_summary(outcome, self.output, frame.log());
        }
        let subject = shown(name);
        let error_text = |error: &Error| match error.kind() {
            // Reported once, at the end of the run.
            Kind::Interrupted => String::new(),
            _ => frame.ci.error_text(&self.not_repeated(error).about(&subject)),
        };
        frame.log().write_raw(report::error_texts(outcome, &error_text));
        for error in outcome.targets.iter().filter_map(|target| target.error.as_ref()) {
            if self.logged.len() < MAX_FAILURES {
                self.logged.entry(comparable(error)).or_insert_with(|| subject.clone());
            }
        }
        let line = report::image_line(name, outcome)?;
        self.write_report(&line);
        self.unsent.push_back(match self.output {
            PushOutput::Text => report::references(outcome),
            PushOutput::Json | PushOutput::Jsonl => line,
        });
        Ok(())
    }

    /// Returns an error without its causes and its advice if they were logged for another image. Programs get all of each.
    fn not_repeated(&self, error: &Error) -> Error {
        match self.logged.get(&comparable(error)) {
            Some(first) if self.frame.log().style().format == LogFormat::Text => {
                Error::new(error.kind(), format!("{error} (the same error as for {first})")).code(error.stable_code())
            }
            _ => error.clone(),
        }
    }

    /// Appends to the report. Once that fails, nothing more is written to it, and the run fails at its end.
    fn write_report(&mut self, line: &str) {
        if !self.has_report {
            return;
        }
        if let Err(error) = self.frame.files.write_report(line) {
            self.has_report = false;
            self.note_error(error);
        }
    }

    /// Reports an error that is not one of an image.
    fn note_error(&mut self, error: Error) {
        self.frame.log().write_raw(self.frame.ci.error_text(&error));
        self.errors.push(error);
    }

    fn note_failure(&mut self, name: &str, error: &Error) {
        self.images.failed += 1;
        if !self.errors.iter().any(|known| known.kind() == error.kind()) {
            self.errors.push(error.clone());
        }
        if self.failures.len() < MAX_FAILURES {
            let error = self.not_repeated(error);
            let causes: Vec<String> = std::iter::once(error.to_string()).chain(error.causes()).collect();
            self.failures.push(format!("failed: {}: {}", shown(name), one_line(&causes.join(": "), MAX_FAILURE)));
        }
    }

    /// Reports the whole run, and returns the exit code.
    async fn summarize(mut self, results: ResultWriter) -> Result<ExitCode> {
        let (frame, seconds) = (self.frame, self.started.elapsed().as_secs_f64());
        let ImageCounts { all, pushed, unchanged, failed, not_attempted } = self.images;
        let planned = self.planned.as_ref().map(PlannedTotals::sums);
        let done = if planned.is_some() { "would be pushed" } else { "pushed" };
        let mut text = format!("{}: {pushed} {done}, {unchanged} already up to date, {failed} failed", images(all));
        if not_attempted > 0 {
            text += &format!(", {not_attempted} not attempted");
        }
        text += &match planned {
            Some(planned) => format!("; {planned}; nothing was sent"),
            None => format!("; {} sent; {}", size(self.totals.bytes_sent), report::duration(seconds)),
        };
        if planned.is_none() {
            frame.ci.summarize_images(&format!("{}: {text}", self.source), &self.failures);
        }
        let entry = Entry::info("images_done", text)
            .with("images", all)
            .with("pushed", pushed)
            .with("unchanged", unchanged)
            .with("failed", failed)
            .with("not_attempted", not_attempted);
        if !frame.is_quiet() || failed + not_attempted > 0 {
            self.failures.iter().for_each(|failure| frame.log().write_entry(&Entry::info("failure", failure.clone())));
            frame.log().write_entry(&entry);
        }
        let error = Error::most_severe(&self.errors);
        let run = report::Run {
            archive: Some(&self.source),
            planned,
            started_at: self.started_at,
            seconds,
            images: self.images,
            totals: &self.totals,
        };
        let info = RunInfo { display_name: &frame.display_name, collector: &frame.collector, error };
        let line = report::summary_line(&run, info)?;
        self.write_report(&line);
        if self.output != PushOutput::Text {
            self.unsent.push_back(line);
        }
        frame.log().drain();
        if let Err(error) = results.finish(std::mem::take(&mut self.unsent)).await {
            self.note_error(error);
        }
        let error = Error::most_severe(&self.errors);
        Ok(error.map_or(ExitCode::SUCCESS, |error| ExitCode::from(error.kind().exit_code())))
    }
}

/// Writes results to stdout on a thread of its own: a reader that is slow stops no push.
struct ResultWriter {
    sender: mpsc::Sender<String>,
    done: oneshot::Receiver<io::Result<()>>,
}

impl ResultWriter {
    fn start() -> Result<Self> {
        let ((sender, mut lines), (written, done)) = (mpsc::channel::<String>(1), oneshot::channel());
        let writing = move || {
            let mut write = || -> io::Result<()> {
                let stdout = file::standard_output()?;
                while let Some(line) = lines.blocking_recv() {
                    file::write_all_within(&stdout, line.as_bytes(), LONGEST_PAUSE)?;
                }
                Ok(())
            };
            let _unread = written.send(write());
        };
        std::thread::Builder::new().name("results".into()).spawn(writing).map_err(threads::too_few)?;
        Ok(Self { sender, done })
    }

    /// Waits until there is space for a line. `None` once stdout cannot be written.
    async fn space(&self) -> Option<mpsc::Permit<'_, String>> {
        self.sender.reserve().await.ok()
    }

    /// Writes the last lines, and waits until all are written. A reader that is gone is no failure.
    async fn finish(self, lines: VecDeque<String>) -> Result<()> {
        let Self { sender, done } = self;
        let written = tokio::time::timeout(STDOUT_WAIT, async {
            for line in lines {
                if sender.send(line).await.is_err() {
                    break;
                }
            }
            drop(sender);
            done.await
        });
        match written.await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Ok(Ok(Err(error))) => Err(unwritten().because(error)),
            Ok(Err(_)) => Err(Error::internal("the thread that writes results ended")),
            Err(_) => Err(unwritten().because("nothing reads it")),
        }
    }
}

/// Returns all of an error except the ID of its request, which differs for each image.
fn comparable(error: &Error) -> String {
    let text = report::error_text(error);
    match error.service_error().and_then(|service_error| service_error.request_id.as_ref()) {
        Some(id) => text.replace(id, ""),
        None => text,
    }
}

fn unwritten() -> Error {
    Error::new(Kind::Input, "cannot write to stdout").code(Code::OutputFailed)
}

fn images(count: usize) -> String {
    if count == 1 { "1 image".to_owned() } else { format!("{count} images") }
}

/// Reads a list of images or a batch, which `what` names.
///
/// # Errors
/// If it cannot be read, or is no text.
pub(super) fn read_list(what: &str, path: &Path) -> Result<String> {
    let is_standard_input = path == Path::new("-");
    let opened = if is_standard_input { file::standard_input() } else { file::open(path) };
    let mut text = String::new();
    let read = opened.and_then(|file| file.take(MAX_LIST + 1).read_to_string(&mut text));
    let read =
        read.and_then(|len| if len as u64 > MAX_LIST { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(()) });
    read.map_err(|error| {
        let text = format!("cannot read the {what} {}", input_name(path));
        Error::new(Kind::Usage, text).code(Code::ArgumentMissing).because(error)
    })?;
    Ok(text)
}

/// Drops the events of single layers and targets, unless they are explained: each image gets one line when its push ends.
pub(super) fn events_of_many(events: &Events, verbosity: Verbosity) -> Events {
    let events = Arc::clone(events);
    if verbosity != Verbosity::Normal {
        return events;
    }
    Arc::new(move |event| {
        if matches!(
            event,
            Event::Spooled { .. } | Event::Request(_) | Event::Note(_) | Event::Warning(_) | Event::Retrying { .. }
        ) {
            events(event);
        }
    })
}
