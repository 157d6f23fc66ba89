//! The options for repositories and tags: which are created, how, and what becomes of tags that exist.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::ecr::{Encryption, Mutability, NewRepository};
use crate::error::{Code, Error, Result};
use crate::oci::Target;
use crate::push::IfExists;

/// A repository has as many tags at most (ECR user guide, "Tagging a private repository").
const MOST_TAGS: usize = 50;

/// ECR takes as many filters at most (ECR API reference, CreateRepository).
const MOST_FILTERS: usize = 5;

/// The options.
#[derive(Debug, clap::Args)]
pub(super) struct RepositoryArgs {
    /// What becomes of a tag that exists; all are looked at before anything is sent
    #[arg(long, value_enum, default_value_t = IfExistsArg::Overwrite, value_name = "HOW", help_heading = "Target")]
    if_exists: IfExistsArg,
    /// Rename repositories as Docker names them: lower-case, and only letters, digits, - . _ and /
    #[arg(long, help_heading = "Target")]
    pub(super) docker_naming: bool,
    /// Create the repository if it does not exist (ECR, ECR Public)
    #[arg(long, help_heading = "Target")]
    pub(super) create_repository: bool,
    /// Of a repository that is created: scan images when they are pushed
    #[arg(long, help_heading = "Target")]
    scan_on_push: bool,
    /// Of a repository that is created: whether tags may move
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Target")]
    tag_mutability: Option<MutabilityArg>,
    /// Tags that --tag-mutability ...-with-exclusion excepts: latest, dev-*; may be repeated up to five times
    #[arg(long, value_name = "FILTER", help_heading = "Target")]
    tag_mutability_exclusion: Vec<String>,
    /// Of a repository that is created: how it is encrypted
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Target")]
    encryption: Option<EncryptionArg>,
    /// Key of AWS KMS for that: its ID, ARN or alias/NAME [default: one that AWS manages]
    #[arg(long, value_name = "KEY", help_heading = "Target")]
    kms_key: Option<String>,
    /// Of a repository that is created: a tag of its own, for costs and rights; may be repeated
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Target")]
    repository_tag: Vec<String>,
    /// Of a repository that is created: JSON that says which images are removed, and when
    #[arg(long, value_name = "FILE", help_heading = "Target")]
    pub(super) lifecycle_policy: Option<PathBuf>,
    /// Of a repository that is created: JSON that says who may do what
    #[arg(long, value_name = "FILE", help_heading = "Target")]
    pub(super) repository_policy: Option<PathBuf>,
}

/// What becomes of a tag that exists.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum IfExistsArg {
    /// It moves, unless the repository does not let it
    Overwrite,
    /// It may point at the same image, and at no other
    SameOk,
    /// It stays where it is
    Skip,
    /// Nothing is pushed
    Fail,
}

/// Whether tags may move.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum MutabilityArg {
    /// All may
    Mutable,
    /// None may
    Immutable,
    /// None may but those that are excepted
    ImmutableWithExclusion,
    /// All may but those that are excepted
    MutableWithExclusion,
}

/// How a repository is encrypted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum EncryptionArg {
    /// With keys that S3 manages
    Aes256,
    /// With a key of AWS KMS
    Kms,
    /// With keys of AWS KMS, in two layers
    KmsDsse,
}

impl RepositoryArgs {
    /// What becomes of a tag that exists.
    pub(super) fn if_exists(&self) -> IfExists {
        match self.if_exists {
            IfExistsArg::Overwrite => IfExists::Overwrite,
            IfExistsArg::SameOk => IfExists::SameOk,
            IfExistsArg::Skip => IfExists::Skip,
            IfExistsArg::Fail => IfExists::Fail,
        }
    }

    /// The targets, and what was renamed.
    pub(super) fn targets(&self, texts: &[String]) -> Result<(Vec<Target>, Vec<String>)> {
        if !self.docker_naming {
            return Ok((texts.iter().map(|text| text.parse()).collect::<Result<_>>()?, Vec::new()));
        }
        let read = texts.iter().map(|text| Target::with_docker_naming(text)).collect::<Result<Vec<_>>>()?;
        let (targets, changes): (Vec<Target>, Vec<Option<String>>) = read.into_iter().unzip();
        Ok((targets, changes.into_iter().flatten().collect()))
    }

