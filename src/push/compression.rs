//! How layers are compressed, and what that means for the manifests of an image. Pure.

use crate::archive::{self, Completeness, Content, Image, Layer, Manifest, Provenance, Selection};
use crate::compress::{CompressionSpec, GzipEncoder, ZSTD_LEVEL};
use crate::error::{Advice, Code, Error, Result};
use crate::oci::{Compression, Family};

/// How uncompressed layers are compressed. Layers that the archive has compressed are pushed unchanged.
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// use ecr_push::{CancellationToken, CompressionPolicy, Options, PushRequest, Pusher, Source};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let create = vec!["team/app".parse()?];
/// # let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
/// # let mut options = Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// options.layers.compression = CompressionPolicy::Keep;
/// let pusher = Pusher::builder().options(options).start().await?;
/// let archive = Source::Path("testdata/docker-20.10-save.tar".into());
/// let request = PushRequest::new(archive, ["team/app:1".parse()?]);
/// let outcome = pusher.push(request, CancellationToken::new()).await.into_result()?;
/// for layer in &outcome.targets[0].layers {
///     assert_eq!(layer.size, Some(layer.archive_bytes), "a layer is stored as it is in the archive");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CompressionPolicy {
    /// Those of a `docker save` with gzip; those of an OCI layout are pushed unchanged.
    Usual(GzipEncoder),
    /// With gzip.
    Gzip(GzipEncoder),
    /// With zstd, at this level or the default one.
    Zstd(Option<u32>),
    /// Not at all.
    Keep,
}

impl Default for CompressionPolicy {
    fn default() -> Self {
        Self::Usual(GzipEncoder::default())
    }
}

impl CompressionPolicy {
    /// Returns how an uncompressed layer is compressed; `None` if it is pushed unchanged.
    pub(super) fn spec(self, author: Provenance) -> Option<CompressionSpec> {
        match self {
            Self::Usual(encoder) if author == Provenance::DockerSave => Some(CompressionSpec::Gzip(encoder)),
            Self::Usual(_) | Self::Keep => None,
            Self::Gzip(encoder) => Some(CompressionSpec::Gzip(encoder)),
            Self::Zstd(level) => Some(CompressionSpec::Zstd { level: level.unwrap_or(ZSTD_LEVEL) }),
        }
    }

    /// The compression that was asked for, if one was.
    pub(super) fn asked(self) -> Option<Compression> {
        match self {
            Self::Usual(_) => None,
            Self::Gzip(_) => Some(Compression::Gzip),
            Self::Zstd(_) => Some(Compression::Zstd),
            Self::Keep => Some(Compression::Uncompressed),
        }
    }
}

/// Checks that the image's layers can be compressed like that, and its manifests be uploaded.
///
/// # Errors
/// If the archive states a manifest of Docker's family, which knows no zstd, or if a manifest gets too long.
pub(crate) fn check(image: &Image, compression: CompressionPolicy) -> Result<()> {
    let is_docker = |manifest: &&Manifest| {
        manifest.base().is_some_and(|stated| Family::of(&stated.media_type) == Family::Docker)
            && manifest.layers.iter().any(|layer| may_be_compressed(manifest, layer))
    };
    if matches!(compression, CompressionPolicy::Zstd(_)) && image.manifests().iter().any(is_docker) {
        return Err(Error::input(
            "cannot use zstd: the archive's manifest has Docker media types, which do not allow it",
        )
        .code(Code::OptionConflict)
        .hint(
            Advice::new("Save the archive in the OCI format, or compress with gzip")
                .setting_with("compression", "gzip"),
        ));
    }
    image.manifests().into_iter().try_for_each(|manifest| {
        let compression = |layer| spec(manifest, layer, compression).compression();
        archive::check_manifest_size(manifest, &manifest.layers.iter().map(compression).collect::<Vec<_>>())
    })
}

/// Returns how a layer is compressed. An uncompressed layer of a `docker save` is compressed, since ECR bills and serves what
/// it stores; all other layers are pushed as their author wrote them.
pub fn spec(manifest: &Manifest, layer: &Layer, compression: CompressionPolicy) -> CompressionSpec {
    let compressed = may_be_compressed(manifest, layer).then(|| compression.spec(manifest.provenance)).flatten();
    let decompress = layer.digest.is_none() && layer.diff_id.is_some();
    compressed.unwrap_or(CompressionSpec::Keep { compression: layer.compression, decompress })
}

