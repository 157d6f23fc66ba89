//! The picture of a push on a terminal: a row a layer, one for all, one that says how things stand. Pure: a board and a
//! size in, rows out.

use std::time::Instant;

use super::board::{Board, Fate, Lot, percent};
use super::fit::{cut, filled, width};
use crate::compress::size;

/// Whether colours are used. They never say what words do not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ColorMode {
    /// A few.
    Colored,
    /// None.
    Plain,
}

/// What a colour is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Tone {
    /// It is done.
    Done,
    /// It is still to come.
    Faint,
    Warning,
    Failure,
}

impl ColorMode {
    /// A text in its colour.
    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match (self, tone) {
            (Self::Plain, _) => return text.to_owned(),
            (_, Tone::Done) => "32",
            (_, Tone::Faint) => "2",
            (_, Tone::Warning) => "33",
            (_, Tone::Failure) => "1;31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// A layer, whatever becomes of it at how many targets.
#[derive(Debug, Default)]
struct Layer<'a> {
    name: &'a str,
    bytes: u64,
    lots: Vec<&'a Lot>,
}

/// Where a layer is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Waiting,
    UnderWay,
    Done,
}

impl<'a> Layer<'a> {
    /// The layers of a board, in the order in which they were planned.
    fn all(lots: &'a [Lot]) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        let mut places = std::collections::HashMap::new();
        for lot in lots {
            let place = *places.entry(lot.layer.as_str()).or_insert_with(|| {
                let name = lot.layer.strip_prefix("sha256:").unwrap_or(&lot.layer);
                all.push(Self { name, bytes: lot.bytes, lots: Vec::new() });
                all.len() - 1
            });
            all[place].lots.push(lot);
        }
        all
    }

    fn stage(&self) -> Stage {
        let stages: Vec<Stage> = self.lots.iter().map(|lot| lot.stage()).collect();
        match stages.contains(&Stage::UnderWay) {
            _ if stages.iter().all(|stage| *stage == Stage::Done) => Stage::Done,
            false if !stages.contains(&Stage::Done) => Stage::Waiting,
            false if self.meters().all(|meter| meter.sent() == 0) => Stage::Waiting,
            _ => Stage::UnderWay,
        }
    }

    fn meters(&self) -> impl Iterator<Item = &crate::compress::Meter> {
        self.lots.iter().filter_map(|lot| lot.meter()).map(|meter| &**meter)
    }

    fn sent(&self) -> u64 {
        self.meters().map(crate::compress::Meter::sent).sum()
    }

    /// What has become of it, in words; where there are several targets, at how many of them.
    fn words(&self) -> String {
        let mut words: Vec<(&str, &str, usize)> = Vec::new();
        for (word, preposition) in self.lots.iter().map(|lot| lot.words()) {
            match words.iter_mut().find(|(known, ..)| *known == word) {
                Some((.., count)) => *count += 1,
                None => words.push((word, preposition, 1)),
            }
        }
        let is_one = self.lots.len() == 1;
        let told = words.iter().map(|(word, preposition, count)| match is_one {
            true => (*word).to_owned(),
            false => format!("{word} {preposition} {count}"),
        });
        told.collect::<Vec<_>>().join(", ")
    }
}

impl Lot {
    fn stage(&self) -> Stage {
        match &self.fate {
            Fate::Reused | Fate::Mounted | Fate::Upload { sent: Some(_), .. } => Stage::Done,
            Fate::Upload { meter, .. } if meter.sent() > 0 => Stage::UnderWay,
            Fate::ToBeMounted | Fate::Upload { .. } => Stage::Waiting,
        }
    }

    /// What becomes of it, and what stands between that and a target.
    fn words(&self) -> (&'static str, &'static str) {
        match &self.fate {
            Fate::Reused => ("reused", "in"),
            Fate::ToBeMounted => ("to be mounted", "in"),
            Fate::Mounted => ("mounted", "in"),
            Fate::Upload { sent: Some(_), .. } => ("sent", "to"),
            Fate::Upload { .. } => ("waits", "for"),
        }
    }
}

