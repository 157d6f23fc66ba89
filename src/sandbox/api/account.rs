//! The operations on the registry itself: the token, its policy, its settings.

use serde_json::json;

use super::call::Call;
use super::exception::{Exception, Outcome};
use super::policies::check_policy;
use crate::sandbox::rules::BlobMounting;
use crate::sandbox::store::epoch;

pub(super) fn get_authorization_token(call: &Call<'_>) -> Outcome {
    let (token, ends) = call.registry.issue_token();
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

/// The settings of an account, and the values that they can have. The first one is the default.
const SETTINGS: [(&str, &[&str]); 3] = [
    ("BASIC_SCAN_TYPE_VERSION", &["AWS_NATIVE"]),
    ("BLOB_MOUNTING", &["DISABLED", "ENABLED"]),
    ("REGISTRY_POLICY_SCOPE", &["V1", "V2"]),
];

/// Returns the name of a setting, and its values.
fn setting<'a>(call: &'a Call<'_>) -> Result<(&'a str, &'static [&'static str]), Exception> {
    let name = call.required("name");
    let found = SETTINGS.iter().find(|(known, _)| *known == name);
    found.map(|(_, values)| (name, *values)).ok_or_else(|| {
        let names = SETTINGS.map(|(name, _)| name).join(", ");
        Exception::parameter("name", &format!("Member must satisfy enum value set: [{names}]"))
    })
}

pub(super) fn get_setting(call: &Call<'_>) -> Outcome {
    let (name, values) = setting(call)?;
    let value = match name {
        "BLOB_MOUNTING" if call.registry.rules(|rules| rules.blob_mounting == BlobMounting::Enabled) => {
            "ENABLED".to_owned()
        }
        _ => {
            let value = call.registry.store.registry(|own| own.settings.get(name).cloned());
            value.unwrap_or_else(|| values[0].to_owned())
        }
    };
    Ok(json!({"name": name, "value": value}))
}

pub(super) fn put_setting(call: &Call<'_>) -> Outcome {
    let ((name, values), value) = (setting(call)?, call.required("value"));
    if !values.contains(&value) {
        let constraint = format!("Member must satisfy enum value set: [{}]", values.join(", "));
        return Err(Exception::parameter("value", &constraint));
    }
    if name == "BLOB_MOUNTING" {
        let mounting = if value == "ENABLED" { BlobMounting::Enabled } else { BlobMounting::Disabled };
        call.registry.rules(|rules| rules.blob_mounting = mounting);
    }
    call.registry.store.registry(|own| own.settings.insert(name.to_owned(), value.to_owned()));
    Ok(json!({"name": name, "value": value}))
}