/// What happens to a manifest or an index of the archive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ManifestAction {
    /// It is pushed unchanged, under its digest.
    Kept,
    /// It is changed, since layers are compressed.
    Repacked,
    /// The index is corrected, since a manifest that it lists is.
    Relisted,
    /// The archive states none, so one of this family is made.
    Made(Family),
    /// The index is not pushed, but the one image that it lists: attestations are missing from the archive.
    Alone,
    /// The index is not pushed: some of what it lists is missing from the archive.
    Refused,
}

impl ManifestAction {
    /// What a push does to it, for people.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Kept => "unchanged, byte for byte",
            Self::Repacked => "gets a new digest: uncompressed layers of a docker save are compressed",
            Self::Relisted => "gets a new digest: a manifest that it lists gets one",
            Self::Made(Family::Docker) => "created as Docker schema 2: the archive has no manifest",
            Self::Made(Family::Oci) => "created as OCI, for zstd: the archive has no manifest",
            Self::Alone => "its image only: attestations are missing",
            Self::Refused => "rejected unless a part is selected: some of it is missing",
        }
    }
}

/// Returns what happens to a manifest or an index with the default options: no compression policy, no images to reuse.
pub(crate) fn manifest_action(content: &Content) -> ManifestAction {
    match content {
        Content::Manifest(manifest) => {
            let usual = CompressionPolicy::default();
            let is_unchanged = |layer: &Layer| matches!(spec(manifest, layer, usual), CompressionSpec::Keep { .. });
            match manifest.original {
                Some(_) if manifest.layers.iter().all(is_unchanged) => ManifestAction::Kept,
                Some(_) => ManifestAction::Repacked,
                None if manifest.layers.iter().any(|layer| layer.compression == Compression::Zstd) => {
                    ManifestAction::Made(Family::Oci)
                }
                None => ManifestAction::Made(Family::Docker),
            }
        }
        Content::Index(index) if !index.absent().is_empty() => match Selection::default().completeness(index) {
            Completeness::OnlyImage(_) => ManifestAction::Alone,
            Completeness::Complete | Completeness::Missing(_) => ManifestAction::Refused,
        },
        Content::Index(index)
            if index.children.iter().all(|child| manifest_action(&child.content) == ManifestAction::Kept) =>
        {
            ManifestAction::Kept
        }
        Content::Index(_) => ManifestAction::Relisted,
    }
}

/// Returns whether a compression policy may apply to the layer.
pub(super) fn may_be_compressed(manifest: &Manifest, layer: &Layer) -> bool {
    layer.compression == Compression::Uncompressed && layer.is_tar() && manifest.provenance != Provenance::Referrer
}

/// Returns whether the digest is known only after compression: layers are compressed, or the archive states no manifest.
pub(crate) fn is_compressed(content: &Content, compression: CompressionPolicy) -> bool {
    content.manifests().into_iter().any(|manifest| {
        let is_packed = |layer: &Layer| !matches!(spec(manifest, layer, compression), CompressionSpec::Keep { .. });
        manifest.original.is_none() || manifest.layers.iter().any(is_packed)
    })
}

/// Whether it goes up as other bytes than the archive states, or the archive states none. What was repaired is rewritten,
/// too.
pub(crate) fn is_rewritten(content: &Content, compression: CompressionPolicy) -> bool {
    is_compressed(content, compression) || content.is_repaired()
}

/// The family of the manifest that is put: a new one is of Docker's, unless a layer is zstd.
pub(super) fn family(manifest: &Manifest, compression: CompressionPolicy) -> Family {
    let is_zstd = |layer: &Layer| spec(manifest, layer, compression).compression() == Compression::Zstd;
    let has_zstd = || manifest.layers.iter().any(is_zstd);
    let new = || if has_zstd() { Family::Oci } else { Family::Docker };
    manifest.base().map_or_else(new, |stated| Family::of(&stated.media_type))
}

/// Returns the family of a manifest or an index when it is pushed.
pub(super) fn family_of(content: &Content, compression: CompressionPolicy) -> Family {
    match content {
        Content::Manifest(manifest) => family(manifest, compression),
        Content::Index(index) => Family::of(&index.base().media_type),
    }
}
