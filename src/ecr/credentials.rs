//! Who we are to AWS: the credentials to begin with, and the roles that are assumed with them.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_config::provider_config::ProviderConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use tokio::sync::Mutex;

use super::access::{AccessKey, BaseCredentials, CredentialSources, IdToken, Role};
use super::chain::{ENVIRONMENT, Link, Providers, WEB_IDENTITY};
use super::federation::Federated;
use super::missing::{hop_limit, without_token};
use super::network::Network;
use super::observe::silent;
use super::profile::Selected;
use super::refusal::refused;
use crate::error::{Advice, Code, Error, Kind, root_cause};

/// Credentials are renewed when they have as little time left.
const AHEAD: Duration = Duration::from_secs(5 * 60);

/// How long any source may take. Some programs that profiles name ask their user, and a CI's token and its role are tried
/// for a minute each.
const PATIENCE: Duration = Duration::from_secs(150);

/// The credentials to begin with, and each role that is assumed on the way to those in use.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    stages: Vec<Stage>,
    /// GitHub Actions gives no OIDC token, with which the first role would have been assumed.
    github_without_token: bool,
}

/// Why there are no credentials.
#[derive(Clone, Debug)]
pub(crate) enum NoCredentials {
    /// Nobody has any.
    Missing(Error),
    /// Somebody should have some, and something went wrong.
    Unusable(Error),
}

impl NoCredentials {
    /// What to tell people.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Missing(error) | Self::Unusable(error) => error,
        }
    }
}

impl Identity {
    /// Settles where credentials come from. Gets none yet. `sts` is how STS is reached; `aws` and `machine` are how the
    /// chain reaches AWS and what is on this machine.
    pub(super) async fn of(
        sources: &CredentialSources,
        profile: Arc<Selected>,
        sts: &SdkConfig,
        aws: &ProviderConfig,
        machine: &ProviderConfig,
        network: &Network,
    ) -> Self {
        let providers = Providers { sources, sts, aws, machine, network };
        let mut roles = sources.roles.iter();
        let first = match &sources.base {
            BaseCredentials::Profile => Stage::first_of(vec![Link::of_profile(providers.profile(profile))]),
            BaseCredentials::WebIdentity => Stage::first_of(vec![Link::new(WEB_IDENTITY, providers.web_identity())]),
            BaseCredentials::AccessKey(keys) => Stage::of(format!("the keys of {}", keys.variable), fixed(keys)),
            BaseCredentials::Oidc(token) => {
                let role = roles.next().cloned();
                let arn = role.as_ref().map_or("", |role| role.arn.as_str());
                let what = format!("the role {arn}, by {}", name_of(token));
                let sts = aws_sdk_sts::Client::new(sts);
                Stage::of(what, Federated { sts, token: token.clone(), role, network: network.clone() })
            }
            BaseCredentials::Chain => Stage::first_of(providers.chain(profile)),
        };
        let mut stages = vec![first.clone()];
        let mut before = first;
        for role in roles {
            before = Stage::of(format!("the role {}", role.arn), assumed(role, sts, before).await);
            stages.push(before.clone());
        }
        Self { stages, github_without_token: sources.environment.github_without_token }
    }

    /// The same credentials always, of a stand-in.
    pub(super) fn fixed(credentials: Credentials) -> Self {
        Self { stages: vec![Stage::of("the sandbox".into(), credentials)], github_without_token: false }
    }

    /// Sees to it that there are credentials which still live for a while.
    pub(super) async fn ready(&self) -> Result<(), NoCredentials> {
        for (n, stage) in self.stages.iter().enumerate() {
            if let Err(why) = stage.credentials().await {
                return Err(match stage.explain(&why) {
                    NoCredentials::Missing(error) if self.github_without_token => {
                        NoCredentials::Missing(without_token(error))
                    }
                    // The caller's right to assume the role.
                    NoCredentials::Unusable(error)
                        if self.github_without_token && n == 1 && error.kind() == Kind::Permission =>
                    {
                        NoCredentials::Unusable(without_token(error))
                    }
                    explained => explained,
                });
            }
        }
        Ok(())
    }

    /// Where the credentials come from, in words, once they are there.
    pub(super) async fn story(&self) -> String {
        let mut words = Vec::new();
        for stage in &self.stages {
            let kept = stage.0.kept.lock().await;
            words.push(kept.as_ref().map_or_else(String::new, |(_, from)| from.clone()));
        }
        words.join(", then ")
    }

    /// What the SDK asks for them.
    pub(super) fn provider(&self) -> Option<SharedCredentialsProvider> {
        self.stages.last().cloned().map(SharedCredentialsProvider::new)
    }
}

/// One way to credentials, which keeps them while they live. One caller at a time gets new ones.
#[derive(Clone)]
struct Stage(Arc<Inner>);

struct Inner {
    /// The first that has any gives them.
    links: Vec<Link>,
    /// The credentials, and who gave them.
    kept: Mutex<Option<(Credentials, String)>>,
}

/// What became of each link.
#[derive(Debug)]
struct Tried(Vec<(String, CredentialsError)>);

impl Stage {
    fn of(what: String, provider: impl ProvideCredentials + 'static) -> Self {
        Self::first_of(vec![Link::new(&what, provider)])
    }

    fn first_of(links: Vec<Link>) -> Self {
        Self(Arc::new(Inner { links, kept: Mutex::default() }))
    }

