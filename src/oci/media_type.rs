//! Media types of images, and the compression that they state.

use oci_client::manifest as media;
use serde::{Deserialize, Serialize};

/// The compression of a layer's bytes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Uncompressed tar.
    #[serde(rename = "plain")]
    Uncompressed,
    /// gzip (RFC 1952).
    Gzip,
    /// zstd (RFC 8878).
    Zstd,
}

impl Compression {
    /// Detects the compression of bytes by their start: the first four bytes, if there are as many.
    pub fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or a skippable frame, with which zstd:chunked and pzstd begin (RFC 8878, 3.1.1 and 3.1.2).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::Uncompressed,
        }
    }

    /// Returns the name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uncompressed => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// The family of media types: Docker's or OCI's. All media types in a manifest are of one family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Family {
    /// `application/vnd.docker.*`
    Docker,
    /// `application/vnd.oci.*`
    Oci,
}

impl Family {
    /// Returns the family of a manifest's or an index's media type.
    pub(crate) fn of(media_type: &str) -> Self {
        if media_type.starts_with("application/vnd.docker.") { Self::Docker } else { Self::Oci }
    }

    /// Returns the media type of an image manifest.
    pub(crate) fn manifest(self) -> &'static str {
        match self {
            Self::Docker => media::IMAGE_MANIFEST_MEDIA_TYPE,
            Self::Oci => media::OCI_IMAGE_MEDIA_TYPE,
        }
    }

    /// Returns the media type of an index.
    pub(crate) fn index(self) -> &'static str {
        match self {
            Self::Docker => media::IMAGE_MANIFEST_LIST_MEDIA_TYPE,
            Self::Oci => media::OCI_IMAGE_INDEX_MEDIA_TYPE,
        }
    }

    /// Returns the media type of an image config.
    pub(crate) fn config(self) -> &'static str {
        match self {
            Self::Docker => media::IMAGE_DOCKER_CONFIG_MEDIA_TYPE,
            Self::Oci => media::IMAGE_CONFIG_MEDIA_TYPE,
        }
    }

    /// Returns the media type of a layer. `None` if the family has none: Docker has no media type for zstd.
    pub(crate) fn layer(self, compression: Compression) -> Option<&'static str> {
        match (self, compression) {
            (Self::Docker, Compression::Uncompressed) => Some(media::IMAGE_DOCKER_LAYER_TAR_MEDIA_TYPE),
            (Self::Docker, Compression::Gzip) => Some(media::IMAGE_DOCKER_LAYER_GZIP_MEDIA_TYPE),
            (Self::Docker, Compression::Zstd) => None,
            (Self::Oci, Compression::Uncompressed) => Some(media::IMAGE_LAYER_MEDIA_TYPE),
            (Self::Oci, Compression::Gzip) => Some(media::IMAGE_LAYER_GZIP_MEDIA_TYPE),
            (Self::Oci, Compression::Zstd) => Some("application/vnd.oci.image.layer.v1.tar+zstd"),
        }
    }
}

/// The kinds of documents that a tag can refer to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum DocumentKind {
    /// A list of manifests.
    Index,
    /// A config and layers.
    Manifest,
}

/// A media type.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct MediaType<'a>(pub &'a str);

impl MediaType<'_> {
    /// The media type of an OCI index.
    pub(crate) const INDEX: MediaType<'static> = MediaType(media::OCI_IMAGE_INDEX_MEDIA_TYPE);

    /// Returns the kind of document, if it is a manifest or an index of Docker's schema 2 or of OCI.
    pub(crate) fn document(self) -> Option<DocumentKind> {
        match self.0 {
            media::OCI_IMAGE_MEDIA_TYPE | media::IMAGE_MANIFEST_MEDIA_TYPE => Some(DocumentKind::Manifest),
            media::OCI_IMAGE_INDEX_MEDIA_TYPE | media::IMAGE_MANIFEST_LIST_MEDIA_TYPE => Some(DocumentKind::Index),
            _ => None,
        }
    }

    /// Returns whether it is that of an image config.
    pub(crate) fn is_image_config(self) -> bool {
        [media::IMAGE_CONFIG_MEDIA_TYPE, media::IMAGE_DOCKER_CONFIG_MEDIA_TYPE].contains(&self.0)
    }

    /// Returns whether it is that of a layer: a tar of files. Attestations and parts of artifacts are also listed as layers
    /// in manifests.
    pub(crate) fn is_layer(self) -> bool {
        self.0.starts_with("application/vnd.docker.image.rootfs.")
            || self.0.starts_with("application/vnd.oci.image.layer.")
    }

    /// Returns whether it is that of a layer that registries need not store
    /// (<https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#non-distributable-layers>).
    pub(crate) fn is_non_distributable(self) -> bool {
        self.0.contains(".nondistributable.") || self.0.contains(".foreign.")
    }

    /// Returns whether the layer's bytes are encrypted (<https://github.com/containers/ocicrypt/blob/main/docs/oci-encryption.md>).
    /// Their compression is not known.
    pub(crate) fn is_encrypted(self) -> bool {
        self.0.ends_with("+encrypted")
    }

    /// Returns the compression of a layer that it states. `None` if it states none, and for encrypted layers and other content.
    pub(crate) fn compression(self) -> Option<Compression> {
        let (_, suffix) = self.0.rsplit_once(['.', '+']).filter(|_| self.is_layer())?;
        match suffix {
            "gzip" => Some(Compression::Gzip),
            "zstd" => Some(Compression::Zstd),
            "tar" => Some(Compression::Uncompressed),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_media_type_states_the_compression() {
        for (media_type, expected, is_non_distributable) in [
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", Some(Compression::Gzip), false),
            ("application/vnd.docker.image.rootfs.diff.tar", Some(Compression::Uncompressed), false),
            ("application/vnd.oci.image.layer.v1.tar+gzip", Some(Compression::Gzip), false),
            ("application/vnd.oci.image.layer.v1.tar+zstd", Some(Compression::Zstd), false),
            ("application/vnd.oci.image.layer.v1.tar", Some(Compression::Uncompressed), false),
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", None, false),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Some(Compression::Gzip), true),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Some(Compression::Gzip), true),
            ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", None, false),
            ("", None, false),
        ] {
            let media_type = MediaType(media_type);
            assert_eq!(media_type.compression(), expected, "{media_type:?}");
            assert_eq!(media_type.is_non_distributable(), is_non_distributable, "{media_type:?}");
        }
    }
}
