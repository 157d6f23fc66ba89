//! The outcome, as text for people, as JSON and variables for pipelines, as Markdown for both; its course as a page; and what
//! is in an archive.

pub mod ci;
pub mod inspect;
mod json;
mod markdown;
mod timeline;

pub use json::json;
pub use markdown::markdown;
pub use timeline::Timeline;

use crate::error::Error;
use crate::layer::size;
use crate::push::{Outcome, ReadBack, TagFate, TargetOutcome};

/// What goes to stdout: one reference a line, `HOST/REPOSITORY:TAG@sha256:...`, and nothing else.
pub fn references(outcome: &Outcome) -> String {
    outcome.targets.iter().flat_map(TargetOutcome::references).map(|reference| reference + "\n").collect()
}

/// The last words on stderr about a push that went well.
pub fn summary(outcome: &Outcome) -> String {
    let mut text = String::new();
    for target in outcome.targets.iter().filter(|target| target.error.is_none()) {
        let count = |action| target.layers.iter().filter(|layer| layer.action == action).count();
        let uploaded = count("upload");
        let spared = match (count("mount"), count("reuse")) {
            (0, reused) => format!("{reused} reused"),
            (mounted, reused) => format!("{mounted} mounted, {reused} reused"),
        };
        text += &if outcome.dry_run {
            let bytes: u64 = target.layers.iter().filter(|l| l.action == "upload").map(|l| l.archive_bytes).sum();
            format!(
                "{}: {uploaded} of {} layers would be uploaded, {} of the archive; {spared}. Nothing was sent.\n",
                target.name,
                target.layers.len(),
                size(bytes)
            )
        } else if !target.changed && target.layers.is_empty() {
            format!("{}: {}nothing was sent; {}\n", target.name, found(target), duration(outcome.seconds()))
        } else {
            format!(
                "{}: {}{uploaded} of {} layers uploaded, {} sent; {spared}; {}\n",
                target.name,
                found(target),
                target.layers.len(),
                size(target.sent()),
                duration(outcome.seconds())
            )
        };
    }
    text
}

/// What was found of a target to which nothing was added.
fn found(target: &TargetOutcome) -> &'static str {
    match target.changed {
        true => "",
        false if target.placed.iter().any(|placed| placed.fate == TagFate::Skipped) => "tags that exist stay; ",
        false => "already there; ",
    }
}

/// A time in words: `40 ms`, `3.2 s`.
fn duration(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1000.0) } else { format!("{seconds:.1} s") }
}

/// What a plan would do with each layer.
pub fn plan(outcome: &Outcome) -> String {
    let mut text = String::new();
    for target in &outcome.targets {
        for layer in &target.layers {
            let hash = layer.diff_id.map(|diff_id| diff_id.short());
            let hash = hash.or_else(|| Some(layer.digest?.short())).unwrap_or_else(|| layer.name.clone());
            let size = size(layer.archive_bytes);
            text += &format!("{}  layer {hash}  {size:>10}  {}: {}\n", target.name, layer.action, layer.why);
        }
    }
    text
}

/// What was read back from a registry.
pub fn read_back(reference: &str, found: &ReadBack) -> String {
    let mut text = format!("read back {reference}\n  {}  {}\n", found.digest, found.media_type);
    for image_id in &found.image_ids {
        text += &format!("  config {image_id}\n");
    }
    for (digest, bytes) in &found.layers {
        text += &format!("  layer  {digest}  {:>10}\n", size(*bytes));
    }
    text
}

/// An error for people: what, why, what to do.
pub fn failure(error: &Error) -> String {
    let mut text = format!("error: {error}\n");
    let causes = error.causes();
    if !causes.is_empty() {
        text += &format!("  because: {}\n", causes.join(": "));
    }
    if let Some(hint) = error.advice() {
        text += &format!("  hint: {hint}\n");
    }
    text
}

/// The errors of all targets, as `say` words them. One that several share is said once.
pub fn failures(outcome: &Outcome, say: &dyn Fn(&Error) -> String) -> String {
    let mut said: Vec<String> = Vec::new();
    for target in &outcome.targets {
        let Some(error) = &target.error else { continue };
        let text = say(error);
        if !said.contains(&text) {
            said.push(text);
        }
    }
    let pushed = outcome.targets.iter().filter(|target| target.error.is_none()).count();
    if !said.is_empty() && pushed > 0 {
        said.push(format!("{pushed} of {} targets were pushed\n", outcome.targets.len()));
    }
    said.concat()
}
