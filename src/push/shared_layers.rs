//! Large layers that several images have, as they were compressed, in temporary files: for registries that mount nothing.
//!
//! There, each repository gets its own copy, and 60 images of a bundle would compress their base layers 60 times. The files are
//! only a shortcut. Where one cannot be written or read, layers are compressed again.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use tracing::debug;

use super::plan::PlannedLayer;
use super::spool::SpooledLayer;
use crate::archive::DiskSpace;
use crate::compress::{CompressionSpec, Pool};
use crate::error::{Code, Error, Kind, Result, root_cause};
use crate::file;
use crate::reuse::Recent;
use crate::sync::lock;

/// The least bytes of a layer in the archive: a smaller one is compressed again within milliseconds.
const LEAST: u64 = 1 << 20;

/// The most files that are retained.
const MOST: usize = 64;

/// The part of the files that the process may have open: connections and archives need the others.
const PART_OF_OPEN_FILES: u64 = 8;

/// The number of bytes in retained files from which on old files are removed for a new one.
const LIMIT: u64 = 4 << 30;

/// The files of a run.
pub(super) struct SharedLayers {
    folder: PathBuf,
    pool: Arc<Pool>,
    /// By the identity of the layer.
    layers: Mutex<Recent<String, Entry>>,
    /// No more files are written, and none is retained.
    is_off: AtomicBool,
    /// It is reported that a layer is too large.
    is_reported: AtomicBool,
}

#[derive(Default)]
struct Entry {
    /// The file, as long as it is read or retained.
    file: Weak<SpooledLayer>,
    /// The file, once it is complete.
    retained: Option<Arc<SpooledLayer>>,
}

impl SharedLayers {
    /// Returns a store for files in a folder.
    pub(super) fn new(folder: PathBuf, pool: &Arc<Pool>) -> Self {
        let layers = Mutex::new(Recent::new(most_files(file::open_files_limit())));
        Self {
            folder,
            pool: Arc::clone(pool),
            layers,
            is_off: AtomicBool::default(),
            is_reported: AtomicBool::default(),
        }
    }

    /// Returns the file of a layer, if it has one or gets one. `fill` starts to compress the layer into it.
    pub(super) fn open(
        &self,
        layer: &PlannedLayer,
        fill: impl FnOnce(&Arc<SpooledLayer>) -> io::Result<()>,
    ) -> Option<Arc<SpooledLayer>> {
        let identity = layer.identity().filter(|_| is_worth_a_file(layer) && !self.is_off.load(Ordering::Relaxed))?;
        let mut layers = lock(&self.layers);
        let known = layers.get(&identity).and_then(|entry| entry.file.upgrade());
        if let Some(file) = known.filter(|file| !file.has_failed()) {
            return Some(file);
        }
        if !layer.is_shared {
            return None;
        }
        while retained(&layers) >= LIMIT && layers.evict() {}
        let created = loop {
            match self.create(layer, retained(&layers)) {
                Err(error) if is_too_large(&error) => {
                    // Without the older ones, others are compressed again, perhaps in vain.
                    if retained(&layers) < layer.layer.bytes.len() || !layers.evict() {
                        if !self.is_reported.swap(true, Ordering::Relaxed) {
                            debug!("large layers that several images have are compressed for each: {error}");
                        }
                        return None;
                    }
                }
                created => break created,
            }
        };
        let why = |error: io::Error| Error::new(Kind::Unavailable, "no thread can be started").because(error);
        match created.and_then(|file| fill(&file).map(|()| file).map_err(why)) {
            Ok(file) => {
                let entry = Entry { file: Arc::downgrade(&file), retained: None };
                *layers.get_or_insert(&identity, Entry::default) = entry;
                Some(file)
            }
            Err(error) => {
                self.give_up(&mut layers, &error);
                None
            }
        }
    }

