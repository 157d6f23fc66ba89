//! One small request at a time: sent, answered, and tried again where that may help.
//!
//! The only retry loop around small requests is [`Client::ask`]; bodies of layers have theirs in `upload`. Both build
//! on [`Client::send`], which sends once, keeps the credentials to the registry's own origin, and renews them once when
//! they are refused. Redirects are never followed with credentials.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode, Url};
use tokio_util::sync::CancellationToken;

use super::address;
use super::api_request::ApiRequest;
use super::auth::{Auth, Refused, Scopes};
use super::challenge::Challenge;
use super::concurrency::ConcurrencyLimiter;
use super::credential_provider::CredentialProvider;
use super::delays::{Delay, Delays};
use super::quirks::{Quirks, Status};
use super::rate::Rate;
use super::reply::{self, Limits, Reply};
use super::request_error::RequestError;
use super::resume_store::{ResumeEntry, ResumeStore};
use super::transport::http;
use super::transport_error::Late;
use super::trust::Trust;
use super::upload_strategy::UploadStrategy;
use crate::error::{Error, Kind, Result};
use crate::oci::Repository;
use crate::request_log::{RequestObserver, RequestTimer, UrlDetail};

/// How long is waited for an answer that nobody needs any more once the push is cancelled.
const GRACE: Duration = Duration::from_millis(800);

/// How long is waited until a session is closed that nobody needs any more, while nobody waits for the end.
const FORGETTING: Duration = Duration::from_secs(5);

/// The longest pause that is kept. A registry that asks for more is not waited for: its answer is the end of it.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// How long is waited for what, and how often it is tried again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RetryConfig {
    /// How often a request is tried again.
    pub retries: usize,
    /// The pause before the second try. The next ones are longer, up to `max_delay`.
    pub initial_delay: Duration,
    /// The longest pause of our own choice. A registry may ask for a longer one.
    pub max_delay: Duration,
    /// How long a small request may take, answer included.
    pub request_timeout: Duration,
    /// How long a request with a body may stand still before its connection is cut.
    pub stall_timeout: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            retries: 4,
            initial_delay: Duration::from_millis(400),
            max_delay: Duration::from_secs(20),
            request_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(60),
        }
    }
}

/// What needs to be known about a registry.
pub struct ClientConfig {
    /// Where the registry is: `https://HOST/`.
    pub endpoint: Url,
    /// What people call the registry: the host of the reference, wherever the endpoint is.
    pub name: String,
    /// Another name to connect to, which leads to the same registry: a VPC endpoint's.
    pub via: Option<String>,
    /// Who we say we are.
    pub user_agent: String,
    /// Whom to trust over https, beside those whom the machine trusts.
    pub trust: Trust,
    /// Who we are to it. Registries that are given the same account share its login.
    pub credentials: Arc<CredentialProvider>,
    /// How long is waited for what.
    pub retry: RetryConfig,
    /// How many requests are under way at once at most.
    pub max_requests: usize,
    /// What is special about it.
    pub quirks: &'static Quirks,
    /// How many layers are under way at once.
    pub concurrent_layers: usize,
    /// Bytes to a chunk, if the user wants so many.
    pub chunk_size: Option<u64>,
    /// The rate that layers are sent at, shared with other clients.
    pub rate: Option<Arc<Rate>>,
    /// Told why it takes longer, and when the next try is.
    pub on_retry: Arc<dyn Fn(RetryNotice) + Send + Sync>,
    /// Told, in one line, what else is worth knowing.
    pub on_note: Arc<dyn Fn(String) + Send + Sync>,
    /// Told, in one line, what was decided and why.
    pub on_detail: Arc<dyn Fn(String) + Send + Sync>,
    /// Told of every request.
    pub on_request: RequestObserver,
    /// What is remembered of half-sent layers.
    pub resume_store: Option<ResumeStore>,
}

/// The wait before a retry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RetryNotice {
    /// The host and why its last answer calls for a retry.
    pub why: String,
    /// The time until the retry.
    pub pause: Duration,
    /// Which retry it is, counted from 1.
    pub retry: usize,
    /// How many retries there are at most.
    pub retries: usize,
}

/// A repository of a registry.
#[derive(Clone)]
pub struct Client {
    registry: Arc<Registry>,
    repository: Repository,
    /// What is done there, in the words of token services.
    actions: &'static str,
    /// What its requests are about.
    about: Option<Arc<str>>,
    /// Ends all waiting.
    cancel: CancellationToken,
}

