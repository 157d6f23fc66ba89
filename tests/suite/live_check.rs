//! The live check, `tests/aws.sh`, put to the sandbox: what it prints is what the sandbox is known to do.

use std::process::Command;

use super::docker_registry::not_run;
use super::ecr::{Ecr, HOST, SECRET_KEY};
use super::harness::finish;

#[test]
fn the_live_check_asks_and_prints_a_table() {
    if !Command::new("curl").arg("--version").output().is_ok_and(|it| it.status.success()) {
        return not_run("tests/aws.sh (no curl; apt-get install curl)");
    }
    let ecr = Ecr::new();
    let mut command = Command::new("bash");
    command.args(["tests/aws.sh", &format!("{HOST}/team/app")]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let environment = ecr.command(&[]);
    command.env_clear().envs(environment.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("ECR_PUSH", super::harness::program());
    let run = finish(command, || ecr.story()).succeeds();
    for row in [
        "| GET by tag: Docker-Content-Digest | 200, `` |",
        "| a blob in one POST (`?digest=`) | 202 `` |",
        "| closing PUT of both parts | 201 `` |",
        "| DELETE of that session, GET after it | 204, 404 |",
        "| the API's login: status | 200 |",
        "`{\"errors\":[{\"code\":\"NAME_UNKNOWN\",",
        "\"All layer parts except the last part should be at least 5MB\"",
        "`\"layerAvailability\":\"AVAILABLE\"` |",
        "'Limit on number of layers per image exceeded'",
    ] {
        assert!(run.stdout.contains(row), "{row} is missing in\n{}", run.stdout);
    }
    let strict = run.stdout.matches("'Invalid JSON syntax'").count();
    assert_eq!(strict, 4, "of what ECR is known to refuse");
    let rows: Vec<_> = run.stdout.lines().filter(|line| line.starts_with("| ")).collect();
    assert!(rows.len() > 40 && rows.iter().all(|row| row.matches(" | ").count() == 1), "{rows:#?}");
    assert!(!run.stdout.contains("no answer") && !run.stdout.contains(SECRET_KEY));
}