    /// How a repository is set up that is created.
    pub(super) fn settings(&self) -> Result<NewRepository> {
        let settings = NewRepository {
            scan_on_push: self.scan_on_push,
            mutability: self.mutability()?,
            encryption: self.encryption()?,
            tags: tags(&self.repository_tag)?,
        };
        let given = [
            ("--scan-on-push", self.scan_on_push),
            ("--tag-mutability", self.tag_mutability.is_some()),
            ("--encryption", self.encryption.is_some()),
            ("--repository-tag", !self.repository_tag.is_empty()),
            ("--lifecycle-policy", self.lifecycle_policy.is_some()),
            ("--repository-policy", self.repository_policy.is_some()),
        ];
        match given.iter().find(|(_, is_given)| *is_given && !self.create_repository) {
            Some((option, _)) => Err(Error::usage(format!("{option} is for a repository that this push creates"))
                .code(Code::OptionConflict)
                .hint("Add --create-repository. A repository that exists is left as it is.")),
            None => Ok(settings),
        }
    }

    fn mutability(&self) -> Result<Option<Mutability>> {
        let filters = self.tag_mutability_exclusion.iter().map(|text| text.parse()).collect::<Result<Vec<_>>>()?;
        let takes_filters = matches!(
            self.tag_mutability,
            Some(MutabilityArg::ImmutableWithExclusion | MutabilityArg::MutableWithExclusion)
        );
        if takes_filters == filters.is_empty() || filters.len() > MOST_FILTERS {
            let what = match (takes_filters, filters.len()) {
                (true, 0) => "--tag-mutability excepts tags, and none is named".to_owned(),
                (true, count) => format!("there are {count} filters of --tag-mutability-exclusion"),
                (false, _) => "--tag-mutability-exclusion names tags, and --tag-mutability excepts none".to_owned(),
            };
            return Err(Error::usage(what).code(Code::OptionConflict).hint(
                "Write --tag-mutability immutable-with-exclusion or mutable-with-exclusion, and one to five times \
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
                Err(Error::usage("--kms-key names a key of AWS KMS, and --encryption uses none")
                    .code(Code::OptionConflict)
                    .hint("Add --encryption kms or --encryption kms-dsse."))
            }
            (_, Some(key)) if !(1..=2048).contains(&key.trim().len()) => Err(Error::usage("--kms-key is no key")
                .code(Code::ValueInvalid)
                .hint("A key is named by its ID, its ARN or alias/NAME.")),
            (None, None) => Ok(None),
            (Some(EncryptionArg::Aes256), None) => Ok(Some(Encryption::Aes256)),
            (Some(EncryptionArg::Kms), _) => Ok(Some(Encryption::Kms(key))),
            (Some(EncryptionArg::KmsDsse), _) => Ok(Some(Encryption::KmsDsse(key))),
        }
    }
}

/// `KEY=VALUE`, each key once.
fn tags(texts: &[String]) -> Result<Vec<(String, String)>> {
    const RULE: &str = "A tag is KEY=VALUE: a key of 1 to 128 characters that does not begin with aws:, a value of at most \
                        256, of letters, digits, blanks and _ . : / = + - @; a repository has 50 at most, with a key each.";
    let refuse = |what: String| Err(Error::usage(what).hint(RULE));
    let allowed = |c: char| c.is_alphanumeric() || c.is_whitespace() || "_.:/=+-@".contains(c);
    let mut tags: Vec<(String, String)> = Vec::new();
    for text in texts {
        let Some((key, value)) = text.split_once('=') else {
            return refuse(format!("--repository-tag {text:?} has no ="));
        };
        let fits = (1..=128).contains(&key.chars().count()) && value.chars().count() <= 256;
        if !fits || !text.chars().all(allowed) || key.to_lowercase().starts_with("aws:") {
            return refuse(format!("--repository-tag {text:?} is no tag that ECR takes"));
        }
        if tags.iter().any(|(known, _)| known == key) {
            return refuse(format!("--repository-tag names {key:?} twice"));
        }
        tags.push((key.to_owned(), value.to_owned()));
    }
    if tags.len() > MOST_TAGS {
        return refuse(format!("there are {} of --repository-tag", tags.len()));
    }
    Ok(tags)
}
