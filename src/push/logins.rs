//! The logins of registries: AWS's API issues those of ECR, one per region; others are given by the user, or stored by docker
//! and podman.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, Once};

use tracing::debug;

use super::Event;
use super::context::Run;
use super::explain::lifetime;
use super::options::{ExplicitCredentials, RegistryOptions};
use super::shared::Shared;
use crate::ecr::{self, Access, AuthorizationToken, CredentialSources, Ecr, EcrPublic, Network, NoCredentials};
use crate::error::{Advice, Code, Error, Kind, Result, ServiceError};
use crate::oci::{EcrHost, EndpointOverride, Host, Repository, Target};
use crate::registry::{AuthMode, CredentialProvider, IssuedLogin, Login, StoredLogin};
use crate::sync::lock;

/// The logins of a push, each fetched once, however many targets it is for.
pub(super) struct Logins {
    run: Arc<Run>,
    network: Network,
    /// The repositories that are pushed to: podman stores logins for parts of a registry.
    destinations: Arc<Mutex<HashSet<(Host, Repository)>>>,
    /// ECR's APIs, by what the target's host or its region option states.
    apis: Shared<(Option<Region>, Option<String>, OverrideUrl), Ecr, NoCredentials>,
    /// ECR's logins, by where that is.
    regions: Shared<(Region, OverrideUrl), Amazon, NoCredentials>,
    /// Done once: reporting the credentials that were named and are not used.
    notes: Once,
}

/// A region, and the kind of address that its API is asked at.
type Region = (String, bool, bool);

/// Where the registry is that replaces one of Amazon's, if one does: it has an API and logins of its own.
type OverrideUrl = Option<String>;

/// Who we are to all private registries of a region.
#[derive(Clone)]
struct Amazon {
    /// The caller's own account number.
    own: String,
    account: Arc<CredentialProvider>,
}

/// ECR's API where there is one for us, the registry's host, and who we are to it.
pub(super) type Private = (Option<Ecr>, Host, Arc<CredentialProvider>);

impl Logins {
    /// Returns the logins of a run, none fetched yet.
    pub(super) fn new(run: &Arc<Run>, network: Network) -> Self {
        Self {
            run: Arc::clone(run),
            network,
            destinations: Arc::default(),
            apis: Shared::default(),
            regions: Shared::default(),
            notes: Once::new(),
        }
    }

    /// Notes the targets of a push.
    pub(super) fn expect(&self, targets: &[Target]) {
        let named = targets.iter().filter_map(|target| Some((target.host.clone()?, target.repository.clone())));
        lock(&self.destinations).extend(named);
    }

    fn options(&self) -> &RegistryOptions {
        &self.run.options.registries
    }

    /// Returns what docker and podman store for a host.
    fn stored(&self, host: &Host) -> Arc<DockerConfigCredentials> {
        Arc::new(DockerConfigCredentials {
            run: Arc::clone(&self.run),
            host: host.clone(),
            destinations: Arc::clone(&self.destinations),
            last: Mutex::new(None),
        })
    }

    /// Logs in to a private registry of ECR: the one that is named, or the caller's own.
    pub(super) async fn private(&self, target: &Target) -> Result<Private> {
        let named = target.host.as_ref();
        match (self.amazon(target).await, named) {
            (Ok((ecr, Amazon { own, account })), _) => {
                let own = self.options().registry_id.as_ref().unwrap_or(&own);
                let host = named.cloned().unwrap_or_else(|| ecr.host(own));
                Ok((Some(ecr), host, account))
            }
            (Err(NoCredentials::Missing(error)), Some(host)) => {
                let stored = self.stored(host);
                let first = IssuedLogin { login: stored.instead(error, None).await?, lifetime: None };
                Ok((None, host.clone(), stored.provider(AuthMode::Preemptive, Some(first))))
            }
            (Err(why), _) => Err(why.into_error()),
        }
    }

    /// The API, and who we are to all registries of its region.
    async fn amazon(&self, target: &Target) -> Result<(Ecr, Amazon), NoCredentials> {
        let options = self.options();
        let host = target.host.as_ref().and_then(Host::ecr);
        let place = host.map(|host| (host.region.clone(), host.fips, host.dual_stack));
        let asked_for = target.region.as_deref();
        let connect = async || {
            let ecr = Ecr::connect(&options.access, &self.network, asked_for, host).await?;
            self.tell(ecr.describe_origin().await);
            Ok(ecr)
        };
        let endpoint_override =
            options.access.endpoint_override(host, target.region.as_deref()).map(EndpointOverride::url);
        let key = (place, target.region.clone(), endpoint_override.clone());
        let ecr = self.apis.get(key, connect).await?;
        let log_in = async || self.log_in(&ecr).await;
        let amazon = self.regions.get((ecr.login_scope(), endpoint_override), log_in).await?;
        ecr.note_account(&amazon.own);
        Ok((ecr, amazon))
    }

