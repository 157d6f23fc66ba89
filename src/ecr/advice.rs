//! What ECR's answers mean and what to do about them: one table, from its own words to the cure.
//!
//! What its long rows say is next door: `denied.rs` for missing rights, `strict.rs` for manifests that it will not read,
//! `clock.rs` for signatures that come too early or too late.

mod clock;
mod denied;
mod strict;

use super::unreachable;
use crate::error::{Advice, Code, Error, Kind, ServiceError};
use crate::oci::{EcrHost, Host, Repository};

/// The place that an answer is about.
#[derive(Clone, Debug)]
pub struct RepositoryLocation {
    /// The registry.
    pub host: EcrHost,
    /// The repository.
    pub repository: Repository,
}

/// Adds the meaning and the cure to an error that ECR answered with, if they are known. Before the login nobody knows the
/// place.
#[must_use]
pub fn advise(error: Error, place: Option<&RepositoryLocation>) -> Error {
    advise_on_manifest(error, place, &[])
}

/// The same for a manifest that was put.
#[must_use]
pub fn advise_on_manifest(error: Error, place: Option<&RepositoryLocation>, manifest: &[u8]) -> Error {
    let Some(answer) = error.service_error() else { return advise_on_silence(error, place) };
    let case = Case { answer, kind: error.kind(), place, manifest };
    let mut rows = ROWS.iter().filter(|row| row.is_about(answer));
    match rows.find_map(|row| Some((row.code, (row.means)(&case)?))) {
        Some((code, Meaning { kind, advice })) => error.with_kind(kind).code(code).hint(advice),
        None => error,
    }
}

/// An answer, and what is known about how it came to it.
struct Case<'a> {
    answer: &'a ServiceError,
    kind: Kind,
    place: Option<&'a RepositoryLocation>,
    manifest: &'a [u8],
}

/// What sort of failure an answer is, and what to do about it.
struct Meaning {
    kind: Kind,
    advice: Advice,
}

/// A row of the table.
struct Row {
    /// It has a code that begins like one of these. None: any.
    codes: &'static [&'static str],
    /// It has one of these statuses. None: any.
    statuses: &'static [u16],
    /// It says one of these, in any case. None: anything.
    says: &'static [&'static str],
    /// The stable name of the failure.
    code: Code,
    /// What it means then; `None` leaves it to a later row.
    means: fn(&Case<'_>) -> Option<Meaning>,
}

impl Row {
    fn is_about(&self, answer: &ServiceError) -> bool {
        let message = answer.message.to_ascii_lowercase();
        let Self { codes, statuses, says, .. } = self;
        (codes.is_empty() || codes.iter().any(|code| answer.code.starts_with(code)))
            && (statuses.is_empty() || answer.status.is_some_and(|status| statuses.contains(&status)))
            && (says.is_empty() || says.iter().any(|words| message.contains(&words.to_ascii_lowercase())))
    }
}

const fn row(
    codes: &'static [&'static str],
    statuses: &'static [u16],
    says: &'static [&'static str],
    code: Code,
    means: fn(&Case<'_>) -> Option<Meaning>,
) -> Row {
    Row { codes, statuses, says, code, means }
}

