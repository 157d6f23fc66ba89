//! Names of things: digests, hosts, repositories, tags. Parsed once at the border, never strings again.
//!
//! The rules are those of the OCI distribution specification and of Amazon ECR where ECR is stricter. Who a host
//! belongs to is decided here and nowhere else, because that decides who gets AWS credentials.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

use crate::error::{Error, Result};

/// Defines a SHA-256 value with a meaning of its own.
macro_rules! sha256_value {
    ($(#[$doc:meta])* $name:ident, $word:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Takes over a hash that was just computed.
            pub fn from_hash(hash: [u8; 32]) -> Self {
                Self(hash)
            }

            /// The bare hash.
            pub fn hash(&self) -> [u8; 32] {
                self.0
            }

            /// Hashes bytes that are small enough to be in memory.
            pub fn of(bytes: &[u8]) -> Self {
                Self(sha2::Sha256::digest(bytes).into())
            }

            /// The 64 lower-case hex digits, without `sha256:`.
            pub fn hex(&self) -> String {
                hex(&self.0)
            }

            /// `sha256:` and the first twelve digits, for people.
            pub fn short(&self) -> String {
                format!("sha256:{}", &self.hex()[..12])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "sha256:{}", self.hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                parse_sha256(text)
                    .map(Self)
                    .ok_or_else(|| Error::input(format!(concat!("{:?} is not a ", $word), shorten(text)))
                        .hint("Only sha256: and 64 lower-case hex digits are understood."))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

sha256_value! {
    /// SHA-256 of bytes that a registry stores: a packed layer, a config, a manifest.
    Digest, "digest"
}

sha256_value! {
    /// SHA-256 of a layer's uncompressed tar, as the image config lists it.
    DiffId, "diff_id"
}

impl DiffId {
    /// The digest of the layer when it is stored plain: the same bytes, so the same hash.
    pub fn as_plain_digest(&self) -> Digest {
        Digest(self.0)
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.map(|nibble| char::from(DIGITS[usize::from(nibble)])).collect()
}

fn parse_sha256(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("sha256:")?.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(hash)
}

/// Text from outside, short enough for a sentence.
fn shorten(text: &str) -> String {
    if text.chars().count() <= 80 { text.to_owned() } else { text.chars().take(77).chain("...".chars()).collect() }
}

/// A registry host, with whose it is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Host {
    name: String,
    owner: Owner,
}

/// Whose registry a host is. Only the ECR variants ever see AWS credentials.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Owner {
    /// A private registry of Amazon ECR.
    Ecr(EcrHost),
    /// Somebody else's, or a name that only looks like ECR's.
    Other,
}

/// What the name of a private ECR host says.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct EcrHost {
    /// The twelve digits of the account that owns the registry.
    pub account: String,
    /// The region code.
    pub region: String,
    /// FIPS endpoint.
    pub fips: bool,
    /// Dual-stack (IPv4 and IPv6) endpoint.
    pub dual_stack: bool,
}

impl EcrHost {
    /// The AWS partition, which the region's prefix names. Regions that open tomorrow are commercial ones.
    pub fn partition(&self) -> &'static str {
        let partitions = [
            ("cn-", "aws-cn"),
            ("eu-isoe-", "aws-iso-e"),
            ("eusc-", "aws-eusc"),
            ("us-gov-", "aws-us-gov"),
            ("us-iso-", "aws-iso"),
            ("us-isob-", "aws-iso-b"),
            ("us-isof-", "aws-iso-f"),
        ];
        let of_region = partitions.iter().find(|(prefix, _)| self.region.starts_with(prefix));
        of_region.map_or("aws", |(_, partition)| partition)
    }

    /// The ARN of a repository in this registry.
    pub fn arn(&self, repository: &Repository) -> String {
        format!("arn:{}:ecr:{}:{}:repository/{repository}", self.partition(), self.region, self.account)
    }
}

/// The DNS suffixes under which ECR's registries live, with whether the name is a dual-stack one, taken from AWS's own
/// credential helper (awslabs/amazon-ecr-credential-helper, `ecr-login/api/client.go`).
const ECR_SUFFIXES: [(&str, bool); 8] = [
    ("amazonaws.com", false),
    ("amazonaws.com.cn", false),
    ("amazonaws.eu", false),
    ("on.aws", true),
    ("on.amazonwebservices.com.cn", true),
    ("sc2s.sgov.gov", false),
    ("c2s.ic.gov", false),
    ("cloud.adc-e.uk", false),
];
const ECR_SUFFIX_ISO_F: (&str, bool) = ("csp.hci.ic.gov", false);

impl Host {
    /// The host of `account`'s private registry.
    ///
    /// The suffix follows the region's partition.
    pub fn of_ecr(ecr: EcrHost) -> Self {
        let EcrHost { account, region, fips, dual_stack } = &ecr;
        let suffix = match (ecr.partition(), dual_stack) {
            ("aws-cn", true) => "on.amazonwebservices.com.cn",
            (_, true) => "on.aws",
            ("aws-cn", false) => "amazonaws.com.cn",
            ("aws-eusc", false) => "amazonaws.eu",
            ("aws-iso", false) => "c2s.ic.gov",
            ("aws-iso-b", false) => "sc2s.sgov.gov",
            ("aws-iso-e", false) => "cloud.adc-e.uk",
            ("aws-iso-f", false) => "csp.hci.ic.gov",
            (_, false) => "amazonaws.com",
        };
        let service = match (dual_stack, fips) {
            (false, false) => "dkr.ecr",
            (false, true) => "dkr.ecr-fips",
            (true, false) => "dkr-ecr",
            (true, true) => "dkr-ecr-fips",
        };
        Self { name: format!("{account}.{service}.{region}.{suffix}"), owner: Owner::Ecr(ecr) }
    }

    /// The host as it stands in a reference, with its port where one was given.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// What the name says, if it is a private ECR registry's.
    pub fn ecr(&self) -> Option<&EcrHost> {
        match &self.owner {
            Owner::Ecr(ecr) => Some(ecr),
            Owner::Other => None,
        }
    }

    /// Whether the host can only be this machine.
    pub fn is_loopback(&self) -> bool {
        let bare = self.without_port();
        bare == "localhost" || bare.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// The host without its port.
    pub fn without_port(&self) -> &str {
        if self.name.starts_with('[') {
            return self.name.split_inclusive(']').next().unwrap_or(&self.name);
        }
        self.name.split(':').next().unwrap_or(&self.name)
    }
}

impl FromStr for Host {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let name = text.to_ascii_lowercase();
        let refuse = |why: &str| Err(Error::usage(format!("{:?} is not a registry host: {why}", shorten(text))));
        let (bare, port) = match name.rsplit_once(':') {
            Some((bare, port)) if !port.contains(']') => (bare, Some(port)),
            _ => (name.as_str(), None),
        };
        if port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0)) {
            return refuse("the port must be a number from 1 to 65535");
        }
        let is_ipv6 = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let well_formed = match is_ipv6 {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => bare.split('.').all(|label| {
                !label.is_empty()
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            }),
        };
        if !well_formed || bare.len() > 253 {
            return refuse("a host is labels of letters, digits and hyphens joined by dots");
        }
        // `:443` changes nothing for https, and docker strips it too when it looks for credentials.
        let ecr = parse_ecr_host(name.strip_suffix(":443").unwrap_or(&name));
        Ok(match ecr {
            Some(ecr) => Self { name: name.trim_end_matches(":443").to_owned(), owner: Owner::Ecr(ecr) },
            None => Self { name, owner: Owner::Other },
        })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Reads `ACCOUNT.dkr.ecr.REGION.SUFFIX` in all its forms, anchored at both ends, so that
/// `ACCOUNT.dkr.ecr.us-east-1.amazonaws.com.example.org` is nobody we know.
fn parse_ecr_host(name: &str) -> Option<EcrHost> {
    let (account, rest) = name.split_once('.')?;
    if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let service = ["dkr.ecr.", "dkr-ecr.", "dkr.ecr-fips.", "dkr-ecr-fips."];
    let (service, rest) = service.iter().find_map(|service| Some((*service, rest.strip_prefix(service)?)))?;
    let (region, suffix) = rest.split_once('.')?;
    let dual_stack = service.starts_with("dkr-ecr");
    let known = ECR_SUFFIXES.iter().chain([&ECR_SUFFIX_ISO_F]);
    let fits = known.into_iter().any(|&(known, dual)| known == suffix && dual == dual_stack);
    if !fits || !is_region(region) {
        return None;
    }
    Some(EcrHost { account: account.into(), region: region.into(), fips: service.ends_with("-fips."), dual_stack })
}

/// Whether the text can be a region code. There is no list: regions open faster than programs are released.
pub fn is_region(text: &str) -> bool {
    let starts_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    starts_well
        && text.contains('-')
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Whether an address belongs to nobody in particular: link-local ones lead to cloud metadata services.
pub fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4 == Ipv4Addr::UNSPECIFIED,
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local()
                || v6.is_unspecified()
                // EKS Pod Identity and EC2's metadata service over IPv6.
                || v6.segments()[0] == 0xfd00
                || v6.to_ipv4_mapped().is_some_and(|v4| v4.is_link_local())
        }
    }
}

