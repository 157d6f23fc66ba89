//! The task of `integrations/azure`: its `index.js` and the program, in the environment that an Azure Pipelines agent makes for a
//! task. Without Node.js, the program is run alone.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ecr_push::sandbox::{Policy, Rules};
use serde_json::{Value, json};

use super::credentials::ARCHIVE;
use super::docker_registry::is_installed;
use super::ecr::{Ecr, HOST};
use super::engines::Engines;
use super::faults::interrupt;
use super::harness::{Run, Running, program, testdata, wait_until};

const DOCKER_SAVE: &str = "docker-29-overlay2-save.tar";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("integrations/azure")
}

fn task_json() -> Value {
    serde_json::from_slice(&fs::read(folder().join("EcrPush/task.json")).unwrap()).unwrap()
}

/// Node.js, if it is installed.
fn node() -> Option<PathBuf> {
    if !is_installed("node", "nodejs") {
        return None;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join("node")).find(|node| node.is_file())
}

/// A task's process with the variables of another command. This program is in the tool cache of the agent.
fn process(ecr: &Ecr, base: &Command, installed: &Path) -> Command {
    let mut command = match node() {
        Some(node) => {
            let mut command = Command::new(node);
            command.arg(folder().join("EcrPush/index.js"));
            command
        }
        None => {
            let mut command = Command::new(installed);
            command.arg("azure-task");
            command
        }
    };
    command.env_clear().envs(base.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(base.get_current_dir().unwrap());
    let tools = ecr.env.scratch("tools");
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let version = format!("{tools}/ecr-push/{}/{arch}", env!("CARGO_PKG_VERSION"));
    if !fs::exists(&version).unwrap() {
        fs::create_dir_all(&version).unwrap();
        std::os::unix::fs::symlink(installed, format!("{version}/ecr-push")).unwrap();
    }
    command.env("AGENT_TOOLSDIRECTORY", tools).env("TF_BUILD", "True").env("BUILD_BUILDID", "77");
    command
}

/// A task's process with these inputs. As in the agent, the defaults of `task.json` come first.
pub(crate) fn task(ecr: &Ecr, base: &Command, inputs: &[(&str, &str)]) -> Command {
    task_of(ecr, base, inputs, &program())
}

/// The same with another program in the tool cache.
pub(crate) fn task_of(ecr: &Ecr, base: &Command, inputs: &[(&str, &str)], installed: &Path) -> Command {
    let mut command = process(ecr, base, installed);
    let known = task_json();
    let known = known["inputs"].as_array().unwrap();
    let name = |input: &str| format!("INPUT_{}", input.to_uppercase());
    for input in known {
        command.env(name(input["name"].as_str().unwrap()), input["defaultValue"].as_str().unwrap());
    }
    for (input, value) in inputs {
        assert!(known.iter().any(|known| known["name"] == *input), "the task has no input {input}");
        command.env(name(input), value.trim());
    }
    command
}

/// A sandbox, and a stand-in for Docker with an image.
pub(crate) struct Agent<'a> {
    ecr: &'a Ecr,
    docker: Engines<'a>,
}

impl<'a> Agent<'a> {
    pub(crate) fn of(ecr: &'a Ecr) -> Self {
        let archive = testdata(DOCKER_SAVE);
        let list = "printf '%s\\n' 'app:1.4 sha256:0a1b2c'";
        Self { ecr, docker: Engines::with(ecr, "docker", &format!("cat '{archive}'"), list) }
    }

    /// The task with a source, a repository and these inputs, and a region from the environment.
    pub(crate) fn task(&self, inputs: &[(&str, &str)]) -> Command {
        let usual = [("sourceImageName", "app"), ("sourceImageTag", "1.4"), ("repositoryName", "team/app")];
        let mut command = task(self.ecr, &self.docker.command(&[]), &[&usual, inputs].concat());
        command.env("AWS_REGION", "us-east-1");
        command
    }

    #[track_caller]
    pub(crate) fn run(&self, inputs: &[(&str, &str)]) -> Run {
        self.ecr.finish(self.task(inputs))
    }

