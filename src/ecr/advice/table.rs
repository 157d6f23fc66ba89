//! The table of ECR's errors and the advice for each. An error is one row of [`ROWS`].

use super::actions::ACTIONS;
use super::case::{Case, Meaning, RepositoryLocation};
use super::{clock, denied, strict};
use crate::ecr::unreachable;
use crate::error::{Advice, Code, Error, Kind, ServiceError};
use crate::oci::Host;
use crate::proxy;
use crate::tls::TlsProblem;

/// Adds the meaning of ECR's response and advice to an error, if they are known. Before the login no location is known.
pub(crate) fn advise(error: Error, location: Option<&RepositoryLocation>) -> Error {
    advise_on_manifest(error, location, &[])
}

/// Adds the meaning of ECR's response to the PUT of a manifest, and advice.
pub(crate) fn advise_on_manifest(error: Error, location: Option<&RepositoryLocation>, manifest: &[u8]) -> Error {
    let Some(service_error) = error.service_error() else { return advise_on_transport(error, location) };
    let case = Case { error: service_error, kind: error.kind(), location, manifest };
    let mut rows = ROWS.iter().filter(|row| row.matches(service_error));
    match rows.find_map(|row| Some((row.code, (row.means)(&case)?))) {
        Some((code, Meaning { kind, advice })) => error.with_kind(kind).code(code).hint(advice),
        None => error,
    }
}

/// A row of the table: it applies to an error that matches all of its conditions.
struct Row {
    /// The error's code starts with one of these. Empty: any code.
    codes: &'static [&'static str],
    /// The status is one of these. Empty: any status.
    statuses: &'static [u16],
    /// The message contains one of these, in any case. Empty: any message.
    messages: &'static [&'static str],
    /// The stable name of the failure.
    code: Code,
    /// What the error means; `None` leaves it to a later row.
    means: fn(&Case<'_>) -> Option<Meaning>,
}

impl Row {
    fn matches(&self, error: &ServiceError) -> bool {
        let message = error.message.to_ascii_lowercase();
        let Self { codes, statuses, messages, .. } = self;
        (codes.is_empty() || codes.iter().any(|code| error.code.starts_with(code)))
            && (statuses.is_empty() || error.status.is_some_and(|status| statuses.contains(&status)))
            && (messages.is_empty() || messages.iter().any(|words| message.contains(&words.to_ascii_lowercase())))
    }
}

const fn row(
    codes: &'static [&'static str],
    statuses: &'static [u16],
    messages: &'static [&'static str],
    code: Code,
    means: fn(&Case<'_>) -> Option<Meaning>,
) -> Row {
    Row { codes, statuses, messages, code, means }
}

