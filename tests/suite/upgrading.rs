//! What version 0.1.0 left in the home folder: its layer cache and an interrupted upload, in `testdata/home-of-0.1.0`.

use std::fs;
use std::path::PathBuf;

use ecr_push::sandbox::{Interrupted, Rules};
use serde_json::Value;

use super::archive_builder;
use super::archive_contents::Source;
use super::ecr::{Ecr, HOST};
use super::harness::{Running, TestEnv, report, testdata, wait_until};
use super::stored_image::StoredImage;

const OLD: &str = "home-of-0.1.0";
const ARCHIVE: &str = "docker-29-overlay2-save.tar";
/// What 0.1.0 printed for that archive.
const DIGEST: &str = "sha256:21ec33894b4cd772c0afc61ea580f455e88fef65202c14e1b93a66a3e3cd36be";
/// The name of the interrupted upload.
const ENTRY: &str = "layers.uploads/8da32763b230.json";
/// Where its session was.
const ADDRESS: &str = "127.0.0.1:45199";

/// Returns the folder of the layer cache.
fn folder(env: &TestEnv) -> PathBuf {
    env.home().join(".cache/ecr-push")
}

fn old(name: &str) -> String {
    fs::read_to_string(format!("{}/{name}", testdata(OLD))).unwrap()
}

/// Writes a file of the old home folder, with another content.
fn put(env: &TestEnv, name: &str, content: &str) {
    let path = folder(env).join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn layers_that_0_1_0_pushed_are_found_in_its_cache() {
    let ecr = Ecr::new();
    let archive = testdata(ARCHIVE);
    // The registry has what 0.1.0 pushed.
    let recipe = ["--compression-recipe", "gzip/2-2", "--cache", &ecr.env.scratch("other.jsonl")].map(str::to_owned);
    let mut arguments = vec![archive.as_str(), "team/app:1"];
    arguments.extend(recipe.iter().map(String::as_str));
    assert_eq!(ecr.run(&arguments).succeeds().digest(), DIGEST);

    put(&ecr.env, "layers.jsonl", &old("layers.jsonl"));
    let written = ecr.env.scratch("report.json");
    let run = ecr.run(&[&archive, "team/app:2", "--report", &written]).succeeds();
    run.output_has_none(&["warning: ", "note: layer cache"]);
    let layers = report(&written)["targets"][0]["layers"].as_array().unwrap().clone();
    let reason = "exists in the repository, known from the layer cache";
    assert!(layers.iter().all(|layer| layer["action"] == "reuse" && layer["reason"] == reason), "{layers:#?}");
    assert_eq!(report(&written)["targets"][0]["digest"], DIGEST, "the image keeps its digest");
    assert_eq!(fs::read_to_string(folder(&ecr.env).join("layers.jsonl")).unwrap(), old("layers.jsonl"));
}

#[test]
fn the_cache_of_0_1_0_gets_the_layers_of_this_version() {
    let ecr = Ecr::new();
    let archive = testdata(ARCHIVE);
    put(&ecr.env, "layers.jsonl", &old("layers.jsonl"));
    // This registry has none of them.
    let first = ecr.run(&[&archive, "team/app:1"]).succeeds();
    StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&archive, 0));
    let second = ecr.run(&[&archive, "team/app:2"]).succeeds().stderr_has(&["0 of 3 layers uploaded", "3 reused"]);
    assert_eq!(first.digest(), second.digest());
    assert_eq!(first.stdout, format!("{HOST}/team/app:1@{}\n", first.digest()));
}

/// Writes the image of which 0.1.0 had uploaded a part.
fn interrupted_image(env: &TestEnv) -> String {
    let archive = env.scratch("layout");
    archive_builder::oci_layout(&archive, &[archive_builder::noise(1, 40 << 20)]);
    archive
}

#[test]
fn an_upload_that_0_1_0_did_not_finish_is_resumed() {
    let ecr = Ecr::with(&["team/app"], Rules { interrupted: Interrupted::Resumable, ..Rules::default() });
    let archive = interrupted_image(&ecr.env);
    let arguments = [&archive, "team/app:1", "--chunk-size", "5M"];
    let command = ecr.command(&[&arguments[..], &["--limit-rate", "40M"]].concat());
    let mut running = Running::start(command);
    let entry = folder(&ecr.env).join(ENTRY);
    wait_until("a part is uploaded", || entry.exists() || running.ended().is_some());
    running.kill();
    wait_until("the registry has noticed", || ecr.requests_under_way() == 0);
    // The same session, as 0.1.0 wrote it down.
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let (new, mut entry) = (json(&fs::read_to_string(&entry).unwrap()), json(&old(ENTRY)));
    assert_eq!(new["about"], entry["about"]);
    (entry["location"], entry["offset"]) = (new["location"].clone(), new["offset"].clone());
    put(&ecr.env, ENTRY, &entry.to_string());
    ecr.run(&arguments).succeeds().stderr_has(&["resuming layer sha256:", " MiB already uploaded"]);
    StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&archive, 0));
    assert!(!folder(&ecr.env).join(ENTRY).exists());
}

#[test]
fn an_upload_of_0_1_0_that_the_registry_forgot_starts_again() {
    let ecr = Ecr::new();
    let archive = interrupted_image(&ecr.env);
    put(&ecr.env, ENTRY, &old(ENTRY).replace(ADDRESS, &ecr.address().to_string()));
    ecr.run(&[&archive, "team/app:1"]).succeeds().output_has_none(&["warning: "]);
    StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&archive, 0));
    assert!(!folder(&ecr.env).join(ENTRY).exists());
}
