//! Repositories: lookups, tag mutability, creation, and why the registry closed the connection without a response.

use aws_sdk_ecr::error::ProvideErrorMetadata as _;
use aws_sdk_ecr::types::{
    EncryptionConfiguration, EncryptionType, ImageScanningConfiguration, ImageTagMutability,
    ImageTagMutabilityExclusionFilter, ImageTagMutabilityExclusionFilterType, RctAppliedFor, Repository as Described,
    RepositoryCreationTemplate, Tag as ResourceTag,
};

use super::advice::RepositoryLocation;
use super::api::{Ecr, is_denied};
use crate::error::{Error, Result};
use crate::oci::{Repository, Tag, TagFilter};

/// The maximum number of templates in a page of DescribeRepositoryCreationTemplates (ECR API reference).
const MAX_TEMPLATES: i32 = 1000;

/// The prefix of the template for repositories that match no other one.
const ROOT: &str = "ROOT";

/// The result of the lookup of a repository.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum RepositoryState {
    /// It exists, with this tag mutability.
    Exists(Mutability),
    /// It does not exist.
    Missing,
    /// The permission for the lookup is missing.
    AccessDenied,
}

/// The template by which the registry creates a repository on push.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Template {
    /// The template with this prefix.
    Of(String),
    /// No template applies.
    None,
    /// The template is not known, for this reason.
    Unknown(&'static str),
}

/// The tag mutability of a repository: whether existing tags can be overwritten.
///
/// ```
/// use ecr_push::Mutability;
///
/// // Releases never move, `latest` does.
/// let mutability = Mutability::ImmutableExcept(vec!["latest".parse()?]);
/// assert!(mutability.is_immutable(&"1.4".parse()?));
/// assert!(!mutability.is_immutable(&"latest".parse()?));
/// # Ok::<(), ecr_push::Error>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Mutability {
    /// All tags can.
    #[default]
    Mutable,
    /// No tag can.
    Immutable,
    /// Only tags that match a filter can.
    ImmutableExcept(Vec<TagFilter>),
    /// Only tags that match no filter can.
    MutableExcept(Vec<TagFilter>),
}

impl Mutability {
    /// Returns whether an existing tag is certainly immutable.
    pub fn is_immutable(&self, tag: &Tag) -> bool {
        match self {
            Self::Mutable => false,
            Self::Immutable => true,
            Self::ImmutableExcept(filters) => filters.iter().all(|filter| filter.matches(tag) == Some(false)),
            Self::MutableExcept(filters) => filters.iter().any(|filter| filter.matches(tag) == Some(true)),
        }
    }

    fn of(described: &Described) -> Self {
        let all = described.image_tag_mutability_exclusion_filters();
        let is_known = all.iter().all(|it| *it.filter_type() == ImageTagMutabilityExclusionFilterType::Wildcard);
        let filters = all.iter().map(|filter| TagFilter::from_ecr(filter.filter())).collect();
        match described.image_tag_mutability() {
            Some(ImageTagMutability::Immutable) => Self::Immutable,
            Some(ImageTagMutability::ImmutableWithExclusion) if is_known => Self::ImmutableExcept(filters),
            Some(ImageTagMutability::MutableWithExclusion) if is_known => Self::MutableExcept(filters),
            // With an unknown kind of filter or mutability, ECR decides when the tag is put.
            _ => Self::Mutable,
        }
    }

    /// Returns its name in the API, and the filters.
    fn parts(&self) -> (ImageTagMutability, &[TagFilter]) {
        match self {
            Self::Mutable => (ImageTagMutability::Mutable, &[]),
            Self::Immutable => (ImageTagMutability::Immutable, &[]),
            Self::ImmutableExcept(filters) => (ImageTagMutability::ImmutableWithExclusion, filters),
            Self::MutableExcept(filters) => (ImageTagMutability::MutableWithExclusion, filters),
        }
    }
}

/// The encryption of a repository, which cannot be changed later. A customer managed key is named by its ID, ARN or alias.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Encryption {
    /// Keys that S3 manages.
    Aes256,
    /// A key of AWS KMS.
    Kms(Option<String>),
    /// A key of AWS KMS, in two layers of encryption.
    KmsDsse(Option<String>),
}

impl Encryption {
    /// Returns the customer managed key, if there is one.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Aes256 => None,
            Self::Kms(key) | Self::KmsDsse(key) => key.as_deref(),
        }
    }
}

/// The settings of a new repository. ECR's defaults apply to those that are not set.
///
/// ```
/// use ecr_push::{Encryption, NewRepository, Options};
///
/// let mut options = Options::default();
/// options.repositories.create = true;
/// options.repositories.settings = NewRepository {
///     encryption: Some(Encryption::Kms(Some("alias/images".into()))),
///     tags: vec![("team".into(), "web".into())],
///     ..Default::default()
/// };
/// let key = options.repositories.settings.encryption.as_ref().and_then(Encryption::key);
/// assert_eq!(key, Some("alias/images"));
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NewRepository {
    /// Whether images are scanned when they are pushed.
    pub scan_on_push: bool,
    /// The tag mutability.
    pub mutability: Option<Mutability>,
    /// The encryption.
    pub encryption: Option<Encryption>,
    /// The AWS resource tags: keys and values.
    pub tags: Vec<(String, String)>,
}

