//! `ecr-push batch`: many pushes from a file.

use std::fs;

use serde_json::{Value, json};

use super::archive_builder::docker_save_with;
use super::archive_contents::sha256;
use super::ecr::Ecr;
use super::harness::{Run, Running};
use super::schema;

/// Writes an archive for an architecture, under a name with a blank, and returns the path quoted.
fn archive(ecr: &Ecr, architecture: &str) -> String {
    let path = ecr.env.scratch(&format!("{architecture} image.tar"));
    docker_save_with(&path, &json!({"os": "linux", "architecture": architecture}));
    format!("'{path}'")
}

fn batch(ecr: &Ecr, lines: &[String], arguments: &[&str]) -> Run {
    let file = ecr.env.scratch("pushes.txt");
    fs::write(&file, lines.join("\n")).unwrap();
    ecr.run(&[&["batch", &file], arguments].concat())
}

#[test]
fn every_line_is_a_push() {
    let ecr = Ecr::empty();
    let (amd, arm) = (archive(&ecr, "amd64"), archive(&ecr, "arm64"));
    let lines = [
        "# images of the release".to_owned(),
        String::new(),
        format!("{amd} team/a:1 --tag stable   # two tags"),
        format!("{arm} team/b:1 team/c:2"),
        format!("{amd} --join {arm} team/joined:1"),
    ];
    let run = batch(&ecr, &lines, &["--create-repository", "--output", "jsonl"]).succeeds();
    schema::check_lines(&run.stdout);
    let names: Vec<_> = [("team/a", "1"), ("team/a", "stable"), ("team/b", "1"), ("team/c", "2"), ("team/joined", "1")]
        .into_iter()
        .filter(|(repository, tag)| ecr.image(repository, tag).is_none())
        .collect();
    assert_eq!(names, []);
    let mut lines: Vec<Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.pop().unwrap()["images"]["pushed"], 3);
    let mut names: Vec<_> = lines.iter().map(|line| line["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["line 3: team/a:1", "line 4: team/b:1", "line 5: team/joined:1"]);
    assert_eq!(ecr.count("ecr:GetAuthorizationToken"), 1);
}

#[test]
fn a_batch_comes_from_standard_input() {
    let ecr = Ecr::new();
    let file = ecr.env.scratch("pushes.txt");
    fs::write(&file, format!("{} team/app:1\n", archive(&ecr, "amd64"))).unwrap();
    let command = ecr.command(&["batch", "-"]);
    Running::fed(command, fs::File::open(&file).unwrap()).end().succeeds().stderr_has(&["1 image: 1 pushed"]);
}

#[test]
fn all_lines_are_judged_before_the_first_push() {
    let ecr = Ecr::empty();
    let amd = archive(&ecr, "amd64");
    let good = format!("{amd} team/a:1");
    for (bad, code, parts) in [
        ("missing.tar team/b:1".to_owned(), 1, &["line 2 of ", "cannot find the file missing.tar"][..]),
        (format!("{amd} Team/B:1"), 2, &["line 2 of ", "\"Team/B\" is not a repository name"]),
        (format!("{amd} team/a:1"), 2, &["line 2 of ", "pushes team/a:1, as line 1 does"]),
        (format!("{amd} team/b:1 --region eu-west-1"), 2, &["line 2 of ", "--region", "belong on the command line"]),
        (format!("{amd} team/b:1 'open"), 2, &["line 2 of ", "a quote is not closed"]),
        (format!("{amd} \\"), 2, &["line 2 of ", "it ends with \\", "each push on one line"]),
        (format!("{amd} team/"), 2, &["line 2 of ", "ends with a slash", "a line pushes one image"]),
        (amd.clone(), 2, &["line 2 of "]),
        ("- team/b:1".to_owned(), 2, &["line 2 of ", "cannot be standard input"]),
        (format!("{amd} team/$APP:1"), 2, &["line 2 of ", "not expanded in a batch: team/$APP:1", "envsubst"]),
    ] {
        batch(&ecr, &[good.clone(), bad], &["--create-repository"]).fails_with(code).stderr_has(parts);
    }
    let several = [good, "x.tar a:1".to_owned(), "y.tar b:1".to_owned()];
    batch(&ecr, &several, &[]).fails_with(1).stderr_has(&["line 2 of ", "line 3: cannot find the file y.tar"]);
    assert_eq!(ecr.log().len(), 0);
}

#[test]
fn options_of_a_line_are_refused_for_the_whole_batch() {
    let ecr = Ecr::new();
    let line = format!("{} team/app:1", archive(&ecr, "amd64"));
    let digest = sha256(b"");
    for option in [["--image", "a"], ["--image-id", "ab"], ["--join", "x.tar"], ["--expect-digest", &digest]] {
        batch(&ecr, std::slice::from_ref(&line), &option)
            .fails_with(2)
            .stderr_has(&[option[0], "is not for a whole batch"]);
    }
    for (option, hint) in [
        (&["--all-images"][..], "Write a line for each image"),
        (&["--exclude", "x"], "Write a line for each image"),
        (&["--username", "me", "--password-stdin"], "docker login HOST"),
        (&["--digest-file", "x"], "--report FILE"),
    ] {
        batch(&ecr, std::slice::from_ref(&line), option)
            .fails_with(2)
            .stderr_has(&[option[0], "is not for a whole batch", hint]);
    }
    let one = |option: &str| [format!("{line} {option}")];
    for (own, of_run) in [("--image a", "--index"), ("--platform linux/amd64", "--present-platforms")] {
        batch(&ecr, &one(own), &[of_run]).fails_with(2).stderr_has(&[of_run, "cannot be used together"]);
    }
    batch(&ecr, &["# nothing".to_owned()], &[]).fails_with(2).stderr_has(&["has no push"]);
    batch(&ecr, &[line], &["--output", "json"]).fails_with(2).stderr_has(&["--output jsonl"]);
}

#[test]
fn a_failed_line_does_not_stop_the_others() {
    let ecr = Ecr::empty();
    let (amd, arm) = (archive(&ecr, "amd64"), archive(&ecr, "arm64"));
    let wrong = sha256(b"another");
    let lines = [format!("{amd} team/a:1 --expect-digest {wrong}"), format!("{arm} team/b:1")];
    batch(&ecr, &lines, &["--create-repository"])
        .fails_with(1)
        .stderr_has(&["failed: line 1: team/a:1", "2 images: 1 pushed, 0 already up to date, 1 failed"]);
    assert!(ecr.image("team/b", "1").is_some() && ecr.image("team/a", "1").is_none());
}

#[test]
fn an_archive_of_several_lines_is_decompressed_once() {
    let ecr = Ecr::empty();
    let plain = ecr.env.scratch("image.tar");
    docker_save_with(&plain, &json!({"os": "linux", "architecture": "amd64"}));
    let compressed = ecr.env.scratch("image.tar.gz");
    fs::write(&compressed, super::archive_builder::packed("gzip", &fs::read(&plain).unwrap())).unwrap();
    let lines: Vec<_> = (0..6).map(|n| format!("{compressed} team/app-{n}:1")).collect();
    let run = batch(&ecr, &lines, &["--create-repository", "-v"]).succeeds();
    assert_eq!(run.stderr.matches("decompress").count(), 1, "{}", run.stderr);
    assert_eq!(ecr.repositories().len(), 6);
}

#[test]
fn joined_archives_of_several_lines_are_decompressed_once_whatever_their_paths() {
    let ecr = Ecr::empty();
    let [amd, arm] = ["amd64", "arm64"].map(|architecture| {
        let plain = ecr.env.scratch(&format!("{architecture}.tar"));
        docker_save_with(&plain, &json!({"os": "linux", "architecture": architecture}));
        fs::write(format!("{plain}.gz"), super::archive_builder::packed("gzip", &fs::read(&plain).unwrap())).unwrap();
        format!("{plain}.gz")
    });
    let other = amd.replace("/scratch/", "/scratch/../scratch/");
    let lines: Vec<_> = [&amd, &other, &amd]
        .into_iter()
        .enumerate()
        .map(|(n, amd)| format!("{amd} --join {arm} team/app-{n}:1"))
        .collect();
    let run = batch(&ecr, &lines, &["--create-repository", "-v"]).succeeds();
    assert_eq!(run.stderr.matches("decompress").count(), 2, "{}", run.stderr);
    assert_eq!(ecr.repositories().len(), 3);
}

#[test]
fn renamed_repositories_of_lines_are_reported() {
    let ecr = Ecr::empty();
    let line = format!("{} Team/App:1", archive(&ecr, "amd64"));
    batch(&ecr, &[line], &["--create-repository", "--docker-naming"])
        .succeeds()
        .stderr_has(&["the repository \"Team/App\" is called team/app"]);
}

#[test]
fn a_line_may_assume_a_role_of_its_own() {
    let ecr = Ecr::empty();
    let amd = archive(&ecr, "amd64");
    let role = "arn:aws:iam::000000000000:role/promotion";
    let lines = [format!("{amd} team/a:1"), format!("{amd} team/b:1 --role-arn {role}")];
    batch(&ecr, &lines, &["--create-repository"]).succeeds();
    let assumed: Vec<_> = ecr.assumed().into_iter().map(|assumed| assumed.role).collect();
    assert_eq!(assumed, [role]);
}

#[test]
fn the_order_of_lines_decides_nothing() {
    let (ecr, other) = (Ecr::empty(), Ecr::new());
    let amd = archive(&ecr, "amd64");
    let elsewhere = format!("{amd} {}/team/app:1", other.address());
    for lines in [[elsewhere.clone(), format!("{amd} team/a:1")], [format!("{amd} team/b:1"), elsewhere]] {
        let run = batch(&ecr, &lines, &["--create-repository", "--retries", "0"]);
        // The registry of another sandbox requires a login that does not exist.
        run.exits_with(3).stderr_has(&["1 pushed"]);
    }
    assert_eq!(ecr.repositories(), ["team/a", "team/b"]);
}

#[test]
fn a_tag_may_be_named_twice_in_a_line_and_in_two_accounts() {
    let ecr = Ecr::empty();
    let amd = archive(&ecr, "amd64");
    let role = "arn:aws:iam::000000000000:role/promotion";
    let lines = [format!("{amd} team/a:1 --tag 1"), format!("{amd} team/a:1 --role-arn {role}")];
    batch(&ecr, &lines, &["--create-repository"]).succeeds();
}

#[test]
fn results_of_one_image_are_refused_for_a_batch() {
    let ecr = Ecr::new();
    let line = format!("{} team/app:1", archive(&ecr, "amd64"));
    let file = ecr.env.scratch("result");
    for option in ["--digest-file", "--metadata-file", "--timeline"] {
        batch(&ecr, std::slice::from_ref(&line), &[option, &file]).fails_with(2).stderr_has(&[option]);
        assert!(!std::path::Path::new(&file).exists());
    }
}
