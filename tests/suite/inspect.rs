//! `ecr-push inspect`: what is in an archive, for people and for programs, and whether it is what the archive says.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use super::archive_builder;
use super::archive_contents::{Source, sha256};
use super::ecr::Ecr;
use super::harness::{Run, Running, TestEnv, finish, report, testdata};

/// Every archive of `testdata` that holds an image, with the number of its images.
const ARCHIVES: [(&str, usize); 11] = [
    ("docker-20.10-save.tar", 1),
    ("docker-20.10-save-many.tar", 2),
    ("docker-20.10-save-by-id-untagged.tar", 1),
    ("docker-29-overlay2-save.tar", 1),
    ("docker-29-containerd-save-loaded.tar", 1),
    ("podman-docker-archive.tar", 1),
    ("podman-oci-archive.tar", 1),
    ("crane-tarball.tar", 1),
    ("buildah-oci-layout", 1),
    ("crane-oci-layout", 1),
    ("skopeo-oci-layout-multiarch", 1),
];

/// Looks into an archive of `testdata` by its name from the repository's folder, as the README does.
#[track_caller]
fn inspect(env: &TestEnv, archive: &str, options: &[&str]) -> Run {
    let archive = format!("testdata/{archive}");
    let mut command = env.command(&[&["inspect", &archive], options].concat());
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    finish(command, String::new)
}

/// What is in an archive, as JSON.
#[track_caller]
pub(crate) fn json_of(env: &TestEnv, archive: &str, options: &[&str], code: i32) -> Value {
    let run = env.run(&[&["inspect", archive, "--output", "json"], options].concat()).exits_with(code);
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("no JSON: {error}"))
}

#[test]
fn a_docker_save_of_two_images() {
    let env = TestEnv::new();
    let run = inspect(&env, "docker-20.10-save-many.tar", &[]).succeeds().stdout_is(
        "\
archive  testdata/docker-20.10-save-many.tar
         docker save archive, 2 images

image    localhost/fixture/app:v1
         localhost/fixture/app:stable
platform linux/amd64
manifest none
push     created as Docker schema 2: the archive has no manifest
config   sha256:92c112f97a4b73b2da373071d2e8be84471bfec08af392cc4b6479dad3d0496d
         717 B
layers   3, 443.0 KiB
         diff_id       digest        compression        size
         c37a06bee251  -             none          320.0 KiB
         fab827903802  -             none          120.5 KiB
         631cc2c4392a  -             none            2.5 KiB

image    localhost/fixture/base:1
platform linux/amd64
manifest none
push     created as Docker schema 2: the archive has no manifest
config   sha256:d62b83c4fc48157a6495a52d66489491c91fc798a6751efc7040ec5b7ddc9df7
         350 B
layers   1, 320.0 KiB
         diff_id       digest        compression        size
         c37a06bee251  -             none          320.0 KiB
",
    );
    assert_eq!(run.stderr, "");
    assert_eq!(env.written(), Vec::<String>::new());
}

#[test]
fn a_docker_save_that_states_a_manifest() {
    let run = inspect(&TestEnv::new(), "docker-29-containerd-save-loaded.tar", &["--verify"]).succeeds().stdout_is(
        "\
archive  testdata/docker-29-containerd-save-loaded.tar
         docker save archive, 1 image

image    localhost/fixture/app:v1
platform linux/amd64
manifest sha256:3dd0c91008854f8c399f71d517be4b9bd91b2a85a27b11e7c1d713305b69eb11
         application/vnd.docker.distribution.manifest.v2+json, 735 B
push     gets a new digest: uncompressed layers of a docker save are compressed
config   sha256:92c112f97a4b73b2da373071d2e8be84471bfec08af392cc4b6479dad3d0496d
         application/vnd.docker.container.image.v1+json, 717 B
layers   3, 443.0 KiB
         diff_id       digest        compression        size
         c37a06bee251  c37a06bee251  none          320.0 KiB  ok
         fab827903802  fab827903802  none          120.5 KiB  ok
         631cc2c4392a  631cc2c4392a  none            2.5 KiB  ok

verified 3 layers, 443.0 KiB: all match the archive
",
    );
    assert_eq!(run.stderr, "");
}

