//! Inspection of an archive: its content, and whether its layers have the stated digests. Works offline.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::archive::{Archive, Image, Layer};
use crate::compress::{ByteSource, CompressionSpec, LayerSummary, Pool, compress, size};
use crate::error::{Error, Result};
use crate::sync::lock;

/// The limit for threads. Each needs half a MiB of memory, and a window in addition if it decompresses zstd.
const MAX_THREADS: usize = 6;

/// The result of an inspection.
#[derive(Debug)]
pub(crate) struct Inspection {
    /// The archive, with all images or the selected one.
    pub archive: Archive,
    /// The number of images in the archive, selected or not.
    pub all: usize,
    /// The verified layers, if they were read.
    pub verified: Option<Verified>,
}

/// The layers of an archive, verified.
#[derive(Debug)]
pub(crate) struct Verified {
    blobs: HashMap<ByteSource, Result<LayerSummary>>,
}

/// The progress of reading the layers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Progress {
    /// The number of bytes read.
    pub read: u64,
    /// The number of bytes to read.
    pub total: u64,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = u128::from(self.read) * 100 / u128::from(self.total.max(1));
        write!(f, "{percent:>3} % of {} read and hashed", size(self.total))
    }
}

impl Inspection {
    /// Returns all errors, each once: that no image can be pushed, and, if the layers were read, each mismatch.
    pub(crate) fn faults(&self) -> Vec<Error> {
        let Some(verified) = &self.verified else { return self.archive.has_image().err().into_iter().collect() };
        let unusable = self.archive.unusable.iter().map(|unusable| unusable.error.clone());
        let none = self.archive.has_image().err();
        let mismatches = layers(&self.archive).filter_map(|layer| verified.layer(layer).err());
        let mut seen = HashSet::new();
        unusable.chain(none).chain(mismatches).filter(|fault| seen.insert(fault.to_string())).collect()
    }
}

impl Verified {
    /// Returns the digests of a layer.
    ///
    /// # Errors
    /// Of [`Kind::Input`](crate::error::Kind::Input) if it cannot be read, or if they are not those that the archive states.
    pub(crate) fn layer(&self, layer: &Layer) -> Result<LayerSummary> {
        let summary = self.blobs.get(&layer.bytes).cloned();
        let summary = summary.unwrap_or_else(|| Err(Error::input(format!("layer {} was not read", layer.name))))?;
        layer.check(unchanged(layer), &summary)?;
        Ok(summary)
    }

    /// Returns the digests of a layer, even if they are not those that the archive states; `None` if it cannot be read.
    pub(crate) fn found(&self, layer: &Layer) -> Option<LayerSummary> {
        self.blobs.get(&layer.bytes)?.as_ref().ok().copied()
    }

    /// Returns the number of different layers that were read, and their size in bytes.
    pub(crate) fn read(&self) -> (usize, u64) {
        (self.blobs.len(), self.blobs.keys().map(ByteSource::len).sum())
    }

    /// Returns the number of different layers that do not match the archive.
    pub(crate) fn wrong(&self, archive: &Archive) -> usize {
        let wrong = layers(archive).filter(|layer| self.layer(layer).is_err());
        wrong.map(|layer| &layer.bytes).collect::<HashSet<_>>().len()
    }
}

/// Reads and decompresses every layer of an archive and hashes both, several layers at once, and the same bytes once.
///
/// `watch` is called with the progress, from several threads. The result has the errors of layers.
pub(crate) fn verify(archive: &Archive, watch: &(dyn Fn(Progress) + Sync)) -> Verified {
    // One of several layers with the same bytes may be in an artifact, and have no diff_id to compare.
    let mut distinct: HashMap<&ByteSource, &Layer> = HashMap::new();
    for layer in layers(archive) {
        let known = distinct.entry(&layer.bytes).or_insert(layer);
        if known.diff_id.is_none() {
            *known = layer;
        }
    }
    let total = distinct.keys().map(|bytes| bytes.len()).sum();
    let mut queue: Vec<&Layer> = distinct.into_values().collect();
    // The largest first, so that none of them is the last one.
    queue.sort_by_key(|layer| (std::cmp::Reverse(layer.bytes.len()), layer.bytes.start()));

    let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS).min(queue.len());
    // Nothing is compressed, so only the buffers of the pool are used.
    let pool = Pool::start(0);
    let (next, read) = (AtomicUsize::new(0), AtomicU64::new(0));
    let blobs = Mutex::new(HashMap::new());
    let work = || {
        while let Some(layer) = queue.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut position = 0;
            let summary = compress(layer.bytes.reader(), layer.bytes.len(), unchanged(layer), &pool, |block| {
                let more = block.position - position;
                position = block.position;
                watch(Progress { read: read.fetch_add(more, Ordering::Relaxed) + more, total });
                ControlFlow::Continue(())
            });
            let summary = summary.map_err(|error| layer.unreadable(error));
            lock(&blobs).insert(layer.bytes.clone(), summary);
        }
    };
    thread::scope(|scope| {
        for n in 1..threads {
            // If it cannot be started, the other threads do the work.
            let _fewer = thread::Builder::new().name(format!("verify-{n}")).spawn_scoped(scope, work);
        }
        work();
    });
    Verified { blobs: blobs.into_inner().unwrap_or_else(PoisonError::into_inner) }
}

