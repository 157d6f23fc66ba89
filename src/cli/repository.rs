//! The options for repositories and tags: creation, settings, and the policy for existing tags.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::ecr::{Encryption, Mutability, NewRepository};
use crate::error::{Advice, Error, Result};
use crate::oci::Target;
use crate::push::IfExists;

/// The limit for the tags of a repository (ECR user guide, "Tagging a private repository").
const MAX_TAGS: usize = 50;

/// The limit for filters (ECR API reference, CreateRepository).
const MAX_FILTERS: usize = 5;

/// The options.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct RepositoryArgs {
    #[command(flatten)]
    pub(super) if_exists: IfExistsArgs,
    /// Convert repository names to Docker's rules: lower case; only letters, digits, - . _ and /
    #[arg(long, help_heading = "Target")]
    pub(super) docker_naming: bool,
    /// Create the repository if it does not exist (ECR and ECR Public)
    #[arg(long, help_heading = "Target")]
    pub(super) create_repository: bool,
    /// With --create-repository: scan images when they are pushed
    #[arg(long, help_heading = "Target")]
    scan_on_push: bool,
    /// With --create-repository: whether tags can be moved
    #[arg(long, value_enum, value_name = "MODE", help_heading = "Target")]
    tag_mutability: Option<MutabilityArg>,
    /// Tag filter for --tag-mutability ...-with-exclusion: latest, dev-* (repeatable, up to 5)
    #[arg(long, value_name = "FILTER", help_heading = "Target")]
    tag_mutability_exclusion: Vec<String>,
    /// With --create-repository: encryption of the new repository
    #[arg(long, value_enum, value_name = "TYPE", help_heading = "Target")]
    encryption: Option<EncryptionArg>,
    /// KMS key for --encryption: ID, ARN or alias/NAME [default: the AWS managed key]
    #[arg(long, value_name = "KEY", help_heading = "Target")]
    kms_key: Option<String>,
    /// With --create-repository: AWS resource tag, for cost allocation and access control (repeatable)
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Target")]
    repository_tag: Vec<String>,
    /// With --create-repository: JSON file with the lifecycle policy
    #[arg(long, value_name = "FILE", help_heading = "Target")]
    pub(super) lifecycle_policy: Option<PathBuf>,
    /// With --create-repository: JSON file with the repository policy
    #[arg(long, value_name = "FILE", help_heading = "Target")]
    pub(super) repository_policy: Option<PathBuf>,
}

/// The option for existing tags.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct IfExistsArgs {
    /// Policy for tags that already exist, checked before anything is uploaded
    #[arg(long, value_enum, default_value_t = IfExistsArg::Overwrite, value_name = "POLICY", help_heading = "Target")]
    if_exists: IfExistsArg,
}

/// The policy for existing tags.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum IfExistsArg {
    /// Move the tag, unless the repository makes it immutable
    Overwrite,
    /// Succeed if the tag already points to the same image, else fail
    SameOk,
    /// Leave the tag unchanged
    Skip,
    /// Push nothing and fail
    Fail,
}

/// Whether tags can be moved.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum MutabilityArg {
    /// All tags can be moved
    Mutable,
    /// No tag can be moved
    Immutable,
    /// Immutable, except tags matching the filters
    ImmutableWithExclusion,
    /// Mutable, except tags matching the filters
    MutableWithExclusion,
}

/// The encryption of a repository.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum EncryptionArg {
    /// Keys managed by Amazon S3
    Aes256,
    /// A key of AWS KMS
    Kms,
    /// Two layers of encryption with keys of AWS KMS
    KmsDsse,
}

impl From<IfExistsArgs> for IfExists {
    fn from(args: IfExistsArgs) -> Self {
        match args.if_exists {
            IfExistsArg::Overwrite => Self::Overwrite,
            IfExistsArg::SameOk => Self::SameOk,
            IfExistsArg::Skip => Self::Skip,
            IfExistsArg::Fail => Self::Fail,
        }
    }
}

impl RepositoryArgs {
    /// Parses the targets, and returns notes about renamed repositories.
    pub(super) fn targets(&self, texts: &[String]) -> Result<(Vec<Target>, Vec<String>)> {
        if !self.docker_naming {
            return Ok((texts.iter().map(|text| text.parse()).collect::<Result<_>>()?, Vec::new()));
        }
        let read = texts.iter().map(|text| Target::with_docker_naming(text)).collect::<Result<Vec<_>>>()?;
        let (targets, changes): (Vec<Target>, Vec<Option<String>>) = read.into_iter().unzip();
        Ok((targets, changes.into_iter().flatten().collect()))
    }

