//! Where the time went: each moment of the push belongs to one share, so the shares add up to the whole.

use std::time::{Duration, Instant};

use super::recording::{Lane, Recording, pauses};
use crate::compress::Stage;

/// What was done at a moment. Of several kinds of work at once, the first one counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Share {
    /// Bytes of layers were sent while others were compressed.
    CompressingAndSending,
    /// Bytes of layers were sent. Compression was done, or blocked by that.
    Sending,
    /// Layers were compressed, and no byte was ready to be sent.
    Compressing,
    /// The archive was slower than everything else.
    Reading,
    /// A request had failed, and its retry was not due yet.
    RetryPause,
    /// Small requests.
    SmallRequests,
    /// The archive was being opened.
    OpeningArchive,
    /// Anything else.
    Other,
}

impl Share {
    pub(super) const ALL: [Self; 8] = [
        Self::CompressingAndSending,
        Self::Sending,
        Self::Compressing,
        Self::Reading,
        Self::RetryPause,
        Self::SmallRequests,
        Self::OpeningArchive,
        Self::Other,
    ];

    /// Returns a description, the CSS class, and the conclusion if it took most of the time in which layers were compressed and
    /// sent.
    fn facts(self) -> (&'static str, &'static str, Option<&'static str>) {
        match self {
            Self::CompressingAndSending => {
                ("compressing and sending at once", "both", Some("Compressing and sending were equally fast."))
            }
            Self::Sending => (
                "only sending: compression was done, or waited for it",
                "send",
                Some("The network, the registry, or --limit-rate was the bottleneck."),
            ),
            Self::Compressing => (
                "only compressing: nothing was ready to be sent",
                "pack",
                Some("Compression was the bottleneck: the CPU."),
            ),
            Self::Reading => (
                "only reading: waiting for the archive",
                "read",
                Some("The archive was the bottleneck: its drive, or the program that writes the pipe."),
            ),
            Self::RetryPause => (
                "pausing before a retry",
                "pause",
                Some("Pauses were the bottleneck: the registry throttled requests, or requests failed."),
            ),
            Self::SmallRequests => ("small requests: credentials, lookups, sessions, manifests, tags", "ask", None),
            Self::OpeningArchive => ("opening the archive", "work", None),
            Self::Other => ("everything else", "rest", None),
        }
    }

    /// Returns a description.
    pub(super) fn text(self) -> &'static str {
        self.facts().0
    }

    /// Returns the CSS class.
    pub(super) fn class(self) -> &'static str {
        self.facts().1
    }

    /// Returns the conclusion, if there is one.
    fn verdict(self) -> Option<&'static str> {
        self.facts().2
    }
}

/// Work that takes time. Several kinds may be active at once.
#[derive(Clone, Copy)]
enum Work {
    Sending,
    Compressing,
    Reading,
    RetryPause,
    SmallRequests,
    OpeningArchive,
}

/// The number of active items of each kind of work.
type ActiveCounts = [i32; 6];

/// Returns how long each share took, without those that took no time.
pub(super) fn shares(recording: &Recording, end: Instant) -> Vec<(Share, Duration)> {
    let mut changes = changes(recording, end);
    changes.sort_by_key(|(at, ..)| *at);
    let (mut active, mut since, mut took) =
        (ActiveCounts::default(), recording.began, [Duration::ZERO; Share::ALL.len()]);
    let ending = (end, Work::OpeningArchive, 0);
    for (at, work, by) in changes.into_iter().chain([ending]) {
        let at = at.clamp(recording.began, end);
        took[share_of(&active) as usize] += at.saturating_duration_since(since);
        since = since.max(at);
        active[work as usize] += by;
    }
    Share::ALL.into_iter().zip(took).filter(|(_, took)| !took.is_zero()).collect()
}

/// Returns the conclusion if one share took most of the time in which layers were compressed and sent, and that was most of
/// the push.
pub(super) fn verdict(shares: &[(Share, Duration)]) -> Option<&'static str> {
    let all: Duration = shares.iter().map(|(_, took)| *took).sum();
    let carried = shares.iter().filter(|(part, _)| part.verdict().is_some());
    let carrying: Duration = carried.clone().map(|(_, took)| *took).sum();
    let (most, took) = carried.max_by_key(|(_, took)| *took)?;
    (carrying * 2 > all && *took * 2 > carrying).then(|| most.verdict()).flatten()
}

