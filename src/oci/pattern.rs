//! Many tags in one text: patterns of them, and ECR's filters.

use std::fmt;
use std::str::FromStr;

use super::Tag;
use super::quote::shorten;
use crate::error::{Code, Error, Result};

/// A tag, or with `*` every tag that looks like it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TagPattern(String);

impl TagPattern {
    /// Every tag.
    pub fn any() -> Self {
        Self("*".into())
    }

    /// The tag, if it is one and no pattern.
    pub fn tag(&self) -> Option<&str> {
        (!self.0.contains('*')).then_some(&self.0)
    }

    /// Whether a tag looks like it. `*` stands for any characters, also for none.
    pub fn matches(&self, tag: &str) -> bool {
        fits(&self.0, tag)
    }
}

impl FromStr for TagPattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // What a star stands for can be anything that a tag can have.
        match text.replace('*', "_").parse::<Tag>() {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(Error::usage(format!("{:?} is neither a tag nor a pattern of tags", shorten(text)))
                .code(Code::ValueInvalid)
                .hint("Write a tag, main, or a pattern with stars in it, main-*.")),
        }
    }
}

impl fmt::Display for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A filter of ECR for the tags that a repository excepts from its rule on moving tags: a tag, or with `*` every tag that looks
/// like it (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageTagMutabilityExclusionFilter.html>).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TagFilter(String);

impl TagFilter {
    /// One that ECR has, whatever is in it.
    pub fn from_ecr(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The filter.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a tag looks like it. `*` stands for any characters, also for none. `None` if that is not for sure: without a star
    /// some take a filter for the whole tag and some for a part of it, and ECR does not say.
    pub fn matches(&self, tag: &Tag) -> Option<bool> {
        match fits(&self.0, tag.as_str()) {
            false if !self.0.contains('*') && tag.as_str().contains(&self.0) => None,
            fits => Some(fits),
        }
    }
}

impl FromStr for TagFilter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'*' | b'-');
        // Two stars at most, as the provider for Terraform has it
        // (https://registry.terraform.io/providers/hashicorp/aws/latest/docs/resources/ecr_repository).
        let stars = text.bytes().filter(|byte| *byte == b'*').count();
        if !(1..=128).contains(&text.len()) || !text.bytes().all(allowed) || stars > 2 {
            return Err(Error::usage(format!("{:?} is not a filter for tags", shorten(text)))
                .code(Code::ValueInvalid)
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

/// Whether a text fits a pattern, in which `*` stands for any characters, also for none.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    // There is a first part, if an empty one.
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
    fn a_filter_is_what_ecr_takes() {
        let long = "a".repeat(128);
        for good in ["latest", "*", "dev-*", "*.rc*", "-x", ".y", "_", long.as_str()] {
            assert!(good.parse::<TagFilter>().is_ok(), "{good}");
        }
        let longer = "a".repeat(129);
        for bad in ["", "a b", "v1+2", "a*b*c*", "ä", longer.as_str()] {
            let error = bad.parse::<TagFilter>().unwrap_err();
            assert_eq!(error.kind().exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn stars_stand_for_anything_and_for_nothing() {
        for (filter, tag, does) in [
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
            assert_eq!(filter.matches(&tag.parse().unwrap()), does, "{filter} {tag}");
        }
    }
}
