//! `ecr-push inspect`: what is in an archive, for people and for programs, and whether it is what the archive says.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use super::archive_builder;
use super::archive_contents::sha256;
use super::ecr::Ecr;
use super::harness::{Run, Running, TestEnv, finish, testdata};

/// Every archive of `testdata` that holds an image, with the number of its images.
pub(crate) const ARCHIVES: [(&str, usize); 11] = [
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
fn a_pipe_and_a_compressed_archive_are_spooled_in_the_folder_of_the_option() {
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
fn inspect_sends_no_request() {
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
fn variables_replace_its_options_and_those_of_a_push_have_no_effect() {
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
    run.stderr_has(&["error: cannot find the file missing.tar\n"]);
}
