//! Regions and hosts: which registry is meant, which endpoints are asked, over which lines.

use super::credentials::{ARCHIVE, configured, host, keys, profile, push};
use super::fake_aws::{ACCOUNT, FakeAws};
use super::harness::{SOON, testdata};

#[test]
fn every_form_of_host_is_asked_with_its_own_endpoints() {
    for (region, host, api) in [
        ("eu-west-1", "dkr.ecr.eu-west-1.amazonaws.com", "api.ecr.eu-west-1.amazonaws.com"),
        ("cn-north-1", "dkr.ecr.cn-north-1.amazonaws.com.cn", "api.ecr.cn-north-1.amazonaws.com.cn"),
        ("us-gov-west-1", "dkr.ecr.us-gov-west-1.amazonaws.com", "api.ecr.us-gov-west-1.amazonaws.com"),
        ("eusc-de-east-1", "dkr.ecr.eusc-de-east-1.amazonaws.eu", "api.ecr.eusc-de-east-1.amazonaws.eu"),
        ("us-iso-east-1", "dkr.ecr.us-iso-east-1.c2s.ic.gov", "api.ecr.us-iso-east-1.c2s.ic.gov"),
        ("us-isob-east-1", "dkr.ecr.us-isob-east-1.sc2s.sgov.gov", "api.ecr.us-isob-east-1.sc2s.sgov.gov"),
        ("eu-isoe-west-1", "dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk", "api.ecr.eu-isoe-west-1.cloud.adc-e.uk"),
        ("us-isof-south-1", "dkr.ecr.us-isof-south-1.csp.hci.ic.gov", "api.ecr.us-isof-south-1.csp.hci.ic.gov"),
        ("us-east-2", "dkr.ecr-fips.us-east-2.amazonaws.com", "api.ecr-fips.us-east-2.amazonaws.com"),
        ("us-east-2", "dkr-ecr.us-east-2.on.aws", "ecr.us-east-2.api.aws"),
        ("us-east-2", "dkr-ecr-fips.us-east-2.on.aws", "ecr-fips.us-east-2.api.aws"),
        ("cn-north-1", "dkr-ecr.cn-north-1.on.amazonwebservices.com.cn", "ecr.cn-north-1.api.amazonwebservices.com.cn"),
        ("mars-north-7", "dkr.ecr.mars-north-7.amazonaws.com", "api.ecr.mars-north-7.amazonaws.com"),
    ] {
        let aws = FakeAws::of(region);
        let target = format!("{ACCOUNT}.{host}/team/app:1");
        let command = aws.command_of_user(&[&testdata(ARCHIVE), &target]);
        let run = aws.finish(command).succeeds();
        assert!(run.stdout.starts_with(&format!("{ACCOUNT}.{host}/team/app:1@sha256:")), "{}", run.stdout);
        assert_eq!(aws.hosts(), [format!("{ACCOUNT}.{host}:443"), format!("{api}:443")], "{host}");
    }
}

#[test]
fn a_target_without_a_host_is_in_the_region_that_is_named_first() {
    for (options, variables, region, from) in [
        (&["--region", "eu_central_1"][..], &[("AWS_REGION", "x-y")][..], "eu-central-1", "the command line"),
        (&[], &[("AWS_REGION", "sa-east-1"), ("AWS_DEFAULT_REGION", "x-y")], "sa-east-1", "AWS_REGION"),
        (&[], &[("AWS_REGION", ""), ("AWS_DEFAULT_REGION", "me_south_1")], "me-south-1", "AWS_DEFAULT_REGION"),
        (&[], &[("AWS_PROFILE", "p")], "il-central-1", "the profile"),
        (&["--profile", "p"], &[("AWS_PROFILE", "default")], "il-central-1", "the profile"),
    ] {
        let aws = FakeAws::of(region);
        let text = format!("[profile p]\nregion = il-central-1\n{}", &profile("p", "AKIAPROFILE")[12..]);
        let command = aws.command_of_user(&[&[testdata(ARCHIVE).as_str(), "team/app:1", "-vv"], options].concat());
        let mut command = configured(&aws, command, &text);
        command.envs(variables.iter().copied());
        let run = aws.finish(command).succeeds().stderr_has(&[&format!("region {region} from {from}")]);
        assert!(run.stdout.starts_with(&format!("{}/team/app:1@", host(region))), "{}", run.stdout);
        let api = format!("api.ecr.{region}.amazonaws.com:443");
        assert!(aws.hosts().contains(&api), "{:?}", aws.hosts());
    }
}

