//! Who shares the reading of a layer: a state machine without I/O, given the time.
//!
//! Every target that may still need a layer is waited for before the layer is read: for [`GATE`] at most, and not at all
//! once the target has joined or declined. A target that keeps others waiting for [`ALLOWANCE`] in all, before a layer is
//! read or while it is, becomes independent: it reads for itself from then on, and no target waits for it again.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

use crate::request_log::TargetId;

/// How long a layer that one target is ready for waits for other targets.
pub(super) const GATE: Duration = Duration::from_millis(500);

/// How long a target may keep others waiting in all. Several layers at the same time count once.
pub(super) const ALLOWANCE: Duration = Duration::from_millis(800);

/// The share of the time in which it delays no other that a target gets back: targets of about the same speed wait for each
/// other now and then, and still share the work.
const RECOVERY: u32 = 4;

/// The targets of an image, and the layers that they are about to read.
#[derive(Debug)]
pub(super) struct Schedule<L> {
    targets: Vec<TargetState>,
    layers: HashMap<L, LayerState>,
}

#[derive(Debug)]
struct TargetState {
    /// No target waits for it, and it joins none.
    is_independent: bool,
    /// How much of its allowance is used, as of `counted_at`.
    used: Duration,
    counted_at: Instant,
    /// How many readings it keeps waiting now.
    delays: usize,
}

#[derive(Debug, Default)]
struct LayerState {
    /// The targets that have joined a reading of it, or declined.
    decided: BTreeSet<TargetId>,
    /// Those that wait for the next reading of it to begin.
    waiting: Option<Group>,
}

#[derive(Debug)]
struct Group {
    members: Vec<TargetId>,
    opened_at: Instant,
    /// The targets that it is charged to that the group waits.
    delayed_by: BTreeSet<TargetId>,
}

/// Whether a reading begins.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Start {
    /// It begins now, for these targets.
    Now(Vec<TargetId>),
    /// It begins then, unless something happens before.
    At(Instant),
    /// No target waits.
    Nothing,
}

impl<L: Clone + Eq + Hash> Schedule<L> {
    /// Returns a schedule for so many targets, of which each may need every layer.
    pub(super) fn new(targets: usize, now: Instant) -> Self {
        let is_independent = targets == 1;
        let target = || TargetState { is_independent, used: Duration::ZERO, counted_at: now, delays: 0 };
        Self { targets: std::iter::repeat_with(target).take(targets).collect(), layers: HashMap::new() }
    }

    /// Returns whether the target shares no reading: it reads for itself.
    pub(super) fn is_independent(&self, target: TargetId) -> bool {
        self.targets.get(target).is_none_or(|target| target.is_independent)
    }

    /// Has a target that is ready wait for the next reading of a layer. An independent target must not join.
    pub(super) fn join(&mut self, target: TargetId, layer: &L, now: Instant) {
        self.decide(target, layer, now);
        let pending = self.pending(layer);
        let state = self.layers.entry(layer.clone()).or_default();
        match &mut state.waiting {
            Some(group) => group.members.push(target),
            None => {
                state.waiting = Some(Group {
                    members: vec![target],
                    opened_at: now,
                    delayed_by: pending.iter().copied().collect(),
                });
                pending.into_iter().for_each(|target| self.begin_delay(target, now));
            }
        }
    }

    /// Notes that a target does not need a layer.
    pub(super) fn decline(&mut self, target: TargetId, layer: &L, now: Instant) {
        self.decide(target, layer, now);
    }

    /// Notes that a target needs nothing any more.
    pub(super) fn leave(&mut self, target: TargetId, now: Instant) {
        self.make_independent(target, now);
    }

    /// Begins the next reading of a layer, if no target has to be waited for any more.
    pub(super) fn start(&mut self, layer: &L, now: Instant) -> Start {
        let Some(opened_at) = self.layers.get(layer).and_then(|state| Some(state.waiting.as_ref()?.opened_at)) else {
            return Start::Nothing;
        };
        for target in self.pending(layer) {
            if self.exhausted_at(target, now) <= now {
                self.make_independent(target, now);
            }
        }
        let ends = self.pending(layer).into_iter().map(|target| self.exhausted_at(target, now));
        let end = ends.min().map(|end| end.min(opened_at + GATE)).filter(|end| *end > now);
        match end {
            Some(end) => Start::At(end),
            None => {
                let group = self.layers.get_mut(layer).and_then(|state| state.waiting.take());
                let Some(group) = group else { return Start::Nothing };
                group.delayed_by.iter().for_each(|target| self.end_delay(*target, now));
                Start::Now(group.members)
            }
        }
    }

