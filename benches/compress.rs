//! The speed of compressing a layer, by algorithm and level: `cargo bench --bench compress`.
//!
//! The layer consists of files of this machine, so the results of two machines cannot be compared; `COMPRESS_INPUT` names
//! another file. The layer is read, hashed, compressed on one thread or two, and hashed again: everything except the network.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot continue fails by panicking")]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput};
use ecr_push::GzipEncoder;
use ecr_push::internals::{ByteSource, Compression, CompressionSpec, Pool, compress};

/// The number of bytes to compress: a second of work or less.
const INPUT: u64 = 64 << 20;

fn main() {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let source = source();
    let mut group = criterion.benchmark_group("compress");
    group.throughput(Throughput::Bytes(source.len()));
    for threads in [1, 2] {
        let pool = Pool::start(threads);
        for spec in specs() {
            let sink = |_| ControlFlow::Continue(());
            let compressed = compress(source.reader(), source.len(), spec, &pool, sink).unwrap();
            let percent = compressed.size as f64 * 100.0 / source.len() as f64;
            let id = BenchmarkId::new(format!("{} to {percent:.1}%", spec.name()), threads);
            group.bench_function(id, |bencher| {
                bencher.iter(|| compress(source.reader(), source.len(), spec, &pool, sink).unwrap());
            });
        }
    }
    group.finish();
    criterion.final_summary();
}

fn specs() -> Vec<CompressionSpec> {
    let mut specs = vec![CompressionSpec::Keep { compression: Compression::Uncompressed, decompress: false }];
    specs.push(CompressionSpec::Gzip(GzipEncoder::Own));
    specs.extend([1, 2, 3, 4, 6].map(|level| CompressionSpec::Gzip(GzipEncoder::Zlib { level })));
    specs.extend([1, 2, 3, 6].map(|level| CompressionSpec::Zstd { level }));
    specs
}

/// Returns the file that `COMPRESS_INPUT` names, or files from `/usr/lib`: the same ones in the same order in each run.
fn source() -> ByteSource {
    let file = match std::env::var_os("COMPRESS_INPUT") {
        Some(path) => File::open(path).unwrap(),
        None => {
            let mut file = tempfile::tempfile().unwrap();
            append_files(Path::new("/usr/lib"), &mut file, &mut INPUT.clone());
            file
        }
    };
    let len = file.metadata().unwrap().len();
    assert!(len > 0, "there is nothing to compress: name a file in COMPRESS_INPUT");
    ByteSource::new(Arc::new(file), 0, len)
}

/// Appends the files below `folder`, in the order of their names, until `left` bytes are written.
fn append_files(folder: &Path, to: &mut File, left: &mut u64) {
    let mut entries: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            append_files(&entry.path(), to, left);
        } else if let (true, Ok(file)) = (kind.is_file(), File::open(entry.path())) {
            // A limit per file, so that no single file decides the result.
            let mut bytes = Vec::new();
            file.take(4 << 20).take(*left).read_to_end(&mut bytes).unwrap();
            to.write_all(&bytes).unwrap();
            *left -= bytes.len() as u64;
        }
        if *left == 0 {
            return;
        }
    }
}
