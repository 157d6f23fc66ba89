//! The rows of a terminal, managed and drawn by indicatif: a bar a layer, the total, and the status.

use std::time::{Duration, Instant};

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::state::{State, TargetLayer};
use crate::compress::{Meter, size};
use crate::output::log::{ColorMode, Entry, Tone, sanitize_line};
use crate::push::LayerAction;

const BAR: &str = "{prefix:12!} {binary_total_bytes:>10} [{wide_bar}]{share:>6}";
const TEXT: &str = "{prefix:12!} {binary_total_bytes:>10} {wide_msg}";
const STATUS: &str = "{elapsed_precise} {wide_msg}";

/// After this time without a byte, uploads are stalled: a smoothed rate would decay and look like a slow network.
const STALLED: Duration = Duration::from_secs(5);

/// The bars of a push. The last two also measure it, whether they are drawn or not.
#[derive(Debug)]
pub(super) struct Bars {
    pub(super) all: MultiProgress,
    layers: Vec<ProgressBar>,
    /// Bytes of the archive: those to upload, and those that are covered by what was sent.
    total: ProgressBar,
    /// Compressed bytes that were sent by this run.
    pub(super) status: ProgressBar,
    resumed: u64,
    /// When a byte was last sent.
    moved: Instant,
}

impl Bars {
    pub(super) fn new(target: ProgressDrawTarget, now: Instant) -> Self {
        let all = MultiProgress::with_draw_target(target);
        let add = || all.add(ProgressBar::hidden().with_style(style("")));
        Self { layers: Vec::new(), total: add(), status: add(), all, resumed: 0, moved: now }
    }

    /// Measures all uploads.
    pub(super) fn measure(&mut self, layers: &[TargetLayer], now: Instant) {
        let (position, resumed) = (sum(layers, Meter::position), sum(layers, Meter::resumed_at));
        let sent = sum(layers, Meter::sent).saturating_sub(resumed);
        if (self.total.position(), self.status.position()) != (position, sent) {
            self.moved = now;
        }
        self.total.set_length(sum(layers, Meter::total));
        self.total.set_position(position);
        self.status.set_position(sent);
        // Bytes of an earlier run do not count for the rate of this one.
        if std::mem::replace(&mut self.resumed, resumed) != resumed || sent == 0 {
            self.total.reset_eta();
            self.status.reset_eta();
        }
    }

    /// Returns the current status: a line of the log, and the last row of a terminal.
    pub(super) fn status(&self, state: &State, now: Instant) -> Entry {
        let uploads = || state.layers.iter().filter(|layer| layer.meter().is_some());
        let (count, complete) = (uploads().count(), uploads().filter(|layer| layer.is_done).count());
        let still = now.duration_since(self.moved);
        if state.is_stopping {
            return Entry::info("working", "interrupted: closing upload sessions");
        }
        if let Some((reason, next, left)) = state.pause(now).filter(|_| complete == count || still.as_secs() > 0) {
            let text = format!("{next} in {}: {reason}", HumanDuration(left));
            return Entry::info("waiting", text).with("why", reason).with("seconds", left.as_secs_f64());
        }
        if complete == count {
            let (activity, details, since) = &state.activity;
            let seconds = now.duration_since(*since).as_secs();
            return Entry::info("working", format!("{activity}{details} ({seconds} s)")).with("seconds", seconds);
        }
        let (sent, position, total) = (self.status.position(), self.total.position(), self.total.length().unwrap_or(0));
        let percent = percent(position, total);
        let stalled = Some(still).filter(|still| sent > 0 && *still >= STALLED);
        let is_moving = sent > 0 && stalled.is_none();
        let rate = is_moving.then(|| self.status.per_sec() as u64);
        // As long as layers are being planned, the total is not known.
        let left = Some(self.total.eta()).filter(|left| is_moving && state.is_open && !left.is_zero());
        let mut text = format!("{} sent", size(sent));
        text.extend(rate.map(|rate| format!(" at {}/s", size(rate))));
        text.extend(stalled.map(|stalled| format!(", stalled for {}", HumanDuration(stalled))));
        text.extend(left.map(|left| format!(", {} left", HumanDuration(left))));
        text += &format!(", {complete} of {count} uploads done, {percent} % of {}", size(total));
        Entry::info("progress", text)
            .with("bytes", total)
            .with("position", position)
            .with("percent", percent)
            .with("sent", sent)
            .with("rate", rate)
            .with("stalled_seconds", stalled.map(|stalled| stalled.as_secs()))
            .with("seconds_left", left.map(|left| left.as_secs_f64().ceil() as u64))
            .with("layers", count)
            .with("layers_arrived", complete)
    }

