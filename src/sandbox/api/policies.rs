//! The operations on a repository's policies.

use serde::Deserialize;
use serde_json::{Value, json};

use super::exception::{Exception, Outcome, look, name_of};
use crate::oci::Repository;
use crate::sandbox::repository::Settings;
use crate::sandbox::server::Registry;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LifecyclePolicy {
    registry_id: Option<String>,
    repository_name: String,
    lifecycle_policy_text: String,
}

pub(super) fn put_lifecycle(registry: &Registry, request: LifecyclePolicy) -> Outcome {
    let name = name_of(registry, request.registry_id.as_deref(), &request.repository_name)?;
    let text = request.lifecycle_policy_text;
    if !(100..=30_720).contains(&text.len()) {
        let constraint = "Member must have length less than or equal to 30720 and greater than or equal to 100";
        return Err(Exception::parameter("LifecyclePolicyText", constraint));
    }
    if serde_json::from_str::<Value>(&text).is_err() {
        return Err(Exception::parameter("LifecyclePolicyText", "Lifecycle policy is not valid JSON"));
    }
    let set = registry.store.set(&name, |settings| settings.lifecycle_policy = Some(text.clone()));
    set.ok_or_else(|| Exception::absent(name.as_str(), registry))??;
    Ok(json!({"registryId": registry.account, "repositoryName": name, "lifecyclePolicyText": text}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RepositoryPolicy {
    registry_id: Option<String>,
    repository_name: String,
    policy_text: String,
}

pub(super) fn set(registry: &Registry, request: RepositoryPolicy) -> Outcome {
    let name = name_of(registry, request.registry_id.as_deref(), &request.repository_name)?;
    let text = request.policy_text;
    if text.len() > 10_240 || serde_json::from_str::<Value>(&text).is_err() {
        return Err(Exception::parameter("PolicyText", "Invalid repository policy provided"));
    }
    let set = registry.store.set(&name, |settings| settings.repository_policy = Some(text.clone()));
    set.ok_or_else(|| Exception::absent(name.as_str(), registry))??;
    Ok(json!({"registryId": registry.account, "repositoryName": name, "policyText": text}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Get {
    registry_id: Option<String>,
    repository_name: String,
}

pub(super) fn get_lifecycle(registry: &Registry, request: Get) -> Outcome {
    let (name, text) = policy(registry, &request, |settings| settings.lifecycle_policy.clone())?;
    let message = || none(registry, "Lifecycle policy", &name);
    let text = text.ok_or_else(|| Exception::new("LifecyclePolicyNotFoundException", message()))?;
    Ok(json!({"registryId": registry.account, "repositoryName": name, "lifecyclePolicyText": text}))
}

pub(super) fn get(registry: &Registry, request: Get) -> Outcome {
    let (name, text) = policy(registry, &request, |settings| settings.repository_policy.clone())?;
    let message = || none(registry, "Repository policy", &name);
    let text = text.ok_or_else(|| Exception::new("RepositoryPolicyNotFoundException", message()))?;
    Ok(json!({"registryId": registry.account, "repositoryName": name, "policyText": text}))
}

fn policy(
    registry: &Registry,
    request: &Get,
    which: impl FnOnce(&Settings) -> Option<String>,
) -> Result<(Repository, Option<String>), Exception> {
    let name = name_of(registry, request.registry_id.as_deref(), &request.repository_name)?;
    let text = look(registry, &name, |repo| which(&repo.settings))?;
    Ok((name, text))
}

fn none(registry: &Registry, what: &str, name: &Repository) -> String {
    format!(
        "{what} does not exist for the repository with name '{name}' in the registry with id '{}'",
        registry.account
    )
}
