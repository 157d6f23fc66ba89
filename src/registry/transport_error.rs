//! Requests without a response: which failures are transient, and what to do about them.
//!
//! The reason is among the causes of a library's error, several layers down.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use super::resolver::{LinkLocal, Unresolved};
use crate::error::{Advice, Code, Error, Kind, find_cause, root_cause};
use crate::proxy::ProxyError;
use crate::tls::TlsProblem;

/// An error of any library.
type Cause = dyn StdError + 'static;

/// Returns the failure of TLS that a retry cannot fix, if it is one.
fn tls_problem(error: &Cause) -> Option<TlsProblem> {
    TlsProblem::find(error, find_cause::<reqwest::Error>(error).is_some_and(reqwest::Error::is_connect))
}

/// Returns whether the same request may succeed a little later.
pub(super) fn is_transient(error: &Cause) -> bool {
    if find_cause::<LinkLocal>(error).is_some() {
        return false;
    }
    find_cause::<ProxyError>(error).map_or_else(|| tls_problem(error).is_none(), ProxyError::is_transient)
}

/// Returns whether the peer closed the connection without a response.
pub(super) fn is_hang_up(error: &reqwest::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let is_closed =
        |io: &io::Error| matches!(io.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof);
    let is_incomplete = || find_cause::<hyper::Error>(error).is_some_and(hyper::Error::is_incomplete_message);
    !error.is_connect() && (find_cause::<io::Error>(error).is_some_and(is_closed) || is_incomplete())
}

/// Turns the failure of `doing` into an error with advice.
pub(super) fn explain(error: &Cause, registry: &str, doing: &str) -> Error {
    if let Some(proxy) = find_cause::<ProxyError>(error) {
        return proxy.explain(doing);
    }
    if let Some(forbidden) = find_cause::<LinkLocal>(error) {
        return Error::new(Kind::Refused, format!("{doing}: {registry} redirects to a metadata service"))
            .because(forbidden.to_string())
            .code(Code::ProtocolViolation)
            .hint("Ask the operator of the registry to correct its public URL.");
    }
    let registry = find_cause::<OtherService>(error).map_or(registry, |other| &other.name);
    if let Some(problem) = tls_problem(error) {
        let what = match problem {
            TlsProblem::NotTls => format!("{doing}: cannot connect to {registry} over HTTPS"),
            _ => format!("{doing}: the certificate of {registry} is not trusted"),
        };
        let error = Error::new(Kind::Refused, what).code(Code::TlsFailed).because(problem.clone());
        return error.hint(advice_on(&problem));
    }
    let failed = |is: fn(&reqwest::Error) -> bool| find_cause::<reqwest::Error>(error).is_some_and(is);
    let code = match () {
        () if failed(reqwest::Error::is_timeout) => Code::TimedOut,
        () if failed(reqwest::Error::is_connect) => Code::Unreachable,
        () => Code::ConnectionLost,
    };
    let advice = if find_cause::<Unresolved>(error).is_some() {
        "Check the spelling of the host and this machine's name servers (VPN, /etc/resolv.conf), then run the same \
         command again to resume."
            .into()
    } else if find_cause::<hyper::Error>(error).is_some_and(hyper::Error::is_parse) {
        // A server that speaks TLS responds to a request in plain HTTP.
        Advice::new("The server may speak TLS: give the certificate of its CA, and do not use plain HTTP")
            .setting_with("ca-file", "FILE")
    } else {
        "Check the host name, the port and the proxy settings, then run the same command again to resume.".into()
    };
    let explained = Error::new(Kind::Unavailable, format!("{doing}: no response from {registry}"))
        .code(code)
        .because(root_cause(error))
        .hint(advice);
    match find_cause::<Unanswered>(error) {
        Some(Unanswered { request, .. }) => explained.unanswered(request),
        None => explained,
    }
}

/// Advises on a failure of TLS.
fn advice_on(problem: &TlsProblem) -> Advice {
    match problem {
        TlsProblem::UntrustedIssuer(_) => {
            Advice::new("Trust the CA that issued it. A proxy that inspects TLS has its own")
                .setting_with("ca-file", "FILE")
        }
        TlsProblem::OutsideValidity(_) => {
            "Ask the operator of the registry to renew it, unless this machine's clock is wrong.".into()
        }
        TlsProblem::WrongName(_) => {
            "Use a host name that the certificate is valid for, or have one issued for this name.".into()
        }
        TlsProblem::CaCertificate => {
            Advice::new("Trust it, or issue a certificate for the server with basicConstraints=CA:FALSE")
                .setting_with("ca-file", "FILE")
        }
        TlsProblem::Rejected(_) => "Ask the operator of the registry to correct the certificate.".into(),
        TlsProblem::NotTls => Advice::new("Correct the port, or use plain HTTP, without a CA file").setting("insecure"),
    }
}

/// A request whose connection broke before the response.
#[derive(Debug)]
pub(super) struct Unanswered {
    /// `POST /v2/team/app/blobs/uploads/`
    pub(super) request: String,
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

/// A service other than the registry did not respond.
#[derive(Debug)]
pub(super) struct OtherService {
    /// Its name, for messages.
    pub(super) name: String,
    pub(super) source: Box<dyn StdError + Send + Sync>,
}

impl fmt::Display for OtherService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no response from {}", self.name)
    }
}

impl StdError for OtherService {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.source.as_ref())
    }
}

/// The time limit passed without a response.
#[derive(Debug)]
pub(super) struct TimedOut(pub(super) Duration);

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no response within {} s", self.0.as_secs())
    }
}

impl StdError for TimedOut {}

#[cfg(test)]
mod tests {
    use reqwest::dns::Resolve as _;

    use super::super::resolver::Resolver;
    use super::*;

    #[tokio::test]
    async fn a_link_local_storage_is_a_violation_of_the_protocol() {
        let instead = Some(("storage.invalid".into(), "169.254.169.254".into()));
        let resolver = Resolver { instead, chosen: Vec::new() };
        let error = resolver.resolve("storage.invalid".parse().unwrap()).await.err().unwrap();
        let error = explain(error.as_ref(), "registry", "cannot push");
        assert_eq!((error.kind(), error.stable_code()), (Kind::Refused, Code::ProtocolViolation));
    }
}