#[test]
fn an_archive_of_podman_s() {
    let run = inspect(&TestEnv::new(), "podman-docker-archive.tar", &[]).succeeds().stdout_is(
        "\
archive  testdata/podman-docker-archive.tar
         docker save archive, 1 image

image    localhost/fixture/app:v1
platform linux/amd64
manifest none
push     created as Docker schema 2: the archive has no manifest
config   sha256:92c112f97a4b73b2da373071d2e8be84471bfec08af392cc4b6479dad3d0496d
         717 B
layers   3, 443.0 KiB
         diff_id       digest        compression        size
         c37a06bee251  -             none          320.0 KiB
         fab827903802  -             none          120.5 KiB
         631cc2c4392a  -             none            2.5 KiB
",
    );
    assert_eq!(run.stderr, "");
}

#[test]
fn an_oci_layout_of_two_platforms() {
    let run = inspect(&TestEnv::new(), "skopeo-oci-layout-multiarch", &["--verify"]).succeeds().stdout_is(
        "\
archive  testdata/skopeo-oci-layout-multiarch
         OCI layout folder, 1 image

image    multi
index    sha256:cf32e48a8e8b60252e86f86c1a2b1b1e7fc3744ce467122236f225c9c8968f09
         application/vnd.oci.image.index.v1+json, 897 B
push     unchanged, byte for byte
lists    2 manifests

platform linux/amd64
manifest sha256:d206e745a324f6b593f5936964fae9ff8965ec2ae1d6758dbd16c2f4e6bdd797
         application/vnd.oci.image.manifest.v1+json, 907 B
push     unchanged, byte for byte
config   sha256:92c112f97a4b73b2da373071d2e8be84471bfec08af392cc4b6479dad3d0496d
         application/vnd.oci.image.config.v1+json, 717 B
layers   3, 248.4 KiB
         diff_id       digest        compression        size
         c37a06bee251  11eaad61269d  gzip          128.3 KiB  ok
         fab827903802  ec06faa51900  gzip          120.0 KiB  ok
         631cc2c4392a  f6cf1ea59da3  gzip              152 B  ok

platform linux/arm64
manifest sha256:16e51797989a3f1ffddc3a3f3e9d857771a411e8893a14dd0cc258c09781f80d
         application/vnd.oci.image.manifest.v1+json, 502 B
push     unchanged, byte for byte
config   sha256:4a7df50e196ca27c504bcc6f725428a21050949a9f5d63b116d09c73ca3e13dc
         application/vnd.oci.image.config.v1+json, 330 B
layers   1, 128.3 KiB
         diff_id       digest        compression        size
         c37a06bee251  11eaad61269d  gzip          128.3 KiB  ok

verified 3 layers, 248.4 KiB: all match the archive
",
    );
    assert_eq!(run.stderr, "");
}

#[test]
fn an_image_that_cannot_be_pushed() {
    let env = TestEnv::new();
    let run = inspect(&env, "docker-29-containerd-save-incomplete.tar", &[]).fails_with(1).stdout_is(
        "\
archive  testdata/docker-29-containerd-save-incomplete.tar
         docker save archive, 1 image

image    127.0.0.1:5999/fixture/app:amd64
ID       sha256:92c112f97a4b73b2da373071d2e8be84471bfec08af392cc4b6479dad3d0496d
push     not possible
  the archive does not contain
  blobs/sha256/11eaad61269d39800f15258d798e24f6a607d0e7ad20b3fac92f2b8d942b4bb4,
  which its manifest.json names as a layer of 127.0.0.1:5999/fixture/app:amd64
  (3 more are missing)
  hint: Docker's containerd store saves only what was pulled, without a warning.
  Pull the whole image for that platform, then save it again:
  docker pull --platform OS/ARCH IMAGE
",
    );
    run.stderr_has(&[
        "error: the archive does not contain blobs/sha256/11eaad61269d",
        "hint: Docker's containerd store",
    ]);
    let seen = json_of(&env, &testdata("docker-29-containerd-save-incomplete.tar"), &[], 1);
    assert_eq!((&seen["exit_code"], &seen["images"]), (&json!(1), &json!([])));
    let unusable = &seen["unusable"][0];
    assert_eq!(unusable["names"], json!(["127.0.0.1:5999/fixture/app:amd64"]));
    assert_eq!(unusable["id"], "sha256:92c112f97a4b73b2da373071d2e8be84471bfec08af392cc4b6479dad3d0496d");
    assert_eq!((&unusable["error"]["kind"], &unusable["error"]["exit_code"]), (&json!("input"), &json!(1)));
    assert!(
        unusable["error"]["message"]
            .as_str()
            .unwrap()
            .starts_with("the archive does not contain blobs/sha256/11eaad61269d")
    );
}

