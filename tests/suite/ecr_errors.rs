//! When ECR says no: what it says, what it means, what to do. One case to each row of `src/ecr/advice.rs`.

use std::path::Path;
use std::time::Duration;

use ecr_push::sandbox::{Absent, Fault, Rules, Trouble};

use serde_json::{Value, json};

use super::archive_builder;
use super::archive_contents::sha256;
use super::ecr::{Ecr, status};
#[cfg(unix)]
use super::faults::interrupt;
use super::harness::{Run, Running, testdata, wait_until};

const ARCHIVE: &str = "docker-20.10-save.tar";
const ARN: &str = "arn:aws:ecr:us-east-1:000000000000:repository/team/app";

/// An answer, the exit code, and what stands on stderr.
struct Case {
    on: &'static str,
    status: u16,
    code: &'static str,
    message: &'static str,
    exit: i32,
    says: &'static [&'static str],
}

const fn case(
    on: &'static str,
    (status, code, message): (u16, &'static str, &'static str),
    exit: i32,
    says: &'static [&'static str],
) -> Case {
    Case { on, status, code, message, exit, says }
}

const TOKEN: &str = "ecr:GetAuthorizationToken";
const POST: &str = "ecr:InitiateLayerUpload";
const PUT: &str = "ecr:PutImage";

