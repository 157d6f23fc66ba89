//! What the other commands say, and what helps with all of them, as a whole.

use super::Snapshot;
use crate::ecr::Ecr;
use crate::harness::{TestEnv, finish, testdata};

/// A run without a network, at a width that is always the same.
#[track_caller]
fn run(env: &TestEnv, arguments: &[&str], code: i32) -> Snapshot {
    let mut command = env.command(arguments);
    command.env("COLUMNS", "100");
    Snapshot::of(&finish(command, String::new).exits_with(code))
}

#[test]
fn help() {
    let env = TestEnv::new();
    for (arguments, name) in [
        (&["-h"][..], "help_short"),
        (&["--help"], "help_long"),
        (&["tag", "--help"], "help_tag"),
        (&["inspect", "--help"], "help_inspect"),
        (&["policy", "--help"], "help_policy"),
        (&["sandbox", "--help"], "help_sandbox"),
        (&["completions", "--help"], "help_completions"),
        (&["--version"], "help_version"),
    ] {
        run(&env, arguments, 0)
            .without(&format!(r"ecr-push {}\b", env!("CARGO_PKG_VERSION")), "ecr-push VERSION")
            .is(name, &env);
    }
}

#[test]
fn the_first_screen_of_the_manual() {
    let env = TestEnv::new();
    let page = env.run(&["man"]).succeeds();
    let path = env.scratch("page");
    let first: Vec<&str> = page.stdout.lines().take(60).collect();
    std::fs::write(&path, first.join("\n") + "\n").unwrap();
    run(&env, &["man", "--help"], 0).file("first lines of ecr-push man", &path).is("man", &env);
}

#[test]
fn what_is_inside() {
    let env = TestEnv::new();
    for (archive, options, name) in [
        ("docker-29-overlay2-save.tar", &["--verify"][..], "inspect_verify"),
        ("docker-20.10-save.tar", &[], "inspect_save"),
        ("docker-20.10-save-many.tar", &[], "inspect_many"),
        ("skopeo-oci-layout-multiarch", &[], "inspect_index"),
        ("docker-20.10-save.tar", &["--output", "json"], "inspect_json"),
    ] {
        run(&env, &[&["inspect", &testdata(archive)], options].concat(), 0).is(name, &env);
    }
    let incomplete = testdata("docker-29-containerd-save-incomplete.tar");
    run(&env, &["inspect", &incomplete], 1).is("inspect_incomplete", &env);
    run(&env, &["inspect", "missing.tar"], 1).is("inspect_missing", &env);
}

#[test]
fn policies() {
    let ecr = Ecr::new();
    let held = |arguments: &[&str], name: &str| Snapshot::of(&ecr.run(arguments).succeeds()).is(name, &ecr.env);
    held(&["policy", "team/app"], "policy");
    held(&["policy", "team/app", "--create-repository", "--scan-on-push"], "policy_create");
    Snapshot::of(&ecr.env.run(&["policy"]).fails_with(2)).is("policy_of_nothing", &ecr.env);
}
