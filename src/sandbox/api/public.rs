//! The operations of ECR Public's API (<https://docs.aws.amazon.com/AmazonECRPublic/latest/APIReference/API_Operations.html>).
//! Its repositories are those of the one registry, below the caller's alias.

use serde::Deserialize;
use serde_json::{Value, json};

use super::exception::{Exception, Outcome, look, read};
use crate::oci::Repository;
use crate::sandbox::repository::Settings;
use crate::sandbox::server::Server;
use crate::sandbox::store::epoch;

/// The alias of the caller's registry.
const ALIAS: &str = "sandbox";

/// The longest name of a repository there.
const LONGEST: usize = 205;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Create {
    repository_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Describe {
    repository_names: Vec<String>,
}

/// Answers a request.
pub(super) fn serve(server: &Server, action: &str, body: &[u8]) -> Outcome {
    match action {
        "GetAuthorizationToken" => {
            let (token, ends) = server.store.issue_token(server.rules(|rules| rules.token_lifetime));
            // One, where the private API has a list, and no endpoint.
            Ok(json!({"authorizationData": {"authorizationToken": token, "expiresAt": epoch(ends)}}))
        }
        "CreateRepository" => {
            let Create { repository_name } = read(body)?;
            let name = within(&repository_name)?;
            if !server.store.create(&name, Settings::default())? {
                let message = format!(
                    "The repository with name '{repository_name}' already exists in the registry with id '{}'",
                    server.account
                );
                return Err(Exception::new("RepositoryAlreadyExistsException", message));
            }
            Ok(json!({"repository": describe(server, &repository_name, &name)?}))
        }
        "DescribeRegistries" => {
            let alias = json!({
                "name": ALIAS, "status": "ACTIVE", "primaryRegistryAlias": true, "defaultRegistryAlias": true,
            });
            Ok(json!({"registries": [{
                "registryId": server.account, "registryArn": format!("arn:aws:ecr-public::{}:registry/{0}", server.account),
                "registryUri": format!("public.ecr.aws/{ALIAS}"), "verified": false, "aliases": [alias],
            }]}))
        }
        "DescribeRepositories" => {
            let Describe { repository_names } = read(body)?;
            let described = repository_names.iter().map(|own| describe(server, own, &within(own)?));
            Ok(json!({"repositories": described.collect::<Result<Vec<_>, _>>()?}))
        }
        _ => Err(Exception::new("UnknownOperationException", "")),
    }
}

/// A repository below the alias.
fn within(own: &str) -> Result<Repository, Exception> {
    let named = format!("{ALIAS}/{own}").parse().ok().filter(|_| (2..=LONGEST).contains(&own.len()));
    named.ok_or_else(|| Exception::parameter("repositoryName", "must satisfy the pattern of repository names"))
}

fn describe(server: &Server, own: &str, name: &Repository) -> Result<Value, Exception> {
    let created = look(server, name, |repo| repo.created)?;
    Ok(json!({
        "repositoryArn": format!("arn:aws:ecr-public::{}:repository/{own}", server.account),
        "registryId": server.account,
        "repositoryName": own,
        "repositoryUri": format!("public.ecr.aws/{name}"),
        "createdAt": epoch(created),
    }))
}
