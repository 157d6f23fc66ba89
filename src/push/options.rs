//! What is pushed, and how: the options of a [`Pusher`](super::Pusher), in groups, and one push.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use super::compression::CompressionPolicy;
use super::tags::IfExists;
use crate::archive::{ImageSelector, Selection, Source};
use crate::ecr::{Access, NewRepository};
use crate::oci::{Digest, Host, MountSource, Tag, TagPattern, Target};
use crate::registry::{Keychain, Login, RetryConfig};

/// One image, and where it is pushed.
///
/// ```
/// use ecr_push::{PushRequest, Source, Tag};
///
/// let archive = Source::Path("image.tar".into());
/// let mut request = PushRequest::new(archive, ["team/app".parse()?, "ghcr.io/team/app".parse()?]);
/// request.tags = vec!["1.4".parse()?, Tag::latest()];
/// assert_eq!(request.targets[1].host.as_ref().map(|host| host.as_str()), Some("ghcr.io"));
/// # Ok::<(), ecr_push::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PushRequest {
    /// The archive.
    pub source: Source,
    /// Further archives, each with the image that is joined with that of `source` to one multi-platform image.
    pub join: Vec<(Source, ImageSelector)>,
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
        Self {
            source,
            join: Vec::new(),
            image: ImageOptions::default(),
            targets: targets.into_iter().collect(),
            tags: Vec::new(),
        }
    }

    /// Returns all archives.
    pub(crate) fn archives(&self) -> impl Iterator<Item = &Source> {
        self.sources().map(|(source, _)| source)
    }

    /// Returns all archives, each with its image.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (&Source, &ImageSelector)> {
        let joined = self.join.iter().map(|(source, selector)| (source, selector));
        std::iter::once((&self.source, &self.image.selector)).chain(joined)
    }
}

/// Which image of an archive is pushed, and how much of it.
///
/// Pushes only what was approved:
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// use ecr_push::{CancellationToken, Code, Digest, Options, PushRequest, Pusher, Source};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let create = vec!["team/app".parse()?];
/// # let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
/// # let mut options = Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// let pusher = Pusher::builder().options(options).start().await?;
/// let index = Source::Path("testdata/skopeo-oci-layout-multiarch".into());
/// let mut request = PushRequest::new(index, ["team/app:1".parse()?]);
/// // What was approved is another image: nothing is uploaded.
/// request.image.expect_digest = Some(Digest::of(b"another image"));
/// let outcome = pusher.push(request, CancellationToken::new()).await;
/// assert_eq!(outcome.error().map(|error| error.stable_code()), Some(Code::DigestMismatch));
/// assert!(sandbox.image("team/app", "1").is_none());
/// # Ok(())
/// # }
/// ```
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
/// Decides what a push would do:
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// # use ecr_push::{CancellationToken, Options, PushRequest, Pusher, Source};
/// use ecr_push::IfExists;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let sandbox = Sandbox::start(sandbox::Options::default()).await?;
/// # let archive = Source::Path("testdata/docker-20.10-save.tar".into());
/// # let request = PushRequest::new(archive, ["team/app:1.4".parse()?]);
/// let mut options = Options::default();
/// options.registries.access = sandbox.endpoint_override().into();
/// options.repositories.create = true;
/// options.if_exists = IfExists::Fail;
/// options.dry_run = true;
/// let pusher = Pusher::builder().options(options).start().await?;
/// let plan = pusher.push(request, CancellationToken::new()).await.into_result()?;
/// assert_eq!(plan.targets[0].layer_counts().upload, 3);
/// assert_eq!(sandbox.repositories(), [""; 0], "nothing was created");
/// # Ok(())
/// # }
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
///
/// Pushes to a registry that is not Amazon's, with a password:
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// use ecr_push::{CancellationToken, ExplicitCredentials, Kind, Login, Options, PushRequest, Pusher, Source};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let create = vec!["team/app".parse()?];
/// # let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
/// # let host = sandbox.address();
/// let login = Login::password("AWS", &sandbox.token());
/// let mut options = Options::default();
/// options.registries.login = Some(ExplicitCredentials { user: "AWS".into(), login });
/// let pusher = Pusher::builder().options(options.clone()).start().await?;
/// let archive = Source::Path("testdata/docker-20.10-save.tar".into());
/// let request = PushRequest::new(archive, [format!("{host}/team/app:1").parse()?]);
/// pusher.push(request.clone(), CancellationToken::new()).await.into_result()?;
///
/// options.registries.login = Some(ExplicitCredentials { user: "AWS".into(), login: Login::password("AWS", "wrong") });
/// let pusher = Pusher::builder().options(options).start().await?;
/// let outcome = pusher.push(request, CancellationToken::new()).await;
/// assert_eq!(outcome.error().map(|error| error.kind()), Some(Kind::Permission));
/// # Ok(())
/// # }
/// ```
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
    /// The most manifests that are put per second in ECR registries of one account and region. Without it, there is
    /// [ECR's quota](https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html) of 10 on AWS, and no limit in
    /// registries that replace it.
    pub put_rate: Option<f64>,
    /// How many machines share that rate.
    pub machines: Option<NonZeroU64>,
    /// The CI system of the run, which the user agent names.
    pub ci: Option<&'static str>,
}

