//! Logins that AWS gives: one for a region, renewed when it is refused, docker's where there are no AWS credentials. And ECR
//! Public, which has a token service.

use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ecr_push::sandbox::{Asks, CreationTemplate, Fault, Rules, Trouble};

use super::archive_contents::Source;
use super::ecr::{Ecr, HOST, SECRET_KEY, status};
use super::harness::{report, testdata};
use super::stored_image::StoredImage;

const ARCHIVE: &str = "docker-20.10-save.tar";
const PUBLIC: &str = "public.ecr.aws/sandbox/app:1";

#[test]
fn targets_of_one_region_share_a_login() {
    let ecr = Ecr::with(&["team/app", "team/other"], Rules::default());
    let named = format!("{HOST}/team/other:1");
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1", &named, "team/app:2"]).succeeds();
    assert_eq!(run.digests().len(), 3);
    assert_eq!(ecr.count("ecr:GetAuthorizationToken"), 1);
    // Also when it is renewed.
    let ecr = Ecr::with(&["team/app", "team/other"], Rules::default());
    ecr.set_rules(|rules| rules.faults = vec![Fault::once("ecr:CompleteLayerUpload", Trouble::ExpireTokens)]);
    ecr.run(&[&testdata(ARCHIVE), "team/app:1", &named]).succeeds();
    assert_eq!(ecr.count("ecr:GetAuthorizationToken"), 2);
}

/// The program without AWS credentials, but with what `aws ecr get-login-password | docker login` left behind.
fn with_docker_login(ecr: &Ecr, password: &str, arguments: &[&str]) -> Command {
    let login = BASE64_STANDARD.encode(format!("AWS:{password}"));
    let folder = ecr.env.home().join(".docker");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.json"), format!(r#"{{"auths": {{"{HOST}": {{"auth": "{login}"}}}}}}"#)).unwrap();
    let mut command = ecr.env.command(arguments);
    command.env("AWS_ENDPOINT_URL_ECR", ecr.url()).env("ECR_PUSH_REGISTRY_ENDPOINT", ecr.url());
    command
}

#[test]
fn a_docker_login_is_used_without_aws_credentials() {
    let ecr = Ecr::new();
    let (archive, target) = (testdata(ARCHIVE), format!("{HOST}/team/app:1"));
    let token = ecr.token();
    let command = with_docker_login(&ecr, &token, &[&archive, &target, "-vv"]);
    let run = ecr.finish(command).succeeds().stderr_has(&[&format!("{HOST} gets the login of AWS in "), "config.json"]);
    run.output_has_none(&[&token]);
    StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&archive, 0));
    assert_eq!(ecr.count("ecr:GetAuthorizationToken"), 0);
    // It says how to renew one that has expired, once.
    ecr.expire_tokens();
    let asked = ecr.log().len();
    let command = with_docker_login(&ecr, &token, &[&archive, &format!("{HOST}/team/app:2")]);
    let run = ecr.finish(command).fails_with(3).stdout_is("");
    let words =
        ["error: the login of AWS in ", &format!("for {HOST} has expired"), "Your authorization token has expired"];
    let run = run.stderr_has(&words).stderr_has(&[&format!(
        "hint: Use AWS credentials, which renew it automatically, or renew it:\n  \
         aws ecr get-login-password --region us-east-1 | docker login --username AWS --password-stdin {HOST}\n"
    )]);
    run.output_has_none(&[&token]);
    assert!(ecr.log().len() - asked <= 2, "{}", ecr.story());
    // It creates nothing.
    let command =
        with_docker_login(&ecr, &ecr.token(), &[&archive, &format!("{HOST}/team/new:1"), "--create-repository"]);
    let words =
        ["the repository team/new does not exist", "a docker login cannot create it", "\n  aws ecr create-repository"];
    ecr.finish(command).fails_with(1).stderr_has(&words);
}

