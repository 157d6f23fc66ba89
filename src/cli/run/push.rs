//! Runs a push: opens its outputs, pushes, and reports the outcome.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::files::{Claims, Files};
use super::pipeline::{self, CiOutput};
#[cfg(feature = "sandbox")]
use super::sandbox;
use super::signals::{cancelled_by_ctrl_c, survive_file_size_limit};
use super::stderr::{print_read_back, print_result, print_summary, style};
use crate::archive::Source;
use crate::cli::environment::unknown_env_vars;
use crate::cli::files;
use crate::cli::output::Output;
use crate::cli::pipeline::Pipeline;
use crate::cli::push::Push;
use crate::error::{Error, Result};
use crate::output::log::{Mode, log_explanations};
use crate::output::progress::Progress;
use crate::output::report::{self, ReportCollector, RunInfo, Timeline};
use crate::output::writer::Writer;
use crate::push::{Event, Events, Options, Outcome, PushRequest, Pusher};

pub(super) async fn run(command: Push) -> Result<ExitCode> {
    survive_file_size_limit();
    let Push {
        request,
        mut options,
        notes,
        details,
        output,
        files,
        pipeline,
        progress,
        verbosity,
        log_format,
        sandbox,
        ..
    } = command;
    let writer = Writer::start(style(progress, verbosity, log_format));
    let log = writer.log();
    log_explanations(log);
    let display_name = pipeline.display_name.clone();
    claim(&request, &options, &pipeline, &files)?;
    let ci = CiOutput::start(pipeline, log)?;
    let files = Files::open(files)?;
    let timeline = files.has_timeline().then(Timeline::start);
    let progress = Progress::start(log, request.targets.len());
    let cancel = cancelled_by_ctrl_c(log, &progress);
    let collector = Arc::new(ReportCollector::default());
    let events = collector.observe(ci.events(progress.events()));
    ci.begin_group();
    let unknown = unknown_env_vars(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()));
    let unknown = unknown.iter().map(|name| format!("{name} is not the name of an option; is it misspelled?"));
    notes.into_iter().chain(unknown).for_each(|note| events(Event::Note(note)));
    details.iter().for_each(|detail| debug!("{detail}"));

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
            push(&request, &options, events, cancel).await
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

    let quiet = log.style().mode == Mode::Quiet;
    progress.finish();
    ci.end_group();
    if !quiet || outcome.dry_run {
        print_summary(&outcome, output, log);
    }
    // What was pushed is printed, and the error decides the exit code, whatever cannot be written.
    let printed = if output == Output::Text { print_result(&report::references(&outcome), log) } else { Ok(()) };
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
        report::json(&outcome, RunInfo { display_name: &display_name, collector: &collector, error })
    };
    let mut text = json(&others);
    let written = text.as_ref().map_err(Clone::clone).and_then(|text| files.write_report(text));
    if let Err(error) = written {
        others.push(after_push(&outcome, error));
        text = json(&others);
    }
    if let (Output::Json, Ok(text)) = (output, &text) {
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

/// Variables that name files of credentials.
const FILES_OF_AWS: [&str; 4] = [
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];

/// Checks every file that a push writes against all that it reads and all else that it writes.
fn claim(request: &PushRequest, options: &Options, pipeline: &Pipeline, files: &files::Files) -> Result<()> {
    let mut claims = Claims::default();
    for (source, _) in request.sources() {
        match source {
            Source::Path(path) => claims.read("the archive", path),
            Source::StandardInput => claims.read_standard_input(),
        }
    }
    let policies = [&options.repositories.lifecycle_policy, &options.repositories.repository_policy];
    policies.into_iter().flatten().for_each(|path| claims.read("the policy", path));
    let bundle = options.registries.ca_bundle.as_ref().map(|bundle| &bundle.path);
    options.registries.ca_file.iter().chain(bundle).for_each(|path| claims.read("the CA file", path));
    options.registries.keychain.files.iter().for_each(|path| claims.read("the login file", path));
    for variable in FILES_OF_AWS {
        if let Some(path) = std::env::var_os(variable) {
            claims.read(&format!("the file of {variable},"), Path::new(&path));
        }
    }
    if let Some(cache) = &options.layers.cache {
        claims.write("layer cache", cache)?;
    }
    pipeline::claim(pipeline, &mut claims)?;
    Files::claim(files, &mut claims)
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
