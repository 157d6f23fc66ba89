//! The certificates that are trusted for HTTPS.

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
use super::problem::{UntrustedIssuer, is_ca_certificate};
use crate::error::{Advice, Error, Result};

/// Certificates that are trusted in addition to the machine's own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust(Vec<CertificateDer<'static>>);

impl Trust {
    /// Parses the certificates in a PEM text (RFC 7468). `name` is its origin, for messages. Ignores private keys, and text
    /// between certificates, as other parsers of PEM do.
    ///
    /// # Errors
    /// Fails if there is no certificate, and if one is invalid: the user could not see why a certificate that is skipped
    /// silently is not trusted.
    pub(crate) fn of_pem(name: &str, pem: &[u8]) -> Result<Self> {
        let (mut certificates, mut roots) = (Vec::new(), RootCertStore::empty());
        for (n, read) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let invalid = || {
                let error = Error::invalid(format!("certificate {} of {name} is invalid", n + 1));
                error.hint("Copy the file again, including the lines BEGIN CERTIFICATE and END CERTIFICATE.")
            };
            let der = read.map_err(|error| invalid().because(pem_error(&error)))?;
            roots.add(der.clone()).map_err(|error| invalid().because(error))?;
            certificates.push(der);
        }
        if certificates.is_empty() {
            return Err(Error::invalid(format!("{name} contains no PEM certificate")).hint(
                Advice::new("Expected text with BEGIN CERTIFICATE. Convert a DER file with:")
                    .command("openssl x509 -inform der -in FILE -out ca.pem"),
            ));
        }
        Ok(Self(certificates))
    }

    /// Builds the default TLS configuration of reqwest, but with these certificates added and with the name of the issuer in
    /// the error about an untrusted certificate.
    pub(crate) fn client_config(&self) -> Result<ClientConfig, TlsError> {
        let (own, provider) = (self.0.clone(), Arc::new(default_provider()));
        let issued = rustls_platform_verifier::Verifier::new_with_extra_roots(own.clone(), Arc::clone(&provider))?;
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let verifier = Arc::new(Verifier { issued: Arc::new(issued), own });
        Ok(config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
    }
}

/// Trusts certificates that the machine's CAs or these certificates have issued, and a server that presents one of these
/// certificates.
///
/// `openssl req -x509` creates a certificate that is both a CA's and a server's. OpenSSL and Go accept such a server once
/// its certificate is trusted; webpki does not (briansmith/webpki#114, rustls/webpki#205).
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
            Err(TlsError::InvalidCertificate(why)) if is_ca_certificate(&why) && self.own.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            Err(TlsError::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                let issuer = Arc::new(UntrustedIssuer(issuer::name(intermediates.last().unwrap_or(end_entity))));
                Err(TlsError::InvalidCertificate(CertificateError::Other(OtherError(issuer))))
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

/// Describes an invalid PEM text without printing its bytes.
fn pem_error(error: &PemError) -> String {
    match error {
        PemError::MissingSectionEnd { .. } => "the line END CERTIFICATE is missing".into(),
        PemError::IllegalSectionStart { line } => {
            format!("unexpected line {:?}", String::from_utf8_lossy(&line[..line.len().min(60)]).trim())
        }
        PemError::Base64Decode(_) => "its content is not valid base64".into(),
        other => other.to_string(),
    }
}
