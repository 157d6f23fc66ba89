//! What CI systems get: variables, annotations, groups, summaries; each in its own bytes, where it reads them.

use std::fs;
use std::process::Command;

use ecr_push::sandbox::{Fault, Rules};

use super::archive_builder;
use super::ecr::{Ecr, HOST, status};
use super::harness::{Run, TestEnv, finish, testdata};

const ARCHIVE: &str = "docker-20.10-save.tar";

/// A push of two tags in a CI system.
fn push(ecr: &Ecr, environment: &[(&str, &str)], options: &[&str]) -> Command {
    let archive = testdata(ARCHIVE);
    let mut command = ecr.command(&[&[archive.as_str(), "team/app:1", "--tag", "b"], options].concat());
    command.envs(environment.iter().copied());
    command
}

/// The variables of such a push, in the form of a system.
fn variables(run: &Run, form: impl Fn(&str, &str) -> String) -> String {
    let digest = run.digests().remove(0);
    let app = format!("{HOST}/team/app");
    let values = [
        ("IMAGE", format!("{app}:1")),
        ("IMAGE_DIGEST", digest.clone()),
        ("IMAGE_REF", format!("{app}@{digest}")),
        ("IMAGE_ALL", format!("{app}:1,{app}:b")),
        ("IMAGE_REFS", format!("{app}@{digest}")),
    ];
    values.iter().map(|(name, value)| form(name, value)).collect()
}

fn azure(run: &Run, is_output: bool) -> String {
    variables(run, |name, value| {
        format!("##vso[task.setvariable variable={name};isOutput={is_output};issecret=false;]{value}\n")
    })
}

