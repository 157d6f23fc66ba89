//! The client of a repository: sends requests and retries them.
//!
//! The only retry loop around small requests is [`Client::request`]; bodies of layers have theirs in `upload`. Both use
//! [`Client::send`], which sends once, sends the credentials only to the registry's own origin, and renews them once if
//! they are rejected. Redirects are never followed with credentials.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode, Url};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::address;
use super::api_request::ApiRequest;
use super::auth::{Auth, Rejection, Scopes};
use super::challenge::Challenge;
use super::concurrency::{ConcurrencyLimiter, Permit};
use super::credential_provider::CredentialProvider;
use super::pacer::Pacer;
use super::quirks::{Quirks, StatusReport};
use super::rate::Rate;
use super::reply::{self, Limits, Reply};
use super::request_error::RequestError;
use super::resume_store::{ResumeEntry, ResumeStore};
use super::retry::{Delay, Delays, RetryConfig, RetryNotice};
use super::transport::http;
use super::transport_error::TimedOut;
use super::upload_strategy::UploadStrategy;
use crate::error::{Error, Kind, Result};
use crate::oci::Repository;
use crate::request_log::{RequestObserver, RequestTimer, Subject, UrlDetail};
use crate::tls::Trust;

/// The time for a request in flight to finish once the push is cancelled.
const GRACE: Duration = Duration::from_millis(800);

/// The time limit for closing an upload session.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest delay that is accepted. If a registry asks for more, its response is final.
const MAX_DELAY: Duration = Duration::from_secs(600);

/// The configuration of the client for one registry.
pub(crate) struct ClientConfig {
    /// The URL of the registry: `https://HOST/`.
    pub endpoint: Url,
    /// The name of the registry in messages: the host of the reference, whatever the endpoint.
    pub name: String,
    /// Another host name to connect to for the same registry: a VPC endpoint's.
    pub via: Option<String>,
    /// The `User-Agent`.
    pub user_agent: String,
    /// Certificates that are trusted in addition to the machine's own.
    pub trust: Trust,
    /// The credentials. Registries with the same provider share its login.
    pub credentials: Arc<CredentialProvider>,
    /// Retries and time limits.
    pub retry: RetryConfig,
    /// The maximum number of concurrent requests.
    pub max_requests: usize,
    /// The registry's quirks.
    pub quirks: &'static Quirks,
    /// The chunk size in bytes, if the user sets one.
    pub chunk_size: Option<u64>,
    /// The rate limit for layers, shared with other clients.
    pub rate: Option<Arc<Rate>>,
    /// The pace of manifests, shared with other clients of the same account and region.
    pub manifests: Option<Arc<Pacer>>,
    /// Called before each retry.
    pub on_retry: Arc<dyn Fn(RetryNotice) + Send + Sync>,
    /// Called with notes, one line each.
    pub on_note: Arc<dyn Fn(String) + Send + Sync>,
    /// Called after every request.
    pub on_request: RequestObserver,
    /// The store of interrupted uploads.
    pub resume_store: Option<ResumeStore>,
}

impl ClientConfig {
    /// Returns the registry's own host for a request to an endpoint on this machine that overrides it: one endpoint may
    /// override many registries. It is not in `X-Forwarded-Host`, from which registries make their upload URLs.
    fn overridden_host(&self, url: &Url) -> Option<&str> {
        let host = url.host_str()?;
        let is_own = url.origin() == self.endpoint.origin() && address::is_loopback(url);
        (is_own && !self.name.starts_with(host)).then_some(&self.name)
    }
}

/// A client for one repository of a registry. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    registry: Arc<Registry>,
    strategy: UploadStrategy,
    repository: Repository,
    /// The actions to request from a token service: `pull,push`.
    actions: &'static str,
    /// What its requests are about, for the request log.
    subject: Option<Subject>,
    /// Cancels all requests.
    cancel: CancellationToken,
}

/// The state that all clients of a registry share: connections, login, concurrency.
struct Registry {
    config: ClientConfig,
    http: reqwest::Client,
    auth: Auth,
    limiter: ConcurrencyLimiter,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({}/{})", self.name(), self.repository)
    }
}

