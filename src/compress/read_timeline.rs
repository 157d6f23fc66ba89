//! A timeline of reading a layer, by what the read waits for: the archive, the compression, or the uploads.

use std::time::{Duration, Instant};

use super::sync::{Mutex, MutexGuard, lock};

/// The limit for the spans of a layer. If there are more, neighbors are joined.
const MAX_SPANS: usize = 400;

/// The minimum length of a span. Shorter ones are joined with their neighbors: they would not be visible.
const MIN_LEN: Duration = Duration::from_micros(500);

/// What reading a layer waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// The archive's bytes.
    Reading,
    /// Compression and hashing.
    Compressing,
    /// The uploads, which are busy sending earlier bytes.
    Blocked,
}

/// A time in which reading a layer waited for one stage, or mostly for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span {
    /// The stage.
    pub stage: Stage,
    /// The start.
    pub from: Instant,
    /// The end.
    pub to: Instant,
}

impl Span {
    fn len(&self) -> Duration {
        self.to.saturating_duration_since(self.from)
    }
}

/// A recorder of reading one layer, for two threads: one that reads and one that sends.
#[derive(Debug)]
pub struct ReadTimeline(Mutex<State>);

#[derive(Debug)]
struct State {
    reads: bool,
    is_blocked: bool,
    /// The start of the current stage; `None` after the end.
    since: Option<Instant>,
    spans: Spans,
}

impl State {
    fn stage(&self) -> Stage {
        match (self.is_blocked, self.reads) {
            (true, _) => Stage::Blocked,
            (false, true) => Stage::Reading,
            (false, false) => Stage::Compressing,
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut Self)) {
        let (now, before) = (Instant::now(), self.stage());
        change(self);
        if let Some(since) = self.since
            && self.stage() != before
        {
            self.spans.add(Span { stage: before, from: since, to: now });
            self.since = Some(now);
        }
    }
}

impl ReadTimeline {
    /// Starts the timeline now.
    pub fn start() -> Self {
        let spans = Spans { min_len: MIN_LEN, max_count: MAX_SPANS, done: Vec::new(), short: Vec::new() };
        Self(Mutex::new(State { reads: false, is_blocked: false, since: Some(Instant::now()), spans }))
    }

    /// Runs `read` and records its time as waiting for the archive.
    pub fn reading<T>(&self, read: impl FnOnce() -> T) -> T {
        self.state().change(|state| state.reads = true);
        let read = read();
        self.state().change(|state| state.reads = false);
        read
    }

    /// Runs `send` and records its time as waiting for the uploads.
    pub fn blocked<T>(&self, send: impl FnOnce() -> T) -> T {
        self.state().change(|state| state.is_blocked = true);
        let sent = send();
        self.state().change(|state| state.is_blocked = false);
        sent
    }

    /// Ends the timeline now.
    pub fn end(&self) {
        let mut state = self.state();
        let stage = state.stage();
        if let Some(from) = state.since.take() {
            state.spans.add(Span { stage, from, to: Instant::now() });
        }
    }

