//! The state as files: every repository is a folder that is a valid OCI image layout.
//!
//! No file is ever incomplete: files are staged and renamed. Nothing outside the folder is changed: names of
//! repositories cannot leave it, and a symbolic link instead of a repository is rejected.
//!
//! A repository may be called `a/blobs` or `a/index.json`, which are also files of the layout of `a`. A
//! component that is a name in the layout therefore gets a `%` at its end, which no name can contain, so no
//! two repositories ever share a path. So does a first component that is the host of a registry of ECR, since the folder of that
//! name has the repositories of that registry.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use axum::body::Bytes;
use serde_json::{Value, json};

use super::repository::{Facts, Image, LARGEST_MANIFEST, Repo, Settings};
use super::upload::{Blob, Staged};
use crate::error::{Error, Result};
use crate::oci::{Digest, Host, Repository, Tag};

/// The words of the image layout (<https://github.com/opencontainers/image-spec/blob/main/image-layout.md>).
const LAYOUT_WORDS: [&str; 3] = ["blobs", "index.json", "oci-layout"];
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation of `index.json` with the settings of a repository.
const SETTINGS: &str = "ecr-push.sandbox.settings";
/// The staging folder for uploads. No repository's name begins with a dot, and no other program uses this name.
const STAGING: &str = ".ecr-push-uploads";
const LOCK: &str = ".lock";
/// The file in the staging folder that becomes a document.
const DOCUMENT: &str = "file";

/// The folder with the state.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    /// The lock, which is held until this is dropped.
    _lock: File,
}

impl Folder {
    /// Opens the folder, which may be new, and reads its content.
    pub(super) fn open(root: &Path) -> Result<(Self, BTreeMap<Repository, Repo>)> {
        let fail = |error: io::Error| {
            Error::usage(format!("cannot keep the sandbox's images in {}", root.display())).because(error)
        };
        fs::create_dir_all(root).map_err(fail)?;
        let lock = File::options().create(true).truncate(false).write(true).open(root.join(LOCK)).map_err(fail)?;
        if lock.try_lock().is_err() {
            return Err(Error::usage(format!("another sandbox is using {}", root.display()))
                .hint("Stop it, or give each sandbox a folder of its own."));
        }
        let staging = root.join(STAGING);
        make_directory(&staging).and_then(|()| clear(&staging)).map_err(fail)?;
        let folder = Self { root: root.to_owned(), _lock: lock };
        let mut repositories = BTreeMap::new();
        folder.read_below(root, "", &mut repositories)?;
        Ok((folder, repositories))
    }