/// Returns the share to which a moment belongs.
fn share_of(active: &ActiveCounts) -> Share {
    let is = |work: Work| active[work as usize] > 0;
    match (is(Work::Sending), is(Work::Compressing), is(Work::Reading)) {
        (true, true, _) | (true, _, true) => Share::CompressingAndSending,
        (true, false, false) => Share::Sending,
        (false, true, _) => Share::Compressing,
        (false, false, true) => Share::Reading,
        _ if is(Work::RetryPause) => Share::RetryPause,
        _ if is(Work::SmallRequests) => Share::SmallRequests,
        _ if is(Work::OpeningArchive) => Share::OpeningArchive,
        _ => Share::Other,
    }
}

/// Returns when work begins (+1) and ends (-1).
fn changes(recording: &Recording, end: Instant) -> Vec<(Instant, Work, i32)> {
    let mut changes = Vec::new();
    let mut span = |work, from, to| changes.extend([(from, work, 1), (to, work, -1)]);
    span(Work::OpeningArchive, recording.began, recording.opened.unwrap_or(end));
    let mut seen = Vec::new();
    for Lane { reads, requests, .. } in &recording.lanes {
        for timeline in reads {
            // Several lanes may share a read, which counts once.
            if seen.iter().any(|it| std::sync::Arc::ptr_eq(it, timeline)) {
                continue;
            }
            seen.push(std::sync::Arc::clone(timeline));
            for part in timeline.spans() {
                match part.stage {
                    Stage::Reading => span(Work::Reading, part.from, part.to),
                    Stage::Compressing => span(Work::Compressing, part.from, part.to),
                    Stage::Blocked => {}
                }
            }
        }
        for request in requests.requests() {
            span(if request.sends_layer() { Work::Sending } else { Work::SmallRequests }, request.from, request.to);
        }
        pauses(requests.requests()).into_iter().for_each(|gap| span(Work::RetryPause, gap.from, gap.to));
    }
    for (_, requests) in &recording.others {
        requests.requests().iter().for_each(|request| span(Work::SmallRequests, request.from, request.to));
        pauses(requests.requests()).into_iter().for_each(|gap| span(Work::RetryPause, gap.from, gap.to));
    }
    changes
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::requests::RequestList;
    use super::super::requests::tests::record;
    use super::*;

    #[test]
    fn each_moment_counts_once_and_the_shares_add_up() {
        let began = Instant::now();
        let mut requests = RequestList::default();
        // Two at the same time, a failure with its pause, and the try after it.
        for (millis, status) in [(20, 200), (24, 200), (40, 429), (90, 200)] {
            requests.add(&record(began, millis, "GET", status));
        }
        let opened = Some(began + Duration::from_millis(10));
        let (others, clock) = (vec![(None, requests)], SystemTime::now());
        let recording = Recording { began, clock, opened, lanes: Vec::new(), others, finishing: Vec::new() };
        let shares = shares(&recording, began + Duration::from_millis(100));
        let millis: Vec<_> = shares.iter().map(|(share, took)| (*share, took.as_millis())).collect();
        assert_eq!(
            millis,
            [(Share::RetryPause, 42), (Share::SmallRequests, 28), (Share::OpeningArchive, 10), (Share::Other, 20)]
        );
        assert_eq!(verdict(&shares), None, "layers took less than half of the time");
    }

    #[test]
    fn a_verdict_takes_most_of_the_time() {
        let shares = |parts: &[(Share, u64)]| -> Vec<_> {
            parts.iter().map(|(part, millis)| (*part, Duration::from_millis(*millis))).collect()
        };
        let network = shares(&[(Share::CompressingAndSending, 20), (Share::Sending, 60), (Share::SmallRequests, 10)]);
        assert!(verdict(&network).unwrap().contains("network"));
        assert!(
            verdict(&shares(&[(Share::Compressing, 51), (Share::CompressingAndSending, 49)])).unwrap().contains("CPU")
        );
        for undecided in [
            shares(&[(Share::CompressingAndSending, 40), (Share::Sending, 40), (Share::Compressing, 10)]),
            shares(&[(Share::Sending, 40), (Share::SmallRequests, 60)]),
            shares(&[]),
        ] {
            assert_eq!(verdict(&undecided), None);
        }
    }
}