/// Whether an address is reachable only from inside some network.
pub fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback(),
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unique_local()
                || v6.to_ipv4_mapped().is_some_and(|v4| v4.is_private() || v4.is_loopback())
        }
    }
}

/// A repository's name inside a registry: `team/app`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Repository(String);

impl Repository {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Repository {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: String| {
            Err(Error::usage(format!("{:?} is not a repository name: {why}", shorten(text))).hint(
                "A name is 2 to 255 characters: parts joined by '/', each of lower-case letters and digits, \
                 separated inside by '.', '_', '__' or hyphens.",
            ))
        };
        if let Some(upper) = text.chars().find(char::is_ascii_uppercase) {
            return refuse(format!("it has the upper-case letter {upper:?}"));
        }
        if text.is_empty() || text.len() > 255 {
            return refuse(format!("it has {} characters", text.len()));
        }
        if !text.split('/').all(is_path_component) {
            return refuse("a part of it breaks the rule".into());
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, the rule of the OCI distribution specification ("Pulling manifests") and of ECR.
fn is_path_component(part: &str) -> bool {
    let mut rest = part;
    loop {
        let word = rest.bytes().take_while(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()).count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        if rest.is_empty() {
            return true;
        }
        let separator = rest.bytes().take_while(|byte| matches!(byte, b'.' | b'_' | b'-')).count();
        match &rest[..separator] {
            "." | "_" | "__" => {}
            hyphens if !hyphens.is_empty() && hyphens.bytes().all(|byte| byte == b'-') => {}
            _ => return false,
        }
        rest = &rest[separator..];
    }
}

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Tag(String);

impl Tag {
    /// The tag that is meant where none is given.
    pub fn latest() -> Self {
        Self("latest".into())
    }

    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let starts_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if !starts_well || text.len() > 128 || !text.bytes().all(allowed) {
            return Err(Error::usage(format!("{:?} is not a tag", shorten(text)))
                .hint("A tag is 1 to 128 letters, digits, '_', '.' and '-', and starts with neither '.' nor '-'."));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where an image is to go: `[HOST/]REPOSITORY[:TAG]`, as typed.
///
/// Without a host it is the caller's own ECR registry, whose account only AWS can tell.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// The registry, if the target names one.
    pub host: Option<Host>,
    /// The repository.
    pub repository: Repository,
    /// The tag, if the target names one.
    pub tag: Option<Tag>,
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some((scheme, rest)) = text.split_once("://") {
            return Err(Error::usage(format!("the target {:?} starts with {scheme}://", shorten(text)))
                .hint(format!("Leave it out: {}", shorten(rest))));
        }
        if text.contains('@') {
            return Err(Error::usage(format!("the target {:?} has a digest", shorten(text)))
                .hint("A target names a place, HOST/REPOSITORY:TAG; the digest follows from what is pushed there."));
        }
        let (host, rest) = match text.split_once('/') {
            Some((first, rest)) if is_host(first) => (Some(first.parse()?), rest),
            _ => (None, text),
        };
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag.parse()?)),
            None => (rest, None),
        };
        Ok(Self { host, repository: repository.parse()?, tag })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host) = &self.host {
            write!(f, "{host}/")?;
        }
        write!(f, "{}", self.repository)?;
        self.tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))
    }
}

/// Docker's rule: the first component is a host if it has a `.` or `:` or is `localhost`.
fn is_host(component: &str) -> bool {
    component.contains(['.', ':']) || component == "localhost"
}

#[cfg(test)]
mod tests;