    /// Reads the repositories in a folder, and those in the folders in it.
    fn read_below(&self, dir: &Path, name: &str, found: &mut BTreeMap<Repository, Repo>) -> Result<()> {
        let fail = |error: io::Error| Error::input(format!("cannot read {}", dir.display())).because(error);
        if let Ok(repository) = name.parse::<Repository>()
            && dir.join("oci-layout").is_file()
        {
            let repo = read_repository(dir).map_err(|error| {
                Error::input(format!("{} is not an image layout that the sandbox can serve", dir.display()))
                    .because(error)
                    .hint("Remove that folder, or start the sandbox on another one.")
            })?;
            found.insert(repository, repo);
        }
        for entry in fs::read_dir(dir).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let Ok(part) = entry.file_name().into_string() else { continue };
            // Not a link: `file_type` does not follow them.
            if !entry.file_type().map_err(fail)?.is_dir() || LAYOUT_WORDS.contains(&part.as_str()) {
                continue;
            }
            // The folder of another registry.
            if name.is_empty() && is_registry(&part) {
                continue;
            }
            let is_escaped = |word: &&str| LAYOUT_WORDS.contains(word) || name.is_empty() && is_registry(word);
            let part = part.strip_suffix('%').filter(is_escaped).unwrap_or(&part);
            let name = if name.is_empty() { part.to_owned() } else { format!("{name}/{part}") };
            // A folder with an invalid name, and everything in it, is not the sandbox's.
            if name.parse::<Repository>().is_ok() {
                self.read_below(&entry.path(), &name, found)?;
            }
        }
        Ok(())
    }

    /// Creates a file for an upload session.
    pub(super) fn stage(&self, id: &str) -> io::Result<Staged> {
        Staged::create(self.root.join(STAGING).join(id))
    }

    /// Moves an uploaded blob to its final path.
    pub(super) fn keep(&self, staged: Staged, name: &Repository, digest: &Digest) -> io::Result<PathBuf> {
        let place = self.blob_path(name, digest)?;
        staged.keep(&place)?;
        Ok(place)
    }

    /// Links a blob into another repository.
    pub(super) fn link(&self, from: &Path, name: &Repository, digest: &Digest) -> io::Result<PathBuf> {
        let place = self.blob_path(name, digest)?;
        // Not every file system has hard links.
        if !place.exists() && fs::hard_link(from, &place).is_err() {
            let aside = self.root.join(STAGING).join(digest.hex());
            fs::copy(from, &aside)?;
            fs::rename(&aside, &place)?;
        }
        Ok(place)
    }

    /// Writes a manifest.
    pub(super) fn write_blob(&self, name: &Repository, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        let place = self.blob_path(name, digest)?;
        self.write(&place, bytes)
    }

    /// Writes the `index.json` of a repository: every tag, and every image that no other one refers to.
    pub(super) fn write_index(&self, name: &Repository, repo: &Repo) -> io::Result<()> {
        let dir = self.directory(name)?;
        let mut manifests = Vec::new();
        for (tag, digest) in &repo.tags {
            if let Some(image) = repo.images.get(digest) {
                let mut descriptor = image.descriptor(digest);
                descriptor["annotations"] = json!({REF_NAME: tag});
                manifests.push(descriptor);
            }
        }
        let mut reachable: HashSet<&Digest> = repo.tags.values().collect();
        reachable.extend(repo.images.values().flat_map(|image| &image.facts.children));
        let loose = repo.images.iter().filter(|(digest, _)| !reachable.contains(digest));
        manifests.extend(loose.map(|(digest, image)| image.descriptor(digest)));
        let settings = serde_json::to_string(&repo.settings)?;
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests,
            "annotations": {SETTINGS: settings},
        });
        preserve(&dir)?;
        self.write(&dir.join("index.json"), &serde_json::to_vec_pretty(&index)?)?;
        // Last, because a folder is a repository once this file exists.
        let layout = dir.join("oci-layout");
        if layout.exists() { Ok(()) } else { self.write(&layout, br#"{"imageLayoutVersion":"1.0.0"}"#) }
    }

    /// Removes a repository, and no repository below it. What is not the sandbox's own stays.
    pub(super) fn remove(&self, name: &Repository) -> io::Result<()> {
        let dir = self.directory(name)?;
        // First, because a folder without this file is no repository.
        fs::remove_file(dir.join("oci-layout"))?;
        fs::remove_dir_all(dir.join("blobs"))?;
        fs::remove_file(dir.join("index.json"))?;
        // It stays if it holds other repositories or files.
        fs::remove_dir(dir).ok();
        Ok(())
    }

    fn write(&self, place: &Path, bytes: &[u8]) -> io::Result<()> {
        // One writer at a time: the store is locked.
        let aside = self.root.join(STAGING).join(DOCUMENT);
        fs::remove_file(&aside).ok();
        let mut staged = Staged::create(aside)?;
        staged.write_all(bytes)?;
        staged.keep(place)
    }

    fn blob_path(&self, name: &Repository, digest: &Digest) -> io::Result<PathBuf> {
        Ok(self.directory(name)?.join("blobs").join("sha256").join(digest.hex()))
    }

    /// Creates the folder of a repository with the folders for its blobs.
    fn directory(&self, name: &Repository) -> io::Result<PathBuf> {
        let mut dir = self.root.clone();
        for (at, part) in name.as_str().split('/').enumerate() {
            let is_reserved = LAYOUT_WORDS.contains(&part) || at == 0 && is_registry(part);
            dir.push(if is_reserved { format!("{part}%") } else { part.to_owned() });
            make_directory(&dir)?;
        }
        make_directory(&dir.join("blobs"))?;
        make_directory(&dir.join("blobs").join("sha256"))?;
        Ok(dir)
    }
}

/// Returns whether a folder of this name has the images of another registry: it is the registry's host.
fn is_registry(name: &str) -> bool {
    name.parse::<Host>().is_ok_and(|host| host.ecr().is_some())
}

