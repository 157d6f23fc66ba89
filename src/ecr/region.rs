//! The region: that of the host, else the requested one, else the first in the environment, the profile and EC2's metadata.

use aws_config::provider_config::ProviderConfig;

use super::access::CredentialSources;
use super::metadata::metadata;
use super::missing::hop_limit;
use super::observe::Unresponsive;
use super::profile::Selected;
use crate::error::{Advice, Error, Result, find_cause};
use crate::oci::{EcrHost, region_code};

/// A region, and where it comes from.
pub(super) struct Region {
    pub(super) code: String,
    pub(super) from: String,
}

/// Finds the region.
///
/// # Errors
/// Fails if none is known, and if the first one is not a region.
pub(super) async fn find(
    sources: &CredentialSources,
    requested: Option<&str>,
    host: Option<&EcrHost>,
    profile: &Selected,
    machine: &ProviderConfig,
) -> Result<Region> {
    let named = |code: &str, from: &str| Ok(Region { code: code.to_owned(), from: from.to_owned() });
    if let Some(host) = host {
        return named(&host.region, "the host");
    }
    if let Some(region) = requested {
        return named(region, "the command line");
    }
    if let Some((variable, text)) = &sources.region {
        return parse(text, variable);
    }
    if let Some(region) = profile.get("region").filter(|region| !region.is_empty()) {
        return parse(region, &profile.described());
    }
    let mut advice = Advice::new(
        "Set AWS_REGION, use a target with a host (ACCOUNT.dkr.ecr.REGION.amazonaws.com/REPO:TAG), or give the region",
    )
    .setting_with("region", "eu-west-1");
    if !sources.environment.without_metadata {
        // The SDK's provider of the region drops the reason for a failure.
        match metadata(machine).get("/latest/meta-data/placement/region").await {
            Ok(region) => return parse(region.as_ref(), "EC2's metadata"),
            Err(error) => {
                if let Some(service) = find_cause::<Unresponsive>(&error) {
                    advice = hop_limit(advice, &service.host);
                }
            }
        }
    }
    Err(Error::usage("no AWS region is known for a target without a host")
        .because("the command line, AWS_REGION, AWS_DEFAULT_REGION, the profile and EC2's metadata name none")
        .hint(advice))
}

fn parse(text: &str, from: &str) -> Result<Region> {
    let refuse = || {
        let what = format!("{from} is {text:?}, which is not a region");
        Error::usage(what).hint("A region is a code such as eu-west-1.")
    };
    Ok(Region { code: region_code(text).ok_or_else(refuse)?, from: from.to_owned() })
}
