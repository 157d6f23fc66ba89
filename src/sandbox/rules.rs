//! The behavior of ECR that varies: between accounts, over the years, or between reports that contradict each other.
//!
//! Data only. The defaults are ECR's strictest known behavior, so that clients that work here work there.

use std::time::Duration;

use super::faults::Fault;
use super::findings::ScanFindings;
use super::iam::Policy;

/// The behavior of the sandbox. Tests can change it while it runs.
///
/// ```
/// use ecr_push::sandbox::{Options, Rules, Sandbox};
/// use ecr_push::{CancellationToken, Code, PushRequest, Pusher, Source};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// let rules = Rules { deny: vec!["ecr:CreateRepository".into()], ..Default::default() };
/// let sandbox = Sandbox::start(Options { rules, ..Default::default() }).await?;
/// # let mut options = ecr_push::Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// options.repositories.create = true;
/// # let pusher = Pusher::builder().options(options).start().await?;
/// # let archive = Source::Path("testdata/docker-20.10-save.tar".into());
/// # let request = PushRequest::new(archive, ["team/app:1.4".parse()?]);
/// let outcome = pusher.push(request, CancellationToken::new()).await;
/// assert_eq!(outcome.error().map(|error| error.stable_code()), Some(Code::PermissionDenied));
/// // The permission is granted.
/// sandbox.set_rules(|rules| rules.deny.clear());
/// # let archive = Source::Path("testdata/docker-20.10-save.tar".into());
/// # let request = PushRequest::new(archive, ["team/app:1.4".parse()?]);
/// pusher.push(request, CancellationToken::new()).await.into_result()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The state of an upload session after its body was cut.
    pub interrupted: Interrupted,
    /// The response to a `GET` on an upload session.
    pub upload_status: UploadStatus,
    /// The response to a repeated closing PUT after the first one succeeded.
    pub closed_twice: ClosedTwice,
    /// The rules for uploads in parts.
    pub parts: Parts,
    /// The authentication that it requires.
    pub asks: Asks,
    /// Whether requests without a login are served, as by registries without accounts.
    pub anonymous: bool,
    /// The form of `Location`.
    pub locations: Locations,
    /// Whether every tag is immutable, whatever the settings of its repository.
    pub immutable: bool,
    /// The message of the error about an immutable tag.
    pub immutable_words: ImmutableWords,
    /// The caller's IAM policy. Without one, everything except `deny` is allowed.
    pub policy: Option<Policy>,
    /// The denied IAM actions, such as `ecr:PutImage`.
    pub deny: Vec<String>,
    /// The reason for a denial in IAM's words, unless no identity-based policy allows the action: `with an explicit deny in a
    /// service control policy`
    /// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html>).
    pub denied: Option<String>,
    /// Whether the body of a denial is empty, as ECR's always is for HEAD and sometimes for other requests. In the registry's
    /// API only.
    pub deny_silently: bool,
    /// The lifetime of tokens that are issued from now on, 12 hours if it is not set.
    pub token_lifetime: Option<Duration>,
    /// The lifetime of a role's credentials, whatever was requested.
    pub session_lifetime: Option<Duration>,
    /// The external ID that is required to assume a role.
    pub external_id: Option<String>,
    /// The response to an upload to a missing repository.
    pub absent_repository: Absent,
    /// The creation templates of each registry, until the API changes them. If one applies, the first upload creates the
    /// repository.
    pub templates: Vec<CreationTemplate>,
    /// The maximum number of results in a page of the API, whatever was requested: a page may always be shorter
    /// (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeImages.html>).
    pub page: Option<usize>,
    /// The availability of existing layers.
    pub layers: LayerState,
    /// The response to a request to mount a blob, unless PutAccountSetting set `BLOB_MOUNTING` in the registry.
    pub blob_mounting: BlobMounting,
    /// Whether the response to a request for a list of referrers is 404 and `OCI-Subject` is never sent, as by registries that
    /// do not support `subject`
    /// (<https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests-with-subject>). ECR has
    /// supported it since June 2024.
    pub no_referrers: bool,
    /// What scans of images find. Without it they find nothing.
    pub scan_findings: Option<ScanFindings>,
    /// The manifests that are rejected.
    pub manifest: ManifestRules,
    /// The disk space for blobs in bytes, including unfinished uploads. The response to a part that does not fit is 500. A
    /// part of known length is not stored at all; any other is cut where the disk was full.
    pub space: Option<u64>,
    /// The maximum number of concurrent requests to the registry's API. Each additional one gets
    /// [`Trouble::Throttle`](super::Trouble::Throttle), which does not count for `faults`. ECR counts requests per second
    /// instead (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html>).
    pub most_at_once: Option<usize>,
    /// Whether more requests in a second than ECR's default quotas allow are throttled
    /// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html>).
    pub rates: bool,
    /// The time by which its clock is ahead of the client's. With more than five minutes, signatures expire
    /// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/signing-elements.html>).
    pub clock_ahead: Duration,
    /// The latency of each response of the registry's API.
    pub delay: Duration,
    /// The faults that are injected.
    pub faults: Vec<Fault>,
}

