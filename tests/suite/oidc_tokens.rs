//! Credentials by the OIDC token of a CI system: where the token comes from, what it is exchanged for, when it is not used.

use std::process::Command;

use ecr_push::sandbox::Rules;

use super::credentials::{ROLE, SECOND, arrives, configured, keys, profile, push};
use super::fake_aws::{ACCESS_KEY, FakeAws};

/// The variables that GitHub sets where a job may have a token.
pub(crate) fn github(aws: &FakeAws, command: &mut Command) {
    command.env("ACTIONS_ID_TOKEN_REQUEST_URL", format!("{}/oidc/github?api-version=2", aws.url()));
    command.env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "job-token");
}

#[test]
fn the_token_of_github_actions() {
    let aws = FakeAws::of("eu-west-1");
    let mut command = push(&aws, &["--role-arn", ROLE]);
    github(&aws, &mut command);
    let run = arrives(&aws, command, &format!("the role {ROLE}, by GitHub Actions' OIDC token"));
    let line = format!("  GitHub Actions' OIDC token  {}/***\n", aws.url());
    run.stderr_has(&[&line, "  sts:AssumeRoleWithWebIdentity, "]).output_has_none(&["/oidc/github"]);
    let [assumed] = &aws.assumed()[..] else { panic!("one role is assumed once") };
    assert_eq!((assumed.action.as_str(), assumed.signed_by.as_ref()), ("AssumeRoleWithWebIdentity", None));
    assert_eq!(assumed.host, "sts.eu-west-1.amazonaws.com");
    assert!(aws.asked("oidc:Token")[0].path.ends_with("?api-version=2&audience=sts.amazonaws.com"));
    assert_eq!(aws.keys(), [assumed.access_key.as_str()]);
}

#[test]
fn a_token_of_github_is_no_use_without_a_role() {
    let aws = FakeAws::of("eu-west-1");
    let mut command = push(&aws, &[]);
    github(&aws, &mut command);
    keys(&mut command);
    arrives(&aws, command, "the environment");
    let mut command = push(&aws, &["--oidc", "on"]);
    github(&aws, &mut command);
    aws.finish(command).fails_with(2).stderr_has(&["--role-arn arn:aws:iam::ACCOUNT:role/NAME"]);
}

#[test]
fn the_token_of_azure_pipelines_and_a_role_after_it() {
    let aws = FakeAws::of("eu-west-1");
    let options = ["--azure-service-connection", "11111111-2222", "--role-arn", ROLE, "--role-arn", SECOND];
    let mut command = push(&aws, &options);
    command.env("SYSTEM_OIDCREQUESTURI", format!("{}/oidc/azure", aws.url())).env("SYSTEM_ACCESSTOKEN", "job-token");
    let by = format!("the role {ROLE}, by Azure Pipelines' OIDC token, then the role {SECOND}");
    let line = format!("  Azure Pipelines' OIDC token, 2 bytes  {}/***\n", aws.url());
    arrives(&aws, command, &by).stderr_has(&[&line, "  sts:AssumeRole, "]);
    let asked = &aws.asked("oidc:Token")[0];
    assert_eq!(asked.method, "POST");
    assert!(asked.path.contains("api-version=7.1-preview.1&serviceConnectionId=11111111-2222"), "{}", asked.path);
    let [first, second] = &aws.assumed()[..] else { panic!("two roles are assumed once") };
    assert_eq!((first.action.as_str(), first.session_name.as_str()), ("AssumeRoleWithWebIdentity", "aws-vsts-tools"));
    assert_eq!((second.action.as_str(), second.signed_by.as_ref()), ("AssumeRole", Some(&first.access_key)));
}

#[test]
fn azure_s_token_takes_what_the_step_has_to_map() {
    let aws = FakeAws::of("eu-west-1");
    let mut command = push(&aws, &["--azure-service-connection", "1", "--role-arn", ROLE]);
    command.env("SYSTEM_OIDCREQUESTURI", format!("{}/oidc/azure", aws.url()));
    let run = aws.finish(command).fails_with(2).stderr_has(&["--azure-service-connection needs SYSTEM_ACCESSTOKEN"]);
    run.stderr_has(&["SYSTEM_ACCESSTOKEN: $(System.AccessToken)"]);
    // One that Azure rejects is reported with advice, and is not shown.
    let mut command = push(&aws, &["--azure-service-connection", "1", "--role-arn", ROLE]);
    command.env("SYSTEM_OIDCREQUESTURI", format!("{}/oidc/azure", aws.url())).env("SYSTEM_ACCESSTOKEN", "another");
    let run =
        aws.finish(command).fails_with(3).stderr_has(&["cannot get an OIDC token from Azure Pipelines", "HTTP 401"]);
    run.stderr_has(&["the job's token is wrong", "hint: "]).output_has_none(&["another"]);
}

