//! Amazon ECR's own API: who we are, which repositories there are, which layers they hold.
//!
//! No byte of a layer passes through here; that is `registry`'s work, which knows nothing of AWS.

mod access;
mod advice;
mod api;
mod api_response;
mod body;
mod chain;
mod container;
mod credentials;
mod custom_endpoint;
mod endpoint;
mod federation;
mod metadata;
mod missing;
mod network;
mod observe;
mod oidc;
pub(crate) mod policy;
mod process;
mod profile;
mod profile_credentials;
mod public;
mod refusal;
mod region;
mod repositories;
mod routes;
mod settings;
mod token_file;
mod unreachable;
mod upload_probe;

pub use access::{Access, EndpointOverride};
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
pub use repositories::NewRepository;
pub(crate) use repositories::{Encryption, Mutability, RepositoryState, Template};
pub(crate) use upload_probe::UploadProbe;
