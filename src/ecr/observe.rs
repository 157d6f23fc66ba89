//! Requests to AWS as they go out, each told: also those of sign-ins, roles and metadata, and each try.
//!
//! The SDK's interceptors see the calls of its clients, but not what its ways to credentials ask. So the connections tell.

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

use super::body::bounded;
use crate::error::find_cause;
use crate::proxy::Proxies;
use crate::request_log::{RequestObserver, RequestTimer, Subject, UrlDetail};

/// Where EC2's metadata is. What else is asked on this machine, a container's credentials, has a secret for a path.
const METADATA: &str = "/latest/";

/// How long a connection may take that finds out whether somebody is there who does not answer. It is on the same host.
const PROBE_TIMEOUT: Duration = Duration::from_millis(250);

/// What stands in front of the name of the API in the SDK's user agent.
const API: &str = "api/";

/// Who answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Side {
    /// AWS, at an address that everybody may know.
    Aws,
    /// This machine, or what is beside it.
    Machine,
}

impl Side {
    /// The most bytes of an answer. The longest of AWS's list a thousand images with their tags; what this machine is
    /// asked for has some kilobytes.
    fn longest_answer(self) -> u64 {
        match self {
            Self::Aws => 32 << 20,
            Self::Machine => 1 << 20,
        }
    }
}

/// A service that takes connections and does not answer.
#[derive(Debug)]
pub(super) struct Silent {
    /// Its host and port.
    pub(super) host: String,
}

impl std::fmt::Display for Silent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} takes the connection and does not answer", self.host)
    }
}

impl std::error::Error for Silent {}

/// Finds out whether an error is the silence of a service that is there.
pub(super) fn silent<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Silent> {
    find_cause(error)
}

/// The same client, of whose requests somebody is told.
pub(super) fn told(client: SharedHttpClient, side: Side, witness: &RequestObserver) -> SharedHttpClient {
    SharedHttpClient::new(Telling(client, Teller { side, witness: Arc::clone(witness) }))
}

#[derive(Clone)]
struct Teller {
    side: Side,
    witness: RequestObserver,
}

impl Teller {
    fn asking(&self, request: &HttpRequest) -> Option<RequestTimer> {
        let url = Url::parse(request.uri()).ok()?;
        let is_secret = self.side == Side::Machine && !url.path().starts_with(METADATA);
        let shown = if is_secret { UrlDetail::Host } else { UrlDetail::Path };
        let size = request.body().content_length().unwrap_or_default();
        let asking = RequestTimer::new(&self.witness, request.method(), &url, shown, Arc::new(AtomicU64::new(size)));
        Some(asking.about(action(request).map(Subject::Operation)).attempt(attempt(request)))
    }
}

impl std::fmt::Debug for Teller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Teller({:?})", self.side)
    }
}

#[derive(Debug)]
struct Telling<T>(T, Teller);

// Its checks of a configuration are left out: they read the machine's certificates once more, for nothing.
impl HttpClient for Telling<SharedHttpClient> {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Telling(self.0.http_connector(settings, components), self.1.clone()))
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.0.connector_metadata()
    }
}

impl HttpConnector for Telling<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let asking = self.1.asking(&request);
        let side = self.1.side;
        let url = Url::parse(request.uri()).ok();
        let sending = self.0.call(request);
        HttpConnectorFuture::new(async move {
            let sent = match (sending.await, side, url) {
                (Ok(answer), _, _) => Ok(bounded(answer, side.longest_answer())),
                (Err(error), Side::Machine, Some(url)) if error.is_timeout() => Err(probed(error, &url).await),
                (Err(error), Side::Aws, Some(url)) => Err(refused(error, &url).await),
                (Err(error), _, _) => Err(error),
            };
            match (asking, &sent) {
                (Some(asking), Ok(response)) => {
                    let header = |name: &str| response.headers().get(name).map(str::to_owned);
                    asking.answered(response.status().as_u16(), header);
                }
                (Some(asking), Err(error)) => asking.failed(error),
                (None, _) => {}
            }
            sent
        })
    }
}

/// Tells a proxy that refuses a tunnel from one that is not there, which an error of the SDK does not. The SDK repeats no
/// request whose error is the user's.
async fn refused(error: ConnectorError, url: &Url) -> ConnectorError {
    if error.is_timeout() || error.is_user() {
        return error;
    }
    match Proxies::from_env().refusal(url).await {
        Some(refused) if refused.is_transient() => ConnectorError::io(refused.into()),
        Some(refused) => ConnectorError::user(refused.into()),
        None => error,
    }
}

/// Tells a service that does not answer from one that is not there, which an error of the SDK does not.
async fn probed(error: ConnectorError, url: &Url) -> ConnectorError {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return error };
    let connecting = TcpStream::connect((host.trim_matches(['[', ']']), port));
    match tokio::time::timeout(PROBE_TIMEOUT, connecting).await {
        Ok(Ok(_)) => ConnectorError::timeout(Silent { host: format!("{host}:{port}") }.into()),
        _ => error,
    }
}

/// The action, as policies call it: `ecr:GetAuthorizationToken`. `None` for what has no name of the kind.
fn action(request: &HttpRequest) -> Option<String> {
    // JSON's protocol has a header for it, the query protocol the body's first field.
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

/// Which try it is, as the SDK tells AWS: `attempt=1; max=3`.
fn attempt(request: &HttpRequest) -> u32 {
    let said = request.headers().get("amz-sdk-request");
    let number = said.and_then(|said| said.split_once("attempt=")?.1.split(';').next()?.trim().parse().ok());
    number.unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use aws_smithy_runtime_api::client::orchestrator::HttpRequest;

    use super::*;

    #[test]
    fn an_action_is_told_and_nothing_else_of_a_body() {
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
    fn a_container_s_path_is_its_secret() {
        let url = |side, uri: &str| {
            let heard = Arc::new(std::sync::Mutex::new(String::new()));
            let told = Arc::clone(&heard);
            let witness: RequestObserver = Arc::new(move |exchange| *told.lock().unwrap() = exchange.url);
            drop(Teller { side, witness }.asking(&HttpRequest::get(uri).unwrap()));
            heard.lock().unwrap().clone()
        };
        let container = "http://169.254.170.2/v2/credentials/5275a487";
        assert_eq!(url(Side::Machine, container), "http://169.254.170.2/***");
        let metadata = "http://169.254.169.254/latest/api/token";
        assert_eq!(url(Side::Machine, metadata), metadata);
        let sign_in = "https://portal.sso.eu-west-1.amazonaws.com/federation/credentials";
        assert_eq!(url(Side::Aws, &format!("{sign_in}?account_id=1")), sign_in);
    }
}
