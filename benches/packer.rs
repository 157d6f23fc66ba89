//! How fast a layer is packed, by engine and level: `cargo bench --bench packer`.
//!
//! The layer is files of this machine, so figures of two machines cannot be compared; `PACKER_INPUT` names another one.
//! Each figure is of the whole way of the bytes but the network: read, hashed, packed on one thread or two, hashed.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on fails by panicking")]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput};
use ecr_push::internals::{ByteSource, Compression, CompressionSpec, Pool, compress};

/// As much as is packed in a second or less.
const INPUT: u64 = 64 << 20;

fn main() {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let source = source();
    let mut group = criterion.benchmark_group("pack");
    group.throughput(Throughput::Bytes(source.len()));
    for threads in [1, 2] {
        let pool = Pool::start(threads);
        for recipe in recipes() {
            let sink = |_| ControlFlow::Continue(());
            let packed = compress(source.reader(), source.len(), recipe, &pool, sink).unwrap();
            let percent = packed.size as f64 * 100.0 / source.len() as f64;
            let id = BenchmarkId::new(format!("{} to {percent:.1}%", recipe.name()), threads);
            group.bench_function(id, |bencher| {
                bencher.iter(|| compress(source.reader(), source.len(), recipe, &pool, sink).unwrap());
            });
        }
    }
    group.finish();
    criterion.final_summary();
}

fn recipes() -> Vec<CompressionSpec> {
    let mut recipes = vec![CompressionSpec::Keep { compression: Compression::Uncompressed, decompress: false }];
    recipes.extend([2, 3, 4, 6].map(|level| CompressionSpec::Gzip { level }));
    recipes.extend([1, 2, 3, 6].map(|level| CompressionSpec::Zstd { level }));
    recipes
}

/// The file that `PACKER_INPUT` names, or files from `/usr/lib`, the same ones in the same order on the same machine.
fn source() -> ByteSource {
    let file = match std::env::var_os("PACKER_INPUT") {
        Some(path) => File::open(path).unwrap(),
        None => {
            let mut file = tempfile::tempfile().unwrap();
            gather(Path::new("/usr/lib"), &mut file, &mut INPUT.clone());
            file
        }
    };
    let len = file.metadata().unwrap().len();
    assert!(len > 0, "there is nothing to pack: name a file in PACKER_INPUT");
    ByteSource::new(Arc::new(file), 0, len)
}

/// Puts the files below `folder` behind one another, in the order of their names, until there are enough.
fn gather(folder: &Path, into: &mut File, left: &mut u64) {
    let mut entries: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            gather(&entry.path(), into, left);
        } else if let (true, Ok(file)) = (kind.is_file(), File::open(entry.path())) {
            // No file alone makes up the input.
            let mut bytes = Vec::new();
            file.take(4 << 20).take(*left).read_to_end(&mut bytes).unwrap();
            into.write_all(&bytes).unwrap();
            *left -= bytes.len() as u64;
        }
        if *left == 0 {
            return;
        }
    }
}