    /// Returns the settings of a new repository.
    pub(super) fn settings(&self) -> Result<NewRepository> {
        let settings = NewRepository {
            scan_on_push: self.scan_on_push,
            mutability: self.mutability()?,
            encryption: self.encryption()?,
            tags: tags(&self.repository_tag)?,
        };
        let settings_used = [
            ("--scan-on-push", self.scan_on_push),
            ("--tag-mutability", self.tag_mutability.is_some()),
            ("--encryption", self.encryption.is_some()),
            ("--repository-tag", !self.repository_tag.is_empty()),
            ("--lifecycle-policy", self.lifecycle_policy.is_some()),
            ("--repository-policy", self.repository_policy.is_some()),
        ];
        match settings_used.iter().find(|(_, is_used)| *is_used && !self.create_repository) {
            Some((option, _)) => Err(Error::conflict(format!("{option} needs --create-repository"))
                .about_option(*option)
                .hint("Add --create-repository. The settings apply to new repositories only.")),
            None => Ok(settings),
        }
    }

    fn mutability(&self) -> Result<Option<Mutability>> {
        let filters = self.tag_mutability_exclusion.iter().map(|text| text.parse()).collect::<Result<Vec<_>>>()?;
        let takes_filters = matches!(
            self.tag_mutability,
            Some(MutabilityArg::ImmutableWithExclusion | MutabilityArg::MutableWithExclusion)
        );
        if takes_filters == filters.is_empty() || filters.len() > MAX_FILTERS {
            let what = match (takes_filters, filters.len()) {
                (true, 0) => "--tag-mutability ...-with-exclusion needs --tag-mutability-exclusion".to_owned(),
                (true, count) => {
                    format!("--tag-mutability-exclusion is used {count} times; the limit is {MAX_FILTERS}")
                }
                (false, _) => "--tag-mutability-exclusion needs --tag-mutability ...-with-exclusion".to_owned(),
            };
            return Err(Error::conflict(what)
                .about_option("--tag-mutability")
                .about_option("--tag-mutability-exclusion")
                .hint(
                    "Use --tag-mutability immutable-with-exclusion or mutable-with-exclusion with one to five \
                 --tag-mutability-exclusion FILTER.",
                ));
        }
        Ok(self.tag_mutability.map(|mutability| match mutability {
            MutabilityArg::Mutable => Mutability::Mutable,
            MutabilityArg::Immutable => Mutability::Immutable,
            MutabilityArg::ImmutableWithExclusion => Mutability::ImmutableExcept(filters),
            MutabilityArg::MutableWithExclusion => Mutability::MutableExcept(filters),
        }))
    }

    fn encryption(&self) -> Result<Option<Encryption>> {
        let key = self.kms_key.clone();
        match (self.encryption, &key) {
            (None | Some(EncryptionArg::Aes256), Some(_)) => {
                Err(Error::conflict("--kms-key needs --encryption kms or kms-dsse").about_option("--kms-key").hint(
                    Advice::new("Add it").setting_with("encryption", "kms").setting_with("encryption", "kms-dsse"),
                ))
            }
            (_, Some(key)) if !(1..=2048).contains(&key.trim().len()) => {
                Err(Error::invalid("--kms-key is empty or too long")
                    .about_option("--kms-key")
                    .hint("Use a key ID, a key ARN or alias/NAME."))
            }
            (None, None) => Ok(None),
            (Some(EncryptionArg::Aes256), None) => Ok(Some(Encryption::Aes256)),
            (Some(EncryptionArg::Kms), _) => Ok(Some(Encryption::Kms(key))),
            (Some(EncryptionArg::KmsDsse), _) => Ok(Some(Encryption::KmsDsse(key))),
        }
    }
}

/// Parses `KEY=VALUE`, each key once.
fn tags(texts: &[String]) -> Result<Vec<(String, String)>> {
    const RULE: &str = "Use KEY=VALUE: a key of 1 to 128 characters that does not start with aws:, a value of at most 256 \
                        characters, of letters, digits, spaces and _ . : / = + - @; at most 50 tags with distinct keys.";
    let reject = |what: String| Err(Error::usage(what).hint(RULE));
    let allowed = |c: char| c.is_alphanumeric() || c.is_whitespace() || "_.:/=+-@".contains(c);
    let mut tags: Vec<(String, String)> = Vec::new();
    for text in texts {
        let Some((key, value)) = text.split_once('=') else {
            return reject(format!("--repository-tag {text:?} is not KEY=VALUE"));
        };
        let fits = (1..=128).contains(&key.chars().count()) && value.chars().count() <= 256;
        if !fits || !text.chars().all(allowed) || key.to_lowercase().starts_with("aws:") {
            return reject(format!("--repository-tag {text:?} is not a tag that ECR accepts"));
        }
        if tags.iter().any(|(known, _)| known == key) {
            return reject(format!("--repository-tag has the key {key:?} twice"));
        }
        tags.push((key.to_owned(), value.to_owned()));
    }
    if tags.len() > MAX_TAGS {
        return reject(format!("--repository-tag is used {} times; the limit is {MAX_TAGS}", tags.len()));
    }
    Ok(tags)
}
