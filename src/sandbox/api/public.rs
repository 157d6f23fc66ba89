//! ECR Public's API. Its repositories are those of the one registry, below the caller's alias.

use serde_json::{Value, json};

use super::call::{Call, Handler, with};
use super::exception::{Exception, Outcome};
use super::{account, images, repositories};
use crate::oci::Repository;
use crate::sandbox::refusal::Refusal;
use crate::sandbox::server::Registry;
use crate::sandbox::store::epoch;

/// The alias of the caller's registry.
const ALIAS: &str = "sandbox";

/// One, where the private API has a list, and no endpoint.
pub(super) fn get_authorization_token(call: &Call<'_>) -> Outcome {
    let mut answer = account::get_authorization_token(call)?;
    let mut data = answer["authorizationData"][0].take();
    data.as_object_mut().and_then(|data| data.remove("proxyEndpoint"));
    Ok(json!({"authorizationData": data}))
}

pub(super) fn describe_registries(call: &Call<'_>) -> Outcome {
    let account = &call.registry.account;
    let names = [ALIAS.to_owned()].into_iter().chain(call.registry.store.aliases());
    let describe = |name: String| {
        let is_first = name == ALIAS;
        json!({
            "name": name, "status": "ACTIVE", "primaryRegistryAlias": is_first, "defaultRegistryAlias": is_first,
        })
    };
    let aliases: Vec<Value> = names.map(describe).collect();
    Ok(json!({"registries": [{
        "registryId": account, "registryArn": format!("arn:aws:ecr-public::{account}:registry/{account}"),
        "registryUri": format!("public.ecr.aws/{ALIAS}"), "verified": false, "aliases": aliases,
    }]}))
}

/// Returns the name of a repository with its alias.
fn name_of(registry: &Registry, own: &str) -> String {
    let alias = registry.store.alias_of(own).filter(|_| registry.server.registries.any_account);
    format!("{}/{own}", alias.as_deref().unwrap_or(ALIAS))
}

/// Serves a call by the private API, with the name that the repository has below its alias. Messages have the caller's name.
fn serve(call: &Call<'_>, handler: Handler) -> Outcome {
    let own = call.required("repositoryName");
    let name = name_of(call.registry, own);
    let input = with(call.input.clone(), json!({"repositoryName": name}));
    handler(&Call { registry: call.registry, exchange: call.exchange, input }).map_err(|exception| {
        let message = exception.message.replace(&format!("'{name}'"), &format!("'{own}'"));
        Exception { message, ..exception }
    })
}

pub(super) fn create(call: &Call<'_>) -> Outcome {
    serve(call, repositories::create)?;
    Ok(json!({"repository": serve(call, |call| describe(call, &call.name()?))?}))
}

pub(super) fn delete(call: &Call<'_>) -> Outcome {
    let described = serve(call, |call| describe(call, &call.name()?))?;
    serve(call, repositories::delete)?;
    Ok(json!({"repository": described}))
}

pub(super) fn describe_repositories(call: &Call<'_>) -> Outcome {
    let names: Vec<Repository> = match call.input["repositoryNames"].as_array() {
        Some(names) => {
            let names = names.iter().filter_map(Value::as_str);
            names.map(|own| call.parse(&name_of(call.registry, own))).collect::<Result<_, _>>()?
        }
        None => {
            let aliases = call.registry.store.aliases();
            let is_alias = |alias: &str| alias == ALIAS || aliases.contains(alias);
            let is_public = |name: &Repository| name.as_str().split_once('/').is_some_and(|(alias, _)| is_alias(alias));
            call.registry.store.repositories().into_iter().filter(is_public).collect()
        }
    };
    call.page(
        "repositories",
        |it| it["repositoryUri"].to_string(),
        names.iter().map(|name| describe(call, name)).collect::<Result<_, _>>()?,
    )
}

fn describe(call: &Call<'_>, name: &Repository) -> Outcome {
    let own = name.as_str().split_once('/').map_or(name.as_str(), |(_, own)| own);
    let created = call.registry.store.look(name, |repo| repo.created);
    let created = created.ok_or_else(|| Refusal::absent(own, &call.registry.account))?;
    Ok(json!({
        "repositoryArn": format!("arn:aws:ecr-public::{}:repository/{own}", call.registry.account),
        "registryId": call.registry.account,
        "repositoryName": own,
        "repositoryUri": format!("public.ecr.aws/{name}"),
        "createdAt": epoch(created),
    }))
}

/// Members of an image's details that the public API has.
const DETAIL: [&str; 8] = [
    "artifactMediaType", "imageDigest", "imageManifestMediaType", "imagePushedAt", "imageSizeInBytes", "imageTags",
    "registryId", "repositoryName",
];

pub(super) fn describe_images(call: &Call<'_>) -> Outcome {
    let mut answer = serve(call, images::describe)?;
    for detail in answer["imageDetails"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        detail.retain(|member, _| DETAIL.contains(&member.as_str()));
        detail.insert("repositoryName".into(), call.input["repositoryName"].clone());
    }
    Ok(answer)
}

pub(super) fn batch_delete(call: &Call<'_>) -> Outcome {
    serve(call, images::batch_delete)
}
