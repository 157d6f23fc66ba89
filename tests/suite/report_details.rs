//! What the report has besides the results: times, notes, what went wrong and was tried again, what
//! reuse saved.

use std::fs;

use ecr_push::sandbox::{Fault, Rules, Trouble};
use serde_json::{Value, json};

use super::archive_builder;
use super::ecr::{Ecr, status};
use super::harness::{Run, testdata};
use super::stored_image::StoredImage;

const ARCHIVE: &str = "docker-20.10-save.tar";

/// A push, and its report.
#[track_caller]
fn push(ecr: &Ecr, arguments: &[&str]) -> (Run, Value) {
    let run = ecr.run(&[arguments, &["--output", "json"]].concat()).succeeds();
    let report = run.report();
    (run, report)
}

/// The values of a key of all layers of the first target.
fn of_layers(report: &Value, key: &str) -> Vec<Value> {
    report["targets"][0]["layers"].as_array().unwrap().iter().map(|layer| layer[key].clone()).collect()
}

/// An archive with a layer of four chunks and a small one.
fn large(ecr: &Ecr) -> String {
    let archive = ecr.env.scratch("large.tar");
    archive_builder::docker_save(
        &archive,
        &[archive_builder::tar_of("noise", &archive_builder::noise(7, 17 << 20)), archive_builder::tar_of("a", b"a")],
    );
    archive
}

#[test]
fn a_layer_s_retries_are_counted_where_they_are() {
    let busy = status(503, "SLOW_DOWN", "later");
    for (fault, retries) in [
        (Fault::once("ecr:UploadLayerPart", busy.clone()), 1),
        (Fault::once("ecr:UploadLayerPart", busy).times(2), 2),
        // The offsets disagree: the upload starts again without a pause.
        (Fault::once("ecr:CompleteLayerUpload", status(400, "DIGEST_INVALID", "no")), 1),
    ] {
        let ecr = Ecr::faulty(&[fault]);
        let (_, seen) = push(&ecr, &[&large(&ecr), "team/app:1", "--chunk-size", "5M", "--concurrency", "1"]);
        assert_eq!(of_layers(&seen, "retries"), [json!(retries), json!(0)]);
        assert_eq!((&seen["targets"][0]["retries"], &seen["totals"]["retries"]), (&json!(retries), &json!(retries)));
    }
}

#[test]
fn a_break_that_costs_the_session_is_counted_once_for_each_pause() {
    let ecr = Ecr::faulty(&[Fault::once("ecr:UploadLayerPart", Trouble::CutAfter(1 << 20))]);
    let (run, seen) = push(&ecr, &[&large(&ecr), "team/app:1", "--chunk-size", "5M", "--concurrency", "1"]);
    let pauses = run.stderr.matches("; retry ").count();
    assert!(pauses > 0 && ecr.count("ecr:InitiateLayerUpload") == 4, "the session is lost");
    assert_eq!(seen["totals"]["retries"], json!(pauses));
}

#[test]
fn the_report_has_the_notes_and_warnings_of_the_push() {
    let (ecr, archive) = (Ecr::new(), testdata("docker-29-overlay2-save.tar"));
    // A cache that is a folder cannot be read, of which a push warns.
    let (run, seen) = push(&ecr, &[&archive, "team/app:1", "-q", "--cache", "."]);
    let is_there =
        |list: &Value, says: &str| list.as_array().unwrap().iter().any(|it| it.as_str().unwrap().contains(says));
    assert!(is_there(&seen["warnings"], "the cache cannot be read"), "{seen}");
    assert!(is_there(&seen["notes"], "uncompressed layers were compressed"), "{seen}");
    assert_eq!((&seen["untold"], run.stderr.as_str()), (&json!(0), ""), "also where nothing is shown");
    let moment = |key: &str| seen[key].as_str().unwrap().to_owned();
    assert!(moment("started_at") < moment("finished_at") && moment("started_at").starts_with("20"));
}

