//! Which proxy leads to a URL, and why one does not: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.
//!
//! `NO_PROXY` is read as Go's tools read it (<https://pkg.go.dev/golang.org/x/net/http/httpproxy>), because those run beside this
//! program in the same job. Where no variable names a proxy, that of an Azure Pipelines agent counts: `AGENT_PROXYURL`.

mod agent;

use std::fmt;
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

/// How long a proxy may take to say why it refuses a tunnel.
const PROBE: Duration = Duration::from_secs(5);

/// The proxies of the environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    http: Option<Setting>,
    https: Option<Setting>,
    bypassed: Vec<Bypass>,
}

/// A proxy, as a variable names it.
#[derive(Clone)]
struct Setting {
    variable: &'static str,
    /// `None` if it is not the URL of a host.
    url: Option<Url>,
    /// What is reached without this proxy.
    except: Patterns,
}

impl fmt::Debug for Setting {
    /// Without the URL, which may have a login.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.variable)
    }
}

/// What is reached without a proxy.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Bypass {
    Everything,
    Network {
        address: IpAddr,
        prefix: u8,
        port: Option<u16>,
    },
    /// `.example.com` for all hosts below it; with `itself` for that host, too.
    Domain {
        below: String,
        itself: bool,
        port: Option<u16>,
    },
}

/// Why a proxy leads nowhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum ProxyError {
    /// It is not an HTTP proxy.
    Unsupported {
        /// The variable that names it.
        variable: &'static str,
        /// Its scheme, or nothing if it is no URL.
        scheme: String,
    },
    /// It refuses a tunnel.
    Refused {
        /// Its host and port.
        proxy: String,
        /// The host and port that the tunnel is for.
        host: String,
        /// The HTTP status of its answer.
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
            first(names).map(|(variable, value)| Setting {
                variable,
                url: proxy_url(value.trim()),
                except: Patterns::default(),
            })
        };
        // In a CGI script, HTTP_PROXY is a header that a client sends (https://httpoxy.org).
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

    /// The proxy that leads to a URL. `None`: the URL is reached directly.
    ///
    /// # Errors
    /// If it is not an HTTP proxy.
    pub(crate) fn to(&self, url: &Url) -> Result<Option<&Url>, ProxyError> {
        let setting = if url.scheme() == "https" { &self.https } else { &self.http };
        let setting = setting.as_ref().filter(|setting| !self.is_bypassed(url) && !setting.except.matches(url));
        let Some(Setting { variable, url: proxy, .. }) = setting else { return Ok(None) };
        match proxy {
            Some(proxy) if matches!(proxy.scheme(), "http" | "https") => Ok(Some(proxy)),
            other => {
                let scheme = other.as_ref().map(|url| url.scheme().to_owned()).unwrap_or_default();
                Err(ProxyError::Unsupported { variable, scheme })
            }
        }
    }

    /// The usable proxies, each once.
    pub(crate) fn all(&self) -> Vec<&Url> {
        let urls = [&self.http, &self.https].into_iter().flatten().filter_map(|setting| setting.url.as_ref());
        let mut all: Vec<&Url> = urls.filter(|url| matches!(url.scheme(), "http" | "https")).collect();
        all.dedup();
        all
    }

    /// Makes a client use these proxies and no others.
    pub(crate) fn apply(self, client: ClientBuilder) -> ClientBuilder {
        client.no_proxy().proxy(Proxy::custom(move |url| self.to(url).ok().flatten().cloned()))
    }

    /// Asks the proxy that leads to `url` for a tunnel, after one was not made, and returns why it refuses. `None` if that
    /// is not the reason.
    pub(crate) async fn refusal(&self, url: &Url) -> Option<ProxyError> {
        let proxy = match self.to(url) {
            Err(error) => return Some(error),
            // Others ask for no tunnel, or speak TLS with us first.
            Ok(proxy) => proxy.filter(|proxy| url.scheme() == "https" && proxy.scheme() == "http")?,
        };
        let status = tokio::time::timeout(PROBE, connect(proxy, &authority(url))).await.ok()??;
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
        self.bypassed.iter().any(|bypass| match bypass {
            Bypass::Everything => true,
            Bypass::Network { address: network, prefix, port: only } => {
                only.is_none_or(|only| port == Some(only))
                    && address.is_some_and(|address| is_within(address, *network, *prefix))
            }
            Bypass::Domain { below, itself, port: only } => {
                only.is_none_or(|only| port == Some(only))
                    && (host.ends_with(below.as_str()) || *itself && host == below[1..])
            }
        })
    }
}

