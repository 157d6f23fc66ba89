//! A folder with an OCI layout or a skopeo `dir:`.
//!
//! Only names that the formats define are looked up, and only regular files are opened.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file_names::{BLOBS, INDEX_JSON, MANIFEST_JSON, OCI_LAYOUT, hex_digest};
use super::source::{cannot_open, not_a_file};
use super::tar_index::dangling;
use crate::compress::ByteSource;
use crate::error::Result;
use crate::file;
use crate::oci::Digest;

/// A folder with an OCI layout or a skopeo `dir:`.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// The open files, each once: images share layers, and every open file uses a file descriptor of the process.
    open: RefCell<HashMap<String, ByteSource>>,
}

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), open: RefCell::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the bytes of a file, which stays open, or `None` if there is no such file.
    pub(super) fn find(&self, name: &str) -> Result<Option<ByteSource>> {
        if let Some(open) = self.open.borrow().get(name) {
            return Ok(Some(open.clone()));
        }
        let found = self.open(name)?;
        if let Some(bytes) = &found {
            self.open.borrow_mut().insert(name.to_owned(), bytes.clone());
        }
        Ok(found)
    }

    /// Opens a file, or returns `None` if there is no such file.
    pub(super) fn open(&self, name: &str) -> Result<Option<ByteSource>> {
        let is_defined = [INDEX_JSON, MANIFEST_JSON, OCI_LAYOUT].contains(&name);
        let hex = name.strip_prefix(BLOBS).or_else(|| name.strip_suffix(".manifest.json")).unwrap_or(name);
        if !is_defined && hex_digest(hex).is_none() {
            return Ok(None);
        }
        let path = self.path.join(name);
        // Links are followed: Bazel writes layouts of links into its store. Their targets are hashed before they are
        // trusted, like any other file.
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return fs::read_link(&path).map_or(Ok(None), |target| {
                    Err(dangling(&path.display().to_string(), &target.display().to_string()))
                });
            }
            Err(error) => return Err(cannot_open(&path, error)),
        };
        // Devices must not be opened at all.
        if !metadata.is_file() {
            return Err(not_a_file(&path, &metadata));
        }
        // The file may have been replaced: `file::open` never waits for a pipe.
        let file = file::open(&path).map_err(|error| cannot_open(&path, error))?;
        let metadata = file.metadata().map_err(|error| cannot_open(&path, error))?;
        if !metadata.is_file() {
            return Err(not_a_file(&path, &metadata));
        }
        Ok(Some(ByteSource::new(Arc::new(file), 0, metadata.len())))
    }

    /// Returns whether there is a folder for blobs.
    pub(super) fn has_blobs(&self) -> bool {
        self.path.join(BLOBS).is_dir()
    }

    /// Returns the digests that are names of blobs, in no particular order.
    pub(super) fn blobs(&self) -> Vec<Digest> {
        let entries = fs::read_dir(self.path.join(BLOBS)).into_iter().flatten().flatten();
        entries.filter_map(|entry| hex_digest(entry.file_name().to_str()?)).collect()
    }
}
