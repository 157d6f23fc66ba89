//! The client of a registry: the OCI distribution API as far as a push needs it.
//!
//! Everything goes through `Client`, which is bound to one repository of one registry and is cheap to clone. Nothing here
//! depends on AWS: ECR's API is in `ecr`, and the source of a login is a closure.
//!
//! - Authentication: `credential_provider` holds the login, `auth` sends it as `challenge` and `token` require, `address`
//!   decides who may receive it. `keychain` reads the credentials of docker and podman.
//! - Requests: `transport` builds the HTTP client, `reply` reads responses, `request_error` and `transport_error` say what a
//!   failure means, `retry` and `concurrency` decide when to send again.
//! - Uploads: `upload` runs `session`s over a `window` of the layer, in chunks or as a `single_request`, `resume` continues
//!   those of an earlier run, `upload_strategy` and `quirks` know what the registry accepts, `line` what the way to it is
//!   like. A quirk of a registry is one row in `quirks`.

mod address;
mod api_request;
mod auth;
mod blob;
mod body;
mod challenge;
mod client;
mod concurrency;
mod credential_provider;
mod error_envelope;
mod keychain;
mod line;
mod manifest;
mod open_upload;
mod pacer;
mod quirks;
mod rate;
mod referrers;
mod reply;
mod request_error;
mod resolver;
mod resume;
mod resume_store;
mod retry;
mod session;
mod single_request;
mod stream;
mod token;
mod transport;
mod transport_error;
mod upload;
mod upload_job;
mod upload_strategy;
mod window;

pub(crate) use crate::tls::Trust;
pub(crate) use blob::Presence;
pub(crate) use challenge::Challenge;
pub(crate) use client::{Client, ClientConfig};
pub(crate) use credential_provider::{AuthMode, CredentialProvider, IssuedLogin};
pub(crate) use error_envelope::Envelope;
pub(crate) use keychain::StoredLogin;
pub(crate) use manifest::{ManifestLookup, RemoteManifest};
pub(crate) use open_upload::{Mount, OpenedUpload};
pub(crate) use pacer::Pacer;
pub(crate) use quirks::{ECR, Quirks};
pub(crate) use rate::Rate;
pub(crate) use resume_store::{ResumeStore, may_be_resumed};
pub(crate) use retry::RetryNotice;
pub(crate) use stream::{Demand, LayerStream};
pub(crate) use upload::{check_blob_size, upload};
pub(crate) use upload_job::Blob;
pub(crate) use upload_strategy::retained_bytes;
pub(crate) use window::LayerData;

pub use credential_provider::Login;
pub use keychain::Keychain;
pub use resume_store::MIN_RESUMABLE_SIZE;
pub use retry::RetryConfig;
pub use upload_strategy::DEFAULT_CHUNK_SIZE;
