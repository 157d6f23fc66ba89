//! Runs the manifests of `docs/at-scale.md` as their engines do: once for each machine, with the variables that the engine sets.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::bundles::save;
use super::ci_simulator::{container, filled, github, gitlab, list, string, strings};
use super::docs_commands::parsed;
use super::docs_env::{DocsEnv, keys};
use super::markdown::{Block, blocks};
use super::schema;

/// The page.
pub(crate) const PAGE: &str = "docs/at-scale.md";

/// The parts of every example.
const PARTS: usize = 4;

/// The images of the bundle, each in a repository of its own.
const IMAGES: usize = 14;

/// Returns an environment with the bundle, where curl and a volume have it.
fn env() -> DocsEnv {
    let env = DocsEnv::new();
    let names: Vec<String> = (0..IMAGES).map(|n| format!("org/app-{n}:1")).collect();
    let images: Vec<[&str; 1]> = names.iter().map(|name| [name.as_str()]).collect();
    let images: Vec<&[&str]> = images.iter().map(|names| &names[..]).collect();
    let archive = save(&env.aws.ecr.env, &images);
    fs::copy(archive, env.here().join("images.tar")).unwrap();
    env
}

/// Returns the only block of the page in a language that has a text.
#[track_caller]
fn block(language: &str, text: &str) -> Block {
    let is_it = |block: &Block| block.path == PAGE && block.language == language && block.text.contains(text);
    let mut found = blocks().into_iter().filter(is_it);
    let block = found.next().unwrap_or_else(|| panic!("no block of {PAGE} has {text}"));
    assert!(found.next().is_none(), "two blocks of {PAGE} have {text}");
    block
}

/// Returns the reports below a folder.
fn reports(folder: &Path) -> Vec<PathBuf> {
    let (folders, files): (Vec<_>, Vec<_>) =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).partition(|path| path.is_dir());
    let is_report = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "jsonl");
    folders.iter().flat_map(|folder| reports(folder)).chain(files.into_iter().filter(is_report)).collect()
}

/// Asserts that the parts pushed every image exactly once, and that their reports together are the report of the whole.
#[track_caller]
fn assert_pushed_once(env: &DocsEnv) {
    let reports = reports(&env.here());
    assert_eq!((env.calls(), reports.len()), (PARTS, PARTS), "{reports:?}");
    let joined: String = reports.iter().map(|report| fs::read_to_string(report).unwrap()).collect();
    schema::check_lines(&joined);
    let lines: Vec<Value> = joined.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (images, sums): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["kind"] == "image");
    let names: BTreeSet<_> = images.iter().map(|line| line["name"].as_str().unwrap().to_owned()).collect();
    let all: BTreeSet<_> = (0..IMAGES).map(|n| format!("mirror/org/app-{n}:1")).collect();
    assert_eq!((images.len(), names), (IMAGES, all));
    let pushed: u64 = sums.iter().map(|line| line["images"]["pushed"].as_u64().unwrap()).sum();
    assert_eq!((sums.len(), pushed), (PARTS, IMAGES as u64));
    assert_eq!(env.aws.manifests_put().len(), IMAGES);
    for n in 0..IMAGES {
        assert!(env.aws.ecr.image(&format!("mirror/org/app-{n}"), "1").is_some(), "app-{n}");
    }
}

/// Replaces the path of a volume by the folder of the environment.
fn mounted(env: &DocsEnv, at: &str, text: &str) -> String {
    text.replace(&format!("{at}/"), &format!("{}/", env.here().display()))
}

#[test]
fn an_indexed_job_of_kubernetes_pushes_every_image_once() {
    let env = env();
    let job = parsed(&block("yaml", "kind: Job"));
    let spec = &job["spec"];
    // What per-index retries require: https://kubernetes.io/docs/concepts/workloads/controllers/job/#backoff-limit-per-index
    assert_eq!((&spec["completionMode"], &spec["completions"]), (&json!("Indexed"), &json!(PARTS)));
    assert!(spec["backoffLimitPerIndex"].is_number() && spec["template"]["spec"]["restartPolicy"] == "Never");
    let rule = &list(&spec["podFailurePolicy"], "rules")[0];
    assert_eq!((&rule["action"], &rule["onExitCodes"]["values"]), (&json!("FailIndex"), &json!([1, 2, 3])));
    let pod = &spec["template"]["spec"];
    let [one] = list(pod, "containers") else { panic!("one container") };
    let [mount] = list(one, "volumeMounts") else { panic!("one volume") };
    assert_eq!(string(mount, "name"), string(&list(pod, "volumes")[0], "name"));
    let token = env.aws.ecr.env.scratch("token");
    fs::write(&token, "pod-identity").unwrap();
    for index in (0..PARTS).map(|index| index.to_string()) {
        let fill = |text: &str| {
            let known = |name: &str| (name == "JOB_COMPLETION_INDEX").then(|| index.clone());
            mounted(&env, string(mount, "mountPath"), &filled(text, "$(", ")", known))
        };
        let mut command = env.words(&container(&env, one, fill));
        command.env("JOB_COMPLETION_INDEX", &index);
        command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/credentials", env.aws.url()));
        command.env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token);
        drop(env.succeeds(command));
    }
    assert_pushed_once(&env);
}

