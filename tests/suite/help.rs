//! Help, completions and the manual page.

use super::harness::TestEnv;

#[test]
fn short_help_is_short_and_shows_the_commonest_calls() {
    let env = TestEnv::new();
    let mut command = env.command(&["-h"]);
    command.env("COLUMNS", "100");
    let run = super::harness::finish(command, String::new).succeeds();
    assert!(run.stdout.lines().count() <= 60, "{} lines", run.stdout.lines().count());
    for call in [
        "ecr-push image.tar team/app:1.4 --region eu-west-1 --create-repository",
        "docker save app:1 | ecr-push - team/app:1 --region eu-west-1",
        "ecr-push --sandbox image.tar team/app:1",
        "ecr-push --help",
    ] {
        assert!(run.stdout.contains(call), "{call} is missing in\n{}", run.stdout);
    }
}

#[test]
fn completions_and_the_manual_know_every_option() {
    let env = TestEnv::new();
    let help = env.run(&["--help"]).succeeds().stdout;
    let words = help.split_whitespace().filter_map(|word| word.strip_prefix("--"));
    let mut options: Vec<_> = words
        .map(|word| word.split(['[', '=', ',', '.', ':', '\'', ')']).next().unwrap())
        .filter(|it| !it.is_empty() && !it.ends_with('-'))
        .collect();
    options.sort_unstable();
    options.dedup();
    assert!(options.len() > 40, "{options:?}");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let run = env.run(&["completions", shell]).succeeds();
        assert_eq!(run.stderr, "");
        let missing: Vec<_> = options.iter().filter(|option| !run.stdout.contains(**option)).collect();
        assert!(missing.is_empty(), "{shell}: {missing:?}");
    }
    let run = env.run(&["man"]).succeeds();
    assert!(run.stdout.contains(".TH ecr-push 1"));
    let page = run.stdout.replace("\\-", "-");
    assert!(options.iter().all(|option| page.contains(*option)));
    assert!(page.contains("\n.SH SYNOPSIS\necr-push [OPTIONS] <ARCHIVE> <TARGET>...\n"), "{page}");
    for section in ["\"EXIT STATUS\"", "ENVIRONMENT", "EXAMPLES"] {
        assert!(page.contains(&format!("\n.SH {section}\n")), "{section} is missing: {page}");
    }
    assert!(!page.contains(".SH EXTRA"));
    for command in ["tag", "inspect", "policy", "sandbox", "demo", "completions", "man"] {
        let page = env.run(&["man", command]).succeeds().stdout;
        assert!(page.contains(&format!(".TH ecr-push-{command} 1")), "{page}");
    }
    env.run(&["man", "nope"]).fails_with(2).stderr_has(&["no command", "inspect, man, policy, sandbox, tag"]);
    env.run(&["completions", "tcsh"]).fails_with(2).stderr_has(&["bash, elvish, fish, powershell, zsh"]);
}

#[test]
fn a_typo_is_reported_with_the_likely_word() {
    let env = TestEnv::new();
    env.run(&["a.tar", "app", "--platfrm", "x"]).fails_with(2).stderr_has(&["Did you mean: --platform"]);
    env.run(&["a.tar", "app", "--progress", "bar"]).fails_with(2).stderr_has(&["Did you mean bars?"]);
}
