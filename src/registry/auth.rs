//! Who we are to a registry. Where the credentials come from is not known here: they are a closure.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use reqwest::header::HeaderValue;
use tokio::sync::Mutex;

use crate::error::{Error, Kind, Result};

/// What a registry is shown.
#[derive(Clone)]
pub enum Login {
    /// Nothing.
    Anonymous,
    /// The base64 text of `user:password`, as ECR hands it out.
    Basic(String),
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
        })
    }
}

/// Gets a login: a fresh one every time it is called.
pub type LoginSource = Arc<dyn Fn() -> BoxFuture<'static, Result<Login>> + Send + Sync>;

/// The login in use, shared by all lanes and fetched by one of them at a time.
pub(super) struct Auth {
    source: LoginSource,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    /// Counts the logins fetched, so that ten lanes that are refused at once fetch one new login, not ten.
    generation: u64,
    header: Option<HeaderValue>,
}

/// An `Authorization` header, with the login it stems from.
#[derive(Clone)]
pub(super) struct Authorization {
    pub(super) header: Option<HeaderValue>,
    generation: u64,
}

impl Auth {
    pub(super) fn new(source: LoginSource) -> Self {
        Self { source, current: Mutex::default() }
    }

    /// The header to send, fetching a login if there is none yet.
    pub(super) async fn authorization(&self) -> Result<Authorization> {
        let mut current = self.current.lock().await;
        if current.generation == 0 {
            self.fetch(&mut current).await?;
        }
        Ok(Authorization { header: current.header.clone(), generation: current.generation })
    }

    /// The header to send after `refused` was refused: a new login, unless another lane has fetched one meanwhile.
    pub(super) async fn renew(&self, refused: &Authorization) -> Result<Authorization> {
        let mut current = self.current.lock().await;
        if current.generation == refused.generation {
            self.fetch(&mut current).await?;
        }
        Ok(Authorization { header: current.header.clone(), generation: current.generation })
    }

    async fn fetch(&self, current: &mut Current) -> Result<()> {
        current.header = match (self.source)().await? {
            Login::Anonymous => None,
            Login::Basic(text) => {
                // A failure must not quote the token, so its cause is left out.
                let mut header = HeaderValue::try_from(format!("Basic {text}")).map_err(|_| {
                    Error::new(Kind::Permission, "the registry login holds characters that HTTP forbids")
                })?;
                header.set_sensitive(true);
                Some(header)
            }
        };
        current.generation += 1;
        Ok(())
    }
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Auth")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[tokio::test]
    async fn lanes_that_are_refused_together_fetch_one_new_login() {
        let fetched = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&fetched);
        let auth = Auth::new(Arc::new(move || {
            let n = counter.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move { Ok(Login::password("AWS", &n.to_string())) })
        }));
        let first = auth.authorization().await.unwrap();
        let renewed = futures_util::future::join_all((0..10).map(|_| auth.renew(&first))).await;
        assert_eq!(fetched.load(Ordering::Relaxed), 2);
        let headers: Vec<_> = renewed.into_iter().map(|renewed| renewed.unwrap().header).collect();
        assert!(headers.iter().all(|header| header == &headers[0] && header != &first.header));
    }

    #[test]
    fn a_login_is_never_printed() {
        let login = Login::password("AWS", "secret");
        assert_eq!(format!("{login:?}"), "Basic(***)");
    }
}
