//! The operations on the registry itself: the token, its policy, its settings.

use serde_json::json;

use super::call::Call;
use super::exception::{Exception, Outcome};
use super::policies::check_policy;
use crate::sandbox::store::epoch;

pub(super) fn get_authorization_token(call: &Call<'_>) -> Outcome {
    let (token, ends) = call.registry.server.issue_token(call.registry.id());
    let endpoint = format!("https://{}", call.registry.host());
    Ok(json!({"authorizationData": [
        {"authorizationToken": token, "expiresAt": epoch(ends), "proxyEndpoint": endpoint},
    ]}))
}

pub(super) fn describe(call: &Call<'_>) -> Outcome {
    Ok(json!({"registryId": call.registry.account, "replicationConfiguration": {"rules": []}}))
}

pub(super) fn get_policy(call: &Call<'_>) -> Outcome {
    policy(call, call.registry.store.registry(|own| own.policy.clone()))
}

pub(super) fn put_policy(call: &Call<'_>) -> Outcome {
    let text = call.required("policyText");
    check_policy(text, "registry")?;
    call.registry.store.registry(|own| own.policy = Some(text.to_owned()));
    policy(call, Some(text.to_owned()))
}

pub(super) fn delete_policy(call: &Call<'_>) -> Outcome {
    policy(call, call.registry.store.registry(|own| own.policy.take()))
}

fn policy(call: &Call<'_>, found: Option<String>) -> Outcome {
    let id = &call.registry.account;
    let absent = || {
        let message = format!("Registry policy does not exist in the registry with id '{id}'");
        Exception::new("RegistryPolicyNotFoundException", message)
    };
    Ok(json!({"registryId": id, "policyText": found.ok_or_else(absent)?}))
}

/// The settings of an account, and the values that they can have.
const SETTINGS: [(&str, &[&str]); 3] = [
    ("BASIC_SCAN_TYPE_VERSION", &["AWS_NATIVE"]),
    ("BLOB_MOUNTING", &["DISABLED", "ENABLED"]),
    ("REGISTRY_POLICY_SCOPE", &["V1", "V2"]),
];

/// Returns a member that has one of these values.
fn one_of<'a>(call: &'a Call<'_>, member: &str, set: &[&str]) -> Result<&'a str, Exception> {
    let constraint = || format!("Member must satisfy enum value set: [{}]", set.join(", "));
    let value = call.required(member);
    set.contains(&value).then_some(value).ok_or_else(|| Exception::parameter(member, &constraint()))
}

pub(super) fn get_setting(call: &Call<'_>) -> Outcome {
    let name = one_of(call, "name", &SETTINGS.map(|(name, _)| name))?;
    Ok(json!({"name": name, "value": call.registry.setting(name)}))
}

pub(super) fn put_setting(call: &Call<'_>) -> Outcome {
    let name = one_of(call, "name", &SETTINGS.map(|(name, _)| name))?;
    let values = SETTINGS.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, values)| values);
    let value = one_of(call, "value", values)?;
    call.registry.store.registry(|own| own.settings.insert(name.to_owned(), value.to_owned()));
    Ok(json!({"name": name, "value": value}))
}
