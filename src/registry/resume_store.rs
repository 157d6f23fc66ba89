//! Interrupted uploads, stored for the next run.
//!
//! One small file per layer, in a folder beside the layer cache, holds the URL of its upload session and its offset. A run
//! locks the file while it lives, so that two concurrent runs never share a session; the operating system releases the lock
//! of a killed process. An entry that cannot be used is ignored, and losing one costs no more than sending that layer again.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::oci::{Digest, Repository};

/// The number of acknowledged bytes from which a layer gets an entry.
///
/// Measured: an entry costs 24 µs, another 4 µs per chunk, and one request to resume, so it would pay from the first chunk on.
/// But a session in the store stays open until the registry removes it, which should be the exception, and 16 MiB are sent
/// again within two seconds at 100 Mbit/s.
pub const MIN_RESUMABLE_SIZE: u64 = 16 << 20;

/// Returns whether a layer of `total` bytes before compression may ever get an entry. Compression adds little.
pub(crate) fn may_be_resumed(total: u64) -> bool {
    total >= MIN_RESUMABLE_SIZE / 2
}

/// The maximum age of an entry: distribution removes sessions after 168 hours
/// (<https://distribution.github.io/distribution/about/configuration/#maintenance>), and no registry is known to keep them
/// longer.
const MAX_AGE: Duration = Duration::from_secs(168 * 60 * 60);

/// The maximum size of an entry in bytes.
const MAX_ENTRY_SIZE: u64 = 16 << 10;

/// The folder of interrupted uploads.
#[derive(Debug)]
pub(crate) struct ResumeStore {
    folder: PathBuf,
    /// The number of entries when it was opened.
    len: usize,
    /// Entries that are too old.
    expired: Vec<PathBuf>,
}

/// The URL and the offset of an upload session.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Checkpoint {
    /// Identifies the upload: registry, repository, blob and compression.
    about: String,
    /// The URL of the session.
    pub(super) location: String,
    /// The number of acknowledged bytes.
    pub(super) offset: u64,
    /// Whether the session is that of a stream: nothing was acknowledged. Without a URL it is closed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_stream: bool,
    /// Whether the blob was streamed in this session or an earlier one, so that it is not streamed again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) was_streamed: bool,
}

impl ResumeStore {
    /// Opens the store beside a cache file. Changes nothing on disk. Entries that are too old do not count.
    pub(crate) fn beside(cache: &Path) -> Self {
        let (folder, mut len, mut expired) = (cache.with_extension("uploads"), 0, Vec::new());
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let modified = entry.metadata().and_then(|data| data.modified());
            let age = modified.ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
            if !is_entry(&entry.file_name().to_string_lossy()) {
                continue;
            }
            match age {
                Some(age) if age > MAX_AGE => expired.push(entry.path()),
                _ => len += 1,
            }
        }
        Self { folder, len, expired }
    }

    /// Removes the entries that are too old, as far as possible.
    #[must_use]
    pub(crate) fn pruned(mut self) -> Self {
        self.expired.drain(..).for_each(|path| drop(fs::remove_file(path)));
        self
    }

    /// Returns the number of interrupted uploads of earlier runs.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the entry of one blob in one repository, locked if it exists.
    pub(super) fn entry(&self, registry: &str, repository: &Repository, blob: &str) -> ResumeEntry {
        let about = format!("{registry}/{repository} {blob}");
        let hash = Digest::of(about.as_bytes()).short();
        let name = hash.rsplit(':').next().unwrap_or_default();
        let mut entry = ResumeEntry {
            path: self.folder.join(format!("{name}.json")),
            about,
            file: None,
            earlier: None,
            noted: None,
            was_streamed: false,
        };
        if let Ok(file) = File::options().read(true).write(true).open(&entry.path)
            && file.try_lock().is_ok()
        {
            entry.earlier = read(&file).filter(|checkpoint| checkpoint.about == entry.about);
            entry.file = Some(file);
        }
        entry
    }
}

/// The entry of one blob.
#[derive(Debug)]
pub(super) struct ResumeEntry {
    path: PathBuf,
    about: String,
    /// The file, locked, if there is one.
    file: Option<File>,
    /// The checkpoint of an earlier run.
    earlier: Option<Checkpoint>,
    /// What the file says of this run.
    noted: Option<Noted>,
    /// Whether this run or an earlier one streamed the blob.
    was_streamed: bool,
}

