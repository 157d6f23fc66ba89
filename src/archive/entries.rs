//! The archive as a set of named files, whatever form it has: a tar or a folder.
//!
//! Only names that the formats define are looked up in a folder, and only ordinary files are opened there.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnose::{OLD_FORMAT, resave, tar_without_image};
use super::skopeo_dir;
use super::source::{Source, cannot_open, no_file};
use super::spool::Spool;
use super::tar_index::{TarIndex, dangling};
use super::{INDEX_JSON, MANIFEST_JSON, OCI_LAYOUT, quoted};
use crate::compress::ByteSource;
use crate::error::{Code, Error, Result};
use crate::file;
use crate::oci::Digest;

/// Where a layout keeps its blobs.
pub(super) const BLOBS: &str = "blobs/sha256/";

/// The files of an archive.
#[derive(Debug)]
pub(super) enum Entries {
    /// A folder of files.
    Folder(Folder),
    /// A tar, indexed.
    Tar(TarIndex),
}

/// A folder with an OCI layout or a skopeo `dir:` in it.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// What is open already: images share layers, and every open file costs one of the process's descriptors.
    open: RefCell<HashMap<String, ByteSource>>,
}

impl Entries {
    /// Opens whatever `source` is, and tells what was written for that, if anything was.
    pub(super) fn open(source: &Source, spool: &Spool<'_>) -> Result<(Self, Option<String>)> {
        if let Source::Path(path) = source
            && path.is_dir()
        {
            return Ok((Self::Folder(Folder::open(path)?), None));
        }
        let (index, note) = spool.tar(source)?;
        let has = |name| index.names().any(|entry| entry == name);
        // Without an end mark oci-layout may be cut off, and manifest.json with it.
        let is_layout =
            || has(OCI_LAYOUT) || (index.has_end_mark() && index.names().any(|name| name.starts_with(BLOBS)));
        if has(MANIFEST_JSON) || (has(INDEX_JSON) && is_layout()) {
            return Ok((Self::Tar(index), note));
        }
        Err(if index.has_end_mark() {
            tar_without_image(source, &index)
        } else {
            index.cut_off(source, "it has no end mark, and neither manifest.json nor index.json with oci-layout")
        })
    }

    /// The bytes of the file `name`, or `None` if the archive has none of that name.
    pub(super) fn find(&self, name: &str) -> Result<Option<ByteSource>> {
        if name.trim().is_empty() {
            return Err(unnamed());
        }
        match self {
            Self::Folder(folder) => folder.find(name),
            Self::Tar(index) => index.find(name),
        }
    }

    /// The bytes of a file that is looked at once: nothing stays open for it.
    pub(super) fn glance(&self, name: &str) -> Result<Option<ByteSource>> {
        match self {
            Self::Folder(folder) => folder.look(name),
            Self::Tar(index) => index.find(name),
        }
    }

    /// The digests by whose names there are blobs, in no order.
    pub(super) fn blobs(&self) -> Vec<Digest> {
        let digest = |hex: &str| format!("sha256:{hex}").parse().ok();
        match self {
            Self::Folder(folder) => {
                let entries = fs::read_dir(folder.path.join(BLOBS)).into_iter().flatten().flatten();
                entries.filter_map(|entry| digest(entry.file_name().to_str()?)).collect()
            }
            Self::Tar(index) => index.names().filter_map(|name| digest(name.strip_prefix(BLOBS)?)).collect(),
        }
    }
}

/// Returns the error that manifest.json has an empty name in place of a file's.
fn unnamed() -> Error {
    Error::input("manifest.json of the archive names a layer or a config by an empty name")
        .code(Code::ArchiveIncomplete)
        .because("some tools leave out layers that the Docker daemon has already")
        .hint(resave("Load the archive into that daemon, then save the whole image:", "docker load -i ARCHIVE"))
}

impl Folder {
    fn open(path: &Path) -> Result<Self> {
        let folder = Self { path: path.to_owned(), open: RefCell::default() };
        let manifest = folder.find(MANIFEST_JSON)?;
        let is_manifest = manifest.as_ref().map(skopeo_dir::is_manifest).transpose()?.unwrap_or_default();
        if is_manifest || folder.find(OCI_LAYOUT)?.is_some() {
            return Ok(folder);
        }
        if manifest.is_none() && folder.find(INDEX_JSON)?.is_some() && path.join(BLOBS).is_dir() {
            return Ok(folder);
        }
        let error = Error::input(format!("the folder {} is no OCI layout: it has no file oci-layout", path.display()))
            .code(Code::ArchiveUnrecognized);
        let has = |name: &str| path.join(name).exists();
        Err(if manifest.is_some() {
            error.hint(format!(
                "This looks like an unpacked `docker save`. Pack it again:\n  tar -C {0} -cf image.tar .",
                quoted(&path.display().to_string())
            ))
        } else if has("repositories") {
            let folder = quoted(&path.display().to_string());
            error.hint(resave(OLD_FORMAT, &format!("tar -C {folder} -c . | docker load")))
        } else if has("Dockerfile") || has("Containerfile") {
            error.hint("This looks like what an image is built from. Build it first, into an archive.")
        } else {
            error.hint(
                "Give the folder that holds oci-layout, index.json and blobs/, one that skopeo wrote with `dir:`, or a \
                 tar written by `docker save`.",
            )
        })
    }

    fn find(&self, name: &str) -> Result<Option<ByteSource>> {
        if let Some(open) = self.open.borrow().get(name) {
            return Ok(Some(open.clone()));
        }
        let found = self.look(name)?;
        if let Some(range) = &found {
            self.open.borrow_mut().insert(name.to_owned(), range.clone());
        }
        Ok(found)
    }

    fn look(&self, name: &str) -> Result<Option<ByteSource>> {
        let known = [INDEX_JSON, MANIFEST_JSON, OCI_LAYOUT].contains(&name);
        let hex = name.strip_prefix(BLOBS).or_else(|| name.strip_suffix(".manifest.json")).unwrap_or(name);
        if !known && !is_hex_digest(hex) {
            return Ok(None);
        }
        let path = self.path.join(name);
        // Links are followed: Bazel writes layouts of links into its store. What they lead to is hashed before it is
        // believed, like any other bytes.
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return fs::read_link(&path).map_or(Ok(None), |target| {
                    Err(dangling(&path.display().to_string(), &target.display().to_string()))
                });
            }
            Err(error) => return Err(cannot_open(&path, error)),
        };
        // Devices are not opened at all.
        if !metadata.is_file() {
            return Err(no_file(&path, &metadata));
        }
        // By now it may be another one: a pipe is not waited for.
        let file = file::open(&path).map_err(|error| cannot_open(&path, error))?;
        let metadata = file.metadata().map_err(|error| cannot_open(&path, error))?;
        if !metadata.is_file() {
            return Err(no_file(&path, &metadata));
        }
        Ok(Some(ByteSource::new(Arc::new(file), 0, metadata.len())))
    }
}

/// Whether the text is 64 lower-case hex digits: safe as a file's name, and a digest.
pub(super) fn is_hex_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
