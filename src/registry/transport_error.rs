//! Why no answer came: what another try cannot cure, and what to do about it.
//!
//! The libraries say it in the causes of their errors, several layers down.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::{Duration, SystemTime};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::{CertificateError, InvalidMessage};

use super::transport::CONNECT;
use super::trust::{UntrustedIssuer, is_of_a_ca, stranger};
use crate::error::{Code, Error, Kind, root_cause};
use crate::oci::is_link_local;
use crate::proxy::ProxyError;

/// An error of some library.
type Cause = dyn StdError + 'static;

/// What makes another try useless.
enum Verdict<'a> {
    /// The certificate is not trusted. It will be the same one the next time.
    Distrusted(&'a CertificateError),
    /// The answer to the first message of the handshake was no TLS.
    NoTls,
}

impl<'a> Verdict<'a> {
    fn on(silence: &'a Cause) -> Option<Self> {
        // What comes in the middle of a connection is the line's fault, and another connection may cure it.
        let in_handshake = find::<reqwest::Error>(silence).is_some_and(reqwest::Error::is_connect);
        match find::<rustls::Error>(silence)? {
            rustls::Error::InvalidCertificate(why) => Some(Self::Distrusted(why)),
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) if in_handshake => Some(Self::NoTls),
            _ => None,
        }
    }
}

/// Whether the same request may well be answered a little later.
pub(super) fn is_transient(silence: &Cause) -> bool {
    if find::<LinkLocal>(silence).is_some() {
        return false;
    }
    find::<ProxyError>(silence).map_or_else(|| Verdict::on(silence).is_none(), ProxyError::is_transient)
}

/// Whether whoever was asked closed the connection instead of an answer.
pub(super) fn is_hang_up(silence: &reqwest::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let is_closed =
        |io: &io::Error| matches!(io.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof);
    let is_incomplete = || find::<hyper::Error>(silence).is_some_and(hyper::Error::is_incomplete_message);
    !silence.is_connect() && (find::<io::Error>(silence).is_some_and(is_closed) || is_incomplete())
}

/// The error for people.
pub(super) fn explain(silence: &Cause, registry: &str, doing: &str) -> Error {
    if let Some(proxy) = find::<ProxyError>(silence) {
        return proxy.explain(doing);
    }
    if let Some(forbidden) = find::<LinkLocal>(silence) {
        let error = Error::new(Kind::Refused, format!("{doing}: {registry} sends us to a metadata service"));
        let error = error.because(forbidden.to_string()).code(Code::ProtocolViolation);
        return error.hint("Ask whoever runs the registry to correct its public URL.");
    }
    let registry = find::<Elsewhere>(silence).map_or(registry, |elsewhere| &elsewhere.name);
    let refused = |what: String| Error::new(Kind::Refused, format!("{doing}: {what}"));
    match Verdict::on(silence) {
        Some(Verdict::Distrusted(why)) => {
            let (why, cure) = distrust(why);
            refused(format!("the certificate of {registry} is not trusted"))
                .code(Code::TlsFailed)
                .because(why).hint(cure)
        }
        Some(Verdict::NoTls) => refused(format!("{registry} does not speak TLS there, but is asked over https")).code(Code::TlsFailed).hint(
            "For plain http leave --ca-file out, and give --insecure unless it is this machine; or correct the port.",
        ),
        None => {
            let why = root_cause(silence);
            let cure = if find::<Unresolved>(silence).is_some() {
                "Check the spelling of the host and the name servers of this machine (VPN, /etc/resolv.conf)"
            } else if find::<hyper::Error>(silence).is_some_and(hyper::Error::is_parse) {
                // The answer of a server that speaks TLS to a request in plain http.
                "If it speaks TLS, name the certificate of its CA with --ca-file FILE, and leave --insecure out"
            } else {
                "Check the host name, the port and the proxy settings"
            };
            let error = Error::new(Kind::Unavailable, format!("{doing}: no answer from {registry}"));
            let failed = |is: fn(&reqwest::Error) -> bool| find::<reqwest::Error>(silence).is_some_and(is);
            let code = match () {
                () if failed(reqwest::Error::is_timeout) => Code::TimedOut,
                () if failed(reqwest::Error::is_connect) => Code::Unreachable,
                () => Code::ConnectionLost,
            };
            let error = error.code(code).because(why).hint(format!("{cure}; run the same command again to carry on."));
            match find::<Unanswered>(silence) {
                Some(Unanswered { asked, .. }) => error.unanswered(asked),
                None => error,
            }
        }
    }
}

