//! The credentials of a container: of Amazon ECS, EKS Pod Identity and other services with the same protocol
//! (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>).
//!
//! The SDK's provider drops the endpoint's reason for a failure, and quotes the address, whose path is a secret.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use aws_credential_types::Credentials;
use aws_credential_types::provider::Result as Provided;
use aws_credential_types::provider::error::CredentialsError;
use reqwest::Url;
use serde_json::Value;

use super::access::{ContainerEndpoint, ContainerToken, Secret};
use super::endpoint::{self, EndpointError, Response, expiration, reason_line};
use super::network::Network;
use super::provides::provides;
use super::token_file;
use crate::error::{Advice, Code, Error, Kind, Result};
use crate::request_log::{RequestTimer, UrlDetail};

/// The address of the credentials endpoint of Amazon ECS.
const ECS: &str = "169.254.170.2";

/// The addresses of the credentials endpoint of EKS Pod Identity.
const POD_IDENTITY: [&str; 2] = ["169.254.170.23", "[fd00:ec2::23]"];

/// Provides the credentials of the container.
#[derive(Clone, Debug)]
pub(super) struct Container {
    pub(super) endpoint: Option<ContainerEndpoint>,
    pub(super) network: Network,
}

impl Container {
    async fn load(&self) -> Provided {
        let Some(endpoint) = &self.endpoint else {
            let unset = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and ..._FULL_URI are not set";
            let error = Error::new(Kind::Permission, unset).code(Code::CredentialsMissing);
            return Err(CredentialsError::not_loaded(error));
        };
        self.credentials(endpoint).await.map_err(CredentialsError::provider_error)
    }

    async fn credentials(&self, endpoint: &ContainerEndpoint) -> Result<Credentials> {
        let url = address(endpoint)?;
        let token = token(endpoint.token.as_ref()).await?;
        let http = self.network.container_client()?;
        let send = || async {
            let mut request = http.get(url.clone()).header("accept", "application/json");
            if let Some(token) = &token {
                request = request.header("authorization", token.expose());
            }
            let timer =
                RequestTimer::new(&self.network.observer, "GET", &url, UrlDetail::Host, Arc::new(AtomicU64::new(0)));
            parse(&endpoint::send(request, timer).await?)
        };
        endpoint::with_retries(send).await.map_err(|failed| {
            let host = url.host_str().unwrap_or_default();
            let error =
                |kind| Error::new(kind, format!("cannot get AWS credentials from the container endpoint {host}"));
            match failed {
                EndpointError::Transient(why) => error(Kind::Unavailable)
                    .because(why)
                    .hint("The failure may be temporary: run the same command again."),
                EndpointError::Permanent(why) => {
                    error(Kind::Permission).code(Code::CredentialsRejected).because(why).hint(advice(host))
                }
            }
        })
    }
}

provides!(Container, load);

/// Returns the URL of the endpoint. Token and credentials are sent over plain HTTP only to this machine and to the addresses
/// of ECS and EKS. Errors do not quote the URL: its path is a secret.
fn address(endpoint: &ContainerEndpoint) -> Result<Url> {
    let (variable, url) = match endpoint {
        ContainerEndpoint { relative: true, address, .. } => (
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            format!("http://{ECS}/{}", address.expose().trim_start_matches('/')),
        ),
        ContainerEndpoint { address, .. } => ("AWS_CONTAINER_CREDENTIALS_FULL_URI", address.expose().to_owned()),
    };
    let refuse = |why: &str| {
        Err(Error::new(Kind::Permission, format!("{variable} is not the address of a container's credentials: {why}"))
            .code(Code::CredentialsRejected)
            .hint("The container's host sets the variable: leave it as it is, or unset it."))
    };
    let Ok(url) = Url::parse(&url) else { return refuse("it is not a URL") };
    let host = url.host_str().unwrap_or_default();
    let is_local = host == ECS
        || POD_IDENTITY.contains(&host)
        || host.parse().is_ok_and(|host: crate::oci::Host| host.is_loopback());
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_local => Ok(url),
        "http" => refuse("plain http is only used for loopback addresses, Amazon ECS and EKS"),
        _ => refuse("it is neither http nor https"),
    }
}

