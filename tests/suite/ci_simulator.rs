//! CI systems, played: each takes a pipeline of the documentation and runs its steps one after the other, with the variables
//! that it sets, those that a step maps and no others, and with what earlier steps handed on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::azure_task::task_of;
use super::docs_commands::parsed_text;
use super::docs_env::{DocsEnv, keys};
use super::harness::Run;
use super::markdown::root;

/// The role of all pipelines.
pub(crate) const ROLE: &str = "arn:aws:iam::123456789012:role/pusher";
/// A job that has it may ask the sandbox for an OIDC token.
const JOB_TOKEN: &str = "job-token";

/// The task of `integrations/azure`, and a service connection.
const OWN_TASK: &str = "EcrPush@1";
const CONNECTION: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";

/// The image of a release that has a shell, and the one that has none.
const IMAGE: &str = concat!("registry.example/tools/ecr-push:", env!("CARGO_PKG_VERSION"));
const DEBUG_IMAGE: &str = concat!("registry.example/tools/ecr-push:", env!("CARGO_PKG_VERSION"), "-debug@sha256:");

pub(crate) type Variables = BTreeMap<String, String>;

/// The text that must be there.
#[track_caller]
pub(crate) fn string<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("there is no {key} in {value}"))
}

/// The list that must be there.
#[track_caller]
pub(crate) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("there is no list {key} in {value}"))
}

pub(crate) fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|it| it.as_str().unwrap().to_owned()).collect()
}

/// Everything between `open` and `close` replaced, if it is known.
pub(crate) fn filled(text: &str, open: &str, close: &str, known: impl Fn(&str) -> Option<String>) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once(open) {
        let Some((name, behind)) = after.split_once(close) else { break };
        out.push_str(before);
        // What is not known stays, as all of these systems have it.
        out.push_str(&known(name.trim()).unwrap_or_else(|| format!("{open}{name}{close}")));
        rest = behind;
    }
    out + rest
}

/// `NAME=VALUE`, a line each.
fn properties(path: &Path) -> Variables {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split_once('=').unwrap()).map(|(name, value)| (name.into(), value.into())).collect()
}

/// Azure Pipelines. Steps without a pipeline around them run on an agent in EC2, beside `image.tar`.
pub(crate) fn azure(workshop: &DocsEnv, pipeline: &Value) {
    let mut variables =
        Variables::from([("Build.BuildId".into(), "512".into()), ("System.AccessToken".into(), JOB_TOKEN.into())]);
    let groups = pipeline["variables"].as_array().into_iter().flatten();
    for group in groups {
        assert_eq!(string(group, "group"), "aws-pusher");
        let [(_, id), (_, secret)] = keys();
        variables.extend([("AWS.AccessKeyID".into(), id), ("AWS.SecretAccessKey".into(), secret)]);
        variables.insert("AWS.Region".into(), "eu-west-1".into());
    }
    for step in pipeline.as_array().map_or_else(|| list(pipeline, "steps"), Vec::as_slice) {
        let fill = |text: &str| filled(text, "$(", ")", |name| variables.get(name).cloned());
        let is_own = step["task"] == OWN_TASK;
        let script = step["bash"].as_str().or_else(|| step["inputs"]["inlineScript"].as_str());
        assert!(is_own || script.is_some(), "a step without a script: {step}");
        let mut command = workshop.script(&fill(script.unwrap_or_default()));
        command.env("TF_BUILD", "True").env("SYSTEM_OIDCREQUESTURI", format!("{}/oidc/azure", workshop.aws.url()));
        // Variables that are no secrets are in each step's environment.
        command.envs(variables.get("AWS.Region").map(|region| ("AWS_REGION", region)));
        if pipeline.is_array() {
            workshop.add_inputs();
            command
                .env_remove("AWS_EC2_METADATA_DISABLED")
                .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", workshop.aws.url());
        }
        if is_own {
            command = own_task(workshop, &command, &step["inputs"], fill);
        } else if let Some(task) = step["task"].as_str() {
            aws_shell_script(&mut command, task, &step["inputs"]);
        }
        for (name, value) in step["env"].as_object().into_iter().flatten() {
            command.env(name, fill(value.as_str().unwrap()));
        }
        let run = workshop.succeeds(command);
        for line in run.stderr.lines().chain(run.stdout.lines()) {
            if let Some((name, value)) = line.strip_prefix("##vso[task.setvariable variable=").and_then(azure_variable)
            {
                variables.insert(name, value);
            }
        }
    }
}

