//! What the environment says of the ways to AWS and to registries, in lines for those who want to know.

use std::ffi::OsString;

use reqwest::Url;

use super::credentials::ENDPOINTS;
use super::values::REGISTRY_ENDPOINT;

type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Proxies, by what is asked over them; the first variable that is set counts. Both libraries that ask read these, and in this
/// order.
const PROXIES: [(&str, [&str; 4]); 2] = [
    ("https", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]),
    ("http", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]),
];

/// Hosts that are asked without one.
const WITHOUT: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// The proxies. Of their addresses only the host: there may be a login in them.
pub(super) fn proxies(environment: Environment<'_>) -> Vec<String> {
    let set = |name: &&str| environment(name).is_some_and(|value| !value.is_empty());
    let proxy = |(scheme, names): (&str, [&'static str; 4])| {
        let name = names.into_iter().find(|name| set(name))?;
        let host = host(&environment(name)?.to_string_lossy());
        let without = WITHOUT.iter().find(|name| set(name)).map(|name| format!(" and to those of {name}"));
        let without = without.unwrap_or_default();
        Some(format!("{scheme} goes over the proxy {host} ({name}), but to this machine{without}"))
    };
    PROXIES.into_iter().filter_map(proxy).collect()
}

/// The addresses that are asked in AWS's place.
pub(super) fn endpoints(environment: Environment<'_>) -> Vec<String> {
    let ignored = environment("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
    if ignored.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return vec![
            "addresses in AWS_ENDPOINT_URL and the like are not used (AWS_IGNORE_CONFIGURED_ENDPOINT_URLS)".into(),
        ];
    }
    let of = |name: &'static str| {
        let host = host(&environment(name).filter(|value| !value.is_empty())?.to_string_lossy());
        Some(format!("{host} is asked in AWS's place ({name})"))
    };
    ENDPOINTS.into_iter().chain([REGISTRY_ENDPOINT]).filter_map(of).collect()
}

/// The host and the port of an address.
fn host(text: &str) -> String {
    let text = text.trim();
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let Ok(url) = Url::parse(&with_scheme) else { return "of an address that cannot be read".into() };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}", url.host_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(of: fn(Environment<'_>) -> Vec<String>, variables: &[(&str, &str)]) -> Vec<String> {
        of(&|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value)))
    }

    #[test]
    fn of_a_proxy_the_host_is_told_and_nothing_else() {
        let both = [
            ("https_proxy", "http://me:word@proxy.example:3128/x?y"),
            ("ALL_PROXY", "socks5://other"),
            ("HTTPS_PROXY", ""),
        ];
        assert_eq!(
            told(proxies, &both),
            [
                "https goes over the proxy proxy.example:3128 (https_proxy), but to this machine",
                "http goes over the proxy other (ALL_PROXY), but to this machine",
            ]
        );
        let bare = [("HTTPS_PROXY", "me:word@10.0.0.1:80"), ("NO_PROXY", "a.example")];
        let line = "https goes over the proxy 10.0.0.1 (HTTPS_PROXY), but to this machine and to those of NO_PROXY";
        assert_eq!(told(proxies, &bare), [line]);
        assert_eq!(told(proxies, &[("HTTPS_PROXY", "http://me:word@[")]).len(), 1);
        assert!(!told(proxies, &[("HTTPS_PROXY", "http://me:word@[")])[0].contains("word"));
        assert_eq!(told(proxies, &[("NO_PROXY", "*")]), [""; 0]);
    }

    #[test]
    fn who_is_asked_in_the_place_of_aws_is_told() {
        let some =
            [("AWS_ENDPOINT_URL_STS", "https://u:p@sts.example/x"), ("ECR_PUSH_REGISTRY_ENDPOINT", "127.0.0.1:5")];
        assert_eq!(
            told(endpoints, &some),
            [
                "sts.example is asked in AWS's place (AWS_ENDPOINT_URL_STS)",
                "127.0.0.1:5 is asked in AWS's place (ECR_PUSH_REGISTRY_ENDPOINT)",
            ]
        );
        let ignored = [("AWS_ENDPOINT_URL", "https://a"), ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "TRUE")];
        assert!(told(endpoints, &ignored)[0].contains("are not used"));
        assert_eq!(told(endpoints, &[]), [""; 0]);
    }
}
