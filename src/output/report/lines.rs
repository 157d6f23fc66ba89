//! The outcomes of several images as JSON lines: an object for each image as its push ends, and one for all of them.
//! `report.schema.json` defines them as `image_line` and `summary_line`.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::json::{RunInfo, TOOL, Target, Tool, Totals, VERSION};
use super::planned::Planned;
use super::requests::{Requests, Summary};
use crate::error::{Error, Result};
use crate::output::log::{Failure, escape_controls, rfc3339};
use crate::push::{ImageSummary, Outcome, round_seconds};

/// How many images there are, by what happened to them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub(crate) struct ImageCounts {
    /// All images to push.
    pub all: usize,
    /// Images that were pushed.
    pub pushed: usize,
    /// Images that were at all targets already.
    pub unchanged: usize,
    /// Images whose push failed at a target.
    pub failed: usize,
    /// Images that were not pushed after a failure or an interruption.
    pub not_attempted: usize,
}

#[derive(Serialize)]
struct ImageLine<'a> {
    version: u32,
    kind: &'static str,
    tool: Tool,
    name: &'a str,
    image: Option<&'a ImageSummary>,
    dry_run: bool,
    started_at: String,
    finished_at: String,
    seconds: f64,
    exit_code: u8,
    error: Option<Failure>,
    totals: Totals,
    targets: Vec<Target<'a>>,
}

#[derive(Serialize)]
struct SummaryLine<'a> {
    version: u32,
    kind: &'static str,
    tool: Tool,
    display_name: &'a str,
    archive: Option<&'a str>,
    dry_run: bool,
    started_at: String,
    finished_at: String,
    seconds: f64,
    exit_code: u8,
    error: Option<Failure>,
    images: ImageCounts,
    totals: Totals,
    planned: Option<Planned>,
    warnings: Vec<String>,
    notes: Vec<String>,
    untold: u64,
    requests: Summary<'a>,
}

/// Returns the line of one image, which has this name in the archive.
///
/// # Errors
/// Fails if a type cannot be serialized, which is a bug.
pub(crate) fn image_line(name: &str, outcome: &Outcome) -> Result<String> {
    let (requests, error) = (Requests::default(), outcome.error());
    printed(&ImageLine {
        version: VERSION,
        kind: "image",
        tool: TOOL,
        name,
        image: outcome.image.as_ref(),
        dry_run: outcome.dry_run,
        started_at: rfc3339(outcome.started_at),
        finished_at: rfc3339(outcome.started_at + Duration::from_secs_f64(outcome.seconds())),
        seconds: round_seconds(outcome.seconds()),
        exit_code: error.map_or(0, |error| error.kind().exit_code()),
        error: error.map(Failure::from),
        totals: Totals::of(outcome),
        targets: outcome.targets.iter().map(|target| Target::of(target, &requests)).collect(),
    })
}

/// What a run of several images came to.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    /// The archive, as it was named. `None` if the command line led to no push.
    pub archive: Option<&'a str>,
    /// What would be done, if it was a plan only.
    pub planned: Option<Planned>,
    /// When the run began.
    pub started_at: SystemTime,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// The images.
    pub images: ImageCounts,
    /// Sums over all images.
    pub totals: &'a Totals,
}

/// Returns the line of the whole run, the last one.
///
/// # Errors
/// Fails if a type cannot be serialized, which is a bug.
pub(crate) fn summary_line(run: &Run<'_>, info: RunInfo<'_>) -> Result<String> {
    let requests = info.collector.requests();
    printed(&SummaryLine {
        version: VERSION,
        kind: "summary",
        tool: TOOL,
        display_name: info.display_name,
        archive: run.archive,
        dry_run: run.planned.is_some(),
        started_at: rfc3339(run.started_at),
        finished_at: rfc3339(run.started_at + Duration::from_secs_f64(run.seconds)),
        seconds: round_seconds(run.seconds),
        exit_code: info.error.map_or(0, |error| error.kind().exit_code()),
        error: info.error.map(Failure::from),
        images: run.images,
        totals: *run.totals,
        planned: run.planned,
        warnings: info.collector.warnings(),
        notes: info.collector.notes(),
        untold: info.collector.omitted(),
        requests: requests.summary(),
    })
}

/// Returns the line of a run that pushed nothing: the command line is wrong, or the archive. It holds the error alone.
///
/// # Errors
/// Fails if a type cannot be serialized, which is a bug.
pub(crate) fn rejection_line(info: RunInfo<'_>, started_at: SystemTime) -> Result<String> {
    let seconds = started_at.elapsed().unwrap_or_default().as_secs_f64();
    let (images, totals) = (ImageCounts::default(), Totals::default());
    summary_line(&Run { archive: None, planned: None, started_at, seconds, images, totals: &totals }, info)
}

/// Formats an object on one line. CI systems must find no command in it, so the second of two `#` is escaped.
fn printed(line: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string(line);
    let text = text.map_err(|error| Error::internal("cannot write a result as JSON").because(error))?;
    Ok(escape_controls(&text).replace("##", "#\\u0023") + "\n")
}