/// What an entry says of the upload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Noted {
    /// An offset at which the next run can resume.
    Offset,
    /// That the blob is streamed, and in which session.
    Stream,
}

impl ResumeEntry {
    /// Returns the checkpoint of an earlier run, once.
    pub(super) fn take(&mut self) -> Option<Checkpoint> {
        let earlier = self.earlier.take();
        self.was_streamed |= earlier.as_ref().is_some_and(|checkpoint| checkpoint.was_streamed);
        earlier
    }

    /// Stores that the blob is streamed in the session at `location`: if that is interrupted, the next run sends chunks.
    pub(super) fn note_stream(&mut self, location: &Url) {
        self.was_streamed = true;
        self.noted = self.store(location.as_str(), 0, Noted::Stream);
    }

    /// Stores the offset of the upload, once it is large enough or if its session is stored. Ignores a file that cannot be
    /// written.
    pub(super) fn note(&mut self, location: &Url, offset: u64) {
        if offset >= MIN_RESUMABLE_SIZE || self.noted == Some(Noted::Stream) {
            self.noted = self.store(location.as_str(), offset, Noted::Offset);
        }
    }

    /// Returns what the next run can resume.
    pub(super) fn noted(&self) -> Option<Noted> {
        self.noted
    }

    /// Notes that the upload failed, and that its session is closed.
    pub(super) fn abandon(&mut self) {
        if self.was_streamed {
            self.store("", 0, Noted::Stream);
            self.noted = None;
        } else {
            self.remove();
        }
    }

    fn store(&mut self, location: &str, offset: u64, noted: Noted) -> Option<Noted> {
        let (about, location, was_streamed) = (self.about.clone(), location.into(), self.was_streamed);
        let is_stream = noted == Noted::Stream;
        let checkpoint = Checkpoint { about, location, offset, is_stream, was_streamed };
        self.write(&checkpoint).is_ok().then_some(noted)
    }

    /// Removes the entry.
    pub(super) fn remove(&mut self) {
        (self.earlier, self.noted, self.was_streamed) = (None, None, false);
        if let Some(file) = self.file.take() {
            // Emptied first: another run may have opened it already.
            file.set_len(0).and_then(|()| fs::remove_file(&self.path)).ok();
            // Fails if the folder has other entries.
            self.path.parent().map(fs::remove_dir);
        }
    }

    fn write(&mut self, checkpoint: &Checkpoint) -> io::Result<()> {
        let text = serde_json::to_vec(checkpoint)?;
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                if let Some(folder) = self.path.parent() {
                    fs::create_dir_all(folder)?;
                }
                let file = private().read(true).write(true).create(true).truncate(false).open(&self.path)?;
                file.try_lock()?;
                self.file.insert(file)
            }
        };
        // A reader ignores half an entry, which is the worst that a killed writer leaves.
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&text)?;
        file.set_len(text.len() as u64)
    }
}

