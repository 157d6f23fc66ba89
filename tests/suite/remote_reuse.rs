//! A push from a machine that knows nothing, into a repository that holds an image like this one.

use ecr_push::sandbox::{Fault, Rules, Trouble};
use serde_json::Value;

use super::archive_builder;
use super::archive_contents::Source;
use super::ecr::{Ecr, put_manifest};
use super::harness::{Run, SOON, report, testdata};
use super::stored_image::StoredImage;

const ARCHIVE: &str = "docker-20.10-save.tar";
const HELD: &str = "reuse: part of an image in the repository";

/// Pushes as if from a fresh machine, and returns what was asked meanwhile with what the report says of each layer.
fn fresh(ecr: &Ecr, arguments: &[&str]) -> (Run, Vec<String>, Vec<String>) {
    let (written, cache) = (ecr.env.scratch("report.json"), ecr.env.scratch("no-cache.jsonl"));
    drop(std::fs::remove_file(&cache));
    let before = ecr.log().len();
    let run = ecr.run(&[arguments, &["--report", &written, "--cache", &cache]].concat()).succeeds();
    let asked = ecr.log()[before..].iter().map(|entry| entry.operation.clone()).collect();
    let layers = report(&written)["targets"][0]["layers"].as_array().unwrap().clone();
    let text = |layer: &Value, key: &str| layer[key].as_str().unwrap().to_owned();
    let layers = layers.iter().map(|layer| format!("{}: {}", text(layer, "action"), text(layer, "reason"))).collect();
    (run, asked, layers)
}

/// A tar of so many made-up bytes, of which no two are alike.
fn layer(seed: u64, len: usize) -> Vec<u8> {
    archive_builder::tar_of("file", &archive_builder::noise(seed, len))
}

#[test]
fn a_tag_that_names_this_image_takes_two_requests_and_no_byte_of_a_layer() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    let first = ecr.run(&[&archive, "team/app:1"]).succeeds();
    // Not even where the tag must not move.
    ecr.set_rules(|rules| rules.immutable = true);
    let (second, asked, layers) = fresh(&ecr, &[&archive, "team/app:1"]);
    assert_eq!(second.stdout, first.stdout);
    assert_eq!(asked, ["ecr:GetAuthorizationToken", "ecr:BatchGetImage"]);
    assert_eq!(layers, [HELD; 3]);
}

#[test]
fn a_layout_whose_digest_the_tag_has_is_there() {
    let (ecr, archive) = (Ecr::new(), testdata("skopeo-oci-layout-multiarch"));
    let first = ecr.run(&[&archive, "team/app:1"]).succeeds();
    let (second, asked, _) = fresh(&ecr, &[&archive, "team/app:1"]);
    assert_eq!(second.stdout, first.stdout);
    assert_eq!(asked, ["ecr:GetAuthorizationToken", "ecr:BatchGetImage"]);
}

#[test]
fn one_changed_layer_is_all_that_is_sent() {
    let ecr = Ecr::new();
    let [before, after] = ["before.tar", "after.tar"].map(|name| ecr.env.scratch(name));
    archive_builder::docker_save(&before, &[layer(1, 300_000), layer(2, 200_000), layer(3, 10_000)]);
    archive_builder::docker_save(&after, &[layer(1, 300_000), layer(2, 200_000), layer(4, 10_000)]);
    ecr.run(&[&before, "team/app:1"]).succeeds();
    let (_, mut asked, layers) = fresh(&ecr, &[&after, "team/app:1"]);
    assert_eq!(layers, [HELD, HELD, "upload: new, compressed with gzip"]);
    // Meanwhile: the tag is another image's.
    let moves = asked.iter().position(|operation| operation == "ecr:DescribeRepositories").unwrap();
    assert!((2..5).contains(&moves), "{asked:?}");
    asked.remove(moves);
    let read = ["ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "s3:GetObject"];
    let ask = ["ecr:BatchCheckLayerAvailability"];
    // The layer and the config, at the same time.
    let begun = ["ecr:InitiateLayerUpload"; 2];
    asked[5..9].sort();
    asked[5..9].reverse();
    assert_eq!(asked, [&read[..], &ask, &begun, &["ecr:CompleteLayerUpload"; 2], &["ecr:PutImage"]].concat());
    StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&after, 0));
}