/// What all clients of a registry share: connections, login and pace.
struct Registry {
    config: ClientConfig,
    http: reqwest::Client,
    auth: Auth,
    pacer: ConcurrencyLimiter,
    ways: UploadStrategy,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({}/{})", self.name(), self.repository)
    }
}

impl Client {
    /// A client for one repository, whose waiting ends with `cancel`. Connects to nothing yet.
    ///
    /// # Errors
    /// If the machine's certificate store cannot be used.
    pub fn new(config: ClientConfig, repository: Repository, cancel: CancellationToken) -> Result<Self> {
        let via = config.via.as_deref();
        let own = config.endpoint.host_str();
        let client = http(&config.endpoint, &config.user_agent, &config.trust, via, own)?;
        let (own, trust, origin) = (client.clone(), config.trust.clone(), config.endpoint.origin());
        let user_agent = config.user_agent.clone();
        let reach = move |url: &Url| {
            if url.origin() == origin { Ok(own.clone()) } else { http(url, &user_agent, &trust, None, None) }
        };
        let (account, name) = (Arc::clone(&config.credentials), config.name.clone());
        let witness = Arc::clone(&config.on_request);
        let auth = Auth::new(account, name, config.endpoint.clone(), Arc::new(reach), witness);
        let pacer = ConcurrencyLimiter::new(config.max_requests);
        let ways = UploadStrategy::new(config.quirks, config.chunk_size, config.concurrent_layers);
        (config.on_detail)(ways.reason(&config.name));
        let registry = Arc::new(Registry { config, http: client, auth, pacer, ways });
        Ok(Self { registry, repository, actions: "pull,push", about: None, cancel })
    }

    /// A client for another repository of the same registry, with the same connections, login and pace.
    #[must_use]
    pub fn for_repository(&self, repository: Repository, cancel: CancellationToken) -> Self {
        Self { registry: Arc::clone(&self.registry), repository, actions: "pull,push", about: None, cancel }
    }

    /// The same for one that is only read.
    #[must_use]
    pub fn for_pull(&self, repository: Repository, cancel: CancellationToken) -> Self {
        Self { actions: "pull", ..self.for_repository(repository, cancel) }
    }

    /// The same, with requests that are about something: `layer sha256:2c26b46b68ff`.
    #[must_use]
    pub fn about(&self, what: &str) -> Self {
        Self { about: Some(what.into()), ..self.clone() }
    }

    /// What people call the registry.
    pub fn name(&self) -> &str {
        &self.registry.config.name
    }

    /// The repository that this client works on.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The URL of `rest` below the repository: `blobs/sha256:...`, `manifests/1`.
    pub(super) fn url(&self, rest: &str) -> Url {
        let mut url = self.registry.config.endpoint.clone();
        url.set_path(&format!("/v2/{}/{rest}", self.repository));
        url
    }

    /// Sends a small request, again and again while that may help, and returns the answer or the last fault.
    pub(super) async fn ask(&self, ask: &ApiRequest) -> Result<Reply, RequestError> {
        let mut delays = self.delays();
        loop {
            match self.ask_once(ask).await {
                Err(fault) if fault.is_transient() => self.pause(fault, delays.next()).await?,
                sent => return sent,
            }
        }
    }

    /// Sends a small request once.
    pub(super) async fn ask_once(&self, ask: &ApiRequest) -> Result<Reply, RequestError> {
        // The clock starts when the request may go out, not while the registry wants to be left alone.
        let limit = self.retry_config().request_timeout;
        let patience = async {
            tokio::time::sleep(limit).await;
            Late(limit).to_string()
        };
        self.send(ask, patience).await
    }

    /// How large blobs go there.
    pub(super) fn ways(&self) -> &UploadStrategy {
        &self.registry.ways
    }

    /// What is remembered of a blob, if a journal is kept.
    pub(super) fn trace(&self, identity: &str) -> Option<ResumeEntry> {
        let journal = self.registry.config.resume_store.as_ref()?;
        Some(journal.trace(self.name(), &self.repository, identity))
    }

    /// Says something that is worth a line.
    pub(super) fn note(&self, line: String) {
        (self.registry.config.on_note)(line);
    }

    /// Says what was decided, and why.
    pub(super) fn reason(&self, line: String) {
        (self.registry.config.on_detail)(line);
    }

    /// Whether an upload that broke can surely be continued, as far as is known of the registry.
    pub fn reports_upload_status(&self) -> bool {
        self.ways().quirks().status == Status::UrlDetail
    }

    /// Whether a blob that is made of `total` bytes may have to be sent again from its start, though nothing breaks, as far as
    /// is known of the registry.
    pub fn may_reject_chunks(&self, total: u64) -> bool {
        self.ways().may_refuse(total)
    }

