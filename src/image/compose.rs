//! Manifests and indexes as they are pushed: the author's bytes wherever they still hold, new ones where a layer was
//! packed.

use std::collections::HashMap;

use bytes::Bytes;
use oci_client::manifest::{OciDescriptor, OciImageManifest};
use serde_json::Value;

use super::document::ATTESTED;
use super::model::{Config, Family, Index, Manifest, Stated};
use crate::error::{Error, Result};
use crate::layer::Packing;
use crate::reference::Digest;

/// A layer as it was stored: digest, size, packing.
pub type StoredLayer = (Digest, u64, Packing);

/// The manifest for layers that were stored like this, in the manifest's order.
///
/// Where the layers are those that a stated manifest lists, these are its very bytes. Where a layer was packed, the
/// stated manifest is taken with the layers' descriptors corrected and everything else kept. Where there is none, a new
/// one is written: Docker schema 2, as `docker push` would, or OCI if a layer is zstd.
///
/// # Errors
/// If the stated manifest cannot be corrected.
pub fn manifest(manifest: &Manifest, layers: &[StoredLayer]) -> Result<Stated> {
    let Some(stated) = &manifest.stated else { return Ok(new(&manifest.config, layers)) };
    let unchanged = manifest.layers.len() == layers.len()
        && manifest.layers.iter().zip(layers).all(|(layer, (digest, ..))| layer.digest == Some(*digest));
    if unchanged {
        return Ok(stated.clone());
    }
    let family = Family::of(&stated.media_type);
    let broken = || Error::input(format!("the archive's manifest {} cannot be corrected", stated.digest.short()));
    let mut json: Value = serde_json::from_slice(&stated.bytes).map_err(|error| broken().because(error))?;
    let listed = json.get_mut("layers").and_then(Value::as_array_mut).ok_or_else(broken)?;
    for (descriptor, (digest, size, packing)) in listed.iter_mut().zip(layers) {
        let descriptor = descriptor.as_object_mut().ok_or_else(broken)?;
        if descriptor.get("digest").and_then(Value::as_str) == Some(&digest.to_string()) {
            continue;
        }
        let media_type = family.layer(*packing).ok_or_else(broken)?;
        descriptor.insert("mediaType".into(), media_type.into());
        descriptor.insert("digest".into(), digest.to_string().into());
        descriptor.insert("size".into(), (*size).into());
    }
    Ok(Stated { subject: stated.subject, ..state(serialised(&json), stated.media_type.clone()) })
}

/// The index above children that were put like this, in the index's order.
///
/// # Errors
/// If the stated index cannot be corrected.
pub fn index(index: &Index, children: &[Stated]) -> Result<Stated> {
    let before = index.children.iter().filter_map(|child| Some(child.content.stated()?.digest));
    listing(&index.stated, &before.zip(children).collect())
}

/// An index that lists of its entries only those that are here, by their digests, and each as what it became. What
/// attestations say they are about is corrected, too; unknown fields are kept. If nothing differs, these are its very
/// bytes.
///
/// # Errors
/// If the index cannot be corrected.
pub(super) fn listing(stated: &Stated, entries: &HashMap<Digest, &Stated>) -> Result<Stated> {
    let broken = || Error::input(format!("the archive's index {} cannot be corrected", stated.digest.short()));
    let mut json: Value = serde_json::from_slice(&stated.bytes).map_err(|error| broken().because(error))?;
    let listed = json.get_mut("manifests").and_then(Value::as_array_mut).ok_or_else(broken)?;
    let became = |value: Option<&Value>| entries.get(&value?.as_str()?.parse().ok()?).copied();
    let count = listed.len();
    listed.retain(|descriptor| became(descriptor.get("digest")).is_some());
    let mut changed = listed.len() != count;
    for descriptor in listed.iter_mut() {
        let after = became(descriptor.get("digest")).ok_or_else(broken)?;
        let about = became(descriptor.pointer(&format!("/annotations/{ATTESTED}")));
        let mut correct = |place: Option<&mut Value>, value: Value| {
            if let Some(place) = place.filter(|place| **place != value) {
                *place = value;
                changed = true;
            }
        };
        correct(descriptor.get_mut("digest"), after.digest.to_string().into());
        correct(descriptor.get_mut("size"), after.bytes.len().into());
        if let Some(about) = about {
            let annotation = descriptor.pointer_mut(&format!("/annotations/{ATTESTED}"));
            correct(annotation, about.digest.to_string().into());
        }
    }
    if !changed {
        return Ok(stated.clone());
    }
    Ok(Stated { subject: stated.subject, ..state(serialised(&json), stated.media_type.clone()) })
}

fn new(config: &Config, layers: &[StoredLayer]) -> Stated {
    let zstd = layers.iter().any(|(.., packing)| *packing == Packing::Zstd);
    let family = if zstd { Family::Oci } else { Family::Docker };
    let descriptor = |media_type: &str, digest: &Digest, size: u64| OciDescriptor {
        media_type: media_type.to_owned(),
        digest: digest.to_string(),
        // Sizes come from files, whose length is an i64 to the operating system.
        size: i64::try_from(size).unwrap_or(i64::MAX),
        ..OciDescriptor::default()
    };
    let manifest = OciImageManifest {
        schema_version: 2,
        media_type: Some(family.manifest().to_owned()),
        config: descriptor(family.config(), &config.digest, config.bytes.len() as u64),
        layers: layers
            .iter()
            .map(|(digest, size, packing)| {
                // Only Docker lacks a type, for zstd, and then the family is OCI.
                descriptor(family.layer(*packing).unwrap_or_default(), digest, *size)
            })
            .collect(),
        subject: None,
        artifact_type: None,
        annotations: None,
    };
    state(serialised(&manifest), family.manifest().to_owned())
}

/// Compact JSON. Key order is fixed by the types, so equal input gives equal bytes.
fn serialised(json: &impl serde::Serialize) -> Bytes {
    // Neither type has a map with keys that are not text, which is all that could fail.
    serde_json::to_vec(json).unwrap_or_default().into()
}

fn state(bytes: Bytes, media_type: String) -> Stated {
    Stated { digest: Digest::of(&bytes), bytes, media_type, subject: None }
}
