//! The outcome as JSON. The shape is stable: fields may be added, a change of meaning raises `version`.
//! `report.schema.json` describes it, and the tests validate every report.

use std::ops::AddAssign;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::collector::ReportCollector;
use super::requests::{ManifestPut, Requests, Summary};
use crate::error::{Error, Result};
use crate::oci::{Digest, Tag};
use crate::output::log::{Failure, escape_controls, rfc3339};
use crate::push::{
    ImageSummary, LayerCounts, LayerOutcome, Outcome, PlannedTag, TagOutcome, TargetOutcome, round_seconds,
};

/// The version of the shape.
pub(super) const VERSION: u32 = 1;

/// The program.
pub(super) const TOOL: Tool = Tool { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") };

/// What a report contains besides the outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunInfo<'a> {
    /// The name of the push, from `--display-name`.
    pub display_name: &'a str,
    /// Warnings, notes and requests of the push.
    pub collector: &'a ReportCollector,
    /// The error that decides the exit code: of a target, or of an output that could not be written.
    pub error: Option<&'a Error>,
}

#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    tool: Tool,
    display_name: &'a str,
    archive: Option<&'a str>,
    image: Option<&'a ImageSummary>,
    #[serde(flatten)]
    frame: Frame,
    totals: Totals,
    #[serde(flatten)]
    messages: Messages<'a>,
    targets: Vec<Target<'a>>,
}

/// What all results state about what was done.
#[derive(Serialize)]
pub(super) struct Frame {
    dry_run: bool,
    started_at: String,
    finished_at: String,
    seconds: f64,
    exit_code: u8,
    error: Option<Failure>,
}

/// What was collected meanwhile.
#[derive(Serialize)]
pub(super) struct Messages<'a> {
    warnings: Vec<String>,
    notes: Vec<String>,
    #[serde(rename = "untold")]
    omitted: u64,
    requests: Summary<'a>,
}

#[derive(Serialize)]
pub(super) struct Tool {
    name: &'static str,
    version: &'static str,
}

/// Sums over all targets, or over all images.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Totals {
    layers: LayerCounts,
    archive_bytes: u64,
    pub bytes_sent: u64,
    bytes_saved: u64,
    seconds_saved: Option<f64>,
    retries: u64,
}

#[derive(Serialize)]
pub(super) struct Target<'a> {
    name: &'a str,
    tags: &'a [Tag],
    pushed_tags: Vec<&'a Tag>,
    tag_outcomes: Tags<'a>,
    references: Vec<String>,
    digest: Option<Digest>,
    media_type: Option<&'a str>,
    created_repository: bool,
    bytes_sent: u64,
    bytes_saved: u64,
    seconds_saved: Option<f64>,
    retries: u64,
    layers: &'a [LayerOutcome],
    manifests: Vec<&'a ManifestPut>,
    error: Option<Failure>,
}

