//! Inspects an archive.

use std::ops::ControlFlow;
use std::process::ExitCode;

use tokio::runtime::Runtime;

use super::signals::asked_to_stop;
use super::stderr::{print, text_writer};
use super::threads;
use crate::archive::inspect::{Inspection, verify};
use crate::archive::{self, ChildProcesses, EndOnDrop, Source, Spool};
use crate::cli::inspect::Inspect;
use crate::cli::output::Output;
use crate::error::{Error, Kind, Result};
use crate::output::log::{PushLog, replace_controls, sanitize};
use crate::output::report;
use crate::push::Event;

/// Inspects an archive. Ctrl-C ends the process at once: there is nothing to clean up, except the program of an engine.
pub(super) fn run(command: &Inspect) -> Result<ExitCode> {
    let writer = text_writer();
    let log = writer.log();
    let progress = PushLog::start(log, 0);
    let (processes, ended) = ChildProcesses::guarded();
    let _signals = match command.archive {
        Source::Engine(_) => Some(end_on_signal(ended)?),
        _ => None,
    };
    let inspected = inspect(command, &processes, &progress);
    progress.finish();
    let inspection = inspected?;
    log.drain();
    print(&match command.output {
        Output::Text if command.is_in_ci => sanitize(&report::inspect::text(&inspection)),
        Output::Text => replace_controls(&report::inspect::text(&inspection)),
        Output::Json => report::inspect::json(&inspection)?,
    })?;
    let faults = inspection.faults();
    faults.iter().for_each(|fault| log.write_raw(sanitize(&report::error_text(fault))));
    Ok(Error::most_severe(&faults).map_or(ExitCode::SUCCESS, |fault| ExitCode::from(fault.kind().exit_code())))
}

/// Ends the processes and this one at a signal. The runtime waits for it.
fn end_on_signal(ended: EndOnDrop) -> Result<Runtime> {
    let runtime = threads::for_requests()?;
    runtime.spawn(async move {
        asked_to_stop().await;
        drop(ended);
        #[expect(clippy::exit, reason = "the archive is read on another thread, which may wait for a long time")]
        std::process::exit(Kind::Interrupted.exit_code().into());
    });
    Ok(runtime)
}

fn inspect(command: &Inspect, processes: &ChildProcesses, progress: &PushLog) -> Result<Inspection> {
    let events = progress.events();
    let watch = |written| {
        events(Event::Spooled { bytes: written });
        ControlFlow::Continue(())
    };
    let mut archive =
        archive::list(&command.archive, &Spool { folder: &command.temp_dir, watch: &watch, handler: None, processes })?;
    let all = archive.images.len() + archive.unusable.len();
    if !command.is_of_all() {
        archive = archive.narrowed(&command.choice, &command.part)?;
    }
    let read = || verify(&archive, &|reading| progress.set_activity(reading.to_string()));
    let verified = command.verify.then(read);
    Ok(Inspection { archive, all, verified })
}
