//! Images in the registry, which show the blobs of their uncompressed layers.
//!
//! The config lists the diff_ids and the manifest the blobs, in the same order. That they match is trusted: a user who may
//! move a tag of the repository decides what runs anyway. docker and containerd verify it when they extract a layer.

use bytes::Bytes;

use crate::compress::Compression;
use crate::error::Result;
use crate::oci::{Descriptor, DiffId, Digest, Document, ImageConfig, Platform};
use crate::registry::{Client, RemoteManifest};

/// The size in bytes above which a config is not read.
const CONFIG_LIMIT: usize = 8 << 20;

/// The limit for the children of an index that are read.
const CHILDREN: usize = 8;

/// An image for one platform in the registry.
#[derive(Clone, Debug)]
pub(crate) struct RemoteImage {
    /// Its manifest.
    pub manifest: RemoteManifest,
    /// The digest of its config.
    pub config: Digest,
    /// The config's size in bytes, as the manifest states.
    pub config_size: u64,
    /// The layers, lowest first.
    pub layers: Vec<RemoteLayer>,
}

/// A layer of an image in the registry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct RemoteLayer {
    /// The uncompressed layer.
    pub diff_id: DiffId,
    /// The blob.
    pub digest: Digest,
    /// The blob's size in bytes.
    pub size: u64,
    /// How the blob is compressed, as its media type states.
    pub compression: Compression,
}

/// Returns `root` and the manifests that it lists for these platforms.
///
/// # Errors
/// If the registry rejects the request or does not answer.
pub(crate) async fn read_manifests(
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

/// Returns whether an index lists this child for one of the platforms.
fn is_for(child: &Descriptor, platforms: &[Platform]) -> bool {
    child.platform().is_some_and(|listed| platforms.iter().any(|wanted| listed.matches(wanted)))
}

/// Returns the blobs that a manifest lists as layers, with their sizes in bytes.
pub(crate) fn layer_blobs(manifest: &RemoteManifest) -> Vec<(Digest, u64)> {
    let layers = document(manifest).and_then(|document| document.layers).unwrap_or_default();
    layers.iter().filter_map(|layer| Some((layer.digest.sha256()?, layer.size))).collect()
}

/// Returns whether a manifest has this config and this number of layers. The config determines the layers and their order.
pub(crate) fn is_image_with(manifest: &RemoteManifest, config: &Digest, layers: usize) -> bool {
    document(manifest).is_some_and(|document| {
        let has_config = document.config.is_some_and(|its| its.digest.sha256() == Some(*config));
        has_config && document.layers.unwrap_or_default().len() == layers
    })
}

/// Reads the images of these manifests. `local_config` returns configs that need not be requested. Manifests and configs that
/// cannot be parsed are skipped, since reuse is optional.
///
/// # Errors
/// If the registry rejects the request or does not answer.
pub(crate) async fn read_images(
    client: &Client,
    manifests: Vec<RemoteManifest>,
    local_config: impl Fn(&Digest) -> Option<Bytes>,
) -> Result<Vec<RemoteImage>> {
    let mut images = Vec::new();
    for manifest in manifests {
        let Some(Document { config: Some(descriptor), layers, .. }) = document(&manifest) else { continue };
        let Some(config) = descriptor.digest.sha256() else { continue };
        let bytes = match local_config(&config) {
            Some(bytes) => Some(bytes),
            None => client.small_blob(&config, CONFIG_LIMIT).await?,
        };
        let Some(Ok(image)) = bytes.map(|bytes| ImageConfig::parse(&bytes)) else { continue };
        let layers = layers.unwrap_or_default();
        let Some(diff_ids) = image.diff_ids().filter(|diff_ids| diff_ids.len() == layers.len()) else { continue };
        let layers = layers.iter().zip(diff_ids).filter_map(|(layer, diff_id)| remote_layer(layer, *diff_id));
        images.push(RemoteImage { manifest, config, config_size: descriptor.size, layers: layers.collect() });
    }
    Ok(images)
}

/// Returns a layer, unless the manifest contradicts the config.
fn remote_layer(layer: &Descriptor, diff_id: DiffId) -> Option<RemoteLayer> {
    let digest = layer.digest.sha256()?;
    let compression = layer.media_type().compression().filter(|_| !layer.media_type().is_non_distributable())?;
    // The digest equals the diff_id only for an uncompressed layer. A media type that contradicts that is wrong, and would be
    // wrong in the new manifest, too.
    let is_uncompressed = digest.hash() == diff_id.hash();
    (is_uncompressed == (compression == Compression::Uncompressed)).then_some(RemoteLayer {
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

    /// Compares all spellings of platforms in an index and in a config: reuse must not depend on the tools that wrote them.
    #[test]
    fn a_child_of_an_index_is_found_by_every_spelling_of_its_platform() {
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