/// A template for repositories that ECR creates automatically
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-creation-templates.html>).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CreationTemplate {
    /// The prefix of its repositories: `team` for names that begin with `team/`, `ROOT` for all that match no other template.
    pub prefix: String,
    /// The operations that it applies to: `CREATE_ON_PUSH`, `PULL_THROUGH_CACHE`, `REPLICATION`.
    pub applied_for: Vec<String>,
    /// Whether tags of such repositories are immutable.
    pub immutable: bool,
    /// Its other members, as CreateRepositoryCreationTemplate takes them: `imageTagMutability`, `lifecyclePolicy`.
    pub members: serde_json::Map<String, serde_json::Value>,
}

impl CreationTemplate {
    /// Creates a template that applies to pushes.
    pub fn on_push(prefix: &str) -> Self {
        Self { prefix: prefix.into(), applied_for: vec!["CREATE_ON_PUSH".into()], ..Self::default() }
    }

    /// Returns how closely it matches a name, if it does. The highest value counts.
    pub(super) fn fit(&self, name: &str) -> Option<usize> {
        // A slash at the end is implied, and may be stated
        // (https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreateRepositoryCreationTemplate.html).
        let prefix = self.prefix.trim_end_matches('/');
        if prefix == "ROOT" {
            return Some(0);
        }
        name.strip_prefix(prefix).filter(|rest| rest.starts_with('/')).map(|_| prefix.len())
    }
}

/// The result of BatchCheckLayerAvailability for existing layers
/// (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_Layer.html>). It is not known how ECR treats an upload of an
/// archived layer, so there are two variants.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LayerState {
    /// `AVAILABLE`.
    #[default]
    Available,
    /// `ARCHIVED`. An upload of the layer succeeds.
    Archived,
    /// `ARCHIVED`. The response to an upload states that the layer exists.
    ArchivedAndKept,
    /// Every layer is listed as a failure.
    Failing,
}

/// The authentication that the registry's API requires.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Asks {
    /// The token of ECR's API, as a password (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry_auth.html>).
    #[default]
    Ecr,
    /// A token of ECR Public's token service, which requires the token of ECR Public's API. The response to a password or an
    /// expired token is 400.
    EcrPublic,
    /// A token of a token service, which requires a password or an identity token, as with Docker Hub, GitHub and GitLab.
    Tokens(TokenService),
}

/// A token service, at `/token`.
///
/// A registry like Docker Hub or GitLab:
///
/// ```
/// use ecr_push::sandbox::{Asks, Options, Rules, Sandbox, TokenService};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// let service = TokenService { users: vec!["me:secret".into()], ..Default::default() };
/// let rules = Rules { asks: Asks::Tokens(service), ..Default::default() };
/// let sandbox = Sandbox::start(Options { rules, create: vec!["team/app".parse()?], ..Default::default() }).await?;
/// # use ecr_push::{CancellationToken, ExplicitCredentials, Login, PushRequest, Pusher, Source};
/// # let mut options = ecr_push::Options::default();
/// options.registries.login =
///     Some(ExplicitCredentials { user: "me".into(), login: Login::password("me", "secret") });
/// # let pusher = Pusher::builder().options(options).start().await?;
/// # let archive = Source::Path("testdata/docker-20.10-save.tar".into());
/// let request = PushRequest::new(archive, [format!("{}/team/app:1", sandbox.address()).parse()?]);
/// pusher.push(request, CancellationToken::new()).await.into_result()?;
/// assert!(sandbox.log().iter().any(|entry| entry.operation == "v2:Token"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TokenService {
    /// The URL in the challenge, if it is not the service's own.
    pub realm: Option<String>,
    /// Other challenges before its own, each in a separate header.
    pub beside: Vec<String>,
    /// Its users: `NAME:PASSWORD`.
    pub users: Vec<String>,
    /// The identity tokens that it accepts.
    pub identities: Vec<String>,
    /// Whether it issues anonymous tokens.
    pub anonymous: bool,
    /// Whether reads need no token and all other requests get 403. Then only `/v2/` sends the challenge.
    pub readable: bool,
    /// Repositories for which no token is issued, `team/app`, or not for an action, `team/app:delete`.
    pub closed: Vec<String>,
    /// The lifetime of a token in seconds. If it is not set, the response does not state it, and it is 60 s.
    pub expires_in: Option<u64>,
    /// The URL to which all requests are redirected.
    pub moved: Option<String>,
}

/// The response to a request to mount a blob from another repository. The first two are the default of the account setting
/// `BLOB_MOUNTING`, which is opt-in on ECR for each account in each region
/// (<https://github.com/aws/containers-roadmap/issues/2860>).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum BlobMounting {
    /// An upload session is opened.
    #[default]
    Disabled,
    /// The blob is mounted if ECR would mount it. Otherwise an upload session is opened.
    Enabled,
    /// The request is rejected, as by registries that do not support mounts, or if the caller may not read the source.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The error code: `UNSUPPORTED`.
        code: String,
    },
}

