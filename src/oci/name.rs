//! Names of repositories and tags, by the rules of the distribution specification, and of Amazon ECR if they are stricter.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::quote::shorten;
use crate::error::{Advice, Error, Result};

/// The name of a repository in a registry: `team/app`.
///
/// ```
/// use ecr_push::Repository;
///
/// let repository: Repository = "team/app".parse()?;
/// assert_eq!(repository.as_str(), "team/app");
/// assert!("Team/App".parse::<Repository>().is_err(), "names are lower-case");
/// assert_eq!(Repository::docker_normalized("Team/My App"), "team/myapp");
/// # Ok::<(), ecr_push::Error>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Repository(String);

impl Repository {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Converts a text to lower case and removes all characters except letters, digits, `-`, `.`, `_` and `/`. The result may
    /// still be invalid.
    pub fn docker_normalized(text: &str) -> String {
        let is_allowed = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '_' | '/');
        text.to_lowercase().chars().filter(is_allowed).collect()
    }
}

impl FromStr for Repository {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: String| {
            let rule = "A name has 2 to 255 characters: components separated by '/', each of lower-case letters and digits, \
                        separated by '.', '_', '__' or hyphens.";
            let normalized = Self::docker_normalized(text);
            // The recursion ends, since a normalized text does not change again.
            let is_list = text.contains([',', ':']);
            let advice = match normalized != text && normalized.parse::<Self>().is_ok() {
                // Several targets in one argument, of which the normalized text would be one wrong name.
                _ if is_list => "Write each target as an argument of its own.".into(),
                true => Advice::new(format!("{rule} Or push to {normalized}")).setting("docker-naming"),
                false => rule.into(),
            };
            Err(Error::invalid_target(format!("{:?} is not a repository name: {why}", shorten(text))).hint(advice))
        };
        if let Some(upper) = text.chars().find(char::is_ascii_uppercase) {
            return refuse(format!("it has the upper-case letter {upper:?}"));
        }
        if text.is_empty() {
            return Err(Error::invalid_target("the repository name is empty").hint("Is a shell variable unset?"));
        }
        if text.len() > 255 {
            return refuse(format!("it has {} characters", text.len()));
        }
        if let Some(component) = text.split('/').find(|component| !is_path_component(component)) {
            return refuse(match component.chars().find(|c| !c.is_ascii_alphanumeric() && !"._-".contains(*c)) {
                Some(other) => format!("{other:?} is not allowed"),
                None if component.is_empty() => "a component of it is empty".into(),
                None => format!("its component {:?} breaks the rule", shorten(component)),
            });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns whether a text matches `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, the rule of the OCI distribution specification
/// ("Pulling manifests") and of ECR.
fn is_path_component(part: &str) -> bool {
    let mut rest = part;
    loop {
        let word = rest.bytes().take_while(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()).count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        if rest.is_empty() {
            return true;
        }
        let separator = rest.bytes().take_while(|byte| matches!(byte, b'.' | b'_' | b'-')).count();
        match &rest[..separator] {
            "." | "_" | "__" => {}
            hyphens if !hyphens.is_empty() && hyphens.bytes().all(|byte| byte == b'-') => {}
            _ => return false,
        }
        rest = &rest[separator..];
    }
}

/// The advice for an empty tag: in a pipeline, the likely cause is an empty variable.
pub(super) const EMPTY_TAG: &str = "Is a variable empty? Without a tag it is `latest`.";

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
///
/// ```
/// use ecr_push::Tag;
///
/// let tag: Tag = "1.4".parse()?;
/// assert_eq!(tag.as_str(), "1.4");
/// assert_eq!(Tag::latest().to_string(), "latest");
/// assert!("feature/x".parse::<Tag>().is_err(), "a tag has no slash");
/// # Ok::<(), ecr_push::Error>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Tag(String);

impl Tag {
    /// Returns the default tag.
    pub fn latest() -> Self {
        Self("latest".into())
    }

    /// Returns the tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if text.is_empty() {
            return Err(Error::invalid("a tag is empty").hint(EMPTY_TAG));
        }
        if text.starts_with(['.', '-']) || text.len() > 128 || !text.bytes().all(is_allowed) {
            return Err(Error::invalid(format!("{:?} is not a tag", shorten(text)))
                .hint("A tag is 1 to 128 letters, digits, '_', '.' and '-', and starts with neither '.' nor '-'."));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
