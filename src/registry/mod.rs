//! The OCI distribution API, as far as a push needs it: which blobs are there, uploads, manifests.
//!
//! Everything goes through [`Client`], which is bound to one repository of one registry and is cheap to clone. Whether
//! a registry is Amazon's makes no difference here: what is special about ECR's API lives in `ecr`, and a login is a
//! closure to this room. `account.rs` keeps one, `auth.rs` shows it as `challenge.rs` and `token.rs` read what is wanted, and
//! `address.rs` says who may see it. `keychain.rs` knows what docker and podman keep.

mod account;
mod address;
mod ask;
mod auth;
mod blob;
mod body;
mod challenge;
mod delays;
mod envelope;
mod fault;
mod issuer;
mod journal;
mod keychain;
mod manifest;
mod opening;
mod pacer;
mod quirks;
mod rate;
mod referrers;
mod reply;
mod resume;
mod session;
mod silence;
mod token;
mod transport;
mod trust;
mod upload;
mod ways;
mod window;
mod wire;

pub use account::{Account, Granted, Login, LoginSource, Manner};
pub use blob::Presence;
pub use journal::{Journal, WORTH};
pub use keychain::{Found, Keychain};
pub use manifest::{Lookup, RemoteManifest};
pub use opening::{Mount, Opened};
pub use quirks::{ECR, Quirks};
pub use rate::Rate;
pub use trust::Trust;
pub use upload::{Blob, fits, upload};
pub use ways::{CHUNK, kept};
pub use window::{Fed, Feed};
pub use wire::{Client, Patience, Settings, Wait};