    #[track_caller]
    pub(crate) fn has(&self, repository: &str, tag: &str) {
        assert!(self.ecr.image(repository, tag).is_some(), "{repository} has no {tag}");
    }
}

/// The variables that the log sets, as an agent reads them.
pub(crate) fn set_variables(log: &str) -> HashMap<String, String> {
    let command = |line: &str| {
        let (properties, value) = line.strip_prefix("##vso[task.setvariable ")?.split_once(']')?;
        let mut properties = properties.split(';').filter_map(|property| property.trim().split_once('='));
        let (_, name) = properties.find(|(key, _)| *key == "variable")?;
        Some((name.to_owned(), value.to_owned()))
    };
    log.lines().filter_map(command).collect()
}

#[test]
fn an_image_by_name_and_tag() {
    let ecr = Ecr::new();
    let agent = Agent::of(&ecr);
    agent.run(&[("pushTag", "7")]).succeeds();
    agent.has("team/app", "7");
    agent.run(&[("sourceImageTag", ""), ("pushTag", "8")]).succeeds();
    agent.run(&[("sourceImageName", "app:1.5"), ("sourceImageTag", "latest"), ("pushTag", "9")]).succeeds();
    assert_eq!(agent.docker.calls(), ["docker save app:1.4", "docker save app:latest", "docker save app:1.5"]);
    let run = agent.run(&[("sourceImageName", "")]).fails_with(2);
    run.stderr_has(&["the input sourceImageName is required", "##vso[task.logissue type=error"]);
    agent.run(&[("sourceImageName", "app:1.5"), ("sourceImageTag", "2")]).fails_with(2);
    let run = agent.run(&[("sourceImageName", "$(Image)")]).fails_with(2);
    run.stderr_has(&["the input sourceImageName contains $(Image): the pipeline variable Image is not defined"]);
}

#[test]
fn an_image_by_id() {
    let ecr = Ecr::new();
    let agent = Agent::of(&ecr);
    for id in ["0a1b2c", "sha256:0a1b2c"] {
        agent
            .run(&[("imageSource", "imageid"), ("sourceImageId", id), ("sourceImageName", ""), ("pushTag", "7")])
            .succeeds();
    }
    agent.has("team/app", "7");
    assert_eq!(agent.docker.calls(), ["docker save 0a1b2c", "docker save sha256:0a1b2c"]);
    agent.run(&[("imageSource", "imageid")]).fails_with(2).stderr_has(&["the input sourceImageId is required"]);
}

#[test]
fn the_repository_may_have_dots() {
    let ecr = Ecr::with(&["my.team/app"], Rules::default());
    let agent = Agent::of(&ecr);
    agent.run(&[("repositoryName", "my.team/app")]).succeeds();
    agent.has("my.team/app", "latest");
    agent.run(&[("repositoryName", "")]).fails_with(2).stderr_has(&["the input repositoryName is required"]);
    agent.run(&[("repositoryName", "Team/App")]).fails_with(2);
}

#[test]
fn the_tag_is_latest_unless_it_is_given() {
    for (inputs, tag, reference) in [
        (&[][..], "latest", "team/app:latest"),
        (&[("pushTag", "3.4")], "3.4", "team/app:3.4"),
        // Docker assumes latest, and the variable has no tag.
        (&[("pushTag", "")], "latest", "team/app"),
    ] {
        let ecr = Ecr::new();
        let agent = Agent::of(&ecr);
        let run = agent.run(&[inputs, &[("outputVariable", "IMAGE")]].concat()).succeeds();
        agent.has("team/app", tag);
        assert_eq!(set_variables(&run.stderr)["IMAGE"], format!("{HOST}/{reference}"));
    }
}

#[test]
fn a_repository_is_created_if_asked() {
    let ecr = Ecr::empty();
    let agent = Agent::of(&ecr);
    agent.run(&[]).fails_with(1).stderr_has(&["team/app"]);
    assert!(ecr.repositories().is_empty());
    let new = [("autoCreateRepository", "True"), ("scanOnPush", "true"), ("tagMutability", "immutable")];
    agent.run(&new).succeeds();
    let settings = ecr.settings("team/app").unwrap();
    assert_eq!(settings["mutability"], "IMMUTABLE", "{settings}");
    assert_eq!(settings["scan_on_push"], true, "{settings}");
    agent.run(&[("autoCreateRepository", "true"), ("repositoryName", "team/plain")]).succeeds();
    assert_eq!(ecr.settings("team/plain").unwrap()["mutability"], "MUTABLE");
    let run = agent.run(&[("tagMutability", "immutable")]).fails_with(2);
    run.stderr_has(&["The input tagMutability sets --tag-mutability."]);
}

