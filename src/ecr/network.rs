//! The lines to AWS: over which proxy, and with whose certificates.

use std::time::Duration;

use aws_sdk_ecr::config::{RuntimeComponents, SharedHttpClient};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{Builder, Connector, tls};

use crate::error::{Error, Result};

/// How long a CI may take to hand out a token.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);

/// How AWS is reached.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// PEM certificates that are trusted beside the machine's own.
    pem: Vec<u8>,
}

impl Network {
    /// Trusts these PEM certificates, too.
    pub fn trusting(pem: Vec<u8>) -> Self {
        Self { pem }
    }

    /// The client for AWS, over the environment's proxies. The SDK's own takes none.
    pub(super) fn to_aws(&self) -> Result<SharedHttpClient> {
        let mut store = tls::TrustStore::default();
        if !self.pem.is_empty() {
            store = store.with_pem_certificate(self.pem.clone());
        }
        client(store, ProxyConfig::from_env())
    }

    /// The client for what is on this machine or beside it: a container's or EC2's metadata, a stand-in. No proxy, and
    /// no certificates, which take a while to read.
    pub(super) fn to_the_machine() -> Result<SharedHttpClient> {
        client(tls::TrustStore::empty(), ProxyConfig::disabled())
    }

    /// The client for a CI's own API.
    pub(super) fn to_the_ci(&self) -> Result<reqwest::Client> {
        let fail = |error: reqwest::Error| Error::usage("cannot set up TLS").because(error);
        let own = reqwest::Certificate::from_pem_bundle(&self.pem).map_err(fail)?;
        reqwest::Client::builder()
            .tls_certs_merge(own)
            // The bearer is for the one that was asked.
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TOKEN_TIMEOUT)
            .build()
            .map_err(fail)
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
