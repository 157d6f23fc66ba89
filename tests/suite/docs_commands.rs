//! Runs every command of the documentation that calls the program, and every pipeline in it.

use std::process::Command;

use ecr_push::sandbox::Assumed;
use saphyr::{LoadableYamlNode as _, Yaml};
use serde_json::{Map, Value};

use super::ci_simulator::{ROLE, argo, azure, codebuild, github, gitlab, jenkins, kubernetes, tekton};
use super::docs_at_scale;
use super::docs_env::{DocsEnv, keys};
use super::harness::testdata;
use super::markdown::{Block, blocks};
use super::signed_images::saved;

/// Lines that are not run here, by their beginning, each with the reason.
const EXCEPTIONS: [(&str, &str); 7] = [
    ("cargo ", "builds or tests this repository: CI does"),
    (".ci/", "the same"),
    ("tests/", "the same"),
    ("aws ", "the client of AWS: tests/suite/aws_clients.rs"),
    ("INSTA_UPDATE=", "the same"),
    ("DOCS_UPDATE=", "the same"),
    (
        "ecr-push sandbox --listen 127.0.0.1:5050",
        "runs until it is stopped, on a port of its own: tests/suite/quick_start.rs",
    ),
];

/// Returns a script without the lines that are not run, and the number of calls of the program in these lines.
fn runnable(block: &Block) -> (String, usize) {
    let excepted = |line: &&str| EXCEPTIONS.iter().any(|(start, _)| line.starts_with(start));
    let (out, kept): (Vec<&str>, Vec<&str>) = block.text.lines().partition(excepted);
    (kept.join("\n"), out.iter().filter(|line| line.starts_with("ecr-push ")).count())
}

/// Converts YAML to JSON, which has the handier type.
fn json(yaml: &Yaml<'_>) -> Value {
    let scalar = |yaml: &Yaml<'_>| yaml.as_str().map(str::to_owned);
    match yaml {
        Yaml::Sequence(all) => all.iter().map(json).collect(),
        Yaml::Mapping(all) => {
            let member = |(key, value)| (scalar(key).expect("keys are strings"), json(value));
            Value::Object(all.iter().map(member).collect::<Map<_, _>>())
        }
        other if other.is_null() => Value::Null,
        other => scalar(other).map(Value::String).unwrap_or_else(|| {
            let number = other.as_floating_point().map(Value::from);
            let number = number.or_else(|| other.as_integer().map(Value::from));
            number.or_else(|| other.as_bool().map(Value::Bool)).expect("a scalar")
        }),
    }
}

/// Parses the only document of a block.
pub(crate) fn parsed(block: &Block) -> Value {
    parsed_text(&block.place(), block.text)
}

/// Parses the only document of a text.
pub(super) fn parsed_text(place: &str, text: &str) -> Value {
    let documents = Yaml::load_from_str(text);
    let documents = documents.unwrap_or_else(|error| panic!("the YAML of {place}: {error}"));
    let [document] = &documents[..] else { panic!("one document in {place}") };
    json(document)
}

/// Runs a pipeline in its CI system, which follows from its structure.
fn run_pipeline(env: &DocsEnv, pipeline: &Value) {
    if pipeline.is_array() || pipeline["steps"].is_array() {
        azure(env, pipeline);
    } else if pipeline["jobs"].is_object() {
        github(env, pipeline);
    } else if pipeline["stages"].is_array() {
        gitlab(env, pipeline);
    } else if pipeline["phases"].is_object() {
        codebuild(env, pipeline);
    } else if pipeline["kind"] == "Task" {
        tekton(env, pipeline);
    } else if pipeline["kind"] == "WorkflowTemplate" {
        argo(env, pipeline);
    } else if pipeline["kind"] == "Job" {
        kubernetes(env, pipeline);
    } else {
        panic!("unknown CI system: {pipeline}");
    }
}