/// Removes files of an earlier sandbox from the staging folder, and no files with other names.
fn clear(staging: &Path) -> io::Result<()> {
    for entry in fs::read_dir(staging)? {
        let entry = entry?;
        let is_ours = entry.file_name().to_str().is_some_and(is_staged);
        if is_ours && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Returns whether a name is that of a staged file: a document, the ID of an upload session, a digest in hex.
fn is_staged(name: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_id = || {
        let parts: Vec<&str> = name.split('-').collect();
        parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(|part| hex(part))
    };
    name == DOCUMENT || name.len() == 64 && hex(name) || is_id()
}

/// Creates a folder, unless it exists. A link to one is rejected: its target may be anywhere.
fn make_directory(dir: &Path) -> io::Result<()> {
    match fs::symlink_metadata(dir) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(io::Error::other(format!("{} is in the way", dir.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir(dir),
        Err(error) => Err(error),
    }
}

/// Saves the `index.json` of a layout that another program wrote under another name before it is replaced: it may
/// contain names and annotations that the sandbox does not know.
fn preserve(dir: &Path) -> io::Result<()> {
    let (index, original) = (dir.join("index.json"), dir.join("index.json.original"));
    let bytes = match fs::read(&index) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read?,
    };
    if serde_json::from_slice::<Value>(&bytes).is_ok_and(|index| index["annotations"][SETTINGS].is_string()) {
        return Ok(());
    }
    let mut file = File::options().write(true).create_new(true).open(&original)?;
    file.write_all(&bytes)
}

/// Reads a layout, which another program may have written.
fn read_repository(dir: &Path) -> io::Result<Repo> {
    let blobs_dir = dir.join("blobs").join("sha256");
    let mut blobs = HashMap::new();
    for entry in fs::read_dir(&blobs_dir)? {
        let entry = entry?;
        let digest = entry.file_name().into_string().ok().and_then(|hex| format!("sha256:{hex}").parse().ok());
        let metadata = entry.metadata()?;
        if let Some(digest) = digest
            && metadata.is_file()
        {
            blobs.insert(digest, Blob::File(entry.path(), metadata.len()));
        }
    }
    let index: Value = serde_json::from_slice(&fs::read(dir.join("index.json"))?)?;
    let settings = index["annotations"][SETTINGS].as_str().map(serde_json::from_str::<Settings>).transpose()?;
    let mut repo = Repo::new(settings.unwrap_or_default());
    if let Ok(created) = fs::metadata(dir.join("oci-layout")).and_then(|layout| layout.modified()) {
        repo.created = created;
    }
    let mut wanted = Vec::new();
    for descriptor in index["manifests"].as_array().into_iter().flatten() {
        let Some(digest) = descriptor["digest"].as_str().and_then(|text| text.parse::<Digest>().ok()) else {
            return Err(io::Error::other("index.json names something that is not a sha256 digest"));
        };
        // The name may be any text, but only a tag can be requested.
        if let Some(tag) = descriptor["annotations"][REF_NAME].as_str()
            && tag.parse::<Tag>().is_ok()
        {
            repo.tags.insert(tag.to_owned(), digest);
        }
        wanted.push((digest, descriptor["mediaType"].as_str().unwrap_or_default().to_owned()));
    }
    while let Some((digest, media_type)) = wanted.pop() {
        if repo.images.contains_key(&digest) {
            continue;
        }
        let (bytes, pushed) = read_manifest(&blobs, &digest)?;
        let facts = Facts::of(&bytes);
        wanted.extend(facts.children.iter().copied().zip(facts.child_types.iter().cloned()));
        repo.images.insert(digest, Image { bytes, media_type, pushed, facts });
    }
    blobs.retain(|digest, _| !repo.images.contains_key(digest));
    repo.blobs = blobs;
    Ok(repo)
}

/// Reads a manifest, which is small enough to be checked.
fn read_manifest(blobs: &HashMap<Digest, Blob>, digest: &Digest) -> io::Result<(Bytes, SystemTime)> {
    let Some(Blob::File(path, size)) = blobs.get(digest) else {
        return Err(io::Error::other(format!("the manifest {} is missing", digest.short())));
    };
    if *size > LARGEST_MANIFEST as u64 {
        return Err(io::Error::other(format!("the manifest {} has {size} bytes", digest.short())));
    }
    let bytes = fs::read(path)?;
    if Digest::of(&bytes) != *digest {
        return Err(io::Error::other(format!("the manifest {} has another digest", digest.short())));
    }
    Ok((bytes.into(), fs::metadata(path)?.modified()?))
}
