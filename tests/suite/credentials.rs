//! Credentials: which source is used, which host is asked for them, what is sent.

use std::process::Command;

use ecr_push::sandbox::Rules;

use super::ecr::SECRET_KEY;
use super::fake_aws::{ACCESS_KEY, ACCOUNT, FakeAws};
use super::harness::{Run, testdata};
use super::oidc_tokens::github;

pub(crate) const ARCHIVE: &str = "docker-20.10-save.tar";
pub(crate) const ROLE: &str = "arn:aws:iam::000000000000:role/pusher";
pub(crate) const SECOND: &str = "arn:aws:iam::000000000000:role/deployer";

/// The registry's host in a region of the commercial partition.
pub(crate) fn host(region: &str) -> String {
    format!("{ACCOUNT}.dkr.ecr.{region}.amazonaws.com")
}

/// A push to the registry of `eu-west-1`, with options, without credentials.
pub(crate) fn push(aws: &FakeAws, options: &[&str]) -> Command {
    let (archive, target) = (testdata(ARCHIVE), format!("{}/team/app:1", host("eu-west-1")));
    aws.command(&[&[archive.as_str(), &target, "-vv"], options].concat())
}

/// It arrived, and `-vv` says by which credentials, and by which requests they came.
#[track_caller]
pub(crate) fn arrives(aws: &FakeAws, command: Command, by: &str) -> Run {
    let run = aws.finish(command).succeeds().stderr_has(&[&format!("credentials from {by}; region ")]);
    assert!(aws.image("team/app", "1").is_some());
    run
}

/// A file of AWS's configuration, and a command that reads it.
pub(crate) fn configured(aws: &FakeAws, mut command: Command, text: &str) -> Command {
    let path = aws.ecr.env.scratch("config");
    std::fs::write(&path, text).unwrap();
    command.env("AWS_CONFIG_FILE", path);
    command
}

pub(crate) fn keys(command: &mut Command) {
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
}

pub(crate) fn profile(name: &str, id: &str) -> String {
    format!("[profile {name}]\naws_access_key_id = {id}\naws_secret_access_key = {SECRET_KEY}\n")
}

#[test]
fn keys_of_the_environment() {
    let aws = FakeAws::of("eu-west-1");
    let mut command = push(&aws, &[]);
    keys(&mut command);
    let run = arrives(&aws, command, "the environment");
    run.stderr_has(&["region eu-west-1 from the host", "caller arn:aws:iam::000000000000:user/sandbox"]);
    assert_eq!(aws.keys(), [ACCESS_KEY]);
    let host = host("eu-west-1");
    let hosts = ["api.ecr.eu-west-1.amazonaws.com:443", "sts.eu-west-1.amazonaws.com:443"];
    assert_eq!(aws.hosts(), [&format!("{host}:443"), hosts[0], hosts[1]]);
}

#[test]
fn a_profile_by_option_beats_the_keys_of_the_environment() {
    let aws = FakeAws::of("eu-west-1");
    let mut command = push(&aws, &["--profile", "ci"]);
    keys(&mut command);
    arrives(&aws, configured(&aws, command, &profile("ci", "AKIAPROFILE")), "the profile ci (--profile)");
    assert_eq!(aws.keys(), ["AKIAPROFILE"]);
}

#[test]
fn a_profile_that_is_not_there_is_named() {
    let aws = FakeAws::of("eu-west-1");
    let command = configured(&aws, push(&aws, &["--profile", "ci"]), &profile("other", "AKIAPROFILE"));
    let run = aws.finish(command).fails_with(3).stderr_has(&["cannot use the profile ci (--profile)"]);
    run.stderr_has(&["is not defined in ", "These profiles exist:\n  aws configure list-profiles\n"]);
    // Neither a profile nor a file of profiles.
    let run = aws.finish(push(&aws, &["--profile", "ci"])).fails_with(3);
    run.stderr_has(&["cannot use the profile ci (--profile)", "is not defined in /dev/null (not a regular file)"]);
    assert_eq!(aws.keys(), [""; 0]);
}

