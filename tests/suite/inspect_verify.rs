//! `inspect --verify`: every mismatch in an archive is found and reported by name.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use serde_json::{Value, json};

use super::archive_builder;
use super::archive_contents::sha256;
use super::harness::{TestEnv, testdata};
use super::inspect::json_of;

/// Finds mismatches, each reported once on stderr, and the layers in which they are.
#[track_caller]
fn mismatches(env: &TestEnv, path: &str, said: &[&str]) -> Value {
    let run = env.run(&["inspect", path, "--verify"]).fails_with(1).stderr_has(said);
    assert_eq!(run.stderr.matches("error: ").count(), said.len(), "each is reported once");
    assert_eq!(run.stderr.matches("hint: The archive is damaged").count(), said.len());
    assert!(!run.stderr.contains("tagged"), "nothing is tagged");
    let seen = json_of(env, path, &["--verify"], 1);
    assert_eq!((&seen["verified"], &seen["exit_code"]), (&json!(false), &json!(1)));
    // Without the option they are not reported.
    env.run(&["inspect", path]).succeeds().output_has_none(&["MISMATCH", "error: "]);
    seen["images"].clone()
}

#[test]
fn uncompressed_layers_that_do_not_match_are_all_reported_by_name() {
    let env = TestEnv::new();
    let entries = [
        "309d5c90529ed3e6d11212b91d55422a52f9e1724831c002f814b834708fb71c/layer.tar",
        "a595d02f7ae349ba804a725b6ed7ae7016285fffe1566ed73d3198c7379f6754/layer.tar",
    ];
    let path = archive_builder::changed(&env, "docker-20.10-save.tar", &entries);
    let said = entries.map(|entry| format!("error: layer {entry} does not match the diff_id sha256:"));
    let images = mismatches(&env, &path, &[&said[0], &said[1]]);
    let layers = images[0]["manifests"][0]["layers"].as_array().unwrap();
    let wrong: Vec<_> = layers.iter().filter(|layer| !layer["found"]["error"].is_null()).collect();
    assert_eq!(wrong.len(), 2);
    for layer in wrong {
        assert!(entries.contains(&layer["name"].as_str().unwrap()));
        assert_ne!(layer["found"]["diff_id"], layer["diff_id"]);
        let cause = format!("its bytes have the diff_id {}", layer["found"]["diff_id"].as_str().unwrap());
        assert_eq!(layer["found"]["error"]["causes"], json!([cause]));
    }
    let run = env.run(&["inspect", &path, "--verify"]).fails_with(1);
    assert_eq!(run.stdout.matches("  MISMATCH\n").count(), 2);
    assert!(run.stdout.ends_with("\nverified 3 layers, 443.0 KiB: 2 mismatches\n"));
}

#[test]
fn broken_compressed_layers_are_reported_by_name() {
    for (archive, entry) in [
        ("podman-oci-archive.tar", "11eaad61269d39800f15258d798e24f6a607d0e7ad20b3fac92f2b8d942b4bb4"),
        ("crane-tarball.tar", "ec06faa51900ca0aaac0cfc4582cd158d032a73eb16f71dce8aba3320ec357d7.tar.gz"),
    ] {
        let env = TestEnv::new();
        let path = archive_builder::changed(&env, archive, &[entry]);
        let images = mismatches(&env, &path, &[entry]);
        let layers = images[0]["manifests"][0]["layers"].as_array().unwrap();
        let wrong = layers.iter().filter(|layer| !layer["found"]["error"].is_null()).map(|layer| &layer["name"]);
        let wrong: Vec<_> = wrong.map(|name| name.as_str().unwrap()).collect();
        assert!(matches!(wrong.as_slice(), [name] if name.ends_with(entry)), "{wrong:?}");
        let run = env.run(&["inspect", &path, "--verify"]).fails_with(1);
        assert!(run.stdout.ends_with("1 mismatch\n"));
    }
}

#[test]
fn an_uncompressed_layer_of_a_layout_that_does_not_match_its_digest() {
    let env = TestEnv::new();
    let layout = env.scratch("layout");
    let layers: Vec<_> = (0..8).map(|n| archive_builder::noise(n, 20_000)).collect();
    archive_builder::oci_layout(&layout, &layers);
    let names = [2, 5].map(|n: usize| sha256(&layers[n]).replace("sha256:", "blobs/sha256/"));
    names
        .iter()
        .for_each(|name| std::fs::write(format!("{layout}/{name}"), archive_builder::noise(99, 20_000)).unwrap());
    let said = names.map(|name| format!("error: layer {name} does not match the digest sha256:"));
    let images = mismatches(&env, &layout, &[&said[0], &said[1]]);
    let found = &images[0]["manifests"][0]["layers"][2]["found"];
    assert_eq!(found["digest"], sha256(&archive_builder::noise(99, 20_000)));
}