#[test]
fn the_settings_for_endpoints_choose_the_registry_s_host_too() {
    for (fips, dual_stack, host, api) in [
        ("true", "false", "dkr.ecr-fips.us-east-1.amazonaws.com", "api.ecr-fips.us-east-1.amazonaws.com"),
        ("false", "true", "dkr-ecr.us-east-1.on.aws", "ecr.us-east-1.api.aws"),
        ("true", "true", "dkr-ecr-fips.us-east-1.on.aws", "ecr-fips.us-east-1.api.aws"),
    ] {
        let aws = FakeAws::of("us-east-1");
        let mut command = aws.command_of_user(&[&testdata(ARCHIVE), "team/app:1", "--region", "us-east-1"]);
        command.env("AWS_USE_FIPS_ENDPOINT", fips).env("AWS_USE_DUALSTACK_ENDPOINT", dual_stack);
        aws.finish(command).succeeds();
        assert_eq!(aws.hosts(), [format!("{ACCOUNT}.{host}:443"), format!("{api}:443")]);
    }
}

#[test]
fn a_region_that_contradicts_the_host_is_refused() {
    let aws = FakeAws::of("eu-west-1");
    let mut command = push(&aws, &["--region", "eu-west-2"]);
    keys(&mut command);
    aws.finish(command).fails_with(2).stderr_has(&["is in region eu-west-1, but --region is eu-west-2"]);
}

#[test]
fn a_host_that_only_looks_like_ecr_s_gets_no_credentials() {
    for host in
        ["000000000000.dkr.ecr.eu-west-1.amazonaws.com.example.org", "000000000000.dkr.ecr.eu-west-1.amazonaws.org"]
    {
        let aws = FakeAws::of("eu-west-1");
        let command = aws.command_of_user(&[&testdata(ARCHIVE), &format!("{host}/team/app:1")]);
        aws.finish(command).fails_with(3);
        assert_eq!(aws.hosts(), [format!("{host}:443")]);
        assert!(aws.log().iter().all(|entry| !entry.authorized));
    }
}

#[test]
fn another_account_s_registry_by_its_number() {
    let aws = FakeAws::of("eu-west-1");
    let archive = testdata(ARCHIVE);
    let command = |target: &str, options: &[&str]| {
        let mut command = aws.command_of_user(&[&[archive.as_str(), target], options].concat());
        command.env("AWS_REGION", "eu-west-1");
        command
    };
    // The sandbox takes every host for its own.
    let run = aws.finish(command("team/app:1", &["--registry-id", "111111111111"])).succeeds();
    assert!(run.stdout.starts_with("111111111111.dkr.ecr.eu-west-1.amazonaws.com/team/app:1@"), "{}", run.stdout);
    assert!(aws.hosts().contains(&"111111111111.dkr.ecr.eu-west-1.amazonaws.com:443".to_owned()));
    let contradiction = command(&format!("{}/team/app:1", host("eu-west-1")), &["--registry-id", "111111111111"]);
    aws.finish(contradiction).fails_with(2).stderr_has(&["--registry-id 111111111111 contradicts"]);
    let no_account = command("team/app:1", &["--registry-id", "12"]);
    aws.finish(no_account).fails_with(2).stderr_has(&["is not an AWS account ID of twelve digits"]);
    // Beside targets that it is not for, it is for the one that it is for.
    let here = format!("{}/team/app:2", host("eu-west-1"));
    let run = aws.finish(command("team/app:1", &[&here, "--registry-id", "111111111111"])).succeeds();
    assert_eq!(run.stdout.lines().count(), 2);
}

