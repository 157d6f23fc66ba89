//! The configuration of the SDK's clients, and the region.

use std::sync::Arc;
use std::time::Duration;

use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;

use super::access::{Access, CredentialSources};
use super::credentials::Identity;
use super::metadata::metadata;
use super::missing::hop_limit;
use super::network::Network;
use super::observe::Unresponsive;
use super::profile::Selected;
use crate::error::{Advice, Error, Result, find_cause};
use crate::oci::{EcrHost, EndpointOverride, region_code};

/// The configuration of the SDK's clients, and the caller's credentials.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) config: SdkConfig,
    pub(super) identity: Identity,
    /// Where the region comes from.
    pub(super) region_from: String,
}

impl Settings {
    /// Finds the region and configures the credentials. The region is that of the target's host, else the requested one,
    /// else that of the environment.
    pub(super) async fn of(
        access: &Access,
        network: &Network,
        requested: Option<&str>,
        host: Option<&EcrHost>,
    ) -> Result<Self> {
        match access {
            Access::Aws(sources) => Self::of_aws(sources, network, requested, host).await,
            Access::Override { own, .. } => {
                let endpoint_override = access.endpoint_override(host, requested).unwrap_or(own);
                // One may override the registries of many regions.
                let region = host.map(|host| &*host.region).or(requested).unwrap_or(&endpoint_override.region);
                Self::of_override(endpoint_override, region, network)
            }
        }
    }

    async fn of_aws(
        sources: &CredentialSources,
        network: &Network,
        requested: Option<&str>,
        host: Option<&EcrHost>,
    ) -> Result<Self> {
        let profile = sources.profiles.select()?;
        let http = network.aws_client()?;
        let machine = ProviderConfig::without_region().with_http_client(network.local_client()?);
        let (region, region_from) = find_region(sources, requested, host, &profile, &machine).await?;
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .timeout_config(timeouts())
            .http_client(http.clone())
            // Ignores the environment and the profile: the SDK panics for an unknown retry mode, such as `legacy`, the
            // default of other tools.
            .retry_config(RetryConfig::standard())
            .region(Region::new(region))
            // The SDK would read AWS_PROFILE and the files again, and ignore files that it cannot read.
            .profile_name(profile.name())
            .profile_files(profile.files())
            // They are configured below.
            .no_credentials();
        // The name of a host determines its kind of endpoint, whatever the environment states.
        if let Some(host) = host {
            loader = loader.use_fips(host.fips).use_dual_stack(host.dual_stack);
        }
        let mut config = loader.load().await;
        // An application that the environment or the profile names takes precedence.
        if config.app_name().is_none() {
            let mut named = config.into_builder();
            named.set_app_name(network.app_name.clone());
            config = named.build();
        }
        let aws = ProviderConfig::without_region()
            .with_http_client(http)
            .with_region(config.region().cloned())
            .with_use_fips(config.use_fips())
            .with_use_dual_stack(config.use_dual_stack());
        let identity = Identity::of(sources, Arc::new(profile), &config, &aws, &machine, network).await;
        let mut config = config.into_builder();
        config.set_credentials_provider(identity.provider());
        Ok(Self { config: config.build(), identity, region_from })
    }

    fn of_override(endpoint_override: &EndpointOverride, region: &str, network: &Network) -> Result<Self> {
        let identity = Identity::fixed(Credentials::new("SANDBOX", "sandbox", None, None, "sandbox"));
        let mut config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .sleep_impl(aws_sdk_ecr::config::SharedAsyncSleep::new(Sleep))
            .timeout_config(timeouts())
            // Plain HTTP on loopback needs no certificates.
            .http_client(network.local_client()?)
            .endpoint_url(endpoint_override.url())
            .region(Region::new(region.to_owned()));
        config.set_credentials_provider(identity.provider());
        config.set_app_name(network.app_name.clone());
        Ok(Self { config: config.build(), identity, region_from: "the sandbox".into() })
    }
}

/// Returns the time limits of calls. The SDK has none for reading a response, so a call could hang for ever.
fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .operation_attempt_timeout(Duration::from_secs(20))
        .operation_timeout(Duration::from_secs(60))
        .build()
}

/// tokio's clock for the SDK, which uses it by default only if it loads the user's settings.
#[derive(Debug)]
struct Sleep;

impl aws_sdk_ecr::config::AsyncSleep for Sleep {
    fn sleep(&self, duration: Duration) -> aws_sdk_ecr::config::Sleep {
        aws_sdk_ecr::config::Sleep::new(tokio::time::sleep(duration))
    }
}

/// Finds the region, and where it comes from: that of the host, else the requested one, else the first in the environment, the
/// profile and EC2's metadata.
///
/// # Errors
/// Fails if none is known, and if the first one is not a region.
async fn find_region(
    sources: &CredentialSources,
    requested: Option<&str>,
    host: Option<&EcrHost>,
    profile: &Selected,
    machine: &ProviderConfig,
) -> Result<(String, String)> {
    let named = |code: &str, from: &str| Ok((code.to_owned(), from.to_owned()));
    if let Some(host) = host {
        return named(&host.region, "the host");
    }
    if let Some(region) = requested {
        return named(region, "the command line");
    }
    if let Some((variable, text)) = &sources.region {
        return parse_region(text, variable);
    }
    if let Some(region) = profile.get("region").filter(|region| !region.is_empty()) {
        return parse_region(region, &profile.described());
    }
    let mut advice = Advice::new(
        "Set AWS_REGION, use a target with a host (ACCOUNT.dkr.ecr.REGION.amazonaws.com/REPO:TAG), or give the region",
    )
    .setting_with("region", "eu-west-1");
    if !sources.environment.without_metadata {
        // The SDK's provider of the region drops the reason for a failure.
        match metadata(machine).get("/latest/meta-data/placement/region").await {
            Ok(region) => return parse_region(region.as_ref(), "EC2's metadata"),
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

fn parse_region(text: &str, from: &str) -> Result<(String, String)> {
    let refuse = || {
        let what = format!("{from} is {text:?}, which is not a region");
        Error::usage(what).hint("A region is a code such as eu-west-1.")
    };
    Ok((region_code(text).ok_or_else(refuse)?, from.to_owned()))
}
