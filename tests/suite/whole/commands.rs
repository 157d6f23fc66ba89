//! What the other commands say, and what helps with all of them, as a whole.

use super::Whole;
use crate::bench::{Bench, finish, testdata};
use crate::ecr::Ecr;

/// A run without a network, at a width that is always the same.
#[track_caller]
fn run(bench: &Bench, arguments: &[&str], code: i32) -> Whole {
    let mut command = bench.command(arguments);
    command.env("COLUMNS", "100");
    Whole::of(&finish(command, String::new).exits(code))
}

#[test]
fn help() {
    let bench = Bench::new();
    for (arguments, name) in [
        (&["-h"][..], "help_short"),
        (&["--help"], "help_long"),
        (&["inspect", "--help"], "help_inspect"),
        (&["policy", "--help"], "help_policy"),
        (&["sandbox", "--help"], "help_sandbox"),
        (&["completions", "--help"], "help_completions"),
        (&["--version"], "help_version"),
    ] {
        run(&bench, arguments, 0)
            .without(&format!(r"ecr-push {}\b", env!("CARGO_PKG_VERSION")), "ecr-push VERSION")
            .is(name, &bench);
    }
}

#[test]
fn the_first_screen_of_the_manual() {
    let bench = Bench::new();
    let page = bench.run(&["man"]).exits(0);
    let path = bench.scratch("page");
    let first: Vec<&str> = page.stdout.lines().take(60).collect();
    std::fs::write(&path, first.join("\n") + "\n").unwrap();
    run(&bench, &["man", "--help"], 0).file("first lines of ecr-push man", &path).is("man", &bench);
}

#[test]
fn what_is_inside() {
    let bench = Bench::new();
    for (archive, options, name) in [
        ("docker-29-overlay2-save.tar", &["--verify"][..], "inspect_verify"),
        ("docker-20.10-save.tar", &[], "inspect_save"),
        ("docker-20.10-save-many.tar", &[], "inspect_many"),
        ("skopeo-oci-layout-multiarch", &[], "inspect_index"),
        ("docker-20.10-save.tar", &["--output", "json"], "inspect_json"),
    ] {
        run(&bench, &[&["inspect", &testdata(archive)], options].concat(), 0).is(name, &bench);
    }
    let incomplete = testdata("docker-29-containerd-save-incomplete.tar");
    run(&bench, &["inspect", &incomplete], 1).is("inspect_incomplete", &bench);
    run(&bench, &["inspect", "missing.tar"], 1).is("inspect_missing", &bench);
}

#[test]
fn policies() {
    let ecr = Ecr::new();
    let held = |arguments: &[&str], name: &str| Whole::of(&ecr.run(arguments).exits(0)).is(name, &ecr.bench);
    held(&["policy", "team/app"], "policy");
    held(&["policy", "team/app", "--create-repository", "--scan-on-push"], "policy_create");
    Whole::of(&ecr.bench.run(&["policy"]).exits(2)).is("policy_of_nothing", &ecr.bench);
}