#[test]
fn a_vpc_endpoint_does_not_say_whose_registry_is_meant() {
    let aws = FakeAws::of("eu-west-1");
    let endpoint = "vpce-0a1b2c3d-xyz.dkr.ecr.eu-west-1.vpce.amazonaws.com";
    let target = format!("{endpoint}/team/app:1");
    let command = aws.command_of_user(&[&testdata(ARCHIVE), &target]);
    aws.finish(command).fails_with(2).stderr_has(&["is a VPC endpoint", "--registry-id ACCOUNT"]);
    // With the account it is that registry, under its own name. Where the endpoint's name leads is looked up by a name
    // server, which is left out here.
    let mut command = aws.command_of_user(&[&testdata(ARCHIVE), &target, "--registry-id", ACCOUNT, "-vv"]);
    command.env("ECR_PUSH_REGISTRY_ENDPOINT", aws.url());
    let run = aws.finish(command).succeeds().stderr_has(&["region eu-west-1 from the host"]);
    assert!(run.stdout.starts_with(&format!("{}/team/app:1@sha256:", host("eu-west-1"))), "{}", run.stdout);
    assert_eq!(aws.hosts(), ["api.ecr.eu-west-1.amazonaws.com:443", "sts.eu-west-1.amazonaws.com:443"]);
}

#[test]
fn aws_without_the_company_s_certificates_is_not_trusted() {
    let aws = FakeAws::of("eu-west-1");
    let mut command = push(&aws, &[]);
    keys(&mut command);
    command.env_remove("AWS_CA_BUNDLE");
    aws.finish(command).fails_with(1).stderr_has(&[
        "the certificate of the ECR API in eu-west-1",
        "its issuer",
        "--ca-file FILE",
    ]);
    // Any of the three ways will do.
    let ca = aws.ecr.env.scratch("ca.pem");
    let mut command = push(&aws, &["--ca-file", &ca]);
    keys(&mut command);
    command.env_remove("AWS_CA_BUNDLE");
    aws.finish(command).succeeds();
    let mut command = push(&aws, &["--tag", "2"]);
    keys(&mut command);
    command.env_remove("AWS_CA_BUNDLE").env("SSL_CERT_FILE", &ca);
    aws.finish(command).succeeds();
}

#[test]
fn what_no_proxy_names_is_asked_directly() {
    let aws = FakeAws::of("us-east-1");
    // AWS's API, and a proxy at which nothing listens. What is on this machine is not asked over it.
    let run = |endpoint: &str, no_proxy: &str| {
        let mut command = aws.command_of_user(&[&testdata(ARCHIVE), "team/app:1", "--region", "us-east-1"]);
        command.env("AWS_ENDPOINT_URL_ECR", endpoint).env("ECR_PUSH_REGISTRY_ENDPOINT", aws.url());
        command.env_remove("AWS_CA_BUNDLE").env("HTTP_PROXY", "http://127.0.0.1:1").env("NO_PROXY", no_proxy);
        aws.finish(command)
    };
    run("http://api.invalid", "example.org")
        .fails_with(4)
        .stderr_has(&["cannot connect to the proxy 127.0.0.1:1 (HTTP_PROXY)", "refused"]);
    run("http://api.invalid", "example.org, *.invalid").fails_with(4).output_has_none(&["refused"]);
    run(&aws.url(), "example.org").succeeds();
    // A registry: then its name is looked up here, and does not exist.
    let target = "registry.invalid/team/app:1";
    let run = |no_proxy: &str| {
        let mut command = aws.command(&[&testdata(ARCHIVE), target, "--retries", "0"]);
        command.env("NO_PROXY", no_proxy);
        aws.finish(command)
    };
    run(".invalid").fails_with(4).stderr_has(&["registry.invalid"]);
    assert_eq!(aws.hosts(), [""; 0]);
    run("other.invalid");
    assert_eq!(aws.hosts(), ["registry.invalid:443"]);
}

#[test]
fn without_a_route_and_without_credentials_the_push_fails_soon() {
    let aws = FakeAws::of("eu-west-1");
    // Takes the connection and never answers, as a container sees EC2's metadata that is one hop too far.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for target in [format!("{}/team/app:1", host("eu-west-1")), "team/app:1".into()] {
        let mut command = aws.ecr.env.command(&[&testdata(ARCHIVE), &target]);
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        command.env_remove("AWS_EC2_METADATA_DISABLED").env("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint);
        let began = std::time::Instant::now();
        let code = if target.contains('.') { 3 } else { 2 };
        aws.finish(command).exits_with(code).stderr_has(&["EC2's metadata", "hint: "]);
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    }
}
