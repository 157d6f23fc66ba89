//! Pushes that go well, as a whole: what is said, and the files that are left.

use std::time::Duration;

use ecr_push::sandbox::{Fault, Rules, Trouble};

use super::Snapshot;
use crate::archive_builder;
use crate::ecr::Ecr;
use crate::harness::{TestEnv, testdata};
use crate::layout_builder::Layout;

const ARCHIVE: &str = "docker-20.10-save.tar";
/// What else would depend on the machine, or on which of several comes first.
const SAME: [&str; 4] = ["--concurrency", "1", "--pack-threads", "2"];

/// A push of an archive, and its results.
#[track_caller]
fn push(ecr: &Ecr, archive: &str, arguments: &[&str]) -> Snapshot {
    Snapshot::of(&ecr.run(&[&[testdata(archive).as_str()], arguments, &SAME].concat()).succeeds())
}

/// Another image, of one layer.
fn other(ecr: &Ecr) -> String {
    let archive = ecr.env.scratch("other.tar");
    archive_builder::docker_save(&archive, &[archive_builder::tar_of("a", b"a")]);
    archive
}

#[test]
fn a_first_push_and_those_after_it() {
    let ecr = Ecr::new();
    push(&ecr, ARCHIVE, &["team/app:1"]).is("push_cold", &ecr.env);
    push(&ecr, ARCHIVE, &["team/app:1"]).is("push_warm", &ecr.env);
    push(&ecr, ARCHIVE, &["team/app:2"]).is("push_new_tag", &ecr.env);
    push(&ecr, "docker-29-overlay2-save.tar", &["team/app:1", "--dry-run"]).is("push_dry_run", &ecr.env);
    push(&ecr, ARCHIVE, &["team/app:3", "--dry-run"]).is("push_dry_run_of_what_is_there", &ecr.env);
    push(&ecr, "docker-29-overlay2-save.tar", &["team/app:1"]).is("push_tag_that_moves", &ecr.env);
    let other = other(&ecr);
    let arguments = [&[other.as_str(), "team/app:1", "--if-exists", "skip"], &SAME[..]].concat();
    Snapshot::of(&ecr.run(&arguments).succeeds()).is("push_skip", &ecr.env);
    let arguments = [&arguments[..], &["--tag", "4"]].concat();
    Snapshot::of(&ecr.run(&arguments).succeeds()).is("push_skip_one_of_two", &ecr.env);
    push(&ecr, ARCHIVE, &["team/app:2", "--if-exists", "same-ok"]).is("push_same_ok", &ecr.env);
}

#[test]
fn images_for_several_platforms() {
    let ecr = Ecr::new();
    push(&ecr, "skopeo-oci-layout-multiarch", &["team/app:1"]).is("push_index", &ecr.env);
    push(&ecr, "skopeo-oci-layout-multiarch", &["team/app:1"]).is("push_index_warm", &ecr.env);
    let layout = Layout::new(&ecr.env, "layout");
    let [amd64, arm64] = ["linux/amd64", "linux/arm64"].map(|platform| layout.image(platform));
    layout.finish(&[layout.index(&[amd64, arm64.clone()])]);
    layout.remove(&arm64);
    let arguments = [layout.path.as_str(), "team/app:2"];
    Snapshot::of(&ecr.run(&[&arguments, &SAME[..]].concat()).fails_with(1)).is("failure_1_absent_platform", &ecr.env);
    let arguments = [&arguments[..], &["--present-platforms"], &SAME].concat();
    Snapshot::of(&ecr.run(&arguments).succeeds()).is("push_present_platforms", &ecr.env);
    let one = ["team/app:3", "--platform", "linux/arm64"];
    push(&ecr, "skopeo-oci-layout-multiarch", &one).is("push_one_platform", &ecr.env);
}

