//! What is known of a push, kept from its events; and the words for each of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::flow::{Flow, Pace, Reach, roughly};
use crate::compress::{Meter, size};
use crate::output::log::{Entry, Level};
use crate::push::{Event, ImageSummary, Planned};
use crate::request_log::RequestRecord;

/// What becomes of a layer at one target.
#[derive(Debug)]
pub(super) struct Lot {
    pub(super) target: String,
    pub(super) layer: String,
    /// The bytes in the archive.
    pub(super) bytes: u64,
    pub(super) fate: Fate,
}

/// How far that is.
#[derive(Debug)]
pub(super) enum Fate {
    Reused,
    ToBeMounted,
    Mounted,
    /// It is sent, or was: then these bytes.
    Upload {
        meter: Arc<Meter>,
        sent: Option<u64>,
    },
}

/// What is being done where no layer is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Doing {
    Reading,
    Spooling,
    Asking,
    Configs,
    Finishing,
    /// Something else, of which the words tell.
    Other,
}

/// A wait before a retry.
#[derive(Debug)]
struct Waiting {
    why: String,
    /// `retry 2 of 4`
    next: String,
    until: Instant,
}

/// All that is known.
#[derive(Debug)]
pub(super) struct Board {
    /// With several, it is told which is meant.
    targets: usize,
    started: Instant,
    doing: (Doing, String, Instant),
    asked: usize,
    is_open: bool,
    is_ending: bool,
    /// The retry that is waited for.
    waiting: Option<Waiting>,
    /// Reasons that were told, and until when each holds. Lanes that meet the same one meanwhile tell nothing new.
    excuses: Vec<(String, Instant)>,
    pub(super) lots: Vec<Lot>,
    flow: Flow,
    pub(super) pace: Pace,
    /// How far it was when it was told last.
    told: Reach,
}

impl Board {
    /// A push to so many targets begins.
    pub(super) fn new(targets: usize, now: Instant) -> Self {
        Self {
            targets,
            started: now,
            doing: (Doing::Reading, "reading the archive".into(), now),
            asked: 0,
            is_open: false,
            is_ending: false,
            waiting: None,
            excuses: Vec::new(),
            lots: Vec::new(),
            flow: Flow::default(),
            pace: Pace::default(),
            told: Reach::default(),
        }
    }

    /// Takes an event in, and says what is to be told of it.
    pub(super) fn take(&mut self, event: Event, now: Instant) -> Option<Entry> {
        match event {
            Event::Detail(text) => Some(Entry::new(Level::Debug, "detail", text)),
            Event::Asked(exchange) => Some(request(&exchange)),
            Event::Reading { .. } => None,
            Event::Note(text) => Some(Entry::note(text)),
            Event::Warning(text) => Some(Entry::warning(text)),
            Event::GivenUp { target, why } => self.given_up(&target, &why),
            Event::Waiting { why, pause, retry, retries } => Some(self.waits(why, pause, (retry, retries), now)),
            Event::Spooled(bytes) => {
                self.does(Doing::Spooling, format!("{} of the archive are in a temporary file", size(bytes)), now);
                None
            }
            Event::Opened(image) => {
                self.is_open = true;
                self.does(Doing::Asking, "asking what is there already".into(), now);
                Some(opened(&image))
            }
            Event::Looking(target) => {
                self.asked += 1;
                let whom = if self.asked > 1 { format!("{} targets", self.asked) } else { target };
                self.does(Doing::Asking, format!("asking {whom} what is there already"), now);
                None
            }
            Event::Planned { target, layer, bytes, action } => Some(self.planned(target, layer, bytes, action, now)),
            Event::Arrived { meter, sent } => self.arrived(&meter, sent, now),
            Event::Mounted { target, layer, bytes } => Some(self.mounted(&target, layer, bytes)),
            Event::Finishing(target) => {
                let text = format!("all layers are in {target}; the manifest is next");
                self.does(Doing::Finishing, format!("putting the manifest into {target}"), now);
                Some(Entry::info("finishing", text).with("target", target))
            }
        }
    }

    fn waits(&mut self, why: String, pause: Duration, (retry, retries): (usize, usize), now: Instant) -> Entry {
        let next = format!("retry {retry} of {retries}");
        self.waiting = Some(Waiting { why: why.clone(), next: next.clone(), until: now + pause });
        self.excuses.retain(|(_, until)| *until > now);
        let is_told = self.excuses.iter().any(|(told, _)| *told == why);
        if !is_told {
            self.excuses.push((why.clone(), now + pause));
        }
        let (level, seconds) = (if is_told { Level::Debug } else { Level::Warning }, pause.as_secs_f64());
        let text = format!("{why}; {next} in {seconds:.1} s");
        Entry::new(level, "waiting", text)
            .with("why", why)
            .with("seconds", seconds)
            .with("retry", retry)
            .with("retries", retries)
    }

