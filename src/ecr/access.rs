//! Where AWS credentials are to come from: what the command line and the CI's environment say of it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::profile::Profiles;
use crate::oci::{EcrHost, Host};

/// Something that is never printed.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being printed.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whom it is meant.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where credentials and settings come from.
#[derive(Clone, Debug)]
pub enum Access {
    /// AWS.
    Aws(CredentialSources),
    /// Registries on loopback: fixed credentials, and nothing of the user's settings or proxies.
    Override {
        /// The caller's own registry, which also replaces ECR Public.
        own: EndpointOverride,
        /// Those of other accounts and regions.
        others: Vec<EndpointOverride>,
    },
}

/// A registry on loopback that replaces one of Amazon's, with the API of its region.
#[derive(Clone, Debug)]
pub struct EndpointOverride {
    /// Where it listens: `127.0.0.1:PORT`.
    pub address: Host,
    /// The account that owns it.
    pub account: String,
    /// The region that it is in.
    pub region: String,
}

impl EndpointOverride {
    /// Returns its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Access {
    /// Returns what replaces a registry of Amazon's, if anything does: the one of that name, or the caller's own in a region.
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

impl Default for Access {
    fn default() -> Self {
        Self::Aws(CredentialSources::default())
    }
}

/// The credentials to begin with, and the roles to go on to.
#[derive(Clone, Debug, Default)]
pub struct CredentialSources {
    /// The credentials to begin with.
    pub base: BaseCredentials,
    /// The configuration files, and which profile of them gives settings. Its credentials are used as `base` says.
    pub profiles: Profiles,
    /// Roles to assume, each with the credentials of the one before.
    pub roles: Vec<Role>,
    /// The region that the environment names, with the variable's name.
    pub region: Option<(&'static str, String)>,
    /// What is worth a line: something that was named and is not used.
    pub notes: Vec<String>,
    /// What else the environment says about credentials.
    pub environment: Box<Environment>,
}

/// What the environment says about credentials beside keys and profiles.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// The endpoint that gives a container its credentials, if one is named.
    pub container: Option<ContainerEndpoint>,
    /// The token file, as EKS sets one for a service account (IRSA).
    pub web_identity: Option<WebIdentity>,
    /// Whether EC2's metadata service must not be asked.
    pub without_metadata: bool,
    /// GitHub Actions runs the job, and gives it no OIDC token to assume the named role with.
    pub github_without_token: bool,
}

/// A token file, and the role that is assumed with it.
#[derive(Clone, Debug)]
pub struct WebIdentity {
    /// `AWS_WEB_IDENTITY_TOKEN_FILE`
    pub file: PathBuf,
    /// `AWS_ROLE_ARN`, which belongs to it.
    pub role: Option<Role>,
}

/// The endpoint that gives a container its credentials.
#[derive(Clone, Debug)]
pub struct ContainerEndpoint {
    /// Whether the address is only a path, of the endpoint of Amazon ECS.
    pub relative: bool,
    /// The address, the path of which is a secret.
    pub address: Secret,
    /// What the endpoint wants to see.
    pub token: Option<ContainerToken>,
}

/// What a container's endpoint wants to see.
#[derive(Clone, Debug)]
pub enum ContainerToken {
    /// `AWS_CONTAINER_AUTHORIZATION_TOKEN`
    Text(Secret),
    /// `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`
    File(PathBuf),
}

/// The credentials to begin with.
#[derive(Clone, Debug, Default)]
pub enum BaseCredentials {
    /// The selected profile of AWS's configuration files, and no other source.
    Profile,
    /// Keys that AWS's own tools do not know under these names.
    AccessKey(AccessKey),
    /// What a CI vouches for. The first of the roles is assumed with it.
    Oidc(IdToken),
    /// The token file and the role that the environment names, and no other source.
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
    /// The variable that named it.
    pub variable: &'static str,
    /// `AKIA...`
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: Secret,
    /// The token that temporary ones have.
    pub session_token: Option<Secret>,
}

/// Where a CI hands out tokens that say which job this is.
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
    /// A file that holds the token, as EKS mounts one.
    File(PathBuf),
    /// A variable that holds the token, as GitLab and Bitbucket set one.
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
    /// What the role's trust policy may ask for.
    pub external_id: Option<String>,
    /// What the session is called in CloudTrail.
    pub session_name: String,
    /// How long the credentials live; AWS's default is an hour.
    pub duration: Option<Duration>,
}