/// What happened to the tags, or would happen.
#[derive(Serialize)]
#[serde(untagged)]
enum Tags<'a> {
    Placed(&'a [TagOutcome]),
    Planned(&'a [PlannedTag]),
}

/// Returns the report of a push, pretty-printed, with a line end.
pub(crate) fn json(outcome: &Outcome, run: RunInfo<'_>) -> Result<String> {
    report(Some(outcome), run, outcome.started_at, outcome.seconds())
}

/// Returns the report of a command line that led to no push, in the same shape. It holds the error alone.
pub(crate) fn rejection(run: RunInfo<'_>, started_at: SystemTime) -> Result<String> {
    report(None, run, started_at, started_at.elapsed().unwrap_or_default().as_secs_f64())
}

fn report(outcome: Option<&Outcome>, run: RunInfo<'_>, started_at: SystemTime, seconds: f64) -> Result<String> {
    let requests = run.collector.requests();
    let targets = outcome.iter().flat_map(|outcome| &outcome.targets);
    let dry_run = outcome.is_some_and(|outcome| outcome.dry_run);
    escaped(serde_json::to_string_pretty(&Report {
        version: VERSION,
        tool: TOOL,
        display_name: run.display_name,
        archive: outcome.map(|outcome| outcome.archive.as_str()),
        image: outcome.and_then(|outcome| outcome.image.as_ref()),
        frame: Frame::new(dry_run, started_at, seconds, run.error),
        totals: outcome.map(Totals::of).unwrap_or_default(),
        messages: Messages::of(run.collector, &requests),
        targets: targets.map(|target| Target::of(target, &requests)).collect(),
    }))
}

/// Returns a result as JSON, with a line end. In a log a CI system would find commands (`##vso[`, `##teamcity[`), so the second
/// of two `#` is escaped; a parser reads the same.
///
/// # Errors
/// If a type cannot be serialized, which is a bug.
pub(super) fn escaped(text: serde_json::Result<String>) -> Result<String> {
    let text = text.map_err(|error| Error::internal("cannot write a result as JSON").because(error))?;
    Ok(escape_controls(&text).replace("##", "#\\u0023") + "\n")
}

impl Frame {
    pub(super) fn new(dry_run: bool, started_at: SystemTime, seconds: f64, error: Option<&Error>) -> Self {
        Self {
            dry_run,
            started_at: rfc3339(started_at),
            // Not by the clock, which may have been set meanwhile.
            finished_at: rfc3339(started_at + Duration::from_secs_f64(seconds)),
            seconds: round_seconds(seconds),
            exit_code: error.map_or(0, |error| error.kind().exit_code()),
            error: error.map(Failure::from),
        }
    }
}

impl<'a> Messages<'a> {
    pub(super) fn of(collector: &ReportCollector, requests: &'a Requests) -> Self {
        Self {
            warnings: collector.warnings(),
            notes: collector.notes(),
            omitted: collector.omitted(),
            requests: requests.summary(),
        }
    }
}

impl Totals {
    pub(super) fn of(outcome: &Outcome) -> Self {
        let layers = || outcome.targets.iter().flat_map(|target| &target.layers);
        let saved = || outcome.targets.iter().map(TargetOutcome::saved);
        Self {
            layers: outcome.targets.iter().map(TargetOutcome::layer_counts).sum(),
            archive_bytes: layers().map(|layer| layer.archive_bytes).sum(),
            bytes_sent: layers().map(|layer| layer.sent).sum(),
            bytes_saved: saved().map(|saved| saved.bytes).sum(),
            // Targets are pushed at the same time.
            seconds_saved: saved().filter_map(|saved| saved.seconds).max_by(f64::total_cmp).map(round_seconds),
            retries: layers().map(|layer| u64::from(layer.retries)).sum(),
        }
    }
}

impl AddAssign<&Outcome> for Totals {
    fn add_assign(&mut self, outcome: &Outcome) {
        let other = Self::of(outcome);
        self.layers = [self.layers, other.layers].into_iter().sum();
        self.archive_bytes += other.archive_bytes;
        self.bytes_sent += other.bytes_sent;
        self.bytes_saved += other.bytes_saved;
        self.seconds_saved = match (self.seconds_saved, other.seconds_saved) {
            (Some(one), Some(other)) => Some(round_seconds(one + other)),
            (one, other) => one.or(other),
        };
        self.retries += other.retries;
    }
}

impl<'a> Target<'a> {
    pub(super) fn of(target: &'a TargetOutcome, requests: &'a Requests) -> Self {
        let saved = target.saved();
        Self {
            name: &target.name,
            tags: &target.tags,
            pushed_tags: target.pushed(),
            tag_outcomes: match target.planned_tags.as_slice() {
                [] => Tags::Placed(&target.placed),
                planned => Tags::Planned(planned),
            },
            references: target.references(),
            digest: target.digest,
            media_type: target.media_type.as_deref(),
            created_repository: target.created_repository,
            bytes_sent: target.sent(),
            bytes_saved: saved.bytes,
            seconds_saved: saved.seconds.map(round_seconds),
            retries: target.layers.iter().map(|layer| u64::from(layer.retries)).sum(),
            layers: &target.layers,
            manifests: requests.manifests_of(&target.name),
            error: target.error.as_ref().map(Failure::from),
        }
    }
}