    /// Of several targets the others go on, and what the one was to get is no longer to come. A single one's error is told
    /// in the same moment, and after Ctrl-C they all end.
    fn given_up(&mut self, target: &str, why: &str) -> Option<Entry> {
        if self.targets < 2 || self.is_ending {
            return None;
        }
        self.lots.retain(|lot| lot.target != target);
        let text = format!("{target} is given up, the others go on: {why}");
        Some(Entry::info("given_up", text).with("target", target).with("why", why))
    }

    /// Something else is done, in words.
    pub(super) fn now(&mut self, text: String, now: Instant) {
        self.does(Doing::Other, text, now);
    }

    /// It was interrupted, and ends in good order.
    pub(super) fn end(&mut self) {
        self.is_ending = true;
    }

    fn does(&mut self, doing: Doing, text: String, now: Instant) {
        let since = if self.doing.0 == doing { self.doing.2 } else { now };
        self.doing = (doing, text, since);
    }

    fn planned(&mut self, target: String, layer: String, bytes: u64, action: Planned, now: Instant) -> Entry {
        let (action, word, preposition, why, fate) = match action {
            Planned::Reuse(why) => ("reuse", "reused", "in", why, Fate::Reused),
            Planned::Mount(why) => ("mount", "mount", "in", why, Fate::ToBeMounted),
            Planned::Upload { why, meter } => ("upload", "upload", "to", why, Fate::Upload { meter, sent: None }),
        };
        let text = format!("{}{word}{}: {why}", about(&layer, bytes), self.at(preposition, &target));
        let entry = entry("layer", text, &target, &layer, bytes).with("action", action).with("why", why);
        if !self.is_open {
            self.does(Doing::Reading, "reading the archive".into(), now);
        }
        let lot = Lot { target, layer, bytes, fate };
        match self.lots.iter_mut().find(|known| known.target == lot.target && known.layer == lot.layer) {
            Some(known) => *known = lot,
            None => self.lots.push(lot),
        }
        entry
    }

    fn arrived(&mut self, meter: &Arc<Meter>, bytes: u64, now: Instant) -> Option<Entry> {
        let is_it = |lot: &&mut Lot| matches!(&lot.fate, Fate::Upload { meter: its, .. } if Arc::ptr_eq(its, meter));
        let lot = self.lots.iter_mut().find(is_it)?;
        lot.fate = Fate::Upload { meter: Arc::clone(meter), sent: Some(bytes) };
        let (target, layer, whole) = (lot.target.clone(), lot.layer.clone(), lot.bytes);
        let text = format!("{}sent{}", about(&layer, bytes), self.at("to", &target));
        if !self.is_sending() && self.is_open {
            self.does(Doing::Configs, "putting the image's config".into(), now);
        }
        Some(entry("arrived", text, &target, &layer, whole).with("sent", bytes))
    }

    fn mounted(&mut self, target: &str, layer: String, bytes: u64) -> Entry {
        if let Some(lot) = self.lots.iter_mut().find(|lot| lot.target == target && lot.layer == layer) {
            lot.fate = Fate::Mounted;
        }
        let text = format!("{}mounted{}", about(&layer, bytes), self.at("in", target));
        entry("mounted", text, target, &layer, bytes)
    }

    /// Which target is meant, where that is not plain.
    fn at(&self, preposition: &str, target: &str) -> String {
        if self.targets > 1 { format!(" {preposition} {target}") } else { String::new() }
    }

    /// Looks how far everything is.
    pub(super) fn look(&mut self, now: Instant) {
        self.pace = self.flow.look(now, self.reach());
    }

    /// How far everything is.
    pub(super) fn reach(&self) -> Reach {
        self.lots.iter().filter_map(Lot::meter).fold(Reach::default(), |all, meter| Reach {
            total: all.total + meter.total(),
            position: all.position + meter.position(),
            sent: all.sent + meter.sent().saturating_sub(meter.resumed_at()),
            resumed: all.resumed + meter.resumed_at(),
        })
    }

    /// Whether a layer is still to arrive.
    pub(super) fn is_sending(&self) -> bool {
        self.lots.iter().any(|lot| matches!(lot.fate, Fate::Upload { sent: None, .. }))
    }

    /// How many layers are to be sent, and how many of them have arrived.
    fn uploads(&self) -> (usize, usize) {
        let arrived = self.lots.iter().filter(|lot| matches!(lot.fate, Fate::Upload { sent: Some(_), .. }));
        (self.lots.iter().filter_map(Lot::meter).count(), arrived.count())
    }

