//! The outcome as JSON. The shape is stable: fields may be added, a change of meaning raises `version`.
//! `report.schema.json` describes it, and the tests validate every report.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::collector::ReportCollector;
use super::requests::{ManifestPut, Requests, Summary};
use crate::error::{Error, Result};
use crate::oci::{DiffId, Digest, Tag};
use crate::output::log::{escape_controls, millis, rfc3339};
use crate::push::{LayerAction, LayerCounts, LayerOutcome, Outcome, TagOutcome, TagState, TargetOutcome};

/// The version of the shape.
const VERSION: u32 = 1;

/// The program.
pub(super) const TOOL: Tool = Tool { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") };

/// What a report says beside the outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunInfo<'a> {
    /// The name of the push.
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
    image: Option<Image<'a>>,
    dry_run: bool,
    started_at: String,
    finished_at: String,
    seconds: f64,
    exit_code: u8,
    error: Option<Failure>,
    totals: Totals,
    warnings: Vec<String>,
    notes: Vec<String>,
    untold: u64,
    requests: Summary<'a>,
    targets: Vec<Target<'a>>,
}

#[derive(Serialize)]
pub(super) struct Tool {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
struct Image<'a> {
    format: &'a str,
    names: &'a [String],
    image_ids: &'a [Digest],
    platforms: &'a [String],
    layers: usize,
    archive_bytes: u64,
}

/// Sums over all targets.
#[derive(Default, Serialize)]
struct Totals {
    layers: LayerCounts,
    archive_bytes: u64,
    bytes_sent: u64,
    bytes_saved: u64,
    seconds_saved: Option<f64>,
    retries: u64,
}

#[derive(Serialize)]
struct Target<'a> {
    name: &'a str,
    tags: &'a [Tag],
    pushed_tags: Vec<&'a Tag>,
    tag_outcomes: Vec<Placed<'a>>,
    references: Vec<String>,
    digest: Option<Digest>,
    media_type: Option<&'a str>,
    created_repository: bool,
    bytes_sent: u64,
    bytes_saved: u64,
    seconds_saved: Option<f64>,
    retries: u64,
    layers: Vec<Layer<'a>>,
    manifests: Vec<&'a ManifestPut>,
    error: Option<Failure>,
}

#[derive(Serialize)]
struct Placed<'a> {
    tag: &'a Tag,
    digest: Digest,
    media_type: &'a str,
    size: u64,
    outcome: TagState,
}

#[derive(Serialize)]
struct Layer<'a> {
    name: &'a str,
    diff_id: Option<DiffId>,
    archive_bytes: u64,
    media_type: Option<&'a str>,
    digest: Option<Digest>,
    size: Option<u64>,
    action: &'a LayerAction,
    reason: &'a str,
    bytes_sent: u64,
    bytes_of_earlier_run: u64,
    retries: u32,
    seconds: f64,
}

#[derive(Serialize)]
pub(super) struct Failure {
    kind: &'static str,
    code: &'static str,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    commands: Vec<String>,
    exit_code: u8,
}

/// Returns the report of a push, pretty-printed, with a line end.
pub(crate) fn json(outcome: &Outcome, run: RunInfo<'_>) -> Result<String> {
    let image = outcome.image.as_ref().map(|image| Image {
        format: &image.format,
        names: &image.names,
        image_ids: &image.image_ids,
        platforms: &image.platforms,
        layers: image.layers,
        archive_bytes: image.archive_bytes,
    });
    let requests = run.collector.requests();
    let frame = Report::of(run, &requests, outcome.started_at, outcome.seconds());
    printed(&Report {
        archive: Some(&outcome.archive),
        image,
        dry_run: outcome.dry_run,
        totals: Totals::of(outcome),
        targets: outcome.targets.iter().map(|target| Target::of(target, &requests)).collect(),
        ..frame
    })
}

/// Returns the report of a command line that led to no push, in the same shape. It holds the error alone.
pub(crate) fn rejection(run: RunInfo<'_>, started_at: SystemTime) -> Result<String> {
    let requests = run.collector.requests();
    let seconds = started_at.elapsed().unwrap_or_default().as_secs_f64();
    printed(&Report::of(run, &requests, started_at, seconds))
}

