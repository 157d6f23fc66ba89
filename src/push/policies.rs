//! `--lifecycle-policy` and `--repository-policy`, read before anything else.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::options::RepositoryOptions;
use crate::error::{Error, Result};
use crate::file;

/// The most bytes to read: more than either policy may have. An archive that is named by mistake is not read to its end.
const LONGEST: u64 = 1 << 20;

/// The policies of a repository that is created.
#[derive(Debug, Default)]
pub(super) struct Policies {
    /// Which images are removed, and when.
    pub(super) lifecycle: Option<Policy>,
    /// Who may do what.
    pub(super) repository: Option<Policy>,
}

/// A policy, as it stands in a file.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl Policies {
    /// Reads those that the options name.
    ///
    /// # Errors
    /// If a file has no policy, or one that ECR does not accept.
    pub(super) async fn of(options: &RepositoryOptions) -> Result<Self> {
        let (lifecycle, repository) = (options.lifecycle_policy.clone(), options.repository_policy.clone());
        // The lengths are those of the ECR API reference, PutLifecyclePolicy and SetRepositoryPolicy.
        let reading = tokio::task::spawn_blocking(|| {
            let lifecycle = lifecycle.map(|path| read("lifecycle policy", path, 100..=30_720)).transpose()?;
            let repository = repository.map(|path| read("repository policy", path, 0..=10_240)).transpose()?;
            Ok(Self { lifecycle, repository })
        });
        reading.await.unwrap_or_else(|died| Err(Error::usage("reading a policy failed").because(died)))
    }

    /// Returns whether there is no policy.
    pub(super) fn is_empty(&self) -> bool {
        self.lifecycle.is_none() && self.repository.is_none()
    }
}

fn read(what: &str, path: PathBuf, lengths: RangeInclusive<usize>) -> Result<Policy> {
    let name = format!("the {what} {}", path.display());
    // Once: it may be a pipe.
    let bytes = file::read(&path, LONGEST).map_err(|error| {
        Error::invalid(format!("cannot read {name}")).because(error).hint("Use a JSON file, as for the AWS CLI.")
    })?;
    let text = String::from_utf8(bytes).map_err(|_| {
        Error::invalid(format!("{name} is not UTF-8 text"))
            .hint("Write it in UTF-8; PowerShell does with `Out-File -Encoding utf8`.")
    })?;
    // Which leaves a mark in front that is no JSON.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned();
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text).map_err(|error| {
        Error::invalid(format!("{name} is not a JSON object"))
            .because(error)
            .hint("It must start with { and end with }.")
    })?;
    let length = text.chars().count();
    if !lengths.contains(&length) {
        let (least, most) = (lengths.start(), lengths.end());
        return Err(Error::invalid(format!("{name} has {length} characters"))
            .hint(format!("ECR accepts {least} to {most}, blanks and line ends included.")));
    }
    Ok(Policy { path, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_a_json_object_of_the_right_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.json");
        let of = |text: &str, lengths: RangeInclusive<usize>| {
            std::fs::write(&path, text).unwrap();
            read("lifecycle policy", path.clone(), lengths).map_err(|error| error.to_string())
        };
        assert_eq!(of("{}", 0..=10).unwrap().text, "{}");
        for (text, lengths, part) in [
            ("{", 0..=10, "is not a JSON object"),
            ("[]", 0..=10, "is not a JSON object"),
            ("", 0..=10, "is not a JSON object"),
            ("{}", 3..=10, "has 2 characters"),
            ("{\"ä\":1}", 0..=6, "has 7 characters"),
        ] {
            let error = of(text, lengths).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        let error = read("repository policy", folder.path().join("none"), 0..=1).unwrap_err();
        assert!(error.to_string().starts_with("cannot read the repository policy "), "{error}");
        assert!(read("repository policy", folder.path().to_owned(), 0..=1).is_err());
    }
}
