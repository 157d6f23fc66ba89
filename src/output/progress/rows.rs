//! The rows of a terminal: one a layer, one for the total, one for the status. Pure: a state and a size in, rows out.

use std::collections::HashMap;
use std::time::Instant;

use console::{Alignment, pad_str};

use super::state::{LayerState, State, TargetLayer};
use super::status::status_row;
use crate::compress::{Meter, size};
use crate::output::log::{ColorMode, Tone, sanitize_line};

/// Narrower terminals have neither a column of sizes nor one of bytes sent.
const WIDE: usize = 64;
const MIN_NAME: usize = 8;
const MAX_NAME: usize = 24;

/// With fewer rows than this a terminal shows the status only.
const MIN_HEIGHT: usize = 6;

/// One row.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Row {
    /// The text before the bar.
    pub(super) label: String,
    /// The position and length of a bar. Without one the row is text.
    pub(super) bar: Option<(u64, u64)>,
    /// The text after the bar.
    pub(super) message: String,
}

/// A layer at all its targets.
struct Layer<'a> {
    name: &'a str,
    bytes: u64,
    targets: Vec<&'a TargetLayer>,
}

/// How far a layer is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Waiting,
    Active,
    Done,
}

impl<'a> Layer<'a> {
    /// The layers of a push, in the order in which they were planned.
    fn all(layers: &'a [TargetLayer]) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        let mut places = HashMap::new();
        for layer in layers {
            let place = *places.entry(layer.layer.id).or_insert_with(|| {
                let name = &layer.layer.name;
                let name = name.strip_prefix("sha256:").unwrap_or(name);
                all.push(Self { name, bytes: layer.bytes, targets: Vec::new() });
                all.len() - 1
            });
            all[place].targets.push(layer);
        }
        all
    }

    fn meters(&self) -> impl Iterator<Item = &Meter> {
        self.targets.iter().filter_map(|layer| layer.meter()).map(|meter| &**meter)
    }

    fn sent(&self) -> u64 {
        self.meters().map(Meter::sent).sum()
    }

    fn stage(&self) -> Stage {
        let is_done = |layer: &&TargetLayer| match layer.state {
            LayerState::Reused | LayerState::Mounted | LayerState::Upload { sent: Some(_), .. } => true,
            LayerState::MountPending | LayerState::Upload { .. } => false,
        };
        match self.targets.iter().filter(|layer| is_done(layer)).count() {
            done if done == self.targets.len() => Stage::Done,
            _ if self.sent() > 0 => Stage::Active,
            _ => Stage::Waiting,
        }
    }

    /// What happens to it, and with several targets at how many of them.
    fn actions(&self) -> String {
        let mut actions: Vec<(&str, &str, usize)> = Vec::new();
        for layer in &self.targets {
            let (action, preposition) = match layer.state {
                LayerState::Reused => ("reused", "in"),
                LayerState::MountPending => ("to be mounted", "in"),
                LayerState::Mounted => ("mounted", "in"),
                LayerState::Upload { sent: Some(_), .. } => ("sent", "to"),
                LayerState::Upload { .. } => ("waiting", "for"),
            };
            match actions.iter_mut().find(|(known, ..)| *known == action) {
                Some((.., count)) => *count += 1,
                None => actions.push((action, preposition, 1)),
            }
        }
        let is_one = self.targets.len() == 1;
        let text = actions.iter().map(|(action, preposition, count)| match is_one {
            true => (*action).to_owned(),
            false => format!("{action} {preposition} {count}"),
        });
        text.collect::<Vec<_>>().join(", ")
    }

    fn row(&self, columns: &Columns, color: ColorMode) -> Row {
        match self.stage() {
            Stage::Waiting => columns.text(self.name, self.bytes, &self.actions(), Tone::Faint, color),
            Stage::Done if self.sent() > 0 => {
                let actions = format!("{}: {}", self.actions(), size(self.sent()));
                columns.text(self.name, self.bytes, &actions, Tone::Done, color)
            }
            Stage::Done => columns.text(self.name, self.bytes, &self.actions(), Tone::Done, color),
            Stage::Active => {
                let (position, total) =
                    self.meters().fold((0, 0), |(at, all), meter| (at + meter.position(), all + meter.total()));
                columns.bar(self.name, self.bytes, (position, total), self.sent())
            }
        }
    }
}

