//! Where a registry may send us: with what is pushed, and with a login.

use std::net::IpAddr;

use reqwest::Url;

use super::credential_provider::AuthMode;
use crate::error::{Code, Error, Kind, Result};
use crate::oci::{self, Host};

/// The IP address that stands in a URL, if one does.
fn address(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_matches(['[', ']']).parse().ok()
}

/// Whether a URL leads to this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    url.host_str() == Some("localhost") || address(url).is_some_and(|ip| ip.is_loopback())
}

/// Why nobody may be sent from a registry to an address, with or without a login.
fn taboo(endpoint: &Url, url: &Url) -> Option<&'static str> {
    let elsewhere = address(url).filter(|_| url.origin() != endpoint.origin());
    if elsewhere.is_some_and(oci::is_link_local) {
        return Some("that belongs to a metadata service");
    }
    let among_ourselves = address(endpoint).is_some_and(oci::is_private) || is_loopback(endpoint);
    let is_inside = elsewhere.is_some_and(oci::is_private) || is_loopback(url);
    (is_inside && !among_ourselves).then_some("of a private network, although it is a public registry")
}

/// The address that the registry `name` sends us to, if one may go there.
pub(super) fn allowed(name: &str, endpoint: &Url, mut url: Url) -> Result<Url> {
    let refuse = |why: &str| {
        Error::new(Kind::Refused, format!("{name} sent us to an address {why}"))
            .code(Code::ProtocolViolation)
            .hint("Ask whoever runs the registry to correct its public URL.")
    };
    // A registry that does not know of the TLS in front of it (distribution/distribution#479, #996). Anything else on
    // plain http is refused below.
    if (endpoint.scheme(), url.scheme()) == ("https", "http")
        && (url.host(), url.port()) == (endpoint.host(), endpoint.port())
    {
        url.set_scheme("https").map_err(|()| refuse("that is no URL"))?;
    }
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("that is neither http nor https"));
    }
    if url.scheme() != "https" && url.scheme() != endpoint.scheme() {
        return Err(refuse("on plain http, although it is asked over https itself"));
    }
    match taboo(endpoint, &url) {
        Some(why) => Err(refuse(why)),
        None => Ok(url),
    }
}

/// The address of the token service that the registry `name` names, if a login may go there: its own origin, or any other
/// over https, plain http being for this machine only. AWS credentials go to AWS only.
pub(super) fn realm(name: &str, endpoint: &Url, text: &str, manner: AuthMode) -> Result<Url> {
    let refuse = |why: &str| {
        let what = format!("{name} wants our login at an address {why}");
        Error::new(Kind::Refused, what)
            .code(Code::ProtocolViolation)
            .hint("Ask whoever runs the registry to correct the realm of its token service.")
    };
    let url = Url::parse(text).map_err(|_| refuse("that is no URL"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("that has a login of its own"));
    }
    if url.origin() == endpoint.origin() {
        return Ok(url);
    }
    if let Some(why) = taboo(endpoint, &url) {
        return Err(refuse(why));
    }
    if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback(&url)) {
        return Err(refuse("without TLS"));
    }
    let host = url.host_str().and_then(|host| host.parse::<Host>().ok());
    let is_amazons = host.is_some_and(|host| host.is_amazon());
    if manner != AuthMode::OnChallenge && !(is_amazons && url.port().is_none()) {
        return Err(refuse("that is not Amazon's"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(endpoint: &str, text: &str, manner: AuthMode) -> Option<String> {
        realm("registry", &Url::parse(endpoint).unwrap(), text, manner).err().map(|error| error.to_string())
    }

    #[test]
    fn a_login_goes_nowhere_but_to_a_token_service_that_may_have_it() {
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
            (public, "https://100.64.0.1/token", "of a private network"),
            (public, "https://100.127.255.254/token", "of a private network"),
            (public, "https://[::ffff:100.64.0.1]/token", "of a private network"),
            (public, "https://10.0.0.1/token", "of a private network"),
            (public, "https://127.0.0.1/token", "of a private network"),
            (public, "http://localhost:5001/token", "of a private network"),
            (public, "https://user:secret@auth.example/token", "a login of its own"),
            (public, "/token", "no URL"),
            (public, "", "no URL"),
        ] {
            let said = refusal(endpoint, text, AuthMode::OnChallenge).unwrap_or_default();
            assert!(said.contains(why) && !said.contains("secret"), "{endpoint} {text}: {said}");
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
