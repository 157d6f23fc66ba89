//! Where the time went: each moment of the push belongs to one part, so the parts add up to the whole.

use std::time::{Duration, Instant};

use super::lane::{Lane, pauses};
use super::recording::Recording;
use crate::compress::Stage;

/// What was done at a moment. Of several things at once the first one counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Part {
    /// Bytes of layers were sent while others were compressed.
    Both,
    /// Bytes of layers were sent. Compression was done, or blocked by that.
    Sending,
    /// Layers were compressed, and no byte was ready to be sent.
    Compressing,
    /// The archive was slower than everything else.
    Reading,
    /// A request had failed, and its retry was not due yet.
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
        Self::Compressing,
        Self::Reading,
        Self::Pausing,
        Self::Asking,
        Self::Archive,
        Self::Rest,
    ];

    /// What was done, for people.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Both => "compressing and sending at once",
            Self::Sending => "only sending: compression was done, or waited for it",
            Self::Compressing => "only compressing: nothing was ready to be sent",
            Self::Reading => "only reading: waiting for the archive",
            Self::Pausing => "pausing before a retry",
            Self::Asking => "small requests: credentials, lookups, sessions, manifests, tags",
            Self::Archive => "opening the archive",
            Self::Rest => "everything else",
        }
    }

    /// Its CSS class.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Sending => "send",
            Self::Compressing => "pack",
            Self::Reading => "read",
            Self::Pausing => "pause",
            Self::Asking => "ask",
            Self::Archive => "work",
            Self::Rest => "rest",
        }
    }

    /// The conclusion if it took most of the time in which layers were moved.
    fn verdict(self) -> Option<&'static str> {
        match self {
            Self::Both => Some("Compressing and sending were equally fast."),
            Self::Sending => Some("The network, the registry, or --limit-rate was the bottleneck."),
            Self::Compressing => Some("Compression was the bottleneck: the CPU."),
            Self::Reading => Some("The archive was the bottleneck: its drive, or the program that writes the pipe."),
            Self::Pausing => Some("Pauses were the bottleneck: the registry throttled requests, or requests failed."),
            Self::Asking | Self::Archive | Self::Rest => None,
        }
    }
}

/// Something that takes time, maybe several at once.
#[derive(Clone, Copy)]
enum Doing {
    Sending,
    Compressing,
    Reading,
    Pausing,
    Asking,
    Archive,
}

/// How many of each are active.
type Going = [i32; 6];

/// How long each part took, of those that took any time.
pub(super) fn shares(recording: &Recording, end: Instant) -> Vec<(Part, Duration)> {
    let mut turns = turns(recording, end);
    turns.sort_by_key(|(at, ..)| *at);
    let (mut going, mut since, mut spent) = (Going::default(), recording.began, [Duration::ZERO; Part::ALL.len()]);
    let ending = (end, Doing::Archive, 0);
    for (at, doing, by) in turns.into_iter().chain([ending]) {
        let at = at.clamp(recording.began, end);
        spent[part(&going) as usize] += at.saturating_duration_since(since);
        since = since.max(at);
        going[doing as usize] += by;
    }
    Part::ALL.into_iter().zip(spent).filter(|(_, spent)| !spent.is_zero()).collect()
}

/// Returns the conclusion if one part took most of the time in which layers were moved, and that was most of the push.
pub(super) fn verdict(shares: &[(Part, Duration)]) -> Option<&'static str> {
    let all: Duration = shares.iter().map(|(_, spent)| *spent).sum();
    let carried = shares.iter().filter(|(part, _)| part.verdict().is_some());
    let carrying: Duration = carried.clone().map(|(_, spent)| *spent).sum();
    let (most, spent) = carried.max_by_key(|(_, spent)| *spent)?;
    (carrying * 2 > all && *spent * 2 > carrying).then(|| most.verdict()).flatten()
}

/// The part to which a moment belongs.
fn part(going: &Going) -> Part {
    let is = |doing: Doing| going[doing as usize] > 0;
    match (is(Doing::Sending), is(Doing::Compressing), is(Doing::Reading)) {
        (true, true, _) | (true, _, true) => Part::Both,
        (true, false, false) => Part::Sending,
        (false, true, _) => Part::Compressing,
        (false, false, true) => Part::Reading,
        _ if is(Doing::Pausing) => Part::Pausing,
        _ if is(Doing::Asking) => Part::Asking,
        _ if is(Doing::Archive) => Part::Archive,
        _ => Part::Rest,
    }
}

/// Everything that begins (+1) or ends (-1).
fn turns(recording: &Recording, end: Instant) -> Vec<(Instant, Doing, i32)> {
    let mut turns = Vec::new();
    let mut span = |doing, from, to| turns.extend([(from, doing, 1), (to, doing, -1)]);
    span(Doing::Archive, recording.began, recording.opened.unwrap_or(end));
    let mut seen = Vec::new();
    for Lane { reads, requests, .. } in &recording.lanes {
        for timeline in reads {
            // One reading may serve several lanes and counts once.
            if seen.iter().any(|it| std::sync::Arc::ptr_eq(it, timeline)) {
                continue;
            }
            seen.push(std::sync::Arc::clone(timeline));
            for part in timeline.spans() {
                match part.stage {
                    Stage::Reading => span(Doing::Reading, part.from, part.to),
                    Stage::Compressing => span(Doing::Compressing, part.from, part.to),
                    Stage::Blocked => {}
                }
            }
        }
        for request in requests.requests() {
            span(if request.carries() { Doing::Sending } else { Doing::Asking }, request.from, request.to);
        }
        pauses(requests.requests()).into_iter().for_each(|gap| span(Doing::Pausing, gap.from, gap.to));
    }
    for (_, requests) in &recording.others {
        requests.requests().iter().for_each(|request| span(Doing::Asking, request.from, request.to));
        pauses(requests.requests()).into_iter().for_each(|gap| span(Doing::Pausing, gap.from, gap.to));
    }
    turns
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::requests::RequestList;
    use super::super::requests::tests::exchange;
    use super::*;

    #[test]
    fn each_moment_counts_once_and_the_parts_add_up() {
        let began = Instant::now();
        let mut requests = RequestList::default();
        // Two at the same time, a failure with its pause, and the try after it.
        for (millis, status) in [(20, 200), (24, 200), (40, 429), (90, 200)] {
            requests.add(&exchange(began, millis, "GET", status));
        }
        let opened = Some(began + Duration::from_millis(10));
        let (others, clock) = (vec![(None, requests)], SystemTime::now());
        let recording = Recording { began, clock, opened, lanes: Vec::new(), others, finishing: Vec::new() };
        let shares = shares(&recording, began + Duration::from_millis(100));
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
        assert!(verdict(&shares(&[(Part::Compressing, 51), (Part::Both, 49)])).unwrap().contains("CPU"));
        for undecided in [
            shares(&[(Part::Both, 40), (Part::Sending, 40), (Part::Compressing, 10)]),
            shares(&[(Part::Sending, 40), (Part::Asking, 60)]),
            shares(&[]),
        ] {
            assert_eq!(verdict(&undecided), None);
        }
    }
}
