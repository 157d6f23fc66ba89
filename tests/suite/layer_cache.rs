//! The second push: what an earlier run packed is neither packed nor sent again, and a cache is never trusted too far.

use serde_json::Value;

use super::archive_contents::Source;
use super::ecr::{Ecr, HOST};
use super::harness::{report, testdata};
use super::stored_image::StoredImage;

const ARCHIVE: &str = "docker-20.10-save.tar";
const CACHED: &str = "exists in the repository, known from the layer cache";

/// Pushes and returns what the report says of each layer: `action: reason`.
#[track_caller]
fn push(ecr: &Ecr, arguments: &[&str]) -> Vec<String> {
    let written = ecr.env.scratch("report.json");
    ecr.run(&[arguments, &["--report", &written]].concat()).succeeds();
    let layers = report(&written)["targets"][0]["layers"].as_array().unwrap().clone();
    let text = |layer: &Value, key: &str| layer[key].as_str().unwrap().to_owned();
    layers.iter().map(|layer| format!("{}: {}", text(layer, "action"), text(layer, "reason"))).collect()
}

fn sessions(ecr: &Ecr) -> usize {
    ecr.count("ecr:InitiateLayerUpload") + ecr.count("ecr:UploadLayerPart") + ecr.count("ecr:CompleteLayerUpload")
}

#[test]
fn a_second_push_of_the_same_user_sends_no_layer() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    let first = push(&ecr, &[&archive, "team/app:1"]);
    assert_eq!(first, ["upload: new, compressed with gzip"; 3]);
    assert_eq!(ecr.env.written(), ["home/.cache/ecr-push/layers.jsonl"], "the cache is all that is written");
    let before = ecr.log().len();
    let second = push(&ecr, &[&archive, "team/app:2"]);
    assert_eq!(second, [format!("reuse: {CACHED}"), format!("reuse: {CACHED}"), format!("reuse: {CACHED}")]);
    let asked: Vec<_> = ecr.log()[before..].iter().map(|entry| entry.operation.clone()).collect();
    let least = ["ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:BatchCheckLayerAvailability", "ecr:PutImage"];
    assert_eq!(asked, least);
    let image = |tag: &str| ecr.image("team/app", tag).unwrap().0;
    assert_eq!(image("1"), image("2"));
}

#[test]
fn a_second_push_is_logged_as_unchanged() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    push(&ecr, &[&archive, "team/app:1"]);
    let run = ecr.run(&[&archive, "team/app:2"]).succeeds();
    run.stderr_has(&[
        "reused: exists in the repository, known from the layer cache",
        "0 of 3 layers uploaded",
        "3 reused",
    ]);
}

#[test]
fn an_oci_layout_is_recognised_without_a_cache() {
    let (ecr, archive) = (Ecr::new(), testdata("buildah-oci-layout"));
    push(&ecr, &[&archive, "team/app:1"]);
    assert_eq!(ecr.env.written(), Vec::<String>::new(), "there is nothing to remember");
    let before = sessions(&ecr);
    let layers = push(&ecr, &[&archive, "team/app:2"]);
    assert_eq!(layers, ["reuse: exists in the repository"; 3]);
    assert_eq!(sessions(&ecr), before);
}

#[test]
fn another_archive_of_the_same_layers_shares_them() {
    let ecr = Ecr::new();
    push(&ecr, &[&testdata(ARCHIVE), "team/app:1"]);
    let before = sessions(&ecr);
    let layers = push(&ecr, &[&testdata("podman-docker-archive.tar"), "team/app:2"]);
    assert!(layers.iter().all(|layer| layer.starts_with("reuse")), "{layers:?}");
    assert_eq!(sessions(&ecr), before);
}

#[test]
fn the_cache_may_be_elsewhere() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    let cache = ecr.env.scratch("folder/that/is/new/cache.jsonl");
    push(&ecr, &[&archive, "team/app:1", "--cache", &cache]);
    assert_eq!(ecr.env.written(), Vec::<String>::new());
    assert_eq!(std::fs::read_to_string(&cache).unwrap().lines().filter(|line| !line.is_empty()).count(), 3);
    let before = sessions(&ecr);
    push(&ecr, &[&archive, "team/app:2", "--cache", &cache]);
    assert_eq!(sessions(&ecr), before);

    let mut command = ecr.command(&[&archive, "team/app:3"]);
    command.env("XDG_CACHE_HOME", ecr.env.scratch("xdg"));
    ecr.finish(command).succeeds();
    assert!(std::path::Path::new(&ecr.env.scratch("xdg/ecr-push/layers.jsonl")).is_file());
}