#[test]
fn a_role_with_all_its_options() {
    let aws = FakeAws::with("eu-west-1", Rules { external_id: Some("customer-7".into()), ..Rules::default() });
    let options = ["--role-arn", ROLE, "--external-id", "customer-7", "--role-session-name", "build-9"];
    let mut command = push(&aws, &[&options[..], &["--role-duration", "1800"]].concat());
    keys(&mut command);
    let run = arrives(&aws, command, &format!("the environment, then the role {ROLE}"));
    run.stderr_has(&["caller arn:aws:sts::000000000000:assumed-role/pusher/build-9"]);
    let [assumed] = &aws.assumed()[..] else { panic!("one role is assumed once: {:?}", aws.assumed()) };
    assert_eq!((assumed.action.as_str(), assumed.role.as_str()), ("AssumeRole", ROLE));
    assert_eq!((assumed.session_name.as_str(), assumed.external_id.as_deref()), ("build-9", Some("customer-7")));
    assert_eq!((assumed.seconds, assumed.signed_by.as_deref()), (Some(1800), Some(ACCESS_KEY)));
    assert_eq!(assumed.host, "sts.eu-west-1.amazonaws.com", "STS is asked in the region");
    assert_eq!(aws.keys(), [assumed.access_key.as_str()]);
}

#[test]
fn a_rejected_role_is_reported_with_the_missing_permission() {
    let aws = FakeAws::with("eu-west-1", Rules { external_id: Some("customer-7".into()), ..Rules::default() });
    let mut command = push(&aws, &["--role-arn", ROLE]);
    keys(&mut command);
    let run =
        aws.finish(command).fails_with(3).stderr_has(&[&format!("cannot get AWS credentials from the role {ROLE}")]);
    run.stderr_has(&["not authorized to perform: sts:AssumeRole", "AccessDenied", "--external-id", "trust policy"]);
}

#[test]
fn a_service_for_roles_that_is_out_of_order_is_worth_another_run() {
    use ecr_push::sandbox::Fault;
    let busy = super::ecr::status(503, "ServiceUnavailable", "later");
    let broken = Rules { faults: vec![Fault::once("sts:Request", busy).times(9)], ..Rules::default() };
    for (rules, endpoint) in [(broken, None), (Rules::default(), Some("http://127.0.0.1:1"))] {
        let aws = FakeAws::with("eu-west-1", rules);
        for is_by_token in [false, true] {
            let mut command = push(&aws, &["--role-arn", ROLE]);
            if is_by_token {
                github(&aws, &mut command);
            } else {
                keys(&mut command);
            }
            command.envs(endpoint.map(|url| ("AWS_ENDPOINT_URL_STS", url)));
            let run = aws
                .finish(command)
                .fails_with(4)
                .stderr_has(&[&format!("cannot get AWS credentials from the role {ROLE}")]);
            run.stderr_has(&["run the same command again"]);
        }
    }
}

#[test]
fn roles_are_assumed_one_from_the_other() {
    let aws = FakeAws::of("eu-west-1");
    let mut command = push(&aws, &["--role-arn", ROLE, "--role-arn", SECOND]);
    keys(&mut command);
    arrives(&aws, command, &format!("the environment, then the role {ROLE}, then the role {SECOND}"));
    let [first, second] = &aws.assumed()[..] else { panic!("two roles are assumed once: {:?}", aws.assumed()) };
    assert_eq!((first.role.as_str(), first.signed_by.as_deref()), (ROLE, Some(ACCESS_KEY)));
    assert_eq!((second.role.as_str(), second.signed_by.as_ref()), (SECOND, Some(&first.access_key)));
    assert_eq!((first.session_name.as_str(), second.session_name.as_str()), ("ecr-push", "ecr-push"));
    assert_eq!(aws.keys(), [second.access_key.as_str()]);
}

