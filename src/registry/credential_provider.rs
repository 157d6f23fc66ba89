//! The credentials for a registry, shared by all its clients. A closure obtains them, so their source is not known here.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::error::{Result, ServiceError};

/// Credentials for a registry.
///
/// ```
/// use ecr_push::Login;
///
/// let login = Login::password("me", "secret");
/// assert_eq!(login, Login::Basic("bWU6c2VjcmV0".into()));
/// assert_eq!(format!("{login:?}"), "Basic(***)", "it is not printed");
/// # Ok::<(), ecr_push::Error>(())
/// ```
#[derive(Clone, Eq, PartialEq)]
pub enum Login {
    /// No credentials.
    Anonymous,
    /// The base64 encoding of `user:password`, as ECR issues it.
    Basic(String),
    /// A token that a token service issued and accepts instead of a password.
    IdentityToken(String),
}

impl Login {
    /// Returns the login with a user name and a password.
    pub fn password(user: &str, password: &str) -> Self {
        Self::Basic(STANDARD.encode(format!("{user}:{password}")))
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic(_) => "Basic(***)",
            Self::IdentityToken(_) => "IdentityToken(***)",
        })
    }
}

/// A login and its lifetime.
#[derive(Clone, Debug)]
pub(crate) struct IssuedLogin {
    /// The login.
    pub login: Login,
    /// The remaining lifetime. Without one, the login is used until it is rejected.
    pub lifetime: Option<Duration>,
}

/// Obtains a login. If the previous one was rejected, gets the response, and returns another login or an error.
pub(super) type LoginSource =
    Arc<dyn Fn(Option<ServiceError>) -> BoxFuture<'static, Result<IssuedLogin>> + Send + Sync>;

/// When credentials are sent, and to which service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum AuthMode {
    /// With every request, to the registry only. Saves a round trip if credentials are always required.
    Preemptive,
    /// On a challenge, to the registry and to the token service that it names.
    OnChallenge,
    /// On a challenge, to a registry of Amazon and to its token service, if that is of Amazon, too.
    OnAmazonChallenge,
}

/// A login that is shared by all clients of a registry, and by all registries that accept it.
pub(crate) struct CredentialProvider {
    mode: AuthMode,
    source: LoginSource,
    current: Mutex<Current>,
}

struct Current {
    /// The number of the login. With it, ten requests that are rejected together obtain one new login, not ten.
    generation: u64,
    login: Login,
    renew_at: Option<Instant>,
}

/// The longest time before its expiry at which a login is renewed.
const LONGEST_LEAD: Duration = Duration::from_secs(15 * 60);

/// Returns when credentials with this lifetime are renewed: after three quarters of it, or a quarter of an hour before the
/// expiry. Credentials without any lifetime left are used until they are rejected: a clock may be wrong.
pub(super) fn renewal(lifetime: Option<Duration>) -> Option<Instant> {
    let lifetime = lifetime.filter(|lifetime| !lifetime.is_zero())?;
    // A lifetime that overflows the clock does not end.
    Instant::now().checked_add(lifetime - (lifetime / 4).min(LONGEST_LEAD))
}

impl CredentialProvider {
    /// Creates a provider that obtains its login on first use.
    pub(crate) fn new(mode: AuthMode, source: LoginSource) -> Arc<Self> {
        let current = Current { generation: 0, login: Login::Anonymous, renew_at: None };
        Arc::new(Self { mode, source, current: Mutex::new(current) })
    }

    /// Returns when the login is sent, and to which service.
    pub(super) fn mode(&self) -> AuthMode {
        self.mode
    }

    /// Returns the login and its number. Renews a login that is about to expire; if that fails, uses it until it is rejected.
    pub(super) async fn login(&self) -> Result<(Login, u64)> {
        let mut current = self.current.lock().await;
        let is_due = current.renew_at.is_some_and(|at| at <= Instant::now());
        if current.generation == 0 {
            self.fetch(&mut current, None).await?;
        } else if is_due && self.fetch(&mut current, None).await.is_err() {
            current.renew_at = None;
        }
        Ok((current.login.clone(), current.generation))
    }

    /// Returns a new login after the one with the number `rejected` was rejected, unless another request has obtained one.
    pub(super) async fn renew(&self, rejected: u64, response: &ServiceError) -> Result<(Login, u64)> {
        let mut current = self.current.lock().await;
        if current.generation == rejected {
            self.fetch(&mut current, Some(response.clone())).await?;
        }
        Ok((current.login.clone(), current.generation))
    }