fn azure_variable(text: &str) -> Option<(String, String)> {
    let (properties, value) = text.split_once(']')?;
    Some((properties.split(';').next()?.to_owned(), value.to_owned()))
}

/// Returns the process of the task of `integrations/azure`. As in the agent, a service connection is an ID in the input, and its
/// data are variables.
fn own_task(workshop: &DocsEnv, base: &Command, inputs: &Value, fill: impl Fn(&str) -> String) -> Command {
    let scalar = |value: &Value| value.as_str().map_or_else(|| value.to_string(), &fill);
    let mut inputs: Vec<_> =
        inputs.as_object().unwrap().iter().map(|(name, value)| (name.as_str(), scalar(value))).collect();
    let mut connections = Vec::new();
    for (name, value) in &mut inputs {
        if *name == "awsCredentials" {
            assert_eq!(value, "aws-pusher");
            *value = CONNECTION.into();
            let [(_, id), (_, secret)] = keys();
            let data = json!({"scheme": "UsernamePassword", "parameters": {"username": id, "password": secret}});
            connections.push((format!("ENDPOINT_AUTH_{CONNECTION}"), data.to_string()));
        }
    }
    let inputs: Vec<_> = inputs.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut command = task_of(&workshop.aws.ecr, base, &inputs, Path::new(&workshop.program()));
    command.envs(connections);
    command
}

/// The task, as its source has it: keys and region for the script, which runs where the sources are.
fn aws_shell_script(command: &mut Command, task: &str, inputs: &Value) {
    assert_eq!(task, "AWSShellScript@1");
    let names: Vec<_> = inputs.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["awsCredentials", "inlineScript", "regionName", "scriptType"]);
    assert_eq!(string(inputs, "scriptType"), "inline");
    let region = string(inputs, "regionName");
    command.envs(keys()).env("AWS_REGION", region).env("AWS_DEFAULT_REGION", region);
    command.env("AWS_EXECUTION_ENV", "VSTS-AWSShellScript");
}

/// GitHub Actions.
pub(crate) fn github(workshop: &DocsEnv, workflow: &Value) {
    for job in workflow["jobs"].as_object().unwrap().values() {
        assert!(job["runs-on"].is_string());
        let mut known = Variables::from([("github.sha".into(), "0123456789abcdef0123456789abcdef01234567".into())]);
        let mut runner = GithubRunner::new(workshop, workflow["permissions"]["id-token"] == "write");
        for step in list(job, "steps") {
            let fill = |text: &str| filled(text, "${{", "}}", |name| known.get(name).cloned());
            let outputs = match (step["run"].as_str(), own_action(&step["uses"])) {
                (Some(script), _) => runner.run(&fill(script), &Variables::new()).1,
                (None, Some(folder)) => {
                    let inputs = step["with"].as_object().unwrap().iter();
                    let inputs = inputs.map(|(name, value)| (name.clone(), fill(value.as_str().unwrap()))).collect();
                    runner.action(&folder, &inputs).1
                }
                (None, None) => {
                    assert!(string(step, "uses").contains("@v"), "an action has a version: {step}");
                    continue;
                }
            };
            if let Some(id) = step["id"].as_str() {
                known.extend(outputs.into_iter().map(|(name, value)| (format!("steps.{id}.outputs.{name}"), value)));
            }
        }
    }
}

