//! Errors in an original manifest, or what ECR rejects, and the manifest without them.
//!
//! Nothing is repaired by default: a repaired manifest has another digest, to which signatures do not apply.

use serde_json::Value;

use super::model::{Content, Image, Layer, Manifest};
use crate::compress::Compression;
use crate::error::{Result, shown};
use crate::oci::{Family, MediaType, OriginalManifest, StrictField};

/// Something that is wrong with an original manifest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Flaw {
    /// It has a field that ECR rejects. Other registries do not.
    Strict(&'static StrictField),
    /// The media type of a layer states another compression than its bytes have. Clients that believe it fail to decompress
    /// the layer.
    MediaType {
        /// The layer's index in [`Manifest::layers`].
        layer: usize,
        /// What the manifest calls it.
        says: String,
    },
}

impl Manifest {
    /// Returns what is wrong with the original manifest.
    pub fn flaws(&self) -> Vec<Flaw> {
        let strict = self.original.iter().flat_map(|stated| StrictField::find_all(&stated.bytes)).map(Flaw::Strict);
        let flawed = self.layers.iter().enumerate().filter(|(_, layer)| layer.contradicts_media_type());
        let media_types = flawed.map(|(at, layer)| {
            let says = shown(layer.media_type.as_deref().unwrap_or_default());
            Flaw::MediaType { layer: at, says }
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
        // Docker's family has no type for zstd.
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
            for (layer, descriptor) in self.sent(listed.into_iter().flatten()) {
                if layer.contradicts_media_type() || (is_moved && layer.is_tar()) {
                    descriptor.as_object_mut()?.insert("mediaType".into(), family.layer(layer.compression).into());
                }
            }
            Some(())
        })?;
        self.repaired = Some(repaired);
        Ok(())
    }

    /// Pairs the layers that are uploaded with their items in a list about all layers.
    pub(super) fn sent<T>(&self, all: impl Iterator<Item = T>) -> impl Iterator<Item = (&Layer, T)> {
        let is_omitted = |at: usize| self.non_distributable.iter().any(|layer| layer.at == at);
        let sent = all.enumerate().filter(move |(at, _)| !is_omitted(*at)).map(|(_, place)| place);
        self.layers.iter().zip(sent)
    }
}

impl Image {
    /// Repairs the original manifests. Those that change get another digest, and so do the indexes above them.
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

    /// Returns whether it, or something below it, was repaired.
    pub fn is_repaired(&self) -> bool {
        self.all().into_iter().any(|content| match content {
            Self::Manifest(manifest) => manifest.repaired.is_some(),
            Self::Index(index) => index.repaired.is_some(),
        })
    }
}

impl Layer {
    /// Returns whether its media type states another compression than its bytes have.
    fn contradicts_media_type(&self) -> bool {
        let stated = self.media_type.as_deref().and_then(|media_type| MediaType(media_type).compression());
        stated.is_some_and(|stated| stated != self.compression)
    }
}