#[test]
fn the_variables_of_the_task() {
    let aws = FakeAws::of("eu-west-1");
    let mut command = push(&aws, &[]);
    command.env("AWS_ACCESSKEYID", "AKIATASK").env("AWS_SECRETACCESSKEY", SECRET_KEY);
    arrives(&aws, command, "the keys of AWS_ACCESSKEYID");
    assert_eq!(aws.keys(), ["AKIATASK"]);
}

#[test]
fn the_variables_of_the_task_for_a_role() {
    let aws = FakeAws::of("eu-west-1");
    let mut command = push(&aws, &[]);
    command.env("AWS_ACCESSKEYID", "AKIATASK").env("AWS_SECRETACCESSKEY", SECRET_KEY);
    command.env("AWS_ASSUMEROLEARN", ROLE).env("AWS_EXTERNALID", "id-1").env("AWS_ROLECREDENTIAL_MAXDURATION", "900");
    arrives(&aws, command, &format!("the keys of AWS_ACCESSKEYID, then the role {ROLE}"));
    let [assumed] = &aws.assumed()[..] else { panic!("one role is assumed once") };
    assert_eq!((assumed.external_id.as_deref(), assumed.seconds), (Some("id-1"), Some(900)));
    assert_eq!(assumed.session_name, "aws-vsts-tools", "trust policies may ask for the task's name");
    // The session name can be said, and the keys may be a session's.
    let mut command = push(&aws, &["--tag", "2"]);
    command.env("AWS_ACCESSKEYID", "AKIATASK").env("AWS_SECRETACCESSKEY", SECRET_KEY).env("AWS_ASSUMEROLEARN", ROLE);
    command.env("AWS_ROLESESSIONNAME", "mine");
    aws.finish(command).succeeds();
    assert_eq!(aws.assumed()[1].session_name, "mine");
}

#[test]
fn half_a_pair_of_keys_is_reported() {
    let aws = FakeAws::of("eu-west-1");
    for (set, missing) in [
        ("AWS_ACCESSKEYID", "AWS_SECRETACCESSKEY"),
        ("AWS_SECRETACCESSKEY", "AWS_ACCESSKEYID"),
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
    ] {
        let mut command = push(&aws, &[]);
        command.env(set, SECRET_KEY);
        aws.finish(command).fails_with(2).stderr_has(&[&format!("{set} is set and {missing} is not"), "hint: "]);
    }
    let mut command = push(&aws, &[]);
    command.env("AWS_ACCESSKEYID", "$(AWS.AccessKeyID)").env("AWS_SECRETACCESSKEY", SECRET_KEY);
    aws.finish(command)
        .fails_with(2)
        .stderr_has(&["AWS_ACCESSKEYID contains $(AWS.AccessKeyID): a variable was not expanded"]);
    assert_eq!(aws.log().len(), 0);
}

#[test]
fn settings_that_aws_s_own_tools_know_otherwise_do_no_harm() {
    let aws = FakeAws::of("eu-west-1");
    for (variable, value) in [
        // The mode that other tools have by default, and what is no number.
        ("AWS_RETRY_MODE", "legacy"),
        ("AWS_RETRY_MODE", ""),
        ("AWS_MAX_ATTEMPTS", ""),
        ("AWS_MAX_ATTEMPTS", "0"),
        ("AWS_MAX_ATTEMPTS", "many"),
        // As files and variables of pipelines hold them.
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE\n"),
        ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY\r\n"),
    ] {
        let mut command = push(&aws, &[]);
        keys(&mut command);
        command.env(variable, value);
        arrives(&aws, command, "the environment");
    }
    assert!(aws.keys().iter().all(|key| key == ACCESS_KEY), "{:?}", aws.keys());
    // Also in a profile that assumes a role.
    let text = format!(
        "[profile p]\nretry_mode = legacy\nrole_arn = {ROLE}\nsource_profile = base\n{}",
        profile("base", "AKIA")
    );
    let command = configured(&aws, push(&aws, &["--profile", "p"]), &text);
    arrives(&aws, command, "the profile p (--profile)");
}

