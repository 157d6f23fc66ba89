use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;

use super::block_compressor::BlockCompressor;
use super::blocks::{LayerInput, compress_blocks};
use super::buffer::{BLOCK_SIZE as BLOCK, BufferStock, max_compressed_len};
use super::gzip::tests::{gzip, random, sample};
use super::output::LayerOutput;
use super::*;
use crate::oci::{DiffId, Digest};

fn source(bytes: &[u8]) -> ByteSource {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("ecr-push-compress-{}-{n}", std::process::id()));
    let mut file = File::create(&path).unwrap();
    file.write_all(b"bytes before it").unwrap();
    file.write_all(bytes).unwrap();
    file.write_all(b"bytes after it!").unwrap();
    let file = File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    ByteSource::new(Arc::new(file), 15, bytes.len() as u64)
}

fn bytes(len: usize, seed: u32) -> Vec<u8> {
    // Half text, half random bytes, so that deflate emits both matches and literals.
    (0..len as u32)
        .map(|n| if n % 512 < 256 { b'a' + (n % 7) as u8 } else { (n.wrapping_mul(seed) >> 11) as u8 })
        .collect()
}

fn run(source: &ByteSource, spec: CompressionSpec, pool: &Pool) -> (LayerSummary, Vec<u8>, Vec<u64>) {
    let (mut sent, mut positions) = (Vec::new(), Vec::new());
    let summary = compress(source.reader(), source.len(), spec, pool, |block| {
        sent.extend_from_slice(&block.bytes);
        positions.push(block.position);
        ControlFlow::Continue(())
    });
    (summary.unwrap(), sent, positions)
}

const GZIP: CompressionSpec = CompressionSpec::Gzip(GzipEncoder::Own);

/// One spec for each format.
const SPECS: &[CompressionSpec] = &[GZIP, CompressionSpec::Zstd { level: 1 }];

fn decompressed(sent: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    match Compression::of(sent) {
        Compression::Gzip => flate2::read::GzDecoder::new(sent).read_to_end(&mut bytes).unwrap(),
        _ => ::zstd::Decoder::new(sent).unwrap().read_to_end(&mut bytes).unwrap(),
    };
    bytes
}

#[test]
fn the_bytes_are_the_same_for_any_number_of_threads() {
    for len in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 12345] {
        let uncompressed = bytes(len, 2_654_435_761);
        let source = source(&uncompressed);
        for &spec in SPECS {
            let results = [0, 1, 2, 7].map(|threads| run(&source, spec, &Pool::start(threads)));
            assert!(results.iter().all(|result| result == &results[0]), "{len} bytes by {spec:?}");
            let (summary, sent, positions) = &results[0];
            assert_eq!(summary.digest, Digest::of(sent));
            assert_eq!(summary.size, sent.len() as u64);
            assert_eq!(summary.diff_id, Some(DiffId::of(&uncompressed)));
            assert!(positions.is_sorted() && positions.last() == Some(&(len as u64)));
            assert_eq!(Compression::of(sent), spec.compression());
            assert!(decompressed(sent) == uncompressed, "{len} bytes by {spec:?}");
        }
    }
}

#[test]
fn the_pool_gives_the_same_bytes_as_one_block_after_the_other() {
    let sample = sample();
    let (_, sent, _) = run(&source(&sample), GZIP, &Pool::start(2));
    assert!(sample.len() > BLOCK && sent == gzip(&sample, GzipEncoder::Own));
}

