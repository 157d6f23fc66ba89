//! Whom to trust over https beside those whom the machine trusts.

use reqwest::Certificate;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};

use crate::error::{Error, Result};

/// Certificates that are trusted beside the machine's own.
#[derive(Clone, Debug, Default)]
pub struct Trust(Vec<Certificate>);

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
            let der = read.map_err(|error| Error::usage(which()).because(flaw(&error)).hint(hint))?;
            // reqwest looks into none of them before the first connection.
            roots.add(der.clone()).map_err(|error| Error::usage(which()).because(error).hint(hint))?;
            let certificate = Certificate::from_der(&der);
            certificates.push(certificate.map_err(|error| Error::usage(which()).because(error).hint(hint))?);
        }
        if certificates.is_empty() {
            return Err(Error::usage(format!("{name} holds no certificate in PEM")).hint(
                "It takes text with BEGIN CERTIFICATE in it. To make that from DER: \
                 openssl x509 -inform der -in FILE -out ca.pem",
            ));
        }
        Ok(Self(certificates))
    }

    pub(super) fn certificates(&self) -> Vec<Certificate> {
        self.0.clone()
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
