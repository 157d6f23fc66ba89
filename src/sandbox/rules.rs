//! How ECR behaves, where that varies: between accounts, between years, or between reports that contradict each other.
//!
//! Plain data. The defaults are ECR's strictest known behaviour, so that what works here works there.

use std::time::Duration;

use super::faults::Fault;
use super::iam::Policy;

/// How the sandbox behaves. Tests change it in mid-run.
#[derive(Clone, Debug)]
pub struct Rules {
    /// What becomes of an upload session whose body was cut.
    pub interrupted: Interrupted,
    /// What a `GET` on an upload session tells.
    pub upload_status: UploadStatus,
    /// What a repeated closing PUT meets after the first one was taken.
    pub closed_twice: ClosedTwice,
    /// What the registry says to uploads in parts.
    pub parts: Parts,
    /// What it asks for, to know who somebody is.
    pub asks: Asks,
    /// Serves whoever shows no login, as registries without accounts do.
    pub anonymous: bool,
    /// What `Location` looks like.
    pub locations: Locations,
    /// Makes every tag immutable, whatever its repository says.
    pub immutable: bool,
    /// The words in which a push to an immutable tag is refused.
    pub immutable_words: ImmutableWords,
    /// The caller's IAM policy. Without one everything is allowed that `deny` does not name.
    pub policy: Option<Policy>,
    /// IAM actions that the caller lacks, such as `ecr:PutImage`.
    pub deny: Vec<String>,
    /// Why the caller lacks them, in IAM's words, where it is not for want of an identity-based policy: `with an explicit
    /// deny in a service control policy`
    /// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html>).
    pub denied: Option<String>,
    /// Leaves the body of a denial empty, as ECR always does for HEAD and sometimes for others. On the registry's face
    /// only.
    pub deny_silently: bool,
    /// How long a token lives. Counts for tokens handed out from now on.
    pub token_lifetime: Duration,
    /// How long a role's credentials live, whatever was asked for.
    pub session_lifetime: Option<Duration>,
    /// The external ID without which no role is assumed.
    pub external_id: Option<String>,
    /// What an upload to a repository that does not exist meets.
    pub absent_repository: Absent,
    /// The registry's creation templates. One that applies makes the first upload create its repository.
    pub templates: Vec<CreationTemplate>,
    /// The most results to a page of an answer of the API, whatever was asked for: a page may always be shorter
    /// (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeImages.html>).
    pub page: Option<usize>,
    /// What is said of layers that are there.
    pub layers: LayerState,
    /// What becomes of a request to mount a blob.
    pub blob_mounting: BlobMounting,
    /// Keeps lists of what refers to a manifest, serves them, and says so with `OCI-Subject`, as ECR has done since June
    /// 2024. Registries that know nothing of `subject` answer the question for such a list with 404
    /// (<https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests-with-subject>).
    pub referrers: bool,
    /// What the manifest parser refuses.
    pub manifest: ManifestRules,
    /// How many bytes of blobs fit on the disk, those of unfinished uploads included. A part that does not fit meets a
    /// 500. Nothing of it is taken if its length was told; otherwise it is cut where the disk was full.
    pub space: Option<u64>,
    /// How many requests the registry's face serves at the same moment. Each further one meets
    /// [`Trouble::Throttle`](super::Trouble::Throttle), which does not count for `faults`. ECR counts by the second
    /// instead (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html>).
    pub most_at_once: Option<usize>,
    /// How far its clock is ahead of the client's. Of more than five minutes signatures expire
    /// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/signing-elements.html>).
    pub clock_ahead: Duration,
    /// How much later each answer of the registry's face comes: how far away it is.
    pub delay: Duration,
    /// What goes wrong on purpose, and how often still.
    pub faults: Vec<Fault>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            interrupted: Interrupted::default(),
            upload_status: UploadStatus::default(),
            closed_twice: ClosedTwice::default(),
            parts: Parts::default(),
            asks: Asks::default(),
            anonymous: false,
            locations: Locations::default(),
            immutable: false,
            immutable_words: ImmutableWords::default(),
            policy: None,
            deny: Vec::new(),
            denied: None,
            deny_silently: false,
            // https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry_auth.html
            token_lifetime: Duration::from_secs(12 * 60 * 60),
            session_lifetime: None,
            external_id: None,
            absent_repository: Absent::default(),
            templates: Vec::new(),
            page: None,
            layers: LayerState::default(),
            blob_mounting: BlobMounting::default(),
            referrers: true,
            manifest: ManifestRules::default(),
            space: None,
            most_at_once: None,
            clock_ahead: Duration::ZERO,
            delay: Duration::ZERO,
            faults: Vec::new(),
        }
    }
}

