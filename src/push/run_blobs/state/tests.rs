use super::*;
use crate::push::fixtures::{digest, stored};

const NEVER: Duration = Duration::ZERO;

/// A registry, with pushes to repositories of these names that need all of these blobs.
struct World {
    state: State,
    now: Instant,
    meter: Arc<Meter>,
}

impl World {
    fn new(needs_manifest: bool, mounting: Mounting) -> Self {
        let mut state = State::new(needs_manifest);
        state.set_mounting(mounting);
        Self { state, now: Instant::now(), meter: Arc::default() }
    }

    fn push(&mut self, repository: &str, needed: &[u8]) -> PushId {
        let id = self.state.begin(repository.parse().unwrap());
        self.state.need(id, &needed.iter().map(|n| digest(*n)).collect::<Vec<_>>());
        id
    }

    fn next(&mut self, push: PushId, blob: u8) -> Next {
        self.after(push, &[blob], NEVER).remove(0)
    }

    fn after(&mut self, push: PushId, blobs: &[u8], waited: Duration) -> Vec<Next> {
        let keys: Vec<_> = blobs.iter().map(|n| Some(digest(*n))).collect();
        self.state.decide(push, &keys, waited, self.now)
    }

    fn claim(&mut self, push: PushId, blob: u8) -> bool {
        self.state.claim(push, &digest(blob), &self.meter, NEVER, self.now)
    }

    fn end(&mut self, push: PushId, blob: u8, is_stored: bool) {
        self.state.end_sending(push, &digest(blob), is_stored.then(|| stored(blob, 9)), self.now);
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }
}

fn mount(blob: u8, from: &str) -> Next {
    Next::Mount(stored(blob, 9), from.parse().unwrap())
}

#[test]
fn a_push_to_the_same_repository_waits_and_finds_the_blob() {
    for mounting in [Mounting::Unknown, Mounting::Works, Mounting::Off] {
        let mut it = World::new(true, mounting);
        let (one, two) = (it.push("a", &[1]), it.push("a", &[1]));
        assert!(it.claim(one, 1) && !it.claim(two, 1));
        // However long that takes.
        it.meter.set(0, 1);
        it.pass(5);
        assert_eq!(it.after(two, &[1], Duration::from_secs(3600)), [Next::Wait]);
        it.end(one, 1, true);
        assert_eq!(it.next(two, 1), Next::Exists(stored(1, 9)));
        assert_eq!(it.state.sending.len(), 0);
    }
}

#[test]
fn who_waits_takes_over_if_sending_fails_or_stalls() {
    let mut it = World::new(false, Mounting::Works);
    let pushes = [it.push("a", &[1]), it.push("a", &[1]), it.push("b", &[1])];
    assert!(it.claim(pushes[0], 1));
    it.end(pushes[0], 1, false);
    assert_eq!(pushes.map(|push| it.next(push, 1)), [Next::Send, Next::Send, Next::Send]);
    assert!(it.claim(pushes[1], 1) && it.next(pushes[0], 1) == Next::Wait);
    it.meter.set(0, 1);
    it.pass(9);
    assert_eq!(it.next(pushes[0], 1), Next::Wait);
    it.pass(10);
    // What was sent changed before 9 seconds.
    it.meter.set(0, 2);
    assert_eq!([it.next(pushes[0], 1), it.next(pushes[2], 1)], [Next::Wait, Next::Wait]);
    it.pass(11);
    assert_eq!([it.next(pushes[0], 1), it.next(pushes[2], 1)], [Next::Send, Next::Send]);
}

#[test]
fn only_a_registry_that_has_mounted_is_waited_for() {
    let mut it = World::new(false, Mounting::Unknown);
    let (one, two) = (it.push("a", &[1, 2, 3]), it.push("b", &[1, 2, 3]));
    assert!(it.claim(one, 1) && it.claim(one, 2));
    assert_eq!(it.next(two, 1), Next::Send);
    it.end(one, 1, true);
    // It is asked instead of opening an upload.
    assert_eq!(it.next(two, 1), mount(1, "a"));
    it.state.mounted(two, Some(&digest(1)), stored(1, 9));
    assert_eq!((it.next(two, 1), it.next(two, 2)), (Next::Exists(stored(1, 9)), Next::Wait));

    let mut it = World::new(false, Mounting::Unknown);
    let (one, two, three) = (it.push("a", &[1]), it.push("b", &[1, 2]), it.push("c", &[1]));
    it.claim(one, 1);
    it.end(one, 1, true);
    it.state.not_mounted(two, &digest(1), &"a".parse().unwrap());
    assert_eq!([it.next(two, 1), it.next(three, 1)], [Next::Send, Next::Send]);
}

#[test]
fn a_repository_that_nothing_can_be_mounted_in_tries_it_once() {
    let mut it = World::new(false, Mounting::Works);
    let (one, two, three) = (it.push("a", &[1, 2]), it.push("b", &[1, 2]), it.push("c", &[1]));
    it.state.found(one, &digest(1), stored(1, 9));
    it.claim(one, 2);
    it.end(one, 2, true);
    it.state.not_mounted(two, &digest(1), &"a".parse().unwrap());
    assert_eq!([it.next(two, 1), it.next(two, 2)], [Next::Send, Next::Send]);
    assert_eq!(it.next(three, 2), mount(2, "a"));
}