    /// Notes that a target keeps others waiting in the middle of a layer.
    pub(super) fn begin_delay(&mut self, target: TargetId, now: Instant) {
        if let Some(target) = self.targets.get_mut(target) {
            target.count(now);
            target.delays += 1;
        }
    }

    /// Notes that it does not any more.
    pub(super) fn end_delay(&mut self, target: TargetId, now: Instant) {
        if let Some(target) = self.targets.get_mut(target) {
            target.count(now);
            target.delays = target.delays.saturating_sub(1);
        }
    }

    /// Returns when the allowance of a target that keeps others waiting is used up.
    pub(super) fn exhausted_at(&mut self, target: TargetId, now: Instant) -> Instant {
        let Some(target) = self.targets.get_mut(target) else { return now };
        target.count(now);
        now + ALLOWANCE.saturating_sub(target.used)
    }

    /// Has a target read for itself from now on.
    pub(super) fn make_independent(&mut self, target: TargetId, now: Instant) {
        let Some(state) = self.targets.get_mut(target) else { return };
        state.is_independent = true;
        let groups = self.layers.values_mut().filter_map(|layer| layer.waiting.as_mut());
        let freed = groups.filter_map(|group| group.delayed_by.take(&target)).count();
        (0..freed).for_each(|_| self.end_delay(target, now));
    }

    fn decide(&mut self, target: TargetId, layer: &L, now: Instant) {
        let state = self.layers.entry(layer.clone()).or_default();
        state.decided.insert(target);
        if state.waiting.as_mut().is_some_and(|group| group.delayed_by.remove(&target)) {
            self.end_delay(target, now);
        }
    }

    /// The targets that may still join the next reading of a layer.
    fn pending(&self, layer: &L) -> Vec<TargetId> {
        let decided = self.layers.get(layer).map(|state| &state.decided);
        let is_pending = |(target, state): &(TargetId, &TargetState)| {
            !state.is_independent && decided.is_none_or(|decided| !decided.contains(target))
        };
        self.targets.iter().enumerate().filter(is_pending).map(|(target, _)| target).collect()
    }
}

impl TargetState {
    /// Brings `used` up to the present.
    fn count(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.counted_at);
        self.used = match self.delays {
            0 => self.used.saturating_sub(passed / RECOVERY),
            _ => self.used + passed,
        };
        self.counted_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_reading_begins_when_every_target_has_joined_or_declined() {
        let now = Instant::now();
        let mut schedule = Schedule::new(3, now);
        assert_eq!(schedule.start(&'a', now), Start::Nothing);
        schedule.join(0, &'a', now);
        assert_eq!(schedule.start(&'a', now), Start::At(now + GATE));
        schedule.decline(1, &'a', now + ms(10));
        assert_eq!(schedule.start(&'a', now + ms(10)), Start::At(now + GATE));
        schedule.join(2, &'a', now + ms(300));
        assert_eq!(schedule.start(&'a', now + ms(300)), Start::Now(vec![0, 2]));
        assert_eq!(schedule.start(&'a', now + ms(300)), Start::Nothing);
    }

    #[test]
    fn a_target_that_does_not_come_is_waited_for_once_and_then_never_again() {
        let now = Instant::now();
        let mut schedule = Schedule::new(2, now);
        schedule.join(0, &'a', now);
        assert_eq!(schedule.start(&'a', now + GATE), Start::Now(vec![0]));
        schedule.join(0, &'b', now + GATE);
        let rest = ALLOWANCE - GATE;
        assert_eq!(schedule.start(&'b', now + GATE), Start::At(now + GATE + rest));
        assert_eq!(schedule.start(&'b', now + ALLOWANCE), Start::Now(vec![0]));
        assert!(schedule.is_independent(1));
        schedule.join(0, &'c', now + ALLOWANCE);
        assert_eq!(schedule.start(&'c', now + ALLOWANCE), Start::Now(vec![0]));
    }

    #[test]
    fn layers_that_wait_at_the_same_time_count_once() {
        let now = Instant::now();
        let mut schedule = Schedule::new(2, now);
        for layer in ['a', 'b', 'c', 'd'] {
            schedule.join(0, &layer, now);
        }
        for layer in ['a', 'b', 'c', 'd'] {
            assert_eq!(schedule.start(&layer, now + GATE), Start::Now(vec![0]));
        }
        assert!(!schedule.is_independent(1));
    }