/// From the particular to the general: the first row that knows what to say has the word.
const ROWS: [Row; 28] = [
    // Who answered?
    row(&[], &[407], &[], Code::ProxyFailed, |case| case.with_kind(Kind::Permission, PROXY_LOGIN)),
    row(&[], &[], &[], Code::ProtocolViolation, page),
    // Rights.
    row(&[], &[], &["not authorized to perform"], Code::PermissionDenied, denied::said),
    // The repository and its settings.
    row(&["NAME_UNKNOWN", "RepositoryNotFound"], &[], &[], Code::RepositoryNotFound, absent),
    row(
        &["TAG_INVALID", "ImageTagAlreadyExists"],
        &[],
        &["immutable", "already exists"],
        Code::TagImmutable,
        immutable,
    ),
    row(&["Kms"], &[], &[], Code::Rejected, key),
    row(&[], &[], &["kms key", "kms:", "kmsexception"], Code::Rejected, key),
    // Quotas: a wait does not lift them.
    row(&[], &[], &["Limit on number of layers"], Code::QuotaExceeded, |case| {
        case.with_kind(
            Kind::Refused,
            "Make the image of fewer layers. How many ECR takes is not published; it was 127.",
        )
    }),
    row(&["LimitExceeded"], &[], &[], Code::QuotaExceeded, quota),
    row(&[], &[400, 403, 405], &["quota", "limit", "maximum"], Code::QuotaExceeded, |case| {
        if case.is_about_a_quota() { quota(case) } else { None }
    }),
    row(&["LayerPartTooSmall"], &[], &[], Code::BlobRejected, |case| case.says(PARTS)),
    row(&[], &[], &["at least 5MB", "layer part size"], Code::BlobRejected, |case| case.says(PARTS)),
    // Manifests and tags.
    row(
        &[],
        &[],
        &["'ImageManifest' failed to satisfy constraint: 'Invalid JSON syntax'"],
        Code::ManifestRejected,
        strict::manifest,
    ),
    row(&[], &[], &["Member must have length less than or equal to 4194304"], Code::ManifestRejected, |case| {
        case.says("ECR takes manifests of 4 MiB at most. Leave annotations out, or list fewer platforms in one index.")
    }),
    row(&[], &[], &["at 'imageTag' failed"], Code::Rejected, |case| {
        case.says("ECR takes tags of letters, digits, '_', '.' and '-', 128 at most. Push under another tag.")
    }),
    row(
        &["MANIFEST_BLOB_UNKNOWN", "LayersNotFound", "ReferencedImagesNotFound"],
        &[],
        &[],
        Code::ManifestRejected,
        |case| {
            case.says(
                "What the manifest lists is not in the repository any more: a lifecycle policy or a person may have \
                 removed it meanwhile. Run the same command again.",
            )
        },
    ),
    // Too much at once.
    row(&["TOOMANYREQUESTS", "Throttl", "TooManyRequests"], &[], &[], Code::Throttled, throttled),
    row(&[], &[429], &[], Code::Throttled, throttled),
    // Credentials.
    row(&["RequestTimeTooSkewed", "RequestExpired"], &[], &[], Code::CredentialsRejected, clock::off),
    row(&SIGNATURE, &[], &["scoped to a valid region"], Code::CredentialsRejected, |case| {
        case.with_kind(
            Kind::Permission,
            "The API that answered is in another region than was asked for. Check the region, and AWS_ENDPOINT_URL_ECR, \
             AWS_ENDPOINT_URL and `endpoint_url` of the profile, which lead to one API for all regions.",
        )
    }),
    row(&SIGNATURE, &[], &[], Code::CredentialsRejected, clock::signature),
    row(&["UnrecognizedClient", "InvalidClientTokenId"], &[], &[], Code::CredentialsRejected, |case| {
        case.says(
            "AWS does not know this access key, or not in this region: check the credentials and the region. Keys of \
             a role only count with their session token (AWS_SESSION_TOKEN).",
        )
    }),
    row(&["ExpiredToken"], &[], &[], Code::CredentialsRejected, |case| {
        case.says("The credentials have expired: get new ones and run again.")
    }),
    row(&["OptInRequired"], &[], &[], Code::CredentialsRejected, |case| {
        case.says("The account has not turned this region on (AWS console, Account, AWS Regions), or has no ECR yet.")
    }),
    row(&["MissingAuthenticationToken", "IncompleteSignature"], &[], &[], Code::CredentialsRejected, |case| {
        case.says(
            "The signature did not arrive whole: a proxy on the way takes headers out. Let it pass AWS's hosts \
             untouched (NO_PROXY=.amazonaws.com).",
        )
    }),
    row(
        &[],
        &[400, 401, 403],
        &["authorization token is invalid", "not authorized", "no basic auth"],
        Code::CredentialsRejected,
        foreign_token,
    ),
    row(&["AccessDenied"], &[], &[], Code::PermissionDenied, denied::unsaid),
    row(&[], &[401, 403], &[], Code::PermissionDenied, denied::unsaid),
];

const SIGNATURE: [&str; 2] = ["InvalidSignature", "SignatureDoesNotMatch"];