const CASES: [Case; 30] = [
    case(TOKEN, (400, "AccessDeniedException", ""), 3, &["The request requires ecr:GetAuthorizationToken on *"]),
    case(
        "ecr:CompleteLayerUpload",
        (400, "BLOB_UPLOAD_INVALID", "All layer parts except the last part should be at least 5MB"),
        1,
        &["chunks of 5 to 10 MiB"],
    ),
    case(POST, (407, "", "Proxy Authentication Required"), 3, &["HTTP 407", "Add the proxy's login", "HTTPS_PROXY="]),
    case(
        PUT,
        (
            404,
            "NAME_UNKNOWN",
            "The repository with name 'team/app' does not exist in the registry with id '000000000000'",
        ),
        1,
        &["--create-repository", "\n  aws ecr create-repository --repository-name team/app --region us-east-1"],
    ),
    case(
        PUT,
        (
            400,
            "TAG_INVALID",
            "The image tag '1' already exists in the 'team/app' repository and cannot be overwritten because the tag is immutable.",
        ),
        1,
        &[
            "Push under another tag",
            ":\n  aws ecr put-image-tag-mutability --repository-name team/app --region us-east-1",
        ],
    ),
    case(
        PUT,
        (
            400,
            "TAG_INVALID",
            "The image tag '1' already exists in the 'team/app' repository and cannot be overwritten because the repository is immutable.",
        ),
        1,
        &["Push under another tag"],
    ),
    case(
        POST,
        (400, "KmsException", "The key is disabled"),
        1,
        &["encrypted with an AWS KMS key", "kms:CreateGrant", "\n  aws ecr describe-repositories"],
    ),
    case(POST, (403, "DENIED", "KMS key is not accessible"), 1, &["encrypted with an AWS KMS key"]),
    case(
        PUT,
        (
            405,
            "UNSUPPORTED",
            "Invalid parameter at 'ImageManifest' failed to satisfy constraint: 'Limit on number of layers per image exceeded'",
        ),
        1,
        &["Build the image with fewer layers."],
    ),
    case(
        PUT,
        (403, "DENIED", "The repository with name 'team/app' has reached the maximum number of images allowed: 100000"),
        1,
        &[
            "A quota is exhausted",
            "100,000 images per repository",
            "\n  aws ecr put-lifecycle-policy --repository-name team/app",
        ],
    ),
    case(PUT, (400, "LimitExceededException", "An image has at most 1000 tags"), 1, &["1,000 tags per image"]),
    case(
        "ecr:CompleteLayerUpload",
        (400, "LimitExceededException", "A layer has at most 4200 parts"),
        1,
        &["4,200 chunks per layer", "--chunk-size 10M"],
    ),
    case(
        "ecr:CompleteLayerUpload",
        (400, "LimitExceededException", "The layer is too large"),
        1,
        &["52,000 MiB per layer"],
    ),
    case(
        "ecr:CompleteLayerUpload",
        (400, "LayerPartTooSmallException", "The part is too small"),
        1,
        &["chunks of 5 to 10 MiB"],
    ),
    case(
        PUT,
        (
            405,
            "UNSUPPORTED",
            "Invalid parameter at 'imageManifest' failed to satisfy constraint: 'Member must have length less than or equal to 4194304'",
        ),
        1,
        &["manifests of up to 4 MiB"],
    ),
    case(
        PUT,
        (
            405,
            "UNSUPPORTED",
            "Invalid parameter at 'imageTag' failed to satisfy constraint: 'must satisfy regular expression '[a-zA-Z0-9-_.]+''",
        ),
        1,
        &["up to 128 letters, digits, '_', '.' and '-'"],
    ),
    case(
        PUT,
        (400, "MANIFEST_BLOB_UNKNOWN", "Layers with digests '[sha256:1]' required for pushing image do not exist"),
        1,
        &["lifecycle policy or another client may have removed it", "Run the same command again"],
    ),
    case(
        PUT,
        (429, "TOOMANYREQUESTS", "Rate exceeded"),
        4,
        &["ECR throttles ecr:PutImage. The default is 10 per second, account and region", "Service Quotas"],
    ),
    case(POST, (429, "", ""), 4, &["ECR throttles ecr:InitiateLayerUpload. The default is 100 per second"]),
    case(
        TOKEN,
        (400, "ThrottlingException", "Rate exceeded"),
        4,
        &["ECR throttles ecr:GetAuthorizationToken. The default is 500 per second"],
    ),
    case(TOKEN, (400, "RequestTimeTooSkewed", "The difference is too large"), 3, &["This machine's clock is wrong"]),
    case(
        TOKEN,
        (
            400,
            "InvalidSignatureException",
            "Signature expired: 20260101T000000Z is now earlier than 20260101T001500Z (20260101T002000Z - 5 min.)",
        ),
        3,
        &["20260101T001500Z", "This machine's clock is wrong", "timedatectl set-ntp true"],
    ),
    case(
        TOKEN,
        (
            403,
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided.",
        ),
        3,
        &["The secret key does not match the access key", "AWS_SECRET_ACCESS_KEY"],
    ),
    case(
        TOKEN,
        (400, "InvalidSignatureException", "Credential should be scoped to a valid region."),
        3,
        &["belongs to another region", "AWS_ENDPOINT_URL_ECR"],
    ),
    case(
        TOKEN,
        (400, "UnrecognizedClientException", "The security token included in the request is invalid."),
        3,
        &["check the credentials and the region", "AWS_SESSION_TOKEN"],
    ),
    case(
        TOKEN,
        (400, "ExpiredTokenException", "The security token included in the request is expired"),
        3,
        &["get new ones, then run the same command again"],
    ),
    case(
        TOKEN,
        (403, "OptInRequired", "The AWS Access Key Id needs a subscription for the service"),
        3,
        &["is not enabled in this account"],
    ),
    case(
        TOKEN,
        (403, "IncompleteSignature", "Authorization header requires 'Signature' parameter."),
        3,
        &["a proxy removes headers"],
    ),
    case(
        POST,
        (400, "DENIED", "Your Authorization Token is invalid."),
        3,
        &["does not accept the login of ECR's API", "this registry is in us-east-1", "AWS_ENDPOINT_URL_ECR"],
    ),
    case(
        PUT,
        (403, "DENIED", ""),
        3,
        &["The request requires ecr:PutImage on arn:aws:ecr:us-east-1:000000000000:repository/team/app"],
    ),
];

/// Pushes where an operation always meets that.
fn push(ecr: &Ecr) -> Run {
    ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--retries", "0", "--concurrency", "1"])
}