    /// Tells whose credentials are used, and once what was named and is not used.
    fn tell(&self, origins: String) {
        if let Access::Aws(CredentialSources { notes, .. }) = &self.options().access {
            self.notes.call_once(|| notes.iter().for_each(|note| self.run.emit(Event::Note(note.clone()))));
        }
        debug!("{origins}");
    }

    /// Who we are to ECR Public, should it ask, and its API: that knows, and where there are no AWS credentials, docker may.
    pub(super) async fn public(&self, host: &Host) -> Result<(Option<EcrPublic>, Arc<CredentialProvider>)> {
        match EcrPublic::connect(&self.options().access, &self.network, host).await {
            Ok(api) => {
                self.tell(api.describe_origin().await);
                self.report_caller_of(api.caller_arn()).await;
                let public = api.clone();
                let issue = move |_| {
                    let public = public.clone();
                    async move { Ok(granted("ECR Public", public.token().await?)) }
                };
                Ok((Some(api), provider(AuthMode::OnAmazonChallenge, None, issue)))
            }
            Err(NoCredentials::Missing(error)) => {
                let stored = self.stored(host);
                let issue = move |refused| {
                    let (stored, error) = (Arc::clone(&stored), error.clone());
                    async move { Ok(IssuedLogin { login: stored.instead(error, refused).await?, lifetime: None }) }
                };
                Ok((None, provider(AuthMode::OnAmazonChallenge, None, issue)))
            }
            Err(NoCredentials::Unusable(error)) => Err(error),
        }
    }

    /// Logs in to all private registries of a region.
    async fn log_in(&self, ecr: &Ecr) -> Result<Amazon, NoCredentials> {
        // The caller is only reported, and asked for at the same time as the login.
        let (token, ()) = tokio::join!(ecr.token(), self.report_caller_of(ecr.caller_arn()));
        let token = token.map_err(|error| NoCredentials::Unusable(ecr::advise(error, None)))?;
        let own = token.account.clone();
        let api = ecr.clone();
        let issue = move |_| {
            let api = api.clone();
            async move { Ok(granted("ECR", api.token().await.map_err(|error| ecr::advise(error, None))?)) }
        };
        Ok(Amazon { own, account: provider(AuthMode::Preemptive, Some(granted("ECR", token)), issue) })
    }

    /// Reports the caller, if the options ask for it.
    async fn report_caller_of(&self, asking: impl Future<Output = Option<String>>) {
        if self.options().report_caller
            && let Some(caller) = asking.await
        {
            debug!("caller {caller}");
        }
    }

    /// Returns the login for a registry that is not Amazon's, which is used if the registry requires one.
    pub(super) fn others(&self, host: &Host) -> Arc<CredentialProvider> {
        self.stored(host).provider(AuthMode::OnChallenge, None)
    }
}

/// Returns a provider whose first login is there already, if there is one, and is issued each time after that.
fn provider<F: Future<Output = Result<IssuedLogin>> + Send + 'static>(
    mode: AuthMode,
    first: Option<IssuedLogin>,
    issue: impl Fn(Option<ServiceError>) -> F + Send + Sync + 'static,
) -> Arc<CredentialProvider> {
    let first = Mutex::new(first);
    let source = move |refused| match lock(&first).take() {
        Some(login) => Box::pin(std::future::ready(Ok(login))) as _,
        None => Box::pin(issue(refused)) as _,
    };
    CredentialProvider::new(mode, Arc::new(source))
}

/// Returns the login that AWS gave, and logs which one it is.
fn granted(whose: &str, token: AuthorizationToken) -> IssuedLogin {
    let account = if token.account.is_empty() { String::new() } else { format!(" as account {}", token.account) };
    debug!("logged in to {whose}{account} by GetAuthorizationToken{}", lifetime(token.lifetime));
    IssuedLogin { login: Login::Basic(token.basic), lifetime: token.lifetime }
}

/// A login that docker or podman stores for a registry, or that the user gives. It is looked up each time, since a helper may
/// have a new one.
struct DockerConfigCredentials {
    run: Arc<Run>,
    host: Host,
    destinations: Arc<Mutex<HashSet<(Host, Repository)>>>,
    /// What was found the last time: nothing, or this.
    last: Mutex<Option<Option<Login>>>,
}