/// A template for repositories that ECR creates by itself
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-creation-templates.html>).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CreationTemplate {
    /// The repositories it is for: `team` for those whose names begin with `team/`, `ROOT` for those that no other one is for.
    pub prefix: String,
    /// When it applies: `CREATE_ON_PUSH`, `PULL_THROUGH_CACHE`, `REPLICATION`.
    pub applied_for: Vec<String>,
    /// Whether tags of such repositories must not move.
    pub immutable: bool,
}

impl CreationTemplate {
    /// One that makes pushes create repositories.
    pub fn on_push(prefix: &str) -> Self {
        Self { prefix: prefix.into(), applied_for: vec!["CREATE_ON_PUSH".into()], immutable: false }
    }

    /// How closely it fits a name, if it does: the more, the closer.
    pub(super) fn fit(&self, name: &str) -> Option<usize> {
        // A slash at the end is implied, and may be written
        // (https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreateRepositoryCreationTemplate.html).
        let prefix = self.prefix.trim_end_matches('/');
        if prefix == "ROOT" {
            return Some(0);
        }
        name.strip_prefix(prefix).filter(|rest| rest.starts_with('/')).map(|_| prefix.len())
    }
}

/// What BatchCheckLayerAvailability says of layers that are there
/// (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_Layer.html>). What a push may do with archived ones was
/// never seen, so there are both ways.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LayerState {
    /// `AVAILABLE`.
    #[default]
    Available,
    /// `ARCHIVED`. Sent again, they are taken again.
    Archived,
    /// `ARCHIVED`. Who has sent one again hears that it exists.
    ArchivedAndKept,
    /// Nothing: each is among the failures.
    Failing,
}

/// What the registry's face asks for, to know who somebody is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Asks {
    /// The token of ECR's API, as a password (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry_auth.html>).
    #[default]
    Ecr,
    /// What ECR Public's token service gives for the token of its API. To a password it says 400, and so to a token that
    /// has expired.
    EcrPublic,
    /// What a token service gives for a password or an identity token, as Docker Hub, GitHub and GitLab have it.
    Tokens(TokenService),
}

/// A token service, at `/token`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TokenService {
    /// Where it is said to be. Without, it is said where it is.
    pub realm: Option<String>,
    /// Other challenges that stand before its own, a header each.
    pub beside: Vec<String>,
    /// Its users: `NAME:PASSWORD`.
    pub users: Vec<String>,
    /// The identity tokens that it takes.
    pub identities: Vec<String>,
    /// Gives tokens to those who show nothing.
    pub anonymous: bool,
    /// Lets everybody read without a token, and says 403 to the rest. What it wants to be shown only `/v2/` tells.
    pub readable: bool,
    /// Repositories that nobody gets a token for, `team/app`, or not for an action, `team/app:delete`.
    pub closed: Vec<String>,
    /// How many seconds a token lives. Without, it says nothing of it, and they are sixty.
    pub expires_in: Option<u64>,
    /// Sends everybody to another address.
    pub moved: Option<String>,
}

/// What becomes of a request to mount a blob from another repository. The first two are the account setting
/// `BLOB_MOUNTING`, which is opt-in on ECR (<https://github.com/aws/containers-roadmap/issues/2860>).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum BlobMounting {
    /// It is a plain start of an upload.
    #[default]
    Disabled,
    /// The blob is linked where ECR would, else it is a plain start of an upload.
    Enabled,
    /// It is refused, as by registries that know no mounting, or will not let the caller read there.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The error code: `UNSUPPORTED`.
        code: String,
    },
}

