//! What a push is asked to do.

use std::path::PathBuf;
use std::time::Duration;

use super::compression::CompressionPolicy;
use super::tags::IfExists;
use crate::archive::{ImageSelector, Selection, Source};
use crate::ecr::{Access, NewRepository};
use crate::oci::{Digest, Host, MountSource, Tag, TagPattern, Target};
use crate::registry::{Keychain, Login, RetryConfig};

/// What to push, where to, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// The archive.
    pub archive: Source,
    /// The folder for temporary files, of which an archive takes one that cannot be read where it lies.
    pub temp_dir: PathBuf,
    /// Which image of it.
    pub choice: ImageSelector,
    /// How much of it.
    pub part: Selection,
    /// The only digest that may be tagged, if there is one.
    pub expect_digest: Option<Digest>,
    /// Push what belongs to the image, too: signatures, SBOMs.
    pub referrers: bool,
    /// Where to. Each is tried, each is reported; a layer is packed once for all of them.
    pub targets: Vec<Target>,
    /// Tags beside each target's own.
    pub tags: Vec<Tag>,
    /// How plain layers are packed.
    pub compression: CompressionPolicy,
    /// Send foreign layers that the archive has, which are kept by reference otherwise.
    pub foreign_layers: bool,
    /// Take out of stated manifests what is wrong with them, though they get another digest by that.
    pub repair: bool,
    /// Create a missing repository, on ECR.
    pub create_repository: bool,
    /// The account of targets without a host, where it is not the caller's own.
    pub registry_id: Option<String>,
    /// How a repository is set up that this push creates.
    pub new_repository: NewRepository,
    /// The file with the lifecycle policy of such a repository: which images are removed, and when.
    pub lifecycle_policy: Option<PathBuf>,
    /// The file with its policy: who may do what.
    pub repository_policy: Option<PathBuf>,
    /// What becomes of tags that exist.
    pub if_exists: IfExists,
    /// Where AWS credentials come from.
    pub access: Access,
    /// Ask STS who that is, to tell it.
    pub tell_caller: bool,
    /// The login for the one registry that is not Amazon's, if the user gave one.
    pub login: Option<ExplicitCredentials>,
    /// Where docker and podman keep logins.
    pub keychain: Keychain,
    /// A loopback address that stands in for every registry host of ECR.
    pub registry_endpoint: Option<Host>,
    /// Plain http for hosts that are not ECR's.
    pub insecure: bool,
    /// PEM certificates to trust beside the machine's own. Where it is given, loopback and insecure hosts are https, too.
    pub ca_file: Option<PathBuf>,
    /// More of them, which change nothing else: `AWS_CA_BUNDLE`, or `ca_bundle` of the profile.
    pub ca_bundle: Option<CaBundle>,
    /// How many layers are under way at once.
    pub concurrency: usize,
    /// How many of them may be larger than a chunk, of each of which a chunk and more is held in memory.
    pub large_at_once: usize,
    /// How many threads compress.
    pub compress_threads: usize,
    /// How long is waited for a registry, and how often a request is tried again.
    pub patience: RetryConfig,
    /// How many bytes a chunk has, where the choice is not left to us.
    pub chunk_size: Option<u64>,
    /// How many bytes of layers are sent a second at most, over all targets.
    pub limit_rate: Option<u64>,
    /// When the push is given up.
    pub deadline: Option<Duration>,
    /// The own cache, if one is kept.
    pub cache: Option<PathBuf>,
    /// Whether images that the repositories hold are looked at, for layers that need not be sent.
    pub reuse: Reuse,
    /// Which of them, beside what the target's tag points at.
    pub reuse_from: Vec<TagPattern>,
    /// Other repositories of a target's registry, to mount layers from that the target lacks.
    pub mount_from: Vec<MountSource>,
    /// The CI system in which this runs, which those who are asked are told. Nothing else about the user is.
    pub ci: Option<&'static str>,
    /// Give the image the same digest at all targets: a layer is reused only where all targets have it.
    pub same_digest: bool,
    /// Plan only: look, send nothing.
    pub dry_run: bool,
}

impl Request {
    /// Returns how many layers that are larger than a chunk one target may have under way: with many targets fewer, so that
    /// no more than twice as many are in memory in all, or one for each target.
    pub(super) fn large_per_target(&self) -> usize {
        let all = self.large_at_once.max(1);
        (2 * all).div_ceil(self.targets.len().max(1)).min(all)
    }

    /// Returns among how many layers the memory for chunks is divided, if an image has `layers`.
    pub(super) fn memory_shares(&self, layers: usize) -> usize {
        self.large_at_once.min(layers.saturating_mul(self.targets.len()))
    }
}

/// What is looked at for layers that need not be packed and sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reuse {
    /// Nothing.
    Off,
    /// The own cache.
    Cache,
    /// The own cache, and images in the target's repository.
    Tag,
}

/// A login that the user gave.
#[derive(Clone, Debug)]
pub struct ExplicitCredentials {
    /// The user's name.
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
