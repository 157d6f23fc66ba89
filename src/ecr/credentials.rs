//! The caller's AWS credentials: the base credentials, and the roles that are assumed with them.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_config::provider_config::ProviderConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, Result as Provided, SharedCredentialsProvider};
use tokio::sync::Mutex;

use super::access::{AccessKey, BaseCredentials, CredentialSources, IdToken, Role};
use super::chain::{ENVIRONMENT, Link, Providers, WEB_IDENTITY};
use super::credential_errors;
use super::missing::{hop_limit, without_token};
use super::network::Network;
use super::observe::Unresponsive;
use super::oidc::Federated;
use super::profile::Selected;
use super::provides::provides;
use crate::error::{Advice, Code, Error, Kind, find_cause, root_cause};

/// The time before their expiry at which credentials are renewed.
const EXPIRY_MARGIN: Duration = Duration::from_secs(5 * 60);

/// The time limit of a source. Some programs that profiles name ask their user, and a CI's token and its role are tried for
/// a minute each.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(150);

/// The base credentials, and each role that is assumed until those in use.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    stages: Vec<Stage>,
    /// Whether GitHub Actions provides no OIDC token, which would have been used to assume the first role.
    github_without_token: bool,
}

/// Why there are no credentials.
#[derive(Clone, Debug)]
pub(crate) enum NoCredentials {
    /// No source has any.
    Missing(Error),
    /// A source is configured, and fails.
    Unusable(Error),
}

impl NoCredentials {
    /// Returns the error.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Missing(error) | Self::Unusable(error) => error,
        }
    }
}

