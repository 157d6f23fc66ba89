//! The proxies of the environment: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, and why a proxy rejects a
//! connection.
//!
//! `NO_PROXY` is parsed as Go's tools parse it (<https://pkg.go.dev/golang.org/x/net/http/httpproxy>), because those run in
//! the same job as this program. If no variable names a proxy, the proxy of an Azure Pipelines agent is used:
//! `AGENT_PROXYURL`.

mod agent;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{ClientBuilder, Proxy, Url};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use self::agent::Patterns;
pub(crate) use self::agent::invalid_bypass_patterns;
use crate::error::{Advice, Code, Error, Kind};

/// The time limit for asking a proxy why it rejects a tunnel.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// The proxies of the environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    http: Option<Setting>,
    https: Option<Setting>,
    bypassed: Vec<Bypass>,
}

/// A proxy that a variable names.
#[derive(Clone)]
struct Setting {
    variable: &'static str,
    /// The URL of the proxy. `None` if the variable contains something else.
    url: Option<Url>,
    /// The URLs that are reached without this proxy.
    except: Patterns,
}

impl fmt::Debug for Setting {
    /// Formats it without the URL, which may contain a login.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.variable)
    }
}

/// An entry of `NO_PROXY`: hosts that are reached without a proxy.
#[derive(Clone, Debug)]
enum Bypass {
    Everything,
    Network {
        address: IpAddr,
        prefix: u8,
        port: Option<u16>,
    },
    /// All hosts below a domain: `.example.com`; with `itself`, the host `example.com`, too.
    Domain {
        suffix: String,
        itself: bool,
        port: Option<u16>,
    },
}

/// Why a connection over a proxy is not possible.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum ProxyError {
    /// It is not an HTTP proxy.
    Unsupported {
        /// The variable that names it.
        variable: &'static str,
        /// Its scheme. Empty if the variable does not contain a URL.
        scheme: String,
    },
    /// It cannot be connected to.
    Unreachable {
        /// The variable that names it.
        variable: &'static str,
        /// Its host and port.
        proxy: String,
        /// The host that is reached over it.
        host: String,
        /// Why not.
        why: String,
    },
    /// It rejects a tunnel.
    Refused {
        /// Its host and port.
        proxy: String,
        /// The host and port that the tunnel is for.
        host: String,
        /// The HTTP status of its response.
        status: u16,
    },
}

impl Proxies {
    /// Reads the environment of this process.
    pub(crate) fn from_env() -> Self {
        Self::of(&|name| std::env::var(name).ok())
    }

