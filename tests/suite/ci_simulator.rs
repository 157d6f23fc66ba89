//! CI systems, played: each takes a pipeline of the documentation and runs its steps one after the other, with the variables
//! that it sets, those that a step maps and no others, and with what earlier steps handed on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::docs_env::{DocsEnv, keys};

/// The role of all pipelines.
pub(crate) const ROLE: &str = "arn:aws:iam::123456789012:role/pusher";
/// A job that has it may ask the sandbox for an OIDC token.
const JOB_TOKEN: &str = "job-token";

type Variables = BTreeMap<String, String>;

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
        let script = step["bash"].as_str().unwrap_or_else(|| string(&step["inputs"], "inlineScript"));
        let mut command = workshop.script(&fill(script));
        command.env("TF_BUILD", "True").env("SYSTEM_OIDCREQUESTURI", format!("{}/oidc/azure", workshop.aws.url()));
        // Variables that are no secrets are in each step's environment.
        command.envs(variables.get("AWS.Region").map(|region| ("AWS_REGION", region)));
        if pipeline.is_array() {
            workshop.add_inputs();
            command
                .env_remove("AWS_EC2_METADATA_DISABLED")
                .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", workshop.aws.url());
        }
        if let Some(task) = step["task"].as_str() {
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
    let may_have_a_token = workflow["permissions"]["id-token"] == "write";
    for job in workflow["jobs"].as_object().unwrap().values() {
        assert!(job["runs-on"].is_string());
        let mut known = Variables::from([("github.sha".into(), "0123456789abcdef0123456789abcdef01234567".into())]);
        for step in list(job, "steps") {
            let Some(script) = step["run"].as_str() else {
                assert!(string(step, "uses").contains("@v"), "an action has a version: {step}");
                continue;
            };
            let output = PathBuf::from(workshop.aws.ecr.env.scratch("github-output"));
            fs::write(&output, "").unwrap();
            let mut command = workshop.script(&filled(script, "${{", "}}", |name| known.get(name).cloned()));
            command.env("GITHUB_ACTIONS", "true").env("GITHUB_OUTPUT", &output);
            if may_have_a_token {
                let url = format!("{}/oidc/github?api-version=2.0", workshop.aws.url());
                command.env("ACTIONS_ID_TOKEN_REQUEST_URL", url).env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", JOB_TOKEN);
            }
            drop(workshop.succeeds(command));
            let text = fs::read_to_string(&output).unwrap();
            let mut lines = text.lines();
            while let Some((name, end)) = lines.next().and_then(|line| line.split_once("<<")) {
                let value: Vec<_> = lines.by_ref().take_while(|line| *line != end).collect();
                known.insert(format!("steps.{}.outputs.{name}", string(step, "id")), value.join("\n"));
            }
        }
    }
}

/// GitLab. Each job has a folder of its own, with what earlier stages left as artifacts.
pub(crate) fn gitlab(workshop: &DocsEnv, pipeline: &Value) {
    let (mut carried, mut dotenv) = (Vec::<(String, PathBuf)>::new(), Variables::new());
    for stage in strings(&pipeline["stages"]) {
        let jobs = pipeline.as_object().unwrap().iter().filter(|(_, job)| job["stage"] == stage.as_str());
        let jobs: Vec<_> = jobs.collect();
        assert!(!jobs.is_empty(), "no job is in the stage {stage}");
        for (name, job) in jobs {
            let folder = workshop.here().join(name);
            fs::create_dir(&folder).unwrap();
            for (file, path) in &carried {
                fs::copy(path, folder.join(file)).unwrap();
            }
            let lines = strings(&job["script"]);
            let tools = workshop.aws.ecr.env.scratch("tools");
            // kaniko's image has it there.
            let script = lines.join("\n").replace("/kaniko/executor", &format!("{tools}/executor"));
            let mut command = workshop.script(&script);
            command.current_dir(&folder).env("GITLAB_CI", "true").env("CI_PROJECT_DIR", &folder);
            command.env("CI_COMMIT_SHORT_SHA", "01234567").envs(&dotenv);
            for (name, value) in job["variables"].as_object().into_iter().flatten() {
                command.env(name, value.as_str().unwrap());
            }
            for (variable, token) in job["id_tokens"].as_object().into_iter().flatten() {
                assert!(string(token, "aud").starts_with("https://"));
                command.env(variable, "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln");
            }
            drop(workshop.succeeds(command));
            let artifacts = &job["artifacts"];
            carried.extend(strings(&artifacts["paths"]).into_iter().map(|file| (file.clone(), folder.join(&file))));
            let report = artifacts["reports"]["dotenv"].as_str();
            report.into_iter().for_each(|file| dotenv.extend(properties(&folder.join(file))));
        }
    }
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
        let mut command = workshop.words(&container(step, fill));
        // In place of `/tekton/results`, which is the machine's.
        command.env("ECR_PUSH_OUTPUT_FILE", &results);
        command.env("AWS_WEB_IDENTITY_TOKEN_FILE", &token).env("AWS_ROLE_ARN", ROLE);
        drop(workshop.succeeds(command));
    }
    let given = fs::read_dir(&results).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(given.collect::<BTreeSet<_>>(), named("results"));
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
        let mut command = workshop.words(&container(one, mounted));
        command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/credentials", workshop.aws.url()));
        command.env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token);
        drop(workshop.succeeds(command));
    }
}

/// What a container runs: what its `command` names, else what its image does.
pub(crate) fn container(one: &Value, fill: impl Fn(&str) -> String) -> Vec<String> {
    let image = string(one, "image");
    let program = match image.split_once(':').unwrap_or_else(|| panic!("{image} has no version")).0 {
        "registry.example/tools/ecr-push" => "ecr-push",
        "gcr.io/kaniko-project/executor" => "executor",
        _ => panic!("{image} is not known"),
    };
    let command = strings(&one["command"]);
    assert!(command.iter().all(|word| *word == format!("/{program}")) && command.len() <= 1, "{command:?}");
    let arguments = strings(&one["args"]).into_iter().map(|text| fill(&text));
    std::iter::once(program.to_owned()).chain(arguments).collect()
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
