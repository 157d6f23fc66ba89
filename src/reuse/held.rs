//! An image that the registry holds, read to learn what its plain layers have become.
//!
//! Its config lists the diff_ids, its manifest the blobs, in the same order. Whoever may move a tag of the repository
//! decides what runs anyway, so the claim that they belong together is believed; docker and containerd check it when they
//! unpack a layer.

use bytes::Bytes;
use serde::Deserialize;

use crate::error::Result;
use crate::layer::Packing;
use crate::oci::{DiffId, Digest};
use crate::registry::{Client, RemoteManifest};

/// A config larger than that is not worth reading.
const CONFIG_LIMIT: usize = 8 << 20;

/// The children of an index that are read at most.
const CHILDREN: usize = 8;

/// An image for one platform that the registry holds.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its manifest.
    pub manifest: RemoteManifest,
    /// Its config.
    pub config: Digest,
    /// The config's size in bytes, as the manifest says.
    pub config_size: u64,
    /// The layers, lowest first.
    pub layers: Vec<HeldLayer>,
}

/// A layer of an image that the registry holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeldLayer {
    /// The plain layer.
    pub diff_id: DiffId,
    /// The packed blob.
    pub digest: Digest,
    /// The packed blob's size in bytes.
    pub size: u64,
    /// How it is packed, as its media type says.
    pub packing: Packing,
}

/// The one view of a manifest or an index that is needed here.
#[derive(Deserialize)]
struct View {
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: Digest,
    size: u64,
    #[serde(default, rename = "mediaType")]
    media_type: String,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
    #[serde(default)]
    variant: String,
}

/// The one view of a config that is needed here.
#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<DiffId>,
}

/// Reads the manifests that `root` is or lists, as far as they are of these platforms.
///
/// # Errors
/// If the registry refuses or does not answer.
pub async fn manifests(
    client: &Client,
    root: RemoteManifest,
    platforms: Option<&[&str]>,
) -> Result<Vec<RemoteManifest>> {
    let listed = view(&root).map(|view| view.manifests).unwrap_or_default();
    let mut manifests = vec![root];
    let wanted = |child: &&Descriptor| platforms.is_none_or(|platforms| child.is_of(platforms));
    for Descriptor { digest, .. } in listed.iter().filter(wanted).take(CHILDREN) {
        manifests.extend(client.manifest(&digest.to_string()).await?.filter(|manifest| manifest.digest == *digest));
    }
    Ok(manifests)
}

/// The blobs that a manifest lists as layers, with their sizes.
pub fn blobs(manifest: &RemoteManifest) -> Vec<(Digest, u64)> {
    let layers = view(manifest).map(|view| view.layers).unwrap_or_default();
    layers.iter().map(|layer| (layer.digest, layer.size)).collect()
}

/// Whether a manifest is of an image with this config and so many layers: the config says which they are, and in what order.
pub fn is_of(manifest: &RemoteManifest, config: &Digest, layers: usize) -> bool {
    let view = view(manifest);
    let is_its =
        |view: &View| view.config.as_ref().is_some_and(|its| its.digest == *config) && view.layers.len() == layers;
    view.as_ref().is_some_and(is_its)
}

/// Reads what these manifests' images are made of. `ours` has the configs that need not be asked for. What makes no sense is
/// passed over: it is only a hint.
///
/// # Errors
/// If the registry refuses or does not answer.
pub async fn read(
    client: &Client,
    manifests: Vec<RemoteManifest>,
    ours: impl Fn(&Digest) -> Option<Bytes>,
) -> Result<Vec<Held>> {
    let mut held = Vec::new();
    for manifest in manifests {
        let Some(View { config: Some(config), layers, .. }) = view(&manifest) else { continue };
        let bytes = match ours(&config.digest) {
            Some(bytes) => Some(bytes),
            None => client.small_blob(&config.digest, CONFIG_LIMIT).await?,
        };
        let Some(Ok(Config { rootfs })) = bytes.map(|bytes| serde_json::from_slice(&bytes)) else { continue };
        if rootfs.diff_ids.len() != layers.len() {
            continue;
        }
        let layers = layers.iter().zip(rootfs.diff_ids).filter_map(|(layer, diff_id)| {
            let Descriptor { digest, size, .. } = *layer;
            let packing = layer.packing()?;
            // Only a plain layer has the same hash as its diff_id. A media type that says otherwise is wrong, and would be so
            // in the next manifest, too.
            let is_plain = digest.hash() == diff_id.hash();
            (is_plain == (packing == Packing::Plain)).then_some(HeldLayer { diff_id, digest, size, packing })
        });
        held.push(Held { manifest, config: config.digest, config_size: config.size, layers: layers.collect() });
    }
    Ok(held)
}

fn view(manifest: &RemoteManifest) -> Option<View> {
    serde_json::from_slice(&manifest.bytes).ok()
}

impl Descriptor {
    fn is_of(&self, platforms: &[&str]) -> bool {
        let Some(Platform { os, architecture, variant }) = &self.platform else { return false };
        let name = format!("{os}/{architecture}");
        let full = format!("{name}/{variant}");
        platforms.iter().any(|wanted| *wanted == name || *wanted == full)
    }

    /// How the layer is packed. `None` for what lies elsewhere (foreign layers) and for what is no layer.
    fn packing(&self) -> Option<Packing> {
        let is_elsewhere = self.media_type.contains("foreign") || self.media_type.contains("nondistributable");
        let (_, kind) = self.media_type.rsplit_once(['.', '+']).filter(|_| !is_elsewhere)?;
        match kind {
            "gzip" => Some(Packing::Gzip),
            "zstd" => Some(Packing::Zstd),
            "tar" => Some(Packing::Plain),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_s_packing_is_that_of_its_media_type() {
        let packing = |media_type: &str| {
            let json = serde_json::json!({"digest": Digest::of(b""), "size": 1, "mediaType": media_type});
            serde_json::from_value::<Descriptor>(json).unwrap().packing()
        };
        for (media_type, expected) in [
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", Some(Packing::Gzip)),
            ("application/vnd.oci.image.layer.v1.tar+gzip", Some(Packing::Gzip)),
            ("application/vnd.oci.image.layer.v1.tar+zstd", Some(Packing::Zstd)),
            ("application/vnd.oci.image.layer.v1.tar", Some(Packing::Plain)),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", None),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", None),
            ("application/vnd.cncf.helm.chart.content.v1.json", None),
            ("", None),
        ] {
            assert_eq!(packing(media_type), expected, "{media_type}");
        }
    }

    #[test]
    fn a_child_of_an_index_is_taken_for_its_platform() {
        let child = |platform: serde_json::Value| {
            let json = serde_json::json!({"digest": Digest::of(b""), "size": 1, "platform": platform});
            serde_json::from_value::<Descriptor>(json).unwrap()
        };
        let arm = child(serde_json::json!({"os": "linux", "architecture": "arm64", "variant": "v8"}));
        assert!(arm.is_of(&["linux/arm64"]) && arm.is_of(&["linux/amd64", "linux/arm64/v8"]));
        assert!(!arm.is_of(&["linux/arm"]) && !child(serde_json::Value::Null).is_of(&["linux/arm64"]));
    }
}
