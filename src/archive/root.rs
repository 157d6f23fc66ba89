//! The images and referrers that the descriptors of an archive refer to.

use super::contents::{Contents, Unusable};
use super::model::{Content, Image, Manifest};
use crate::error::{Error, Result};
use crate::oci::{Descriptor, Digest};

/// An error of reading what a descriptor refers to.
pub(super) enum Fault {
    /// The archive does not contain a blob. The other parts of an index that lists it may be usable.
    Absent(Error),
    /// The archive is broken or inconsistent.
    Broken(Error),
    /// It is not a manifest or an index of a supported type.
    Unsupported(Error),
}

impl Fault {
    /// Returns the error to report.
    pub(super) fn into_error(self) -> Error {
        let (Self::Absent(error) | Self::Broken(error) | Self::Unsupported(error)) = self;
        error
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

/// A descriptor of index.json and its content, or a manifest that no document refers to.
pub(super) struct Root {
    pub(super) names: Vec<String>,
    pub(super) descriptor: Descriptor,
    /// The subject in the manifest, if the manifest could be read.
    pub(super) subject: Option<Digest>,
    pub(super) read: Result<Content, Fault>,
}

impl Root {
    /// Returns the manifests that can be pushed.
    pub(super) fn manifests(&self) -> Vec<&Manifest> {
        self.read.iter().flat_map(Content::manifests).collect()
    }

    /// Returns whether the archive does not contain all of the content.
    pub(super) fn is_partial(&self) -> bool {
        match &self.read {
            Ok(Content::Index(index)) if !index.absent().is_empty() => true,
            Ok(content) => content.manifests().into_iter().any(Manifest::is_incomplete),
            Err(_) => true,
        }
    }

    /// Adds the content to the images, or to the images that cannot be pushed.
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