const PROXY_LOGIN: &str = "A proxy on the way wants a login of its own. Put it into the proxy's address: \
                           HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT.";

const PARTS: &str = "ECR takes parts of 5 to 10 MiB. Leave --chunk-size out; if it is not given, a proxy on the way cuts \
                     requests.";

impl Case<'_> {
    /// Advice for an error of the kind that its status stands for.
    fn says(&self, advice: impl Into<Advice>) -> Option<Meaning> {
        self.with_kind(self.kind, advice)
    }

    fn with_kind(&self, kind: Kind, advice: impl Into<Advice>) -> Option<Meaning> {
        Some(Meaning { kind, advice: advice.into() })
    }

    /// The words of the message in lower case, without names in quotes: a repository may be called `team/parts`.
    fn words(&self) -> String {
        self.answer.message.to_ascii_lowercase().split('\'').step_by(2).collect()
    }

    /// Whether the answer has any of these words outside of quotes.
    fn says_any(&self, words: &[&str]) -> bool {
        let message = self.words();
        words.iter().any(|words| message.contains(words))
    }

    /// Whether the answer says that a count or a size has reached its end. A number and its bound make a quota, in
    /// whatever words: `has the maximum allowed number of images`, `exceeds the maximum allowed number of tags per image`.
    fn is_about_a_quota(&self) -> bool {
        let message = self.words();
        let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
        // A value that is malformed breaks a constraint of the API, which is no quota.
        !message.contains("failed to satisfy constraint")
            && (has(&["quota"])
                || has(&["limit", "maximum"]) && has(&["number of", "limit of", "exceed", "reached", "allowed"]))
    }

    /// The actions that what was asked takes, most telling last, and the repository that they are on.
    fn needed(&self) -> Option<(Vec<&'static str>, Option<String>)> {
        needed(self.answer.request.as_deref()?)
    }
}