    /// Returns the spans so far, without gaps.
    pub fn spans(&self) -> Vec<Span> {
        let state = self.state();
        let mut spans = state.spans.clone();
        if let Some(from) = state.since {
            spans.add(Span { stage: state.stage(), from, to: Instant::now() });
        }
        spans.join_short();
        spans.done
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

/// Consecutive spans, limited in number.
#[derive(Clone, Debug)]
struct Spans {
    /// Shorter spans are joined with their neighbors.
    min_len: Duration,
    max_count: usize,
    done: Vec<Span>,
    /// Short spans, together shorter than `min_len`: three at most, one a stage.
    short: Vec<Span>,
}

impl Spans {
    fn add(&mut self, span: Span) {
        self.push(span);
        while self.done.len() > self.max_count {
            self.join_short();
            self.min_len *= 2;
            let shorter = std::mem::take(&mut self.done);
            shorter.into_iter().for_each(|span| self.push(span));
        }
    }

    fn push(&mut self, span: Span) {
        if span.len() >= self.min_len {
            self.join_short();
            self.append(span);
            return;
        }
        // Of short spans, only the total time of each stage is needed.
        match self.short.iter_mut().find(|short| short.stage == span.stage) {
            Some(short) => short.to += span.len(),
            None => self.short.push(span),
        }
        if self.short_total() >= self.min_len {
            self.join_short();
        }
    }

    fn short_total(&self) -> Duration {
        self.short.iter().map(Span::len).sum()
    }

    /// Joins the short spans to one of the stage with the longest time. If even that is too short, it is joined with the span
    /// before it.
    fn join_short(&mut self) {
        let (len, longest) = (self.short_total(), self.short.iter().max_by_key(|short| short.len()));
        let (Some(first), Some(longest)) = (self.short.first(), longest) else { return };
        let (from, to) = (first.from, first.from + len);
        let stage = self.done.last().filter(|_| len < self.min_len).map_or(longest.stage, |last| last.stage);
        self.short.clear();
        self.append(Span { stage, from, to });
    }

    fn append(&mut self, mut span: Span) {
        if let [first] = self.done[..]
            && first.len() < self.min_len
        {
            // It was too short, and there was no span before it.
            span.from = first.from;
            self.done.clear();
        }
        match self.done.last_mut() {
            Some(last) if last.stage == span.stage => last.to = span.to,
            _ => self.done.push(span),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds consecutive spans of these stages and milliseconds.
    fn added(most: usize, spans: &[(Stage, u64)]) -> (Instant, Spans) {
        let start = Instant::now();
        let mut all =
            Spans { min_len: Duration::from_millis(10), max_count: most, done: Vec::new(), short: Vec::new() };
        let mut from = start;
        for (stage, millis) in spans {
            let to = from + Duration::from_millis(*millis);
            all.add(Span { stage: *stage, from, to });
            from = to;
        }
        all.join_short();
        (start, all)
    }

    fn shown(start: Instant, spans: &[Span]) -> Vec<(Stage, u128, u128)> {
        let since = |at: Instant| (at - start).as_millis();
        spans.iter().map(|it| (it.stage, since(it.from), since(it.to))).collect()
    }

    #[test]
    fn adjacent_spans_are_joined_and_short_ones_get_the_stage_of_most_of_their_time() {
        use Stage::{Blocked, Compressing, Reading};
        let (start, all) = added(
            100,
            &[(Reading, 20), (Reading, 30), (Compressing, 4), (Blocked, 5), (Compressing, 3), (Blocked, 50)],
        );
        assert_eq!(shown(start, &all.done), [(Reading, 0, 50), (Compressing, 50, 62), (Blocked, 62, 112)]);
        let (start, all) =
            added(100, &[(Compressing, 3), (Reading, 1), (Compressing, 4), (Reading, 1), (Compressing, 5)]);
        assert_eq!(shown(start, &all.done), [(Compressing, 0, 14)]);
        let (start, all) =
            added(100, &[(Blocked, 20), (Reading, 2), (Compressing, 3), (Compressing, 30), (Reading, 1)]);
        assert_eq!(shown(start, &all.done), [(Blocked, 0, 25), (Compressing, 25, 56)]);
    }

    #[test]
    fn the_number_of_spans_is_limited_and_no_time_is_lost() {
        let turns: Vec<_> = (0..40_000).map(|n| ([Stage::Reading, Stage::Blocked][n % 2], 10 + n as u64 % 7)).collect();
        let (start, all) = added(50, &turns);
        let total: u64 = turns.iter().map(|(_, millis)| millis).sum();
        assert!(all.done.len() <= 50, "{} spans", all.done.len());
        assert_eq!(shown(start, &all.done).last().unwrap().2, u128::from(total));
        assert!(all.done.windows(2).all(|pair| pair[0].to == pair[1].from), "there are gaps");
    }

    #[test]
    fn a_read_during_a_blocked_send_counts_as_blocked() {
        let timeline = ReadTimeline::start();
        let pause = || std::thread::sleep(Duration::from_millis(2));
        timeline.reading(pause);
        timeline.blocked(|| {
            pause();
            timeline.reading(pause);
        });
        timeline.end();
        let stages: Vec<_> = timeline.spans().iter().map(|span| span.stage).collect();
        // The time between them is too short to be recorded, unless the machine is busy.
        let stages: Vec<_> = stages.into_iter().filter(|stage| *stage != Stage::Compressing).collect();
        assert_eq!(stages, [Stage::Reading, Stage::Blocked]);
        let seen = timeline.spans();
        pause();
        assert_eq!(timeline.spans(), seen, "it was over");
    }
}