impl Ecr {
    /// Looks up a repository.
    ///
    /// # Errors
    /// Fails without a response.
    pub(crate) async fn find_repository(&self, location: &RepositoryLocation) -> Result<RepositoryState> {
        let (account, name) = location.account_and_name();
        let call = self.client.describe_repositories().registry_id(account).repository_names(name);
        match call.send().await {
            Ok(found) => {
                Ok(RepositoryState::Exists(found.repositories().first().map(Mutability::of).unwrap_or_default()))
            }
            Err(error) if error.code() == Some("RepositoryNotFoundException") => Ok(RepositoryState::Missing),
            Err(error) if is_denied(error.code()) => Ok(RepositoryState::AccessDenied),
            Err(error) => Err(self.explain(error, &format!("cannot look for the repository {name}")).await),
        }
    }

    /// Finds the template by which a push creates a missing repository.
    ///
    /// # Errors
    /// Fails without a response.
    pub(crate) async fn template(&self, location: &RepositoryLocation) -> Result<Template> {
        let call = self.client.describe_repository_creation_templates().max_results(MAX_TEMPLATES);
        let mut pages = call.into_paginator().send();
        let mut closest: Option<(usize, String)> = None;
        while let Some(page) = pages.next().await {
            let page = match page {
                Err(error) if is_denied(error.code()) => {
                    return Ok(Template::Unknown("ecr:DescribeRepositoryCreationTemplates is not allowed"));
                }
                page => self.explained(page, "cannot look for creation templates").await?,
            };
            // The call lists the templates of the caller's own registry only.
            if page.registry_id() != Some(&location.host.account) {
                return Ok(Template::Unknown("ECR does not show the templates of another account"));
            }
            for template in page.repository_creation_templates() {
                if let Some((len, prefix)) = matched_prefix(template, &location.repository)
                    && closest.as_ref().is_none_or(|(before, _)| *before < len)
                {
                    closest = Some((len, prefix.to_owned()));
                }
            }
        }
        Ok(closest.map_or(Template::None, |(_, prefix)| Template::Of(prefix)))
    }

    /// Creates a repository. Returns `false` if another client created it first.
    ///
    /// # Errors
    /// Fails without the permission `ecr:CreateRepository`, without a response, and if ECR rejects the settings.
    pub(crate) async fn create_repository(
        &self,
        location: &RepositoryLocation,
        settings: &NewRepository,
    ) -> Result<bool> {
        let (account, name) = location.account_and_name();
        let doing = format!("cannot create the repository {name}");
        let NewRepository { scan_on_push, mutability, encryption, tags } = settings;
        let mut call = self.client.create_repository().registry_id(account).repository_name(name);
        if *scan_on_push {
            call = call.image_scanning_configuration(ImageScanningConfiguration::builder().scan_on_push(true).build());
        }
        if let Some(mutability) = mutability {
            let (mutability, filters) = mutability.parts();
            call = call.image_tag_mutability(mutability);
            for filter in filters {
                let filter = ImageTagMutabilityExclusionFilter::builder()
                    .filter_type(ImageTagMutabilityExclusionFilterType::Wildcard)
                    .filter(filter.as_str())
                    .build();
                let filter = filter.map_err(|error| Error::usage(doing.clone()).because(error))?;
                call = call.image_tag_mutability_exclusion_filters(filter);
            }
        }
        if let Some(encryption) = encryption {
            let (kind, key) = match encryption {
                Encryption::Aes256 => (EncryptionType::Aes256, None),
                Encryption::Kms(key) => (EncryptionType::Kms, key.clone()),
                Encryption::KmsDsse(key) => (EncryptionType::KmsDsse, key.clone()),
            };
            let built = EncryptionConfiguration::builder().encryption_type(kind).set_kms_key(key).build();
            call = call.encryption_configuration(built.map_err(|error| Error::usage(doing.clone()).because(error))?);
        }
        for (key, value) in tags {
            let tag = ResourceTag::builder().key(key).value(value).build();
            call = call.tags(tag.map_err(|error| Error::usage(doing.clone()).because(error))?);
        }
        match call.send().await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("RepositoryAlreadyExistsException") => Ok(false),
            Err(error) => Err(self.explain(error, &doing).await),
        }
    }

    /// Sets the lifecycle policy of a repository.
    ///
    /// # Errors
    /// Fails without the permission `ecr:PutLifecyclePolicy`, without a response, and if the policy is invalid.
    pub(crate) async fn put_lifecycle_policy(&self, location: &RepositoryLocation, text: &str) -> Result<()> {
        let (account, name) = location.account_and_name();
        let call = self.client.put_lifecycle_policy().registry_id(account).repository_name(name);
        let sent = call.lifecycle_policy_text(text).send().await;
        self.explained(sent, &format!("cannot put the lifecycle policy of {name}")).await.map(drop)
    }

    /// Sets the policy of a repository, which grants access to it.
    ///
    /// # Errors
    /// Fails without the permission `ecr:SetRepositoryPolicy`, without a response, and if the policy is invalid.
    pub(crate) async fn set_repository_policy(&self, location: &RepositoryLocation, text: &str) -> Result<()> {
        let (account, name) = location.account_and_name();
        let call = self.client.set_repository_policy().registry_id(account).repository_name(name);
        let sent = call.policy_text(text).send().await;
        self.explained(sent, &format!("cannot set the repository policy of {name}")).await.map(drop)
    }
}