/// Returns the folder of an action of this repository, as `uses` names it.
fn own_action(uses: &Value) -> Option<PathBuf> {
    let (action, version) = uses.as_str()?.split_once('@')?;
    let folder = action.strip_prefix("ecr-push/ecr-push")?;
    assert_eq!(version, concat!("v", env!("CARGO_PKG_VERSION")), "{action}");
    Some(root().join(folder.trim_start_matches('/')))
}

/// A runner of GitHub Actions, between two steps of a job.
pub(crate) struct GithubRunner<'a> {
    workshop: &'a DocsEnv,
    has_token: bool,
    /// What steps added to the `PATH`.
    added: Vec<String>,
}

impl<'a> GithubRunner<'a> {
    pub(crate) fn new(workshop: &'a DocsEnv, has_token: bool) -> Self {
        Self { workshop, has_token, added: Vec::new() }
    }

    /// Runs a script that must succeed, and returns its outputs.
    pub(crate) fn run(&mut self, script: &str, variables: &Variables) -> (Run, Variables) {
        let (run, outputs) = self.step(script, variables);
        (run.succeeds(), outputs)
    }

    /// Runs a script with the variables that the runner sets, and returns its outputs.
    fn step(&mut self, script: &str, variables: &Variables) -> (Run, Variables) {
        let env = &self.workshop.aws.ecr.env;
        let (output, path) = (env.scratch("github-output"), env.scratch("github-path"));
        fs::write(&output, "").unwrap();
        fs::write(&path, "").unwrap();
        let mut command = self.workshop.script(script);
        let all: Vec<_> = self.added.iter().map(String::as_str).chain([self.workshop.path()]).collect();
        command.env("PATH", all.join(":")).env("GITHUB_ACTIONS", "true").env("GITHUB_OUTPUT", &output);
        command.env("GITHUB_PATH", &path).env("RUNNER_TOOL_CACHE", env.scratch("tool-cache"));
        command
            .env("RUNNER_OS", "Linux")
            .env("RUNNER_ARCH", if cfg!(target_arch = "x86_64") { "X64" } else { "ARM64" });
        if self.has_token {
            let url = format!("{}/oidc/github?api-version=2.0", self.workshop.aws.url());
            command.env("ACTIONS_ID_TOKEN_REQUEST_URL", url).env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", JOB_TOKEN);
        }
        let run = self.workshop.aws.finish({
            command.envs(variables);
            command
        });
        self.added.splice(0..0, fs::read_to_string(&path).unwrap().lines().map(str::to_owned));
        let (text, mut outputs) = (fs::read_to_string(&output).unwrap(), Variables::new());
        let mut lines = text.lines();
        while let Some((name, end)) = lines.next().and_then(|line| line.split_once("<<")) {
            let value: Vec<_> = lines.by_ref().take_while(|line| *line != end).collect();
            outputs.insert(name.to_owned(), value.join("\n"));
        }
        (run, outputs)
    }

    /// Runs the steps of a composite action up to the first that fails, and returns the last run and the action's outputs.
    pub(crate) fn action(&mut self, folder: &Path, inputs: &Variables) -> (Run, Variables) {
        let action = parsed_text("action.yml", &fs::read_to_string(folder.join("action.yml")).unwrap());
        let declared = action["inputs"].as_object().unwrap();
        assert!(inputs.keys().all(|name| declared.contains_key(name)), "{inputs:?}");
        let mut known = Variables::new();
        for (name, input) in declared {
            let given = inputs.get(name).cloned();
            assert!(given.is_some() || input["required"] != true, "the input {name} is required");
            let default = || input["default"].as_str().unwrap_or_default().to_owned();
            known.insert(format!("inputs.{name}"), given.unwrap_or_else(default));
        }
        assert_eq!(action["runs"]["using"], "composite");
        let mut last = None;
        for step in list(&action["runs"], "steps") {
            assert_eq!(step["shell"], "bash");
            let env = step["env"].as_object().unwrap().iter();
            let fill = |text: &str| filled(text, "${{", "}}", |name| known.get(name).cloned());
            let mut variables: Variables =
                env.map(|(name, value)| (name.clone(), fill(value.as_str().unwrap()))).collect();
            variables.insert("GITHUB_ACTION_PATH".into(), folder.to_str().unwrap().into());
            let (run, outputs) = self.step(string(step, "run"), &variables);
            let failed = run.code != Some(0);
            last = Some(run);
            if failed {
                break;
            }
            if let Some(id) = step["id"].as_str() {
                known.extend(outputs.into_iter().map(|(name, value)| (format!("steps.{id}.outputs.{name}"), value)));
            }
        }
        let fill = |output: &Value| filled(string(output, "value"), "${{", "}}", |name| known.get(name).cloned());
        let outputs = action["outputs"].as_object().into_iter().flatten();
        (last.unwrap(), outputs.map(|(name, output)| (name.clone(), fill(output))).collect())
    }
}

