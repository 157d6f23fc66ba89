//! The outcome of a push, as data.

use std::collections::HashSet;
use std::iter::Sum;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::{Serialize, Serializer};

use super::options::{Options, PushRequest};
use super::plan::LayerAction;
use super::run_blobs::BlobKey;
use super::tags::{PlannedTag, TagOutcome, TagState};
use crate::archive::{Archive, Image, Layer};
use crate::error::{Code, Error, Kind, Result};
use crate::oci::{DiffId, Digest, Tag, Target};

/// The outcome of a push, complete also after an error.
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// # use ecr_push::{CancellationToken, Options, PushRequest, Pusher, Source};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let create = vec!["team/app".parse()?];
/// # let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
/// # let mut options = Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// # let pusher = Pusher::builder().options(options).start().await?;
/// # let archive = Source::Path("testdata/docker-20.10-save.tar".into());
/// # let request = PushRequest::new(archive, ["team/app:1.4".parse()?]);
/// let outcome = pusher.push(request, CancellationToken::new()).await;
/// for target in &outcome.targets {
///     match &target.error {
///         Some(error) => eprintln!("{}: {error}", target.name),
///         None => eprintln!("{}: {} bytes sent", target.name, target.sent()),
///     }
/// }
/// let outcome = outcome.into_result()?;
/// let (_, manifest, _) = sandbox.image("team/app", "1.4").expect("it was pushed");
/// assert_eq!(outcome.digests(), [ecr_push::Digest::of(&manifest)]);
/// assert_eq!(outcome.first().map(|tag| tag.tag.as_str()), Some("1.4"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The archive, as it was named, or `standard input`; joined archives with ` + ` between them. If only tags were put, the
    /// image that they point at.
    pub archive: String,
    /// The image, if an archive was pushed and could be read.
    pub image: Option<ImageSummary>,
    /// The targets, in the order of the request.
    pub targets: Vec<TargetOutcome>,
    /// Whether it was a plan only.
    pub dry_run: bool,
    /// When it began, by the machine's clock.
    pub started_at: SystemTime,
    started: Instant,
}

/// The image that was chosen.
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// # use ecr_push::{CancellationToken, Options, PushRequest, Pusher, Source};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let create = vec!["team/app".parse()?];
/// # let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
/// # let mut options = Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// # let pusher = Pusher::builder().options(options).start().await?;
/// # let archive = Source::Path("testdata/docker-20.10-save.tar".into());
/// # let request = PushRequest::new(archive, ["team/app:1.4".parse()?]);
/// let image = pusher.push(request, CancellationToken::new()).await.image.expect("the archive can be read");
/// assert_eq!(image.format, "docker save archive");
/// assert_eq!(image.names, ["localhost/fixture/app:v1"]);
/// assert_eq!((image.platforms, image.layers), (vec!["linux/amd64".to_owned()], 3));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Serialize)]
pub struct ImageSummary {
    /// What wrote the archive, in words.
    pub format: String,
    /// The archive's names for the image.
    pub names: Vec<String>,
    /// The config digests: one a platform.
    pub image_ids: Vec<Digest>,
    /// The platforms, as far as the configs say.
    pub platforms: Vec<String>,
    /// How many layers there are, over all platforms; one that stands there several times is one.
    pub layers: usize,
    /// How many bytes they are in the archive.
    pub archive_bytes: u64,
}

/// The outcome of one target.
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// # use ecr_push::{CancellationToken, Options, PushRequest, Pusher, Source};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let create = vec!["team/app".parse()?];
/// # let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
/// # let mut options = Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// # let pusher = Pusher::builder().options(options).start().await?;
/// # let archive = Source::Path("testdata/docker-20.10-save.tar".into());
/// # let request = PushRequest::new(archive, ["team/app:1.4".parse()?]);
/// let outcome = pusher.push(request, CancellationToken::new()).await.into_result()?;
/// let target = &outcome.targets[0];
/// assert_eq!(target.name, "000000000000.dkr.ecr.us-east-1.amazonaws.com/team/app");
/// // What a deployment should use: the digest does not move.
/// let digest = target.digest.expect("the image was pushed");
/// assert_eq!(target.references(), [format!("{}:1.4@{digest}", target.name)]);
/// assert!(target.changed);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TargetOutcome {
    /// `HOST/REPOSITORY`; until the host is known, the target as it was given.
    pub name: String,
    /// The tags asked for.
    pub tags: Vec<Tag>,
    /// The tags that point at something now, as far as the push came.
    pub placed: Vec<TagOutcome>,
    /// What a dry run decided about the tags.
    pub planned_tags: Vec<PlannedTag>,
    /// The digest of the image there.
    pub digest: Option<Digest>,
    /// Its media type.
    pub media_type: Option<String>,
    /// Whether the repository was created on the way.
    pub created_repository: bool,
    /// Whether a push would create the repository, after a dry run.
    pub would_create_repository: bool,
    /// Whether anything was sent or put there.
    pub changed: bool,
    /// The layers, largest first, as far as they were planned.
    pub layers: Vec<LayerOutcome>,
    /// Why it failed, if it did.
    pub error: Option<Error>,
    /// Whether the registry does not mount layers, as far as a dry run of several images found out.
    pub(crate) is_mounting_off: bool,
    pub(super) lanes: usize,
}