    /// The rate that layers are sent at.
    pub(super) fn rate(&self) -> Option<&Arc<Rate>> {
        self.registry.config.rate.as_ref()
    }

    /// How long is waited for what.
    pub(super) fn retry_config(&self) -> &RetryConfig {
        &self.registry.config.retry
    }

    /// Returns the pauses between tries.
    pub(super) fn delays(&self) -> Delays {
        Delays::of(self.retry_config())
    }

    /// Waits before the next try, or gives the fault back if there is none.
    pub(super) async fn pause(&self, fault: RequestError, delay: Option<Delay>) -> Result<(), RequestError> {
        let Some(Delay { retry, usual, of_service }) = delay else { return Err(fault) };
        let delay = if fault.is_failure_of_service() { of_service } else { usual };
        let delay = fault.retry_after().map_or(delay, |asked| asked.max(delay));
        if delay > LONGEST_PAUSE {
            return Err(fault);
        }
        if fault.is_throttle() {
            self.registry.pacer.hold(delay);
        }
        let why = format!("{}: {}", self.name(), fault.summary());
        (self.registry.config.on_retry)(RetryNotice { why, pause: delay, retry, retries: self.retry_config().retries });
        self.or_cancelled(tokio::time::sleep(delay)).await
    }

    /// Waits for `future` unless the push is cancelled.
    pub(super) async fn or_cancelled<T>(&self, future: impl Future<Output = T>) -> Result<T, RequestError> {
        let done = self.cancel.run_until_cancelled(future).await;
        done.ok_or_else(|| RequestError::Local(Error::interrupted()))
    }

    /// Sends a request once, as soon as that is allowed, and gives up when `patience` ends, with the reason it gives.
    ///
    /// After a cancellation the answer to what is under way is still waited for, for a moment: only a session whose last
    /// answer was read can be closed. The reference registry refuses to close one by an older address.
    pub(super) async fn send(
        &self,
        ask: &ApiRequest,
        patience: impl Future<Output = String>,
    ) -> Result<Reply, RequestError> {
        let turn = Some(self.or_cancelled(self.registry.pacer.turn()).await?).filter(|_| !ask.is_stream);
        let mut sending = std::pin::pin!(async {
            tokio::select! {
                sent = self.send_with_login(ask) => sent,
                why = patience => Err(RequestError::Transport(why.into())),
            }
        });
        let sent = match self.or_cancelled(&mut sending).await {
            Err(interrupted) => match tokio::time::timeout(GRACE, sending).await {
                Ok(Ok(reply)) => Ok(reply),
                Ok(Err(_)) | Err(_) => Err(interrupted),
            },
            Ok(sent) => sent,
        };
        match (&sent, turn) {
            (Ok(_), Some(turn)) => turn.went_well(),
            (Err(fault), Some(turn)) if fault.is_throttle() => turn.was_too_much(),
            _ => {}
        }
        sent
    }

    /// Sends a request; again with a login if the registry asks for one, and again if that was refused and a fresh one can
    /// be had, which is no retry.
    async fn send_with_login(&self, ask: &ApiRequest) -> Result<Reply, RequestError> {
        if ask.url.origin() != self.registry.config.endpoint.origin() {
            return self.send_as(ask, None).await.map_err(|refused| refused.fault);
        }
        let auth = &self.registry.auth;
        let mut shown = auth.show(self.scopes(ask)).await?;
        let mut is_renewed = false;
        loop {
            let refused = match self.send_as(ask, shown.header.clone()).await {
                Err(refused) if refused.fault.wants_fresh_login() && !is_renewed => refused,
                // Who lets everybody read may say no to all else without a word about logins.
                Err(refused) if refused.fault.is_denial() && shown.header.is_none() => {
                    Refused { challenges: self.challenges().await, ..refused }
                }
                sent => return sent.map_err(|refused| refused.fault),
            };
            is_renewed = shown.header.is_some();
            shown = auth.renew(shown, refused).await?;
        }
    }

    /// What the registry asks for where it is asked for nothing else (OCI distribution specification, "Determining Support").
    async fn challenges(&self) -> Vec<Challenge> {
        let mut url = self.registry.config.endpoint.clone();
        url.set_path("/v2/");
        let sent = self.send_as(&ApiRequest::new(Method::GET, url, &[200]), None).await;
        sent.map_or_else(|refused| refused.challenges, |_| Vec::new())
    }

    /// What a request needs to be allowed, in the words of token services.
    fn scopes(&self, ask: &ApiRequest) -> Scopes {
        let own = format!("repository:{}:{}", self.repository, self.actions);
        let source = ask.source.as_ref().map(|source| format!("repository:{source}:pull"));
        std::iter::once(own).chain(source).collect()
    }

