//! What a layer does at a target: its lot, its readings, its requests, and the pauses between them.

use std::sync::Arc;
use std::time::Instant;

use super::asked::{Asked, Request};
use crate::compress::{Meter, ReadTimeline};
use crate::push::Planned;

/// A layer at a target.
pub(super) struct Lane {
    pub(super) target: String,
    pub(super) layer: String,
    /// Its bytes in the archive.
    pub(super) bytes: u64,
    pub(super) lot: Lot,
    pub(super) planned: Instant,
    /// What its readings waited for.
    pub(super) courses: Vec<Arc<ReadTimeline>>,
    pub(super) asked: Asked,
    pub(super) arrived: Option<Instant>,
    /// The bytes that were sent, once it has arrived.
    pub(super) sent: u64,
}

/// A layer's lot, and why.
pub(super) enum Lot {
    Reuse(String),
    Mount(String),
    Upload(String, Arc<Meter>),
}

/// A time between two requests.
pub(super) struct Gap {
    pub(super) from: Instant,
    pub(super) to: Instant,
}

/// The most readings of a layer that are kept: it is read again only if the registry lost it.
const READINGS: usize = 20;

impl Lot {
    pub(super) fn of(action: &Planned) -> Self {
        match action {
            Planned::Reuse(why) => Self::Reuse(why.clone()),
            Planned::Mount(why) => Self::Mount(why.clone()),
            Planned::Upload { why, meter } => Self::Upload(why.clone(), Arc::clone(meter)),
        }
    }
}

impl Lane {
    pub(super) fn new((target, layer): (&str, &str), bytes: u64, lot: Lot, planned: Instant) -> Self {
        let (target, layer) = (target.to_owned(), layer.to_owned());
        let (courses, asked) = (Vec::new(), Asked::default());
        Self { target, layer, bytes, lot, planned, courses, asked, arrived: None, sent: 0 }
    }

    /// It is being read, if it is sent.
    pub(super) fn read(&mut self, course: &Arc<ReadTimeline>) {
        if matches!(self.lot, Lot::Upload(..)) && self.courses.len() < READINGS {
            self.courses.push(Arc::clone(course));
        }
    }

    /// Whether it was there already, and nothing was asked about it.
    pub(super) fn is_reused(&self) -> bool {
        matches!(self.lot, Lot::Reuse(_)) && self.asked.requests().is_empty()
    }

    /// When it was first read or asked about.
    pub(super) fn began(&self) -> Option<Instant> {
        let read = self.courses.iter().filter_map(|course| Some(course.spans().first()?.from));
        read.chain(self.asked.requests().iter().map(|request| request.from)).min()
    }
}

/// The pauses before another try: from a request that failed to the next one.
pub(super) fn pauses(requests: &[Request]) -> Vec<Gap> {
    let after = |pair: &[Request]| {
        let (failed, next) = (&pair[0], &pair[1]);
        (failed.failed.is_some() && next.from > failed.to).then_some(Gap { from: failed.to, to: next.from })
    };
    requests.windows(2).filter_map(after).collect()
}

#[cfg(test)]
mod tests {
    use super::super::asked::tests::exchange;
    use super::*;

    #[test]
    fn a_pause_goes_from_a_request_that_failed_to_the_next_one() {
        let (start, mut asked) = (Instant::now(), Asked::default());
        for (millis, method, status) in
            [(0, "POST", 202), (50, "PATCH", 429), (300, "PATCH", 201), (400, "PATCH", 0), (402, "PUT", 503)]
        {
            asked.add(&exchange(start, millis, method, status));
        }
        let since = |at: Instant| (at - start).as_millis();
        let pauses: Vec<_> = pauses(asked.requests()).iter().map(|gap| (since(gap.from), since(gap.to))).collect();
        assert_eq!(
            pauses,
            [(58, 300)],
            "two at the same time have none between them, and nothing comes after the last"
        );
    }
}