/// Returns the prefix of a template that applies to a repository that is created on push, with its length without the slash
/// at its end, which is implied (ECR API reference, CreateRepositoryCreationTemplate). The longest prefix counts. How ECR
/// treats a longer one that is not for pushes is not documented; here it does not count.
fn matched_prefix<'a>(template: &'a RepositoryCreationTemplate, name: &Repository) -> Option<(usize, &'a str)> {
    let prefix = template.prefix().filter(|_| template.applied_for().contains(&RctAppliedFor::CreateOnPush))?;
    if prefix == ROOT {
        return Some((0, prefix));
    }
    let rest = name.as_str().strip_prefix(prefix.trim_end_matches('/'))?;
    rest.starts_with('/').then_some((prefix.trim_end_matches('/').len(), prefix))
}

/// The likely reason for a connection that the registry closed instead of opening an upload.
#[derive(Debug)]
pub(crate) enum UploadProbe {
    /// The repository does not exist.
    RepositoryMissing,
    /// The caller may not upload. The error states the missing permission.
    Denied(Error),
    /// The API opened an upload, with this ID.
    Allowed(String),
}

impl Ecr {
    /// Opens an upload by the API instead of the registry.
    ///
    /// # Errors
    /// Fails if the API does not respond either, or rejects the call for another reason.
    pub(crate) async fn probe_upload(&self, location: &RepositoryLocation) -> Result<UploadProbe> {
        let (account, name) = location.account_and_name();
        let call = self.client.initiate_layer_upload().registry_id(account).repository_name(name);
        let error = match call.send().await {
            Ok(opened) => return Ok(UploadProbe::Allowed(opened.upload_id.unwrap_or_default())),
            Err(error) => self.explain(error, &format!("cannot upload to the repository {name}")).await,
        };
        let code = error.service_error().map(|answer| answer.code.clone()).unwrap_or_default();
        if code == "RepositoryNotFoundException" {
            return Ok(UploadProbe::RepositoryMissing);
        }
        if !is_denied(Some(&code)) {
            return Err(error);
        }
        // Without the permission, ECR does not report that the repository is missing.
        match self.find_repository(location).await {
            Ok(RepositoryState::Missing) => Ok(UploadProbe::RepositoryMissing),
            Ok(RepositoryState::Exists(_) | RepositoryState::AccessDenied) | Err(_) => Ok(UploadProbe::Denied(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutability_depends_on_the_rule_and_its_filters() {
        let filters = || vec!["latest".parse().unwrap(), "dev-*".parse().unwrap()];
        let immutable = |mutability: &Mutability| {
            let tags = ["latest", "dev-7", "1.4", "latest-arm"].map(|tag| tag.parse().unwrap());
            tags.map(|tag| mutability.is_immutable(&tag))
        };
        assert_eq!(immutable(&Mutability::Mutable), [false; 4]);
        assert_eq!(immutable(&Mutability::Immutable), [true; 4]);
        // In doubt a tag is not immutable here: ECR decides when it is put.
        assert_eq!(immutable(&Mutability::ImmutableExcept(filters())), [false, false, true, false]);
        assert_eq!(immutable(&Mutability::MutableExcept(filters())), [true, true, false, false]);
    }

    #[test]
    fn a_template_applies_to_names_below_its_prefix() {
        let len = |prefix: &str, applied: RctAppliedFor, name: &str| {
            let template = RepositoryCreationTemplate::builder().prefix(prefix).applied_for(applied).build();
            matched_prefix(&template, &name.parse().unwrap()).map(|(len, _)| len)
        };
        let push = || RctAppliedFor::CreateOnPush;
        assert_eq!(len("team", push(), "team/app"), Some(4));
        assert_eq!(len("team/", push(), "team/app"), Some(4));
        assert_eq!(len("team/web", push(), "team/web/app"), Some(8));
        assert_eq!(len(ROOT, push(), "app"), Some(0));
        assert_eq!(len("team", push(), "teams/app"), None);
        assert_eq!(len("team", push(), "team"), None);
        assert_eq!(len("team", RctAppliedFor::Replication, "team/app"), None);
    }
}