/// Asserts that the program was called as often as the page calls it, and that a role was assumed with a token.
#[track_caller]
fn assert_ran(env: &DocsEnv, block: &Block) {
    assert_eq!(env.calls(), block.calls(), "calls of {}", block.place());
    assert!(env.calls() > 0, "the pipeline of {} does not push", block.place());
    let tags = env.aws.manifests_put();
    assert!(!tags.is_empty(), "{} pushes nothing", block.place());
    if block.text.contains("--role-arn") {
        let by_token = |it: &Assumed| it.action == "AssumeRoleWithWebIdentity" && it.role == ROLE;
        assert!(env.aws.assumed().iter().all(by_token) && !env.aws.assumed().is_empty());
    }
}

/// Returns the variables that a CI system sets for a step that pushes. AWS keys are among them if it has no token.
fn variables_of(page: &str, env: &DocsEnv) -> Option<Vec<(String, String)>> {
    let token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln";
    let file = env.aws.ecr.env.scratch("variables");
    let set: &[(&str, &str)] = match page.strip_prefix("docs/ci/")?.strip_suffix(".md")? {
        "circleci" => {
            &[("CIRCLECI", "true"), ("BASH_ENV", &file), ("CIRCLE_SHA1", "0123456"), ("CIRCLE_OIDC_TOKEN_V2", token)]
        }
        "bitbucket" => &[
            ("BITBUCKET_BUILD_NUMBER", "7"),
            ("BITBUCKET_COMMIT", "0123456"),
            ("BITBUCKET_PIPELINES_VARIABLES_PATH", &file),
            ("BITBUCKET_STEP_OIDC_TOKEN", token),
        ],
        "buildkite" => &[("BUILDKITE", "true"), ("BUILDKITE_COMMIT", "0123456")],
        "teamcity" => &[("TEAMCITY_VERSION", "2026.1"), ("BUILD_NUMBER", "7")],
        "drone" => &[("DRONE_OUTPUT", &file), ("DRONE_COMMIT_SHA", "0123456")],
        _ => return None,
    };
    let mut set: Vec<_> = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let has_token = ["circleci", "bitbucket", "buildkite"].iter().any(|name| page.contains(name));
    set.extend(keys().into_iter().filter(|_| !has_token));
    Some(set)
}

#[test]
fn every_script_of_the_pages_succeeds() {
    // `docs_at_scale.rs` runs the page for several machines, `release_folder.rs` those about the files of a release.
    let others = ["docs/ci/", "docs/install.md", "docs/trust/", docs_at_scale::PAGE];
    run_scripts(20, |path| !others.iter().any(|start| path.starts_with(start)));
}

#[test]
fn every_script_for_a_ci_system_succeeds() {
    run_scripts(5, |path| path.starts_with("docs/ci/"));
}

#[test]
fn a_script_for_a_ci_system_runs_no_other_program_of_the_mirror() {
    let downloads =
        |block: &Block| block.path.starts_with("docs/") && block.text.contains("https://artifacts.example/ecr-push/");
    let recipes: Vec<_> = blocks().into_iter().filter(downloads).collect();
    assert!(recipes.len() >= 10, "{}", recipes.len());
    for block in recipes {
        let checksums =
            ["sha256sum --check", "checksum: "].iter().map(|word| block.text.matches(word).count()).sum::<usize>();
        assert_eq!(checksums, 1, "{} downloads a program and does not compare it", block.place());
        if block.language == "sh" {
            let env = DocsEnv::without_program();
            env.add_inputs();
            env.replace_mirrored();
            let mut command = env.script(&env.localized(block.text));
            command.envs(keys());
            let run = env.aws.finish(command);
            assert_ne!(run.code, Some(0), "{}", block.place());
            assert!(!env.here().join("replaced").exists() && env.calls() == 0, "{}", block.place());
        }
    }
}

