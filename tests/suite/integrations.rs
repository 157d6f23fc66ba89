//! The files of `integrations/`, and `action.yml`: each is validated by the schema of its system and run as that system does.
//!
//! The schemas are those that `check-jsonschema` ships; `tests/run.sh` installs it and names it in `ECR_PUSH_CHECK_JSONSCHEMA`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::archive_contents::sha256;
use super::ci_simulator::{GithubRunner, ROLE, Variables, component, gitlab_job};
use super::docker_registry::{is_installed, not_run};
use super::docs_commands::parsed_text;
use super::docs_env::{DocsEnv, keys};
use super::file_server::FileServer;
use super::harness::{Run, finish};
use super::markdown::{page, root};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Returns the files below a folder of the repository.
fn files(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap());
    let mut found = Vec::new();
    for entry in entries {
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.path().is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Validates a file by a schema, if the tool is here.
fn validate(schema: &str, path: &Path) {
    let tool = std::env::var_os("ECR_PUSH_CHECK_JSONSCHEMA").map(PathBuf::from).filter(|path| path.is_file());
    let Some(tool) = tool else {
        return not_run(
            "schemas of CI systems (no check-jsonschema; tests/run.sh installs it where there is Python and PyPI)",
        );
    };
    let mut command = Command::new(tool);
    command.args(["--builtin-schema", schema, "--data-transform", "gitlab-ci"]).arg(path);
    finish(command, String::new).succeeds();
}

#[test]
fn actions_and_workflows_match_the_schemas_of_github() {
    for action in ["action.yml", "integrations/github/setup/action.yml"] {
        validate("vendor.github-actions", &root().join(action));
    }
    for workflow in files(".github/workflows") {
        validate("vendor.github-workflows", &root().join(workflow));
    }
}

#[test]
fn the_component_matches_the_schema_of_gitlab() {
    // One document each: the schema has no others.
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let text = read("integrations/gitlab/templates/push.yml");
    let (spec, _) = text.split_once("\n---\n").unwrap();
    validate("vendor.gitlab-ci", &file("spec.yml", spec));
    let inputs = Variables::from([("target".into(), "team/app:1".into())]);
    validate("vendor.gitlab-ci", &file("job.yml", &component(&inputs).to_string()));
}

#[test]
fn no_action_has_an_expression_in_a_script() {
    let workflows = files(".github/workflows").into_iter();
    let actions = ["action.yml", "integrations/github/setup/action.yml"].map(str::to_owned);
    for path in workflows.chain(actions) {
        let file = parsed_text(&path, &read(&path));
        let jobs = file["jobs"].as_object().into_iter().flatten().map(|(_, job)| &job["steps"]);
        let steps = jobs.chain([&file["runs"]["steps"]]).filter_map(|steps| steps.as_array()).flatten();
        for script in steps.filter_map(|step| step["run"].as_str()) {
            assert!(
                !script.contains("${{"),
                "{path}: an expression in a script runs what its value contains: {script}"
            );
        }
    }
}

#[test]
fn every_integration_has_this_version_and_this_repository() {
    let repository = env!("CARGO_PKG_REPOSITORY");
    assert_eq!(repository, "https://github.com/ecr-push/ecr-push");
    assert_eq!(env!("CARGO_PKG_HOMEPAGE"), repository);
    for path in ["action.yml", "integrations/github/setup/action.yml"] {
        let action = parsed_text(path, &read(path));
        assert_eq!(action["inputs"]["version"]["default"], VERSION, "{path}");
    }
    let spec = read("integrations/gitlab/templates/push.yml");
    assert!(spec.contains(&format!("      default: {VERSION}\n      description: Version of ecr-push to download")));
    for path in ["integrations/github/install.sh", "integrations/gitlab/templates/push.yml"] {
        let text = read(path);
        let found: BTreeSet<_> = text.match_indices("https://github.com/").map(|(at, _)| &text[at..]).collect();
        assert!(found.iter().all(|url| url.starts_with(repository)), "{path}");
    }
}

#[test]
fn the_page_has_every_input_and_output_of_the_action() {
    let action = parsed_text("action.yml", &read("action.yml"));
    let section = page("docs/ci/github-actions.md").section("## Inputs and outputs");
    let names = |key: &str| action[key].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    for name in names("inputs").iter().chain(&names("outputs")) {
        assert!(section.contains(&format!("`{name}`")), "{name}");
    }
    let gitlab = &page("docs/ci/gitlab.md").text;
    let text = read("integrations/gitlab/templates/push.yml");
    let spec = parsed_text("the spec", text.split_once("\n---\n").unwrap().0);
    for name in spec["spec"]["inputs"].as_object().unwrap().keys() {
        assert!(gitlab.contains(&format!("`{name}`")) || gitlab.contains(&format!("    {name}: ")), "{name}");
    }
}

/// The mirror of a release with one program, and the inputs that name it.
struct Mirror {
    folder: PathBuf,
    server: FileServer,
    checksum: String,
}

impl Mirror {
    fn of(env: &DocsEnv) -> Self {
        let folder = PathBuf::from(env.aws.ecr.env.scratch("mirror"));
        fs::create_dir(&folder).unwrap();
        let file = folder.join(format!("ecr-push-{VERSION}-{}-unknown-linux-gnu", std::env::consts::ARCH));
        fs::copy(env.program(), file).unwrap();
        let checksum = sha256(&fs::read(env.program()).unwrap()).trim_start_matches("sha256:").to_owned();
        Self { server: FileServer::start(folder.clone()), folder, checksum }
    }

    fn inputs(&self, more: &[(&str, &str)]) -> Variables {
        let url = self.server.url();
        let own = [("download-url", url.as_str()), ("checksum", &self.checksum)];
        own.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }
}

/// Runs the action for GitHub.
fn action(env: &DocsEnv, inputs: &Variables) -> (Run, Variables) {
    GithubRunner::new(env, true).action(root(), inputs)
}

#[test]
fn the_action_pushes_and_sets_its_outputs() {
    if !is_installed("curl", "curl") {
        return;
    }
    let env = DocsEnv::without_program();
    env.add_inputs();
    let mirror = Mirror::of(&env);
    let mut inputs = mirror.inputs(&[
        ("archive", "image.tar"),
        ("target", "team/app:1\n  team/new:1\n"),
        ("tag", "stable,v1"),
        ("region", "eu-west-1"),
        ("role-arn", ROLE),
        ("create-repository", "true"),
        ("if-exists", "same-ok"),
        ("platform", "linux/amd64"),
        ("arguments", "--role-session-name=ci\n--display-name\nPush; touch here; \"the\" 'image' *\n"),
    ]);
    // One checksum for each kind of runner.
    inputs.insert("checksum".into(), format!("{}\n{}\n", "0".repeat(64), mirror.checksum));
    inputs.insert("download-url".into(), format!("{}/", mirror.server.url()));
    let (run, outputs) = action(&env, &inputs);
    let run = run.succeeds().stderr_has(&["Push; touch here; \"the\" 'image' *"]);
    assert!(!env.here().join("here").exists());
    let host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    let digest = outputs["digest"].clone();
    assert_eq!(outputs["image"], format!("{host}/team/app:1"));
    assert_eq!(outputs["ref"], format!("{host}/team/app@{digest}"));
    let tags = |name: &str| ["1", "stable", "v1"].map(|tag| format!("{host}/{name}:{tag}")).join(",");
    assert_eq!(outputs["all"], format!("{},{}", tags("team/app"), tags("team/new")));
    assert_eq!(run.stdout.lines().count(), 6);
    for tag in ["1", "stable", "v1"] {
        assert!(env.aws.ecr.image("team/new", tag).is_some());
    }
    // The program is in the tool cache: the mirror is not needed again.
    fs::remove_dir_all(&mirror.folder).unwrap();
    let (run, again) = action(&env, &inputs);
    run.succeeds();
    assert_eq!(again, outputs);
    // A program in the cache that was changed is not run.
    let cached = env.aws.ecr.env.scratch(&format!("tool-cache/ecr-push/{VERSION}"));
    let architecture = fs::read_dir(cached).unwrap().next().unwrap().unwrap().path();
    fs::write(architecture.join("ecr-push"), "#!/bin/sh\ntouch changed\n").unwrap();
    let (run, _) = action(&env, &inputs);
    run.fails_with(1);
    assert!(!env.here().join("changed").exists());
}

#[test]
fn the_action_rejects_what_it_cannot_trust() {
    if !is_installed("curl", "curl") {
        return;
    }
    let env = DocsEnv::without_program();
    env.add_inputs();
    let mirror = Mirror::of(&env);
    let usual = [("archive", "image.tar"), ("target", "team/app:1"), ("region", "eu-west-1"), ("role-arn", ROLE)];
    let wrong = "f".repeat(64);
    for (name, value, reason) in [
        ("checksum", wrong.as_str(), "does not have the expected checksum"),
        ("checksum", "", "The input checksum is missing: set it to the SHA-256 of the binary, from SHA256SUMS"),
        ("checksum", " \n", "The input checksum is missing"),
        ("checksum", "abc\n::set-output name=x::y", "must be the SHA-256"),
        ("version", "1.0\n::warning::x", "must be a version such as 1.2.3"),
        ("download-url", "--output=injected", "Cannot download"),
        ("version", "9.9.9", "Cannot download ecr-push-9.9.9"),
    ] {
        let mut inputs = mirror.inputs(&usual);
        inputs.insert(name.into(), value.into());
        let (run, _) = action(&env, &inputs);
        let run = run.fails_with(1);
        assert!(run.stdout.starts_with("::error title=ecr-push::") && run.stdout.contains(reason), "{}", run.stdout);
        assert_eq!(run.stdout.lines().count(), 1, "no input is a command");
    }
    assert_eq!(env.calls(), 0, "nothing is pushed");
    // Text in an input is not run, and names that a shell expands stay as they are.
    let mut inputs = mirror.inputs(&usual);
    inputs.insert("target".into(), "team/$(touch$IFS'injected'):*".into());
    let (run, _) = action(&env, &inputs);
    run.fails_with(2);
    assert!(!env.here().join("injected").exists());
    for (name, value, code, reason) in [
        ("target", "", 2, "the target is missing"),
        ("archive", "--version", 1, "cannot find the file --version"),
        ("archive", "`touch injected`", 1, "cannot find the file `touch injected`"),
        ("create-repository", "maybe", 2, "ECR_PUSH_CREATE_REPOSITORY must be true or false"),
        ("arguments", "--tag a", 2, "--tag and its value are one argument, separated by a blank"),
        ("tag", "a b/c", 2, "b/c"),
        ("region", "Ireland", 2, "ECR_PUSH_REGION"),
    ] {
        let mut inputs = mirror.inputs(&usual);
        inputs.insert(name.into(), value.into());
        let (run, outputs) = action(&env, &inputs);
        let run = run.fails_with(code);
        assert!(run.stderr.contains(reason), "{name}: {}", run.stderr);
        assert!(outputs.values().all(|value| value.contains("${{")), "{outputs:?}");
        assert!(!env.here().join("injected").exists(), "{name}");
    }
}

#[test]
fn the_setup_action_only_installs() {
    if !is_installed("curl", "curl") {
        return;
    }
    let env = DocsEnv::without_program();
    let mirror = Mirror::of(&env);
    let mut runner = GithubRunner::new(&env, false);
    let (run, _) = runner.action(&root().join("integrations/github/setup"), &mirror.inputs(&[]));
    run.succeeds().stdout_is(&format!("ecr-push {VERSION}\n"));
    let (run, _) = runner.run("ecr-push --version", &Variables::new());
    run.stdout_is(&format!("ecr-push {VERSION}\n"));
}

#[test]
fn the_component_pushes_and_passes_variables_on() {
    if !is_installed("curl", "curl") {
        return;
    }
    let env = DocsEnv::without_program();
    env.add_inputs();
    let mirror = Mirror::of(&env);
    let job = |more: &[(&str, &str)]| {
        let jobs = component(
            &mirror.inputs(&[&[("target", "team/app:$CI_COMMIT_SHORT_SHA"), ("region", "eu-west-1")], more].concat()),
        );
        let (name, job) = jobs.as_object().unwrap().iter().next().unwrap();
        (name.clone(), job.clone())
    };
    let (name, with_role) = job(&[
        ("job-name", "push it"),
        ("role-arn", ROLE),
        ("tag", "a,b"),
        ("create-repository", "true"),
        ("arguments", "--if-exists same-ok --display-name x"),
    ]);
    assert_eq!(name, "push it");
    gitlab_job(&env, &with_role, &env.here(), &Variables::new()).succeeds();
    assert_eq!(env.aws.assumed().len(), 1);
    let variables = fs::read_to_string(env.here().join("ecr-push.env")).unwrap();
    for name in ["IMAGE", "IMAGE_DIGEST", "IMAGE_REF", "IMAGE_ALL"] {
        assert!(variables.contains(&format!("{name}=")), "{variables}");
    }
    assert!(["01234567", "a", "b"].iter().all(|tag| env.aws.ecr.image("team/app", tag).is_some()));

    // Keys of the project's variables instead of a role.
    let (_, with_keys) = job(&[]);
    gitlab_job(&env, &with_keys, &env.here(), &keys().into_iter().collect()).succeeds();
    // A project may have variables with common names.
    let project =
        ["ARCHIVE", "TARGET", "ARGUMENTS", "VERSION", "CHECKSUM", "URL"].map(|name| (name.into(), "x".into()));
    gitlab_job(&env, &with_role, &env.here(), &project.into_iter().collect()).succeeds();
    // No checksum, a wrong one, and a mirror that does not have the file.
    let (_, none) = job(&[("checksum", "")]);
    let run = gitlab_job(&env, &none, &env.here(), &Variables::new()).fails_with(1);
    run.stderr_has(&["error: the input checksum is missing"]);
    let (_, wrong) = job(&[("checksum", &"0".repeat(64))]);
    let calls = env.calls();
    gitlab_job(&env, &wrong, &env.here(), &Variables::new()).fails_with(1);
    let (_, absent) = job(&[("version", "9.9.9")]);
    assert_ne!(gitlab_job(&env, &absent, &env.here(), &Variables::new()).code, Some(0));
    assert_eq!(env.calls(), calls, "nothing is run");
}

#[test]
fn every_file_is_validated_or_run() {
    let known = [
        "integrations/github/install.sh",
        "integrations/github/push.sh",
        "integrations/github/setup/action.yml",
        "integrations/gitlab/README.md",
        "integrations/gitlab/templates/push.yml",
    ];
    // The extension for Azure Pipelines has tests of its own.
    let files = files("integrations").into_iter().filter(|path| !path.starts_with("integrations/azure/"));
    assert_eq!(files.collect::<Vec<_>>(), known);
}
