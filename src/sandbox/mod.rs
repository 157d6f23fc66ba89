//! A small Amazon ECR on loopback: AWS's JSON API and the registry's HTTP API on one listener, over one state.
//!
//! It is as strict as ECR and as odd, each oddity with a link to who met it, because a stand-in that is laxer than the
//! real thing teaches its clients to be wrong. What is known to vary is in [`Rules`]; what goes wrong on purpose is in
//! their [`faults`](Rules::faults).
//!
//! - `mod.rs`: the server and who may ask it what
//! - `exchange.rs`: one request on its way: its counted body, its log line, its connection; `answer.rs`: what answers are made of; `traffic.rs`: how many
//!   there are at once
//! - `api.rs`: AWS's face, JSON 1.1; in `api/` repositories, their policies and the templates for them
//! - `identity.rs`: STS, and where CIs, containers and EC2 say who somebody is
//! - `distribution.rs`, `blobs.rs`: the registry's face; `route.rs`: what a path leads to; `manifest.rs`: which images it takes; `refusal.rs`: how it
//!   says no; `iam.rs`: who may do what; `tokens.rs`: its token service
//! - `store.rs`: the state that both faces share; `repository.rs`: one repository; `upload.rs`: one upload session; `folder.rs`: the state as files
//! - `rules.rs`, `faults.rs`: what tests change
//!
//! A second listener stands for the bucket that ECR sends downloads to. It records who shows it credentials.

mod answer;
mod api;
mod blobs;
mod distribution;
mod exchange;
mod faults;
mod folder;
mod iam;
mod identity;
mod manifest;
mod refusal;
mod repository;
mod route;
mod rules;
mod store;
mod tokens;
mod traffic;
mod upload;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::answer::{empty, page, reply, set};
use self::exchange::{Door, Ending, Exchange, Line, Log};
use self::refusal::Refusal;
use self::repository::{Repo, Settings};
use self::route::Route;
use self::store::Store;
use self::traffic::Traffic;
use crate::error::{Error, Result};
use crate::oci::{Digest, EcrHost, Host, Repository, is_region};

pub use self::exchange::LogEntry;
pub use self::faults::{Fault, Trouble};
pub use self::iam::Policy;
pub use self::identity::Assumed;
pub use self::rules::{
    Absent, Asks, BlobMounting, ClosedTwice, CreationTemplate, ImmutableWords, Interrupted, LayerState, Locations,
    ManifestRules, Parts, Rules, TokenService, UploadStatus,
};

/// How a sandbox is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens. Only loopback will do: whoever reaches it may do anything.
    pub listen: SocketAddr,
    /// The folder that keeps its images; without one they are in memory.
    pub dir: Option<PathBuf>,
    /// Checks the digests of blobs above 1 MiB, and does not keep their bytes: whatever goes through, the memory stays
    /// as it is. They are there for all but those who want to read them, until the sandbox stops.
    pub discard: bool,
    /// The account whose registry it is.
    pub account: String,
    /// The region that it is in.
    pub region: String,
    /// How it behaves.
    pub rules: Rules,
    /// Repositories that exist from the start.
    pub create: Vec<Repository>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            dir: None,
            discard: false,
            account: "000000000000".into(),
            region: "us-east-1".into(),
            rules: Rules::default(),
            create: Vec::new(),
        }
    }
}

/// A running sandbox. It stops when it is dropped.
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    server: Arc<Server>,
    tasks: Vec<JoinHandle<()>>,
}

