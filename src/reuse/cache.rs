//! The local layer cache: the blobs to which an uncompressed layer was compressed before.
//!
//! It is a small file of JSON lines, each with a diff_id and the digest of the compressed bytes. Both hashes were computed by
//! this program, in one pass over the bytes; claims of a tag or an archive are never recorded. So the cache can be trusted,
//! and only the registry has to confirm that the blob still exists. Each line is appended by a single write, so concurrent
//! runs do not corrupt the file. If it is lost, layers are compressed and uploaded again.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::recent::Recent;
use crate::compress::{Compression, CompressionSpec};
use crate::file;
use crate::oci::{DiffId, Digest};

/// The size in bytes above which the older half of the file is removed when it is opened: about 4,000 layers.
const FILE_LIMIT: u64 = 1 << 20;

/// The most uncompressed layers that a run remembers: more than a file has, and some MiB of memory.
const MAX_LAYERS: usize = 16_384;

/// A blob to which an uncompressed layer was compressed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct CachedLayer {
    /// The uncompressed layer.
    pub diff_id: DiffId,
    /// The blob.
    pub digest: Digest,
    /// The blob's size in bytes.
    pub size: u64,
    /// The compression of the blob.
    #[serde(rename = "packing")]
    pub compression: Compression,
    /// The name of the [`CompressionSpec`] that compressed it.
    pub recipe: String,
    /// The time to compress and send it, in milliseconds. Older lines do not have it, and older versions ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
}

impl CachedLayer {
    /// Creates the entry of a layer that was sent.
    pub(crate) fn new(diff_id: DiffId, digest: Digest, size: u64, spec: CompressionSpec) -> Self {
        Self { diff_id, digest, size, compression: spec.compression(), recipe: spec.name(), took_ms: None }
    }

    /// Sets the time to compress and send it.
    #[must_use]
    pub(crate) fn with_time(self, took: Duration) -> Self {
        Self { took_ms: u64::try_from(took.as_millis()).ok(), ..self }
    }

    /// Returns whether this entry has all the information of `other`.
    fn covers(&self, other: &Self) -> bool {
        Self { took_ms: None, ..self.clone() } == Self { took_ms: None, ..other.clone() }
            && (self.took_ms.is_some() || other.took_ms.is_none())
    }
}

/// The local layer cache.
#[derive(Debug, Default)]
pub(crate) struct LayerCache(Mutex<State>);

#[derive(Debug)]
struct State {
    /// The file. `None` if there is none, or if it cannot be written.
    path: Option<PathBuf>,
    entries: Recent<DiffId, Vec<CachedLayer>>,
}

impl Default for State {
    fn default() -> Self {
        Self { path: None, entries: Recent::new(MAX_LAYERS) }
    }
}

impl LayerCache {
    /// Reads the cache file, if there is one, and removes the older half of one that is too long. Lines that cannot be parsed
    /// are skipped.
    ///
    /// # Errors
    /// If the file cannot be read or is not a cache: it stays unchanged. A push works without a cache.
    pub(crate) fn open(path: Option<PathBuf>) -> io::Result<Self> {
        let cache = Self::read(path.clone())?;
        if let Some(path) = &path
            && let Some(text) = text_of(path)?.filter(|text| text.len() as u64 > FILE_LIMIT)
        {
            let lines = parse(&text);
            // A line that another run appends at this moment is lost, which costs one upload. A file that cannot be
            // shortened can still be read.
            let newer = lines[lines.len() / 2..].iter().map(line).collect::<io::Result<String>>()?;
            let _stays_long = replace(path, &newer);
        }
        Ok(cache)
    }

