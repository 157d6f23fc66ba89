//! Credential sources from options and environment.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::unexpanded::{reject_unexpanded, reject_unexpanded_secret};
use super::values::{Environment, not_empty};
use crate::ecr::{
    self, Access, AccessKey, BaseCredentials, ContainerEndpoint, ContainerToken, CredentialSources, IdToken,
    NamedProfile, Profiles, Role, Secret, WebIdentity,
};
use crate::error::{Advice, Error, Result};
use crate::output::report::ci::CiSystem;
use crate::push::CaBundle;

/// The options for credentials.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "AWS credentials")]
pub(super) struct CredentialArgs {
    /// Profile of the AWS configuration files
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Role to assume (repeatable: each with the credentials of the one before)
    #[arg(long, value_name = "ARN")]
    role_arn: Vec<String>,
    /// External ID that the role's trust policy requires
    #[arg(long, value_name = "ID")]
    external_id: Option<String>,
    /// Name of the role session in CloudTrail [default: ecr-push, the CI system and its run ID]
    #[arg(long, value_name = "NAME")]
    role_session_name: Option<String>,
    /// Lifetime of the role's credentials in seconds: 900 to 43200 [default: 3600, set by AWS]
    #[arg(long, value_name = "SECONDS")]
    role_duration: Option<String>,
    /// Whether to assume the first role with the CI system's OIDC token [default: on if there is one and neither keys
    /// nor a profile are set]
    #[arg(long, value_enum, value_name = "WHEN")]
    oidc: Option<OidcArg>,
    /// Azure Pipelines: ID of the service connection that issues the OIDC token
    #[arg(long, value_name = "ID", conflicts_with = "web_identity_token_env")]
    azure_service_connection: Option<String>,
    /// GitLab, Bitbucket: variable that contains the OIDC token
    #[arg(long, value_name = "VARIABLE", conflicts_with = "azure_service_connection")]
    web_identity_token_env: Option<String>,
}

/// When the OIDC token of a CI system is used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum OidcArg {
    /// Always, even if keys are set
    On,
    /// Never
    Off,
}

/// The prefix of `AWS_EXECUTION_ENV` in tasks of the AWS Toolkit for Azure DevOps that run a command, such as
/// `VSTS-AWSShellScript`.
const TOOLKIT: &str = "VSTS-";

/// The environment variables in which the Azure Pipelines agent passes `AWS.AccessKeyID` and so on. The tasks of the AWS
/// Toolkit read credentials from them.
pub(super) const TASK_VARIABLES: [&str; 7] = [
    "AWS_ACCESSKEYID", "AWS_SECRETACCESSKEY", "AWS_SESSIONTOKEN", "AWS_ASSUMEROLEARN", "AWS_EXTERNALID",
    "AWS_ROLESESSIONNAME", "AWS_ROLECREDENTIAL_MAXDURATION",
];

/// The prefix of the default session name.
const SESSION_NAME: &str = "ecr-push";

/// The longest session name (STS API reference, AssumeRole).
const LONGEST_SESSION_NAME: usize = 64;

/// The session name of the Azure DevOps task that this program replaces: trust policies may require it.
const TASK_SESSION_NAME: &str = "aws-vsts-tools";

/// The variables that override endpoints of AWS.
pub(super) const ENDPOINTS: [&str; 6] = [
    "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_ECR", "AWS_ENDPOINT_URL_ECR_PUBLIC", "AWS_ENDPOINT_URL_SSO",
    "AWS_ENDPOINT_URL_SSO_OIDC", "AWS_ENDPOINT_URL_STS",
];

/// The allowed lifetime of a session (STS API reference, AssumeRole).
pub(super) const SESSION_SECONDS: std::ops::RangeInclusive<u64> = 900..=43200;

impl CredentialArgs {
    /// Replaces the roles to assume.
    pub(super) fn set_roles(&mut self, arns: Vec<String>) {
        self.role_arn = arns;
    }