    /// What is counted: each target gets each layer.
    fn what_arrives(&self) -> &'static str {
        let mut targets = self.lots.iter().filter(|lot| lot.meter().is_some()).map(|lot| &lot.target);
        let first = targets.next();
        if targets.all(|target| Some(target) == first) { "layers" } else { "layer uploads" }
    }

    /// For how long everything waits yet, and why.
    fn wait(&self, now: Instant) -> Option<(&Waiting, Duration)> {
        let waiting = self.waiting.as_ref()?;
        Some((waiting, waiting.until.checked_duration_since(now).filter(|left| *left > Duration::ZERO)?))
    }

    /// How things stand, in a line of the log.
    pub(super) fn beat(&mut self, now: Instant) -> Entry {
        let reach = self.reach();
        if self.is_ending {
            return Entry::info("working", "interrupted: closing uploads");
        }
        let told = std::mem::replace(&mut self.told, reach);
        let stands = (told.position, told.sent) == (reach.position, reach.sent);
        if let Some((Waiting { why, next, .. }, left)) = self.wait(now).filter(|_| stands || !self.is_sending()) {
            let text = format!("{why}; {next} in {}", roughly(left));
            return Entry::info("waiting", text).with("why", why.as_str()).with("seconds", left.as_secs_f64());
        }
        if !self.is_sending() {
            let (_, text, since) = &self.doing;
            let seconds = now.duration_since(*since).as_secs();
            return Entry::info("working", format!("{text} ({seconds} s)")).with("seconds", seconds);
        }
        let Reach { total, position, sent, .. } = reach;
        let percent = percent(position, total);
        let (layers, arrived) = self.uploads();
        let Pace { rate, left, stalled } = self.pace;
        let at = match (stalled, rate) {
            (Some(stalled), _) => format!(", stalled for {}", roughly(stalled)),
            (None, Some(rate)) => format!(" at {}/s", size(rate)),
            (None, None) => String::new(),
        };
        let end = left.map_or_else(String::new, |left| format!(", about {} left", roughly(left)));
        let text = format!(
            "{percent:>3} % of {} packed and sent as {}{at}, {arrived} of {layers} {} arrived{end}",
            size(total),
            size(sent),
            self.what_arrives()
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
            .with("layers_arrived", arrived)
    }

    /// How things stand, in parts of which the first are the most important.
    pub(super) fn status(&self, now: Instant) -> Vec<String> {
        let mut parts = vec![elapsed(now.duration_since(self.started))];
        if self.is_ending {
            parts.push("closing uploads".into());
            return parts;
        }
        if let Some((Waiting { why, next, .. }, left)) = self.wait(now) {
            parts.push(format!("{next} in {}: {why}", roughly(left)));
        }
        if self.is_sending() {
            parts.extend(self.pace.stalled.map(|stalled| format!("stalled for {}", roughly(stalled))));
            parts.extend(self.pace.rate.map(|rate| format!("{}/s", size(rate))));
            parts.extend(self.pace.left.map(|left| format!("about {} left", roughly(left))));
            let (layers, arrived) = self.uploads();
            parts.push(format!("{arrived} of {layers} sent"));
        } else {
            parts.push(self.doing.1.clone());
        }
        parts
    }
}

impl Lot {
    /// How far it is, if it is sent.
    pub(super) fn meter(&self) -> Option<&Arc<Meter>> {
        if let Fate::Upload { meter, .. } = &self.fate { Some(meter) } else { None }
    }
}

/// How much of it that is, rounded down: what is not whole is never 100.
pub(super) fn percent(position: u64, total: u64) -> u64 {
    position * 100 / total.max(1)
}

/// A time that passes, always of the same width up to an hour.
fn elapsed(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..3_600 => format!("{:>2}:{:02}", seconds / 60, seconds % 60),
        seconds => format!("{}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60),
    }
}

fn about(layer: &str, bytes: u64) -> String {
    format!("layer {layer}  {:>10}  ", size(bytes))
}

fn entry(event: &'static str, text: String, target: &str, layer: &str, bytes: u64) -> Entry {
    Entry::info(event, text).with("target", target).with("layer", layer).with("bytes", bytes)
}

fn request(exchange: &RequestRecord) -> Entry {
    Entry::new(Level::Debug, "request", exchange.to_string())
        .with("method", exchange.method.as_str())
        .with("url", exchange.url.as_str())
        .with("status", exchange.status)
        .with("fault", exchange.error.as_deref())
        .with("seconds", exchange.seconds)
        .with("request_id", exchange.request_id.as_deref())
        .with("sent", exchange.sent)
        .with("about", exchange.about.as_deref())
        .with("attempt", exchange.attempt)
}

fn opened(image: &ImageSummary) -> Entry {
    let name = match (image.names.first(), image.image_ids.first()) {
        (Some(name), _) => name.clone(),
        (None, Some(id)) => id.short(),
        (None, None) => "an image".into(),
    };
    let about = std::iter::once(image.format.as_str()).chain(image.platforms.iter().map(String::as_str));
    let about = about.collect::<Vec<_>>().join(", ");
    let layers = if image.layers == 1 { "layer" } else { "layers" };
    let text = format!("{name} ({about}): {} {layers}, {}", image.layers, size(image.archive_bytes));
    let ids: Vec<String> = image.image_ids.iter().map(ToString::to_string).collect();
    Entry::info("opened", text)
        .with("format", image.format.as_str())
        .with("names", image.names.clone())
        .with("image_ids", ids)
        .with("platforms", image.platforms.clone())
        .with("layers", image.layers)
        .with("bytes", image.archive_bytes)
}
