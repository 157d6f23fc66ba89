//! The URLs that a registry may refer to: for uploads, and for credentials.

use std::net::IpAddr;

use reqwest::Url;

use super::credential_provider::AuthMode;
use crate::error::{Code, Error, Kind, Result};
use crate::oci::{self, Host};

/// Returns the IP address in a URL.
fn address(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_matches(['[', ']']).parse().ok()
}

/// Returns whether a URL refers to this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    url.host_str() == Some("localhost") || address(url).is_some_and(|ip| ip.is_loopback())
}

/// Returns why a registry at `endpoint` may not refer to a URL, with or without credentials.
fn forbidden(endpoint: &Url, url: &Url) -> Option<&'static str> {
    let other = address(url).filter(|_| url.origin() != endpoint.origin());
    if other.is_some_and(oci::is_link_local) {
        return Some("of a metadata service");
    }
    let is_private_registry = address(endpoint).is_some_and(oci::is_private) || is_loopback(endpoint);
    let is_inside = other.is_some_and(oci::is_private) || is_loopback(url);
    (is_inside && !is_private_registry).then_some("in a private network, although the registry is public")
}

/// Checks a URL that the registry `name` refers to for an upload, and returns it.
pub(super) fn allowed(name: &str, endpoint: &Url, mut url: Url) -> Result<Url> {
    let refuse = |why: &str| {
        Error::new(Kind::Refused, format!("{name} refers to a URL {why}"))
            .code(Code::ProtocolViolation)
            .hint("Ask the operator of the registry to correct its public URL.")
    };
    // A registry that does not know about the TLS proxy in front of it (distribution/distribution#479, #996). Any other
    // plain HTTP is rejected below.
    if (endpoint.scheme(), url.scheme()) == ("https", "http")
        && (url.host(), url.port()) == (endpoint.host(), endpoint.port())
    {
        url.set_scheme("https").map_err(|()| refuse("that cannot be parsed"))?;
    }
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("that is neither http nor https"));
    }
    if url.scheme() != "https" && url.scheme() != endpoint.scheme() {
        return Err(refuse("with plain HTTP, although the registry itself uses HTTPS"));
    }
    match forbidden(endpoint, &url) {
        Some(why) => Err(refuse(why)),
        None => Ok(url),
    }
}

/// Checks the URL of the token service that the registry `name` refers to, and returns it. Credentials are sent to the
/// registry's own origin and to any other over HTTPS; plain HTTP is allowed on this machine only. AWS credentials are sent
/// to AWS only.
pub(super) fn realm(name: &str, endpoint: &Url, text: &str, mode: AuthMode) -> Result<Url> {
    let refuse = |why: &str| {
        let what = format!("{name} requests credentials at a URL {why}");
        Error::new(Kind::Refused, what)
            .code(Code::ProtocolViolation)
            .hint("Ask the operator of the registry to correct the realm of its token service.")
    };
    let url = Url::parse(text).map_err(|_| refuse("that cannot be parsed"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("that contains credentials"));
    }
    if url.origin() == endpoint.origin() {
        return Ok(url);
    }
    if let Some(why) = forbidden(endpoint, &url) {
        return Err(refuse(why));
    }
    if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback(&url)) {
        return Err(refuse("without TLS"));
    }
    let host = url.host_str().and_then(|host| host.parse::<Host>().ok());
    let is_amazon = host.is_some_and(|host| host.is_amazon());
    if mode != AuthMode::OnChallenge && !(is_amazon && url.port().is_none()) {
        return Err(refuse("outside AWS"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the error about the URL of a token service, if it is not allowed.
    fn refusal(endpoint: &str, text: &str, mode: AuthMode) -> Option<String> {
        realm("registry", &Url::parse(endpoint).unwrap(), text, mode).err().map(|error| error.to_string())
    }

    #[test]
    fn credentials_are_sent_only_to_an_allowed_token_service() {
        let (public, private, here) = ("https://registry.example/", "https://10.0.0.1/", "http://127.0.0.1:5000/");
        for (endpoint, text) in [
            (public, "https://auth.example/token"),
            (public, "https://registry.example/token?account=a"),
            (private, "https://10.0.0.2/token"),
            (here, "http://127.0.0.1:5001/token"),
            (here, "http://localhost:5001/token"),
            (here, "https://auth.example/token"),
            ("http://registry.internal:5000/", "http://registry.internal:5000/token"),
        ] {
            assert_eq!(refusal(endpoint, text, AuthMode::OnChallenge), None, "{endpoint} {text}");
        }
        for (endpoint, text, why) in [
            (public, "http://auth.example/token", "without TLS"),
            (public, "ftp://auth.example/token", "without TLS"),
            (here, "http://auth.example/token", "without TLS"),
            (here, "http://10.0.0.1/token", "without TLS"),
            (public, "https://169.254.169.254/token", "metadata service"),
            (private, "https://169.254.170.2/token", "metadata service"),
            (here, "http://169.254.169.254/latest", "metadata service"),
            (here, "http://2852039166/latest", "metadata service"),
            (here, "http://[fd00:ec2::254]/latest", "metadata service"),
            (here, "http://[::ffff:169.254.169.254]/latest", "metadata service"),
            (here, "http://[::ffff:0.0.0.0]/latest", "metadata service"),
            (public, "https://100.64.0.1/token", "in a private network"),
            (public, "https://100.127.255.254/token", "in a private network"),
            (public, "https://[::ffff:100.64.0.1]/token", "in a private network"),
            (public, "https://10.0.0.1/token", "in a private network"),
            (public, "https://127.0.0.1/token", "in a private network"),
            (public, "http://localhost:5001/token", "in a private network"),
            (public, "https://user:secret@auth.example/token", "contains credentials"),
            (public, "/token", "cannot be parsed"),
            (public, "", "cannot be parsed"),
        ] {
            let error = refusal(endpoint, text, AuthMode::OnChallenge).unwrap_or_default();
            assert!(error.contains(why) && !error.contains("secret"), "{endpoint} {text}: {error}");
        }
    }

    #[test]
    fn aws_credentials_go_to_aws_only() {
        let amazon = "https://public.ecr.aws/";
        for text in ["https://public.ecr.aws/token/", "https://ecr-public.aws.com/token/"] {
            assert_eq!(refusal(amazon, text, AuthMode::OnAmazonChallenge), None, "{text}");
        }
        for text in ["https://auth.example/", "https://public.ecr.aws.example/", "https://public.ecr.aws:8443/"] {
            assert!(refusal(amazon, text, AuthMode::OnAmazonChallenge).is_some(), "{text}");
        }
    }
}
