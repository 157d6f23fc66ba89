//! Composition of the manifests and indexes to push: the original bytes where they still apply, new ones where a layer was
//! compressed.

use std::collections::{HashMap, HashSet};

use oci_client::manifest::{OciDescriptor, OciImageManifest};
use serde_json::{Map, Value};

use super::document::{ATTESTED, MAX_MANIFEST, TOO_LARGE};
use super::model::{Content, Index, Layer, Manifest};
use crate::compress::Compression;
use crate::error::{Code, Error, Result};
use crate::oci::{Digest, Family, OriginalManifest};

/// The digest, size in bytes and compression of a layer in the registry.
pub type StoredLayer = (Digest, u64, Compression);

/// Returns the manifest for these stored layers, in the manifest's order. Non-distributable layers stay at their positions.
///
/// If the original (or repaired) manifest lists the same layers, it is returned unchanged. If a layer was compressed, the
/// layers' descriptors are corrected and everything else is unchanged. If there is no original, a new manifest is written:
/// Docker schema 2, as by `docker push`, or OCI if a layer is zstd.
///
/// # Errors
/// If the original manifest cannot be corrected.
pub fn compose_manifest(manifest: &Manifest, layers: &[StoredLayer]) -> Result<OriginalManifest> {
    let Some(stated) = manifest.base() else { return new(manifest, layers) };
    let unchanged = manifest.layers.len() == layers.len()
        && manifest.layers.iter().zip(layers).all(|(layer, (digest, ..))| layer.digest == Some(*digest));
    if unchanged {
        return Ok(stated.clone());
    }
    let family = Family::of(&stated.media_type);
    stated.edit(|json| {
        let listed = json.get_mut("layers")?.as_array_mut()?;
        for ((_, descriptor), (digest, size, compression)) in manifest.zip_uploaded(listed.iter_mut()).zip(layers) {
            let descriptor = descriptor.as_object_mut()?;
            if descriptor.get("digest").and_then(Value::as_str) == Some(&digest.to_string()) {
                continue;
            }
            update(descriptor, family.layer(*compression)?, digest, *size);
        }
        Some(())
    })
}

/// Checks that the manifest to push is not too large for registries. `compressions` are those of the stored layers.
///
/// # Errors
/// If it is too large, or if the original cannot be corrected.
pub(crate) fn check_manifest_size(manifest: &Manifest, compressions: &[Compression]) -> Result<()> {
    // Only the digests and sizes are unknown, and those are never longer than these.
    let stored = |(layer, compression): (&Layer, &Compression)| {
        let is_unchanged = *compression == layer.compression;
        let digest = layer.digest.filter(|_| is_unchanged).unwrap_or_else(|| Digest::of(b""));
        (digest, if is_unchanged { layer.bytes.len() } else { i64::MAX.unsigned_abs() }, *compression)
    };
    let layers: Vec<StoredLayer> = manifest.layers.iter().zip(compressions).map(stored).collect();
    let len = compose_manifest(manifest, &layers)?.bytes.len() as u64;
    if len <= MAX_MANIFEST {
        return Ok(());
    }
    let count = layers.len();
    Err(Error::input(format!(
        "the manifest of {count} layers takes about {len} bytes, and registries accept {MAX_MANIFEST}"
    ))
    .code(Code::ArchiveUnsupported)
    .hint(TOO_LARGE))
}

/// The manifests and indexes to push, by the digests of the originals, or by image IDs where an archive states none.
pub type Replacements = HashMap<Digest, OriginalManifest>;

/// Returns the index with its children replaced.
///
/// # Errors
/// If the original index cannot be corrected.
pub fn compose_index(index: &Index, replacements: &Replacements) -> Result<OriginalManifest> {
    // An unchanged index is not even parsed.
    if index.absent.is_empty() && replacements.iter().all(|(before, after)| *before == after.digest) {
        return Ok(index.base().clone());
    }
    let before = index.children.iter().map(|child| child.content.identity());
    reduced_index(index.base(), &before.collect(), replacements)
}

