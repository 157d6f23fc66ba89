//! The IAM actions that requests require.

/// The IAM actions of requests (ECR user guide, "IAM permissions for pushing an image"), with the calls per second that an
/// account has by default in a region (ECR user guide, "Amazon ECR service quotas"), if known.
pub(super) const ACTIONS: [(&str, Option<u32>); 12] = [
    ("ecr:BatchCheckLayerAvailability", Some(1_000)),
    ("ecr:BatchGetImage", Some(2_000)),
    ("ecr:CompleteLayerUpload", Some(100)),
    ("ecr:CreateRepository", None),
    ("ecr:DescribeImages", None),
    ("ecr:DescribeRepositories", None),
    ("ecr:GetAuthorizationToken", Some(500)),
    ("ecr:GetDownloadUrlForLayer", Some(3_000)),
    ("ecr:InitiateLayerUpload", Some(100)),
    ("ecr:ListImages", None),
    ("ecr:PutImage", Some(10)),
    ("ecr:UploadLayerPart", Some(500)),
];

fn action(name: &str) -> Option<&'static str> {
    ACTIONS.iter().map(|(action, _)| *action).find(|action| *action == name)
}

/// Returns the actions that a request requires, the most specific last, and the repository in its path.
pub(super) fn needed(request: &str) -> Option<(Vec<&'static str>, Option<String>)> {
    let Some((method, path)) = request.split_once(' ') else { return Some((vec![action(request)?], None)) };
    let (above, last) = path.strip_prefix("/v2/")?.rsplit_once('/')?;
    let (names, repository): (&[&str], _) = match (method, above.rsplit_once('/')?, last) {
        ("POST", (repository, "blobs"), "uploads") => (&["ecr:InitiateLayerUpload"], repository),
        ("HEAD", (repository, "blobs"), _) => (&["ecr:BatchCheckLayerAvailability"], repository),
        ("GET", (repository, "blobs"), _) => (&["ecr:GetDownloadUrlForLayer"], repository),
        ("GET" | "HEAD", (repository, "manifests" | "referrers"), _) => (&["ecr:BatchGetImage"], repository),
        ("PUT", (repository, "manifests"), _) => (&["ecr:PutImage"], repository),
        ("GET", (repository, "tags"), "list") => (&["ecr:ListImages"], repository),
        (method, (blobs, "uploads"), _) => match method {
            "POST" => (&["ecr:InitiateLayerUpload"], blobs.strip_suffix("/blobs")?),
            "PATCH" => (&["ecr:UploadLayerPart"], blobs.strip_suffix("/blobs")?),
            "PUT" => (&["ecr:UploadLayerPart", "ecr:CompleteLayerUpload"], blobs.strip_suffix("/blobs")?),
            _ => return None,
        },
        _ => return None,
    };
    Some((names.iter().filter_map(|name| action(name)).collect(), Some(repository.to_owned())))
}

/// Returns whether a request opens an upload session.
pub(crate) fn opens_upload(request: &str) -> bool {
    needed(request).is_some_and(|(actions, _)| actions == ["ecr:InitiateLayerUpload"])
}
