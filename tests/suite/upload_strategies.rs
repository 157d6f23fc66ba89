//! Registries that want blobs in another way than ECR does, and how soon that is found out.

use std::time::{Duration, Instant};

use ecr_push::internals::DEFAULT_CHUNK_SIZE;
use ecr_push::sandbox::{Fault, Interrupted, LogEntry, Parts, Rules, Trouble, UploadStatus};

use super::archive_builder;
use super::archive_contents::Source;
use super::ecr::Ecr;
use super::harness::{Run, Running, SOON, report, wait_until};
use super::stored_image::StoredImage;

const MIB: usize = 1 << 20;

/// A registry other than ECR that needs no login.
fn registry(parts: Parts) -> Ecr {
    registry_with(Rules { parts, ..Rules::default() })
}

fn registry_with(rules: Rules) -> Ecr {
    Ecr::with(&["team/app"], Rules { anonymous: true, ..rules })
}

/// Pushes an OCI layout with layers of these sizes as if to anybody's registry.
fn push(registry: &Ecr, sizes: &[usize], options: &[&str]) -> (Run, String) {
    let layout = registry.env.scratch("layout");
    let layers: Vec<_> = sizes.iter().zip(1..).map(|(len, seed)| archive_builder::noise(seed, *len)).collect();
    archive_builder::oci_layout(&layout, &layers);
    let target = format!("{}/team/app:1", registry.address());
    let command = registry.env.command(&[&[&layout[..], &target], options].concat());
    (registry.finish(command), layout)
}

/// The same, and the image is there afterwards.
fn arrives(registry: &Ecr, sizes: &[usize], options: &[&str]) -> Run {
    let (run, layout) = push(registry, sizes, options);
    let run = run.succeeds();
    StoredImage::of_sandbox(registry, "team/app", "1").is(&Source::read(&layout, 0));
    run
}

/// The parts that said where they belong, and those that did not.
fn patches(registry: &Ecr) -> (Vec<LogEntry>, Vec<LogEntry>) {
    registry.asked("ecr:UploadLayerPart").into_iter().partition(|entry| entry.content_range.is_some())
}

#[test]
fn where_parts_are_refused_every_layer_is_one_body_and_one_layer_finds_that_out() {
    for (status, code) in [(405, "UNSUPPORTED"), (416, "BLOB_UPLOAD_INVALID"), (400, "SIZE_INVALID"), (404, "UNKNOWN")]
    {
        let registry = registry(Parts::Refused { status, code: code.into() });
        let sizes = [12 * MIB, 11 * MIB, 10 * MIB, 9 * MIB, 8 * MIB, 1000];
        let run = arrives(&registry, &sizes, &[]);
        let (ranged, whole) = patches(&registry);
        assert_eq!(ranged.len(), 1, "HTTP {status}: it is found out once");
        assert_eq!(whole.iter().map(|entry| entry.body_bytes).sum::<u64>(), 50 * MIB as u64);
        assert_eq!(whole.len(), 5, "and the small layer goes with its closing request");
        run.output_has_none(&["; retry "]);
    }
}

#[test]
fn a_layer_that_is_compressed_during_the_upload_is_streamed_too() {
    let registry = registry(Parts::Refused { status: 405, code: "UNSUPPORTED".into() });
    let archive = registry.env.scratch("large.tar");
    archive_builder::docker_save(&archive, &[archive_builder::tar_of("noise", &archive_builder::noise(1, 25 * MIB))]);
    let target = format!("{}/team/app:1", registry.address());
    registry.finish(registry.env.command(&[&archive, &target])).succeeds();
    StoredImage::of_sandbox(&registry, "team/app", "1").is(&Source::read(&archive, 0));
    let (ranged, whole) = patches(&registry);
    assert_eq!((ranged.len(), whole.len()), (1, 1));
}

#[test]
fn a_registry_that_keeps_the_last_part_only_is_found_out_before_the_manifest() {
    let registry = registry(Parts::LastKept);
    // The first layer is found to be small, and from then on all go in one body.
    arrives(&registry, &[12 * MIB, 11 * MIB], &["--concurrency", "1", "--chunk-size", "5M"]);
    let (ranged, whole) = patches(&registry);
    assert_eq!((ranged.len(), whole.len()), (2, 2));
}