/// Returns the manifest or index to push if no layer is compressed: the original, except for repairs and the indexes above
/// them. `None` for a manifest without an original.
///
/// # Errors
/// If an original index cannot be corrected.
pub(crate) fn unchanged(content: &Content) -> Result<Option<OriginalManifest>> {
    fn put(content: &Content, replacements: &mut Replacements) -> Result<Option<OriginalManifest>> {
        let put = match content {
            Content::Manifest(manifest) => manifest.base().cloned(),
            Content::Index(index) => {
                for child in &index.children {
                    put(&child.content, replacements)?;
                }
                Some(compose_index(index, replacements)?)
            }
        };
        replacements.extend(content.digest().zip(put.clone()));
        Ok(put)
    }
    put(content, &mut Replacements::new())
}

/// Returns the index with only these `entries`, after `replacements`. The subjects of attestations are corrected, too, even if
/// they are in a nested index; unknown fields are unchanged. If nothing differs, the bytes are the original's.
///
/// # Errors
/// If the index cannot be corrected.
pub(super) fn reduced_index(
    original: &OriginalManifest,
    entries: &HashSet<Digest>,
    replacements: &Replacements,
) -> Result<OriginalManifest> {
    let digest_in = |value: Option<&Value>| value?.as_str()?.parse::<Digest>().ok();
    let replacement = |value: Option<&Value>| {
        let before = digest_in(value)?;
        replacements.get(&before).filter(|after| after.digest != before)
    };
    let mut changed = false;
    let edited = original.edit(|json| {
        let listed = json.get_mut("manifests")?.as_array_mut()?;
        let count = listed.len();
        listed.retain(|descriptor| digest_in(descriptor.get("digest")).is_some_and(|digest| entries.contains(&digest)));
        changed |= listed.len() != count;
        for descriptor in listed.iter_mut() {
            if let Some(after) = replacement(descriptor.get("digest")) {
                update(descriptor.as_object_mut()?, &after.media_type, &after.digest, after.bytes.len() as u64);
                changed = true;
            }
            if let Some(attested) = descriptor.pointer_mut(&format!("/annotations/{ATTESTED}"))
                && let Some(after) = replacement(Some(attested))
            {
                *attested = after.digest.to_string().into();
                changed = true;
            }
        }
        Some(())
    })?;
    Ok(if changed { edited } else { original.clone() })
}

/// Makes a descriptor refer to other bytes.
fn update(descriptor: &mut Map<String, Value>, media_type: &str, digest: &Digest, size: u64) {
    descriptor.insert("mediaType".into(), media_type.into());
    descriptor.insert("digest".into(), digest.to_string().into());
    descriptor.insert("size".into(), size.into());
    // Both describe the previous bytes.
    descriptor.remove("urls");
    descriptor.remove("data");
}

fn new(Manifest { config, non_distributable, .. }: &Manifest, layers: &[StoredLayer]) -> Result<OriginalManifest> {
    let zstd = layers.iter().any(|(.., compression)| *compression == Compression::Zstd);
    let family = if zstd { Family::Oci } else { Family::Docker };
    let descriptor = |media_type: &str, digest: &Digest, size: u64| OciDescriptor {
        media_type: media_type.to_owned(),
        digest: digest.to_string(),
        // Sizes come from files, whose length is an i64 to the operating system.
        size: i64::try_from(size).unwrap_or(i64::MAX),
        ..OciDescriptor::default()
    };
    // Only Docker's media types have none for zstd, and a manifest with zstd is OCI.
    let layer = |(digest, size, compression): &StoredLayer| {
        let media_type = family.layer(*compression).ok_or_else(|| Error::internal("a layer has no media type"))?;
        Ok(descriptor(media_type, digest, *size))
    };
    let mut layers: Vec<OciDescriptor> = layers.iter().map(layer).collect::<Result<_>>()?;
    for layer in non_distributable {
        layers.insert(layer.at.min(layers.len()), layer.descriptor.clone());
    }
    let manifest = OciImageManifest {
        schema_version: 2,
        media_type: Some(family.manifest().to_owned()),
        config: descriptor(family.config(), &config.digest, config.bytes.len() as u64),
        layers,
        subject: None,
        artifact_type: None,
        annotations: None,
    };
    OriginalManifest::serialize(&manifest, family.manifest())
}