/// Returns the layers of all images and referrers that the archive contains, each as often as it is listed.
fn layers(archive: &Archive) -> impl Iterator<Item = &Layer> {
    let referrers = archive.referrers_of_all().into_iter().filter_map(|(_, referrer)| referrer.ok());
    let referrers = referrers.flat_map(|referrer| referrer.content.manifests());
    let layers =
        archive.images.iter().flat_map(Image::manifests).chain(referrers).flat_map(|manifest| &manifest.layers);
    layers.filter(|layer| !layer.bytes.is_missing())
}

/// Returns the spec by which a layer is read: unchanged, and also decompressed if there is a diff_id to compare.
fn unchanged(layer: &Layer) -> CompressionSpec {
    CompressionSpec::Keep { compression: layer.compression, decompress: layer.diff_id.is_some() }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;

    use super::*;
    use crate::archive::{self, ChildProcesses, Source, Spool};

    fn archive(name: &str) -> Archive {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
        let spool = Spool {
            folder: Path::new("/nowhere"),
            watch: &|_| ControlFlow::Continue(()),
            handler: None,
            processes: &ChildProcesses::default(),
        };
        archive::list(&Source::Path(path), &spool).unwrap()
    }

    #[test]
    fn common_layers_are_read_once() {
        for name in ["docker-20.10-save-many.tar", "skopeo-oci-layout-multiarch"] {
            let archive = archive(name);
            let seen = Mutex::new(Vec::new());
            let verified = verify(&archive, &|progress| seen.lock().unwrap().push(progress));
            let (blobs, bytes) = verified.read();
            assert_eq!((layers(&archive).count(), blobs), (4, 3), "{name}");
            let seen = seen.into_inner().unwrap();
            assert!(seen.iter().all(|progress| progress.total == bytes), "{name}: {seen:?}");
            assert_eq!(seen.iter().map(|progress| progress.read).max(), Some(bytes), "{name}");
            assert_eq!(verified.wrong(&archive), 0, "{name}");
        }
    }

    #[test]
    fn progress_is_formatted_at_the_limits() {
        let text = |read, total| Progress { read, total }.to_string();
        assert_eq!(text(0, 0), "  0 % of 0 B read and hashed");
        assert_eq!(text(1 << 19, 1 << 20), " 50 % of 1.0 MiB read and hashed");
        assert_eq!(text(u64::MAX, u64::MAX), "100 % of 16777216.0 TiB read and hashed");
    }

    #[test]
    fn a_layer_that_an_image_and_an_artifact_share_is_decompressed_for_the_image() {
        let mut archive = archive("podman-oci-archive.tar");
        let mut artifact = archive.images[0].clone();
        if let archive::Content::Manifest(manifest) = &mut artifact.content {
            manifest.layers.iter_mut().for_each(|layer| layer.diff_id = None);
        }
        for at in [0, 2] {
            archive.images.insert(at, artifact.clone());
            let verified = verify(&archive, &|_| ());
            assert_eq!(verified.read().0, 3);
            let found = layers(&archive).filter_map(|layer| verified.found(layer)?.diff_id);
            assert_eq!(found.count(), layers(&archive).count(), "all have a diff_id");
        }
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error_of_each_layer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.tar");
        std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/docker-20.10-save.tar"), &path).unwrap();
        let archive = {
            let spool = Spool {
                folder: folder.path(),
                watch: &|_| ControlFlow::Continue(()),
                handler: None,
                processes: &ChildProcesses::default(),
            };
            archive::list(&Source::Path(path.clone()), &spool).unwrap()
        };
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        let verified = Some(verify(&archive, &|_| ()));
        let faults = Inspection { archive, all: 1, verified }.faults();
        assert_eq!(faults.len(), 3);
        assert!(faults.iter().all(|fault| fault.to_string().starts_with("cannot read layer ")), "{faults:?}");
    }
}