/// Lines without times.
fn timeless(text: &str) -> String {
    let word = |word: &str| if word.starts_with(|c: char| c.is_ascii_digit()) { "N".to_owned() } else { word.into() };
    let line = |line: &str| {
        if !line.contains(" ms") && !line.contains(" s ") {
            return line.to_owned();
        }
        let (before, time) = line.trim_end_matches(" |").rsplit_once("| ").unwrap_or(("", line));
        let time: Vec<String> = time.split(' ').map(word).collect();
        format!("{before}| {}", time.join(" ").replace(" ms", "").replace(" s", ""))
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn azure_gets_the_variables_of_its_task_and_stdout_stays_clean() {
    let ecr = Ecr::new();
    let run = ecr.finish(push(&ecr, &[("TF_BUILD", "True")], &["--output-variable", "IMAGE"])).succeeds();
    let set = azure(&run, false);
    assert!(run.stderr.ends_with(&set), "the task sets it last");
    assert!(run.stdout.lines().count() == 2 && !run.stdout.contains("##"));
    let options = ["--output-variable", "IMAGE", "--output-variable-across-jobs"];
    let run = ecr.finish(push(&ecr, &[("TF_BUILD", "True")], &options)).succeeds();
    let set = azure(&run, true);
    run.stderr_has(&[&set]);
}

#[test]
fn github_gets_them_in_its_file_behind_what_is_there() {
    let ecr = Ecr::new();
    let file = ecr.env.scratch("output");
    fs::write(&file, "other=1\n").unwrap();
    let environment = [("GITHUB_ACTIONS", "true"), ("GITHUB_OUTPUT", file.as_str())];
    let run = ecr.finish(push(&ecr, &environment, &["--output-variable", "IMAGE"])).succeeds();
    let set = variables(&run, |name, value| format!("{name}<<(ecr-push)\n{value}\n(ecr-push)\n"));
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("other=1\n{set}"));
}

#[test]
fn gitlab_gets_a_dotenv_file_that_is_named() {
    let ecr = Ecr::new();
    let file = ecr.env.scratch("image.env");
    let options = ["--output-variable", "IMAGE", "--output-file", &file];
    let run = ecr.finish(push(&ecr, &[("GITLAB_CI", "true")], &options)).succeeds();
    let set = variables(&run, |name, value| format!("{name}={value}\n"));
    assert_eq!(fs::read_to_string(&file).unwrap(), set);
}

#[test]
fn tekton_gets_a_file_each() {
    let ecr = Ecr::new();
    let folder = ecr.env.scratch("results");
    fs::create_dir(&folder).unwrap();
    let options = ["--output-variable", "IMAGE", "--ci", "tekton", "--output-file", &folder];
    let run = ecr.finish(push(&ecr, &[], &options)).succeeds();
    let files = variables(&run, |name, value| {
        let held = fs::read_to_string(format!("{folder}/{name}")).unwrap();
        assert_eq!(held, value, "{name}");
        name.to_owned()
    });
    assert!(!files.is_empty() && fs::read_dir(&folder).unwrap().count() == 5);
}

#[test]
fn teamcity_reads_stdout_behind_the_references() {
    let ecr = Ecr::new();
    let run = ecr.finish(push(&ecr, &[("TEAMCITY_VERSION", "2025")], &["--output-variable", "IMAGE"])).succeeds();
    let references: Vec<&str> = run.stdout.lines().take(2).collect();
    let digest = references[0].split_once('@').unwrap().1;
    let app = format!("{HOST}/team/app");
    let set = |name: &str, value: &str| format!("##teamcity[setParameter name='{name}' value='{value}']\n");
    let expected = [
        format!("{app}:1@{digest}\n{app}:b@{digest}\n"),
        set("IMAGE", &format!("{app}:1")),
        set("IMAGE_DIGEST", digest),
        set("IMAGE_REF", &format!("{app}@{digest}")),
        set("IMAGE_ALL", &format!("{app}:1,{app}:b")),
        set("IMAGE_REFS", &format!("{app}@{digest}")),
    ];
    assert_eq!(run.stdout, expected.concat());
}

#[cfg(unix)]
#[test]
fn buildkite_s_agent_gets_variables_and_a_summary() {
    use std::os::unix::fs::PermissionsExt as _;

    let ecr = Ecr::new();
    let folder = ecr.env.scratch("bin");
    let written = ecr.env.scratch("agent");
    fs::create_dir(&folder).unwrap();
    let agent = format!("{folder}/buildkite-agent");
    // It notes what it was asked, and what it was fed.
    fs::write(&agent, format!("#!/bin/sh\necho \"[$*]\" >>{written}\ncat >>{written}\necho >>{written}\n")).unwrap();
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap());
    let environment = [("BUILDKITE", "true"), ("PATH", path.as_str())];
    let run = ecr.finish(push(&ecr, &environment, &["--output-variable", "IMAGE"])).succeeds();
    let set = variables(&run, |name, value| format!("[meta-data set {name}]\n{value}\n"));
    let text = fs::read_to_string(&written).unwrap();
    assert!(text.starts_with("[--version]\n\n[annotate --style info --context ecr-push --append]\n### Push Image\n"));
    assert!(text.ends_with(&set), "{text}");
    for (options, code) in [(&["--expect-digest", &format!("sha256:{:064}", 0)][..], 1), (&["--colour", "red"], 2)] {
        fs::remove_file(&written).unwrap();
        ecr.finish(push(&ecr, &environment, options)).exits_with(code);
        let text = fs::read_to_string(&written).unwrap();
        assert!(text.starts_with("[annotate --style error --context ecr-push --append]\n### Push Image\n"), "{text}");
    }
}