#[test]
fn docker_naming_removes_slashes() {
    let ecr = Ecr::empty();
    let agent = Agent::of(&ecr);
    let naming = [("forceDockerNamingConventions", "true"), ("autoCreateRepository", "true")];
    for (typed, name) in
        [("Team/My App", "teammyapp"), ("my-repo.name_01", "my-repo.name_01"), ("RepoName", "reponame")]
    {
        let run = agent.run(&[&naming[..], &[("repositoryName", typed)]].concat()).succeeds();
        agent.has(name, "latest");
        let note = format!("the repository \"{typed}\" is called \"{name}\"");
        assert_eq!(run.stderr.contains(&note), typed != name, "{}", run.stderr);
    }
}

#[test]
fn the_image_is_removed_after_the_push() {
    let ecr = Ecr::new();
    let agent = Agent::of(&ecr);
    let remove = ("removeDockerImage", "true");
    agent.run(&[remove]).succeeds();
    agent.run(&[remove, ("imageSource", "imageid"), ("sourceImageId", "0a1b2c")]).succeeds();
    // Nothing was pushed.
    agent.run(&[remove, ("repositoryName", "none")]).fails_with(1);
    let calls = agent.docker.calls();
    assert_eq!(
        calls[..4],
        ["docker save app:1.4", "docker rmi app:1.4", "docker save 0a1b2c", "docker rmi --force 0a1b2c"]
    );
    assert!(!calls[4..].iter().any(|call| call.starts_with("docker rmi")), "{calls:?}");
    let archive = testdata(DOCKER_SAVE);
    let used = format!("cat '{archive}' ;; rmi) echo 'image is being used by running container' >&2; exit 1");
    let agent = Agent { ecr: &ecr, docker: Engines::with(&ecr, "docker", &used, "exit 0") };
    let run = agent.run(&[remove, ("pushTag", "kept"), ("outputVariable", "IMAGE")]).fails_with(1);
    agent.has("team/app", "kept");
    assert!(set_variables(&run.stderr).contains_key("IMAGE"));
    run.stderr_has(&[
        "docker cannot remove the image app:1.4",
        "is being used by running container",
        "The image was pushed.",
    ]);
}

#[test]
fn the_output_variable_is_the_reference() {
    let ecr = Ecr::new();
    let agent = Agent::of(&ecr);
    let inputs = [("outputVariable", "image.tag"), ("pushTag", "7")];
    let run = agent.run(&inputs).succeeds();
    let line = format!("##vso[task.setvariable variable=image.tag;isOutput=false;issecret=false;]{HOST}/team/app:7\n");
    assert!(run.stderr.contains(&line), "{}", run.stderr);
    let digest = ecr.image("team/app", "7").unwrap().0;
    assert_eq!(set_variables(&run.stderr)["image.tag_REF"], format!("{HOST}/team/app@{digest}"));
    let run = agent.run(&[&inputs[..], &[("repositoryName", "none")]].concat()).fails_with(1);
    assert!(set_variables(&run.stderr).is_empty());
    let run = agent.run(&[]).succeeds();
    assert!(set_variables(&run.stderr).is_empty());
}

#[test]
fn requests_are_logged_if_asked() {
    let ecr = Ecr::new();
    let agent = Agent::of(&ecr);
    let is_logged = |run: &Run| run.stderr.contains("ecr:GetAuthorizationToken");
    assert!(!is_logged(&agent.run(&[]).succeeds()));
    for input in ["logRequest", "logResponse"] {
        let run = agent.run(&[(input, "true")]).succeeds();
        assert!(is_logged(&run), "{}", run.stderr);
    }
}

