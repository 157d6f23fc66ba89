//! The outputs that pages show are those of the program.

use std::collections::BTreeSet;

use ecr_push::sandbox::{Absent, Rules};

use super::ecr::Ecr;
use super::harness::{Run, TestEnv, finish, testdata};
use super::markdown::{check_output, root};

/// Returns the lines without what differs from run to run: the port and the time.
fn alike(text: &str) -> BTreeSet<String> {
    let line = |line: &str| {
        let line = match line.split_once("127.0.0.1:") {
            Some((before, after)) => format!("{before}PORT{}", after.trim_start_matches(|c: char| c.is_ascii_digit())),
            None => line.to_owned(),
        };
        match line.rsplit_once("; ") {
            Some((before, time)) if time.ends_with(" ms") || time.ends_with(" s") => format!("{before}; TIME"),
            _ => line,
        }
    };
    text.lines().map(line).collect()
}

/// Runs a command of the documentation in the repository's folder.
fn run(line: &str) -> Run {
    let mut command = TestEnv::new().command(&line.split(' ').skip(1).collect::<Vec<_>>());
    command.current_dir(root());
    finish(command, String::new).exits_with(0)
}

/// Returns all output as a terminal shows it: with the references once.
fn on_a_terminal(run: &Run) -> String {
    let is_there = run.stderr.lines().any(|line| line == run.stdout.trim_end());
    if is_there { run.stderr.clone() } else { format!("{}{}", run.stderr, run.stdout) }
}

#[test]
fn the_quick_start_is_as_shown() {
    let run = run("ecr-push --sandbox testdata/docker-29-overlay2-save.tar demo/app:1");
    check_output("quick-start", &on_a_terminal(&run), alike);
}

#[test]
fn inspect_is_as_shown() {
    let run = run("ecr-push inspect testdata/docker-29-overlay2-save.tar --verify");
    check_output("inspect", &run.stdout, str::to_owned);
    assert_eq!(run.stderr, "");
}

#[test]
fn metadata_are_as_shown() {
    let env = TestEnv::new();
    let file = env.scratch("metadata.json");
    let arguments = ["--sandbox", "testdata/docker-29-overlay2-save.tar", "demo/app:1", "--metadata-file", &file];
    let mut command = env.command(&arguments);
    command.current_dir(root());
    finish(command, String::new).succeeds();
    check_output("metadata", &std::fs::read_to_string(file).unwrap(), str::to_owned);
}

#[test]
fn the_policy_is_as_shown() {
    let run = run("ecr-push policy 123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app");
    check_output("policy", &run.stdout, str::to_owned);
    assert_eq!(run.stderr, "");
}

#[test]
fn rejections_of_ecr_are_as_shown() {
    // Without the ID of the request.
    let alike = |text: &str| {
        let (before, rest) = text.split_once("(request ").unwrap_or((text, ")"));
        format!("{before}{}", rest.split_once(')').unwrap().1)
    };
    for (name, denied, absent_repository) in
        [("permission", "ecr:PutImage", Absent::NameUnknown), ("hang-up", "ecr:InitiateLayerUpload", Absent::HangUp)]
    {
        let rules = Rules { deny: vec![denied.into()], absent_repository, ..Rules::default() };
        let ecr = Ecr::with(&["team/app"], rules);
        let run = ecr.run(&[&testdata("docker-20.10-save.tar"), "team/app:1", "--retries", "0"]).exits_with(3);
        let error = run.stderr.find("error: ").unwrap();
        check_output(name, &run.stderr[error..], alike);
    }
}

/// Returns a line with `N` for each number and `ID` for each ID.
fn without_numbers(line: &str) -> String {
    let is_id = |word: &str| word.len() == 36 && word.split('-').count() == 5;
    let word = |word: &str| if is_id(word) { "ID".to_owned() } else { word.replace(|c: char| c.is_ascii_digit(), "N") };
    let parts: Vec<String> =
        line.split_inclusive([' ', '/']).map(|part| word(part.trim_end_matches(['/', ' ']))).collect();
    let mut text = parts.join(" ");
    while text.contains("NN") {
        text = text.replace("NN", "N");
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the lines as a set, without numbers and IDs: requests are answered in any order.
fn without_all_numbers(text: &str) -> BTreeSet<String> {
    text.lines().map(without_numbers).collect()
}

#[test]
fn explanations_and_requests_are_as_shown() {
    let line = "ecr-push --sandbox testdata/docker-29-overlay2-save.tar demo/app:1";
    let usual = without_all_numbers(&run(line).stderr);
    let verbose = run(&format!("{line} -vv")).stderr;
    let explained: String = verbose
        .lines()
        .filter(|line| !usual.contains(&without_numbers(line)))
        .map(|line| format!("{line}\n"))
        .collect();
    check_output("verbose", &explained, without_all_numbers);
}