    /// Decides where credentials come from, without requesting any.
    pub(super) fn sources(self, environment: Environment<'_>) -> Result<CredentialSources> {
        let ci = Variables(environment);
        // The SDK reads these, too, and panics if one is empty.
        if let Some(name) = ENDPOINTS.into_iter().find(|name| environment(name).is_some_and(|url| url.is_empty())) {
            return Err(Error::usage(format!("{name} is empty"))
                .hint("Unset it to use the endpoints of AWS, or set it to a URL."));
        }
        // The tasks of the AWS Toolkit pass on their credentials: those of the service connection, else of the AWS.* variables,
        // with the role already assumed. The step also gets the variables, which must then be ignored.
        let is_in_toolkit = ci.text("AWS_EXECUTION_ENV").is_some_and(|by| by.starts_with(TOOLKIT))
            && ci.text("AWS_ACCESS_KEY_ID").is_some();
        let without_variables = |name: &str| environment(name).filter(|_| !TASK_VARIABLES.contains(&name));
        let task = if is_in_toolkit { Variables(&without_variables) } else { Variables(environment) };
        let roles = self.roles(&task, environment)?;
        let task_keys = task.keys(TASK_VARIABLES[0], TASK_VARIABLES[1], TASK_VARIABLES[2])?;
        // Only checked: AWS's credential chain reads them, but silently ignores an incomplete pair.
        let keys = ci.keys("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")?;
        let requires_oidc = self.oidc == Some(OidcArg::On);
        let names_oidc = self.azure_service_connection.is_some() || self.web_identity_token_env.is_some();
        if (requires_oidc || names_oidc) && self.oidc != Some(OidcArg::Off) {
            if self.profile.is_some() {
                return Err(Error::usage("--profile and an OIDC token cannot be used together")
                    .about_option("--profile")
                    .hint("Use only one of them."));
            }
            if roles.is_empty() {
                return Err(Error::usage("an OIDC token needs a role to assume with it")
                    .hint(Advice::new("Add the role").setting_with("role-arn", "arn:aws:iam::ACCOUNT:role/NAME")));
            }
        }
        let named = self.named_profile(&ci)?;
        let mut profiles = Profiles::read(named.clone(), environment);
        let mut notes = Vec::new();
        let has_keys = task_keys.is_some() || keys.is_some();
        let oidc_override = if has_keys {
            Some("keys are set, so".to_owned())
        } else {
            named.as_ref().map(|named| format!("{} is set, so", named.from))
        };
        let may_use_oidc =
            self.oidc != Some(OidcArg::Off) && !roles.is_empty() && (requires_oidc || oidc_override.is_none());
        let token = if may_use_oidc && self.profile.is_none() { self.id_token(&ci)? } else { None };
        let web_identity = ci.web_identity();
        let base = match (token, task_keys, &named) {
            _ if self.profile.is_some() => BaseCredentials::Profile,
            (Some(token), ..) => BaseCredentials::Oidc(token),
            (None, ..) if requires_oidc => {
                return Err(Error::usage("--oidc on found no OIDC token of a CI system").about_option("--oidc").hint(
                    "GitHub Actions: permissions: id-token: write. Azure Pipelines: --azure-service-connection. \
                     Elsewhere: --web-identity-token-env.",
                ));
            }
            (None, Some(keys), _) => BaseCredentials::AccessKey(keys),
            (None, None, Some(_)) if keys.is_none() => {
                if web_identity.is_some() && !profiles.assumes_role() {
                    BaseCredentials::WebIdentity
                } else {
                    BaseCredentials::Profile
                }
            }
            (None, None, _) => BaseCredentials::Chain,
        };
        // The AWS CLI does the same, without a note.
        let overriding = match &base {
            BaseCredentials::AccessKey(keys) => Some(keys.variable),
            BaseCredentials::Chain if keys.is_some() => Some("AWS_ACCESS_KEY_ID"),
            BaseCredentials::WebIdentity => Some("AWS_WEB_IDENTITY_TOKEN_FILE"),
            BaseCredentials::Oidc(_) | BaseCredentials::Profile | BaseCredentials::Chain => None,
        };
        if let (Some(named), Some(variable)) = (&named, overriding) {
            notes.push(format!(
                "{variable} is set and overrides the credentials of {named}; other settings of it apply"
            ));
        }
        let is_from_files = named.is_some() || matches!(base, BaseCredentials::Chain) && keys.is_none();
        if !is_from_files {
            notes.extend(profiles.ignore_unusable_files());
        }
        if let Some(why) = oidc_override.filter(|_| names_oidc && self.oidc.is_none()) {
            notes.push(format!("{why} the OIDC token of the CI system is not used; --oidc on uses it"));
        }
        if matches!(base, BaseCredentials::Oidc(_)) && roles.len() == 1 && roles[0].external_id.is_some() {
            notes.push("the external ID is not sent: AWS accepts none with an OIDC token".to_owned());
        }
        let region = region(environment);
        let github = ci.text("GITHUB_ACTIONS").is_some_and(|text| text == "true");
        let github_without_token = github
            && ci.text("ACTIONS_ID_TOKEN_REQUEST_URL").is_none()
            && !roles.is_empty()
            && matches!(base, BaseCredentials::Chain);
        let environment = Box::new(ecr::Environment {
            container: ci.container(),
            web_identity,
            without_metadata: ci.text("AWS_EC2_METADATA_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true")),
            github_without_token,
        });
        Ok(CredentialSources { base, profiles, roles, region, notes, environment })
    }

    /// Returns the profile of the option, else that of the environment, in the order of the AWS CLI, version 2.
    fn named_profile(&self, ci: &Variables<'_>) -> Result<Option<NamedProfile>> {
        if let Some(name) = &self.profile {
            return Ok(Some(NamedProfile { name: not_empty("--profile", name.clone())?, from: "--profile" }));
        }
        let variables = ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"];
        let named = variables.into_iter().find_map(|from| Some(NamedProfile { name: ci.text(from)?, from }));
        if let Some(NamedProfile { name, from }) = &named {
            reject_unexpanded(from, name, ci.0)?;
        }
        Ok(named)
    }

    fn roles(&self, ci: &Variables<'_>, environment: Environment<'_>) -> Result<Vec<Role>> {
        let task_name = || TASK_SESSION_NAME.to_owned();
        let (arns, own_name) = match (&self.role_arn[..], ci.text("AWS_ASSUMEROLEARN")) {
            ([], Some(arn)) => (vec![arn], task_name()),
            ([], None) => (Vec::new(), String::new()),
            (arns, _) if self.azure_service_connection.is_some() => (arns.to_vec(), task_name()),
            (arns, _) => (arns.to_vec(), default_session_name(environment)),
        };
        if arns.is_empty() {
            let role_options = [
                ("--external-id", self.external_id.is_some()),
                ("--role-session-name", self.role_session_name.is_some()),
                ("--role-duration", self.role_duration.is_some()),
            ];
            if let Some((option, _)) = role_options.into_iter().find(|(_, is_set)| *is_set) {
                return Err(Error::conflict(format!("{option} needs --role-arn"))
                    .about_option(option)
                    .hint(Advice::new("Add the role").setting_with("role-arn", "arn:aws:iam::ACCOUNT:role/NAME")));
            }
            return Ok(Vec::new());
        }
        let value = |option: &Option<String>, flag: &'static str, variable: &'static str| {
            let typed = option.clone().map(|text| (flag, text));
            typed.or_else(|| Some((variable, ci.text(variable)?)))
        };
        let duration = value(&self.role_duration, "--role-duration", "AWS_ROLECREDENTIAL_MAXDURATION");
        let duration = duration.map(|(origin, text)| seconds(origin, &text)).transpose()?;
        let name = value(&self.role_session_name, "--role-session-name", "AWS_ROLESESSIONNAME");
        let name = name.map(|(origin, text)| session_name(origin, text)).transpose()?;
        let external_id = value(&self.external_id, "--external-id", "AWS_EXTERNALID").map(|(_, id)| id);
        let role = |arn: String| {
            let arn = arn.trim().to_owned();
            let mut parts = arn.splitn(6, ':');
            let fits = parts.next() == Some("arn")
                && parts.next().is_some_and(|partition| partition.starts_with("aws"))
                && parts.next() == Some("iam")
                && parts.nth(2).is_some_and(|resource| resource.starts_with("role/"));
            if !fits {
                return Err(Error::invalid(format!("{arn:?} is not the ARN of an IAM role"))
                    .about_option("--role-arn")
                    .hint("Use this form: arn:aws:iam::123456789012:role/NAME"));
            }
            Ok(Role {
                arn,
                external_id: external_id.clone(),
                session_name: name.clone().unwrap_or_else(|| own_name.clone()),
                duration,
            })
        };
        arns.into_iter().map(role).collect()
    }

    /// Returns the OIDC token of the CI system: the one of an option, else that of GitHub Actions.
    fn id_token(&self, ci: &Variables<'_>) -> Result<Option<IdToken>> {
        if let Some(connection) = &self.azure_service_connection {
            let hint = "In the pipeline, add SYSTEM_ACCESSTOKEN: $(System.AccessToken) to the env of the step. The agent \
                        sets the other variable.";
            let required = |name: &str| {
                let missing = || {
                    Error::usage(format!("--azure-service-connection needs {name}, which is not set"))
                        .about_option("--azure-service-connection")
                };
                ci.text(name).ok_or_else(|| missing().hint(hint))
            };
            return Ok(Some(IdToken::Azure {
                url: required("SYSTEM_OIDCREQUESTURI")?,
                bearer: Secret::new(required("SYSTEM_ACCESSTOKEN")?),
                connection: not_empty("--azure-service-connection", connection.clone())?,
            }));
        }
        if let Some(name) = &self.web_identity_token_env {
            let hint = "Use the name of the variable, not the token: --web-identity-token-env AWS_ID_TOKEN";
            // The value may be the token itself, so it is not quoted.
            if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Err(Error::usage("the value of --web-identity-token-env is not a variable name")
                    .about_option("--web-identity-token-env")
                    .hint(hint));
            }
            let unset = || {
                Error::usage(format!("the variable of --web-identity-token-env, {name}, is not set"))
                    .about_option("--web-identity-token-env")
                    .hint(hint)
            };
            let token = ci.text(name).ok_or_else(unset)?;
            return Ok(Some(IdToken::Variable { name: name.clone(), token: Secret::new(token) }));
        }
        let github = ci.text("ACTIONS_ID_TOKEN_REQUEST_URL").zip(ci.text("ACTIONS_ID_TOKEN_REQUEST_TOKEN"));
        Ok(github.map(|(url, bearer)| IdToken::GitHub { url, bearer: Secret::new(bearer) }))
    }
}

