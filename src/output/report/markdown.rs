//! The outcome as Markdown, for the page of a CI job.

use super::text::{duration, error_text};
use crate::compress::size;
use crate::error::Error;
use crate::push::{LayerOutcome, Outcome, TagOutcome, TargetOutcome};

/// Returns the summary of a push: for each target its tags, layers, totals, and the command that pulls it, or its error.
pub(crate) fn markdown(outcome: &Outcome, title: &str) -> String {
    let targets = outcome.targets.iter().map(target);
    format!("### {}\n\n{}", inline(title), targets.collect::<Vec<_>>().join("\n")) + &time(outcome)
}

/// Returns the summary of a command line that leads to no push.
pub(crate) fn markdown_of_rejection(error: &Error, title: &str) -> String {
    format!("### {}\n\n{}\n", inline(title), block(&error_text(error)))
}

/// Returns the summary of several images: what the whole run came to, and the images that failed.
pub(crate) fn markdown_of_images(sums: &str, failures: &[String], title: &str) -> String {
    let failures = if failures.is_empty() { String::new() } else { format!("\n{}", block(&failures.join("\n"))) };
    format!("### {}\n\n{}\n{failures}", inline(title), inline(sums))
}

fn time(outcome: &Outcome) -> String {
    let failed = outcome.targets.iter().filter(|target| target.error.is_some()).count();
    let failed = match (failed, outcome.targets.len()) {
        (0, _) | (_, 1) => String::new(),
        (failed, all) => format!("{failed} of {all} targets failed. "),
    };
    format!("\n{failed}{} in total.\n", duration(outcome.seconds()))
}

fn target(target: &TargetOutcome) -> String {
    let mut text = format!("`{}`{}\n", target.name, if target.error.is_some() { " failed" } else { "" });
    if !target.placed.is_empty() {
        text += "\n| target | tag | digest | outcome |\n|---|---|---|---|\n";
        for placed in &target.placed {
            text +=
                &format!("| `{}` | `{}` | `{}` | {} |\n", target.name, placed.tag, placed.digest, placed.state.name());
        }
    }
    if !target.layers.is_empty() {
        text += "\n| layer | size | action | sent | time |\n|---|---:|---|---:|---:|\n";
        text.extend(target.layers.iter().map(layer));
        text += &format!("\n{}\n", sums(target));
    }
    text += "\n";
    text += &match (&target.error, target.placed.first()) {
        (Some(error), _) => block(&error_text(error)),
        (None, Some(TagOutcome { tag, digest, .. })) => {
            let name = &target.name;
            block(&[format!("docker pull {name}:{tag}"), format!("docker pull {name}@{digest}")].join("\n"))
        }
        (None, None) => String::new(),
    };
    text
}

/// Returns lines as an indented block, which no text of a registry can end.
fn block(lines: &str) -> String {
    lines.lines().map(|line| format!("    {line}\n")).collect()
}

fn layer(layer: &LayerOutcome) -> String {
    let hash = layer.hash().unwrap_or_else(|| inline(&layer.name));
    let (reason, sent, time) = (inline(&layer.reason), size(layer.sent), duration(layer.seconds));
    format!("| {hash} | {} | {}: {reason} | {sent} | {time} |\n", size(layer.archive_bytes), layer.action.name())
}

fn sums(target: &TargetOutcome) -> String {
    let counts = target.layer_counts();
    let bytes = target.layers.iter().map(|layer| layer.archive_bytes).sum();
    let saved = target.saved();
    let saved = match (saved.bytes, saved.seconds) {
        (0, _) => String::new(),
        (bytes, None) => format!(" Saved: {} of the archive.", size(bytes)),
        (bytes, Some(seconds)) => format!(" Saved: {} of the archive, about {}.", size(bytes), duration(seconds)),
    };
    let retries = match target.layers.iter().map(|layer| u64::from(layer.retries)).sum() {
        0u64 => String::new(),
        1 => " 1 retry.".into(),
        retries => format!(" {retries} retries."),
    };
    let layers = if target.layers.len() == 1 { "layer" } else { "layers" };
    format!(
        "{} {layers}, {} in the archive: {} uploaded, {} mounted, {} reused; {} sent.{saved}{retries}",
        target.layers.len(),
        size(bytes),
        counts.upload,
        counts.mount,
        counts.reuse,
        size(target.sent())
    )
}

/// Escapes text for one line and one cell.
fn inline(text: &str) -> String {
    let mut safe = String::new();
    for c in text.chars() {
        match c {
            c if c.is_control() => safe.push(' '),
            '|' | '<' | '>' | '[' | ']' | '`' | '*' | '_' | '\\' | '#' | '&' => safe.extend(['\\', c]),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_images_are_counted_and_failures_are_listed() {
        let failures = ["failed: a:1: `x` | y".to_owned()];
        let text = markdown_of_images("a_b.tar: 2 images", &failures, "Push");
        assert_eq!(text, "### Push\n\na\\_b.tar: 2 images\n\n    failed: a:1: `x` | y\n");
        assert_eq!(markdown_of_images("2 images", &[], "Push"), "### Push\n\n2 images\n");
    }

    #[test]
    fn markup_is_escaped() {
        assert_eq!(inline("a|b\n<img>[x](y)`*"), "a\\|b \\<img\\>\\[x\\](y)\\`\\*");
    }
}