#[test]
fn several_targets() {
    let ecr = Ecr::with(&["team/app", "team/other"], Rules::default());
    // Lines about each during the push come as they respond; plans and results have the order of the targets.
    push(&ecr, ARCHIVE, &["team/app:1", "team/other:1", "--dry-run"]).is("push_two_targets_dry_run", &ecr.env);
    let (archive, page) = (testdata(ARCHIVE), ecr.env.scratch("page"));
    let arguments = [&[archive.as_str(), "team/app:1", "team/missing:1", "team/other:1", "-q"], &SAME[..]].concat();
    let mut command = ecr.command(&arguments);
    command.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &page);
    let run = ecr.finish(command).fails_with(1);
    Snapshot::of(&run).file("GITHUB_STEP_SUMMARY", &page).is("push_one_target_of_three_fails", &ecr.env);
    let mut command = ecr.command(&[&[other(&ecr).as_str(), "team/app:one"], &SAME[..]].concat());
    std::fs::write(&page, "").unwrap();
    command.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &page);
    let run = ecr.finish(command).succeeds();
    Snapshot::of(&run).file("GITHUB_STEP_SUMMARY", &page).is("push_one_layer", &ecr.env);
}

#[test]
fn a_repository_that_is_created() {
    let ecr = Ecr::empty();
    push(&ecr, ARCHIVE, &["team/app:1", "--create-repository"]).is("push_create_repository", &ecr.env);
    let options = ["--create-repository", "--scan-on-push", "--tag-mutability", "immutable", "--repository-tag", "a=b"];
    push(&ecr, ARCHIVE, &[&["team/strict:1"], &options[..]].concat()).is("push_create_as_told", &ecr.env);
}

#[cfg(unix)]
#[test]
fn through_a_pipe() {
    use crate::harness::Running;

    for (archive, name) in
        [("docker-29-overlay2-save.tar", "push_pipe_as_it_comes"), (ARCHIVE, "push_pipe_through_a_file")]
    {
        let ecr = Ecr::new();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let bytes = std::fs::read(testdata(archive)).unwrap();
        std::thread::spawn(move || std::io::Write::write_all(&mut writer, &bytes));
        let command = ecr.command(&[&["-", "team/app:1"], &SAME[..]].concat());
        Snapshot::of(&Running::fed(command, reader).end().succeeds()).is(name, &ecr.env);
    }
}

#[test]
fn in_more_words_and_in_fewer() {
    let held = |option: &[&str], name: &str| {
        // It is asked who that is while the login is under way: the later answer is always the same one.
        let later = Fault::once("sts:Request", Trouble::Delay(Duration::from_secs(1)));
        let ecr = Ecr::faulty(&[later.times(9)]);
        push(&ecr, ARCHIVE, &[&["team/app:1"], option].concat()).is(name, &ecr.env);
        push(&ecr, ARCHIVE, &[&["team/app:1"], option].concat()).is(&format!("{name}_warm"), &ecr.env);
    };
    held(&["-v"], "push_verbose");
    held(&["-vv"], "push_very_verbose");
    held(&["-q"], "push_quiet");
    held(&["--log-format", "json"], "push_log_format_json");
    held(&["--output", "json"], "push_output_json");
}

#[test]
fn files_that_are_written() {
    let ecr = Ecr::new();
    let place = |name: &str| ecr.env.scratch(name);
    let [report, digest, metadata] = ["report.json", "digest", "metadata.json"].map(place);
    let files = ["--report", &report, "--digest-file", &digest, "--metadata-file", &metadata];
    push(&ecr, ARCHIVE, &[&["team/app:1", "--tag", "b"], &files[..]].concat())
        .file("report.json", &report)
        .file("digest", &digest)
        .file("metadata.json", &metadata)
        .is("push_files", &ecr.env);
}

#[test]
fn into_the_sandbox_of_the_quick_start() {
    let env = TestEnv::new();
    let archive = testdata("docker-29-overlay2-save.tar");
    let run = env.run(&[&["--sandbox", &archive, "demo/app:1"], &SAME[..]].concat()).succeeds();
    Snapshot::of(&run).is("push_sandbox", &env);
}
