//! The `dir:` format of skopeo, podman and buildah: a folder (or a tar of one) with `manifest.json`, which is the
//! manifest or the index itself. Blobs are named by the hex digits of their digests, and the manifests below an index
//! `HEX.manifest.json`
//! (<https://github.com/containers/image/blob/main/directory/directory_transport.go>).
//!
//! Images have no names in it. `version` and `signature-N` beside it are ignored.

use crate::archive::contents::Contents;
use crate::archive::document::{MAX_MANIFEST, document, unreadable};
use crate::archive::file_names::{BlobPaths, MANIFEST_JSON};
use crate::archive::files::Files;
use crate::archive::format::Format;
use crate::archive::layout::Layout;
use crate::archive::model::Provenance;
use crate::error::{Code, Error, Result};
use crate::oci::Descriptor;

/// The format.
pub(super) const FORMAT: Format = Format { name: "skopeo dir", matches, read };

/// Returns whether `manifest.json` is a manifest, not the list of images that `docker save` writes under that name.
fn matches(files: &Files) -> Result<bool> {
    let Some(manifest_json) = files.find(MANIFEST_JSON)? else { return Ok(false) };
    let mut start = [0; 64];
    let read = manifest_json.read_at(0, &mut start).map_err(|error| unreadable(MANIFEST_JSON, error))?;
    Ok(start[..read].trim_ascii_start().starts_with(b"{"))
}

/// Reads the only image.
fn read(files: &Files) -> Result<Contents> {
    let Some((bytes, digest)) = files.document(MANIFEST_JSON, MAX_MANIFEST)? else {
        return Err(Error::input("the archive has no manifest.json").code(Code::ArchiveIncomplete));
    };
    let listing = document(&bytes, MANIFEST_JSON)?;
    let descriptor = Descriptor::new(listing.own_media_type(), digest, bytes.len() as u64);
    let mut contents = Contents::default();
    Layout::new(files, BlobPaths::Skopeo { root: digest }, Provenance::Layout)
        .root(Vec::new(), descriptor, "the folder")
        .add_to(&mut contents);
    Ok(contents)
}
