//! The HTTP client: name resolution, proxies, certificates, user agent.

use std::sync::Arc;

use reqwest::Url;
use reqwest::header::HeaderMap;

use super::resolver::{CONNECT_TIMEOUT, Resolver};
use crate::error::{Error, Kind, Result};
use crate::proxy::Proxies;
use crate::tls::Trust;

/// Returns the value of a header, if it is text.
pub(super) fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// Creates the error about HTTPS that cannot be set up.
fn no_https(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Kind::Unavailable, "cannot set up HTTPS")
        .because(error)
        .hint("Install the CA certificates (package ca-certificates), or set SSL_CERT_FILE.")
}

/// Builds the client for the host of a URL, with a separate connection pool. `via` is another name to connect to; `chosen` is
/// the host that the user named, which may have any address.
///
/// # Errors
/// Fails if TLS cannot be set up, or if a proxy is configured that cannot be used.
pub(super) fn http(
    url: &Url,
    user_agent: &str,
    trust: &Trust,
    via: Option<&str>,
    chosen: Option<&str>,
) -> Result<reqwest::Client> {
    // No proxy reaches a VPC endpoint.
    let proxies = if via.is_some() { Proxies::default() } else { Proxies::from_env() };
    let host = url.host_str().unwrap_or_default();
    proxies.to(url).map_err(|error| error.explain(&format!("cannot connect to {host}")))?;
    let hosts = proxies.all().into_iter().filter_map(Url::host_str).chain(chosen);
    let chosen = hosts.map(str::to_owned).collect();
    let instead = url.host_str().zip(via).map(|(name, via)| (name.to_owned(), via.to_owned()));
    let mut http = reqwest::Client::builder()
        .user_agent(user_agent)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        // No read timeout: reqwest's also runs while a body is being sent.
        .connect_timeout(CONNECT_TIMEOUT)
        .dns_resolver(Arc::new(Resolver { instead, chosen }))
        .http1_only();
    if url.scheme() == "http" {
        // Without TLS the certificate store need not be read.
        http = http.tls_certs_only([]);
    } else {
        http = http.tls_backend_preconfigured(trust.client_config().map_err(no_https)?);
    }
    proxies.apply(http).build().map_err(no_https)
}
