//! The archive as a set of named files, whatever form it has: a tar or a folder.
//!
//! Decides by the bytes what a file is, never by its name, and says what to do about those that are no image. Only
//! names that the formats define are looked up in a folder, and only ordinary files are opened.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::tar_index::TarIndex;
use super::{INDEX_JSON, MANIFEST_JSON, OCI_LAYOUT, quoted, shown};
use crate::error::{Error, Result};
use crate::layer::FileRange;
use crate::reference::Digest;

/// Where a layout keeps its blobs.
const BLOBS: &str = "blobs/sha256/";

/// The files of an archive.
#[derive(Debug)]
pub(super) enum Entries {
    /// A folder of files.
    Folder(Folder),
    /// A tar, indexed.
    Tar(TarIndex),
}

/// A folder with an OCI layout in it.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// What is open already: images share layers, and every open file costs one of the process's descriptors.
    open: RefCell<HashMap<String, FileRange>>,
}

impl Entries {
    /// Opens whatever lies at `path`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let metadata = fs::metadata(path).map_err(|error| cannot_open(path, error))?;
        if metadata.is_dir() {
            return Folder::open(path).map(Self::Folder);
        }
        // Before the open, which on a pipe would wait for somebody to write.
        if !metadata.is_file() {
            return Err(Error::input(format!("{} is {}, not a file", path.display(), special(&metadata)))
                .hint("Write the archive into a file first: layers are read by position, and more than once."));
        }
        let file = Arc::new(File::open(path).map_err(|error| cannot_open(path, error))?);
        let mut block = [0; 512];
        let start = FileRange::new(Arc::clone(&file), 0, metadata.len()).read_at(0, &mut block);
        let start = &block[..start.map_err(|error| cannot_open(path, error))?];
        if !is_tar_header(start) {
            return Err(no_image(path, start, metadata.len()));
        }
        let index = TarIndex::read(file, path)?;
        let has = |name| index.names().any(|entry| entry == name);
        if has(MANIFEST_JSON) || (has(INDEX_JSON) && has(OCI_LAYOUT)) {
            return Ok(Self::Tar(index));
        }
        Err(if index.has_end_mark() {
            tar_without_image(path, &index)
        } else {
            index.cut_off(path, "it has no end mark, and neither manifest.json nor index.json with oci-layout")
        })
    }

    /// The bytes of the file `name`, or `None` if the archive has none of that name.
    pub(super) fn find(&self, name: &str) -> Result<Option<FileRange>> {
        match self {
            Self::Folder(folder) => folder.find(name),
            Self::Tar(index) => index.find(name),
        }
    }

    /// The bytes of a file that is looked at once: nothing stays open for it.
    pub(super) fn glance(&self, name: &str) -> Result<Option<FileRange>> {
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

impl Folder {
    fn open(path: &Path) -> Result<Self> {
        let folder = Self { path: path.to_owned(), open: RefCell::default() };
        if folder.find(OCI_LAYOUT)?.is_some() {
            return Ok(folder);
        }
        let error = Error::input(format!("the folder {} is no OCI layout: it has no file oci-layout", path.display()));
        let has = |name: &str| path.join(name).exists();
        Err(if has(MANIFEST_JSON) && has("version") {
            error.hint("This looks like skopeo's own `dir:` form. Copy the image with skopeo to `oci:FOLDER` instead.")
        } else if has(MANIFEST_JSON) {
            error.hint(format!(
                "This looks like an unpacked `docker save`. Pack it again: tar -C {0} -cf image.tar .",
                quoted(&path.display().to_string())
            ))
        } else if has("Dockerfile") || has("Containerfile") {
            error.hint("This looks like what an image is built from. Build it first, into an archive.")
        } else {
            error.hint(
                "Give the folder that holds oci-layout, index.json and blobs/, or a tar written by `docker save`.",
            )
        })
    }

    fn find(&self, name: &str) -> Result<Option<FileRange>> {
        if let Some(open) = self.open.borrow().get(name) {
            return Ok(Some(open.clone()));
        }
        let found = self.look(name)?;
        if let Some(range) = &found {
            self.open.borrow_mut().insert(name.to_owned(), range.clone());
        }
        Ok(found)
    }

    fn look(&self, name: &str) -> Result<Option<FileRange>> {
        let known = [INDEX_JSON, MANIFEST_JSON, OCI_LAYOUT].contains(&name);
        if !known && name.strip_prefix(BLOBS).is_none_or(|hex| !is_hex_digest(hex)) {
            return Ok(None);
        }
        let path = self.path.join(name);
        // Links are followed: Bazel writes layouts of links into its store. What they lead to is hashed before it is
        // believed, like any other bytes.
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(cannot_open(&path, error)),
        };
        if !metadata.is_file() {
            return Err(Error::input(format!("{} is {}, not a file", path.display(), special(&metadata))));
        }
        let file = File::open(&path).map_err(|error| cannot_open(&path, error))?;
        Ok(Some(FileRange::new(Arc::new(file), 0, metadata.len())))
    }
}

/// Whether the text is 64 lower-case hex digits: safe as a file's name, and a digest.
pub(super) fn is_hex_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What sort of thing it is that is not a file.
fn special(metadata: &fs::Metadata) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = metadata.file_type();
        if kind.is_fifo() {
            return "a pipe";
        } else if kind.is_socket() {
            return "a socket";
        } else if kind.is_block_device() || kind.is_char_device() {
            return "a device";
        }
    }
    if metadata.is_dir() { "a folder" } else { "something else" }
}

