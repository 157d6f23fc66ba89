//! The registries of the targets: their regions and accounts, logins and credentials.

use std::path::PathBuf;

use super::credentials::{self, CredentialArgs};
use super::values::{Environment, region, registry_endpoint};
use super::{env_checks, logins, targets};
use crate::ecr::Access;
use crate::error::Result;
use crate::oci::{Host, Target};
use crate::push::RegistryOptions;

/// The options for the places of targets without a host.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct RegionArgs {
    /// AWS region of targets without HOST (repeatable) [default: environment or profile]
    #[arg(long, value_name = "REGION", help_heading = "Target")]
    region: Vec<String>,
    /// AWS account of targets without HOST and of VPC endpoints [default: your own]
    #[arg(long, value_name = "ACCOUNT", help_heading = "Target")]
    pub(super) registry_id: Option<String>,
}

/// The options for logins and certificates.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct RegistryArgs {
    /// User name for a registry that is not Amazon's [default: the logins of docker and podman]
    #[arg(long, value_name = "NAME", requires = "password_stdin", help_heading = "Target")]
    pub(super) username: Option<String>,
    /// Read the password for --username from standard input
    #[arg(long, requires = "username", help_heading = "Target")]
    password_stdin: bool,
    /// PEM file of additional CA certificates to trust; loopback hosts then use HTTPS, too
    #[arg(long, value_name = "FILE", conflicts_with = "insecure", help_heading = "Target")]
    ca_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) credentials: CredentialArgs,
}

/// Whether AWS credentials are needed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum AwsUse {
    /// For a registry of Amazon's.
    Needed,
    /// Other registries and the sandbox need none.
    Unneeded,
}

impl RegionArgs {
    /// Returns the targets in their regions and accounts.
    pub(super) fn place(&self, targets: Vec<Target>) -> Result<Vec<Target>> {
        let targets = targets::in_registry(targets, self.registry_id.as_deref())?;
        let regions = self.region.iter().map(|text| region(text.clone())).collect::<Result<_>>()?;
        targets::in_regions(targets, regions)
    }
}

impl RegistryArgs {
    /// Reads the options and the environment for the registries of these targets.
    pub(super) fn read(self, aws: AwsUse, environment: Environment<'_>) -> Result<RegistryOptions> {
        let access = match aws {
            AwsUse::Needed => Access::Aws(self.credentials.sources(environment)?),
            AwsUse::Unneeded => Access::default(),
        };
        let ca_bundle = credentials::ca_bundle(&access, environment);
        Ok(RegistryOptions {
            access,
            keychain: logins::keychain(environment),
            ecr_endpoint: registry_endpoint(environment)?,
            ca_file: self.ca_file,
            ca_bundle,
            ..RegistryOptions::default()
        })
    }
}

impl AwsUse {
    /// Returns whether one of these targets is in a registry of Amazon's.
    pub(super) fn of(targets: &[Target]) -> Self {
        let is_amazon = |target: &Target| target.host.as_ref().is_none_or(Host::is_amazon);
        if targets.iter().any(is_amazon) { Self::Needed } else { Self::Unneeded }
    }

    /// Returns a note if the environment replaces an endpoint of AWS that is used.
    pub(super) fn replaced_endpoint(self, environment: Environment<'_>) -> Option<String> {
        env_checks::endpoints(environment).filter(|_| self == Self::Needed)
    }
}
