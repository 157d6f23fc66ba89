//! The OCI distribution API, as far as a push needs it: which blobs are there, uploads, manifests.
//!
//! Everything goes through [`Client`], which is bound to one repository of one registry and is cheap to clone. Whether
//! a registry is Amazon's makes no difference here: what is special about ECR's API lives in `ecr`, and a login is a
//! closure to this room.

mod auth;
mod blob;
mod body;
mod fault;
mod issuer;
mod journal;
mod manifest;
mod opening;
mod pacer;
mod quirks;
mod rate;
mod referrers;
mod session;
mod silence;
mod trust;
mod upload;
mod ways;
mod window;
mod wire;

pub use auth::{Login, LoginSource};
pub use blob::Presence;
pub use journal::{Journal, WORTH};
pub use manifest::{Lookup, RemoteManifest};
pub use opening::{Mount, Opened};
pub use quirks::{ECR, Quirks};
pub use rate::Rate;
pub use trust::Trust;
pub use upload::{Blob, fits, upload};
pub use ways::{CHUNK, kept};
pub use window::{Fed, Feed};
pub use wire::{Client, Patience, Settings};
