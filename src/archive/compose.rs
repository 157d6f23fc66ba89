//! Manifests and indexes as they are pushed: the author's bytes wherever they still hold, new ones where a layer was
//! packed.

use std::collections::{HashMap, HashSet};

use oci_client::manifest::{OciDescriptor, OciImageManifest};
use serde_json::Value;

use super::document::{ATTESTED, MAX_MANIFEST, TOO_LARGE};
use super::model::{Content, Index, Layer, Manifest};
use crate::compress::Compression;
use crate::error::{Code, Error, Result};
use crate::oci::{Digest, Family, OriginalManifest};

/// A layer as it was stored: digest, size, compression.
pub type StoredLayer = (Digest, u64, Compression);

/// The manifest for layers that were stored like this, in the manifest's order. Those that are kept by reference stand
/// among them as they did.
///
/// Where the layers are those that a stated manifest lists, these are its very bytes, or those of the repaired one. Where a
/// layer was packed, that manifest is taken with the layers' descriptors corrected and everything else kept. Where there is none, a new
/// one is written: Docker schema 2, as `docker push` would, or OCI if a layer is zstd.
///
/// # Errors
/// If the stated manifest cannot be corrected.
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
            // These bytes are nowhere else.
            descriptor.remove("urls");
            descriptor.remove("data");
        }
        Some(())
    })
}

/// Whether the manifest that will be put is one that registries take, which only its length can prevent. `compressions` has
/// what becomes of each layer.
///
/// # Errors
/// If it will be too long, or if the stated one cannot be corrected.
pub fn check_manifest_size(manifest: &Manifest, compressions: &[Compression]) -> Result<()> {
    // Nothing but the digests and the digits of the sizes is unknown, and those are never longer than this.
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
    Err(Error::input(format!("the manifest of {count} layers takes some {len} bytes, and registries take {most}"))
        .code(Code::ArchiveUnsupported)
        .hint(TOO_LARGE))
}

/// What became of manifests and indexes, by the digests that they had.
pub type Replacements = HashMap<Digest, OriginalManifest>;

/// The index above children that became this, among others.
///
/// # Errors
/// If the stated index cannot be corrected.
pub fn compose_index(index: &Index, became: &Replacements) -> Result<OriginalManifest> {
    // What is not touched need not even be read again.
    if index.absent.is_empty() && became.iter().all(|(before, after)| *before == after.digest) {
        return Ok(index.base().clone());
    }
    let before = index.children.iter().filter_map(|child| Some(child.content.original()?.digest));
    listing(index.base(), &before.collect(), became)
}

/// What is put of a manifest or an index of which nothing gets packed: what is stated, but what was repaired, and the
/// indexes above that. Nothing where a manifest is not stated.
///
/// # Errors
/// If a stated index cannot be corrected.
pub fn unchanged(content: &Content) -> Result<Option<OriginalManifest>> {
    fn put(content: &Content, became: &mut Replacements) -> Result<Option<OriginalManifest>> {
        let put = match content {
            Content::Manifest(manifest) => manifest.base().cloned(),
            Content::Index(index) => {
                for child in &index.children {
                    put(&child.content, became)?;
                }
                Some(compose_index(index, became)?)
            }
        };
        became.extend(content.original().map(|stated| stated.digest).zip(put.clone()));
        Ok(put)
    }
    put(content, &mut Replacements::new())
}

/// An index that lists of its entries only those that are here, by their digests, and each as what it became. What
/// attestations say they are about is corrected, too, also if that stands in an index below; unknown fields are kept. If
/// nothing differs, these are its very bytes.
///
/// # Errors
/// If the index cannot be corrected.
pub(super) fn listing(
    stated: &OriginalManifest,
    entries: &HashSet<Digest>,
    became: &Replacements,
) -> Result<OriginalManifest> {
    let named = |value: Option<&Value>| value?.as_str()?.parse::<Digest>().ok();
    let another = |value: Option<&Value>| {
        let before = named(value)?;
        became.get(&before).filter(|after| after.digest != before)
    };
    let mut changed = false;
    let edited = stated.edit(|json| {
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
                // Both are of the bytes that it had.
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
    Ok(if changed { edited } else { stated.clone() })
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
    // Only Docker lacks a type, for zstd, and then the family is OCI.
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
