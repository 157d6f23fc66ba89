//! Archives: an archive is rejected as wrong input, or what it states of its manifests and configs is true.

#![no_main]

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::LazyLock;

use ecr_push::internals::{ChildProcesses, Spool, open};
use ecr_push::{Digest, ImageSelector, Kind, Selection, Source};
use libfuzzer_sys::fuzz_target;

/// The maximum size of an uncompressed archive. One that expands to more is given up.
const MAX_UNCOMPRESSED: u64 = 16 << 20;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a temporary folder"));
static FILE: LazyLock<PathBuf> = LazyLock::new(|| FOLDER.path().join("archive"));

/// Corrects the checksums of tar headers, on which every change of a header would end.
fn correct_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for header in bytes.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}

fuzz_target!(|bytes: &[u8]| {
    fs::write(&*FILE, correct_checksums(bytes)).expect("a file in memory");
    let watch = |written| if written > MAX_UNCOMPRESSED { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let archive =
        match open(&Source::Path(FILE.clone()), &Spool { folder: FOLDER.path(), watch: &watch, handler: None, processes: &ChildProcesses::default() }) {
            Ok(archive) => archive,
            Err(error) => return assert!(matches!(error.kind(), Kind::Input | Kind::Interrupted), "{error:?}"),
        };
    for content in archive.images.iter().flat_map(|image| image.content.all()) {
        if let Some(original) = content.original() {
            assert_eq!(Digest::of(&original.bytes), original.digest, "a manifest of another digest");
        }
    }
    for manifest in archive.images.iter().flat_map(|image| image.manifests()) {
        assert_eq!(Digest::of(&manifest.config.bytes), manifest.config.digest, "a config of another digest");
        for layer in &manifest.layers {
            assert!(layer.bytes.is_missing() || layer.bytes.read_all(u64::MAX).is_ok(), "a layer outside of the file");
        }
    }
    let _selected = archive.select(&ImageSelector::Only, &Selection::default());
});
