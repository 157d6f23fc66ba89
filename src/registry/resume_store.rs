//! Half-sent layers, remembered for the next run.
//!
//! One small file a layer, in a folder beside the cache: where its upload session is and how far it got. A file is locked
//! for as long as its run lives, so that two runs at once never share a session; the operating system takes the lock from
//! whoever is killed. What does not fit is passed over, and losing a file costs no more than sending that layer again.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::oci::{Digest, Repository};

/// From so many acknowledged bytes on a layer is worth an entry.
///
/// Measured: an entry costs 24 µs from its beginning to its end, 4 µs more a chunk, and one request to take up, so by that it
/// would pay from the first chunk on. But a session that is kept stays open until the registry clears it away, which should
/// be the exception, and 16 MiB are sent again within two seconds on a line of 100 Mbit/s.
pub const MIN_RESUMABLE_SIZE: u64 = 16 << 20;

/// How old an entry can get: distribution clears sessions away after 168 hours
/// (<https://distribution.github.io/distribution/about/configuration/#maintenance>), and nobody is known to keep them longer.
const OLDEST: Duration = Duration::from_secs(168 * 60 * 60);

/// More than any entry of ours has.
const LARGEST: u64 = 16 << 10;

/// The folder of the entries.
#[derive(Debug)]
pub struct ResumeStore {
    folder: PathBuf,
    /// How many entries there were.
    len: usize,
    /// Entries that no registry knows any more.
    old: Vec<PathBuf>,
}

/// Where a session is, and how far it got.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Checkpoint {
    /// What the mark is about: registry, repository, blob and recipe.
    about: String,
    /// Where the session goes on.
    pub(super) location: String,
    /// How many bytes the registry has acknowledged.
    pub(super) offset: u64,
}

impl ResumeStore {
    /// The journal beside a cache file. Changes nothing on disk. Entries that are too old do not count.
    pub fn beside(cache: &Path) -> Self {
        let (folder, mut len, mut old) = (cache.with_extension("uploads"), 0, Vec::new());
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let modified = entry.metadata().and_then(|data| data.modified());
            let age = modified.ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
            if !is_ours(&entry.file_name().to_string_lossy()) {
                continue;
            }
            match age {
                Some(age) if age > OLDEST => old.push(entry.path()),
                _ => len += 1,
            }
        }
        Self { folder, len, old }
    }

    /// Removes the entries that are too old. One that cannot be removed is no worse than it was.
    #[must_use]
    pub fn pruned(mut self) -> Self {
        self.old.drain(..).for_each(|path| drop(fs::remove_file(path)));
        self
    }

    /// How many half-sent layers earlier runs left.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether they left none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The trace of one blob on its way into one repository.
    pub(super) fn trace(&self, registry: &str, repository: &Repository, blob: &str) -> ResumeEntry {
        let about = format!("{registry}/{repository} {blob}");
        let hash = Digest::of(about.as_bytes()).short();
        let name = hash.rsplit(':').next().unwrap_or_default();
        let mut trace = ResumeEntry { path: self.folder.join(format!("{name}.json")), about, file: None, mark: None };
        if let Ok(file) = File::options().read(true).write(true).open(&trace.path)
            && file.try_lock().is_ok()
        {
            trace.mark = read(&file).filter(|mark| mark.about == trace.about);
            trace.file = Some(file);
        }
        trace
    }
}

/// What is remembered of one blob.
#[derive(Debug)]
pub(super) struct ResumeEntry {
    path: PathBuf,
    about: String,
    /// The entry, locked, if there is one.
    file: Option<File>,
    mark: Option<Checkpoint>,
}

impl ResumeEntry {
    /// Where an earlier run left off. Handed out once.
    pub(super) fn take(&mut self) -> Option<Checkpoint> {
        self.mark.take()
    }

    /// Remembers how far the upload got, where that is worth it. What cannot be written is not remembered.
    pub(super) fn note(&mut self, location: &Url, offset: u64) {
        if offset >= MIN_RESUMABLE_SIZE {
            let mark = Checkpoint { about: self.about.clone(), location: location.to_string(), offset };
            self.mark = self.write(&mark).is_ok().then_some(mark);
        }
    }

    /// Whether the next run will know where to go on.
    pub(super) fn is_kept(&self) -> bool {
        self.mark.is_some()
    }

    /// There is nothing to go on with any more.
    pub(super) fn forget(&mut self) {
        self.mark = None;
        if let Some(file) = self.file.take() {
            // Emptied first: another run may have it open already, and wait for the lock.
            file.set_len(0).and_then(|()| fs::remove_file(&self.path)).ok();
            // Which fails where there are others.
            self.path.parent().map(fs::remove_dir);
        }
    }

