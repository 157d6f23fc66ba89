use std::time::{Duration, SystemTime};

use super::actions::needed;
use super::*;
use crate::error::{Error, Kind, ServiceError};
use crate::oci::EcrHost;

fn location() -> RepositoryLocation {
    let host = EcrHost { account: "123456789012".into(), region: "cn-north-1".into(), fips: false, dual_stack: false };
    RepositoryLocation { host, repository: "team/app".parse().unwrap() }
}

/// Returns the kind and the advice for an error of ECR.
fn advised(status: u16, code: &str, message: &str, request: &str) -> (Kind, String) {
    let service_error = ServiceError {
        status: Some(status),
        code: code.into(),
        message: message.into(),
        request: Some(request.to_owned()),
        ..ServiceError::default()
    };
    let kind = if status == 403 { Kind::Permission } else { Kind::Refused };
    let error = advise(Error::new(kind, "x").with_service_error(service_error), Some(&location()));
    (error.kind(), error.advice().map(ToString::to_string).unwrap_or_default())
}

#[test]
fn a_missing_repository_names_the_option_and_the_command() {
    let (_, hint) = advised(404, "NAME_UNKNOWN", "The repository with name 'team/app' does not exist", "");
    assert!(hint.contains("--create-repository\n") && hint.contains("--repository-name team/app --region cn-north-1"));
}

#[test]
fn a_missing_permission_names_the_action_and_the_arn_in_its_partition() {
    let message = "User: arn:aws-cn:iam::1:user/x is not authorized to perform: ecr:InitiateLayerUpload";
    let (_, hint) = advised(403, "DENIED", message, "");
    assert!(hint.contains("ecr:InitiateLayerUpload on arn:aws-cn:ecr:cn-north-1:123456789012:repository/team/app"));
    assert!(hint.contains(r#""Action":"ecr:InitiateLayerUpload","Resource":"arn:aws-cn:ecr:"#), "{hint}");
    assert!(advised(403, "", "", "").1.contains("lacks a permission on arn:aws-cn:"));
}

#[test]
fn a_denial_in_another_account_also_names_the_repository_policy() {
    for (account, is_foreign) in [("123456789012", false), ("210987654321", true)] {
        let message = format!(
            "User: arn:aws-cn:iam::{account}:user/x is not authorized to perform: ecr:PutImage because no \
             identity-based policy allows the ecr:PutImage action"
        );
        let (_, hint) = advised(403, "DENIED", &message, "");
        assert_eq!(hint.contains("The repository belongs to account 123456789012"), is_foreign, "{hint}");
    }
}

#[test]
fn a_missing_login_is_not_a_missing_permission() {
    let request = "POST /v2/team/app/blobs/uploads/";
    assert_eq!(advised(401, "UNAUTHORIZED", "", request).1, "");
    assert!(advised(403, "DENIED", "", request).1.contains("ecr:InitiateLayerUpload"));
}

/// Returns the advice for an error of ECR of this kind.
fn advice_on(kind: Kind, service_error: ServiceError) -> String {
    let error = advise(Error::new(kind, "x").with_service_error(service_error), Some(&location()));
    error.advice().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn a_web_page_is_that_of_a_proxy_unless_the_service_is_unavailable() {
    let page = |status| ServiceError { status: Some(status), is_page: true, ..ServiceError::default() };
    assert!(advice_on(Kind::Refused, page(403)).contains("ECR sends no web pages"));
    assert_eq!(advice_on(Kind::Unavailable, page(503)), "");
}

#[test]
fn an_invalid_signature_is_explained_by_the_clock_or_the_key() {
    for (minutes, words) in [(0, "this machine's clock is right"), (20, "This machine's clock is wrong")] {
        let service_error = ServiceError {
            status: Some(403),
            code: "InvalidSignatureException".into(),
            date: Some(SystemTime::now() + Duration::from_secs(60 * minutes)),
            ..ServiceError::default()
        };
        let advice = advice_on(Kind::Permission, service_error);
        assert!(advice.contains(words), "{advice}");
    }
}

#[test]
fn throttling_names_the_action_and_its_rate() {
    let (kind, hint) = advised(429, "TOOMANYREQUESTS", "", "PUT /v2/team/app/manifests/1");
    assert_eq!(kind, Kind::Unavailable);
    assert!(hint.contains("ECR throttles ecr:PutImage. The default is 10 per second"), "{hint}");
}

#[test]
fn requests_require_the_actions_of_the_user_guide() {
    for (request, actions, repository) in [
        ("POST /v2/a/b/blobs/uploads/", &["ecr:InitiateLayerUpload"][..], Some("a/b")),
        ("POST /v2/a/b/blobs/uploads", &["ecr:InitiateLayerUpload"], Some("a/b")),
        ("PATCH /v2/a/blobs/uploads/1-2", &["ecr:UploadLayerPart"], Some("a")),
        ("PUT /v2/a/blobs/uploads/1-2", &["ecr:UploadLayerPart", "ecr:CompleteLayerUpload"], Some("a")),
        ("HEAD /v2/a/blobs/sha256:1", &["ecr:BatchCheckLayerAvailability"], Some("a")),
        ("GET /v2/a/blobs/sha256:1", &["ecr:GetDownloadUrlForLayer"], Some("a")),
        ("GET /v2/blobs/uploads/manifests/1", &["ecr:BatchGetImage"], Some("blobs/uploads")),
        ("GET /v2/a/referrers/sha256:1", &["ecr:BatchGetImage"], Some("a")),
        ("PUT /v2/a/manifests/1", &["ecr:PutImage"], Some("a")),
        ("GET /v2/a/tags/list", &["ecr:ListImages"], Some("a")),
        ("ecr:DescribeImages", &["ecr:DescribeImages"], None),
    ] {
        assert_eq!(needed(request), Some((actions.to_vec(), repository.map(str::to_owned))), "{request}");
    }
    for request in ["", "GET /", "GET /v2/", "DELETE /v2/a/blobs/uploads/1", "PUT /v2/x/uploads/1", "ecr:Unknown"] {
        assert_eq!(needed(request), None, "{request}");
    }
}

#[test]
fn no_response_makes_a_row_panic() {
    for message in
        ["", "not authorized to perform: ", "User: is not authorized to perform: on resource: ", "explicit deny"]
    {
        for status in [0, 200, 400, 401, 403, 405, 407, 429, 500] {
            for code in ["", "DENIED", "Kms", "LimitExceeded", "InvalidSignature", "TAG_INVALID"] {
                let _advice = advised(status, code, message, "POST /v2/a/blobs/uploads/");
            }
        }
    }
}

#[test]
fn quoted_names_do_not_select_a_quota() {
    let named = "The repository with name 'team/parts-quota' cannot be used";
    assert!(!advised(400, "NAME_INVALID", named, "").1.contains("quota"));
    let constraint = "'maxResults' failed to satisfy constraint: the maximum allowed number of values is exceeded";
    assert!(!advised(400, "InvalidParameterException", constraint, "").1.contains("quota"));
    assert!(!advised(403, "DENIED", "access is limited", "").1.contains("quota"));
    let full = "The repository with name 'team/parts' has the maximum number of images";
    assert!(advised(403, "DENIED", full, "").1.contains("100,000 images per repository"));
    assert!(
        advised(400, "LimitExceededException", "A layer has too many parts", "").1.contains("4,200 chunks per layer")
    );
}