/// What becomes of an upload session whose body was cut. Reports about ECR contradict each other.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Interrupted {
    /// Nothing can be added any more: every further request meets a 416, even at the offset that an earlier 416 named
    /// (<https://github.com/apple/containerization/issues/790>).
    #[default]
    Spoiled,
    /// The session goes on after the last byte that arrived. Only a 416 tells which that was
    /// (<https://github.com/apple/container/issues/1895>).
    Resumable,
}

/// What a `GET` on an upload session tells.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum UploadStatus {
    /// 404, as on ECR, which has no such thing (<https://github.com/dotnet/sdk/issues/33019>).
    #[default]
    Unknown,
    /// How much arrived, as the specification has it.
    Told,
    /// How much the first part had, as ECR's `Range` after a part goes on saying.
    Stuck,
    /// How much arrived, where others tell the last byte of it, as Quay does; and the answer to a POST is the nothing that
    /// Quay is known by (<https://github.com/quay/quay/blob/master/endpoints/v2/blob.py>).
    Counted,
}

/// What a repeated closing PUT meets after the first one was taken. Nobody saw ECR's answer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ClosedTwice {
    /// 404: the session is gone.
    #[default]
    Unknown,
    /// 201: success is told again.
    Created,
}

/// What the registry says to uploads in parts. Registries other than ECR do as the specification says, more or less
/// (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-a-blob-in-chunks>): they answer a
/// part with 202 and the end of all that arrived, and have nothing against small parts or empty blobs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Parts {
    /// ECR's rules: 5 MiB to 10 MiB, answered with 201.
    #[default]
    Ecr,
    /// Parts of any size.
    Any,
    /// Parts of at least so many bytes, as `OCI-Chunk-Min-Length` tells whoever opens a session. The last one may be
    /// smaller, so that a small one is only noticed when more follows: that meets a 416
    /// (<https://github.com/distribution/distribution/blob/main/docs/content/spec/api.md#chunked-upload>).
    AtLeast(u64),
    /// Request bodies of at most so many bytes, because a proxy is in front: a larger one meets nginx's own 413, which
    /// is HTML, before the rest of it is read (<https://github.com/SteveLTN/https-portal/issues/100>). Counts for every
    /// request on the registry's face.
    AtMost(u64),
    /// No parts: whatever has a `Content-Range`, or adds to a session that has bytes already, is refused. A blob comes
    /// in one PUT, or as `docker push` sends it: in one PATCH that says nothing of a range, and an empty PUT.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The error code: `UNSUPPORTED`.
        code: String,
    },
    /// Parts of any size, of which the last is kept, and success is told all the same
    /// (<https://github.com/wasmCloud/wasmCloud/issues/3405>). In memory only.
    LastKept,
}

/// What `Location` looks like. The specification allows all of them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Locations {
    /// `http://HOST/v2/...`, as on ECR (<https://github.com/regclient/regclient/issues/81>).
    #[default]
    Absolute,
    /// `/v2/...`
    Path,
    /// `http://HOST/v2/...?_state=...`, as the reference registry has it. A request without that state is refused.
    Query,
    /// Relative to the request: `ID`, `../sha256:...`.
    Relative,
}

/// What an upload to a repository that does not exist meets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Absent {
    /// 404 `NAME_UNKNOWN` (<https://github.com/containers/skopeo/issues/851>).
    #[default]
    NameUnknown,
    /// The first POST is cut without an answer, for want of the repository or of the right to upload
    /// (<https://github.com/aws/containers-roadmap/issues/1970>). All other requests still get a 404 or a 403.
    HangUp,
}

/// The words in which a push to an immutable tag is refused.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ImmutableWords {
    /// "... because the repository is immutable.", the words until 2025.
    Repository,
    /// "... because the tag is immutable.", the words since exclusion filters exist.
    #[default]
    Tag,
}

/// What the manifest parser refuses. Each trigger was seen on ECR; which ones remain is unknown, so all are on.
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
    /// The most layers that an image may have. Today's number is undocumented; this is the one of old quota tables.
    pub layer_limit: usize,
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
        }
    }
}
