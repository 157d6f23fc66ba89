//! The arguments of a push, as they are typed. What they mean is read elsewhere.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, ValueEnum};

use super::credentials::CredentialArgs;
use super::files::FileArgs;
use super::output::{LogFormatArg, Show};
use super::pipeline::PipelineArgs;
use super::repository::RepositoryArgs;
use super::values::{number, seconds};
use crate::push::Reuse;

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct PushArgs {
    /// Archive to push: a `docker save` tar, or an OCI layout or a skopeo `dir:` as a tar, plain or compressed, or as a
    /// folder; - for standard input
    #[arg(required = true)]
    pub(super) archive: Option<PathBuf>,
    /// Where to push to: [HOST/]REPOSITORY[:TAG]; without a HOST it is your own ECR registry
    #[arg(required = true)]
    pub(super) target: Vec<String>,
    #[command(flatten)]
    pub(super) options: Options,
}

/// The options.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Image of the archive to push, by name; the tag defaults to latest
    #[arg(long, value_name = "NAME[:TAG]", conflicts_with = "image_id", help_heading = "Source")]
    pub(super) image: Option<String>,
    /// Image of the archive to push, by ID or the start of it
    #[arg(long, value_name = "ID", conflicts_with = "image", help_heading = "Source")]
    pub(super) image_id: Option<String>,
    /// Push all images of an OCI layout as one multi-platform image, with index.json as its index
    #[arg(long, conflicts_with_all = ["image", "image_id"], help_heading = "Source")]
    pub(super) index: bool,
    /// Platform to push of an image for several: OS/ARCH or OS/ARCH/VARIANT; its manifest, without the index
    #[arg(long, value_name = "PLATFORM", conflicts_with = "present_platforms", help_heading = "Source")]
    pub(super) platform: Option<String>,
    /// Push the platforms that the archive has, as a new index, where the image's index lists more
    #[arg(long, conflicts_with = "platform", help_heading = "Source")]
    pub(super) present_platforms: bool,
    /// Leave out BuildKit's attestations, and the index if it lists a single image
    #[arg(long, help_heading = "Source")]
    pub(super) no_attestations: bool,
    /// Push what belongs to the image, too: signatures, SBOMs, attestations
    #[arg(long, help_heading = "Source")]
    pub(super) referrers: bool,
    /// Push only if the manifest or index has this digest: sha256:...
    #[arg(long, value_name = "DIGEST", help_heading = "Source")]
    pub(super) expect_digest: Option<String>,
    /// Folder for the temporary file that a pipe or a compressed archive takes [default: the system's]
    #[arg(long, value_name = "DIR", help_heading = "Source")]
    pub(super) temp_dir: Option<PathBuf>,
    /// Send foreign layers that the archive has; without, they are kept by reference
    #[arg(long, help_heading = "Source")]
    pub(super) foreign_layers: bool,
    /// Correct media types that the bytes contradict, and take out what ECR refuses, though digests change by that
    #[arg(long, help_heading = "Source")]
    pub(super) repair: bool,

    /// Further tag for every target; may be repeated. Where no tag is given at all, it is latest
    #[arg(short, long, value_name = "TAG", help_heading = "Target")]
    pub(super) tag: Vec<String>,
    /// AWS region of targets without a HOST (repeatable)
    #[arg(long, value_name = "REGION", help_heading = "Target")]
    pub(super) region: Vec<String>,
    /// Account whose registry is meant by targets without a HOST and by VPC endpoints [default: your own]
    #[arg(long, value_name = "ACCOUNT", help_heading = "Target")]
    pub(super) registry_id: Option<String>,
    #[command(flatten)]
    pub(super) repository: RepositoryArgs,
    /// User name for the one registry that is not Amazon's; else docker's logins are looked at if it asks for one
    #[arg(long, value_name = "NAME", requires = "password_stdin", help_heading = "Target")]
    pub(super) username: Option<String>,
    /// Read the password of that user from standard input
    #[arg(long, requires = "username", help_heading = "Target")]
    pub(super) password_stdin: bool,
    /// PEM certificates to trust beside the machine's own; loopback is https then, too
    #[arg(long, value_name = "FILE", conflicts_with = "insecure", help_heading = "Target")]
    pub(super) ca_file: Option<PathBuf>,

    #[command(flatten)]
    pub(super) credentials: CredentialArgs,

    /// Layers under way at once [default: 6, of which 4 may be larger than a chunk]
    #[arg(long, value_parser = number::<usize>, value_name = "N", help_heading = "Transfer")]
    pub(super) concurrency: Option<usize>,
    /// Threads that pack layers [default: one a core, at most 6]
    #[arg(long = "pack-threads", value_parser = number::<usize>, value_name = "N", help_heading = "Transfer")]
    pub(super) compress_threads: Option<usize>,
    /// How often a request is tried again
    #[arg(long, value_parser = number::<usize>, value_name = "N", default_value_t = 4, help_heading = "Transfer")]
    pub(super) retries: usize,
    /// How long an upload may stall before it resumes over another connection: 90s, 2m
    #[arg(long, value_parser = seconds, value_name = "DURATION", default_value = "60s", help_heading = "Transfer")]
    pub(super) stall_timeout: Duration,
    /// Bytes that one request carries [default: 5M to 12M; ECR takes 5M to 10M]
    #[arg(long, value_name = "BYTES", help_heading = "Transfer")]
    pub(super) chunk_size: Option<String>,
    /// Most bytes of layers to send a second, all together: 500K, 10M
    #[arg(long, value_name = "BYTES", help_heading = "Transfer")]
    pub(super) limit_rate: Option<String>,
    /// Time limit of the whole push: 90s, 10m, 1h; a plain number is in seconds
    #[arg(long, value_parser = seconds, value_name = "DURATION", help_heading = "Transfer")]
    pub(super) deadline: Option<Duration>,
    /// File that remembers what layers became [default: ecr-push/layers.jsonl in the user's cache folder]
    #[arg(long, value_name = "FILE", help_heading = "Transfer")]
    pub(super) cache: Option<PathBuf>,
    /// How plain layers are packed [default: gzip for those of a docker save; those of an OCI layout go as they lie]
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Transfer")]
    pub(super) compression: Option<CompressionArg>,
    /// How hard they are packed: gzip 2 to 9, zstd 1 to 19
    #[arg(long, value_parser = number::<u32>, value_name = "N", help_heading = "Transfer")]
    pub(super) compression_level: Option<u32>,
    /// Where layers are looked for that need not be packed and sent
    #[arg(long, value_enum, default_value_t = ReuseArg::Tag, value_name = "HOW", help_heading = "Transfer")]
    pub(super) reuse: ReuseArg,
    /// Image of the target's repository to reuse layers from: a tag, or a pattern (main-*: the newest); may be repeated
    #[arg(long, value_name = "TAG", help_heading = "Transfer")]
    pub(super) reuse_from: Vec<String>,
    /// Other repository of the same registry, or one image of it, to mount layers from; may be repeated
    #[arg(long, value_name = "REPO[:TAG]", help_heading = "Transfer")]
    pub(super) mount_from: Vec<String>,

    /// How progress is shown on stderr
    #[arg(long, value_name = "HOW", default_value = "auto", help_heading = "Output")]
    pub(super) progress: Show,
    /// Show no progress, only errors
    #[arg(short, long, help_heading = "Output")]
    pub(super) quiet: bool,
    /// Explain what is decided: credentials, region, packing, chunks, reuse; twice (-vv): tell every request, too
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet", help_heading = "Output")]
    pub(super) verbose: u8,
    /// How stderr is written: for people, or an object of JSON a line
    #[arg(long, value_enum, default_value_t, value_name = "HOW", help_heading = "Output")]
    pub(super) log_format: LogFormatArg,
    #[command(flatten)]
    pub(super) files: FileArgs,
    #[command(flatten)]
    pub(super) pipeline: PipelineArgs,

    /// Say what would happen to each layer, and why; send nothing
    #[arg(long, help_heading = "Trial")]
    pub(super) dry_run: bool,
    /// Push into a sandbox, an ECR on loopback inside this program, that keeps its images in DIR if one is given
    #[cfg(feature = "sandbox")]
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true, default_missing_value = "",
          help_heading = "Trial")]
    pub(super) sandbox: Option<std::ffi::OsString>,
    /// Use plain http for hosts that are not ECR's
    #[arg(long, conflicts_with = "ca_file", help_heading = "Trial")]
    pub(super) insecure: bool,
}

/// How plain layers are packed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum CompressionArg {
    /// gzip, which everybody reads
    Gzip,
    /// zstd, smaller and faster; needs Docker 23, containerd 1.5 or later where it is pulled
    Zstd,
    /// None: plain layers go as they lie
    Keep,
}

/// What is looked at for layers that need not be packed and sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum ReuseArg {
    /// Nothing
    Off,
    /// The own cache
    Cache,
    /// The own cache, the image under the target's tag, and those under --reuse-from
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