#[test]
fn the_newest_tag_of_a_pattern_is_as_good_as_the_own() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    let other = ecr.env.scratch("other.tar");
    archive_builder::docker_save(&other, &[layer(9, 1000)]);
    ecr.run(&[&archive, "team/app:main-7"]).succeeds();
    ecr.run(&[&other, "team/app:release-8"]).succeeds();
    let first = ecr.image("team/app", "main-7").unwrap().0;
    let (run, asked, layers) = fresh(&ecr, &[&archive, "team/app:main-8", "--reuse-from", "main-*"]);
    assert_eq!(layers, [HELD; 3]);
    assert_eq!(run.digest(), first.to_string());
    let least = ["ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:DescribeImages", "ecr:BatchGetImage"];
    assert_eq!(asked, [&least[..], &["ecr:PutImage"]].concat());
    // Now the newest is the other one.
    ecr.run(&[&other, "team/app:main-9"]).succeeds();
    let (_run, _, layers) = fresh(&ecr, &[&archive, "team/app:main-10", "--reuse-from", "main-*"]);
    assert!(layers.iter().all(|layer| layer.starts_with("upload")), "{layers:?}");
    let (_run, _, layers) = fresh(&ecr, &[&archive, "team/app:main-11", "--reuse-from", "main-7"]);
    assert_eq!(layers, [HELD; 3]);
}

#[test]
fn a_push_that_compresses_what_the_newest_image_has_notes_it_once() {
    let ecr = Ecr::new();
    let [before, after] = ["before.tar", "after.tar"].map(|name| ecr.env.scratch(name));
    archive_builder::docker_save(&before, &[layer(1, 33 << 20), layer(2, 50_000)]);
    archive_builder::docker_save(&after, &[layer(1, 33 << 20), layer(3, 50_000)]);
    ecr.run(&[&before, "team/app:main-7"]).succeeds();
    // It is looked for while layers are sent, so that takes a while.
    let slow = ["--limit-rate", "80M"];
    let (run, asked, _) = fresh(&ecr, &[&[after.as_str(), "team/app:main-8"], &slow[..]].concat());
    let hint =
        "team/app:main-7 has 1 of the layers that are compressed and sent now: with --reuse-from main-7, or a pattern";
    run.stderr_has(&[hint]);
    assert!(asked.contains(&"ecr:DescribeImages".to_owned()), "{asked:?}");
    // With named tags, without reuse, or with all layers in the cache there is no note.
    for more in [&["--reuse-from", "main-1"][..], &["--reuse", "cache"]] {
        let (run, asked, _) = fresh(&ecr, &[&[after.as_str(), "team/app:main-9"], &slow[..], more].concat());
        run.output_has_none(&["are compressed and sent now"]);
        assert!(!asked.contains(&"ecr:DescribeImages".to_owned()), "{asked:?}");
    }
    // Nor who sends little,
    let (run, asked, _) = fresh(&ecr, &[&[testdata(ARCHIVE).as_str(), "team/app:main-9"], &slow[..]].concat());
    run.output_has_none(&["are compressed and sent now"]);
    assert!(!asked.contains(&"ecr:DescribeImages".to_owned()), "{asked:?}");
    // or other layers.
    let other = ecr.env.scratch("other.tar");
    archive_builder::docker_save(&other, &[layer(5, 33 << 20)]);
    let (run, ..) = fresh(&ecr, &[&[other.as_str(), "team/app:main-10"], &slow[..]].concat());
    run.output_has_none(&["are compressed and sent now"]);
}

#[test]
fn reuse_can_be_turned_off() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    ecr.run(&[&archive, "team/app:1"]).succeeds();
    for how in ["off", "cache"] {
        let (_, asked, layers) = fresh(&ecr, &[&archive, "team/app:1", "--reuse", how]);
        assert_eq!(layers, ["upload: new, compressed with gzip"; 3], "{how}");
        assert!(!asked.contains(&"ecr:BatchGetImage".into()), "{asked:?}");
    }
    // The own cache is left alone as well.
    ecr.run(&[&archive, "team/app:1", "--reuse", "off"]).succeeds().stderr_has(&["3 of 3 layers uploaded"]);
}

#[test]
fn a_layer_store_out_of_reach_costs_two_seconds_and_the_reuse() {
    let ecr = Ecr::new();
    let [before, after] = ["before.tar", "after.tar"].map(|name| ecr.env.scratch(name));
    archive_builder::docker_save(&before, &[layer(1, 300_000), layer(2, 200_000)]);
    archive_builder::docker_save(&after, &[layer(1, 300_000), layer(4, 10_000)]);
    ecr.run(&[&before, "team/app:1"]).succeeds();
    ecr.set_rules(|rules| rules.faults = vec![Fault::once("s3:GetObject", Trouble::Stall).times(u32::MAX)]);
    let (run, _, layers) = fresh(&ecr, &[&after, "team/app:1"]);
    assert_eq!(layers, ["upload: new, compressed with gzip"; 2]);
    run.stderr_has(&["could not be read: no answer within 2 s", "2 of 2 layers uploaded"]);
}