#[test]
fn without_a_system_nothing_is_pushed() {
    let ecr = Ecr::new();
    ecr.finish(push(&ecr, &[], &["--output-variable", "IMAGE"])).fails_with(2).stderr_has(&["--ci", "--output-file"]);
    let azure = [("TF_BUILD", "True"), ("PATH", "")];
    for (environment, options) in [
        (&azure[..], &["--output-variable", "IMAGE", "--output-file", "no/such/folder/file"][..]),
        (&azure, &["--output-variable", "IMAGE", "--ci", "tekton", "--output-file", "no/such/folder"]),
        (&azure, &["--output-variable", "IMAGE", "--ci", "buildkite"]),
        (&azure, &["--output-variable", "IM;AGE"]),
        (&azure, &["--ci", "hudson"]),
    ] {
        ecr.finish(push(&ecr, environment, options)).fails_with(2).stdout_is("");
        assert!(ecr.log().is_empty(), "no request is sent");
    }
}

#[test]
fn a_push_that_fails_sets_nothing() {
    let ecr = Ecr::with(&["team/app"], Rules { deny: vec!["ecr:PutImage".into()], ..Rules::default() });
    let file = ecr.env.scratch("output");
    let options = ["--output-variable", "IMAGE", "--output-file", &file];
    ecr.finish(push(&ecr, &[("GITLAB_CI", "true")], &options)).fails_with(3);
    assert_eq!(fs::read_to_string(&file).unwrap(), "");
    let run = ecr.finish(push(&ecr, &[("TF_BUILD", "True")], &["--output-variable", "IMAGE"])).fails_with(3);
    run.output_has_none(&["setvariable"]).stderr_has(&["##vso[task.logissue type=error;]cannot "]);
    let run = ecr.finish(push(&ecr, &[("TF_BUILD", "True")], &["--output-variable", "IMAGE", "--dry-run"]));
    run.succeeds().output_has_none(&["setvariable", "uploadsummary"]);
}

#[test]
fn github_s_log_has_a_group_and_annotations() {
    let ecr = Ecr::with(&["team/app"], Rules { deny: vec!["ecr:PutImage".into()], ..Rules::default() });
    // A cache that is a folder cannot be read, of which a push warns.
    let options = ["--display-name", "Ship it", "--cache", "."];
    let run = ecr.finish(push(&ecr, &[("GITHUB_ACTIONS", "true")], &options)).fails_with(3).stdout_is("");
    let lines: Vec<&str> = run.stderr.lines().collect();
    assert_eq!(lines[0], "::group::Ship it");
    let end = lines.iter().position(|line| *line == "::endgroup::").unwrap();
    assert!(lines[..end].iter().any(|line| line.starts_with("::warning::the cache cannot be read")));
    let error = lines[end..].iter().find(|line| line.starts_with("::error::")).unwrap();
    assert!(error.contains("%0A  because: ") && error.contains("%0A  hint: "), "{error}");
    assert!(!run.stderr.contains("\nerror: ") && !run.stderr.contains("\nwarning: "), "said once");
    // Quiet, there is the error alone.
    let run = ecr.finish(push(&ecr, &[("GITHUB_ACTIONS", "true")], &["-q", "--cache", "."])).fails_with(3);
    assert!(run.stderr.starts_with("::error::") && run.stderr.lines().count() == 1);
    let run = ecr.finish(push(&ecr, &[("GITHUB_ACTIONS", "true")], &["--ci", "none"])).fails_with(3);
    run.output_has_none(&["::error", "::warning", "::group"]).stderr_has(&["\nerror: "]);
}

