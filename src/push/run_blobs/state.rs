//! Where the blobs of a registry are, as seen in this run, and who sends which now: a state machine without I/O, given the
//! time.
//!
//! A push does not send what its repository has or gets from another push. It mounts what another repository has, if the
//! registry mounts, and waits for what another push is sending to that: together not longer than it takes to send it.
//! ECR mounts only what a manifest of the source refers to, so there a push waits for the manifest of another one, and only of
//! one that began before it: no two pushes wait for each other.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::compress::Meter;
use crate::oci::{Digest, Repository};
use crate::push::plan::Stored;
use crate::reuse::Recent;

/// The most blobs of a registry that a run remembers. What is forgotten is sent again, or found by asking the registry.
pub(super) const MAX_BLOBS: usize = 16_384;

/// The most repositories that are remembered to have a blob.
const MAX_PLACES: usize = 8;

/// How long a push always may wait for others: sending takes some requests, and so does the manifest after it.
pub(super) const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// How long a blob may make no progress until other pushes do not wait for it.
const STALL: Duration = Duration::from_secs(10);

/// Identifies the bytes of a blob before they are compressed: the hash of [`identity`].
///
/// [`identity`]: crate::push::plan::PlannedLayer::identity
pub(in crate::push) type BlobKey = Digest;

/// The number of a push to one target.
pub(super) type PushId = u64;

/// What a push does about a blob that its repository was not known to have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::push) enum Next {
    /// Sends it.
    Send,
    /// Nothing: its repository has it by now.
    Exists(Stored),
    /// Mounts it from another repository.
    Mount(Stored, Repository),
    /// Waits until another push has sent it.
    Wait,
}

/// Whether a registry mounts blobs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::push) enum Mounting {
    /// Not known: a mount may be tried, and no push waits for it.
    #[default]
    Unknown,
    /// It has mounted a blob in this run, or ECR's account setting allows it.
    Works,
    /// It does not.
    Off,
}

/// The blobs of one registry.
#[derive(Debug)]
pub(super) struct State {
    mounting: Mounting,
    /// Whether it mounts only what a manifest refers to.
    needs_manifest: bool,
    blobs: Recent<BlobKey, KnownBlob>,
    /// The blobs that are sent now.
    sending: HashMap<BlobKey, Vec<Sender>>,
    /// The pushes in progress.
    pushes: HashMap<PushId, Push>,
    next_push: PushId,
    next_order: u64,
}

#[derive(Debug)]
struct KnownBlob {
    stored: Stored,
    /// How long it took to send it.
    took: Duration,
    places: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    repository: Repository,
    state: PlaceState,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum PlaceState {
    /// Other repositories can mount it.
    Mountable,
    /// They can once the push has put its manifest.
    Awaiting(PushId),
    /// They cannot: the push failed.
    Unreferenced,
}

#[derive(Debug)]
struct Sender {
    push: PushId,
    since: Instant,
    meter: Arc<Meter>,
    /// What was sent when that changed last.
    progress: (u64, Instant),
}

#[derive(Debug)]
struct Push {
    repository: Repository,
    /// Its place in the order in which pushes began to send.
    order: Option<u64>,
    /// What it has to send or mount.
    needed: HashSet<BlobKey>,
    /// A blob could not be mounted.
    is_mount_refused: bool,
}

/// What was found out about one blob, before all that a push waits for are considered together.
enum Found {
    Decided(Next),
    /// Another push to the same repository is sending it.
    Sending,
    /// Another repository gets it from a push that has spent so much time on it.
    Elsewhere(Duration),
}

impl State {
    /// Returns the state of a registry of which nothing is known.
    pub(super) fn new(needs_manifest: bool) -> Self {
        Self {
            mounting: Mounting::Unknown,
            needs_manifest,
            blobs: Recent::new(MAX_BLOBS),
            sending: HashMap::new(),
            pushes: HashMap::new(),
            next_push: 0,
            next_order: 0,
        }
    }

    /// Notes a push to a repository.
    pub(super) fn begin(&mut self, repository: Repository) -> PushId {
        let id = self.next_push;
        self.next_push += 1;
        let push = Push { repository, order: None, needed: HashSet::new(), is_mount_refused: false };
        self.pushes.insert(id, push);
        id
    }

    /// Notes which blobs a push needs. Returns whether another repository may have or get one of them.
    pub(super) fn need(&mut self, push: PushId, keys: &[BlobKey]) -> bool {
        let order = self.next_order;
        let Some(own) = self.pushes.get_mut(&push) else { return false };
        if own.order.is_none() && !keys.is_empty() {
            own.order = Some(order);
            self.next_order += 1;
        }
        own.needed.extend(keys);
        let own = own.repository.clone();
        self.is_in_others(&[own], keys)
    }

