//! Layers in flight: each is read and compressed once for all targets that need it at about the same time.
//!
//! A target joins the reading of a layer and gets a stream from its first byte. The reading begins when all targets have
//! joined or declined, or have had their time ([`schedule`]); it goes as fast as the slowest of them takes bytes, as long as
//! that one keeps to its allowance. A target that does not is cut off: it reads for itself from then on. So a slow, silent
//! or stopped target delays the others by [`schedule::ALLOWANCE`] in all, and no more.
//!
//! What a shared layer holds in memory is the same for any number of targets, since they share the bytes: a block in each
//! stream, and one that is distributed.

mod schedule;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::plan::PlannedLayer;
use super::producer::{BLOCKS, LayerReader};
use crate::oci::LayerId;
use crate::registry::{Demand, LayerData, LayerStream};
use crate::request_log::TargetId;
use schedule::{Schedule, Start};

/// The layers of an image, and the targets that read them.
pub(super) struct Hub {
    reader: LayerReader,
    state: Mutex<State>,
    /// Something happened that may let a reading begin.
    changed: Notify,
}

struct State {
    schedule: Schedule<LayerId>,
    /// The targets that wait for the next reading of a layer.
    waiting: HashMap<LayerId, Group>,
}

/// Targets that share a reading.
#[derive(Default)]
struct Group {
    consumers: Vec<Consumer>,
    /// A consumer begins to wait for bytes.
    changed: Arc<Notify>,
}

/// A target that takes bytes of a layer.
struct Consumer {
    target: TargetId,
    sender: mpsc::Sender<LayerData>,
    cut_off: CancellationToken,
    demand: Arc<Demand>,
}

impl Hub {
    /// Returns a hub for so many targets, of which each may need every layer until it declines it.
    pub(super) fn new(targets: usize, reader: LayerReader) -> Arc<Self> {
        let state = State { schedule: Schedule::new(targets, Instant::now()), waiting: HashMap::new() };
        Arc::new(Self { reader, state: Mutex::new(state), changed: Notify::new() })
    }

    /// Returns what reads the layers.
    pub(super) fn reader(&self) -> &LayerReader {
        &self.reader
    }

    /// Returns the bytes of a layer for a target that is ready to take them, shared with other targets where that costs
    /// neither of them much.
    pub(super) fn join(self: &Arc<Self>, target: TargetId, layer: &PlannedLayer) -> LayerStream {
        let (sender, receiver) = mpsc::channel(BLOCKS);
        let cut_off = CancellationToken::new();
        let demand = {
            let mut state = self.state();
            if state.schedule.is_independent(target) {
                drop(state);
                return self.read_alone(layer);
            }
            if let Some(stream) = self.reader.small.stream(layer) {
                state.schedule.decline(target, &layer.id, Instant::now());
                drop(state);
                self.changed.notify_waiters();
                return stream;
            }
            state.schedule.join(target, &layer.id, Instant::now());
            let group = state.waiting.entry(layer.id).or_default();
            let demand = Arc::new(Demand::new(Arc::clone(&group.changed)));
            group.consumers.push(Consumer { target, sender, cut_off: cut_off.clone(), demand: Arc::clone(&demand) });
            if group.consumers.len() == 1 {
                tokio::spawn(Arc::clone(self).read_when_due(layer.clone()));
            }
            demand
        };
        self.changed.notify_waiters();
        let (hub, layer) = (Arc::clone(self), layer.clone());
        LayerStream::shared(receiver, cut_off, demand, move || hub.reader.read(&layer))
    }

    /// Returns the bytes of a layer for one target, read for it alone.
    pub(super) fn read_alone(&self, layer: &PlannedLayer) -> LayerStream {
        self.reader.stream(layer)
    }

    /// Notes that a target does not need a layer.
    pub(super) fn decline(&self, target: TargetId, layer: &LayerId) {
        self.state().schedule.decline(target, layer, Instant::now());
        self.changed.notify_waiters();
    }

    /// Notes that a target needs nothing any more.
    pub(super) fn leave(&self, target: TargetId) {
        self.state().schedule.leave(target, Instant::now());
        self.changed.notify_waiters();
    }

