//! The credentials of a profile.

use std::sync::Arc;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials as _, Result as Provided};

use super::profile::{Selected, invalid};
use super::provides::provides;
use crate::error::{Advice, root_cause};

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
