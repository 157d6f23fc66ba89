//! Repositories: whether they are there, how tags may move in them, and how new ones are made.

use aws_sdk_ecr::error::ProvideErrorMetadata as _;
use aws_sdk_ecr::types::{
    EncryptionConfiguration, EncryptionType, ImageScanningConfiguration, ImageTagMutability,
    ImageTagMutabilityExclusionFilter, ImageTagMutabilityExclusionFilterType, RctAppliedFor, Repository as Described,
    RepositoryCreationTemplate, Tag as ResourceTag,
};

use super::api::{Ecr, is_denied};
use crate::error::{Error, Result};
use crate::oci::{Repository, Tag, TagFilter};

/// DescribeRepositoryCreationTemplates gives at most as many templates a call (ECR API reference).
const TEMPLATES_A_CALL: i32 = 1000;

/// The prefix of the template for repositories that no other one is for.
const ROOT: &str = "ROOT";

/// What we may know of a repository.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum RepositoryState {
    /// It is there.
    Exists(Mutability),
    /// It is not.
    Missing,
    /// We may not ask.
    AccessDenied,
}

/// What we may know of the template by which the registry creates a repository that is pushed to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Template {
    /// The one with this prefix.
    Of(String),
    /// There is none.
    None,
    /// That cannot be learned, for this reason.
    Unknown(&'static str),
}

/// Whether tags that exist may move.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Mutability {
    /// All may.
    #[default]
    Mutable,
    /// None may.
    Immutable,
    /// None may but those that a filter fits.
    ImmutableExcept(Vec<TagFilter>),
    /// All may but those that a filter fits.
    MutableExcept(Vec<TagFilter>),
}

impl Mutability {
    /// Whether a tag that exists has to stay where it is, for sure.
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
            // Of kinds that are not known yet ECR itself has to say what they hold.
            _ => Self::Mutable,
        }
    }

    /// What the API calls it, and the filters.
    fn parts(&self) -> (ImageTagMutability, &[TagFilter]) {
        match self {
            Self::Mutable => (ImageTagMutability::Mutable, &[]),
            Self::Immutable => (ImageTagMutability::Immutable, &[]),
            Self::ImmutableExcept(filters) => (ImageTagMutability::ImmutableWithExclusion, filters),
            Self::MutableExcept(filters) => (ImageTagMutability::MutableWithExclusion, filters),
        }
    }
}

/// How a repository is encrypted, which never changes. A key of one's own is named by its ID, ARN or alias.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Encryption {
    /// With keys that S3 manages.
    Aes256,
    /// With a key of AWS KMS.
    Kms(Option<String>),
    /// With keys of AWS KMS, in two layers.
    KmsDsse(Option<String>),
}

impl Encryption {
    /// The key of the customer's own, if it is one.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Aes256 => None,
            Self::Kms(key) | Self::KmsDsse(key) => key.as_deref(),
        }
    }
}

/// How a repository is set up. What is not said is left to ECR.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NewRepository {
    /// Whether images are scanned when they are pushed.
    pub scan_on_push: bool,
    /// Whether tags may move.
    pub mutability: Option<Mutability>,
    /// How it is encrypted.
    pub encryption: Option<Encryption>,
    /// Its tags, keys and values: AWS's, not those of images.
    pub tags: Vec<(String, String)>,
}

impl Ecr {
    /// Whether a repository exists.
    ///
    /// # Errors
    /// Without an answer.
    pub(crate) async fn find_repository(&self, registry: &str, name: &Repository) -> Result<RepositoryState> {
        let call = self.client().describe_repositories().registry_id(registry).repository_names(name.as_str());
        match call.send().await {
            Ok(found) => {
                Ok(RepositoryState::Exists(found.repositories().first().map(Mutability::of).unwrap_or_default()))
            }
            Err(error) if error.code() == Some("RepositoryNotFoundException") => Ok(RepositoryState::Missing),
            Err(error) if is_denied(error.code()) => Ok(RepositoryState::AccessDenied),
            Err(error) => Err(self.explain(error, &format!("cannot look for the repository {name}")).await),
        }
    }

    /// Whether a push creates a repository that is not there, by a template of its registry.
    ///
    /// # Errors
    /// Without an answer.
    pub(crate) async fn template(&self, registry: &str, name: &Repository) -> Result<Template> {
        let call = self.client().describe_repository_creation_templates().max_results(TEMPLATES_A_CALL);
        let mut pages = call.into_paginator().send();
        let mut closest: Option<(usize, String)> = None;
        while let Some(page) = pages.next().await {
            let page = match page {
                Ok(page) => page,
                Err(error) if is_denied(error.code()) => {
                    return Ok(Template::Unknown("ecr:DescribeRepositoryCreationTemplates is not allowed"));
                }
                Err(error) => return Err(self.explain(error, "cannot look for creation templates").await),
            };
            // The call knows no registry but the caller's own.
            if page.registry_id() != Some(registry) {
                return Ok(Template::Unknown("ECR shows nobody those of another account"));
            }
            for template in page.repository_creation_templates() {
                if let Some((fit, prefix)) = fit(template, name)
                    && closest.as_ref().is_none_or(|(before, _)| *before < fit)
                {
                    closest = Some((fit, prefix.to_owned()));
                }
            }
        }
        Ok(closest.map_or(Template::None, |(_, prefix)| Template::Of(prefix)))
    }