#[test]
fn every_answer_of_ecr_has_an_explanation_and_advice() {
    let mut wrong = Vec::new();
    for Case { on, status: http, code, message, exit, says } in &CASES {
        let ecr = Ecr::faulty(&[Fault::once(*on, status(*http, code, message)).times(u32::MAX)]);
        let run = push(&ecr);
        ecr.has_no_image("1");
        // ECR's own words, its request ID, and a cure.
        let always = [*message, "(request ", "\n  hint: "];
        let missing: Vec<_> = says.iter().chain(&always).filter(|words| !run.stderr.contains(**words)).collect();
        if run.code != Some(*exit) || !missing.is_empty() {
            wrong.push(format!("{on} {http} {code}: exit code {:?}, missing {missing:?}\n{}", run.code, run.stderr));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
}

#[test]
fn the_policy_that_denies_is_identified() {
    let statement = format!(r#"{{"Effect":"Allow","Action":"ecr:PutImage","Resource":"{ARN}"}}"#);
    let of_repository =
        r#"{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"ecr:PutImage"}"#;
    let allow = format!("hint: Allow the action ecr:PutImage on {ARN}");
    let deny = format!("forbids the action ecr:PutImage on {ARN}, and no Allow overrides it");
    let none = |kind: &str| format!("because no {kind} allows the ecr:PutImage action");
    let explicit = |kind: &str| format!("with an explicit deny in {kind}");
    let mut wrong = Vec::new();
    for (denied, says) in [
        (none("identity-based policy"), vec![allow.as_str(), "in the caller's IAM policy", &statement]),
        (
            none("resource-based policy"),
            vec!["in the repository policy", of_repository, "\n  aws ecr get-repository-policy"],
        ),
        (none("permissions boundary"), vec![&allow, "in the permissions boundary of the caller, too", &statement]),
        (none("session policy"), vec![&allow, "in the session policy of the caller, too"]),
        (none("service control policy"), vec![&allow, "in a service control policy, too", "AWS organization"]),
        (none("resource control policy"), vec![&allow, "in a resource control policy, too"]),
        (
            none("VPC endpoint policy"),
            vec![&allow, "in the policy of the VPC endpoint, too", "\n  aws ec2 describe-vpc-endpoints\n"],
        ),
        (explicit("an identity-based policy"), vec![&deny, "A Deny in the caller's IAM policy"]),
        (
            explicit("a resource-based policy"),
            vec![&deny, "A Deny in the repository policy", "--repository-name team/app"],
        ),
        (explicit("a permissions boundary"), vec![&deny, "A Deny in the permissions boundary"]),
        (explicit("a session policy"), vec![&deny, "A Deny in the session policy of the caller"]),
        (
            explicit("a service control policy: arn:aws:organizations::1:policy/o-1/service_control_policy/p-1"),
            vec![&deny, "A Deny in a service control policy", "AWS organization"],
        ),
        (explicit("a resource control policy"), vec![&deny, "A Deny in a resource control policy"]),
        (explicit("a VPC endpoint policy"), vec![&deny, "A Deny in the policy of the VPC endpoint"]),
        ("with an explicit deny".into(), vec![&deny, "A Deny in some policy"]),
    ] {
        let rules = Rules { deny: vec![PUT.into()], denied: Some(denied.clone()), ..Rules::default() };
        let run = push(&Ecr::with(&["team/app"], rules));
        let missing: Vec<_> = says.into_iter().filter(|words| !run.stderr.contains(words)).collect();
        if run.code != Some(3) || !missing.is_empty() {
            wrong.push(format!("{denied}: exit code {:?}, missing {missing:?}\n{}", run.code, run.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_caller_of_another_account_needs_the_repository_s_policy_too() {
    let said = "User: arn:aws:sts::111111111111:assumed-role/ci/build is not authorized to perform: ecr:PutImage on \
                resource: arn:aws:ecr:us-east-1:000000000000:repository/team/app because no identity-based policy \
                allows the ecr:PutImage action";
    let run = push(&Ecr::faulty(&[Fault::once(PUT, status(403, "DENIED", said))])).fails_with(3);
    let there = r#"{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111111111111:root"},"Action":"ecr:PutImage"}"#;
    run.stderr_has(&["belongs to account 000000000000 and the caller to 111111111111", there]);
}

#[test]
fn an_empty_403_is_reported_with_the_permission_of_the_request() {
    let mut wrong = Vec::new();
    for (action, named) in [
        ("ecr:InitiateLayerUpload", "ecr:InitiateLayerUpload"),
        ("ecr:UploadLayerPart", "ecr:UploadLayerPart and ecr:CompleteLayerUpload"),
        ("ecr:CompleteLayerUpload", "ecr:UploadLayerPart and ecr:CompleteLayerUpload"),
        ("ecr:PutImage", "ecr:PutImage"),
    ] {
        let rules = Rules { deny: vec![action.into()], deny_silently: true, ..Rules::default() };
        let run = push(&Ecr::with(&["team/app"], rules));
        let words = format!("The request requires {named} on {ARN}, which the caller likely lacks");
        if run.code != Some(3)
            || !run.stderr.contains(&words)
            || !run.stderr.contains("\n  {\"Effect\":\"Allow\",\"Action\":")
            || !run.stderr.contains("(request ")
        {
            wrong.push(format!("{action}: {:?} {}", run.code, run.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_bare_end_of_the_connection_is_asked_about() {
    let hangs_up = |deny: &[&str]| {
        let deny = deny.iter().map(ToString::to_string).collect();
        Rules { absent_repository: Absent::HangUp, deny, ..Rules::default() }
    };
    let blind = ["ecr:DescribeRepositories", "ecr:BatchGetImage", "ecr:BatchCheckLayerAvailability"];
    // The repository is missing, and the API may be asked.
    let run = push(&Ecr::with(&[], hangs_up(&blind))).fails_with(1);
    let run = run.stderr_has(&["closed the connection without an answer: the repository does not exist"]);
    run.stderr_has(&["hint: Create it with the push, or before it: --create-repository"]);
    // The right is missing: the API says which, and why.
    let ecr = Ecr::with(&["team/app"], hangs_up(&[POST]));
    let run =
        push(&ecr).fails_with(3).stderr_has(&["closed the connection without an answer; its API states the reason"]);
    let run = run.stderr_has(&["HTTP 400 AccessDeniedException: User: ", "(request "]);
    let cure = format!("hint: Allow the action {POST} on {ARN} in the caller's IAM policy:\n  {{\"Effect\":\"Allow\"");
    run.stderr_has(&[&cure]);
    // Both are there: it is the line. The session that the question opened is closed again.
    let ecr = Ecr::with(&["team/app"], Rules { faults: vec![Fault::once(POST, Trouble::HangUp)], ..Rules::default() });
    push(&ecr)
        .fails_with(4)
        .stderr_has(&["The repository exists and the caller may upload to it", "a proxy, a firewall"]);
    assert_eq!((ecr.count(POST), ecr.count("v2:CancelUpload")), (2, 1));
    // The API does not say which: both are reported.
    let fault = Fault::once(POST, Trouble::HangUp).times(u32::MAX);
    let run = push(&Ecr::with(&["team/app"], Rules { faults: vec![fault], ..Rules::default() })).fails_with(4);
    let both = format!("if the repository team/app does not exist, or if the caller does not have {POST} on {ARN}");
    run.stderr_has(&[&both, "If it is neither: Check the host name"]);
}

#[test]
fn the_api_is_asked_once_for_all_layers() {
    let rules = Rules { absent_repository: Absent::HangUp, deny: vec![POST.into()], ..Rules::default() };
    let ecr = Ecr::with(&["team/app"], rules);
    ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--retries", "0"]).fails_with(3);
    assert_eq!(ecr.asked(POST).iter().filter(|entry| entry.path == "/").count(), 1);
}

#[cfg(unix)]
#[test]
fn ctrl_c_does_not_wait_for_explanations() {
    let faults = vec![Fault::once(POST, Trouble::HangUp), Fault::once(POST, Trouble::Stall).times(u32::MAX)];
    let ecr = Ecr::with(&["team/app"], Rules { faults, ..Rules::default() });
    let arguments = [&testdata(ARCHIVE), "team/app:1", "--retries", "0", "--concurrency", "1"];
    let running = Running::start(ecr.command(&arguments));
    wait_until("the API is asked", || ecr.asked(POST).iter().any(|entry| entry.path == "/"));
    interrupt(running.id());
    running.end().fails_with(130);
}

#[test]
fn a_wrong_clock_is_reported_with_both_times() {
    let rules = Rules { clock_ahead: Duration::from_secs(20 * 60), ..Rules::default() };
    let run = push(&Ecr::with(&["team/app"], rules)).fails_with(3);
    let run = run.stderr_has(&["InvalidSignatureException: Signature expired: 20", "This machine's clock is wrong"]);
    run.stderr_has(&[" GMT, AWS's ", ": 20 minutes behind."]);
}

#[test]
fn a_manifest_that_ecr_rejects_is_reported_with_the_field_and_its_writer() {
    let mut wrong = Vec::new();
    for (change, says) in [
        (
            json!({"config": {"platform": {"os": "linux"}}}),
            ["`platform` in the descriptor of the config", "Docker 25.0 and 26.0", "--repair"],
        ),
        (
            json!({"config": {"annotations": {"a": "b"}}}),
            ["`annotations` in the descriptor of the config", "Nydus", "--repair"],
        ),
        (
            json!({"subject": {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1, "platform": {},
                   "digest": format!("sha256:{}", "a".repeat(64))}}),
            ["`platform` in `subject`", "nydusify", "--repair"],
        ),
        (json!({"artifactType": "application/x; v=1"}), ["a media type with parameters", "sigstore", "omit"]),
    ] {
        let ecr = Ecr::new();
        let layout = ecr.env.scratch("layout");
        archive_builder::oci_layout(&layout, &[archive_builder::noise(1, 1000)]);
        rewrite(&layout, &change);
        let run = ecr.run(&[&layout, "team/app:1", "--retries", "0"]);
        let words = ["HTTP 405 UNSUPPORTED", "ECR rejects manifests with unknown fields. This one has"];
        let missing: Vec<_> = words.iter().chain(&says).filter(|words| !run.stderr.contains(**words)).collect();
        if run.code != Some(1) || !missing.is_empty() {
            wrong.push(format!("{change}: {:?} missing {missing:?} {}", run.code, run.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let syntax = status(
        405,
        "UNSUPPORTED",
        "Invalid parameter at 'ImageManifest' failed to satisfy constraint: 'Invalid JSON syntax'",
    );
    push(&Ecr::faulty(&[Fault::once(PUT, syntax)]))
        .fails_with(1)
        .stderr_has(&["None of the known ones", "ecr-push inspect"]);
}

/// Puts fields into the only manifest of a layout.
fn rewrite(layout: &str, change: &Value) {
    let read = |path: &Path| serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap();
    let blobs = Path::new(layout).join("blobs/sha256");
    let index_path = Path::new(layout).join("index.json");
    let mut index = read(&index_path);
    let old = index["manifests"][0]["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
    let mut manifest = read(&blobs.join(old));
    for (key, value) in change.as_object().unwrap() {
        match (manifest.get_mut(key).and_then(Value::as_object_mut), value.as_object()) {
            (Some(fields), Some(more)) => fields.extend(more.clone()),
            _ => manifest[key] = value.clone(),
        }
    }
    let bytes = manifest.to_string().into_bytes();
    let digest = sha256(&bytes);
    std::fs::write(blobs.join(digest.strip_prefix("sha256:").unwrap()), &bytes).unwrap();
    index["manifests"][0]["digest"] = json!(digest);
    index["manifests"][0]["size"] = json!(bytes.len());
    std::fs::write(index_path, index.to_string()).unwrap();
}

#[test]
fn a_quota_is_never_tried_again() {
    for (status_of, code, message) in [
        (400, "LimitExceededException", "too many"),
        (403, "DENIED", "The maximum number of images has been reached"),
        (
            403,
            "DENIED",
            "The repository with name 'team/app' in registry with id '000000000000' already has the maximum allowed number of \
             images which is '100000'",
        ),
        (
            403,
            "DENIED",
            "The image with digest 'sha256:1' exceeds the maximum allowed number of tags per image which is '1000'",
        ),
        (405, "UNSUPPORTED", "Limit on number of layers per image exceeded"),
    ] {
        let ecr = Ecr::faulty(&[Fault::once(PUT, status(status_of, code, message)).times(u32::MAX)]);
        ecr.run(&[&testdata(ARCHIVE), "team/app:1"]).fails_with(1).output_has_none(&["; retry "]);
        assert_eq!(ecr.count(PUT), 1);
    }
}
