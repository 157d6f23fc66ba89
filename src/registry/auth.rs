//! Authentication: credentials are sent after a challenge, as it requires; with ECR, from the first request on.

use std::collections::HashMap;
use std::sync::Arc;

use reqwest::header::HeaderValue;
use reqwest::{Client, Url};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::address;
use super::challenge::Challenge;
use super::credential_provider::{AuthMode, CredentialProvider, Login, renewal};
use super::request_error::RequestError;
use super::token::{Service, header};
use crate::error::{Code, Error, Kind, Result, ServiceError};
use crate::request_log::{RequestObserver, RequestTimer, UrlDetail};

/// The scopes that a request needs: `repository:team/app:pull,push`, `repository:team/base:pull`.
pub(super) type Scopes = Vec<String>;

/// Creates a client for the URL of a token service.
pub(super) type Connect = Arc<dyn Fn(&Url) -> Result<Client> + Send + Sync>;

/// The authentication at one registry, shared by all its clients.
pub(super) struct Auth {
    credentials: Arc<CredentialProvider>,
    /// The name of the registry in messages.
    name: String,
    endpoint: Url,
    connect: Connect,
    observer: RequestObserver,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    scheme: AuthScheme,
    /// Scopes that the registry asks for with every request: ECR Public's `aws`.
    general_scopes: Scopes,
    tokens: HashMap<Scopes, CachedToken>,
    /// The number of tokens that were fetched.
    number: u64,
    /// Scopes for which there are no credentials, and why. They are not requested again.
    rejected: HashMap<Scopes, Error>,
}

/// The scheme that the registry asks for.
#[derive(Clone, Default)]
enum AuthScheme {
    /// No scheme so far.
    #[default]
    Open,
    Basic,
    Bearer(Service),
}

struct CachedToken {
    header: HeaderValue,
    number: u64,
    renew_at: Option<Instant>,
}

/// The credentials of one request.
pub(super) struct SentCredential {
    pub(super) header: Option<HeaderValue>,
    scopes: Scopes,
    authorization: Authorization,
}

enum Authorization {
    None,
    /// The login with this number.
    Login(u64),
    /// The token with this number.
    Token(u64),
}

/// How a registry rejected the credentials.
pub(super) struct Rejection {
    pub(super) error: RequestError,
    pub(super) challenges: Vec<Challenge>,
}

impl State {
    /// Fails if it is known that there are no credentials for these scopes.
    fn check(&self, scopes: &Scopes) -> Result<(), RequestError> {
        self.rejected.get(scopes).map_or(Ok(()), |error| Err(RequestError::Local(error.clone())))
    }

    /// Stores the error if there are no credentials for these scopes. Returns `result`.
    fn remember(
        &mut self,
        scopes: Scopes,
        result: Result<SentCredential, RequestError>,
    ) -> Result<SentCredential, RequestError> {
        if let Err(RequestError::Local(error)) = &result
            && error.kind() == Kind::Permission
        {
            self.rejected.insert(scopes, error.clone());
        }
        result
    }
}

impl Auth {
    pub(super) fn new(
        credentials: Arc<CredentialProvider>,
        name: String,
        endpoint: Url,
        connect: Connect,
        observer: RequestObserver,
    ) -> Self {
        let scheme = if credentials.mode() == AuthMode::Preemptive { AuthScheme::Basic } else { AuthScheme::Open };
        Self { credentials, name, endpoint, connect, observer, state: Mutex::new(State { scheme, ..State::default() }) }
    }

    /// Returns the credentials for a request that needs these scopes.
    pub(super) async fn credential(&self, scopes: Scopes) -> Result<SentCredential, RequestError> {
        let mut state = self.state.lock().await;
        state.check(&scopes)?;
        let authorized = self.authorize(&mut state, scopes.clone()).await;
        state.remember(scopes, authorized)
    }

