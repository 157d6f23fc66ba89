//! The registries of a push, each reached and logged in to once, however many targets are in it.

use std::collections::HashMap;
use std::sync::Arc;

use reqwest::Url;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::destination::QUESTIONS_AT_ONCE;
use super::logins::{self, Logins};
use super::{Event, Events, Request, agent};
use crate::ecr::{Access, Ecr, EcrPublic, Network, RepositoryLocation};
use crate::error::{Code, Error, Result};
use crate::oci::{Host, Target};
use crate::registry::{self, Client, Quirks, Rate, ResumeStore, Trust};

/// The registries of a push.
pub(super) struct Registries<'a> {
    request: &'a Request,
    /// How many layers the image has.
    layers: usize,
    trust: Trust,
    rate: Option<Arc<Rate>>,
    events: &'a Events,
    logins: Logins,
    /// One for each host, and for targets without a host one for each region.
    reached: HashMap<Registry, OnceCell<Result<Reached>>>,
}

/// Identifies a registry: its host, or the region of the caller's own.
type Registry = (Option<Host>, Option<String>);

/// A registry that was reached.
struct Reached {
    /// A client for the repository of whoever came first.
    client: Client,
    host: Host,
    ecr: Option<Ecr>,
    public: Option<EcrPublic>,
}

/// A repository of a registry, and ECR's API beside it if it is ECR's.
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) host: Host,
    /// The API, unless there are no AWS credentials for it.
    pub(super) ecr: Option<(Ecr, RepositoryLocation)>,
    /// The place, if it is a private one of ECR's.
    pub(super) place: Option<RepositoryLocation>,
    /// ECR Public's API, if it is ECR Public's.
    pub(super) public: Option<EcrPublic>,
}

impl<'a> Registries<'a> {
    /// The registries that the request names. Nothing is connected to yet.
    pub(super) fn of(
        request: &'a Request,
        layers: usize,
        (trust, network): (Trust, Network),
        rate: Option<Arc<Rate>>,
        events: &'a Events,
    ) -> Self {
        let hosts = request.targets.iter().map(|target| (registry_of(target), OnceCell::new()));
        let told = Arc::clone(events);
        let network = network
            .observed_by(Arc::new(move |exchange| told(Event::Asked(exchange))))
            .identified_as(agent::user_agent(request), agent::app_name(request));
        let logins = Logins::of(network);
        Self { request, layers, trust, rate, events, logins, reached: hosts.collect() }
    }

    /// What is to be pushed, and how.
    pub(super) fn request(&self) -> &'a Request {
        self.request
    }

    /// Finds out whose registry the target is in, and logs in if it is ECR's.
    pub(super) async fn connect(&self, target: &Target, cancel: CancellationToken) -> Result<Connection> {
        let somebody_else = OnceCell::new();
        let registry = self.reached.get(&registry_of(target)).unwrap_or(&somebody_else);
        let reached = registry.get_or_init(|| self.reach(target)).await;
        let Reached { client, host, ecr, public } = reached.as_ref().map_err(Clone::clone)?;
        let place =
            host.ecr().map(|ecr| RepositoryLocation { host: ecr.clone(), repository: target.repository.clone() });
        let client = client.for_repository(target.repository.clone(), cancel);
        let (ecr, public) = (ecr.clone().zip(place.clone()), public.clone());
        Ok(Connection { client, ecr, place, public, host: host.clone() })
    }

    async fn reach(&self, target: &Target) -> Result<Reached> {
        let request = self.request;
        let (named, events) = (target.host.as_ref(), self.events);
        if named.is_some_and(|host| !host.is_amazon()) && matches!(request.access, Access::Override { .. }) {
            return Err(Error::usage(format!("the sandbox is an ECR and cannot stand in for {target}"))
                .code(Code::TargetInvalid)
                .hint("Give the target as REPOSITORY:TAG."));
        }
        let (host, ecr, public, account) = match named {
            Some(host) if host.is_ecr_public() => {
                let (api, account) = self.logins.public(host, request, events).await?;
                (host.clone(), None, api, account)
            }
            Some(host) if !host.is_amazon() => (host.clone(), None, None, logins::others(host, request, events)),
            _ => {
                let (ecr, host, account) = self.logins.private(target, request, events).await?;
                (host, ecr, None, account)
            }
        };
        let (events, notes, told) = (Arc::clone(self.events), Arc::clone(self.events), Arc::clone(self.events));
        let reasons = Arc::clone(self.events);
        let quirks = if host.ecr().is_some() { &registry::ECR } else { Quirks::of_host(&host.to_string()) };
        let settings = registry::ClientConfig {
            endpoint: endpoint(&host, request)?,
            name: host.to_string(),
            via: host.via().map(str::to_owned),
            trust: self.trust.clone(),
            user_agent: agent::user_agent(request),
            credentials: account,
            retry: request.patience,
            max_requests: request.concurrency.max(QUESTIONS_AT_ONCE),
            quirks,
            concurrent_layers: request.large_at_once.min(self.layers),
            chunk_size: request.chunk_size,
            rate: self.rate.clone(),
            on_retry: Arc::new(move |registry::RetryNotice { why, pause, retry, retries }| {
                events(Event::Waiting { why, pause, retry, retries });
            }),
            on_note: Arc::new(move |line| notes(Event::Note(line))),
            on_detail: Arc::new(move |line| reasons(Event::Detail(line))),
            on_request: Arc::new(move |exchange| told(Event::Asked(exchange))),
            resume_store: request.cache.as_deref().map(ResumeStore::beside).map(|journal| match request.dry_run {
                true => journal,
                false => journal.pruned(),
            }),
        };
        let client = Client::new(settings, target.repository.clone(), CancellationToken::new())?;
        Ok(Reached { client, host, ecr, public })
    }
}

fn registry_of(target: &Target) -> Registry {
    (target.host.clone(), target.region.clone())
}

/// Where a host is reached: over https, unless it is this machine or the user wants otherwise. Whoever says whom to trust
/// wants https, but from a sandbox of our own.
fn endpoint(host: &Host, request: &Request) -> Result<Url> {
    let endpoint_override =
        request.access.endpoint_override(host.ecr(), None).map(|endpoint_override| &endpoint_override.address);
    let at = endpoint_override.or(request.registry_endpoint.as_ref()).filter(|_| host.is_amazon()).unwrap_or(host);
    let may_be_plain = request.ca_file.is_none() || matches!(request.access, Access::Override { .. });
    let plain = may_be_plain && (at.is_loopback() || request.insecure && !host.is_amazon());
    let scheme = if plain { "http" } else { "https" };
    let at = answering(at.as_str());
    Url::parse(&format!("{scheme}://{at}/"))
        .map_err(|error| Error::usage(format!("{host} cannot stand in a URL")).code(Code::TargetInvalid).because(error))
}

/// Who answers for a host: what people call Docker Hub is a web site.
fn answering(host: &str) -> &str {
    if ["docker.io", "index.docker.io"].contains(&host) { "registry-1.docker.io" } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_hub_answers_elsewhere() {
        for (host, answers) in [
            ("docker.io", "registry-1.docker.io"),
            ("index.docker.io", "registry-1.docker.io"),
            ("registry-1.docker.io", "registry-1.docker.io"),
            ("docker.io.example", "docker.io.example"),
        ] {
            assert_eq!(answering(host), answers);
        }
    }
}