#[test]
fn ecr_mounts_after_the_manifest() {
    let mut it = World::new(true, Mounting::Works);
    let (one, two) = (it.push("a", &[1]), it.push("b", &[1]));
    it.claim(one, 1);
    it.pass(3);
    assert_eq!(it.after(two, &[1], Duration::from_secs(2)), [Next::Wait]);
    it.end(one, 1, true);
    // It took three seconds to send it, which is as long as the manifest is waited for.
    assert_eq!(it.after(two, &[1], Duration::from_millis(2_900)), [Next::Wait]);
    assert_eq!(it.after(two, &[1], Duration::from_secs(3)), [Next::Send]);
    it.state.published(one);
    assert_eq!(it.next(two, 1), mount(1, "a"));
    it.state.end(one);
    assert_eq!(it.next(two, 1), mount(1, "a"));
}

#[test]
fn the_manifest_of_a_push_that_failed_is_not_waited_for() {
    let mut it = World::new(true, Mounting::Works);
    let (one, two) = (it.push("a", &[1]), it.push("b", &[1]));
    it.claim(one, 1);
    it.end(one, 1, true);
    it.state.end(one);
    assert_eq!(it.next(two, 1), Next::Send);
    let three = it.push("a", &[1]);
    assert_eq!(it.next(three, 1), Next::Exists(stored(1, 9)));
}

#[test]
fn all_that_a_push_waits_for_is_considered_together() {
    let mut it = World::new(true, Mounting::Works);
    let (one, two) = (it.push("a", &[1, 2, 3]), it.push("b", &[1, 2, 3]));
    assert!(it.claim(one, 1) && it.claim(one, 2));
    it.pass(4);
    // Two layers for four seconds each; the third is not sent yet, and worth no time.
    let waits = vec![Next::Wait; 3];
    assert_eq!(it.after(two, &[1, 2, 3], Duration::from_millis(7_900)), waits);
    assert_eq!(it.after(two, &[1, 2, 3], Duration::from_secs(8)), [Next::Send, Next::Send, Next::Send]);
    assert_eq!(it.after(two, &[3], SHORTEST_WAIT), [Next::Send]);
}

#[test]
fn no_two_pushes_wait_for_the_manifests_of_each_other() {
    let mut it = World::new(true, Mounting::Works);
    // The second one began to send first.
    let one = it.state.begin("a".parse().unwrap());
    let two = it.push("b", &[1, 2]);
    it.claim(two, 2);
    it.state.need(one, &[digest(1), digest(2)]);
    it.claim(one, 1);
    assert_eq!([it.next(two, 1), it.next(one, 2), it.next(one, 1)], [Next::Send, Next::Wait, Next::Wait]);
}

#[test]
fn what_a_repository_has_lost_is_sent_and_not_mounted_again() {
    let mut it = World::new(false, Mounting::Works);
    let (one, two) = (it.push("a", &[1]), it.push("b", &[1]));
    for push in [one, two] {
        it.state.found(push, &digest(1), stored(1, 9));
    }
    it.state.lost(two, &[digest(1)]);
    assert_eq!([it.next(two, 1), it.next(one, 1)], [Next::Send, Next::Exists(stored(1, 9))]);
}

#[test]
fn a_blob_is_shared_once_two_repositories_need_it() {
    let mut it = World::new(true, Mounting::Unknown);
    let names = ["a", "a", "b", "c"];
    let [one, two, three, four] = names.map(|name| it.state.begin(name.parse().unwrap()));
    let mut need = |push, blob| it.state.need(push, &[digest(blob)]);
    assert_eq!([need(one, 1), need(two, 1), need(three, 1), need(four, 2)], [false, false, true, false]);
    it.state.found(four, &digest(3), stored(3, 9));
    it.state.end(four);
    assert!(it.state.need(one, &[digest(3)]));
    // The targets of one push read it once.
    let own = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<_>>();
    let mut is_in_others = |names: &[&str], blob| it.state.is_in_others(&own(names), &[digest(blob)]);
    assert_eq!((is_in_others(&["a"], 1), is_in_others(&["a", "b"], 1)), (true, false));
    assert_eq!((is_in_others(&["a", "b"], 3), is_in_others(&["a", "c"], 3)), (true, false));
}

/// 1,000 images of 40 layers, each in a repository of its own, where every layer but one is new.
#[test]
fn a_run_remembers_a_bounded_number_of_blobs() {
    let mut it = World::new(true, Mounting::Works);
    let shared = Digest::of(b"shared");
    for image in 0..1_000_u32 {
        let push = it.state.begin(format!("mirror/app-{image}").parse().unwrap());
        let mut keys: Vec<BlobKey> =
            (0..40_u32).map(|layer| Digest::of(&[image.to_le_bytes(), layer.to_le_bytes()].concat())).collect();
        keys[0] = shared;
        it.state.need(push, &keys);
        let next = it.state.decide(push, &keys.iter().copied().map(Some).collect::<Vec<_>>(), NEVER, it.now);
        let sent = next.iter().filter(|next| **next == Next::Send).count();
        assert_eq!(sent, if image == 0 { 40 } else { 39 });
        for (key, _) in keys.iter().zip(next).filter(|(_, next)| *next == Next::Send) {
            assert!(it.state.claim(push, key, &it.meter, NEVER, it.now));
            it.state.end_sending(push, key, Some(stored(1, 9)), it.now);
        }
        it.state.found(push, &shared, stored(1, 9));
        it.state.published(push);
        it.state.end(push);
    }
    let places: usize = it.state.blobs.values().map(|known| known.places.len()).sum();
    assert_eq!(it.state.blobs.values().count(), MAX_BLOBS);
    assert_eq!((places, it.state.sending.len(), it.state.pushes.len()), (MAX_BLOBS + MAX_PLACES - 1, 0, 0));
}