    fn of(environment: &dyn Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&'static str]| {
            let set = |name: &&'static str| Some((*name, environment(name).filter(|value| !value.trim().is_empty())?));
            names.iter().find_map(set)
        };
        let setting = |names: &[&'static str]| {
            let (variable, value) = first(names)?;
            Some(Setting { variable, url: proxy_url(value.trim()), except: Patterns::default() })
        };
        // In a CGI script, HTTP_PROXY is a header that the client sends (https://httpoxy.org).
        let is_cgi = environment("REQUEST_METHOD").is_some();
        let http: &[_] = if is_cgi { &["http_proxy"] } else { &["HTTP_PROXY", "http_proxy"] };
        let all = || setting(&["ALL_PROXY", "all_proxy"]).or_else(|| agent::setting(environment));
        let bypassed = first(&["NO_PROXY", "no_proxy"]).map(|(_, list)| list.split(',').filter_map(bypass).collect());
        Self {
            http: setting(http).or_else(all),
            https: setting(&["HTTPS_PROXY", "https_proxy"]).or_else(all),
            bypassed: bypassed.unwrap_or_default(),
        }
    }

    /// Returns the proxy for a URL. `None` if the URL is reached directly.
    ///
    /// # Errors
    /// Fails if the proxy is not an HTTP proxy.
    pub(crate) fn to(&self, url: &Url) -> Result<Option<&Url>, ProxyError> {
        Ok(self.named(url)?.map(|(_, proxy)| proxy))
    }

    /// Returns the proxy for a URL, and the variable that names it.
    fn named(&self, url: &Url) -> Result<Option<(&'static str, &Url)>, ProxyError> {
        let setting = if url.scheme() == "https" { &self.https } else { &self.http };
        let setting = setting.as_ref().filter(|setting| !self.is_bypassed(url) && !setting.except.matches(url));
        let Some(Setting { variable, url: proxy, .. }) = setting else { return Ok(None) };
        match proxy {
            Some(proxy) if matches!(proxy.scheme(), "http" | "https") => Ok(Some((*variable, proxy))),
            other => {
                let scheme = other.as_ref().map(|url| url.scheme().to_owned()).unwrap_or_default();
                Err(ProxyError::Unsupported { variable, scheme })
            }
        }
    }

    /// Returns the usable proxies without duplicates.
    pub(crate) fn all(&self) -> Vec<&Url> {
        let urls = [&self.http, &self.https].into_iter().flatten().filter_map(|setting| setting.url.as_ref());
        let mut all: Vec<&Url> = urls.filter(|url| matches!(url.scheme(), "http" | "https")).collect();
        all.dedup();
        all
    }

    /// Configures a client to use these proxies and no others.
    pub(crate) fn apply(self, client: ClientBuilder) -> ClientBuilder {
        client.no_proxy().proxy(Proxy::custom(move |url| self.to(url).ok().flatten().cloned()))
    }

    /// Finds out whether the proxy for `url` is the reason that a connection failed: connects to it and requests a tunnel
    /// again, and returns why that fails.
    pub(crate) async fn refusal(&self, url: &Url) -> Option<ProxyError> {
        let (variable, proxy) = match self.named(url) {
            Err(error) => return Some(error),
            Ok(proxy) => proxy?,
        };
        let address = (proxy.host_str()?.trim_matches(['[', ']']), proxy.port_or_known_default()?);
        let connecting = tokio::time::timeout(PROBE_TIMEOUT, TcpStream::connect(address)).await;
        let stream = match connecting.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => stream,
            Err(error) => {
                let (host, why) = (url.host_str()?.to_owned(), error.to_string());
                return Some(ProxyError::Unreachable { variable, proxy: authority(proxy), host, why });
            }
        };
        // Plain HTTP needs no tunnel. A proxy that itself speaks TLS is not asked.
        if url.scheme() != "https" || proxy.scheme() != "http" {
            return None;
        }
        let status =
            tokio::time::timeout(PROBE_TIMEOUT, request_tunnel(stream, proxy, &authority(url))).await.ok()??;
        let refused = ProxyError::Refused { proxy: authority(proxy), host: authority(url), status };
        Some(refused).filter(|_| !(200..300).contains(&status))
    }

    fn is_bypassed(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
        let port = url.port_or_known_default();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        let is_port = |only: &Option<u16>| only.is_none_or(|only| port == Some(only));
        self.bypassed.iter().any(|bypass| match bypass {
            Bypass::Everything => true,
            Bypass::Network { address: network, prefix, port } => {
                is_port(port) && address.is_some_and(|address| is_within(address, *network, *prefix))
            }
            Bypass::Domain { suffix, itself, port } => {
                is_port(port) && (host.ends_with(suffix.as_str()) || *itself && host == suffix[1..])
            }
        })
    }
}

/// Parses the URL of a proxy. The default scheme is `http`.
fn proxy_url(text: &str) -> Option<Url> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    Url::parse(&whole).ok().filter(Url::has_host)
}

/// Parses one entry of `NO_PROXY`.
fn bypass(entry: &str) -> Option<Bypass> {
    let entry = entry.trim().to_ascii_lowercase();
    if entry == "*" {
        return Some(Bypass::Everything);
    }
    if let Some((address, prefix)) = entry.split_once('/') {
        let (address, prefix) = (address.parse::<IpAddr>().ok()?, prefix.parse::<u8>().ok()?);
        return Some(Bypass::Network { address, prefix, port: None });
    }
    let (host, port) = match entry.parse::<IpAddr>() {
        Ok(_) => (entry.as_str(), None),
        Err(_) => match entry.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port.parse().ok()?)),
            _ => (entry.as_str(), None),
        },
    };
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Some(Bypass::Network { address, prefix: 128, port });
    }
    let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
    match host.strip_prefix('.') {
        _ if host.is_empty() => None,
        Some(_) => Some(Bypass::Domain { suffix: host.to_owned(), itself: false, port }),
        None => Some(Bypass::Domain { suffix: format!(".{host}"), itself: true, port }),
    }
}