#[test]
fn nothing_is_wider_than_a_terminal_or_left_behind() {
    let incomplete = "docker-29-containerd-save-incomplete.tar";
    for archive in ARCHIVES.iter().map(|(archive, _)| *archive).chain([incomplete]) {
        for options in [&[][..], &["--verify"]] {
            let env = TestEnv::new();
            let run = inspect(&env, archive, options);
            let widest = run.stdout.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= 80, "{archive}: {widest} columns");
            assert!(run.stdout.lines().all(|line| line == line.trim_end()), "{archive}: spaces at the end of a line");
            assert_eq!(env.written(), Vec::<String>::new(), "{archive}");
        }
    }
}

/// Asserts that an object has these keys and no others.
#[track_caller]
pub(crate) fn has_keys(object: &Value, keys: &str) {
    let found: BTreeSet<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(found, keys.split(' ').collect());
}

#[test]
fn every_key_of_the_json_says_what_the_archive_holds() {
    let env = TestEnv::new();
    for (archive, images) in ARCHIVES {
        let path = testdata(archive);
        for options in [&[][..], &["--verify"]] {
            let verified = !options.is_empty();
            let seen = json_of(&env, &path, options, 0);
            has_keys(&seen, "version tool archive format notes verified exit_code listed images referrers unusable");
            assert_eq!((&seen["listed"], &seen["referrers"]), (&json!(images), &json!([])));
            assert_eq!(seen["version"], 1);
            assert_eq!(seen["tool"], json!({"name": "ecr-push", "version": env!("CARGO_PKG_VERSION")}));
            let format = match () {
                () if !archive.ends_with(".tar") => "OCI layout folder",
                () if archive.contains("oci") => "OCI layout in a tar",
                () => "docker save archive",
            };
            assert_eq!((&seen["archive"], &seen["format"]), (&json!(path), &json!(format)));
            assert_eq!((&seen["notes"], &seen["unusable"], &seen["exit_code"]), (&json!([]), &json!([]), &json!(0)));
            assert_eq!(seen["verified"], if verified { json!(true) } else { Value::Null });
            assert_eq!(seen["images"].as_array().unwrap().len(), images, "{archive}");
            for (index, image) in seen["images"].as_array().unwrap().iter().enumerate() {
                is_image(image, &Source::read(&path, index), verified);
            }
        }
    }
}

/// Asserts that an image is that of the archive.
#[track_caller]
fn is_image(image: &Value, source: &Source, verified: bool) {
    has_keys(image, "names image_id part_of platforms indexes manifests");
    assert_eq!(image["part_of"], Value::Null);
    assert_eq!(image["names"], json!(source.names));
    let configs: Vec<Value> = source.parts.iter().map(|part| serde_json::from_slice(&part.config).unwrap()).collect();
    let platform =
        |config: &Value| format!("{}/{}", config["os"].as_str().unwrap(), config["architecture"].as_str().unwrap());
    assert_eq!(image["platforms"], json!(configs.iter().map(platform).collect::<Vec<_>>()));
    let manifests = image["manifests"].as_array().unwrap();
    assert_eq!(manifests.len(), source.parts.len());
    if source.parts.len() > 1 {
        let index = &image["indexes"][0];
        has_keys(index, "digest media_type size digest_kept reason lists absent");
        assert_eq!(index["absent"], json!([]));
        assert_eq!((&index["digest"], &image["image_id"]), (&json!(source.digest), &json!(source.digest)));
        assert_eq!(index["media_type"], "application/vnd.oci.image.index.v1+json");
        let lists = source.parts.iter().map(|part| sha256(part.manifest.as_ref().unwrap()));
        assert_eq!(index["lists"], json!(lists.collect::<Vec<_>>()));
    } else {
        assert_eq!((&image["indexes"], &image["image_id"]), (&json!([]), &json!(sha256(&source.parts[0].config))));
    }
    for ((manifest, part), config) in manifests.iter().zip(&source.parts).zip(&configs) {
        has_keys(
            manifest,
            "listed_for digest media_type size digest_kept reason role platform attests config layers foreign",
        );
        assert_eq!((&manifest["role"], &manifest["attests"]), (&json!("image"), &Value::Null));
        assert_eq!(manifest["foreign"], json!([]));
        assert_eq!(manifest["platform"], platform(config));
        let stated: Value = part.manifest.as_ref().map_or(Value::Null, |bytes| serde_json::from_slice(bytes).unwrap());
        let digest = part.manifest.as_ref().map(|bytes| sha256(bytes));
        assert_eq!((&manifest["digest"], &manifest["media_type"]), (&json!(digest), &stated["mediaType"]));
        assert_eq!(manifest["size"], json!(part.manifest.as_ref().map(Vec::len)));
        let media_type = &stated["config"]["mediaType"];
        let config = json!({"digest": sha256(&part.config), "media_type": media_type, "size": part.config.len()});
        assert_eq!(manifest["config"], config);
        for (n, (layer, held)) in manifest["layers"].as_array().unwrap().iter().zip(&part.layers).enumerate() {
            has_keys(layer, "name size in_archive packing media_type digest diff_id origins found");
            assert_eq!((&layer["size"], &layer["diff_id"]), (&json!(held.len), &json!(held.diff_id)));
            assert_eq!(layer["packing"], if held.packed.is_some() { "gzip" } else { "plain" });
            let stated = &stated["layers"][n];
            assert_eq!((&layer["digest"], &layer["media_type"]), (&stated["digest"], &stated["mediaType"]));
            let bytes = held.packed.as_ref().unwrap_or(&held.plain);
            let found = json!({"digest": bytes, "diff_id": held.plain, "error": null});
            assert_eq!(layer["found"], if verified { found } else { Value::Null });
            assert!(!layer["name"].as_str().unwrap().is_empty());
        }
    }
}