impl Client {
    /// Creates a client for one repository. Opens no connection yet.
    ///
    /// # Errors
    /// Fails if the machine's certificate store cannot be used.
    pub(crate) fn new(config: ClientConfig, repository: Repository, cancel: CancellationToken) -> Result<Self> {
        let via = config.via.as_deref();
        let own = config.endpoint.host_str();
        let client = http(&config.endpoint, &config.user_agent, &config.trust, via, own)?;
        let (own_client, trust, origin) = (client.clone(), config.trust.clone(), config.endpoint.origin());
        let user_agent = config.user_agent.clone();
        let connect = move |url: &Url| {
            if url.origin() == origin { Ok(own_client.clone()) } else { http(url, &user_agent, &trust, None, None) }
        };
        let (credentials, name) = (Arc::clone(&config.credentials), config.name.clone());
        let observer = Arc::clone(&config.on_request);
        let auth = Auth::new(credentials, name, config.endpoint.clone(), Arc::new(connect), observer);
        let limiter = ConcurrencyLimiter::new(config.max_requests);
        let strategy = UploadStrategy::new(config.quirks, config.chunk_size);
        if let Some(rate) = &config.rate {
            strategy.line().limit(rate.bytes_per_second());
        }
        let registry = Arc::new(Registry { config, http: client, auth, limiter });
        Ok(Self { registry, strategy, repository, actions: "pull,push", subject: None, cancel })
    }

    /// Returns a client for a push to a repository of the same registry, with the same connections and login. `layers` that
    /// are uploaded at once share the memory for chunks.
    #[must_use]
    pub(crate) fn for_push(&self, repository: Repository, layers: usize, cancel: CancellationToken) -> Self {
        let strategy = self.strategy.shared_by(layers);
        debug!("{}", strategy.describe(self.name()));
        Self { strategy, repository, subject: None, cancel, ..self.clone() }
    }

    /// Returns a client that only reads another repository of the same registry.
    #[must_use]
    pub(crate) fn for_pull(&self, repository: Repository, cancel: CancellationToken) -> Self {
        Self { actions: "pull", repository, subject: None, cancel, ..self.clone() }
    }

    /// Returns a client whose requests are logged as being about `subject`.
    #[must_use]
    pub(crate) fn about(&self, subject: &Subject) -> Self {
        Self { subject: Some(subject.clone()), ..self.clone() }
    }

    /// Returns the name of the registry in messages.
    pub(crate) fn name(&self) -> &str {
        &self.registry.config.name
    }

    /// Returns the repository.
    pub(crate) fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Returns the URL of `rest` below the repository: `blobs/sha256:...`, `manifests/1`.
    pub(super) fn url(&self, rest: &str) -> Url {
        let mut url = self.registry.config.endpoint.clone();
        url.set_path(&format!("/v2/{}/{rest}", self.repository));
        url
    }

    /// Sends a small request with retries, and returns the response or the last error.
    pub(super) async fn request(&self, request: &ApiRequest) -> Result<Reply, RequestError> {
        let mut delays = self.delays(&request.method);
        loop {
            match self.send_once(request).await {
                Err(error) if error.is_transient() => self.pause(error, &mut delays).await?,
                sent => return sent,
            }
        }
    }

    /// Sends a small request once.
    pub(super) async fn send_once(&self, request: &ApiRequest) -> Result<Reply, RequestError> {
        // The clock starts when the request may be sent, not while the registry asks to wait.
        let limit = self.retry_config().request_timeout;
        let timeout = async {
            tokio::time::sleep(limit).await;
            TimedOut(limit).to_string()
        };
        self.send(request, timeout).await
    }

    /// Returns how large blobs are uploaded.
    pub(super) fn strategy(&self) -> &UploadStrategy {
        &self.strategy
    }

    /// Returns the entry of a blob in the store of interrupted uploads, if there is a store.
    pub(super) fn resume_entry(&self, identity: &str) -> Option<ResumeEntry> {
        let store = self.registry.config.resume_store.as_ref()?;
        Some(store.entry(self.name(), &self.repository, identity))
    }