    /// Retains a file that was read to its end.
    pub(super) fn retain(&self, layer: &PlannedLayer, file: &Arc<SpooledLayer>) {
        let Some(identity) = layer.identity() else { return };
        if let Some(entry) = lock(&self.layers).get(&identity)
            && std::ptr::eq(entry.file.as_ptr(), Arc::as_ptr(file))
        {
            entry.retained = Some(Arc::clone(file));
        }
    }

    /// Notes that a file cannot be read to its end.
    pub(super) fn note_failure(&self, file: &SpooledLayer, error: &Error) {
        if file.has_no_space() {
            self.give_up(&mut lock(&self.layers), error);
        }
    }

    /// Creates a file beside others that have so many bytes.
    fn create(&self, layer: &PlannedLayer, retained: u64) -> Result<Arc<SpooledLayer>> {
        let (what, len) = (format!("layer {}", layer.label()), layer.layer.bytes.len());
        let layer = SpooledLayer::create(what, &self.folder, 0, &self.pool)?;
        if file::is_in_memory(layer.file()) {
            return Err(Error::input(format!("the temporary folder {} is in memory", self.folder.display())));
        }
        // Half of the space is for archives, which need it: they are decompressed meanwhile.
        DiskSpace::of(layer.file(), &self.folder).check(&"the set of these layers", 0, retained.saturating_add(len))?;
        Ok(layer)
    }

    /// Writes no more files, and removes those that are there: others need the space, or the open files.
    fn give_up(&self, layers: &mut Recent<String, Entry>, error: &Error) {
        while layers.evict() {}
        if !self.is_off.swap(true, Ordering::Relaxed) {
            let because = error.source().map(|_| format!(": {}", root_cause(error))).unwrap_or_default();
            debug!("layers that several images have are compressed for each: {error}{because}");
        }
    }
}

/// Returns whether there is too little space for a layer, though perhaps enough for others.
fn is_too_large(error: &Error) -> bool {
    error.stable_code() == Code::ResourcesExhausted
}

/// Returns how many files are retained at most if the process may have so many open.
fn most_files(limit: Option<u64>) -> usize {
    limit.and_then(|limit| usize::try_from(limit / PART_OF_OPEN_FILES).ok()).map_or(MOST, |part| part.min(MOST))
}

/// Returns the bytes of all files that are retained.
fn retained(layers: &Recent<String, Entry>) -> u64 {
    layers.values().filter_map(|entry| entry.retained.as_ref()).map(|file| file.len()).sum()
}

