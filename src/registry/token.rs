//! The client of a token service, which issues tokens for repositories
//! (<https://distribution.github.io/distribution/spec/auth/token/>, `.../oauth/`).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Url};
use serde::Deserialize;

use super::credential_provider::Login;
use super::reply::{self, Limits, Reply};
use super::request_error::RequestError;
use super::transport_error::{OtherService, TimedOut};
use crate::error::{Code, Error, Kind, Result, ServiceError};
use crate::request_log::{RequestTimer, Subject};

/// The maximum size of a response in bytes.
const MAX_SIZE: usize = 1 << 20;

/// The time limit of a token service. It is part of the time of the request that needs the token.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(20);

/// The lifetime of a token without a stated one, as the specification requires.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);

/// The token service that a challenge names.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) realm: Url,
    /// The name of the registry at this service.
    pub(super) service: Option<String>,
}

/// A token that a token service issued.
pub(super) struct Token {
    /// The `Authorization` header.
    pub(super) header: HeaderValue,
    pub(super) lifetime: Option<Duration>,
    /// The token that replaces the identity token.
    pub(super) identity: Option<String>,
}

#[derive(Deserialize)]
struct TokenResponse {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    /// The lifetime in seconds. Some services send it as text.
    expires_in: Option<serde_json::Value>,
}

impl Service {
    /// Returns its name for messages.
    fn name(&self) -> String {
        let host = self.realm.host_str().unwrap_or_default();
        let port = self.realm.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("the token service {host}{port}")
    }

    /// Fetches a token. No redirect is followed: the credentials are for this URL.
    pub(super) async fn token(
        &self,
        http: &Client,
        scopes: &[String],
        login: &Login,
        timer: impl FnOnce(&str, &Url, Arc<AtomicU64>) -> RequestTimer,
    ) -> Result<Token, RequestError> {
        let failed = |source| RequestError::Transport(Box::new(OtherService { name: self.name(), source }));
        let get = || http.get(self.get(scopes));
        let (method, size, request) = match login {
            Login::Anonymous => ("GET", 0, get()),
            Login::Basic(text) => ("GET", 0, get().header(AUTHORIZATION, header("Basic", text)?)),
            Login::IdentityToken(token) => {
                let media_type = HeaderValue::from_static("application/x-www-form-urlencoded");
                let form = self.form(scopes, token);
                let request = http.post(self.realm.clone()).header(CONTENT_TYPE, media_type);
                ("POST", form.len() as u64, request.body(form))
            }
        };
        let timer = timer(method, &self.realm, Arc::new(AtomicU64::new(size)))
            .about(Some(Subject::RegistryToken(scopes.join(" "))));
        let sending = reply::send(request, timer, Limits { bytes: MAX_SIZE, time: TOKEN_TIMEOUT });
        let reply = match tokio::time::timeout(TOKEN_TIMEOUT, sending).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => return Err(failed(error.into_source())),
            Err(_) => return Err(failed(TimedOut(TOKEN_TIMEOUT).into())),
        };
        if reply.status.as_u16() != 200 {
            return Err(self.rejection(reply));
        }
        let invalid = || {
            let error = Error::new(Kind::Refused, format!("{} issued no usable token", self.name()));
            RequestError::from(error.code(Code::ProtocolViolation))
        };
        let bytes = match reply.complete() {
            Ok(reply) => reply.body(),
            // It is larger than any token.
            Err(RequestError::Status(..)) => return Err(invalid()),
            Err(error) => return Err(error),
        };
        // An invalid response is not quoted: it may contain half a token.
        let response: TokenResponse = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
        let text = [response.token, response.access_token].into_iter().flatten().find(|text| !text.is_empty());
        Ok(Token {
            header: header("Bearer", &text.ok_or_else(invalid)?)?,
            lifetime: lifetime(response.expires_in.as_ref()),
            identity: response.refresh_token.filter(|token| !token.is_empty()),
        })
    }

    fn get(&self, scopes: &[String]) -> Url {
        let mut url = self.realm.clone();
        let service = self.service.iter().map(|service| ("service", service));
        url.query_pairs_mut().extend_pairs(service).extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
        url
    }

    fn form(&self, scopes: &[String], token: &str) -> String {
        let mut url = self.realm.clone();
        url.set_query(None);
        url.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("client_id", "ecr-push")
            .extend_pairs(self.service.iter().map(|service| ("service", service)))
            .append_pair("scope", &scopes.join(" "))
            .append_pair("refresh_token", token);
        url.query().unwrap_or_default().to_owned()
    }

    /// Turns a response with an unexpected status into an error.
    fn rejection(&self, reply: Reply) -> RequestError {
        let (name, status) = (self.name(), reply.status);
        match reply.into_error(&reqwest::Method::GET) {
            RequestError::Status(response, delay) => {
                let named = ServiceError { message: format!("{name}: {}", response.message), ..*response };
                if status.is_redirection() {
                    let what = format!("{name} redirects to another URL; redirects with credentials are not followed");
                    let error = Error::new(Kind::Refused, what).code(Code::ProtocolViolation);
                    return error.with_service_error(named).into();
                }
                RequestError::Status(Box::new(named), delay)
            }
            error => error,
        }
    }
}

/// Parses the lifetime of a token. A token with an invalid lifetime is used until it is rejected.
fn lifetime(expires_in: Option<&serde_json::Value>) -> Option<Duration> {
    let Some(expires_in) = expires_in else { return Some(DEFAULT_LIFETIME) };
    let seconds = expires_in.as_f64().or_else(|| expires_in.as_str()?.trim().parse().ok())?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Creates an `Authorization` header that no log shows.
pub(super) fn header(scheme: &str, secret: &str) -> Result<HeaderValue, RequestError> {
    // A failure must not quote the secret, so its cause is left out.
    let mut header = HeaderValue::try_from(format!("{scheme} {secret}")).map_err(|_| {
        Error::new(Kind::Permission, "the registry login contains characters that are invalid in HTTP")
            .code(Code::CredentialsRejected)
    })?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lifetime_of_a_token_is_parsed() {
        let expires_in = |text: &str| lifetime(Some(&serde_json::from_str(text).unwrap()));
        assert_eq!(lifetime(None), Some(Duration::from_secs(60)));
        assert_eq!(
            (expires_in("300"), expires_in("\"300\"")),
            (Some(Duration::from_secs(300)), Some(Duration::from_secs(300)))
        );
        assert_eq!(expires_in("0"), Some(Duration::ZERO));
        for text in ["-1", "1e300", "\"soon\"", "\"NaN\"", "[]", "{}", "true"] {
            assert_eq!(expires_in(text), None, "{text}");
        }
    }

    #[test]
    fn a_request_preserves_the_query_of_the_realm_and_escapes_its_own() {
        let realm = Url::parse("https://auth.example/token?account=a").unwrap();
        let service = Service { realm, service: Some("the registry".into()) };
        let scopes = ["repository:a/b:pull,push".to_owned(), "repository:c:pull".to_owned()];
        assert_eq!(
            service.get(&scopes).as_str(),
            "https://auth.example/token?account=a&service=the+registry&scope=repository%3Aa%2Fb%3Apull%2Cpush\
             &scope=repository%3Ac%3Apull"
        );
        assert_eq!(
            service.form(&scopes, "a&b=c"),
            "grant_type=refresh_token&client_id=ecr-push&service=the+registry\
             &scope=repository%3Aa%2Fb%3Apull%2Cpush+repository%3Ac%3Apull&refresh_token=a%26b%3Dc"
        );
        assert_eq!(service.name(), "the token service auth.example");
    }
}
