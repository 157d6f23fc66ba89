//! Pushes container images from archives straight into Amazon ECR and any OCI registry, without a daemon.
//!
//! A [`Pusher`] takes a [`PushRequest`] (an archive, and where its image is pushed), reports an [`Event`] for what happens, and
//! returns an [`Outcome`], which is complete also after an error. It reads no environment and keeps no global state.
//!
//! # Example
//!
//! Pushes an image into the [`sandbox`], a fake ECR. For AWS, take the credentials of [`access_from_env`] instead.
//!
//! ```
//! use ecr_push::sandbox::{self, Sandbox};
//! use ecr_push::{CancellationToken, Options, PushRequest, Pusher, Source};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> ecr_push::Result<()> {
//! let create = vec!["team/app".parse()?];
//! let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
//!
//! let mut options = Options::default();
//! options.registries.access = sandbox.endpoint_override().into();
//! let pusher = Pusher::builder().options(options).on_event(|event| println!("{event:?}")).start().await?;
//!
//! let archive = Source::Path("testdata/docker-20.10-save.tar".into());
//! let request = PushRequest::new(archive, ["team/app:1.4".parse()?]);
//! let outcome = pusher.push(request, CancellationToken::new()).await.into_result()?;
//!
//! let reference = &outcome.targets[0].references()[0];
//! assert!(reference.starts_with("000000000000.dkr.ecr.us-east-1.amazonaws.com/team/app:1.4@sha256:"));
//! # Ok(())
//! # }
//! ```
//!
//! # Where to start
//!
//! - [`Pusher`], [`PushRequest`]: a push, also of many images or with a deadline
//! - [`TagRequest`]: additional tags for an image that a repository has
//! - [`Source`], [`ImageOptions`]: which archive, which image of it, which platforms
//! - [`Target`], [`Host`], [`Tag`]: where it is pushed
//! - [`Options`]: credentials ([`RegistryOptions`]), compression and reuse ([`LayerOptions`]), new repositories
//!   ([`RepositoryOptions`]), existing tags ([`IfExists`]), dry runs
//! - [`Outcome`], [`TargetOutcome`], [`LayerOutcome`]: what happened
//! - [`Event`]: what happens, for a log or a progress display
//! - [`Error`], [`Code`], [`Advice`]: what failed, why, and what to do about it
//! - [`sandbox`]: a fake ECR for tests, with faults, permissions and a log of its requests
//!
//! # Architecture
//!
//! A module uses only the modules to its left; `tests/architecture.rs` holds this order.
//!
//! {`error`, `file`, `sync`} ← {`proxy`, `tls`} ← `oci` ← {`request_log`, `compress`} ← {`archive`, `registry`, `ecr`} ← `reuse` ← `push` ←
//! `output` ← `cli`
//!
//! - `error`: error kinds, exit codes, causes, and advice as data
//! - `file`: local files: identity, and bounded reads and writes
//! - `sync`: locks
//! - `proxy`: which proxy a URL goes through, and why one is not used
//! - `tls`: trusted certificates, and why a certificate is rejected
//! - `oci`: digests, references, media types, platforms, documents: parsed once
//! - `request_log`: the record of one request and its response
//! - `compress`: reads, hashes and compresses layers on all cores
//! - `archive`: the exporter: formats, selection, streaming, inspection
//! - `registry`: the uploader: the OCI distribution API
//! - `ecr`: the uploader: AWS's own API; no byte of a layer passes through it
//! - `reuse`: layers that need not be uploaded: the local cache, and remote images
//! - `push`: what happens to each layer, and the push itself
//! - `output`: progress, log, report, CI systems
//! - `cli`: turns arguments into a request, runs it and renders the outcome
//! - `sandbox`: an emulator of ECR on loopback; only `cli` and tests use it

mod archive;
#[doc(hidden)]
pub mod cli;
mod compress;
mod ecr;
mod error;
mod file;
#[doc(hidden)]
pub mod internals;
mod oci;
mod output;
mod proxy;
mod push;
mod registry;
mod request_log;
mod reuse;
#[cfg(feature = "sandbox")]
pub mod sandbox;
mod sync;
mod tls;

pub use tokio_util::sync::CancellationToken;

pub use archive::{
    Attestations, ContainerEngine, EngineImage, ImageSelector, OpenedArchive, Platforms, Selection, Source,
};
pub use cli::access_from_env;
pub use compress::{GzipEncoder, Meter, ReadTimeline, Span, Stage};
pub use ecr::{Access, Encryption, Mutability, NewRepository};
pub use error::{Advice, Code, Error, Kind, Result, ServiceError, Setting};
pub use oci::{
    DiffId, Digest, EcrHost, EndpointOverride, Host, LayerId, MountSource, Platform, Repository, Tag, TagFilter,
    TagPattern, Target, TargetPrefix,
};
pub use push::{
    Bundle, BundleOptions, CaBundle, CompressionPolicy, Event, Events, ExplicitCredentials, IfExists, ImageOptions,
    ImageReference, ImageSummary, LayerAction, LayerCounts, LayerOptions, LayerOutcome, ListedReference, Options,
    Outcome, PlannedTag, PushRequest, Pusher, PusherBuilder, RegistryOptions, RepositoryOptions, Reuse, Saved, Shard,
    TagOutcome, TagRequest, TagState, TargetOutcome,
};
pub use registry::{Keychain, Login, RetryConfig};
pub use request_log::{Named, RequestRecord, Subject, TargetId};