/// What is wrong with a certificate, and the cure.
fn distrust(why: &CertificateError) -> (String, &'static str) {
    use CertificateError as C;
    let at = |seconds: u64| httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    let clock = "Whoever runs the registry has to renew it, unless this machine's clock is wrong.";
    let name =
        "Name the certificate of the CA that issued it with --ca-file FILE. A proxy that looks into TLS has its own.";
    if let Some(stranger) = stranger(why) {
        return (stranger.to_string(), name);
    }
    match why {
        // A signature that does not fit is that of another CA of the same name.
        C::UnknownIssuer | C::BadSignature => (UntrustedIssuer(None).to_string(), name),
        C::ExpiredContext { not_after, .. } => (format!("it expired on {}", at(not_after.as_secs())), clock),
        C::NotValidYetContext { not_before, .. } => {
            (format!("it is not valid yet, but from {}", at(not_before.as_secs())), clock)
        }
        C::NotValidForName | C::NotValidForNameContext { .. } => (
            why.to_string(),
            "Reach the registry by a name that the certificate is for, or have one issued for this name.",
        ),
        why if is_of_a_ca(why) => (
            "it is one of a CA, which is trusted for a server's only if it is in --ca-file itself".into(),
            "Give it with --ca-file FILE, or issue one for the server, with basicConstraints=CA:FALSE.",
        ),
        other => (other.to_string(), "Whoever runs the registry has to correct it."),
    }
}

/// The first cause of a type. `io::Error` hides the one that it is made of.
fn find<T: StdError + 'static>(error: &Cause) -> Option<&T> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        next = match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(hidden) => Some(hidden),
            None => cause.source(),
        };
    }
    None
}

/// A request to which the connection broke before an answer came.
#[derive(Debug)]
pub(super) struct Unanswered {
    /// `POST /v2/team/app/blobs/uploads/`
    pub(super) asked: String,
    pub(super) why: reqwest::Error,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

impl StdError for Unanswered {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.why)
    }
}

/// Silence of somebody else than the registry.
#[derive(Debug)]
pub(super) struct Elsewhere {
    /// Who it is, for people.
    pub(super) name: String,
    pub(super) source: Box<dyn StdError + Send + Sync>,
}

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer from {}", self.name)
    }
}

impl StdError for Elsewhere {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.source.as_ref())
    }
}

/// No answer within this time.
#[derive(Debug)]
pub(super) struct Late(pub(super) Duration);

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer within {} s", self.0.as_secs())
    }
}

impl StdError for Late {}

/// A name without an address.
#[derive(Debug)]
struct Unresolved {
    name: String,
    why: String,
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name {} cannot be resolved: {}", self.name, self.why)
    }
}

impl StdError for Unresolved {}

/// A name that a registry sends us to and that leads to a link-local address, as those of metadata services are.
#[derive(Debug)]
struct LinkLocal {
    name: String,
}

impl fmt::Display for LinkLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name {} leads to a link-local address, which belongs to a metadata service", self.name)
    }
}

impl StdError for LinkLocal {}

/// Asks the machine for addresses, as reqwest does by itself, and says of which name there are none: the registry's, its
/// storage's or the proxy's.
pub(super) struct Resolver {
    /// A name, and another one that is asked for instead.
    pub(super) instead: Option<(String, String)>,
    /// Names that the user chose, which may lead anywhere. All others lead to no link-local address.
    pub(super) chosen: Vec<String>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let instead = self.instead.as_ref().filter(|(of, _)| of == name.as_str()).map(|(_, instead)| instead.clone());
        let is_chosen = self.chosen.iter().any(|chosen| chosen == name.as_str());
        let name = instead.unwrap_or_else(|| name.as_str().to_owned());
        Box::pin(async move {
            // Just before the time for the connection ends, which knows no names.
            let asked = tokio::time::timeout(CONNECT * 9 / 10, tokio::net::lookup_host((name.as_str(), 0))).await;
            let why = match asked {
                Ok(Ok(found)) => {
                    let found: Vec<_> = found.collect();
                    if !is_chosen && found.iter().any(|address| is_link_local(address.ip())) {
                        return Err(LinkLocal { name: name.clone() }.into());
                    }
                    return Ok(Box::new(found.into_iter()) as Addrs);
                }
                Ok(Err(error)) => error.to_string().replace("failed to lookup address information: ", ""),
                Err(_) => "no name server answers".into(),
            };
            Err(Unresolved { name: name.clone(), why }.into())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_may_lead_where_another_does_and_others_do_not() {
        let instead = Some(("registry.invalid".into(), "127.0.0.1".into()));
        let names = Resolver { instead, chosen: vec!["chosen.invalid".into()] };
        let found = names.resolve("registry.invalid".parse().unwrap()).await.unwrap().next();
        assert!(found.is_some_and(|address| address.ip().is_loopback()));
        let error = names.resolve("storage.invalid".parse().unwrap()).await.err().unwrap();
        assert!(error.to_string().contains("storage.invalid"), "{error}");
    }

    #[tokio::test]
    async fn a_name_that_nobody_chose_leads_to_no_metadata_service() {
        for (address, is_chosen, leads) in [
            ("127.0.0.1", false, true),
            ("169.254.169.254", false, false),
            ("::ffff:0.0.0.0", false, false),
            ("169.254.169.254", true, true),
        ] {
            let name = "storage.invalid";
            let chosen = if is_chosen { vec![name.to_owned()] } else { Vec::new() };
            let names = Resolver { instead: Some((name.into(), address.into())), chosen };
            let found = names.resolve(name.parse().unwrap()).await;
            assert_eq!(found.is_ok(), leads, "{address}");
            let Err(error) = found else { continue };
            let error = explain(error.as_ref(), "registry", "cannot push");
            assert_eq!((error.kind(), error.stable_code()), (Kind::Refused, Code::ProtocolViolation));
        }
    }
}
