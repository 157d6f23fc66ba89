//! The page: the result, where the time went, and the lanes.

use std::time::{Duration, Instant};

use super::drawing::{self, Axis, escaped, stacked, swatch};
use super::recording::{Lane, Recording};
use super::requests::Request;
use super::shares::{shares, verdict};
use crate::compress::size;
use crate::output::report::text::{duration, error_text, error_texts};
use crate::push::{LayerAction, LayerCounts, Outcome, TargetOutcome};
use crate::request_log::TargetId;

const STYLE: &str = include_str!("style.css");

/// The patterns of bars, so that no meaning depends on color alone.
const PATTERNS: &str = concat!(
    r#"<pattern id="dots" width="5" height="5" patternUnits="userSpaceOnUse">"#,
    r#"<circle class="of-read" cx="1.5" cy="1.5" r="1.1"/><circle class="of-read" cx="4" cy="4" r="1.1"/></pattern>"#,
    r#"<pattern id="slant" width="5" height="5" patternUnits="userSpaceOnUse"><path class="on-pack" d="M-1 6L6 -1"/></pattern>"#,
    r#"<pattern id="halves" width="8" height="8" patternUnits="userSpaceOnUse">"#,
    r#"<path class="of-pack" d="M0 0H8L0 8Z"/><path class="of-send" d="M8 0V8H0Z"/></pattern>"#,
    r#"<pattern id="cross" width="6" height="6" patternUnits="userSpaceOnUse"><path class="on-fail" d="M0 0L6 6M6 0L0 6"/></pattern>"#,
    r#"<pattern id="bars" width="5" height="5" patternUnits="userSpaceOnUse"><path class="on-fail" d="M2.5 0V5"/></pattern>"#,
    r#"<pattern id="thin" width="4" height="4" patternUnits="userSpaceOnUse"><path class="on-ask" d="M0 2H4"/></pattern>"#,
    r#"<pattern id="net" width="5" height="5" patternUnits="userSpaceOnUse"><path class="on-work" d="M0 2.5H5M2.5 0V5"/></pattern>"#,
);

/// The legend.
const LEGEND: [(&str, &str); 9] = [
    ("read", "waiting for the archive"),
    ("pack", "compressing and hashing"),
    ("held", "waiting for the upload"),
    ("send", "sending, until the response"),
    ("ask", "small request"),
    ("fail", "failed request, with its status"),
    ("pause", "pause before a retry"),
    ("wait", "waiting for its turn"),
    ("work", "archive, manifests"),
];

/// The page of a push.
pub(super) fn page(recording: &Recording, outcome: &Outcome) -> String {
    let end = Instant::now();
    let axis = Axis::new(recording.began, end);
    let title = format!("{}: {}", verb(outcome), name(outcome));
    let mut lanes = general(recording, outcome, axis, end);
    lanes.extend((0..outcome.targets.len()).map(|target| of_target(recording, outcome, target, axis, end)));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/><title>{}</title>\n\
         <style>\n{STYLE}</style></head>\n<body>\n<svg class=\"patterns\" aria-hidden=\"true\"><defs>{PATTERNS}{}</defs></svg>\n\
         {}{}<h2>Layer by layer</h2>\n<p class=\"faint\">Above: reading and compressing; below: sending. Each tick is a request: \
         hover over it.</p>\n{}{}\
         <footer>{} {}, {}</footer>\n</body></html>\n",
        escaped(&title),
        axis.grid(),
        header(recording, outcome, end),
        shares_table(recording, end),
        legend(),
        lanes.concat(),
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_VERSION"),
        escaped(&httpdate::fmt_http_date(recording.clock)),
    )
}

fn verb(outcome: &Outcome) -> &'static str {
    match (outcome.error(), outcome.dry_run) {
        (Some(_), _) => "Push failed",
        (None, true) => "Plan of a push",
        (None, false) => "Pushed",
    }
}

/// The name of the image.
fn name(outcome: &Outcome) -> String {
    let image = outcome.image.as_ref();
    let named = image.and_then(|image| image.names.first().cloned().or_else(|| Some(image.image_ids.first()?.short())));
    named.unwrap_or_else(|| outcome.archive.clone())
}

