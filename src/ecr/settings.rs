//! The configuration of the SDK's clients.

use std::sync::Arc;
use std::time::Duration;

use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;

use super::access::{Access, CredentialSources};
use super::credentials::Identity;
use super::network::Network;
use super::region;
use crate::error::Result;
use crate::oci::{EcrHost, EndpointOverride};

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
                Self::of_override(access.endpoint_override(host, requested).unwrap_or(own), network)
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
        let region = region::find(sources, requested, host, &profile, &machine).await?;
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .timeout_config(timeouts())
            .http_client(http.clone())
            // Ignores the environment and the profile: the SDK panics for an unknown retry mode, such as `legacy`, the
            // default of other tools.
            .retry_config(RetryConfig::standard())
            .region(Region::new(region.code.clone()))
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
        Ok(Self { config: config.build(), identity, region_from: region.from })
    }

    fn of_override(endpoint_override: &EndpointOverride, network: &Network) -> Result<Self> {
        let identity = Identity::fixed(Credentials::new("SANDBOX", "sandbox", None, None, "sandbox"));
        let mut config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .sleep_impl(aws_sdk_ecr::config::SharedAsyncSleep::new(Sleep))
            .timeout_config(timeouts())
            // Plain HTTP on loopback needs no certificates.
            .http_client(network.local_client()?)
            .endpoint_url(endpoint_override.url())
            .region(Region::new(endpoint_override.region.clone()));
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