/// Returns the jobs of the GitLab component with these inputs.
pub(crate) fn component(inputs: &Variables) -> Value {
    let text = fs::read_to_string(root().join("integrations/gitlab/templates/push.yml")).unwrap();
    let (spec, jobs) = text.split_once("\n---\n").expect("a component has two documents");
    let spec = parsed_text("the spec", spec);
    let declared = spec["spec"]["inputs"].as_object().unwrap();
    assert!(inputs.keys().all(|name| declared.contains_key(name)), "{inputs:?}");
    let value = |name: &str| {
        let input = declared.get(name)?;
        let default = input.get("default").map(|it| it.as_str().map_or_else(|| it.to_string(), str::to_owned));
        Some(inputs.get(name).cloned().or(default).unwrap_or_else(|| panic!("the input {name} is required")))
    };
    parsed_text("the component", &filled(jobs, "$[[ inputs.", " ]]", value))
}

/// GitLab. Each job has a folder of its own, with what earlier stages left as artifacts.
pub(crate) fn gitlab(workshop: &DocsEnv, pipeline: &Value) {
    let mut jobs = pipeline.as_object().unwrap().clone();
    for include in pipeline["include"].as_array().into_iter().flatten() {
        assert!(string(include, "component").ends_with(concat!("/ecr-push/push@", env!("CARGO_PKG_VERSION"))));
        let inputs = include["inputs"].as_object().unwrap().iter();
        let inputs = inputs.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
        jobs.extend(component(&inputs).as_object().unwrap().clone());
    }
    let (mut carried, mut dotenv) = (Vec::<(String, PathBuf)>::new(), Variables::new());
    for stage in strings(&pipeline["stages"]) {
        let jobs: Vec<_> = jobs.iter().filter(|(_, job)| job["stage"] == stage.as_str()).collect();
        assert!(!jobs.is_empty(), "no job is in the stage {stage}");
        for (name, job) in jobs {
            let folder = workshop.here().join(name);
            fs::create_dir(&folder).unwrap();
            for (file, path) in &carried {
                fs::copy(path, folder.join(file)).unwrap();
            }
            drop(gitlab_job(workshop, job, &folder, &dotenv).succeeds());
            let artifacts = &job["artifacts"];
            carried.extend(strings(&artifacts["paths"]).into_iter().map(|file| (file.clone(), folder.join(&file))));
            let report = artifacts["reports"]["dotenv"].as_str();
            report.into_iter().for_each(|file| dotenv.extend(properties(&folder.join(file))));
        }
    }
}

