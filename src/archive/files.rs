//! The archive as a set of named files: a tar or a folder.
//!
//! Of a folder, only names that the formats define are looked up, and only regular files are opened.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::document::{MAX_MANIFEST, MAX_TOTAL, TOO_LARGE, unreadable};
use super::file_names::{BLOBS, INDEX_JSON, MANIFEST_JSON, OCI_LAYOUT, hex_digest};
use super::model::{Layer, LayerFacts};
use super::source::{cannot_open, not_a_file};
use super::tar_index::{TarIndex, dangling};
use crate::compress::ByteSource;
use crate::error::{Advice, Code, Error, Result, shown};
use crate::file;
use crate::oci::Digest;

/// The files of an archive.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) place: Place,
    /// The remaining bytes of the limit for all documents.
    left: Cell<u64>,
    /// Whether documents of many images may be released.
    may_release: bool,
    /// Whether they are.
    releases: Cell<bool>,
    /// The documents that were released.
    released: RefCell<HashMap<Digest, ByteSource>>,
    /// The layers by their bytes: images share them.
    layers: RefCell<HashMap<ByteSource, Vec<Layer>>>,
}

/// The most ways in which the same bytes are stated that are compared.
const MAX_STATEMENTS: usize = 8;

/// The most images whose documents stay in memory.
const MAX_LOADED: usize = 256;

/// What each of more images adds to the limit for all documents: they are not in memory.
const DOCUMENTS_OF_AN_IMAGE: u64 = 16 << 10;

/// The container of the files.
#[derive(Debug)]
pub(super) enum Place {
    /// In a folder.
    Folder(Folder),
    /// In a tar.
    Tar(TarIndex),
}

impl Files {
    /// Creates the files of an archive. `may_release` states whether documents of many images are read again when an image is
    /// selected.
    pub(super) fn new(place: Place, may_release: bool) -> Self {
        Self {
            place,
            left: Cell::new(MAX_TOTAL),
            may_release,
            releases: Cell::new(false),
            released: RefCell::default(),
            layers: RefCell::default(),
        }
    }

    /// Notes how many images are listed.
    pub(super) fn expect(&self, images: usize) {
        if self.may_release && images > MAX_LOADED {
            self.releases.set(true);
            self.left.set(self.left.get().max(MAX_TOTAL) + images as u64 * DOCUMENTS_OF_AN_IMAGE);
        }
    }

    /// Releases the bytes of the document `name` if there are many images.
    pub(super) fn release(&self, bytes: &mut Bytes, digest: Digest, name: &str) -> Result<()> {
        if self.releases.get()
            && let Some(range) = self.find(name)?
        {
            self.released.borrow_mut().insert(digest, range);
            *bytes = Bytes::new();
        }
        Ok(())
    }

    /// Returns the documents that were released, by their digests.
    pub(super) fn into_released(self) -> HashMap<Digest, ByteSource> {
        self.released.into_inner()
    }

    /// Returns a layer, which is shared with equal ones of other images.
    pub(super) fn shared(&self, facts: LayerFacts) -> Layer {
        let mut layers = self.layers.borrow_mut();
        let known = layers.entry(facts.bytes.clone()).or_default();
        // The same bytes are rarely stated in several ways.
        if let Some(layer) = known.iter().take(MAX_STATEMENTS).find(|layer| ***layer == facts) {
            return layer.clone();
        }
        let layer = Layer::from(facts);
        known.push(layer.clone());
        layer
    }

    /// Reads a document and returns its bytes and their digest, or `None` if there is no such file.
    ///
    /// A document that is read again counts again towards the limit for all documents: otherwise indexes that list the same
    /// children many times would take unlimited time and memory.
    pub(super) fn document(&self, name: &str, limit: u64) -> Result<Option<(Bytes, Digest)>> {
        let Some(range) = self.find(name)? else { return Ok(None) };
        let (len, left) = (range.len(), self.left.get());
        if len > limit {
            let what = format!("{} of the archive is {len} bytes long, and the limit is {limit}", shown(name));
            return Err(Error::input(what).code(Code::ArchiveUnsupported).hint(if limit == MAX_MANIFEST {
                TOO_LARGE
            } else {
                "No tool writes one of this size: save the image again."
            }));
        }
        if len > left {
            let what = format!("the manifests and configs of the archive take more than {MAX_TOTAL} bytes");
            return Err(Error::input(what).code(Code::ArchiveUnsupported));
        }
        let bytes = range.read_all(limit).map_err(|error| unreadable(name, error))?;
        self.left.set(left - len);
        let digest = Digest::of(&bytes);
        Ok(Some((bytes.into(), digest)))
    }

    /// Returns the bytes of the file `name`, or `None` if there is no such file.
    pub(super) fn find(&self, name: &str) -> Result<Option<ByteSource>> {
        if name.trim().is_empty() {
            return Err(unnamed());
        }
        match &self.place {
            Place::Folder(folder) => folder.find(name),
            Place::Tar(index) => index.find(name),
        }
    }

    /// Returns the bytes of a file that is read only once, so that a folder does not hold it open.
    pub(super) fn find_once(&self, name: &str) -> Result<Option<ByteSource>> {
        match &self.place {
            Place::Folder(folder) => folder.open(name),
            Place::Tar(index) => index.find(name),
        }
    }

    /// Returns whether there is a folder for blobs; false for a tar that is cut off, since the documents about the blobs may
    /// be missing.
    pub(super) fn has_blobs(&self) -> bool {
        match &self.place {
            Place::Folder(folder) => folder.has_blobs(),
            Place::Tar(index) => index.has_end_mark() && index.names().any(|name| name.starts_with(BLOBS)),
        }
    }

    /// Returns the digests that are names of blobs, in no particular order.
    pub(super) fn blobs(&self) -> Vec<Digest> {
        match &self.place {
            Place::Folder(folder) => folder.blobs(),
            Place::Tar(index) => index.names().filter_map(|name| hex_digest(name.strip_prefix(BLOBS)?)).collect(),
        }
    }
}

/// Returns the error that manifest.json lists a file with an empty name.
fn unnamed() -> Error {
    Error::input("manifest.json of the archive names a layer or a config by an empty name")
        .code(Code::ArchiveIncomplete)
        .because("some tools leave out layers that the Docker daemon already has")
        .hint(
            Advice::new("Load the archive into that daemon, then save the whole image:")
                .command("docker load -i ARCHIVE && docker save -o image.tar IMAGE"),
        )
}

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