#[test]
fn an_array_job_of_aws_batch_pushes_every_image_once() {
    let env = env();
    let definition = parsed(&block("yaml", "jobDefinitionName:"));
    check_by_aws_cli(&definition);
    let script = block("sh", "aws batch ");
    assert!(script.text.contains(&format!("--array-properties size={PARTS}")));
    assert!(script.text.contains(&format!("--job-definition {}", string(&definition, "jobDefinitionName"))));
    drop(env.succeeds(env.script(script.text)));
    let properties = &definition["containerProperties"];
    let mount = string(&list(properties, "mountPoints")[0], "containerPath");
    let words: Vec<String> = strings(&properties["command"]).iter().map(|word| mounted(&env, mount, word)).collect();
    for index in 0..PARTS {
        let mut command = env.words(&words);
        command.env("AWS_BATCH_JOB_ARRAY_INDEX", index.to_string());
        command.env("AWS_BATCH_JOB_ARRAY_SIZE", PARTS.to_string());
        command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/credentials", env.aws.url()));
        drop(env.succeeds(command));
    }
    assert_pushed_once(&env);
}

/// Has the AWS CLI, where there is one, hold a job definition against the model of its service. It sends no request.
fn check_by_aws_cli(definition: &Value) {
    let Some(program) = std::env::var_os("ECR_PUSH_AWS_CLI").map(PathBuf::from).filter(|path| path.is_file()) else {
        return;
    };
    let mut command = Command::new(program);
    command.args(["batch", "register-job-definition", "--region", "eu-west-1", "--generate-cli-skeleton", "output"]);
    let output = command.arg("--cli-input-json").arg(definition.to_string()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_matrix_of_github_pushes_every_image_once() {
    let env = env();
    let workflow = parsed(&block("yaml", "matrix:"));
    let strategy = &workflow["jobs"]["push"]["strategy"];
    assert_eq!(strategy["fail-fast"], false);
    for shard in list(&strategy["matrix"], "shard") {
        let text =
            filled(&workflow.to_string(), "${{", "}}", |name| (name == "matrix.shard").then(|| shard.to_string()));
        github(&env, &serde_json::from_str(&text).unwrap());
    }
    assert_pushed_once(&env);
}

#[test]
fn parallel_jobs_of_gitlab_push_every_image_once() {
    let env = env();
    let pipeline = parsed(&block("yaml", "parallel:"));
    let job = &pipeline["push"];
    assert_eq!((&job["parallel"], &job["retry"]["exit_codes"]), (&json!(PARTS), &json!([4])));
    for index in 1..=PARTS {
        let mut job = job.clone();
        let index = index.to_string();
        job["variables"] = json!({"CI_NODE_INDEX": index, "CI_NODE_TOTAL": PARTS.to_string()});
        let paths: Vec<_> =
            strings(&job["artifacts"]["paths"]).iter().map(|path| path.replace("$CI_NODE_INDEX", &index)).collect();
        job["artifacts"]["paths"] = json!(paths);
        gitlab(&env, &json!({"stages": pipeline["stages"], format!("push-{index}"): job}));
    }
    assert_pushed_once(&env);
}

#[test]
fn an_array_of_slurm_pushes_every_image_once() {
    let env = env();
    let script = block("sh", "#SBATCH");
    assert!(script.text.starts_with("#!/bin/bash\n") && script.text.contains(&format!("--array=1-{PARTS}\n")));
    for task in 1..=PARTS {
        let mut command = env.script(script.text);
        command.envs(keys()).env("SLURM_ARRAY_TASK_ID", task.to_string());
        command.env("SLURM_ARRAY_TASK_MIN", "1").env("SLURM_ARRAY_TASK_MAX", PARTS.to_string());
        command.env("SLURM_ARRAY_TASK_STEP", "1").env("SLURM_ARRAY_TASK_COUNT", PARTS.to_string());
        drop(env.succeeds(command));
    }
    assert_pushed_once(&env);
}

#[test]
fn every_manifest_of_the_page_is_run_here() {
    let own: Vec<Block> = blocks().into_iter().filter(|block| block.path == PAGE).collect();
    let languages: Vec<_> = own.iter().map(|block| block.language).collect();
    assert_eq!(languages, ["yaml", "yaml", "sh", "yaml", "yaml", "sh"]);
}