/// Runs one job of GitLab in a folder, with the variables that earlier jobs passed on.
pub(crate) fn gitlab_job(workshop: &DocsEnv, job: &Value, folder: &Path, dotenv: &Variables) -> Run {
    let tools = workshop.aws.ecr.env.scratch("tools");
    // kaniko's image has it there.
    let script = strings(&job["script"]).join("\n").replace("/kaniko/executor", &format!("{tools}/executor"));
    let mut command = workshop.script(&script);
    command.current_dir(folder).env("GITLAB_CI", "true").env("CI_PROJECT_DIR", folder);
    command.env("CI_COMMIT_SHORT_SHA", "01234567");
    if job["image"].as_str().is_some_and(|image| image.starts_with(DEBUG_IMAGE)) {
        command.env("PATH", format!("{}:{}", workshop.installed(), workshop.path()));
    }
    for (variable, value) in job["variables"].as_object().into_iter().flatten() {
        command.env(variable, value.as_str().unwrap().replace("$CI_COMMIT_SHORT_SHA", "01234567"));
    }
    for (variable, token) in job["id_tokens"].as_object().into_iter().flatten() {
        assert!(string(token, "aud").starts_with("https://"));
        command.env(variable, "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln");
    }
    // Variables of a project and of earlier jobs replace those of the job.
    command.envs(dotenv);
    workshop.aws.finish(command)
}

/// AWS CodeBuild: all commands are one shell's.
pub(crate) fn codebuild(workshop: &DocsEnv, buildspec: &Value) {
    assert_eq!(buildspec["version"], 0.2);
    let mut lines = Vec::new();
    for phase in ["install", "pre_build", "build", "post_build"] {
        lines.extend(strings(&buildspec["phases"][phase]["commands"]));
    }
    let exported = strings(&buildspec["env"]["exported-variables"]);
    assert!(!exported.is_empty());
    lines.extend(exported.iter().map(|name| format!("printenv {name}")));
    let mut command = workshop.script(&lines.join("\n"));
    command.env("CODEBUILD_BUILD_ID", "app:1").env("CODEBUILD_BUILD_NUMBER", "1").env("AWS_REGION", "eu-west-1");
    command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/credentials", workshop.aws.url()));
    drop(workshop.succeeds(command));
}

/// Tekton, with a service account whose token is a web identity.
pub(crate) fn tekton(workshop: &DocsEnv, task: &Value) {
    let env = &workshop.aws.ecr.env;
    let (results, token) = (PathBuf::from(env.scratch("results")), env.scratch("token"));
    fs::create_dir(&results).unwrap();
    fs::write(&token, "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln").unwrap();
    let spec = &task["spec"];
    let named = |key: &str| list(spec, key).iter().map(|it| string(it, "name").to_owned()).collect::<BTreeSet<_>>();
    let mut known: Variables = named("params").iter().map(|name| (format!("params.{name}"), "1.4".into())).collect();
    let here = workshop.here().to_str().unwrap().to_owned();
    known.extend(named("workspaces").iter().map(|name| (format!("workspaces.{name}.path"), here.clone())));
    for step in list(spec, "steps") {
        let fill = |text: &str| filled(text, "$(", ")", |name| known.get(name).cloned());
        let mut command = workshop.words(&container(workshop, step, fill));
        // In place of `/tekton/results`, which is the machine's.
        command.env("ECR_PUSH_OUTPUT_FILE", &results);
        command.env("AWS_WEB_IDENTITY_TOKEN_FILE", &token).env("AWS_ROLE_ARN", ROLE);
        drop(workshop.succeeds(command));
    }
    let given = fs::read_dir(&results).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(given.collect::<BTreeSet<_>>(), named("results"));
}

/// A template of Argo Workflows: its container, with a service account whose token is a web identity.
pub(crate) fn argo(workshop: &DocsEnv, workflow: &Value) {
    workshop.add_inputs();
    let token = workshop.aws.ecr.env.scratch("token");
    fs::write(&token, "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln").unwrap();
    for template in list(&workflow["spec"], "templates") {
        let here = workshop.here().to_str().unwrap().to_owned();
        // Inputs and outputs of a template are below this folder, which is the container's own.
        let fill = |text: &str| {
            let text =
                filled(text, "{{", "}}", |name| name.strip_prefix("inputs.parameters.").map(|_| "1.4".to_owned()));
            text.replace("/tmp", &here)
        };
        assert_eq!(fill(string(&list(&template["inputs"], "artifacts")[0], "path")), format!("{here}/image.tar"));
        let mut command = workshop.words(&container(workshop, &template["container"], fill));
        command.env("AWS_WEB_IDENTITY_TOKEN_FILE", &token).env("AWS_ROLE_ARN", ROLE);
        drop(workshop.succeeds(command));
        for parameter in list(&template["outputs"], "parameters") {
            assert!(Path::new(&fill(string(&parameter["valueFrom"], "path"))).is_file(), "{parameter}");
        }
    }
}