    /// Stores the token that a token service issued in exchange for an identity token, which may be valid only once.
    pub(super) async fn replace_identity_token(&self, used: u64, token: String) {
        let mut current = self.current.lock().await;
        if current.generation == used {
            current.login = Login::IdentityToken(token);
        }
    }

    async fn fetch(&self, current: &mut Current, rejected: Option<ServiceError>) -> Result<()> {
        let IssuedLogin { login, lifetime } = (self.source)(rejected).await?;
        let generation = current.generation + 1;
        *current = Current { generation, login, renew_at: renewal(lifetime) };
        Ok(())
    }
}

impl std::fmt::Debug for CredentialProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CredentialProvider({:?}, ***)", self.mode)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::error::Error;

    /// A provider of numbered logins with a lifetime in seconds; obtaining the number `broken` fails.
    fn numbered(lifetime: u64, broken: u64) -> (Arc<CredentialProvider>, Arc<AtomicU64>) {
        let fetched = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&fetched);
        let source: LoginSource = Arc::new(move |_| {
            let n = counter.fetch_add(1, Ordering::Relaxed) + 1;
            Box::pin(async move {
                let login = Login::password("AWS", &n.to_string());
                if n == broken {
                    Err(Error::interrupted())
                } else {
                    Ok(IssuedLogin { login, lifetime: Some(Duration::from_secs(lifetime)) })
                }
            })
        });
        (CredentialProvider::new(AuthMode::Preemptive, source), fetched)
    }

    #[tokio::test]
    async fn requests_that_are_rejected_together_obtain_one_new_login() {
        let (credentials, fetched) = numbered(3600, 0);
        let (first, number) = credentials.login().await.unwrap();
        let response = ServiceError::default();
        let renewed = futures_util::future::join_all((0..10).map(|_| credentials.renew(number, &response))).await;
        assert_eq!(fetched.load(Ordering::Relaxed), 2);
        assert!(renewed.into_iter().all(|renewed| renewed.unwrap().0 != first));
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_is_renewed_before_it_expires() {
        let (credentials, fetched) = numbered(12 * 3600, 0);
        for (hours, so_far) in [(0, 1), (11, 1), (1, 2), (11, 2), (1, 3)] {
            tokio::time::advance(Duration::from_secs(hours * 3600)).await;
            credentials.login().await.unwrap();
            assert_eq!(fetched.load(Ordering::Relaxed), so_far, "{hours} hours later");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_login_is_renewed_after_three_quarters_of_its_lifetime() {
        let after = |seconds| renewal(Some(Duration::from_secs(seconds))).map(|at| (at - Instant::now()).as_secs());
        assert_eq!([after(100), after(4 * 3600), after(0)], [Some(75), Some(4 * 3600 - 900), None]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_that_cannot_be_renewed_is_still_used() {
        let (credentials, fetched) = numbered(100, 2);
        let (first, number) = credentials.login().await.unwrap();
        tokio::time::advance(Duration::from_secs(80)).await;
        for _ in 0..3 {
            assert!(credentials.login().await.unwrap() == (first.clone(), number));
        }
        assert_eq!(fetched.load(Ordering::Relaxed), 2);
        assert_eq!(credentials.renew(number, &ServiceError::default()).await.unwrap().1, number + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_expired_login_is_used_until_it_is_rejected() {
        let (credentials, fetched) = numbered(0, 0);
        for _ in 0..3 {
            credentials.login().await.unwrap();
            tokio::time::advance(Duration::from_secs(3600)).await;
        }
        assert_eq!(fetched.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn an_identity_token_is_replaced_after_an_exchange() {
        let old = || IssuedLogin { login: Login::IdentityToken("old".into()), lifetime: None };
        let credentials =
            CredentialProvider::new(AuthMode::OnChallenge, Arc::new(move |_| Box::pin(async move { Ok(old()) })));
        let (_, number) = credentials.login().await.unwrap();
        credentials.replace_identity_token(number, "new".into()).await;
        assert!(credentials.login().await.unwrap() == (Login::IdentityToken("new".into()), number));
        // A login that was obtained meanwhile is newer.
        let (_, newer) = credentials.renew(number, &ServiceError::default()).await.unwrap();
        credentials.replace_identity_token(number, "late".into()).await;
        assert!(credentials.login().await.unwrap() == (Login::IdentityToken("old".into()), newer));
    }

    #[test]
    fn a_login_is_not_printed() {
        assert_eq!(format!("{:?}", Login::password("AWS", "secret")), "Basic(***)");
        assert_eq!(format!("{:?}", Login::IdentityToken("secret".into())), "IdentityToken(***)");
    }
}
