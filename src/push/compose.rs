//! The manifests and indexes of an image, made out of the layers as the registry has them. Pure.

use super::compression::{self, CompressionPolicy};
use super::plan::{self, Stored};
use crate::archive::{self, Content, Image, Layer, Manifest, Replacements};
use crate::compress::Compression;
use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, LayerId, OriginalManifest};
use crate::registry::RemoteManifest;
use crate::reuse::RemoteImage;

/// What an image becomes.
pub(super) struct Composed {
    /// What a tag will point at, or what refers to something.
    pub(super) root: OriginalManifest,
    /// Everything below that, children first, each with what is to be reported of it.
    pub(super) below: Vec<(OriginalManifest, Option<String>)>,
}

/// Makes the manifests and indexes of `content`. `remote` has images that the repository holds: the bytes of one with the same
/// config and layers are taken over, so that its digest stays the same. `stored` says what a layer is in the registry.
///
/// # Errors
/// If a layer is not there, or if something gets too long.
pub(super) fn compose(
    content: &Content,
    compression: CompressionPolicy,
    remote: &[RemoteImage],
    stored: &dyn Fn(&LayerId) -> Result<Stored>,
) -> Result<Composed> {
    let mut composer = Composer { compression, remote, stored, became: Replacements::new(), below: Vec::new() };
    let root = composer.compose(content)?;
    Ok(Composed { root, below: composer.below })
}

/// Returns the digest of what will be put, where that is known: the archive states it, or there is no layer to send, of which
/// `stored` has none then.
pub(super) fn root_digest(
    image: &Image,
    compression: CompressionPolicy,
    remote: &[RemoteImage],
    stored: &dyn Fn(&LayerId) -> Option<Stored>,
) -> Option<Digest> {
    let stored = |id: &LayerId| stored(id).ok_or_else(|| Error::new(Kind::Refused, "a layer was not uploaded yet"));
    let composed = || compose(&image.content, compression, remote, &stored).ok();
    stated_digest(image, compression).or_else(|| Some(composed()?.root.digest))
}

/// Returns the digest of what will be put, if the archive states it.
pub(super) fn stated_digest(image: &Image, compression: CompressionPolicy) -> Option<Digest> {
    let is_unchanged = !compression::is_rewritten(&image.content, compression);
    image.content.original().filter(|_| is_unchanged).map(|stated| stated.digest)
}

/// What is made, and what was made of it so far.
struct Composer<'a> {
    compression: CompressionPolicy,
    remote: &'a [RemoteImage],
    stored: &'a dyn Fn(&LayerId) -> Result<Stored>,
    became: Replacements,
    below: Vec<(OriginalManifest, Option<String>)>,
}

impl Composer<'_> {
    fn compose(&mut self, content: &Content) -> Result<OriginalManifest> {
        let root = match content {
            Content::Manifest(manifest) => {
                let layer = |layer: &Layer| {
                    let id = plan::layer_id(layer, compression::spec(manifest, layer, self.compression));
                    (self.stored)(&id).map(|stored| (stored.digest, stored.size, stored.compression))
                };
                let layers = manifest.layers.iter().map(layer).collect::<Result<Vec<_>>>()?;
                match self.taken_over(manifest, &layers) {
                    Some(remote) => remote,
                    None => archive::compose_manifest(manifest, &layers)?,
                }
            }
            Content::Index(index) => {
                for child in &index.children {
                    self.child(&child.content)?;
                }
                archive::compose_index(index, &self.became)?
            }
        };
        self.became.insert(content.identity(), root.clone());
        Ok(root)
    }

    /// What an index lists is made and put once, however often it is listed.
    fn child(&mut self, content: &Content) -> Result<()> {
        if self.became.contains_key(&content.identity()) {
            return Ok(());
        }
        let root = self.compose(content)?;
        let is_repaired = matches!(content, Content::Manifest(manifest) if manifest.repaired.is_some());
        let note = is_repaired.then(|| changed(REPAIRED, content, &root));
        self.below.push((root, note));
        Ok(())
    }

    /// The manifest that the repository holds of an image without one, if its layers are those that were stored.
    fn taken_over(&self, manifest: &Manifest, layers: &[(Digest, u64, Compression)]) -> Option<OriginalManifest> {
        let same = |remote: &&RemoteImage| {
            let (remote_layers, stored) = (remote.layers.iter().map(|it| it.digest), layers.iter().map(|it| it.0));
            remote.config == manifest.config.digest && remote_layers.eq(stored)
        };
        let remote = self.remote.iter().filter(|_| manifest.original.is_none()).find(same)?;
        let RemoteManifest { bytes, digest, media_type, .. } = remote.manifest.clone();
        Some(OriginalManifest { bytes, digest, media_type, subject: None })
    }
}

/// Why a manifest changed that was wrong.
pub(super) const REPAIRED: &str = "errors were corrected";

/// Returns a line that something has another digest than the archive states.
pub(super) fn changed(why: &str, content: &Content, put: &OriginalManifest) -> String {
    let what = if matches!(content, Content::Index(_)) { "index" } else { "manifest" };
    let before = content.original().map_or_else(|| content.id(), |stated| stated.digest);
    let (before, after) = (before.short(), put.digest.short());
    format!("{why}, so the {what} {before} of the archive becomes {after}")
}
