//! What a registry is shown: nothing before it asks, then what it asks for. ECR's is shown at once.

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

/// What a request needs to be allowed: `repository:team/app:pull,push`, `repository:team/base:pull`.
pub(super) type Scopes = Vec<String>;

/// Makes a client for the address of a token service.
pub(super) type Reach = Arc<dyn Fn(&Url) -> Result<Client> + Send + Sync>;

/// What is shown to one registry, shared by all lanes and fetched by one of them at a time.
pub(super) struct Auth {
    account: Arc<CredentialProvider>,
    /// What people call the registry.
    name: String,
    endpoint: Url,
    reach: Reach,
    witness: RequestObserver,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    way: AuthScheme,
    /// What is asked for whatever the request is about: ECR Public's `aws`.
    general: Scopes,
    tokens: HashMap<Scopes, Held>,
    /// Counts the tokens fetched.
    serial: u64,
    /// What nobody may do with the logins that there are, and why. It is not asked for again.
    refused: HashMap<Scopes, Error>,
}

/// What the registry wants to see.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
enum AuthScheme {
    /// Nothing, as far as is known.
    #[default]
    Open,
    Basic,
    Bearer(Service),
}

struct Held {
    header: HeaderValue,
    serial: u64,
    renew_at: Option<Instant>,
}

/// What a request showed.
#[derive(Clone)]
pub(super) struct SentCredential {
    pub(super) header: Option<HeaderValue>,
    scopes: Scopes,
    proof: Authorization,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Authorization {
    None,
    /// The login of that number.
    Login(u64),
    /// The token of that number.
    Token(u64),
}

/// How a registry said no to what it was shown.
pub(super) struct Refused {
    pub(super) fault: RequestError,
    pub(super) challenges: Vec<Challenge>,
}

impl State {
    /// Fails if it is known that there is no login for this.
    fn check(&self, scopes: &Scopes) -> Result<(), RequestError> {
        self.refused.get(scopes).map_or(Ok(()), |error| Err(RequestError::Local(error.clone())))
    }

    /// Remembers that there is none.
    fn note(
        &mut self,
        scopes: Scopes,
        done: Result<SentCredential, RequestError>,
    ) -> Result<SentCredential, RequestError> {
        if let Err(RequestError::Local(error)) = &done
            && error.kind() == Kind::Permission
        {
            self.refused.insert(scopes, error.clone());
        }
        done
    }
}

impl Auth {
    pub(super) fn new(
        account: Arc<CredentialProvider>,
        name: String,
        endpoint: Url,
        reach: Reach,
        witness: RequestObserver,
    ) -> Self {
        let way = if account.manner() == AuthMode::Preemptive { AuthScheme::Basic } else { AuthScheme::Open };
        Self { account, name, endpoint, reach, witness, state: Mutex::new(State { way, ..State::default() }) }
    }

    /// What to show with a request that needs these scopes.
    pub(super) async fn show(&self, scopes: Scopes) -> Result<SentCredential, RequestError> {
        let mut state = self.state.lock().await;
        state.check(&scopes)?;
        let proven = self.prove(&mut state, scopes.clone()).await;
        state.note(scopes, proven)
    }

    /// What to show after this was refused: what the registry asks for, or something new, unless another lane has fetched
    /// that meanwhile.
    pub(super) async fn renew(&self, shown: SentCredential, refused: Refused) -> Result<SentCredential, RequestError> {
        let mut state = self.state.lock().await;
        let mut scopes = shown.scopes.clone();
        if let (RequestError::Status(answer, _), true) = (&refused.fault, self.account.manner() != AuthMode::Preemptive)
        {
            self.learn(&mut state, &refused.challenges, &mut scopes, answer)?;
        }
        state.check(&scopes)?;
        let renewed = self.renewed(&mut state, shown, refused.fault, scopes.clone()).await;
        state.note(scopes, renewed)
    }

