//! Sources of credentials that fail: which one it is, why, and what to do. None of them is asked over a proxy.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use ecr_push::sandbox::{Fault, Rules, Trouble};

use super::credentials::{ARCHIVE, configured, keys, profile, push};
use super::ecr::{Ecr, status};
use super::fake_aws::FakeAws;
use super::harness::testdata;

const ROLE: &str = "arn:aws:iam::000000000000:role/pusher";
/// A token with the claims of a pod's service account.
const POD_TOKEN: &str = "e30.eyJpc3MiOiJodHRwczovL29pZGMuZWtzIiwic3ViIjoic3lzdGVtOnNlcnZpY2VhY2NvdW50OmNpOnB1c2hlciIsImF1\
                         ZCI6InN0cy5hbWF6b25hd3MuY29tIn0.c2ln";
const CLAIMS: &str = "iss https://oidc.eks, sub system:serviceaccount:ci:pusher, aud sts.amazonaws.com";

/// A server that gives the same answer to every request, for as long as the test runs.
fn server(status: &str, body: String) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\
         x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\r\n",
        body.len()
    );
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.unwrap(), head.clone() + &body);
            std::thread::spawn(move || {
                read_head(&mut stream);
                stream.write_all(answer.as_bytes()).ok();
            });
        }
    });
    address
}

/// A server that takes connections and answers nothing.
fn silent_server() -> (TcpListener, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

fn read_head(stream: &mut TcpStream) {
    let (mut head, mut some) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut some) {
            Ok(length @ 1..) => head.extend_from_slice(&some[..length]),
            _ => return,
        }
    }
}

/// The text with blanks in front, so that it is `mebibytes` long and still the same JSON or XML.
fn padded(text: &str, mebibytes: usize) -> String {
    " ".repeat(mebibytes << 20) + text
}

/// The variables of a container whose endpoint is at this address.
fn container(command: &mut Command, url: &str) {
    command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", url).env("AWS_CONTAINER_AUTHORIZATION_TOKEN", "job-token");
}

/// The variables of a pod with a service account's token.
fn pod(aws: &FakeAws, command: &mut Command) {
    let file = aws.env.scratch("token");
    std::fs::write(&file, POD_TOKEN).unwrap();
    command.env("AWS_WEB_IDENTITY_TOKEN_FILE", file).env("AWS_ROLE_ARN", ROLE);
}

/// A command whose proxy for plain http takes note of whatever it is asked.
fn proxied(aws: &FakeAws, options: &[&str]) -> Command {
    let mut command = push(aws, options);
    let proxy = command.get_envs().find(|(name, _)| *name == "HTTPS_PROXY").unwrap().1.unwrap().to_owned();
    command.env("HTTP_PROXY", proxy);
    command
}

#[test]
fn a_profile_asks_the_container_s_endpoint_without_a_proxy() {
    let aws = FakeAws::of("eu-west-1");
    let page = aws.env.scratch("timeline.html");
    let mut command = proxied(&aws, &["--profile", "p", "--timeline", &page]);
    container(&mut command, &format!("{}/credentials", aws.url()));
    let text = format!("[profile p]\nrole_arn = {ROLE}\ncredential_source = EcsContainer\n");
    let run = aws.finish(configured(&aws, command, &text)).succeeds().output_has_none(&["/credentials"]);
    run.stderr_has(&["GET   200 ", &format!("  {}/***\n", aws.url())]);
    assert_eq!(aws.count("metadata:Container"), 1);
    assert!(aws.hosts().iter().all(|asked| !asked.contains("/credentials")), "{:?}", aws.hosts());
    assert!(!std::fs::read_to_string(page).unwrap().contains("/credentials"), "the page shows the secret path");
    assert!(aws.assumed()[0].signed_by.as_ref().unwrap().starts_with("ASIA"));
}

#[test]
fn a_secret_path_that_a_profile_leads_to_is_not_shown() {
    let aws = FakeAws::of("eu-west-1");
    let mut command = push(&aws, &["--profile", "p"]);
    container(&mut command, &format!("{}/credentials", aws.url()));
    let text = format!("[profile p]\nrole_arn = {ROLE}\ncredential_source = EcsContainer\n");
    aws.finish(configured(&aws, command, &text)).succeeds().output_has_none(&["/credentials"]);
}

