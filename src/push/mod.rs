//! Pushes images to targets: what happens to each layer and tag, and the push itself.
//!
//! The entry point is [`Pusher`]. It reads no environment and keeps no globals: its [`Options`] say how images are pushed, a
//! [`PushRequest`] says which image and where, [`Event`]s report what happens, and the [`Outcome`] is complete also after an
//! error.
//!
//! A push to one target is a chain of phases, in the order in which facts become known (`pusher.rs`): connect, look up tags
//! and repository, read remote images, ask which blobs are there, plan layers, decide on tags, find mounts, upload,
//! compose, publish. Every target has a chain of its own, and waits for no other. What they share lives in the
//! `Pusher`: registries and logins, layers in flight (`hub.rs`), the compression pool, the layer cache.

mod agreement;
mod availability;
mod blob_upload;
mod bundle;
mod compose;
pub(crate) mod compression;
mod connect;
mod context;
mod event;
mod explain;
#[cfg(test)]
mod fixtures;
mod growing_list;
mod hub;
mod logins;
mod lookup;
mod mount;
mod options;
mod outcome;
pub(crate) mod plan;
mod planning;
mod policies;
mod producer;
mod publication;
mod publish;
mod pusher;
#[cfg(feature = "sandbox")]
mod read_back;
mod record;
mod referrers;
mod remote;
mod repository;
mod retag;
mod run_blobs;
mod savings;
mod session;
mod shard;
mod shared;
mod shared_layers;
mod small_layers;
mod source;
mod spool;
mod sync;
mod tags;
mod time_limit;
mod trust;
mod upload;
mod user_agent;
mod warnings;

pub use bundle::{Bundle, BundleOptions, ListedReference};
pub use compression::CompressionPolicy;
pub(crate) use compression::ManifestAction;
pub use event::{Event, Events};
pub use options::{
    CaBundle, ExplicitCredentials, ImageOptions, LayerOptions, Options, PushRequest, RegistryOptions,
    RepositoryOptions, Reuse,
};
pub(crate) use outcome::round_seconds;
pub use outcome::{ImageSummary, LayerCounts, LayerOutcome, Outcome, TargetOutcome};
pub use plan::LayerAction;
pub use pusher::{Pusher, PusherBuilder};
#[cfg(feature = "sandbox")]
pub(crate) use read_back::{ReadBack, read_back};
pub use retag::{ImageReference, TagRequest};
pub use savings::Saved;
pub use shard::Shard;
pub use tags::{IfExists, PlannedTag, TagOutcome, TagState};
