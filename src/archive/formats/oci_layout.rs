//! OCI image layouts: `oci-layout`, `index.json` and `blobs/sha256/`, as
//! <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md> defines them.

use crate::archive::contents::Contents;
use crate::archive::document::{LayoutMarker, MAX_LIST, parse};
use crate::archive::file_names::{BlobPaths, INDEX_JSON, MANIFEST_JSON, OCI_LAYOUT};
use crate::archive::files::{Files, Place};
use crate::archive::format::Format;
use crate::archive::layout::{INCOMPLETE, Layout};
use crate::archive::model::Provenance;
use crate::error::{Code, Error, Result, shown};

/// A layout in a folder.
pub(super) const IN_A_FOLDER: Format = Format {
    name: "OCI layout folder",
    matches: |files| {
        Ok(matches!(files.place, Place::Folder(_))
            && (files.find(OCI_LAYOUT)?.is_some()
                // With a manifest.json it is an extracted `docker save`.
                || (files.find(INDEX_JSON)?.is_some() && files.has_blobs() && files.find(MANIFEST_JSON)?.is_none())))
    },
    read,
};

/// A layout in a tar.
pub(super) const IN_A_TAR: Format = Format {
    name: "OCI layout in a tar",
    matches: |files| {
        Ok(matches!(files.place, Place::Tar(_))
            && files.find(INDEX_JSON)?.is_some()
            && (files.find(OCI_LAYOUT)?.is_some() || files.has_blobs()))
    },
    read,
};

fn read(files: &Files) -> Result<Contents> {
    // Layouts without this file are accepted, as by other tools.
    if let Some((marker, _)) = files.document(OCI_LAYOUT, MAX_LIST)? {
        let version = parse::<LayoutMarker>(&marker, OCI_LAYOUT)?.image_layout_version;
        if !version.starts_with("1.") {
            return Err(Error::input(format!("the archive is an OCI layout of version {}", shown(&version)))
                .code(Code::ArchiveUnsupported)
                .hint("Versions 1.x are supported."));
        }
    }
    let Some(layout) = Layout::new(files, BlobPaths::Oci, Provenance::Layout).read()? else {
        return Err(Error::input("the archive is an OCI layout without index.json")
            .code(Code::ArchiveIncomplete)
            .hint(INCOMPLETE));
    };
    let mut contents = Contents::default();
    for root in layout.roots {
        root.add_to(&mut contents);
    }
    contents.attach_referrers(layout.referrers);
    contents.index_json = Some(layout.index_json);
    Ok(contents)
}
