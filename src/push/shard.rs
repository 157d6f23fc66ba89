//! The part of a large run that one machine does. Pure.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::oci::{Digest, Repository};

/// One of several parts of a run. Each repository is in one part, the same on every machine.
///
/// ```
/// use ecr_push::Shard;
///
/// let shards: Vec<Shard> = (1..=3).map(|n| format!("{n}/3").parse()).collect::<ecr_push::Result<_>>()?;
/// let repository = "mirror/app".parse()?;
/// assert_eq!(shards.iter().filter(|shard| shard.takes(&repository)).count(), 1);
/// assert!("0/3".parse::<Shard>().is_err(), "shards are numbered from 1");
/// # Ok::<(), ecr_push::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shard {
    /// The number, from 0.
    index: u64,
    count: u64,
}

impl Shard {
    /// Returns a part by its number, from 0. `None` if there are not so many.
    pub fn new(index: u64, count: u64) -> Option<Self> {
        (index < count).then_some(Self { index, count })
    }

    /// Returns how many parts there are.
    pub fn count(&self) -> NonZeroU64 {
        // A part has a number below their count.
        NonZeroU64::new(self.count).unwrap_or(NonZeroU64::MIN)
    }

    /// Returns whether a repository is in this part.
    pub fn takes(&self, repository: &Repository) -> bool {
        let digest = Digest::of(repository.as_str().as_bytes()).hex();
        // 15 hex digits always fit.
        let number = u64::from_str_radix(&digest[..15], 16).unwrap_or_default();
        number % self.count == self.index
    }
}

impl FromStr for Shard {
    type Err = Error;

    /// Parses `I/N`, with I from 1.
    fn from_str(text: &str) -> Result<Self> {
        let refuse = |what: String| {
            Err(Error::invalid(what)
                .hint("Write I/N with I from 1 to N: 1/4, 2/4, 3/4 and 4/4 are the parts of one run."))
        };
        let Some((Ok(number), Ok(count))) = text.split_once('/').map(|(i, n)| (i.parse::<u64>(), n.parse::<u64>()))
        else {
            return refuse(format!("{text:?} is not a shard"));
        };
        match number.checked_sub(1) {
            None => refuse(format!("there is no shard {text}: shards are numbered from 1")),
            Some(index) => Self::new(index, count).map_or_else(|| refuse(format!("there is no shard {text}")), Ok),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index + 1, self.count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_repository_is_in_exactly_one_part(
            names in prop::collection::vec("[a-z]{2,9}(/[a-z0-9]{1,9}){0,2}", 1..40),
            count in 1..50_u64,
        ) {
            for name in names {
                let repository = name.parse::<Repository>().unwrap();
                let taken = (0..count).filter(|index| Shard::new(*index, count).unwrap().takes(&repository)).count();
                prop_assert_eq!(taken, 1);
            }
        }
    }

    #[test]
    fn parts_are_of_similar_size() {
        let repositories: Vec<Repository> = (0..4000).map(|n| format!("mirror/app-{n}").parse().unwrap()).collect();
        for index in 0..8 {
            let taken = repositories.iter().filter(|it| Shard::new(index, 8).unwrap().takes(it)).count();
            assert!((400..600).contains(&taken), "{taken} of 500");
        }
    }

    #[test]
    fn numbers_begin_with_one() {
        assert_eq!("4/4".parse::<Shard>().unwrap().to_string(), "4/4");
        for (wrong, part) in [
            ("0/4", "from 1"),
            ("5/4", "no shard 5/4"),
            ("1", "not a shard"),
            ("a/b", "not a shard"),
            ("1/0", "no shard"),
        ] {
            let error = wrong.parse::<Shard>().unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
