//! What runs of several images report besides their lines: the sums of a plan, errors before the first push, the summary of a
//! CI system.

use std::fs;
use std::time::Duration;

use ecr_push::sandbox::{BlobMounting, Fault, Rules};
use serde_json::{Value, json};

use super::archive_builder::{prose, tar_of};
use super::bundles::{lines, mirror, mirror_listed, save, save_numbered, save_without};
use super::ecr::{Ecr, status};
use super::faults::interrupt;
use super::harness::{Run, Running, testdata, wait_until};
use super::schema;

#[test]
fn a_plan_sums_up_what_it_would_do() {
    let ecr = Ecr::empty();
    let archive = save(&ecr.env, &[&["a:1", "a:2"], &["b:1"]]);
    let plan = |images: &Run| lines(images).1["planned"].clone();
    let run = mirror(&ecr, &archive, &["--output", "jsonl", "--dry-run"]).succeeds();
    let bytes = 2 * (tar_of("base", &prose(1, 60_000)).len() + tar_of("own", &prose(2, 30_000)).len());
    // Four layers, since this account mounts none; two repositories and three tags.
    let planned = json!({"repositories": 2, "layers": 4, "archive_bytes": bytes, "manifests": 3, "requests": 13});
    assert_eq!(plan(&run), planned);
    let run = run.stderr_has(&[
        "2 images: 2 would be pushed, 0 already up to date, 0 failed; 2 repositories to create, 4 layers to upload (",
        " of the archive), 3 manifests to put: at least 13 requests; nothing was sent",
    ]);
    assert_eq!((lines(&run).1["dry_run"].as_bool(), ecr.repositories().len()), (Some(true), 0));
    assert_eq!(plan(&mirror(&ecr, &archive, &["--output", "jsonl"]).succeeds()), Value::Null);
    let none = json!({"repositories": 0, "layers": 0, "archive_bytes": 0, "manifests": 0, "requests": 0});
    assert_eq!(plan(&mirror(&ecr, &archive, &["--output", "jsonl", "--dry-run"]).succeeds()), none);
}

#[test]
fn a_plan_counts_a_layer_as_often_as_it_is_sent() {
    // Two archives of one image of three layers, and another one of two images with one of these layers.
    let archives =
        ["docker-20.10-save.tar", "podman-docker-archive.tar"].map(|archive| format!("{} team/", testdata(archive)));
    let [one, other] = archives;
    let many = format!("{} team/", testdata("docker-20.10-save-many.tar"));
    let text = format!("{one}a:1\n{other}b:1\n{other}b:2\n{many}b:3 --image localhost/fixture/base:1\n");
    for (blob_mounting, layers, mounts) in [(BlobMounting::Enabled, 3, 3), (BlobMounting::Disabled, 6, 0)] {
        let ecr = Ecr::with(&[], Rules { blob_mounting, ..Rules::default() });
        let batch = ecr.env.scratch("pushes.txt");
        fs::write(&batch, &text).unwrap();
        let run = |options: &[&str]| {
            lines(
                &ecr.run(&[&["batch", &batch, "--create-repository", "--output", "jsonl"], options].concat())
                    .succeeds(),
            )
            .1
        };
        let planned = run(&["--dry-run"])["planned"].clone();
        // Two repositories and four manifests, and two requests a layer that is sent.
        let requests = 2 + 4 + 2 * layers + mounts;
        assert_eq!((&planned["layers"], &planned["requests"]), (&json!(layers), &json!(requests)), "{planned:#}");
        assert_eq!(ecr.count("ecr:GetAccountSetting"), 1);
        let summary = run(&[]);
        assert_eq!(summary["totals"]["layers"]["upload"], planned["layers"], "{summary:#}\n{}", ecr.story());
    }
}

#[test]
fn an_error_names_its_image_and_an_interruption_is_one() {
    let ecr = Ecr::with(&[], Rules { delay: Duration::from_millis(50), ..Rules::default() });
    let archive = save_without(&ecr.env, &[&["a:1"], &["b:1"]], Some(1));
    let run = mirror(&ecr, &archive, &[]).fails_with(1);
    run.stderr_has(&["error: mirror/b:1: the archive does not", "failed: mirror/b:1: the archive does not"]);
    let archive = save_numbered(&ecr.env, "image", 12);
    let running = Running::start(ecr.command(&[&archive, "other/", "--all-images", "--create-repository"]));
    wait_until("an image is pushed", || ecr.count("ecr:PutImage") > 1);
    interrupt(running.id());
    let run = running.end().exits_with(130);
    assert_eq!(run.stderr.matches("error: ").count(), 1, "{}", run.stderr);
    run.stderr_has(&["error: interrupted\n  hint: Run the same command again", " not attempted"]);
}

#[test]
fn an_error_of_several_images_is_logged_once_with_its_advice() {
    let ecr = Ecr::empty();
    let rejected = || Fault::once("ecr:GetAuthorizationToken", status(400, "UnrecognizedClientException", "bad token"));
    ecr.set_rules(|rules| rules.faults = vec![rejected().times(u32::MAX)]);
    let archive = save(&ecr.env, &[&["a:1"], &["b:1"], &["c:1"]]);
    let log = |options: &[&str]| mirror(&ecr, &archive, &[&["--output", "jsonl"], options].concat()).fails_with(3);
    let run = log(&[]);
    let count = |text: &str| run.stderr.matches(text).count();
    assert_eq!((count("error: "), count("hint: "), count("(the same error as for ")), (3, 1, 4), "{}", run.stderr);
    // The error, and the list at the end.
    assert_eq!(count("bad token"), 2, "{}", run.stderr);
    let (images, _) = lines(&run);
    assert!(images.iter().all(|image| image["targets"][0]["error"]["hint"].is_string()), "{images:#?}");
    let run = log(&["--log-format", "json"]);
    assert_eq!(run.stderr.matches("\"hint\":").count(), 3, "{}", run.stderr);
}

