//! What all registries share, one registry as its endpoints see it, and the permissions of the caller.

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use tokio_util::sync::CancellationToken;

use super::iam;
use super::log::Log;
use super::logins::Logins;
use super::refusal::Refusal;
use super::registries::{Registries, RegistryId};
use super::repository::Repo;
use super::rules::{Absent, BlobMounting, CreationTemplate, Rules};
use super::sessions::Sessions;
use super::store::Store;
use super::traffic::{Rates, Traffic};
use crate::error::Result;
use crate::oci::{EcrHost, Repository};
use crate::sync::lock;

/// What all registries share.
pub(super) struct Server {
    pub(super) registries: Registries,
    pub(super) logins: Logins,
    pub(super) rules: Mutex<Rules>,
    pub(super) sessions: Mutex<Sessions>,
    pub(super) log: Arc<Log>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) rates: Rates,
    pub(super) stop: CancellationToken,
    pub(super) address: SocketAddr,
    pub(super) leaked: AtomicUsize,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    pub(super) fn rules<T>(&self, look: impl FnOnce(&mut Rules) -> T) -> T {
        look(&mut lock(&self.rules))
    }

    /// Issues a login to the owner of a registry, `AWS:PASSWORD` in base64, and returns it with its expiry.
    pub(super) fn issue_token(&self, owner: RegistryId) -> (String, SystemTime) {
        self.logins.issue_token(owner, self.token_lifetime())
    }

    /// Returns the lifetime of tokens (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry_auth.html>).
    pub(super) fn token_lifetime(&self) -> Duration {
        self.rules(|rules| rules.token_lifetime).unwrap_or(Duration::from_secs(12 * 60 * 60))
    }

    /// Returns the time of its clock.
    pub(super) fn now(&self) -> SystemTime {
        SystemTime::now() + self.rules(|rules| rules.clock_ahead)
    }

    /// Opens a registry.
    ///
    /// # Errors
    /// Fails if its folder cannot be used.
    pub(super) fn registry(self: &Arc<Self>, id: &RegistryId) -> Result<Registry> {
        let store = self.registries.open(id)?;
        let RegistryId { account, region } = id.clone();
        Ok(Registry { server: Arc::clone(self), store, account, region })
    }
}

/// A registry: an account in a region.
pub(super) struct Registry {
    pub(super) server: Arc<Server>,
    pub(super) store: Arc<Store>,
    pub(super) account: String,
    pub(super) region: String,
}

impl Registry {
    pub(super) fn rules<T>(&self, look: impl FnOnce(&mut Rules) -> T) -> T {
        self.server.rules(look)
    }

    pub(super) fn sessions(&self) -> MutexGuard<'_, Sessions> {
        lock(&self.server.sessions)
    }

    pub(super) fn id(&self) -> RegistryId {
        RegistryId { account: self.account.clone(), region: self.region.clone() }
    }

    /// Returns the registry of another account in the same region, if the sandbox has one.
    ///
    /// # Errors
    /// Fails if its folder cannot be used.
    pub(super) fn of_account(&self, account: &str) -> Result<Self> {
        self.server.registry(&self.server.registries.find(Some(account), Some(&self.region)))
    }

    /// The registry as ECR would call it. The sandbox is elsewhere, and clients must not go there: they push to the host
    /// that is configured, never to `proxyEndpoint`
    /// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry_auth.html>).
    pub(super) fn ecr_host(&self) -> EcrHost {
        self.id().ecr_host()
    }

    /// Its host's name.
    pub(super) fn host(&self) -> String {
        self.id().host().as_str().to_owned()
    }

    pub(super) fn arn(&self, name: &Repository) -> String {
        self.ecr_host().arn(name)
    }

    /// Returns the creation templates.
    pub(super) fn templates(&self) -> Vec<CreationTemplate> {
        let own = self.store.registry(|own| own.templates.clone());
        own.unwrap_or_else(|| self.rules(|rules| rules.templates.clone()))
    }

    /// Changes the creation templates. From now on they are the registry's own.
    pub(super) fn change_templates<T>(&self, change: impl FnOnce(&mut Vec<CreationTemplate>) -> T) -> T {
        let default = self.rules(|rules| rules.templates.clone());
        self.store.registry(|own| change(own.templates.get_or_insert(default)))
    }

    /// Returns an account setting, if there is one of this name.
    pub(super) fn setting(&self, name: &str) -> Option<String> {
        let default = match name {
            "BASIC_SCAN_TYPE_VERSION" => "AWS_NATIVE",
            "BLOB_MOUNTING" if self.rules(|rules| rules.blob_mounting == BlobMounting::Enabled) => "ENABLED",
            "BLOB_MOUNTING" => "DISABLED",
            "REGISTRY_POLICY_SCOPE" => "V1",
            _ => return None,
        };
        let own = self.store.registry(|own| own.settings.get(name).cloned());
        Some(own.unwrap_or_else(|| default.to_owned()))
    }

    /// Returns a new unique ID, for a request or an upload session.
    pub(super) fn uuid(&self) -> String {
        self.server.logins.uuid()
    }

    /// Opens an upload session and returns its ID.
    pub(super) fn begin_upload(&self, name: &Repository) -> std::io::Result<String> {
        let id = self.uuid();
        self.store.begin_upload(name, &id).map(|()| id)
    }

    /// Returns the caller, unless it is a session of a role.
    pub(super) fn user(&self) -> String {
        format!("arn:{}:iam::{}:user/sandbox", self.ecr_host().partition(), self.account)
    }

    /// Checks the caller's permissions, on a repository or on `*`.
    pub(super) fn allow(&self, action: &str, on: Option<&Repository>) -> Result<(), Refusal> {
        self.allow_on(action, &on.map_or_else(|| "*".to_owned(), |name| self.arn(name)))
    }

    /// Checks the caller's permissions on any resource.
    pub(super) fn allow_on(&self, action: &str, resource: &str) -> Result<(), Refusal> {
        let Some(why) = self.rules(|rules| iam::denial(rules, action, resource)) else { return Ok(()) };
        let user = self.user();
        let message = format!("User: {user} is not authorized to perform: {action} on resource: {resource} {why}");
        Err(Refusal::new(StatusCode::FORBIDDEN, "DENIED", message).raises("AccessDeniedException"))
    }
}

/// What the registry's endpoints share.
impl Registry {
    /// Checks the caller's permissions, with the two other responses to a denial that ECR's registry has.
    pub(super) fn permit(&self, action: &str, name: &Repository) -> Result<(), Refusal> {
        let Err(denied) = self.allow(action, Some(name)) else { return Ok(()) };
        let hangs_up = self.rules(|rules| rules.absent_repository) == Absent::HangUp;
        if hangs_up && action == "ecr:InitiateLayerUpload" {
            return Err(Refusal::HangUp);
        }
        if self.rules(|rules| rules.deny_silently) {
            return Err(Refusal::Silent(StatusCode::FORBIDDEN));
        }
        Err(denied)
    }

    /// Changes a repository that must exist.
    pub(super) fn change<T>(&self, name: &Repository, change: impl FnOnce(&mut Repo) -> T) -> Result<T, Refusal> {
        Ok(self.store.change(name, change).ok_or_else(|| Refusal::absent(name, &self.account))??)
    }

    /// Reads a repository that must exist.
    pub(super) fn look<T>(&self, name: &Repository, look: impl FnOnce(&Repo) -> T) -> Result<T, Refusal> {
        self.store.look(name, look).ok_or_else(|| Refusal::absent(name, &self.account))
    }
}
