//! Puts additional tags, and reports the outcome.

use std::process::ExitCode;
use std::sync::Arc;

use super::frame::Frame;
use super::stderr::{print_result, print_summary};
use crate::cli::output::PushOutput;
use crate::cli::tag::Tagging;
use crate::error::{Error, Result};
use crate::output::report;
use crate::push::Pusher;

pub(super) async fn run(command: Tagging) -> Result<ExitCode> {
    let Tagging { request, options, reporting, .. } = command;
    let frame = Frame::start(std::iter::empty(), request.targets.len(), &options, reporting)?;
    let (log, events) = (frame.log(), Arc::clone(&frame.events));
    let pusher = Pusher::builder().options(options).on_event(move |event| events(event)).start().await?;
    let outcome = pusher.tag(request, frame.cancel.clone()).await;
    frame.end_progress();
    if !frame.is_quiet() || outcome.dry_run {
        print_summary(&outcome, PushOutput::Text, log);
    }
    let printed = print_result(&report::references(&outcome), log).err();
    let error_text = |error: &Error| frame.ci.error_text(error);
    log.write_raw(report::error_texts(&outcome, &error_text));
    report::partial_success(&outcome).iter().for_each(|entry| log.write_entry(entry));
    printed.iter().for_each(|error| log.write_raw(error_text(error)));
    let error = outcome.error().or(printed.as_ref());
    Ok(error.map_or(ExitCode::SUCCESS, |error| ExitCode::from(error.kind().exit_code())))
}