fn header(recording: &Recording, outcome: &Outcome, end: Instant) -> String {
    let mut text = format!("<h1>{}: {}</h1>\n", verb(outcome), escaped(&name(outcome)));
    let about = outcome.image.iter().flat_map(|image| std::iter::once(&image.format).chain(&image.platforms));
    let about: Vec<&str> = std::iter::once(outcome.archive.as_str()).chain(about.map(String::as_str)).collect();
    text += &format!("<p class=\"faint\">{}</p>\n", escaped(&about.join(", ")));
    let references = outcome.targets.iter().flat_map(TargetOutcome::references);
    references.for_each(|reference| text += &format!("<p><code>{}</code></p>\n", escaped(&reference)));
    if outcome.error().is_some() {
        text += &format!("<pre>{}</pre>\n", escaped(&error_texts(outcome, &error_text)));
    }
    let facts = facts(outcome, end.saturating_duration_since(recording.began));
    let fact = |(what, value, more): &(&str, String, String)| {
        format!("<div><dt>{what}</dt><dd>{value} <small>{more}</small></dd></div>")
    };
    text + &format!("<dl class=\"facts\">{}</dl>\n", facts.iter().map(fact).collect::<String>())
}

/// Figures about all targets: name, value, explanation.
fn facts(outcome: &Outcome, took: Duration) -> Vec<(&'static str, String, String)> {
    let counts: LayerCounts = outcome.targets.iter().map(TargetOutcome::layer_counts).sum();
    let sent: u64 = outcome.targets.iter().map(TargetOutcome::sent).sum();
    let saved: u64 = outcome.targets.iter().map(|target| target.saved().bytes).sum();
    let uploaded = if outcome.error().is_some() || outcome.dry_run { "to upload" } else { "uploaded" };
    let mut actions = format!("{} {uploaded}, {} mounted, {} reused", counts.upload, counts.mount, counts.reuse);
    if outcome.targets.len() > 1 {
        actions += &format!(", over {} targets", outcome.targets.len());
    }
    let in_image = outcome.image.as_ref().map_or(0, |image| image.layers);
    let in_archive = outcome.image.as_ref().map_or(0, |image| image.archive_bytes);
    let rate = sent as f64 / took.as_secs_f64().max(1e-3);
    let mut facts = vec![
        ("Time", duration(took.as_secs_f64()), String::new()),
        ("Layers", in_image.to_string(), actions),
        ("In the archive", size(in_archive), String::new()),
        ("Sent", size(sent), String::new()),
    ];
    if sent > 0 {
        facts.push(("Rate", format!("{}/s", size(rate as u64)), "over the whole push".into()));
    }
    if saved > 0 {
        facts.push(("Saved by reuse", size(saved), "of the archive not compressed or sent".into()));
    }
    facts
}

/// Where the time went.
fn shares_table(recording: &Recording, end: Instant) -> String {
    let (shares, all) = (shares(recording, end), end.saturating_duration_since(recording.began));
    let bars: Vec<_> = shares.iter().map(|(share, took)| (share.class(), *took)).collect();
    let rows = shares.iter().map(|(share, took)| {
        let seconds = took.as_secs_f64();
        let percent = seconds / all.as_secs_f64().max(1e-6) * 100.0;
        format!(
            "<tr><td>{}{}</td><td class=\"number\">{}</td><td class=\"number\">{percent:.0} %</td></tr>\n",
            swatch(share.class()),
            share.text(),
            duration(seconds)
        )
    });
    let rows: String = rows.collect();
    let verdict = verdict(&shares).map(|verdict| format!("<p>{verdict}</p>\n")).unwrap_or_default();
    format!("<h2>Where the time went</h2>\n{}<table class=\"parts\">{rows}</table>\n{verdict}", stacked(&bars, all))
}

fn legend() -> String {
    let items = LEGEND.map(|(class, words)| format!("<li>{}{words}</li>", swatch(class)));
    format!("<ul class=\"key\">{}</ul>\n", items.concat())
}

/// Whether requests about no layer are shown with the target. A single target shows all of them.
fn is_of(repository: Option<&String>, target: &TargetOutcome, outcome: &Outcome) -> bool {
    outcome.targets.len() == 1 || repository == Some(&target.name)
}

/// Returns the lanes of work for all targets, if there are several.
fn general(recording: &Recording, outcome: &Outcome, axis: Axis, end: Instant) -> Vec<String> {
    if outcome.targets.len() == 1 {
        return Vec::new();
    }
    let is_general = |repository| !outcome.targets.iter().any(|target| is_of(repository, target, outcome));
    let others = recording.others.iter().filter(|(repository, _)| is_general(repository.as_ref()));
    let requests: Vec<&Request> = others.flat_map(|(_, requests)| requests.requests()).collect();
    let rows = row_of_others(axis, &[archive(recording, end)], &requests);
    vec![format!("<h2>For all targets</h2>\n{}", lanes(axis, &rows))]
}

fn archive(recording: &Recording, end: Instant) -> (String, Instant, Instant) {
    ("opening the archive".into(), recording.began, recording.opened.unwrap_or(end))
}