/// Returns whether an address is in a network: their first `prefix` bits are the same.
fn is_within(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    let bits = |address: IpAddr| match address.to_canonical() {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let ((one, length), (other, other_length)) = (bits(address), bits(network));
    let prefix = u32::from(prefix).min(length);
    length == other_length && (prefix == 0 || (one ^ other) >> (128 - prefix) == 0)
}

/// Returns `HOST:PORT`.
fn authority(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or(80);
    format!("{}:{port}", url.host_str().unwrap_or_default())
}

/// Sends CONNECT to a proxy and returns the status of its response.
async fn request_tunnel(mut stream: TcpStream, proxy: &Url, host: &str) -> Option<u16> {
    let mut request = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n");
    if !proxy.username().is_empty() {
        let login = format!("{}:{}", decoded(proxy.username()), decoded(proxy.password().unwrap_or_default()));
        request += &format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(login));
    }
    stream.write_all(format!("{request}\r\n").as_bytes()).await.ok()?;
    let mut response = Vec::new();
    // A status line is short.
    let mut start = stream.take(1024);
    while !response.contains(&b'\n') {
        if start.read_buf(&mut response).await.ok()? == 0 {
            break;
        }
    }
    let line = String::from_utf8_lossy(&response);
    line.strip_prefix("HTTP/")?.split(' ').nth(1)?.get(..3)?.parse().ok()
}

/// Decodes the percent-encoding of a part of a URL.
fn decoded(text: &str) -> String {
    let Ok(mut url) = Url::parse("http://localhost") else { return text.to_owned() };
    url.set_query(Some(&text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D")));
    url.query_pairs().next().map(|(decoded, _)| decoded.into_owned()).unwrap_or_default()
}

impl ProxyError {
    /// Returns whether the proxy may accept the same connection a little later.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Refused { status: 429 | 500.., .. })
    }

    /// Turns the failure of `doing` into an error with advice.
    pub(crate) fn explain(&self, doing: &str) -> Error {
        let (kind, advice) = match self {
            Self::Unsupported { .. } => {
                (Kind::Usage, Advice::new("Use an HTTP proxy, or exclude the host with NO_PROXY."))
            }
            Self::Unreachable { variable, host, .. } => {
                let advice = format!("Correct the address in {variable}, or reach {host} directly:");
                (Kind::Unavailable, Advice::new(advice).command(format!("export NO_PROXY={host}")))
            }
            Self::Refused { status: 407, .. } => (Kind::Permission, login()),
            Self::Refused { status, host, .. } => {
                let kind = match status {
                    403 => Kind::Permission,
                    429 | 500.. => Kind::Unavailable,
                    _ => Kind::Refused,
                };
                let host = host.rsplit_once(':').map_or(host.as_str(), |(host, _)| host);
                let advice = Advice::new("Ask for the host to be allowed by the proxy, or reach it directly:");
                (kind, advice.command(format!("export NO_PROXY={host}")))
            }
        };
        Error::new(kind, doing).because(self.clone()).code(Code::ProxyFailed).hint(advice)
    }
}

/// Advises to configure the login of the proxy.
pub(crate) fn login() -> Advice {
    Advice::new("Add the proxy's login to its address:").command("export HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT")
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported { variable, scheme } if scheme.is_empty() => {
                write!(f, "{variable} is not the URL of a proxy")
            }
            Self::Unsupported { variable, scheme } => {
                write!(f, "{variable} names a {scheme} proxy, and only http and https proxies are supported")
            }
            Self::Unreachable { variable, proxy, why, .. } => {
                write!(f, "cannot connect to the proxy {proxy} ({variable}): {why}")
            }
            Self::Refused { proxy, host, status } => {
                let words = reqwest::StatusCode::from_u16(*status).ok().and_then(|status| status.canonical_reason());
                let words = words.map(|words| format!(" {words}")).unwrap_or_default();
                write!(f, "the proxy {proxy} refuses the connection to {host}: HTTP {status}{words}")
            }
        }
    }
}