#[test]
fn a_layer_that_two_platforms_share_is_reported_once() {
    let env = TestEnv::new();
    let (from, layout) = (testdata("skopeo-oci-layout-multiarch"), env.scratch("layout"));
    std::fs::create_dir_all(format!("{layout}/blobs/sha256")).unwrap();
    for folder in ["", "/blobs/sha256"] {
        let files = std::fs::read_dir(format!("{from}{folder}")).unwrap().map(|entry| entry.unwrap().path());
        for file in files.filter(|path| path.is_file()) {
            std::fs::copy(&file, format!("{layout}{folder}/{}", file.file_name().unwrap().to_str().unwrap())).unwrap();
        }
    }
    let name = "blobs/sha256/11eaad61269d39800f15258d798e24f6a607d0e7ad20b3fac92f2b8d942b4bb4";
    let mut bytes = std::fs::read(format!("{layout}/{name}")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(format!("{layout}/{name}"), bytes).unwrap();
    let images = mismatches(&env, &layout, &[&format!("layer {name} ")]);
    let is_wrong = |manifest: &Value| !manifest["layers"][0]["found"]["error"].is_null();
    assert!(images[0]["manifests"].as_array().unwrap().iter().all(is_wrong), "it is wrong in both");
    let run = env.run(&["inspect", &layout, "--verify"]).fails_with(1);
    assert_eq!(run.stdout.matches("  MISMATCH\n").count(), 2);
    assert!(run.stdout.ends_with("\nverified 3 layers, 248.4 KiB: 1 mismatch\n"));
}

#[test]
fn a_log_hears_of_what_takes_long() {
    let env = TestEnv::new();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut command = env.command(&["inspect", "-"]);
    command.stdin(reader).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(command);
    // After the end of the first archive, the others are not read.
    writer.write_all(&std::fs::read(testdata("docker-29-overlay2-save.tar")).unwrap().repeat(6)).unwrap();
    let mut first = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut first).unwrap();
    drop(writer);
    assert!(first.starts_with("copying the archive to a temporary file: 2.0 MiB ("), "{first}");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_compressed_layer_whose_digest_is_right_and_whose_diff_id_is_not() {
    let env = TestEnv::new();
    let (layout, plain) = (env.scratch("layout"), archive_builder::tar_of("words", &archive_builder::prose(1, 90_000)));
    let config = archive_builder::config(&[sha256(b"something else")]);
    let packed = archive_builder::packed("gzip", &plain);
    let layers = [("application/vnd.oci.image.layer.v1.tar+gzip", packed.clone())];
    archive_builder::oci_layout_of(&layout, ("application/vnd.oci.image.config.v1+json", config), &layers);
    let images = mismatches(&env, &layout, &["does not match the diff_id sha256:"]);
    let found = &images[0]["manifests"][0]["layers"][0]["found"];
    assert_eq!((&found["digest"], &found["diff_id"]), (&json!(sha256(&packed)), &json!(sha256(&plain))));
}

#[test]
fn a_config_that_was_changed() {
    let env = TestEnv::new();
    let config = "92c112f97a4b73b2da373071d2e8be84471bfec08af392cc4b6479dad3d0496d.json";
    let path = archive_builder::changed(&env, "docker-20.10-save-many.tar", &[config]);
    // One image is good, and what is wrong with the other is part of what is inside.
    let run = env.run(&["inspect", &path]).succeeds();
    assert_eq!(run.stderr, "");
    assert!(run.stdout.contains("\nimage    localhost/fixture/base:1\nplatform linux/amd64\n"));
    assert!(run.stdout.contains("\nimage    localhost/fixture/app:v1\n         localhost/fixture/app:stable\n"));
    assert!(run.stdout.contains("\npush     not possible\n  the config\n"), "in lines of 80 columns");
    assert!(run.stdout.contains(" has the\n  digest sha256:") || run.stdout.contains("\n  has the digest\n  sha256:"));
    env.run(&["inspect", &path, "--verify"])
        .fails_with(1)
        .stderr_has(&["error: the config ", config, " has the digest "]);
    // Where there is no other, neither is there anything to push.
    let path = archive_builder::changed(&env, "docker-20.10-save.tar", &[config]);
    env.run(&["inspect", &path]).fails_with(1).stderr_has(&["error: the config ", config, " has the digest "]);
    let path = archive_builder::changed(&env, "podman-oci-archive.tar", &[config.trim_end_matches(".json")]);
    env.run(&["inspect", &path]).fails_with(1).stderr_has(&["error: ", " has the digest ", "hint: "]);
}

#[test]
fn an_artifact_has_neither_platform_nor_diff_ids() {
    let env = TestEnv::new();
    let layout = env.scratch("layout");
    let layers = [("application/vnd.made.up\u{1b}[31m\u{9b}0m", b"some text".to_vec())];
    archive_builder::oci_layout_of(&layout, ("application/vnd.oci.empty.v1+json", b"{}".to_vec()), &layers);
    let run = env.run(&["inspect", &layout, "--verify"]).succeeds();
    let size = b"some text".len();
    assert!(run.stdout.contains("\nplatform unspecified\n"));
    assert!(run.stdout.contains("\n         application/vnd.oci.empty.v1+json, 2 B\n"));
    let digest = &sha256(b"some text")[7..19];
    assert!(run.stdout.contains(&format!("\n         -             {digest}  none                {size} B  ok\n")));
    let seen = json_of(&env, &layout, &[], 0);
    let layer = &seen["images"][0]["manifests"][0]["layers"][0];
    assert_eq!(layer["media_type"], r"application/vnd.made.up\u{1b}[31m\u{9b}0m");
}
