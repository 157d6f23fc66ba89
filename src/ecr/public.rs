//! The calls of ECR Public's API. It is a global service in us-east-1.

use aws_sdk_ecrpublic::Client;
use aws_sdk_ecrpublic::config::endpoint::DefaultResolver;
use aws_sdk_ecrpublic::error::ProvideErrorMetadata as _;

use super::access::Access;
use super::advice::advise;
use super::api::{AuthorizationToken, Ecr, is_denied};
use super::credentials::NoCredentials;
use super::custom_endpoint::CustomFirst;
use super::network::Network;
use crate::error::{Advice, Code, Error, Kind, Result};
use crate::oci::{EcrHost, Host, Repository};

/// The region of ECR Public's API, whatever the caller's region (awslabs/amazon-ecr-credential-helper).
const REGION: &str = "us-east-1";

/// The advice after a denied login (ECR Public user guide, "Registry authentication").
const LOGIN_PERMISSIONS: &str = "Allow the actions ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken on * in the caller's IAM policy. This prints a \
     policy with all that the push needs:";

/// ECR Public's API.
#[derive(Clone, Debug)]
pub(crate) struct EcrPublic {
    client: Client,
    /// The client of the private API with the same settings.
    private: Ecr,
}

impl EcrPublic {
    /// Loads the credentials. Does not call ECR Public yet.
    ///
    /// # Errors
    /// Fails without credentials.
    pub(crate) async fn connect(access: &Access, network: &Network, host: &Host) -> Result<Self, NoCredentials> {
        // Only the region and the kind of endpoint of this host are used.
        let dual_stack = host.as_str() == "ecr-public.aws.com";
        let like = EcrHost { account: String::new(), region: REGION.into(), fips: false, dual_stack };
        let private = Ecr::connect(access, network, None, Some(&like)).await?;
        let config = aws_sdk_ecrpublic::config::Builder::from(&private.settings.config);
        let config = config.endpoint_resolver(CustomFirst::<DefaultResolver>::default()).build();
        Ok(Self { client: Client::from_conf(config), private })
    }

    /// Describes where the credentials come from.
    pub(crate) async fn describe_origin(&self) -> String {
        self.private.describe_origin().await
    }

    /// Returns the ARN of the caller, if STS responds in time.
    pub(crate) async fn caller_arn(&self) -> Option<String> {
        self.private.caller_arn().await
    }

    /// Gets a login for the token service of the registry.
    ///
    /// # Errors
    /// Fails without credentials, without the permissions `ecr-public:GetAuthorizationToken` and
    /// `sts:GetServiceBearerToken`, and without a response.
    pub(crate) async fn token(&self) -> Result<AuthorizationToken> {
        let doing = "cannot log in to Amazon ECR Public";
        let sent = self.private.explained(self.client.get_authorization_token().send().await, doing).await;
        let response = sent.map_err(|error| {
            match error.service_error().is_some_and(|answer| answer.message.contains("not authorized to perform")) {
                true => error.hint(Advice::new(LOGIN_PERMISSIONS).command("ecr-push policy public.ecr.aws/ALIAS/NAME")),
                false => advise(error, None),
            }
        })?;
        let data = response.authorization_data;
        let token =
            data.and_then(|data| AuthorizationToken::of(data.authorization_token?, data.expires_at, String::new()));
        token.ok_or_else(|| Error::new(Kind::Permission, format!("{doing}: the answer holds no usable token")))
    }

    /// Returns whether a repository exists in the caller's registry. `None` without the permission.
    ///
    /// # Errors
    /// Fails without a response.
    pub(crate) async fn has_repository(&self, name: &Repository) -> Result<Option<bool>> {
        let (_, name) = split_alias(name);
        match self.client.describe_repositories().repository_names(name).send().await {
            Ok(_) => Ok(Some(true)),
            Err(error) if error.code() == Some("RepositoryNotFoundException") => Ok(Some(false)),
            Err(error) if is_denied(error.code()) => Ok(None),
            Err(error) => Err(self.private.explain(error, &format!("cannot look for the repository {name}")).await),
        }
    }

    /// Checks that the alias in a repository's name is the caller's. A repository is created without its alias: with the alias
    /// of another account, a different repository than the named one would be created.
    ///
    /// # Errors
    /// Fails if the alias is not the caller's, without the permission `ecr-public:DescribeRegistries`, and without a response.
    pub(crate) async fn check_alias(&self, name: &Repository) -> Result<()> {
        let (alias, name) = split_alias(name);
        let doing = format!("cannot create the repository {name}");
        let sent = self.private.explained(self.client.describe_registries().send().await, &doing).await;
        let described = sent.map_err(|error| advise(error, None))?;
        let aliases: Vec<&str> =
            described.registries().iter().flat_map(|registry| registry.aliases()).map(|alias| alias.name()).collect();
        if aliases.contains(&alias) {
            return Ok(());
        }
        let why = match &aliases[..] {
            [] => "the caller's registry has no alias yet".to_owned(),
            aliases => format!("the aliases of the caller's registry are {}", aliases.join(", ")),
        };
        Err(Error::new(Kind::Refused, format!("{doing}: {alias} is not an alias of the caller's registry"))
            .code(Code::RepositoryNotFound)
            .because(why)
            .hint(
                Advice::new("Push below one of them. Which there are:")
                    .command("aws ecr-public describe-registries --region us-east-1"),
            ))
    }

    /// Creates a repository in the caller's registry. Returns `false` if another client created it first.
    ///
    /// # Errors
    /// Fails without the permission `ecr-public:CreateRepository`, and without a response.
    pub(crate) async fn create_repository(&self, name: &Repository) -> Result<bool> {
        let (_, name) = split_alias(name);
        match self.client.create_repository().repository_name(name).send().await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("RepositoryAlreadyExistsException") => Ok(false),
            Err(error) => {
                let error = self.private.explain(error, &format!("cannot create the repository {name}")).await;
                Err(advise(error, None))
            }
        }
    }
}

/// Splits a name into the alias of the registry and the name of the repository there.
fn split_alias(name: &Repository) -> (&str, &str) {
    name.as_str().split_once('/').unwrap_or(("", name.as_str()))
}
