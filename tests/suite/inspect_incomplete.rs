//! What `ecr-push inspect` shows of incomplete images: platforms that were never pulled, layers that are
//! elsewhere, what was signed; and one image of many.

use std::path::Path;

use serde_json::{Value, json};

use super::archive_builder;
use super::archive_contents::sha256;
use super::harness::{Run, TestEnv, finish, testdata};
use super::inspect::json_of;
use super::inspect_json::has_keys;
use super::layout_builder::{Layout, annotated, digest, hex};

const SPDX: &str = "application/spdx+json";

/// Inspects an archive by its path from its folder.
#[track_caller]
fn inspect(env: &TestEnv, path: &str, options: &[&str]) -> Run {
    let (folder, name) = path.rsplit_once('/').unwrap();
    let mut command = env.command(&[&["inspect", name], options].concat());
    command.current_dir(Path::new(folder));
    let run = finish(command, String::new);
    assert!(run.stdout.lines().all(|line| line.chars().count() <= 80 && line == line.trim_end()), "80 columns");
    run
}

fn short(descriptor: &Value) -> String {
    digest(descriptor)[..19].to_owned()
}

#[test]
fn what_an_index_lists_and_the_archive_does_not_contain() {
    let env = TestEnv::new();
    let layout = Layout::new(&env, "layout");
    let [amd64, arm64] = ["linux/amd64", "linux/arm64/v8"].map(|it| layout.image(it));
    let [about_amd64, about_arm64] = [&amd64, &arm64].map(|it| layout.attestation(it));
    let index = layout.index(&[amd64.clone(), arm64.clone(), about_amd64.clone(), about_arm64.clone()]);
    [&arm64, &about_arm64].into_iter().for_each(|it| layout.remove(it));
    layout.finish(std::slice::from_ref(&index));
    let run = inspect(&env, &layout.path, &["--verify"]).succeeds();
    let text = format!(
        "\
index    {}
         application/vnd.oci.image.index.v1+json, {}
push     rejected unless a part is selected: some of it is missing
lists    2 manifests, and 2 more missing from the archive
missing  {}  linux/arm64
         {}  attestation of {}

platform linux/amd64
",
        digest(&index),
        shown_size(&index),
        short(&arm64),
        short(&about_arm64),
        short(&arm64)
    );
    assert!(run.stdout.contains(&text), "{}", run.stdout);
    assert!(run.stdout.contains(&format!("\n\nattests  {}\nmanifest {}\n", digest(&amd64), digest(&about_amd64))));

    let seen = json_of(&env, &layout.path, &[], 0);
    let seen = &seen["images"][0];
    let absent = &seen["indexes"][0]["absent"];
    has_keys(&absent[0], "digest role platform attests error");
    let facts = |absent: &Value| ["digest", "role", "platform", "attests"].map(|key| absent[key].clone());
    assert_eq!(facts(&absent[0]), [json!(digest(&arm64)), json!("image"), json!("linux/arm64"), Value::Null]);
    assert_eq!(
        facts(&absent[1]),
        [json!(digest(&about_arm64)), json!("attestation"), Value::Null, json!(digest(&arm64))]
    );
    assert!(absent[0]["error"]["message"].as_str().unwrap().contains("the archive does not contain blobs/sha256/"));
    assert_eq!((&seen["indexes"][0]["digest_kept"], absent.as_array().unwrap().len()), (&json!(false), 2));
    assert_eq!(seen["indexes"][0]["lists"], json!([digest(&amd64), digest(&about_amd64)]));
    let roles = |n: usize| (seen["manifests"][n]["role"].clone(), seen["manifests"][n]["attests"].clone());
    assert_eq!((roles(0), roles(1)), ((json!("image"), Value::Null), (json!("attestation"), json!(digest(&amd64)))));

    // With no more missing than attestations the image goes alone.
    layout.finish(&[layout.index(&[amd64, about_arm64])]);
    let run = inspect(&env, &layout.path, &[]).succeeds();
    assert!(run.stdout.contains("\npush     its image only: attestations are missing\n"), "{}", run.stdout);
}

/// The size that a descriptor states, as people read it.
fn shown_size(descriptor: &Value) -> String {
    let size = descriptor["size"].as_u64().unwrap();
    if size < 1024 { format!("{size} B") } else { format!("{:.1} KiB", size as f64 / 1024.0) }
}