/// Returns whether a file name is that of an entry.
fn is_entry(name: &str) -> bool {
    let hash = name.strip_suffix(".json");
    hash.is_some_and(|hash| hash.len() == 12 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn read(file: &File) -> Option<Checkpoint> {
    let mut text = Vec::new();
    file.take(MAX_ENTRY_SIZE).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Creates files that only their owner can read: the URL of a session can grant access to it.
#[cfg(unix)]
fn private() -> fs::OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = File::options();
    options.mode(0o600);
    options
}

#[cfg(not(unix))]
fn private() -> fs::OpenOptions {
    File::options()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(name: &str) -> (ResumeStore, PathBuf) {
        let folder = std::env::temp_dir().join(format!("ecr-push-resume-{name}-{}", std::process::id()));
        let cache = folder.join("layers.jsonl");
        (ResumeStore::beside(&cache), folder)
    }

    fn entry(store: &ResumeStore, blob: &str) -> ResumeEntry {
        store.entry("registry", &"team/app".parse().unwrap(), blob)
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn the_next_run_resumes_an_upload_and_a_concurrent_run_does_not() {
        let (store, folder) = store("next");
        let (here, there) = (url("http://r/1?_state=a"), url("http://r/1?_state=b"));
        let mut first = entry(&store, "blob");
        assert_eq!(first.take(), None);
        first.note(&here, MIN_RESUMABLE_SIZE - 1);
        assert!(first.noted().is_none() && !folder.exists(), "a small layer has no entry");
        first.note(&here, MIN_RESUMABLE_SIZE);
        first.note(&there, MIN_RESUMABLE_SIZE + 7);
        assert_eq!(first.noted(), Some(Noted::Offset));
        assert_eq!(entry(&store, "blob").take(), None, "the first run has locked the entry");
        let mut concurrent = entry(&store, "blob");
        concurrent.note(&here, MIN_RESUMABLE_SIZE);
        assert_eq!(concurrent.noted(), None);
        // As if the first run had been killed.
        drop((first, concurrent));
        assert_eq!(entry(&store, "another").take(), None);
        let mut next = entry(&store, "blob");
        let checkpoint = next.take().unwrap();
        assert_eq!((checkpoint.location, checkpoint.offset), (there.to_string(), MIN_RESUMABLE_SIZE + 7));
        next.remove();
        assert!(!store.folder.exists());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_next_run_knows_that_a_blob_was_streamed_until_it_is_uploaded() {
        let (store, folder) = store("stream");
        let mut first = entry(&store, "blob");
        first.note_stream(&url("http://r/1"));
        assert_eq!(first.noted(), Some(Noted::Stream));
        // As if it was killed.
        drop(first);
        let mut second = entry(&store, "blob");
        let checkpoint = second.take().unwrap();
        assert_eq!((checkpoint.location.as_str(), checkpoint.offset, checkpoint.is_stream), ("http://r/1", 0, true));
        second.abandon();
        drop(second);
        let mut third = entry(&store, "blob");
        let checkpoint = third.take().unwrap();
        assert_eq!((checkpoint.location.as_str(), checkpoint.is_stream), ("", true), "its session is closed");
        third.note(&url("http://r/3"), MIN_RESUMABLE_SIZE);
        assert_eq!(third.noted(), Some(Noted::Offset));
        drop(third);
        let mut fourth = entry(&store, "blob");
        let checkpoint = fourth.take().unwrap();
        assert_eq!((checkpoint.is_stream, checkpoint.was_streamed), (false, true), "chunks can be resumed");
        fourth.note_stream(&url("http://r/4"));
        fourth.note(&url("http://r/5"), 1);
        assert_eq!(fourth.noted(), Some(Noted::Offset), "the session of a stream goes on in chunks");
        fourth.abandon();
        drop(fourth);
        let mut fifth = entry(&store, "blob");
        assert!(fifth.take().unwrap().was_streamed, "until it is uploaded");
        fifth.remove();
        assert!(!folder.join("layers.uploads").exists());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_invalid_entry_is_ignored_and_replaced() {
        let (store, folder) = store("odd");
        let mut first = entry(&store, "blob");
        first.note(&url("http://r/1"), MIN_RESUMABLE_SIZE);
        let path = first.path.clone();
        drop(first);
        let whole = fs::read_to_string(&path).unwrap();
        for invalid in ["", "{", &whole[..whole.len() - 5], &whole.replace("blob", "else"), &"x".repeat(1 << 20)] {
            fs::write(&path, invalid).unwrap();
            let mut entry = entry(&store, "blob");
            assert_eq!(entry.take(), None, "{} bytes", invalid.len());
            entry.note(&url("http://r/2"), MIN_RESUMABLE_SIZE);
        }
        assert_eq!(entry(&store, "blob").take().unwrap().location, "http://r/2");
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions()) & 0o777, 0o600);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_entry_that_is_too_old_is_removed() {
        let (store, folder) = store("old");
        let mut first = entry(&store, "blob");
        first.note(&url("http://r/1"), MIN_RESUMABLE_SIZE);
        let long_ago = SystemTime::now() - MAX_AGE - Duration::from_secs(60);
        first.file.as_ref().unwrap().set_modified(long_ago).unwrap();
        drop(first);
        // Other files in a folder of that name are not entries.
        let others = ["notes.json", "0123456789ab.txt", "0123456789abc.json"].map(|name| store.folder.join(name));
        for other in &others {
            File::create(other).unwrap().set_modified(long_ago).unwrap();
        }
        let store = ResumeStore::beside(&folder.join("layers.jsonl"));
        assert!(fs::read_dir(&store.folder).unwrap().count() > others.len(), "nothing is removed yet");
        let store = store.pruned();
        assert_eq!(fs::read_dir(&store.folder).unwrap().count(), others.len());
        assert!(others.iter().all(|other| other.exists()));
        assert_eq!(entry(&store, "blob").take(), None);
        fs::remove_dir_all(folder).unwrap();
    }
}
