//! The arguments of a push, as typed. `push.rs` interprets them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, ValueEnum};

use super::bundle::BundleArgs;
use super::files::FileArgs;
use super::output::{LogFormatArg, ProgressArg};
use super::pipeline::PipelineArgs;
use super::registries::{RegionArgs, RegistryArgs};
use super::repository::RepositoryArgs;
use super::values::{CompressionArg, RecipeArg, number, seconds};
use crate::push::Reuse;

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct PushArgs {
    /// Image: a `docker save` tar, OCI layout or skopeo `dir:`, as a tar (compressed or not) or folder; - for standard
    /// input; docker-daemon:NAME; containers-storage:NAME
    #[arg(required = true)]
    pub(super) archive: Option<PathBuf>,
    /// Target: [HOST/]REPOSITORY[:TAG]; without HOST, your own ECR registry
    #[arg(required = true)]
    pub(super) target: Vec<String>,
    #[command(flatten)]
    pub(super) options: OptionArgs,
}

/// The options.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct OptionArgs {
    /// Select an image of the archive by name [default tag: latest]
    #[arg(long, value_name = "NAME[:TAG]", conflicts_with = "image_id", help_heading = "Source")]
    pub(super) image: Option<String>,
    /// Select an image of the archive by its ID or a prefix of the ID
    #[arg(long, value_name = "ID", conflicts_with = "image", help_heading = "Source")]
    pub(super) image_id: Option<String>,
    /// Push all images of an OCI layout as one multi-platform image, with its index.json as the index
    #[arg(long, conflicts_with_all = ["image", "image_id"], help_heading = "Source")]
    pub(super) index: bool,
    #[command(flatten)]
    pub(super) bundle: BundleArgs,
    /// Join the image of another archive, for another platform, to one multi-platform image (repeatable)
    #[arg(long, value_name = "ARCHIVE", help_heading = "Source")]
    pub(super) join: Vec<PathBuf>,
    /// Push one platform of a multi-platform image, without the index: OS/ARCH[/VARIANT]
    #[arg(long, value_name = "PLATFORM", conflicts_with = "present_platforms", help_heading = "Source")]
    pub(super) platform: Option<String>,
    /// Push only the platforms that the archive contains, as a new index, if the image's index lists more
    #[arg(long, conflicts_with = "platform", help_heading = "Source")]
    pub(super) present_platforms: bool,
    /// Leave out BuildKit attestations, and the index if only one image remains
    #[arg(long, help_heading = "Source")]
    pub(super) no_attestations: bool,
    /// Also push the image's referrers: signatures, SBOMs, attestations
    #[arg(long, help_heading = "Source")]
    pub(super) referrers: bool,
    /// Fail unless the manifest or index has this digest: sha256:...
    #[arg(long, value_name = "DIGEST", help_heading = "Source")]
    pub(super) expect_digest: Option<String>,
    /// Folder for the temporary files that some archives, and layers of several images, may need [default: the system's]
    #[arg(long, value_name = "DIR", help_heading = "Source")]
    pub(super) temp_dir: Option<PathBuf>,
    /// Upload non-distributable layers that the archive contains [default: reference them only]
    #[arg(long, help_heading = "Source")]
    pub(super) foreign_layers: bool,
    /// Correct wrong media types and remove what ECR rejects; this changes digests
    #[arg(long, help_heading = "Source")]
    pub(super) repair: bool,

    /// Additional tag for every target (repeatable) [default without any tag: latest]
    #[arg(short, long, value_name = "TAG", help_heading = "Target")]
    pub(super) tag: Vec<String>,
    #[command(flatten)]
    pub(super) region: RegionArgs,
    #[command(flatten)]
    pub(super) repository: RepositoryArgs,
    #[command(flatten)]
    pub(super) registry: RegistryArgs,

    /// Layers to upload at once [default: 6, at most 4 of them larger than a chunk]
    #[arg(long, value_parser = number::<usize>, value_name = "N", help_heading = "Transfer")]
    pub(super) concurrency: Option<usize>,
    /// Compression threads [default: one per core, at most 6]
    #[arg(long = "pack-threads", value_parser = number::<usize>, value_name = "N", help_heading = "Transfer")]
    pub(super) compress_threads: Option<usize>,
    /// Retries per request
    #[arg(long, value_parser = number::<usize>, value_name = "N", default_value_t = 4, help_heading = "Transfer")]
    pub(super) retries: usize,
    /// Time without progress after which an upload resumes over a new connection: 90s, 2m
    #[arg(long, value_parser = seconds, value_name = "DURATION", default_value = "60s", help_heading = "Transfer")]
    pub(super) stall_timeout: Duration,
    /// Bytes per upload request [default: 5M to 12M; ECR accepts 5M to 10M]
    #[arg(long, value_name = "BYTES", help_heading = "Transfer")]
    pub(super) chunk_size: Option<String>,
    /// Upload limit in bytes per second, for all layers together: 500K, 10M
    #[arg(long, value_name = "BYTES", help_heading = "Transfer")]
    pub(super) limit_rate: Option<String>,
    /// Manifests to put per second in an account and region of ECR, divided by the number of shards [default: 10 on AWS]
    #[arg(long, value_parser = number::<usize>, value_name = "N", help_heading = "Transfer")]
    pub(super) put_rate: Option<usize>,
    /// Time limit of the push of an image: 90s, 10m, 1h or a number of seconds
    #[arg(long, value_parser = seconds, value_name = "DURATION", help_heading = "Transfer")]
    pub(super) deadline: Option<Duration>,
    /// Local layer cache [default: ecr-push/layers.jsonl in the user's cache folder]
    #[arg(long, value_name = "FILE", help_heading = "Transfer")]
    pub(super) cache: Option<PathBuf>,
    /// Compression of uncompressed layers [default: gzip for docker save archives, keep for OCI layouts]
    #[arg(long, value_enum, value_name = "ALGORITHM", help_heading = "Transfer")]
    pub(super) compression: Option<CompressionArg>,
    /// Compression level: gzip 1 to 9, zstd 1 to 19 [default: gzip without a level, zstd 2]
    #[arg(long, value_parser = number::<u32>, value_name = "N", help_heading = "Transfer")]
    pub(super) compression_level: Option<u32>,
    /// Version of the gzip compression, which decides the digests of layers [default: gzip/3]
    #[arg(long, value_enum, value_name = "NAME", conflicts_with = "compression_level", help_heading = "Transfer")]
    pub(super) compression_recipe: Option<RecipeArg>,
    /// Where to find layers that need no compression and no upload
    #[arg(long, value_enum, default_value_t = ReuseArg::Tag, value_name = "SOURCE", help_heading = "Transfer")]
    pub(super) reuse: ReuseArg,
    /// Image of the target's repository to reuse layers from: a tag, or a pattern such as main-* for the newest match
    /// (repeatable)
    #[arg(long, value_name = "TAG", help_heading = "Transfer")]
    pub(super) reuse_from: Vec<String>,
    /// Other repository of the same registry, or one image of it, to mount layers from (repeatable)
    #[arg(long, value_name = "REPO[:TAG]", help_heading = "Transfer")]
    pub(super) mount_from: Vec<String>,
    /// Give the image the same digest at all targets: reuse a layer only if all targets have it
    #[arg(long, help_heading = "Transfer")]
    pub(super) same_digest: bool,

    /// Progress display on stderr
    #[arg(long, value_name = "STYLE", default_value = "auto", help_heading = "Output")]
    pub(super) progress: ProgressArg,
    /// Hide progress and notes; print errors, and the plan of a dry run
    #[arg(short, long, help_heading = "Output")]
    pub(super) quiet: bool,
    /// Explain decisions (credentials, compression, reuse, ...); -vv also logs every request
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet", help_heading = "Output")]
    pub(super) verbose: u8,
    /// Format of stderr
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT", help_heading = "Output")]
    pub(super) log_format: LogFormatArg,
    #[command(flatten)]
    pub(super) files: FileArgs,
    #[command(flatten)]
    pub(super) pipeline: PipelineArgs,

    /// Print what would happen to each layer and why, without uploading anything
    #[arg(long, help_heading = "Trial")]
    pub(super) dry_run: bool,
    /// Push into a built-in fake ECR on loopback, which stores its images in DIR [default: in memory]
    #[cfg(feature = "sandbox")]
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true, default_missing_value = "",
          help_heading = "Trial")]
    pub(super) sandbox: Option<std::ffi::OsString>,
    /// Use plain HTTP for registries that are not ECR
    #[arg(long, conflicts_with = "ca_file", help_heading = "Trial")]
    pub(super) insecure: bool,
}

impl OptionArgs {
    /// Returns whether to push into a sandbox, and the folder of its images.
    pub(super) fn sandbox(&self) -> Option<Option<PathBuf>> {
        #[cfg(feature = "sandbox")]
        return self.sandbox.as_ref().map(|dir| (!dir.is_empty()).then(|| PathBuf::from(dir)));
        #[cfg(not(feature = "sandbox"))]
        None
    }
}

/// Where to find layers to reuse.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum ReuseArg {
    /// Reuse nothing
    Off,
    /// The local layer cache
    Cache,
    /// The local layer cache, the image under the target's tag, and the images of --reuse-from
    Tag,
}

impl From<ReuseArg> for Reuse {
    fn from(argument: ReuseArg) -> Self {
        match argument {
            ReuseArg::Off => Self::Off,
            ReuseArg::Cache => Self::Cache,
            ReuseArg::Tag => Self::Tag,
        }
    }
}
