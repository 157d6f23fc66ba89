//! The operations of ECR Public's API (<https://docs.aws.amazon.com/AmazonECRPublic/latest/APIReference/API_Operations.html>).
//! Its repositories are those of the one registry, below the caller's alias.

use serde::Deserialize;
use serde_json::{Value, json};

use super::exception::{Exception, Outcome, look, read};
use crate::oci::Repository;
use crate::sandbox::repository::Settings;
use crate::sandbox::server::Registry;
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
pub(super) fn serve(registry: &Registry, action: &str, body: &[u8]) -> Outcome {
    match action {
        "GetAuthorizationToken" => {
            let (token, ends) = registry.issue_token();
            // One, where the private API has a list, and no endpoint.
            Ok(json!({"authorizationData": {"authorizationToken": token, "expiresAt": epoch(ends)}}))
        }
        "CreateRepository" => {
            let Create { repository_name } = read(body)?;
            let name = within(registry, &repository_name)?;
            if !registry.store.create(&name, Settings::default())? {
                let message = format!(
                    "The repository with name '{repository_name}' already exists in the registry with id '{}'",
                    registry.account
                );
                return Err(Exception::new("RepositoryAlreadyExistsException", message));
            }
            Ok(json!({"repository": describe(registry, &repository_name, &name)?}))
        }
        "DescribeRegistries" => {
            let names = [ALIAS.to_owned()].into_iter().chain(registry.store.aliases());
            let aliases = names.map(|name| {
                let is_first = name == ALIAS;
                json!({"name": name, "status": "ACTIVE", "primaryRegistryAlias": is_first, "defaultRegistryAlias": is_first})
            });
            let aliases: Vec<Value> = aliases.collect();
            Ok(json!({"registries": [{
                "registryId": registry.account, "registryArn": format!("arn:aws:ecr-public::{}:registry/{0}", registry.account),
                "registryUri": format!("public.ecr.aws/{ALIAS}"), "verified": false, "aliases": aliases,
            }]}))
        }
        "DescribeRepositories" => {
            let Describe { repository_names } = read(body)?;
            let described = repository_names.iter().map(|own| describe(registry, own, &within(registry, own)?));
            Ok(json!({"repositories": described.collect::<Result<Vec<_>, _>>()?}))
        }
        _ => Err(Exception::new("UnknownOperationException", "")),
    }
}

/// A repository below its alias.
fn within(registry: &Registry, own: &str) -> Result<Repository, Exception> {
    let alias = registry.store.alias_of(own).filter(|_| registry.server.registries.any_account);
    let named = format!("{}/{own}", alias.as_deref().unwrap_or(ALIAS))
        .parse()
        .ok()
        .filter(|_| (2..=LONGEST).contains(&own.len()));
    named.ok_or_else(|| Exception::parameter("repositoryName", "must satisfy the pattern of repository names"))
}

fn describe(registry: &Registry, own: &str, name: &Repository) -> Result<Value, Exception> {
    let created = look(registry, name, |repo| repo.created)?;
    Ok(json!({
        "repositoryArn": format!("arn:aws:ecr-public::{}:repository/{own}", registry.account),
        "registryId": registry.account,
        "repositoryName": own,
        "repositoryUri": format!("public.ecr.aws/{name}"),
        "createdAt": epoch(created),
    }))
}