    /// Reports a note.
    pub(super) fn note(&self, line: String) {
        (self.registry.config.on_note)(line);
    }

    /// Returns whether the registry is known to report the progress of an upload, so that one that broke can be resumed.
    pub(crate) fn reports_upload_status(&self) -> bool {
        self.strategy().quirks().upload_status == StatusReport::Reported
    }

    /// Returns whether a blob of `total` bytes before compression may have to be sent again from its start although nothing
    /// breaks, because it is not known whether the registry accepts chunks.
    pub(crate) fn may_reject_chunks(&self, total: u64) -> bool {
        self.strategy().may_reject(total)
    }

    /// Returns the rate limit for layers.
    pub(super) fn rate(&self) -> Option<&Arc<Rate>> {
        self.registry.config.rate.as_ref()
    }

    /// Returns retries and time limits.
    pub(super) fn retry_config(&self) -> &RetryConfig {
        &self.registry.config.retry
    }

    /// Returns the delays between retries. They start again where an attempt is throttled while requests with the method
    /// `progress` succeed.
    pub(super) fn delays(&self, progress: &Method) -> Delays {
        Delays::new(self.retry_config(), progress, self.registry.limiter.succeeded(progress))
    }

    /// Waits before the next retry; returns the error if there is none left.
    pub(super) async fn pause(&self, error: RequestError, delays: &mut Delays) -> Result<(), RequestError> {
        let next = delays.after(&error, |progress| self.registry.limiter.succeeded(progress));
        let Some(Delay { retry, usual, of_service }) = next else { return Err(error) };
        let delay = if error.is_failure_of_service() { of_service } else { usual };
        let delay = error.retry_after().map_or(delay, |asked| asked.max(delay));
        if delay > MAX_DELAY {
            return Err(error);
        }
        if error.is_throttle() {
            self.registry.limiter.pause_all(delay);
        }
        let why = format!("{}: {}", self.name(), error.summary());
        (self.registry.config.on_retry)(RetryNotice { why, pause: delay, retry, retries: self.retry_config().retries });
        self.or_cancelled(tokio::time::sleep(delay)).await
    }

    /// Awaits `future` unless the push is cancelled.
    ///
    /// # Errors
    /// Fails with [`Kind::Interrupted`] if the push is cancelled.
    pub(super) async fn or_cancelled<T>(&self, future: impl Future<Output = T>) -> Result<T, RequestError> {
        self.cancel.run_until_cancelled(future).await.ok_or_else(|| Error::interrupted().into())
    }

    /// Sends a request once, as soon as a permit is free, and gives up when `timeout` ends, with the reason it returns.
    ///
    /// After a cancellation the response to a request in flight is awaited for a moment: only a session whose last response
    /// was read can be closed. The reference registry rejects closing one by an older URL.
    pub(super) async fn send(
        &self,
        request: &ApiRequest,
        timeout: impl Future<Output = String>,
    ) -> Result<Reply, RequestError> {
        if let Some(pacer) = self.registry.config.manifests.as_ref().filter(|_| request.is_manifest) {
            self.or_cancelled(tokio::time::sleep_until(pacer.reserve())).await?;
        }
        let permit = Some(self.or_cancelled(self.registry.limiter.acquire()).await?).filter(|_| !request.is_stream);
        let mut sending = std::pin::pin!(async {
            tokio::select! {
                sent = self.send_with_login(request) => sent,
                why = timeout => Err(RequestError::Transport(why.into())),
            }
        });
        let sent = match self.or_cancelled(&mut sending).await {
            Err(interrupted) => match tokio::time::timeout(GRACE, sending).await {
                Ok(Ok(reply)) => Ok(reply),
                Ok(Err(_)) | Err(_) => Err(interrupted),
            },
            Ok(sent) => sent,
        };
        match (&sent, permit) {
            (Ok(_), Some(permit)) => permit.succeeded(&request.method),
            (Err(error), Some(permit)) if error.is_throttle() => permit.throttled(),
            _ => {}
        }
        sent
    }