#[test]
fn a_ci_that_is_out_of_order_is_asked_again() {
    use ecr_push::sandbox::Fault;
    let fault = Fault::once("oidc:Token", super::ecr::status(503, "Unavailable", "later")).times(2);
    let aws = FakeAws::with("eu-west-1", Rules { faults: vec![fault], ..Rules::default() });
    let mut command = push(&aws, &["--role-arn", ROLE]);
    github(&aws, &mut command);
    arrives(&aws, command, &format!("the role {ROLE}, by GitHub Actions' OIDC token"));
    assert_eq!(aws.count("oidc:Token"), 3);
}

#[test]
fn a_token_in_a_variable() {
    let aws = FakeAws::of("eu-west-1");
    let mut command = push(&aws, &["--web-identity-token-env", "AWS_ID_TOKEN", "--role-arn", ROLE]);
    command.env("AWS_ID_TOKEN", "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln");
    arrives(&aws, command, &format!("the role {ROLE}, by the OIDC token in AWS_ID_TOKEN"));
    assert_eq!(aws.assumed()[0].action, "AssumeRoleWithWebIdentity");
    let command = push(&aws, &["--web-identity-token-env", "AWS_ID_TOKEN", "--role-arn", ROLE]);
    aws.finish(command).fails_with(2).stderr_has(&["AWS_ID_TOKEN, is not set"]);
    // Who gives the token itself does not find it in the log.
    let command = push(&aws, &["--web-identity-token-env", "eyJhbGciOiJSUzI1NiJ9.e30.c2ln", "--role-arn", ROLE]);
    aws.finish(command)
        .fails_with(2)
        .stderr_has(&["is not a variable name", "not the token"])
        .output_has_none(&["eyJ"]);
    // An external ID is for roles that are assumed with keys.
    let options = ["--web-identity-token-env", "T", "--role-arn", ROLE, "--external-id", "x", "--tag", "2"];
    let mut command = push(&aws, &options);
    command.env("T", "a.b.c");
    aws.finish(command).succeeds().stderr_has(&["note: the external ID is not sent: "]);
    let mut command = push(&aws, &[&options[..], &["--role-arn", ROLE, "--tag", "3"]].concat());
    command.env("T", "a.b.c");
    aws.finish(command).succeeds().output_has_none(&["is not sent"]);
    assert_eq!(aws.assumed().last().unwrap().external_id.as_deref(), Some("x"));
}

#[test]
fn a_token_that_no_trust_policy_accepts_is_reported_with_its_claims() {
    let rules = Rules { deny: vec!["sts:AssumeRoleWithWebIdentity".into()], ..Rules::default() };
    let aws = FakeAws::with("eu-west-1", rules);
    let mut command = push(&aws, &["--role-arn", ROLE]);
    github(&aws, &mut command);
    let run =
        aws.finish(command).fails_with(3).stderr_has(&["Not authorized to perform sts:AssumeRoleWithWebIdentity"]);
    run.stderr_has(&[
        "iss https://token.actions.githubusercontent.com, sub sc://org/project/connection, aud sts.amazonaws.com",
    ]);
}

#[test]
fn keys_come_before_a_ci_s_token_unless_it_is_asked_for() {
    let aws = FakeAws::of("eu-west-1");
    let run = |options: &[&str]| {
        let mut command = push(&aws, &[&["--role-arn", ROLE], options].concat());
        github(&aws, &mut command);
        keys(&mut command);
        aws.finish(command).succeeds()
    };
    run(&[]).stderr_has(&["credentials from the environment, then the role"]);
    assert_eq!(aws.assumed()[0].signed_by.as_deref(), Some(ACCESS_KEY));
    run(&["--oidc", "on", "--tag", "2"]).stderr_has(&["by GitHub Actions' OIDC token"]);
    assert_eq!(aws.assumed()[1].action, "AssumeRoleWithWebIdentity");
    // Where the token is meant and passed over, that is said.
    let mut command = push(&aws, &["--role-arn", ROLE, "--web-identity-token-env", "T", "--tag", "3"]);
    command.env("T", "a.b.c");
    keys(&mut command);
    command.args(["team/app:3", "--region", "eu-west-1"]);
    let run = aws.finish(command).succeeds();
    let said =
        run.stderr.matches("keys are set, so the OIDC token of the CI system is not used; --oidc on uses it").count();
    assert_eq!(said, 1, "once, whatever the number of targets: {}", run.stderr);
    assert_eq!(aws.assumed()[2].action, "AssumeRole");
}

#[test]
fn a_ci_s_token_can_be_turned_down() {
    let aws = FakeAws::of("eu-west-1");
    let command = push(&aws, &["--role-arn", ROLE, "--oidc", "off"]);
    let mut command = configured(&aws, command, &profile("p", "AKIAPROFILE"));
    command.env("AWS_PROFILE", "p");
    github(&aws, &mut command);
    arrives(&aws, command, &format!("the profile p (AWS_PROFILE), then the role {ROLE}"));
    assert_eq!((aws.count("oidc:Token"), aws.assumed()[0].signed_by.as_deref()), (0, Some("AKIAPROFILE")));
}
