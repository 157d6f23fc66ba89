//! A running sandbox: start, observe, change, stop.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::exchange::{Door, Line};
use super::log::{Log, LogEntry};
use super::logins::Logins;
use super::registries::{Registries, RegistryId, is_account};
use super::rules::Rules;
use super::serve::serve;
use super::server::Server;
use super::sessions::Assumed;
use super::store::Store;
use super::traffic::Rates;
use crate::error::{Advice, Error, Result};
use crate::oci::{Digest, EndpointOverride, Host, Repository, is_region};
use crate::sync::lock;

/// The settings of a sandbox.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address to listen on. Every client that can connect has full access.
    pub listen: SocketAddr,
    /// Whether the address may be another one than loopback.
    pub public: bool,
    /// The folder of its images. Without one they are in memory.
    pub dir: Option<PathBuf>,
    /// Whether to verify the digests of blobs above 1 MiB and discard their bytes, so that memory stays bounded. Such blobs
    /// exist until the sandbox stops, but cannot be read.
    pub discard: bool,
    /// The account of its registry.
    pub account: String,
    /// The region of its registry.
    pub region: String,
    /// Whether it also has the registries of all other accounts. Otherwise every host is that of `account`.
    pub any_account: bool,
    /// Whether it also has the registries of all other regions. Otherwise every host is in `region`, and a request to AWS's
    /// API for another region fails.
    pub any_region: bool,
    /// The file to which each request is appended as a line of JSON, when its response is sent.
    pub log: Option<PathBuf>,
    /// Its behavior.
    pub rules: Rules,
    /// Repositories that each registry has from the start.
    pub create: Vec<Repository>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            public: false,
            dir: None,
            discard: false,
            account: "000000000000".into(),
            region: "us-east-1".into(),
            any_account: true,
            any_region: true,
            log: None,
            rules: Rules::default(),
            create: Vec::new(),
        }
    }
}

/// A running sandbox. It stops when it is dropped.
///
/// ```
/// use ecr_push::sandbox::{Options, Sandbox};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// let sandbox = Sandbox::start(Options { create: vec!["team/app".parse()?], ..Options::default() }).await?;
/// assert_eq!(sandbox.repositories(), ["team/app"]);
/// assert!(sandbox.url().starts_with("http://127.0.0.1:"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    pub(super) server: Arc<Server>,
    tasks: Vec<JoinHandle<()>>,
}

impl Sandbox {
    /// Starts a sandbox on the current runtime.
    pub async fn start(options: Options) -> Result<Self> {
        let Options { listen, public, dir, discard, log, account, region, any_account, any_region, rules, create } =
            options;
        if !listen.ip().is_loopback() && !public {
            let advice = Advice::new(
                "It accepts any AWS access key, so it listens on loopback: 127.0.0.1 or [::1]. To let other machines connect",
            );
            return Err(Error::usage(format!("the sandbox cannot listen on {listen}")).hint(advice.setting("public")));
        }
        if !is_account(&account) {
            return Err(Error::usage(format!("{account:?} is not an AWS account: it takes twelve digits")));
        }
        if !is_region(&region) {
            return Err(Error::usage(format!("{region:?} is not an AWS region")));
        }
        // ECR's minimum; the specification allows one.
        if let Some(name) = create.iter().find(|name| name.as_str().len() < 2) {
            return Err(Error::usage(format!("ECR has no repository {name}: a name has at least two characters")));
        }
        let home = RegistryId { account, region };
        let registries = Registries { home, any_account, any_region, dir, discard, create, opened: Mutex::default() };
        registries.open(&registries.home)?;
        let (door, address) = open_listener(listen).await?;
        let server = Arc::new(Server {
            registries,
            logins: Logins::new(),
            rules: Mutex::new(rules),
            sessions: Mutex::default(),
            log: Arc::new(Log::open(log.as_deref())?),
            traffic: Arc::default(),
            rates: Rates::default(),
            stop: CancellationToken::new(),
            address,
            leaked: AtomicUsize::new(0),
        });
        let doors = [Some(door), twin(address).await].into_iter().flatten();
        let tasks = doors.map(|door| {
            let (router, stop) = (Router::new().fallback(serve).with_state(Arc::clone(&server)), server.stop.clone());
            tokio::spawn(async move {
                let service = router.into_make_service_with_connect_info::<Line>();
                let serving = axum::serve(door, service).with_graceful_shutdown(stop.cancelled_owned());
                // It never fails: a listener that cannot accept tries again.
                serving.await.ok();
            })
        });
        let tasks = tasks.collect();
        Ok(Self { address, server, tasks })
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns its URL, for both APIs: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        let mut address = self.address;
        match address.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        format!("http://{address}")
    }

    /// Returns the registry that it replaces, for the options of a push.
    pub fn endpoint_override(&self) -> EndpointOverride {
        let RegistryId { account, region } = self.server.registries.home.clone();
        EndpointOverride { address: self.address.into(), account, region }
    }

    /// Returns the newest 10,000 requests, in order of arrival.
    pub fn log(&self) -> Vec<LogEntry> {
        self.server.log.entries()
    }