impl Identity {
    /// Configures the sources of credentials. Loads none yet. `sts` configures calls of STS, `aws` the chain's calls of AWS,
    /// `machine` its calls of services on this machine.
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
            BaseCredentials::AccessKey(keys) => Stage::of(&format!("the keys of {}", keys.variable), fixed(keys)),
            BaseCredentials::Oidc(token) => {
                let role = roles.next().cloned();
                let arn = role.as_ref().map_or("", |role| role.arn.as_str());
                let what = format!("the role {arn}, by {}", name_of(token));
                let sts = aws_sdk_sts::Client::new(sts);
                Stage::of(&what, Federated { sts, token: Some(token.clone()), role, network: network.clone() })
            }
            BaseCredentials::Chain => Stage::first_of(providers.chain(profile)),
        };
        let mut stages = vec![first.clone()];
        let mut previous = first;
        for role in roles {
            previous = Stage::of(&format!("the role {}", role.arn), assumed(role, sts, previous).await);
            stages.push(previous.clone());
        }
        Self { stages, github_without_token: sources.environment.github_without_token }
    }

    /// Returns the identity with the fixed credentials of the sandbox.
    pub(super) fn fixed(credentials: Credentials) -> Self {
        Self { stages: vec![Stage::of("the sandbox", credentials)], github_without_token: false }
    }

    /// Loads the credentials, unless they are cached and valid for some minutes more.
    pub(super) async fn load(&self) -> Result<(), NoCredentials> {
        for (n, stage) in self.stages.iter().enumerate() {
            if let Err(why) = stage.credentials().await {
                return Err(match stage.explain(&why) {
                    NoCredentials::Missing(error) if self.github_without_token => {
                        NoCredentials::Missing(without_token(error))
                    }
                    // The caller may not assume the role.
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

    /// Describes where the credentials come from, once they are loaded.
    pub(super) async fn describe(&self) -> String {
        let mut sources = Vec::new();
        for stage in &self.stages {
            let cached = stage.0.cached.lock().await;
            sources.push(cached.as_ref().map_or_else(String::new, |(_, source)| source.clone()));
        }
        sources.join(", then ")
    }

    /// Returns the provider for the SDK.
    pub(super) fn provider(&self) -> Option<SharedCredentialsProvider> {
        self.stages.last().cloned().map(SharedCredentialsProvider::new)
    }
}

/// One step to the credentials, which caches them until shortly before their expiry. One caller at a time renews them.
#[derive(Clone)]
struct Stage(Arc<StageState>);

struct StageState {
    /// The sources, in order. The first one with credentials counts.
    links: Vec<Link>,
    /// The credentials, and the name of their source.
    cached: Mutex<Option<(Credentials, String)>>,
}

/// The error of each source that was tried.
#[derive(Debug)]
struct Tried(Vec<(String, CredentialsError)>);

impl Stage {
    fn of(name: &str, provider: impl ProvideCredentials + 'static) -> Self {
        Self::first_of(vec![Link::new(name, provider)])
    }

    fn first_of(links: Vec<Link>) -> Self {
        Self(Arc::new(StageState { links, cached: Mutex::default() }))
    }

    /// Returns the credentials of the first source that has any. A source that is configured and fails ends the search, as
    /// with AWS's own tools: its user does not want those of another.
    async fn credentials(&self) -> Result<Credentials, Tried> {
        let mut cached = self.0.cached.lock().await;
        if let Some((credentials, _)) = cached.as_ref()
            && credentials.expiry().is_none_or(|end| end > SystemTime::now() + EXPIRY_MARGIN)
        {
            return Ok(credentials.clone());
        }
        let mut tried = Vec::new();
        for Link { name, provider, .. } in &self.0.links {
            let timed_out = |_| Err(CredentialsError::provider_timed_out(SOURCE_TIMEOUT));
            let provided = tokio::time::timeout(SOURCE_TIMEOUT, provider.provide_credentials()).await;
            match provided.unwrap_or_else(timed_out).and_then(trimmed) {
                Ok(credentials) => {
                    *cached = Some((credentials.clone(), name.clone()));
                    return Ok(credentials);
                }
                Err(error) => {
                    let is_configured = !matches!(error, CredentialsError::CredentialsNotLoaded(_));
                    tried.push((name.clone(), error));
                    if is_configured {
                        break;
                    }
                }
            }
        }
        Err(Tried(tried))
    }

    fn explain(&self, Tried(tried): &Tried) -> NoCredentials {
        // The last of several sources is EC2's metadata, which needs no configuration: outside of EC2 it fails in any way.
        let is_configured = match tried.last() {
            Some((_, CredentialsError::CredentialsNotLoaded(_))) => self.0.links.len() == 1,
            _ => tried.len() < self.0.links.len() || self.0.links.len() == 1,
        };
        match tried.last() {
            Some((name, error)) if is_configured => {
                let failed = Error::new(Kind::Permission, format!("cannot get AWS credentials from {name}"));
                let profile = self.0.links.get(tried.len() - 1).and_then(|link| link.profile.as_deref());
                NoCredentials::Unusable(credential_errors::explain(failed, error, profile))
            }
            _ => {
                let advice = Advice::new(
                    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, run where a role is attached, select a profile, or \
                     name a role to assume in a CI system with OIDC",
                )
                .setting_with("profile", "NAME")
                .setting_with("role-arn", "ARN");
                let advice = match tried.iter().find_map(|(_, error)| find_cause::<Unresponsive>(error)) {
                    Some(service) => hop_limit(advice, &service.host),
                    None => advice,
                };
                let tried = tried.iter().map(|(name, error)| format!("\n    {name}: {}", reason(name, error)));
                let error =
                    Error::new(Kind::Permission, "no AWS credentials were found").code(Code::CredentialsMissing);
                NoCredentials::Missing(error.because(format!("tried{}", tried.collect::<String>())).hint(advice))
            }
        }
    }

    async fn provide(&self) -> Provided {
        self.credentials().await.map_err(|Tried(mut tried)| {
            tried.pop().map_or_else(CredentialsError::not_loaded_no_source, |(_, error)| error)
        })
    }
}

provides!(Stage, provide);

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.links.iter().map(|link| &link.name)).finish()
    }
}

/// Returns why a source has no credentials. The SDK's message about a variable that is not set does not always name it.
fn reason(name: &str, error: &CredentialsError) -> String {
    match (name, error) {
        (ENVIRONMENT, CredentialsError::CredentialsNotLoaded(_)) => "AWS_ACCESS_KEY_ID is not set".into(),
        (WEB_IDENTITY, CredentialsError::CredentialsNotLoaded(_)) => "AWS_WEB_IDENTITY_TOKEN_FILE is not set".into(),
        _ if error.source().is_none() => "none is set up".into(),
        _ => root_cause(error),
    }
}

/// Removes white space around credentials, such as line ends in files and variables, and checks them: the SDK panics if a
/// request cannot be signed because they are not valid in a header.
fn trimmed(given: Credentials) -> Result<Credentials, CredentialsError> {
    let all = (given.access_key_id(), given.secret_access_key(), given.session_token());
    let (id, secret, token) = (all.0.trim(), all.1.trim(), all.2.map(str::trim));
    for (what, text) in [("access key ID", Some(id)), ("session token", token)] {
        if text.is_some_and(|text| !text.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(CredentialsError::invalid_configuration(format!("the {what} has invalid characters")));
        }
    }
    if (id, secret, token) == all {
        return Ok(given);
    }
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
    use std::sync::atomic::{AtomicU32, Ordering};

    use aws_credential_types::provider::future;

    use super::*;

    /// A source that never responds.
    #[derive(Debug)]
    struct Pending;

    impl ProvideCredentials for Pending {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::new(std::future::pending())
        }
    }

    /// A source that counts its calls and fails, or provides credentials with a lifetime in minutes.
    #[derive(Debug)]
    struct Counted(Arc<AtomicU32>, Result<u64, fn() -> CredentialsError>);

    impl ProvideCredentials for Counted {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            self.0.fetch_add(1, Ordering::Relaxed);
            let provided = self.1.map_err(|error| error());
            future::ProvideCredentials::ready(provided.map(|minutes| {
                let expiry = SystemTime::now() + Duration::from_secs(60 * minutes);
                Credentials::new("AKIA", " secret\n", None, Some(expiry), "test")
            }))
        }
    }

    fn not_loaded() -> CredentialsError {
        CredentialsError::not_loaded("not set")
    }

    fn failed() -> CredentialsError {
        CredentialsError::provider_error("broken")
    }

    #[tokio::test]
    async fn credentials_are_cached_until_shortly_before_their_expiry() {
        for (minutes, calls) in [(4, 2), (10, 1)] {
            let count = Arc::new(AtomicU32::new(0));
            let stage = Stage::of("x", Counted(Arc::clone(&count), Ok(minutes)));
            for _ in 0..2 {
                assert_eq!(stage.credentials().await.unwrap().secret_access_key(), "secret");
            }
            assert_eq!(count.load(Ordering::Relaxed), calls, "{minutes} minutes");
        }
    }

    #[tokio::test]
    async fn a_configured_source_that_fails_ends_the_search() {
        for (errors, calls, is_unusable) in [
            ([not_loaded as fn() -> CredentialsError, not_loaded], 2, false),
            ([not_loaded, failed], 2, false),
            ([failed, not_loaded], 1, true),
        ] {
            let count = Arc::new(AtomicU32::new(0));
            let links = errors.map(|error| Link::new("x", Counted(Arc::clone(&count), Err(error))));
            let identity = Identity { stages: vec![Stage::first_of(links.into())], github_without_token: false };
            let error = identity.load().await.unwrap_err();
            assert_eq!(matches!(error, NoCredentials::Unusable(_)), is_unusable, "{error:?}");
            assert_eq!(count.load(Ordering::Relaxed), calls);
        }
        let stages = vec![Stage::of("x", Counted(Arc::default(), Err(not_loaded)))];
        let identity = Identity { stages, github_without_token: false };
        assert!(matches!(identity.load().await, Err(NoCredentials::Unusable(_))), "the only source is meant");
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_does_not_respond_times_out() {
        let stages = vec![Stage::of("the profile p", Pending)];
        let identity = Identity { stages, github_without_token: false };
        let Err(NoCredentials::Unusable(error)) = identity.load().await else { panic!("it should have failed") };
        assert_eq!(error.to_string(), "cannot get AWS credentials from the profile p");
        assert!(error.causes()[0].contains("150"), "{:?}", error.causes());
    }
}