#[test]
fn a_registry_that_accepts_chunks_is_asked_once_whether_it_stored_them() {
    let registry = registry(Parts::Any);
    let sizes = [12 * MIB, 11 * MIB, 1000];
    arrives(&registry, &sizes, &["--concurrency", "1", "--chunk-size", "5M"]);
    let (ranged, whole) = patches(&registry);
    assert_eq!((ranged.len(), whole.len()), (4, 0));
    // Four blobs before the push, and the first layer after it.
    assert_eq!(registry.count("ecr:BatchCheckLayerAvailability"), 5);
}

#[test]
fn chunks_are_as_large_as_the_registry_wants_them() {
    let registry = registry(Parts::AtLeast(8 * MIB as u64));
    let sizes = [20 * MIB, 17 * MIB, 1000, 2000];
    arrives(&registry, &sizes, &[]);
    let (ranged, _) = patches(&registry);
    let lengths: Vec<_> = ranged.iter().map(|entry| entry.body_bytes).collect();
    assert_eq!(lengths, [8 * MIB as u64; 4], "where {DEFAULT_CHUNK_SIZE} would have been usual");
}

#[test]
fn a_body_that_is_too_large_for_a_proxy_has_advice() {
    let registry = registry(Parts::AtMost(MIB as u64));
    let (run, _) = push(&registry, &[3 * MIB, 1000], &["--chunk-size", "2M"]);
    run.fails_with(1).stdout_is("").stderr_has(&["HTTP 413", "hint: Send less in one request: --chunk-size 1M"]);
    registry.has_no_image("1");
    arrives(&registry, &[3 * MIB, 1000], &["--chunk-size", "1M"]);
}

#[test]
fn a_request_that_is_too_large_leads_to_smaller_ones() {
    // As most say it, and as GitHub's registry does under another name.
    for status in [413, 416] {
        let message = "the request body is too large and exceeds the maximum permissible limit of 4.00MiB".into();
        let large = Trouble::Status { status, code: "BLOB_UPLOAD_INVALID".into(), message };
        let faults = vec![Fault::once("ecr:UploadLayerPart", large)];
        let registry = registry_with(Rules { parts: Parts::Any, faults, ..Rules::default() });
        let run = arrives(&registry, &[30 * MIB, 1000], &["-v", "--concurrency", "1"]);
        let taken = registry.asked("ecr:UploadLayerPart").into_iter().filter(|entry| entry.status < 300);
        let ranges: Vec<_> = taken.filter_map(|entry| entry.content_range).collect();
        assert_eq!(ranges[0], format!("0-{}", 4 * MIB - 1), "{}", registry.story());
        run.stderr_has(&["in one request is too large for "]).output_has_none(&["; retry "]);
    }
}

#[test]
fn a_registry_that_counts_where_others_name_the_last_byte_is_understood() {
    let rules = Rules { parts: Parts::Any, upload_status: UploadStatus::Counted, ..Rules::default() };
    let rules = Rules { interrupted: Interrupted::Resumable, ..rules };
    let cut = Trouble::CutAfter(2 * MIB as u64 + 77);
    let faults = vec![Fault::once("ecr:UploadLayerPart", cut).after(1)];
    let registry = registry_with(Rules { faults, ..rules });
    let path = registry.env.scratch("report.json");
    arrives(&registry, &[16 * MIB, 1000], &["--chunk-size", "5M", "--report", &path]);
    assert_eq!(report(&path)["targets"][0]["layers"][0]["bytes_sent"], 16 * MIB as u64);
    let (ranged, _) = patches(&registry);
    let ranges: Vec<_> = ranged.iter().map(|entry| entry.content_range.clone().unwrap()).collect();
    let (cut, chunk) = (7 * MIB + 77, 5 * MIB);
    let expected = [(0, chunk), (chunk, 2 * chunk), (cut, cut + chunk), (cut + chunk, 16 * MIB)];
    assert_eq!(ranges, expected.map(|(start, end)| format!("{start}-{}", end - 1)), "the last too is a PATCH there");
}

