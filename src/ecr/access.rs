//! Where AWS credentials come from, as the command line and the environment define it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::profile::Profiles;
use crate::oci::{EcrHost, EndpointOverride};

/// A text that is never printed.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text so that it is not printed.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text, to send it to its recipient.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Access to AWS, or to registries that replace it.
///
/// ```
/// use ecr_push::{Access, access_from_env};
///
/// let variables = |name: &str| match name {
///     "AWS_ACCESS_KEY_ID" => Some("AKIDEXAMPLE".into()),
///     "AWS_SECRET_ACCESS_KEY" => Some("secret".into()),
///     _ => None,
/// };
/// let access = access_from_env(&variables)?;
/// assert!(matches!(access, Access::Aws(_)));
/// assert!(!format!("{access:?}").contains("secret"), "secrets are not printed");
/// # Ok::<(), ecr_push::Error>(())
/// ```
#[derive(Clone, Debug)]
pub enum Access {
    /// AWS.
    Aws(CredentialSources),
    /// Registries on loopback, with fixed credentials and without the user's settings and proxies.
    Override {
        /// The caller's own registry, which also replaces ECR Public.
        own: EndpointOverride,
        /// The registries of other accounts and regions.
        others: Vec<EndpointOverride>,
    },
}

impl Access {
    /// Returns the override for a registry of Amazon's, if there is one: that of `host`, else the caller's own in `region`.
    pub fn endpoint_override(&self, host: Option<&EcrHost>, region: Option<&str>) -> Option<&EndpointOverride> {
        let Self::Override { own, others } = self else { return None };
        let wanted = match (host, region) {
            (Some(host), _) => (&*host.account, &*host.region),
            (None, Some(region)) => (&*own.account, region),
            (None, None) => return Some(own),
        };
        Some(others.iter().find(|it| (&*it.account, &*it.region) == wanted).unwrap_or(own))
    }
}

impl From<EndpointOverride> for Access {
    fn from(own: EndpointOverride) -> Self {
        Self::Override { own, others: Vec::new() }
    }
}

impl Default for Access {
    fn default() -> Self {
        Self::Aws(CredentialSources::default())
    }
}

/// The base credentials, and the roles to assume with them.
#[derive(Clone, Debug, Default)]
pub struct CredentialSources {
    /// The base credentials.
    pub base: BaseCredentials,
    /// The configuration files, with the profile whose settings apply. `base` decides whether its credentials are used.
    pub profiles: Profiles,
    /// The roles to assume, each with the credentials of the previous one.
    pub roles: Vec<Role>,
    /// The region in the environment, with the name of its variable.
    pub region: Option<(&'static str, String)>,
    /// Notes about settings that are named and not used.
    pub notes: Vec<String>,
    /// Other sources of credentials in the environment.
    pub environment: Box<Environment>,
}

/// Sources of credentials in the environment other than keys and profiles.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// The credentials endpoint of the container, if one is named.
    pub container: Option<ContainerEndpoint>,
    /// The token file, as EKS sets one for a service account (IRSA).
    pub web_identity: Option<WebIdentity>,
    /// Whether EC2's metadata service must not be used.
    pub without_metadata: bool,
    /// Whether GitHub Actions runs the job without an OIDC token to assume the named role.
    pub github_without_token: bool,
}

/// A token file, and the role that is assumed with it.
#[derive(Clone, Debug)]
pub struct WebIdentity {
    /// `AWS_WEB_IDENTITY_TOKEN_FILE`
    pub file: PathBuf,
    /// The role in `AWS_ROLE_ARN`.
    pub role: Option<Role>,
}

/// The endpoint that provides a container's credentials.
#[derive(Clone, Debug)]
pub struct ContainerEndpoint {
    /// Whether the address is only a path at the endpoint of Amazon ECS.
    pub relative: bool,
    /// The address. Its path is a secret.
    pub address: Secret,
    /// The token that the endpoint requires.
    pub token: Option<ContainerToken>,
}

/// The token that a container's credentials endpoint requires.
#[derive(Clone, Debug)]
pub enum ContainerToken {
    /// `AWS_CONTAINER_AUTHORIZATION_TOKEN`
    Text(Secret),
    /// `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`
    File(PathBuf),
}

/// The base credentials.
#[derive(Clone, Debug, Default)]
pub enum BaseCredentials {
    /// The selected profile of AWS's configuration files, and no other source.
    Profile,
    /// Keys in variables that AWS's own tools do not read.
    AccessKey(AccessKey),
    /// An OIDC token of a CI system. The first role is assumed with it.
    Oidc(IdToken),
    /// The token file and the role in the environment, and no other source.
    WebIdentity,
    /// The order of the AWS CLI, version 2: keys of the environment, a role of the default profile, web identity of the
    /// environment, the rest of the default profile, container, EC2 metadata
    /// (<https://docs.aws.amazon.com/cli/latest/userguide/cli-chap-configure.html#configure-precedence>).
    #[default]
    Chain,
}

/// An access key.
#[derive(Clone, Debug)]
pub struct AccessKey {
    /// The variable that contains the access key ID.
    pub variable: &'static str,
    /// `AKIA...`
    pub access_key_id: String,
    /// The secret access key.
    pub secret_access_key: Secret,
    /// The session token of temporary credentials.
    pub session_token: Option<Secret>,
}

/// The source of an OIDC token, which identifies the job of a CI system.
#[derive(Clone, Debug)]
pub enum IdToken {
    /// Azure Pipelines, for a service connection
    /// (<https://learn.microsoft.com/azure/devops/pipelines/release/configure-workload-identity>).
    Azure {
        /// `SYSTEM_OIDCREQUESTURI`
        url: String,
        /// `SYSTEM_ACCESSTOKEN`
        bearer: Secret,
        /// The ID of the service connection.
        connection: String,
    },
    /// GitHub Actions (<https://docs.github.com/actions/reference/security/oidc>).
    GitHub {
        /// `ACTIONS_ID_TOKEN_REQUEST_URL`
        url: String,
        /// `ACTIONS_ID_TOKEN_REQUEST_TOKEN`
        bearer: Secret,
    },
    /// A file that contains the token, as EKS mounts one.
    File(PathBuf),
    /// A variable that contains the token, as GitLab and Bitbucket set one.
    Variable {
        /// The variable.
        name: String,
        /// The token.
        token: Secret,
    },
}

/// A role to assume.
#[derive(Clone, Debug)]
pub struct Role {
    /// `arn:aws:iam::ACCOUNT:role/NAME`
    pub arn: String,
    /// The external ID that the role's trust policy may require.
    pub external_id: Option<String>,
    /// The name of the session in CloudTrail.
    pub session_name: String,
    /// The lifetime of the credentials; AWS's default is an hour.
    pub duration: Option<Duration>,
}
