//! The time to open an archive of 50,000 entries: `cargo bench --bench tar_index`.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot continue fails by panicking")]

use std::fs::File;
use std::hint::black_box;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ecr_push::Source;
use ecr_push::internals::{self, Archive, ChildProcesses, Spool};
use serde_json::json;

/// The number of entries: a layout of thousands of images has as many.
const ENTRIES: u64 = 50_000;

fn add(tar: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, bytes).unwrap();
}

/// Writes an image of one layer, after many other entries. Of those, only the headers are read.
fn archive(path: &Path) {
    let mut tar = tar::Builder::new(BufWriter::new(File::create(path).unwrap()));
    for number in 0..ENTRIES - 3 {
        add(&mut tar, &format!("blobs/sha256/{number:064x}"), &[b'x'; 600]);
    }
    add(&mut tar, "layer.tar", &[0; 1024]);
    let diff_id = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
    let rootfs = json!({"type": "layers", "diff_ids": [diff_id]});
    add(
        &mut tar,
        "config.json",
        json!({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).to_string().as_bytes(),
    );
    let manifest = json!([{"Config": "config.json", "RepoTags": ["bench/app:1"], "Layers": ["layer.tar"]}]);
    add(&mut tar, "manifest.json", manifest.to_string().as_bytes());
    tar.into_inner().unwrap().flush().unwrap();
}

fn open(path: &Path) -> Arc<Archive> {
    let spool = Spool {
        folder: Path::new("no temporary file is needed"),
        watch: &|_| ControlFlow::Continue(()),
        handler: None,
        processes: &ChildProcesses::default(),
    };
    internals::open(&Source::Path(path.to_owned()), &spool).unwrap()
}

fn tar_index(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("many.tar");
    archive(&path);
    let mut group = criterion.benchmark_group("tar_index");
    group.throughput(Throughput::Elements(ENTRIES)).sample_size(20);
    group.bench_function("50,000 entries", |bencher| bencher.iter(|| open(black_box(&path))));
    group.finish();
}

criterion_group!(benches, tar_index);
criterion_main!(benches);