    /// Returns other credentials after these were rejected: those that the registry asks for, or new ones, unless another
    /// request has obtained new ones meanwhile.
    pub(super) async fn renew(
        &self,
        sent_credential: SentCredential,
        rejected: Rejection,
    ) -> Result<SentCredential, RequestError> {
        let mut state = self.state.lock().await;
        let mut scopes = sent_credential.scopes.clone();
        if let RequestError::Status(response, _) = &rejected.error
            && self.credentials.mode() != AuthMode::Preemptive
        {
            self.learn(&mut state, &rejected.challenges, &mut scopes, response)?;
        }
        state.check(&scopes)?;
        let renewed = self.renewed(&mut state, sent_credential, rejected.error, scopes.clone()).await;
        state.remember(scopes, renewed)
    }

    async fn renewed(
        &self,
        state: &mut State,
        sent_credential: SentCredential,
        error: RequestError,
        scopes: Scopes,
    ) -> Result<SentCredential, RequestError> {
        let RequestError::Status(response, _) = &error else { return Err(error) };
        match (&state.scheme, sent_credential.authorization) {
            (AuthScheme::Open, _) => return Err(error),
            (AuthScheme::Basic, Authorization::Login(number)) => {
                self.credentials.renew(number, response).await?;
            }
            // A token for fewer scopes than needed stays valid.
            (AuthScheme::Bearer(_), Authorization::Token(number)) if scopes == sent_credential.scopes => {
                state.tokens.retain(|_, cached| cached.number != number);
                // A new anonymous token would not help.
                let (login, number) = self.credentials.login().await?;
                if login == Login::Anonymous {
                    self.credentials.renew(number, response).await?;
                }
            }
            _ => {}
        }
        let next = self.authorize(state, scopes).await?;
        if next.header.is_some() || sent_credential.header.is_some() {
            return Ok(next);
        }
        // There are no credentials. The source of logins returns an error with advice.
        let (_, number) = self.credentials.login().await?;
        self.credentials.renew(number, response).await?;
        match self.authorize(state, next.scopes).await? {
            next if next.header.is_some() => Ok(next),
            _ => Err(error),
        }
    }

    /// Reads the challenges. A token service is preferred over a password.
    fn learn(
        &self,
        state: &mut State,
        challenges: &[Challenge],
        scopes: &mut Scopes,
        response: &ServiceError,
    ) -> Result<(), RequestError> {
        let challenge = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        if let Some((bearer, realm)) = challenge("bearer").and_then(|bearer| Some((bearer, bearer.get("realm")?))) {
            let realm = address::realm(&self.name, &self.endpoint, realm, self.credentials.mode())?;
            let service = Service { realm, service: bearer.get("service").map(str::to_owned) };
            for scope in bearer.get("scope").unwrap_or_default().split_whitespace() {
                let list = if scope.starts_with("repository:") { &mut *scopes } else { &mut state.general_scopes };
                if !list.iter().any(|known| covers(known, scope)) {
                    list.push(scope.to_owned());
                }
            }
            state.scheme = AuthScheme::Bearer(service);
        } else if challenge("basic").is_some() {
            state.scheme = AuthScheme::Basic;
        } else if !challenges.is_empty() {
            let schemes: Vec<&str> = challenges.iter().map(|challenge| challenge.scheme.as_str()).collect();
            let what =
                format!("{} requires authentication by {}, which is not supported", self.name, schemes.join(", "));
            let error = Error::new(Kind::Permission, what).code(Code::CredentialsRejected);
            let error = error.with_service_error(response.clone());
            return Err(error.hint("Supported are passwords (Basic) and tokens of a token service (Bearer).").into());
        }
        Ok(())
    }

    async fn authorize(&self, state: &mut State, scopes: Scopes) -> Result<SentCredential, RequestError> {
        match state.scheme.clone() {
            AuthScheme::Open => Ok(SentCredential { header: None, scopes, authorization: Authorization::None }),
            AuthScheme::Basic => {
                let (login, number) = self.credentials.login().await?;
                let header = match login {
                    Login::Anonymous => None,
                    Login::Basic(text) => Some(header("Basic", &text)?),
                    Login::IdentityToken(_) => {
                        let what =
                            format!("{} requires a password, and only an identity token is available", self.name);
                        let error = Error::new(Kind::Permission, what).code(Code::CredentialsRejected);
                        return Err(error.hint("Log in again with a password.").into());
                    }
                };
                let authorization = header.as_ref().map_or(Authorization::None, |_| Authorization::Login(number));
                Ok(SentCredential { header, scopes, authorization })
            }
            AuthScheme::Bearer(service) => self.token(state, &service, scopes).await,
        }
    }

