//! The registries of a push, each reached and logged in to once, however many targets are in it.

use std::sync::Arc;

use reqwest::Url;
use tokio_util::sync::CancellationToken;

use super::logins::Logins;
use super::request::Request;
use super::shared::Shared;
use super::{Event, Events, user_agent};
use crate::ecr::{Access, Ecr, EcrPublic, Network, RepositoryLocation};
use crate::error::{Code, Error, Result};
use crate::oci::{Host, Target};
use crate::registry::{self, Client, Quirks, Rate, ResumeStore, Trust};

/// How many blobs are asked for at once where there is no call that asks for many.
pub(super) const REQUESTS_AT_ONCE: usize = 8;

/// The registries of a push.
pub(super) struct Registries {
    request: Arc<Request>,
    trust: Trust,
    rate: Option<Arc<Rate>>,
    events: Events,
    logins: Logins,
    /// One for each host, and for targets without a host one for each region.
    reached: Shared<Registry, Reached, Error>,
}

/// Identifies a registry: its host, or the region of the caller's own.
type Registry = (Option<Host>, Option<String>);

/// A registry that was reached.
#[derive(Clone)]
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

impl Registries {
    /// Returns the registries that the request names. Nothing is connected to yet.
    pub(super) fn new(
        request: &Arc<Request>,
        (trust, network): (Trust, Network),
        rate: Option<Arc<Rate>>,
        events: &Events,
    ) -> Self {
        let observer = Arc::clone(events);
        let network = network
            .observed_by(Arc::new(move |record| observer(Event::Asked(record))))
            .identified_as(user_agent::user_agent(request), user_agent::app_name(request));
        let logins = Logins::of(request, network, events);
        let (request, events) = (Arc::clone(request), Arc::clone(events));
        Self { request, trust, rate, events, logins, reached: Shared::default() }
    }

    /// Finds out whose registry the target is in, and logs in if it is ECR's. `layers` is how many layers there are, as far as
    /// that is known.
    pub(super) async fn connect(&self, target: &Target, layers: usize, stop: CancellationToken) -> Result<Connection> {
        let registry = (target.host.clone(), target.region.clone());
        let reached = self.reached.get(registry, async || self.reach(target, layers).await).await;
        let Reached { client, host, ecr, public } = reached?;
        let place =
            host.ecr().map(|ecr| RepositoryLocation { host: ecr.clone(), repository: target.repository.clone() });
        let client = client.for_repository(target.repository.clone(), stop);
        Ok(Connection { client, ecr: ecr.zip(place.clone()), place, public, host })
    }

    async fn reach(&self, target: &Target, layers: usize) -> Result<Reached> {
        let (request, named) = (&self.request, target.host.as_ref());
        if named.is_some_and(|host| !host.is_amazon()) && matches!(request.access, Access::Override { .. }) {
            return Err(Error::usage(format!("the sandbox is an ECR and cannot stand in for {target}"))
                .code(Code::TargetInvalid)
                .hint("Give the target as REPOSITORY:TAG."));
        }
        let (host, ecr, public, account) = match named {
            Some(host) if host.is_ecr_public() => {
                let (api, account) = self.logins.public(host).await?;
                (host.clone(), None, api, account)
            }
            Some(host) if !host.is_amazon() => (host.clone(), None, None, self.logins.others(host)),
            _ => {
                let (ecr, host, account) = self.logins.private(target).await?;
                (host, ecr, None, account)
            }
        };
        let events = || Arc::clone(&self.events);
        let (on_retry, on_note, on_detail, on_request) = (events(), events(), events(), events());
        let quirks = if host.ecr().is_some() { &registry::ECR } else { Quirks::of_host(&host.to_string()) };
        let settings = registry::ClientConfig {
            endpoint: endpoint(&host, request)?,
            name: host.to_string(),
            via: host.via().map(str::to_owned),
            trust: self.trust.clone(),
            user_agent: user_agent::user_agent(request),
            credentials: account,
            retry: request.patience,
            max_requests: request.concurrency.max(REQUESTS_AT_ONCE),
            quirks,
            concurrent_layers: request.memory_shares(layers),
            chunk_size: request.chunk_size,
            rate: self.rate.clone(),
            on_retry: Arc::new(move |registry::RetryNotice { why, pause, retry, retries }| {
                on_retry(Event::Waiting { why, pause, retry, retries });
            }),
            on_note: Arc::new(move |line| on_note(Event::Note(line))),
            on_detail: Arc::new(move |line| on_detail(Event::Detail(line))),
            on_request: Arc::new(move |record| on_request(Event::Asked(record))),
            resume_store: request.cache.as_deref().map(ResumeStore::beside).map(|journal| match request.dry_run {
                true => journal,
                false => journal.pruned(),
            }),
        };
        let client = Client::new(settings, target.repository.clone(), CancellationToken::new())?;
        Ok(Reached { client, host, ecr, public })
    }
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