#[test]
fn an_error_before_the_first_push_is_one_line_on_stdout_and_in_the_report() {
    let ecr = Ecr::empty();
    let colliding = save(&ecr.env, &[&["quay.io/a:1"], &["docker.io/library/a:1"]]);
    let (batch, report) = (ecr.env.scratch("pushes.txt"), ecr.env.scratch("report.jsonl"));
    fs::write(&batch, "missing.tar team/a:1\n").unwrap();
    for (arguments, code) in [
        (&[&colliding, "mirror/", "--all-images"][..], 2),
        (&["missing.tar", "mirror/", "--all-images"], 1),
        (&[&colliding, "mirror/a:1", "--all-images"], 2),
        (&["batch", &batch], 1),
    ] {
        let run = ecr.run(&[arguments, &["--output", "jsonl", "--report", &report]].concat()).fails_with(code);
        let (images, summary) = lines(&run);
        assert_eq!((images.len(), &summary["exit_code"], &summary["archive"]), (0, &json!(code), &Value::Null));
        assert!(summary["error"]["message"].is_string(), "{summary:#}");
        let written = fs::read_to_string(&report).unwrap();
        schema::check_lines(&written);
        assert_eq!((written.lines().count(), written.contains("\"kind\":\"summary\"")), (1, true));
    }
    assert_eq!(ecr.log().len(), 0);
}

#[test]
fn the_summary_of_a_ci_system_has_the_sums_and_the_failures() {
    let ecr = Ecr::empty();
    let summarized = |arguments: &[&str], code: i32| {
        let file = ecr.env.scratch("summary.md");
        fs::write(&file, "").unwrap();
        let mut command = ecr.command(arguments);
        command.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &file);
        ecr.finish(command).exits_with(code);
        fs::read_to_string(&file).unwrap()
    };
    let archive = save_without(&ecr.env, &[&["a:1"], &["b:1"]], Some(1));
    let bundle = [&archive, "mirror/", "--all-images", "--create-repository"];
    let text = summarized(&bundle, 1);
    assert!(
        text.starts_with("### Push Image\n\n") && text.contains("2 images: 1 pushed, 0 already up to date, 1 failed")
    );
    assert!(text.contains("\n    failed: mirror/b:1: "), "{text}");
    assert_eq!(summarized(&[&bundle[..], &["--dry-run"]].concat(), 1), "");
    let file = ecr.env.scratch("pushes.txt");
    fs::write(&file, format!("{archive} team/a:1 --image a:1\n")).unwrap();
    let text = summarized(&["batch", &file, "--create-repository"], 0);
    assert!(text.contains("1 image: 1 pushed, 0 already up to date, 0 failed") && !text.contains("failed:"), "{text}");
}

#[test]
fn a_list_on_standard_input_leaves_it_to_nothing_else() {
    let ecr = Ecr::empty();
    let archive = save(&ecr.env, &[&["a:1"]]);
    let list = ecr.env.scratch("images.txt");
    fs::write(&list, "a:1\n").unwrap();
    let push = |archive: &str| {
        let command = ecr.command(&[archive, "mirror/", "--image-list", "-", "--create-repository"]);
        Running::fed(command, fs::File::open(&list).unwrap()).end()
    };
    push("-").fails_with(2).stderr_has(&["--image-list - needs standard input for itself"]);
    let empty = |arguments: &[&str]| Running::fed(ecr.command(arguments), fs::File::open("/dev/null").unwrap()).end();
    empty(&[&archive, "mirror/", "--image-list", "-"]).fails_with(2).stderr_has(&["images standard input is empty"]);
    empty(&["batch", "-"]).fails_with(2).stderr_has(&["the batch standard input has no push"]);
    push(&archive).succeeds();
    assert!(ecr.image("mirror/a", "1").is_some());
}

#[test]
fn errors_about_prefixes_and_names_show_what_was_written() {
    let ecr = Ecr::empty();
    let archive = save(&ecr.env, &[&["a:1"], &["Upper/b:1"]]);
    let refused = |arguments: &[&str], parts: &[&str]| {
        let run = ecr.run(&[&[archive.as_str()], arguments].concat()).fails_with(2).stderr_has(parts);
        run.output_has_none(&["image\""]);
    };
    for prefix in ["/", "/mirror/", "./", "mirror//"] {
        refused(&[prefix, "--all-images"], &["is not a prefix for repositories"]);
    }
    refused(&["mirror/", "--all-images"], &["cannot push the image Upper/b:1: ", "--docker-naming"]);
    let run = mirror_listed(&ecr, &archive, "a:1\na@sha256:zz\n", &[]).fails_with(2);
    run.stderr_has(&["line 2 of the list: \"sha256:zz\" is not a digest", "64 lower-case hex digits"]);
    assert_eq!(ecr.log().len(), 0);
    ecr.run(&[&archive, "Mirror/", "--all-images", "--docker-naming", "--create-repository"])
        .succeeds()
        .stderr_has(&["the prefix \"Mirror/\" is called mirror/"]);
    assert_eq!(ecr.repositories(), ["mirror/a", "mirror/upper/b"]);
    let two = save(&ecr.env, &[&["a:1"], &["a:2"]]);
    ecr.run(&[&two, "mirror/", "--all-images", "--tag", "stable"])
        .fails_with(2)
        .stderr_has(&["would get the same tag", "Push without additional tags"]);
}
