//! The state that all endpoints share, and the permissions of the caller.

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use tokio_util::sync::CancellationToken;

use super::exchange::Log;
use super::iam;
use super::refusal::Refusal;
use super::repository::Repo;
use super::rules::{Absent, Rules};
use super::sessions::Sessions;
use super::store::Store;
use super::traffic::Traffic;
use crate::oci::{EcrHost, Host, Repository};

/// What both APIs share.
pub(super) struct Server {
    pub(super) store: Store,
    pub(super) account: String,
    pub(super) region: String,
    pub(super) rules: Mutex<Rules>,
    pub(super) sessions: Mutex<Sessions>,
    pub(super) log: Arc<Log>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) stop: CancellationToken,
    pub(super) address: SocketAddr,
    pub(super) bucket: SocketAddr,
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

    pub(super) fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The registry as ECR would call it. The sandbox is elsewhere, and clients must not go there: they push to the host
    /// that is configured, never to `proxyEndpoint`
    /// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry_auth.html>).
    pub(super) fn registry(&self) -> EcrHost {
        EcrHost { account: self.account.clone(), region: self.region.clone(), fips: false, dual_stack: false }
    }

    /// Its host's name.
    pub(super) fn host(&self) -> String {
        Host::from_ecr(self.registry()).as_str().to_owned()
    }

    pub(super) fn arn(&self, name: &Repository) -> String {
        self.registry().arn(name)
    }

    /// Why the caller may not do `action`, in IAM's words.
    pub(super) fn denial(&self, action: &str, on: Option<&Repository>) -> Option<String> {
        self.denial_on(action, &on.map_or_else(|| "*".to_owned(), |name| self.arn(name)))
    }

    /// The same on any resource.
    pub(super) fn denial_on(&self, action: &str, resource: &str) -> Option<String> {
        let why = self.rules(|rules| iam::denial(rules, action, resource))?;
        let user = format!("arn:{}:iam::{}:user/sandbox", self.registry().partition(), self.account);
        Some(format!("User: {user} is not authorized to perform: {action} on resource: {resource} {why}"))
    }
}

/// What the registry's endpoints share.
impl Server {
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
