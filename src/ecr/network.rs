//! The lines to AWS: over which proxy, and with whose certificates.

use std::fmt;
use std::time::Duration;

use aws_sdk_ecr::config::{AppName, RuntimeComponents, SharedHttpClient};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{Builder, Connector, tls};

use super::observe::{Side, told};
use super::routes::routed;
use crate::error::{Error, Result};
use crate::proxy::Proxies;
use crate::request_log::{self, RequestObserver};

/// How long a CI may take to hand out a token.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the endpoint of a container's credentials may take to connect and to answer. Both are the SDK's.
const CONTAINER_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const CONTAINER_TIMEOUT: Duration = Duration::from_secs(5);

/// How AWS is reached.
#[derive(Clone)]
pub(crate) struct Network {
    /// PEM certificates that are trusted beside the machine's own.
    pem: Vec<u8>,
    /// Told of every request.
    witness: RequestObserver,
    /// Who we say we are.
    user_agent: String,
    /// The same to AWS, inside of what the SDK says.
    app_name: Option<AppName>,
}

impl Default for Network {
    fn default() -> Self {
        Self::trusting(Vec::new())
    }
}

impl Network {
    /// Trusts these PEM certificates, too.
    pub(crate) fn trusting(pem: Vec<u8>) -> Self {
        Self { pem, witness: request_log::ignore(), user_agent: String::new(), app_name: None }
    }

    /// Tells of every request.
    #[must_use]
    pub(crate) fn observed_by(self, witness: RequestObserver) -> Self {
        Self { witness, ..self }
    }

    /// Says who we are. What the SDK does not take for the name of an application is left out.
    #[must_use]
    pub(crate) fn identified_as(self, user_agent: String, app_name: String) -> Self {
        Self { user_agent, app_name: AppName::new(app_name).ok(), ..self }
    }

    /// Who we say we are to AWS.
    pub(super) fn app_name(&self) -> Option<AppName> {
        self.app_name.clone()
    }

    /// Who is told of every request.
    pub(super) fn witness(&self) -> &RequestObserver {
        &self.witness
    }

    /// The client for AWS, over the environment's proxies. The SDK's own takes none.
    pub(super) fn to_aws(&self) -> Result<SharedHttpClient> {
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
        Ok(told(routed(proxies, direct, proxied), Side::Aws, &self.witness))
    }

    /// The client for what is on this machine or beside it: a container's or EC2's metadata, a stand-in. No proxy, and
    /// no certificates, which take a while to read.
    pub(super) fn to_the_machine(&self) -> Result<SharedHttpClient> {
        Ok(told(client(tls::TrustStore::empty(), ProxyConfig::disabled())?, Side::Machine, &self.witness))
    }

    /// The client for a CI's own API.
    pub(super) fn to_the_ci(&self) -> Result<reqwest::Client> {
        self.to_an_endpoint(reqwest::Client::builder().timeout(TOKEN_TIMEOUT))
    }

    /// The client for the endpoint of a container's credentials, which no proxy is to see.
    pub(super) fn to_a_container_s_endpoint(&self) -> Result<reqwest::Client> {
        let client = reqwest::Client::builder().no_proxy().connect_timeout(CONTAINER_CONNECT_TIMEOUT);
        self.to_an_endpoint(client.timeout(CONTAINER_TIMEOUT))
    }

    fn to_an_endpoint(&self, client: reqwest::ClientBuilder) -> Result<reqwest::Client> {
        let fail = |error: reqwest::Error| Error::usage("cannot set up TLS").because(error);
        let own = reqwest::Certificate::from_pem_bundle(&self.pem).map_err(fail)?;
        // What it is shown is for the one that was asked.
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