/// A proxy's URL. Without a scheme it is an HTTP proxy's.
fn proxy_url(text: &str) -> Option<Url> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    Url::parse(&whole).ok().filter(Url::has_host)
}

/// One entry of `NO_PROXY`.
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
        Some(_) => Some(Bypass::Domain { below: host.to_owned(), itself: false, port }),
        None => Some(Bypass::Domain { below: format!(".{host}"), itself: true, port }),
    }
}

/// Whether an address is in a network: their first `prefix` bits are the same.
fn is_within(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    let bits = |address: IpAddr| match address.to_canonical() {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let ((one, length), (other, other_length)) = (bits(address), bits(network));
    let prefix = u32::from(prefix).min(length);
    length == other_length && (prefix == 0 || (one ^ other) >> (128 - prefix) == 0)
}

/// `HOST:PORT`
fn authority(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or(80);
    format!("{}:{port}", url.host_str().unwrap_or_default())
}

/// The status with which a proxy answers CONNECT.
async fn connect(proxy: &Url, host: &str) -> Option<u16> {
    let at = (proxy.host_str()?.trim_matches(['[', ']']), proxy.port_or_known_default()?);
    let mut stream = TcpStream::connect(at).await.ok()?;
    let mut request = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n");
    if !proxy.username().is_empty() {
        let login = format!("{}:{}", decoded(proxy.username()), decoded(proxy.password().unwrap_or_default()));
        request += &format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(login));
    }
    stream.write_all(format!("{request}\r\n").as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    // A status line has a few words.
    let mut start = stream.take(1024);
    while !answer.contains(&b'\n') {
        if start.read_buf(&mut answer).await.ok()? == 0 {
            break;
        }
    }
    let line = String::from_utf8_lossy(&answer);
    line.strip_prefix("HTTP/")?.split(' ').nth(1)?.get(..3)?.parse().ok()
}

/// A part of a URL without its percent-encoding.
fn decoded(text: &str) -> String {
    let Ok(mut url) = Url::parse("http://localhost") else { return text.to_owned() };
    url.set_query(Some(&text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D")));
    url.query_pairs().next().map(|(decoded, _)| decoded.into_owned()).unwrap_or_default()
}

impl ProxyError {
    /// Whether the proxy may give way a little later.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Refused { status: 429 | 500.., .. })
    }

    /// The error for people. `doing` says what was tried.
    pub(crate) fn explain(&self, doing: &str) -> Error {
        let (kind, advice) = match self {
            Self::Unsupported { .. } => {
                (Kind::Usage, Advice::new("Use an HTTP proxy, or exclude the host with NO_PROXY."))
            }
            Self::Refused { status: 407, .. } => (Kind::Permission, login()),
            Self::Refused { status: 403, .. } => (Kind::Permission, self.allow()),
            Self::Refused { status: 429 | 500.., .. } => (Kind::Unavailable, self.allow()),
            Self::Refused { .. } => (Kind::Refused, self.allow()),
        };
        Error::new(kind, doing).because(self.clone()).code(Code::ProxyFailed).hint(advice)
    }

    fn allow(&self) -> Advice {
        let host = match self {
            Self::Refused { host, .. } => host.rsplit_once(':').map_or(host.as_str(), |(host, _)| host),
            Self::Unsupported { .. } => "HOST",
        };
        Advice::new("Ask for the host to be allowed by the proxy, or reach it directly:")
            .command(format!("export NO_PROXY={host}"))
    }
}

/// How a proxy gets a login.
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

    /// The proxy to a URL with this list of exceptions.
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
    fn exceptions_are_read_as_go_reads_them() {
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
    fn other_proxies_are_errors_where_they_would_be_used() {
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
    fn an_error_shows_no_login_of_a_proxy() {
        let proxies = Proxies::of(&|name| (name == "ALL_PROXY").then(|| "socks5://bob:hunter2@p:1".into()));
        let error = proxies.to(&Url::parse("https://a.example/").unwrap()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
