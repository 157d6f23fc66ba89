//! The current status of a push in words: a line of the plain log, and the last row of a terminal.

use std::time::{Duration, Instant};

use super::rate::{Throughput, Totals, roughly};
use super::state::{Pause, State};
use crate::compress::size;
use crate::output::log::Entry;

/// Returns the line that a log gets every few seconds. `last` holds the totals of the line before.
pub(super) fn heartbeat(state: &State, last: &mut Totals, now: Instant) -> Entry {
    let totals = state.totals();
    if state.is_stopping {
        return Entry::info("working", "interrupted: closing upload sessions");
    }
    let before = std::mem::replace(last, totals);
    let is_still = (before.position, before.sent) == (totals.position, totals.sent);
    if let Some((Pause { reason, next, .. }, left)) =
        state.current_pause(now).filter(|_| is_still || !state.is_uploading())
    {
        let text = format!("{reason}; {next} in {}", roughly(left));
        return Entry::info("waiting", text).with("why", reason.as_str()).with("seconds", left.as_secs_f64());
    }
    if !state.is_uploading() {
        let (activity, since) = state.activity();
        let seconds = now.duration_since(since).as_secs();
        return Entry::info("working", format!("{activity} ({seconds} s)")).with("seconds", seconds);
    }
    let Totals { total, position, sent, .. } = totals;
    let percent = percent(position, total);
    let (layers, complete) = state.uploads();
    let Throughput { rate, left, stalled } = state.throughput;
    let at = match (stalled, rate) {
        (Some(stalled), _) => format!(", stalled for {}", roughly(stalled)),
        (None, Some(rate)) => format!(" at {}/s", size(rate)),
        (None, None) => String::new(),
    };
    let what = if state.uploads_to_several() { "layer uploads complete" } else { "layers uploaded" };
    let end = left.map_or_else(String::new, |left| format!(", about {} left", roughly(left)));
    let text = format!(
        "{percent:>3} % of {} compressed and sent as {}{at}, {complete} of {layers} {what}{end}",
        size(total),
        size(sent),
    );
    Entry::info("progress", text)
        .with("bytes", total)
        .with("position", position)
        .with("percent", percent)
        .with("sent", sent)
        .with("rate", rate)
        .with("stalled_seconds", stalled.map(|stalled| stalled.as_secs()))
        .with("seconds_left", left.map(|left| left.as_secs_f64().ceil() as u64))
        .with("layers", layers)
        .with("layers_arrived", complete)
}

/// Returns the last row of a terminal, the most important first.
pub(super) fn status_row(state: &State, now: Instant) -> String {
    let mut parts = vec![elapsed(now.duration_since(state.started))];
    if state.is_stopping {
        parts.push("closing upload sessions".into());
        return parts.join("  ");
    }
    if let Some((Pause { reason, next, .. }, left)) = state.current_pause(now) {
        parts.push(format!("{next} in {}: {reason}", roughly(left)));
    }
    if state.is_uploading() {
        let Throughput { rate, left, stalled } = state.throughput;
        parts.extend(stalled.map(|stalled| format!("stalled for {}", roughly(stalled))));
        parts.extend(rate.map(|rate| format!("{}/s", size(rate))));
        parts.extend(left.map(|left| format!("about {} left", roughly(left))));
        let (layers, complete) = state.uploads();
        parts.push(format!("{complete} of {layers} sent"));
    } else {
        parts.push(state.activity().0.to_owned());
    }
    parts.join("  ")
}

/// The share in percent, rounded down: 100 means complete.
pub(super) fn percent(position: u64, total: u64) -> u64 {
    position * 100 / total.max(1)
}

/// A running time, of the same width up to an hour.
fn elapsed(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..3_600 => format!("{:>2}:{:02}", seconds / 60, seconds % 60),
        seconds => format!("{}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60),
    }
}
