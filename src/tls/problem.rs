//! Why a TLS handshake failed.

use std::error::Error as StdError;
use std::fmt;
use std::time::{Duration, SystemTime};

use rustls::{CertificateError, InvalidMessage, OtherError};

use crate::error::find_cause;

/// A failure of TLS that a retry cannot fix.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum TlsProblem {
    /// Neither the machine nor the user trusts the issuer. With its name, if that can be parsed.
    UntrustedIssuer(Option<String>),
    /// The certificate has expired or is not valid yet. With the message.
    OutsideValidity(String),
    /// The certificate is for another host name. With the message of rustls, which contains both names.
    WrongName(String),
    /// The server presents a CA certificate.
    CaCertificate,
    /// The certificate is rejected for any other reason. With the message of rustls.
    Rejected(String),
    /// The peer does not speak TLS.
    NotTls,
}

impl TlsProblem {
    /// Finds the problem among the causes of an error. `in_handshake` states that the connection was never established:
    /// invalid data in an established connection may be a transmission error, which a retry can fix.
    pub(crate) fn find(error: &(dyn StdError + 'static), in_handshake: bool) -> Option<Self> {
        if let Some(known) = find_cause::<Self>(error) {
            return Some(known.clone());
        }
        match find_cause::<rustls::Error>(error)? {
            rustls::Error::InvalidCertificate(why) => Some(Self::of_certificate(why)),
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) if in_handshake => Some(Self::NotTls),
            _ => None,
        }
    }

    fn of_certificate(why: &CertificateError) -> Self {
        use CertificateError as C;
        let at = |seconds: u64| httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        match why {
            // A signature is invalid if another CA has the same name.
            C::UnknownIssuer | C::BadSignature => Self::UntrustedIssuer(None),
            C::ExpiredContext { not_after, .. } => {
                Self::OutsideValidity(format!("it expired on {}", at(not_after.as_secs())))
            }
            C::NotValidYetContext { not_before, .. } => {
                Self::OutsideValidity(format!("it is not valid before {}", at(not_before.as_secs())))
            }
            C::NotValidForName | C::NotValidForNameContext { .. } => Self::WrongName(why.to_string()),
            why if is_ca_certificate(why) => Self::CaCertificate,
            C::Other(OtherError(other)) => match other.downcast_ref() {
                Some(UntrustedIssuer(name)) => Self::UntrustedIssuer(name.clone()),
                None => Self::Rejected(why.to_string()),
            },
            other => Self::Rejected(other.to_string()),
        }
    }
}

impl fmt::Display for TlsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UntrustedIssuer(name) => UntrustedIssuer(name.clone()).fmt(f),
            Self::OutsideValidity(message) | Self::WrongName(message) | Self::Rejected(message) => f.write_str(message),
            Self::CaCertificate => {
                f.write_str("it is a CA certificate, which is accepted from a server only if it is trusted itself")
            }
            Self::NotTls => f.write_str("the server does not speak TLS on this port"),
        }
    }
}

impl StdError for TlsProblem {}

/// Returns whether webpki rejects a server's certificate for being a CA's. It checks that after the validity period
/// (rustls/webpki, `check_issuer_independent_properties`).
pub(super) fn is_ca_certificate(error: &CertificateError) -> bool {
    let CertificateError::Other(OtherError(other)) = error else { return false };
    matches!(other.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// An issuer that is not trusted, with its name, if that can be parsed.
#[derive(Debug)]
pub(super) struct UntrustedIssuer(pub(super) Option<String>);

impl fmt::Display for UntrustedIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(name) => write!(f, "its issuer {name:?} is not trusted"),
            None => f.write_str("its issuer is not trusted"),
        }
    }
}

impl StdError for UntrustedIssuer {}
