//! Amazon ECR's own API: credentials, regions, repositories, policies, and advice for errors.
//!
//! Layers are uploaded by `registry`, which does not depend on AWS.
//!
//! - Credentials: `access` describes where they come from, `chain` and `credentials` try the sources in order. Sources are
//!   in `profile`, `process`, `container` and `oidc`. `credential_errors` explains why a source failed.
//! - Requests: `settings` configures the SDK's clients; `network` and `observe` build their HTTP clients.
//! - Calls: `api`, `repositories`, `public`. `api_response` names the IAM action of each call.
//! - Advice: `advice`. An error of ECR is one row in `advice/table.rs`.

mod access;
mod account;
mod advice;
mod api;
mod api_response;
mod body;
mod chain;
mod container;
mod credential_errors;
mod credentials;
mod custom_endpoint;
mod endpoint;
mod metadata;
mod missing;
mod network;
mod observe;
mod oidc;
pub(crate) mod policy;
mod process;
mod profile;
mod provides;
mod public;
mod repositories;
mod settings;
mod token_file;
mod unreachable;

pub use access::Access;
pub(crate) use access::{
    AccessKey, BaseCredentials, ContainerEndpoint, ContainerToken, CredentialSources, Environment, IdToken, Role,
    Secret, WebIdentity,
};
pub(crate) use advice::{RepositoryLocation, advise, advise_on_manifest, opens_upload};
pub(crate) use api::{AuthorizationToken, Ecr};
pub(crate) use credentials::NoCredentials;
pub(crate) use network::Network;
pub(crate) use profile::{NamedProfile, Profiles};
pub(crate) use public::EcrPublic;
pub(crate) use repositories::UploadProbe;
pub use repositories::{Encryption, Mutability, NewRepository};
pub(crate) use repositories::{RepositoryState, Template};
