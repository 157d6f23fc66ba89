//! The registries of a push, each reached and logged in to once, however many targets are in it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::Url;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::destination::QUESTIONS_AT_ONCE;
use super::{Event, Events, Request};
use crate::ecr::{self, Access, Ecr, Network, NotReady, Place, Sources};
use crate::error::{Error, Result};
use crate::reference::{Host, Target};
use crate::registry::{self, Client, Journal, Login, LoginSource, Quirks, Rate, Trust};

/// The registries of a push.
pub(super) struct Registries<'a> {
    request: &'a Request,
    /// How many layers the image has.
    layers: usize,
    trust: Trust,
    network: Network,
    rate: Option<Arc<Rate>>,
    events: &'a Events,
    /// One for each host, and one for targets without: the caller's own.
    reached: HashMap<Option<Host>, OnceCell<Result<Reached>>>,
}

/// A registry that was reached.
struct Reached {
    /// A client for the repository of whoever came first.
    client: Client,
    host: Host,
    ecr: Option<Ecr>,
}

/// A repository of a registry, and ECR's API beside it if it is ECR's.
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) host: Host,
    pub(super) ecr: Option<(Ecr, Place)>,
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
        let hosts = request.targets.iter().map(|target| (target.host.clone(), OnceCell::new()));
        Self { request, layers, trust, network, rate, events, reached: hosts.collect() }
    }

    /// What is to be pushed, and how.
    pub(super) fn request(&self) -> &'a Request {
        self.request
    }

    /// Finds out whose registry the target is in, and logs in if it is ECR's.
    pub(super) async fn connect(&self, target: &Target, cancel: CancellationToken) -> Result<Connection> {
        let somebody_else = OnceCell::new();
        let registry = self.reached.get(&target.host).unwrap_or(&somebody_else);
        let reached = registry.get_or_init(|| self.reach(target)).await;
        let Reached { client, host, ecr } = reached.as_ref().map_err(Clone::clone)?;
        let place = host.ecr().map(|ecr| Place { host: ecr.clone(), repository: target.repository.clone() });
        let client = client.beside(target.repository.clone(), cancel);
        Ok(Connection { client, ecr: ecr.clone().zip(place), host: host.clone() })
    }

    async fn reach(&self, target: &Target) -> Result<Reached> {
        let request = self.request;
        let named_ecr = target.host.as_ref().and_then(Host::ecr);
        let is_ecr = named_ecr.is_some() || target.host.is_none();
        if !is_ecr && matches!(request.access, Access::StandIn { .. }) {
            return Err(Error::usage(format!("the sandbox is an ECR and cannot stand in for {target}"))
                .hint("Give the target as REPOSITORY:TAG."));
        }
        let (host, ecr, login): (Host, _, LoginSource) = match (&target.host, is_ecr) {
            (Some(host), false) => (host.clone(), None, Arc::new(|| Box::pin(async { Ok(Login::Anonymous) }))),
            (named, _) => {
                let ecr = Ecr::connect(&request.access, &self.network, request.region.as_deref(), named_ecr).await;
                let ecr = ecr.map_err(NotReady::into_error)?;
                if let Access::Aws(Sources { note: Some(note), .. }) = &request.access {
                    (self.events)(Event::Note(note.clone()));
                }
                (self.events)(Event::Detail(ecr.origins().await));
                let who = async { if request.tell_caller { ecr.caller().await } else { None } };
                let (token, caller) = tokio::join!(ecr.token(), who);
                let token = token.map_err(|error| ecr::advise(error, None))?;
                if let Some(caller) = caller {
                    (self.events)(Event::Detail(format!("caller {caller}")));
                }
                let host =
                    named.clone().unwrap_or_else(|| ecr.host(request.registry_id.as_ref().unwrap_or(&token.account)));
                (host, Some(ecr.clone()), login_source(ecr, token))
            }
        };
        let (events, notes) = (Arc::clone(self.events), Arc::clone(self.events));
        let quirks = if host.ecr().is_some() { &registry::ECR } else { Quirks::of_host(&host.to_string()) };
        let settings = registry::Settings {
            endpoint: endpoint(&host, request)?,
            name: host.to_string(),
            via: host.via().map(str::to_owned),
            trust: self.trust.clone(),
            login,
            patience: request.patience,
            lanes: request.concurrency.max(QUESTIONS_AT_ONCE),
            quirks,
            layers: request.large_at_once.min(self.layers),
            chunk: request.chunk_size,
            rate: self.rate.clone(),
            on_wait: Arc::new(move |line| events(Event::Warning(line))),
            on_note: Arc::new(move |line| notes(Event::Note(line))),
            journal: request.cache.as_deref().map(Journal::beside),
        };
        let client = Client::new(settings, target.repository.clone(), CancellationToken::new())?;
        Ok(Reached { client, host, ecr })
    }
}

/// Hands out the token that is there already, and after that a fresh one each time.
fn login_source(ecr: Ecr, token: ecr::Token) -> LoginSource {
    let first = Arc::new(Mutex::new(Some(token)));
    Arc::new(move || {
        let (ecr, first) = (ecr.clone(), first.lock().unwrap_or_else(PoisonError::into_inner).take());
        Box::pin(async move {
            let token = match first {
                Some(token) => token,
                None => ecr.token().await?,
            };
            Ok(Login::Basic(token.basic))
        })
    })
}

/// Where a host is reached: over https, unless it is this machine or the user wants otherwise. Whoever says whom to trust
/// wants https, but from a sandbox of our own.
fn endpoint(host: &Host, request: &Request) -> Result<Url> {
    let at = request.registry_endpoint.as_ref().filter(|_| host.ecr().is_some()).unwrap_or(host);
    let may_be_plain = request.ca_file.is_none() || matches!(request.access, Access::StandIn { .. });
    let plain = may_be_plain && (at.is_loopback() || request.insecure && host.ecr().is_none());
    let scheme = if plain { "http" } else { "https" };
    Url::parse(&format!("{scheme}://{at}/"))
        .map_err(|error| Error::usage(format!("{host} cannot stand in a URL")).because(error))
}