#[test]
fn each_layer_has_the_media_type_of_the_manifest() {
    for name in
        ["docker-20.10-save.tar", "docker-29-overlay2-save.tar", "buildah-oci-layout", "skopeo-oci-layout-multiarch"]
    {
        for options in [&[][..], &["--compression", "zstd"]] {
            let ecr = Ecr::new();
            let run =
                ecr.run(&[&[testdata(name).as_str(), "team/app:1", "--output", "json"], options].concat()).succeeds();
            let seen = run.report();
            let pushed = StoredImage::of_sandbox(&ecr, "team/app", "1");
            let stated: Vec<Value> =
                pushed.manifests().iter().flat_map(|it| it["layers"].as_array().cloned().unwrap_or_default()).collect();
            for layer in seen["targets"][0]["layers"].as_array().unwrap() {
                let stated = stated.iter().find(|stated| stated["digest"] == layer["digest"]).unwrap();
                assert_eq!(layer["media_type"], stated["mediaType"], "{name} {options:?}");
            }
            let root = &seen["targets"][0]["tag_outcomes"][0];
            let (_, bytes, media_type) = ecr.image("team/app", "1").unwrap();
            assert_eq!((&root["size"], &root["media_type"]), (&json!(bytes.len()), &json!(media_type)));
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_layer_that_was_sent_before_its_image_was_known_has_it_too() {
    for name in ["podman-oci-archive.tar", "docker-29-overlay2-save.tar"] {
        let ecr = Ecr::new();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let bytes = fs::read(testdata(name)).unwrap();
        std::thread::spawn(move || std::io::Write::write_all(&mut writer, &bytes));
        let command = ecr.command(&["-", "team/app:1", "--output", "json"]);
        let run = super::harness::Running::fed(command, reader).end().succeeds().stderr_has(&[": streamed"]);
        let manifest = &StoredImage::of_sandbox(&ecr, "team/app", "1").manifests()[0];
        let mut stated: Vec<&Value> =
            manifest["layers"].as_array().unwrap().iter().map(|layer| &layer["mediaType"]).collect();
        stated.dedup();
        assert_eq!(stated.len(), 1);
        assert!(of_layers(&run.report(), "media_type").iter().all(|it| it == stated[0]), "{name}");
    }
}

/// The own cache, with what its lines say of time replaced.
fn remember(ecr: &Ecr, times: impl Fn(usize) -> Option<u64>) {
    let path = ecr.env.home().join(".cache/ecr-push/layers.jsonl");
    let lines = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    // By size, as reports have them.
    lines.sort_by_key(|line| std::cmp::Reverse(line["size"].as_u64()));
    for (at, line) in lines.iter_mut().enumerate() {
        assert!(line["took_ms"].is_u64(), "a push notes how long it took: {line}");
        match times(at) {
            Some(millis) => line["took_ms"] = millis.into(),
            None => drop(line.as_object_mut().unwrap().remove("took_ms")),
        }
    }
    fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}

#[test]
fn what_reuse_saved_is_what_the_cache_remembers() {
    let (ecr, archive) = (Ecr::with(&["team/app", "team/other"], Rules::default()), testdata(ARCHIVE));
    let (_, seen) = push(&ecr, &[&archive, "team/app:1"]);
    let saved = |seen: &Value| (seen["bytes_saved"].clone(), seen["seconds_saved"].clone());
    assert_eq!(saved(&seen["totals"]), (json!(0), Value::Null), "a first push saves nothing");
    remember(&ecr, |at| Some([3000, 2000, 100][at]));
    let (_, seen) = push(&ecr, &[&archive, "team/app:2"]);
    let bytes = &seen["image"]["archive_bytes"];
    assert_eq!(saved(&seen["totals"]), (bytes.clone(), json!(3.0)), "side by side");
    assert_eq!(saved(&seen["targets"][0]), saved(&seen["totals"]));
    let (_, seen) = push(&ecr, &[&archive, "team/app:2", "--concurrency", "1"]);
    assert_eq!(seen["totals"]["seconds_saved"], 5.1, "one after the other");
    // Two targets at once: the bytes add up, the time does not. What is sent to one of them saves nothing there.
    let (_, seen) = push(&ecr, &[&archive, "team/app:3", "team/other:3"]);
    assert_eq!(saved(&seen["totals"]), (bytes.clone(), json!(3.0)));
    assert_eq!(saved(&seen["targets"][1]), (json!(0), Value::Null));
    let (_, seen) = push(&ecr, &[&archive, "team/app:4", "--dry-run"]);
    assert_eq!(saved(&seen["totals"]), (bytes.clone(), json!(3.0)), "what a plan would save");
}

#[test]
fn a_cache_of_an_older_program_saves_bytes_and_no_made_up_time() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    push(&ecr, &[&archive, "team/app:1"]);
    remember(&ecr, |_| None);
    let (_, seen) = push(&ecr, &[&archive, "team/app:2"]);
    assert_eq!(seen["totals"]["layers"], json!({"upload": 0, "mount": 0, "reuse": 3}));
    assert_eq!(seen["totals"]["bytes_saved"], seen["image"]["archive_bytes"]);
    assert_eq!(seen["totals"]["seconds_saved"], Value::Null);
}
