//! Profiles whose credentials come from a login: IAM Identity Center (SSO), in both forms of configuration, and `aws login`.

use std::process::Command;

use ecr_push::sandbox::{Fault, Rules};

use super::bench::{Run, report, testdata};
use super::cloud::Cloud;
use super::credentials::{ARCHIVE, configured};
use super::ecr::{SECRET_KEY, status};

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
fn keep(cloud: &Cloud, name: &str, text: &str) {
    let path = cloud.ecr.bench.home().join(".aws").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn push(cloud: &Cloud, config: &str) -> Command {
    let command = cloud.command(&[&testdata(ARCHIVE), "team/app:1", "--region", "eu-west-1", "-v"]);
    let mut command = configured(cloud, command, config);
    command.env("AWS_PROFILE", "dev");
    command
}

/// It fails with exit code 3 and the command that logs in, and shows no type of the SDK.
#[track_caller]
fn asks_to_log_in(cloud: &Cloud, config: &str, login: &str) -> Run {
    let path = cloud.ecr.bench.scratch("report.json");
    let mut command = push(cloud, config);
    command.args(["--report", &path]);
    let run = cloud.finish(command).exits(3).says(&[
        "cannot get AWS credentials from the profile dev (AWS_PROFILE)\n",
        &format!("hint: Log in again:\n  {login} --profile dev\n"),
    ]);
    let error = &report(&path)["targets"][0]["error"];
    assert_eq!(
        (error["code"].as_str(), error["commands"][0].as_str()),
        (Some("credentials_rejected"), Some(format!("{login} --profile dev").as_str()))
    );
    run.never_says(&["Exception {", "Unhandled(", "ErrorMetadata"])
}

#[test]
fn a_session_that_has_ended_names_the_command_with_the_profile() {
    let cloud = Cloud::of("eu-west-1");
    drop(asks_to_log_in(&cloud, SESSION, "aws sso login"));
    keep(&cloud, SESSION_FILE, ENDED);
    drop(asks_to_log_in(&cloud, SESSION, "aws sso login").says(&["expired"]));
    keep(&cloud, SESSION_FILE, REVOKED);
    drop(
        asks_to_log_in(&cloud, SESSION, "aws sso login")
            .says(&["because: HTTP 401 UnauthorizedException: Session token not found or invalid"]),
    );
    keep(&cloud, SESSION_FILE, LIVE);
    drop(cloud.finish(push(&cloud, SESSION)).exits(0));
}

#[test]
fn a_session_in_the_legacy_form_names_profile_and_file() {
    let cloud = Cloud::of("eu-west-1");
    drop(asks_to_log_in(&cloud, LEGACY, "aws sso login").says(&[LEGACY_FILE, "No such file or directory"]));
    keep(&cloud, LEGACY_FILE, REVOKED);
    drop(asks_to_log_in(&cloud, LEGACY, "aws sso login").says(&["HTTP 401 UnauthorizedException"]));
    keep(&cloud, LEGACY_FILE, LIVE);
    drop(cloud.finish(push(&cloud, LEGACY)).exits(0));
}

#[test]
fn a_role_that_is_not_assigned_is_told_in_the_words_of_the_service() {
    let denied = Fault::once("sso:GetRoleCredentials", status(403, "ForbiddenException", "No access"));
    let cloud = Cloud::with("eu-west-1", Rules { faults: vec![denied], ..Rules::default() });
    keep(&cloud, SESSION_FILE, LIVE);
    let run = cloud.finish(push(&cloud, SESSION)).exits(3).says(&[
        "because: HTTP 403 ForbiddenException: No access",
        "has to assign the role builder in the account 000000000000",
    ]);
    drop(run.never_says(&["Unhandled", "Metadata", "aws sso login", "Some("]));
}

#[test]
fn a_portal_that_is_out_of_order_is_worth_another_run() {
    let busy = Fault::once("sso:GetRoleCredentials", status(503, "ServiceUnavailable", "later")).times(9);
    let cloud = Cloud::with("eu-west-1", Rules { faults: vec![busy], ..Rules::default() });
    keep(&cloud, SESSION_FILE, LIVE);
    drop(cloud.finish(push(&cloud, SESSION)).exits(4).says(&["503", "run the same command again"]));
}

#[test]
fn the_credentials_of_aws_login_are_used() {
    let cloud = Cloud::of("eu-west-1");
    drop(asks_to_log_in(&cloud, CONSOLE, "aws login").says(&[CONSOLE_FILE]));
    let token = format!(
        r#"{{"accessToken": {{"accessKeyId": "AKIACONSOLE", "secretAccessKey": "{SECRET_KEY}", "accountId": "000000000000",
        "sessionToken": "", "expiresAt": "2999-01-01T00:00:00Z"}}, "tokenType": "aws_sigv4", "refreshToken": "r",
        "clientId": "arn:aws:signin:::devtools/same-device", "dpopKey": "k"}}"#
    );
    keep(&cloud, CONSOLE_FILE, &token);
    drop(cloud.finish(push(&cloud, CONSOLE)).exits(0).says(&["credentials from the profile dev (AWS_PROFILE)"]));
    assert_eq!(cloud.keys(), ["AKIACONSOLE"]);
}

#[test]
fn a_role_that_is_assumed_with_a_login_names_the_login_too() {
    let cloud = Cloud::of("eu-west-1");
    let login = SESSION.replace("profile dev", "profile login");
    let config = format!("[profile dev]\nrole_arn = arn:aws:iam::000000000000:role/r\nsource_profile = login\n{login}");
    drop(cloud.finish(push(&cloud, &config)).exits(3).says(&[
        "cannot get AWS credentials from the profile dev (AWS_PROFILE)\n",
        "hint: Log in again:\n  aws sso login --profile login\n",
    ]));
}