    /// Asks one link after the other. One that is set up and fails ends the search, as with AWS's own tools: whoever set it
    /// up does not mean another.
    async fn credentials(&self) -> Result<Credentials, Tried> {
        let mut kept = self.0.kept.lock().await;
        if let Some((credentials, _)) = kept.as_ref()
            && credentials.expiry().is_none_or(|end| end > SystemTime::now() + AHEAD)
        {
            return Ok(credentials.clone());
        }
        let mut tried = Vec::new();
        for Link { name, provider, .. } in &self.0.links {
            let timed_out = |_| Err(CredentialsError::provider_timed_out(PATIENCE));
            let given = tokio::time::timeout(PATIENCE, provider.provide_credentials()).await;
            match given.unwrap_or_else(timed_out).and_then(usable) {
                Ok(credentials) => {
                    *kept = Some((credentials.clone(), name.clone()));
                    return Ok(credentials);
                }
                Err(error) => {
                    let goes_on = matches!(error, CredentialsError::CredentialsNotLoaded(_));
                    tried.push((name.clone(), error));
                    if !goes_on {
                        break;
                    }
                }
            }
        }
        Err(Tried(tried))
    }

    fn explain(&self, Tried(tried): &Tried) -> NoCredentials {
        // The last of several links is EC2's metadata, which nobody sets up: elsewhere it fails, in whatever way.
        let was_meant = match tried.last() {
            Some((_, CredentialsError::CredentialsNotLoaded(_))) => self.0.links.len() == 1,
            _ => tried.len() < self.0.links.len() || self.0.links.len() == 1,
        };
        match tried.last() {
            Some((name, error)) if was_meant => {
                let what = format!("cannot get AWS credentials from {name}");
                let profile = self.0.links.get(tried.len() - 1).and_then(|link| link.profile.as_deref());
                NoCredentials::Unusable(refused(Error::new(Kind::Permission, what), error, profile))
            }
            _ => {
                let advice = Advice::new(
                    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, run where a role is attached, select a profile, or \
                     name a role to assume in a CI system with OIDC",
                )
                .setting_with("profile", "NAME")
                .setting_with("role-arn", "ARN");
                let silent = tried.iter().find_map(|(_, error)| silent(error));
                let advice = match silent {
                    Some(silent) => hop_limit(advice, &silent.host),
                    None => advice,
                };
                let tried = tried.iter().map(|(name, error)| format!("\n    {name}: {}", why_none(name, error)));
                let error =
                    Error::new(Kind::Permission, "no AWS credentials were found").code(Code::CredentialsMissing);
                NoCredentials::Missing(error.because(format!("tried{}", tried.collect::<String>())).hint(advice))
            }
        }
    }
}

impl ProvideCredentials for Stage {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.credentials().await.map_err(|Tried(mut tried)| {
                tried.pop().map_or_else(CredentialsError::not_loaded_no_source, |(_, error)| error)
            })
        })
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.links.iter().map(|link| &link.name)).finish()
    }
}

/// Why a link of the chain has no credentials. The SDK's own words for a variable that is not set do not always name it.
fn why_none(name: &str, error: &CredentialsError) -> String {
    match (name, error) {
        (ENVIRONMENT, CredentialsError::CredentialsNotLoaded(_)) => "AWS_ACCESS_KEY_ID is not set".into(),
        (WEB_IDENTITY, CredentialsError::CredentialsNotLoaded(_)) => "AWS_WEB_IDENTITY_TOKEN_FILE is not set".into(),
        _ if error.source().is_none() => "none is set up".into(),
        _ => root_cause(error),
    }
}

/// Credentials that a request can be signed with: of what is no header the SDK makes a panic. Line ends around them, as
/// files and variables often have them, are none of theirs.
fn usable(given: Credentials) -> Result<Credentials, CredentialsError> {
    let (id, secret, token) = (given.access_key_id(), given.secret_access_key(), given.session_token());
    let trimmed = (id.trim(), secret.trim(), token.map(str::trim));
    for (what, text) in [("access key ID", Some(trimmed.0)), ("session token", trimmed.2)] {
        if text.is_some_and(|text| !text.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(CredentialsError::invalid_configuration(format!("the {what} has characters that none has")));
        }
    }
    if trimmed == (id, secret, token) {
        return Ok(given);
    }
    let (id, secret, token) = trimmed;
    Ok(Credentials::new(id, secret, token.map(str::to_owned), given.expiry(), "trimmed"))
}

fn fixed(keys: &AccessKey) -> Credentials {
    let token = keys.session_token.as_ref().map(|token| token.expose().to_owned());
    Credentials::new(&keys.access_key_id, keys.secret_access_key.expose(), token, None, "variables")
}

async fn assumed(role: &Role, sts: &SdkConfig, with: Stage) -> AssumeRoleProvider {
    let mut assumed = AssumeRoleProvider::builder(&role.arn).configure(sts).session_name(&role.session_name);
    if let Some(id) = &role.external_id {
        assumed = assumed.external_id(id);
    }
    if let Some(duration) = role.duration {
        assumed = assumed.session_length(duration);
    }
    assumed.build_from_provider(with).await
}

fn name_of(token: &IdToken) -> String {
    match token {
        IdToken::Azure { .. } => "Azure Pipelines' OIDC token".into(),
        IdToken::File(path) => format!("the token in {}", path.display()),
        IdToken::GitHub { .. } => "GitHub Actions' OIDC token".into(),
        IdToken::Variable { name, .. } => format!("the OIDC token in {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that waits for somebody who is not there.
    #[derive(Debug)]
    struct Silent;

    impl ProvideCredentials for Silent {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::new(std::future::pending())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_waited_for_without_end() {
        let stages = vec![Stage::of("the profile p".into(), Silent)];
        let identity = Identity { stages, github_without_token: false };
        let Err(NoCredentials::Unusable(error)) = identity.ready().await else { panic!("it should have failed") };
        assert_eq!(error.to_string(), "cannot get AWS credentials from the profile p");
        assert!(error.causes()[0].contains("150"), "{:?}", error.causes());
    }
}