#[test]
fn the_display_name_is_the_title() {
    let ecr = Ecr::new();
    let agent = Agent::of(&ecr);
    let mut command = agent.task(&[]);
    command.env("SYSTEM_TASKDISPLAYNAME", "Push Image: team/app");
    ecr.finish(command).succeeds().stderr_has(&["##[group]Push Image: team/app\n"]);
}

#[test]
fn the_permissions_of_the_guide_are_enough() {
    let of_repository = [
        "BatchGetImage", "BatchCheckLayerAvailability", "CompleteLayerUpload", "DescribeImages",
        "DescribeRepositories", "GetDownloadUrlForLayer", "InitiateLayerUpload", "ListImages", "PutImage",
        "UploadLayerPart",
    ];
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {
            "Effect": "Allow", "Action": of_repository.map(|action| format!("ecr:{action}")),
            "Resource": "arn:aws:ecr:us-east-1:000000000000:repository/team/app",
        },
        {"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"},
    ]});
    let ecr = Ecr::with(
        &["team/app"],
        Rules { policy: Some(Policy::of_json(&policy.to_string()).unwrap()), ..Rules::default() },
    );
    let agent = Agent::of(&ecr);
    agent.run(&[]).succeeds();
    agent.has("team/app", "latest");
}

#[test]
fn additional_tags_are_pushed() {
    let ecr = Ecr::new();
    let agent = Agent::of(&ecr);
    let run = agent.run(&[("pushTag", "7"), ("additionalTags", "stable\n1.4"), ("outputVariable", "IMAGE")]).succeeds();
    ["7", "stable", "1.4"].into_iter().for_each(|tag| agent.has("team/app", tag));
    assert_eq!(set_variables(&run.stderr)["IMAGE"], format!("{HOST}/team/app:7"));
}

#[test]
fn another_tag_sends_no_layer_again() {
    let ecr = Ecr::new();
    let agent = Agent::of(&ecr);
    agent.run(&[("pushTag", "77")]).succeeds();
    // The next agent is a new machine.
    fs::remove_dir_all(ecr.env.home()).unwrap();
    fs::create_dir(ecr.env.home()).unwrap();
    let run = agent.run(&[("pushTag", "78")]).succeeds();
    run.stderr_has(&["0 of 3 layers uploaded"]);
    agent.has("team/app", "78");
}

#[test]
fn an_archive_needs_no_docker() {
    let ecr = Ecr::new();
    let archive = testdata(ARCHIVE);
    let inputs = [("imageSource", "archive"), ("archive", &archive), ("repositoryName", "team/app"), ("pushTag", "7")];
    let mut command = task(&ecr, &ecr.command(&[]), &inputs);
    command.env("AWS_REGION", "us-east-1").env("PATH", "/nowhere");
    ecr.finish(command).succeeds();
    assert!(ecr.image("team/app", "7").is_some());
    // A file that has the name of an option.
    let here = ecr.env.scratch("files");
    fs::create_dir(&here).unwrap();
    fs::copy(&archive, format!("{here}/--dry-run")).unwrap();
    let mut command =
        task(&ecr, &ecr.command(&[]), &[&inputs[..], &[("archive", "--dry-run"), ("pushTag", "8")]].concat());
    command.env("AWS_REGION", "us-east-1").current_dir(here);
    ecr.finish(command).succeeds();
    assert!(ecr.image("team/app", "8").is_some());
}

#[test]
fn a_cancelled_job_ends_the_push_and_docker() {
    let ecr = Ecr::new();
    let file = ecr.env.scratch("pid");
    let save = format!("echo $$ > '{file}.new'; mv '{file}.new' '{file}'; exec sleep 1000");
    let agent = Agent { ecr: &ecr, docker: Engines::with(&ecr, "docker", &save, "exit 1") };
    let running = Running::start(agent.task(&[]));
    wait_until("the image is being saved", || fs::exists(&file).unwrap());
    interrupt(running.id());
    running.end().fails_with(130);
    let process = fs::read_to_string(&file).unwrap();
    assert!(!fs::exists(format!("/proc/{}", process.trim())).unwrap());
}

