//! Where the time went: each moment of the push is of one kind, so the parts add up to all of it.

use std::time::{Duration, Instant};

use super::Notes;
use super::lane::{Lane, pauses};
use crate::compress::Stage;

/// What was done at a moment. Where several things were, the first of these counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Part {
    /// Bytes of layers were sent while others were packed.
    Both,
    /// Bytes of layers were sent. What packs was done, or held back by what sends.
    Sending,
    /// Layers were packed, and no byte was ready to be sent.
    Packing,
    /// The archive's bytes were waited for.
    Reading,
    /// A request had failed, and the next try was not yet due.
    Pausing,
    /// Small requests.
    Asking,
    /// The archive was being opened.
    Archive,
    /// Anything else.
    Rest,
}

impl Part {
    pub(super) const ALL: [Self; 8] = [
        Self::Both,
        Self::Sending,
        Self::Packing,
        Self::Reading,
        Self::Pausing,
        Self::Asking,
        Self::Archive,
        Self::Rest,
    ];

    /// What was done, in words.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Both => "packing and sending at once",
            Self::Sending => "sending alone: packing was done, or held back by it",
            Self::Packing => "packing alone: nothing was ready to be sent",
            Self::Reading => "reading alone: the archive's bytes were waited for",
            Self::Pausing => "pausing after a request that failed",
            Self::Asking => "small requests: credentials, looks, sessions, manifests, tags",
            Self::Archive => "opening the archive",
            Self::Rest => "anything else, and the moments between requests",
        }
    }

    /// How it is drawn.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Sending => "send",
            Self::Packing => "pack",
            Self::Reading => "read",
            Self::Pausing => "pause",
            Self::Asking => "ask",
            Self::Archive => "work",
            Self::Rest => "rest",
        }
    }

    /// What can be said if it took most of the time in which layers were on their way.
    fn verdict(self) -> Option<&'static str> {
        match self {
            Self::Both => Some("Packing and sending kept pace with each other."),
            Self::Sending => Some("The network set the pace, or the registry, or --limit-rate."),
            Self::Packing => Some("Packing set the pace: the CPU."),
            Self::Reading => Some("The archive set the pace: its drive, or whoever writes the pipe."),
            Self::Pausing => Some("Pauses set the pace: the registry asked for patience, or requests broke."),
            Self::Asking | Self::Archive | Self::Rest => None,
        }
    }
}

/// What is going on, of which several things may at a time.
#[derive(Clone, Copy)]
enum Doing {
    Sending,
    Packing,
    Reading,
    Pausing,
    Asking,
    Archive,
}

/// How many of each are going on.
type Going = [i32; 6];

/// How long each part took, of those that took any time.
pub(super) fn shares(notes: &Notes, end: Instant) -> Vec<(Part, Duration)> {
    let mut turns = turns(notes, end);
    turns.sort_by_key(|(at, ..)| *at);
    let (mut going, mut since, mut spent) = (Going::default(), notes.began, [Duration::ZERO; Part::ALL.len()]);
    let ending = (end, Doing::Archive, 0);
    for (at, doing, by) in turns.into_iter().chain([ending]) {
        let at = at.clamp(notes.began, end);
        spent[part(&going) as usize] += at.saturating_duration_since(since);
        since = since.max(at);
        going[doing as usize] += by;
    }
    Part::ALL.into_iter().zip(spent).filter(|(_, spent)| !spent.is_zero()).collect()
}

/// What the shares say, where one thing took most of the time in which layers were on their way, and that most of the time.
pub(super) fn verdict(shares: &[(Part, Duration)]) -> Option<&'static str> {
    let all: Duration = shares.iter().map(|(_, spent)| *spent).sum();
    let carried = shares.iter().filter(|(part, _)| part.verdict().is_some());
    let carrying: Duration = carried.clone().map(|(_, spent)| *spent).sum();
    let (most, spent) = carried.max_by_key(|(_, spent)| *spent)?;
    (carrying * 2 > all && *spent * 2 > carrying).then(|| most.verdict()).flatten()
}