/// Which layers have a row of their own where there are more than rows. A layer keeps its row until it is done and another
/// needs it, so no row jumps.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<usize>);

impl Places {
    /// Gives so many rows to layers.
    fn give(&mut self, layers: &[Stage], room: usize) -> &[usize] {
        let stage = |layer: usize| layers[layer];
        self.0.retain(|layer| *layer < layers.len());
        while self.0.len() > room {
            let spare = [Stage::Done, Stage::Waiting, Stage::UnderWay];
            let spare = spare.iter().find_map(|wanted| self.0.iter().rposition(|layer| stage(*layer) == *wanted));
            self.0.remove(spare.unwrap_or_default());
        }
        // Those under way come first, then those that come next, and last what is done.
        for wanted in [Stage::UnderWay, Stage::Waiting, Stage::Done] {
            for layer in (0..layers.len()).filter(|layer| stage(*layer) == wanted) {
                if self.0.contains(&layer) {
                    continue;
                }
                let rival = |of: Stage| self.0.iter().position(|layer| stage(*layer) == of);
                let free = match wanted {
                    _ if self.0.len() < room => None,
                    Stage::UnderWay => rival(Stage::Done).or_else(|| rival(Stage::Waiting)),
                    Stage::Waiting => rival(Stage::Done),
                    Stage::Done => return &self.0,
                };
                match free {
                    Some(place) => self.0[place] = layer,
                    None if self.0.len() < room => self.0.push(layer),
                    None => break,
                }
            }
        }
        &self.0
    }
}

/// Where things stand in a row.
struct Columns {
    all: usize,
    name: usize,
}

const SIZE: usize = 10;
const GAP: usize = 2;
const WIDEST_NAME: usize = 24;
const WIDEST_BAR: usize = 40;
const PERCENT: usize = 6;
const SENT: usize = 17;

impl Columns {
    /// A row of a layer that is there: in place of a bar what became of it.
    fn done(&self, layer: &Layer<'_>, ink: ColorMode) -> String {
        let head = self.head(layer.name, layer.bytes);
        let (bar, sent) = self.bar_and_sent(&head, layer.sent());
        if layer.sent() == 0 || sent.is_empty() {
            return self.words(layer.name, layer.bytes, &layer.words(), Tone::Done, ink);
        }
        format!("{head}{}{sent}", ink.paint(Tone::Done, &filled(&layer.words(), bar + PERCENT)))
    }

    /// How wide a bar is behind this head, and how much was sent, where there is room for it.
    fn bar_and_sent(&self, head: &str, sent: u64) -> (usize, String) {
        let room = self.all.saturating_sub(width(head));
        let is_wide = room >= SENT + PERCENT + 12;
        let bar = room.saturating_sub(PERCENT + if is_wide { SENT } else { 0 }).min(WIDEST_BAR);
        (bar, if is_wide { format!("  {:>10} sent", size(sent)) } else { String::new() })
    }

    /// A row of words: a name, a size and what there is to say.
    fn words(&self, name: &str, bytes: u64, words: &str, tone: Tone, ink: ColorMode) -> String {
        let head = self.head(name, bytes);
        let words = cut(words, self.all.saturating_sub(width(&head)));
        format!("{head}{}", ink.paint(tone, &words))
    }

    /// A row with a bar.
    fn bar(&self, name: &str, bytes: u64, position: u64, sent: u64) -> String {
        let head = self.head(name, bytes);
        let (bar, sent) = self.bar_and_sent(&head, sent);
        let inner = bar.saturating_sub(2);
        let full = usize::try_from(inner as u64 * position / bytes.max(1)).unwrap_or(inner).min(inner);
        let tip = if full < inner && full > 0 { ">" } else { "" };
        let bar = match inner {
            0 | 1 => String::new(),
            _ => format!("[{:<inner$}]", format!("{}{tip}", "=".repeat(full - tip.len()))),
        };
        let row = format!("{head}{bar} {:>3} %{sent}", percent(position, bytes));
        cut(&row, self.all).into_owned()
    }