fn cannot_open(path: &Path, error: io::Error) -> Error {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => Error::input(format!("there is no file {path}")),
        io::ErrorKind::PermissionDenied => Error::input(format!("no permission to read {path}")).because(error),
        _ => Error::input(format!("cannot read {path}")).because(error),
    }
}

/// Whether the block is a tar header: its checksum says so. An empty tar starts with zeros and is no image.
fn is_tar_header(start: &[u8]) -> bool {
    let Ok(block) = <&[u8; 512]>::try_from(start) else { return false };
    let digits = block[148..156].trim_ascii().split(|byte| matches!(byte, 0 | b' ')).next().unwrap_or_default();
    let stated = str::from_utf8(digits).ok().and_then(|digits| u32::from_str_radix(digits, 8).ok());
    let others = block[..148].iter().chain(&block[156..]);
    stated == Some(others.map(|byte| u32::from(*byte)).sum::<u32>() + 8 * u32::from(b' '))
}

/// Says what a file is that is no tar.
fn no_image(path: &Path, start: &[u8], len: u64) -> Error {
    const SAVE: &str =
        "Give a tar written by `docker save`, `podman save`, kaniko, crane or BuildKit, or an OCI layout.";
    let (name, file) = (path.display(), quoted(&path.display().to_string()));
    let packed = |what: &str, command: String| {
        Error::input(format!("{name} is compressed with {what}, which is not read yet"))
            .hint(format!("Unpack it first: {command}"))
    };
    let other = |what: &str| Error::input(format!("{name} is {what}, not an image archive")).hint(SAVE);
    match start {
        [] => other("empty"),
        [0x1f, 0x8b, ..] => packed("gzip", format!("gunzip -k {file}")),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => packed("zstd", format!("zstd -d {file}")),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => packed("xz", format!("xz -dk {file}")),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => packed("bzip2", format!("bunzip2 -k {file}")),
        [0x04, 0x22, 0x4d, 0x18, ..] => packed("lz4", format!("lz4 -d {file}")),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => packed("zip", format!("unzip {file}")),
        [b'7', b'z', 0xbc, 0xaf, ..] => packed("7-Zip", format!("7z x {file}")),
        [0x7f, b'E', b'L', b'F', ..] => other("a program (ELF)"),
        [b'M', b'Z', ..] => other("a Windows program"),
        [b'h', b's', b'q', b's', ..] => other("a SquashFS file system"),
        start if start.iter().all(|byte| *byte == 0) => other("nothing but zeros, like an empty tar"),
        start => no_image_but_text(start).map_or_else(
            || {
                let first: Vec<_> = start.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
                let short = if len < 512 { " (shorter than the smallest tar; perhaps cut off)" } else { "" };
                other(&format!("no tar: {len} bytes that start with {}{short}", first.join(" ")))
            },
            |(what, hint)| other(what).hint(if hint.is_empty() { SAVE } else { hint }),
        ),
    }
}

/// What a text is, and what to do about it.
fn no_image_but_text(start: &[u8]) -> Option<(&'static str, &'static str)> {
    // The block may end inside a character.
    let text = match str::from_utf8(start) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => str::from_utf8(&start[..error.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    if text.chars().any(|char| char.is_control() && !char.is_whitespace()) {
        return None;
    }
    let word = |line: &str| line.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or_default();
    Some(match text.trim_start() {
        text if text.starts_with("version https://git-lfs") => {
            ("a Git LFS pointer", "Fetch the file itself: git lfs pull")
        }
        text if text.starts_with(['{', '[']) => ("JSON", "Give the archive or the folder that this file belongs to."),
        text if text.starts_with('<') => ("a web page or XML", "Perhaps a download that failed: look into it."),
        _ if ["FROM", "ARG"].contains(&word(first).as_str()) => {
            ("a Dockerfile", "Build the image first, into an archive.")
        }
        _ => ("text", ""),
    })
}

/// Says what a tar is that holds no image.
fn tar_without_image(path: &Path, index: &TarIndex) -> Error {
    let mut names: Vec<_> = index.names().collect();
    names.sort_unstable();
    let has = |name: &str| names.binary_search(&name).is_ok();
    let name = path.display();
    let nested = names.iter().filter_map(|name| name.split_once('/'));
    let nested = nested.filter(|(_, rest)| [MANIFEST_JSON, OCI_LAYOUT].contains(rest)).map(|(folder, _)| folder).next();
    if has(INDEX_JSON) {
        return Error::input(format!("{name} is an incomplete OCI layout: it has index.json, but no oci-layout"))
            .hint("Save the image again.");
    }
    let error = Error::input(format!("{name} is a tar, but of no image: it has neither manifest.json nor index.json"));
    match nested {
        Some(folder) => {
            let (folder, quoted) = (shown(folder), quoted(folder));
            error.hint(format!(
                "The image lies in its folder {folder}/. Unpack the tar, then pack what is in there: \
                 tar -C {quoted} -cf image.tar ."
            ))
        }
        None if has("Dockerfile") || has("Containerfile") => {
            error.hint("This looks like what an image is built from. Build it first, into an archive.")
        }
        None if names.iter().any(|name| name.starts_with("etc/") || name.starts_with("usr/")) => {
            error.hint("This looks like a file system, as `docker export` writes it. Use `docker save` on the image.")
        }
        None => error
            .hint("Give a tar written by `docker save`, `podman save`, kaniko, crane or BuildKit, or an OCI layout."),
    }
}
