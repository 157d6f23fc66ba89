//! What all registries share, one registry as its endpoints see it, and the permissions of the caller.

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use axum::http::StatusCode;
use tokio_util::sync::CancellationToken;

use super::iam;
use super::log::Log;
use super::logins::Logins;
use super::refusal::Refusal;
use super::registries::{Registries, RegistryId};
use super::repository::Repo;
use super::rules::{Absent, Rules};
use super::sessions::Sessions;
use super::store::Store;
use super::traffic::{Rates, Traffic};
use crate::error::Result;
use crate::oci::{EcrHost, Repository};

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
        look(&mut self.rules.lock().unwrap_or_else(PoisonError::into_inner))
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
        self.server.sessions.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Returns a new unique ID, for a request or an upload session.
    pub(super) fn uuid(&self) -> String {
        self.server.logins.uuid()
    }

    /// Issues a login to its owner, `AWS:PASSWORD` in base64, and returns it with its expiry.
    pub(super) fn issue_token(&self) -> (String, SystemTime) {
        self.server.logins.issue_token(self.id(), self.rules(|rules| rules.token_lifetime))
    }

    /// Opens an upload session and returns its ID.
    pub(super) fn begin_upload(&self, name: &Repository) -> std::io::Result<String> {
        let id = self.uuid();
        self.store.begin_upload(name, &id).map(|()| id)
    }

    /// Why the caller may not do `action`, in IAM's words.
    pub(super) fn denial(&self, action: &str, on: Option<&Repository>) -> Option<String> {
        self.denial_on(action, &on.map_or_else(|| "*".to_owned(), |name| self.arn(name)))
    }

    /// The same on any resource.
    pub(super) fn denial_on(&self, action: &str, resource: &str) -> Option<String> {
        let why = self.rules(|rules| iam::denial(rules, action, resource))?;
        let user = format!("arn:{}:iam::{}:user/sandbox", self.ecr_host().partition(), self.account);
        Some(format!("User: {user} is not authorized to perform: {action} on resource: {resource} {why}"))
    }
}

/// What the registry's endpoints share.
impl Registry {
    /// Checks the caller's permissions.
    pub(super) fn permit(&self, action: &str, name: &Repository) -> Result<(), Refusal> {
        let Some(message) = self.denial(action, Some(name)) else { return Ok(()) };
        let hangs_up = self.rules(|rules| rules.absent_repository) == Absent::HangUp;
        if hangs_up && action == "ecr:InitiateLayerUpload" {
            return Err(Refusal::HangUp);
        }
        if self.rules(|rules| rules.deny_silently) {
            return Err(Refusal::Silent(StatusCode::FORBIDDEN));
        }
        Err(Refusal::new(StatusCode::FORBIDDEN, "DENIED", message))
    }

    /// Reads a repository that must exist.
    pub(super) fn look<T>(&self, name: &Repository, look: impl FnOnce(&Repo) -> T) -> Result<T, Refusal> {
        self.store.look(name, look).ok_or_else(|| Refusal::absent(name, &self.account))
    }
}