/// What requests take (ECR user guide, "IAM permissions for pushing an image"), with the calls a second that an account has
/// by default in a region (ECR user guide, "Amazon ECR service quotas"), where they are known.
const ACTIONS: [(&str, Option<u32>); 12] = [
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

/// The actions that a request takes, and the repository that its path names.
fn needed(asked: &str) -> Option<(Vec<&'static str>, Option<String>)> {
    let Some((method, path)) = asked.split_once(' ') else { return Some((vec![action(asked)?], None)) };
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

/// Whether a request opens an upload.
pub fn opens_upload(asked: &str) -> bool {
    needed(asked).is_some_and(|(actions, _)| actions == ["ecr:InitiateLayerUpload"])
}

fn absent(case: &Case<'_>) -> Option<Meaning> {
    let RepositoryLocation { host, repository } = case.place?;
    let region = &host.region;
    let create = format!("aws ecr create-repository --repository-name {repository} --region {region}");
    case.with_kind(Kind::Refused, Advice::new("Add --create-repository, or create it:").command(create))
}

fn immutable(case: &Case<'_>) -> Option<Meaning> {
    let another = "The tag exists and the repository does not let tags move: push under another tag";
    let advice = match case.place {
        Some(RepositoryLocation { host, repository }) => {
            Advice::new(format!("{another}, or change the repository's tag mutability:")).command(format!(
                "aws ecr put-image-tag-mutability --repository-name {repository} --region {} --image-tag-mutability MUTABLE",
                host.region
            ))
        }
        None => format!("{another}, or change the repository's tag mutability.").into(),
    };
    case.with_kind(Kind::Refused, advice)
}

/// What ECR refuses it refuses in JSON. A page of 5xx may be that of AWS's own load balancer.
fn page(case: &Case<'_>) -> Option<Meaning> {
    if !case.answer.is_page || case.kind == Kind::Unavailable {
        return None;
    }
    let place = case
        .place
        .map_or_else(|| ".amazonaws.com".to_owned(), |place| Host::from_ecr(place.host.clone()).as_str().to_owned());
    case.says(format!(
        "ECR sends no web pages: a proxy or a firewall on the way answered. Have it let {place} pass, or go round it \
         (NO_PROXY={place})."
    ))
}

fn key(case: &Case<'_>) -> Option<Meaning> {
    let text = "The repository is encrypted with a key of AWS KMS, and ECR cannot use it: it has to be enabled and in the same \
                region, and whoever creates the repository needs kms:CreateGrant, kms:DescribeKey and kms:RetireGrant on it, \
                in the key's own policy, too.";
    let advice = match case.place {
        Some(RepositoryLocation { host, repository }) => Advice::new(format!("{text} Which key it is:"))
            .command(format!("aws ecr describe-repositories --repository-names {repository} --region {}", host.region)),
        None => text.into(),
    };
    case.with_kind(Kind::Refused, advice)
}

/// Numbers from the ECR user guide, "Amazon ECR service quotas".
fn quota(case: &Case<'_>) -> Option<Meaning> {
    let which = if case.says_any(&["repositories"]) {
        "100,000 repositories a region: delete some, or have the quota raised (Service Quotas, Amazon ECR)"
    } else if case.says_any(&["tags"]) {
        "1,000 tags an image: delete some of its tags, or push a new image"
    } else if case.says_any(&["part"]) {
        "4,200 parts a layer: send larger ones with --chunk-size 10M, or make the layer smaller"
    } else if case.says_any(&["layer"]) {
        "52,000 MiB a layer: make the image of more and smaller layers"
    } else {
        "100,000 images a repository: have a lifecycle policy expire old ones, or have the quota raised (Service Quotas, \
         Amazon ECR)"
    };
    let text = format!("A quota is used up, which waiting does not help. By default it is {which}.");
    let advice = match case.place {
        Some(RepositoryLocation { host, repository }) if which.contains("lifecycle") => {
            Advice::new(format!("{text} With a policy in policy.json:")).command(format!(
                "aws ecr put-lifecycle-policy --repository-name {repository} --region {} --lifecycle-policy-text \
                 file://policy.json",
                host.region
            ))
        }
        _ => text.into(),
    };
    case.with_kind(Kind::Refused, advice)
}

fn throttled(case: &Case<'_>) -> Option<Meaning> {
    let (actions, _) = case.needed().unwrap_or_default();
    let asked = actions.last().copied().unwrap_or("these calls");
    let rate = ACTIONS.iter().find(|(action, _)| *action == asked).and_then(|(_, rate)| *rate);
    let rate = rate.map_or_else(String::new, |rate| {
        format!(" An account has {rate} a second in a region by default, all its pushes together.")
    });
    case.with_kind(
        Kind::Unavailable,
        format!(
            "ECR limits {asked}.{rate} Run the same command again to carry on, with fewer pushes at the same time or a lower \
             --concurrency, or have the quota raised (Service Quotas, Amazon ECR)."
        ),
    )
}

fn foreign_token(case: &Case<'_>) -> Option<Meaning> {
    let RepositoryLocation { host, .. } = case.place?;
    case.with_kind(
        Kind::Permission,
        format!(
            "The registry does not take the login that ECR's API gave out. One holds in its own region and partition only, \
             and this registry is in {}: take AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_ECR and `endpoint_url` of the profile out \
             if they lead elsewhere.",
            host.region
        ),
    )
}

/// What is known of an error without an answer: certificates that others than AWS issued.
fn advise_on_silence(error: Error, place: Option<&RepositoryLocation>) -> Error {
    let causes = error.causes().join(": ");
    let says = |words: &[&str]| words.iter().any(|words| causes.contains(words));
    if says(&["UnknownIssuer", "it was issued by", "self-signed", "self signed"]) {
        return error.with_kind(Kind::Refused).code(Code::TlsFailed).hint(
            "ECR's certificates are Amazon's, and this one is of nobody whom this machine trusts: a proxy that looks into TLS \
             (Zscaler, Blue Coat and their like) shows its own. Add its CA to the machine's certificates, or name it with \
             --ca-file FILE or AWS_CA_BUNDLE.",
        );
    }
    match place {
        // A connection that could not be made, or on which no answer came in time.
        Some(RepositoryLocation { host, .. }) if matches!(error.stable_code(), Code::Unreachable | Code::TimedOut) => {
            error.hint(unreachable::advice(&host.region, "ecr.dkr"))
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests;
