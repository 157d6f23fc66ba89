//! The templates by which ECR creates repositories.

use serde_json::{Map, Value, json};

use super::call::{Call, present, with};
use super::exception::{Exception, Outcome};
use super::repositories;
use crate::sandbox::repository::{Mutability, Settings};
use crate::sandbox::rules::CreationTemplate;

/// Returns the settings of a repository that a template creates.
pub(in crate::sandbox) fn settings_of_template(template: &CreationTemplate) -> Settings {
    let input = Value::Object(template.members.clone());
    // One that was created by the API has members that the model allows.
    let mut settings = repositories::settings(&input).unwrap_or_default();
    settings.lifecycle_policy = input["lifecyclePolicy"].as_str().map(str::to_owned);
    settings.repository_policy = input["repositoryPolicy"].as_str().map(str::to_owned);
    settings.tags = repositories::tags(&input, "resourceTags").unwrap_or_default();
    if template.immutable {
        settings.mutability = Mutability::Immutable;
    }
    settings
}

/// The sandbox knows no registry but the caller's own.
pub(super) fn describe(call: &Call<'_>) -> Outcome {
    let prefixes: Option<Vec<String>> = call.member("prefixes")?;
    let is_wanted = |template: &&CreationTemplate| {
        prefixes.as_ref().is_none_or(|prefixes| prefixes.iter().any(|prefix| is_same(prefix, &template.prefix)))
    };
    let templates = call.registry.templates().iter().filter(is_wanted).map(describe_one).collect();
    Ok(with(
        call.page("repositoryCreationTemplates", |it| it["prefix"].to_string(), templates)?,
        json!({"registryId": call.registry.account}),
    ))
}

fn describe_one(template: &CreationTemplate) -> Value {
    let mutability = if template.immutable { "IMMUTABLE" } else { "MUTABLE" };
    let own = json!({
        "prefix": template.prefix, "appliedFor": template.applied_for, "imageTagMutability": mutability,
        "encryptionConfiguration": {"encryptionType": "AES256"},
    });
    present(with(own, Value::Object(template.members.clone())))
}

/// A slash at the end is implied, and may be stated.
fn is_same(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

pub(super) fn create(call: &Call<'_>) -> Outcome {
    let template = CreationTemplate {
        prefix: call.required("prefix").to_owned(),
        applied_for: call.member("appliedFor")?,
        immutable: false,
        members: members(call)?,
    };
    let created = call.registry.change_templates(|templates| {
        let is_new = !templates.iter().any(|other| is_same(&other.prefix, &template.prefix));
        is_new.then(|| {
            templates.push(template.clone());
            template
        })
    });
    let exists = || {
        let prefix = call.required("prefix");
        let message = format!("A repository creation template with prefix '{prefix}' already exists");
        Exception::new("TemplateAlreadyExistsException", message)
    };
    Ok(answer(call, &created.ok_or_else(exists)?))
}

/// Members that are left out stay as they are.
pub(super) fn update(call: &Call<'_>) -> Outcome {
    let (applied_for, members): (Option<Vec<String>>, _) = (call.member("appliedFor")?, members(call)?);
    let template = change(call, |templates, at| {
        let template = &mut templates[at];
        template.immutable &= !members.contains_key("imageTagMutability");
        template.members.extend(members);
        template.applied_for = applied_for.unwrap_or_else(|| template.applied_for.clone());
        template.clone()
    })?;
    Ok(answer(call, &template))
}

pub(super) fn delete(call: &Call<'_>) -> Outcome {
    let template = change(call, Vec::remove)?;
    Ok(answer(call, &template))
}

/// Returns the members other than those that a template has in fields of its own.
fn members(call: &Call<'_>) -> Result<Map<String, Value>, Exception> {
    repositories::settings(&call.input)?;
    let mut members = call.input.as_object().cloned().unwrap_or_default();
    members.retain(|name, value| !["prefix", "appliedFor"].contains(&name.as_str()) && !value.is_null());
    Ok(members)
}

fn change<T>(call: &Call<'_>, change: impl FnOnce(&mut Vec<CreationTemplate>, usize) -> T) -> Result<T, Exception> {
    let prefix = call.required("prefix");
    let changed = call.registry.change_templates(|templates| {
        let at = templates.iter().position(|template| is_same(&template.prefix, prefix))?;
        Some(change(templates, at))
    });
    changed.ok_or_else(|| {
        let message = format!("The repository creation template with prefix '{prefix}' does not exist");
        Exception::new("TemplateNotFoundException", message)
    })
}

fn answer(call: &Call<'_>, template: &CreationTemplate) -> Value {
    json!({"registryId": call.registry.account, "repositoryCreationTemplate": describe_one(template)})
}