    /// Sends a request; again with credentials if the registry asks for them, and again with new ones if those were rejected.
    /// This does not count as a retry.
    async fn send_with_login(&self, request: &ApiRequest) -> Result<Reply, RequestError> {
        if request.url.origin() != self.registry.config.endpoint.origin() {
            return self.send_as(request, None).await.map_err(|rejection| rejection.error);
        }
        let auth = &self.registry.auth;
        let mut sent_credential = auth.credential(self.scopes(request)).await?;
        let mut is_renewed = false;
        loop {
            let rejection = match self.send_as(request, sent_credential.header.clone()).await {
                Err(rejection) if rejection.error.wants_new_login() && !is_renewed => rejection,
                // A registry that allows anonymous reads may deny all else without a challenge.
                Err(rejection) if rejection.error.is_denied() && sent_credential.header.is_none() => {
                    Rejection { challenges: self.challenges().await, ..rejection }
                }
                sent => return sent.map_err(|rejection| rejection.error),
            };
            is_renewed = sent_credential.header.is_some();
            sent_credential = auth.renew(sent_credential, rejection).await?;
        }
    }

    /// Returns the challenges of the base endpoint (OCI distribution specification, "Determining Support").
    async fn challenges(&self) -> Vec<Challenge> {
        let mut url = self.registry.config.endpoint.clone();
        url.set_path("/v2/");
        let sent = self.send_as(&ApiRequest::new(Method::GET, url, &[200]), None).await;
        sent.map_or_else(|rejection| rejection.challenges, |_| Vec::new())
    }

    /// Returns the scopes that a request needs, as token services name them.
    fn scopes(&self, request: &ApiRequest) -> Scopes {
        let own = format!("repository:{}:{}", self.repository, self.actions);
        let source = request.source.as_ref().map(|source| format!("repository:{source}:pull"));
        std::iter::once(own).chain(source).collect()
    }

    /// Closes an upload session as a best effort: also after a cancellation, and without reporting a failure. Only a registry
    /// that throttles is asked again: it has not failed, and would keep the session.
    pub(super) async fn abort_session(&self, session: Url) {
        let request = ApiRequest::new(Method::DELETE, session, &[200, 202, 204]);
        let closed = async {
            let mut delays = self.delays(&Method::PUT);
            loop {
                // A cancelled push has no time to wait for its turn.
                let permit = self.cancel.run_until_cancelled(self.registry.limiter.acquire()).await;
                let sent = tokio::time::timeout(ABORT_TIMEOUT, self.send_with_login(&request)).await;
                let Ok(Err(error)) = sent else { break };
                if !error.is_throttle() {
                    break;
                }
                permit.iter().for_each(Permit::throttled);
                drop(permit);
                let Some(delay) = delays.after(&error, |progress| self.registry.limiter.succeeded(progress)) else {
                    break;
                };
                tokio::time::sleep(delay.usual).await;
            }
        };
        let cancelled = async {
            self.cancel.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            () = closed => {}
            () = cancelled => {}
        }
    }

    /// Sends a request once with these credentials, and reads the response.
    async fn send_as(&self, request: &ApiRequest, authorization: Option<HeaderValue>) -> Result<Reply, Rejection> {
        let mut builder = self.registry.http.request(request.method.clone(), request.url.clone());
        builder = builder.headers(request.headers.clone());
        if let Some(host) = self.registry.config.overridden_host(&request.url) {
            builder = builder.header("x-ecr-push-registry", host);
        }
        let expect_of_login = if authorization.is_some() { request.expect_of_login } else { &[] };
        if let Some(header) = authorization {
            builder = builder.header(AUTHORIZATION, header);
        }
        let limits = Limits { bytes: request.limit, time: self.retry_config().request_timeout };
        let started = Instant::now();
        let sent = reply::send(builder.body((request.payload)()), self.timer(request), limits).await;
        let took = started.elapsed();
        let rejection = |error| Rejection { error, challenges: Vec::new() };
        let reply = sent.map_err(|error| rejection(error.into_request_error(&request.method)))?;
        if [request.expect, expect_of_login].concat().contains(&reply.status.as_u16()) {
            // Storages that blobs are read from are elsewhere, and a rejection may come from a proxy that is nearer.
            if request.has_no_body() && request.url.origin() == self.registry.config.endpoint.origin() {
                self.strategy.line().note_latency(took);
            }
            return reply.complete().map_err(rejection);
        }
        let challenges = Challenge::all(&reply.headers);
        Err(Rejection { error: reply.into_error(&request.method), challenges })
    }

