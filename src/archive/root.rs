//! The images and referrers that the descriptors of an archive lead to.

use super::contents::{Contents, Unusable};
use super::model::{Content, Image, Manifest};
use crate::error::{Error, Result};
use crate::oci::{Descriptor, Digest};

/// Why something could not be read.
pub(super) enum Fault {
    /// The archive does not contain a blob. An index that names it may be good in part.
    Absent(Error),
    /// The archive is broken or inconsistent.
    Broken(Error),
    /// Nothing that can be pushed.
    Unknown(Error),
}

impl Fault {
    /// Returns the error to report.
    pub(super) fn into_error(self) -> Error {
        let (Self::Absent(error) | Self::Broken(error) | Self::Unknown(error)) = self;
        error
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

/// A descriptor of index.json and what it leads to, or a manifest that nothing names.
pub(super) struct Root {
    pub(super) names: Vec<String>,
    pub(super) descriptor: Descriptor,
    /// The subject that it states, if that could be read.
    pub(super) subject: Option<Digest>,
    pub(super) read: Result<Content, Fault>,
}

impl Root {
    /// Returns the manifests that can be pushed.
    pub(super) fn manifests(&self) -> Vec<&Manifest> {
        self.read.iter().flat_map(Content::manifests).collect()
    }

    /// Returns whether the archive does not contain all of it.
    pub(super) fn is_partial(&self) -> bool {
        match &self.read {
            Ok(Content::Index(index)) if !index.absent().is_empty() => true,
            Ok(content) => content.manifests().into_iter().any(Manifest::lacks_layers),
            Err(_) => true,
        }
    }

    /// Adds it to the images, or to what cannot be pushed.
    pub(super) fn add_to(self, contents: &mut Contents) {
        contents.is_partial |= self.is_partial();
        let Self { names, descriptor, read, .. } = self;
        match read {
            Ok(content) => contents.add(Image::new(names, content)),
            Err(fault) => {
                contents.unusable.push(Unusable { names, id: descriptor.digest.sha256(), error: fault.into_error() });
            }
        }
    }
}
