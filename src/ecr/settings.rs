//! What the clients of AWS are built from.

use std::sync::Arc;
use std::time::Duration;

use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;

use super::access::{Access, CredentialSources, EndpointOverride};
use super::credentials::{Identity, NoCredentials};
use super::network::Network;
use super::region;
use crate::error::Result;
use crate::oci::EcrHost;

/// What the clients of AWS are built from, and who we are to it.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) config: SdkConfig,
    pub(super) identity: Identity,
    /// Who named the region.
    pub(super) region_from: String,
}

impl Settings {
    /// Settles region and credentials. The region is the target host's, else the one asked for, else that of the
    /// environment.
    pub(super) async fn of(
        access: &Access,
        network: &Network,
        asked_for: Option<&str>,
        host: Option<&EcrHost>,
    ) -> Result<Self> {
        match access {
            Access::Aws(sources) => Self::of_aws(sources, network, asked_for, host).await,
            Access::Override { own, .. } => {
                Self::of_stand_in(access.endpoint_override(host, asked_for).unwrap_or(own), network)
            }
        }
    }

    async fn of_aws(
        sources: &CredentialSources,
        network: &Network,
        asked_for: Option<&str>,
        host: Option<&EcrHost>,
    ) -> Result<Self> {
        let profile = sources.profiles.select()?;
        let http = network.to_aws()?;
        let machine = ProviderConfig::without_region().with_http_client(network.to_the_machine()?);
        let region = region::find(sources, asked_for, host, &profile, &machine).await?;
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .timeout_config(limits())
            .http_client(http.clone())
            // Whatever the environment and the profile say of it: of values that the SDK does not know, as `legacy`, which
            // is the default of other tools, it makes a panic.
            .retry_config(RetryConfig::standard())
            .region(Region::new(region.code.clone()))
            // The SDK would read AWS_PROFILE and the files again, and ignores what it cannot read.
            .profile_name(profile.name())
            .profile_files(profile.files())
            // Until we know who we are.
            .no_credentials();
        // A host says by its name which endpoints it goes with, whatever the environment prefers.
        if let Some(host) = host {
            loader = loader.use_fips(host.fips).use_dual_stack(host.dual_stack);
        }
        let mut config = loader.load().await;
        // Who names an application in the environment or the profile means it.
        if config.app_name().is_none() {
            let mut named = config.into_builder();
            named.set_app_name(network.app_name());
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

    fn of_stand_in(endpoint_override: &EndpointOverride, network: &Network) -> Result<Self> {
        let identity = Identity::fixed(Credentials::new("SANDBOX", "sandbox", None, None, "sandbox"));
        let mut config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .sleep_impl(aws_sdk_ecr::config::SharedAsyncSleep::new(Sleep))
            .timeout_config(limits())
            // Plain http on loopback, so no certificates of the machine are needed.
            .http_client(network.to_the_machine()?)
            .endpoint_url(endpoint_override.url())
            .region(Region::new(endpoint_override.region.clone()));
        config.set_credentials_provider(identity.provider());
        config.set_app_name(network.app_name());
        Ok(Self { config: config.build(), identity, region_from: "the sandbox".into() })
    }

    /// Sees to it that there are credentials.
    pub(super) async fn ready(&self) -> Result<(), NoCredentials> {
        self.identity.ready().await
    }
}

/// Without limits of our own a call may hang for ever: the SDK has none on reading.
fn limits() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .operation_attempt_timeout(Duration::from_secs(20))
        .operation_timeout(Duration::from_secs(60))
        .build()
}

/// tokio's clock for the SDK, which finds it by itself only when it loads the user's settings.
#[derive(Debug)]
struct Sleep;

impl aws_sdk_ecr::config::AsyncSleep for Sleep {
    fn sleep(&self, duration: Duration) -> aws_sdk_ecr::config::Sleep {
        aws_sdk_ecr::config::Sleep::new(tokio::time::sleep(duration))
    }
}
