//! What is never overwritten or deleted: inputs, and what the program did not write.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use super::archive_builder;
use super::ecr::Ecr;
use super::harness::{Running, TestEnv, finish, testdata, wait_until};

const ARCHIVE: &str = "docker-20.10-save.tar";
const LAYOUT: &str = "crane-oci-layout";

/// The options that name a file of results.
const OUTPUTS: [&str; 4] = ["--report", "--digest-file", "--metadata-file", "--timeline"];

/// A copy of an archive.
fn archive(env: &TestEnv) -> String {
    let path = env.scratch("image.tar");
    fs::copy(testdata(ARCHIVE), &path).unwrap();
    path
}

#[track_caller]
fn is_unchanged(archive: &str) {
    assert!(fs::read(archive).unwrap() == fs::read(testdata(ARCHIVE)).unwrap(), "the archive is another");
}

/// A copy of a layout, whose files can be compared.
fn layout(env: &TestEnv) -> String {
    let path = env.scratch("layout");
    copy(Path::new(&testdata(LAYOUT)), Path::new(&path));
    path
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[cfg(unix)]
#[test]
fn a_hard_link_of_the_archive_is_the_archive() {
    let ecr = Ecr::new();
    let (archive, link) = (archive(&ecr.env), ecr.env.scratch("link"));
    fs::hard_link(&archive, &link).unwrap();
    for option in OUTPUTS {
        let run = ecr.run(&[&archive, "team/app:1", option, &link]).fails_with(2);
        run.stderr_has(&["error: cannot write the ", "because: it is the same file as the archive ", "hint: "]);
        // Also where another error comes first.
        ecr.run(&[&archive, "team/app:1", option, &link, "--colour", "red"]).fails_with(2);
        // And where the archive comes through standard input.
        let stdin = fs::File::open(&archive).unwrap();
        let command = ecr.command(&["-", "team/app:1", option, &link]);
        let run = Running::fed(command, Stdio::from(stdin)).end().fails_with(2);
        run.stderr_has(&["because: it is the same file as the standard input"]);
        is_unchanged(&archive);
    }
    // Files that are added to.
    for (arguments, variable) in [
        (&["--output-variable", "IMAGE"][..], "GITHUB_OUTPUT"),
        (&[], "GITHUB_STEP_SUMMARY"),
        (&["--colour", "red"], "GITHUB_STEP_SUMMARY"),
    ] {
        let mut command = ecr.command(&[&[archive.as_str(), "team/app:1"], arguments].concat());
        command.env("GITHUB_ACTIONS", "true").env(variable, &link);
        ecr.finish(command).fails_with(2);
        is_unchanged(&archive);
    }
    assert!(ecr.log().is_empty());
}

#[test]
fn a_file_of_the_layout_is_part_of_the_input() {
    let ecr = Ecr::new();
    let layout = layout(&ecr.env);
    let blob = fs::read_dir(format!("{layout}/blobs/sha256")).unwrap().next().unwrap().unwrap().path();
    let blob = blob.to_str().unwrap();
    let files = [&format!("{layout}/index.json"), &format!("{layout}/oci-layout"), blob];
    let before = files.map(|file| fs::read(file).unwrap());
    for option in OUTPUTS {
        for file in files {
            let run = ecr.run(&[&layout, "team/app:1", option, file]).fails_with(2);
            run.stderr_has(&["error: cannot write the ", "because: it is part of the image layout ", "hint: "]);
        }
        let new = format!("{layout}/blobs/sha256/new");
        ecr.run(&[&layout, "team/app:1", option, &new]).fails_with(2).stderr_has(&["it is part of the image layout"]);
        assert!(!Path::new(&new).exists());
    }
    assert!(files.map(|file| fs::read(file).unwrap()) == before, "the layout is another");
    // What is beside them is no part of it.
    let report = format!("{layout}/report.json");
    for _ in 0..2 {
        ecr.run(&[&layout, "team/app:1", "--report", &report]).succeeds();
    }
}

#[test]
fn only_a_file_of_an_earlier_run_is_replaced() {
    let ecr = Ecr::new();
    let archive = archive(&ecr.env);
    let notes = ecr.env.scratch("notes");
    for option in OUTPUTS {
        for text in ["my notes", "{\"name\": \"my-package\"}", "<!DOCTYPE html><title>mine</title>", "sha256: mine"] {
            fs::write(&notes, text).unwrap();
            // Of a push that goes well, of one that fails, and of a command line that makes no sense.
            for (target, more) in
                [("team/app:1", &[][..]), ("team/missing:1", &[]), ("team/app:1", &["--colour", "red"])]
            {
                let run = ecr.run(&[&[archive.as_str(), target, option, &notes], more].concat()).fails_with(2);
                if more.is_empty() {
                    run.stderr_has(&["because: the file exists and was not written by ecr-push", "hint: "])
                } else {
                    run
                };
                assert_eq!(fs::read_to_string(&notes).unwrap(), text, "{option}");
            }
        }
        // An empty file is not, and what a run has written may be written again.
        fs::write(&notes, "").unwrap();
        for _ in 0..2 {
            ecr.run(&[&archive, "team/app:1", option, &notes]).succeeds();
            assert!(!fs::read(&notes).unwrap().is_empty());
        }
    }
    // A value that is missing makes the archive a report.
    ecr.run(&["--report", &archive, "team/app:1"]).fails_with(2);
    is_unchanged(&archive);
    // Variables in files of their own.
    let folder = ecr.env.scratch("results");
    fs::create_dir(&folder).unwrap();
    fs::write(format!("{folder}/IMAGE_REF"), "my notes").unwrap();
    let variables = ["--output-variable", "IMAGE", "--ci", "argo", "--output-file", &folder];
    ecr.run(&[&[archive.as_str(), "team/app:1"], &variables[..]].concat()).fails_with(2);
    assert_eq!(fs::read_to_string(format!("{folder}/IMAGE_REF")).unwrap(), "my notes");
}

#[test]
fn a_file_that_is_no_cache_is_left_unchanged() {
    let ecr = Ecr::new();
    let archive = archive(&ecr.env);
    let cache = ecr.env.scratch("notes.txt");
    for text in ["my notes\n".to_owned(), "my notes\n".repeat(300_000)] {
        fs::write(&cache, &text).unwrap();
        let run = ecr.run(&[&archive, "team/app:1", "--cache", &cache]).succeeds();
        run.stderr_has(&["warning: ", &cache, "it is not a layer cache, and is left unchanged"]);
        assert!(fs::read_to_string(&cache).unwrap() == text, "the file is another");
    }
    let run = ecr.run(&[&archive, "team/app:2", "--cache", &archive]).fails_with(2);
    run.stderr_has(&["cannot write the layer cache ", "because: it is the same file as the archive "]);
    is_unchanged(&archive);
}

#[test]
fn a_sandbox_deletes_nothing_that_it_did_not_write() {
    let env = TestEnv::new();
    let dir = env.scratch("images");
    let notes = format!("{dir}/.uploads/notes");
    fs::create_dir_all(format!("{dir}/.uploads")).unwrap();
    fs::write(&notes, "mine").unwrap();
    env.run(&[&format!("--sandbox={dir}"), &testdata(ARCHIVE), "demo/app:1"]).succeeds();
    assert_eq!(fs::read_to_string(&notes).unwrap(), "mine");
    fs::remove_dir_all(format!("{dir}/demo")).unwrap();
    let command = env.command(&["sandbox", "--listen", "127.0.0.1:0", "--dir", &dir, "--repository", "demo/app"]);
    let mut sandbox = Running::start(command);
    wait_until("it has started", || Path::new(&dir).join("demo/app/oci-layout").exists() || sandbox.ended().is_some());
    assert_eq!(sandbox.ended(), None);
    drop(sandbox.kill());
    assert_eq!(fs::read_to_string(&notes).unwrap(), "mine");
}

#[test]
fn a_sandbox_keeps_the_table_of_contents_of_a_foreign_layout() {
    let env = TestEnv::new();
    let dir = env.scratch("images");
    let layers = [archive_builder::tar_of("app", &archive_builder::noise(1, 1000))];
    fs::create_dir(&dir).unwrap();
    archive_builder::oci_layout(&format!("{dir}/app"), &layers);
    let index = fs::read(format!("{dir}/app/index.json")).unwrap();
    env.run(&[&format!("--sandbox={dir}"), &testdata(ARCHIVE), "app:new"]).succeeds();
    assert!(fs::read(format!("{dir}/app/index.json")).unwrap() != index, "the tag is in it");
    assert!(fs::read(format!("{dir}/app/index.json.original")).unwrap() == index, "the original is another");
}

#[test]
fn a_report_is_not_written_into_an_argument_of_another_option() {
    let env = TestEnv::new();
    let cache = env.scratch("cache");
    fs::write(&cache, "").unwrap();
    let link = env.scratch("link");
    fs::hard_link(&cache, &link).unwrap();
    let command = env.command(&["a.tar", "app:1", "--cache", &cache, "--report", &link, "--colour", "red"]);
    finish(command, String::new).fails_with(2);
    assert_eq!(fs::read(&cache).unwrap(), b"");
}
