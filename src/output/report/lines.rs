//! The outcomes of several images as JSON lines: an object for each image as its push ends, and one for all of them.
//! `report.schema.json` defines them as `image_line` and `summary_line`.

use std::time::SystemTime;

use serde::Serialize;

use super::json::{Frame, Messages, RunInfo, TOOL, Target, Tool, Totals, VERSION, escaped};
use super::planned::Planned;
use super::requests::Requests;
use crate::error::Result;
use crate::push::{ImageSummary, Outcome};

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
    #[serde(flatten)]
    frame: Frame,
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
    #[serde(flatten)]
    frame: Frame,
    images: ImageCounts,
    totals: Totals,
    planned: Option<Planned>,
    #[serde(flatten)]
    messages: Messages<'a>,
}

/// Returns the line of one image, which has this name in the archive.
///
/// # Errors
/// Fails if a type cannot be serialized, which is a bug.
pub(crate) fn image_line(name: &str, outcome: &Outcome) -> Result<String> {
    let requests = Requests::default();
    escaped(serde_json::to_string(&ImageLine {
        version: VERSION,
        kind: "image",
        tool: TOOL,
        name,
        image: outcome.image.as_ref(),
        frame: Frame::new(outcome.dry_run, outcome.started_at, outcome.seconds(), outcome.error()),
        totals: Totals::of(outcome),
        targets: outcome.targets.iter().map(|target| Target::of(target, &requests)).collect(),
    }))
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
    escaped(serde_json::to_string(&SummaryLine {
        version: VERSION,
        kind: "summary",
        tool: TOOL,
        display_name: info.display_name,
        archive: run.archive,
        frame: Frame::new(run.planned.is_some(), run.started_at, run.seconds, info.error),
        images: run.images,
        totals: *run.totals,
        planned: run.planned,
        messages: Messages::of(info.collector, &requests),
    }))
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
