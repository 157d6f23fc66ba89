//! Who we are to a registry, for all who talk to it. Where the login comes from is not known here: it is a closure.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::error::{Result, ServiceError};

/// What a registry is shown.
#[derive(Clone, Eq, PartialEq)]
pub enum Login {
    /// Nothing.
    Anonymous,
    /// The base64 text of `user:password`, as ECR hands it out.
    Basic(String),
    /// What a token service once gave for a password, and takes in its place.
    IdentityToken(String),
}

impl Login {
    /// A login with a user name and a password.
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

/// A login, and how long it is good for.
#[derive(Clone, Debug)]
pub struct IssuedLogin {
    /// The login.
    pub login: Login,
    /// What is left of its time. Without it, it is good until it is refused.
    pub lifetime: Option<Duration>,
}

/// Gets a login. Where the one before was refused it is told how, and either has another or says what is wrong.
pub type LoginSource = Arc<dyn Fn(Option<ServiceError>) -> BoxFuture<'static, Result<IssuedLogin>> + Send + Sync>;

/// When a login is shown, and to whom.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuthMode {
    /// With every request, and to the registry alone. Where one is always wanted, that saves a round trip.
    Preemptive,
    /// To a registry that asks for it, and to the token service that it names.
    OnChallenge,
    /// To a registry of Amazon's that asks for it, and to its token service if that is Amazon's, too.
    OnAmazonChallenge,
}

/// A login that is shared: by all lanes to a registry, and by all registries that take it.
pub struct CredentialProvider {
    manner: AuthMode,
    source: LoginSource,
    current: Mutex<Current>,
}

struct Current {
    /// Counts the logins fetched, so that ten lanes that are refused at once fetch one new login, not ten.
    generation: u64,
    login: Login,
    renew_at: Option<Instant>,
}

/// The longest time before its end at which a login is renewed.
const LONGEST_LEAD: Duration = Duration::from_secs(15 * 60);

/// When what lives that long is renewed: when three quarters of its time are over, or a quarter of an hour before its
/// end. What has no time left is used all the same, until it is refused: the clock may be wrong, here or there.
pub(super) fn renewal(lifetime: Option<Duration>) -> Option<Instant> {
    let lifetime = lifetime.filter(|lifetime| !lifetime.is_zero())?;
    // A time that no clock can tell does not end.
    Instant::now().checked_add(lifetime - (lifetime / 4).min(LONGEST_LEAD))
}

impl CredentialProvider {
    /// An account whose login is fetched when it is first needed.
    pub fn new(manner: AuthMode, source: LoginSource) -> Arc<Self> {
        let current = Current { generation: 0, login: Login::Anonymous, renew_at: None };
        Arc::new(Self { manner, source, current: Mutex::new(current) })
    }

    /// When the login is shown, and to whom.
    pub(super) fn manner(&self) -> AuthMode {
        self.manner
    }

    /// The login, with its number. One that is about to expire is renewed; if that fails, it is used as long as it lasts.
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

    /// A new login after that with the number `refused` was refused, unless somebody has fetched one meanwhile.
    pub(super) async fn renew(&self, refused: u64, answer: &ServiceError) -> Result<(Login, u64)> {
        let mut current = self.current.lock().await;
        if current.generation == refused {
            self.fetch(&mut current, Some(answer.clone())).await?;
        }
        Ok((current.login.clone(), current.generation))
    }

    /// Keeps what a token service gave in place of an identity token, which may be good only once.
    pub(super) async fn exchange(&self, spent: u64, token: String) {
        let mut current = self.current.lock().await;
        if current.generation == spent {
            current.login = Login::IdentityToken(token);
        }
    }

    async fn fetch(&self, current: &mut Current, refused: Option<ServiceError>) -> Result<()> {
        let IssuedLogin { login, lifetime } = (self.source)(refused).await?;
        let generation = current.generation + 1;
        *current = Current { generation, login, renew_at: renewal(lifetime) };
        Ok(())
    }
}

impl std::fmt::Debug for CredentialProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Account({:?}, ***)", self.manner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::error::Error;

    /// An account whose logins are numbered and live that long; of the number `broken` there is none.
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
    async fn lanes_that_are_refused_together_fetch_one_new_login() {
        let (account, fetched) = numbered(3600, 0);
        let (first, number) = account.login().await.unwrap();
        let answer = ServiceError::default();
        let renewed = futures_util::future::join_all((0..10).map(|_| account.renew(number, &answer))).await;
        assert_eq!(fetched.load(Ordering::Relaxed), 2);
        assert!(renewed.into_iter().all(|renewed| renewed.unwrap().0 != first));
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_is_renewed_before_it_ends() {
        let (account, fetched) = numbered(12 * 3600, 0);
        for (hours, so_far) in [(0, 1), (11, 1), (1, 2), (11, 2), (1, 3)] {
            tokio::time::advance(Duration::from_secs(hours * 3600)).await;
            account.login().await.unwrap();
            assert_eq!(fetched.load(Ordering::Relaxed), so_far, "{hours} hours later");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_that_cannot_be_renewed_is_used_as_long_as_it_lasts() {
        let (account, fetched) = numbered(100, 2);
        let (first, number) = account.login().await.unwrap();
        tokio::time::advance(Duration::from_secs(80)).await;
        for _ in 0..3 {
            assert!(account.login().await.unwrap() == (first.clone(), number));
        }
        assert_eq!(fetched.load(Ordering::Relaxed), 2);
        assert_eq!(account.renew(number, &ServiceError::default()).await.unwrap().1, number + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_that_has_ended_when_it_comes_is_used_until_it_is_refused() {
        let (account, fetched) = numbered(0, 0);
        for _ in 0..3 {
            account.login().await.unwrap();
            tokio::time::advance(Duration::from_secs(3600)).await;
        }
        assert_eq!(fetched.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn an_identity_token_that_was_exchanged_is_not_shown_again() {
        let old = || IssuedLogin { login: Login::IdentityToken("old".into()), lifetime: None };
        let account =
            CredentialProvider::new(AuthMode::OnChallenge, Arc::new(move |_| Box::pin(async move { Ok(old()) })));
        let (_, number) = account.login().await.unwrap();
        account.exchange(number, "new".into()).await;
        assert!(account.login().await.unwrap() == (Login::IdentityToken("new".into()), number));
        // What was fetched meanwhile is newer still.
        let (_, newer) = account.renew(number, &ServiceError::default()).await.unwrap();
        account.exchange(number, "late".into()).await;
        assert!(account.login().await.unwrap() == (Login::IdentityToken("old".into()), newer));
    }

    #[test]
    fn a_login_is_never_printed() {
        assert_eq!(format!("{:?}", Login::password("AWS", "secret")), "Basic(***)");
        assert_eq!(format!("{:?}", Login::IdentityToken("secret".into())), "IdentityToken(***)");
    }
}