    /// Creates a repository, and says whether it did. That another pusher was quicker is as good.
    ///
    /// # Errors
    /// Without the right `ecr:CreateRepository`, without an answer, or if the settings are not to ECR's taste.
    pub(crate) async fn create_repository(
        &self,
        registry: &str,
        name: &Repository,
        settings: &NewRepository,
    ) -> Result<bool> {
        let doing = format!("cannot create the repository {name}");
        let NewRepository { scan_on_push, mutability, encryption, tags } = settings;
        let mut call = self.client().create_repository().registry_id(registry).repository_name(name.as_str());
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

    /// Gives a repository its lifecycle policy.
    ///
    /// # Errors
    /// Without the right `ecr:PutLifecyclePolicy`, without an answer, or if ECR does not understand the policy.
    pub(crate) async fn put_lifecycle_policy(&self, registry: &str, name: &Repository, text: &str) -> Result<()> {
        let call = self.client().put_lifecycle_policy().registry_id(registry).repository_name(name.as_str());
        match call.lifecycle_policy_text(text).send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.explain(error, &format!("cannot put the lifecycle policy of {name}")).await),
        }
    }

    /// Gives a repository its policy: who may do what with it.
    ///
    /// # Errors
    /// Without the right `ecr:SetRepositoryPolicy`, without an answer, or if ECR does not understand the policy.
    pub(crate) async fn set_repository_policy(&self, registry: &str, name: &Repository, text: &str) -> Result<()> {
        let call = self.client().set_repository_policy().registry_id(registry).repository_name(name.as_str());
        match call.policy_text(text).send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.explain(error, &format!("cannot set the repository policy of {name}")).await),
        }
    }
}

/// How closely a template fits a repository that a push is to create, and its prefix. A slash at the end of that is implied
/// (ECR API reference, CreateRepositoryCreationTemplate). What ECR makes of a closer template that is not for pushes is not
/// documented; here it does not count.
fn fit<'a>(template: &'a RepositoryCreationTemplate, name: &Repository) -> Option<(usize, &'a str)> {
    let prefix = template.prefix().filter(|_| template.applied_for().contains(&RctAppliedFor::CreateOnPush))?;
    if prefix == ROOT {
        return Some((0, prefix));
    }
    let rest = name.as_str().strip_prefix(prefix.trim_end_matches('/'))?;
    rest.starts_with('/').then_some((prefix.trim_end_matches('/').len(), prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_moves_or_stays_by_the_rule_and_its_exceptions() {
        let filters = || vec!["latest".parse().unwrap(), "dev-*".parse().unwrap()];
        let held = |mutability: &Mutability| {
            let tags = ["latest", "dev-7", "1.4", "latest-arm"].map(|tag| tag.parse().unwrap());
            tags.map(|tag| mutability.is_immutable(&tag))
        };
        assert_eq!(held(&Mutability::Mutable), [false; 4]);
        assert_eq!(held(&Mutability::Immutable), [true; 4]);
        // What is not for sure is not held here: ECR says so when the tag is put.
        assert_eq!(held(&Mutability::ImmutableExcept(filters())), [false, false, true, false]);
        assert_eq!(held(&Mutability::MutableExcept(filters())), [true, true, false, false]);
    }

    #[test]
    fn a_template_fits_what_begins_with_its_prefix_and_a_slash() {
        let fits = |prefix: &str, applied: RctAppliedFor, name: &str| {
            let template = RepositoryCreationTemplate::builder().prefix(prefix).applied_for(applied).build();
            fit(&template, &name.parse().unwrap()).map(|(fit, _)| fit)
        };
        let push = || RctAppliedFor::CreateOnPush;
        assert_eq!(fits("team", push(), "team/app"), Some(4));
        assert_eq!(fits("team/", push(), "team/app"), Some(4));
        assert_eq!(fits("team/web", push(), "team/web/app"), Some(8));
        assert_eq!(fits(ROOT, push(), "app"), Some(0));
        assert_eq!(fits("team", push(), "teams/app"), None);
        assert_eq!(fits("team", push(), "team"), None);
        assert_eq!(fits("team", RctAppliedFor::Replication, "team/app"), None);
    }
}
