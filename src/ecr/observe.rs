//! Routes each request to AWS, directly or over the proxy for its URL, and observes it, including those of logins, roles and
//! metadata, and each attempt.
//!
//! The SDK's interceptors see the calls of its clients, but not the requests of its credential providers. So this module
//! observes connections.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use aws_sdk_ecr::config::{RuntimeComponents, SharedHttpClient};
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use reqwest::Url;
use tokio::net::TcpStream;

use super::body::limited;
use crate::proxy::Proxies;
use crate::request_log::{RequestObserver, RequestTimer, Subject, UrlDetail};

/// The path of EC2's metadata. Other requests to this machine get a container's credentials, and their path is a secret.
const METADATA: &str = "/latest/";

/// The time limit of a connection that finds out whether a service exists but does not respond. It is on the same host.
const PROBE_TIMEOUT: Duration = Duration::from_millis(250);

/// The prefix of the name of the API in the SDK's user agent.
const API: &str = "api/";

/// The peer of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Peer {
    /// AWS. Its URLs contain no secret.
    Aws,
    /// This machine or its host.
    Machine,
}

impl Peer {
    /// Returns the maximum size of a response in bytes. The longest of AWS lists a thousand images with their tags; those of
    /// this machine have some kilobytes.
    fn max_response(self) -> u64 {
        match self {
            Self::Aws => 32 << 20,
            Self::Machine => 1 << 20,
        }
    }
}

/// The error of a service that accepts connections and does not respond.
#[derive(Debug)]
pub(super) struct Unresponsive {
    /// Its host and port.
    pub(super) host: String,
}

impl std::fmt::Display for Unresponsive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} accepts connections and does not answer", self.host)
    }
}

impl std::error::Error for Unresponsive {}

/// A client, or a connector, for each route.
#[derive(Debug)]
pub(super) struct Routes<T> {
    pub(super) proxies: Proxies,
    pub(super) direct: T,
    /// The clients for the proxies, by their URL.
    pub(super) proxied: Vec<(Url, T)>,
}

impl Routes<SharedHttpClient> {
    /// Returns the client that sends each request over its route, and reports it to an observer.
    pub(super) fn observed(self, peer: Peer, observer: &RequestObserver) -> SharedHttpClient {
        SharedHttpClient::new(Observed(self, Observation { peer, observer: Arc::clone(observer) }))
    }
}

impl Routes<SharedHttpConnector> {
    fn send(&self, request: HttpRequest) -> HttpConnectorFuture {
        let proxy = match Url::parse(request.uri()) {
            Ok(url) => self.proxies.to(&url),
            // The connector reports that the URL is invalid.
            Err(_) => Ok(None),
        };
        match proxy {
            Ok(proxy) => {
                let route = self.proxied.iter().find(|(url, _)| Some(url) == proxy);
                route.map_or(&self.direct, |(_, connector)| connector).call(request)
            }
            Err(error) => HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        }
    }
}

#[derive(Clone)]
struct Observation {
    peer: Peer,
    observer: RequestObserver,
}

impl Observation {
    /// Starts the record of a request.
    fn timer(&self, request: &HttpRequest) -> Option<RequestTimer> {
        let url = Url::parse(request.uri()).ok()?;
        let is_secret = self.peer == Peer::Machine && !url.path().starts_with(METADATA);
        let detail = if is_secret { UrlDetail::Host } else { UrlDetail::Path };
        let size = request.body().content_length().unwrap_or_default();
        let timer = RequestTimer::new(&self.observer, request.method(), &url, detail, Arc::new(AtomicU64::new(size)));
        Some(timer.about(action(request).map(Subject::Operation)).attempt(attempt(request)))
    }
}

impl std::fmt::Debug for Observation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Observation({:?})", self.peer)
    }
}

#[derive(Debug)]
struct Observed<T>(Routes<T>, Observation);

// Does not validate the configuration: the default implementation loads the machine's certificates again.
impl HttpClient for Observed<SharedHttpClient> {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let connector = |client: &SharedHttpClient| client.http_connector(settings, components);
        let Routes { proxies, direct, proxied } = &self.0;
        let proxied = proxied.iter().map(|(proxy, client)| (proxy.clone(), connector(client))).collect();
        let routes = Routes { proxies: proxies.clone(), direct: connector(direct), proxied };
        SharedHttpConnector::new(Observed(routes, self.1.clone()))
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.0.direct.connector_metadata()
    }
}

