//! Whom to trust over https beside those whom the machine trusts.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, OtherError, RootCertStore,
    SignatureScheme,
};

use super::issuer;
use crate::error::{Code, Error, Result};

/// Certificates that are trusted beside the machine's own.
#[derive(Clone, Debug, Default)]
pub struct Trust(Vec<CertificateDer<'static>>);

impl Trust {
    /// Reads the certificates of a PEM text (RFC 7468), of which `name` says where it is from. Text between them, and
    /// keys, are passed over, as everybody does.
    ///
    /// # Errors
    /// If there is none, or if one cannot be used. None is left out in silence: nobody would know why it is not trusted.
    pub fn of_pem(name: &str, pem: &[u8]) -> Result<Self> {
        let (mut certificates, mut roots) = (Vec::new(), RootCertStore::empty());
        for (n, read) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let which = || format!("certificate {} of {name} is broken", n + 1);
            let hint = "Copy the file again, from the line BEGIN CERTIFICATE to the line END CERTIFICATE.";
            let der =
                read.map_err(|error| Error::usage(which()).code(Code::ValueInvalid).because(flaw(&error)).hint(hint))?;
            roots
                .add(der.clone())
                .map_err(|error| Error::usage(which()).code(Code::ValueInvalid).because(error).hint(hint))?;
            certificates.push(der);
        }
        if certificates.is_empty() {
            return Err(Error::usage(format!("{name} holds no certificate in PEM")).code(Code::ValueInvalid).hint(
                "It takes text with BEGIN CERTIFICATE in it. To make that from DER: \
                 openssl x509 -inform der -in FILE -out ca.pem",
            ));
        }
        Ok(Self(certificates))
    }

    /// TLS as reqwest makes it by itself, with these certificates, and with a word about who issued one that is not trusted.
    pub(super) fn tls(&self) -> Result<ClientConfig, TlsError> {
        let (own, provider) = (self.0.clone(), Arc::new(default_provider()));
        let issued = rustls_platform_verifier::Verifier::new_with_extra_roots(own.clone(), Arc::clone(&provider))?;
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let verifier = Arc::new(Verifier { issued: Arc::new(issued), own });
        Ok(config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
    }
}

/// Whether an error is what webpki says of a server's certificate that may be a CA's as well, once that is valid by
/// the clock (rustls/webpki, `check_issuer_independent_properties`).
pub(super) fn is_of_a_ca(error: &CertificateError) -> bool {
    let CertificateError::Other(OtherError(other)) = error else { return false };
    matches!(other.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// An issuer whom nobody vouches for: its name, if it can be read.
#[derive(Debug)]
pub(super) struct UntrustedIssuer(pub(super) Option<String>);

impl fmt::Display for UntrustedIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(name) => write!(f, "it was issued by {name:?}, for whom neither this machine nor --ca-file vouches"),
            None => f.write_str("it was issued by nobody whom this machine or --ca-file vouches for"),
        }
    }
}

impl StdError for UntrustedIssuer {}

/// Whoever issued a certificate that nobody vouches for.
pub(super) fn stranger(error: &CertificateError) -> Option<&UntrustedIssuer> {
    match error {
        CertificateError::Other(OtherError(other)) => other.downcast_ref(),
        _ => None,
    }
}

/// Trusts what the machine and these certificates vouch for; and these themselves where servers show them.
///
/// `openssl req -x509` makes certificates that are a CA's and a server's in one, and OpenSSL and Go trust a server with
/// one that they were told to trust. webpki does not (briansmith/webpki#114, rustls/webpki#205).
#[derive(Debug)]
struct Verifier {
    issued: Arc<dyn ServerCertVerifier>,
    own: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        match self.issued.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(TlsError::InvalidCertificate(why)) if is_of_a_ca(&why) && self.own.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            Err(TlsError::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                let stranger = Arc::new(UntrustedIssuer(issuer::name(intermediates.last().unwrap_or(end_entity))));
                Err(TlsError::InvalidCertificate(CertificateError::Other(OtherError(stranger))))
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.issued.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.issued.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.issued.supported_verify_schemes()
    }
}

/// What is wrong with a PEM text, without its bytes as numbers.
fn flaw(error: &PemError) -> String {
    match error {
        PemError::MissingSectionEnd { .. } => "the line END CERTIFICATE is missing".into(),
        PemError::IllegalSectionStart { line } => {
            format!("the line {:?} makes no sense", String::from_utf8_lossy(&line[..line.len().min(60)]).trim())
        }
        PemError::Base64Decode(_) => "what stands between its first and last line is no base64".into(),
        other => other.to_string(),
    }
}
