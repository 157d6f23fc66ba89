//! Endpoints of AWS that cannot be used as they are named: silent ones, custom ones, those of no region; and creations that
//! are not allowed.

use std::net::{Ipv4Addr, SocketAddr};

use ecr_push::sandbox::{Asks, Options, Rules};

use super::bench::testdata;
use super::cloud::{ACCOUNT, Cloud};
use super::credentials::{ARCHIVE, host, keys, push};
use super::ecr::Ecr;

/// Where nobody listens.
const NOBODY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// A region where hosts with this part in their name give no answer.
fn silent(region: &str, part: &'static str) -> Cloud {
    let create = vec!["team/app".parse().unwrap()];
    let options = Options { region: region.to_owned(), create, ..Options::default() };
    Cloud::around(options, move |name| name.contains(part).then_some(NOBODY))
}

#[test]
fn a_silent_endpoint_names_the_vpc_endpoint_that_it_takes() {
    let cloud = silent("eu-west-1", "api.ecr");
    let mut command = push(&cloud, &[]);
    keys(&mut command);
    drop(cloud.finish(command).exits(4).says(&["the interface endpoint com.amazonaws.eu-west-1.ecr.api."]));
    let ecr = Ecr::new();
    let mut command = ecr.command(&[&testdata(ARCHIVE), "team/app:1", "--retries", "0"]);
    command.env("ECR_PUSH_REGISTRY_ENDPOINT", format!("http://{NOBODY}"));
    drop(ecr.finish(command).exits(4).says(&["the interface endpoint com.amazonaws.us-east-1.ecr.dkr."]));
    let cloud = silent("eu-west-1", "sts.");
    let mut command = push(&cloud, &["--role-arn", "arn:aws:iam::000000000000:role/pusher"]);
    keys(&mut command);
    drop(cloud.finish(command).exits(4).says(&["the interface endpoint com.amazonaws.REGION.sts."]));
}

#[test]
fn a_misspelled_region_that_does_not_answer_is_told_with_the_one_that_is_meant() {
    let cloud = silent("eu-wst-1", "eu-wst-1");
    let command = cloud.command_of_user(&[&testdata(ARCHIVE), "team/app:1", "--region", "eu-wst-1"]);
    let run = cloud.finish(command).exits(4).says(&["No region eu-wst-1 is known: is eu-west-1 meant?"]);
    drop(run.never_says(&["com.amazonaws"]));
    // A region that opens tomorrow works.
    let cloud = Cloud::of("eu-newland-1");
    let command = cloud.command_of_user(&[&testdata(ARCHIVE), &format!("{}/team/app:1", host("eu-newland-1"))]);
    drop(cloud.finish(command).exits(0).never_says(&["is known"]));
}

#[test]
fn a_custom_endpoint_goes_with_a_dual_stack_and_a_fips_host() {
    for name in [
        format!("{ACCOUNT}.dkr-ecr.us-east-1.on.aws"),
        format!("{ACCOUNT}.dkr.ecr-fips.us-east-1.amazonaws.com"),
        format!("{ACCOUNT}.dkr-ecr-fips.us-east-1.on.aws"),
    ] {
        let ecr = Ecr::new();
        drop(ecr.run(&[&testdata(ARCHIVE), &format!("{name}/team/app:1")]).exits(0));
        assert_eq!(ecr.count("ecr:GetAuthorizationToken"), 1);
    }
    let ecr = Ecr::with(&["sandbox/app"], Rules { asks: Asks::EcrPublic, ..Rules::default() });
    let mut command = ecr.command(&[&testdata(ARCHIVE), "ecr-public.aws.com/sandbox/app:1"]);
    command.env_remove("AWS_ENDPOINT_URL_ECR").env("AWS_ENDPOINT_URL_ECR_PUBLIC", ecr.url());
    drop(ecr.finish(command).exits(0));
    // The environment may prefer them, too.
    let ecr = Ecr::new();
    let mut command = ecr.command(&[&testdata(ARCHIVE), "team/app:1"]);
    command.env("AWS_USE_DUALSTACK_ENDPOINT", "true");
    drop(ecr.finish(command).exits(0));
}

#[test]
fn a_creation_that_is_not_allowed_is_what_fails_the_push() {
    let deny = ["ecr:DescribeRepositories", "ecr:CreateRepository"].map(str::to_owned).to_vec();
    let ecr = Ecr::with(&[], Rules { deny, ..Rules::default() });
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--create-repository", "--reuse", "off"]).exits(3);
    let run =
        run.says(&["error: cannot create the repository team/app", "not authorized to perform: ecr:CreateRepository"]);
    let run =
        run.says(&["hint: Allow the action ecr:CreateRepository on ", "\n  ecr-push policy --create-repository "]);
    drop(run.never_says(&["Add --create-repository"]));
    // Where the registry hangs up instead of an answer, too.
    ecr.set_rules(|rules| rules.absent_repository = ecr_push::sandbox::Absent::HangUp);
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--create-repository", "--reuse", "off", "--retries", "0"]);
    drop(run.exits(3).says(&["not authorized to perform: ecr:CreateRepository"]));
    // The repository is there: nothing fails.
    let deny = ["ecr:DescribeRepositories", "ecr:CreateRepository"].map(str::to_owned).to_vec();
    let ecr = Ecr::with(&["team/app"], Rules { deny, ..Rules::default() });
    drop(ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--create-repository", "--reuse", "off"]).exits(0));
}
