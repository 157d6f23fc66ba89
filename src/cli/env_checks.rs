//! Descriptions of the proxies and endpoints that the environment sets.

use std::ffi::OsString;

use reqwest::Url;

use super::credentials::ENDPOINTS;
use super::values::{Environment, REGISTRY_ENDPOINT};
use crate::proxy::invalid_bypass_patterns;

/// The variables of proxies by scheme. The first one that is set is used, as in both HTTP libraries.
const PROXIES: [(&str, [&str; 5]); 2] = [
    ("https", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", AGENT]),
    ("http", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", AGENT]),
];

/// The proxy of an Azure Pipelines agent.
const AGENT: &str = "AGENT_PROXYURL";

/// The variables with hosts that bypass the proxies.
const WITHOUT: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Describes the proxies. Only the host of an address is shown, since it may contain a login.
pub(super) fn proxies(environment: Environment<'_>) -> Vec<String> {
    // Azure Pipelines leaves `$(NAME)` unchanged if the variable is not defined.
    let set = |name: &&str| {
        let is_undefined = |value: &OsString| *name == AGENT && value.to_string_lossy().starts_with("$(");
        environment(name).is_some_and(|value| !value.is_empty() && !is_undefined(&value))
    };
    let proxy = |(scheme, names): (&str, [&'static str; 5])| {
        let name = names.into_iter().find(|name| set(name))?;
        let host = host(&environment(name)?.to_string_lossy());
        let without = WITHOUT.iter().find(|name| set(name)).map(|name| format!(" and the hosts of {name}"));
        let without = without.unwrap_or_default();
        Some(format!("{scheme} uses the proxy {host} ({name}), except for this machine{without}"))
    };
    let text = |name: &str| environment(name).map(|value| value.to_string_lossy().into_owned());
    let invalid = invalid_bypass_patterns(&text).into_iter();
    let invalid = invalid
        .map(|entry| format!("{entry:?} in AGENT_PROXYBYPASSLIST is not a valid regular expression and is ignored"));
    PROXIES.into_iter().filter_map(proxy).chain(invalid).collect()
}

/// Describes the hosts that override AWS endpoints, each with its variables.
pub(super) fn endpoints(environment: Environment<'_>) -> Option<String> {
    let ignored = environment("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
    let is_ignored = ignored.is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let of_aws = ENDPOINTS.into_iter().filter(|_| !is_ignored);
    let mut hosts: Vec<(String, Vec<&str>)> = Vec::new();
    for name in of_aws.chain([REGISTRY_ENDPOINT]) {
        let Some(value) = environment(name).filter(|value| !value.is_empty()) else { continue };
        let host = host(&value.to_string_lossy());
        match hosts.iter_mut().find(|(known, _)| *known == host) {
            Some((_, names)) => names.push(name),
            None => hosts.push((host, vec![name])),
        }
    }
    let hosts: Vec<String> = hosts.iter().map(|(host, names)| format!("{host} ({})", names.join(", "))).collect();
    (!hosts.is_empty()).then(|| format!("AWS endpoints are overridden by {}", hosts.join(" and ")))
}

/// Returns the host and port of an address.
fn host(text: &str) -> String {
    let text = text.trim();
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let Ok(url) = Url::parse(&with_scheme) else { return "with an invalid address".into() };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}", url.host_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(of: fn(Environment<'_>) -> Vec<String>, variables: &[(&str, &str)]) -> Vec<String> {
        of(&|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value)))
    }

    #[test]
    fn only_the_host_of_a_proxy_is_shown() {
        let both = [
            ("https_proxy", "http://me:word@proxy.example:3128/x?y"),
            ("ALL_PROXY", "socks5://other"),
            ("HTTPS_PROXY", ""),
        ];
        assert_eq!(
            described(proxies, &both),
            [
                "https uses the proxy proxy.example:3128 (https_proxy), except for this machine",
                "http uses the proxy other (ALL_PROXY), except for this machine",
            ]
        );
        let bare = [("HTTPS_PROXY", "me:word@10.0.0.1:80"), ("NO_PROXY", "a.example")];
        let line = "https uses the proxy 10.0.0.1 (HTTPS_PROXY), except for this machine and the hosts of NO_PROXY";
        assert_eq!(described(proxies, &bare), [line]);
        assert_eq!(described(proxies, &[("HTTPS_PROXY", "http://me:word@[")]).len(), 1);
        assert!(!described(proxies, &[("HTTPS_PROXY", "http://me:word@[")])[0].contains("word"));
        assert_eq!(described(proxies, &[("NO_PROXY", "*")]), [""; 0]);
    }

    #[test]
    fn overridden_endpoints_are_listed() {
        let some =
            [("AWS_ENDPOINT_URL_STS", "https://u:p@sts.example/x"), ("ECR_PUSH_REGISTRY_ENDPOINT", "127.0.0.1:5")];
        let endpoints = |variables: &[(&str, &str)]| described(|it| endpoints(it).into_iter().collect(), variables);
        let line = "AWS endpoints are overridden by sts.example (AWS_ENDPOINT_URL_STS) and 127.0.0.1:5 (ECR_PUSH_REGISTRY_ENDPOINT)";
        assert_eq!(endpoints(&some), [line]);
        let same = [("AWS_ENDPOINT_URL", "http://a:1"), ("AWS_ENDPOINT_URL_STS", "http://a:1/x")];
        assert_eq!(endpoints(&same), ["AWS endpoints are overridden by a:1 (AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_STS)"]);
        let ignored = [("AWS_ENDPOINT_URL", "https://a"), ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "TRUE")];
        assert_eq!(endpoints(&ignored), [""; 0]);
        assert_eq!(endpoints(&[]), [""; 0]);
    }
}
