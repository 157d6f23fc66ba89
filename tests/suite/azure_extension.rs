//! The extension of `integrations/azure` with Microsoft's own tools: tfx-cli packs it, and azure-pipelines-task-lib reads what the
//! task writes. `.ci/azure` installs them from npm into the folder of `ECR_PUSH_AZURE`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::azure_task::{Agent, set_variables};
use super::docker_registry::not_run;
use super::ecr::Ecr;
use super::harness::{finish, program};

/// The folder with Microsoft's tools, if they are wanted.
fn tools() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("ECR_PUSH_AZURE")?);
    if !folder.join("node_modules/.bin/tfx").exists() {
        not_run("tfx-cli and azure-pipelines-task-lib (not installed; .ci/azure installs them from npm)");
        return None;
    }
    Some(folder)
}

fn node(tools: &Path, script: &str, arguments: &[&str]) -> String {
    let mut command = Command::new("node");
    command.args(["-e", script]).args(arguments).current_dir(tools);
    finish(command, String::new).succeeds().stdout
}

#[test]
fn the_library_of_tasks_reads_what_the_task_writes() {
    let Some(tools) = tools() else { return };
    let ecr = Ecr::new();
    let agent = Agent::of(&ecr);
    let run = agent.run(&[("pushTag", "7"), ("outputVariable", "image.tag")]).succeeds();
    let failed = agent.run(&[("repositoryName", "none")]).fails_with(1);
    let log = ecr.env.scratch("log");
    fs::write(&log, run.stderr.clone() + &failed.stderr).unwrap();
    let script = "const { commandFromString } = require('azure-pipelines-task-lib/taskcommand');
const lines = require('fs').readFileSync(process.argv[1], 'utf8').split('\\n');
console.log(JSON.stringify(lines.filter((line) => line.startsWith('##vso[')).map(commandFromString)));";
    let commands: Vec<Value> = serde_json::from_str(&node(&tools, script, &[&log])).unwrap();
    let set: Vec<_> = commands.iter().filter(|command| command["command"] == "task.setvariable").collect();
    let expected = set_variables(&run.stderr);
    assert_eq!(set.len(), expected.len());
    for command in set {
        let name = command["properties"]["variable"].as_str().unwrap();
        assert_eq!(command["message"].as_str(), Some(expected[name].as_str()), "{name}");
        assert_eq!(
            (&command["properties"]["isOutput"], &command["properties"]["issecret"]),
            (&"false".into(), &"false".into())
        );
    }
    let issue = commands.iter().find(|command| command["command"] == "task.logissue").unwrap();
    assert_eq!(issue["properties"]["type"], "error");
}

#[test]
fn the_extension_is_packed_and_runs() {
    let Some(tools) = tools() else { return };
    let ecr = Ecr::new();
    let [packed, installed] = ["packed", "installed"].map(|name| ecr.env.scratch(name));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let platform = if cfg!(target_arch = "aarch64") { "linux-arm64" } else { "linux-x64" };
    let mut command = Command::new(root.join("integrations/azure/package.sh"));
    command.arg(&packed).arg(format!("{platform}={}", program().display()));
    command.env("TFX", tools.join("node_modules/.bin/tfx"));
    // It needs no network access.
    command.env("HTTPS_PROXY", "http://127.0.0.1:1").env("HTTP_PROXY", "http://127.0.0.1:1");
    finish(command, String::new).succeeds();
    let script = "const [, archive, folder] = process.argv;
const fs = require('fs'), path = require('path'), zip = require('jszip');
zip.loadAsync(fs.readFileSync(archive)).then(async (files) => {
  for (const file of Object.values(files.files).filter((file) => !file.dir)) {
    const place = path.join(folder, file.name);
    fs.mkdirSync(path.dirname(place), { recursive: true });
    fs.writeFileSync(place, await file.async('nodebuffer'));
  }
});";
    let vsix = fs::read_dir(&packed).unwrap().next().unwrap().unwrap().path();
    node(&tools, script, &[vsix.to_str().unwrap(), &installed]);
    for file in ["extension.vsomanifest", "EcrPush/task.json", "overview.md", "LICENSE", "images/icon.png"] {
        assert!(fs::exists(format!("{installed}/{file}")).unwrap(), "{file}");
    }
    // As on an agent, the program in the extension is not executable yet, and there is no other.
    let agent = Agent::of(&ecr);
    let task = agent.task(&[("pushTag", "packed")]);
    let mut command = Command::new("node");
    command.arg(format!("{installed}/EcrPush/index.js")).env_clear();
    command.envs(task.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("AGENT_TOOLSDIRECTORY", "/nowhere").current_dir(task.get_current_dir().unwrap());
    ecr.finish(command).succeeds();
    agent.has("team/app", "packed");
}