#[test]
fn a_registry_that_has_too_much_is_sent_less_at_once_until_it_has_not() {
    // It takes its time, so that twelve meet there also where the machine is busy.
    let faults = vec![Fault::once("ecr:InitiateLayerUpload", Trouble::Delay(Duration::from_millis(50))).times(2)];
    let registry = registry_with(Rules { parts: Parts::Any, most_at_once: Some(2), faults, ..Rules::default() });
    let sizes: Vec<usize> = (0..24).map(|n| 100_000 + n).collect();
    let run = arrives(&registry, &sizes, &["--concurrency", "12", "--retries", "8"]);
    let refused = registry.log().iter().filter(|entry| entry.status == 429).count();
    assert!(refused > 0 && registry.most_at_once_seen() > 2, "twelve lanes are too many");
    // Each blob takes three requests. Twelve lanes that do not slow down are refused again and again.
    assert!(refused <= 40, "{refused} requests were too many");
    run.stderr_has(&["throttled by the registry; retry "]);
}

/// Pushes layers of these sizes to all targets at once.
fn push_to(registry: &Ecr, targets: &[String], sizes: &[usize]) -> (Run, Source) {
    let layout = registry.env.scratch("layout");
    let layers: Vec<_> = sizes.iter().zip(1..).map(|(len, seed)| archive_builder::noise(seed, *len)).collect();
    archive_builder::oci_layout(&layout, &layers);
    let targets: Vec<_> = targets.iter().map(String::as_str).collect();
    let options = ["--chunk-size", "5M", "--deadline", "30"];
    let run = registry.finish(registry.env.command(&[&[&layout[..]], &targets[..], &options].concat()));
    (run.succeeds(), Source::read(&layout, 0))
}

#[test]
fn two_repositories_of_an_unknown_registry_do_not_wait_for_each_other() {
    let refused = Parts::Refused { status: 405, code: "UNSUPPORTED".into() };
    for parts in [Parts::Any, Parts::LastKept, refused] {
        let rules = Rules { parts, anonymous: true, ..Rules::default() };
        let registry = Ecr::with(&["team/app", "team/other"], rules);
        let targets = ["app", "other"].map(|name| format!("{}/team/{name}:1", registry.address()));
        // They share what is read of a layer: who does not take it holds the other back.
        let (_, source) = push_to(&registry, &targets, &[25 * MIB, 24 * MIB, 1000]);
        StoredImage::of_sandbox(&registry, "team/app", "1").is(&source);
        StoredImage::of_sandbox(&registry, "team/other", "1").is(&source);
    }
}

#[test]
fn two_unknown_registries_do_not_wait_for_each_other() {
    let (one, other) = (registry(Parts::Any), registry(Parts::Any));
    // So that another layer comes first in the one than in the other.
    let busy = Fault::once("ecr:UploadLayerPart", super::ecr::status(503, "UNAVAILABLE", "soon"));
    one.set_rules(|rules| rules.faults = vec![busy]);
    let targets = [&one, &other].map(|registry| format!("{}/team/app:1", registry.address()));
    let (_, source) = push_to(&one, &targets, &[26 * MIB, 25 * MIB]);
    StoredImage::of_sandbox(&one, "team/app", "1").is(&source);
    StoredImage::of_sandbox(&other, "team/app", "1").is(&source);
    assert_eq!(other.open_uploads(), 0);
}