/// How layers are compressed, reused and uploaded.
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// use ecr_push::{CancellationToken, CompressionPolicy, Options, PushRequest, Pusher, Source};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let create = vec!["team/app".parse()?];
/// # let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
/// # let mut options = Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// options.layers.compression = CompressionPolicy::Zstd(Some(3));
/// options.layers.concurrency = 2;
/// let pusher = Pusher::builder().options(options).start().await?;
/// let archive = Source::Path("testdata/docker-20.10-save.tar".into());
/// let request = PushRequest::new(archive, ["team/app:1".parse()?]);
/// let outcome = pusher.push(request, CancellationToken::new()).await.into_result()?;
/// for layer in &outcome.targets[0].layers {
///     assert_eq!(layer.media_type.as_deref(), Some("application/vnd.oci.image.layer.v1.tar+zstd"));
/// }
/// # Ok(())
/// # }
/// ```
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
    /// How many pushes run at once, which share the memory for layers.
    pub pushes: usize,
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
            compression: CompressionPolicy::default(),
            threads: std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS),
            concurrency: CONCURRENCY,
            large_concurrency: LARGE_CONCURRENCY,
            pushes: 1,
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
        (2 * all).div_ceil(targets.saturating_mul(self.pushes).max(1)).min(all)
    }

    /// Returns among how many layers the memory for chunks is divided, if an image with `layers` is pushed to so many
    /// targets.
    pub(super) fn memory_shares(&self, targets: usize, layers: usize) -> usize {
        self.large_concurrency.min(layers.saturating_mul(targets).saturating_mul(self.pushes))
    }
}

/// How missing repositories are created. Only ECR needs that.
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// use ecr_push::{CancellationToken, Mutability, Options, PushRequest, Pusher, Source};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let sandbox = Sandbox::start(sandbox::Options::default()).await?;
/// # let mut options = Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// options.repositories.create = true;
/// options.repositories.settings.scan_on_push = true;
/// options.repositories.settings.mutability = Some(Mutability::Immutable);
/// let pusher = Pusher::builder().options(options).start().await?;
/// let archive = Source::Path("testdata/docker-20.10-save.tar".into());
/// let request = PushRequest::new(archive, ["team/new:1".parse()?]);
/// let outcome = pusher.push(request, CancellationToken::new()).await.into_result()?;
/// assert!(outcome.targets[0].created_repository);
/// assert_eq!(sandbox.settings("team/new").unwrap()["mutability"], "IMMUTABLE");
/// # Ok(())
/// # }
/// ```
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
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// use ecr_push::{CancellationToken, Options, PushRequest, Pusher, Reuse, Source};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let create = vec!["team/app".parse()?];
/// # let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
/// # let mut options = Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// let archive = Source::Path("testdata/docker-20.10-save.tar".into());
/// let request = PushRequest::new(archive, ["team/app:1".parse()?]);
/// // By default, a second push sends no layer, even from a machine that never pushed the image.
/// for (reuse, uploads) in [(Reuse::Off, 3), (Reuse::Tag, 0)] {
///     options.layers.reuse = reuse;
///     let pusher = Pusher::builder().options(options.clone()).start().await?;
///     let outcome = pusher.push(request.clone(), CancellationToken::new()).await.into_result()?;
///     assert_eq!(outcome.targets[0].layer_counts().upload, uploads);
/// }
/// # Ok(())
/// # }
/// ```
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
///
/// A file that is missing is an error at the start:
///
/// ```
/// use ecr_push::{CaBundle, Options, Pusher};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// let mut options = Options::default();
/// options.registries.ca_bundle = Some(CaBundle { from: "AWS_CA_BUNDLE".into(), path: "missing.pem".into() });
/// let error = Pusher::builder().options(options).start().await.unwrap_err();
/// assert!(error.to_string().contains("missing.pem"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CaBundle {
    /// The variable or the setting that names it.
    pub from: String,
    /// The file.
    pub path: PathBuf,
}