#[test]
fn a_task_without_the_program_fails() {
    if node().is_none() {
        return;
    }
    let ecr = Ecr::new();
    let mut command = process(&ecr, &ecr.command(&[]), &program());
    command.env("AGENT_TOOLSDIRECTORY", "/nowhere").env("PATH", "/nowhere");
    let run = ecr.finish(command).fails_with(1);
    assert!(run.stdout.starts_with("##vso[task.complete result=Failed;]cannot run ecr-push: "), "{}", run.stdout);
}

#[test]
fn a_program_that_is_killed_is_reported() {
    if node().is_none() {
        return;
    }
    let ecr = Ecr::new();
    let killed = PathBuf::from(ecr.env.scratch("killed"));
    fs::write(&killed, "#!/bin/sh\nkill -9 $$\n").unwrap();
    fs::set_permissions(&killed, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let run = ecr.finish(process(&ecr, &ecr.command(&[]), &killed)).fails_with(130);
    assert!(run.stdout.contains("result=Failed;]ecr-push was ended by the signal SIGKILL."), "{}", run.stdout);
}

#[test]
fn every_parameter_has_an_input_and_a_test() {
    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    let rows =
        readme.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")).map(|row| row.split(" | "));
    let rows: Vec<Vec<&str>> = rows.map(Iterator::collect).filter(|row: &Vec<&str>| row[0] != "parameter").collect();
    let source = [include_str!("azure_task.rs"), include_str!("azure_credentials.rs")].concat();
    for row in &rows {
        let test = row[2].trim_matches('`');
        assert!(source.contains(&format!("#[test]\nfn {test}() {{")), "there is no test {test}");
    }
    let has = |name: &str| rows.iter().any(|row| row[1] == format!("`{name}`"));
    let task = task_json();
    let names: Vec<&str> =
        task["inputs"].as_array().unwrap().iter().map(|input| input["name"].as_str().unwrap()).collect();
    let missing: Vec<_> = names.iter().filter(|name| !has(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    // Every other input of the table is one of the task.
    let unknown = rows.iter().filter(|row| !["none", "`displayName` of the step"].contains(&row[1]));
    let unknown: Vec<_> = unknown.filter(|row| !names.contains(&row[1].trim_matches('`'))).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn labels_and_defaults_are_those_of_the_guide() {
    let task = task_json();
    let inputs = task["inputs"].as_array().unwrap();
    let text = |input: &Value, field: &str| input[field].as_str().unwrap_or_default().to_owned();
    for (name, label, kind, default, rule, group) in [
        ("awsCredentials", "AWS Credentials", "connectedService:AWS", "", "", ""),
        ("regionName", "AWS Region", "pickList", "", "", ""),
        ("imageSource", "Image Identity", "radio", "imagename", "", ""),
        ("sourceImageName", "Source Image Name", "string", "", "imageSource = imagename", ""),
        ("sourceImageTag", "Source Image Tag", "string", "latest", "imageSource = imagename", ""),
        ("sourceImageId", "Source Image ID", "string", "", "imageSource = imageid", ""),
        ("repositoryName", "Target Repository Name", "string", "", "", ""),
        ("pushTag", "Target Repository Tag", "string", "latest", "", ""),
        ("autoCreateRepository", "Create repository if it does not exist", "boolean", "false", "", ""),
        (
            "forceDockerNamingConventions",
            "Force repository name to follow Docker naming conventions",
            "boolean",
            "false",
            "",
            "",
        ),
        ("removeDockerImage", "Remove Docker image after ECR push", "boolean", "false", "", ""),
        ("outputVariable", "Image Tag Output Variable", "string", "", "", "output"),
        ("logRequest", "Log Request", "boolean", "false", "", "diagnostic"),
        ("logResponse", "Log Response", "boolean", "false", "", "diagnostic"),
    ] {
        let input = inputs.iter().find(|input| input["name"] == name).unwrap();
        let found = ["label", "type", "defaultValue", "visibleRule", "groupName"].map(|field| text(input, field));
        assert_eq!(found, [label, kind, default, rule, group]);
        assert_eq!(input["required"], ["imageSource", "repositoryName"].contains(&name), "{name}");
    }
    assert_eq!(task["instanceNameFormat"], "Push Image: $(repositoryName)");
}
