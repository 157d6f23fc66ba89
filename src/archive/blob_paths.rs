//! How the files of an archive are named.

use super::MANIFEST_JSON;
use super::entries::BLOBS;
use crate::oci::Digest;

/// What the files are called that descriptors point at.
#[derive(Clone, Copy, Debug)]
pub(super) enum BlobPaths {
    /// `blobs/sha256/HEX`
    Oci,
    /// `HEX`, but `HEX.manifest.json` where it is a manifest, and `manifest.json` where it is the root.
    Skopeo {
        /// The digest of `manifest.json`.
        root: Digest,
    },
}

impl BlobPaths {
    /// The file with a config or a layer.
    pub(super) fn blob(self, digest: Digest) -> String {
        match self {
            Self::Oci => format!("{BLOBS}{}", digest.hex()),
            Self::Skopeo { .. } => digest.hex(),
        }
    }

    /// The file with a manifest or an index.
    pub(super) fn manifest(self, digest: Digest) -> String {
        match self {
            Self::Oci => self.blob(digest),
            Self::Skopeo { root } if root == digest => MANIFEST_JSON.to_owned(),
            Self::Skopeo { .. } => format!("{}.{MANIFEST_JSON}", digest.hex()),
        }
    }
}
