//! The names of files in an archive.

use crate::oci::Digest;

/// The list of images of `docker save`; in skopeo's `dir:`, the manifest itself.
pub(super) const MANIFEST_JSON: &str = "manifest.json";
/// The table of contents of an OCI layout.
pub(super) const INDEX_JSON: &str = "index.json";
/// The file that marks a folder as an OCI layout.
pub(super) const OCI_LAYOUT: &str = "oci-layout";
/// The folder of a layout's blobs.
pub(super) const BLOBS: &str = "blobs/sha256/";

/// Parses a digest of 64 lower-case hex digits. Such a text is safe as a file name.
pub(super) fn hex_digest(hex: &str) -> Option<Digest> {
    format!("sha256:{hex}").parse().ok()
}

/// The paths of the files that descriptors refer to.
#[derive(Clone, Copy, Debug)]
pub(super) enum BlobPaths {
    /// `blobs/sha256/HEX`
    Oci,
    /// `HEX`, but `HEX.manifest.json` for a manifest, and `manifest.json` for the root.
    Skopeo {
        /// The digest of `manifest.json`.
        root: Digest,
    },
}

impl BlobPaths {
    /// Returns the path of a config or a layer.
    pub(super) fn blob(self, digest: Digest) -> String {
        match self {
            Self::Oci => format!("{BLOBS}{}", digest.hex()),
            Self::Skopeo { .. } => digest.hex(),
        }
    }

    /// Returns the path of a manifest or an index.
    pub(super) fn manifest(self, digest: Digest) -> String {
        match self {
            Self::Oci => self.blob(digest),
            Self::Skopeo { root } if root == digest => MANIFEST_JSON.to_owned(),
            Self::Skopeo { .. } => format!("{}.{MANIFEST_JSON}", digest.hex()),
        }
    }
}
