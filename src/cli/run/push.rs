//! Runs a push: opens its outputs, pushes, and reports the outcome.

use std::process::ExitCode;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::frame::Frame;
#[cfg(feature = "sandbox")]
use super::sandbox;
use super::stderr::{print_read_back, print_result, print_summary};
use crate::cli::output::PushOutput;
use crate::cli::push::Push;
use crate::error::{Error, Result};
use crate::output::report::{self, RunInfo, Timeline};
use crate::push::{Event, Events, Options, Outcome, PushRequest, Pusher};

pub(super) async fn run(command: Push) -> Result<ExitCode> {
    let Push { request, mut options, reporting, output, sandbox, .. } = command;
    let frame = Frame::start(request.sources().map(|(source, _)| source), request.targets.len(), &options, reporting)?;
    let (log, ci, files) = (frame.log(), &frame.ci, &frame.files);
    let timeline = files.has_timeline().then(Timeline::start);
    let events = Arc::clone(&frame.events);

    #[cfg(feature = "sandbox")]
    let sandbox = sandbox::endpoint_override(sandbox, &request, &mut options, log).await;
    #[cfg(not(feature = "sandbox"))]
    let sandbox: Result<Option<()>> = {
        let (_, _) = (sandbox, &mut options);
        Ok(None)
    };

    let outcome = match &sandbox {
        Ok(_) => {
            let events = if options.dry_run { without_plans(events) } else { events };
            let events = match &timeline {
                Some(timeline) => timeline.events(events),
                None => events,
            };
            push(&request, &options, events, frame.cancel.clone()).await
        }
        Err(error) => Outcome::failed(&request, &options, error.clone()),
    };
    // Before anything else, which would count as time of the push.
    let timeline = timeline.map_or(Ok(()), |timeline| files.write_timeline(&timeline.page(&outcome)));

    #[cfg(feature = "sandbox")]
    let read_back = match (&sandbox, outcome.error(), outcome.dry_run) {
        (Ok(Some(_)), None, false) => sandbox::read_back(&request, &options, &outcome).await,
        _ => Ok(String::new()),
    };
    #[cfg(not(feature = "sandbox"))]
    let read_back: Result<String> = Ok(String::new());

    let quiet = frame.is_quiet();
    frame.end_progress();
    if !quiet || outcome.dry_run {
        print_summary(&outcome, output, log);
    }
    // What was pushed is printed, and the error decides the exit code, whatever cannot be written.
    let printed = if output == PushOutput::Text { print_result(&report::references(&outcome), log) } else { Ok(()) };
    if let (false, Ok(text)) = (quiet, &read_back) {
        print_read_back(text, log);
    }
    let error_text = |error: &Error| ci.error_text(error);
    log.write_raw(report::error_texts(&outcome, &error_text));
    report::partial_success(&outcome).iter().for_each(|entry| log.write_entry(entry));
    ci.summarize(&outcome);
    let set = ci.set_variables(&outcome);
    let unwritten = [printed, timeline, set].into_iter().filter_map(Result::err).chain(files.write_result(&outcome));
    let mut others: Vec<Error> = read_back.err().into_iter().collect();
    others.extend(unwritten.map(|error| after_push(&outcome, error)));
    // The report holds the result, and that may be that the report cannot be written.
    let json = |others: &[Error]| {
        let error = outcome.error().or_else(|| Error::most_severe(others));
        report::json(&outcome, RunInfo { display_name: &frame.display_name, collector: &frame.collector, error })
    };
    let mut text = json(&others);
    let written = text.as_ref().map_err(Clone::clone).and_then(|text| files.write_report(text));
    if let Err(error) = written {
        others.push(after_push(&outcome, error));
        text = json(&others);
    }
    if let (PushOutput::Json, Ok(text)) = (output, &text) {
        others.extend(print_result(text, log).err().map(|error| after_push(&outcome, error)));
    }
    others.iter().for_each(|error| log.write_raw(error_text(error)));
    let error = outcome.error().or_else(|| Error::most_severe(&others));
    Ok(error.map_or(ExitCode::SUCCESS, |error| ExitCode::from(error.kind().exit_code())))
}

/// Adds to an error after a successful push that the image was pushed: the exit code alone would not say so.
fn after_push(outcome: &Outcome, error: Error) -> Error {
    match outcome.error() {
        None if !outcome.dry_run => {
            error.hint("The image was pushed. Fix this and run the same command again: nothing is uploaded twice.")
        }
        _ => error,
    }
}

/// Pushes an image. A failure to start is one of every target.
async fn push(request: &PushRequest, options: &Options, events: Events, stop: CancellationToken) -> Outcome {
    match Pusher::builder().options(options.clone()).on_event(move |event| events(event)).start().await {
        Ok(pusher) => pusher.push(request.clone(), stop).await,
        Err(error) => Outcome::failed(request, options, error),
    }
}

/// Drops the plans of a dry run from the log: its summary lists every layer.
fn without_plans(events: Events) -> Events {
    Arc::new(move |event| {
        if !matches!(event, Event::LayerPlanned { .. }) {
            events(event);
        }
    })
}