    /// Reads the cache file, if there is one, and leaves it unchanged.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub(crate) fn read(path: Option<PathBuf>) -> io::Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let Some(text) = text_of(&path)? else { return Ok(Self::default()) };
        let mut state = State { path: Some(path), ..State::default() };
        for entry in parse(&text) {
            state.entries.get_or_insert(&entry.diff_id, Vec::new).push(entry);
        }
        Ok(Self(Mutex::new(state)))
    }

    /// Returns the number of entries.
    pub(crate) fn len(&self) -> usize {
        self.state().entries.values().map(Vec::len).sum()
    }

    /// Returns the blobs to which the uncompressed layer was compressed before, newest first.
    pub(crate) fn find(&self, diff_id: &DiffId) -> Vec<CachedLayer> {
        self.state().entries.get(diff_id).map(|entries| entries.iter().rev().cloned().collect()).unwrap_or_default()
    }

    /// Returns the time to compress and send the layer, if it was recorded.
    pub(crate) fn took(&self, diff_id: &DiffId) -> Option<Duration> {
        self.find(diff_id).into_iter().find_map(|known| known.took_ms).map(Duration::from_millis)
    }

    /// Records a blob, unless it is known.
    ///
    /// # Errors
    /// Once, if the file cannot be written; later calls do not write. The error contains the path. A push works without a
    /// cache.
    pub(crate) fn record(&self, entry: CachedLayer) -> io::Result<()> {
        let mut state = self.state();
        let known = state.entries.get_or_insert(&entry.diff_id, Vec::new);
        if known.iter().any(|known| known.covers(&entry)) {
            return Ok(());
        }
        let text = line(&entry)?;
        known.push(entry);
        if let Some(path) = state.path.take() {
            append(&path, &text)
                .map_err(|error| io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display())))?;
            state.path = Some(path);
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn append(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = file::open_to_write(File::options().read(true).append(true).create(true), path)?;
    check(&mut file)?;
    // A single write at the end of the file. The newline before the text ends an incomplete line of a process that was
    // killed.
    file.write_all(format!("\n{text}").as_bytes())
}

/// Returns the text of a cache file, empty if there is none; `None` for a device, which stores nothing.
fn text_of(path: &Path) -> io::Result<Option<String>> {
    let mut file = match file::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(String::new())),
        opened => opened?,
    };
    if is_device(&file.metadata()?) {
        return Ok(None);
    }
    check(&mut file)?;
    read_newest(file).map(Some)
}

fn parse(text: &str) -> Vec<CachedLayer> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The start of each line, as [`CachedLayer`] is written.
const BEGINNING: &[u8] = b"{\"diff_id\":";

/// Checks that a file is empty or a cache.
fn check(file: &mut File) -> io::Result<()> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    file.seek(SeekFrom::Start(0))?;
    let mut head = Vec::new();
    Read::by_ref(file).take(1 << 10).read_to_end(&mut head)?;
    let first = head.trim_ascii_start().split(|byte| *byte == b'\n').next().unwrap_or_default();
    // A process that was killed may have written only the first bytes of a line.
    let known = first.len().min(BEGINNING.len());
    if first[..known] == BEGINNING[..known] {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a layer cache, and is left unchanged"))
}

/// Replaces the content of a cache file in place: a new file would replace a symbolic link.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut file = file::open_to_write(File::options().read(true).write(true), path)?;
    check(&mut file)?;
    file.seek(SeekFrom::Start(0))?;
    file.set_len(0)?;
    file.write_all(text.as_bytes())
}

/// Returns whether the file is a device, such as `/dev/null`, which stores nothing.
fn is_device(metadata: &Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        metadata.file_type().is_char_device()
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        false
    }
}

fn line(entry: &CachedLayer) -> io::Result<String> {
    Ok(serde_json::to_string(entry)? + "\n")
}

