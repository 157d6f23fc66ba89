//! The registries of a push, each reached and logged in to once, however many targets are in it.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};

use reqwest::Url;
use tokio_util::sync::CancellationToken;

use super::context::Run;
use super::logins::Logins;
use super::options::RegistryOptions;
use super::shared::Shared;
use super::{Event, user_agent};
use crate::ecr::{Access, Ecr, EcrPublic, Network, RepositoryLocation};
use crate::error::{Error, Result};
use crate::oci::{Host, Target};
use crate::registry::{self, Client, Pacer, Quirks, Rate, ResumeStore, Trust};
use crate::sync::lock;

/// How many blobs are asked for at once where there is no call that asks for many.
pub(super) const REQUESTS_AT_ONCE: usize = 8;

/// ECR's quota of PutImage per second, for an account in a region
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html>,
/// <https://docs.aws.amazon.com/AmazonECR/latest/public/public-service-quotas.html>).
const PUT_RATE: f64 = 10.0;

/// The registries of a push.
pub(super) struct Registries {
    run: Arc<Run>,
    trust: Trust,
    rate: Option<Arc<Rate>>,
    /// The pace of manifests, by account and region.
    pacers: Mutex<HashMap<(String, String), Arc<Pacer>>>,
    logins: Logins,
    /// One for each host, and for targets without a host one for each region.
    reached: Shared<Registry, Reached, Error>,
}

/// Identifies a registry: its host, or the region of the caller's own.
type Registry = (Option<Host>, Option<String>);

/// A registry that was reached.
#[derive(Clone)]
struct Reached {
    /// A client for the repository of the first target.
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
    /// Returns the registries of a run. Nothing is connected to yet.
    pub(super) fn new(run: &Arc<Run>, (trust, network): (Trust, Network)) -> Self {
        let (observer, ci) = (Arc::clone(run), run.options.registries.ci);
        let network = network
            .observed_by(Arc::new(move |record| observer.emit(Event::Request(record))))
            .identified_as(user_agent::user_agent(ci), user_agent::app_name(ci));
        let rate = run.options.registries.limit_rate.map(|limit| Arc::new(Rate::new(limit)));
        Self {
            run: Arc::clone(run),
            trust,
            rate,
            pacers: Mutex::default(),
            logins: Logins::new(run, network),
            reached: Shared::default(),
        }
    }

    /// Returns the pace of manifests in a registry, which all registries of its account and region share.
    fn pacer(&self, host: &Host) -> Option<Arc<Pacer>> {
        let options = &self.run.options.registries;
        let is_replaced = matches!(options.access, Access::Override { .. }) || options.ecr_endpoint.is_some();
        let place = match host.ecr() {
            Some(ecr) => (ecr.account.clone(), ecr.region.clone()),
            None if host.is_ecr_public() => (host.to_string(), String::new()),
            None => return None,
        };
        let rate = put_rate(options.put_rate, options.machines, is_replaced)?;
        Some(Arc::clone(lock(&self.pacers).entry(place).or_insert_with(|| Arc::new(Pacer::new(rate)))))
    }

    /// Finds out whose registry the target is in, and logs in if it is ECR's: with a login that is for all `targets` of the
    /// push. Of the memory for chunks, each layer gets one of so many `shares`.
    pub(super) async fn connect(
        &self,
        target: &Target,
        targets: &[Target],
        shares: usize,
        stop: CancellationToken,
    ) -> Result<Connection> {
        self.logins.expect(targets);
        let registry = (target.host.clone(), target.region.clone());
        let Reached { client, host, ecr, public } =
            self.reached.get(registry, async || self.reach(target).await).await?;
        let place =
            host.ecr().map(|ecr| RepositoryLocation { host: ecr.clone(), repository: target.repository.clone() });
        let client = client.for_push(target.repository.clone(), shares, stop);
        Ok(Connection { client, ecr: ecr.zip(place.clone()), place, public, host })
    }