    /// Reads a layer for all targets that wait for it, once no other target has to be waited for.
    async fn read_when_due(self: Arc<Self>, layer: PlannedLayer) {
        let Group { consumers, changed } = loop {
            // Before the state is asked, so that nothing that happens in between is missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let start = {
                let mut state = self.state();
                let start = state.schedule.start(&layer.id, Instant::now());
                if matches!(start, Start::Now(_)) {
                    break state.waiting.remove(&layer.id).unwrap_or_default();
                }
                start
            };
            match start {
                Start::At(end) => {
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep_until(end) => {}
                    }
                }
                Start::Now(_) | Start::Nothing => break Group::default(),
            }
        };
        match <[Consumer; 1]>::try_from(consumers) {
            Ok([Consumer { sender, .. }]) => self.reader.read_into(&layer, sender),
            Err(consumers) => self.distribute(self.reader.read(&layer), consumers, &changed).await,
        }
    }

    /// Hands what is read to all consumers, block by block.
    async fn distribute(&self, mut source: mpsc::Receiver<LayerData>, mut consumers: Vec<Consumer>, changed: &Notify) {
        loop {
            let ready = self.ready(consumers, changed).await;
            if ready.is_empty() {
                return;
            }
            let Some(block) = source.recv().await else { return };
            let sent =
                ready.into_iter().map(|(consumer, permit)| Consumer { sender: permit.send(copy(&block)), ..consumer });
            consumers = sent.collect();
        }
    }

    /// Waits until every consumer has capacity for a block. Closed ones are left out, and those that keep others
    /// waiting for too long are cut off.
    async fn ready(&self, consumers: Vec<Consumer>, changed: &Notify) -> Vec<(Consumer, mpsc::OwnedPermit<LayerData>)> {
        let mut late: Vec<(TargetId, CancellationToken)> =
            consumers.iter().map(|consumer| (consumer.target, consumer.cut_off.clone())).collect();
        let mut reserving: FuturesUnordered<_> = consumers.into_iter().map(reserve).collect();
        let mut ready: Vec<(Consumer, mpsc::OwnedPermit<LayerData>)> = Vec::new();
        let mut is_charged = false;
        while !reserving.is_empty() {
            // Before the check who waits, so that no target is missed that begins to.
            let mut changed = std::pin::pin!(changed.notified());
            changed.as_mut().enable();
            let is_waited_for = ready.iter().any(|(consumer, _)| consumer.demand.is_waiting());
            let end = self.charge(&late, is_waited_for, &mut is_charged);
            let is_exhausted = async {
                match end {
                    Some(end) => tokio::time::sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some((target, reserved)) = reserving.next() => {
                    late.retain(|(it, _)| *it != target);
                    if is_charged {
                        self.state().schedule.end_delay(target, Instant::now());
                    }
                    ready.extend(reserved);
                }
                () = changed => {}
                () = is_exhausted => self.cut_off_exhausted(&late),
            }
        }
        ready
    }

    /// Charges the consumers that others wait for, and returns when the first of them has used up its allowance.
    fn charge(
        &self,
        late: &[(TargetId, CancellationToken)],
        is_waited_for: bool,
        is_charged: &mut bool,
    ) -> Option<Instant> {
        let (mut state, now) = (self.state(), Instant::now());
        match (is_waited_for, std::mem::replace(is_charged, is_waited_for)) {
            (true, false) => late.iter().for_each(|(target, _)| state.schedule.begin_delay(*target, now)),
            (false, true) => late.iter().for_each(|(target, _)| state.schedule.end_delay(*target, now)),
            _ => {}
        }
        let ends = late.iter().map(|(target, _)| state.schedule.exhausted_at(*target, now));
        ends.min().filter(|_| is_waited_for)
    }

    fn cut_off_exhausted(&self, late: &[(TargetId, CancellationToken)]) {
        let (mut state, now) = (self.state(), Instant::now());
        for (target, cut_off) in late {
            if state.schedule.exhausted_at(*target, now) <= now {
                state.schedule.make_independent(*target, now);
                cut_off.cancel();
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until a consumer has capacity for a block. None if it is closed or cut off.
async fn reserve(consumer: Consumer) -> (TargetId, Option<(Consumer, mpsc::OwnedPermit<LayerData>)>) {
    let permit = consumer.cut_off.run_until_cancelled(consumer.sender.clone().reserve_owned()).await;
    (consumer.target, permit.and_then(Result::ok).map(|permit| (consumer, permit)))
}

/// The same block for another consumer, which shares its bytes.
fn copy(block: &LayerData) -> LayerData {
    match block {
        LayerData::Data(piece) => LayerData::Data(piece.clone()),
        LayerData::End(summary) => LayerData::End(*summary),
        LayerData::Failed(error) => LayerData::Failed(error.clone()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::schedule::{ALLOWANCE, GATE};
    use super::*;
    use crate::compress::{ByteSource, DataBlock};
    use crate::push::CompressionPolicy;
    use crate::push::{fixtures, plan};
    use crate::reuse::LayerCache;

    fn hub(targets: usize) -> Arc<Hub> {
        Hub::new(targets, fixtures::reader(|_| {}))
    }

    fn block(n: u8) -> LayerData {
        LayerData::Data(DataBlock { bytes: Bytes::from(vec![n]), position: u64::from(n) })
    }

    fn consumer(target: TargetId, changed: &Arc<Notify>) -> (Consumer, LayerStream, CancellationToken) {
        let (sender, receiver) = mpsc::channel(BLOCKS);
        let (cut_off, demand) = (CancellationToken::new(), Arc::new(Demand::new(Arc::clone(changed))));
        let nothing = || mpsc::channel(1).1;
        let stream = LayerStream::shared(receiver, cut_off.clone(), Arc::clone(&demand), nothing);
        (Consumer { target, sender, cut_off: cut_off.clone(), demand }, stream, cut_off)
    }

    /// A source that has so many blocks, and takes no time.
    fn source(blocks: u8) -> mpsc::Receiver<LayerData> {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            for n in 0..blocks {
                if sender.send(block(n)).await.is_err() {
                    return;
                }
            }
        });
        receiver
    }

    async fn count(mut receiver: LayerStream, pause: std::time::Duration) -> usize {
        let mut count = 0;
        while receiver.recv().await.is_some() {
            count += 1;
            tokio::time::sleep(pause).await;
        }
        count
    }

    #[tokio::test(start_paused = true)]
    async fn a_consumer_that_takes_nothing_delays_the_others_by_its_allowance() {
        let (hub, changed) = (hub(3), Arc::<Notify>::default());
        let (silent, _held, silent_is_cut) = consumer(0, &changed);
        let (one, one_receives, _) = consumer(1, &changed);
        let (other, other_receives, _) = consumer(2, &changed);
        let start = Instant::now();
        let none = std::time::Duration::ZERO;
        let (_, one, other) = tokio::join!(
            hub.distribute(source(20), vec![silent, one, other], &changed),
            count(one_receives, none),
            count(other_receives, none)
        );
        assert_eq!((one, other), (20, 20));
        assert!(silent_is_cut.is_cancelled() && hub.state().schedule.is_independent(0));
        assert_eq!(start.elapsed(), ALLOWANCE);
    }

    #[tokio::test(start_paused = true)]
    async fn consumers_of_the_same_speed_share_to_the_end() {
        let (hub, changed) = (hub(2), Arc::<Notify>::default());
        let (one, one_receives, one_is_cut) = consumer(0, &changed);
        let (other, other_receives, other_is_cut) = consumer(1, &changed);
        let ms = std::time::Duration::from_millis;
        let (_, one, other) = tokio::join!(
            hub.distribute(source(100), vec![one, other], &changed),
            count(one_receives, ms(100)),
            count(other_receives, ms(110))
        );
        assert_eq!((one, other), (100, 100));
        assert!(!one_is_cut.is_cancelled() && !other_is_cut.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_consumer_that_is_four_times_slower_is_cut_off() {
        let (hub, changed) = (hub(2), Arc::<Notify>::default());
        let (quick, quick_receives, _) = consumer(0, &changed);
        let (slow, slow_receives, slow_is_cut) = consumer(1, &changed);
        let (start, ms) = (Instant::now(), std::time::Duration::from_millis);
        let quickly = async {
            let count = count(quick_receives, ms(50)).await;
            (count, start.elapsed())
        };
        let (_, (quick, took), slow) = tokio::join!(
            hub.distribute(source(100), vec![quick, slow], &changed),
            quickly,
            count(slow_receives, ms(200))
        );
        assert!(slow_is_cut.is_cancelled() && slow < 100);
        assert_eq!(quick, 100);
        assert!(took <= ms(50 * 100) + std::time::Duration::from_secs(1), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_consumer_that_is_gone_is_not_waited_for() {
        let (hub, changed) = (hub(2), Arc::<Notify>::default());
        let (gone, receiver, _) = consumer(0, &changed);
        drop(receiver);
        let (there, receives, _) = consumer(1, &changed);
        let start = Instant::now();
        let (_, count) = tokio::join!(
            hub.distribute(source(20), vec![gone, there], &changed),
            count(receives, std::time::Duration::ZERO)
        );
        assert_eq!((count, start.elapsed()), (20, std::time::Duration::ZERO));
    }

    /// A layer of 3 MiB in a file.
    fn layer() -> PlannedLayer {
        use std::io::Write as _;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; 3 << 20]).unwrap();
        let bytes = ByteSource::new(Arc::new(file), 0, 3 << 20);
        let mut layer = fixtures::layer(1);
        (layer.diff_id, layer.bytes) = (None, bytes);
        plan::streamed(layer, &LayerCache::default(), CompressionPolicy::Keep)
    }

    async fn len(mut stream: LayerStream) -> u64 {
        let mut len = 0;
        loop {
            match stream.recv().await {
                Some(LayerData::Data(block)) => len += block.bytes.len() as u64,
                Some(LayerData::End(summary)) => {
                    assert_eq!(summary.size, len);
                    return len;
                }
                Some(LayerData::Failed(error)) => panic!("{error}"),
                None => panic!("the stream ends without an end"),
            }
        }
    }

    #[tokio::test]
    async fn targets_that_come_within_the_gate_share_one_reading() {
        let (readings, reader) = fixtures::counting_reader();
        let (hub, layer) = (Hub::new(2, reader), layer());
        let late = async {
            tokio::time::sleep(GATE / 4).await;
            len(hub.join(1, &layer)).await
        };
        assert_eq!(tokio::join!(len(hub.join(0, &layer)), late), (3 << 20, 3 << 20));
        assert_eq!(readings.load(std::sync::atomic::Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_small_layer_is_read_once_for_all_pushes() {
        let (readings, reader) = fixtures::counting_reader();
        let (mut layer, bytes) = (layer(), ByteSource::new(Arc::new(tempfile::tempfile().unwrap()), 0, 0));
        layer.layer.bytes = bytes;
        layer.id = LayerId::Stated(crate::oci::Digest::of(b""));
        for targets in [1, 2] {
            for _ in 0..2 {
                assert_eq!(len(Hub::new(targets, reader.clone()).join(0, &layer)).await, 0);
            }
        }
        assert_eq!(readings.load(std::sync::atomic::Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_stream_that_is_cut_off_in_the_middle_is_whole_all_the_same() {
        let (readings, reader) = fixtures::counting_reader();
        let (hub, layer) = (Hub::new(2, reader), layer());
        let slow = async {
            let mut stream = hub.join(1, &layer);
            let Some(LayerData::Data(block)) = stream.recv().await else { panic!("the first block comes") };
            // Until it is cut off.
            while !hub.state().schedule.is_independent(1) {
                tokio::time::sleep(GATE / 10).await;
            }
            let mut len = block.bytes.len() as u64;
            while let Some(data) = stream.recv().await {
                match data {
                    LayerData::Data(block) => len += block.bytes.len() as u64,
                    LayerData::End(summary) => assert_eq!(summary.size, len),
                    LayerData::Failed(error) => panic!("{error}"),
                }
            }
            len
        };
        assert_eq!(tokio::join!(len(hub.join(0, &layer)), slow), (3 << 20, 3 << 20));
        assert_eq!(readings.load(std::sync::atomic::Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_target_that_declines_is_not_waited_for() {
        let (readings, reader) = fixtures::counting_reader();
        let (hub, layer) = (Hub::new(2, reader), layer());
        hub.decline(1, &layer.id);
        let start = std::time::Instant::now();
        assert_eq!(len(hub.join(0, &layer)).await, 3 << 20);
        assert!(start.elapsed() < GATE && readings.load(std::sync::atomic::Ordering::Relaxed) == 1);
    }
}