#[test]
fn invalid_settings_are_reported() {
    let aws = FakeAws::of("eu-west-1");
    let mut command = push(&aws, &[]);
    keys(&mut command);
    command.env("AWS_ENDPOINT_URL_ECR", "");
    let run = aws.finish(command).fails_with(2).stderr_has(&["AWS_ENDPOINT_URL_ECR is empty"]);
    run.stderr_has(&["hint: Unset it"]);
    for (variable, odd) in [("AWS_ACCESS_KEY_ID", "AKIA\nEXAMPLE"), ("AWS_SESSION_TOKEN", "t\u{f6}ken")] {
        let mut command = push(&aws, &[]);
        keys(&mut command);
        command.env(variable, odd);
        let run = aws.finish(command).fails_with(3).stderr_has(&["cannot get AWS credentials from the environment"]);
        run.stderr_has(&["has invalid characters"]).output_has_none(&[odd]);
    }
    assert_eq!(aws.log().len(), 0);
}

#[test]
fn profiles_of_every_kind() {
    let process = r#"{"Version": 1, "AccessKeyId": "AKIAPROCESS", "SecretAccessKey": "s"}"#;
    let base = profile("base", "AKIABASE");
    for (text, key, request) in [
        (format!("[profile p]\nrole_arn = {ROLE}\nsource_profile = base\n{base}"), "ASIA", "  sts:AssumeRole, "),
        (format!("[profile p]\ncredential_process = echo '{process}'\n"), "AKIAPROCESS", "  sts:GetCallerIdentity, "),
        (
            "[profile p]\nsso_session = s\nsso_account_id = 000000000000\nsso_role_name = r\n\
             [sso-session s]\nsso_region = eu-west-1\nsso_start_url = https://d-1.awsapps.com/start\n"
                .to_owned(),
            "ASIA",
            "  https://portal.sso.eu-west-1.amazonaws.com/federation/credentials",
        ),
    ] {
        let aws = FakeAws::of("eu-west-1");
        let mut command = configured(&aws, push(&aws, &[]), &text);
        command.env("AWS_PROFILE", "p");
        // Where `aws sso login` leaves it: the name is the SHA-1 of the session's.
        let cache = aws.ecr.env.home().join(".aws/sso/cache");
        std::fs::create_dir_all(&cache).unwrap();
        let token = r#"{"accessToken": "sso-token", "expiresAt": "2999-01-01T00:00:00Z", "region": "eu-west-1"}"#;
        std::fs::write(cache.join("a0f1490a20d0211c997b44bc357e1972deab8ae3.json"), token).unwrap();
        arrives(&aws, command, "the profile p (AWS_PROFILE)").stderr_has(&[request]);
        assert!(aws.keys()[0].starts_with(key), "{:?} for {text}", aws.keys());
    }
}

#[test]
fn a_profile_whose_login_has_ended_says_how_to_log_in() {
    let aws = FakeAws::of("eu-west-1");
    let text = "[profile p]\nsso_session = s\nsso_account_id = 000000000000\nsso_role_name = r\n\
                [sso-session s]\nsso_region = eu-west-1\nsso_start_url = https://d-1.awsapps.com/start\n";
    let command = configured(&aws, push(&aws, &["--profile", "p"]), text);
    aws.finish(command)
        .fails_with(3)
        .stderr_has(&["cannot get AWS credentials from the profile p", "\n  aws sso login --profile p\n"]);
}

#[test]
fn a_web_identity_of_the_environment() {
    let aws = FakeAws::of("eu-west-1");
    let mut command = push(&aws, &[]);
    let file = aws.ecr.env.scratch("token");
    std::fs::write(&file, "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln").unwrap();
    command.env("AWS_WEB_IDENTITY_TOKEN_FILE", file).env("AWS_ROLE_ARN", ROLE).env("AWS_ROLE_SESSION_NAME", "pod");
    arrives(&aws, command, "web identity");
    let assumed = &aws.assumed()[0];
    assert_eq!((assumed.action.as_str(), assumed.session_name.as_str()), ("AssumeRoleWithWebIdentity", "pod"));
}

