//! A role that is assumed with an OIDC token, and the token's claims if STS rejects it.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_credential_types::provider::Result as Provided;
use aws_credential_types::provider::error::CredentialsError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::access::{IdToken, Role, Secret};
use super::network::Network;
use super::oidc;
use super::provides::provides;
use crate::error::{Code, Error, Kind};

/// Provides the credentials of a role that is assumed with an OIDC token. Gets a new token each time: tokens expire within
/// minutes.
#[derive(Debug)]
pub(super) struct Federated {
    pub(super) sts: aws_sdk_sts::Client,
    /// Without a token, there are no credentials.
    pub(super) token: Option<IdToken>,
    pub(super) role: Option<Role>,
    pub(super) network: Network,
}

impl Federated {
    async fn assume(&self) -> Provided {
        let Some(token) = &self.token else { return Err(CredentialsError::not_loaded_no_source()) };
        let Some(role) = &self.role else {
            let what = "AWS_WEB_IDENTITY_TOKEN_FILE is set and AWS_ROLE_ARN is not";
            let error = Error::new(Kind::Permission, what).code(Code::CredentialsRejected);
            return Err(CredentialsError::invalid_configuration(error.hint("Set both, or neither.")));
        };
        let token = oidc::token(token, &self.network).await.map_err(CredentialsError::provider_error)?;
        // AWS rejects a duration that is too long.
        let seconds = role.duration.map(|duration| i32::try_from(duration.as_secs()).unwrap_or(i32::MAX));
        let call = self.sts.assume_role_with_web_identity().role_arn(&role.arn).role_session_name(&role.session_name);
        let sent = call.web_identity_token(token.expose()).set_duration_seconds(seconds).send().await;
        let response = sent.map_err(|why| {
            CredentialsError::provider_error(TokenRejected { claims: claims(&token), source: Box::new(why) })
        })?;
        let credentials = response.credentials.ok_or_else(|| CredentialsError::unhandled("STS gave no credentials"))?;
        let end = SystemTime::try_from(credentials.expiration).map_err(CredentialsError::unhandled)?;
        let (id, secret, token) = (credentials.access_key_id, credentials.secret_access_key, credentials.session_token);
        Ok(Credentials::new(id, secret, Some(token), Some(end), "oidc"))
    }
}

provides!(Federated, assume);

/// The error of a token that STS rejects.
#[derive(Debug)]
pub(super) struct TokenRejected {
    /// The claims that a trust policy compares: issuer, subject and audience. They are no secret: the logs of AWS and of the
    /// CI system contain them.
    pub(super) claims: Option<String>,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl std::fmt::Display for TokenRejected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("STS rejects the token")
    }
}

impl std::error::Error for TokenRejected {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.source.as_ref())
    }
}

/// Returns the claims of a token that a trust policy compares.
fn claims(token: &Secret) -> Option<String> {
    let payload = token.expose().split('.').nth(1)?;
    let payload: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    let claim = |name: &str| payload[name].as_str().map(|text| format!("{name} {text}"));
    let claims: Vec<String> = ["iss", "sub", "aud"].into_iter().filter_map(claim).collect();
    (!claims.is_empty()).then(|| claims.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_compared_claims_of_a_token_are_returned() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"iss":"https://i","sub":"repo:o/r:ref","aud":"a","email":"x@y"}"#);
        let token = Secret::new(format!("e30.{payload}.c2lnbmF0dXJl"));
        assert_eq!(claims(&token).as_deref(), Some("iss https://i, sub repo:o/r:ref, aud a"));
        assert_eq!(claims(&Secret::new("no token")), None);
        assert_eq!(format!("{token:?}"), "***");
    }
}