    async fn reach(&self, target: &Target) -> Result<Reached> {
        let (options, named) = (&self.run.options, target.host.as_ref());
        let registries = &options.registries;
        if named.is_some_and(|host| !host.is_amazon()) && matches!(registries.access, Access::Override { .. }) {
            return Err(Error::invalid_target(format!("the sandbox replaces Amazon ECR only, not {target}"))
                .hint("Write the target as REPOSITORY:TAG."));
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
        let run = || Arc::clone(&self.run);
        let (on_retry, on_note, on_request) = (run(), run(), run());
        let quirks = if host.ecr().is_some() { &registry::ECR } else { Quirks::of_host(&host.to_string()) };
        let settings = registry::ClientConfig {
            endpoint: endpoint(&host, registries)?,
            name: host.to_string(),
            via: host.via().map(str::to_owned),
            trust: self.trust.clone(),
            user_agent: user_agent::user_agent(registries.ci),
            credentials: account,
            retry: registries.retry,
            max_requests: options.layers.concurrency.max(REQUESTS_AT_ONCE),
            quirks,
            chunk_size: options.layers.chunk_size,
            rate: self.rate.clone(),
            manifests: self.pacer(&host),
            on_retry: Arc::new(move |registry::RetryNotice { why: reason, pause, retry, retries }| {
                on_retry.emit(Event::Retrying { reason, pause, retry, retries });
            }),
            on_note: Arc::new(move |line| on_note.emit(Event::Note(line))),
            on_request: Arc::new(move |record| on_request.emit(Event::Request(record))),
            resume_store: options.layers.cache.as_deref().map(ResumeStore::beside).map(|journal| {
                match options.dry_run {
                    true => journal,
                    false => journal.pruned(),
                }
            }),
        };
        let client = Client::new(settings, target.repository.clone(), CancellationToken::new())?;
        Ok(Reached { client, host, ecr, public })
    }
}

/// Returns how many manifests this machine may put per second, of those that are `stated` for all machines. Only AWS has a
/// quota where none is stated.
fn put_rate(stated: Option<f64>, machines: Option<NonZeroU64>, is_replaced: bool) -> Option<f64> {
    let rate = stated.or_else(|| (!is_replaced).then_some(PUT_RATE))?;
    Some(rate / machines.map_or(1, NonZeroU64::get) as f64)
}

/// Returns the URL of a host: with https, unless it is this machine or the options allow http. With a CA file it is always
/// https, except for the sandbox.
fn endpoint(host: &Host, options: &RegistryOptions) -> Result<Url> {
    let endpoint_override =
        options.access.endpoint_override(host.ecr(), None).map(|endpoint_override| &endpoint_override.address);
    let at = endpoint_override.or(options.ecr_endpoint.as_ref()).filter(|_| host.is_amazon()).unwrap_or(host);
    let may_be_plain = options.ca_file.is_none() || matches!(options.access, Access::Override { .. });
    let plain = may_be_plain && (at.is_loopback() || options.insecure && !host.is_amazon());
    let scheme = if plain { "http" } else { "https" };
    let at = answering(at.as_str());
    Url::parse(&format!("{scheme}://{at}/"))
        .map_err(|error| Error::invalid_target(format!("{host} is not valid in a URL")).because(error))
}

/// Returns the host that serves the API of a registry: the common name of Docker Hub is a web site.
fn answering(host: &str) -> &str {
    if ["docker.io", "index.docker.io"].contains(&host) { "registry-1.docker.io" } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_share_the_rate_and_only_aws_has_one_of_its_own() {
        let four = NonZeroU64::new(4);
        assert_eq!(put_rate(None, None, false), Some(10.0));
        assert_eq!(put_rate(None, four, false), Some(2.5));
        assert_eq!(put_rate(None, four, true), None);
        assert_eq!(put_rate(Some(100.0), four, true), Some(25.0));
    }

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