/// A job of Kubernetes in EKS, with Pod Identity.
pub(crate) fn kubernetes(workshop: &DocsEnv, job: &Value) {
    let pod = &job["spec"]["template"]["spec"];
    assert!(pod["serviceAccountName"].is_string() && pod["restartPolicy"] == "Never");
    let volumes: Vec<_> = list(pod, "volumes").iter().map(|volume| string(volume, "name")).collect();
    let token = workshop.aws.ecr.env.scratch("token");
    fs::write(&token, "pod-identity").unwrap();
    for one in list(pod, "initContainers").iter().chain(list(pod, "containers")) {
        let mounts = list(one, "volumeMounts");
        assert!(mounts.iter().all(|mount| volumes.contains(&string(mount, "name"))));
        let paths: Vec<_> = mounts.iter().map(|mount| format!("{}/", string(mount, "mountPath"))).collect();
        let here = format!("{}/", workshop.here().display());
        let mounted = |text: &str| paths.iter().fold(text.to_owned(), |text, path| text.replace(path.as_str(), &here));
        let mut command = workshop.words(&container(workshop, one, mounted));
        command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/credentials", workshop.aws.url()));
        command.env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token);
        drop(workshop.succeeds(command));
    }
}

/// What a container runs: what its `command` names, else what its image does.
pub(crate) fn container(workshop: &DocsEnv, one: &Value, fill: impl Fn(&str) -> String) -> Vec<String> {
    let image = string(one, "image");
    let (program, path) = match image.split_once(':').unwrap_or_else(|| panic!("{image} has no version")).0 {
        "registry.example/tools/ecr-push" => {
            assert!(image.strip_prefix(IMAGE).is_some_and(|rest| rest.starts_with("@sha256:")), "{image}");
            ("ecr-push", workshop.program())
        }
        "gcr.io/kaniko-project/executor" => ("executor", "executor".to_owned()),
        _ => panic!("{image} is not known"),
    };
    let command = strings(&one["command"]);
    assert!(command.iter().all(|word| *word == format!("/{program}")) && command.len() <= 1, "{command:?}");
    let arguments = strings(&one["args"]).into_iter().map(|text| fill(&text));
    std::iter::once(path).chain(arguments).collect()
}

/// Jenkins: of the Groovy of a pipeline what the documentation has of it, a line each.
pub(crate) fn jenkins(workshop: &DocsEnv, pipeline: &str) {
    let (mut has_keys, mut read) = (false, Variables::new());
    for line in pipeline.lines().map(str::trim) {
        let script = |quote: char| line.strip_prefix("sh ")?.strip_prefix(quote)?.strip_suffix(quote);
        let script = match (script('\''), script('"')) {
            (Some(script), _) => script.to_owned(),
            (None, Some(script)) => filled(script, "${image.", "}", |name| read.get(name).cloned()),
            (None, None) => {
                let file = line.strip_prefix("def image = readProperties file: '").and_then(|it| it.strip_suffix('\''));
                match file {
                    Some(file) => read = properties(&workshop.here().join(file)),
                    None if line.starts_with("withCredentials(") => {
                        assert!(line.contains("$class: 'AmazonWebServicesCredentialsBinding', credentialsId: '"));
                        has_keys = true;
                    }
                    None if line == "}" => has_keys = false,
                    None => assert!(["node {", "checkout scm"].contains(&line), "{line:?} is not known"),
                }
                continue;
            }
        };
        let mut command = workshop.script(&script);
        command.env("JENKINS_URL", "https://jenkins.example").env("BUILD_NUMBER", "7");
        command.envs(keys().into_iter().filter(|_| has_keys));
        drop(workshop.succeeds(command));
    }
}
