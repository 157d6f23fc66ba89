//! Endpoints of AWS that cannot be used as they are named: silent ones, custom ones, those of no region; and creations that
//! are not allowed.

use std::net::{Ipv4Addr, SocketAddr};

use ecr_push::sandbox::{Asks, Options, Rules};

use super::credentials::{ARCHIVE, host, keys, push};
use super::ecr::Ecr;
use super::fake_aws::{ACCOUNT, FakeAws};
use super::harness::testdata;

/// An address at which nothing listens.
const CLOSED: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// A region where hosts with this part in their name give no answer.
fn silent(region: &str, part: &'static str) -> FakeAws {
    let create = vec!["team/app".parse().unwrap()];
    let region = region.to_owned();
    let options = Options { region, any_account: false, any_region: false, create, ..Options::default() };
    FakeAws::around(options, move |name| name.contains(part).then_some(CLOSED))
}

#[test]
fn a_silent_endpoint_names_the_vpc_endpoint_that_it_takes() {
    let aws = silent("eu-west-1", "api.ecr");
    let mut command = push(&aws, &[]);
    keys(&mut command);
    aws.finish(command).fails_with(4).stderr_has(&["the interface endpoint com.amazonaws.eu-west-1.ecr.api."]);
    let ecr = Ecr::new();
    let mut command = ecr.command(&[&testdata(ARCHIVE), "team/app:1", "--retries", "0"]);
    command.env("ECR_PUSH_REGISTRY_ENDPOINT", format!("http://{CLOSED}"));
    ecr.finish(command).fails_with(4).stderr_has(&["the interface endpoint com.amazonaws.us-east-1.ecr.dkr."]);
    let aws = silent("eu-west-1", "sts.");
    let mut command = push(&aws, &["--role-arn", "arn:aws:iam::000000000000:role/pusher"]);
    keys(&mut command);
    aws.finish(command).fails_with(4).stderr_has(&["the interface endpoint com.amazonaws.REGION.sts."]);
}

#[test]
fn a_misspelled_region_that_does_not_answer_is_reported_with_the_likely_one() {
    let aws = silent("eu-wst-1", "eu-wst-1");
    let command = aws.command_of_user(&[&testdata(ARCHIVE), "team/app:1", "--region", "eu-wst-1"]);
    let run =
        aws.finish(command).fails_with(4).stderr_has(&["The region eu-wst-1 is unknown; did you mean eu-west-1?"]);
    run.output_has_none(&["com.amazonaws"]);
    // A region that opens tomorrow works.
    let aws = FakeAws::of("eu-newland-1");
    let command = aws.command_of_user(&[&testdata(ARCHIVE), &format!("{}/team/app:1", host("eu-newland-1"))]);
    aws.finish(command).succeeds().output_has_none(&["is known"]);
}

#[test]
fn a_custom_endpoint_goes_with_a_dual_stack_and_a_fips_host() {
    for name in [
        format!("{ACCOUNT}.dkr-ecr.us-east-1.on.aws"),
        format!("{ACCOUNT}.dkr.ecr-fips.us-east-1.amazonaws.com"),
        format!("{ACCOUNT}.dkr-ecr-fips.us-east-1.on.aws"),
    ] {
        let ecr = Ecr::new();
        ecr.run(&[&testdata(ARCHIVE), &format!("{name}/team/app:1")]).succeeds();
        assert_eq!(ecr.count("ecr:GetAuthorizationToken"), 1);
    }
    let ecr = Ecr::with(&["sandbox/app"], Rules { asks: Asks::EcrPublic, ..Rules::default() });
    let mut command = ecr.command(&[&testdata(ARCHIVE), "ecr-public.aws.com/sandbox/app:1"]);
    command.env_remove("AWS_ENDPOINT_URL_ECR").env("AWS_ENDPOINT_URL_ECR_PUBLIC", ecr.url());
    ecr.finish(command).succeeds();
    // The environment may prefer them, too.
    let ecr = Ecr::new();
    let mut command = ecr.command(&[&testdata(ARCHIVE), "team/app:1"]);
    command.env("AWS_USE_DUALSTACK_ENDPOINT", "true");
    ecr.finish(command).succeeds();
}

#[test]
fn a_creation_that_is_not_allowed_is_what_fails_the_push() {
    let deny = ["ecr:DescribeRepositories", "ecr:CreateRepository"].map(str::to_owned).to_vec();
    let ecr = Ecr::with(&[], Rules { deny, ..Rules::default() });
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--create-repository", "--reuse", "off"]).fails_with(3);
    let run = run.stderr_has(&[
        "error: cannot create the repository team/app",
        "not authorized to perform: ecr:CreateRepository",
    ]);
    let run = run
        .stderr_has(&["hint: Allow the action ecr:CreateRepository on ", "\n  ecr-push policy --create-repository "]);
    run.output_has_none(&["hint: Create it"]);
    // Where the registry hangs up instead of an answer, too.
    ecr.set_rules(|rules| rules.absent_repository = ecr_push::sandbox::Absent::HangUp);
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--create-repository", "--reuse", "off", "--retries", "0"]);
    run.fails_with(3).stderr_has(&["not authorized to perform: ecr:CreateRepository"]);
    // The repository is there: nothing fails.
    let deny = ["ecr:DescribeRepositories", "ecr:CreateRepository"].map(str::to_owned).to_vec();
    let ecr = Ecr::with(&["team/app"], Rules { deny, ..Rules::default() });
    ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--create-repository", "--reuse", "off"]).succeeds();
}