    fn write(&mut self, mark: &Checkpoint) -> io::Result<()> {
        let text = serde_json::to_vec(mark)?;
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
        // A reader that finds half of it passes it over, and a writer that is killed leaves at worst that.
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&text)?;
        file.set_len(text.len() as u64)
    }
}

/// Whether a file has the name of an entry.
fn is_ours(name: &str) -> bool {
    let hash = name.strip_suffix(".json");
    hash.is_some_and(|hash| hash.len() == 12 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn read(file: &File) -> Option<Checkpoint> {
    let mut text = Vec::new();
    file.take(LARGEST).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Files for their owner's eyes: the address of a session can be as good as a key to it.
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

    fn journal(name: &str) -> (ResumeStore, PathBuf) {
        let folder = std::env::temp_dir().join(format!("ecr-push-journal-{name}-{}", std::process::id()));
        let cache = folder.join("layers.jsonl");
        (ResumeStore::beside(&cache), folder)
    }

    fn trace(journal: &ResumeStore, blob: &str) -> ResumeEntry {
        journal.trace("registry", &"team/app".parse().unwrap(), blob)
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn the_next_run_goes_on_where_this_one_left_off_and_a_run_beside_it_does_not() {
        let (journal, folder) = journal("next");
        let (here, there) = (url("http://r/1?_state=a"), url("http://r/1?_state=b"));
        let mut first = trace(&journal, "blob");
        assert_eq!(first.take(), None);
        first.note(&here, MIN_RESUMABLE_SIZE - 1);
        assert!(!first.is_kept() && !folder.exists(), "a small layer leaves no trace");
        first.note(&here, MIN_RESUMABLE_SIZE);
        first.note(&there, MIN_RESUMABLE_SIZE + 7);
        assert!(first.is_kept());
        assert_eq!(trace(&journal, "blob").take(), None, "while the first run lives, its session is its own");
        let mut beside = trace(&journal, "blob");
        beside.note(&here, MIN_RESUMABLE_SIZE);
        assert!(!beside.is_kept());
        // As if it had been killed.
        drop((first, beside));
        assert_eq!(trace(&journal, "another").take(), None);
        let mut next = trace(&journal, "blob");
        let mark = next.take().unwrap();
        assert_eq!((mark.location, mark.offset), (there.to_string(), MIN_RESUMABLE_SIZE + 7));
        next.forget();
        assert!(!journal.folder.exists());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_does_not_fit_is_passed_over_and_written_anew() {
        let (journal, folder) = journal("odd");
        let mut first = trace(&journal, "blob");
        first.note(&url("http://r/1"), MIN_RESUMABLE_SIZE);
        let path = first.path.clone();
        drop(first);
        let whole = fs::read_to_string(&path).unwrap();
        for odd in ["", "{", &whole[..whole.len() - 5], &whole.replace("blob", "else"), &"x".repeat(1 << 20)] {
            fs::write(&path, odd).unwrap();
            let mut trace = trace(&journal, "blob");
            assert_eq!(trace.take(), None, "{} bytes", odd.len());
            trace.note(&url("http://r/2"), MIN_RESUMABLE_SIZE);
        }
        assert_eq!(trace(&journal, "blob").take().unwrap().location, "http://r/2");
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions()) & 0o777, 0o600);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_entry_that_no_registry_remembers_is_cleared_away() {
        let (journal, folder) = journal("old");
        let mut first = trace(&journal, "blob");
        first.note(&url("http://r/1"), MIN_RESUMABLE_SIZE);
        let long_ago = SystemTime::now() - OLDEST - Duration::from_secs(60);
        first.file.as_ref().unwrap().set_modified(long_ago).unwrap();
        drop(first);
        // What somebody keeps in a folder of that name is his.
        let others = ["notes.json", "0123456789ab.txt", "0123456789abc.json"].map(|name| journal.folder.join(name));
        for other in &others {
            File::create(other).unwrap().set_modified(long_ago).unwrap();
        }
        let journal = ResumeStore::beside(&folder.join("layers.jsonl"));
        assert!(fs::read_dir(&journal.folder).unwrap().count() > others.len(), "nothing is removed yet");
        let journal = journal.pruned();
        assert_eq!(fs::read_dir(&journal.folder).unwrap().count(), others.len());
        assert!(others.iter().all(|other| other.exists()));
        assert_eq!(trace(&journal, "blob").take(), None);
        fs::remove_dir_all(folder).unwrap();
    }
}
