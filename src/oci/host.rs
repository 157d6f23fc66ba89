//! Registry hosts: their owner, the names of ECR's hosts, and addresses in private networks.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::Repository;
use super::quote::shorten;
use crate::error::{Error, Result};

/// A registry host and its owner.
///
/// ```
/// use ecr_push::Host;
///
/// let host: Host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com".parse()?;
/// assert_eq!(host.ecr().map(|ecr| ecr.region.as_str()), Some("eu-west-1"));
/// // The name of another owner, who must not get AWS credentials.
/// let other: Host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com.example.org".parse()?;
/// assert!(host.is_amazon() && !other.is_amazon());
/// # Ok::<(), ecr_push::Error>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Host {
    name: String,
    owner: Owner,
    /// Another host name to connect to for the same registry.
    via: Option<String>,
}

/// The owner of a registry host. AWS credentials are sent only to the ECR variants.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Owner {
    /// A private registry of Amazon ECR.
    Ecr(EcrHost),
    /// An interface VPC endpoint of ECR, which serves every registry of its region
    /// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html>).
    EcrEndpoint {
        /// The region code.
        region: String,
    },
    /// Amazon ECR Public.
    EcrPublic,
    /// Any other owner, also of names that only resemble ECR's.
    Other,
}

/// The components of the name of a private ECR host.
///
/// ```
/// use ecr_push::{EcrHost, Host};
///
/// let account = "123456789012".to_owned();
/// let ecr = EcrHost { account, region: "us-gov-west-1".into(), fips: true, dual_stack: false };
/// let arn = ecr.arn(&"team/app".parse()?);
/// assert_eq!(arn, "arn:aws-us-gov:ecr:us-gov-west-1:123456789012:repository/team/app");
/// assert_eq!(Host::from_ecr(ecr).as_str(), "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com");
/// # Ok::<(), ecr_push::Error>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct EcrHost {
    /// The twelve digits of the account that owns the registry.
    pub account: String,
    /// The region code.
    pub region: String,
    /// Whether it is a FIPS endpoint.
    pub fips: bool,
    /// Whether it is a dual-stack (IPv4 and IPv6) endpoint.
    pub dual_stack: bool,
}

/// An AWS partition.
struct Partition {
    /// The prefix of its regions.
    prefix: &'static str,
    /// Its name in ARNs.
    name: &'static str,
    /// The DNS suffix of its registries.
    suffix: &'static str,
    /// The DNS suffix of its registries' dual-stack names.
    dual_stack_suffix: &'static str,
}

const fn partition(
    prefix: &'static str,
    name: &'static str,
    suffix: &'static str,
    dual_stack_suffix: &'static str,
) -> Partition {
    Partition { prefix, name, suffix, dual_stack_suffix }
}

/// The AWS partitions. The suffixes are those of AWS's own credential helper (awslabs/amazon-ecr-credential-helper,
/// `ecr-login/api/client.go`). Unknown regions are in the last one: new regions are commercial ones.
const PARTITIONS: [Partition; 8] = [
    partition("cn-", "aws-cn", "amazonaws.com.cn", "on.amazonwebservices.com.cn"),
    partition("eu-isoe-", "aws-iso-e", "cloud.adc-e.uk", "on.aws"),
    partition("eusc-", "aws-eusc", "amazonaws.eu", "on.aws"),
    partition("us-gov-", "aws-us-gov", "amazonaws.com", "on.aws"),
    partition("us-iso-", "aws-iso", "c2s.ic.gov", "on.aws"),
    partition("us-isob-", "aws-iso-b", "sc2s.sgov.gov", "on.aws"),
    partition("us-isof-", "aws-iso-f", "csp.hci.ic.gov", "on.aws"),
    COMMERCIAL,
];
const COMMERCIAL: Partition = partition("", "aws", "amazonaws.com", "on.aws");

impl Partition {
    fn of(region: &str) -> &'static Self {
        PARTITIONS.iter().find(|it| region.starts_with(it.prefix)).unwrap_or(&COMMERCIAL)
    }

    fn suffix(&self, dual_stack: bool) -> &'static str {
        if dual_stack { self.dual_stack_suffix } else { self.suffix }
    }
}

impl EcrHost {
    /// Returns the AWS partition of the region.
    pub fn partition(&self) -> &'static str {
        Partition::of(&self.region).name
    }

    /// Returns the ARN of a repository in this registry.
    pub fn arn(&self, repository: &Repository) -> String {
        format!("arn:{}:ecr:{}:{}:repository/{repository}", self.partition(), self.region, self.account)
    }
}

