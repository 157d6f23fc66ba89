//! The sources of credentials, and the order in which they are tried.

use std::sync::Arc;

use aws_config::SdkConfig;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, Result as Provided, SharedCredentialsProvider};

use super::access::{CredentialSources, IdToken, WebIdentity};
use super::container::Container;
use super::metadata::metadata;
use super::network::Network;
use super::oidc::Federated;
use super::profile::{Selected, invalid};
use super::provides::provides;
use crate::error::{Advice, root_cause};

pub(super) const ENVIRONMENT: &str = "the environment";
pub(super) const WEB_IDENTITY: &str = "web identity";
/// The name by which the SDK finds the provider for the process of a profile.
const PROCESS: &str = "EcrPushProcess";
const CONTAINER: &str = "the container's credentials";

/// A source of credentials in a chain.
pub(super) struct Link {
    /// Its name, for messages.
    pub(super) name: String,
    pub(super) provider: SharedCredentialsProvider,
    /// The profile, if the source is one.
    pub(super) profile: Option<Arc<Selected>>,
}

impl Link {
    pub(super) fn new(name: &str, provider: impl ProvideCredentials + 'static) -> Self {
        Self { name: name.to_owned(), provider: SharedCredentialsProvider::new(provider), profile: None }
    }

    pub(super) fn of_profile(provider: ProfileCredentials) -> Self {
        let profile = Arc::clone(&provider.profile);
        Self { profile: Some(Arc::clone(&profile)), ..Self::new(&profile.described(), provider) }
    }
}

/// The configuration of credential providers. `sts` configures calls of STS, `aws` the SDK's own calls of AWS, `machine` its
/// calls of services on this machine.
pub(super) struct Providers<'a> {
    pub(super) sources: &'a CredentialSources,
    pub(super) sts: &'a SdkConfig,
    pub(super) aws: &'a ProviderConfig,
    pub(super) machine: &'a ProviderConfig,
    pub(super) network: &'a Network,
}

impl Providers<'_> {
    /// Returns the sources in the order of the AWS CLI, version 2 ([`Chain`](super::access::BaseCredentials::Chain)).
    pub(super) fn chain(&self, profile: Arc<Selected>) -> Vec<Link> {
        let ec2 =
            ImdsCredentialsProvider::builder().configure(self.machine).imds_client(metadata(self.machine)).build();
        let assumes_role = profile.assumes_role();
        let mut links = vec![
            Link::new(ENVIRONMENT, EnvironmentVariableCredentialsProvider::new()),
            Link::new(WEB_IDENTITY, self.web_identity()),
            Link::new(CONTAINER, self.container()),
            Link::new("EC2's metadata", ec2),
        ];
        links.insert(if assumes_role { 1 } else { 2 }, Link::of_profile(self.profile(profile)));
        links
    }

    /// Returns the provider for a profile. Sources that a profile names with `credential_source` are local, and are accessed as
    /// in the chain: the SDK would access them over the proxies for AWS, and send a container's token there in plain text.
    pub(super) fn profile(&self, profile: Arc<Selected>) -> ProfileCredentials {
        let ec2 = ImdsCredentialsProvider::builder().configure(self.machine).build();
        let sdk = ProfileFileCredentialsProvider::builder()
            .configure(self.aws)
            .profile_name(profile.name())
            .with_custom_provider("EcsContainer", self.container())
            .with_custom_provider("Ec2InstanceMetadata", ec2);
        let sdk = match profile.process() {
            Some(process) => {
                sdk.profile_files(profile.files_with_source(PROCESS)).with_custom_provider(PROCESS, process)
            }
            None => sdk.profile_files(profile.files()),
        };
        ProfileCredentials { profile, sdk: sdk.build() }
    }

    /// Returns the provider for the role and the token file in the environment.
    pub(super) fn web_identity(&self) -> Federated {
        let web_identity = self.sources.environment.web_identity.clone();
        let (token, role) = web_identity.map(|WebIdentity { file, role }| (IdToken::File(file), role)).unzip();
        let (sts, network) = (aws_sdk_sts::Client::new(self.sts), self.network.clone());
        Federated { sts, token, role: role.flatten(), network }
    }

    fn container(&self) -> Container {
        Container { endpoint: self.sources.environment.container.clone(), network: self.network.clone() }
    }
}

/// Provides the credentials of the selected profile.
///
/// Returns `CredentialsNotLoaded` only for the default profile, if it is not named and has no setting for credentials.
#[derive(Debug)]
pub(super) struct ProfileCredentials {
    pub(super) profile: Arc<Selected>,
    pub(super) sdk: ProfileFileCredentialsProvider,
}

impl ProfileCredentials {
    async fn provide(&self) -> Provided {
        let Self { profile, sdk } = self;
        profile.check_no_code_needed().map_err(CredentialsError::provider_error)?;
        if let Some(keys) = profile.keys_of_credentials_file() {
            return Ok(keys);
        }
        let described = profile.described();
        match sdk.provide_credentials().await {
            // The SDK also returns this for an invalid profile, such as one whose source profile does not exist.
            Err(why @ CredentialsError::CredentialsNotLoaded(_)) if profile.sets_up_credentials() => {
                Err(CredentialsError::provider_error(
                    invalid(&described).because(root_cause(&why)).hint(
                        Advice::new("Correct the profile. Its settings are:")
                            .command(format!("aws configure list{}", profile.option())),
                    ),
                ))
            }
            Err(CredentialsError::CredentialsNotLoaded(_)) if profile.named.is_some() => {
                let error = invalid(&described).because("it sets up no credentials").hint(
                    "Add keys, a role or a login to the profile. If credentials come from elsewhere, do not name a profile: \
                     set the region with AWS_REGION.",
                );
                Err(CredentialsError::provider_error(error))
            }
            provided => provided,
        }
    }
}

provides!(ProfileCredentials, provide);
