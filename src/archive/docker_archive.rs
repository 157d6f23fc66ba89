//! `docker save` archives: whatever has a `manifest.json`.
//!
//! Written by Docker of all ages, podman and buildah (`docker-archive:`), kaniko, crane, BuildKit, containerd, Bazel,
//! Nix. `manifest.json` gives the list of images. Newer writers put an `index.json` beside it, which leads to the
//! manifest that the image had where it came from: that one is pushed if the archive contains its blobs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::contents::{Contents, Unusable};
use super::document::{MAX_LIST, SavedImage, image_config, into_oci, parse};
use super::file_names::{BlobPaths, MANIFEST_JSON, OCI_LAYOUT, hex_digest};
use super::files::{Files, Place};
use super::format::Format;
use super::image_name::canonical;
use super::layer_format::detect;
use super::layout::{Layout, MAX_DESCRIPTORS, miscount, missing_file};
use super::model::{Content, Image, Layer, Manifest, NonDistributableLayer, Provenance};
use super::root::{Fault, Root};
use crate::compress::{ByteSource, Compression, FileCompression};
use crate::error::{Code, Error, Result, shown};
use crate::oci::{DiffId, Digest};

/// An archive with a `manifest.json`. In a folder, layers have other names than their digests unless it is a layout, too.
pub(super) const FORMAT: Format = Format {
    name: "docker save archive",
    matches: |files| {
        Ok(files.find(MANIFEST_JSON)?.is_some()
            && (matches!(files.place, Place::Tar(_)) || files.find(OCI_LAYOUT)?.is_some()))
    },
    read,
};

fn read(files: &Files) -> Result<Contents> {
    let Some((list, _)) = files.document(MANIFEST_JSON, MAX_LIST)? else {
        return Err(Error::input("the archive has no manifest.json").code(Code::ArchiveIncomplete));
    };
    let list: Vec<SavedImage> = parse(&list, MANIFEST_JSON)?;
    // Each is compared with all that index.json names.
    if list.len() > MAX_DESCRIPTORS {
        return Err(Error::input(format!("manifest.json of the archive lists more than {MAX_DESCRIPTORS} images"))
            .code(Code::ArchiveUnsupported)
            .hint("Save fewer of them at once."));
    }
    let layout = Layout::new(files, BlobPaths::Oci, Provenance::DockerSave).read()?;
    let (mut roots, referrers) = layout.map(|layout| (layout.roots, layout.referrers)).unwrap_or_default();
    // Which image a broken manifest belongs to is unknown, so all are suspect.
    if let Some(at) = roots.iter().position(|root| matches!(root.read, Err(Fault::Broken(_)))) {
        return roots.swap_remove(at).read.map(|_| Contents::default()).map_err(Fault::into_error);
    }

    let mut contents = Contents::default();
    let mut used = vec![false; roots.len()];
    let mut named: HashMap<String, Vec<usize>> = HashMap::new();
    for (at, root) in roots.iter().enumerate() {
        root.names.iter().for_each(|name| named.entry(canonical(name)).or_default().push(at));
    }
    // Whether an image of that name can be pushed.
    let mut saved_names: HashMap<String, bool> = HashMap::new();
    for saved in list {
        let names: Vec<String> = saved.names().cloned().collect();
        let tags: Vec<String> = names.iter().map(|name| canonical(name)).collect();
        let same_name: HashSet<usize> = tags.iter().filter_map(|tag| named.get(tag)).flatten().copied().collect();
        let image = image(files, &saved, &roots, &same_name);
        tags.into_iter().for_each(|tag| *saved_names.entry(tag).or_default() |= image.is_ok());
        match image {
            Ok((content, root)) => {
                if let Some(root) = root {
                    used[root] = true;
                }
                contents.add(Image::new(names, content));
            }
            Err(error) => contents.unusable.push(Unusable { names, id: named_hex(&saved.config), error }),
        }
    }
    // containerd lists in manifest.json only what old Dockers could load.
    for (root, used) in roots.into_iter().zip(used) {
        contents.is_partial |= root.is_partial();
        if used {
            continue;
        }
        if let Some(manifest) = root.manifests().into_iter().find(|manifest| manifest.contradicts_config()) {
            let config = manifest.config.digest.short();
            contents.note(format!(
                "index.json lists the layers of {config} in another order than its config does; the order of manifest.json \
                 and the config is pushed"
            ));
        }
        match root.names.iter().find_map(|name| Some((name, *saved_names.get(&canonical(name))?))) {
            None if root.read.is_ok() || !root.names.is_empty() => root.add_to(&mut contents),
            Some((name, true)) if root.read.is_err() => {
                let name = shown(name);
                contents.note(format!(
                    "what index.json names for {name} is not all in the archive, so a new manifest is written"
                ));
            }
            _ => {}
        }
    }
    contents.attach_referrers(referrers);
    Ok(contents)
}