    /// Updates the rows for a terminal that has so many. Where it has too few, only layers to upload have one, those that are
    /// being uploaded first.
    pub(super) fn update(&mut self, state: &State, status: &Entry, height: usize, color: ColorMode) {
        let mut layers: Vec<&[TargetLayer]> = state.layers.chunk_by(|one, other| one.layer == other.layer).collect();
        if layers.len() + 2 >= height {
            layers.retain(|layer| is_uploading(layer));
            layers.sort_by_key(|layer| sum(layer, Meter::sent) == 0);
            layers.truncate(height.saturating_sub(3));
        }
        for bar in self.layers.drain(layers.len().min(self.layers.len())..) {
            self.all.remove(&bar);
        }
        for (at, layer) in layers.into_iter().enumerate() {
            if at == self.layers.len() {
                self.layers.push(self.all.insert(at, ProgressBar::hidden()));
            }
            show(&self.layers[at], layer, color);
        }
        self.total.set_style(style(if self.total.length() > Some(0) && height > 2 { BAR } else { "" }));
        self.total.set_prefix("total");
        self.status.set_style(style(STATUS));
        self.status.set_message(one_line(&status.text()));
    }
}

/// Shows a layer at all its targets.
fn show(bar: &ProgressBar, targets: &[TargetLayer], color: ColorMode) {
    let (name, is_uploading) = (&targets[0].layer.name, is_uploading(targets));
    bar.set_style(style(if is_uploading { BAR } else { TEXT }));
    let uploads = targets.iter().filter(|layer| layer.meter().is_some()).count().max(1);
    bar.set_length(targets[0].bytes);
    bar.set_position(sum(targets, Meter::position) / uploads as u64);
    bar.set_prefix(one_line(name.strip_prefix("sha256:").unwrap_or(name)));
    let mut actions: Vec<(Tone, String)> = targets.iter().map(action).collect();
    actions.dedup();
    let actions = actions.iter().map(|(tone, text)| color.paint(*tone, text));
    bar.set_message(actions.collect::<Vec<_>>().join(", "));
}

/// What happens to a layer in a target.
fn action(layer: &TargetLayer) -> (Tone, String) {
    match (&layer.action, layer.is_done) {
        (LayerAction::Reuse(_), _) => (Tone::Done, "reused".into()),
        (LayerAction::Mount(..), false) => (Tone::Faint, "to be mounted".into()),
        (LayerAction::Mount(..), true) => (Tone::Done, "mounted".into()),
        (LayerAction::Upload, _) => (Tone::Done, format!("sent {}", size(layer.meter().map_or(0, Meter::sent)))),
    }
}

fn is_uploading(targets: &[TargetLayer]) -> bool {
    targets.iter().any(|layer| layer.meter().is_some() && !layer.is_done)
}

fn sum(layers: &[TargetLayer], of: impl Fn(&Meter) -> u64) -> u64 {
    layers.iter().filter_map(TargetLayer::meter).map(of).sum()
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants, and the tests draw all of them.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ").with_key("share", |bar: &ProgressState, text: &mut dyn std::fmt::Write| {
        // A String takes everything.
        write!(text, "{} %", percent(bar.pos(), bar.len().unwrap_or(0))).ok();
    })
}

/// The share in percent, rounded down: 100 means complete. indicatif rounds to the nearest.
fn percent(position: u64, total: u64) -> u64 {
    position * 100 / total.max(1)
}

/// Text from elsewhere, for a row.
fn one_line(text: &str) -> String {
    sanitize_line(text).replace(['\t', '\n', '\r'], " ")
}