    /// Starts the record of a request that is sent now.
    fn timer(&self, request: &ApiRequest) -> RequestTimer {
        let config = &self.registry.config;
        let is_own = request.url.origin() == config.endpoint.origin();
        let detail = if is_own { UrlDetail::Path } else { UrlDetail::Host };
        let attempt = request.times.fetch_add(1, Ordering::Relaxed) + 1;
        let sent = Arc::clone(&request.sent);
        RequestTimer::new(&config.on_request, request.method.as_str(), &request.url, detail, sent)
            .within(format!("{}/{}", self.name(), self.repository))
            .about(self.subject.clone())
            .attempt(attempt)
    }

    /// Returns the URL at which a response to a request to `from` continues, if it names one.
    ///
    /// # Errors
    /// Fails if that URL is invalid or may not be used.
    pub(super) fn location(&self, from: &Url, reply: &Reply) -> Result<Option<Url>, RequestError> {
        let Some(value) = reply.headers.get(LOCATION) else { return Ok(None) };
        let invalid = |why: &str| Error::new(Kind::Refused, format!("{} sent an upload URL {why}", self.name()));
        let text = value.to_str().map_err(|_| invalid("that is not text"))?;
        let url = from.join(text).map_err(|_| invalid("that cannot be parsed"))?;
        self.allowed(url).map(Some)
    }

    /// Checks that a URL that the registry names may be used.
    pub(super) fn allowed(&self, url: Url) -> Result<Url, RequestError> {
        Ok(address::allowed(self.name(), &self.registry.config.endpoint, url)?)
    }

    /// Turns the failure of `doing` into an error with advice.
    pub(super) fn explain(&self, error: RequestError, doing: &str) -> Error {
        error.into_error(self.name(), doing)
    }
}

/// The statuses that redirect to another storage.
pub(super) const REDIRECTS: [StatusCode; 4] =
    [StatusCode::MOVED_PERMANENTLY, StatusCode::FOUND, StatusCode::SEE_OTHER, StatusCode::TEMPORARY_REDIRECT];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ServiceError;
    use crate::registry::{AuthMode, IssuedLogin, Login};

    fn client() -> Client {
        let config = ClientConfig {
            // Nothing listens on this port.
            endpoint: Url::parse("http://127.0.0.1:1/").unwrap(),
            name: "registry".into(),
            via: None,
            user_agent: "ecr-push".into(),
            trust: Trust::default(),
            credentials: CredentialProvider::new(
                AuthMode::OnChallenge,
                Arc::new(|_| Box::pin(async { Ok(IssuedLogin { login: Login::Anonymous, lifetime: None }) })),
            ),
            retry: RetryConfig::default(),
            max_requests: 4,
            quirks: Quirks::of_host("registry"),
            chunk_size: None,
            rate: None,
            manifests: None,
            on_retry: Arc::new(|_| {}),
            on_note: Arc::new(|_| {}),
            on_request: crate::request_log::ignore(),
            resume_store: None,
        };
        Client::new(config, "app".parse().unwrap(), CancellationToken::new()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_requested_delay_is_respected_up_to_a_limit() {
        let client = client();
        for (seconds, is_accepted) in [(0, true), (600, true), (601, false), (u64::MAX, false)] {
            let start = Instant::now();
            let response = ServiceError { status: Some(429), ..ServiceError::default() };
            let error = RequestError::Status(Box::new(response), Some(Duration::from_secs(seconds)));
            let pause = client.pause(error, &mut client.delays(&Method::GET)).await;
            assert_eq!(pause.is_ok(), is_accepted, "{seconds}");
            assert_eq!(start.elapsed() >= Duration::from_secs(seconds), is_accepted, "{seconds}");
        }
    }
}