    /// Returns whether a repository that is none of `own` may have or get one of these blobs.
    pub(super) fn is_in_others(&mut self, own: &[Repository], keys: &[BlobKey]) -> bool {
        let is_needed_by =
            |other: &Push| !own.contains(&other.repository) && keys.iter().any(|key| other.needed.contains(key));
        let is_in_another = |key: &BlobKey, blobs: &mut Recent<BlobKey, KnownBlob>| {
            blobs.get(key).is_some_and(|known| known.places.iter().any(|place| !own.contains(&place.repository)))
        };
        self.pushes.values().any(is_needed_by) || keys.iter().any(|key| is_in_another(key, &mut self.blobs))
    }

    /// Returns whether the registry mounts blobs.
    pub(super) fn mounting(&self) -> Mounting {
        self.mounting
    }

    /// Notes whether the registry mounts blobs.
    pub(super) fn set_mounting(&mut self, mounting: Mounting) {
        self.mounting = mounting;
    }

    /// Decides about all blobs that a push still has to send. `waited` is how long it has waited for other pushes.
    pub(super) fn decide(
        &mut self,
        push: PushId,
        keys: &[Option<BlobKey>],
        waited: Duration,
        now: Instant,
    ) -> Vec<Next> {
        let find = |key: &Option<BlobKey>| key.map_or(Found::Decided(Next::Send), |key| self.find(push, &key, now));
        let found: Vec<Found> = keys.iter().map(find).collect();
        let spent = |found: &Found| if let Found::Elsewhere(spent) = found { *spent } else { Duration::ZERO };
        let limit = found.iter().map(spent).sum::<Duration>().max(SHORTEST_WAIT);
        let decided = found.into_iter().map(|found| match found {
            Found::Decided(next) => next,
            Found::Sending => Next::Wait,
            Found::Elsewhere(_) => {
                if waited < limit {
                    Next::Wait
                } else {
                    Next::Send
                }
            }
        });
        decided.collect()
    }

    fn find(&mut self, push: PushId, key: &BlobKey, now: Instant) -> Found {
        let Some(own) = self.pushes.get(&push) else { return Found::Decided(Next::Send) };
        let may_mount = self.mounting != Mounting::Off && !own.is_mount_refused;
        let mut awaited = None;
        if let Some(KnownBlob { stored, took, places }) = self.blobs.get(key) {
            if places.iter().any(|place| place.repository == own.repository) {
                return Found::Decided(Next::Exists(*stored));
            }
            let is_mountable = |place: &&Place| place.state == PlaceState::Mountable;
            if let Some(place) = places.iter().find(is_mountable).filter(|_| may_mount) {
                return Found::Decided(Next::Mount(*stored, place.repository.clone()));
            }
            let pushes = places.iter().filter_map(|place| match place.state {
                PlaceState::Awaiting(push) => Some(push),
                PlaceState::Mountable | PlaceState::Unreferenced => None,
            });
            awaited = pushes.filter(|other| is_before(&self.pushes, *other, push)).map(|_| *took).max();
        }
        let mut sent_elsewhere = None;
        for sender in self.sending.get_mut(key).into_iter().flatten().filter(|sender| sender.push != push) {
            if sender.is_stalled(now) {
                continue;
            }
            match self.pushes.get(&sender.push) {
                Some(other) if other.repository == own.repository => return Found::Sending,
                Some(_) if !self.needs_manifest || is_before(&self.pushes, sender.push, push) => {
                    sent_elsewhere = sent_elsewhere.max(Some(now.duration_since(sender.since)));
                }
                Some(_) | None => {}
            }
        }
        if !may_mount || self.mounting != Mounting::Works {
            return Found::Decided(Next::Send);
        }
        // What it needs and has not begun to send is worth no time, but sending it twice is not either.
        let is_needed_before = |(other, it): (&PushId, &Push)| {
            it.needed.contains(key) && it.repository != own.repository && is_before(&self.pushes, *other, push)
        };
        let needed = (self.needs_manifest && self.pushes.iter().any(is_needed_before)).then_some(Duration::ZERO);
        match awaited.or(sent_elsewhere).or(needed) {
            Some(spent) => Found::Elsewhere(spent),
            None => Found::Decided(Next::Send),
        }
    }

    /// Notes that a push sends a blob now, unless it need not, after having waited for others for `waited`.
    pub(super) fn claim(
        &mut self,
        push: PushId,
        key: &BlobKey,
        meter: &Arc<Meter>,
        waited: Duration,
        now: Instant,
    ) -> bool {
        let is_sent = self.decide(push, &[Some(*key)], waited, now) == [Next::Send];
        if is_sent {
            self.claim_anyway(push, key, meter, now);
        }
        is_sent
    }

