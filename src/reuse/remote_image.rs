//! An image that the registry holds, read to learn what its plain layers have become.
//!
//! Its config lists the diff_ids, its manifest the blobs, in the same order. Whoever may move a tag of the repository
//! decides what runs anyway, so the claim that they belong together is believed; docker and containerd check it when they
//! unpack a layer.

use bytes::Bytes;

use crate::compress::Compression;
use crate::error::Result;
use crate::oci::{Descriptor, DiffId, Digest, Document, ImageConfig, Platform};
use crate::registry::{Client, RemoteManifest};

/// A config larger than that is not worth reading.
const CONFIG_LIMIT: usize = 8 << 20;

/// The children of an index that are read at most.
const CHILDREN: usize = 8;

/// An image for one platform that the registry holds.
#[derive(Clone, Debug)]
pub struct RemoteImage {
    /// Its manifest.
    pub manifest: RemoteManifest,
    /// Its config.
    pub config: Digest,
    /// The config's size in bytes, as the manifest says.
    pub config_size: u64,
    /// The layers, lowest first.
    pub layers: Vec<RemoteLayer>,
}

/// A layer of an image that the registry holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RemoteLayer {
    /// The plain layer.
    pub diff_id: DiffId,
    /// The packed blob.
    pub digest: Digest,
    /// The packed blob's size in bytes.
    pub size: u64,
    /// How it is packed, as its media type says.
    pub compression: Compression,
}

/// Reads the manifests that `root` is or lists, as far as they are of these platforms.
///
/// # Errors
/// If the registry refuses or does not answer.
pub async fn read_manifests(
    client: &Client,
    root: RemoteManifest,
    platforms: Option<&[Platform]>,
) -> Result<Vec<RemoteManifest>> {
    let listed = document(&root).and_then(|document| document.manifests).unwrap_or_default();
    let mut manifests = vec![root];
    let is_wanted = |child: &&Descriptor| platforms.is_none_or(|platforms| is_for(child, platforms));
    let digests = listed.iter().filter(is_wanted).filter_map(|child| child.digest.sha256());
    for digest in digests.take(CHILDREN) {
        manifests.extend(client.manifest(&digest.to_string()).await?.filter(|manifest| manifest.digest == digest));
    }
    Ok(manifests)
}

/// Whether an index lists this child for one of the platforms.
fn is_for(child: &Descriptor, platforms: &[Platform]) -> bool {
    child.platform().is_some_and(|listed| platforms.iter().any(|wanted| listed.matches(wanted)))
}

/// The blobs that a manifest lists as layers, with their sizes.
pub fn layer_blobs(manifest: &RemoteManifest) -> Vec<(Digest, u64)> {
    let layers = document(manifest).and_then(|document| document.layers).unwrap_or_default();
    layers.iter().filter_map(|layer| Some((layer.digest.sha256()?, layer.size))).collect()
}

/// Whether a manifest is of an image with this config and so many layers: the config says which they are, and in what order.
pub fn is_image_with(manifest: &RemoteManifest, config: &Digest, layers: usize) -> bool {
    document(manifest).is_some_and(|document| {
        let has_config = document.config.is_some_and(|its| its.digest.sha256() == Some(*config));
        has_config && document.layers.unwrap_or_default().len() == layers
    })
}

/// Reads what these manifests' images are made of. `ours` has the configs that need not be asked for. What makes no sense is
/// passed over: it is only a hint.
///
/// # Errors
/// If the registry refuses or does not answer.
pub async fn read_images(
    client: &Client,
    manifests: Vec<RemoteManifest>,
    ours: impl Fn(&Digest) -> Option<Bytes>,
) -> Result<Vec<RemoteImage>> {
    let mut held = Vec::new();
    for manifest in manifests {
        let Some(Document { config: Some(descriptor), layers, .. }) = document(&manifest) else { continue };
        let Some(config) = descriptor.digest.sha256() else { continue };
        let bytes = match ours(&config) {
            Some(bytes) => Some(bytes),
            None => client.small_blob(&config, CONFIG_LIMIT).await?,
        };
        let Some(Ok(image)) = bytes.map(|bytes| ImageConfig::parse(&bytes)) else { continue };
        let layers = layers.unwrap_or_default();
        let Some(diff_ids) = image.diff_ids().filter(|diff_ids| diff_ids.len() == layers.len()) else { continue };
        let layers = layers.iter().zip(diff_ids).filter_map(|(layer, diff_id)| known(layer, *diff_id));
        held.push(RemoteImage { manifest, config, config_size: descriptor.size, layers: layers.collect() });
    }
    Ok(held)
}

/// A layer of which the registry holds the blob, if its manifest tells enough of it.
fn known(layer: &Descriptor, diff_id: DiffId) -> Option<RemoteLayer> {
    let digest = layer.digest.sha256()?;
    let compression = layer.media_type().compression().filter(|_| !layer.media_type().is_non_distributable())?;
    // Only an uncompressed layer has the same hash as its diff_id. A media type that says otherwise is wrong, and would be so
    // in the next manifest, too.
    let is_plain = digest.hash() == diff_id.hash();
    (is_plain == (compression == Compression::Uncompressed)).then_some(RemoteLayer {
        diff_id,
        digest,
        size: layer.size,
        compression,
    })
}

fn document(manifest: &RemoteManifest) -> Option<Document> {
    Document::parse(&manifest.bytes).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Each platform, as an index lists it and as a config states it, in all pairs: reuse must not depend on who wrote which.
    #[test]
    fn a_child_of_an_index_is_found_by_any_spelling_of_its_platform() {
        let same: [&[(&str, &str)]; 6] = [
            &[("amd64", ""), ("amd64", "v1"), ("x86_64", "")],
            &[("amd64", "v2")],
            &[("arm64", ""), ("arm64", "v8"), ("arm64", "8"), ("aarch64", "")],
            &[("arm", ""), ("arm", "v7"), ("arm", "7"), ("armhf", "")],
            &[("arm", "v6"), ("arm", "6"), ("armel", "")],
            &[("arm", "v8"), ("arm", "8")],
        ];
        let all: Vec<(usize, (&str, &str))> =
            same.iter().enumerate().flat_map(|(group, it)| it.iter().map(move |it| (group, *it))).collect();
        for (listed_in, (architecture, variant)) in &all {
            let platform = json!({"os": "linux", "architecture": architecture, "variant": variant});
            let child = json!({"digest": Digest::of(b""), "size": 1, "platform": platform});
            let child: Descriptor = serde_json::from_value(child).unwrap();
            for (stated_in, (architecture, variant)) in &all {
                let config = json!({"os": "linux", "architecture": architecture, "variant": variant});
                let config = ImageConfig::parse(config.to_string().as_bytes()).unwrap();
                let wanted = [config.platform().unwrap()];
                assert_eq!(is_for(&child, &wanted), listed_in == stated_in, "{child:?} {wanted:?}");
            }
        }
        let without = serde_json::from_value(json!({"digest": Digest::of(b""), "size": 1})).unwrap();
        assert!(!is_for(&without, &["linux/amd64".parse().unwrap()]));
    }
}
