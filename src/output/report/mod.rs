//! The outcome, as text for people, as JSON and variables for pipelines, as Markdown for both; its course as a page; and what
//! is in an archive.

pub mod ci;
mod collector;
pub mod inspect;
mod json;
mod markdown;
mod metadata;
mod requests;
mod summary;
mod timeline;

pub use collector::{MAX_MESSAGES, ReportCollector};
pub use json::{RunInfo, json, rejection};
pub use markdown::{markdown, markdown_of_rejection};
pub use metadata::{digest, metadata};
pub use summary::{References, partial_success, plan, plan_entries, summary, summary_entries};
pub use timeline::Timeline;

use crate::compress::size;
use crate::error::Error;
use crate::push::{Outcome, ReadBack, TargetOutcome};

/// What goes to stdout: one reference a line, `HOST/REPOSITORY:TAG@sha256:...`, and nothing else.
pub fn references(outcome: &Outcome) -> String {
    outcome.targets.iter().flat_map(TargetOutcome::references).map(|reference| reference + "\n").collect()
}

/// A time in words: `40 ms`, `3.2 s`, `2 min 5 s`.
fn duration(seconds: f64) -> String {
    match seconds {
        ..1.0 => format!("{:.0} ms", seconds * 1000.0),
        ..60.0 => format!("{seconds:.1} s"),
        _ => format!("{} min {} s", seconds as u64 / 60, seconds as u64 % 60),
    }
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
pub fn error_text(error: &Error) -> String {
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
pub fn error_texts(outcome: &Outcome, say: &dyn Fn(&Error) -> String) -> String {
    let mut said: Vec<String> = Vec::new();
    for target in &outcome.targets {
        let Some(error) = &target.error else { continue };
        let text = say(error);
        if !said.contains(&text) {
            said.push(text);
        }
    }
    said.concat()
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn times_are_said_as_people_say_them() {
        let times = [0.0214, 0.9994, 3.21, 59.9, 60.0, 754.9].map(duration);
        assert_eq!(times, ["21 ms", "999 ms", "3.2 s", "59.9 s", "1 min 0 s", "12 min 34 s"]);
    }
}
