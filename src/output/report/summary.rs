//! The summary of a successful push, and of a plan.

use serde_json::Value;

use super::text::duration;
use crate::compress::size;
use crate::output::log::Entry;
use crate::push::{
    LayerAction, LayerCounts, LayerOutcome, Outcome, PlannedTag, Saved, TagOutcome, TagState, TargetOutcome,
};

/// Where the references are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum References {
    /// In the summary.
    Included,
    /// On stdout only, which is the same terminal.
    OnStdout,
}

/// Returns the lines for each successful target: what was pushed, what was saved if anything was, and the references.
pub(crate) fn summary(outcome: &Outcome, references: References) -> String {
    let mut text = String::new();
    for target in succeeded(outcome) {
        let own = if references == References::Included { target.references() } else { Vec::new() };
        for line in std::iter::once(pushed(outcome, target)).chain(saved(outcome, target)).chain(own) {
            text += &(line + "\n");
        }
    }
    text
}

/// Returns the summary for programs, an entry a target.
pub(crate) fn summary_entries(outcome: &Outcome) -> Vec<Entry> {
    let entry = |target: &TargetOutcome| {
        let Saved { bytes, seconds } = target.saved();
        let counts = target.layer_counts();
        let tags: Vec<String> = target.placed.iter().map(|placed| placed.tag.to_string()).collect();
        Entry::info("summary", pushed(outcome, target))
            .with("target", target.name.as_str())
            .with("tags", tags)
            .with("digest", target.digest.map(|digest| digest.to_string()))
            .with("references", target.references())
            .with("dry_run", outcome.dry_run)
            .with("layers", target.layers.len())
            .with("uploaded", counts.upload)
            .with("mounted", counts.mount)
            .with("reused", counts.reuse)
            .with("sent", target.sent())
            .with("saved_bytes", bytes)
            .with("saved_seconds", seconds)
            .with("seconds", outcome.seconds())
    };
    succeeded(outcome).map(entry).collect()
}

/// Returns what a plan would do with each layer and each tag, a line each.
pub(crate) fn plan(outcome: &Outcome) -> String {
    plan_entries(outcome).iter().map(|entry| entry.text() + "\n").collect()
}

/// Returns the plan for programs, an entry a layer and a tag.
pub(crate) fn plan_entries(outcome: &Outcome) -> Vec<Entry> {
    let is_one = outcome.targets.len() == 1;
    let of = |target: &TargetOutcome| -> Vec<Entry> {
        let entry = |layer: &LayerOutcome| {
            let name = layer.hash().unwrap_or_else(|| layer.name.clone());
            let size = size(layer.archive_bytes);
            let preposition = if layer.action == LayerAction::Upload { "to" } else { "in" };
            let place = if is_one { String::new() } else { format!(" {preposition} {}", target.name) };
            let text = format!("layer {name}  {size:>10}  {}{place}: {}", layer.action.name(), layer.reason);
            Entry::info("layer", text)
                .with("target", target.name.as_str())
                .with("layer", name)
                .with("bytes", layer.archive_bytes)
                .with("action", layer.action.name())
                .with("why", layer.reason.as_str())
        };
        let tag = |planned: &PlannedTag| {
            let PlannedTag { tag, state, moved_from, .. } = planned;
            Entry::info("tag", format!("tag {}:{tag} {planned}", target.name))
                .with("target", target.name.as_str())
                .with("tag", tag.as_str())
                .with("outcome", state.name())
                .with("moved_from", moved_from.map(|before| before.to_string()))
        };
        target.layers.iter().map(entry).chain(target.planned_tags.iter().map(tag)).collect()
    };
    outcome.targets.iter().flat_map(of).collect()
}

fn succeeded(outcome: &Outcome) -> impl Iterator<Item = &TargetOutcome> {
    outcome.targets.iter().filter(|target| target.error.is_none())
}

/// What was pushed to a target. Without an archive, only tags were put.
fn pushed(outcome: &Outcome, target: &TargetOutcome) -> String {
    let only_tags = outcome.image.is_none();
    let (name, uploaded) = (&target.name, target.layer_counts().upload);
    let all = if target.layers.len() == 1 { "1 layer".into() } else { format!("{} layers", target.layers.len()) };
    if outcome.dry_run && only_tags {
        return format!("{name}: nothing was sent");
    }
    if outcome.dry_run {
        let bytes: u64 =
            target.layers.iter().filter(|l| l.action == LayerAction::Upload).map(|l| l.archive_bytes).sum();
        let size = size(bytes);
        return format!("{name}: {uploaded} of {all} would be uploaded, {size} of the archive; nothing was sent");
    }
    // Skipped tags were not pushed if others were.
    let is_listed = |placed: &&TagOutcome| !target.changed || placed.state != TagState::Skipped;
    let tags: Vec<&str> = target.placed.iter().filter(is_listed).map(|placed| placed.tag.as_str()).collect();
    let name = if tags.is_empty() { name.clone() } else { format!("{name} ({})", tags.join(", ")) };
    let time = duration(outcome.seconds());
    if target.changed && only_tags {
        format!("tagged {name}; {time}")
    } else if target.changed {
        format!("pushed {name}: {uploaded} of {all} uploaded, {} sent; {time}", size(target.sent()))
    } else {
        format!("{name}: {}; nothing was sent; {time}", unchanged(target))
    }
}

/// What reuse saved, if anything.
fn saved(outcome: &Outcome, target: &TargetOutcome) -> Option<String> {
    let Saved { bytes, seconds } = target.saved();
    let LayerCounts { mount, reuse, .. } = target.layer_counts();
    let reused_layers = match (mount, reuse) {
        (0, 0) => return None,
        (0, reused) => format!("{reused} reused"),
        (mounted, reused) => format!("{mounted} mounted, {reused} reused"),
    };
    let time = seconds.map_or_else(String::new, |seconds| format!("; about {}", duration(seconds)));
    let saved = if outcome.dry_run { "would save" } else { "saved" };
    Some(format!("{saved} compressing and sending {} of the archive: {reused_layers}{time}", size(bytes)))
}

/// Why nothing was added to a target.
fn unchanged(target: &TargetOutcome) -> &'static str {
    match target.placed.iter().any(|placed| placed.state == TagState::Skipped) {
        true => "existing tags unchanged",
        false => "already up to date",
    }
}

/// Returns how many targets were pushed or tagged, if some were and some were not.
pub(crate) fn partial_success(outcome: &Outcome) -> Option<Entry> {
    let (all, pushed) = (outcome.targets.len(), succeeded(outcome).count());
    let were = if outcome.dry_run { "would be" } else { "were" };
    let done = if outcome.image.is_none() { "tagged" } else { "pushed" };
    let text = format!("{pushed} of {all} targets {were} {done}");
    let entry = || Entry::info("targets", text).with("targets", all).with("pushed", Value::from(pushed));
    (pushed > 0 && pushed < all).then(entry)
}