impl HttpConnector for Observed<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let timer = self.1.timer(&request);
        let peer = self.1.peer;
        let url = Url::parse(request.uri()).ok();
        let sending = self.0.send(request);
        HttpConnectorFuture::new(async move {
            let sent = match (sending.await, peer, url) {
                (Ok(response), _, _) => Ok(limited(response, peer.max_response())),
                (Err(error), Peer::Machine, Some(url)) if error.is_timeout() => Err(probe_service(error, &url).await),
                (Err(error), Peer::Aws, Some(url)) => Err(probe_proxy(error, &url).await),
                (Err(error), _, _) => Err(error),
            };
            match (timer, &sent) {
                (Some(timer), Ok(response)) => {
                    let header = |name: &str| response.headers().get(name).map(str::to_owned);
                    timer.answered(response.status().as_u16(), header);
                }
                (Some(timer), Err(error)) => timer.failed(error),
                (None, _) => {}
            }
            sent
        })
    }
}

/// Finds out whether a proxy rejects a tunnel or does not exist, which an error of the SDK does not state. The SDK does not
/// retry a request after an error of kind `user`.
async fn probe_proxy(error: ConnectorError, url: &Url) -> ConnectorError {
    if error.is_timeout() || error.is_user() {
        return error;
    }
    match Proxies::from_env().refusal(url).await {
        Some(refused) if refused.is_transient() => ConnectorError::io(refused.into()),
        Some(refused) => ConnectorError::user(refused.into()),
        None => error,
    }
}

/// Finds out whether a service does not respond or does not exist, which an error of the SDK does not state.
async fn probe_service(error: ConnectorError, url: &Url) -> ConnectorError {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return error };
    let connecting = TcpStream::connect((host.trim_matches(['[', ']']), port));
    match tokio::time::timeout(PROBE_TIMEOUT, connecting).await {
        Ok(Ok(_)) => ConnectorError::timeout(Unresponsive { host: format!("{host}:{port}") }.into()),
        _ => error,
    }
}

/// Returns the action as policies name it: `ecr:GetAuthorizationToken`. `None` for a request that is not an API call.
fn action(request: &HttpRequest) -> Option<String> {
    // It is in a header with the JSON protocol, in the first field of the body with the query protocol.
    let target = request.headers().get("x-amz-target").and_then(|target| target.rsplit('.').next());
    let field = || {
        let body = std::str::from_utf8(request.body().bytes()?).ok()?;
        body.strip_prefix("Action=")?.split('&').next()
    };
    let operation = target.or_else(field)?;
    let agent = request.headers().get("x-amz-user-agent")?;
    let api = agent.split(' ').find_map(|word| word.strip_prefix(API)?.split(['/', '#']).next())?;
    Some(format!("{}:{operation}", if api == "ecrpublic" { "ecr-public" } else { api }))
}

/// Returns the number of the attempt, which the SDK sends to AWS: `attempt=1; max=3`.
fn attempt(request: &HttpRequest) -> u32 {
    let header = request.headers().get("amz-sdk-request");
    let number = header.and_then(|text| text.split_once("attempt=")?.1.split(';').next()?.trim().parse().ok());
    number.unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use aws_smithy_runtime_api::client::orchestrator::HttpRequest;

    use super::*;

    #[test]
    fn only_the_action_of_a_body_is_recorded() {
        let mut request = HttpRequest::get("http://a.example/").unwrap();
        assert_eq!((action(&request), attempt(&request)), (None, 1));
        request.headers_mut().insert("x-amz-user-agent", "aws-sdk-rust/1.3 ua/2.1 api/ecrpublic#1.122.0 os/linux");
        request.headers_mut().insert("amz-sdk-request", "attempt=3; max=3");
        *request.body_mut() = "Action=AssumeRoleWithWebIdentity&WebIdentityToken=eyJ".into();
        assert_eq!(action(&request).as_deref(), Some("ecr-public:AssumeRoleWithWebIdentity"));
        request.headers_mut().insert("x-amz-target", "SpencerFrontendService.GetAuthorizationToken");
        assert_eq!(action(&request).as_deref(), Some("ecr-public:GetAuthorizationToken"));
        assert_eq!(attempt(&request), 3);
    }

    #[test]
    fn the_secret_path_of_a_container_endpoint_is_not_recorded() {
        let url = |peer, uri: &str| {
            let recorded = Arc::new(std::sync::Mutex::new(String::new()));
            let url = Arc::clone(&recorded);
            let observer: RequestObserver = Arc::new(move |record| *url.lock().unwrap() = record.url);
            drop(Observation { peer, observer }.timer(&HttpRequest::get(uri).unwrap()));
            recorded.lock().unwrap().clone()
        };
        let container = "http://169.254.170.2/v2/credentials/5275a487";
        assert_eq!(url(Peer::Machine, container), "http://169.254.170.2/***");
        let metadata = "http://169.254.169.254/latest/api/token";
        assert_eq!(url(Peer::Machine, metadata), metadata);
        let sign_in = "https://portal.sso.eu-west-1.amazonaws.com/federation/credentials";
        assert_eq!(url(Peer::Aws, &format!("{sign_in}?account_id=1")), sign_in);
    }
}