#[test]
fn a_profile_asks_ec2_s_metadata_without_a_proxy() {
    let aws = FakeAws::of("eu-west-1");
    let mut command = proxied(&aws, &["--profile", "p"]);
    command.env_remove("AWS_EC2_METADATA_DISABLED").env("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.url());
    let text = format!("[profile p]\nrole_arn = {ROLE}\ncredential_source = Ec2InstanceMetadata\n");
    aws.finish(configured(&aws, command, &text)).succeeds();
    assert!(aws.hosts().iter().all(|asked| !asked.contains("/latest")), "{:?}", aws.hosts());
}

#[test]
fn an_address_of_a_container_s_endpoint_that_cannot_be_is_not_quoted() {
    let aws = FakeAws::of("eu-west-1");
    for (address, why) in [
        ("http://10.0.0.1/secret-path", "plain http is only used for loopback addresses"),
        ("secret-path", "it is not a URL"),
    ] {
        let mut command = push(&aws, &[]);
        container(&mut command, address);
        let run = aws
            .finish(command)
            .fails_with(3)
            .stderr_has(&["AWS_CONTAINER_CREDENTIALS_FULL_URI is not the address", why]);
        run.output_has_none(&["secret-path"]);
    }
}

#[test]
fn a_job_of_github_actions_without_a_token_says_which_permission_it_needs() {
    let aws = FakeAws::of("eu-west-1");
    let mut command = push(&aws, &["--role-arn", ROLE]);
    command.env("GITHUB_ACTIONS", "true");
    let run = aws.finish(command).fails_with(3).stderr_has(&["no AWS credentials were found"]);
    run.stderr_has(&["GitHub Actions gives this job no OIDC token", "permissions: id-token: write"]);
    // Nor does a self-hosted runner's own role show what is missing.
    let aws = FakeAws::with("eu-west-1", Rules { deny: vec!["sts:AssumeRole".into()], ..Rules::default() });
    let mut command = push(&aws, &["--role-arn", ROLE]);
    command.env_remove("AWS_EC2_METADATA_DISABLED").env("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.url());
    command.env("GITHUB_ACTIONS", "true");
    let run = aws.finish(command).fails_with(3).stderr_has(&["not authorized to perform: sts:AssumeRole on resource"]);
    run.stderr_has(&["GitHub Actions gives this job no OIDC token", "permissions: id-token: write", "trust policy"]);
}

#[test]
fn a_pod_s_role_is_refused_with_what_its_trust_policy_compares() {
    let aws =
        FakeAws::with("eu-west-1", Rules { deny: vec!["sts:AssumeRoleWithWebIdentity".into()], ..Rules::default() });
    let mut command = push(&aws, &[]);
    pod(&aws, &mut command);
    let run =
        aws.finish(command).fails_with(3).stderr_has(&["Not authorized to perform sts:AssumeRoleWithWebIdentity"]);
    run.stderr_has(&["must allow sts:AssumeRoleWithWebIdentity for this token: ", CLAIMS]);
    // Also where a profile names the token.
    let command = push(&aws, &["--profile", "p"]);
    let file = aws.env.scratch("token");
    let text = format!("[profile p]\nrole_arn = {ROLE}\nweb_identity_token_file = {file}\n");
    let run = aws.finish(configured(&aws, command, &text)).fails_with(3);
    run.stderr_has(&["must allow sts:AssumeRoleWithWebIdentity for this token"])
        .output_has_none(&["needs sts:AssumeRole on"]);
}

#[test]
fn a_token_file_that_cannot_be_read_is_named() {
    let aws = FakeAws::of("eu-west-1");
    let (missing, folder) = (aws.env.scratch("missing"), aws.env.folder());
    for (file, why) in [(&missing, "No such file"), (&folder, "it is not a regular file")] {
        let mut command = push(&aws, &[]);
        command.env("AWS_WEB_IDENTITY_TOKEN_FILE", file).env("AWS_ROLE_ARN", ROLE);
        let run = aws.finish(command).fails_with(3).stderr_has(&["cannot read the token file ", file, why]);
        run.stderr_has(&["(AWS_WEB_IDENTITY_TOKEN_FILE)"]).output_has_none(&["route to AWS"]);
        let mut command = push(&aws, &[]);
        command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/credentials", aws.url()));
        command.env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file);
        let run = aws.finish(command).fails_with(3).stderr_has(&["cannot read the token file ", file, why]);
        run.stderr_has(&["(AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE)"]).output_has_none(&["route to AWS"]);
    }
    assert_eq!(aws.count("metadata:Container"), 0);
}

#[test]
fn a_token_file_without_a_role_is_no_reason_to_push_as_somebody_else() {
    let aws = FakeAws::of("eu-west-1");
    let mut command = push(&aws, &[]);
    pod(&aws, &mut command);
    command.env_remove("AWS_ROLE_ARN");
    command.env_remove("AWS_EC2_METADATA_DISABLED").env("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.url());
    aws.finish(command).fails_with(3).stderr_has(&["AWS_WEB_IDENTITY_TOKEN_FILE is set and AWS_ROLE_ARN is not"]);
}

#[test]
fn the_reason_of_a_container_s_endpoint_is_shown() {
    let aws = FakeAws::of("eu-west-1");
    let why = "AccessDeniedException: EKS does not have permissions to assume the associated role.";
    for (http, exit, hint) in [
        ("400 Bad Request", 3, "hint: Check the role of the task or pod"),
        ("500 Internal Server Error", 4, "hint: The failure may be temporary: run the same command again."),
    ] {
        let mut command = push(&aws, &[]);
        container(&mut command, &format!("http://{}/v1/credentials", server(http, why.to_owned())));
        let run =
            aws.finish(command).exits_with(exit).stderr_has(&["from the container endpoint 127.0.0.1", why, hint]);
        run.output_has_none(&["route to AWS", "/v1/credentials"]);
    }
}

#[test]
fn a_service_for_roles_that_answers_can_be_reached() {
    let busy = status(503, "ServiceUnavailable", "later");
    let aws = FakeAws::with(
        "eu-west-1",
        Rules { faults: vec![Fault::once("sts:Request", busy).times(9)], ..Rules::default() },
    );
    let mut command = push(&aws, &["--role-arn", ROLE]);
    keys(&mut command);
    aws.finish(command)
        .fails_with(4)
        .stderr_has(&["HTTP 503", "run the same command again"])
        .output_has_none(&["route to AWS"]);
}

#[test]
fn a_metadata_service_that_does_not_answer_is_distinguished_from_one_that_does_not_exist() {
    let aws = FakeAws::of("eu-west-1");
    let (_listener, url) = silent_server();
    let raise = "\n  aws ec2 modify-instance-metadata-options --instance-id INSTANCE --http-put-response-hop-limit 2\n";
    let mut command = push(&aws, &[]);
    command.env_remove("AWS_EC2_METADATA_DISABLED").env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url);
    let run = aws.finish(command).fails_with(3).stderr_has(&["no AWS credentials were found", "hop limit of 1", raise]);
    run.stderr_has(&["accepts connections and does not respond"]);
    // Also where only the region is wanted.
    let mut command = aws.command_of_user(&[&testdata(ARCHIVE), "team/app:1"]);
    command.env_remove("AWS_EC2_METADATA_DISABLED").env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url);
    let run = aws.finish(command).fails_with(2).stderr_has(&["no AWS region is known", "--region eu-west-1"]);
    run.stderr_has(&["hop limit of 1", raise]);
    // Nothing listens there.
    let mut command = push(&aws, &[]);
    command.env_remove("AWS_EC2_METADATA_DISABLED").env("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1");
    aws.finish(command).fails_with(3).output_has_none(&["hop limit"]);
}

