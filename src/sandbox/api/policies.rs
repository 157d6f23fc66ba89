//! The operations on a repository's policies.

use serde::Deserialize;
use serde_json::{Value, json};

use super::exception::{Exception, Outcome, look, name_of};
use crate::oci::Repository;
use crate::sandbox::repository::Settings;
use crate::sandbox::server::Server;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LifecyclePolicy {
    registry_id: Option<String>,
    repository_name: String,
    lifecycle_policy_text: String,
}

pub(super) fn put_lifecycle(server: &Server, request: LifecyclePolicy) -> Outcome {
    let name = name_of(server, request.registry_id.as_deref(), &request.repository_name)?;
    let text = request.lifecycle_policy_text;
    if !(100..=30_720).contains(&text.len()) {
        let constraint = "Member must have length less than or equal to 30720 and greater than or equal to 100";
        return Err(Exception::parameter("LifecyclePolicyText", constraint));
    }
    if serde_json::from_str::<Value>(&text).is_err() {
        return Err(Exception::parameter("LifecyclePolicyText", "Lifecycle policy is not valid JSON"));
    }
    let set = server.store.set(&name, |settings| settings.lifecycle_policy = Some(text.clone()));
    set.ok_or_else(|| Exception::absent(name.as_str(), server))??;
    Ok(json!({"registryId": server.account, "repositoryName": name, "lifecyclePolicyText": text}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RepositoryPolicy {
    registry_id: Option<String>,
    repository_name: String,
    policy_text: String,
}

pub(super) fn set(server: &Server, request: RepositoryPolicy) -> Outcome {
    let name = name_of(server, request.registry_id.as_deref(), &request.repository_name)?;
    let text = request.policy_text;
    if text.len() > 10_240 || serde_json::from_str::<Value>(&text).is_err() {
        return Err(Exception::parameter("PolicyText", "Invalid repository policy provided"));
    }
    let set = server.store.set(&name, |settings| settings.repository_policy = Some(text.clone()));
    set.ok_or_else(|| Exception::absent(name.as_str(), server))??;
    Ok(json!({"registryId": server.account, "repositoryName": name, "policyText": text}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Get {
    registry_id: Option<String>,
    repository_name: String,
}

pub(super) fn get_lifecycle(server: &Server, request: Get) -> Outcome {
    let (name, text) = policy(server, &request, |settings| settings.lifecycle_policy.clone())?;
    let message = || none(server, "Lifecycle policy", &name);
    let text = text.ok_or_else(|| Exception::new("LifecyclePolicyNotFoundException", message()))?;
    Ok(json!({"registryId": server.account, "repositoryName": name, "lifecyclePolicyText": text}))
}

pub(super) fn get(server: &Server, request: Get) -> Outcome {
    let (name, text) = policy(server, &request, |settings| settings.repository_policy.clone())?;
    let message = || none(server, "Repository policy", &name);
    let text = text.ok_or_else(|| Exception::new("RepositoryPolicyNotFoundException", message()))?;
    Ok(json!({"registryId": server.account, "repositoryName": name, "policyText": text}))
}

fn policy(
    server: &Server,
    request: &Get,
    which: impl FnOnce(&Settings) -> Option<String>,
) -> Result<(Repository, Option<String>), Exception> {
    let name = name_of(server, request.registry_id.as_deref(), &request.repository_name)?;
    let text = look(server, &name, |repo| which(&repo.settings))?;
    Ok((name, text))
}

fn none(server: &Server, what: &str, name: &Repository) -> String {
    format!("{what} does not exist for the repository with name '{name}' in the registry with id '{}'", server.account)
}
