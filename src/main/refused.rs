//! A command line that leads to no push: who hears of it.

use std::time::SystemTime;

use ecr_push::cli::{ErrorSinks, Output, SummaryTo};
use ecr_push::error::Error;
use ecr_push::file;
use ecr_push::output::progress::Style;
use ecr_push::output::report::{self, ReportCollector, RunInfo};

use super::files::{Claims, REPORT, clear};
use super::pipeline::Watcher;
use super::stderr::{failure, instruct, print};

/// Tells an error to a person, to the CI system, and to whoever asked for a report. What cannot be written adds nothing, and
/// what may be an input is not written to.
pub(super) fn tell(error: &Error, sinks: ErrorSinks, style: Style, started_at: SystemTime) {
    let ErrorSinks { output, report, other_files, mut pipeline, .. } = sinks;
    let display_name = pipeline.display_name.clone();
    let mut claims = Claims::default();
    let summary = match &pipeline.summary {
        Some(SummaryTo::File(path)) => Some(path.clone()),
        _ => None,
    };
    let others = other_files.iter().filter(|rival| Some(*rival) != summary.as_ref());
    others.for_each(|rival| claims.read("the argument", rival));
    if summary.is_some_and(|path| claims.write("summary", &path).is_err()) {
        pipeline.summary = None;
    }
    match Watcher::start(pipeline, style) {
        Ok(watcher) => {
            instruct(&watcher.failure(error));
            watcher.summarise_refusal(error);
        }
        Err(_) => instruct(&failure(error, style)),
    }
    let told = ReportCollector::default();
    let run = RunInfo { display_name: &display_name, told: &told, error: Some(error) };
    let json = match report::rejection(run, started_at) {
        Ok(json) => json,
        Err(fault) => return instruct(&failure(&fault, style)),
    };
    if let Some(report) = report.filter(|report| claims.write(REPORT.what, report).is_ok())
        && let Ok(file) = REPORT.open(&report)
    {
        let _nobody_reads_it = clear(&file).and_then(|()| file::write_all(&file, json.as_bytes()));
    }
    if output == Output::Json {
        let _nobody_listens = print(&json);
    }
}