    fn head(&self, name: &str, bytes: u64) -> String {
        let name = filled(name, self.name);
        // On the narrowest of screens how far it is matters more than how much it is.
        match self.all >= self.name + GAP + SIZE + GAP + PERCENT {
            true => format!("{name}  {:>SIZE$}  ", size(bytes)),
            false => format!("{name} "),
        }
    }
}

/// The rows for a screen of so many columns and rows: never as wide as it is, nor as high.
pub(super) fn rows(
    board: &Board,
    places: &mut Places,
    (columns, rows): (usize, usize),
    now: Instant,
    ink: ColorMode,
) -> Vec<String> {
    let all = columns.saturating_sub(1);
    let most = rows.saturating_sub(1).max(1);
    let status = status(board, all, now);
    let layers = Layer::all(&board.lots);
    if layers.is_empty() || most < 5 {
        return vec![status];
    }
    let name = layers.iter().map(|layer| width(layer.name)).max().unwrap_or_default();
    let columns = Columns { all, name: name.clamp(FOLDED_NAME, WIDEST_NAME).min(all / 2) };
    let row = |layer: &Layer<'_>| match layer.stage() {
        Stage::Done => columns.done(layer, ink),
        Stage::Waiting => columns.words(layer.name, layer.bytes, &layer.words(), Tone::Faint, ink),
        Stage::UnderWay => {
            let (total, position) = layer.meters().fold((0, 0), |(all, at), it| (all + it.total(), at + it.position()));
            columns.bar_of(layer, total, position)
        }
    };
    let room = most - 2;
    let mut shown: Vec<String> = match layers.len() <= room {
        true => layers.iter().map(row).collect(),
        false => {
            let stages: Vec<Stage> = layers.iter().map(Layer::stage).collect();
            let own = places.give(&stages, room - 2).to_vec();
            let rest = |stage| -> Vec<&Layer<'_>> {
                let others = layers.iter().enumerate().filter(|(at, _)| !own.contains(at) && stages[*at] == stage);
                others.map(|(_, layer)| layer).collect()
            };
            let (done, mut others) = (rest(Stage::Done), rest(Stage::UnderWay));
            let words = if others.is_empty() { "to come" } else { "under way or to come" };
            others.extend(rest(Stage::Waiting));
            let mut shown = vec![folded(&columns, &done, "done", Tone::Done, ink)];
            shown.extend(own.iter().map(|at| row(&layers[*at])));
            shown.push(folded(&columns, &others, words, Tone::Faint, ink));
            shown
        }
    };
    let reach = board.reach();
    shown.push(match reach.total {
        0 => columns.words("to send", 0, "nothing", Tone::Done, ink),
        total => columns.bar("to send", total, reach.position, reach.sent),
    });
    shown.push(status);
    shown
}

/// As wide as what stands in place of a name where layers are counted.
const FOLDED_NAME: usize = 8;

impl Columns {
    fn bar_of(&self, layer: &Layer<'_>, total: u64, position: u64) -> String {
        // With several targets its bytes are sent as often; its size stays what it is.
        let scaled = (u128::from(position) * u128::from(layer.bytes) / u128::from(total.max(1))) as u64;
        self.bar(layer.name, layer.bytes, scaled, layer.sent())
    }
}

/// One row for many layers.
fn folded(columns: &Columns, layers: &[&Layer<'_>], words: &str, tone: Tone, ink: ColorMode) -> String {
    let bytes = layers.iter().map(|layer| layer.bytes).sum();
    let count = layers.len();
    columns.words(&format!("{count} more"), bytes, words, tone, ink)
}

/// How things stand, as much of it as there is room for.
fn status(board: &Board, columns: usize, now: Instant) -> String {
    let mut row = String::new();
    for part in board.status(now) {
        let gap = if row.is_empty() { "" } else { "  " };
        if width(&row) + gap.len() + width(&part) > columns && width(&row) > 8 {
            break;
        }
        row += gap;
        row += &part;
    }
    cut(&row, columns).into_owned()
}