/// The hosts of ECR Public, from the same source. The second one is dual-stack.
const ECR_PUBLIC: [&str; 2] = ["public.ecr.aws", "ecr-public.aws.com"];

impl Host {
    /// Returns the host of a private registry.
    pub fn from_ecr(ecr: EcrHost) -> Self {
        let EcrHost { account, region, fips, dual_stack } = &ecr;
        let suffix = Partition::of(region).suffix(*dual_stack);
        let service = match (dual_stack, fips) {
            (false, false) => "dkr.ecr",
            (false, true) => "dkr.ecr-fips",
            (true, false) => "dkr-ecr",
            (true, true) => "dkr-ecr-fips",
        };
        Self { name: format!("{account}.{service}.{region}.{suffix}"), owner: Owner::Ecr(ecr), via: None }
    }

    /// Returns the registry of `account` behind a VPC endpoint, under the registry's own name, which its certificates and
    /// later pulls use. `None` if this is not a VPC endpoint of ECR.
    pub fn via_vpc_endpoint(&self, account: &str) -> Option<Self> {
        let Owner::EcrEndpoint { region } = &self.owner else { return None };
        let ecr = EcrHost { account: account.into(), region: region.clone(), fips: false, dual_stack: false };
        Some(Self { via: Some(self.without_port().to_owned()), ..Self::from_ecr(ecr) })
    }

    /// Returns whether it is a VPC endpoint of ECR, which does not name the account.
    pub fn is_vpc_endpoint(&self) -> bool {
        matches!(self.owner, Owner::EcrEndpoint { .. })
    }

    /// Returns the host name to connect to instead of its own.
    pub fn via(&self) -> Option<&str> {
        self.via.as_deref()
    }

    /// Returns the host as in a reference, with its port if it has one.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Returns the components of the name, if it is that of a private ECR registry.
    pub fn ecr(&self) -> Option<&EcrHost> {
        match &self.owner {
            Owner::Ecr(ecr) => Some(ecr),
            Owner::EcrEndpoint { .. } | Owner::EcrPublic | Owner::Other => None,
        }
    }

    /// Returns whether it is Amazon ECR Public.
    pub fn is_ecr_public(&self) -> bool {
        self.owner == Owner::EcrPublic
    }

    /// Returns whether it is Amazon's, private or public. AWS credentials are sent only to such hosts.
    pub fn is_amazon(&self) -> bool {
        self.owner != Owner::Other
    }

    /// Returns whether it is a name under Amazon's domains that resembles those of ECR's registries.
    pub(super) fn is_misspelt_ecr(&self) -> bool {
        let bare = self.without_port();
        let is_below = |suffix: &str| bare.strip_suffix(suffix).is_some_and(|before| before.ends_with('.'));
        let is_amazon = PARTITIONS.iter().any(|it| is_below(it.suffix) || is_below(it.dual_stack_suffix));
        self.owner == Owner::Other && is_amazon && (bare.contains(".dkr.ecr") || bare.contains(".dkr-ecr"))
    }

    /// Returns whether the host is this machine.
    pub fn is_loopback(&self) -> bool {
        let bare = self.without_port();
        bare == "localhost" || bare.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Returns the host without its port.
    pub fn without_port(&self) -> &str {
        if self.name.starts_with('[') {
            return self.name.split_inclusive(']').next().unwrap_or(&self.name);
        }
        self.name.split(':').next().unwrap_or(&self.name)
    }
}

/// A registry on loopback that replaces one of Amazon's, with the API of its region.
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// use ecr_push::{Access, EndpointOverride, Options};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// // A sandbox in another process.
/// let (account, region) = ("000000000000".to_owned(), "us-east-1".to_owned());
/// let own = EndpointOverride { address: "127.0.0.1:5000".parse()?, account, region };
/// // One in this process, for a registry in another region.
/// let sandbox = Sandbox::start(sandbox::Options { region: "eu-west-1".into(), ..Default::default() }).await?;
/// let others = vec![sandbox.endpoint_override()];
///
/// let mut options = Options::default();
/// options.registries.access = Access::Override { own, others };
/// let of_region = |region| options.registries.access.endpoint_override(None, region).map(EndpointOverride::url);
/// assert_eq!(of_region(None).as_deref(), Some("http://127.0.0.1:5000"));
/// assert_eq!(of_region(Some("eu-west-1")), Some(sandbox.url()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct EndpointOverride {
    /// The address: `127.0.0.1:PORT`.
    pub address: Host,
    /// The account that owns it.
    pub account: String,
    /// Its region.
    pub region: String,
}

