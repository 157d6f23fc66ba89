//! The operations on repositories themselves: their life, their settings, their tags.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Call, member, present, with};
use super::exception::{Exception, Outcome};
use crate::oci::Repository;
use crate::sandbox::refusal::Refusal;
use crate::sandbox::repository::{Encryption, Mutability, Repo, Settings};
use crate::sandbox::server::Registry;
use crate::sandbox::store::epoch;

/// The maximum number of tags of a repository.
const MOST_TAGS: usize = 50;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ResourceTag {
    key: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct ExclusionFilter {
    filter: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EncryptionConfiguration {
    encryption_type: Encryption,
    kms_key: Option<String>,
}

pub(super) fn create(call: &Call<'_>) -> Outcome {
    let (registry, name) = (call.registry, call.name()?);
    let settings = Settings { tags: tags(&call.input, "tags")?, ..settings(&call.input)? };
    if !settings.tags.is_empty() {
        registry.allow("ecr:TagResource", Some(&name))?;
    }
    // https://docs.aws.amazon.com/AmazonECR/latest/userguide/encryption-at-rest.html, "Required IAM permissions"
    if let Some(key) = &settings.kms_key {
        registry.allow_on("kms:DescribeKey", &key_arn(registry, key))?;
        registry.allow_on("kms:CreateGrant", &key_arn(registry, key))?;
    }
    if !registry.store.create(&name, settings)? {
        let message =
            format!("The repository with name '{name}' already exists in the registry with id '{}'", registry.account);
        return Err(Exception::new("RepositoryAlreadyExistsException", message));
    }
    Ok(json!({"repository": call.look(&name, |repo| describe_one(registry, &name, repo))?}))
}

/// A key's ARN, for which its ID may stand.
fn key_arn(registry: &Registry, key: &str) -> String {
    if key.starts_with("arn:") {
        return key.to_owned();
    }
    format!("arn:{}:kms:{}:{}:key/{key}", registry.ecr_host().partition(), registry.region, registry.account)
}

/// Reads the settings that a new repository, or a template for one, has.
pub(super) fn settings(input: &Value) -> Result<Settings, Exception> {
    let (mutability, exclusion_filters) = mutability(input)?;
    let EncryptionConfiguration { encryption_type: encryption, kms_key } = member(input, "encryptionConfiguration")?;
    if encryption == Encryption::Aes256 && kms_key.is_some() {
        return Err(Exception::parameter("kmsKey", "must not be set when encryptionType is AES256"));
    }
    let scan_on_push = input["imageScanningConfiguration"]["scanOnPush"].as_bool().unwrap_or_default();
    Ok(Settings { mutability, exclusion_filters, scan_on_push, encryption, kms_key, ..Settings::default() })
}

/// Reads the tag mutability and its filters. The messages are the service's
/// (<https://github.com/aws/aws-cdk/pull/35246>).
fn mutability(input: &Value) -> Result<(Mutability, Vec<String>), Exception> {
    let mutability: Mutability = member(input, "imageTagMutability")?;
    let filters: Option<Vec<ExclusionFilter>> = member(input, "imageTagMutabilityExclusionFilters")?;
    let refuse = |constraint: &str| Err(Exception::parameter("imageTagMutabilityExclusionFilters", constraint));
    let filters = match (filters, mutability) {
        (Some(filters), Mutability::ImmutableWithExclusion | Mutability::MutableWithExclusion) => filters,
        (None, Mutability::Mutable | Mutability::Immutable) => return Ok((mutability, Vec::new())),
        (filters, _) => {
            let must = if filters.is_some() { "must be null" } else { "can't be null" };
            let set = json!(mutability);
            return refuse(&format!(
                "ImageTagMutabilityExclusionFilters {must} when imageTagMutability is set as {}",
                set.as_str().unwrap_or_default()
            ));
        }
    };
    // https://registry.terraform.io/providers/hashicorp/aws/latest/docs/resources/ecr_repository
    if filters.iter().any(|it| it.filter.matches('*').count() > 2) {
        return refuse("must have two wildcards at most");
    }
    Ok((mutability, filters.into_iter().map(|filter| filter.filter).collect()))
}

/// Reads the tags of a resource.
pub(super) fn tags(input: &Value, name: &str) -> Result<BTreeMap<String, String>, Exception> {
    let tags: Vec<ResourceTag> = member(input, name)?;
    if tags.len() > MOST_TAGS {
        return Err(too_many_tags());
    }
    let is_bad = |tag: &ResourceTag| !(1..=128).contains(&tag.key.chars().count()) || tag.value.chars().count() > 256;
    // Keys that begin so are AWS's own (https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-using-tags.html).
    if let Some(tag) = tags.iter().find(|tag| is_bad(tag) || tag.key.to_ascii_lowercase().starts_with("aws:")) {
        return Err(Exception::new("InvalidTagParameterException", format!("Invalid tag with key '{}'", tag.key)));
    }
    let count = tags.len();
    let tags: BTreeMap<String, String> = tags.into_iter().map(|tag| (tag.key, tag.value)).collect();
    if tags.len() < count {
        return Err(Exception::new("InvalidTagParameterException", "Duplicate tag keys"));
    }
    Ok(tags)
}

fn too_many_tags() -> Exception {
    Exception::new("TooManyTagsException", format!("A repository can have at most {MOST_TAGS} tags"))
}

pub(super) fn delete(call: &Call<'_>) -> Outcome {
    let (registry, name) = (call.registry, call.name()?);
    let is_forced = call.input["force"].as_bool().unwrap_or_default();
    let deleted = registry.store.delete_repository(&name, |repo| is_forced || repo.images.is_empty());
    let deleted = deleted.ok_or_else(|| Refusal::absent(&name, &registry.account))??;
    let repo = deleted.ok_or_else(|| {
        let account = &registry.account;
        let message = format!(
            "The repository with name '{name}' in registry with id '{account}' cannot be deleted because it still \
             contains images"
        );
        Exception::new("RepositoryNotEmptyException", message)
    })?;
    Ok(json!({"repository": describe_one(registry, &name, &repo)}))
}

pub(super) fn describe(call: &Call<'_>) -> Outcome {
    let (registry, names) = (call.registry, call.input["repositoryNames"].as_array());
    if names.is_some() && (call.input["maxResults"].is_u64() || call.text("nextToken").is_some()) {
        return Err(Exception::parameter("repositoryNames", "must not be set together with paging"));
    }
    let names: Vec<Repository> = match names {
        Some(names) => names.iter().filter_map(Value::as_str).map(|name| call.parse(name)).collect::<Result<_, _>>()?,
        None => registry.store.repositories(),
    };
    let describe = |name: &Repository| call.look(name, |repo| describe_one(registry, name, repo));
    call.page(
        "repositories",
        |it| it["repositoryName"].to_string(),
        names.iter().map(describe).collect::<Result<_, _>>()?,
    )
}

fn describe_one(registry: &Registry, name: &Repository, repo: &Repo) -> Value {
    let settings = &repo.settings;
    let described = json!({
        "repositoryArn": registry.arn(name),
        "registryId": registry.account,
        "repositoryName": name,
        "repositoryUri": format!("{}/{name}", registry.host()),
        "createdAt": epoch(repo.created),
        "imageScanningConfiguration": {"scanOnPush": settings.scan_on_push},
        "encryptionConfiguration": present(json!({
            "encryptionType": settings.encryption, "kmsKey": settings.kms_key,
        })),
    });
    with(described, describe_mutability(settings))
}

fn describe_mutability(settings: &Settings) -> Value {
    let filters = settings.exclusion_filters.iter();
    let filters: Vec<Value> = filters.map(|filter| json!({"filterType": "WILDCARD", "filter": filter})).collect();
    let filters = (!filters.is_empty()).then_some(filters);
    present(json!({"imageTagMutability": settings.mutability, "imageTagMutabilityExclusionFilters": filters}))
}

pub(super) fn put_mutability(call: &Call<'_>) -> Outcome {
    let (name, (mutability, filters)) = (call.name()?, mutability(&call.input)?);
    let described = call.change(&name, |repo| {
        (repo.settings.mutability, repo.settings.exclusion_filters) = (mutability, filters);
        describe_mutability(&repo.settings)
    })?;
    Ok(call.about(&name, described))
}

pub(super) fn list_tags(call: &Call<'_>) -> Outcome {
    let tags = call.look(&call.resource()?, |repo| repo.settings.tags.clone())?;
    let tags: Vec<Value> = tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect();
    Ok(json!({"tags": tags}))
}

pub(super) fn tag(call: &Call<'_>) -> Outcome {
    let (name, added) = (call.resource()?, tags(&call.input, "tags")?);
    let mut tags = call.look(&name, |repo| repo.settings.tags.clone())?;
    tags.extend(added);
    if tags.len() > MOST_TAGS {
        return Err(too_many_tags());
    }
    call.change(&name, |repo| repo.settings.tags = tags)?;
    Ok(json!({}))
}

pub(super) fn untag(call: &Call<'_>) -> Outcome {
    let keys: Vec<String> = call.member("tagKeys")?;
    call.change(&call.resource()?, |repo| repo.settings.tags.retain(|key, _| !keys.contains(key)))?;
    Ok(json!({}))
}