    async fn renewed(
        &self,
        state: &mut State,
        shown: SentCredential,
        fault: RequestError,
        scopes: Scopes,
    ) -> Result<SentCredential, RequestError> {
        let RequestError::Status(answer, _) = &fault else { return Err(fault) };
        match (&state.way, shown.proof) {
            (AuthScheme::Open, _) => return Err(fault),
            (AuthScheme::Basic, Authorization::Login(number)) => {
                drop(self.account.renew(number, answer).await.map_err(RequestError::Local)?);
            }
            // One for less than is wanted is as good as before.
            (AuthScheme::Bearer(_), Authorization::Token(serial)) if scopes == shown.scopes => {
                state.tokens.retain(|_, held| held.serial != serial);
                // A token that everybody gets will not be better the next time.
                let (login, number) = self.account.login().await.map_err(RequestError::Local)?;
                if login == Login::Anonymous {
                    self.account.renew(number, answer).await.map_err(RequestError::Local)?;
                }
            }
            _ => {}
        }
        let next = self.prove(state, scopes).await?;
        if next.header.is_some() || shown.header.is_some() {
            return Ok(next);
        }
        // There is nothing to show. Whoever knows of logins says what to do about that.
        let (_, number) = self.account.login().await.map_err(RequestError::Local)?;
        self.account.renew(number, answer).await.map_err(RequestError::Local)?;
        match self.prove(state, next.scopes).await? {
            next if next.header.is_some() => Ok(next),
            _ => Err(fault),
        }
    }

    /// Reads what is asked for. A token service comes before a password at the registry itself.
    fn learn(
        &self,
        state: &mut State,
        challenges: &[Challenge],
        scopes: &mut Scopes,
        answer: &ServiceError,
    ) -> Result<(), RequestError> {
        let asked = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        if let Some((bearer, realm)) = asked("bearer").and_then(|bearer| Some((bearer, bearer.get("realm")?))) {
            let realm = address::realm(&self.name, &self.endpoint, realm, self.account.manner())
                .map_err(RequestError::Local)?;
            let service = Service { realm, service: bearer.get("service").map(str::to_owned) };
            for scope in bearer.get("scope").unwrap_or_default().split_whitespace() {
                let list = if scope.starts_with("repository:") { &mut *scopes } else { &mut state.general };
                if !list.iter().any(|known| covers(known, scope)) {
                    list.push(scope.to_owned());
                }
            }
            state.way = AuthScheme::Bearer(service);
        } else if asked("basic").is_some() {
            state.way = AuthScheme::Basic;
        } else if !challenges.is_empty() {
            let schemes: Vec<&str> = challenges.iter().map(|challenge| challenge.scheme.as_str()).collect();
            let what = format!("{} wants a login by {}, which is not understood here", self.name, schemes.join(", "));
            let hint =
                "Registries that take a password (Basic) or a token of a token service (Bearer) can be pushed to.";
            return Err(RequestError::Local(
                Error::new(Kind::Permission, what)
                    .code(Code::CredentialsRejected)
                    .with_service_error(answer.clone())
                    .hint(hint),
            ));
        }
        Ok(())
    }

    async fn prove(&self, state: &mut State, scopes: Scopes) -> Result<SentCredential, RequestError> {
        match state.way.clone() {
            AuthScheme::Open => Ok(SentCredential { header: None, scopes, proof: Authorization::None }),
            AuthScheme::Basic => {
                let (login, number) = self.account.login().await.map_err(RequestError::Local)?;
                let header = match login {
                    Login::Anonymous => None,
                    Login::Basic(text) => Some(header("Basic", &text)?),
                    Login::IdentityToken(_) => {
                        let what =
                            format!("{} wants a password, and there is only an identity token for it", self.name);
                        return Err(RequestError::Local(
                            Error::new(Kind::Permission, what).code(Code::CredentialsRejected).hint("Log in anew."),
                        ));
                    }
                };
                let proof = header.as_ref().map_or(Authorization::None, |_| Authorization::Login(number));
                Ok(SentCredential { header, scopes, proof })
            }
            AuthScheme::Bearer(service) => self.bear(state, &service, scopes).await,
        }
    }