    #[test]
    fn who_comes_late_starts_a_reading_of_its_own() {
        let now = Instant::now();
        let mut schedule = Schedule::new(2, now);
        schedule.join(0, &'a', now);
        assert_eq!(schedule.start(&'a', now + GATE), Start::Now(vec![0]));
        schedule.join(1, &'a', now + GATE + ms(1));
        assert_eq!(schedule.start(&'a', now + GATE + ms(1)), Start::Now(vec![1]));
    }

    #[test]
    fn targets_that_wait_for_each_other_now_and_then_stay_together() {
        let mut now = Instant::now();
        let mut schedule = Schedule::<char>::new(2, now);
        for _ in 0..1000 {
            for target in [0, 1] {
                schedule.begin_delay(target, now);
                assert!(schedule.exhausted_at(target, now + ms(10)) > now + ms(10));
                schedule.end_delay(target, now + ms(10));
                now += ms(50);
            }
        }
        // One that is four times slower keeps the other waiting for three quarters of the time.
        let before = now;
        loop {
            schedule.begin_delay(0, now);
            let end = schedule.exhausted_at(0, now);
            if end <= now + ms(75) {
                now = end;
                break;
            }
            schedule.end_delay(0, now + ms(75));
            now += ms(100);
        }
        assert!(now - before < ms(1200), "{:?}", now - before);
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        #[derive(Clone, Debug)]
        enum Step {
            Join(TargetId, u8),
            Decline(TargetId, u8),
            Leave(TargetId),
            Pass(u64),
        }

        fn steps() -> impl Strategy<Value = Vec<Step>> {
            let step = prop_oneof![
                4 => (0..4_usize, 0..6_u8).prop_map(|(target, layer)| Step::Join(target, layer)),
                2 => (0..4_usize, 0..6_u8).prop_map(|(target, layer)| Step::Decline(target, layer)),
                1 => (0..4_usize).prop_map(Step::Leave),
                4 => (0..700_u64).prop_map(Step::Pass),
            ];
            proptest::collection::vec(step, 0..200)
        }

        proptest! {
            /// Each target that joins is started: once, for the layer that it joined, and within the time of the gate.
            #[test]
            fn whoever_joins_is_started_once_and_in_time(steps in steps()) {
                let mut now = Instant::now();
                let mut schedule = Schedule::new(4, now);
                let mut waiting: Vec<(TargetId, u8, Instant)> = Vec::new();
                for step in steps {
                    let until = match step {
                        Step::Join(target, layer) => {
                            let is_waiting = waiting.iter().any(|(known, its, _)| (*known, *its) == (target, layer));
                            if !schedule.is_independent(target) && !is_waiting {
                                schedule.join(target, &layer, now);
                                waiting.push((target, layer, now));
                            }
                            now
                        }
                        Step::Decline(target, layer) => {
                            schedule.decline(target, &layer, now);
                            now
                        }
                        Step::Leave(target) => {
                            schedule.leave(target, now);
                            now
                        }
                        Step::Pass(millis) => now + ms(millis),
                    };
                    // What a driver does: it asks again whenever something happened or the time is over.
                    loop {
                        let mut next = until;
                        for layer in 0..6 {
                            match schedule.start(&layer, now) {
                                Start::Now(members) => {
                                    for member in members {
                                        let at = waiting.iter().position(|(it, its, _)| (*it, *its) == (member, layer));
                                        let (.., since) = waiting.swap_remove(at.expect("it is started once"));
                                        prop_assert!(now - since <= GATE);
                                    }
                                }
                                Start::At(end) => {
                                    prop_assert!(end > now);
                                    next = next.min(end);
                                }
                                Start::Nothing => prop_assert!(waiting.iter().all(|(_, its, _)| *its != layer)),
                            }
                        }
                        if now >= until {
                            break;
                        }
                        now = next;
                    }
                }
                now += GATE;
                for layer in 0..6 {
                    prop_assert!(!matches!(schedule.start(&layer, now), Start::At(_)));
                }
            }

            /// Whatever the number of layers: no target waits longer than the allowance for a target that never comes.
            #[test]
            fn a_target_that_never_comes_costs_its_allowance_at_most(layers in 1..50_u8, lanes in 1..8_usize) {
                let begin = Instant::now();
                let mut now = begin;
                let mut schedule = Schedule::new(2, now);
                for lane in (0..layers).collect::<Vec<_>>().chunks(lanes) {
                    lane.iter().for_each(|layer| schedule.join(0, layer, now));
                    for layer in lane {
                        while let Start::At(end) = schedule.start(layer, now) {
                            now = end;
                        }
                    }
                }
                prop_assert!(now - begin <= ALLOWANCE);
            }
        }
    }
}
