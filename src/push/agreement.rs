//! `--same-digest`: one set of layer bytes for all targets, decided on before anything is sent.
//!
//! Targets wait for each other's plan, and for nothing else. A target that fails before it has a plan is left out.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, OnceLock};

use tokio::sync::Notify;

use super::plan::{LayerAction, PlannedLayer};
use crate::error::{Code, Error, Kind, Result};
use crate::oci::{Digest, LayerId};
use crate::request_log::TargetId;
use crate::sync::lock;

/// What one target would store each layer as, where that is known before it is compressed.
type Plan = HashMap<LayerId, Option<Digest>>;

/// The plans of all targets.
#[derive(Debug)]
pub(super) struct Agreement {
    plans: Mutex<Vec<Participant>>,
    changed: Notify,
    /// The digest of the image at the target that was the first to know it.
    root: OnceLock<Digest>,
}

#[derive(Debug)]
enum Participant {
    Undecided,
    Decided(Plan),
    Left,
}

impl Agreement {
    /// Returns an agreement among so many targets.
    pub(super) fn new(targets: usize) -> Self {
        let plans = std::iter::repeat_with(|| Participant::Undecided).take(targets).collect();
        Self { plans: Mutex::new(plans), changed: Notify::new(), root: OnceLock::new() }
    }

    /// Waits for the plans of all targets, and has every layer sent for which they differ.
    pub(super) async fn agree(&self, target: TargetId, planned: &mut [(PlannedLayer, LayerAction)]) {
        let plan = planned.iter().map(|(layer, action)| {
            let digest = match action {
                LayerAction::Reuse(candidate) | LayerAction::Mount(candidate, _) => Some(candidate.stored.digest),
                LayerAction::Upload => None,
            };
            (layer.id, digest)
        });
        self.set(target, Participant::Decided(plan.collect()));
        let differing = loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Before the plans are read, so that nothing is missed that happens in between.
            changed.as_mut().enable();
            if let Some(differing) = self.differing() {
                break differing;
            }
            changed.await;
        };
        for (_, action) in planned.iter_mut().filter(|(layer, _)| differing.contains(&layer.id)) {
            *action = LayerAction::Upload;
        }
    }

    /// Notes that a target takes no part any more. A plan that it had counts: others have decided by it.
    pub(super) fn leave(&self, target: TargetId) {
        if matches!(lock(&self.plans).get(target), Some(Participant::Undecided)) {
            self.set(target, Participant::Left);
        }
    }

    /// Checks that the image has the digest that it has at the other targets.
    ///
    /// # Errors
    /// If it has another one. Nothing was tagged at this target then.
    pub(super) fn check_root(&self, digest: Digest) -> Result<()> {
        let root = *self.root.get_or_init(|| digest);
        if root == digest {
            return Ok(());
        }
        let what = format!("the image has the digest {digest} here, and {root} at another target");
        Err(Error::new(Kind::Refused, what).code(Code::DigestMismatch).hint("Nothing was tagged."))
    }

    /// Returns the layers that are not the same blob at all targets, once all have decided.
    fn differing(&self) -> Option<HashSet<LayerId>> {
        let plans = lock(&self.plans);
        if plans.iter().any(|plan| matches!(plan, Participant::Undecided)) {
            return None;
        }
        let plans = plans.iter().filter_map(|plan| match plan {
            Participant::Decided(plan) => Some(plan),
            Participant::Undecided | Participant::Left => None,
        });
        Some(differing(&plans.collect::<Vec<_>>()))
    }

    fn set(&self, target: TargetId, participant: Participant) {
        if let Some(place) = lock(&self.plans).get_mut(target) {
            *place = participant;
        }
        self.changed.notify_waiters();
    }
}

/// Returns the layers that are not the same blob in all plans. A layer that is compressed everywhere is the same.
fn differing(plans: &[&Plan]) -> HashSet<LayerId> {
    let ids: HashSet<&LayerId> = plans.iter().flat_map(|plan| plan.keys()).collect();
    let differs = |id: &&LayerId| {
        let mut digests = plans.iter().filter_map(|plan| plan.get(*id));
        let first = digests.next();
        digests.any(|digest| Some(digest) != first)
    };
    ids.into_iter().filter(differs).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> LayerId {
        LayerId::Stated(Digest::of(&[n]))
    }

    #[test]
    fn only_layers_that_are_one_blob_everywhere_are_reused() {
        let digest = |n: u8| Some(Digest::of(&[100 + n]));
        let one = Plan::from([(id(1), digest(1)), (id(2), digest(2)), (id(3), None), (id(4), None)]);
        let other = Plan::from([(id(1), digest(1)), (id(2), digest(9)), (id(3), digest(3)), (id(4), None)]);
        assert_eq!(differing(&[&one, &other]), HashSet::from([id(2), id(3)]));
        assert_eq!(differing(&[&one]), HashSet::new());
    }

    #[tokio::test]
    async fn a_target_that_leaves_is_not_waited_for_and_one_that_had_a_plan_counts() {
        let agreement = Agreement::new(3);
        let waiting = agreement.agree(0, &mut []);
        let others = async {
            tokio::task::yield_now().await;
            agreement.leave(1);
            agreement.agree(2, &mut []).await;
            agreement.leave(2);
        };
        tokio::join!(waiting, others);
        assert!(matches!(lock(&agreement.plans)[2], Participant::Decided(_)));
    }

    #[test]
    fn the_first_digest_is_that_of_all() {
        let agreement = Agreement::new(2);
        assert!(agreement.check_root(Digest::of(b"a")).is_ok() && agreement.check_root(Digest::of(b"a")).is_ok());
        let error = agreement.check_root(Digest::of(b"b")).unwrap_err();
        assert_eq!(error.stable_code(), Code::DigestMismatch);
    }
}
