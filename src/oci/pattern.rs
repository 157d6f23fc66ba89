//! Patterns that match several tags, and ECR's tag filters.

use std::fmt;
use std::str::FromStr;

use super::Tag;
use super::quote::shorten;
use crate::error::{Error, Result};

/// A tag, or a pattern with `*` for any number of characters.
///
/// ```
/// use ecr_push::TagPattern;
///
/// let pattern: TagPattern = "main-*".parse()?;
/// assert!(pattern.matches("main-20261130"));
/// assert!(!pattern.matches("release-1"));
/// assert_eq!(pattern.tag(), None);
/// # Ok::<(), ecr_push::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TagPattern(String);

impl TagPattern {
    /// Returns the pattern that matches every tag.
    pub fn any() -> Self {
        Self("*".into())
    }

    /// Returns the tag, if it is not a pattern.
    pub fn tag(&self) -> Option<&str> {
        (!self.0.contains('*')).then_some(&self.0)
    }

    /// Returns whether a tag matches.
    pub fn matches(&self, tag: &str) -> bool {
        glob(&self.0, tag)
    }
}

impl FromStr for TagPattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // With any allowed character instead of each star, it must be a tag.
        match text.replace('*', "_").parse::<Tag>() {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(Error::invalid(format!("{:?} is neither a tag nor a pattern of tags", shorten(text)))
                .hint("Write a tag, main, or a pattern with stars in it, main-*.")),
        }
    }
}

impl fmt::Display for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A filter of ECR for tags that a repository excludes from its tag mutability: a tag, or a pattern with `*` for any number of
/// characters (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageTagMutabilityExclusionFilter.html>).
///
/// ```
/// use ecr_push::TagFilter;
///
/// let filter: TagFilter = "dev-*".parse()?;
/// assert_eq!(filter.matches(&"dev-7".parse()?), Some(true));
/// assert_eq!(filter.matches(&"1.4".parse()?), Some(false));
/// # Ok::<(), ecr_push::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TagFilter(String);

impl TagFilter {
    /// Wraps a filter that ECR returned, without checking it.
    pub fn from_ecr(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Returns the filter.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether a tag matches. `None` if that is not known: ECR does not document whether a filter without a star must
    /// match the whole tag or only a part of it, and sources disagree.
    pub fn matches(&self, tag: &Tag) -> Option<bool> {
        match glob(&self.0, tag.as_str()) {
            false if !self.0.contains('*') && tag.as_str().contains(&self.0) => None,
            is_match => Some(is_match),
        }
    }
}

impl FromStr for TagFilter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'*' | b'-');
        // Terraform's provider allows two stars
        // (https://registry.terraform.io/providers/hashicorp/aws/latest/docs/resources/ecr_repository).
        let stars = text.bytes().filter(|byte| *byte == b'*').count();
        if !(1..=128).contains(&text.len()) || !text.bytes().all(is_allowed) || stars > 2 {
            return Err(Error::invalid(format!("{:?} is not a filter for tags", shorten(text)))
                .hint("A filter is 1 to 128 letters, digits, '.', '_', '-' and at most two stars: latest, dev-*."));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for TagFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns whether a text matches a pattern, in which `*` matches any number of characters.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    // The first part exists, but may be empty.
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_follow_the_rule_of_ecr() {
        let long = "a".repeat(128);
        for valid in ["latest", "*", "dev-*", "*.rc*", "-x", ".y", "_", long.as_str()] {
            assert!(valid.parse::<TagFilter>().is_ok(), "{valid}");
        }
        let longer = "a".repeat(129);
        for invalid in ["", "a b", "v1+2", "a*b*c*", "ä", longer.as_str()] {
            let error = invalid.parse::<TagFilter>().unwrap_err();
            assert_eq!(error.kind().exit_code(), 2, "{invalid}");
        }
    }

    #[test]
    fn a_star_matches_any_number_of_characters() {
        for (filter, tag, is_match) in [
            ("latest", "latest", Some(true)),
            ("latest", "lates", Some(false)),
            ("latest", "latest-1", None),
            ("*", "x", Some(true)),
            ("dev-*", "dev-", Some(true)),
            ("dev-*", "dev", Some(false)),
            ("*-rc*", "1.2-rc3", Some(true)),
            ("*-rc*", "1.2rc3", Some(false)),
            ("a*a", "a", Some(false)),
            ("a*a", "aa", Some(true)),
        ] {
            let filter: TagFilter = filter.parse().unwrap();
            assert_eq!(filter.matches(&tag.parse().unwrap()), is_match, "{filter} {tag}");
        }
    }
}