#[test]
fn github_gets_a_summary() {
    let ecr = Ecr::new();
    let file = ecr.env.scratch("summary.md");
    let environment = [("GITHUB_ACTIONS", "true"), ("GITHUB_STEP_SUMMARY", file.as_str())];
    let run = ecr.finish(push(&ecr, &environment, &[])).succeeds();
    let digest = run.digests().remove(0);
    let app = format!("{HOST}/team/app");
    let expected = format!(
        "### Push Image

`{app}`

| target | tag | digest | outcome |
|---|---|---|---|
| `{app}` | `1` | `{digest}` | pushed |
| `{app}` | `b` | `{digest}` | pushed |

| layer | size | action | sent | time |
|---|---:|---|---:|---:|
| sha256:c37a06bee251 | 320.0 KiB | upload: new, compressed with gzip | 127.1 KiB | N
| sha256:fab827903802 | 120.5 KiB | upload: new, compressed with gzip | 117.6 KiB | N
| sha256:631cc2c4392a | 2.5 KiB | upload: new, compressed with gzip | 150 B | N

3 layers, 443.0 KiB in the archive: 3 uploaded, 0 mounted, 0 reused; 244.8 KiB sent.

    docker pull {app}:1
    docker pull {app}@{digest}

| N in total."
    );
    assert_eq!(timeless(&fs::read_to_string(&file).unwrap()), expected);
    // Another step's comes behind it, and a failure has its reason.
    let run = ecr.finish(push(&ecr, &environment, &["--expect-digest", &digest.replace(&digest[7..15], "00000000")]));
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.matches("### Push Image").count(), 2);
    assert!(text.rsplit("###").next().unwrap().contains("\n    error: "), "{text}");
    run.fails_with(1);
    let before = fs::read_to_string(&file).unwrap();
    ecr.finish(push(&ecr, &environment, &["--ci", "none"])).succeeds();
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
}

#[test]
fn a_summary_shows_what_reuse_saved_what_was_retried_and_which_target_failed() {
    let ecr = Ecr::faulty(&[Fault::once("ecr:CompleteLayerUpload", status(503, "SLOW_DOWN", "later"))]);
    let (file, archive) = (ecr.env.scratch("summary.md"), testdata(ARCHIVE));
    let summary = |targets: &[&str], code: i32| {
        let mut command = ecr.command(&[&[archive.as_str()], targets].concat());
        command.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &file);
        ecr.finish(command).exits_with(code);
        let text = fs::read_to_string(&file).unwrap();
        fs::remove_file(&file).unwrap();
        text
    };
    let text = summary(&["team/app:1", "--concurrency", "1"], 0);
    assert!(text.contains("244.8 KiB sent. 1 retry.\n"), "{text}");
    let text = summary(&["team/app:2", "team/missing:3"], 1);
    // The times of one run are those of the machine.
    assert!(text.contains("3 reused; 0 B sent. Saved: 443.0 KiB of the archive, about "), "{text}");
    assert!(text.contains(&format!("`{HOST}/team/app`\n")), "{text}");
    let (_, failed) = text.split_once(&format!("`{HOST}/team/missing` failed\n")).unwrap();
    assert!(failed.contains("\n    error: the repository team/missing does not exist"), "{text}");
    assert!(failed.contains("\n1 of 2 targets failed. "), "{text}");
}

#[test]
fn an_error_before_the_push_is_an_annotation_and_has_a_summary() {
    let (env, archive) = (TestEnv::new(), testdata(ARCHIVE));
    let file = env.scratch("summary.md");
    let run = |arguments: &[&str], environment: &[(&str, &str)]| {
        let mut command = env.command(arguments);
        command.envs(environment.iter().copied());
        finish(command, String::new)
    };
    let github = [("GITHUB_ACTIONS", "true"), ("GITHUB_STEP_SUMMARY", file.as_str())];
    for arguments in [
        &[&archive, "team/app:1", "--colour", "red"][..],
        &[&archive, "Team/app:1"],
        &[&archive, "team/app:1", "--ci", "hudson"],
        &[&archive, "team/app:1", "--report", "no/such/folder/r"],
        &[&archive, "localhost:5000/a:1", "--username", "me", "--password-stdin"],
    ] {
        let run = run(arguments, &github).fails_with(2);
        assert!(run.stderr.starts_with("::error::") && run.stderr.lines().count() == 1, "said once");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("### Push Image\n\n    error: "), "{text}");
        fs::remove_file(&file).unwrap();
    }
    // What is no push has no summary.
    for verb in [&["inspect"][..], &["inspect", "missing.tar"], &["policy", "Team"], &["completions", "tcsh"]] {
        let run = run(verb, &github);
        assert!(run.stderr.starts_with("::error::"), "{}", run.stderr);
        assert!(!fs::exists(&file).unwrap());
    }
    let azure = [("TF_BUILD", "True"), ("AGENT_TEMPDIRECTORY", "/no/such/folder")];
    let failed = run(&[&archive, "Team/app:1", "--display-name", "Ship it"], &azure).fails_with(2);
    failed.stderr_has(&["##vso[task.logissue type=error;]\"Team/app\" is not a repository name"]);
    for variables in [&github[..], &[]] {
        let failed = run(&[&archive, "Team/app:1", "--ci", "none"], variables).fails_with(2);
        assert!(failed.stderr.starts_with("error: ") && !fs::exists(&file).unwrap());
    }
}

