//! Small layers as they were sent, for other pushes of the run: images of a bundle share many that are smaller than the cost of
//! reading and compressing them again.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use bytes::{Bytes, BytesMut};

use super::plan::PlannedLayer;
use crate::compress::{DataBlock, LayerSummary};
use crate::registry::LayerStream;
use crate::sync::lock;

/// The most bytes of a layer that is retained.
const LARGEST: usize = 64 << 10;

/// The most bytes of all layers.
const CAPACITY: usize = 4 << 20;

/// The layers of a run that were sent last, as many as there is memory for.
#[derive(Default)]
pub(super) struct SmallLayers(Mutex<Retained>);

#[derive(Default)]
struct Retained {
    layers: HashMap<String, SmallLayer>,
    /// The identities of all layers, oldest first.
    order: VecDeque<String>,
    bytes: usize,
}

#[derive(Clone)]
struct SmallLayer {
    bytes: Bytes,
    /// The number of bytes in the archive.
    len: u64,
    summary: LayerSummary,
}

/// The bytes of a layer that is being read, as long as it is small.
pub(super) struct Gathering(Option<BytesMut>);

impl SmallLayers {
    /// Returns the bytes of a layer, if another push has sent it.
    pub(super) fn stream(&self, layer: &PlannedLayer) -> Option<LayerStream> {
        let SmallLayer { bytes, len, summary } = lock(&self.0).layers.get(&layer.identity()?)?.clone();
        Some(LayerStream::in_memory(DataBlock { bytes, position: len }, summary))
    }

    /// Retains a layer that was read to its end and is as the archive promised, unless it is too large.
    pub(super) fn retain(&self, layer: &PlannedLayer, gathered: Gathering, summary: LayerSummary) {
        let (Some(identity), Gathering(Some(bytes))) = (layer.identity(), gathered) else { return };
        let small = SmallLayer { bytes: bytes.freeze(), len: layer.layer.bytes.len(), summary };
        let mut retained = lock(&self.0);
        retained.bytes += small.bytes.len();
        match retained.layers.insert(identity.clone(), small) {
            Some(same) => retained.bytes -= same.bytes.len(),
            None => retained.order.push_back(identity),
        }
        while retained.bytes > CAPACITY {
            let Some(oldest) = retained.order.pop_front() else { break };
            let gone = retained.layers.remove(&oldest).map_or(0, |small| small.bytes.len());
            retained.bytes -= gone;
        }
    }
}

impl Gathering {
    /// Begins to gather a layer.
    pub(super) fn of(layer: &PlannedLayer) -> Self {
        Self((layer.layer.bytes.len() <= LARGEST as u64).then(BytesMut::new))
    }

    /// Notes the next bytes.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Some(gathered) if gathered.len() + bytes.len() <= LARGEST => gathered.extend_from_slice(bytes),
            gathered => *gathered = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{DiffId, Digest};
    use crate::push::fixtures::{layer, planned};
    use crate::registry::LayerData;

    fn summary(size: u64) -> LayerSummary {
        LayerSummary { digest: Digest::of(b"blob"), size, diff_id: Some(DiffId::of(b"plain")) }
    }

    fn retain(small: &SmallLayers, layer: &PlannedLayer, bytes: &[u8]) {
        let mut gathering = Gathering::of(layer);
        bytes.chunks(1000).for_each(|piece| gathering.add(piece));
        small.retain(layer, gathering, summary(bytes.len() as u64));
    }

    #[tokio::test]
    async fn a_layer_comes_as_it_was_sent() {
        let (small, one, other) = (SmallLayers::default(), planned(layer(1), &[]), planned(layer(2), &[]));
        retain(&small, &one, &[7; 2500]);
        let mut stream = small.stream(&one).unwrap();
        let Some(LayerData::Data(block)) = stream.recv().await else { panic!("no bytes") };
        assert_eq!((&*block.bytes, block.position), (&[7; 2500][..], one.layer.bytes.len()));
        assert!(matches!(stream.recv().await, Some(LayerData::End(end)) if end == summary(2500)));
        assert!(stream.recv().await.is_none() && small.stream(&other).is_none());
    }

    #[test]
    fn only_small_layers_are_retained_and_the_oldest_goes_first() {
        let (small, large) = (SmallLayers::default(), planned(layer(0), &[]));
        retain(&small, &large, &[7; LARGEST + 1]);
        assert!(small.stream(&large).is_none());
        let layers: Vec<_> = (1..=CAPACITY / LARGEST + 1).map(|n| planned(layer(n as u8), &[])).collect();
        layers.iter().for_each(|layer| retain(&small, layer, &[7; LARGEST]));
        let is_there: Vec<_> = layers.iter().map(|layer| small.stream(layer).is_some()).collect();
        assert!(!is_there[0] && is_there[1..].iter().all(|is_there| *is_there), "{is_there:?}");
        // The same layer again takes no more memory.
        retain(&small, &layers[1], &[7; LARGEST]);
        assert!(small.stream(&layers[2]).is_some());
        assert_eq!(lock(&small.0).bytes, CAPACITY);
    }
}