#[test]
fn a_manifest_that_stands_for_two_platforms() {
    let env = TestEnv::new();
    let layout = Layout::new(&env, "layout");
    let amd64 = layout.image("linux/amd64");
    let mut arm64 = amd64.clone();
    arm64["platform"]["architecture"] = json!("arm64");
    layout.finish(&[layout.index(&[amd64, arm64])]);
    let run = inspect(&env, &layout.path, &[]).succeeds();
    let platforms: Vec<_> = run.stdout.lines().filter(|line| line.starts_with("platform ")).collect();
    assert_eq!(platforms, ["platform linux/amd64", "platform linux/arm64 (its config has linux/amd64)"]);
    let seen = json_of(&env, &layout.path, &[], 0);
    let second = &seen["images"][0]["manifests"][1];
    assert_eq!((&second["listed_for"], &second["platform"]), (&json!("linux/arm64"), &json!("linux/amd64")));
}

#[test]
fn layers_that_are_not_distributable() {
    let env = TestEnv::new();
    let path = env.scratch("layout");
    let layers = [
        archive_builder::tar_of("windows", &archive_builder::noise(1, 5000)),
        archive_builder::tar_of("app", &archive_builder::prose(1, 5000)),
    ];
    archive_builder::oci_layout(&path, &layers);
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let (digest, url) = (sha256(&layers[0]), "https://example.com/windows");
    archive_builder::edit_manifest(&path, |manifest| {
        manifest["layers"][0] = json!({"mediaType": foreign, "digest": digest, "size": layers[0].len(), "urls": [url]});
    });
    let hex = |digest: &str| digest[7..19].to_owned();
    let app = hex(&sha256(&layers[1]));
    for (in_archive, diff_id, here) in [(true, hex(&digest), "  in the archive"), (false, "-".into(), "")] {
        let run = inspect(&env, &path, &["--verify"]).succeeds();
        let text = format!(
            "\
layers   1, 6.5 KiB, and 1 non-distributable, not uploaded
         diff_id       digest        compression        size
         {diff_id:<12}  {}  foreign         6.5 KiB{here}
           {url}
         {app}  {app}  none            6.5 KiB  ok
",
            hex(&digest)
        );
        assert!(run.stdout.contains(&text), "{}", run.stdout);
        let seen = json_of(&env, &path, &[], 0);
        let expected = json!([{"at": 0, "digest": digest, "size": layers[0].len(), "media_type": foreign,
            "urls": [url], "in_archive": in_archive}]);
        assert_eq!(seen["images"][0]["manifests"][0]["foreign"], expected);
        std::fs::remove_file(format!("{path}/blobs/{}", digest.replace(':', "/"))).ok();
    }
}

