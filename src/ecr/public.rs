//! The few calls of ECR Public's API that a push needs. It is one for the whole world, in us-east-1.

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

/// Where ECR Public's API is, whatever region the caller is in (awslabs/amazon-ecr-credential-helper).
const REGION: &str = "us-east-1";

/// What a login takes (ECR Public user guide, "Registry authentication").
const RIGHTS: &str = "Allow the actions ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken on * in the caller's IAM policy. This prints a \
     policy with all that the push needs:";

/// ECR Public's API.
#[derive(Clone, Debug)]
pub(crate) struct EcrPublic {
    client: Client,
    /// The private one beside it, with the same settings.
    private: Ecr,
}

impl EcrPublic {
    /// Settles credentials, and sees to it that there are some. Calls nothing of ECR Public yet.
    ///
    /// # Errors
    /// Without credentials.
    pub(crate) async fn connect(access: &Access, network: &Network, host: &Host) -> Result<Self, NoCredentials> {
        // Of a private registry only its region and the kind of its address would count.
        let dual_stack = host.as_str() == "ecr-public.aws.com";
        let like = EcrHost { account: String::new(), region: REGION.into(), fips: false, dual_stack };
        let private = Ecr::connect(access, network, None, Some(&like)).await?;
        let config = aws_sdk_ecrpublic::config::Builder::from(&private.settings.config);
        let config = config.endpoint_resolver(CustomFirst::<DefaultResolver>::default()).build();
        Ok(Self { client: Client::from_conf(config), private })
    }

    /// Where the credentials come from, in words.
    pub(crate) async fn describe_origin(&self) -> String {
        self.private.describe_origin().await
    }

    /// Who STS says we are, if it says so soon.
    pub(crate) async fn caller_arn(&self) -> Option<String> {
        self.private.caller_arn().await
    }

    /// Gets a login, which the token service of the registry takes.
    ///
    /// # Errors
    /// Without credentials, without the rights `ecr-public:GetAuthorizationToken` and `sts:GetServiceBearerToken`, without
    /// an answer.
    pub(crate) async fn token(&self) -> Result<AuthorizationToken> {
        let doing = "cannot log in to Amazon ECR Public";
        let given = match self.client.get_authorization_token().send().await {
            Ok(given) => given,
            Err(error) => {
                let error = self.private.explain(error, doing).await;
                let is_denied =
                    error.service_error().is_some_and(|answer| answer.message.contains("not authorized to perform"));
                let rights = Advice::new(RIGHTS).command("ecr-push policy public.ecr.aws/ALIAS/NAME");
                return Err(if is_denied { error.hint(rights) } else { advise(error, None) });
            }
        };
        let data = given.authorization_data;
        let token =
            data.and_then(|data| AuthorizationToken::of(data.authorization_token?, data.expires_at, String::new()));
        token.ok_or_else(|| Error::new(Kind::Permission, format!("{doing}: the answer holds no usable token")))
    }

    /// Whether the caller's registry has a repository. `None` if we may not know.
    ///
    /// # Errors
    /// Without an answer.
    pub(crate) async fn has_repository(&self, name: &Repository) -> Result<Option<bool>> {
        let (_, name) = halves(name);
        match self.client.describe_repositories().repository_names(name).send().await {
            Ok(_) => Ok(Some(true)),
            Err(error) if error.code() == Some("RepositoryNotFoundException") => Ok(Some(false)),
            Err(error) if is_denied(error.code()) => Ok(None),
            Err(error) => Err(self.private.explain(error, &format!("cannot look for the repository {name}")).await),
        }
    }

    /// Checks that the alias in a repository's name is the caller's. A repository is created without its alias, so that
    /// a wrong one would name a repository of somebody else, and another repository would be created.
    ///
    /// # Errors
    /// If the alias is not the caller's, without the right `ecr-public:DescribeRegistries`, without an answer.
    pub(crate) async fn check_alias(&self, name: &Repository) -> Result<()> {
        let (alias, name) = halves(name);
        let doing = format!("cannot create the repository {name}");
        let described = match self.client.describe_registries().send().await {
            Ok(described) => described,
            Err(error) => return Err(advise(self.private.explain(error, &doing).await, None)),
        };
        let aliases: Vec<&str> =
            described.registries().iter().flat_map(|registry| registry.aliases()).map(|alias| alias.name()).collect();
        if aliases.contains(&alias) {
            return Ok(());
        }
        let theirs = match &aliases[..] {
            [] => "the caller's registry has no alias yet".to_owned(),
            aliases => format!("the aliases of the caller's registry are {}", aliases.join(", ")),
        };
        Err(Error::new(Kind::Refused, format!("{doing}: {alias} is not an alias of the caller's registry"))
            .code(Code::RepositoryNotFound)
            .because(theirs)
            .hint(
                Advice::new("Push below one of them. Which there are:")
                    .command("aws ecr-public describe-registries --region us-east-1"),
            ))
    }

    /// Creates a repository in the caller's registry, and says whether it did: another pusher may have been quicker.
    ///
    /// # Errors
    /// Without the right `ecr-public:CreateRepository`, without an answer.
    pub(crate) async fn create_repository(&self, name: &Repository) -> Result<bool> {
        let (_, name) = halves(name);
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

/// The alias of a registry, and what a repository is called inside.
fn halves(name: &Repository) -> (&str, &str) {
    name.as_str().split_once('/').unwrap_or(("", name.as_str()))
}
