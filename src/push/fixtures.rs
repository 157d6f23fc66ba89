//! Images, layers and manifests for the unit tests of this folder, as literals.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use serde_json::json;

use super::Event;
use super::plan::{Candidate, Evidence, PlannedLayer, Stored};
use super::producer::LayerReader;
use super::shared_layers::SharedLayers;
use crate::archive::{Config, Content, Image, Layer, LayerFacts, Manifest, Provenance};
use crate::compress::{ByteSource, Compression, Pool};
use crate::oci::{DiffId, Digest, OriginalManifest};
use crate::registry::RemoteManifest;
use crate::reuse::{RemoteImage, RemoteLayer};

/// Returns a reader that compresses on one thread, and reports to `events`.
pub(super) fn reader(events: impl Fn(Event) + Send + Sync + 'static) -> LayerReader {
    // Temporary files of the system may be in memory.
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let pool = Arc::new(Pool::start(1));
    let shared = Arc::new(SharedLayers::new(folder, &pool));
    LayerReader { pool, small: Arc::default(), shared, events: Arc::new(events) }
}

/// Returns a reader, and the number of layers that begin to be read from the archive.
pub(super) fn counting_reader() -> (Arc<AtomicUsize>, LayerReader) {
    let readings = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&readings);
    let reader = reader(move |event| {
        if matches!(event, Event::LayerReading { .. }) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    (readings, reader)
}

/// The digest of one byte, which stands for any blob.
pub(super) fn digest(n: u8) -> Digest {
    Digest::of(&[n])
}

/// The diff_id of one byte.
pub(super) fn diff_id(n: u8) -> DiffId {
    DiffId::of(&[n])
}

/// An uncompressed layer of a `docker save`, of `n` kB.
pub(super) fn layer(n: u8) -> Layer {
    Layer::from(LayerFacts {
        diff_id: Some(diff_id(n)),
        digest: None,
        bytes: ByteSource::streamed(Bytes::new(), 0, u64::from(n) * 1000),
        compression: Compression::Uncompressed,
        named_digest: None,
        media_type: None,
        name: format!("layer-{n}"),
        origins: Arc::default(),
    })
}

/// A compressed layer whose digest the archive states.
pub(super) fn stated_layer(n: u8) -> Layer {
    let media_type = Some("application/vnd.oci.image.layer.v1.tar+gzip".into());
    let mut layer = layer(n);
    (layer.digest, layer.compression, layer.media_type) = (Some(digest(n)), Compression::Gzip, media_type);
    layer
}

/// An image of a `docker save`, which states no manifest.
pub(super) fn saved_image(layers: Vec<Layer>) -> Image {
    Image::new(vec!["app:1".into()], Content::Manifest(Box::new(manifest(layers, Provenance::DockerSave))))
}

/// A manifest that the archive does not state.
pub(super) fn manifest(layers: Vec<Layer>, provenance: Provenance) -> Manifest {
    let diff_ids: Vec<String> = layers.iter().filter_map(|layer| Some(layer.diff_id?.to_string())).collect();
    let config = json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let bytes = Bytes::from(config.to_string());
    let config = Config { digest: Digest::of(&bytes), bytes, media_type: None, platform: None };
    Manifest { original: None, repaired: None, config, layers, non_distributable: Vec::new(), provenance }
}

/// An image of a layout, which states its manifest.
pub(super) fn layout_image(layers: Vec<Layer>) -> Image {
    let mut manifest = manifest(layers, Provenance::Layout);
    let config_type = "application/vnd.oci.image.config.v1+json";
    let descriptor =
        |layer: &Layer| json!({"mediaType": layer.media_type, "digest": layer.digest, "size": layer.bytes.len()});
    let layers: Vec<_> = manifest.layers.iter().map(descriptor).collect();
    let text = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": config_type, "digest": manifest.config.digest, "size": manifest.config.bytes.len()},
        "layers": layers,
    });
    manifest.config.media_type = Some(config_type.into());
    manifest.original = Some(original(&text.to_string()));
    Image::new(vec!["app:1".into()], Content::Manifest(Box::new(manifest)))
}

/// A manifest as an archive states it.
pub(super) fn original(text: &str) -> OriginalManifest {
    let bytes = Bytes::from(text.to_owned());
    let digest = Digest::of(&bytes);
    OriginalManifest { bytes, digest, media_type: "application/vnd.oci.image.manifest.v1+json".into(), subject: None }
}

/// A gzip blob.
pub(super) fn stored(n: u8, size: u64) -> Stored {
    Stored { digest: digest(n), size, compression: Compression::Gzip }
}

/// A planned layer that one of these gzip blobs of 9 bytes would replace.
pub(super) fn planned(layer: Layer, candidates: &[(u8, Evidence)]) -> PlannedLayer {
    let cache = crate::reuse::LayerCache::default();
    let mut planned = super::plan::streamed(layer, &cache, super::CompressionPolicy::default());
    planned.candidates = candidates.iter().map(|(n, why)| Candidate { stored: stored(*n, 9), why: *why }).collect();
    planned
}

/// An image that a repository holds: its config, and a gzip blob of 9 bytes for each diff_id.
pub(super) fn remote_image(config: Digest, layers: &[(u8, u8)]) -> RemoteImage {
    let bytes = Bytes::from_static(b"{\"remote\":true}");
    let layers = layers.iter().map(|(layer, blob)| RemoteLayer {
        diff_id: diff_id(*layer),
        digest: digest(*blob),
        size: 9,
        compression: Compression::Gzip,
    });
    RemoteImage {
        manifest: RemoteManifest {
            digest: Digest::of(&bytes),
            bytes,
            media_type: "application/json".into(),
            stated_digest: None,
        },
        config,
        config_size: 100,
        layers: layers.collect(),
    }
}
