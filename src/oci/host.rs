//! Registry hosts: whose they are, how ECR's are named, and which addresses may be followed.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::Repository;
use super::quote::shorten;
use crate::error::{Code, Error, Result};

/// A registry host, with whose it is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Host {
    name: String,
    owner: Owner,
    /// Another name to connect to, which leads to the same registry.
    via: Option<String>,
}

/// Whose registry a host is. Only the ECR variants ever see AWS credentials.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Owner {
    /// A private registry of Amazon ECR.
    Ecr(EcrHost),
    /// An interface VPC endpoint of ECR's, which leads to every registry of its region
    /// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html>).
    EcrEndpoint {
        /// The region code.
        region: String,
    },
    /// Amazon ECR Public.
    EcrPublic,
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

/// The hosts of ECR Public, of which the second is dual-stack, from the same source.
const ECR_PUBLIC: [&str; 2] = ["public.ecr.aws", "ecr-public.aws.com"];

impl Host {
    /// The host of `account`'s private registry.
    ///
    /// The suffix follows the region's partition.
    pub fn from_ecr(ecr: EcrHost) -> Self {
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
        Self { name: format!("{account}.{service}.{region}.{suffix}"), owner: Owner::Ecr(ecr), via: None }
    }

    /// The registry of `account` that a VPC endpoint leads to, under its own name: that is what its certificates and what
    /// is pulled later go by. `None` if this is no VPC endpoint of ECR's.
    pub fn via_vpc_endpoint(&self, account: &str) -> Option<Self> {
        let Owner::EcrEndpoint { region } = &self.owner else { return None };
        let ecr = EcrHost { account: account.into(), region: region.clone(), fips: false, dual_stack: false };
        Some(Self { via: Some(self.without_port().to_owned()), ..Self::from_ecr(ecr) })
    }

    /// Whether it is a VPC endpoint of ECR's, so that nobody knows yet whose registry is meant.
    pub fn is_vpc_endpoint(&self) -> bool {
        matches!(self.owner, Owner::EcrEndpoint { .. })
    }

    /// The name to connect to instead of its own.
    pub fn via(&self) -> Option<&str> {
        self.via.as_deref()
    }

    /// The host as it stands in a reference, with its port where one was given.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// What the name says, if it is a private ECR registry's.
    pub fn ecr(&self) -> Option<&EcrHost> {
        match &self.owner {
            Owner::Ecr(ecr) => Some(ecr),
            Owner::EcrEndpoint { .. } | Owner::EcrPublic | Owner::Other => None,
        }
    }

    /// Whether it is Amazon ECR Public.
    pub fn is_ecr_public(&self) -> bool {
        self.owner == Owner::EcrPublic
    }

    /// Whether it is Amazon's, private or public: only those ever see AWS credentials.
    pub fn is_amazon(&self) -> bool {
        self.owner != Owner::Other
    }

    /// Whether it is a name of Amazon's that is meant for one of ECR's registries, and is none.
    pub(super) fn is_misspelt_ecr(&self) -> bool {
        let bare = self.without_port();
        let is_under = |suffix: &str| bare.strip_suffix(suffix).is_some_and(|before| before.ends_with('.'));
        let is_theirs = ECR_SUFFIXES.iter().chain([&ECR_SUFFIX_ISO_F]).any(|(suffix, _)| is_under(suffix));
        self.owner == Owner::Other && is_theirs && (bare.contains(".dkr.ecr") || bare.contains(".dkr-ecr"))
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
        let refuse = |why: &str| {
            Err(Error::usage(format!("{:?} is not a registry host: {why}", shorten(text))).code(Code::TargetInvalid))
        };
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
        let known = name.strip_suffix(":443").unwrap_or(&name);
        let owner = parse_ecr_host(known).map(Owner::Ecr);
        let owner = owner.or_else(|| Some(Owner::EcrEndpoint { region: parse_vpc_endpoint(known)? }));
        let owner = owner.or_else(|| ECR_PUBLIC.contains(&known).then_some(Owner::EcrPublic));
        let name = if owner.is_some() { known.to_owned() } else { name };
        Ok(Self { name, owner: owner.unwrap_or(Owner::Other), via: None })
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

/// The region of an interface VPC endpoint, `vpce-ID[-ZONE].dkr.ecr.REGION.vpce.amazonaws.com`.
fn parse_vpc_endpoint(name: &str) -> Option<String> {
    let (id, rest) = name.strip_prefix("vpce-")?.split_once('.')?;
    let (region, suffix) = rest.strip_prefix("dkr.ecr.")?.split_once('.')?;
    let suffixes = ["vpce.amazonaws.com", "vpce.amazonaws.com.cn", "vpce.amazonaws.eu"];
    let fits = !id.is_empty() && suffixes.contains(&suffix) && is_region(region);
    fits.then(|| region.to_owned())
}

/// Whether the text can be a region code. There is no list: regions open faster than programs are released.
pub(crate) fn is_region(text: &str) -> bool {
    let starts_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    starts_well
        && text.contains('-')
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// A region code, as people write it: codes have hyphens, and are often written with underscores all the same, since a
/// well-known guide does. `None` if it cannot be one.
pub(crate) fn region_code(text: &str) -> Option<String> {
    let code = text.trim().to_ascii_lowercase().replace('_', "-");
    is_region(&code).then_some(code)
}

/// Whether an address belongs to nobody in particular: link-local ones lead to cloud metadata services.
pub(crate) fn is_link_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => {
            // EKS Pod Identity and EC2's metadata service over IPv6 are in fd00::/16.
            v6.is_unicast_link_local() || v6.is_unspecified() || v6.segments()[0] == 0xfd00
        }
    }
}

/// Whether an address is reachable only from inside some network.
pub(crate) fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        // 100.64.0.0/10 is shared by a provider's customers (RFC 6598).
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 0x40,
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local(),
    }
}
