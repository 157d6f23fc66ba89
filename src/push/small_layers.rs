//! Small layers as they were sent, for other pushes of the run: images of a bundle share many that are smaller than the cost of
//! reading and compressing them again.

use std::sync::Mutex;

use bytes::{Bytes, BytesMut};

use super::plan::PlannedLayer;
use crate::compress::{DataBlock, LayerSummary};
use crate::registry::LayerStream;
use crate::reuse::Recent;
use crate::sync::lock;

/// The most bytes of a layer that is retained.
const LARGEST: usize = 16 << 10;

/// The most layers: 4 MiB in all.
const MOST: usize = 256;

/// Layers of a run that were sent, by their identity.
pub(super) struct SmallLayers(Mutex<Recent<String, SmallLayer>>);

impl Default for SmallLayers {
    fn default() -> Self {
        Self(Mutex::new(Recent::new(MOST)))
    }
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
        let SmallLayer { bytes, len, summary } = lock(&self.0).get(&layer.identity()?)?.clone();
        Some(LayerStream::in_memory(DataBlock { bytes, position: len }, summary))
    }

    /// Retains a layer that was read to its end and is as the archive promised, unless it is too large.
    pub(super) fn retain(&self, layer: &PlannedLayer, gathered: Gathering, summary: LayerSummary) {
        let (Some(identity), Gathering(Some(bytes))) = (layer.identity(), gathered) else { return };
        let len = layer.layer.bytes.len();
        lock(&self.0).get_or_insert(&identity, || SmallLayer { bytes: bytes.freeze(), len, summary });
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
    use crate::push::fixtures::{self, layer, planned};
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
    fn only_small_layers_are_retained() {
        let (small, layer) = (SmallLayers::default(), planned(layer(1), &[]));
        retain(&small, &layer, &[7; LARGEST + 1]);
        assert!(small.stream(&layer).is_none());
        retain(&small, &layer, &[7; LARGEST]);
        assert!(small.stream(&layer).is_some());
        assert!(
            Gathering::of(&planned(fixtures::layer(LARGEST.div_ceil(1000) as u8), &[])).0.is_none(),
            "by its length"
        );
    }
}
