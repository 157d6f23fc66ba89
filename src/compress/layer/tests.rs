use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::thread;

use super::super::ByteSource;
use super::super::gzip::tests::noise;
use super::*;

const BLOCK: usize = PIECE;

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
    // Half text, half noise, so that both deflate's matches and its literals are met.
    (0..len as u32)
        .map(|n| if n % 512 < 256 { b'a' + (n % 7) as u8 } else { (n.wrapping_mul(seed) >> 11) as u8 })
        .collect()
}

fn run(source: &ByteSource, recipe: CompressionSpec, pool: &Pool) -> (LayerSummary, Vec<u8>, Vec<u64>) {
    let (mut sent, mut positions) = (Vec::new(), Vec::new());
    let packed = compress(source.reader(), source.len(), recipe, pool, |piece| {
        sent.extend_from_slice(&piece.bytes);
        positions.push(piece.position);
        ControlFlow::Continue(())
    });
    (packed.unwrap(), sent, positions)
}

/// Every way to pack a layer.
const RECIPES: &[CompressionSpec] = &[CompressionSpec::Gzip { level: 2 }, CompressionSpec::Zstd { level: 1 }];

fn unpacked(sent: &[u8]) -> Vec<u8> {
    let mut back = Vec::new();
    match Compression::of(sent) {
        Compression::Gzip => flate2::read::GzDecoder::new(sent).read_to_end(&mut back).unwrap(),
        _ => ::zstd::Decoder::new(sent).unwrap().read_to_end(&mut back).unwrap(),
    };
    back
}

#[test]
fn packing_gives_the_same_whatever_the_number_of_threads_and_reads_back() {
    for len in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 12345] {
        let plain = bytes(len, 2_654_435_761);
        let source = source(&plain);
        for &recipe in RECIPES {
            let results = [0, 1, 2, 7].map(|threads| run(&source, recipe, &Pool::start(threads)));
            assert!(results.iter().all(|result| result == &results[0]), "{len} bytes by {recipe:?}");
            let (packed, sent, positions) = &results[0];
            assert_eq!(packed.digest, Digest::of(sent));
            assert_eq!(packed.size, sent.len() as u64);
            assert_eq!(packed.diff_id, Some(DiffId::of(&plain)));
            assert!(positions.is_sorted() && positions.last() == Some(&(len as u64)));
            assert_eq!(Compression::of(sent), recipe.compression());
            assert!(unpacked(sent) == plain, "{len} bytes by {recipe:?}");
        }
    }
}

#[test]
fn many_layers_share_one_small_pool_without_waiting_for_each_other_for_ever() {
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
fn a_layer_kept_as_it_lies_is_hashed_as_it_lies_and_unpacked_on_the_side() {
    let plain = bytes(2 * BLOCK + 5, 7);
    let pool = Pool::start(2);
    for &made in RECIPES {
        let (_, ready, _) = run(&source(&plain), made, &pool);
        for decompress in [false, true] {
            let recipe = CompressionSpec::Keep { compression: made.compression(), decompress };
            let (packed, sent, _) = run(&source(&ready), recipe, &pool);
            assert!(sent == ready);
            assert_eq!(packed.digest, Digest::of(&ready));
            assert_eq!(packed.diff_id, decompress.then(|| DiffId::of(&plain)));
        }
    }
    let recipe = CompressionSpec::Keep { compression: Compression::Uncompressed, decompress: false };
    let (packed, ..) = run(&source(&plain), recipe, &pool);
    assert_eq!(packed.diff_id, Some(DiffId::of(&plain)), "of plain bytes both hashes are one");
}

#[test]
fn a_packed_layer_that_is_cut_off_is_found_out_when_it_is_unpacked() {
    let pool = Pool::start(1);
    for &made in RECIPES {
        let (_, ready, _) = run(&source(&bytes(BLOCK, 3)), made, &pool);
        let recipe = CompressionSpec::Keep { compression: made.compression(), decompress: true };
        for cut in [ready.len() - 1, ready.len() / 2, 5] {
            let source = source(&ready[..cut]);
            let error =
                compress(source.reader(), source.len(), recipe, &pool, |_| ControlFlow::Continue(())).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "cut at {cut}: {error}");
            assert!(error.to_string().contains(made.compression().name()), "{error}");
        }
    }
}

#[test]
fn packing_stops_soon_after_nobody_wants_the_bytes() {
    let pool = Pool::start(2);
    let mut pieces = 0;
    let source = source(&noise(40 * BLOCK));
    let error = compress(source.reader(), source.len(), CompressionSpec::Gzip { level: 2 }, &pool, |_| {
        pieces += 1;
        if pieces == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(error.unwrap_err().kind(), io::ErrorKind::Interrupted);
    assert_eq!((pieces, pool.permits()), (3, 4), "no piece after the break, and every permit came back");
}

#[test]
fn the_buffers_of_a_layer_are_used_again_and_again() {
    let pool = Pool::start(2);
    for &recipe in RECIPES {
        run(&source(&noise(60 * BLOCK)), recipe, &pool);
        // Of blocks in flight there are (2 + 2) and one, each once plain or packed; two are packed into, one is gathered,
        // one is sent.
        assert!(pool.stock.waiting() <= 9, "{} buffers for {recipe:?}", pool.stock.waiting());
        assert!(pool.stock.none_has_grown(), "a buffer had too little room for {recipe:?}");
    }
}

#[test]
fn a_file_that_shrinks_under_our_hands_is_an_error() {
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

impl Engine for Broken {
    const DICTIONARY: usize = 0;
    const MEMBER: bool = false;

    fn pack(self, _: &[u8], _: &[u8], _: bool, _: &mut Vec<u8>) -> io::Result<()> {
        panic!("a fault of ours")
    }
}

#[test]
fn a_thread_that_died_is_told_from_a_layer_that_cannot_be_read() {
    let pool = Pool::start(1);
    let layer = bytes(3 * BLOCK, 7);
    let pack_with_broken = || {
        let source = Source { bytes: &layer[..], len: layer.len() as u64, position: 0 };
        let out = Out {
            sink: |_| ControlFlow::Continue(()),
            hasher: Hasher::new(),
            size: 0,
            stock: &pool.stock,
            gathered: None,
            position: 0,
        };
        in_blocks(source, Broken, &pool, out).unwrap_err()
    };
    // The first to die, and those that nobody is left for.
    for _ in 0..2 {
        let error = pack_with_broken();
        assert!(ThreadPanicked::is(&error), "{error}");
    }
    let pool = Pool::start(1);
    // Noise fills a piece before the end, which this thread sends itself.
    let layer = noise(4 * BLOCK);
    let error = compress(&layer[..], layer.len() as u64, RECIPES[0], &pool, |_| panic!("a fault of ours"));
    assert!(ThreadPanicked::is(&error.unwrap_err()));
    let error = compress(&layer[1..], layer.len() as u64, RECIPES[0], &pool, |_| ControlFlow::Continue(()));
    assert!(!ThreadPanicked::is(&error.unwrap_err()));
}
