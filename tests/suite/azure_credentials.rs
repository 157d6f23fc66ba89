//! The credentials of the task of `integrations/azure`: of a service connection, of variables, of the environment; and the region.

use std::process::Command;

use ecr_push::sandbox::Rules;
use serde_json::{Value, json};

use super::azure_task::task;
use super::credentials::{ARCHIVE, ROLE};
use super::ecr::SECRET_KEY;
use super::fake_aws::{ACCESS_KEY, FakeAws};
use super::harness::testdata;

const CONNECTION: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";

/// The task in a company's network with a region, an archive and these inputs, without credentials.
fn in_network(aws: &FakeAws, inputs: &[(&str, &str)]) -> Command {
    let archive = testdata(ARCHIVE);
    let usual = [
        ("imageSource", "archive"),
        ("archive", &archive),
        ("repositoryName", "team/app"),
        ("regionName", "eu-west-1"),
    ];
    task(&aws.ecr, &aws.command(&[]), &[&usual, inputs].concat())
}

/// Adds a service connection of the type AWS with these fields.
fn connected(mut command: Command, parameters: &Value) -> Command {
    let data = json!({"scheme": "UsernamePassword", "parameters": parameters});
    command.env(format!("ENDPOINT_AUTH_{CONNECTION}"), data.to_string());
    command.env(format!("ENDPOINT_AUTH_SCHEME_{CONNECTION}"), "UsernamePassword");
    command
}

const BY_CONNECTION: (&str, &str) = ("awsCredentials", CONNECTION);

#[test]
fn a_service_connection_with_keys() {
    let aws = FakeAws::of("eu-west-1");
    let keys = json!({"username": "AKIACONNECTION", "password": SECRET_KEY});
    let mut command = connected(in_network(&aws, &[BY_CONNECTION]), &keys);
    // Neither variables nor the environment are used.
    command
        .env("AWS_ACCESSKEYID", "AKIAVARIABLE")
        .env("SECRET_AWS_SECRETACCESSKEY", "x")
        .env("AWS_ASSUMEROLEARN", ROLE);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", "y");
    aws.finish(command).succeeds();
    assert_eq!(aws.keys(), ["AKIACONNECTION"]);
    assert!(aws.assumed().is_empty());
    let command = connected(in_network(&aws, &[BY_CONNECTION]), &json!({"username": "AKIACONNECTION"}));
    aws.finish(command).fails_with(2).stderr_has(&["has only one of access key ID and secret access key"]);
    aws.finish(in_network(&aws, &[BY_CONNECTION])).fails_with(2).stderr_has(&["no service connection 0a1b2c3d-"]);
}

#[test]
fn a_service_connection_with_keys_and_a_role() {
    let aws = FakeAws::with("eu-west-1", Rules { external_id: Some("id-1".into()), ..Rules::default() });
    let fields = json!({
        "username": "AKIACONNECTION", "password": SECRET_KEY, "sessionToken": "", "assumeRoleArn": ROLE,
        "externalId": "id-1", "roleSessionName": "build-9", "useOIDC": "false",
    });
    aws.finish(connected(in_network(&aws, &[BY_CONNECTION]), &fields)).succeeds();
    let [assumed] = &aws.assumed()[..] else { panic!("one role is assumed once: {:?}", aws.assumed()) };
    assert_eq!((assumed.role.as_str(), assumed.session_name.as_str()), (ROLE, "build-9"));
    assert_eq!((assumed.signed_by.as_deref(), assumed.seconds), (Some("AKIACONNECTION"), Some(900)));
    assert_eq!((assumed.external_id.as_deref(), assumed.host.as_str()), (Some("id-1"), "sts.eu-west-1.amazonaws.com"));
    // A variable sets the duration; a wrong one does not.
    for (duration, seconds) in [("1800", 1800), ("5", 900)] {
        let mut command = connected(in_network(&aws, &[BY_CONNECTION]), &fields);
        command.env("AWS_ROLECREDENTIAL_MAXDURATION", duration);
        aws.finish(command).succeeds();
        assert_eq!(aws.assumed().last().unwrap().seconds, Some(seconds));
    }
}

#[test]
fn a_service_connection_with_a_role_alone() {
    let aws = FakeAws::with("eu-west-1", Rules { external_id: Some("id-1".into()), ..Rules::default() });
    let fields = json!({"assumeRoleArn": ROLE, "externalId": "id-1"});
    let mut command = connected(in_network(&aws, &[BY_CONNECTION]), &fields);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    aws.finish(command).succeeds();
    let [assumed] = &aws.assumed()[..] else { panic!("one role is assumed once: {:?}", aws.assumed()) };
    assert_eq!((assumed.signed_by.as_deref(), assumed.session_name.as_str()), (Some(ACCESS_KEY), "aws-vsts-tools"));
}