/// Returns the token that the endpoint requires. The token in a file is replaced from time to time.
async fn token(token: Option<&ContainerToken>) -> Result<Option<Secret>> {
    let token = match token {
        None => return Ok(None),
        Some(ContainerToken::Text(token)) => token.clone(),
        Some(ContainerToken::File(path)) => token_file::read(path, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").await?,
    };
    let is_header = token.expose().bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if is_header {
        return Ok(Some(token));
    }
    Err(Error::new(Kind::Permission, "the authorization token for the container's credentials has invalid characters")
        .code(Code::CredentialsRejected)
        .hint("The container's host provides the token: use it unchanged."))
}

/// Parses the credentials in a response.
fn parse(response: &Response) -> std::result::Result<Credentials, EndpointError> {
    let json: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let text = |names: &[&str]| names.iter().find_map(|name| json[*name].as_str()).filter(|text| !text.is_empty());
    let reason = || {
        let parts: Vec<&str> = [text(&["code", "Code"]), text(&["message", "Message"])].into_iter().flatten().collect();
        reason_line(&parts.join(": "))
    };
    if !response.status.is_success() {
        // EKS's agent responds in plain text, ECS's in JSON, whose other fields may contain anything.
        let plain = || reason_line(&String::from_utf8_lossy(&response.body));
        return Err(response.failure(&if json.is_null() { plain() } else { reason() }));
    }
    if text(&["Code"]).is_some_and(|code| code != "Success") {
        return Err(EndpointError::Permanent(reason()));
    }
    let (Some(id), Some(secret)) = (text(&["AccessKeyId"]), text(&["SecretAccessKey"])) else {
        return Err(EndpointError::Permanent("the answer has no credentials".into()));
    };
    let expiry = expiration(text(&["Expiration"])).map_err(EndpointError::Permanent)?;
    Ok(Credentials::new(id, secret, text(&["Token"]).map(str::to_owned), expiry, "container"))
}

/// Advises after the endpoint rejected a request.
fn advice(host: &str) -> Advice {
    if POD_IDENTITY.contains(&host) {
        return Advice::new(
            "Check the pod identity association of the pod's service account, and that the role's trust policy allows \
             sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com:",
        )
        .command("aws eks list-pod-identity-associations --cluster-name CLUSTER");
    }
    Advice::new("Check the role of the task or pod that this container belongs to, and its trust policy.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(relative: bool, address: &str) -> ContainerEndpoint {
        ContainerEndpoint { relative, address: Secret::new(address), token: None }
    }

    #[test]
    fn plain_http_is_allowed_for_local_addresses_only() {
        let url = |relative, text| address(&endpoint(relative, text)).map(|url| url.to_string());
        assert_eq!(url(true, "/v2/credentials/1").unwrap(), "http://169.254.170.2/v2/credentials/1");
        for local in ["http://169.254.170.23/v1/credentials", "http://[fd00:ec2::23]/v1", "http://localhost:1/c"] {
            assert_eq!(url(false, local).unwrap(), local);
        }
        assert!(url(false, "https://agent.example/c").is_ok());
        for (other, why) in [
            ("http://10.0.0.1/secret-path", "loopback"),
            ("ftp://127.0.0.1/secret-path", "neither"),
            ("secret-path", "URL"),
        ] {
            let error = url(false, other).unwrap_err();
            assert!(error.to_string().contains(why) && !error.to_string().contains("secret-path"), "{error}");
        }
    }

    #[test]
    fn an_error_contains_the_reason_and_no_secret() {
        let parsed = |status: u16, body: &str| {
            let status = reqwest::StatusCode::from_u16(status).unwrap();
            match parse(&Response { status, body: body.into() }) {
                Ok(_) => "credentials".to_owned(),
                Err(EndpointError::Transient(why)) => format!("transient: {why}"),
                Err(EndpointError::Permanent(why)) => format!("permanent: {why}"),
            }
        };
        assert_eq!(parsed(400, "no such\n association\x1b[1m"), "permanent: HTTP 400: no such association[1m");
        assert_eq!(
            parsed(403, r#"{"code":"Denied","message":"no role","Token":"t"}"#),
            "permanent: HTTP 403: Denied: no role"
        );
        assert_eq!(parsed(500, ""), "transient: HTTP 500");
        assert_eq!(parsed(429, ""), "transient: HTTP 429");
        assert_eq!(parsed(200, r#"{"Code":"Failed","Message":"later"}"#), "permanent: Failed: later");
        assert_eq!(parsed(200, "{}"), "permanent: the answer has no credentials");
        assert_eq!(parsed(200, r#"{"AccessKeyId":"A","SecretAccessKey":"s"}"#), "credentials");
    }
}