/// A target: its result and its lanes.
fn of_target(recording: &Recording, outcome: &Outcome, id: TargetId, axis: Axis, end: Instant) -> String {
    let target = &outcome.targets[id];
    // The error is at the top of the page.
    let failed = if target.error.is_some() { ": failed" } else { "" };
    let text = format!("<h2>{}{failed}</h2>\n", escaped(&target.name));
    let others = recording.others.iter().filter(|(repository, _)| is_of(repository.as_ref(), target, outcome));
    let requests: Vec<&Request> = others.flat_map(|(_, requests)| requests.requests()).collect();
    let mut work = Vec::new();
    if outcome.targets.len() == 1 {
        work.push(archive(recording, end));
    }
    for (_, from) in recording.finishing.iter().filter(|(target, _)| *target == id) {
        let last = requests.iter().map(|request| request.to).max().unwrap_or(end).max(*from);
        work.push(("putting config, manifests and tags".into(), *from, last));
    }
    let mut rows = row_of_others(axis, &work, &requests);
    // In the order in which they were planned, the largest first; those that were reused last.
    let (reused, moved): (Vec<&Lane>, Vec<&Lane>) =
        recording.lanes.iter().filter(|lane| lane.target == id).partition(|lane| lane.is_reused());
    moved.into_iter().chain(reused).for_each(|lane| rows += &row(axis, lane, end));
    text + &lanes(axis, &rows)
}

/// Lanes below their axis.
fn lanes(axis: Axis, rows: &str) -> String {
    let step = |(x, name): &(f64, String)| {
        // Near the right edge the label is left of its line.
        let side = if *x > 85.0 { " class=\"before\"" } else { "" };
        format!("<span{side} style=\"left:{x:.3}%\">{name}</span>")
    };
    let steps: String = axis.steps().iter().map(step).collect();
    format!(
        "<div class=\"lanes\"><div class=\"axis\"><div></div><div class=\"steps\">{steps}</div></div>\n{rows}</div>\n"
    )
}

fn row_of_others(axis: Axis, work: &[(String, Instant, Instant)], requests: &[&Request]) -> String {
    let count: usize = requests.iter().map(|request| request.count).sum();
    let counts = request_counts(count, requests.iter().filter(|request| request.failed.is_some()).count());
    format!(
        "<div class=\"lane\"><div class=\"name\"><span>everything else</span><small>archive, credentials, lookups, manifests, \
         tags; {counts}</small></div>{}</div>\n",
        drawing::others(axis, work, requests)
    )
}

/// The lane of a layer.
fn row(axis: Axis, lane: &Lane, end: Instant) -> String {
    let layer = &lane.layer.name;
    let hash = layer.strip_prefix("sha256:").unwrap_or(layer);
    let name = format!(
        "<span class=\"hash\" title=\"{}\">{}</span><span class=\"size\">{}</span>",
        escaped(layer),
        escaped(hash),
        size(lane.bytes)
    );
    let (class, result, picture) = match lane.is_reused() {
        true => {
            ("lane reused", String::new(), format!("<div class=\"reason\">reused: {}</div>", escaped(&lane.reason)))
        }
        false => {
            let result = result(lane);
            let result = format!("<small title=\"{0}\">{0}</small>", escaped(&result));
            ("lane", result, drawing::layer(axis, lane, end))
        }
    };
    format!("<div class=\"{class}\"><div class=\"name\">{name}{result}</div>{picture}</div>\n")
}

/// The result for a layer, in a line.
fn result(lane: &Lane) -> String {
    let requests = lane.requests.requests();
    let counts = request_counts(
        requests.iter().map(|request| request.count).sum(),
        requests.iter().filter(|request| request.failed.is_some()).count(),
    );
    let took =
        lane.began().zip(lane.arrived).map(|(from, to)| duration(to.saturating_duration_since(from).as_secs_f64()));
    let what = match (&lane.action, lane.arrived) {
        (LayerAction::Mount(..), Some(_)) => "mounted".to_owned(),
        (LayerAction::Mount(..), None) => "not mounted".to_owned(),
        (LayerAction::Reuse(_), _) => "sent again".to_owned(),
        (LayerAction::Upload, Some(_)) => format!("{} sent", size(lane.sent)),
        (LayerAction::Upload, None) => format!("{} sent, incomplete", size(lane.meter.sent())),
    };
    let took = took.map(|took| format!(" in {took}")).unwrap_or_default();
    format!("{what}{took}, {counts}; {}", lane.reason)
}

/// `3 requests, 1 failed`
fn request_counts(count: usize, failed: usize) -> String {
    match (count, failed) {
        (1, 0) => "1 request".into(),
        (count, 0) => format!("{count} requests"),
        (1, _) => "1 request, failed".into(),
        (count, failed) => format!("{count} requests, {failed} failed"),
    }
}
