//! Everything on the time axis. Positions are percentages of the width, so a drawing fits any window and its text is not
//! scaled.

use std::time::{Duration, Instant};

use super::recording::{Lane, pauses};
use super::requests::Request;
use crate::compress::{Stage, size};
use crate::output::report::text::duration;
use crate::request_log::Subject;

/// The height of a lane and of its two tracks, in pixels.
const LANE: u32 = 34;
const ABOVE: (u32, u32) = (5, 9);
const BELOW: (u32, u32) = (18, 11);

/// The distance between labels, in percent of the width.
const LABEL: f64 = 7.0;

/// The most steps of an axis.
const STEPS: f64 = 8.0;

/// The time axis of a push, from its start to its end.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    from: Instant,
    seconds: f64,
}

impl Axis {
    pub(super) fn new(from: Instant, to: Instant) -> Self {
        Self { from, seconds: to.saturating_duration_since(from).as_secs_f64().max(1e-6) }
    }

    /// Seconds since the start.
    fn since(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.from).as_secs_f64()
    }

    /// In percent of the width.
    fn place(&self, at: Instant) -> f64 {
        (self.since(at) / self.seconds * 100.0).clamp(0.0, 100.0)
    }

    fn step(&self) -> f64 {
        const NICE: [f64; 19] = [
            0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0,
            600.0,
        ];
        let least = self.seconds / STEPS;
        NICE.into_iter().find(|step| *step >= least).unwrap_or_else(|| (least / 1800.0).ceil() * 1800.0)
    }

    /// The steps: their positions and labels.
    pub(super) fn steps(&self) -> Vec<(f64, String)> {
        let step = self.step();
        let steps = (0..=STEPS as u32).map(|n| f64::from(n) * step).take_while(|at| *at <= self.seconds);
        steps.map(|at| (at / self.seconds * 100.0, axis_label(at, step))).collect()
    }

    /// The grid behind every lane.
    pub(super) fn grid(&self) -> String {
        let line = |(x, _): &(f64, String)| format!("<line x1=\"{x:.3}%\" x2=\"{x:.3}%\" y1=\"0\" y2=\"100%\"/>");
        format!("<g id=\"grid\">{}</g>", self.steps().iter().map(line).collect::<String>())
    }
}

/// Formats a moment: `0`, `200 ms`, `1.5 s`, `2:30 min`.
fn axis_label(at: f64, step: f64) -> String {
    match at {
        0.0 => "0".into(),
        _ if step < 0.1 || step < 1.0 && at < 0.9995 => format!("{:.0} ms", at * 1000.0),
        _ if step < 1.0 => format!("{at:.1} s"),
        _ if step < 15.0 => format!("{at:.0} s"),
        _ => format!("{}:{:02} min", (at / 60.0) as u64, (at % 60.0) as u64),
    }
}

/// Escapes text for HTML and XML.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' => safe.push('\n'),
            // XML does not allow the first two, and marks that change the direction of text can hide it.
            '\u{fffe}' | '\u{ffff}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                safe.push('\u{fffd}');
            }
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

/// A drawing of a lane's height, with its two tracks.
fn picture(what: &str, drawn: &str) -> String {
    format!(
        "<svg class=\"track\" height=\"{LANE}\" role=\"img\" aria-label=\"{}\"><use href=\"#grid\"/>{drawn}</svg>",
        escaped(what)
    )
}

/// A bar on a track, with its tooltip.
fn bar((axis, class): (Axis, &str), (from, to): (Instant, Instant), (y, height): (u32, u32), title: &str) -> String {
    let (x, end) = (axis.place(from), axis.place(to));
    format!(
        "<rect class=\"{class}\" x=\"{x:.3}%\" y=\"{y}\" width=\"{:.3}%\" height=\"{height}\"><title>{}</title></rect>",
        end - x,
        escaped(title)
    )
}

fn seconds(from: Instant, to: Instant) -> String {
    duration(to.saturating_duration_since(from).as_secs_f64())
}

/// Draws a layer that is not reused.
pub(super) fn layer(axis: Axis, lane: &Lane, end: Instant) -> String {
    let mut drawn = String::new();
    let began = lane.began().or(lane.arrived).unwrap_or(end);
    if began > lane.planned {
        let title = format!("waiting for an upload slot, {}", seconds(lane.planned, began));
        drawn += &bar((axis, "wait"), (lane.planned, began), (BELOW.0 + BELOW.1 / 2, 2), &title);
    }
    for span in lane.reads.iter().flat_map(|timeline| timeline.spans()) {
        let (class, what) = match span.stage {
            Stage::Reading => ("read", "waiting for the archive"),
            Stage::Compressing => ("pack", "compressing and hashing"),
            Stage::Blocked => ("held", "waiting for the upload"),
        };
        let title = format!("{what}, {}", seconds(span.from, span.to));
        drawn += &bar((axis, class), (span.from, span.to), ABOVE, &title);
    }
    drawn += &request_bars(axis, lane.requests.requests());
    picture(&format!("timeline of layer {}", lane.layer), &drawn)
}

/// Draws everything that is not about a layer.
pub(super) fn others(axis: Axis, work: &[(String, Instant, Instant)], requests: &[&Request]) -> String {
    let bars = work
        .iter()
        .map(|(what, from, to)| bar((axis, "work"), (*from, *to), ABOVE, &format!("{what}, {}", seconds(*from, *to))));
    let mut requests: Vec<Request> = requests.iter().map(|request| (*request).clone()).collect();
    requests.sort_by_key(|request| request.from);
    picture("everything else", &(bars.collect::<String>() + &request_bars(axis, &requests)))
}

