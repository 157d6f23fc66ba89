//! What a stated manifest says that is not so, or that ECR refuses, and the manifest without it.
//!
//! Nothing of that is done by itself: a manifest that was repaired has another digest, and signatures are no longer its.

use serde_json::Value;

use super::model::{Content, Image, Layer, Manifest};
use super::shown;
use crate::compress::Compression;
use crate::error::Result;
use crate::oci::{Family, MediaType, OriginalManifest, StrictField};

/// Something that is wrong with a stated manifest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Flaw {
    /// It has a field that ECR rejects. Other registries do not.
    Strict(&'static StrictField),
    /// The media type of a layer says that it is packed in another way than it is. Who pulls the image may believe it and
    /// fail to unpack the layer.
    MediaType {
        /// The layer's place in [`Manifest::layers`].
        layer: usize,
        /// What the manifest calls it.
        says: String,
    },
}

impl Manifest {
    /// What is wrong with the stated manifest.
    pub fn flaws(&self) -> Vec<Flaw> {
        let strict = self.original.iter().flat_map(|stated| StrictField::find_all(&stated.bytes)).map(Flaw::Strict);
        let flawed = self.layers.iter().enumerate().filter(|(_, layer)| layer.contradicts_media_type());
        let media_types = flawed.map(|(at, layer)| {
            let says = shown(layer.media_type.as_deref().unwrap_or_default());
            Flaw::MediaType { layer: at, says }
        });
        strict.chain(media_types).collect()
    }

    /// The manifest that is put if no layer changes: the stated one, or that without its flaws.
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

    /// The layers that are not kept by reference, each with its place in a list of all.
    pub(super) fn sent<T>(&self, all: impl Iterator<Item = T>) -> impl Iterator<Item = (&Layer, T)> {
        let is_foreign = |at: usize| self.non_distributable.iter().any(|foreign| foreign.at == at);
        let sent = all.enumerate().filter(move |(at, _)| !is_foreign(*at)).map(|(_, place)| place);
        self.layers.iter().zip(sent)
    }
}

impl Image {
    /// Takes out of the stated manifests what is wrong with them. Those that were flawed get another digest, and so do the
    /// indexes above them.
    ///
    /// # Errors
    /// If a stated manifest cannot be corrected.
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
    /// Whether its bytes are packed in another way than its media type says.
    fn contradicts_media_type(&self) -> bool {
        let stated = self.media_type.as_deref().and_then(|media_type| MediaType(media_type).compression());
        stated.is_some_and(|stated| stated != self.compression)
    }
}