#[test]
fn an_answer_of_aws_that_breaks_off_is_worth_another_run() {
    for operation in ["ecr:GetAuthorizationToken", "ecr:DescribeRepositories"] {
        let ecr = Ecr::faulty(&[Fault::once(operation, Trouble::CutAnswer(300)).times(9)]);
        let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--reuse", "off"]).fails_with(4);
        run.stderr_has(&["the answer broke off", "hint: Run the same command again."]);
    }
    // Without a length only the JSON shows it.
    let ecr = Ecr::new();
    let mut command = ecr.command(&[&testdata(ARCHIVE), "team/app:1"]);
    command.env("AWS_ENDPOINT_URL_ECR", format!("http://{}", server("200 OK", r#"{"authorizationData": [{"#.into())));
    ecr.finish(command).fails_with(4).stderr_has(&["the answer broke off"]);
}

#[test]
fn an_answer_without_end_is_not_read_to_its_end() {
    let too_long = "the answer is longer than 32 MiB";
    let token =
        r#"{"authorizationData": [{"authorizationToken": "QVdTOnB3", "proxyEndpoint": "https://000000000000.dkr"}]}"#;
    let ecr = Ecr::new();
    let mut command = ecr.command(&[&testdata(ARCHIVE), "team/app:1"]);
    command.env("AWS_ENDPOINT_URL_ECR", format!("http://{}", server("200 OK", padded(token, 33))));
    ecr.finish(command).fails_with(1).stderr_has(&["cannot log in to Amazon ECR", too_long]);

    let aws = FakeAws::of("eu-west-1");
    let assumed = "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>s\
                   </SecretAccessKey><SessionToken>t</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration>\
                   </Credentials></AssumeRoleResult></AssumeRoleResponse>";
    let mut command = push(&aws, &["--role-arn", ROLE]);
    keys(&mut command);
    command.env("AWS_ENDPOINT_URL_STS", format!("http://{}", server("200 OK", padded(assumed, 33))));
    aws.finish(command).fails_with(1).stderr_has(&["from the role ", too_long]);

    let given = padded(r#"{"AccessKeyId": "ASIA", "SecretAccessKey": "s", "Token": "t"}"#, 2);
    let mut command = push(&aws, &[]);
    container(&mut command, &format!("http://{}/c", server("200 OK", given)));
    aws.finish(command)
        .fails_with(3)
        .stderr_has(&["from the container endpoint", "the answer is longer than 1048576 bytes"]);

    let mut command = push(&aws, &[]);
    let metadata = format!("http://{}", server("200 OK", "x".repeat(2 << 20)));
    command.env_remove("AWS_EC2_METADATA_DISABLED").env("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata);
    aws.finish(command).fails_with(3).stderr_has(&["the answer is longer than 1 MiB"]);
}

#[test]
fn a_profile_that_sets_up_a_source_which_is_not_there_says_so() {
    let aws = FakeAws::of("eu-west-1");
    let text = format!("[profile p]\nrole_arn = {ROLE}\ncredential_source = EcsContainer\n{}", profile("q", "AKIAQ"));
    let command = configured(&aws, push(&aws, &["--profile", "p"]), &text);
    let run = aws
        .finish(command)
        .fails_with(3)
        .stderr_has(&["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and ..._FULL_URI are not set"]);
    run.output_has_none(&["is not defined in"]);
}

#[test]
fn a_process_that_writes_without_end_is_stopped() {
    let aws = FakeAws::of("eu-west-1");
    let script = aws.env.scratch("credentials.sh");
    let json = r#"{"Version": 1, "AccessKeyId": "AKIAPROCESS", "SecretAccessKey": "s"}"#;
    let roles = format!("[profile p]\nrole_arn = {ROLE}\nsource_profile = base\n[profile base]\n");
    let profiles = ["[profile p]\n", roles.as_str()];
    let padding = "head -c 2000000 /dev/zero | tr '\\0' ' '";
    for text in [format!("{padding}\necho '{json}'\n"), "yes\n".to_owned(), "yes >&2\n".to_owned()] {
        std::fs::write(&script, text).unwrap();
        for profile in profiles {
            let command = push(&aws, &["--profile", "p"]);
            let command = configured(&aws, command, &format!("{profile}credential_process = sh {script}\n"));
            aws.finish(command).fails_with(3).stderr_has(&["credential_process: it writes more than 1048576 bytes"]);
        }
    }
    std::fs::write(&script, format!("echo '{json}'\n")).unwrap();
    for profile in profiles {
        let command = push(&aws, &["--profile", "p"]);
        let command = configured(&aws, command, &format!("{profile}credential_process = sh {script}\n"));
        aws.finish(command).succeeds();
    }
    assert_eq!(aws.assumed()[0].signed_by.as_deref(), Some("AKIAPROCESS"));
}
