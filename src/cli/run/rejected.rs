//! Reports a command line that leads to no push.

use std::time::SystemTime;

use crate::cli::error_sinks::ErrorSinks;
use crate::cli::output::PushOutput;
use crate::cli::pipeline::SummaryTo;
use crate::error::Error;
use crate::file;
use crate::output::report::{self, ReportCollector, RunInfo};
use crate::output::writer::Log;

use super::files::{Claims, REPORT, clear};
use super::pipeline::CiOutput;
use super::stderr::{error_text, print_result};

/// Reports an error to people, to the CI system, and in the report if one is wanted. A report that cannot be written adds
/// nothing, and a file that may be an input is not written to.
pub(super) fn report_rejection(error: &Error, sinks: ErrorSinks, log: &Log, started_at: SystemTime) {
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
    match CiOutput::start(pipeline, log) {
        Ok(ci) => {
            log.write_raw(ci.error_text(error));
            ci.summarize_rejection(error);
        }
        Err(_) => log.write_raw(error_text(error, log.style())),
    }
    let collector = ReportCollector::default();
    let run = RunInfo { display_name: &display_name, collector: &collector, error: Some(error) };
    let json = match report::rejection(run, started_at) {
        Ok(json) => json,
        Err(fault) => return log.write_raw(error_text(&fault, log.style())),
    };
    if let Some(report) = report.filter(|report| claims.write(REPORT.what, report).is_ok())
        && let Ok(file) = REPORT.open(&report)
    {
        let _unwritten = clear(&file).and_then(|()| file::write_all(&file, json.as_bytes()));
    }
    if output != PushOutput::Text {
        let _unwritten = print_result(&json, log);
    }
}