/// A reader of a layer that starts somewhere in the middle depends on this.
#[test]
fn a_layer_can_be_decompressed_from_each_block_on() {
    let uncompressed = [sample(), random(BLOCK), bytes(2 * BLOCK + 77, 40_503)].concat();
    let source = source(&uncompressed);
    let zlib = CompressionSpec::Gzip(GzipEncoder::Zlib { level: 2 });
    for spec in [GZIP, zlib, CompressionSpec::Zstd { level: 1 }] {
        let mut sent = Vec::new();
        let (summary, blocks) = compress_indexed(source.reader(), source.len(), spec, &Pool::start(2), |block| {
            sent.extend_from_slice(&block.bytes);
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(summary.size, sent.len() as u64);
        let positions: Vec<usize> = blocks.iter().map(|block| block.position as usize).collect();
        assert_eq!(positions, (0..uncompressed.len()).step_by(BLOCK).collect::<Vec<_>>());
        for BlockStart { position, offset } in blocks {
            let (position, rest) = (position as usize, &sent[offset as usize..]);
            let decompressed = if spec.compression() == Compression::Zstd {
                decompressed(rest)
            } else {
                inflate(&uncompressed[position.saturating_sub(32 << 10)..position], rest)
            };
            assert!(decompressed == uncompressed[position..], "{spec:?} from {position}");
        }
    }
    let keep = CompressionSpec::Keep { compression: Compression::Uncompressed, decompress: false };
    let unchanged =
        compress_indexed(source.reader(), source.len(), keep, &Pool::start(1), |_| ControlFlow::Continue(()));
    assert!(unchanged.unwrap().1.is_empty());
}

/// Decompresses a deflate stream that starts after `dictionary`.
fn inflate(dictionary: &[u8], stream: &[u8]) -> Vec<u8> {
    let mut decoder = flate2::Decompress::new(false);
    if !dictionary.is_empty() {
        decoder.set_dictionary(dictionary).unwrap();
    }
    let mut bytes = Vec::with_capacity(8 * BLOCK);
    let status = decoder.decompress_vec(stream, &mut bytes, flate2::FlushDecompress::Finish).unwrap();
    assert_eq!(status, flate2::Status::StreamEnd);
    bytes
}

#[test]
fn many_layers_share_one_small_pool_without_deadlock() {
    let pool = Pool::start(1);
    thread::scope(|scope| {
        for n in 0..12 {
            let (pool, uncompressed) = (&pool, bytes(3 * BLOCK + n, 40_503 + n as u32));
            scope.spawn(move || {
                let (summary, ..) = run(&source(&uncompressed), GZIP, pool);
                assert_eq!(summary.diff_id, Some(DiffId::of(&uncompressed)));
            });
        }
    });
    assert_eq!(pool.permits(), 4, "a permit was lost");
}

#[test]
fn an_unchanged_layer_is_hashed_and_also_decompressed() {
    let uncompressed = bytes(2 * BLOCK + 5, 7);
    let pool = Pool::start(2);
    for &original in SPECS {
        let (_, compressed, _) = run(&source(&uncompressed), original, &pool);
        for decompress in [false, true] {
            let spec = CompressionSpec::Keep { compression: original.compression(), decompress };
            let (summary, sent, _) = run(&source(&compressed), spec, &pool);
            assert!(sent == compressed);
            assert_eq!(summary.digest, Digest::of(&compressed));
            assert_eq!(summary.diff_id, decompress.then(|| DiffId::of(&uncompressed)));
        }
    }
    let spec = CompressionSpec::Keep { compression: Compression::Uncompressed, decompress: false };
    let (summary, ..) = run(&source(&uncompressed), spec, &pool);
    assert_eq!(summary.diff_id, Some(DiffId::of(&uncompressed)), "digest and diff_id are equal");
}

#[test]
fn a_compressed_layer_that_is_cut_off_fails_to_decompress() {
    let pool = Pool::start(1);
    for &original in SPECS {
        let (_, compressed, _) = run(&source(&bytes(BLOCK, 3)), original, &pool);
        let spec = CompressionSpec::Keep { compression: original.compression(), decompress: true };
        for cut in [compressed.len() - 1, compressed.len() / 2, 5] {
            let source = source(&compressed[..cut]);
            let error =
                compress(source.reader(), source.len(), spec, &pool, |_| ControlFlow::Continue(())).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "cut at {cut}: {error}");
            assert!(error.to_string().contains(original.compression().name()), "{error}");
        }
    }
}

#[test]
fn compression_stops_when_the_sink_breaks() {
    let pool = Pool::start(2);
    let mut blocks = 0;
    let source = source(&random(40 * BLOCK));
    let error = compress(source.reader(), source.len(), GZIP, &pool, |_| {
        blocks += 1;
        if blocks == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(error.unwrap_err().kind(), io::ErrorKind::Interrupted);
    assert_eq!((blocks, pool.permits()), (3, 6), "a block was sent after the break, or a permit was lost");
}

#[test]
fn the_buffers_of_a_layer_are_reused() {
    let pool = Pool::start(2);
    for &spec in SPECS {
        run(&source(&random(60 * BLOCK)), spec, &pool);
        // (2 x 2 + 2) and one blocks in flight; two outputs, one buffered block, one that is sent.
        let capacities = pool.stock.capacities();
        assert!(capacities.len() <= 11, "{} buffers for {spec:?}", capacities.len());
        let initial = max_compressed_len(BLOCK) + (4 << 10);
        assert!(capacities.iter().all(|capacity| *capacity == initial), "a buffer had to grow for {spec:?}");
    }
}

#[test]
fn a_file_that_became_shorter_is_an_error() {
    let path = std::env::temp_dir().join(format!("ecr-push-shrink-{}", std::process::id()));
    std::fs::write(&path, bytes(2 * BLOCK, 1)).unwrap();
    let file = Arc::new(File::open(&path).unwrap());
    File::options().write(true).open(&path).unwrap().set_len(BLOCK as u64 + 7).unwrap();
    let source = ByteSource::new(file, 0, 2 * BLOCK as u64);
    let pool = Pool::start(1);
    let error = compress(source.reader(), source.len(), GZIP, &pool, |_| ControlFlow::Continue(()));
    assert_eq!(error.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    std::fs::remove_file(path).unwrap();
}

/// A compressor that panics.
#[derive(Clone, Copy)]
struct Panicking;

impl BlockCompressor for Panicking {
    const DICTIONARY: usize = 0;

    fn compress(self, _: &[u8], _: &[u8], _: bool, _: &mut Vec<u8>) -> io::Result<()> {
        panic!("a bug")
    }
}

#[test]
fn a_panic_is_not_reported_as_a_broken_layer() {
    let pool = Pool::start(1);
    let layer = bytes(3 * BLOCK, 7);
    // First a thread panics, then the pool has no thread left.
    for _ in 0..2 {
        let input = LayerInput::new(&layer[..], layer.len() as u64);
        let output = LayerOutput::new(|_| ControlFlow::Continue(()), &pool.stock);
        let error = compress_blocks(input, Panicking, &pool, output).unwrap_err();
        assert!(ThreadPanicked::is(&error), "{error}");
    }
    let pool = Pool::start(1);
    // Incompressible data fills a block before the end of the layer, so the sending thread calls the sink.
    let layer = random(4 * BLOCK);
    let error = compress(&layer[..], layer.len() as u64, SPECS[0], &pool, |_| panic!("a bug"));
    assert!(ThreadPanicked::is(&error.unwrap_err()));
    let error = compress(&layer[1..], layer.len() as u64, SPECS[0], &pool, |_| ControlFlow::Continue(()));
    assert!(!ThreadPanicked::is(&error.unwrap_err()));
}

#[test]
fn a_buffer_is_reused_after_the_last_slice_of_it_is_dropped() {
    let stock = BufferStock::default();
    let mut buffer = stock.take();
    buffer.extend_from_slice(b"some bytes");
    let place = buffer.as_ptr();
    let bytes = Bytes::from(buffer);
    let slice = bytes.slice(5..);
    drop(bytes);
    assert!(stock.capacities().is_empty());
    drop(slice);
    let again = stock.take();
    assert_eq!((again.as_ptr(), again.capacity() >= BLOCK), (place, true));
    assert_ne!(stock.take().as_ptr(), place);
}