    /// Returns the token for these scopes, from the cache unless it is about to expire. A token that cannot be renewed is used
    /// until it is rejected.
    async fn token(
        &self,
        state: &mut State,
        service: &Service,
        scopes: Scopes,
    ) -> Result<SentCredential, RequestError> {
        let is_current = |cached: &CachedToken| cached.renew_at.is_none_or(|at| at > Instant::now());
        if !state.tokens.get(&scopes).is_some_and(is_current) {
            match self.fetch(service, scopes.iter().chain(&state.general_scopes).cloned().collect()).await {
                Ok((header, renew_at)) => {
                    state.number += 1;
                    let cached = CachedToken { header, number: state.number, renew_at };
                    state.tokens.insert(scopes.clone(), cached);
                }
                Err(error) => match state.tokens.get_mut(&scopes) {
                    Some(cached) => cached.renew_at = None,
                    None => return Err(error),
                },
            }
        }
        let cached = state.tokens.get(&scopes);
        let authorization = cached.map_or(Authorization::None, |cached| Authorization::Token(cached.number));
        Ok(SentCredential { header: cached.map(|cached| cached.header.clone()), scopes, authorization })
    }

    /// Fetches a token, and returns it with the time to renew it.
    async fn fetch(&self, service: &Service, scopes: Scopes) -> Result<(HeaderValue, Option<Instant>), RequestError> {
        let http = (self.connect)(&service.realm)?;
        let (mut login, mut number) = self.credentials.login().await?;
        // The path on a host that is not the registry's own may contain anything.
        let detail = if service.realm.origin() == self.endpoint.origin() { UrlDetail::Path } else { UrlDetail::Host };
        let timer = |method: &str, url: &Url, size| RequestTimer::new(&self.observer, method, url, detail, size);
        let token = match service.token(&http, &scopes, &login, timer).await {
            // ECR Public responds 400 where others respond 401.
            Err(RequestError::Status(response, _)) if matches!(response.status, Some(400 | 401 | 403)) => {
                (login, number) = self.credentials.renew(number, &response).await?;
                service.token(&http, &scopes, &login, timer).await
            }
            token => token,
        };
        let token = token.map_err(|error| match error {
            error if error.is_transient() => error,
            RequestError::Status(response, _) => {
                let error = Error::new(Kind::Permission, format!("cannot get a token for {}", self.name));
                error.code(Code::CredentialsRejected).with_service_error(*response).into()
            }
            error => error,
        })?;
        if let (Login::IdentityToken(_), Some(identity)) = (&login, token.identity) {
            self.credentials.replace_identity_token(number, identity).await;
        }
        Ok((token.header, renewal(token.lifetime)))
    }
}

/// Returns whether one scope includes another: `repository:a:pull,push` includes `repository:a:pull`.
fn covers(scope: &str, other: &str) -> bool {
    let (Some((name, actions)), Some((other_name, other_actions))) = (scope.rsplit_once(':'), other.rsplit_once(':'))
    else {
        return scope == other;
    };
    let has = |action: &str| actions.split(',').any(|own| own == action);
    name == other_name && other_actions.split(',').all(has)
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Auth")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_includes_one_with_fewer_actions() {
        for (scope, other, is_covered) in [
            ("repository:a/b:pull,push", "repository:a/b:pull", true),
            ("repository:a/b:pull,push", "repository:a/b:push,pull", true),
            ("repository:a/b:pull", "repository:a/b:pull,push", false),
            ("repository:a/b:pull", "repository:a:pull", false),
            ("aws", "aws", true),
            ("aws", "repository:aws:pull", false),
        ] {
            assert_eq!(covers(scope, other), is_covered, "{scope} {other}");
        }
    }
}