#[test]
fn the_credentials_of_a_container() {
    let aws = FakeAws::of("eu-west-1");
    let mut command = push(&aws, &[]);
    command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/credentials", aws.url()));
    command.env("HTTP_PROXY", "http://127.0.0.1:1");
    let run = arrives(&aws, command, "the container's credentials");
    run.stderr_has(&["GET   200 ", &format!("  {}/***\n", aws.url())]).output_has_none(&["/credentials\n"]);
    assert_eq!(aws.count("metadata:Container"), 1);
    assert!(aws.keys()[0].starts_with("ASIA"));
}

#[test]
fn the_metadata_of_ec2_knows_region_and_credentials() {
    let aws = FakeAws::of("ap-southeast-2");
    let mut command = aws.command(&[&testdata(ARCHIVE), "team/app:1", "-vv"]);
    command.env_remove("AWS_EC2_METADATA_DISABLED").env("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.url());
    // It is never asked through a proxy.
    command.env("HTTP_PROXY", "http://127.0.0.1:1");
    let run = arrives(&aws, command, "EC2's metadata").stderr_has(&["region ap-southeast-2 from EC2's metadata"]);
    run.stderr_has(&["PUT   200 ", &format!("{}/latest/api/token", aws.url())]);
    assert!(aws.keys()[0].starts_with("ASIA"));
}

#[test]
fn without_credentials_the_error_lists_what_was_tried() {
    let aws = FakeAws::of("eu-west-1");
    let run =
        aws.finish(push(&aws, &[])).fails_with(3).stderr_has(&["no AWS credentials were found", "because: tried"]);
    let run = run.stderr_has(&["the environment: AWS_ACCESS_KEY_ID is not set\n", "the default profile: "]);
    let run = run
        .stderr_has(&["web identity: AWS_WEB_IDENTITY_TOKEN_FILE is not set\n", "the container's credentials: AWS_"]);
    run.stderr_has(&["EC2's metadata: ", "hint: Set AWS_ACCESS_KEY_ID"]);
    assert_eq!(aws.hosts(), [""; 0]);
}

#[test]
fn a_program_that_has_no_credentials_is_quoted_in_one_line() {
    let aws = FakeAws::of("eu-west-1");
    let text = "[profile p]\ncredential_process = sh -c 'echo not today >&2; exit 3'\n";
    let command = configured(&aws, push(&aws, &["--profile", "p"]), text);
    aws.finish(command).fails_with(3).stderr_has(&["Stderr: not today\n  hint: "]);
}

#[test]
fn credentials_that_end_during_a_push_are_renewed() {
    let rules = Rules { session_lifetime: Some(std::time::Duration::from_secs(2)), ..Rules::default() };
    let aws = FakeAws::with("eu-west-1", rules);
    // The login ends while layers go out, and by then the role's credentials have ended, too.
    aws.set_rules(|rules| {
        rules.faults.push(ecr_push::sandbox::Fault::once(
            "ecr:InitiateLayerUpload",
            ecr_push::sandbox::Trouble::Delay(std::time::Duration::from_millis(2100)),
        ));
        rules
            .faults
            .push(ecr_push::sandbox::Fault::once("ecr:CompleteLayerUpload", ecr_push::sandbox::Trouble::ExpireTokens));
    });
    let mut command = push(&aws, &["--role-arn", ROLE, "--concurrency", "1"]);
    keys(&mut command);
    arrives(&aws, command, &format!("the environment, then the role {ROLE}"));
    assert!(aws.assumed().len() >= 2, "{:?}", aws.assumed());
    let used = aws.keys();
    assert!(used.len() >= 2 && used.first() != used.last(), "{used:?}");
}
