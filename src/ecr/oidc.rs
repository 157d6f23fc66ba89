//! OIDC tokens, which identify the job of a CI system, and roles that are assumed with them. If STS rejects a token, its
//! claims explain why.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_credential_types::provider::Result as Provided;
use aws_credential_types::provider::error::CredentialsError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::{Method, Url};
use serde_json::Value;

use super::access::{IdToken, Role, Secret};
use super::endpoint::{self, EndpointError, reason_line};
use super::network::Network;
use super::provides::provides;
use super::token_file;
use crate::error::{Advice, Code, Error, Kind, Result};
use crate::request_log::{RequestTimer, Subject, UrlDetail};

/// Gets a token.
///
/// # Errors
/// Fails if the token cannot be read, or if the CI system does not issue one.
pub(super) async fn token(source: &IdToken, network: &Network) -> Result<Secret> {
    let (system, url, bearer, method, member) = match source {
        IdToken::Variable { token, .. } => return Ok(token.clone()),
        IdToken::File(path) => return token_file::read(path, "AWS_WEB_IDENTITY_TOKEN_FILE").await,
        IdToken::Azure { url, bearer, connection } => {
            let url = with_query(
                url,
                "SYSTEM_OIDCREQUESTURI",
                &[("api-version", "7.1-preview.1"), ("serviceConnectionId", connection)],
            )?;
            ("Azure Pipelines", url, bearer, Method::POST, "oidcToken")
        }
        IdToken::GitHub { url, bearer } => {
            let url = with_query(url, "ACTIONS_ID_TOKEN_REQUEST_URL", &[("audience", "sts.amazonaws.com")])?;
            ("GitHub Actions", url, bearer, Method::GET, "value")
        }
    };
    let what = format!("cannot get an OIDC token from {system}");
    let http = network.ci_client()?;
    let send = || async {
        let mut request = http.request(method.clone(), url.clone()).bearer_auth(bearer.expose());
        let body = if method == Method::POST { "{}" } else { "" };
        if !body.is_empty() {
            request =
                request.header("content-type", "application/json").header("accept", "application/json").body(body);
        }
        let size = Arc::new(AtomicU64::new(body.len() as u64));
        // The path identifies the job: with it, only the bearer token is needed to get a token.
        let timer = RequestTimer::new(&network.observer, method.as_str(), &url, UrlDetail::Host, size)
            .about(Some(Subject::OidcToken(system)));
        let response = endpoint::send(request, timer).await?;
        let reason = reason(&response.body, member);
        if !response.status.is_success() {
            return Err(response.failure(&reason));
        }
        let json: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        match json[member].as_str() {
            Some(token) if !token.is_empty() => Ok(Secret::new(token)),
            _ if reason.is_empty() => Err(EndpointError::Permanent(format!("its response has no {member}"))),
            _ => Err(EndpointError::Permanent(format!("its response has no {member}: {reason}"))),
        }
    };
    endpoint::with_retries(send).await.map_err(|failed| match failed {
        EndpointError::Transient(why) => {
            let hint = "The failure may be temporary: run the same command again.";
            Error::new(Kind::Unavailable, what).because(why).hint(hint)
        }
        EndpointError::Permanent(why) => Error::new(Kind::Permission, what).because(why).hint(advice(source)),
    })
}

fn advice(source: &IdToken) -> Advice {
    match source {
        IdToken::Azure { .. } => Advice::new(
            "The step needs `SYSTEM_ACCESSTOKEN: $(System.AccessToken)` in its env, and the ID of a service connection \
                 that this pipeline may use and that a task of this stage names",
        )
        .setting_with("azure-service-connection", "ID"),
        IdToken::GitHub { .. } => "The job needs permissions: id-token: write.".into(),
        IdToken::File(_) | IdToken::Variable { .. } => "Set the variable to an OIDC token.".into(),
    }
}

/// Returns the reason in an error response: the message in JSON, which Azure also calls `value`
/// (<https://github.com/dotnet/docker-tools/issues/2012>), unless that is the `member` for tokens. The rest of the body may
/// contain anything and is not shown.
fn reason(body: &[u8], member: &str) -> String {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let value = || json["value"].as_str().filter(|_| member != "value");
    let message = json["message"].as_str().or_else(|| json["error"]["message"].as_str()).or_else(value);
    message.map(reason_line).unwrap_or_default()
}

fn with_query(url: &str, variable: &str, more: &[(&str, &str)]) -> Result<Url> {
    let refuse = |why: &str| {
        let hint = "The CI system sets it: do not change it.";
        Err(Error::usage(format!("{variable} is not the URL of a token service: {why}")).hint(hint))
    };
    let Ok(mut url) = Url::parse(url) else { return refuse("it cannot be parsed") };
    let host: Option<crate::oci::Host> = url.host_str().and_then(|host| host.parse().ok());
    if url.scheme() != "https" && !host.is_some_and(|host| host.is_loopback()) {
        return refuse("tokens are requested over HTTPS only");
    }
    url.query_pairs_mut().extend_pairs(more);
    Ok(url)
}

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
        let Some(source) = &self.token else { return Err(CredentialsError::not_loaded_no_source()) };
        let Some(role) = &self.role else {
            let what = "AWS_WEB_IDENTITY_TOKEN_FILE is set and AWS_ROLE_ARN is not";
            let error = Error::new(Kind::Permission, what).code(Code::CredentialsRejected);
            return Err(CredentialsError::invalid_configuration(error.hint("Set both, or neither.")));
        };
        let token = token(source, &self.network).await.map_err(CredentialsError::provider_error)?;
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
    fn the_reason_of_an_error_contains_no_token() {
        let azure = |body: &[u8]| reason(body, "oidcToken");
        assert_eq!(azure(br#"{"count": 1, "value": "no explicit reference"}"#), "no explicit reference");
        assert_eq!(azure(br#"{"message": "wrong", "value": "other"}"#), "wrong");
        assert_eq!(azure(br#"{"oidcToken": "a.b.c"}"#), "");
        assert_eq!(azure(b"a.b.c"), "");
        assert_eq!(reason(br#"{"value": "a.b.c"}"#, "value"), "", "GitHub's token");
    }

    #[test]
    fn only_the_compared_claims_of_a_token_are_returned() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"iss":"https://i","sub":"repo:o/r:ref","aud":"a","email":"x@y"}"#);
        let token = Secret::new(format!("e30.{payload}.c2lnbmF0dXJl"));
        assert_eq!(claims(&token).as_deref(), Some("iss https://i, sub repo:o/r:ref, aud a"));
        assert_eq!(claims(&Secret::new("no token")), None);
        assert_eq!(format!("{token:?}"), "***");
    }
}
