//! The HTTP clients for AWS and for local endpoints: proxies, certificates, user agent.

use std::fmt;
use std::time::Duration;

use aws_sdk_ecr::config::{AppName, RuntimeComponents, SharedHttpClient};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{Builder, Connector, tls};

use super::observe::{Peer, Routes};
use crate::error::{Error, Result};
use crate::proxy::Proxies;
use crate::request_log::{self, RequestObserver};

/// The time limit for a CI system's response with a token.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);

/// The time limits for connecting to a container's credentials endpoint and for its response. Both are the SDK's.
const CONTAINER_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const CONTAINER_TIMEOUT: Duration = Duration::from_secs(5);

/// The configuration of the HTTP clients.
#[derive(Clone)]
#[must_use]
pub(crate) struct Network {
    /// PEM certificates that are trusted in addition to the machine's own.
    pem: Vec<u8>,
    /// Called with the record of each request.
    pub(super) observer: RequestObserver,
    /// The `User-Agent`.
    user_agent: String,
    /// The name of the application in the SDK's own `User-Agent`.
    pub(super) app_name: Option<AppName>,
}

impl Default for Network {
    fn default() -> Self {
        Self::trusting(Vec::new())
    }
}

impl Network {
    /// Creates a configuration that trusts these PEM certificates, too.
    pub(crate) fn trusting(pem: Vec<u8>) -> Self {
        Self { pem, observer: request_log::ignore(), user_agent: String::new(), app_name: None }
    }

    /// Sets the observer of all requests.
    pub(crate) fn observed_by(self, observer: RequestObserver) -> Self {
        Self { observer, ..self }
    }

    /// Sets the user agent and the name of the application, which is omitted if the SDK does not accept it.
    pub(crate) fn identified_as(self, user_agent: String, app_name: String) -> Self {
        Self { user_agent, app_name: AppName::new(app_name).ok(), ..self }
    }

    /// Creates the client for AWS, which uses the environment's proxies. The SDK's own client uses none.
    pub(super) fn aws_client(&self) -> Result<SharedHttpClient> {
        let mut store = tls::TrustStore::default();
        if !self.pem.is_empty() {
            store = store.with_pem_certificate(self.pem.clone());
        }
        let proxies = Proxies::from_env();
        let direct = client(store.clone(), ProxyConfig::disabled())?;
        let mut proxied = Vec::new();
        for url in proxies.all() {
            let config = ProxyConfig::all(url.as_str())
                .map_err(|error| Error::usage("a proxy has no usable URL").because(error))?;
            proxied.push((url.clone(), client(store.clone(), config)?));
        }
        Ok(Routes { proxies, direct, proxied }.observed(Peer::Aws, &self.observer))
    }

    /// Creates the client for services on this machine or its host: a container's or EC2's metadata, the sandbox. It uses no
    /// proxy, and no certificates, since loading them takes a while.
    pub(super) fn local_client(&self) -> Result<SharedHttpClient> {
        let direct = client(tls::TrustStore::empty(), ProxyConfig::disabled())?;
        let routes = Routes { proxies: Proxies::default(), direct, proxied: Vec::new() };
        Ok(routes.observed(Peer::Machine, &self.observer))
    }

    /// Creates the client for a CI system's own API.
    pub(super) fn ci_client(&self) -> Result<reqwest::Client> {
        self.endpoint_client(reqwest::Client::builder().timeout(TOKEN_TIMEOUT))
    }

    /// Creates the client for a container's credentials endpoint, which uses no proxy.
    pub(super) fn container_client(&self) -> Result<reqwest::Client> {
        let client = reqwest::Client::builder().no_proxy().connect_timeout(CONTAINER_CONNECT_TIMEOUT);
        self.endpoint_client(client.timeout(CONTAINER_TIMEOUT))
    }

    fn endpoint_client(&self, client: reqwest::ClientBuilder) -> Result<reqwest::Client> {
        let fail = |error: reqwest::Error| Error::usage("cannot set up TLS").because(error);
        let own = reqwest::Certificate::from_pem_bundle(&self.pem).map_err(fail)?;
        // The credentials in a request are for this endpoint only.
        let client = client.redirect(reqwest::redirect::Policy::none());
        client.user_agent(&self.user_agent).tls_certs_merge(own).build().map_err(fail)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}

fn client(store: tls::TrustStore, proxies: ProxyConfig) -> Result<SharedHttpClient> {
    let context = tls::TlsContext::builder().with_trust_store(store).build();
    let context = context.map_err(|error| Error::usage("cannot set up TLS for AWS").because(error))?;
    let connect = move |settings: Option<&_>, components: Option<&RuntimeComponents>| {
        let mut connector = Connector::builder().proxy_config(proxies.clone());
        if let Some(settings) = settings {
            connector = connector.connector_settings(Clone::clone(settings));
        }
        if let Some(sleep) = components.and_then(RuntimeComponents::sleep_impl) {
            connector = connector.sleep_impl(sleep);
        }
        let provider = tls::Provider::rustls(tls::rustls_provider::CryptoMode::AwsLc);
        connector.tls_provider(provider).tls_context(context.clone()).build()
    };
    Ok(Builder::new().build_with_connector_fn(connect))
}