    /// Changes its behavior from now on.
    pub fn set_rules(&self, change: impl FnOnce(&mut Rules)) {
        self.server.rules(change);
    }

    /// Returns every role that was assumed so far.
    pub fn assumed(&self) -> Vec<Assumed> {
        lock(&self.server.sessions).assumed.clone()
    }

    /// Returns a password for the user `AWS`, as ECR's API issues it.
    pub fn token(&self) -> String {
        let (token, _) = self.server.issue_token(self.server.registries.home.clone());
        let decoded = BASE64_STANDARD.decode(token).ok().and_then(|token| String::from_utf8(token).ok());
        decoded.and_then(|token| Some(token.split_once(':')?.1.to_owned())).unwrap_or_default()
    }

    /// Lets all issued tokens expire now.
    pub fn expire_tokens(&self) {
        self.server.logins.expire();
    }

    /// Finds a repository: `team/app` in its own registry, `HOST/team/app` in another one.
    fn find(&self, repository: &str) -> Option<(Arc<Store>, Repository)> {
        let named = repository.split_once('/').and_then(|(host, name)| Some((host.parse::<Host>().ok()?, name)));
        let other = named.as_ref().and_then(|(host, name)| Some((host.ecr()?, *name)));
        let registries = &self.server.registries;
        let (id, name) = match other {
            Some((ecr, name)) => (registries.find(Some(&ecr.account), Some(&ecr.region)), name),
            None => (registries.home.clone(), repository),
        };
        Some((registries.open(&id).ok()?, name.parse().ok()?))
    }

    /// Returns the image under a tag or digest: its digest, the bytes of its manifest, its media type.
    pub fn image(&self, repository: &str, tag: &str) -> Option<(Digest, Vec<u8>, String)> {
        let (store, name) = self.find(repository)?;
        let found = store.look(&name, |repo| {
            repo.image(tag).map(|(digest, image)| (digest, image.bytes.to_vec(), image.media_type.clone()))
        });
        found.flatten()
    }

    /// Archives the image under a tag or digest until it is pushed again. Returns `false` if it does not exist.
    pub fn archive(&self, repository: &str, tag: &str) -> bool {
        let archived = self.find(repository).and_then(|(store, name)| {
            store.change(&name, |repo| {
                let digest = repo.any_image(tag).map(|(digest, _)| digest);
                repo.archived.extend(digest);
                digest.is_some()
            })
        });
        matches!(archived, Some(Ok(true)))
    }

    /// Returns the bytes of a blob, if they were not discarded.
    pub fn blob(&self, repository: &str, digest: &Digest) -> Option<Vec<u8>> {
        let (store, name) = self.find(repository)?;
        let blob = store.look(&name, |repo| repo.blobs.get(digest).cloned());
        blob.flatten()?.whole().ok()
    }

    /// Returns the settings of a repository as JSON.
    pub fn settings(&self, repository: &str) -> Option<serde_json::Value> {
        let (store, name) = self.find(repository)?;
        let settings = store.look(&name, |repo| serde_json::to_value(&repo.settings));
        settings?.ok()
    }

    /// Returns the number of upload sessions that are neither completed nor deleted.
    pub fn open_uploads(&self) -> usize {
        self.server.registries.all().iter().map(|store| store.open_uploads()).sum()
    }

    /// Returns the number of requests that the registry's API serves now.
    pub fn requests_under_way(&self) -> usize {
        self.server.traffic.now()
    }

    /// Returns the maximum number of concurrent requests to the registry's API, each from its head to the end of its
    /// response, including rejected ones.
    pub fn most_at_once_seen(&self) -> usize {
        self.server.traffic.most()
    }

    /// Returns the names of all repositories of its own registry, sorted.
    pub fn repositories(&self) -> Vec<String> {
        let own = self.server.registries.open(&self.server.registries.home);
        own.map(|store| store.repositories().iter().map(ToString::to_string).collect()).unwrap_or_default()
    }

    /// Returns the number of requests to the bucket with an `Authorization` header. Each is a leak: S3 is not the registry.
    pub fn leaked_credentials(&self) -> usize {
        self.server.leaked.load(Ordering::SeqCst)
    }

    /// Stops the sandbox and waits until every connection is closed.
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

/// Listens on the same port of the other loopback address, if it is free: `localhost` may be either.
async fn twin(address: SocketAddr) -> Option<Door> {
    let other: IpAddr = match address.ip() {
        IpAddr::V4(Ipv4Addr::LOCALHOST) => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::LOCALHOST) => Ipv4Addr::LOCALHOST.into(),
        _ => return None,
    };
    TcpListener::bind(SocketAddr::new(other, address.port())).await.ok().map(Door)
}

async fn open_listener(listen: SocketAddr) -> Result<(Door, SocketAddr)> {
    let fail = |why: io::Error| Error::usage(format!("the sandbox cannot listen on {listen}")).because(why);
    let bound = TcpListener::bind(listen).await;
    let listener = bound
        .map_err(|why| fail(why).hint("Use another port, or --listen 127.0.0.1:0 for a free one, which is printed."))?;
    let address = listener.local_addr().map_err(fail)?;
    Ok((Door(listener), address))
}