/// Pretty-prints a report, with a line end. In a log a CI system would find commands (`##vso[`, `##teamcity[`), so the second
/// of two `#` is escaped; a parser reads the same.
///
/// # Errors
/// If a type cannot be serialized, which is a bug.
pub(super) fn printed(report: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(report);
    let text = text.map_err(|error| Error::internal("cannot write a result as JSON").because(error))?;
    Ok(escape_controls(&text).replace("##", "#\\u0023") + "\n")
}

impl<'a> Report<'a> {
    fn of(
        RunInfo { display_name, collector, error }: RunInfo<'a>,
        requests: &'a Requests,
        started_at: SystemTime,
        seconds: f64,
    ) -> Self {
        Self {
            version: VERSION,
            tool: TOOL,
            display_name,
            archive: None,
            image: None,
            dry_run: false,
            started_at: rfc3339(started_at),
            // Not by the clock, which may have been set meanwhile.
            finished_at: rfc3339(started_at + Duration::from_secs_f64(seconds)),
            seconds: millis(seconds),
            exit_code: error.map_or(0, |error| error.kind().exit_code()),
            error: error.map(failure),
            totals: Totals::default(),
            warnings: collector.warnings(),
            notes: collector.notes(),
            untold: collector.omitted(),
            requests: requests.summary(),
            targets: Vec::new(),
        }
    }
}

impl Totals {
    fn of(outcome: &Outcome) -> Self {
        let layers = || outcome.targets.iter().flat_map(|target| &target.layers);
        let saved = || outcome.targets.iter().map(TargetOutcome::saved);
        Self {
            layers: outcome.targets.iter().map(TargetOutcome::layer_counts).sum(),
            archive_bytes: layers().map(|layer| layer.archive_bytes).sum(),
            bytes_sent: layers().map(|layer| layer.sent).sum(),
            bytes_saved: saved().map(|saved| saved.bytes).sum(),
            // Targets are pushed at the same time.
            seconds_saved: saved().filter_map(|saved| saved.seconds).max_by(f64::total_cmp).map(millis),
            retries: layers().map(|layer| u64::from(layer.retries)).sum(),
        }
    }
}

impl<'a> Target<'a> {
    fn of(target: &'a TargetOutcome, requests: &'a Requests) -> Self {
        let placed = target.placed.iter().map(|TagOutcome { tag, digest, media_type, size, state }| Placed {
            tag,
            digest: *digest,
            media_type,
            size: *size,
            outcome: *state,
        });
        let saved = target.saved();
        Self {
            name: &target.name,
            tags: &target.tags,
            pushed_tags: target.pushed(),
            tag_outcomes: placed.collect(),
            references: target.references(),
            digest: target.digest,
            media_type: target.media_type.as_deref(),
            created_repository: target.created_repository,
            bytes_sent: target.sent(),
            bytes_saved: saved.bytes,
            seconds_saved: saved.seconds.map(millis),
            retries: target.layers.iter().map(|layer| u64::from(layer.retries)).sum(),
            layers: target.layers.iter().map(Layer::of).collect(),
            manifests: requests.manifests_of(&target.name),
            error: target.error.as_ref().map(failure),
        }
    }
}

impl<'a> Layer<'a> {
    fn of(layer: &'a LayerOutcome) -> Self {
        Self {
            name: &layer.name,
            diff_id: layer.diff_id,
            archive_bytes: layer.archive_bytes,
            media_type: layer.media_type.as_deref(),
            digest: layer.digest,
            size: layer.size,
            action: &layer.action,
            reason: &layer.why,
            bytes_sent: layer.sent,
            bytes_of_earlier_run: layer.resumed,
            retries: layer.retries,
            seconds: millis(layer.seconds),
        }
    }
}

pub(super) fn failure(error: &Error) -> Failure {
    Failure {
        kind: error.kind().name(),
        code: error.stable_code().name(),
        message: error.to_string(),
        causes: error.causes(),
        hint: error.advice().map(ToString::to_string),
        commands: error.advice().map(|advice| advice.commands().to_vec()).unwrap_or_default(),
        exit_code: error.kind().exit_code(),
    }
}
