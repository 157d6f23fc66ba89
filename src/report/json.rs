//! The outcome as JSON. The shape is a contract: fields may be added, and a change of meaning raises `version`.

use serde::Serialize;

use crate::error::Error;
use crate::push::{Outcome, TagOutcome, TargetOutcome};
use crate::reference::{DiffId, Digest, Tag};

/// The version of the shape.
const VERSION: u32 = 1;

/// The program.
pub(super) const TOOL: Tool = Tool { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") };

#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    tool: Tool,
    archive: &'a str,
    image: Option<Image<'a>>,
    dry_run: bool,
    seconds: f64,
    exit_code: u8,
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
    layers: Vec<Layer<'a>>,
    error: Option<Failure>,
}

#[derive(Serialize)]
struct Placed<'a> {
    tag: &'a Tag,
    digest: Digest,
    outcome: &'static str,
}

#[derive(Serialize)]
struct Layer<'a> {
    name: &'a str,
    diff_id: Option<DiffId>,
    archive_bytes: u64,
    digest: Option<Digest>,
    size: Option<u64>,
    action: &'a str,
    reason: &'a str,
    bytes_sent: u64,
    bytes_of_earlier_run: u64,
    seconds: f64,
}

#[derive(Serialize)]
pub(super) struct Failure {
    kind: &'static str,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    exit_code: u8,
}

/// The report, pretty-printed, with a line end.
pub fn json(outcome: &Outcome) -> String {
    let report = Report {
        version: VERSION,
        tool: TOOL,
        archive: &outcome.archive,
        image: outcome.image.as_ref().map(|image| Image {
            format: &image.format,
            names: &image.names,
            image_ids: &image.image_ids,
            platforms: &image.platforms,
            layers: image.layers,
            archive_bytes: image.archive_bytes,
        }),
        dry_run: outcome.dry_run,
        seconds: millis(outcome.seconds()),
        exit_code: outcome.error().map_or(0, |error| error.kind().exit_code()),
        targets: outcome.targets.iter().map(target).collect(),
    };
    // Text, numbers and lists only: nothing in it can fail to become JSON.
    serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
}

fn target(target: &TargetOutcome) -> Target<'_> {
    let layers = target.layers.iter().map(|layer| Layer {
        name: &layer.name,
        diff_id: layer.diff_id,
        archive_bytes: layer.archive_bytes,
        digest: layer.digest,
        size: layer.size,
        action: layer.action,
        reason: &layer.why,
        bytes_sent: layer.sent,
        bytes_of_earlier_run: layer.resumed,
        seconds: millis(layer.seconds),
    });
    let placed = target.placed.iter().map(|TagOutcome { tag, digest, fate }| Placed {
        tag,
        digest: *digest,
        outcome: fate.name(),
    });
    Target {
        name: &target.name,
        tags: &target.tags,
        pushed_tags: target.pushed(),
        tag_outcomes: placed.collect(),
        references: target.references(),
        digest: target.digest,
        media_type: target.media_type.as_deref(),
        created_repository: target.created_repository,
        bytes_sent: target.sent(),
        layers: layers.collect(),
        error: target.error.as_ref().map(failure),
    }
}

pub(super) fn failure(error: &Error) -> Failure {
    Failure {
        kind: error.kind().name(),
        message: error.to_string(),
        causes: error.causes(),
        hint: error.advice().map(str::to_owned),
        exit_code: error.kind().exit_code(),
    }
}

/// Seconds with three decimals: more would be noise.
fn millis(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}