#[test]
fn azure_gets_a_summary_that_stays() {
    let ecr = Ecr::new();
    let folder = ecr.env.scratch("temp");
    fs::create_dir(&folder).unwrap();
    let environment = [("TF_BUILD", "True"), ("AGENT_TEMPDIRECTORY", folder.as_str())];
    let run = ecr.finish(push(&ecr, &environment, &[])).succeeds();
    let path = run.stderr.lines().find_map(|line| line.strip_prefix("##vso[task.uploadsummary]")).unwrap();
    assert!(path.starts_with(&folder) && path.ends_with(".md"), "{path}");
    assert!(fs::read_to_string(path).unwrap().starts_with("### Push Image\n"));
    let lines: Vec<&str> = run.stderr.lines().collect();
    assert_eq!(lines[0], "##[group]Push Image");
    assert!(lines.contains(&"##[endgroup]"));
    // One that cannot be written costs nothing.
    let environment = [("TF_BUILD", "True"), ("AGENT_TEMPDIRECTORY", "/no/such/folder")];
    ecr.finish(push(&ecr, &environment, &[]))
        .succeeds()
        .stderr_has(&["note: cannot write the summary for the CI system: "]);
}

#[test]
fn the_first_of_several_targets_counts_and_all_are_named() {
    let ecr = Ecr::with(&["team/app", "team/other"], Rules::default());
    let file = ecr.env.scratch("image.env");
    let archive = testdata(ARCHIVE);
    let options = ["team/other:2", "--tag", "b", "--output-variable", "A", "--output-file", &file];
    let run = ecr.run(&[&[archive.as_str(), "team/app:1"], &options[..]].concat()).succeeds();
    let digest = run.digests().remove(0);
    let (app, other) = (format!("{HOST}/team/app"), format!("{HOST}/team/other"));
    let one = format!("A={app}:1\nA_DIGEST={digest}\nA_REF={app}@{digest}\n");
    let all = format!("A_ALL={app}:1,{app}:b,{other}:2,{other}:b\nA_REFS={app}@{digest},{other}@{digest}\n");
    let expected = one + &all;
    assert_eq!(fs::read_to_string(&file).unwrap(), expected);
    // One that failed is a push that failed.
    let options = ["team/absent:2", "--output-variable", "A", "--output-file", &file];
    let run = ecr.run(&[&[archive.as_str(), "team/app:1"], &options[..]].concat()).fails_with(1);
    assert!(run.stdout.starts_with(&app));
    assert_eq!(fs::read_to_string(&file).unwrap(), expected);
}

/// An archive whose image has this name, of nine bytes.
fn named(env: &TestEnv, name: &str) -> String {
    let archive = env.scratch("save.tar");
    archive_builder::docker_save(&archive, &[archive_builder::tar_of("app", &archive_builder::noise(1, 3000))]);
    let saved = fs::read(&archive).unwrap();
    // Of the same length, so that the archive stays one.
    let at = saved.windows(9).position(|bytes| bytes == b"made/up:1").unwrap();
    fs::write(&archive, [&saved[..at], name.as_bytes(), &saved[at + 9..]].concat()).unwrap();
    archive
}

