//! What the reading of a layer waited for, and when: its bytes, the packing, or whoever takes them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most stretches that are kept of a reading. Where there are more, neighbours are joined.
const MOST: usize = 400;

/// What is shorter is joined with its neighbours from the start: no picture shows it.
const GRAIN: Duration = Duration::from_micros(500);

/// What a reading waits for at a moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// The archive's bytes.
    Reading,
    /// Packing and hashing.
    Compressing,
    /// Whoever takes the packed bytes, and is busy sending others.
    Blocked,
}

/// A time in which a reading waited for one thing, or mostly for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span {
    /// What it waited for.
    pub stage: Stage,
    /// Since when.
    pub from: Instant,
    /// Until when.
    pub to: Instant,
}

impl Span {
    fn len(&self) -> Duration {
        self.to.saturating_duration_since(self.from)
    }
}

/// The course of one reading of a layer. Two threads tell it, one that reads and one that hands on; anybody may look.
#[derive(Debug)]
pub struct ReadTimeline(Mutex<State>);

#[derive(Debug)]
struct State {
    reads: bool,
    is_held: bool,
    /// Since when it has been in its stage; `None` once it is over.
    since: Option<Instant>,
    stretches: Stretches,
}

impl State {
    fn stage(&self) -> Stage {
        match (self.is_held, self.reads) {
            (true, _) => Stage::Blocked,
            (false, true) => Stage::Reading,
            (false, false) => Stage::Compressing,
        }
    }

    fn turn(&mut self, now: Instant, turn: impl FnOnce(&mut Self)) {
        let before = self.stage();
        turn(self);
        if let Some(since) = self.since
            && self.stage() != before
        {
            self.stretches.add(Span { stage: before, from: since, to: now });
            self.since = Some(now);
        }
    }
}

impl ReadTimeline {
    /// A reading that begins now.
    pub fn start() -> Self {
        let stretches = Stretches { grain: GRAIN, most: MOST, done: Vec::new(), short: Vec::new() };
        Self(Mutex::new(State { reads: false, is_held: false, since: Some(Instant::now()), stretches }))
    }

    /// Reads, and tells that it waits for that meanwhile.
    pub fn reading<T>(&self, read: impl FnOnce() -> T) -> T {
        self.state().turn(Instant::now(), |state| state.reads = true);
        let read = read();
        self.state().turn(Instant::now(), |state| state.reads = false);
        read
    }

    /// Hands on what is packed, and tells that it waits for that meanwhile.
    pub fn blocked<T>(&self, hand_on: impl FnOnce() -> T) -> T {
        self.state().turn(Instant::now(), |state| state.is_held = true);
        let done = hand_on();
        self.state().turn(Instant::now(), |state| state.is_held = false);
        done
    }

    /// It is over.
    pub fn end(&self) {
        let mut state = self.state();
        let stage = state.stage();
        if let Some(from) = state.since.take() {
            state.stretches.add(Span { stage, from, to: Instant::now() });
        }
    }

    /// What it waited for so far, without a gap.
    pub fn spans(&self) -> Vec<Span> {
        let state = self.state();
        let mut stretches = state.stretches.clone();
        if let Some(from) = state.since {
            stretches.add(Span { stage: state.stage(), from, to: Instant::now() });
        }
        stretches.settle();
        stretches.done
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stretches that follow one another, never many.
#[derive(Clone, Debug)]
struct Stretches {
    /// What is shorter is joined with its neighbours.
    grain: Duration,
    most: usize,
    done: Vec<Span>,
    /// Short ones, not yet as long as the grain together: three at most, one a stage.
    short: Vec<Span>,
}

impl Stretches {
    fn add(&mut self, stretch: Span) {
        self.take(stretch);
        while self.done.len() > self.most {
            self.settle();
            self.grain *= 2;
            let finer = std::mem::take(&mut self.done);
            finer.into_iter().for_each(|stretch| self.take(stretch));
        }
    }

    fn take(&mut self, stretch: Span) {
        if stretch.len() >= self.grain {
            self.settle();
            self.put(stretch);
            return;
        }
        // Of the short ones it matters how long each stage took, in all.
        match self.short.iter_mut().find(|short| short.stage == stretch.stage) {
            Some(short) => short.to += stretch.len(),
            None => self.short.push(stretch),
        }
        if self.short_in_all() >= self.grain {
            self.settle();
        }
    }

    fn short_in_all(&self) -> Duration {
        self.short.iter().map(Span::len).sum()
    }

    /// Makes one of the short ones, of the stage that took most of them. Where even that is short, it goes with what was
    /// before it.
    fn settle(&mut self) {
        let (len, longest) = (self.short_in_all(), self.short.iter().max_by_key(|short| short.len()));
        let (Some(first), Some(longest)) = (self.short.first(), longest) else { return };
        let (from, to) = (first.from, first.from + len);
        let stage = self.done.last().filter(|_| len < self.grain).map_or(longest.stage, |last| last.stage);
        self.short.clear();
        self.put(Span { stage, from, to });
    }

    fn put(&mut self, mut stretch: Span) {
        if let [first] = self.done[..]
            && first.len() < self.grain
        {
            // There was nothing before it to go with.
            stretch.from = first.from;
            self.done.clear();
        }
        match self.done.last_mut() {
            Some(last) if last.stage == stretch.stage => last.to = stretch.to,
            _ => self.done.push(stretch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stretches of these stages and milliseconds, added one behind the other.
    fn added(most: usize, stretches: &[(Stage, u64)]) -> (Instant, Stretches) {
        let start = Instant::now();
        let mut all = Stretches { grain: Duration::from_millis(10), most, done: Vec::new(), short: Vec::new() };
        let mut from = start;
        for (stage, millis) in stretches {
            let to = from + Duration::from_millis(*millis);
            all.add(Span { stage: *stage, from, to });
            from = to;
        }
        all.settle();
        (start, all)
    }

    fn shown(start: Instant, stretches: &[Span]) -> Vec<(Stage, u128, u128)> {
        let since = |at: Instant| (at - start).as_millis();
        stretches.iter().map(|it| (it.stage, since(it.from), since(it.to))).collect()
    }

    #[test]
    fn stretches_that_touch_are_joined_and_short_ones_are_what_most_of_them_were() {
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
    fn there_are_never_many_and_no_time_is_lost() {
        let turns: Vec<_> = (0..40_000).map(|n| ([Stage::Reading, Stage::Blocked][n % 2], 10 + n as u64 % 7)).collect();
        let (start, all) = added(50, &turns);
        let total: u64 = turns.iter().map(|(_, millis)| millis).sum();
        assert!(all.done.len() <= 50, "{} stretches", all.done.len());
        assert_eq!(shown(start, &all.done).last().unwrap().2, u128::from(total));
        assert!(all.done.windows(2).all(|pair| pair[0].to == pair[1].from), "there are gaps");
    }

    #[test]
    fn a_reading_that_is_held_back_waits_for_nothing_else() {
        let course = ReadTimeline::start();
        let pause = || std::thread::sleep(Duration::from_millis(2));
        course.reading(pause);
        course.blocked(|| {
            pause();
            course.reading(pause);
        });
        course.end();
        let stages: Vec<_> = course.spans().iter().map(|stretch| stretch.stage).collect();
        // What comes between them is too short to be seen, unless the machine is busy.
        let stages: Vec<_> = stages.into_iter().filter(|stage| *stage != Stage::Compressing).collect();
        assert_eq!(stages, [Stage::Reading, Stage::Blocked]);
        let seen = course.spans();
        pause();
        assert_eq!(course.spans(), seen, "it was over");
    }
}