/// The digest and the media type that a push of the first image gives, and the images of the archive.
fn pushed(path: &str) -> (Value, Value, Value) {
    let ecr = Ecr::new();
    let written = ecr.env.scratch("report.json");
    let seen = json_of(&ecr.env, path, &[], 0);
    let image = &seen["images"][0];
    let id = image["image_id"].as_str().unwrap();
    ecr.run(&[path, "team/app:1", "--image-id", id, "--report", &written]).succeeds();
    let target = report(&written)["targets"][0].take();
    (target["digest"].clone(), target["media_type"].clone(), image.clone())
}

#[test]
fn a_push_keeps_the_digests_that_are_said_to_be_kept_and_no_others() {
    for (archive, _) in ARCHIVES {
        let (digest, media_type, image) = pushed(&testdata(archive));
        let root = if image["indexes"] == json!([]) { &image["manifests"][0] } else { &image["indexes"][0] };
        assert_eq!(root["digest_kept"], root["digest"] == digest, "{archive}");
        let reason = match (&root["digest"], root["digest_kept"].as_bool().unwrap()) {
            (_, true) => "unchanged, byte for byte",
            (Value::Null, false) => "created as Docker schema 2: the archive has no manifest",
            (_, false) => "gets a new digest: uncompressed layers of a docker save are compressed",
        };
        assert_eq!(root["reason"], reason, "{archive}");
        if root["digest"].is_null() {
            assert_eq!(media_type, "application/vnd.docker.distribution.manifest.v2+json", "{archive}");
        }
    }
}

