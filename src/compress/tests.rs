use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;

use super::block_compressor::BlockCompressor;
use super::blocks::{LayerInput, compress_blocks};
use super::buffer::{BLOCK_SIZE as BLOCK, BufferStock, max_compressed_len};
use super::gzip::tests::random;
use super::output::LayerOutput;
use super::*;
use crate::oci::{DiffId, Digest};

fn source(bytes: &[u8]) -> ByteSource {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("ecr-push-pack-{}-{n}", std::process::id()));
    let mut file = File::create(&path).unwrap();
    file.write_all(b"what stands before").unwrap();
    file.write_all(bytes).unwrap();
    file.write_all(b"what stands behind").unwrap();
    let file = File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    ByteSource::new(Arc::new(file), 18, bytes.len() as u64)
}

fn bytes(len: usize, seed: u32) -> Vec<u8> {
    // Half text, half random bytes, so that both deflate's matches and its literals are met.
    (0..len as u32)
        .map(|n| if n % 512 < 256 { b'a' + (n % 7) as u8 } else { (n.wrapping_mul(seed) >> 11) as u8 })
        .collect()
}

fn run(source: &ByteSource, spec: CompressionSpec, pool: &Pool) -> (LayerSummary, Vec<u8>, Vec<u64>) {
    let (mut sent, mut positions) = (Vec::new(), Vec::new());
    let packed = compress(source.reader(), source.len(), spec, pool, |piece| {
        sent.extend_from_slice(&piece.bytes);
        positions.push(piece.position);
        ControlFlow::Continue(())
    });
    (packed.unwrap(), sent, positions)
}

/// Every way to compress a layer.
const SPECS: &[CompressionSpec] = &[CompressionSpec::Gzip { level: 2 }, CompressionSpec::Zstd { level: 1 }];

fn unpacked(sent: &[u8]) -> Vec<u8> {
    let mut back = Vec::new();
    match Compression::of(sent) {
        Compression::Gzip => flate2::read::GzDecoder::new(sent).read_to_end(&mut back).unwrap(),
        _ => ::zstd::Decoder::new(sent).unwrap().read_to_end(&mut back).unwrap(),
    };
    back
}

#[test]
fn the_bytes_are_the_same_for_any_number_of_threads() {
    for len in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 12345] {
        let plain = bytes(len, 2_654_435_761);
        let source = source(&plain);
        for &spec in SPECS {
            let results = [0, 1, 2, 7].map(|threads| run(&source, spec, &Pool::start(threads)));
            assert!(results.iter().all(|result| result == &results[0]), "{len} bytes by {spec:?}");
            let (packed, sent, positions) = &results[0];
            assert_eq!(packed.digest, Digest::of(sent));
            assert_eq!(packed.size, sent.len() as u64);
            assert_eq!(packed.diff_id, Some(DiffId::of(&plain)));
            assert!(positions.is_sorted() && positions.last() == Some(&(len as u64)));
            assert_eq!(Compression::of(sent), spec.compression());
            assert!(unpacked(sent) == plain, "{len} bytes by {spec:?}");
        }
    }
}

#[test]
fn many_layers_share_one_small_pool_without_deadlock() {
    let pool = Pool::start(1);
    thread::scope(|scope| {
        for n in 0..12 {
            let (pool, plain) = (&pool, bytes(3 * BLOCK + n, 40_503 + n as u32));
            scope.spawn(move || {
                let (packed, ..) = run(&source(&plain), CompressionSpec::Gzip { level: 2 }, pool);
                assert_eq!(packed.diff_id, Some(DiffId::of(&plain)));
            });
        }
    });
    assert_eq!(pool.permits(), 3, "every permit came back");
}

#[test]
fn an_unchanged_layer_is_hashed_and_decompressed_on_the_side() {
    let plain = bytes(2 * BLOCK + 5, 7);
    let pool = Pool::start(2);
    for &made in SPECS {
        let (_, ready, _) = run(&source(&plain), made, &pool);
        for decompress in [false, true] {
            let spec = CompressionSpec::Keep { compression: made.compression(), decompress };
            let (packed, sent, _) = run(&source(&ready), spec, &pool);
            assert!(sent == ready);
            assert_eq!(packed.digest, Digest::of(&ready));
            assert_eq!(packed.diff_id, decompress.then(|| DiffId::of(&plain)));
        }
    }
    let spec = CompressionSpec::Keep { compression: Compression::Uncompressed, decompress: false };
    let (packed, ..) = run(&source(&plain), spec, &pool);
    assert_eq!(packed.diff_id, Some(DiffId::of(&plain)), "of plain bytes both hashes are one");
}

#[test]
fn a_compressed_layer_that_is_cut_off_fails_to_decompress() {
    let pool = Pool::start(1);
    for &made in SPECS {
        let (_, ready, _) = run(&source(&bytes(BLOCK, 3)), made, &pool);
        let spec = CompressionSpec::Keep { compression: made.compression(), decompress: true };
        for cut in [ready.len() - 1, ready.len() / 2, 5] {
            let source = source(&ready[..cut]);
            let error =
                compress(source.reader(), source.len(), spec, &pool, |_| ControlFlow::Continue(())).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "cut at {cut}: {error}");
            assert!(error.to_string().contains(made.compression().name()), "{error}");
        }
    }
}

#[test]
fn compression_stops_when_the_sink_breaks() {
    let pool = Pool::start(2);
    let mut pieces = 0;
    let source = source(&random(40 * BLOCK));
    let error = compress(source.reader(), source.len(), CompressionSpec::Gzip { level: 2 }, &pool, |_| {
        pieces += 1;
        if pieces == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(error.unwrap_err().kind(), io::ErrorKind::Interrupted);
    assert_eq!((pieces, pool.permits()), (3, 4), "no block after the break, and every permit came back");
}

#[test]
fn the_buffers_of_a_layer_are_reused() {
    let pool = Pool::start(2);
    for &spec in SPECS {
        run(&source(&random(60 * BLOCK)), spec, &pool);
        // Of blocks in flight there are (2 + 2) and one; two buffers are compressed into, one is gathered, one is sent.
        let capacities = pool.stock.capacities();
        assert!(capacities.len() <= 9, "{} buffers for {spec:?}", capacities.len());
        let given = max_compressed_len(BLOCK) + (4 << 10);
        assert!(capacities.iter().all(|capacity| *capacity == given), "a buffer had to grow for {spec:?}");
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
    let error = compress(source.reader(), source.len(), CompressionSpec::Gzip { level: 2 }, &pool, |_| {
        ControlFlow::Continue(())
    });
    assert_eq!(error.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    std::fs::remove_file(path).unwrap();
}

/// A compressor that is broken.
#[derive(Clone, Copy)]
struct Broken;

impl BlockCompressor for Broken {
    const DICTIONARY: usize = 0;

    fn compress(self, _: &[u8], _: &[u8], _: bool, _: &mut Vec<u8>) -> io::Result<()> {
        panic!("a bug")
    }
}

#[test]
fn a_panic_is_not_reported_as_a_broken_layer() {
    let pool = Pool::start(1);
    let layer = bytes(3 * BLOCK, 7);
    // The first thread that panics, and then a pool that has none left.
    for _ in 0..2 {
        let input = LayerInput::new(&layer[..], layer.len() as u64);
        let output = LayerOutput::new(|_| ControlFlow::Continue(()), &pool.stock);
        let error = compress_blocks(input, Broken, &pool, output).unwrap_err();
        assert!(ThreadPanicked::is(&error), "{error}");
    }
    let pool = Pool::start(1);
    // Incompressible data fills a block before the end, so another thread than this one sends it.
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