/// The widths of columns.
struct Columns {
    name: usize,
    is_wide: bool,
}

impl Columns {
    fn label(&self, name: &str, bytes: u64) -> String {
        let name = sanitize_line(name).replace(['\t', '\n', '\r'], " ");
        let name = pad_str(&name, self.name, Alignment::Left, Some("..")).into_owned();
        if self.is_wide { format!("{name}  {:>10}  ", size(bytes)) } else { format!("{name}  ") }
    }

    fn text(&self, name: &str, bytes: u64, text: &str, tone: Tone, color: ColorMode) -> Row {
        Row { label: self.label(name, bytes), bar: None, message: color.paint(tone, text) }
    }

    fn bar(&self, name: &str, bytes: u64, bar: (u64, u64), sent: u64) -> Row {
        let message = if self.is_wide { format!("  {:>10} sent", size(sent)) } else { String::new() };
        Row { label: self.label(name, bytes), bar: Some(bar), message }
    }

    /// One row for many layers.
    fn folded(&self, layers: &[&Layer<'_>], text: &str, tone: Tone, color: ColorMode) -> Row {
        let bytes = layers.iter().map(|layer| layer.bytes).sum();
        self.text(&format!("{} more", layers.len()), bytes, text, tone, color)
    }
}

/// Which layers have a row of their own where there are more layers than rows. A layer keeps its row until another one
/// needs it, so no layer moves.
#[derive(Debug, Default)]
pub(super) struct Slots(Vec<usize>);

impl Slots {
    /// Assigns so many rows to layers.
    fn assign(&mut self, layers: &[Stage], count: usize) -> &[usize] {
        self.0.truncate(count);
        self.0.retain(|layer| *layer < layers.len());
        for wanted in [Stage::Active, Stage::Waiting, Stage::Done] {
            for layer in (0..layers.len()).filter(|layer| layers[*layer] == wanted) {
                if self.0.contains(&layer) {
                    continue;
                }
                let slot_of = |stage| self.0.iter().position(|layer| layers[*layer] == stage);
                let slot = match wanted {
                    Stage::Active => slot_of(Stage::Done).or_else(|| slot_of(Stage::Waiting)),
                    Stage::Waiting => slot_of(Stage::Done),
                    Stage::Done => None,
                };
                match slot {
                    _ if self.0.len() < count => self.0.push(layer),
                    Some(slot) => self.0[slot] = layer,
                    None => break,
                }
            }
        }
        &self.0
    }
}

/// Returns the rows for a terminal of so many columns and rows: fewer than it has.
pub(super) fn rows(
    state: &State,
    slots: &mut Slots,
    (columns, height): (usize, usize),
    now: Instant,
    color: ColorMode,
) -> Vec<Row> {
    let status = Row { message: status_row(state, now), ..Row::default() };
    let layers = Layer::all(&state.layers);
    if layers.is_empty() || height < MIN_HEIGHT {
        return vec![status];
    }
    let name = layers.iter().map(|layer| console::measure_text_width(layer.name)).max().unwrap_or_default();
    let columns = Columns { name: name.clamp(MIN_NAME, MAX_NAME), is_wide: columns >= WIDE };
    let available = height - 3;
    let mut rows: Vec<Row> = if layers.len() <= available {
        layers.iter().map(|layer| layer.row(&columns, color)).collect()
    } else {
        let stages: Vec<Stage> = layers.iter().map(Layer::stage).collect();
        let shown = slots.assign(&stages, available - 2);
        let hidden = |is_done| -> Vec<&Layer<'_>> {
            let others = (0..layers.len()).filter(|at| !shown.contains(at) && (stages[*at] == Stage::Done) == is_done);
            others.map(|at| &layers[at]).collect()
        };
        let (done, others) = (hidden(true), hidden(false));
        let first = columns.folded(&done, "done", Tone::Done, color);
        let last = columns.folded(&others, "to come", Tone::Faint, color);
        let shown = shown.iter().map(|at| layers[*at].row(&columns, color));
        std::iter::once(first).chain(shown).chain([last]).collect()
    };
    let totals = state.totals();
    rows.push(match totals.total {
        0 => columns.text("total", 0, "nothing to upload", Tone::Done, color),
        total => columns.bar("total", total, (totals.position, total), totals.sent),
    });
    rows.push(status);
    rows
}