/// How many layers there are, by what happened to them.
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// # use ecr_push::{CancellationToken, Options, PushRequest, Pusher, Source};
/// use ecr_push::LayerCounts;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let create = vec!["team/app".parse()?];
/// # let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
/// # let mut options = Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// let pusher = Pusher::builder().options(options).start().await?;
/// let push = async |archive: &str| {
///     let archive = Source::Path(format!("testdata/{archive}").into());
///     let request = PushRequest::new(archive, ["team/app:1.4".parse()?]);
///     pusher.push(request, CancellationToken::new()).await.into_result()
/// };
/// assert_eq!(push("docker-20.10-save.tar").await?.targets[0].layer_counts(), LayerCounts { upload: 3, mount: 0, reuse: 0 });
/// // Another archive of the same image.
/// assert_eq!(push("podman-docker-archive.tar").await?.targets[0].layer_counts(), LayerCounts { upload: 0, mount: 0, reuse: 3 });
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct LayerCounts {
    /// Uploaded.
    pub upload: usize,
    /// Linked from another repository.
    pub mount: usize,
    /// Taken over from the repository.
    pub reuse: usize,
}

impl Sum for LayerCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |all, it| Self {
            upload: all.upload + it.upload,
            mount: all.mount + it.mount,
            reuse: all.reuse + it.reuse,
        })
    }
}

/// The outcome of one layer at one target.
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// # use ecr_push::{CancellationToken, Options, PushRequest, Pusher, Source};
/// use ecr_push::LayerAction;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let create = vec!["team/app".parse()?];
/// # let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
/// # let mut options = Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// # let pusher = Pusher::builder().options(options).start().await?;
/// # let archive = Source::Path("testdata/docker-20.10-save.tar".into());
/// # let request = PushRequest::new(archive, ["team/app:1.4".parse()?]);
/// let outcome = pusher.push(request, CancellationToken::new()).await.into_result()?;
/// let largest = &outcome.targets[0].layers[0];
/// assert_eq!(largest.action, LayerAction::Upload);
/// assert_eq!(largest.reason, "new, compressed with gzip");
/// assert!(largest.size < Some(largest.archive_bytes), "it was compressed");
/// assert!(sandbox.blob("team/app", &largest.digest.unwrap()).is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Serialize)]
pub struct LayerOutcome {
    /// The archive's name for the layer.
    pub name: String,
    /// The hash of the uncompressed bytes.
    pub diff_id: Option<DiffId>,
    /// What identifies its blob in all images of a run, if that is known before the push.
    #[serde(skip)]
    pub(crate) blob: Option<BlobKey>,
    /// The size in the archive, in bytes.
    pub archive_bytes: u64,
    /// The media type in the manifest, if the registry has the layer.
    pub media_type: Option<String>,
    /// The digest in the registry, if the registry has the layer.
    pub digest: Option<Digest>,
    /// The size in the registry, in bytes, if the registry has the layer.
    pub size: Option<u64>,
    /// What happened to the layer.
    pub action: LayerAction,
    /// The reason for the action.
    pub reason: String,
    /// The bytes that the last attempt sent.
    #[serde(rename = "bytes_sent")]
    pub sent: u64,
    /// The bytes that an interrupted earlier run had sent.
    #[serde(rename = "bytes_of_earlier_run")]
    pub resumed: u64,
    /// The number of retries: of a request of the upload, or of the whole upload.
    pub retries: u32,
    #[serde(skip)]
    pub(super) started: Option<Instant>,
    /// The duration of the upload or the mount, in seconds.
    #[serde(serialize_with = "serialize_seconds")]
    pub seconds: f64,
    /// How long its compression and upload took in an earlier run, if the layer cache has it.
    #[serde(skip)]
    pub took: Option<Duration>,
}

