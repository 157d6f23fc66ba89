//! Repair of manifests that are inconsistent or that ECR rejects.
//!
//! Nothing is repaired by default: a repaired manifest has a new digest, to which existing signatures do not apply.

use serde_json::Value;

use super::model::{Content, Image, Layer, Manifest};
use crate::compress::Compression;
use crate::error::{Result, shown};
use crate::oci::{Family, MediaType, OriginalManifest, StrictField};

/// A flaw of an original manifest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Flaw {
    /// The manifest has a field that ECR rejects; other registries accept it.
    Strict(&'static StrictField),
    /// The media type of a layer states another compression than that of its bytes. Clients that rely on it fail to decompress
    /// the layer.
    MediaType {
        /// The layer's index in [`Manifest::layers`].
        layer: usize,
        /// The media type in the manifest.
        stated: String,
    },
}

impl Manifest {
    /// Returns the flaws of the original manifest.
    pub fn flaws(&self) -> Vec<Flaw> {
        let strict = self.original.iter().flat_map(|stated| StrictField::find_all(&stated.bytes)).map(Flaw::Strict);
        let flawed = self.layers.iter().enumerate().filter(|(_, layer)| layer.contradicts_media_type());
        let media_types = flawed.map(|(at, layer)| {
            let stated = shown(layer.media_type.as_deref().unwrap_or_default());
            Flaw::MediaType { layer: at, stated }
        });
        strict.chain(media_types).collect()
    }

    /// Returns the manifest to push if no layer changes: the original, or the repaired one.
    pub fn base(&self) -> Option<&OriginalManifest> {
        self.repaired.as_ref().or(self.original.as_ref())
    }

    fn repair(&mut self) -> Result<()> {
        let is_repairable = |flaw: &Flaw| !matches!(flaw, Flaw::Strict(field) if !field.is_repairable());
        let Some(stated) = self.original.as_ref().filter(|_| self.flaws().iter().any(is_repairable)) else {
            return Ok(());
        };
        // Docker's media types have none for zstd.
        let has_zstd = self.layers.iter().any(|layer| layer.is_tar() && layer.compression == Compression::Zstd);
        let is_moved = has_zstd && Family::of(&stated.media_type) == Family::Docker;
        let family = if is_moved { Family::Oci } else { Family::of(&stated.media_type) };
        let repaired = stated.edit(|json| {
            StrictField::remove_all(json);
            if is_moved {
                let config = json.get_mut("config")?.as_object_mut()?;
                config.insert("mediaType".into(), family.config().into());
                json["mediaType"] = family.manifest().into();
            }
            let listed = json.get_mut("layers").and_then(Value::as_array_mut);
            for (layer, descriptor) in self.zip_uploaded(listed.into_iter().flatten()) {
                if layer.contradicts_media_type() || (is_moved && layer.is_tar()) {
                    descriptor.as_object_mut()?.insert("mediaType".into(), family.layer(layer.compression).into());
                }
            }
            Some(())
        })?;
        self.repaired = Some(repaired);
        Ok(())
    }

    /// Pairs the layers that are uploaded with their items in a list of all layers.
    pub(super) fn zip_uploaded<T>(&self, all: impl Iterator<Item = T>) -> impl Iterator<Item = (&Layer, T)> {
        let is_omitted = |at: usize| self.non_distributable.iter().any(|layer| layer.at == at);
        let uploaded = all.enumerate().filter(move |(at, _)| !is_omitted(*at)).map(|(_, item)| item);
        self.layers.iter().zip(uploaded)
    }
}

impl Image {
    /// Repairs the original manifests. Manifests that change get a new digest, and so do the indexes above them.
    ///
    /// # Errors
    /// If a manifest cannot be corrected.
    pub fn repair(&mut self) -> Result<()> {
        self.content.repair()
    }
}

impl Content {
    fn repair(&mut self) -> Result<()> {
        match self {
            Self::Manifest(manifest) => manifest.repair(),
            Self::Index(index) => {
                index.children.iter_mut().try_for_each(|child| child.content.repair())?;
                if StrictField::find_all(&index.original.bytes).into_iter().any(StrictField::is_repairable) {
                    index.repaired = Some(index.original.edit(|json| {
                        StrictField::remove_all(json);
                        Some(())
                    })?);
                }
                Ok(())
            }
        }
    }

    /// Returns whether this manifest or index, or one below it, was repaired.
    pub fn is_repaired(&self) -> bool {
        self.all().into_iter().any(|content| match content {
            Self::Manifest(manifest) => manifest.repaired.is_some(),
            Self::Index(index) => index.repaired.is_some(),
        })
    }
}

impl Layer {
    /// Returns whether the media type states another compression than that of the bytes.
    fn contradicts_media_type(&self) -> bool {
        let stated = self.media_type.as_deref().and_then(|media_type| MediaType(media_type).compression());
        stated.is_some_and(|stated| stated != self.compression)
    }
}