impl EndpointOverride {
    /// Returns its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl From<SocketAddr> for Host {
    fn from(address: SocketAddr) -> Self {
        Self { name: address.to_string(), owner: Owner::Other, via: None }
    }
}

impl FromStr for Host {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let name = text.to_ascii_lowercase();
        let refuse =
            |why: &str| Err(Error::invalid_target(format!("{:?} is not a registry host: {why}", shorten(text))));
        let (bare, port) = match name.rsplit_once(':') {
            Some((bare, port)) if !port.contains(']') => (bare, Some(port)),
            _ => (name.as_str(), None),
        };
        if port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0)) {
            return refuse("the port must be a number from 1 to 65535");
        }
        let is_ipv6 = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let is_well_formed = match is_ipv6 {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => bare.split('.').all(|label| {
                !label.is_empty()
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            }),
        };
        if !is_well_formed || bare.len() > 253 {
            return refuse("a host is labels of letters, digits and hyphens joined by dots");
        }
        // `:443` is the default port of HTTPS, and docker also removes it when it looks up credentials.
        let bare = name.strip_suffix(":443").unwrap_or(&name);
        let owner = parse_ecr_host(bare).map(Owner::Ecr);
        let owner = owner.or_else(|| Some(Owner::EcrEndpoint { region: parse_vpc_endpoint(bare)? }));
        let owner = owner.or_else(|| ECR_PUBLIC.contains(&bare).then_some(Owner::EcrPublic));
        let name = if owner.is_some() { bare.to_owned() } else { name };
        Ok(Self { name, owner: owner.unwrap_or(Owner::Other), via: None })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Parses `ACCOUNT.dkr.ecr.REGION.SUFFIX` in all its forms. The whole name must match:
/// `ACCOUNT.dkr.ecr.us-east-1.amazonaws.com.example.org` is not ECR's.
fn parse_ecr_host(name: &str) -> Option<EcrHost> {
    let (account, rest) = name.split_once('.')?;
    if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let service = ["dkr.ecr.", "dkr-ecr.", "dkr.ecr-fips.", "dkr-ecr-fips."];
    let (service, rest) = service.iter().find_map(|service| Some((*service, rest.strip_prefix(service)?)))?;
    let (region, suffix) = rest.split_once('.')?;
    let dual_stack = service.starts_with("dkr-ecr");
    if !PARTITIONS.iter().any(|it| it.suffix(dual_stack) == suffix) || !is_region(region) {
        return None;
    }
    Some(EcrHost { account: account.into(), region: region.into(), fips: service.ends_with("-fips."), dual_stack })
}

/// Returns the region of an interface VPC endpoint: `vpce-ID[-ZONE].dkr.ecr.REGION.vpce.amazonaws.com`.
fn parse_vpc_endpoint(name: &str) -> Option<String> {
    let (id, rest) = name.strip_prefix("vpce-")?.split_once('.')?;
    let (region, suffix) = rest.strip_prefix("dkr.ecr.")?.split_once('.')?;
    let suffixes = ["vpce.amazonaws.com", "vpce.amazonaws.com.cn", "vpce.amazonaws.eu"];
    let is_endpoint = !id.is_empty() && suffixes.contains(&suffix) && is_region(region);
    is_endpoint.then(|| region.to_owned())
}

/// Returns whether a text can be a region code. There is no list: regions open faster than programs are released.
pub(crate) fn is_region(text: &str) -> bool {
    text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && text.contains('-')
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Parses a region code as people write it, also with underscores instead of hyphens, as in a well-known guide. `None` if the
/// text cannot be one.
pub(crate) fn region_code(text: &str) -> Option<String> {
    let code = text.trim().to_ascii_lowercase().replace('_', "-");
    is_region(&code).then_some(code)
}

/// Returns whether an address is link-local or unspecified. Cloud metadata services have link-local addresses.
pub(crate) fn is_link_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => {
            // EKS Pod Identity and EC2's metadata service over IPv6 are in fd00::/16.
            v6.is_unicast_link_local() || v6.is_unspecified() || v6.segments()[0] == 0xfd00
        }
    }
}

/// Returns whether an address is reachable only from inside a private network.
pub(crate) fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        // 100.64.0.0/10 is shared by a provider's customers (RFC 6598).
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 0x40,
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local(),
    }
}
