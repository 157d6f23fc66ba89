//! What is pushed, and how: the options of a [`Pusher`](super::Pusher), in groups, and one push.

use std::path::PathBuf;
use std::time::Duration;

use super::compression::CompressionPolicy;
use super::tags::IfExists;
use crate::archive::{ImageSelector, Selection, Source};
use crate::ecr::{Access, NewRepository};
use crate::oci::{Digest, Host, MountSource, Tag, TagPattern, Target};
use crate::registry::{Keychain, Login, RetryConfig};

/// One image, and where it is pushed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PushRequest {
    /// The archive.
    pub source: Source,
    /// Which image of the archive, and how much of it.
    pub image: ImageOptions,
    /// The targets, independent of each other. Each layer is compressed once for all of them.
    pub targets: Vec<Target>,
    /// Additional tags for every target.
    pub tags: Vec<Tag>,
}

impl PushRequest {
    /// Creates a request for the only image of an archive.
    pub fn new(source: Source, targets: impl IntoIterator<Item = Target>) -> Self {
        Self { source, image: ImageOptions::default(), targets: targets.into_iter().collect(), tags: Vec::new() }
    }
}

/// Which image of an archive is pushed, and how much of it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ImageOptions {
    /// Which image.
    pub selector: ImageSelector,
    /// Which platforms, and whether with attestations.
    pub selection: Selection,
    /// The only digest that may be tagged.
    pub expect_digest: Option<Digest>,
    /// Whether signatures, SBOMs and other referrers are pushed along with the image.
    pub referrers: bool,
    /// Whether non-distributable layers that the archive holds are uploaded.
    pub non_distributable_layers: bool,
    /// Whether fields that ECR rejects are removed from manifests, which changes their digests.
    pub repair: bool,
}

/// The options of a [`Pusher`](super::Pusher).
///
/// ```
/// use ecr_push::{CompressionPolicy, IfExists, Options};
///
/// let mut options = Options::default();
/// options.layers.compression = CompressionPolicy::Zstd(None);
/// options.repositories.create = true;
/// options.if_exists = IfExists::Fail;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// How registries are reached, and with which credentials.
    pub registries: RegistryOptions,
    /// How layers are compressed, reused and uploaded.
    pub layers: LayerOptions,
    /// How missing repositories are created.
    pub repositories: RepositoryOptions,
    /// What happens to tags that exist.
    pub if_exists: IfExists,
    /// The folder for temporary files.
    pub temp_dir: PathBuf,
    /// The time limit of one push.
    pub deadline: Option<Duration>,
    /// Whether a push only decides what it would do. Nothing is changed then, neither in a registry nor on disk.
    pub dry_run: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            registries: RegistryOptions::default(),
            layers: LayerOptions::default(),
            repositories: RepositoryOptions::default(),
            if_exists: IfExists::default(),
            temp_dir: std::env::temp_dir(),
            deadline: None,
            dry_run: false,
        }
    }
}

/// How registries are reached, and with which credentials.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RegistryOptions {
    /// The source of AWS credentials.
    pub access: Access,
    /// Whether STS is asked for the caller, to report it.
    pub report_caller: bool,
    /// The account of targets without a host, if it is not the caller's own.
    pub registry_id: Option<String>,
    /// The login for the registry that is not Amazon's.
    pub login: Option<ExplicitCredentials>,
    /// Where docker and podman store logins.
    pub keychain: Keychain,
    /// The loopback address that replaces every registry host of ECR.
    pub ecr_endpoint: Option<Host>,
    /// Whether hosts that are not Amazon's are reached over plain http.
    pub insecure: bool,
    /// PEM certificates to trust beside the machine's own. With them, loopback and insecure hosts use https, too.
    pub ca_file: Option<PathBuf>,
    /// More certificates to trust, as AWS's own tools do: `AWS_CA_BUNDLE`, or `ca_bundle` of the profile.
    pub ca_bundle: Option<CaBundle>,
    /// How often requests are sent again, and when they time out.
    pub retry: RetryConfig,
    /// The most bytes of layers that are sent per second, over all targets.
    pub limit_rate: Option<u64>,
    /// The CI system of the run, which the user agent names.
    pub ci: Option<&'static str>,
}