/// Returns the additional CA certificates to trust: those of the environment, else those of the profile.
pub(super) fn ca_bundle(access: &Access, environment: Environment<'_>) -> Option<CaBundle> {
    let variable = "AWS_CA_BUNDLE";
    let path = environment(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
    let profile = || match access {
        Access::Aws(sources) => sources.profiles.ca_bundle().map(|(from, path)| CaBundle { from, path }),
        Access::Override { .. } => None,
    };
    path.map(|path| CaBundle { from: variable.to_owned(), path }).or_else(profile)
}

/// Returns the region of the environment, with the name of its variable.
pub(super) fn region(environment: Environment<'_>) -> Option<(&'static str, String)> {
    ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(|name| Some((name, Variables(environment).text(name)?)))
}

struct Variables<'a>(Environment<'a>);

impl Variables<'_> {
    /// Returns a variable that is set and not blank.
    fn text(&self, name: &str) -> Option<String> {
        let value = (self.0)(name)?.to_string_lossy().trim().to_owned();
        (!value.is_empty()).then_some(value)
    }

    /// Returns the endpoint of the container's credentials. The relative one has precedence, as in the AWS CLI.
    fn container(&self) -> Option<ContainerEndpoint> {
        let relative = self.text("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
        let is_relative = relative.is_some();
        let address = relative.or_else(|| self.text("AWS_CONTAINER_CREDENTIALS_FULL_URI"))?;
        let file = self.text("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(|path| ContainerToken::File(path.into()));
        let token = self.text("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(|text| ContainerToken::Text(Secret::new(text)));
        Some(ContainerEndpoint { relative: is_relative, address: Secret::new(address), token: file.or(token) })
    }

    /// Returns the token file of the environment.
    fn web_identity(&self) -> Option<WebIdentity> {
        let file = self.text("AWS_WEB_IDENTITY_TOKEN_FILE")?.into();
        let role = self.text("AWS_ROLE_ARN").map(|arn| Role {
            arn,
            external_id: None,
            session_name: self.text("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| default_session_name(self.0)),
            duration: None,
        });
        Some(WebIdentity { file, role })
    }

    /// Returns a pair of keys. Half of a pair is an error, and so is an unexpanded pipeline variable.
    fn keys(&self, id: &'static str, secret: &'static str, token: &str) -> Result<Option<AccessKey>> {
        let (id_value, secret_value, session_token) = (self.text(id), self.text(secret), self.text(token));
        if let Some(text) = &id_value {
            reject_unexpanded(id, text, self.0)?;
        }
        for (name, value) in [(secret, &secret_value), (token, &session_token)] {
            if let Some(value) = value {
                reject_unexpanded_secret(name, value, self.0)?;
            }
        }
        match (id_value, secret_value) {
            (Some(access_key_id), Some(text)) => Ok(Some(AccessKey {
                variable: id,
                access_key_id,
                secret_access_key: Secret::new(text),
                session_token: session_token.map(Secret::new),
            })),
            (None, None) => Ok(None),
            (id_value, _) => {
                let (set, missing) = if id_value.is_some() { (id, secret) } else { (secret, id) };
                Err(Error::usage(format!("{set} is set and {missing} is not")).hint(
                    "Set both or neither. In Azure Pipelines, a step gets secret variables only through its env.",
                ))
            }
        }
    }
}

/// Returns a session name with the CI system and its run ID, so that CloudTrail shows the job: `ecr-push-github-1234567890`.
fn default_session_name(environment: Environment<'_>) -> String {
    let Some(system) = CiSystem::detect(environment) else { return SESSION_NAME.to_owned() };
    let run = system.run.and_then(|name| Variables(environment).text(name));
    let parts = [Some(SESSION_NAME.to_owned()), Some(system.name.to_owned()), run];
    let name = parts.into_iter().flatten().collect::<Vec<_>>().join("-");
    name.chars().map(|c| if fits_session_name(c) { c } else { '-' }).take(LONGEST_SESSION_NAME).collect()
}

fn fits_session_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_+=,.@-".contains(c)
}

fn seconds(origin: &str, text: &str) -> Result<Duration> {
    let seconds = text.trim().parse().ok().filter(|seconds| SESSION_SECONDS.contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| {
        Error::usage(format!("{origin} must be 900 to 43200 seconds, not {text:?}")).about_option(origin)
    })
}

fn session_name(origin: &str, text: String) -> Result<String> {
    if (2..=LONGEST_SESSION_NAME).contains(&text.len()) && text.chars().all(fits_session_name) {
        return Ok(text);
    }
    Err(Error::usage(format!("{origin} {text:?} is not a valid session name"))
        .about_option(origin)
        .hint("Use 2 to 64 letters, digits and characters of _+=,.@-"))
}

/// Returns the AWS credentials that the AWS CLI would use with these environment variables.
///
/// ```
/// use ecr_push::{Options, access_from_env};
///
/// let mut options = Options::default();
/// options.registries.access = access_from_env(&|name| std::env::var_os(name))?;
///
/// // Half a key is not ignored.
/// let error = access_from_env(&|name| (name == "AWS_ACCESS_KEY_ID").then(|| "AKIDEXAMPLE".into())).unwrap_err();
/// assert!(error.to_string().contains("AWS_SECRET_ACCESS_KEY"), "{error}");
/// # Ok::<(), ecr_push::Error>(())
/// ```
///
/// # Errors
/// If variables contradict each other, or name a profile that cannot be used.
pub fn access_from_env(environment: Environment<'_>) -> Result<Access> {
    CredentialArgs::default().sources(environment).map(Access::Aws)
}
