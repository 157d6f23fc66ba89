//! Help, completions and the manual page.

use super::bench::Bench;

#[test]
fn short_help_is_short_and_shows_the_commonest_calls() {
    let bench = Bench::new();
    let mut command = bench.command(&["-h"]);
    command.env("COLUMNS", "100");
    let run = super::bench::finish(command, String::new).exits(0);
    assert!(run.stdout.lines().count() <= 50, "{} lines", run.stdout.lines().count());
    for call in [
        "ecr-push image.tar team/app:1.4 --region eu-west-1 --create-repository",
        "docker save app:1 | ecr-push - team/app:1 --region eu-west-1",
        "ecr-push --sandbox image.tar team/app:1",
        "ecr-push --help",
    ] {
        assert!(run.stdout.contains(call), "{call} is missing in\n{}", run.stdout);
    }
    drop(run);
}

#[test]
fn completions_and_the_manual_know_every_option() {
    let bench = Bench::new();
    let help = bench.run(&["--help"]).exits(0).stdout.clone();
    let words = help.split_whitespace().filter_map(|word| word.strip_prefix("--"));
    let mut options: Vec<_> = words
        .map(|word| word.split(['[', '=', ',', '.', '\'', ')']).next().unwrap())
        .filter(|it| !it.is_empty())
        .collect();
    options.sort_unstable();
    options.dedup();
    assert!(options.len() > 40, "{options:?}");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let run = bench.run(&["completions", shell]).exits(0);
        assert_eq!(run.stderr, "");
        let missing: Vec<_> = options.iter().filter(|option| !run.stdout.contains(**option)).collect();
        assert!(missing.is_empty(), "{shell}: {missing:?}");
        drop(run);
    }
    let run = bench.run(&["man"]).exits(0);
    assert!(run.stdout.contains(".TH ecr-push 1"));
    let page = run.stdout.replace("\\-", "-");
    assert!(options.iter().all(|option| page.contains(*option)));
    drop(run);
    drop(bench.run(&["completions", "tcsh"]).exits(2).says(&["bash, elvish, fish, powershell, zsh"]));
}

#[test]
fn what_was_mistyped_is_told_with_what_was_meant() {
    let bench = Bench::new();
    drop(bench.run(&["a.tar", "app", "--platfrm", "x"]).exits(2).says(&["exists: --platform"]));
    drop(bench.run(&["a.tar", "app", "--progress", "bar"]).exits(2).says(&["Use bars"]));
}