#[test]
fn no_name_in_an_archive_is_a_command() {
    for (name, shown) in [("##vso[x]y", "# #vso[x]y "), ("::error::", ": :error:: ")] {
        let ecr = Ecr::new();
        let archive = named(&ecr.env, name);
        for environment in [&[][..], &[("TF_BUILD", "True")], &[("GITHUB_ACTIONS", "true")]] {
            let mut command = ecr.command(&[&archive, "team/app:1"]);
            command.envs(environment.iter().copied());
            ecr.finish(command).succeeds().stderr_has(&[shown]).output_has_none(&["##vso[x", "\n::error"]);
            let mut command = ecr.command(&[&archive, "team/app:1", "--output", "json"]);
            command.envs(environment.iter().copied());
            let run = ecr.finish(command).succeeds().output_has_none(&["##vso[x", "\n::error"]);
            assert_eq!(run.report()["image"]["names"][0], name);
        }
    }
}

#[test]
fn no_name_in_an_inspected_archive_is_a_command() {
    for (name, shown) in [("##vso[x]y", "# #vso[x]y"), ("##[error]", "# #[error]")] {
        let env = TestEnv::new();
        let archive = named(&env, name);
        for environment in [("TF_BUILD", "True"), ("GITHUB_ACTIONS", "true"), ("TEAMCITY_VERSION", "1")] {
            let mut command = env.command(&["inspect", &archive]);
            command.env(environment.0, environment.1);
            let run = finish(command, String::new).succeeds();
            assert!(run.stdout.contains(shown) && !run.stdout.contains("##"), "{}", run.stdout);
            // A JSON parser gets the exact name.
            let mut command = env.command(&["inspect", &archive, "--output", "json"]);
            command.env(environment.0, environment.1);
            let run = finish(command, String::new).succeeds();
            assert!(run.report()["images"][0]["names"][0] == name && !run.stdout.contains("##"), "{}", run.stdout);
        }
        assert!(
            env.run(&["inspect", &archive]).succeeds().stdout.contains(name),
            "unchanged where no CI system reads it"
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_person_at_a_terminal_gets_no_annotations() {
    use std::io::Read as _;

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    let ecr = Ecr::new();
    let file = ecr.env.scratch("summary.md");
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let path = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    let theirs = fs::File::options().read(true).write(true).open(&path).unwrap();
    let screen = std::thread::spawn(move || {
        // It ends with an error once the other end is closed.
        let mut shown = Vec::new();
        fs::File::from(ours).read_to_end(&mut shown).unwrap_err();
        String::from_utf8(shown).unwrap()
    });
    let inner = push(&ecr, &[], &["--progress", "plain", "--cache", "."]);
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" 2>\"$SCREEN\""]).arg(inner.get_program()).args(inner.get_args());
    command.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("SCREEN", &path).env("NO_COLOR", "1").env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &file);
    command.current_dir(inner.get_current_dir().unwrap());
    ecr.finish(command).succeeds();
    drop(theirs);
    let shown = screen.join().unwrap();
    assert!(shown.contains("warning: the cache cannot be read") && !shown.contains("\n::"), "{shown}");
    assert!(!fs::exists(&file).unwrap());
}

#[test]
fn an_annotation_has_nothing_that_a_terminal_obeys() {
    let env = TestEnv::new();
    for (variable, start) in [("GITHUB_ACTIONS", "::error::"), ("TF_BUILD", "##vso[task.logissue type=error;]")] {
        let mut command = env.command(&["no\u{1b}[31m\u{202e}.tar", "localhost:9/app:1"]);
        command.env(variable, "true");
        let run = finish(command, String::new);
        let line = run.stderr.lines().find(|line| line.starts_with(start)).expect("the error is an annotation");
        assert!(line.contains("[31m") && !line.contains(['\u{1b}', '\u{202e}']), "{line:?}");
    }
}