impl DockerConfigCredentials {
    /// The login that the user gave, unless the host is Amazon's.
    fn given(&self) -> Option<&ExplicitCredentials> {
        self.run.options.registries.login.as_ref().filter(|_| !self.host.is_amazon())
    }

    fn repositories(&self) -> Vec<Repository> {
        let destinations = lock(&self.destinations);
        destinations.iter().filter(|(host, _)| *host == self.host).map(|(_, repository)| repository.clone()).collect()
    }

    /// The login. Where the one before was refused, another one or the reason.
    async fn login(&self, refused: Option<ServiceError>) -> Result<Option<Login>> {
        let found = match self.given() {
            Some(ExplicitCredentials { user, login }) => {
                Some(StoredLogin { login: login.clone(), origin: format!("the login given for {user}") })
            }
            None => self.run.options.registries.keychain.find(&self.host, &self.repositories()).await?,
        };
        let login = found.as_ref().map(|found| found.login.clone());
        let mut last = lock(&self.last);
        let is_new = last.as_ref() != Some(&login);
        *last = Some(login.clone());
        match (refused, found) {
            (Some(answer), found) if !is_new => Err(self.refused(found, answer)),
            (_, Some(found)) => {
                if is_new {
                    debug!("{} gets {}", self.host, found.origin);
                }
                Ok(login)
            }
            (_, None) => {
                if is_new {
                    debug!("{} requires a login, and none was found", self.host);
                }
                Ok(None)
            }
        }
    }

    /// Returns the provider of this login, or of none.
    fn provider(self: Arc<Self>, mode: AuthMode, first: Option<IssuedLogin>) -> Arc<CredentialProvider> {
        provider(mode, first, move |refused| {
            let stored = Arc::clone(&self);
            async move {
                let login = stored.login(refused).await?.unwrap_or(Login::Anonymous);
                Ok(IssuedLogin { login, lifetime: None })
            }
        })
    }

    /// Returns the login if AWS has none. Without a login the error of AWS is returned.
    async fn instead(&self, of_aws: Error, refused: Option<ServiceError>) -> Result<Login> {
        let is_first = refused.is_none();
        match self.login(refused).await {
            Ok(login) => login.ok_or(of_aws),
            Err(error) if is_first => {
                let why: String = error.causes().into_iter().map(|cause| format!(": {cause}")).collect();
                self.run.emit(Event::Warning(format!("{error}{why}")));
                Err(of_aws)
            }
            Err(error) => Err(error),
        }
    }

    fn refused(&self, found: Option<StoredLogin>, answer: ServiceError) -> Error {
        let host = &self.host;
        let Some(StoredLogin { origin, .. }) = found else {
            let error = Error::new(Kind::Permission, format!("{host} requires a login, and none was found"))
                .code(Code::CredentialsMissing);
            let hint = Advice::new("Log in, or pass the password on standard input")
                .setting_with("username", "NAME --password-stdin")
                .command(format!("docker login {host}"));
            return error.with_service_error(answer).hint(hint);
        };
        match renewal(host) {
            Some(command) => {
                let has_expired = answer.message.to_ascii_lowercase().contains("expired");
                let why = if has_expired { "has expired" } else { "was refused" };
                // The answer is about the person who created the login, and not about permissions.
                Error::new(Kind::Permission, format!("{origin} for {host} {why}"))
                    .code(Code::CredentialsRejected)
                    .because(answer)
                    .hint(
                        Advice::new("Use AWS credentials, which renew it automatically, or renew it:").command(command),
                    )
            }
            None => {
                let cure = match self.given() {
                    Some(_) => Advice::new("Check the name and the password."),
                    None => Advice::new("Log in again:").command(format!("docker login {host}")),
                };
                Error::new(Kind::Permission, format!("{host} rejected {origin}"))
                    .code(Code::CredentialsRejected)
                    .with_service_error(answer)
                    .hint(cure)
            }
        }
    }
}

/// How a docker login for a registry of Amazon's is made.
fn renewal(host: &Host) -> Option<String> {
    let (service, region) = match host.ecr() {
        Some(EcrHost { region, .. }) => ("ecr", region.as_str()),
        None if host.is_ecr_public() => ("ecr-public", "us-east-1"),
        None => return None,
    };
    let login = format!("docker login --username AWS --password-stdin {host}");
    Some(format!("aws {service} get-login-password --region {region} | {login}"))
}