impl Sandbox {
    /// Starts a sandbox on the current runtime.
    pub async fn start(options: Options) -> Result<Self> {
        let Options { listen, dir, discard, account, region, rules, create } = options;
        if !listen.ip().is_loopback() {
            return Err(Error::usage(format!("the sandbox cannot listen on {listen}"))
                .hint("It checks no passwords worth the name, so it only listens on loopback: 127.0.0.1 or [::1]."));
        }
        if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Error::usage(format!("{account:?} is not an AWS account: it takes twelve digits")));
        }
        if !is_region(&region) {
            return Err(Error::usage(format!("{region:?} is not an AWS region")));
        }
        let store = Store::open(dir.as_deref(), discard)?;
        for name in create {
            // The least that ECR takes; the specification is content with one.
            if name.as_str().len() < 2 {
                return Err(Error::usage(format!("ECR has no repository {name}: a name has at least two characters")));
            }
            let fail = |why: io::Error| Error::usage(format!("cannot create the repository {name}")).because(why);
            store.create(&name, Settings::default()).map_err(fail)?;
        }
        let (door, address) = open_door(listen).await?;
        let (bucket_door, bucket) = open_door(SocketAddr::new(listen.ip(), 0)).await?;
        let server = Arc::new(Server {
            store,
            account,
            region,
            rules: Mutex::new(rules),
            sessions: Mutex::default(),
            log: Arc::default(),
            traffic: Arc::default(),
            stop: CancellationToken::new(),
            address,
            bucket,
            leaked: AtomicUsize::new(0),
        });
        let front = Router::new().fallback(serve_registry).with_state(Arc::clone(&server));
        let back = Router::new().fallback(serve_bucket).with_state(Arc::clone(&server));
        let tasks = [(door, front), (bucket_door, back)].map(|(door, router)| {
            let stop = server.stop.clone();
            tokio::spawn(async move {
                let service = router.into_make_service_with_connect_info::<Line>();
                let serving = axum::serve(door, service).with_graceful_shutdown(stop.cancelled_owned());
                // It never fails: a listener that cannot accept tries again.
                serving.await.ok();
            })
        });
        Ok(Self { address, server, tasks: tasks.into() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, for both faces: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far, in order of arrival: the newest 10,000.
    pub fn log(&self) -> Vec<LogEntry> {
        self.server.log.entries()
    }

    /// Changes how it behaves from now on.
    pub fn set_rules(&self, change: impl FnOnce(&mut Rules)) {
        self.server.rules(change);
    }

    /// Every role that was assumed so far.
    pub fn assumed(&self) -> Vec<Assumed> {
        self.server.sessions().assumed.clone()
    }

    /// A password for the user `AWS`, as ECR's API would hand it out.
    pub fn token(&self) -> String {
        let (token, _) = self.server.store.issue_token(self.server.rules(|rules| rules.token_lifetime));
        let decoded = BASE64_STANDARD.decode(token).ok().and_then(|token| String::from_utf8(token).ok());
        decoded.and_then(|token| Some(token.split_once(':')?.1.to_owned())).unwrap_or_default()
    }

    /// Lets every token handed out so far expire now.
    pub fn expire_tokens(&self) {
        self.server.store.expire_tokens();
    }

    /// The image under a tag (or digest): its digest, the bytes of its manifest, its media type.
    pub fn image(&self, repository: &str, tag: &str) -> Option<(Digest, Vec<u8>, String)> {
        let found = self.server.store.look(&repository.parse().ok()?, |repo| {
            repo.image(tag).map(|(digest, image)| (digest, image.bytes.to_vec(), image.media_type.clone()))
        });
        found.flatten()
    }

    /// Archives the image under a tag (or digest) until it is pushed again. `false`: there is none.
    pub fn archive(&self, repository: &str, tag: &str) -> bool {
        repository.parse().is_ok_and(|name| self.server.store.archive(&name, tag))
    }

    /// The bytes of a blob, if they were kept.
    pub fn blob(&self, repository: &str, digest: &Digest) -> Option<Vec<u8>> {
        let blob = self.server.store.look(&repository.parse().ok()?, |repo| repo.blobs.get(digest).cloned());
        blob.flatten()?.whole().ok()
    }

    /// What a repository was told when it was created and since, as JSON.
    pub fn settings(&self, repository: &str) -> Option<serde_json::Value> {
        let settings = self.server.store.look(&repository.parse().ok()?, |repo| serde_json::to_value(&repo.settings));
        settings?.ok()
    }

    /// How many upload sessions are neither completed nor deleted.
    pub fn open_uploads(&self) -> usize {
        self.server.store.open_uploads()
    }

    /// How many requests are on the registry's face now.
    pub fn requests_under_way(&self) -> usize {
        self.server.traffic.now()
    }

    /// The greatest number of requests that were on the registry's face at the same moment, each from its head until
    /// its answer was handed out, and refused ones too.
    pub fn most_at_once_seen(&self) -> usize {
        self.server.traffic.most()
    }

    /// The names of all repositories, sorted.
    pub fn repositories(&self) -> Vec<String> {
        self.server.store.repositories().iter().map(ToString::to_string).collect()
    }

    /// How many requests showed the bucket an `Authorization` header. Any is a leak: S3 is not the registry.
    pub fn leaked_credentials(&self) -> usize {
        self.server.leaked.load(Ordering::SeqCst)
    }

    /// Stops, and waits until every connection is closed.
    pub async fn stop(mut self) {
        self.server.stop.cancel();
        for task in std::mem::take(&mut self.tasks) {
            task.await.ok();
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.server.stop.cancel();
    }
}

async fn open_door(listen: SocketAddr) -> Result<(Door, SocketAddr)> {
    let fail = |why: io::Error| Error::usage(format!("the sandbox cannot listen on {listen}")).because(why);
    let bound = TcpListener::bind(listen).await;
    let listener =
        bound.map_err(|why| fail(why).hint("With --listen 127.0.0.1:0 it takes a free port, and says which."))?;
    let address = listener.local_addr().map_err(fail)?;
    Ok((Door(listener), address))
}

/// What both faces ask.
struct Server {
    store: Store,
    account: String,
    region: String,
    rules: Mutex<Rules>,
    sessions: Mutex<identity::Sessions>,
    log: Arc<Log>,
    traffic: Arc<Traffic>,
    stop: CancellationToken,
    address: SocketAddr,
    bucket: SocketAddr,
    leaked: AtomicUsize,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    fn rules<T>(&self, look: impl FnOnce(&mut Rules) -> T) -> T {
        look(&mut self.rules.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn sessions(&self) -> MutexGuard<'_, identity::Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The registry as ECR would call it. The sandbox is elsewhere, and clients must not go there: they push to the host
    /// that they were told, never to `proxyEndpoint`
    /// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry_auth.html>).
    fn registry(&self) -> EcrHost {
        EcrHost { account: self.account.clone(), region: self.region.clone(), fips: false, dual_stack: false }
    }

    /// Its host's name.
    fn host(&self) -> String {
        Host::from_ecr(self.registry()).as_str().to_owned()
    }

    fn arn(&self, name: &Repository) -> String {
        self.registry().arn(name)
    }

    /// Why the caller may not do `action`, in IAM's words.
    fn denial(&self, action: &str, on: Option<&Repository>) -> Option<String> {
        self.denial_on(action, &on.map_or_else(|| "*".to_owned(), |name| self.arn(name)))
    }

    /// The same on any resource.
    fn denial_on(&self, action: &str, resource: &str) -> Option<String> {
        let why = self.rules(|rules| iam::denial(rules, action, resource))?;
        let user = format!("arn:{}:iam::{}:user/sandbox", self.registry().partition(), self.account);
        Some(format!("User: {user} is not authorized to perform: {action} on resource: {resource} {why}"))
    }
}

/// What both halves of the registry's face ask.
impl Server {
    /// Checks the caller's rights.
    fn permit(&self, action: &str, name: &Repository) -> Result<(), Refusal> {
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

    /// Looks at a repository that has to exist.
    fn look<T>(&self, name: &Repository, look: impl FnOnce(&Repo) -> T) -> Result<T, Refusal> {
        self.store.look(name, look).ok_or_else(|| Refusal::absent(name, &self.account))
    }
}

/// Serves both faces.
async fn serve_registry(
    State(server): State<Arc<Server>>,
    ConnectInfo(line): ConnectInfo<Line>,
    request: Request,
) -> Response {
    let face = Face::of(&request);
    let operation = face.operation(&request);
    let presence = match face {
        Face::Registry(_) => Some(server.traffic.enter(server.rules(|rules| rules.most_at_once))),
        Face::Api | Face::Identity(_) => None,
    };
    let trouble = match &presence {
        Some(presence) if !presence.is_served() => Some(Trouble::Throttle { retry_after: None }),
        _ => server.rules(|rules| faults::next(&mut rules.faults, &operation)),
    };
    let mut exchange = Exchange::new(request, line, &server.log, &operation, trouble, server.stop.clone());
    let injected = match exchange.trouble().cloned() {
        Some(Trouble::HangUp) => Some(end(&mut exchange, Ending::Cut)),
        Some(Trouble::Reset) => Some(end(&mut exchange, Ending::Reset)),
        Some(Trouble::HalfClose) => Some(end(&mut exchange, Ending::Half)),
        Some(Trouble::Stall) => {
            exchange.stall().await;
            Some(empty(StatusCode::SERVICE_UNAVAILABLE))
        }
        Some(Trouble::Page { status, title }) => Some(page(status, &title)),
        Some(Trouble::Answer { status, body }) => Some(answer::json(status, body)),
        Some(Trouble::ExpireTokens) => {
            server.store.expire_tokens();
            None
        }
        Some(Trouble::ForgetUpload) => {
            if let Face::Registry(Route::Upload(name, id)) = &face
                && let Ok(name) = name.parse()
            {
                server.store.cancel_upload(&name, id);
            }
            None
        }
        Some(trouble @ (Trouble::Status { .. } | Trouble::Throttle { .. } | Trouble::ThrottleUntil(_))) => {
            Some(match &face {
                Face::Api | Face::Identity(_) => api::injected(&server, &trouble),
                Face::Registry(_) => distribution::injected(&server, &mut exchange, &trouble),
            })
        }
        Some(_) | None => None,
    };
    let mut response = match (injected, &face) {
        (Some(response), _) => response,
        (None, Face::Api) => api::answer(&server, &mut exchange).await,
        (None, Face::Identity(_)) => identity::answer(&server, &mut exchange).await,
        (None, Face::Registry(route)) => distribution::answer(&server, &mut exchange, route).await,
    };
    exchange.drain().await;
    if let Some(trouble) = exchange.trouble().cloned() {
        response = match trouble {
            Trouble::Delay(time) => {
                exchange.wait(time).await;
                response
            }
            trouble => answer::changed(response, trouble).await,
        };
    }
    let (delay, ahead) = server.rules(|rules| (rules.delay, rules.clock_ahead));
    if !ahead.is_zero() {
        set(&mut response, "date", faults::http_date(SystemTime::now() + ahead));
    }
    // A sleep of nothing still waits for the clock's next tick, a millisecond.
    if matches!(face, Face::Registry(_)) && !delay.is_zero() {
        exchange.wait(delay).await;
    }
    exchange.finish(response.status().as_u16());
    match presence {
        Some(presence) => presence.until_sent(response),
        None => response,
    }
}

/// Serves the bucket.
async fn serve_bucket(
    State(server): State<Arc<Server>>,
    ConnectInfo(line): ConnectInfo<Line>,
    request: Request,
) -> Response {
    let trouble = server.rules(|rules| faults::next(&mut rules.faults, blobs::BUCKET_OPERATION));
    let mut exchange = Exchange::new(request, line, &server.log, blobs::BUCKET_OPERATION, trouble, server.stop.clone());
    let mut response = blobs::serve_bucket(&server, &mut exchange).await;
    if let Some(trouble) = exchange.trouble().cloned() {
        response = answer::changed(response, trouble).await;
    }
    exchange.finish(response.status().as_u16());
    response
}

/// Which of the two APIs a request speaks.
enum Face {
    Api,
    /// Not ECR's, but of those who say who the caller is.
    Identity(&'static str),
    Registry(Route),
}

impl Face {
    fn of(request: &Request) -> Self {
        if let Some(operation) = identity::operation(request.uri().path(), request.headers()) {
            return Self::Identity(operation);
        }
        match request.uri().path() {
            "/" => Self::Api,
            path => Self::Registry(Route::of(path)),
        }
    }

    /// What the request is called in the log and in faults.
    fn operation(&self, request: &Request) -> String {
        match self {
            Self::Api => api::operation(request.headers()),
            Self::Identity(operation) => (*operation).to_owned(),
            Self::Registry(route) => route.operation(request.method()).to_owned(),
        }
    }
}

/// Breaks the connection. The answer is for the types: it never gets through.
fn cut(exchange: &mut Exchange) -> Response {
    end(exchange, Ending::Cut)
}

/// The same, in any way.
fn end(exchange: &mut Exchange, ending: Ending) -> Response {
    exchange.end(ending);
    empty(StatusCode::SERVICE_UNAVAILABLE)
}
