//! The last words about a push that went well, and what a plan would do.

use serde_json::Value;

use super::duration;
use crate::compress::size;
use crate::output::log::Entry;
use crate::push::{LayerOutcome, Outcome, Saved, TagFate, TagOutcome, TargetOutcome};

/// Where people find the references.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum References {
    /// In the summary.
    Included,
    /// Below it: stdout ends in the same place.
    OnStdout,
}

/// Three lines for each target that went well: what was pushed, what was saved if anything was, and the references.
pub fn summary(outcome: &Outcome, references: References) -> String {
    let mut text = String::new();
    for target in went_well(outcome) {
        let own = if references == References::Included { target.references() } else { Vec::new() };
        for line in std::iter::once(pushed(outcome, target)).chain(saved(outcome, target)).chain(own) {
            text += &(line + "\n");
        }
    }
    text
}

/// The same for programs, an entry a target.
pub fn summary_entries(outcome: &Outcome) -> Vec<Entry> {
    let entry = |target: &TargetOutcome| {
        let Saved { bytes, seconds } = target.saved();
        let tags: Vec<String> = target.placed.iter().map(|placed| placed.tag.to_string()).collect();
        Entry::info("summary", pushed(outcome, target))
            .with("target", target.name.as_str())
            .with("tags", tags)
            .with("digest", target.digest.map(|digest| digest.to_string()))
            .with("references", target.references())
            .with("dry_run", outcome.dry_run)
            .with("layers", target.layers.len())
            .with("uploaded", target.count("upload"))
            .with("mounted", target.count("mount"))
            .with("reused", target.count("reuse"))
            .with("sent", target.sent())
            .with("saved_bytes", bytes)
            .with("saved_seconds", seconds)
            .with("seconds", outcome.seconds())
    };
    went_well(outcome).map(entry).collect()
}

/// What a plan would do with each layer, a line each.
pub fn plan(outcome: &Outcome) -> String {
    plan_entries(outcome).iter().map(|entry| entry.text() + "\n").collect()
}

/// The same for programs.
pub fn plan_entries(outcome: &Outcome) -> Vec<Entry> {
    let is_one = outcome.targets.len() == 1;
    let of = |target: &TargetOutcome| -> Vec<Entry> {
        let entry = |layer: &LayerOutcome| {
            let name = layer.hash().unwrap_or_else(|| layer.name.clone());
            let size = size(layer.archive_bytes);
            let preposition = if layer.action == "upload" { "to" } else { "in" };
            let place = if is_one { String::new() } else { format!(" {preposition} {}", target.name) };
            let text = format!("layer {name}  {size:>10}  {}{place}: {}", layer.action, layer.why);
            Entry::info("layer", text)
                .with("target", target.name.as_str())
                .with("layer", name)
                .with("bytes", layer.archive_bytes)
                .with("action", layer.action)
                .with("why", layer.why.as_str())
        };
        target.layers.iter().map(entry).collect()
    };
    outcome.targets.iter().flat_map(of).collect()
}

fn went_well(outcome: &Outcome) -> impl Iterator<Item = &TargetOutcome> {
    outcome.targets.iter().filter(|target| target.error.is_none())
}

/// What was pushed where.
fn pushed(outcome: &Outcome, target: &TargetOutcome) -> String {
    let (name, uploaded) = (&target.name, target.count("upload"));
    let all = if target.layers.len() == 1 { "1 layer".into() } else { format!("{} layers", target.layers.len()) };
    if outcome.dry_run {
        let bytes: u64 = target.layers.iter().filter(|l| l.action == "upload").map(|l| l.archive_bytes).sum();
        let size = size(bytes);
        return format!("{name}: {uploaded} of {all} would be uploaded, {size} of the archive. Nothing was sent.");
    }
    // Those that stay where they are were not pushed, if others were.
    let is_told = |placed: &&TagOutcome| !target.changed || placed.fate != TagFate::Skipped;
    let tags: Vec<&str> = target.placed.iter().filter(is_told).map(|placed| placed.tag.as_str()).collect();
    let name = if tags.is_empty() { name.clone() } else { format!("{name} ({})", tags.join(", ")) };
    let time = duration(outcome.seconds());
    if target.changed {
        format!("pushed {name}: {uploaded} of {all} uploaded, {} sent; {time}", size(target.sent()))
    } else {
        format!("{name}: {}; nothing was sent; {time}", found(target))
    }
}

/// What was saved, if anything was.
fn saved(outcome: &Outcome, target: &TargetOutcome) -> Option<String> {
    let Saved { bytes, seconds } = target.saved();
    let spared = match (target.count("mount"), target.count("reuse")) {
        (0, 0) => return None,
        (0, reused) => format!("{reused} reused"),
        (mounted, reused) => format!("{mounted} mounted, {reused} reused"),
    };
    let time = seconds.map_or_else(String::new, |seconds| format!("; about {}", duration(seconds)));
    let saved = if outcome.dry_run { "would save" } else { "saved" };
    Some(format!("{saved} {} of the archive from being packed and sent: {spared}{time}", size(bytes)))
}

/// What was found of a target to which nothing was added.
fn found(target: &TargetOutcome) -> &'static str {
    match target.placed.iter().any(|placed| placed.fate == TagFate::Skipped) {
        true => "tags that exist stay",
        false => "already there",
    }
}

/// Of all targets that were to be pushed to, how many were, if some were not.
pub fn partial_success(outcome: &Outcome) -> Option<Entry> {
    let (all, pushed) = (outcome.targets.len(), went_well(outcome).count());
    let text = format!("{pushed} of {all} targets were pushed");
    let entry = || Entry::info("targets", text).with("targets", all).with("pushed", Value::from(pushed));
    (pushed > 0 && pushed < all).then(entry)
}