#[test]
fn a_template_creates_the_repository_for_a_docker_login_too() {
    for (prefix, code) in [("team", 0), ("other", 1)] {
        let rules = Rules { templates: vec![CreationTemplate::on_push(prefix)], ..Rules::default() };
        let ecr = Ecr::with(&[], rules);
        let (archive, target) = (testdata(ARCHIVE), format!("{HOST}/team/new:1"));
        let command = with_docker_login(&ecr, &ecr.token(), &[&archive, &target, "--dry-run"]);
        ecr.finish(command).succeeds();
        let command = with_docker_login(&ecr, &ecr.token(), &[&archive, &target]);
        let run = ecr
            .finish(command)
            .exits_with(code)
            .stderr_has(&["was not checked: a docker login has no access to ECR's API"]);
        if code == 0 {
            run
        } else {
            run.stderr_has(&["a docker login cannot create it", "hint: Use AWS credentials"])
        };
        assert_eq!(ecr.image("team/new", "1").is_some(), code == 0);
    }
}

#[test]
fn what_a_docker_login_cannot_do_is_reported() {
    let ecr = Ecr::new();
    let options = ["--create-repository", "--reuse", "off"];
    let target = format!("{HOST}/team/app:1");
    let command =
        with_docker_login(&ecr, &ecr.token(), &[&[testdata(ARCHIVE).as_str(), &target], &options[..]].concat());
    ecr.finish(command).succeeds().stderr_has(&["exists was not checked, and a docker login cannot create it"]);
    // All the rest it can.
    let again = [testdata(ARCHIVE), target];
    for (how, code, words) in [("fail", 1, "existing tags are not allowed"), ("skip", 0, ""), ("same-ok", 0, "")] {
        let command = with_docker_login(&ecr, &ecr.token(), &[&again[0], &again[1], "--if-exists", how]);
        ecr.finish(command).exits_with(code).stderr_has(&[words]);
    }
    // In ECR Public there are no templates.
    let ecr = public(&[]);
    for more in [&[][..], &["--create-repository"]] {
        let mut command =
            with_docker_login(&ecr, &ecr.token(), &[&[testdata(ARCHIVE).as_str(), PUBLIC], more].concat());
        let config = std::fs::read_to_string(ecr.env.home().join(".docker/config.json")).unwrap();
        std::fs::write(ecr.env.home().join(".docker/config.json"), config.replace(HOST, "public.ecr.aws")).unwrap();
        command.env("AWS_ENDPOINT_URL_ECR_PUBLIC", ecr.url());
        let run = ecr
            .finish(command)
            .fails_with(1)
            .stderr_has(&["the repository sandbox/app does not exist in public.ecr.aws, and a"]);
        run.stderr_has(&["aws ecr-public create-repository --repository-name app --region us-east-1"]);
        assert_eq!(ecr.count("ecr:InitiateLayerUpload"), 0);
    }
}

#[test]
fn a_docker_login_is_left_alone_where_there_are_aws_credentials() {
    let ecr = Ecr::new();
    let (archive, target) = (testdata(ARCHIVE), format!("{HOST}/team/app:1"));
    let mut command = with_docker_login(&ecr, "of no use", &[&archive, &target]);
    command.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    ecr.finish(command).succeeds();
    // Nor where there are some that do not work.
    ecr.set_rules(|rules| {
        let expired = status(400, "ExpiredTokenException", "The security token included in the request is expired");
        rules.faults = vec![Fault::once("ecr:GetAuthorizationToken", expired).times(9)];
    });
    let mut command = with_docker_login(&ecr, &ecr.token(), &[&archive, &target]);
    command.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    ecr.finish(command).fails_with(3).stderr_has(&["ExpiredTokenException"]);
}