/// The errors from the specific to the general: the first matching row with a meaning counts.
const ROWS: &[Row] = &[
    // Responses that are not ECR's.
    row(&[], &[407], &[], Code::ProxyFailed, |case| case.advise_as(Kind::Permission, proxy::login())),
    row(&[], &[], &[], Code::ProtocolViolation, web_page),
    // Permissions.
    row(&[], &[], &["not authorized to perform"], Code::PermissionDenied, denied::stated),
    // The repository and its settings.
    row(&["NAME_UNKNOWN", "RepositoryNotFound"], &[], &[], Code::RepositoryNotFound, missing_repository),
    row(
        &["TAG_INVALID", "ImageTagAlreadyExists"],
        &[],
        &["immutable", "already exists"],
        Code::TagImmutable,
        immutable_tag,
    ),
    row(&["Kms"], &[], &[], Code::Rejected, kms_key),
    row(&[], &[], &["kms key", "kms:", "kmsexception"], Code::Rejected, kms_key),
    // Quotas: waiting does not help.
    row(&[], &[], &["Limit on number of layers"], Code::QuotaExceeded, |case| {
        case.advise_as(
            Kind::Refused,
            "Build the image with fewer layers. The limit of ECR is not published; it was 127.",
        )
    }),
    row(&["LimitExceeded"], &[], &[], Code::QuotaExceeded, quota),
    row(&[], &[400, 403, 405], &["quota", "limit", "maximum"], Code::QuotaExceeded, |case| {
        if case.is_about_a_quota() { quota(case) } else { None }
    }),
    row(&["LayerPartTooSmall"], &[], &[], Code::BlobRejected, |case| case.advise(chunk_size())),
    row(&[], &[], &["at least 5MB", "layer part size"], Code::BlobRejected, |case| case.advise(chunk_size())),
    // Manifests and tags.
    row(
        &[],
        &[],
        &["'ImageManifest' failed to satisfy constraint: 'Invalid JSON syntax'"],
        Code::ManifestRejected,
        strict::manifest,
    ),
    row(&[], &[], &["Member must have length less than or equal to 4194304"], Code::ManifestRejected, |case| {
        case.advise("ECR accepts manifests of up to 4 MiB. Remove annotations, or list fewer platforms in one index.")
    }),
    row(&[], &[], &["at 'imageTag' failed"], Code::Rejected, |case| {
        case.advise("ECR accepts tags of up to 128 letters, digits, '_', '.' and '-'. Push under another tag.")
    }),
    row(
        &["MANIFEST_BLOB_UNKNOWN", "LayersNotFound", "ReferencedImagesNotFound"],
        &[],
        &[],
        Code::ManifestRejected,
        |case| {
            case.advise(
                "The repository does not contain everything that the manifest lists: a lifecycle policy or another client \
                 may have removed it during the push. Run the same command again.",
            )
        },
    ),
    // Throttling.
    row(&["TOOMANYREQUESTS", "Throttl", "TooManyRequests"], &[], &[], Code::Throttled, throttled),
    row(&[], &[429], &[], Code::Throttled, throttled),
    // Credentials.
    row(&["RequestTimeTooSkewed", "RequestExpired"], &[], &[], Code::CredentialsRejected, clock::skewed),
    row(&SIGNATURE, &[], &["scoped to a valid region"], Code::CredentialsRejected, |case| {
        case.advise_as(
            Kind::Permission,
            "The API that responded belongs to another region. Check the region, and AWS_ENDPOINT_URL_ECR, AWS_ENDPOINT_URL \
             and `endpoint_url` of the profile, which set one API for all regions.",
        )
    }),
    row(&SIGNATURE, &[], &[], Code::CredentialsRejected, clock::signature),
    row(&["UnrecognizedClient", "InvalidClientTokenId"], &[], &[], Code::CredentialsRejected, |case| {
        case.advise(
            "AWS does not know this access key, or not in this region: check the credentials and the region. Keys of a \
             role are valid with their session token only (AWS_SESSION_TOKEN).",
        )
    }),
    row(&["ExpiredToken"], &[], &[], Code::CredentialsRejected, |case| {
        case.advise("The credentials have expired: get new ones, then run the same command again.")
    }),
    row(&["OptInRequired"], &[], &[], Code::CredentialsRejected, |case| {
        case.advise("The region is not enabled in this account (AWS console, Account, AWS Regions), or ECR is not.")
    }),
    row(&["MissingAuthenticationToken", "IncompleteSignature"], &[], &[], Code::CredentialsRejected, |case| {
        case.advise(
            "The signature did not arrive completely: a proxy removes headers. Bypass it for AWS's hosts \
             (NO_PROXY=.amazonaws.com).",
        )
    }),
    row(
        &[],
        &[400, 401, 403],
        &["authorization token is invalid", "not authorized", "no basic auth"],
        Code::CredentialsRejected,
        foreign_token,
    ),
    row(&["AccessDenied"], &[], &[], Code::PermissionDenied, denied::unstated),
    row(&[], &[401, 403], &[], Code::PermissionDenied, denied::unstated),
];

const SIGNATURE: [&str; 2] = ["InvalidSignature", "SignatureDoesNotMatch"];

/// Advises on the chunk size. With one in ECR's range, an upload can only fail behind a proxy.
fn chunk_size() -> Advice {
    Advice::new(
        "ECR accepts chunks of 5 to 10 MiB. Without a chunk size of your own, a proxy on the way truncates requests; \
         otherwise choose one in this range",
    )
    .setting_with("chunk-size", "5M")
}

fn missing_repository(case: &Case<'_>) -> Option<Meaning> {
    let create = case.location?.command("create-repository", "--repository-name", "");
    let advice = Advice::new("Create it with the push, or with the command below").setting("create-repository");
    case.advise_as(Kind::Refused, advice.command(create))
}

fn immutable_tag(case: &Case<'_>) -> Option<Meaning> {
    let text = "The tag exists, and tags of this repository are immutable. Push under another tag, or change the tag \
                mutability of the repository";
    let advice = match case.location {
        Some(location) => Advice::new(format!("{text}:")).command(location.command(
            "put-image-tag-mutability",
            "--repository-name",
            " --image-tag-mutability MUTABLE",
        )),
        None => format!("{text}.").into(),
    };
    case.advise_as(Kind::Refused, advice)
}