#[test]
fn chunks_that_a_registry_puts_together_wrongly_are_found_out_too() {
    let wrong = super::ecr::status(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
    let faults = vec![Fault::once("ecr:CompleteLayerUpload", wrong)];
    let registry = registry_with(Rules { parts: Parts::Any, faults, ..Rules::default() });
    arrives(&registry, &[12 * MIB, 1000], &["--concurrency", "1", "--chunk-size", "5M"]);
    let (ranged, whole) = patches(&registry);
    assert_eq!((ranged.len(), whole.len()), (2, 1), "the same once more would come to the same end");
}

#[test]
fn the_rest_of_a_layer_is_not_sent_once_chunks_are_known_to_get_lost() {
    let registry = registry(Parts::LastKept);
    let late = Trouble::Delay(Duration::from_secs(3));
    // The second layer is in the middle of its chunks when the first is found to be too small.
    let fault = Fault::once("ecr:UploadLayerPart", late).after(2);
    registry.set_rules(|rules| rules.faults = vec![fault]);
    let sizes = [60 * MIB, 11 * MIB];
    arrives(&registry, &sizes, &["--concurrency", "2", "--chunk-size", "5M"]);
    let (ranged, whole) = patches(&registry);
    let whole: Vec<_> = whole.iter().map(|entry| entry.body_bytes).collect();
    assert!(
        whole.iter().all(|sent| sizes.contains(&usize::try_from(*sent).unwrap())),
        "{} and {whole:?}",
        ranged.len()
    );
}

#[test]
fn a_layer_that_is_too_large_is_refused_before_a_byte_of_it_is_read() {
    let ecr = Ecr::new();
    let layout = ecr.env.scratch("layout");
    archive_builder::oci_layout(&layout, &[b"the layer".to_vec()]);
    // It grows to 50 GiB of nothing, and its descriptor states that.
    let digest = super::archive_contents::sha256(b"the layer");
    let blob = |digest: &str| format!("{layout}/blobs/sha256/{}", digest.strip_prefix("sha256:").unwrap());
    std::fs::File::options().write(true).open(blob(&digest)).unwrap().set_len(50 << 30).unwrap();
    let index = std::fs::read_to_string(format!("{layout}/index.json")).unwrap();
    let mut index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let manifest = std::fs::read_to_string(blob(index["manifests"][0]["digest"].as_str().unwrap())).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    manifest["layers"][0]["size"] = (50_u64 << 30).into();
    let manifest = manifest.to_string();
    let stated = super::archive_contents::sha256(manifest.as_bytes());
    std::fs::write(blob(&stated), &manifest).unwrap();
    index["manifests"][0]["digest"] = stated.into();
    index["manifests"][0]["size"] = manifest.len().into();
    std::fs::write(format!("{layout}/index.json"), index.to_string()).unwrap();
    let run = ecr.run(&[&layout, "team/app:1"]).fails_with(1).stdout_is("");
    run.stderr_has(&[
        "has 50.0 GiB, and",
        "stores at most 41.0 GiB",
        "hint: Build the image with more and smaller layers",
    ]);
    assert_eq!(ecr.count("ecr:InitiateLayerUpload"), 0);
}

#[test]
fn a_break_at_the_first_chunk_does_not_prove_that_chunks_are_rejected() {
    // The session is gone after it, which a 416 shows.
    let faults = vec![Fault::once("ecr:UploadLayerPart", Trouble::CutAfter(300_000))];
    let registry = registry_with(Rules { parts: Parts::Any, faults, ..Rules::default() });
    arrives(&registry, &[16 * MIB, 1000], &["--chunk-size", "5M"]);
    assert_eq!(patches(&registry).1.len(), 0, "{}", registry.story());
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_uploads_that_wait_for_the_probe_of_another() {
    let registry = registry(Parts::Any);
    registry.set_rules(|rules| rules.faults = vec![Fault::once("ecr:UploadLayerPart", Trouble::Stall)]);
    let layout = registry.env.scratch("layout");
    archive_builder::oci_layout(
        &layout,
        &[
            archive_builder::noise(1, 12 * MIB),
            archive_builder::noise(2, 11 * MIB),
            archive_builder::noise(3, 10 * MIB),
        ],
    );
    let target = format!("{}/team/app:1", registry.address());
    let running = Running::start(registry.env.command(&[&layout, &target, "--chunk-size", "5M"]));
    wait_until("one finds out", || registry.count("ecr:UploadLayerPart") == 1);
    wait_until("the others are there", || registry.open_uploads() == 3);
    let asked = Instant::now();
    super::faults::interrupt(running.id());
    running.end().fails_with(130);
    assert!(asked.elapsed() < SOON, "it took {:?}", asked.elapsed());
    wait_until("no session is open", || registry.open_uploads() == 0);
}

#[test]
fn chunks_that_would_take_too_much_memory_are_not_made_however_large_the_registry_wants_them() {
    let registry = registry(Parts::AtLeast(100 * MIB as u64));
    arrives(&registry, &[70 * MIB], &[]);
    let closings = registry.asked("ecr:CompleteLayerUpload").into_iter();
    let (ranged, whole) = patches(&registry);
    assert_eq!((ranged.len(), whole.len()), (0, 1), "it goes as one body");
    assert!(closings.map(|entry| entry.body_bytes).max().unwrap() < MIB as u64);
}
