//! `docker save` archives: those with a `manifest.json`.
//!
//! All versions of Docker write them, and so do podman and buildah (`docker-archive:`), kaniko, crane, BuildKit, containerd,
//! Bazel and Nix. `manifest.json` lists the images. Newer writers add an `index.json`, which refers to the manifest that the
//! image had in its registry: that manifest is pushed if the archive contains its blobs.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::archive::contents::{Contents, Fault, Root, Unusable};
use crate::archive::document::{MAX_LIST, SavedImage, image_config, into_oci, parse};
use crate::archive::file_names::{BlobPaths, MANIFEST_JSON, OCI_LAYOUT, hex_digest};
use crate::archive::files::{Files, Place};
use crate::archive::format::Format;
use crate::archive::image_name::canonical;
use crate::archive::layer_format::detect;
use crate::archive::layout::{Layout, miscount, missing_file};
use crate::archive::model::{Content, Image, Layer, LayerFacts, Manifest, NonDistributableLayer, Provenance};
use crate::compress::{ByteSource, Compression, FileCompression};
use crate::error::{Code, Error, Result, shown};
use crate::oci::{DiffId, Digest};

/// The limit for images.
const MAX_IMAGES: usize = 10_000;

/// The format. A folder must be an OCI layout as well: otherwise its layers are not named by their digests.
pub(super) const FORMAT: Format = Format {
    name: "docker save archive",
    matches: |files| {
        Ok(files.find(MANIFEST_JSON)?.is_some()
            && (matches!(files.place, Place::Tar(_)) || files.find(OCI_LAYOUT)?.is_some()))
    },
    read,
};

fn read(files: &Files) -> Result<Contents> {
    let list: Vec<SavedImage> = match files.document(MANIFEST_JSON, MAX_LIST)? {
        Some((list, _)) => parse(&list, MANIFEST_JSON)?,
        None => return Err(Error::input("the archive has no manifest.json").code(Code::ArchiveIncomplete)),
    };
    // Each image is compared with all entries of index.json.
    if list.len() > MAX_IMAGES {
        return Err(Error::input(format!("manifest.json of the archive lists more than {MAX_IMAGES} images"))
            .code(Code::ArchiveUnsupported)
            .hint("Save fewer of them at once."));
    }
    files.expect(list.len());
    let layout = Layout::new(files, BlobPaths::Oci, Provenance::DockerSave).read()?;
    let (mut roots, referrers) = layout.map(|layout| (layout.roots, layout.referrers)).unwrap_or_default();
    // The image of a broken manifest is unknown, so it may be any of them.
    if let Some(at) = roots.iter().position(|root| matches!(root.read, Err(Fault::Broken(_)))) {
        return roots.swap_remove(at).read.map(|_| Contents::default()).map_err(Fault::into_error);
    }

    let mut contents = Contents::default();
    let mut used = vec![false; roots.len()];
    let mut named: HashMap<String, Vec<usize>> = HashMap::new();
    for (at, root) in roots.iter().enumerate() {
        root.names.iter().for_each(|name| named.entry(canonical(name)).or_default().push(at));
    }
    // By name, whether an image in manifest.json can be pushed.
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
            Err(error) => contents.unusable.push(Unusable { names, id: named_digest(&saved.config), error }),
        }
    }
    // containerd lists in manifest.json only images that old versions of Docker can load.
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
                    "the archive does not contain everything that index.json lists for {name}, so a new manifest is written"
                ));
            }
            _ => {}
        }
    }
    contents.attach_referrers(referrers);
    Ok(contents)
}

/// Reads one image, and returns the index of its root, if it has one. The roots in `same_name` share a name with it.
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
    if named_digest(&saved.config).is_some_and(|named| named != digest) {
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
        let layer = file.map(|bytes| layer(files, bytes, path, diff_id)).transpose()?;
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
    let mut config = config;
    files.release(&mut config.bytes, config.digest, &saved.config)?;
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

/// Returns a layer that is listed by its diff_id only.
fn layer(files: &Files, bytes: ByteSource, path: &str, diff_id: DiffId) -> Result<Layer> {
    let compression = detect(&bytes, path)?.map_err(|other| unsupported(path, other))?;
    let named_digest = if compression == Compression::Uncompressed { None } else { named_digest(path) };
    Ok(files.shared(LayerFacts {
        diff_id: Some(diff_id),
        bytes,
        compression,
        digest: None,
        named_digest,
        origins: Arc::default(),
        media_type: None,
        name: shown(path),
    }))
}

/// Returns the error that a layer has an unsupported compression: there are media types for uncompressed, gzip and zstd layers
/// only.
fn unsupported(path: &str, compression: FileCompression) -> Error {
    let what = format!("layer {} of the archive is compressed with {}", shown(path), compression.name());
    Error::input(what)
        .code(Code::ArchiveUnsupported)
        .because("layers of an image are uncompressed or compressed with gzip or zstd")
        .hint("Write the archive with uncompressed layers, as docker save does; they are compressed while they upload.")
}

/// Returns the manifest of index.json with this config, and with the layers in the config's order. If there are several (the
/// same image compressed and uncompressed), equal names are preferred, then equal layers, then a complete index.
fn original<'r>(
    paths: &[String],
    config: Digest,
    roots: &'r [Root],
    same_name: &HashSet<usize>,
) -> Option<(usize, &'r Manifest)> {
    let manifests =
        roots.iter().enumerate().flat_map(|(at, root)| root.manifests().into_iter().map(move |it| (at, it)));
    let matching = manifests.filter(|(_, it)| it.config.digest == config && !it.contradicts_config());
    // The first one of the best.
    matching.min_by_key(|(at, manifest)| {
        let has_layers = manifest.layers.iter().map(|layer| &layer.name).eq(paths);
        Reverse((same_name.contains(at), has_layers, roots[*at].read.is_ok()))
    })
}

/// Returns the digest in a file name: `HEX.json`, `sha256:HEX`, `blobs/sha256/HEX`, `HEX.tar.gz`.
fn named_digest(name: &str) -> Option<Digest> {
    let file = name.rsplit('/').next().unwrap_or(name);
    let stem = file.strip_prefix("sha256:").unwrap_or(file).split('.').next().unwrap_or_default();
    hex_digest(stem)
}