/// Reads the end of the file, at most twice the limit: the newest lines are last.
fn read_newest(mut file: File) -> io::Result<String> {
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(2 * FILE_LIMIT)))?;
    let mut bytes = Vec::new();
    file.take(2 * FILE_LIMIT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::GzipEncoder;

    fn entry(n: u64) -> CachedLayer {
        let (diff_id, digest) = (DiffId::of(&n.to_le_bytes()), Digest::of(&n.to_be_bytes()));
        CachedLayer::new(diff_id, digest, n, CompressionSpec::Gzip(GzipEncoder::default()))
    }

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("ecr-push-{name}-{}", std::process::id())).join("layers.jsonl")
    }

    #[test]
    fn recorded_entries_are_found_newest_first_by_the_next_run() {
        let path = path("cache");
        let cache = LayerCache::open(Some(path.clone())).unwrap();
        let (first, mut second) = (entry(1), entry(2));
        second.diff_id = first.diff_id;
        for known in [&first, &second, &first] {
            cache.record(known.clone()).unwrap();
        }
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"half a li").unwrap();
        let again = LayerCache::open(Some(path.clone())).unwrap();
        assert_eq!(again.find(&first.diff_id), [second, first]);
        assert_eq!(again.find(&entry(3).diff_id), []);
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_line_with_a_time_and_one_without_are_both_read() {
        let path = path("times");
        let cache = LayerCache::open(Some(path.clone())).unwrap();
        let timed = entry(1).with_time(Duration::from_millis(1500));
        // A known entry is written again only to add a time that was missing.
        for known in [entry(1), timed.clone(), entry(1).with_time(Duration::from_secs(9)), entry(1)] {
            cache.record(known).unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().filter(|line| !line.is_empty()).count(), 2, "{text}");
        assert!(text.contains("\"took_ms\":1500") && !text.contains("null"), "{text}");
        let again = LayerCache::open(Some(path.clone())).unwrap();
        assert_eq!(again.find(&timed.diff_id), [timed.clone(), entry(1)]);
        assert_eq!(again.took(&timed.diff_id), Some(Duration::from_millis(1500)));
        assert_eq!(again.took(&entry(2).diff_id), None);
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn the_older_half_of_a_file_that_is_too_large_is_removed() {
        let path = path("large");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text: String = (0..6000).map(|n| line(&entry(n)).unwrap()).collect();
        assert!(text.len() as u64 > FILE_LIMIT);
        fs::write(&path, text).unwrap();
        LayerCache::open(Some(path.clone())).unwrap();
        assert!(fs::metadata(&path).unwrap().len() < FILE_LIMIT);
        let again = LayerCache::open(Some(path.clone())).unwrap();
        assert!(again.find(&entry(5999).diff_id).len() == 1 && again.find(&entry(0).diff_id).is_empty());
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_symbolic_link_is_not_replaced() {
        let path = path("linked");
        let folder = path.parent().unwrap();
        fs::create_dir_all(folder).unwrap();
        let text: String = (0..6000).map(|n| line(&entry(n)).unwrap()).collect();
        fs::write(folder.join("elsewhere"), text).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        LayerCache::open(Some(path.clone())).unwrap();
        assert!(path.symlink_metadata().unwrap().is_symlink());
        assert!(fs::metadata(folder.join("elsewhere")).unwrap().len() < FILE_LIMIT);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_is_not_a_cache_is_left_unchanged() {
        let path = path("other");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let large = "notes\n".repeat(300_000);
        for text in ["notes", &large, "{\"diff\": 1}", "\0\0"] {
            fs::write(&path, text).unwrap();
            assert!(LayerCache::open(Some(path.clone())).is_err());
            // Also if it appears after the cache was opened.
            fs::remove_file(&path).unwrap();
            let cache = LayerCache::open(Some(path.clone())).unwrap();
            fs::write(&path, text).unwrap();
            assert!(cache.record(entry(1)).is_err());
            assert!(fs::read_to_string(&path).unwrap() == text);
        }
        for torn in ["{\"dif", "\n{\"diff_id\":\"sha", "\n\n", ""] {
            fs::write(&path, torn).unwrap();
            LayerCache::open(Some(path.clone())).unwrap().record(entry(1)).unwrap();
            assert_eq!(LayerCache::open(Some(path.clone())).unwrap().len(), 1, "{torn}");
        }
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn without_a_file_entries_exist_for_the_run_only() {
        let cache = LayerCache::open(None).unwrap();
        cache.record(entry(1)).unwrap();
        assert_eq!(cache.find(&entry(1).diff_id), [entry(1)]);
    }
}
