//! The speed of compressing a layer, by algorithm and level: `cargo bench --bench compress`.
//!
//! The layer consists of files of this machine, so the results of two machines cannot be compared; `COMPRESS_INPUT` names
//! another file. Two things are measured:
//!
//! - the encoders of gzip alone, in turn, in bytes per CPU second (on Linux): other work on the machine does not matter much;
//! - the whole layer, which is read, hashed, compressed on one thread or two, and hashed again: everything except the network.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints its results, and fails by panicking")]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use ecr_push::GzipEncoder;
use ecr_push::internals::{ByteSource, Compression, CompressionSpec, Pool, compress, compress_block, deflate};

/// The number of bytes to compress: a second of work or less.
const INPUT: u64 = 64 << 20;

fn main() {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let source = source();
    compare_encoders(&source);
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

/// The encoders that are compared. The first one is the default, the second was the default of version 0.1.
const ENCODERS: [GzipEncoder; 5] = [
    GzipEncoder::Own,
    GzipEncoder::Zlib { level: 2 },
    GzipEncoder::Zlib { level: 1 },
    GzipEncoder::Zlib { level: 6 },
    GzipEncoder::Zlib { level: 9 },
];

/// The size of a block of a layer, in bytes.
const BLOCK: usize = 512 << 10;

/// Compresses the layer block by block with each encoder in turn, three times, and prints the best times.
fn compare_encoders(source: &ByteSource) {
    let mut layer = Vec::new();
    source.reader().read_to_end(&mut layer).unwrap();
    let (mut times, mut sizes) = ([f64::MAX; ENCODERS.len()], [0; ENCODERS.len()]);
    let mut compressed = Vec::new();
    for _ in 0..3 {
        for (n, encoder) in ENCODERS.into_iter().enumerate() {
            sizes[n] = 0;
            let start = cpu_seconds();
            for at in (0..layer.len()).step_by(BLOCK) {
                let end = layer.len().min(at + BLOCK);
                let dictionary = &layer[at.saturating_sub(deflate::WINDOW)..at];
                compress_block(encoder, dictionary, &layer[at..end], end == layer.len(), &mut compressed).unwrap();
                sizes[n] += compressed.len();
            }
            times[n] = times[n].min(cpu_seconds() - start);
        }
    }
    let len = layer.len() as f64;
    println!("| recipe | MB per CPU second | factor | compressed |\n| --- | --- | --- | --- |");
    for (n, encoder) in ENCODERS.into_iter().enumerate() {
        let (name, speed) = (CompressionSpec::Gzip(encoder).name(), len / 1e6 / times[n]);
        let (factor, percent) = (times[1] / times[n], sizes[n] as f64 * 100.0 / len);
        println!("| {name} | {speed:.0} | {factor:.2} | {percent:.2} % |");
    }
}

/// Returns the CPU time of this process, or the time of day where that is not known.
fn cpu_seconds() -> f64 {
    #[cfg(target_os = "linux")]
    let time = Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime)).unwrap();
    #[cfg(not(target_os = "linux"))]
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Duration::as_secs_f64(&time)
}

fn specs() -> Vec<CompressionSpec> {
    let mut specs = vec![CompressionSpec::Keep { compression: Compression::Uncompressed, decompress: false }];
    specs.push(CompressionSpec::Gzip(GzipEncoder::Own));
    specs.extend([2, 3, 4, 6].map(|level| CompressionSpec::Gzip(GzipEncoder::Zlib { level })));
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