#[test]
fn a_manifest_for_zstd_is_made_of_oci() {
    let env = TestEnv::new();
    let path = env.scratch("zstd.tar");
    let plain = archive_builder::tar_of("words", &archive_builder::prose(1, 90_000));
    let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
    archive_builder::add(&mut tar, "layer.tar.zst", &zstd::encode_all(plain.as_slice(), 3).unwrap());
    archive_builder::finish_docker_save(&mut tar, &["layer.tar.zst".into()], &[sha256(&plain)]);
    drop(tar);
    let (_, media_type, image) = pushed(&path);
    assert_eq!(media_type, "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(image["manifests"][0]["reason"], "created as OCI, for zstd: the archive has no manifest");
    assert_eq!(json_of(&env, &path, &["--verify"], 0)["images"][0]["manifests"][0]["layers"][0]["packing"], "zstd");
}

/// A `docker save` of an index of one manifest, of a plain layer.
fn save_of_an_index(env: &TestEnv) -> String {
    let (folder, path) = (env.scratch("layout"), env.scratch("index.tar"));
    let layer = archive_builder::tar_of("words", &archive_builder::prose(1, 90_000));
    archive_builder::oci_layout(&folder, std::slice::from_ref(&layer));
    let media_type = "application/vnd.oci.image.index.v1+json";
    let mut index: Value = serde_json::from_slice(&std::fs::read(format!("{folder}/index.json")).unwrap()).unwrap();
    index["mediaType"] = media_type.into();
    let mut root = archive_builder::blob(&folder, media_type, index.to_string().as_bytes());
    root["annotations"] = json!({"io.containerd.image.name": "made/up:1"});
    let root = json!({"schemaVersion": 2, "manifests": [root]});
    std::fs::write(format!("{folder}/index.json"), root.to_string()).unwrap();
    let file = |bytes: &[u8]| sha256(bytes).replace(':', "/");
    let config = file(&archive_builder::config(&[sha256(&layer)]));
    let saved = json!([{
        "Config": format!("blobs/{config}"),
        "RepoTags": ["made/up:1"],
        "Layers": [format!("blobs/{}", file(&layer))],
    }]);
    std::fs::write(format!("{folder}/manifest.json"), saved.to_string()).unwrap();
    let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
    tar.append_dir_all("", &folder).unwrap();
    tar.finish().unwrap();
    path
}

#[test]
fn an_index_above_a_manifest_that_is_changed_is_changed() {
    let env = TestEnv::new();
    let (digest, _, image) = pushed(&save_of_an_index(&env));
    let (index, manifest) = (&image["indexes"][0], &image["manifests"][0]);
    assert_ne!(index["digest"], digest);
    assert_eq!((&index["digest_kept"], &manifest["digest_kept"]), (&json!(false), &json!(false)));
    assert_eq!(index["reason"], "gets a new digest: a manifest that it lists gets one");
    assert_eq!(manifest["reason"], "gets a new digest: uncompressed layers of a docker save are compressed");
}

#[test]
fn no_control_character_reaches_a_terminal() {
    let env = TestEnv::new();
    let path = env.scratch("names.tar");
    let layer = archive_builder::tar_of("words", b"words");
    let config = archive_builder::config(&[sha256(&layer)]);
    let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
    archive_builder::add(&mut tar, "layer.tar", &layer);
    archive_builder::add(&mut tar, "config.json", &config);
    let bad = "\u{1b}]0;title\u{7}\u{9b}2Jbad:1";
    let saved = json!([
        {"Config": "config.json", "RepoTags": ["good:1", bad], "Layers": ["layer.tar"]},
        {"Config": format!("gone{bad}.json"), "RepoTags": [bad], "Layers": [format!("gone{bad}.tar")]},
    ]);
    archive_builder::add(&mut tar, "manifest.json", saved.to_string().as_bytes());
    tar.finish().unwrap();
    drop(tar);
    for options in [&[][..], &["--verify"], &["--output", "json"]] {
        let run = env.run(&[&["inspect", &path], options].concat());
        let all = format!("{}{}", run.stdout, run.stderr);
        assert!(all.contains("good:1") && all.contains("2Jbad"), "both are named");
        assert!(!all.contains(|char: char| char.is_control() && char != '\n'), "{all:?}");
    }
}

#[test]
fn no_mark_that_turns_the_direction_of_writing_is_printed() {
    let env = TestEnv::new();
    let path = env.scratch("names.tar");
    let layer = archive_builder::tar_of("words", b"words");
    let mut config: Value = serde_json::from_slice(&archive_builder::config(&[sha256(&layer)])).unwrap();
    let marks = ['\u{202e}', '\u{2066}', '\u{200f}'];
    config["os"] = json!(format!("linux{}", marks.iter().collect::<String>()));
    let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
    archive_builder::add(&mut tar, "layer.tar", &layer);
    archive_builder::add(&mut tar, "config.json", config.to_string().as_bytes());
    let bad = format!("gone{}txt", marks.iter().collect::<String>());
    let saved = json!([
        {"Config": "config.json", "RepoTags": ["good:1"], "Layers": ["layer.tar"]},
        {"Config": format!("{bad}.json"), "RepoTags": [bad], "Layers": [format!("{bad}.tar")]},
    ]);
    archive_builder::add(&mut tar, "manifest.json", saved.to_string().as_bytes());
    tar.finish().unwrap();
    drop(tar);
    for options in [&[][..], &["--verify"], &["--output", "json"]] {
        let run = env.run(&[&["inspect", &path], options].concat());
        let all = format!("{}{}", run.stdout, run.stderr);
        assert!(all.contains("good:1") && all.contains("gone"), "both are named");
        assert!(!all.contains(marks), "{all:?}");
    }
}

#[test]
fn a_pipe_and_a_compressed_archive_are_spooled_where_told() {
    let env = TestEnv::new();
    let plain = std::fs::read(testdata("podman-oci-archive.tar")).unwrap();
    let whole = env.run(&["inspect", &testdata("podman-oci-archive.tar"), "--verify"]).succeeds().stdout;
    let images = |text: &str| text.split_once("\n\n").unwrap().1.to_owned();
    for (bytes, note) in [
        (plain.clone(), "note     standard input is a pipe: copied into a temporary file, "),
        (
            archive_builder::packed("gzip", &plain),
            "note     standard input is compressed with gzip: decompressed into a temporary",
        ),
    ] {
        let fed = |options: &[&str]| {
            let (reader, mut writer) = std::io::pipe().unwrap();
            let bytes = bytes.clone();
            std::thread::spawn(move || writer.write_all(&bytes));
            Running::fed(env.command(&[&["inspect", "-", "--verify"], options].concat()), Stdio::from(reader)).end()
        };
        let run = fed(&[]).succeeds();
        assert!(run.stdout.starts_with("archive  standard input\n"));
        assert!(run.stdout.contains(note), "the note is shown");
        assert_eq!(images(&run.stdout), images(&whole));
        assert_eq!(run.stderr, "");
        assert_eq!(env.written(), Vec::<String>::new());
        fed(&["--temp-dir", "no/such/folder"])
            .fails_with(2)
            .stdout_is("")
            .stderr_has(&["no/such/folder", "--temp-dir DIR"]);
    }
}

#[test]
fn nobody_is_asked() {
    let ecr = Ecr::new();
    for (archive, _) in ARCHIVES {
        let mut command = ecr.env.command(&["inspect", &testdata(archive), "--verify"]);
        for variable in ["AWS_ENDPOINT_URL_ECR", "ECR_PUSH_REGISTRY_ENDPOINT", "http_proxy", "https_proxy"] {
            command.env(variable, ecr.url());
        }
        ecr.finish(command).succeeds();
    }
    assert!(ecr.log().is_empty(), "not even where somebody would answer");
}

#[test]
fn the_environment_stands_in_for_its_options_and_those_of_a_push_are_not_for_it() {
    let env = TestEnv::new();
    let archive = testdata("docker-20.10-save.tar");
    let with = |name: &str, value: &str, arguments: &[&str]| {
        let mut command = env.command(&[&["inspect", &archive], arguments].concat());
        command.env(name, value);
        finish(command, String::new)
    };
    assert!(with("ECR_PUSH_OUTPUT", "json", &[]).succeeds().stdout.starts_with("{\n  \"version\": 1,"));
    assert!(with("ECR_PUSH_OUTPUT", "json", &["--output=text"]).succeeds().stdout.starts_with("archive  "));
    assert!(with("ECR_PUSH_VERIFY", "true", &[]).succeeds().stdout.contains("\nverified 3 layers"));
    assert!(!with("ECR_PUSH_VERIFY", "false", &[]).succeeds().stdout.contains("\nverified"));
    with("ECR_PUSH_VERIFY", "perhaps", &[]).fails_with(2).stdout_is("").stderr_has(&["ECR_PUSH_VERIFY"]);
    with("ECR_PUSH_CONCURRENCY", "nonsense", &[]).succeeds();
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_opened() {
    let env = TestEnv::new();
    for (arguments, says) in [
        (&["inspect"][..], "<ARCHIVE>"),
        (&["inspect", "a.tar", "team/app:1"], "team/app:1"),
        (&["inspect", "a.tar", "--output", "yaml"], "yaml"),
        (&["inspect", "a.tar", "--region", "eu-west-1"], "--region"),
        (&["inspect", "a.tar", "--output", "$(Format)"], "$(Format)"),
        (&["a.tar", "team/app:1", "--verify"], "--verify"),
    ] {
        env.run(arguments).fails_with(2).stdout_is("").stderr_has(&["error: ", says]);
    }
    let run = env.run(&["inspect", "missing.tar", "--output", "json"]).fails_with(1).stdout_is("");
    run.stderr_has(&["error: there is no file missing.tar\n"]);
}