/// Advises on a web page. ECR's own error responses are JSON. A page with a status of 5xx may be that of AWS's own load
/// balancer.
fn web_page(case: &Case<'_>) -> Option<Meaning> {
    if !case.error.is_page || case.kind == Kind::Unavailable {
        return None;
    }
    let host = match case.location {
        Some(location) => Host::from_ecr(location.host.clone()).as_str().to_owned(),
        None => ".amazonaws.com".to_owned(),
    };
    let text = format!("ECR sends no web pages: a proxy or a firewall responded. Have it allow {host}, or bypass it:");
    case.advise(Advice::new(text).command(format!("export NO_PROXY={host}")))
}

fn kms_key(case: &Case<'_>) -> Option<Meaning> {
    let text = "The repository is encrypted with an AWS KMS key that ECR cannot use. The key must be enabled and in the same \
                region; the user who creates the repository needs kms:CreateGrant, kms:DescribeKey and kms:RetireGrant, also in \
                the key policy.";
    let advice = match case.location {
        Some(location) => Advice::new(format!("{text} Find the key with:"))
            .command(location.command("describe-repositories", "--repository-names", "")),
        None => text.into(),
    };
    case.advise_as(Kind::Refused, advice)
}

/// Advises on an exhausted quota, with its default (ECR user guide, "Amazon ECR service quotas").
fn quota(case: &Case<'_>) -> Option<Meaning> {
    let exhausted =
        |text: &str| Advice::new(format!("A quota is exhausted, and waiting does not help. The default is {text}"));
    let advice = if case.mentions(&["repositories"]) {
        exhausted("100,000 repositories per region: delete some, or request an increase (Service Quotas, Amazon ECR).")
    } else if case.mentions(&["tags"]) {
        exhausted("1,000 tags per image: delete some of its tags, or push a new image.")
    } else if case.mentions(&["part"]) {
        exhausted("4,200 chunks per layer: make the layer smaller, or send larger chunks")
            .setting_with("chunk-size", "10M")
    } else if case.mentions(&["layer"]) {
        exhausted("52,000 MiB per layer: build the image with more and smaller layers.")
    } else {
        let text = "100,000 images per repository: expire old images by a lifecycle policy, or request an increase (Service \
                    Quotas, Amazon ECR).";
        match case.location {
            Some(location) => exhausted(&format!("{text} With a policy in policy.json:")).command(location.command(
                "put-lifecycle-policy",
                "--repository-name",
                " --lifecycle-policy-text file://policy.json",
            )),
            None => exhausted(text),
        }
    };
    case.advise_as(Kind::Refused, advice)
}

fn throttled(case: &Case<'_>) -> Option<Meaning> {
    let (actions, _) = case.needed().unwrap_or_default();
    let action = actions.last().copied().unwrap_or("these calls");
    let rate = ACTIONS.iter().find(|(known, _)| *known == action).and_then(|(_, rate)| *rate);
    let rate = rate.map_or_else(String::new, |rate| format!(" The default is {rate} per second, account and region."));
    let text = format!(
        "ECR throttles {action}.{rate} Request an increase (Service Quotas, Amazon ECR), or run the same command again to \
         resume, with fewer pushes at a time or a lower concurrency"
    );
    case.advise_as(Kind::Unavailable, Advice::new(text).setting_with("concurrency", "N"))
}

fn foreign_token(case: &Case<'_>) -> Option<Meaning> {
    let region = &case.location?.host.region;
    case.advise_as(
        Kind::Permission,
        format!(
            "The registry does not accept the login of ECR's API. A login is valid in its own region and partition only, and \
             this registry is in {region}: unset AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_ECR and `endpoint_url` of the profile if \
             they refer to another."
        ),
    )
}

/// Adds advice to an error without a response.
fn advise_on_transport(error: Error, location: Option<&RepositoryLocation>) -> Error {
    if let Some(TlsProblem::UntrustedIssuer(_)) = TlsProblem::find(&error, false) {
        let advice = Advice::new(
            "ECR's certificates are issued by Amazon. A proxy that inspects TLS (Zscaler, Blue Coat and others) presents its \
             own: add its CA to the machine's certificates, set AWS_CA_BUNDLE, or trust it",
        );
        return error.with_kind(Kind::Refused).code(Code::TlsFailed).hint(advice.setting_with("ca-file", "FILE"));
    }
    match location {
        // A connection that could not be established, or without a response in time.
        Some(location) if matches!(error.stable_code(), Code::Unreachable | Code::TimedOut) => {
            error.hint(unreachable::advice(&location.host.region, "ecr.dkr"))
        }
        _ => error,
    }
}
