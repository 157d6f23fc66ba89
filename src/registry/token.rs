//! A token service: a login in, a token for some repositories out
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
use super::transport_error::{Elsewhere, Late};
use crate::error::{Code, Error, Kind, Result, ServiceError};
use crate::request_log::RequestTimer;

/// More than any token service has to say.
const LARGEST: usize = 1 << 20;

/// How long a token service may take for an answer. It is part of the time that the request has which needs the token.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a token lives where nobody says it, as the specification has it.
const USUAL_LIFE: Duration = Duration::from_secs(60);

/// A token service, as a challenge names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Service {
    pub(super) realm: Url,
    /// The name under which it knows the registry.
    pub(super) service: Option<String>,
}

/// A token that a service gave.
pub(super) struct Token {
    pub(super) header: HeaderValue,
    pub(super) lifetime: Option<Duration>,
    /// What takes the place of the identity token that was shown.
    pub(super) identity: Option<String>,
}

#[derive(Deserialize)]
struct Given {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    /// A number, which some write as text.
    expires_in: Option<serde_json::Value>,
}

impl Service {
    /// Its name, for people.
    fn name(&self) -> String {
        let host = self.realm.host_str().unwrap_or_default();
        let port = self.realm.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("the token service {host}{port}")
    }

    /// Asks for a token. No redirect is followed: the login is for this address.
    pub(super) async fn token(
        &self,
        http: &Client,
        scopes: &[String],
        login: &Login,
        asking: impl FnOnce(&str, &Url, Arc<AtomicU64>) -> RequestTimer,
    ) -> Result<Token, RequestError> {
        let elsewhere = |source| RequestError::Transport(Box::new(Elsewhere { name: self.name(), source }));
        let question = || http.get(self.question(scopes));
        let (method, size, request) = match login {
            Login::Anonymous => ("GET", 0, question()),
            Login::Basic(text) => ("GET", 0, question().header(AUTHORIZATION, header("Basic", text)?)),
            Login::IdentityToken(token) => {
                let media_type = HeaderValue::from_static("application/x-www-form-urlencoded");
                let form = self.form(scopes, token);
                let request = http.post(self.realm.clone()).header(CONTENT_TYPE, media_type);
                ("POST", form.len() as u64, request.body(form))
            }
        };
        let asking = asking(method, &self.realm, Arc::new(AtomicU64::new(size)))
            .about(Some(format!("a token for {}", scopes.join(" "))));
        let sending = reply::send(request, asking, Limits { bytes: LARGEST, time: PATIENCE });
        let reply = match tokio::time::timeout(PATIENCE, sending).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => return Err(elsewhere(error.into_source())),
            Err(_) => return Err(elsewhere(Late(PATIENCE).into())),
        };
        if reply.status.as_u16() != 200 {
            return Err(self.refusal(reply));
        }
        let unusable = || {
            let error = Error::new(Kind::Refused, format!("{} gave no usable token", self.name()));
            RequestError::Local(error.code(Code::ProtocolViolation))
        };
        let bytes = match reply.complete() {
            Ok(reply) => reply.body(),
            // It is larger than any token.
            Err(RequestError::Status(..)) => return Err(unusable()),
            Err(fault) => return Err(fault),
        };
        // What cannot be read is not quoted: it may hold half a token.
        let given: Given = serde_json::from_slice(&bytes).map_err(|_| unusable())?;
        let text = [given.token, given.access_token].into_iter().flatten().find(|text| !text.is_empty());
        Ok(Token {
            header: header("Bearer", &text.ok_or_else(unusable)?)?,
            lifetime: lifetime(given.expires_in.as_ref()),
            identity: given.refresh_token.filter(|token| !token.is_empty()),
        })
    }

    fn question(&self, scopes: &[String]) -> Url {
        let mut url = self.realm.clone();
        {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(self.service.iter().map(|service| ("service", service)));
            query.extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
        }
        url
    }

    fn form(&self, scopes: &[String], token: &str) -> String {
        let mut url = self.realm.clone();
        url.set_query(None);
        {
            let mut form = url.query_pairs_mut();
            form.append_pair("grant_type", "refresh_token").append_pair("client_id", "ecr-push");
            form.extend_pairs(self.service.iter().map(|service| ("service", service)));
            form.append_pair("scope", &scopes.join(" ")).append_pair("refresh_token", token);
        }
        url.query().unwrap_or_default().to_owned()
    }

    /// What it said instead. That it is busy may pass; all else is a refusal.
    fn refusal(&self, reply: Reply) -> RequestError {
        let status = reply.status;
        match RequestError::of_reply(reply, &reqwest::Method::GET) {
            RequestError::Status(answer, pause) => {
                let named = ServiceError { message: format!("{}: {}", self.name(), answer.message), ..*answer };
                if status.is_redirection() {
                    let what =
                        format!("{} sends us to another address, which is not followed with a login", self.name());
                    return RequestError::Local(
                        Error::new(Kind::Refused, what).code(Code::ProtocolViolation).with_service_error(named),
                    );
                }
                RequestError::Status(Box::new(named), pause)
            }
            fault => fault,
        }
    }
}

/// How long a token is good, by what is said of it. A time that is none lasts until it is refused.
fn lifetime(expires_in: Option<&serde_json::Value>) -> Option<Duration> {
    let Some(said) = expires_in else { return Some(USUAL_LIFE) };
    let seconds = said.as_f64().or_else(|| said.as_str()?.trim().parse().ok())?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// An `Authorization` header that no log shows.
pub(super) fn header(scheme: &str, secret: &str) -> Result<HeaderValue, RequestError> {
    // A failure must not quote the secret, so its cause is left out.
    let mut header = HeaderValue::try_from(format!("{scheme} {secret}")).map_err(|_| {
        RequestError::Local(
            Error::new(Kind::Permission, "the registry login holds characters that HTTP forbids")
                .code(Code::CredentialsRejected),
        )
    })?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lives_as_long_as_is_said() {
        let said = |text: &str| lifetime(Some(&serde_json::from_str(text).unwrap()));
        assert_eq!(lifetime(None), Some(Duration::from_secs(60)));
        assert_eq!((said("300"), said("\"300\"")), (Some(Duration::from_secs(300)), Some(Duration::from_secs(300))));
        assert_eq!(said("0"), Some(Duration::ZERO));
        for text in ["-1", "1e300", "\"soon\"", "\"NaN\"", "[]", "{}", "true"] {
            assert_eq!(said(text), None, "{text}");
        }
    }

    #[test]
    fn a_question_keeps_what_the_realm_has_and_escapes_the_rest() {
        let realm = Url::parse("https://auth.example/token?account=a").unwrap();
        let service = Service { realm, service: Some("the registry".into()) };
        let scopes = ["repository:a/b:pull,push".to_owned(), "repository:c:pull".to_owned()];
        assert_eq!(
            service.question(&scopes).as_str(),
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