/// The variables with which a job gets OIDC tokens.
fn with_job_token(aws: &FakeAws, mut command: Command) -> Command {
    let job = json!({"scheme": "OAuth", "parameters": {"AccessToken": "job-token"}});
    command.env("ENDPOINT_AUTH_SYSTEMVSSCONNECTION", job.to_string());
    command.env("SYSTEM_OIDCREQUESTURI", format!("{}/oidc/azure", aws.url()));
    command
}

#[track_caller]
fn assumed_by_token(aws: &FakeAws, connection: &str) {
    let [assumed] = &aws.assumed()[..] else { panic!("one role is assumed once: {:?}", aws.assumed()) };
    assert_eq!((assumed.action.as_str(), assumed.signed_by.as_ref()), ("AssumeRoleWithWebIdentity", None));
    assert_eq!((assumed.role.as_str(), assumed.seconds), (ROLE, Some(900)));
    assert_eq!(assumed.session_name, "aws-vsts-tools");
    let asked = &aws.asked("oidc:Token")[0];
    assert!(asked.path.contains(&format!("serviceConnectionId={connection}")), "{}", asked.path);
}

#[test]
fn a_service_connection_with_oidc() {
    let aws = FakeAws::of("eu-west-1");
    let fields = json!({"assumeRoleArn": ROLE, "useOIDC": "true"});
    let mut command = with_job_token(&aws, connected(in_network(&aws, &[BY_CONNECTION]), &fields));
    command
        .env("AWS_ACCESSKEYID", "AKIAVARIABLE")
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", "y");
    aws.finish(command).succeeds();
    assumed_by_token(&aws, CONNECTION);
    let command = connected(in_network(&aws, &[BY_CONNECTION]), &json!({"useOIDC": "true"}));
    aws.finish(command).fails_with(2).stderr_has(&["names no role to assume", "Set Role to Assume"]);
}

#[test]
fn an_azure_service_connection_with_oidc() {
    let aws = FakeAws::of("eu-west-1");
    let inputs = [("azureConnection", CONNECTION), ("roleArn", ROLE)];
    let mut command = with_job_token(&aws, in_network(&aws, &inputs));
    // Another agent passes the token as a secret variable.
    command.env_remove("ENDPOINT_AUTH_SYSTEMVSSCONNECTION").env("SECRET_SYSTEM_ACCESSTOKEN", "job-token");
    aws.finish(command).succeeds();
    assumed_by_token(&aws, CONNECTION);
    aws.finish(in_network(&aws, &inputs[..1])).fails_with(2).stderr_has(&["Set the input roleArn"]);
    let both = [BY_CONNECTION, inputs[0], inputs[1]];
    aws.finish(in_network(&aws, &both)).fails_with(2).stderr_has(&["both awsCredentials and azureConnection are set"]);
}

#[test]
fn task_variables_precede_the_environment() {
    let aws = FakeAws::of("eu-west-1");
    let mut command = in_network(&aws, &[]);
    command.env("AWS_ACCESSKEYID", "AKIAVARIABLE").env("SECRET_AWS_SECRETACCESSKEY", SECRET_KEY);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", "y");
    aws.finish(command).succeeds();
    assert_eq!(aws.keys(), ["AKIAVARIABLE"]);
}

#[test]
fn the_environment_of_the_agent() {
    let aws = FakeAws::of("eu-west-1");
    let mut command = in_network(&aws, &[]);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    // The proxy of the agent, as it passes it to tasks.
    let (_, proxy) = aws
        .command(&[])
        .get_envs()
        .find(|(name, _)| *name == "HTTPS_PROXY")
        .map(|(n, v)| (n.to_owned(), v.unwrap().to_owned()))
        .unwrap();
    command.env_remove("HTTPS_PROXY").env("AGENT_PROXYURL", proxy);
    aws.finish(command).succeeds();
    assert_eq!(aws.keys(), [ACCESS_KEY]);
}

#[test]
fn the_metadata_of_ec2_comes_last() {
    let aws = FakeAws::of("ap-southeast-2");
    let mut command = in_network(&aws, &[("regionName", "")]);
    command.env_remove("AWS_EC2_METADATA_DISABLED").env("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.url());
    aws.finish(command).succeeds();
    assert!(aws.keys()[0].starts_with("ASIA"));
    assert!(aws.hosts().contains(&"api.ecr.ap-southeast-2.amazonaws.com:443".to_owned()));
}

#[test]
fn the_region_is_an_input_or_a_variable() {
    let aws = FakeAws::of("eu-west-1");
    for (input, variable) in
        [("EU-West-1", None), ("eu_west_1", None), ("", Some("AWS_REGION")), ("", Some("SECRET_AWS_REGION"))]
    {
        let mut command = in_network(&aws, &[("regionName", input)]);
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        match variable {
            Some(variable) => command.env(variable, "eu-west-1"),
            // The input comes first.
            None => command.env("AWS_REGION", "us-east-1"),
        };
        aws.finish(command).succeeds();
    }
    assert!(aws.hosts().iter().all(|host| host.contains(".eu-west-1.")), "{:?}", aws.hosts());
}