/// Draws requests, each with a tick where it begins, the pauses between them, and a label where one failed.
fn request_bars(axis: Axis, requests: &[Request]) -> String {
    let mut drawn = String::new();
    for gap in pauses(requests) {
        let title = format!("pausing before a retry, {}", seconds(gap.from, gap.to));
        drawn += &bar((axis, "pause"), (gap.from, gap.to), BELOW, &title);
    }
    let mut last_label = -LABEL;
    for request in requests {
        let class = match &request.failed {
            Some(_) => "fail",
            None if request.sends_layer() => "send",
            None => "ask",
        };
        drawn += &bar((axis, class), (request.from, request.to), BELOW, &tooltip(request));
        let x = axis.place(request.from);
        drawn += &format!(
            "<line class=\"tick\" x1=\"{x:.3}%\" x2=\"{x:.3}%\" y1=\"{}\" y2=\"{}\"/>",
            BELOW.0 + BELOW.1 - 3,
            BELOW.0 + BELOW.1 + 4
        );
        let end = axis.place(request.to);
        if let Some(failed) = request.failed.as_ref().filter(|_| end >= last_label + LABEL) {
            let (anchor, by) = if end > 90.0 { ("end", -3) } else { ("start", 3) };
            drawn += &format!(
                "<text x=\"{end:.3}%\" dx=\"{by}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
                BELOW.0 + BELOW.1 - 2,
                escaped(&failed.short())
            );
            last_label = end;
        }
    }
    drawn
}

/// The tooltip of a request.
fn tooltip(request: &Request) -> String {
    let (first, took) = (&request.first, seconds(request.from, request.to));
    if request.count > 1 {
        let failed = request.failed.as_ref().map(|failed| format!(", one failed: {}", failed.short()));
        let sent = size(request.sent);
        return format!(
            "{} requests from {}, {took}, {sent}{}",
            request.count,
            first.method,
            failed.unwrap_or_default()
        );
    }
    let status = match (first.status, &first.error) {
        (Some(status), _) => status.to_string(),
        (None, Some(fault)) => format!("no response ({fault})"),
        (None, None) => "no response".into(),
    };
    let mut text = format!("{} {status}, {took}", first.method);
    if request.sent > 0 {
        text += &format!(", {}", size(request.sent));
    }
    if first.attempt > 1 {
        text += &format!(", attempt {}", first.attempt);
    }
    // The lane names its layer.
    if let Some(subject) = first.subject.as_ref().filter(|subject| !matches!(subject, Subject::Layer { .. })) {
        text += &format!("\n{subject}");
    }
    text += &format!("\n{}", first.url);
    first.request_id.iter().for_each(|id| text += &format!("\nrequest {id}"));
    text
}

/// Draws parts that add up to the whole.
pub(super) fn stacked(parts: &[(&str, Duration)], all: Duration) -> String {
    let mut x = 0.0;
    let mut drawn = String::new();
    for (class, spent) in parts {
        let width = spent.as_secs_f64() / all.as_secs_f64().max(1e-6) * 100.0;
        drawn += &format!("<rect class=\"{class}\" x=\"{x:.3}%\" y=\"1\" width=\"{width:.3}%\" height=\"18\"/>");
        x += width;
    }
    format!("<svg class=\"track\" height=\"20\" role=\"img\" aria-label=\"where the time went\">{drawn}</svg>")
}

/// A sample for the legend.
pub(super) fn swatch(class: &str) -> String {
    let height = if class == "wait" { 2 } else { 11 };
    let y = (14 - height) / 2;
    format!(
        "<svg class=\"swatch\" width=\"26\" height=\"14\" aria-hidden=\"true\"><rect class=\"{class}\" x=\"1\" y=\"{y}\" \
         width=\"24\" height=\"{height}\"/></svg>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(seconds: f64) -> Axis {
        Axis { from: Instant::now(), seconds }
    }

    #[test]
    fn an_axis_has_a_few_round_steps_however_long_it_is() {
        for (seconds, expected) in [
            (0.021, "0 5 ms 10 ms 15 ms 20 ms"),
            (1.3, "0 200 ms 400 ms 600 ms 800 ms 1.0 s 1.2 s"),
            (12.0, "0 2 s 4 s 6 s 8 s 10 s 12 s"),
            (100.0, "0 0:15 min 0:30 min 0:45 min 1:00 min 1:15 min 1:30 min"),
            (1000.0, "0 5:00 min 10:00 min 15:00 min"),
            (40_000.0, "0 90:00 min 180:00 min 270:00 min 360:00 min 450:00 min 540:00 min 630:00 min"),
        ] {
            let steps = axis(seconds).steps();
            assert_eq!(steps.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(" "), expected);
            assert!(steps.iter().all(|(x, _)| (0.0..=100.0).contains(x)));
        }
    }

    #[test]
    fn a_push_that_took_no_time_has_an_axis() {
        let now = Instant::now();
        let axis = Axis::new(now, now);
        assert!(axis.steps().len() <= 9 && axis.place(now) == 0.0);
        assert!(axis.place(now + Duration::from_secs(1)) <= 100.0, "nothing is outside");
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(
            escaped("<script>alert('1')</script>&amp;\"\u{7}\u{202e}\u{ffff}"),
            "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;amp;&quot; \u{fffd}\u{fffd}"
        );
    }
}
