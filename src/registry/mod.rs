//! The OCI distribution API, as far as a push needs it: which blobs are there, uploads, manifests.
//!
//! Everything goes through [`Client`], which is bound to one repository of one registry and is cheap to clone. Whether
//! a registry is Amazon's makes no difference here: what is special about ECR's API lives in `ecr`, and a login is a
//! closure to this room. `account.rs` keeps one, `auth.rs` shows it as `challenge.rs` and `token.rs` read what is wanted, and
//! `address.rs` says who may see it. `keychain.rs` knows what docker and podman keep.

mod address;
mod api_request;
mod auth;
mod blob;
mod body;
mod challenge;
mod client;
mod concurrency;
mod credential_provider;
mod delays;
mod error_envelope;
mod issuer;
mod keychain;
mod manifest;
mod open_upload;
mod quirks;
mod rate;
mod referrers;
mod reply;
mod request_error;
mod resume;
mod resume_store;
mod session;
mod token;
mod transport;
mod transport_error;
mod trust;
mod upload;
mod upload_strategy;
mod window;

pub use blob::Presence;
pub use client::{Client, ClientConfig, RetryConfig, RetryNotice};
pub use credential_provider::{AuthMode, CredentialProvider, IssuedLogin, Login, LoginSource};
pub use keychain::{Keychain, StoredLogin};
pub use manifest::{ManifestLookup, RemoteManifest};
pub use open_upload::{Mount, OpenedUpload};
pub use quirks::{ECR, Quirks};
pub use rate::Rate;
pub use resume_store::{MIN_RESUMABLE_SIZE, ResumeStore};
pub use trust::Trust;
pub use upload::{Blob, check_blob_size, upload};
pub use upload_strategy::{DEFAULT_CHUNK_SIZE, retained_bytes};
pub use window::{LayerData, LayerStream};