/// Reads one image, and returns which of the roots it is, if any; those in `same_name` have a name of it.
fn image(
    files: &Files,
    saved: &SavedImage,
    roots: &[Root],
    same_name: &HashSet<usize>,
) -> Result<(Content, Option<usize>)> {
    let name = shown(saved.names().next().unwrap_or(&saved.config));
    let paths = saved.layers.as_deref().unwrap_or_default();
    let missing = |path: &str, role, more| missing_file(path, "its manifest.json", &format!("{role} of {name}"), more);
    let found = paths.iter().map(|path| files.find(path)).collect::<Result<Vec<_>>>()?;
    let Some((bytes, digest)) = files.document(&saved.config, MAX_LIST)? else {
        // A missing layer explains more than a missing config.
        let absent: Vec<_> = paths.iter().zip(&found).filter(|(_, file)| file.is_none()).collect();
        return Err(match absent.first() {
            Some((path, _)) => missing(path, "a layer", absent.len()),
            None => missing(&saved.config, "the config", 0),
        });
    };
    if named_hex(&saved.config).is_some_and(|named| named != digest) {
        return Err(Error::input(format!("the config {} has the digest {digest}", shown(&saved.config)))
            .code(Code::ArchiveDamaged)
            .hint("Its name is its digest, so it was changed or damaged. Save the image again."));
    }
    let (config, diff_ids) = image_config(bytes, digest, &saved.config)?;
    let diff_ids = diff_ids.unwrap_or_default();
    if paths.len() != diff_ids.len() {
        return Err(miscount(&format!("manifest.json for {name}"), paths.len(), &saved.config, diff_ids.len()));
    }
    if let Some((root, manifest)) = original(paths, digest, roots, same_name) {
        let content = roots[root].read.as_ref().ok().cloned();
        return Ok((content.unwrap_or_else(|| Content::Manifest(Box::new(manifest.clone()))), Some(root)));
    }
    let (mut layers, mut non_distributable, mut absent) = (Vec::new(), Vec::new(), Vec::new());
    for (at, ((path, file), diff_id)) in paths.iter().zip(found).zip(diff_ids).enumerate() {
        let layer = file.map(|bytes| layer(bytes, path, diff_id)).transpose()?;
        let source = saved.layer_sources.as_ref().and_then(|sources| sources.get(&diff_id));
        match (source.filter(|source| source.is_non_distributable()), layer) {
            (Some(source), layer) => {
                non_distributable.push(NonDistributableLayer { at, descriptor: into_oci(source.clone()), layer });
            }
            (None, Some(layer)) => layers.push(layer),
            (None, None) => absent.push(path),
        }
    }
    if let Some(path) = absent.first() {
        return Err(missing(path, "a layer", absent.len() - 1));
    }
    let manifest = Manifest {
        original: None,
        repaired: None,
        config,
        layers,
        non_distributable,
        provenance: Provenance::DockerSave,
    };
    Ok((Content::Manifest(Box::new(manifest)), None))
}

/// Returns a layer of which only the diff_id is stated.
fn layer(bytes: ByteSource, path: &str, diff_id: DiffId) -> Result<Layer> {
    let compression = detect(&bytes, path)?.map_err(|other| unsupported(path, other))?;
    let named_digest = if compression == Compression::Uncompressed { None } else { named_hex(path) };
    Ok(Layer {
        diff_id: Some(diff_id),
        bytes,
        compression,
        digest: None,
        named_digest,
        origins: Arc::default(),
        media_type: None,
        name: shown(path),
    })
}

/// Returns the error that no client could decompress a layer: manifests have media types for uncompressed, gzip and zstd
/// layers only.
fn unsupported(path: &str, compression: FileCompression) -> Error {
    let what = format!("layer {} of the archive is compressed with {}", shown(path), compression.name());
    Error::input(what)
        .code(Code::ArchiveUnsupported)
        .because("layers of an image are uncompressed or compressed with gzip or zstd")
        .hint("Write the archive with uncompressed layers, as docker save does; they are compressed while they upload.")
}

/// Returns the manifest that index.json leads to and that has this config, with the layers in the config's order. If several
/// have it (the same image compressed and uncompressed), names decide, then equal layers, then whether the archive contains
/// all of its index.
fn original<'r>(
    paths: &[String],
    config: Digest,
    roots: &'r [Root],
    same_name: &HashSet<usize>,
) -> Option<(usize, &'r Manifest)> {
    let score = |at: usize, root: &Root, manifest: &Manifest| {
        let layers = manifest.layers.iter().map(|layer| &layer.name).eq(paths);
        (same_name.contains(&at), layers, root.read.is_ok())
    };
    let mut best = None;
    for (at, root) in roots.iter().enumerate() {
        let is_its = |manifest: &&Manifest| manifest.config.digest == config && !manifest.contradicts_config();
        for manifest in root.manifests().into_iter().filter(is_its) {
            let score = score(at, root, manifest);
            if best.as_ref().is_none_or(|(other, _)| score > *other) {
                best = Some((score, (at, manifest)));
            }
        }
    }
    best.map(|(_, found)| found)
}

/// Returns the digest that a file's name claims: `HEX.json`, `sha256:HEX`, `blobs/sha256/HEX`, `HEX.tar.gz`.
fn named_hex(name: &str) -> Option<Digest> {
    let file = name.rsplit('/').next().unwrap_or(name);
    let stem = file.strip_prefix("sha256:").unwrap_or(file).split('.').next().unwrap_or_default();
    hex_digest(stem)
}