#[test]
fn without_any_login_aws_s_are_asked_for() {
    let ecr = Ecr::new();
    let mut command = ecr.env.command(&[&testdata(ARCHIVE), &format!("{HOST}/team/app:1")]);
    command.env("AWS_ENDPOINT_URL_ECR", ecr.url()).env("ECR_PUSH_REGISTRY_ENDPOINT", ecr.url());
    ecr.finish(command).fails_with(3).stderr_has(&["no AWS credentials were found", "hint: Set AWS_ACCESS_KEY_ID"]);
    // Also where docker's cannot be read.
    let mut command = with_docker_login(&ecr, "", &[&testdata(ARCHIVE), &format!("{HOST}/team/app:1")]);
    std::fs::write(ecr.env.scratch("auth.json"), "{").unwrap();
    std::fs::write(ecr.env.home().join(".docker/config.json"), r#"{"credsStore": "nobodys"}"#).unwrap();
    command.env("REGISTRY_AUTH_FILE", ecr.env.scratch("auth.json"));
    let run = ecr
        .finish(command)
        .fails_with(3)
        .stderr_has(&["warning: cannot read the credentials in ", "at line 1, column 1"]);
    run.stderr_has(&["error: no AWS credentials were found"]);
    assert_eq!(ecr.log(), []);
}

/// A sandbox that is ECR Public, and the program configured for it.
fn public(repositories: &[&str]) -> Ecr {
    Ecr::with(repositories, Rules { asks: Asks::EcrPublic, ..Rules::default() })
}

fn command(ecr: &Ecr, arguments: &[&str]) -> Command {
    let archive = testdata(ARCHIVE);
    let mut command = ecr.command(&[&[archive.as_str()], arguments].concat());
    // Its region does not matter to the user.
    command.env_remove("AWS_ENDPOINT_URL_ECR").env("AWS_REGION", "eu-west-3");
    command.env("AWS_ENDPOINT_URL_ECR_PUBLIC", ecr.url());
    command
}

#[test]
fn ecr_public_gives_a_token_for_a_token() {
    let ecr = public(&["sandbox/app"]);
    let run = ecr.finish(command(&ecr, &[PUBLIC, "-vv"])).succeeds();
    let login = "\nlogged in to ECR Public by GetAuthorizationToken, valid for 11 h 59 min\n";
    let run = run.stderr_has(&[
        login,
        " ecr-public:GetAuthorizationToken",
        " a token for repository:sandbox/app:pull,push aws ",
    ]);
    assert!(run.stdout.starts_with("public.ecr.aws/sandbox/app:1@sha256:"));
    StoredImage::of_sandbox(&ecr, "sandbox/app", "1").is(&Source::read(&testdata(ARCHIVE), 0));
    assert_eq!((ecr.count("ecr-public:GetAuthorizationToken"), ecr.count("v2:Token")), (1, 1));
    // A password is not shown to the registry, which says 400 to it, and `aws` is asked for as well.
    assert!(ecr.log().iter().all(|entry| entry.status != 400), "{}", ecr.story());
    let token = ecr.asked("v2:Token").remove(0);
    assert!(token.authorized && token.path.starts_with("/token/?service=public.ecr.aws&scope="), "{}", token.path);
    assert!(token.path.ends_with("&scope=aws"), "{}", token.path);
}

#[test]
fn ecr_public_does_not_report_its_blobs() {
    let ecr = public(&["sandbox/app"]);
    // An archive that states its digests, which are asked for.
    let archive = testdata("crane-tarball.tar");
    for tokens in [1, 2] {
        let mut command = ecr.env.command(&[&archive, PUBLIC, "--reuse", "cache"]);
        command.env("AWS_ENDPOINT_URL_ECR_PUBLIC", ecr.url()).env("ECR_PUSH_REGISTRY_ENDPOINT", ecr.url());
        command.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        ecr.finish(command).succeeds();
        // No token is renewed for that.
        assert_eq!(ecr.count("v2:Token"), tokens, "{}", ecr.story());
    }
    assert!(ecr.asked("ecr:BatchCheckLayerAvailability").iter().filter(|asked| asked.status == 401).count() >= 4);
    StoredImage::of_sandbox(&ecr, "sandbox/app", "1").is(&Source::read(&archive, 0));
}

#[test]
fn ecr_public_s_tokens_end_too() {
    let ecr = public(&["sandbox/app"]);
    // Both: what its API gave, and what that was good for.
    ecr.set_rules(|rules| rules.faults = vec![Fault::once("ecr:CompleteLayerUpload", Trouble::ExpireTokens)]);
    ecr.finish(command(&ecr, &[PUBLIC, "--retries", "0"])).succeeds();
    StoredImage::of_sandbox(&ecr, "sandbox/app", "1").is(&Source::read(&testdata(ARCHIVE), 0));
    assert_eq!(ecr.count("ecr-public:GetAuthorizationToken"), 2, "{}", ecr.story());
    assert_eq!(ecr.count("v2:Token"), 3, "the second one was asked for with what had ended");
}

#[test]
fn ecr_public_s_repositories_are_created_by_its_own_api() {
    let ecr = public(&[]);
    let words = ["the repository public.ecr.aws/sandbox/app does not exist", "--create-repository"];
    let run = ecr.finish(command(&ecr, &[PUBLIC])).fails_with(1).stderr_has(&words);
    run.stderr_has(&["aws ecr-public create-repository --repository-name app --region us-east-1"]);
    let written = ecr.env.scratch("report.json");
    for created in [true, false] {
        ecr.finish(command(&ecr, &[PUBLIC, "--create-repository", "--report", &written])).succeeds();
        assert_eq!(report(&written)["targets"][0]["created_repository"], created);
    }
    assert_eq!((ecr.repositories(), ecr.count("ecr-public:CreateRepository")), (vec!["sandbox/app".to_owned()], 1));
    // A caller that may neither read nor create tries with what exists.
    ecr.set_rules(|rules| {
        rules.deny = ["DescribeRepositories", "CreateRepository"].map(|it| format!("ecr-public:{it}")).to_vec();
    });
    let run = ecr.finish(command(&ecr, &[PUBLIC, "--create-repository", "--reuse", "off"])).succeeds();
    run.stderr_has(&["ecr-public:DescribeRepositories is not allowed, nor are the permissions to create it"]);
    ecr.set_rules(|rules| rules.deny.clear());
    ecr.finish(command(&ecr, &["public.ecr.aws/app:1"]))
        .fails_with(2)
        .stderr_has(&["cannot be in ECR Public", "\n  aws ecr-public describe-registries --region us-east-1\n"]);
}

#[test]
fn an_alias_of_somebody_else_creates_nothing() {
    let ecr = public(&["sandbox/app"]);
    for more in [&[][..], &["--dry-run"]] {
        let arguments = [&["public.ecr.aws/theirs/tool:1", "--create-repository"], more].concat();
        let run = ecr.finish(command(&ecr, &arguments)).fails_with(1);
        let run =
            run.stderr_has(&["cannot create the repository tool: theirs is not an alias of the caller's registry"]);
        let run = run.stderr_has(&["the aliases of the caller's registry are sandbox"]);
        run.stderr_has(&["\n  aws ecr-public describe-registries --region us-east-1\n"]);
    }
    // A caller that may not read the owner of the alias creates nothing either.
    ecr.set_rules(|rules| rules.deny = vec!["ecr-public:DescribeRegistries".into()]);
    let run = ecr.finish(command(&ecr, &["public.ecr.aws/theirs/tool:1", "--create-repository"])).fails_with(3);
    run.stderr_has(&["ecr-public:DescribeRegistries", "\n  ecr-push policy --create-repository "]);
    assert_eq!((ecr.repositories(), ecr.count("ecr-public:CreateRepository")), (vec!["sandbox/app".to_owned()], 0));
}

#[test]
fn ecr_public_reports_the_permissions_of_a_login() {
    let ecr = public(&["sandbox/app"]);
    ecr.set_rules(|rules| rules.deny = vec!["ecr-public:GetAuthorizationToken".into()]);
    let run =
        ecr.finish(command(&ecr, &[PUBLIC])).fails_with(3).stderr_has(&["error: cannot log in to Amazon ECR Public"]);
    run.stderr_has(&["hint: Allow the actions ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken on *"]);
    assert_eq!(ecr.count("ecr-public:GetAuthorizationToken"), 1);
}

#[test]
fn ecr_public_in_the_sandbox_of_the_program() {
    let ecr = Ecr::empty();
    let archive = testdata(ARCHIVE);
    let mut command = ecr.env.command(&["--sandbox", &archive, PUBLIC, "team/app:1"]);
    command.env("AWS_ACCESS_KEY_ID", "of no use");
    ecr.finish(command).succeeds().stderr_has(&["read back public.ecr.aws/sandbox/app:1@sha256:"]);
}