    /// The token for these scopes, fetched unless it is there and good for a while. One that is about to expire and cannot be
    /// renewed is used as long as it lasts.
    async fn bear(&self, state: &mut State, service: &Service, scopes: Scopes) -> Result<SentCredential, RequestError> {
        let is_good = |held: &&mut Held| held.renew_at.is_none_or(|at| at > Instant::now());
        if state.tokens.get_mut(&scopes).filter(is_good).is_none() {
            match self.fetch(service, scopes.iter().chain(&state.general).cloned().collect()).await {
                Ok((header, renew_at)) => {
                    state.serial += 1;
                    let held = Held { header, serial: state.serial, renew_at };
                    state.tokens.insert(scopes.clone(), held);
                }
                Err(fault) => match state.tokens.get_mut(&scopes) {
                    Some(held) => held.renew_at = None,
                    None => return Err(fault),
                },
            }
        }
        let held = state.tokens.get(&scopes);
        let proof = held.map_or(Authorization::None, |held| Authorization::Token(held.serial));
        Ok(SentCredential { header: held.map(|held| held.header.clone()), scopes, proof })
    }

    /// A new token, and when it is to be renewed.
    async fn fetch(&self, service: &Service, scopes: Scopes) -> Result<(HeaderValue, Option<Instant>), RequestError> {
        let http = (self.reach)(&service.realm).map_err(RequestError::Local)?;
        let (mut login, mut number) = self.account.login().await.map_err(RequestError::Local)?;
        // What path a registry names of a host that is not its own may be anything.
        let told = if service.realm.origin() == self.endpoint.origin() { UrlDetail::Path } else { UrlDetail::Host };
        let asking = |method: &str, url: &Url, size| RequestTimer::new(&self.witness, method, url, told, size);
        let token = match service.token(&http, &scopes, &login, asking).await {
            // ECR Public says 400 where others say 401.
            Err(RequestError::Status(answer, _)) if matches!(answer.status, Some(400 | 401 | 403)) => {
                (login, number) = self.account.renew(number, &answer).await.map_err(RequestError::Local)?;
                service.token(&http, &scopes, &login, asking).await
            }
            token => token,
        };
        let token = token.map_err(|fault| match fault {
            fault if fault.is_transient() => fault,
            RequestError::Status(answer, _) => {
                let what = format!("cannot get a token for {}", self.name);
                RequestError::Local(
                    Error::new(Kind::Permission, what).code(Code::CredentialsRejected).with_service_error(*answer),
                )
            }
            fault => fault,
        })?;
        if let (Login::IdentityToken(_), Some(identity)) = (&login, token.identity) {
            self.account.exchange(number, identity).await;
        }
        Ok((token.header, renewal(token.lifetime)))
    }
}

/// Whether a scope that is asked for anyway allows all that another one does: `repository:a:pull,push` for
/// `repository:a:pull`.
fn covers(ours: &str, theirs: &str) -> bool {
    let (Some((our_name, our_actions)), Some((their_name, their_actions))) =
        (ours.rsplit_once(':'), theirs.rsplit_once(':'))
    else {
        return ours == theirs;
    };
    let has = |action: &str| our_actions.split(',').any(|ours| ours == action);
    our_name == their_name && their_actions.split(',').all(has)
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
    fn a_scope_covers_one_of_fewer_actions() {
        for (ours, theirs, is_covered) in [
            ("repository:a/b:pull,push", "repository:a/b:pull", true),
            ("repository:a/b:pull,push", "repository:a/b:push,pull", true),
            ("repository:a/b:pull", "repository:a/b:pull,push", false),
            ("repository:a/b:pull", "repository:a:pull", false),
            ("aws", "aws", true),
            ("aws", "repository:aws:pull", false),
        ] {
            assert_eq!(covers(ours, theirs), is_covered, "{ours} {theirs}");
        }
    }
}