    /// Gives up an upload session, as well as that can be done: also after a cancellation, and without a word about it.
    pub(super) async fn forget(&self, session: Url) {
        let ask = ApiRequest::new(Method::DELETE, session, &[200, 202, 204]);
        let hurry = async {
            self.cancel.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            _best_effort = tokio::time::timeout(FORGETTING, self.send_with_login(&ask)) => {}
            () = hurry => {}
        }
    }

    async fn send_as(&self, ask: &ApiRequest, authorization: Option<HeaderValue>) -> Result<Reply, Refused> {
        let mut request = self.registry.http.request(ask.method.clone(), ask.url.clone()).headers(ask.headers.clone());
        let expect_of_login = if authorization.is_some() { ask.expect_of_login } else { &[] };
        if let Some(header) = authorization {
            request = request.header(AUTHORIZATION, header);
        }
        let limits = Limits { bytes: ask.limit, time: self.retry_config().request_timeout };
        let sent = reply::send(request.body((ask.payload)()), self.asking(ask), limits).await;
        let refused = |fault| Refused { fault, challenges: Vec::new() };
        let reply = sent.map_err(|error| refused(RequestError::of_cut(error, &ask.method)))?;
        if [ask.expect, expect_of_login].concat().contains(&reply.status.as_u16()) {
            return reply.complete().map_err(refused);
        }
        let challenges = Challenge::all(&reply.headers);
        Err(Refused { fault: RequestError::of_reply(reply, &ask.method), challenges })
    }

    /// A request that goes out now, for whoever is told.
    fn asking(&self, ask: &ApiRequest) -> RequestTimer {
        let config = &self.registry.config;
        let is_own = ask.url.origin() == config.endpoint.origin();
        let shown = if is_own { UrlDetail::Path } else { UrlDetail::Host };
        let attempt = ask.times.fetch_add(1, Ordering::Relaxed) + 1;
        RequestTimer::new(&config.on_request, ask.method.as_str(), &ask.url, shown, Arc::clone(&ask.sent))
            .within(format!("{}/{}", self.name(), self.repository))
            .about(self.about.as_deref().map(str::to_owned))
            .attempt(attempt)
    }

    /// Where the answer to a request to `from` says to go on, if it says so and if one may go there.
    pub(super) fn location(&self, from: &Url, reply: &Reply) -> Result<Option<Url>, RequestError> {
        let Some(value) = reply.headers.get(LOCATION) else { return Ok(None) };
        let unreadable = |why: &str| {
            let what = format!("{} sent us to an address {why}", self.name());
            RequestError::Local(Error::new(Kind::Refused, what))
        };
        let text = value.to_str().map_err(|_| unreadable("that is no text"))?;
        let url = from.join(text).map_err(|_| unreadable("that is no URL"))?;
        self.allowed(url).map(Some)
    }

    /// The address, if one may go there.
    pub(super) fn allowed(&self, url: Url) -> Result<Url, RequestError> {
        address::allowed(self.name(), &self.registry.config.endpoint, url).map_err(RequestError::Local)
    }

    /// The error for people.
    pub(super) fn explain(&self, fault: RequestError, doing: &str) -> Error {
        fault.into_error(self.name(), doing)
    }
}

/// The statuses with which a storage elsewhere is named.
pub(super) const REDIRECTS: [StatusCode; 4] =
    [StatusCode::MOVED_PERMANENTLY, StatusCode::FOUND, StatusCode::SEE_OTHER, StatusCode::TEMPORARY_REDIRECT];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ServiceError;
    use crate::registry::{AuthMode, IssuedLogin, Login};

    fn client() -> Client {
        let config = ClientConfig {
            // Nobody listens there.
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
            concurrent_layers: 4,
            chunk_size: None,
            rate: None,
            on_retry: Arc::new(|_| {}),
            on_note: Arc::new(|_| {}),
            on_detail: Arc::new(|_| {}),
            on_request: crate::request_log::ignore(),
            resume_store: None,
        };
        Client::new(config, "app".parse().unwrap(), CancellationToken::new()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_kept_within_reason() {
        let client = client();
        for (seconds, is_kept) in [(0, true), (600, true), (601, false), (u64::MAX, false)] {
            let answer = ServiceError { status: Some(429), ..ServiceError::default() };
            let fault = RequestError::Status(Box::new(answer), Some(Duration::from_secs(seconds)));
            let pause = client.pause(fault, client.delays().next()).await;
            assert_eq!(pause.is_ok(), is_kept, "{seconds}");
        }
    }
}