#[test]
fn what_the_repository_has_lost_since_is_sent_after_all() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    ecr.run(&[&archive, "team/app:1"]).succeeds();
    ecr.set_rules(|rules| rules.faults = vec![Fault::once("ecr:PutImage", Trouble::LoseLayer)]);
    let (run, _, _) = fresh(&ecr, &[&archive, "team/app:2", "--reuse-from", "1"]);
    StoredImage::of_sandbox(&ecr, "team/app", "2").is(&Source::read(&archive, 0));
    run.stderr_has(&["does not have a layer any more"]);
}

#[test]
fn the_child_of_the_same_platform_is_read_from_an_index() {
    let ecr = Ecr::with(&["team/app"], Rules { anonymous: true, ..Rules::default() });
    let archive = testdata("docker-29-overlay2-save.tar");
    ecr.run(&[&archive, "team/app:1"]).succeeds();
    // The same image under an index, as builders with attestations push it.
    let (digest, manifest, media_type) = ecr.image("team/app", "1").unwrap();
    let child = |architecture: &str| {
        let platform = serde_json::json!({"os": "linux", "architecture": architecture});
        let size = manifest.len();
        serde_json::json!({"mediaType": media_type, "digest": digest.to_string(), "size": size, "platform": platform})
    };
    for (tag, architecture, reused) in [("same", "amd64", true), ("other", "arm64", false)] {
        let media_type = "application/vnd.oci.image.index.v1+json";
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type, "manifests": [child(architecture)]
        });
        let put = put_manifest(&ecr, "team/app", tag, media_type, &index.to_string());
        assert_eq!(put, 201);
        let (_, _, layers) = fresh(&ecr, &[&archive, &format!("team/app:new-{tag}"), "--reuse-from", tag]);
        assert_eq!(layers.iter().all(|layer| layer == HELD), reused, "{tag}: {layers:?}");
    }
}

#[test]
fn a_manifest_that_somebody_else_wrote_is_taken_byte_for_byte() {
    let ecr = Ecr::with(&["team/app"], Rules { anonymous: true, ..Rules::default() });
    let archive = testdata(ARCHIVE);
    ecr.run(&[&archive, "team/app:ours"]).succeeds();
    let (digest, manifest, media_type) = ecr.image("team/app", "ours").unwrap();
    let value: Value = serde_json::from_slice(&manifest).unwrap();
    let pretty = serde_json::to_string_pretty(&value).unwrap();
    assert_eq!(put_manifest(&ecr, "team/app", "theirs", &media_type, &pretty), 201);
    let theirs = ecr.image("team/app", "theirs").unwrap().0;
    assert_ne!(theirs, digest);
    // Even where the tag must not move.
    ecr.set_rules(|rules| rules.immutable = true);
    let (run, asked, _) = fresh(&ecr, &[&archive, "team/app:theirs"]);
    assert_eq!((run.digest(), asked.len()), (theirs.to_string(), 2));
    let (run, _, _) = fresh(&ecr, &[&archive, "team/app:new", "--reuse-from", "theirs"]);
    assert_eq!(run.digest(), theirs.to_string());
}

#[test]
fn the_lookup_of_a_tag_has_a_time_limit() {
    let ecr = Ecr::faulty(&[Fault::once("ecr:BatchGetImage", Trouble::Stall)]);
    let started = std::time::Instant::now();
    let (run, asked, _) = fresh(&ecr, &[&testdata(ARCHIVE), "team/app:1"]);
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    assert!(asked.contains(&"ecr:DescribeRepositories".into()), "whether the repository is there is asked otherwise");
    run.stderr_has(&["could not be read: no answer within 2 s"]);
}

#[test]
fn wrong_facts_of_a_remote_image_are_not_used() {
    let ecr = Ecr::new();
    let (layout, saved) = (ecr.env.scratch("layout"), ecr.env.scratch("image.tar"));
    let layers = [layer(1, 40_000), layer(2, 30_000)];
    archive_builder::oci_layout(&layout, &layers);
    archive_builder::docker_save(&saved, &layers);
    // Plain, and called gzip: as skopeo writes a `dir:`.
    archive_builder::edit_manifest(&layout, |manifest| {
        manifest["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip".into();
    });
    ecr.run(&[&layout, "team/app:1"]).succeeds().stderr_has(&[", but the manifest declares it as"]);
    let (_, _, lots) = fresh(&ecr, &[&saved, "team/app:1"]);
    assert_eq!(lots, ["upload: new, compressed with gzip", HELD], "the one that is called right is taken over");
    StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&saved, 0));
}