fn is_worth_a_file(layer: &PlannedLayer) -> bool {
    let bytes = &layer.layer.bytes;
    !matches!(layer.spec, CompressionSpec::Keep { .. }) && bytes.len() >= LEAST && !bytes.is_consumed()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tokio::sync::mpsc;

    use super::*;
    use crate::compress::{ByteSource, DataBlock, LayerSummary};
    use crate::oci::DiffId;
    use crate::push::fixtures::{self, counting_reader, planned};
    use crate::registry::LayerData;

    /// A layer of 3 MiB in a file.
    fn layer(is_shared: bool) -> PlannedLayer {
        let bytes: Vec<u8> = (0..3_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 27) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let mut layer = fixtures::layer(1);
        layer.diff_id = Some(DiffId::of(&bytes));
        layer.bytes = ByteSource::new(Arc::new(file), 0, bytes.len() as u64);
        let mut layer = planned(layer, &[]);
        layer.is_shared = is_shared;
        layer
    }

    async fn all(mut receiver: mpsc::Receiver<LayerData>) -> (Vec<u8>, LayerSummary) {
        let mut bytes = Vec::new();
        loop {
            match receiver.recv().await.unwrap() {
                LayerData::Data(block) => bytes.extend_from_slice(&block.bytes),
                LayerData::End(summary) => return (bytes, summary),
                LayerData::Failed(error) => panic!("{error}"),
            }
        }
    }

    #[tokio::test]
    async fn a_layer_that_several_images_have_is_compressed_once() {
        let (readings, reader) = counting_reader();
        let mut layer = layer(true);
        let (one, other) = tokio::join!(all(reader.read(&layer)), all(reader.read(&layer)));
        // The next image comes when no other one reads it.
        layer.is_shared = false;
        let next = all(reader.read(&layer)).await;
        assert_eq!((&one, &one), (&other, &next));
        assert_eq!(one.1.size, one.0.len() as u64);
        assert_eq!(readings.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_layer_of_one_image_gets_no_file() {
        let (readings, reader) = counting_reader();
        let layer = layer(false);
        assert_eq!(all(reader.read(&layer)).await, all(reader.read(&layer)).await);
        assert_eq!(readings.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_layer_whose_file_fails_continues_from_the_archive() {
        let (readings, reader) = counting_reader();
        let expected = all(reader.read(&layer(false))).await;
        let layer = layer(true);
        let (sender, receiver) = mpsc::channel(1);
        let file = reader
            .shared
            .open(&layer, |file| {
                file.fill(receiver);
                Ok(())
            })
            .unwrap();
        let (begins, rest) = (reader.read(&layer), reader.read(&layer));
        let bytes = expected.0[..1000].to_vec().into();
        sender.send(LayerData::Data(DataBlock { bytes, position: 1000 })).await.unwrap();
        let mut begins = begins;
        let Some(LayerData::Data(first)) = begins.recv().await else { panic!("no bytes") };
        sender.send(LayerData::Failed(Error::interrupted())).await.unwrap();
        let (bytes, summary) = all(begins).await;
        assert_eq!(([&first.bytes[..], &bytes].concat(), summary), expected);
        assert_eq!(all(rest).await, expected);
        assert_eq!(readings.load(Ordering::Relaxed), 3);
        // The next one tries a file again.
        assert_eq!(all(reader.read(&layer)).await, expected);
        assert!(!std::ptr::eq(&*reader.shared.open(&layer, |_| panic!("it is there")).unwrap(), &*file));
    }

    #[tokio::test]
    async fn without_space_no_file_is_retained() {
        let (readings, reader) = counting_reader();
        let (shared, layer) = (&reader.shared, layer(true));
        all(reader.read(&layer)).await;
        let retained = || retained(&lock(&shared.layers));
        // The last bytes come before that.
        while retained() == 0 {
            tokio::task::yield_now().await;
        }
        shared.give_up(&mut lock(&shared.layers), &Error::input("the disk is full"));
        assert_eq!(retained(), 0);
        all(reader.read(&layer)).await;
        assert_eq!(readings.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn half_of_the_space_is_for_others() {
        let shared = fixtures::reader(|_| {}).shared;
        let error = shared.create(&layer(true), 1 << 60).err().unwrap();
        assert!(error.to_string().contains("takes a temporary file of 1048576.0 TiB or more"), "{error}");
        assert!(shared.create(&layer(true), 0).is_ok());
    }

    #[tokio::test]
    async fn a_layer_that_is_too_large_is_only_one_of_several() {
        let (readings, reader) = counting_reader();
        let (layer, mut large) = (layer(true), fixtures::layer(2));
        large.bytes = ByteSource::new(Arc::new(tempfile::tempfile().unwrap()), 0, 1 << 60);
        let mut large = planned(large, &[]);
        large.is_shared = true;
        all(reader.read(&layer)).await;
        assert!(reader.shared.open(&large, |_| panic!("nothing is read")).is_none());
        all(reader.read(&layer)).await;
        assert_eq!(readings.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn connections_need_most_of_the_open_files() {
        assert_eq!([None, Some(1024), Some(256), Some(4)].map(most_files), [MOST, MOST, 32, 0]);
    }

    #[tokio::test]
    async fn a_folder_that_takes_no_file_is_not_tried_again() {
        let shared = SharedLayers::new("/nowhere/at/all".into(), &Arc::new(Pool::start(1)));
        for _ in 0..2 {
            assert!(shared.open(&layer(true), |_| panic!("nothing is read")).is_none());
        }
        assert!(shared.is_off.load(Ordering::Relaxed));
    }
}
