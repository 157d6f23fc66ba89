//! A push in each CI system, as a whole: what its log has, and the files that it reads.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use ecr_push::internals::SYSTEMS;
use ecr_push::sandbox::Rules;

use super::Snapshot;
use crate::ecr::Ecr;
use crate::harness::testdata;

const SAME: [&str; 4] = ["--concurrency", "1", "--pack-threads", "2"];
/// What a system has beside the variable by which it is found: names of files in the environment, and options.
const ROWS: [(&str, &[&str], &[&str]); 12] = [
    ("azure", &[], &[]),
    ("github", &["GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"], &[]),
    ("gitlab", &[], &["--output-file"]),
    ("circleci", &["BASH_ENV"], &[]),
    ("bitbucket", &["BITBUCKET_PIPELINES_VARIABLES_PATH"], &[]),
    ("buildkite", &[], &[]),
    ("teamcity", &[], &[]),
    ("drone", &["DRONE_OUTPUT"], &[]),
    ("tekton", &[], &["--output-file"]),
    ("argo", &[], &["--output-file"]),
    ("jenkins", &[], &["--output-file"]),
    ("codebuild", &[], &["--output-file"]),
];
/// What each system sets in its jobs.
const FOUND_BY: [(&str, &str); 10] = [
    ("azure", "TF_BUILD"),
    ("github", "GITHUB_ACTIONS"),
    ("gitlab", "GITLAB_CI"),
    ("circleci", "CIRCLECI"),
    ("bitbucket", "BITBUCKET_BUILD_NUMBER"),
    ("buildkite", "BUILDKITE"),
    ("teamcity", "TEAMCITY_VERSION"),
    ("drone", "DRONE_OUTPUT"),
    ("jenkins", "JENKINS_URL"),
    ("codebuild", "CODEBUILD_BUILD_ID"),
];

/// A push in a system.
#[track_caller]
fn push(ecr: &Ecr, system: &str, code: i32) -> Snapshot {
    let (_, files, options) = ROWS.iter().find(|(name, ..)| *name == system).unwrap();
    let [variables, summaries, agent] = ["variables", "summaries", "agent"].map(|name| ecr.env.scratch(name));
    let archive = testdata("docker-20.10-save.tar");
    let asked = ["team/app:1", "--tag", "b", "--output-variable", "IMAGE"];
    let mut arguments = [&[archive.as_str()], &asked[..], &SAME].concat();
    let is_folder = ["tekton", "argo"].contains(&system);
    if !options.is_empty() {
        arguments.extend([options[0], variables.as_str()]);
    }
    if is_folder {
        fs::create_dir_all(&variables).unwrap();
        arguments.extend(["--ci", system]);
    }
    let mut command = ecr.command(&arguments);
    if let Some((_, name)) = FOUND_BY.iter().find(|(name, _)| *name == system) {
        command.env(name, "true");
    }
    command.envs(files.iter().map(|name| (*name, ecr.env.scratch(name))));
    fs::create_dir_all(&summaries).unwrap();
    command.env("AGENT_TEMPDIRECTORY", &summaries);
    if system == "buildkite" {
        command.env("PATH", format!("{}:{}", agents(ecr, &agent), std::env::var("PATH").unwrap()));
    }
    let run = ecr.finish(command).exits_with(code);
    let mut whole = Snapshot::of(&run).without(r"ecr-push-\d+-[0-9a-f]+|ecr-push-[0-9a-zA-Z-]+\.md", "SUMMARY.md");
    for name in files.iter() {
        whole = whole.file(name, &ecr.env.scratch(name));
    }
    whole = match (options.is_empty(), is_folder) {
        (true, _) => whole,
        (false, false) => whole.file("--output-file", &variables),
        (false, true) => folder(whole, &variables),
    };
    whole = folder(whole, &summaries);
    if system == "buildkite" { whole.file("buildkite-agent", &agent) } else { whole }
}

/// All files of a folder.
fn folder(whole: Snapshot, path: &str) -> Snapshot {
    let mut names: Vec<String> =
        fs::read_dir(path).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names.iter().fold(whole, |whole, name| whole.file(name, &format!("{path}/{name}")))
}

/// The folder of an agent of Buildkite's that notes what it was asked, and what it was fed.
fn agents(ecr: &Ecr, notes: &str) -> String {
    let folder = ecr.env.scratch("bin");
    fs::create_dir(&folder).unwrap();
    let agent = format!("{folder}/buildkite-agent");
    fs::write(&agent, format!("#!/bin/sh\necho \"[$*]\" >>{notes}\ncat >>{notes}\necho >>{notes}\n")).unwrap();
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

#[test]
fn every_system_gets_a_push() {
    assert!(SYSTEMS.iter().map(|system| system.name).eq(ROWS.iter().map(|row| row.0)), "each has a row here");
    for system in SYSTEMS {
        let ecr = Ecr::new();
        push(&ecr, system.name, 0).is(&format!("pipeline_{}", system.name), &ecr.env);
    }
}

#[test]
fn and_those_that_show_failures_get_one() {
    for system in ["azure", "github", "buildkite"] {
        let ecr = Ecr::with(&["team/app"], Rules { deny: vec!["ecr:PutImage".into()], ..Rules::default() });
        push(&ecr, system, 3).is(&format!("pipeline_{system}_failure"), &ecr.env);
        let ecr = Ecr::empty();
        push(&ecr, system, 1).is(&format!("pipeline_{system}_missing_repository"), &ecr.env);
    }
}
