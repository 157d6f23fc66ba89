//! The operations on repositories themselves.

use serde::Deserialize;
use serde_json::{Value, json};

use super::exception::{Exception, Outcome, Page, look, name_of};
use crate::oci::Repository;
use crate::sandbox::repository::{Encryption, Mutability, Repo, Settings};
use crate::sandbox::server::Registry;
use crate::sandbox::store::epoch;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Create {
    registry_id: Option<String>,
    repository_name: String,
    tags: Option<Vec<ResourceTag>>,
    image_tag_mutability: Option<Value>,
    image_tag_mutability_exclusion_filters: Option<Vec<ExclusionFilter>>,
    image_scanning_configuration: Option<Scanning>,
    encryption_configuration: Option<EncryptionConfiguration>,
}

#[derive(Deserialize)]
struct ResourceTag {
    #[serde(rename = "Key")]
    key: String,
    #[serde(rename = "Value", default)]
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExclusionFilter {
    filter_type: String,
    filter: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scanning {
    #[serde(default)]
    scan_on_push: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EncryptionConfiguration {
    encryption_type: Value,
    kms_key: Option<String>,
}

pub(super) fn create(registry: &Registry, request: Create) -> Outcome {
    let name = name_of(registry, request.registry_id.as_deref(), &request.repository_name)?;
    let settings = settings_of(request)?;
    if !settings.tags.is_empty()
        && let Some(message) = registry.denial("ecr:TagResource", Some(&name))
    {
        return Err(Exception::new("AccessDeniedException", message));
    }
    // https://docs.aws.amazon.com/AmazonECR/latest/userguide/encryption-at-rest.html, "Required IAM permissions"
    for action in ["kms:DescribeKey", "kms:CreateGrant"] {
        if let Some(key) = &settings.kms_key
            && let Some(message) = registry.denial_on(action, &key_arn(registry, key))
        {
            return Err(Exception::new("AccessDeniedException", message));
        }
    }
    if !registry.store.create(&name, settings)? {
        let message =
            format!("The repository with name '{name}' already exists in the registry with id '{}'", registry.account);
        return Err(Exception::new("RepositoryAlreadyExistsException", message));
    }
    Ok(json!({"repository": look(registry, &name, |repo| describe_one(registry, &name, repo))?}))
}

/// A key's ARN, for which its ID may stand.
fn key_arn(registry: &Registry, key: &str) -> String {
    if key.starts_with("arn:") {
        return key.to_owned();
    }
    format!("arn:{}:kms:{}:{}:key/{key}", registry.ecr_host().partition(), registry.region, registry.account)
}

fn settings_of(request: Create) -> Result<Settings, Exception> {
    let one_of = |allowed: &str| format!("Member must satisfy enum value set: [{allowed}]");
    let mutability = request.image_tag_mutability.map_or_else(
        || Ok(Mutability::default()),
        |text| {
            let allowed = one_of("IMMUTABLE, MUTABLE, IMMUTABLE_WITH_EXCLUSION, MUTABLE_WITH_EXCLUSION");
            serde_json::from_value(text).map_err(|_| Exception::parameter("imageTagMutability", &allowed))
        },
    )?;
    let exclusion_filters = exclusion_filters(mutability, request.image_tag_mutability_exclusion_filters)?;
    let (encryption, kms_key) = match request.encryption_configuration {
        Some(configuration) => {
            let allowed = one_of("AES256, KMS, KMS_DSSE");
            let encryption = serde_json::from_value(configuration.encryption_type)
                .map_err(|_| Exception::parameter("encryptionType", &allowed))?;
            (encryption, configuration.kms_key)
        }
        None => (Encryption::default(), None),
    };
    if encryption == Encryption::Aes256 && kms_key.is_some() {
        return Err(Exception::parameter("kmsKey", "must not be set when encryptionType is AES256"));
    }
    if kms_key.as_ref().is_some_and(|key| !(1..=2048).contains(&key.len())) {
        return Err(Exception::parameter("kmsKey", "Member must have length less than or equal to 2048"));
    }
    let tags = request.tags.unwrap_or_default();
    if tags.len() > 50 {
        return Err(Exception::new("TooManyTagsException", "A repository can have at most 50 tags"));
    }
    let is_bad = |tag: &ResourceTag| !(1..=128).contains(&tag.key.chars().count()) || tag.value.chars().count() > 256;
    // Keys that begin so are AWS's own (https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-using-tags.html).
    if let Some(tag) = tags.iter().find(|tag| is_bad(tag) || tag.key.to_ascii_lowercase().starts_with("aws:")) {
        return Err(Exception::new("InvalidTagParameterException", format!("Invalid tag with key '{}'", tag.key)));
    }
    let count = tags.len();
    let tags: std::collections::BTreeMap<String, String> = tags.into_iter().map(|tag| (tag.key, tag.value)).collect();
    if tags.len() < count {
        return Err(Exception::new("InvalidTagParameterException", "Duplicate tag keys"));
    }
    Ok(Settings {
        mutability,
        exclusion_filters,
        scan_on_push: request.image_scanning_configuration.is_some_and(|scanning| scanning.scan_on_push),
        encryption,
        kms_key,
        tags,
        ..Settings::default()
    })
}

fn exclusion_filters(mutability: Mutability, filters: Option<Vec<ExclusionFilter>>) -> Result<Vec<String>, Exception> {
    let refuse = |constraint: &str| Err(Exception::parameter("imageTagMutabilityExclusionFilters", constraint));
    let takes_filters = matches!(mutability, Mutability::ImmutableWithExclusion | Mutability::MutableWithExclusion);
    let filters = match filters {
        None if takes_filters => return refuse("must be set when imageTagMutability is one with exclusion"),
        None => return Ok(Vec::new()),
        Some(_) if !takes_filters => return refuse("must not be set unless imageTagMutability is one with exclusion"),
        Some(filters) => filters,
    };
    if !(1..=5).contains(&filters.len()) {
        return refuse("Member must have length less than or equal to 5 and greater than or equal to 1");
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'*' | b'-');
    for ExclusionFilter { filter_type, filter } in &filters {
        if filter_type != "WILDCARD" {
            return refuse("Member must satisfy enum value set: [WILDCARD]");
        }
        if !(1..=128).contains(&filter.len()) || !filter.bytes().all(allowed) {
            return refuse("must satisfy regular expression '^[0-9a-zA-Z._*-]{1,128}$'");
        }
        // https://registry.terraform.io/providers/hashicorp/aws/latest/docs/resources/ecr_repository
        if filter.matches('*').count() > 2 {
            return refuse("must have two wildcards at most");
        }
    }
    Ok(filters.into_iter().map(|filter| filter.filter).collect())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Describe {
    registry_id: Option<String>,
    repository_names: Option<Vec<String>>,
    next_token: Option<String>,
    max_results: Option<usize>,
}

pub(super) fn describe(registry: &Registry, request: Describe) -> Outcome {
    let page = Page::of(registry, request.max_results, request.next_token.as_deref())?;
    let names = match &request.repository_names {
        Some(names) => {
            if !(1..=100).contains(&names.len()) {
                let constraint = "Member must have length less than or equal to 100 and greater than or equal to 1";
                return Err(Exception::parameter("repositoryNames", constraint));
            }
            if request.max_results.is_some() || request.next_token.is_some() {
                return Err(Exception::parameter("repositoryNames", "must not be set together with paging"));
            }
            let parse = |name: &String| name_of(registry, request.registry_id.as_deref(), name);
            names.iter().map(parse).collect::<Result<Vec<_>, _>>()?
        }
        None => registry.store.repositories(),
    };
    let describe = |name: &Repository| look(registry, name, |repo| describe_one(registry, name, repo));
    let described = names.iter().map(describe).collect::<Result<Vec<_>, _>>()?;
    Ok(page.cut("repositories", described))
}

fn describe_one(registry: &Registry, name: &Repository, repo: &Repo) -> Value {
    let settings = &repo.settings;
    let mut encryption = json!({"encryptionType": settings.encryption});
    if let Some(key) = &settings.kms_key {
        encryption["kmsKey"] = json!(key);
    }
    let mut described = json!({
        "repositoryArn": registry.arn(name),
        "registryId": registry.account,
        "repositoryName": name,
        "repositoryUri": format!("{}/{name}", registry.host()),
        "createdAt": epoch(repo.created),
        "imageTagMutability": settings.mutability,
        "imageScanningConfiguration": {"scanOnPush": settings.scan_on_push},
        "encryptionConfiguration": encryption,
    });
    if !settings.exclusion_filters.is_empty() {
        let filters =
            settings.exclusion_filters.iter().map(|filter| json!({"filterType": "WILDCARD", "filter": filter}));
        described["imageTagMutabilityExclusionFilters"] = filters.collect();
    }
    described
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListTags {
    resource_arn: String,
}

pub(super) fn list_tags(registry: &Registry, request: ListTags) -> Outcome {
    let name = request.resource_arn.split_once(":repository/").map(|(_, name)| name).unwrap_or_default();
    let name = name_of(registry, None, name)?;
    let tags = look(registry, &name, |repo| {
        let tags = repo.settings.tags.iter();
        tags.map(|(key, value)| json!({"Key": key, "Value": value})).collect::<Vec<_>>()
    })?;
    Ok(json!({"tags": tags}))
}