    /// Notes that a push sends a blob now.
    pub(super) fn claim_anyway(&mut self, push: PushId, key: &BlobKey, meter: &Arc<Meter>, now: Instant) {
        let progress = (meter.sent(), now);
        let sender = Sender { push, since: now, meter: Arc::clone(meter), progress };
        self.sending.entry(*key).or_default().push(sender);
    }

    /// Notes that a push sends a blob no more: it is stored, or that failed.
    pub(super) fn end_sending(&mut self, push: PushId, key: &BlobKey, stored: Option<Stored>, now: Instant) {
        let mut took = Duration::ZERO;
        if let Some(senders) = self.sending.get_mut(key) {
            if let Some(at) = senders.iter().position(|sender| sender.push == push) {
                took = now.duration_since(senders.swap_remove(at).since);
            }
            if senders.is_empty() {
                self.sending.remove(key);
            }
        }
        if let Some(stored) = stored {
            let state = if self.needs_manifest { PlaceState::Awaiting(push) } else { PlaceState::Mountable };
            self.place(push, key, stored, took, state);
        }
    }

    /// Notes that the repository of a push has a blob.
    pub(super) fn found(&mut self, push: PushId, key: &BlobKey, stored: Stored) {
        self.place(push, key, stored, Duration::ZERO, PlaceState::Mountable);
    }

    /// Notes that a blob was mounted in the repository of a push: so the registry mounts.
    pub(super) fn mounted(&mut self, push: PushId, key: Option<&BlobKey>, stored: Stored) {
        self.mounting = Mounting::Works;
        if let Some(key) = key {
            let state = if self.needs_manifest { PlaceState::Awaiting(push) } else { PlaceState::Mountable };
            self.place(push, key, stored, Duration::ZERO, state);
        }
    }

    /// Notes that a blob could not be mounted from another repository.
    pub(super) fn not_mounted(&mut self, push: PushId, key: &BlobKey, from: &Repository) {
        if self.mounting == Mounting::Unknown {
            self.mounting = Mounting::Off;
        }
        if let Some(own) = self.pushes.get_mut(&push) {
            own.is_mount_refused = true;
        }
        if let Some(known) = self.blobs.get(key) {
            let places = known.places.iter_mut().filter(|place| place.repository == *from);
            places.for_each(|place| place.state = PlaceState::Unreferenced);
        }
    }

    /// Notes that the repository of a push has lost blobs.
    pub(super) fn lost(&mut self, push: PushId, keys: &[BlobKey]) {
        let Some(own) = self.pushes.get_mut(&push) else { return };
        // What was mounted and is lost would be lost again.
        own.is_mount_refused = true;
        for key in keys {
            if let Some(known) = self.blobs.get(key) {
                known.places.retain(|place| place.repository != own.repository);
            }
        }
    }

    /// Notes that a push has put its manifests.
    pub(super) fn published(&mut self, push: PushId) {
        self.settle(push, PlaceState::Mountable);
    }

    /// Notes that a push has ended.
    pub(super) fn end(&mut self, push: PushId) {
        self.settle(push, PlaceState::Unreferenced);
        self.pushes.remove(&push);
    }

    fn settle(&mut self, push: PushId, state: PlaceState) {
        for key in self.pushes.get(&push).into_iter().flat_map(|own| &own.needed) {
            let places = self.blobs.get(key).into_iter().flat_map(|known| &mut known.places);
            places.filter(|place| place.state == PlaceState::Awaiting(push)).for_each(|place| place.state = state);
        }
    }

    fn place(&mut self, push: PushId, key: &BlobKey, stored: Stored, took: Duration, state: PlaceState) {
        let Some(own) = self.pushes.get(&push) else { return };
        let known = self.blobs.get_or_insert(key, || KnownBlob { stored, took, places: Vec::new() });
        known.took = known.took.max(took);
        if known.places.iter().any(|place| place.repository == own.repository) {
            return;
        }
        if known.places.len() >= MAX_PLACES {
            // The first one that can be mounted from stays.
            let is_first = known.places.first().is_some_and(|place| place.state == PlaceState::Mountable);
            known.places.remove(usize::from(is_first));
        }
        known.places.push(Place { repository: own.repository.clone(), state });
    }
}

impl Sender {
    fn is_stalled(&mut self, now: Instant) -> bool {
        let sent = self.meter.sent();
        if sent != self.progress.0 {
            self.progress = (sent, now);
        }
        now.duration_since(self.progress.1) > STALL
    }
}

/// Returns whether a push began to send before another one. One that sends nothing yet is after all others.
fn is_before(pushes: &HashMap<PushId, Push>, push: PushId, other: PushId) -> bool {
    let order = |push| pushes.get(&push).and_then(|push| push.order);
    order(push).is_some_and(|first| order(other).is_none_or(|second| first < second))
}

#[cfg(test)]
mod tests;