/// What is going on that makes a moment what it is.
fn part(going: &Going) -> Part {
    let is = |doing: Doing| going[doing as usize] > 0;
    match (is(Doing::Sending), is(Doing::Packing), is(Doing::Reading)) {
        (true, true, _) | (true, _, true) => Part::Both,
        (true, false, false) => Part::Sending,
        (false, true, _) => Part::Packing,
        (false, false, true) => Part::Reading,
        _ if is(Doing::Pausing) => Part::Pausing,
        _ if is(Doing::Asking) => Part::Asking,
        _ if is(Doing::Archive) => Part::Archive,
        _ => Part::Rest,
    }
}

/// Everything that begins (1) and ends (-1).
fn turns(notes: &Notes, end: Instant) -> Vec<(Instant, Doing, i32)> {
    let mut turns = Vec::new();
    let mut span = |doing, from, to| turns.extend([(from, doing, 1), (to, doing, -1)]);
    span(Doing::Archive, notes.began, notes.opened.unwrap_or(end));
    let mut seen = Vec::new();
    for Lane { courses, asked, .. } in &notes.lanes {
        for course in courses {
            // One reading may be for several lanes, which must not matter.
            if seen.iter().any(|it| std::sync::Arc::ptr_eq(it, course)) {
                continue;
            }
            seen.push(std::sync::Arc::clone(course));
            for stretch in course.spans() {
                match stretch.stage {
                    Stage::Reading => span(Doing::Reading, stretch.from, stretch.to),
                    Stage::Compressing => span(Doing::Packing, stretch.from, stretch.to),
                    Stage::Blocked => {}
                }
            }
        }
        for request in asked.requests() {
            span(if request.carries() { Doing::Sending } else { Doing::Asking }, request.from, request.to);
        }
        pauses(asked.requests()).into_iter().for_each(|gap| span(Doing::Pausing, gap.from, gap.to));
    }
    for (_, asked) in &notes.others {
        asked.requests().iter().for_each(|request| span(Doing::Asking, request.from, request.to));
        pauses(asked.requests()).into_iter().for_each(|gap| span(Doing::Pausing, gap.from, gap.to));
    }
    turns
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::asked::Asked;
    use super::super::asked::tests::exchange;
    use super::*;

    #[test]
    fn each_moment_counts_once_and_the_parts_add_up() {
        let began = Instant::now();
        let mut asked = Asked::default();
        // Two at the same time, a failure with its pause, and the try after it.
        for (millis, status) in [(20, 200), (24, 200), (40, 429), (90, 200)] {
            asked.add(&exchange(began, millis, "GET", status));
        }
        let opened = Some(began + Duration::from_millis(10));
        let (others, clock) = (vec![(None, asked)], SystemTime::now());
        let notes = Notes { began, clock, opened, lanes: Vec::new(), others, finishing: Vec::new() };
        let shares = shares(&notes, began + Duration::from_millis(100));
        let millis: Vec<_> = shares.iter().map(|(part, spent)| (*part, spent.as_millis())).collect();
        assert_eq!(millis, [(Part::Pausing, 42), (Part::Asking, 28), (Part::Archive, 10), (Part::Rest, 20)]);
        assert_eq!(verdict(&shares), None, "no layer was on its way most of the time");
    }

    #[test]
    fn a_verdict_takes_most_of_the_time() {
        let shares = |parts: &[(Part, u64)]| -> Vec<_> {
            parts.iter().map(|(part, millis)| (*part, Duration::from_millis(*millis))).collect()
        };
        let network = shares(&[(Part::Both, 20), (Part::Sending, 60), (Part::Asking, 10)]);
        assert!(verdict(&network).unwrap().contains("network"));
        assert!(verdict(&shares(&[(Part::Packing, 51), (Part::Both, 49)])).unwrap().contains("CPU"));
        for undecided in [
            shares(&[(Part::Both, 40), (Part::Sending, 40), (Part::Packing, 10)]),
            shares(&[(Part::Sending, 40), (Part::Asking, 60)]),
            shares(&[]),
        ] {
            assert_eq!(verdict(&undecided), None);
        }
    }
}
