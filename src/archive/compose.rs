//! Manifests and indexes as they are pushed: the original bytes where they still apply, new ones where a layer was
//! compressed.

use std::collections::{HashMap, HashSet};

use oci_client::manifest::{OciDescriptor, OciImageManifest};
use serde_json::Value;

use super::document::{ATTESTED, MAX_MANIFEST, TOO_LARGE};
use super::model::{Content, Index, Layer, Manifest};
use crate::compress::Compression;
use crate::error::{Code, Error, Result};
use crate::oci::{Digest, Family, OriginalManifest};

/// A layer as it was stored: digest, size in bytes, compression.
pub type StoredLayer = (Digest, u64, Compression);

/// Returns the manifest for layers that were stored so, in the manifest's order. Non-distributable layers keep their places.
///
/// If the original manifest lists these layers, it is returned unchanged, or the repaired one. If a layer was compressed, the
/// layers' descriptors are corrected and everything else stays. If there is no original, a new one is written: Docker schema
/// 2, as `docker push` would, or OCI if a layer is zstd.
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
        for ((_, descriptor), (digest, size, compression)) in manifest.sent(listed.iter_mut()).zip(layers) {
            let descriptor = descriptor.as_object_mut()?;
            if descriptor.get("digest").and_then(Value::as_str) == Some(&digest.to_string()) {
                continue;
            }
            descriptor.insert("mediaType".into(), family.layer(*compression)?.into());
            descriptor.insert("digest".into(), digest.to_string().into());
            descriptor.insert("size".into(), (*size).into());
            // Both are about the bytes that it had.
            descriptor.remove("urls");
            descriptor.remove("data");
        }
        Some(())
    })
}

/// Checks that the manifest to be pushed is not too long for registries. `compressions` are those of the layers then.
///
/// # Errors
/// If it is, or if the original cannot be corrected.
pub(crate) fn check_manifest_size(manifest: &Manifest, compressions: &[Compression]) -> Result<()> {
    // Only the digests and the digits of the sizes are unknown, and those are never longer than this.
    let stored = |(layer, compression): (&Layer, &Compression)| {
        let is_kept = *compression == layer.compression;
        let digest = layer.digest.filter(|_| is_kept).unwrap_or_else(|| Digest::of(b""));
        (digest, if is_kept { layer.bytes.len() } else { i64::MAX.unsigned_abs() }, *compression)
    };
    let layers: Vec<StoredLayer> = manifest.layers.iter().zip(compressions).map(stored).collect();
    let len = compose_manifest(manifest, &layers)?.bytes.len() as u64;
    if len <= MAX_MANIFEST {
        return Ok(());
    }
    let (count, most) = (layers.len(), MAX_MANIFEST);
    Err(Error::input(format!("the manifest of {count} layers takes about {len} bytes, and registries accept {most}"))
        .code(Code::ArchiveUnsupported)
        .hint(TOO_LARGE))
}

/// Manifests and indexes as they are pushed, by the digests of the originals.
pub type Replacements = HashMap<Digest, OriginalManifest>;

/// Returns the index whose children are replaced so.
///
/// # Errors
/// If the original index cannot be corrected.
pub fn compose_index(index: &Index, replacements: &Replacements) -> Result<OriginalManifest> {
    // Without a change it is not even parsed again.
    if index.absent.is_empty() && replacements.iter().all(|(before, after)| *before == after.digest) {
        return Ok(index.base().clone());
    }
    let before = index.children.iter().filter_map(|child| child.content.digest());
    reduced_index(index.base(), &before.collect(), replacements)
}

/// Returns the manifest or index to push if no layer is compressed: the original, except for what was repaired and the
/// indexes above that. `None` if the archive has no original of a manifest.
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

/// Returns the index with only these of its entries, each replaced as stated. The subjects of attestations are corrected, too,
/// even if they are in a nested index; unknown fields stay. If nothing differs, the bytes are the original's.
///
/// # Errors
/// If the index cannot be corrected.
pub(super) fn reduced_index(
    original: &OriginalManifest,
    entries: &HashSet<Digest>,
    replacements: &Replacements,
) -> Result<OriginalManifest> {
    let named = |value: Option<&Value>| value?.as_str()?.parse::<Digest>().ok();
    let another = |value: Option<&Value>| {
        let before = named(value)?;
        replacements.get(&before).filter(|after| after.digest != before)
    };
    let mut changed = false;
    let edited = original.edit(|json| {
        let listed = json.get_mut("manifests")?.as_array_mut()?;
        let count = listed.len();
        listed.retain(|descriptor| named(descriptor.get("digest")).is_some_and(|digest| entries.contains(&digest)));
        changed |= listed.len() != count;
        for descriptor in listed.iter_mut() {
            if let Some(after) = another(descriptor.get("digest")) {
                let descriptor = descriptor.as_object_mut()?;
                descriptor.insert("digest".into(), after.digest.to_string().into());
                descriptor.insert("size".into(), after.bytes.len().into());
                descriptor.insert("mediaType".into(), after.media_type.clone().into());
                // Both are about the bytes that it had.
                descriptor.remove("urls");
                descriptor.remove("data");
                changed = true;
            }
            let about = descriptor.pointer_mut(&format!("/annotations/{ATTESTED}"));
            if let Some(about) = about
                && let Some(after) = another(Some(about))
            {
                *about = after.digest.to_string().into();
                changed = true;
            }
        }
        Some(())
    })?;
    Ok(if changed { edited } else { original.clone() })
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
    // Only Docker's family has no type for zstd, and then the family is OCI.
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
