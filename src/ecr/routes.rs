//! Routes each request to AWS: directly, or over the proxy for its URL.

use aws_sdk_ecr::config::{RuntimeComponents, SharedHttpClient};
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use reqwest::Url;

use crate::proxy::Proxies;

/// A client, or a connector, for each route.
#[derive(Debug)]
struct Routes<T> {
    proxies: Proxies,
    direct: T,
    /// The clients for the proxies, by their URL.
    proxied: Vec<(Url, T)>,
}

/// Creates a client that sends each request over the route that `proxies` define.
pub(super) fn routed(
    proxies: Proxies,
    direct: SharedHttpClient,
    proxied: Vec<(Url, SharedHttpClient)>,
) -> SharedHttpClient {
    SharedHttpClient::new(Routes { proxies, direct, proxied })
}

impl HttpClient for Routes<SharedHttpClient> {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let connector = |client: &SharedHttpClient| client.http_connector(settings, components);
        SharedHttpConnector::new(Routes {
            proxies: self.proxies.clone(),
            direct: connector(&self.direct),
            proxied: self.proxied.iter().map(|(proxy, client)| (proxy.clone(), connector(client))).collect(),
        })
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.direct.connector_metadata()
    }
}

impl HttpConnector for Routes<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
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