#[test]
fn the_referrers_of_an_image() {
    let env = TestEnv::new();
    let layout = Layout::new(&env, "layout");
    let image = layout.image("linux/amd64");
    let sbom = layout.artifact(&image, SPDX, "an SBOM");
    let about_sbom = layout.artifact(&sbom, "application/vnd.dev.sigstore.bundle.v0.3+json", "a signature");
    let signature = layout.signature(&image);
    let tag = format!("sha256-{}.sig", hex(&image));
    let tagged = annotated(&signature, &json!({"org.opencontainers.image.ref.name": tag}));
    layout.finish(&[image.clone(), tagged, about_sbom.clone(), sbom.clone()]);
    let run = inspect(&env, &layout.path, &["--verify"]).succeeds();
    assert!(run.stdout.contains("\nimage    unnamed\nattached 3 referrers (pushed with --referrers)\n"));
    let row = |of: &Value, kind: &str, subject: &Value, layers: &str| {
        format!("\nreferrer {}\n         {kind}\n         of {}, {layers}  ok\n", digest(of), short(subject))
    };
    let view: Value = serde_json::from_slice(&layout.bytes(&signature)).unwrap();
    let signed = format!("1 layer, {}", shown_size(&view["layers"][0]));
    for text in [
        row(&signature, "cosign signature, by its tag (.sig)", &image, &signed),
        row(&sbom, SPDX, &image, "1 layer, 7 B"),
        row(&about_sbom, "application/vnd.dev.sigstore.bundle.v0.3+json", &sbom, "1 layer, 11 B"),
    ] {
        assert!(run.stdout.contains(&text), "{text}\n in \n{}", run.stdout);
    }
    assert!(run.stdout.ends_with("all match the archive\n") && run.stdout.contains("\nverified 4 layers, "));

    let seen = json_of(&env, &layout.path, &["--verify"], 0);
    let referrers = seen["referrers"].as_array().unwrap();
    has_keys(&referrers[0], "names digest media_type size artifact_type subject tag layers error");
    let facts = |it: &Value| ["digest", "artifact_type", "subject", "tag"].map(|key| it[key].clone());
    let found: Vec<_> = referrers.iter().map(facts).collect();
    let config = "application/vnd.oci.image.config.v1+json";
    assert!(
        found.contains(&[json!(digest(&signature)), json!(config), json!(digest(&image)), json!(tag)]),
        "{found:?}"
    );
    assert!(found.contains(&[json!(digest(&sbom)), json!(SPDX), json!(digest(&image)), Value::Null]), "{found:?}");
    assert_eq!(referrers[0]["layers"][0]["found"]["error"], Value::Null);

    // One of them alone, by what is shown.
    let run = inspect(&env, &layout.path, &["--image-id", &hex(&sbom)]).succeeds();
    assert!(run.stdout.contains(&format!(
        "\nattached 1 referrer (pushed with --referrers)\nplatform unspecified\nmanifest {}\n",
        digest(&sbom)
    )));

    // A changed one is reported if all is read, and so is an incomplete one.
    let payload = json!({"digest": sha256(b"an SBOM")});
    layout.remove(&view["layers"][0]);
    std::fs::write(format!("{}/blobs/sha256/{}", layout.path, hex(&payload)), b"no SBOM").unwrap();
    let run = inspect(&env, &layout.path, &["--verify"]).fails_with(1);
    assert!(run.stdout.contains(&format!("of {}, 1 layer, 7 B  MISMATCH\n", short(&image))), "{}", run.stdout);
    assert!(run.stdout.contains("\nreferrer cannot be pushed\n  the archive does not contain\n"), "{}", run.stdout);
    run.stderr_has(&["does not match the digest"]);
    let seen = json_of(&env, &layout.path, &[], 0);
    let lost = seen["referrers"].as_array().unwrap().iter().find(|it| !it["error"].is_null()).unwrap();
    assert!(lost["error"]["message"].as_str().unwrap().starts_with("the archive does not contain blobs/"));
    assert_eq!((&lost["digest"], &lost["subject"]), (&Value::Null, &Value::Null));
}

#[test]
fn one_image_of_many() {
    let env = TestEnv::new();
    let many = testdata("docker-20.10-save-many.tar");
    let base = "d62b83c4fc48157a6495a52d66489491c91fc798a6751efc7040ec5b7ddc9df7";
    let run = inspect(&env, &many, &["--image", "fixture/base:1", "--verify"]).succeeds();
    let head = "archive  docker-20.10-save-many.tar\n         docker save archive, 1 of 2 images\n\n\
                image    localhost/fixture/base:1\nplatform linux/amd64\n";
    assert!(run.stdout.starts_with(head), "{}", run.stdout);
    assert!(run.stdout.ends_with("\nverified 1 layer, 320.0 KiB: all match the archive\n"), "{}", run.stdout);
    for options in [["--image-id", &base[..12]], ["--image", "localhost/fixture/base:1"]] {
        let seen = json_of(&env, &many, &options, 0);
        assert_eq!((&seen["listed"], seen["images"].as_array().unwrap().len()), (&json!(2), 1));
        assert_eq!(seen["images"][0]["image_id"], format!("sha256:{base}"));
    }
    let refused = |options: &[&str], code: i32, says: &[&str]| {
        inspect(&env, &many, options).exits_with(code).stdout_is("").stderr_has(says);
    };
    refused(&["--image", "other:1"], 1, &["contains no image other:1", "--image localhost/fixture/app:v1"]);
    refused(&["--image", "a", "--image-id", "b"], 2, &["--image"]);
    refused(&["--platform", "amd64"], 2, &["is not a platform"]);
    refused(&["--image", ""], 2, &["--image is empty"]);
    refused(&["--platform", "linux/amd64"], 2, &["contains 2 images, and none is selected"]);
}

