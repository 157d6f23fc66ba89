//! The issuer that a certificate names: a parser for the part of DER that this takes (RFC 5280, 4.1).

use crate::error::one_line;

/// The maximum length of a name in characters.
const MAX_LENGTH: usize = 100;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const VERSION: u8 = 0xa0;
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const ORGANIZATION: &[u8] = &[0x55, 4, 10];

/// Returns the common name of the issuer, or its organization.
pub(super) fn name(certificate: &[u8]) -> Option<String> {
    let (_, certificate, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (_, mut rest, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    if let Some((VERSION, _, after)) = element(rest) {
        rest = after;
    }
    // The serial number and the signature algorithm precede it.
    let (_, _, rest) = element(rest)?;
    let (_, _, rest) = element(rest)?;
    let (_, issuer, _) = element(rest).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let value = value(issuer, COMMON_NAME).or_else(|| value(issuer, ORGANIZATION))?;
    Some(one_line(&String::from_utf8_lossy(value), MAX_LENGTH)).filter(|text| !text.is_empty())
}

/// Returns the value of an attribute of a name.
fn value<'a>(mut name: &'a [u8], attribute: &[u8]) -> Option<&'a [u8]> {
    while let Some((tag, set, rest)) = element(name) {
        name = rest;
        let pair = element(set).filter(|(inner, ..)| (tag, *inner) == (SET, SEQUENCE));
        let Some((_, pair, _)) = pair else { continue };
        if let Some((OID, oid, rest)) = element(pair)
            && oid == attribute
        {
            return element(rest).map(|(_, value, _)| value);
        }
    }
    None
}

/// Returns the tag and the content of the first element, and the bytes after it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let count = usize::from(first & 0x7f);
        let digits = rest.get(..count).filter(|_| (1..=4).contains(&count))?;
        length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
        rest = &rest[count..];
    }
    Some((tag, rest.get(..length)?, &rest[length..]))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn issued(names: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        names.iter().for_each(|(kind, name)| params.distinguished_name.push(kind.clone(), *name));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_name_is_the_common_name_or_the_organization() {
        let both = [(DnType::OrganizationName, "Zscaler Inc."), (DnType::CommonName, "Zscaler Root CA")];
        assert_eq!(name(&issued(&both)).as_deref(), Some("Zscaler Root CA"));
        assert_eq!(name(&issued(&both[..1])).as_deref(), Some("Zscaler Inc."));
        assert_eq!(name(&issued(&[])), None);
    }

    #[test]
    fn an_invalid_certificate_has_no_issuer_and_causes_no_panic() {
        let whole = issued(&[(DnType::CommonName, "x")]);
        for end in 0..whole.len() {
            assert_eq!(name(&whole[..end]), None, "cut after {end} bytes");
        }
        for at in 0..whole.len() {
            for byte in [0, 0x30, 0x7f, 0x80, 0x84, 0xff] {
                let mut broken = whole.clone();
                broken[at] = byte;
                let _any_result = name(&broken);
            }
        }
    }
}
