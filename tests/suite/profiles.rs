//! Profiles: what is used of one that is named, and what is said of one that cannot be used.

use super::credentials::{ARCHIVE, configured, profile};
use super::fake_aws::FakeAws;
use super::harness::testdata;
use super::identities::{KEYS, keys};

#[test]
fn a_named_profile_is_never_replaced_by_the_metadata_of_ec2() {
    let aws = FakeAws::of("eu-west-1");
    for (name, variable) in [("typo", "AWS_PROFILE"), ("empty", "AWS_PROFILE"), ("typo", "AWS_DEFAULT_PROFILE")] {
        let mut command = aws.command(&[&testdata(ARCHIVE), "team/app:1", "--region", "eu-west-1"]);
        command.env_remove("AWS_EC2_METADATA_DISABLED").env("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.url());
        let path = aws.ecr.env.scratch("config");
        std::fs::write(&path, "[profile empty]\nregion = eu-west-1\n").unwrap();
        command.env("AWS_CONFIG_FILE", &path).env(variable, name);
        let run =
            aws.finish(command).fails_with(3).stderr_has(&[&format!("cannot use the profile {name} ({variable})\n")]);
        if name == "typo" {
            run.stderr_has(&[&format!("it is not defined in {path}, nor in /dev/null"), "aws configure list-profiles"]);
        }
    }
    assert_eq!(aws.log().len(), 0, "{}", aws.story());
}

#[test]
fn a_default_profile_that_is_wrong_is_never_replaced_by_the_metadata_of_ec2() {
    let aws = FakeAws::of("eu-west-1");
    let mut command = aws.command(&[&testdata(ARCHIVE), "team/app:1", "--region", "eu-west-1"]);
    command.env_remove("AWS_EC2_METADATA_DISABLED").env("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.url());
    let path = aws.ecr.env.scratch("config");
    std::fs::write(&path, "[default]\nrole_arn = arn:aws:iam::000000000000:role/r\nsource_profile = typo\n").unwrap();
    command.env("AWS_CONFIG_FILE", &path);
    aws.finish(command).fails_with(3).stderr_has(&["cannot use the default profile", "source profile typo"]);
    assert_eq!(aws.keys(), [""; 0]);
}

#[test]
fn keys_beside_a_named_profile_are_used_with_a_note() {
    let aws = FakeAws::of("eu-west-1");
    let run = |has_keys: bool| {
        let command = aws.command(&[&testdata(ARCHIVE), "team/app:1", "--region", "eu-west-1"]);
        let mut command = configured(&aws, command, &profile("ci", "AKIAPRCI"));
        command.env("AWS_PROFILE", "ci").envs(KEYS.into_iter().filter(|_| has_keys));
        aws.finish(command).succeeds()
    };
    let note = "note: AWS_ACCESS_KEY_ID is set and overrides the credentials of the profile ci (AWS_PROFILE); other settings of it apply\n";
    run(true).stderr_has(&[note]);
    run(false).output_has_none(&["overrides the credentials"]);
}

#[test]
fn web_identity_comes_after_a_role_of_a_profile_and_before_its_keys() {
    let aws = FakeAws::of("eu-west-1");
    let role = "arn:aws:iam::000000000000:role/pod";
    let token = aws.ecr.env.scratch("token");
    std::fs::write(&token, "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln").unwrap();
    let assuming = "role_arn = arn:aws:iam::000000000000:role/profile\nsource_profile = base\n";
    for (variable, section) in [(None, "default"), (Some("AWS_PROFILE"), "profile ci")] {
        for (text, action) in [
            (keys(section, "AKIAPRCI"), "AssumeRoleWithWebIdentity"),
            (format!("[{section}]\n{assuming}{}", keys("profile base", "AKIABASE")), "AssumeRole"),
        ] {
            let mut command = aws.command(&[&testdata(ARCHIVE), "team/app:1", "--region", "eu-west-1"]);
            let path = aws.ecr.env.scratch("config");
            std::fs::write(&path, text).unwrap();
            command.env("AWS_CONFIG_FILE", &path).env("AWS_WEB_IDENTITY_TOKEN_FILE", &token).env("AWS_ROLE_ARN", role);
            command.envs(variable.map(|variable| (variable, "ci")));
            let run = aws.finish(command).succeeds();
            assert_eq!(aws.assumed().last().unwrap().action, action, "{variable:?}");
            let is_noted = run
                .stderr
                .contains("AWS_WEB_IDENTITY_TOKEN_FILE is set and overrides the credentials of the profile ci");
            assert_eq!(is_noted, variable.is_some() && action == "AssumeRoleWithWebIdentity", "{}", run.stderr);
        }
    }
}

#[test]
fn a_named_profile_comes_before_a_token_of_the_ci() {
    let aws = FakeAws::of("eu-west-1");
    let role = "arn:aws:iam::000000000000:role/pusher";
    let run = |options: &[&str]| {
        let command = aws.command(&[&[testdata(ARCHIVE).as_str(), "team/app:1", "--role-arn", role], options].concat());
        let mut command = configured(&aws, command, &profile("ci", "AKIAPRCI"));
        command.env("AWS_PROFILE", "ci").env("AWS_REGION", "eu-west-1");
        command.env("ACTIONS_ID_TOKEN_REQUEST_URL", format!("{}/oidc/github", aws.url()));
        command.env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "job-token");
        aws.finish(command).succeeds()
    };
    run(&[]);
    assert_eq!(aws.assumed().last().unwrap().signed_by.as_deref(), Some("AKIAPRCI"));
    run(&["--oidc", "on"]);
    assert_eq!(aws.assumed().last().unwrap().action, "AssumeRoleWithWebIdentity");
}

#[cfg(unix)]
#[test]
fn a_file_that_is_there_and_cannot_be_used_is_named() {
    let aws = FakeAws::of("eu-west-1");
    let env = &aws.ecr.env;
    let (latin, circle) = (env.scratch("latin"), env.scratch("circle"));
    std::fs::write(&latin, b"[default]\nregion = eu-west-1\n# gr\xfc\xdfe\n").unwrap();
    std::os::unix::fs::symlink(&circle, &circle).unwrap();
    for (variable, path, why) in [
        ("AWS_CONFIG_FILE", &latin, "it is not UTF-8 text"),
        ("AWS_SHARED_CREDENTIALS_FILE", &latin, "it is not UTF-8 text"),
        ("AWS_CONFIG_FILE", &circle, "symbolic links"),
    ] {
        let command = |named: Option<&str>, has_keys: bool| {
            let mut command = aws.command(&[&testdata(ARCHIVE), "team/app:1", "--region", "eu-west-1"]);
            command.env(variable, path).envs(named.map(|name| ("AWS_PROFILE", name)));
            command.envs(KEYS.into_iter().filter(|_| has_keys));
            command
        };
        for (named, has_keys) in [(None, false), (Some("ci"), false), (Some("ci"), true)] {
            let run = aws.finish(command(named, has_keys)).fails_with(3);
            let what = format!("cannot use the AWS configuration file {path}\n");
            run.stderr_has(&[&what, why, &format!("set {variable} to another one")]);
        }
        // No profile is named, and the keys need none.
        let note = format!("note: the AWS configuration file {path} is ignored: ");
        aws.finish(command(None, true)).succeeds().stderr_has(&[&note, why]);
    }
}

#[test]
fn the_certificates_of_a_profile_are_trusted() {
    let aws = FakeAws::of("eu-west-1");
    let path = aws.ecr.env.scratch("config");
    let run = |text: String, bundle: Option<&str>| {
        std::fs::write(&path, text).unwrap();
        let mut command = aws.command_of_user(&[&testdata(ARCHIVE), "team/app:1", "--region", "eu-west-1"]);
        command.env_remove("AWS_CA_BUNDLE").envs(bundle.map(|path| ("AWS_CA_BUNDLE", path)));
        command.env("AWS_CONFIG_FILE", &path).env("AWS_PROFILE", "ci");
        aws.finish(command)
    };
    let ca = aws.ecr.env.scratch("ca.pem");
    run(format!("[profile ci]\nca_bundle = {ca}\n"), None).succeeds();
    // The variable comes first, and another profile's are not trusted.
    run("[profile ci]\nca_bundle = /nowhere.pem\n".into(), Some(&ca)).succeeds();
    run(format!("[profile ci]\nregion = x\n[default]\nca_bundle = {ca}\n"), None)
        .fails_with(1)
        .stderr_has(&["certificate"]);
    run("[profile ci]\nca_bundle = /nowhere.pem\n".into(), None).fails_with(2).stderr_has(&[
        "cannot read the CA file /nowhere.pem",
        "ca_bundle of the profile ci (AWS_PROFILE) must name a file of PEM certificates",
    ]);
}

#[test]
fn a_profile_that_needs_a_code_has_the_command_that_asks_for_it() {
    let aws = FakeAws::of("eu-west-1");
    let path = aws.ecr.env.scratch("config");
    let role = "role_arn = arn:aws:iam::000000000000:role/r\nmfa_serial = arn:aws:iam::000000000000:mfa/me\n";
    let base = keys("profile base", "AKIABASE");
    std::fs::write(&path, format!("[profile ci]\n{role}source_profile = base\n{base}")).unwrap();
    for options in [&["--profile", "ci"][..], &[]] {
        let mut command = aws.command(&[&[testdata(ARCHIVE).as_str(), "team/app:1"], options].concat());
        command.args(["--region", "eu-west-1"]).env("AWS_CONFIG_FILE", &path).env("AWS_PROFILE", "ci");
        aws.finish(command).fails_with(3).stderr_has(&[
            "cannot use the profile ci (",
            "asks for a code of the MFA device arn:aws:iam::000000000000:mfa/me (mfa_serial)",
            "\n  eval \"$(aws configure export-credentials --format env --profile ci)\"\n",
        ]);
    }
    assert_eq!(aws.assumed().len(), 0, "no role is assumed without the code");
}
