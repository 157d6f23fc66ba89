//! Runs the pushes of several images of an archive: opens it once, pushes some images at a time, and reports each as it ends.

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::{StreamExt as _, stream};

use super::frame::Frame;
#[cfg(feature = "sandbox")]
use super::sandbox;
use super::stderr::{print_result, print_summary};
use crate::archive::shown;
use crate::cli::bundle::Bundle;
use crate::cli::output::PushOutput;
use crate::cli::push::{PUSHES, Push};
use crate::compress::size;
use crate::error::{Code, Error, Kind, Result};
use crate::file;
use crate::output::log::{Entry, Verbosity};
use crate::output::report::{self, ImageCounts, RunInfo, Totals};
use crate::push::{BundleOptions, Event, Events, ListedReference, Outcome, PushRequest, Pusher};

/// The largest list of images, in bytes.
const MAX_LIST: u64 = 16 << 20;

/// The most failures that are listed at the end.
const MAX_FAILURES: usize = 100;

pub(super) async fn run(command: Push, bundle: Bundle) -> Result<ExitCode> {
    let Push { request, mut options, reporting, output, sandbox, .. } = command;
    let (started_at, started) = (SystemTime::now(), tokio::time::Instant::now());
    let verbosity = reporting.verbosity;
    let frame = Frame::start(&request, &options, reporting)?;
    let references = bundle.list.as_deref().map(list).transpose()?;
    #[cfg(feature = "sandbox")]
    let _sandboxes = {
        // Its repositories are only known once the archive is open.
        options.repositories.create |= sandbox.is_some();
        sandbox::endpoint_override(sandbox, &request, &mut options, frame.log()).await?
    };
    #[cfg(not(feature = "sandbox"))]
    let _ = (sandbox, &mut options);
    let events = if verbosity == Verbosity::Normal {
        without_layers(Arc::clone(&frame.events))
    } else {
        Arc::clone(&frame.events)
    };
    let dry_run = options.dry_run;
    let pusher = Pusher::builder().options(options).on_event(move |event| events(event)).start().await?;
    let archive = pusher.open(&request.source, &frame.cancel).await?;
    let wanted = BundleOptions {
        prefixes: request.targets.iter().cloned().map(Into::into).collect(),
        references,
        exclude: bundle.exclude,
        keep_registry: bundle.keep_registry,
        docker_naming: bundle.docker_naming,
        image: request.image.clone(),
        tags: request.tags.clone(),
    };
    let planned = wanted.pushes(&archive)?;
    planned.notes.into_iter().for_each(|note| (frame.events)(Event::Note(note)));
    let all = planned.requests.len() + planned.unusable.len();
    let text = format!("{}: {all} images to push", request.source);
    frame.log().log(&Entry::info("images", text).with("archive", request.source.to_string()).with("images", all));

    let mut run = Progression::new(&frame, output, all);
    for (name, error) in planned.unusable {
        run.fail(&name, error)?;
    }
    let mut jobs = planned.requests.into_iter();
    let mut pushing = stream::FuturesUnordered::new();
    let push = |request: PushRequest| async {
        let name = name_of(&request);
        (name, pusher.push(request, frame.cancel.clone()).await)
    };
    loop {
        let is_over = frame.cancel.is_cancelled() || (bundle.fail_fast && run.images.failed > 0);
        while !is_over
            && pushing.len() < PUSHES
            && let Some(request) = jobs.next()
        {
            pushing.push(push(request));
        }
        let Some((name, outcome)) = pushing.next().await else { break };
        run.finish(&name, &outcome)?;
    }
    run.images.not_attempted = jobs.len();
    if frame.cancel.is_cancelled() {
        run.errors.push(Error::interrupted());
    }
    frame.end_progress();
    run.summarize(&report::Run {
        archive: &request.source.to_string(),
        dry_run,
        started_at,
        seconds: started.elapsed().as_secs_f64(),
        images: run.images,
        totals: &run.totals,
    })
}

/// Returns the name of the image of a push.
fn name_of(request: &PushRequest) -> String {
    request.targets.first().map(ToString::to_string).unwrap_or_default()
}

/// The pushes so far. Nothing is kept of an image but its counts, and the names of those that failed.
struct Progression<'a> {
    frame: &'a Frame,
    output: PushOutput,
    images: ImageCounts,
    totals: Totals,
    /// One error of each kind: they decide the exit code.
    errors: Vec<Error>,
    failures: Vec<String>,
}

