//! How layers are cut: parts that ECR takes, the rest in the closing request, the largest layer first.

use ecr_push::internals::DEFAULT_CHUNK_SIZE;
use ecr_push::sandbox::LogEntry;

use super::archive_builder;
use super::archive_contents::Source;
use super::ecr::Ecr;
use super::stored_image::StoredImage;

const MIB: u64 = 1 << 20;

/// Both ends of a `Content-Range`, inclusive.
fn range(entry: &LogEntry) -> (u64, u64) {
    let text = entry.content_range.as_deref().expect("a part says where it belongs");
    let (start, end) = text.split_once('-').unwrap();
    (start.parse().unwrap(), end.parse().unwrap())
}

/// The requests of the one upload session that got parts, and the closing request's bytes.
#[track_caller]
fn parts(ecr: &Ecr) -> (Vec<(u64, u64)>, u64) {
    let patches = ecr.asked("ecr:UploadLayerPart");
    let session = patches[0].path.split('?').next().unwrap().to_owned();
    assert!(patches.iter().all(|patch| patch.path.starts_with(&session)), "one session");
    let closing = ecr.asked("ecr:CompleteLayerUpload");
    let closing: Vec<_> = closing.iter().filter(|put| put.path.starts_with(&session)).collect();
    assert_eq!(closing.len(), 1, "one closing request");
    let ranges: Vec<_> = patches.iter().map(range).collect();
    for (patch, (start, end)) in patches.iter().zip(&ranges) {
        assert_eq!(patch.body_bytes, end - start + 1, "a part is as long as it says");
    }
    assert_eq!(range(closing[0]).0, ranges.last().unwrap().1 + 1, "the closing request continues where the parts end");
    (ranges, closing[0].body_bytes)
}

/// Pushes an OCI layout with one uncompressed layer of `len` bytes, unchanged.
fn push_as_it_lies(len: u64) -> Ecr {
    let ecr = Ecr::new();
    let layout = ecr.env.scratch("layout");
    archive_builder::oci_layout(&layout, &[archive_builder::noise(len, usize::try_from(len).unwrap())]);
    ecr.run(&[&layout, "team/app:1", "--chunk-size", "5M"]).succeeds();
    StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&layout, 0));
    ecr
}

#[test]
fn a_layer_that_is_compressed_during_the_upload_is_sent_in_consecutive_parts() {
    let ecr = Ecr::new();
    let archive = ecr.env.scratch("large.tar");
    archive_builder::docker_save(&archive, &[archive_builder::tar_of("noise", &archive_builder::noise(1, 20 << 20))]);
    ecr.run(&[&archive, "team/app:1", "--chunk-size", "5M"]).succeeds();
    let (ranges, rest) = parts(&ecr);
    assert_eq!(ranges.len() as u64, (20 << 20) / DEFAULT_CHUNK_SIZE);
    let mut next = 0;
    for (start, end) in &ranges {
        assert_eq!(*start, next, "{ranges:?}");
        assert!((5 * MIB..=10 * MIB).contains(&(end - start + 1)), "{ranges:?}");
        next = end + 1;
    }
    assert!(rest > 0, "the closing request carries the rest");
    StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&archive, 0));
}

#[test]
fn a_layer_of_exactly_one_chunk_takes_no_part() {
    let ecr = push_as_it_lies(DEFAULT_CHUNK_SIZE);
    assert_eq!(ecr.count("ecr:UploadLayerPart"), 0);
    let closing = ecr.asked("ecr:CompleteLayerUpload");
    let whole: Vec<_> = closing.iter().filter(|put| put.body_bytes == DEFAULT_CHUNK_SIZE).collect();
    assert_eq!(whole.len(), 1);
    assert_eq!(whole[0].content_range, None, "what comes in one piece is no part");
}

#[test]
fn one_byte_more_than_a_chunk_takes_a_part_and_the_byte() {
    assert_eq!(parts(&push_as_it_lies(DEFAULT_CHUNK_SIZE + 1)), (vec![(0, DEFAULT_CHUNK_SIZE - 1)], 1));
}

#[test]
fn exactly_two_chunks_take_one_part_and_a_whole_chunk_to_close() {
    assert_eq!(
        parts(&push_as_it_lies(2 * DEFAULT_CHUNK_SIZE)),
        (vec![(0, DEFAULT_CHUNK_SIZE - 1)], DEFAULT_CHUNK_SIZE)
    );
}

#[test]
fn an_empty_layer_arrives() {
    let ecr = Ecr::new();
    let archive = ecr.env.scratch("empty-layer.tar");
    archive_builder::docker_save(&archive, &[archive_builder::tar_of("a", b"a"), vec![0; 1024]]);
    ecr.run(&[&archive, "team/app:1"]).succeeds();
    StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&archive, 0));
}

#[test]
fn the_largest_layer_goes_first() {
    let ecr = Ecr::new();
    let layout = ecr.env.scratch("layout");
    let sizes = [30_000_u64, 900_000, 10_000, 400_000];
    let layers: Vec<_> = sizes.iter().map(|len| archive_builder::noise(*len, usize::try_from(*len).unwrap())).collect();
    archive_builder::oci_layout(&layout, &layers);
    ecr.run(&[&layout, "team/app:1", "--concurrency", "1"]).succeeds();
    let sent: Vec<_> = ecr.asked("ecr:CompleteLayerUpload").iter().map(|put| put.body_bytes).collect();
    assert_eq!(sent[..4], [900_000, 400_000, 30_000, 10_000], "and after them the config");
    assert_eq!(sent.len(), 5);
}

#[test]
fn with_one_lane_no_upload_begins_before_the_last_has_ended() {
    let ecr = Ecr::new();
    let archive = super::harness::testdata("docker-20.10-save.tar");
    ecr.run(&[&archive, "team/app:1", "--concurrency", "1"]).succeeds();
    let uploads = ["ecr:InitiateLayerUpload", "ecr:CompleteLayerUpload"];
    let log = ecr.log();
    let order: Vec<_> = log.iter().map(|entry| entry.operation.as_str()).filter(|op| uploads.contains(op)).collect();
    assert_eq!(order, uploads.repeat(4));
}

#[test]
fn chunks_are_as_large_as_asked_for() {
    let ecr = Ecr::new();
    let archive = ecr.env.scratch("large.tar");
    archive_builder::docker_save(&archive, &[archive_builder::tar_of("noise", &archive_builder::noise(1, 20 << 20))]);
    ecr.run(&[&archive, "team/app:1", "--chunk-size", "10M"]).succeeds();
    let (ranges, _) = parts(&ecr);
    assert_eq!(ranges, [(0, 10 * MIB - 1), (10 * MIB, 20 * MIB - 1)]);
}