/// Returns an environment without the program for a recipe, which has to install it. The extension for Azure Pipelines has
/// tests of its own, so that its scripts find the program.
fn env_of(block: &Block) -> DocsEnv {
    let installs = block.path.starts_with("docs/ci/") && !block.path.contains("azure");
    if installs || block.language == "yaml" && !block.text.contains("task:") && !block.text.contains("bash:") {
        DocsEnv::without_program()
    } else {
        DocsEnv::new()
    }
}

/// Runs the scripts of some pages, which call the program at least `calls` times.
fn run_scripts(calls: usize, of: impl Fn(&str) -> bool) {
    let scripts: Vec<_> = blocks().into_iter().filter(|block| block.language == "sh" && of(block.path)).collect();
    assert!(scripts.iter().map(Block::calls).sum::<usize>() >= calls);
    for block in scripts {
        let (script, left_out) = runnable(&block);
        if script.trim().is_empty() {
            continue;
        }
        let env = env_of(&block);
        let script = prepared(&env, &script);
        // The sandbox has another alias in ECR Public.
        let script = script.replace("public.ecr.aws/alias/", "public.ecr.aws/sandbox/");
        let mut command = env.script(&script);
        set_variables(&mut command, &env, &block);
        let run = env.succeeds(command);
        assert_eq!(env.calls() + left_out, block.calls(), "calls of {}", block.place());
        if script.contains("--output-variable ") {
            // In a file, a folder, or the service messages on stdout.
            let file = std::fs::read_to_string(env.aws.ecr.env.scratch("variables")).unwrap_or_default();
            let is_set = file.contains("IMAGE_REF=") || run.stdout.contains("name='IMAGE_REF'");
            let is_set = is_set || env.here().join("outputs/IMAGE_REF").exists();
            assert!(is_set || block.path.ends_with("buildkite.md"), "{} sets no variable", block.place());
        }
        if script.contains("--web-identity-token-env") {
            assert!(env.aws.assumed().iter().any(|it| it.action == "AssumeRoleWithWebIdentity"));
        }
    }
}

/// Adds the files that a script reads, and returns the script with the addresses of this environment.
fn prepared(env: &DocsEnv, script: &str) -> String {
    env.add_inputs();
    // The registry on this machine has a free port.
    env.localized(script).replace("localhost:5000", &format!("localhost:{}", env.beside.address().port()))
}

/// Sets the variables of a script: those that its page names, and those of its CI system.
fn set_variables(command: &mut Command, env: &DocsEnv, block: &Block) {
    let signed = saved(&env.aws.ecr);
    command.envs(variables_of(block.path, env).unwrap_or_else(|| keys().to_vec()));
    command.env("TOKEN", "password-of-bob").env("COMMIT", "0123456");
    command.env("DIGEST", super::layout_builder::digest(&signed.index)).env("SIGNED", &signed.layout.path);
}

#[test]
fn recipes_with_a_region_run_against_a_sandbox_for_all_regions() {
    let has_region = |block: &Block| block.language == "sh" && block.text.contains("--region eu-west-1");
    let scripts: Vec<_> = blocks().into_iter().filter(has_region).collect();
    let pages: std::collections::BTreeSet<_> = scripts.iter().map(|block| block.path).collect();
    assert!(pages.len() > 12, "{pages:?}");
    for block in scripts {
        let env = env_of(&block);
        let script = prepared(&env, &runnable(&block).0);
        for image in ["", "-debug"] {
            let name = format!("ecr-push-{}-x86_64-unknown-linux-gnu{image}.oci.tar", env!("CARGO_PKG_VERSION"));
            std::fs::copy(testdata("podman-oci-archive.tar"), env.here().join(name)).unwrap();
        }
        let program = env.program();
        let sandbox = [&program, "sandbox", "--repository", "team/app", "--repository", "tools/ecr-push", "--"];
        let words = sandbox.into_iter().chain(["bash", "-euo", "pipefail", "-c", &script]).map(str::to_owned);
        let mut command = env.words(&words.collect::<Vec<_>>());
        set_variables(&mut command, &env, &block);
        for (name, value) in [("ID", "1"), ("MIN", "1"), ("MAX", "4"), ("STEP", "1"), ("COUNT", "4")] {
            command.env(format!("SLURM_ARRAY_TASK_{name}"), value);
        }
        command.env("SLURM_ARRAY_JOB_ID", "7");
        let before = env.aws.log().len();
        env.succeeds(command);
        // All of them went to the sandbox that the command had.
        assert_eq!(env.aws.log().len(), before, "{}: {}", block.place(), env.aws.story());
    }
}

