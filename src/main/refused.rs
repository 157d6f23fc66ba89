//! A command line that leads to no push: who hears of it.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use ecr_push::cli::{Hearers, Output};
use ecr_push::error::Error;
use ecr_push::progress::Style;
use ecr_push::report::{self, Run, Told};

use super::files::is_same;
use super::pipeline::Watcher;
use super::stderr::{failure, instruct, print};

/// Tells an error to a person, to the CI system, and to whoever asked for a report. What cannot be written adds nothing.
pub(super) fn tell(error: &Error, hearers: Hearers, style: Style, started_at: SystemTime) {
    let Hearers { output, report, rivals, pipeline, .. } = hearers;
    let display_name = pipeline.display_name.clone();
    match Watcher::start(pipeline, style) {
        Ok(watcher) => {
            instruct(&watcher.failure(error));
            watcher.summarise_refusal(error);
        }
        Err(_) => instruct(&failure(error, style)),
    }
    let told = Told::default();
    let json = report::refusal(Run { display_name: &display_name, told: &told, error: Some(error) }, started_at);
    let is_free = |report: &PathBuf| !rivals.iter().any(|rival| rival == report || is_same(report, rival));
    if let Some(report) = report.filter(is_free) {
        let _nobody_reads_it = fs::write(report, &json);
    }
    if output == Output::Json {
        let _nobody_listens = print(&json);
    }
}