#[test]
fn what_the_repository_does_not_hold_is_sent_again() {
    let (ecr, archive) = (Ecr::with(&["team/app", "team/other"], Default::default()), testdata(ARCHIVE));
    push(&ecr, &[&archive, "team/app:1"]);
    let before = sessions(&ecr);
    let layers = push(&ecr, &[&archive, "team/other:1"]);
    assert_eq!(layers, ["upload: not in the repository, compressed with gzip"; 3]);
    assert_eq!(sessions(&ecr), 2 * before);
    StoredImage::of_sandbox(&ecr, "team/other", "1").is(&Source::read(&archive, 0));
}

/// Changes the cache between two pushes and returns what became of the layers at the second one.
#[track_caller]
fn after_changing_the_cache(change: impl FnOnce(String) -> Vec<u8>) -> Vec<String> {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    let cache = ecr.env.scratch("cache.jsonl");
    push(&ecr, &[&archive, "team/app:1", "--cache", &cache]);
    let text = std::fs::read_to_string(&cache).unwrap();
    std::fs::write(&cache, change(text)).unwrap();
    let layers = push(&ecr, &[&archive, "team/app:2", "--cache", &cache]);
    let pushed = StoredImage::of_sandbox(&ecr, "team/app", "2");
    pushed.is(&Source::read(&archive, 0));
    layers
}

#[test]
fn a_cache_that_makes_no_sense_does_no_harm() {
    for nonsense in [&b"\0\xff\xfe not a line of ours\n{}\n[1,2"[..], b"{\"diff_id\":\"sha256:12\"}\n", b"", b"\n\n"] {
        let layers = after_changing_the_cache(|_| nonsense.to_vec());
        assert_eq!(layers, ["upload: new, compressed with gzip"; 3]);
    }
}

#[test]
fn a_cache_with_a_wrong_size_is_not_used() {
    let layers = after_changing_the_cache(|text| {
        let longer = |line: &str| {
            let mut entry: Value = serde_json::from_str(line).unwrap();
            entry["size"] = (entry["size"].as_u64().unwrap() + 1).into();
            format!("{entry}\n")
        };
        text.lines().filter(|line| !line.is_empty()).map(longer).collect::<String>().into_bytes()
    });
    assert_eq!(layers, ["upload: not in the repository, compressed with gzip"; 3]);
}

#[test]
fn a_cache_that_names_other_blobs_is_not_used() {
    let layers = after_changing_the_cache(|text| {
        let elsewhere = |line: &str| {
            let mut entry: Value = serde_json::from_str(line).unwrap();
            entry["digest"] = super::archive_contents::sha256(line.as_bytes()).into();
            format!("{entry}\n")
        };
        text.lines().filter(|line| !line.is_empty()).map(elsewhere).collect::<String>().into_bytes()
    });
    assert_eq!(layers, ["upload: not in the repository, compressed with gzip"; 3]);
}

#[test]
fn a_line_that_is_cut_off_costs_one_layer_and_no_other() {
    let mut layers = after_changing_the_cache(|text| text.as_bytes()[..text.len() - 20].to_vec());
    layers.sort();
    assert_eq!(layers[2], "upload: new, compressed with gzip");
    assert!(layers[..2].iter().all(|layer| layer.starts_with("reuse")), "{layers:?}");
}

#[test]
fn after_a_cut_off_line_the_cache_learns_again() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    let cache = ecr.env.scratch("cache.jsonl");
    push(&ecr, &[&archive, "team/app:1", "--cache", &cache]);
    let text = std::fs::read(&cache).unwrap();
    std::fs::write(&cache, &text[..text.len() - 20]).unwrap();
    push(&ecr, &[&archive, "team/app:2", "--cache", &cache]);
    let layers = push(&ecr, &[&archive, "team/app:3", "--cache", &cache]);
    assert!(layers.iter().all(|layer| layer.starts_with("reuse")), "{layers:?}");
}

#[test]
fn a_home_that_cannot_be_written_costs_a_warning() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    let home = ecr.env.scratch("file");
    std::fs::write(&home, "no folder").unwrap();
    for home in [home.as_str(), &format!("{home}/below"), "/proc/nonexistent", "relative", ""] {
        let mut command = ecr.command(&[&archive, "team/app:1"]);
        command.env("HOME", home);
        let run = ecr.finish(command).succeeds();
        assert_eq!(run.digest(), ecr.image("team/app", "1").unwrap().0.to_string());
        assert!(run.stdout.starts_with(HOST));
    }
    assert_eq!(ecr.env.written(), Vec::<String>::new());
}