impl std::error::Error for ProxyError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the proxy for a URL with this list of exceptions.
    fn to(no_proxy: &str, url: &str) -> Option<String> {
        let proxies = Proxies::of(&|name| match name {
            "HTTPS_PROXY" => Some("http://s:1".into()),
            "http_proxy" => Some("p:2".into()),
            "NO_PROXY" => Some(no_proxy.into()),
            _ => None,
        });
        proxies.to(&Url::parse(url).unwrap()).unwrap().map(|url| url.to_string())
    }

    #[test]
    fn no_proxy_is_parsed_as_go_parses_it() {
        for (no_proxy, url, is_direct) in [
            ("", "https://a.example/", false),
            ("*", "https://a.example/", true),
            ("a.example", "https://a.example/", true),
            ("A.Example ,x", "https://b.a.example/", true),
            ("a.example", "https://ba.example/", false),
            (".example", "https://a.example/", true),
            (".example", "https://example/", false),
            ("*.example", "https://a.example/", true),
            ("*.example", "https://b.a.example:8443/", true),
            ("*.example", "https://example/", false),
            ("a.example:443", "https://a.example/", true),
            ("a.example:443", "https://a.example:8443/", false),
            ("*.example:5000", "http://a.example:5000/", true),
            ("a.example:80", "http://a.example/", true),
            ("10.0.0.0/8", "https://10.1.2.3/", true),
            ("10.0.0.0/8", "https://11.1.2.3/", false),
            ("10.0.0.1:5000", "http://10.0.0.1:5000/", true),
            ("10.0.0.1:5000", "http://10.0.0.1:5001/", false),
            ("fd00::/8", "https://[fd12::1]/", true),
            ("[fd12::1]:443", "https://[fd12::1]/", true),
            ("fd12::1", "https://[fd12::2]/", false),
            ("0.0.0.0/0", "https://a.example/", false),
            ("", "http://localhost:5000/", true),
            ("", "http://127.0.0.1:5000/", true),
            (":80,/,10.0.0.0/x,,", "http://a.example/", false),
        ] {
            assert_eq!(to(no_proxy, url).is_none(), is_direct, "NO_PROXY={no_proxy} {url}");
        }
        assert_eq!(to("", "https://a.example/").as_deref(), Some("http://s:1/"));
        assert_eq!(to("", "http://a.example/").as_deref(), Some("http://p:2/"));
    }

    #[test]
    fn an_unsupported_proxy_is_an_error_only_if_it_would_be_used() {
        for (value, scheme) in [("socks5://p:1", "socks5"), ("socks5h://p:1", "socks5h"), ("http://", "")] {
            let proxies = Proxies::of(&|name| match name {
                "ALL_PROXY" => Some(value.into()),
                "NO_PROXY" => Some("b.example".into()),
                _ => None,
            });
            let error = proxies.to(&Url::parse("https://a.example/").unwrap()).unwrap_err();
            assert_eq!(error, ProxyError::Unsupported { variable: "ALL_PROXY", scheme: scheme.into() });
            assert_eq!(error.explain("cannot push").kind(), Kind::Usage);
            assert_eq!(proxies.to(&Url::parse("https://b.example/").unwrap()), Ok(None));
        }
    }

    #[test]
    fn an_error_does_not_contain_the_login_of_a_proxy() {
        let proxies = Proxies::of(&|name| (name == "ALL_PROXY").then(|| "socks5://bob:hunter2@p:1".into()));
        let error = proxies.to(&Url::parse("https://a.example/").unwrap()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
