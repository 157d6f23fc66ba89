//! Inside of CI systems: what the tasks of the AWS Toolkit for Azure DevOps hand on, the proxy of an agent, and how the session
//! of a role is named.

use super::credentials::{keys, push};
use super::ecr::SECRET_KEY;
use super::fake_aws::{ACCESS_KEY, FakeAws};

const ROLE: &str = "arn:aws:iam::000000000000:role/pusher";

/// What the agent makes of the variables `AWS.AccessKeyID` and so on.
const VARIABLES: [(&str, &str); 5] = [
    ("AWS_ACCESSKEYID", "AKIAVARIABLE"),
    ("AWS_SECRETACCESSKEY", SECRET_KEY),
    ("AWS_ASSUMEROLEARN", "arn:aws:iam::000000000000:role/variable"),
    ("AWS_EXTERNALID", "id-of-the-variable"),
    ("AWS_ROLESESSIONNAME", "name-of-the-variable"),
];

#[test]
fn the_credentials_that_a_task_hands_on_come_before_the_variables() {
    let aws = FakeAws::of("eu-west-1");
    // A secret variable does not reach a script, and a plain one does.
    let without_secret = |name: &str| name != "AWS_SECRETACCESSKEY";
    for task in ["VSTS-AWSShellScript", "VSTS-AWSCLI"] {
        for has_secret in [true, false] {
            let mut command = push(&aws, &[]);
            keys(&mut command);
            command.env("AWS_EXECUTION_ENV", task);
            command.envs(VARIABLES.into_iter().filter(|(name, _)| has_secret || without_secret(name)));
            aws.finish(command).succeeds().stderr_has(&["credentials from the environment; region "]);
        }
    }
    assert!(aws.keys().iter().all(|key| key == ACCESS_KEY), "{:?}", aws.keys());
    assert_eq!(aws.assumed().len(), 0, "the task has assumed the role of the variables already");
}

#[test]
fn a_role_of_the_command_line_gets_nothing_of_the_variables_inside_a_task() {
    let aws = FakeAws::of("eu-west-1");
    let mut command = push(&aws, &["--role-arn", ROLE]);
    keys(&mut command);
    command.env("AWS_EXECUTION_ENV", "VSTS-AWSShellScript").envs(VARIABLES);
    aws.finish(command).succeeds();
    let [assumed] = &aws.assumed()[..] else { panic!("one role is assumed once: {:?}", aws.assumed()) };
    assert_eq!((assumed.role.as_str(), assumed.signed_by.as_deref()), (ROLE, Some(ACCESS_KEY)));
    assert_eq!((assumed.external_id.as_deref(), assumed.session_name.as_str()), (None, "ecr-push"));
}

#[test]
fn the_variables_count_where_no_task_hands_anything_on() {
    let aws = FakeAws::of("eu-west-1");
    // In a plain step, also beside other keys; and in a task that found no credentials.
    for (task, has_keys) in [(None, true), (Some("VSTS-AWSShellScript"), false)] {
        let mut command = push(&aws, &[]);
        if has_keys {
            keys(&mut command);
        }
        command.envs(task.map(|task| ("AWS_EXECUTION_ENV", task))).envs(VARIABLES);
        aws.finish(command).succeeds();
        let assumed = aws.assumed().pop().unwrap();
        assert_eq!(assumed.signed_by.as_deref(), Some("AKIAVARIABLE"));
        assert_eq!(
            (assumed.external_id.as_deref(), assumed.session_name.as_str()),
            (Some("id-of-the-variable"), "name-of-the-variable")
        );
    }
}

#[test]
fn the_proxy_of_an_agent_counts_in_a_plain_step() {
    let aws = FakeAws::of("eu-west-1");
    let command = |extra: &[(&str, &str)]| {
        let mut command = push(&aws, &["--retries", "0"]);
        keys(&mut command);
        let proxy = command.get_envs().find(|(name, _)| *name == "HTTPS_PROXY").unwrap().1.unwrap().to_owned();
        command.env_remove("HTTPS_PROXY").env("AGENT_PROXYURL", &proxy);
        // As the task AWSShellScript does with it.
        command.env("HTTP_PROXY", proxy).envs(extra.iter().copied());
        command
    };
    let proxied = "https uses the proxy 127.0.0.1:";
    aws.finish(command(&[])).succeeds().stderr_has(&[proxied, "(AGENT_PROXYURL)"]);
    // Exceptions are expressions. The name is then looked up here, where it does not exist.
    let list = r#"["registry\\.invalid"]"#;
    let target = "registry.invalid/team/app:1";
    let mut direct = command(&[("AGENT_PROXYBYPASSLIST", list)]);
    direct.args([target]);
    aws.finish(direct).fails_with(4).stderr_has(&["registry.invalid"]);
    assert!(aws.hosts().iter().all(|host| !host.contains("registry.invalid")), "{:?}", aws.hosts());
    let mut proxied = command(&[]);
    proxied.args([target]);
    aws.finish(proxied);
    assert!(aws.hosts().iter().any(|host| host.contains("registry.invalid")), "{:?}", aws.hosts());
}

#[test]
fn a_session_is_named_after_the_ci_system_and_the_run() {
    let aws = FakeAws::of("eu-west-1");
    for (variables, name) in [
        (&[("GITHUB_ACTIONS", "true"), ("GITHUB_RUN_ID", "1234567890")][..], "ecr-push-github-1234567890"),
        (&[("GITLAB_CI", "true"), ("CI_JOB_ID", "42")], "ecr-push-gitlab-42"),
        (&[("TF_BUILD", "True"), ("BUILD_BUILDID", "815")], "ecr-push-azure-815"),
        (&[("JENKINS_URL", "https://j"), ("BUILD_TAG", "jenkins-team/app-7")], "ecr-push-jenkins-jenkins-team-app-7"),
        (&[("CODEBUILD_BUILD_ID", "app:b1a2")], "ecr-push-codebuild-app-b1a2"),
        (&[("BUILDKITE", "true")], "ecr-push-buildkite"),
        (&[("GITHUB_RUN_ID", "1")], "ecr-push"),
    ] {
        // What a CI system gets elsewhere does not matter here.
        let mut command = push(&aws, &["--role-arn", ROLE, "--ci", "none"]);
        keys(&mut command);
        command.envs(variables.iter().copied());
        aws.finish(command).succeeds();
        assert_eq!(aws.assumed().pop().unwrap().session_name, name);
    }
    // The same for a role of a pod.
    let token = aws.ecr.env.scratch("token");
    std::fs::write(&token, "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln").unwrap();
    let mut command = push(&aws, &["--ci", "none"]);
    command.env("AWS_WEB_IDENTITY_TOKEN_FILE", &token).env("AWS_ROLE_ARN", ROLE);
    command.env("GITLAB_CI", "true").env("CI_JOB_ID", "42");
    aws.finish(command).succeeds();
    assert_eq!(aws.assumed().pop().unwrap().session_name, "ecr-push-gitlab-42");
    let long = "x".repeat(100);
    let mut command = push(&aws, &["--role-arn", ROLE, "--ci", "none"]);
    keys(&mut command);
    command.env("JENKINS_URL", "https://j").env("BUILD_TAG", &long);
    aws.finish(command).succeeds();
    assert_eq!(aws.assumed().pop().unwrap().session_name.len(), 64);
}
