//! Documents of archives with many images: they are released once they are checked, and read again for an image that is
//! selected. So the memory for an image does not depend on the size of its manifest and config.

use std::collections::HashMap;

use bytes::Bytes;

use super::contents::Archive;
use super::document::{MAX_LIST, unreadable};
use super::file_names::BlobPaths;
use super::files::Files;
use super::model::{Content, Image};
use crate::compress::ByteSource;
use crate::error::{Code, Error, Result};
use crate::oci::Digest;

impl Content {
    /// Releases the bytes of all documents, at any depth.
    pub(super) fn release(&mut self, files: &Files, paths: BlobPaths) -> Result<()> {
        match self {
            Self::Manifest(manifest) => {
                if let Some(original) = &mut manifest.original {
                    files.release(&mut original.bytes, original.digest, &paths.manifest(original.digest))?;
                }
                let config = &mut manifest.config;
                files.release(&mut config.bytes, config.digest, &paths.blob(config.digest))
            }
            Self::Index(index) => {
                let original = &mut index.original;
                files.release(&mut original.bytes, original.digest, &paths.manifest(original.digest))?;
                index.children.iter_mut().try_for_each(|child| child.content.release(files, paths))
            }
        }
    }

    /// Reads what was released.
    fn load(&mut self, released: &HashMap<Digest, ByteSource>) -> Result<()> {
        match self {
            Self::Manifest(manifest) => {
                if let Some(original) = &mut manifest.original {
                    load(&mut original.bytes, original.digest, released)?;
                }
                load(&mut manifest.config.bytes, manifest.config.digest, released)
            }
            Self::Index(index) => {
                load(&mut index.original.bytes, index.original.digest, released)?;
                index.children.iter_mut().try_for_each(|child| child.content.load(released))
            }
        }
    }
}

impl Archive {
    /// Reads the documents of an image and its referrers that were released.
    ///
    /// # Errors
    /// If the archive was changed since it was opened.
    pub fn load(&self, image: &mut Image) -> Result<()> {
        if self.released.is_empty() {
            return Ok(());
        }
        image.content.load(&self.released)?;
        image.referrers.iter_mut().try_for_each(|referrer| referrer.content.load(&self.released))
    }
}

fn load(bytes: &mut Bytes, digest: Digest, released: &HashMap<Digest, ByteSource>) -> Result<()> {
    let Some(range) = released.get(&digest).filter(|_| bytes.is_empty()) else { return Ok(()) };
    let name = digest.short();
    let read: Bytes = range.read_all(MAX_LIST).map_err(|error| unreadable(&name, error))?.into();
    if Digest::of(&read) != digest {
        let what = format!("{name} of the archive was changed while it was read");
        return Err(Error::input(what).code(Code::ArchiveDamaged).hint("Run the same command again."));
    }
    *bytes = read;
    Ok(())
}
