//! Profiles whose credentials come from a login: IAM Identity Center (SSO), in both forms of configuration, and `aws login`.

use std::process::Command;

use ecr_push::sandbox::{Fault, Rules};

use super::credentials::{ARCHIVE, configured};
use super::ecr::{SECRET_KEY, status};
use super::fake_aws::FakeAws;
use super::harness::{Run, report, testdata};

const SESSION: &str = "[profile dev]\nsso_session = s\nsso_account_id = 000000000000\nsso_role_name = builder\n\
                       [sso-session s]\nsso_region = eu-west-1\nsso_start_url = https://d-1.awsapps.com/start\n";

const LEGACY: &str = "[profile dev]\nsso_account_id = 000000000000\nsso_role_name = builder\nsso_region = eu-west-1\n\
                      sso_start_url = https://d-1.awsapps.com/start\n";

const CONSOLE: &str = "[profile dev]\nlogin_session = arn:aws:iam::000000000000:user/me\n";

/// Where the AWS CLI keeps what a login gave. The names are hashes: SHA-1 of the session's name and of the start URL, SHA-256
/// of the ARN.
const SESSION_FILE: &str = "sso/cache/a0f1490a20d0211c997b44bc357e1972deab8ae3.json";
const LEGACY_FILE: &str = "sso/cache/0c54b6c27e90660baa89eaad85ac1d5dae26cb7d.json";
const CONSOLE_FILE: &str = "login/cache/db1d1f673983ce4d599497d9b7c439466deca81592af118e57558f3cd72d3bf9.json";

const LIVE: &str = r#"{"accessToken": "sso-token", "expiresAt": "2999-01-01T00:00:00Z", "region": "eu-west-1"}"#;
const ENDED: &str = r#"{"accessToken": "sso-token", "expiresAt": "2001-01-01T00:00:00Z", "region": "eu-west-1"}"#;
const REVOKED: &str = r#"{"accessToken": "sso-other", "expiresAt": "2999-01-01T00:00:00Z", "region": "eu-west-1"}"#;

/// Keeps a login as the AWS CLI does.
fn keep(aws: &FakeAws, name: &str, text: &str) {
    let path = aws.ecr.env.home().join(".aws").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn push(aws: &FakeAws, config: &str) -> Command {
    let command = aws.command(&[&testdata(ARCHIVE), "team/app:1", "--region", "eu-west-1", "-v"]);
    let mut command = configured(aws, command, config);
    command.env("AWS_PROFILE", "dev");
    command
}

/// It fails with exit code 3 and the command that logs in, and shows no type of the SDK.
#[track_caller]
fn asks_to_log_in(aws: &FakeAws, config: &str, login: &str) -> Run {
    let path = aws.ecr.env.scratch("report.json");
    let mut command = push(aws, config);
    command.args(["--report", &path]);
    let run = aws.finish(command).fails_with(3).stderr_has(&[
        "cannot get AWS credentials from the profile dev (AWS_PROFILE)\n",
        &format!("hint: Log in again:\n  {login} --profile dev\n"),
    ]);
    let error = &report(&path)["targets"][0]["error"];
    assert_eq!(
        (error["code"].as_str(), error["commands"][0].as_str()),
        (Some("credentials_rejected"), Some(format!("{login} --profile dev").as_str()))
    );
    run.output_has_none(&["Exception {", "Unhandled(", "ErrorMetadata"])
}

#[test]
fn a_session_that_has_ended_names_the_command_with_the_profile() {
    let aws = FakeAws::of("eu-west-1");
    asks_to_log_in(&aws, SESSION, "aws sso login");
    keep(&aws, SESSION_FILE, ENDED);
    asks_to_log_in(&aws, SESSION, "aws sso login").stderr_has(&["expired"]);
    keep(&aws, SESSION_FILE, REVOKED);
    asks_to_log_in(&aws, SESSION, "aws sso login")
        .stderr_has(&["because: HTTP 401 UnauthorizedException: Session token not found or invalid"]);
    keep(&aws, SESSION_FILE, LIVE);
    aws.finish(push(&aws, SESSION)).succeeds();
}

#[test]
fn a_session_in_the_legacy_form_names_profile_and_file() {
    let aws = FakeAws::of("eu-west-1");
    asks_to_log_in(&aws, LEGACY, "aws sso login").stderr_has(&[LEGACY_FILE, "No such file or directory"]);
    keep(&aws, LEGACY_FILE, REVOKED);
    asks_to_log_in(&aws, LEGACY, "aws sso login").stderr_has(&["HTTP 401 UnauthorizedException"]);
    keep(&aws, LEGACY_FILE, LIVE);
    aws.finish(push(&aws, LEGACY)).succeeds();
}

#[test]
fn a_role_that_is_not_assigned_is_reported_in_the_words_of_the_service() {
    let denied = Fault::once("sso:GetRoleCredentials", status(403, "ForbiddenException", "No access"));
    let aws = FakeAws::with("eu-west-1", Rules { faults: vec![denied], ..Rules::default() });
    keep(&aws, SESSION_FILE, LIVE);
    let run = aws.finish(push(&aws, SESSION)).fails_with(3).stderr_has(&[
        "because: HTTP 403 ForbiddenException: No access",
        "must assign the role builder in the account 000000000000",
    ]);
    run.output_has_none(&["Unhandled", "Metadata", "aws sso login", "Some("]);
}

#[test]
fn a_portal_that_is_out_of_order_is_worth_another_run() {
    let busy = Fault::once("sso:GetRoleCredentials", status(503, "ServiceUnavailable", "later")).times(9);
    let aws = FakeAws::with("eu-west-1", Rules { faults: vec![busy], ..Rules::default() });
    keep(&aws, SESSION_FILE, LIVE);
    aws.finish(push(&aws, SESSION)).fails_with(4).stderr_has(&["503", "run the same command again"]);
}

#[test]
fn the_credentials_of_aws_login_are_used() {
    let aws = FakeAws::of("eu-west-1");
    asks_to_log_in(&aws, CONSOLE, "aws login").stderr_has(&[CONSOLE_FILE]);
    let token = format!(
        r#"{{"accessToken": {{"accessKeyId": "AKIACONSOLE", "secretAccessKey": "{SECRET_KEY}", "accountId": "000000000000",
        "sessionToken": "", "expiresAt": "2999-01-01T00:00:00Z"}}, "tokenType": "aws_sigv4", "refreshToken": "r",
        "clientId": "arn:aws:signin:::devtools/same-device", "dpopKey": "k"}}"#
    );
    keep(&aws, CONSOLE_FILE, &token);
    aws.finish(push(&aws, CONSOLE)).succeeds().stderr_has(&["credentials from the profile dev (AWS_PROFILE)"]);
    assert_eq!(aws.keys(), ["AKIACONSOLE"]);
}

#[test]
fn a_role_that_is_assumed_with_a_login_names_the_login_too() {
    let aws = FakeAws::of("eu-west-1");
    let login = SESSION.replace("profile dev", "profile login");
    let config = format!("[profile dev]\nrole_arn = arn:aws:iam::000000000000:role/r\nsource_profile = login\n{login}");
    aws.finish(push(&aws, &config)).fails_with(3).stderr_has(&[
        "cannot get AWS credentials from the profile dev (AWS_PROFILE)\n",
        "hint: Log in again:\n  aws sso login --profile login\n",
    ]);
}
