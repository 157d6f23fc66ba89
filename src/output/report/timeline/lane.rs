//! One layer at one target: its action, its reads, its requests, and the pauses between them.

use std::sync::Arc;
use std::time::Instant;

use super::requests::{Request, RequestList};
use crate::compress::{Meter, ReadTimeline};
use crate::oci::LayerId;
use crate::push::LayerAction;
use crate::request_log::{Named, TargetId};

/// A layer at a target.
pub(super) struct Lane {
    pub(super) target: TargetId,
    pub(super) layer: Named<LayerId>,
    /// Its bytes in the archive.
    pub(super) bytes: u64,
    pub(super) action: LayerAction,
    /// The reason for the action.
    pub(super) reason: String,
    /// How far it is, if it is uploaded.
    pub(super) meter: Arc<Meter>,
    pub(super) planned: Instant,
    /// What its reads waited for.
    pub(super) reads: Vec<Arc<ReadTimeline>>,
    pub(super) requests: RequestList,
    pub(super) arrived: Option<Instant>,
    /// The bytes that were sent, once it has arrived.
    pub(super) sent: u64,
}

/// A time between two requests.
pub(super) struct Gap {
    pub(super) from: Instant,
    pub(super) to: Instant,
}

/// The most reads that are recorded: a layer is read again only if the registry lost it.
const MAX_READS: usize = 20;

impl Lane {
    /// Records a read, if the layer is uploaded.
    pub(super) fn read(&mut self, timeline: &Arc<ReadTimeline>) {
        if self.action == LayerAction::Upload && self.reads.len() < MAX_READS {
            self.reads.push(Arc::clone(timeline));
        }
    }

    /// Whether it was reused without a request.
    pub(super) fn is_reused(&self) -> bool {
        matches!(self.action, LayerAction::Reuse(_)) && self.requests.requests().is_empty()
    }

    /// When it was first read or requested.
    pub(super) fn began(&self) -> Option<Instant> {
        let read = self.reads.iter().filter_map(|timeline| Some(timeline.spans().first()?.from));
        read.chain(self.requests.requests().iter().map(|request| request.from)).min()
    }
}

/// The pauses before retries: from a failed request to the next one.
pub(super) fn pauses(requests: &[Request]) -> Vec<Gap> {
    let after = |pair: &[Request]| {
        let (failed, next) = (&pair[0], &pair[1]);
        (failed.failed.is_some() && next.from > failed.to).then_some(Gap { from: failed.to, to: next.from })
    };
    requests.windows(2).filter_map(after).collect()
}

#[cfg(test)]
mod tests {
    use super::super::requests::tests::record;
    use super::*;

    #[test]
    fn a_pause_is_between_a_failed_request_and_the_next_one() {
        let (start, mut requests) = (Instant::now(), RequestList::default());
        for (millis, method, status) in
            [(0, "POST", 202), (50, "PATCH", 429), (300, "PATCH", 201), (400, "PATCH", 0), (402, "PUT", 503)]
        {
            requests.add(&record(start, millis, method, status));
        }
        let since = |at: Instant| (at - start).as_millis();
        let pauses: Vec<_> = pauses(requests.requests()).iter().map(|gap| (since(gap.from), since(gap.to))).collect();
        assert_eq!(
            pauses,
            [(58, 300)],
            "requests at the same time have no pause between them, nor is there one after the last"
        );
    }
}