impl<'a> Progression<'a> {
    fn new(frame: &'a Frame, output: PushOutput, all: usize) -> Self {
        let (images, totals) = (ImageCounts { all, ..ImageCounts::default() }, Totals::default());
        Self { frame, output, images, totals, errors: Vec::new(), failures: Vec::new() }
    }

    /// Reports the outcome of an image.
    ///
    /// # Errors
    /// If stdout or the report cannot be written.
    fn finish(&mut self, name: &str, outcome: &Outcome) -> Result<()> {
        let frame = self.frame;
        self.totals += outcome;
        match outcome.error() {
            Some(error) => self.note_failure(name, error),
            None if outcome.targets.iter().any(|target| target.changed) || outcome.dry_run => self.images.pushed += 1,
            None => self.images.unchanged += 1,
        }
        if !frame.is_quiet() || outcome.dry_run {
            print_summary(outcome, self.output, frame.log());
        }
        let error_text = |error: &Error| frame.ci.error_text(error);
        frame.log().write_raw(report::error_texts(outcome, &error_text));
        let line = report::image_line(name, outcome)?;
        match self.output {
            PushOutput::Text => print_result(&report::references(outcome), frame.log())?,
            PushOutput::Json | PushOutput::Jsonl => print_result(&line, frame.log())?,
        }
        frame.files.write_report(&line)
    }

    /// Reports an image that cannot be pushed at all.
    fn fail(&mut self, name: &str, error: Error) -> Result<()> {
        let error = Error::input(format!("cannot push {}", shown(name))).code(error.stable_code()).because(error);
        self.frame.log().write_raw(self.frame.ci.error_text(&error));
        self.note_failure(name, &error);
        Ok(())
    }

    fn note_failure(&mut self, name: &str, error: &Error) {
        self.images.failed += 1;
        if !self.errors.iter().any(|known| known.kind() == error.kind()) {
            self.errors.push(error.clone());
        }
        if self.failures.len() < MAX_FAILURES {
            self.failures.push(format!("failed: {}: {error}", shown(name)));
        }
    }

    /// Reports the whole run, and returns the exit code.
    fn summarize(&self, run: &report::Run<'_>) -> Result<ExitCode> {
        let frame = self.frame;
        let ImageCounts { all, pushed, unchanged, failed, not_attempted } = self.images;
        let done = if run.dry_run { "would be pushed" } else { "pushed" };
        let mut text = format!("{all} images: {pushed} {done}, {unchanged} already up to date, {failed} failed");
        if not_attempted > 0 {
            text += &format!(", {not_attempted} not attempted");
        }
        text += &format!("; {} sent; {}", size(self.totals.bytes_sent), report::duration(run.seconds));
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
        let info = RunInfo { display_name: &frame.display_name, collector: &frame.collector, error };
        let line = report::summary_line(run, info)?;
        if self.output != PushOutput::Text {
            print_result(&line, frame.log())?;
        }
        frame.files.write_report(&line)?;
        Ok(error.map_or(ExitCode::SUCCESS, |error| ExitCode::from(error.kind().exit_code())))
    }
}

/// Reads a list of images.
fn list(path: &Path) -> Result<Vec<ListedReference>> {
    let what = || if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let opened = if path == Path::new("-") { file::standard_input() } else { file::open(path) };
    let failed = |error| {
        Error::new(Kind::Usage, format!("cannot read the list of images {}", what()))
            .code(Code::ArgumentMissing)
            .because(error)
    };
    let mut text = String::new();
    opened.and_then(|file| file.take(MAX_LIST).read_to_string(&mut text)).map_err(failed)?;
    let references = ListedReference::list(&text);
    if references.is_empty() {
        return Err(Error::usage(format!("the list of images {} is empty", what()))
            .code(Code::ValueInvalid)
            .hint("Write one image name a line."));
    }
    Ok(references)
}

/// Drops the events of single layers and targets: each image gets one line when its push ends.
fn without_layers(events: Events) -> Events {
    Arc::new(move |event| {
        if matches!(
            event,
            Event::Spooled { .. } | Event::Request(_) | Event::Note(_) | Event::Warning(_) | Event::Retrying { .. }
        ) {
            events(event);
        }
    })
}