/// The state of an upload session after its body was cut. Reports about ECR contradict each other.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Interrupted {
    /// It accepts no more data: every further request gets a 416, even at the offset that an earlier 416 named
    /// (<https://github.com/apple/containerization/issues/790>).
    #[default]
    Spoiled,
    /// It accepts more data after the last byte that arrived. Only a 416 names that offset
    /// (<https://github.com/apple/container/issues/1895>).
    Resumable,
}

/// The response to a `GET` on an upload session.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum UploadStatus {
    /// 404, as on ECR, which does not support it (<https://github.com/dotnet/sdk/issues/33019>).
    #[default]
    Unknown,
    /// The last byte that arrived, as the specification requires.
    Reported,
    /// The length of the first part, as in ECR's `Range` after each part.
    Stuck,
    /// The number of bytes that arrived instead of the last byte, as on Quay. The response to a POST has the empty range by
    /// which Quay is recognized (<https://github.com/quay/quay/blob/master/endpoints/v2/blob.py>).
    Counted,
}

/// The response to a repeated closing PUT after the first one succeeded. ECR's is not known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ClosedTwice {
    /// 404: the session does not exist.
    #[default]
    Unknown,
    /// 201: success again.
    Created,
}

/// The rules for uploads in parts. Registries other than ECR follow the specification, more or less
/// (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-a-blob-in-chunks>): they answer a
/// part with 202 and the last byte that arrived, and accept small parts and empty blobs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Parts {
    /// ECR's rules: 5 MiB to 10 MiB, answered with 201.
    #[default]
    Ecr,
    /// Parts of any size.
    Any,
    /// Parts of at least this many bytes, which `OCI-Chunk-Min-Length` states when a session is opened. The last one may be
    /// smaller, so a small one is only noticed when more follows: then the response is 416
    /// (<https://github.com/distribution/distribution/blob/main/docs/content/spec/api.md#chunked-upload>).
    AtLeast(u64),
    /// Request bodies of at most this many bytes, because of a proxy: a larger one gets nginx's own 413, which is HTML, before
    /// the rest of it is read (<https://github.com/SteveLTN/https-portal/issues/100>). Applies to every request to the
    /// registry's API.
    AtMost(u64),
    /// No parts: a request with `Content-Range`, or for a session that has bytes already, is rejected. A blob is sent in one
    /// PUT, or as `docker push` does: in one PATCH without a range, and an empty PUT.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The error code: `UNSUPPORTED`.
        code: String,
    },
    /// Parts of any size, of which only the last is stored, and success is reported all the same
    /// (<https://github.com/wasmCloud/wasmCloud/issues/3405>). In memory only.
    LastKept,
}

/// The form of `Location`. The specification allows all of them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Locations {
    /// `http://HOST/v2/...`, as on ECR (<https://github.com/regclient/regclient/issues/81>).
    #[default]
    Absolute,
    /// `/v2/...`
    Path,
    /// `http://HOST/v2/...?_state=...`, as in the reference registry. A request without that state is rejected.
    Query,
    /// Relative to the request: `ID`, `../sha256:...`.
    Relative,
}

/// The response to an upload to a missing repository.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Absent {
    /// 404 `NAME_UNKNOWN` (<https://github.com/containers/skopeo/issues/851>).
    #[default]
    NameUnknown,
    /// The connection of the first POST is closed without a response if the repository or the permission to upload is missing
    /// (<https://github.com/aws/containers-roadmap/issues/1970>). All other requests still get a 404 or a 403.
    HangUp,
}

/// The message of the error about an immutable tag.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ImmutableWords {
    /// "... because the repository is immutable.", the words until 2025.
    Repository,
    /// "... because the tag is immutable.", the words since exclusion filters exist.
    #[default]
    Tag,
}

/// The manifests that are rejected. Each cause was seen on ECR; it is not known which ones remain, so all are on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ManifestRules {
    /// `platform` in the config descriptor (<https://github.com/moby/moby/issues/47661>).
    pub no_config_platform: bool,
    /// `annotations` in the config descriptor (<https://github.com/goharbor/acceleration-service/issues/353>).
    pub no_config_annotations: bool,
    /// `platform` in `subject` (<https://github.com/dragonflyoss/nydus/issues/1691>).
    pub no_subject_platform: bool,
    /// `platform.features` in an entry of an index (<https://github.com/aws/containers-roadmap/issues/2439>).
    pub no_platform_features: bool,
    /// A media type with parameters (<https://github.com/sigstore/sigstore-js/issues/1058>).
    pub no_media_type_parameters: bool,
    /// An image without layers (<https://github.com/werf/werf/issues/2544>).
    pub no_image_without_layers: bool,
    /// The maximum number of layers of an image. Today's number is not documented; this is the one of old quota tables.
    pub layer_limit: usize,
    /// The maximum number of tags of an image (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html>).
    pub tag_limit: usize,
    /// The maximum number of images of a repository.
    pub image_limit: usize,
}

impl Default for ManifestRules {
    fn default() -> Self {
        Self {
            no_config_platform: true,
            no_config_annotations: true,
            no_subject_platform: true,
            no_platform_features: true,
            no_media_type_parameters: true,
            no_image_without_layers: true,
            layer_limit: 127,
            tag_limit: 1000,
            image_limit: 100_000,
        }
    }
}