/// How layers are compressed, reused and uploaded.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LayerOptions {
    /// How uncompressed layers are compressed.
    pub compression: CompressionPolicy,
    /// How many threads compress. With 0 each layer is compressed on the thread that reads it.
    pub threads: usize,
    /// How many layers are uploaded to a target at once.
    pub concurrency: usize,
    /// How many of them may be larger than a chunk. Each of these holds a chunk and more in memory.
    pub large_concurrency: usize,
    /// The bytes of a chunk; without it the registry and the number of layers decide.
    pub chunk_size: Option<u64>,
    /// The file of the local layer cache.
    pub cache: Option<PathBuf>,
    /// Where layers are looked for that need not be uploaded.
    pub reuse: Reuse,
    /// The images to read for reuse, beside those that the target's tags point at.
    pub reuse_from: Vec<TagPattern>,
    /// Other repositories of the target's registry to mount layers from.
    pub mount_from: Vec<MountSource>,
    /// Whether the image gets the same digest at all targets: a layer is reused only if all targets have it.
    pub same_digest: bool,
}

impl Default for LayerOptions {
    fn default() -> Self {
        Self {
            compression: CompressionPolicy::Usual,
            threads: std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS),
            concurrency: CONCURRENCY,
            large_concurrency: LARGE_CONCURRENCY,
            chunk_size: None,
            cache: None,
            reuse: Reuse::Tag,
            reuse_from: Vec::new(),
            mount_from: Vec::new(),
            same_digest: false,
        }
    }
}

/// As many as docker and skopeo use, or more: small layers cost round trips most of all.
const CONCURRENCY: usize = 6;

/// The limit for layers larger than a chunk: each of them holds a chunk and more in memory.
const LARGE_CONCURRENCY: usize = 4;

/// Each thread costs 2 MiB, and a push stays under 68 MiB on any machine, even if the registry accepts no data.
const MOST_THREADS: usize = 6;

impl LayerOptions {
    /// Returns how many layers that are larger than a chunk one of so many targets may upload at once: with many targets
    /// fewer, so that no more than twice as many are in memory in all, or one for each target.
    pub(super) fn large_per_target(&self, targets: usize) -> usize {
        let all = self.large_concurrency.max(1);
        (2 * all).div_ceil(targets.max(1)).min(all)
    }

    /// Returns among how many layers the memory for chunks is divided, if an image with `layers` is pushed to so many
    /// targets.
    pub(super) fn memory_shares(&self, targets: usize, layers: usize) -> usize {
        self.large_concurrency.min(layers.saturating_mul(targets))
    }
}

/// How missing repositories are created. Only ECR needs that.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RepositoryOptions {
    /// Whether a missing repository is created.
    pub create: bool,
    /// The settings of a created repository.
    pub settings: NewRepository,
    /// The file with the lifecycle policy of a created repository.
    pub lifecycle_policy: Option<PathBuf>,
    /// The file with the permissions policy of a created repository.
    pub repository_policy: Option<PathBuf>,
}

/// Where layers are looked for that need not be compressed and uploaded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reuse {
    /// Nowhere.
    Off,
    /// In the local layer cache.
    Cache,
    /// In the local layer cache, and in images of the target's repository.
    Tag,
}

/// The credentials that the user gives for a registry.
#[derive(Clone, Debug)]
pub struct ExplicitCredentials {
    /// The user name.
    pub user: String,
    /// The login.
    pub login: Login,
}

/// A file of certificates that AWS's own tools trust as well.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CaBundle {
    /// The variable or the setting that names it.
    pub from: String,
    /// The file.
    pub path: PathBuf,
}