#[test]
fn every_pipeline_of_the_pages_succeeds() {
    let is_pipeline = |block: &Block| block.language == "yaml" && block.path != docs_at_scale::PAGE;
    let pipelines: Vec<_> = blocks().into_iter().filter(is_pipeline).collect();
    assert!(pipelines.len() >= 8, "{}", pipelines.len());
    for block in pipelines {
        let env = env_of(&block);
        run_pipeline(&env, &parsed_text(&block.place(), &env.localized(block.text)));
        assert_ran(&env, &block);
    }
}

#[test]
fn pipelines_with_a_tag_for_each_build_reuse_layers() {
    let is_of_pipeline = |block: &&Block| block.path == "README.md" || block.path.starts_with("docs/ci/");
    let pipelines: Vec<_> = blocks().into_iter().filter(|block| is_of_pipeline(&block)).collect();
    let tagged: Vec<_> = pipelines.iter().filter(|block| block.text.contains("team/app:$")).collect();
    assert!(tagged.len() > 10, "{}", tagged.len());
    for block in tagged {
        let pushes = block.text.matches("team/app:$").count();
        assert_eq!(block.text.matches("reuse-from").count(), pushes, "{} sends all layers each time", block.place());
    }
}

#[test]
fn the_pipeline_for_jenkins_succeeds() {
    let pipelines: Vec<_> = blocks().into_iter().filter(|block| block.language == "groovy").collect();
    for block in &pipelines {
        let env = env_of(block);
        jenkins(&env, &env.localized(block.text));
        assert_ran(&env, block);
    }
    assert_eq!(pipelines.len(), 1);
}

#[test]
fn no_other_block_calls_the_program() {
    let run = ["sh", "yaml", "groovy"];
    // The hint of an error may have a command, and usage has the name of the program.
    let is_output = |block: &&Block| {
        block.language == "text" && (block.text.starts_with("error: ") || block.path == "docs/reference.md")
    };
    for block in blocks().iter().filter(|block| !run.contains(&block.language) && !is_output(block)) {
        assert_eq!(block.calls(), 0, "no test runs the block of {}", block.place());
    }
    // A misspelled language would exclude a block from the tests.
    let all: std::collections::BTreeSet<_> = blocks().iter().map(|block| block.language).collect();
    assert_eq!(all.into_iter().collect::<Vec<_>>(), ["groovy", "json", "python", "sh", "text", "yaml"]);
}

#[test]
fn files_for_github_are_yaml_and_run_what_must_pass() {
    let folder = super::markdown::root().join(".github");
    let read = |path: &str| std::fs::read_to_string(folder.join(path)).unwrap();
    let workflow = read("workflows/ci.yml");
    let runs = parsed_text("ci.yml", &workflow)["jobs"]["run"]["steps"].as_array().unwrap().clone();
    assert!(runs.iter().any(|step| step["run"] == ".ci/run"), "{workflow}");
    for name in ["bug.yml", "config.yml", "ecr-behavior.yml", "feature.yml"] {
        let form = parsed_text(name, &read(&format!("ISSUE_TEMPLATE/{name}")));
        assert!(form["body"].is_array() || form["contact_links"].is_array(), "{name}");
    }
}