/// Rounds seconds to three decimals, as all outputs for programs have them.
pub(crate) fn round_seconds(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

fn serialize_seconds<S: Serializer>(seconds: &f64, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_f64(round_seconds(*seconds))
}

impl Outcome {
    pub(super) fn new(request: &PushRequest, options: &Options) -> Self {
        let archives = request.archives().map(ToString::to_string).collect::<Vec<_>>();
        Self::of_targets(archives.join(" + "), &request.targets, options)
    }

    /// Returns the outcome before any target is reached. `archive` is what the image comes from.
    pub(super) fn of_targets(archive: String, targets: &[Target], options: &Options) -> Self {
        let targets = targets.iter().map(|target| TargetOutcome {
            name: target.to_string(),
            tags: Vec::new(),
            placed: Vec::new(),
            planned_tags: Vec::new(),
            digest: None,
            media_type: None,
            created_repository: false,
            would_create_repository: false,
            changed: false,
            layers: Vec::new(),
            error: None,
            is_mounting_off: false,
            lanes: options.layers.concurrency.max(1),
        });
        Self {
            archive,
            image: None,
            targets: targets.collect(),
            dry_run: options.dry_run,
            started_at: SystemTime::now(),
            started: Instant::now(),
        }
    }

    /// Returns the outcome of a push that ends before any target is reached.
    pub fn failed(request: &PushRequest, options: &Options, error: Error) -> Self {
        Self::new(request, options).of_failure(error)
    }

    /// Nothing was reached at all.
    pub(super) fn of_failure(mut self, error: Error) -> Self {
        for target in &mut self.targets {
            target.error = Some(error.clone());
        }
        self
    }

    /// What was interrupted was so because the time was over.
    pub(super) fn too_late(mut self, deadline: Duration) -> Self {
        let late = format!("the push exceeded its deadline of {} s", deadline.as_secs());
        let error = Error::new(Kind::Unavailable, late)
            .code(Code::DeadlineExceeded)
            .hint("Run the same command again to resume.");
        for target in self.targets.iter_mut().filter(|target| target.placed.len() < target.tags.len().max(1)) {
            let Some(before) = target.error.as_ref().filter(|error| error.kind() == Kind::Interrupted) else {
                continue;
            };
            // Such as a manifest whose answer did not come.
            let causes = before.causes();
            target.error =
                Some(if causes.is_empty() { error.clone() } else { error.clone().because(causes.join(": ")) });
        }
        self
    }

    /// Returns the error that decides the exit code: the gravest of all targets, whatever their order.
    pub fn error(&self) -> Option<&Error> {
        Error::most_severe(self.targets.iter().filter_map(|target| target.error.as_ref()))
    }

    /// Returns the outcome if every target succeeded.
    ///
    /// # Errors
    /// The error that decides the exit code.
    pub fn into_result(self) -> Result<Self> {
        self.error().cloned().map_or(Ok(self), Err)
    }

    /// The digests of the image, each once, in the order of the targets. Targets that keep layers that were compressed
    /// another way have another digest. A tag that was left alone may be of another image, and does not count.
    pub fn digests(&self) -> Vec<Digest> {
        let mut digests = Vec::new();
        for placed in self.targets.iter().flat_map(TargetOutcome::of_image) {
            if !digests.contains(&placed.digest) {
                digests.push(placed.digest);
            }
        }
        digests
    }

    /// What the first target's first tag points at, which stands for all of it where one digest is wanted. Nothing if any
    /// target failed, or it was a plan only.
    pub fn first(&self) -> Option<&TagOutcome> {
        let is_done = !self.dry_run && self.error().is_none();
        self.targets.iter().flat_map(|target| &target.placed).next().filter(|_| is_done)
    }

    /// How long it took so far.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}

impl TargetOutcome {
    /// `HOST/REPOSITORY:TAG@DIGEST` for each tag, with what it points at.
    pub fn references(&self) -> Vec<String> {
        self.placed.iter().map(|TagOutcome { tag, digest, .. }| format!("{}:{tag}@{digest}", self.name)).collect()
    }

    /// The tags that point at the image.
    pub fn pushed(&self) -> Vec<&Tag> {
        let pushed = self.placed.iter().filter(|placed| placed.state != TagState::Skipped);
        pushed.map(|placed| &placed.tag).collect()
    }

    /// The tags that point at the image, with what they point at.
    pub fn of_image(&self) -> impl Iterator<Item = &TagOutcome> {
        self.placed.iter().filter(|placed| placed.state != TagState::Skipped)
    }

    /// Counts the layers by what happened to them.
    pub fn layer_counts(&self) -> LayerCounts {
        let mut counts = LayerCounts::default();
        for layer in &self.layers {
            match layer.action {
                LayerAction::Upload => counts.upload += 1,
                LayerAction::Mount(..) => counts.mount += 1,
                LayerAction::Reuse(_) => counts.reuse += 1,
            }
        }
        counts
    }

    /// The bytes that were sent.
    pub fn sent(&self) -> u64 {
        self.layers.iter().map(|layer| layer.sent).sum()
    }
}

impl LayerOutcome {
    /// A hash that people know it by, shortened, where one is known.
    pub fn hash(&self) -> Option<String> {
        self.diff_id.map(|diff_id| diff_id.short()).or_else(|| Some(self.digest?.short()))
    }
}

impl ImageSummary {
    pub(super) fn of(archives: &[Arc<Archive>], image: &Image) -> Self {
        let manifests = image.content.manifests();
        let mut known = HashSet::new();
        let is_new = |layer: &&Layer| match (layer.digest, layer.diff_id) {
            (None, None) => true,
            hashes => known.insert(hashes),
        };
        let layers: Vec<_> = manifests.iter().flat_map(|manifest| &manifest.layers).filter(is_new).collect();
        let mut formats: Vec<&str> = archives.iter().map(|archive| archive.format).collect();
        formats.dedup();
        Self {
            format: formats.join(", "),
            names: image.names.clone(),
            image_ids: manifests.iter().map(|manifest| manifest.config.digest).collect(),
            platforms: image.content.platforms().iter().map(ToString::to_string).collect(),
            layers: layers.len(),
            archive_bytes: layers.iter().map(|layer| layer.bytes.len()).sum(),
        }
    }
}