#[test]
fn one_platform_of_an_index() {
    let env = TestEnv::new();
    let path = testdata("skopeo-oci-layout-multiarch");
    let index = "sha256:cf32e48a8e8b60252e86f86c1a2b1b1e7fc3744ce467122236f225c9c8968f09";
    let run = inspect(&env, &path, &["--platform", "linux/arm64/v8"]).succeeds();
    let text = format!("image    multi\npart of  {index}\nplatform linux/arm64\nmanifest sha256:16e51797989a");
    assert!(run.stdout.contains(&text), "{}", run.stdout);
    let seen = json_of(&env, &path, &["--platform", "linux/arm64"], 0);
    assert_eq!((&seen["images"][0]["part_of"], &seen["images"][0]["indexes"]), (&json!(index), &json!([])));
    inspect(&env, &path, &["--platform", "linux/s390x"]).fails_with(2).stderr_has(&["--platform linux/arm64"]);

    // An image without some platforms is shown nevertheless.
    let layout = Layout::new(&env, "layout");
    let [amd64, arm64] = ["linux/amd64", "linux/arm64"].map(|it| layout.image(it));
    let index = layout.index(&[amd64.clone(), arm64.clone()]);
    layout.finish(&[
        annotated(&index, &json!({"org.opencontainers.image.ref.name": "app:1"})),
        layout.image("linux/s390x"),
    ]);
    layout.remove(&arm64);
    let seen = json_of(&env, &layout.path, &["--image", "app:1"], 0);
    assert_eq!((&seen["listed"], &seen["images"][0]["indexes"][0]["digest"]), (&json!(2), &json!(digest(&index))));
    let seen = json_of(&env, &layout.path, &["--platform", "linux/amd64"], 0);
    assert_eq!(seen["images"][0]["manifests"][0]["digest"], json!(digest(&amd64)));
}

#[test]
fn a_referrer_of_several_images_is_shown_once() {
    let env = TestEnv::new();
    let layout = Layout::new(&env, "layout");
    let (amd64, arm64) = (layout.image("linux/amd64"), layout.image("linux/arm64"));
    let sbom = layout.artifact(&amd64, SPDX, "an SBOM");
    let of_second = layout.artifact(&arm64, SPDX, "another SBOM");
    layout.finish(&[layout.index(std::slice::from_ref(&amd64)), layout.index(&[arm64, amd64]), sbom.clone()]);
    let run = inspect(&env, &layout.path, &["--verify"]).succeeds();
    let belongs: Vec<_> = run.stdout.lines().filter(|line| line.starts_with("attached ")).collect();
    let first = "attached 1 referrer (pushed with --referrers)";
    assert_eq!(belongs, [first, "attached 2 referrers (pushed with --referrers); 1 of them above"]);
    let shown: Vec<_> = run.stdout.lines().filter_map(|line| line.strip_prefix("referrer ")).collect();
    assert_eq!(shown, [digest(&sbom), digest(&of_second)]);
    assert!(run.stdout.contains("\nverified 4 layers, "), "{}", run.stdout);
    let seen = json_of(&env, &layout.path, &[], 0);
    assert_eq!(seen["referrers"].as_array().unwrap().len(), 2);
}

#[test]
fn a_note_is_broken_between_words() {
    let env = TestEnv::new();
    let archive = env.scratch("a-name-that-leaves-room-for-one-word-in-the-first-lines-of-them.tar");
    let whole = std::fs::read(testdata("docker-20.10-save.tar")).unwrap();
    std::fs::write(&archive, &whole[..whole.len() - whole.iter().rev().take_while(|byte| **byte == 0).count()])
        .unwrap();
    let mut command = env.command(&["inspect", archive.rsplit('/').next().unwrap()]);
    command.current_dir(Path::new(&archive).parent().unwrap());
    let run = finish(command, String::new).succeeds();
    let note: Vec<_> = run.stdout.lines().skip(2).take_while(|line| !line.is_empty()).collect();
    assert_eq!(
        note,
        [
            "note     a-name-that-leaves-room-for-one-word-in-the-first-lines-of-them.tar has",
            "         no end mark, but it contains everything that it lists"
        ]
    );
}

#[test]
fn no_name_of_a_referrer_does_things_to_a_terminal() {
    let env = TestEnv::new();
    let layout = Layout::new(&env, "layout");
    let image = layout.image("linux/amd64");
    let sbom = layout.artifact(&image, "application/spdx\u{9b}2J", "an SBOM");
    let bad = json!({"org.opencontainers.image.ref.name": "sbom\u{9b}2J"});
    layout.finish(&[image, annotated(&sbom, &bad)]);
    for options in [&[][..], &["--output", "json"], &["--image-id", &hex(&sbom), "--output", "json"]] {
        let run = env.run(&[&["inspect", &layout.path], options].concat()).succeeds();
        assert!(run.stdout.contains(&hex(&sbom)), "it is shown");
        assert!(!run.stdout.contains(|char: char| char.is_control() && char != '\n'), "{:?}", run.stdout);
    }
}
