//! The connections: how names, proxies and certificates are dealt with, and who we say we are.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderMap;

use super::transport_error::Resolver;
use super::trust::Trust;
use crate::error::{Error, Kind, Result};
use crate::proxy::Proxies;

/// How long a connection may take to be made.
pub(super) const CONNECT: Duration = Duration::from_secs(10);

/// The text of a header.
pub(super) fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn no_https(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Kind::Unavailable, "cannot set up HTTPS")
        .because(error)
        .hint("Install the CA certificates (package ca-certificates), or set SSL_CERT_FILE.")
}

/// Connections to whoever is at an address, to be kept and used again. `via` is another name to connect to.
/// `chosen` is the host that the user named, which may have any address.
pub(super) fn http(
    url: &Url,
    user_agent: &str,
    trust: &Trust,
    via: Option<&str>,
    chosen: Option<&str>,
) -> Result<reqwest::Client> {
    // No proxy leads to what only this network leads to.
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
        // No read time limit: reqwest's runs while a body is being sent, too.
        .connect_timeout(CONNECT)
        .dns_resolver(Arc::new(Resolver { instead, chosen }))
        .http1_only();
    if url.scheme() == "http" {
        // No certificate store where no certificate is checked.
        http = http.tls_certs_only([]);
    } else {
        http = http.tls_backend_preconfigured(trust.tls().map_err(no_https)?);
    }
    proxies.apply(http).build().map_err(no_https)
}
