//! Runs of many images that are killed at any moment, and the next run.
//!
//! `ECR_PUSH_LONG=1` kills at more moments.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::{Duration, Instant};

use ecr_push::sandbox::{Fault, LogEntry, Rules, Trouble};

use super::archive_builder::noise;
use super::bundles::save_numbered;
use super::crash_recovery::long;
use super::ecr::Ecr;
use super::harness::{Running, finish, show, wait_until};

const IMAGES: usize = 60;

/// Two layers and a config an image.
const BLOBS: usize = 3 * IMAGES;

/// The layer cache is written at least so often.
const LOST: Duration = Duration::from_secs(1);

/// The blobs of the images that are pushed at a time.
const IN_FLIGHT: usize = 4 * BLOBS / IMAGES;

/// A repository and a digest in it.
type Blob = (String, String);

/// Returns the blobs whose upload was completed in a part of the log.
fn completed(log: &[LogEntry]) -> Vec<Blob> {
    let is_one = |entry: &&LogEntry| entry.operation == "ecr:CompleteLayerUpload" && entry.status == 201;
    let blob = |entry: &LogEntry| {
        let (repository, _) = entry.path.split_once("/blobs/").unwrap();
        let (_, digest) = entry.path.rsplit_once("digest=").unwrap();
        (repository.to_owned(), digest.to_owned())
    };
    log.iter().filter(is_one).map(blob).collect()
}

/// Returns how many blobs are complete when a run is killed: random numbers.
fn moments() -> Vec<usize> {
    let count = if long() { 20 } else { 3 };
    let seed = noise(u64::from(std::process::id()), 8 * count);
    let random = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap()) as usize;
    seed.chunks(8).map(|bytes| random(bytes) % BLOBS).collect()
}

#[test]
fn blobs_of_images_without_a_manifest_are_not_sent_again() {
    let ecr = Ecr::with(&[], Rules::default());
    ecr.set_rules(|rules| rules.faults = vec![Fault::once("ecr:PutImage", Trouble::Stall).times(4)]);
    let archive = save_numbered(&ecr.env, "image", 4);
    let push = || ecr.command(&[&archive, "mirror/", "--all-images", "--create-repository"]);
    let mut running = Running::start(push());
    wait_until("every blob is complete", || completed(&ecr.log()).len() == 3 * 4 || running.ended().is_some());
    // They share a layer.
    let cache = ecr.env.home().join(".cache/ecr-push/layers.jsonl");
    wait_until("the layers are in the cache", || {
        fs::read_to_string(&cache).is_ok_and(|text| text.matches("diff_id").count() == 1 + 4)
    });
    running.kill();
    let before = ecr.log().len();
    finish(push(), || ecr.story()).succeeds().stderr_has(&["4 images: 4 pushed"]);
    assert_eq!(completed(&ecr.log()[before..]), []);
}

#[test]
fn a_run_that_is_killed_sends_nothing_again_that_was_complete_a_second_before() {
    for moment in moments() {
        // Slow enough for blobs that are older than a second.
        let ecr = Ecr::with(&[], Rules { delay: Duration::from_millis(15), ..Rules::default() });
        let archive = save_numbered(&ecr.env, "image", IMAGES);
        let arguments = [&archive, "mirror/", "--all-images", "--create-repository", "--output", "jsonl"];
        let mut running = Running::start(ecr.command(&arguments));
        let mut seen: HashMap<Blob, Instant> = HashMap::new();
        wait_until("so many blobs are complete", || {
            for blob in completed(&ecr.log()) {
                seen.entry(blob).or_insert_with(Instant::now);
            }
            seen.len() >= moment || running.ended().is_some()
        });
        running.kill();
        let (killed, before) = (Instant::now(), ecr.log());
        let run = finish(ecr.command(&arguments), || ecr.story()).succeeds();
        let again: Vec<Blob> =
            completed(&ecr.log()[before.len()..]).into_iter().filter(|blob| seen.contains_key(blob)).collect();
        let old = again.iter().filter(|blob| killed.duration_since(seen[*blob]) > LOST).collect::<Vec<_>>();
        show(&format!("killed with {} blobs of {BLOBS}; {} were sent again", seen.len(), again.len()));
        assert!(old.is_empty(), "complete more than a second before the kill, and sent again: {old:?}");
        assert!(again.len() <= IN_FLIGHT, "more than the pushes in progress had sent: {again:?}");
        let pushed: HashSet<_> = run.stdout.lines().filter(|line| line.contains("\"kind\":\"image\"")).collect();
        assert_eq!(pushed.len(), IMAGES);
        for n in 0..IMAGES {
            let (_, manifest, _) = ecr.image(&format!("mirror/image-{n}"), "1").unwrap();
            let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
            let layers = manifest["layers"].as_array().unwrap();
            for blob in layers.iter().chain([&manifest["config"]]) {
                let digest = blob["digest"].as_str().unwrap().parse().unwrap();
                assert!(ecr.blob(&format!("mirror/image-{n}"), &digest).is_some(), "{digest} of image-{n}");
            }
        }
        // Another run finds nothing to do.
        let before = ecr.log().len();
        finish(ecr.command(&arguments), || ecr.story()).succeeds().stderr_has(&[" 0 pushed, 60 already up to date"]);
        assert_eq!(completed(&ecr.log()[before..]), []);
    }
}
