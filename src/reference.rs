//! Names of things: digests, hosts, repositories, tags. Parsed once at the border, never strings again.
//!
//! The rules are those of the OCI distribution specification and of Amazon ECR where ECR is stricter. Who a host
//! belongs to is decided here and nowhere else, because that decides who gets AWS credentials.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

use crate::error::{Error, Result};

mod host;
mod pattern;

pub use host::{EcrHost, Host, Owner, is_link_local, is_private, is_region, region_code};
pub use pattern::{TagFilter, TagPattern};

/// Defines a SHA-256 value with a meaning of its own.
macro_rules! sha256_value {
    ($(#[$doc:meta])* $name:ident, $word:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Takes over a hash that was just computed.
            pub fn from_hash(hash: [u8; 32]) -> Self {
                Self(hash)
            }

            /// The bare hash.
            pub fn hash(&self) -> [u8; 32] {
                self.0
            }

            /// Hashes bytes that are small enough to be in memory.
            pub fn of(bytes: &[u8]) -> Self {
                Self(sha2::Sha256::digest(bytes).into())
            }

            /// The 64 lower-case hex digits, without `sha256:`.
            pub fn hex(&self) -> String {
                hex(&self.0)
            }

            /// `sha256:` and the first twelve digits, for people.
            pub fn short(&self) -> String {
                format!("sha256:{}", &self.hex()[..12])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "sha256:{}", self.hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                parse_sha256(text)
                    .map(Self)
                    .ok_or_else(|| Error::input(format!(concat!("{:?} is not a ", $word), shorten(text)))
                        .hint("Only sha256: and 64 lower-case hex digits are understood."))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

sha256_value! {
    /// SHA-256 of bytes that a registry stores: a packed layer, a config, a manifest.
    Digest, "digest"
}

sha256_value! {
    /// SHA-256 of a layer's uncompressed tar, as the image config lists it.
    DiffId, "diff_id"
}

fn hex(bytes: &[u8; 32]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.map(|nibble| char::from(DIGITS[usize::from(nibble)])).collect()
}

fn parse_sha256(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("sha256:")?.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(hash)
}

/// Text from outside, short enough for a sentence.
fn shorten(text: &str) -> String {
    if text.chars().count() <= 80 { text.to_owned() } else { text.chars().take(77).chain("...".chars()).collect() }
}

/// A repository's name inside a registry: `team/app`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Repository(String);

impl Repository {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A text made to look like a name: lower-case, and nothing but letters, digits, `-`, `.`, `_` and `/`. It need not be
    /// one for that.
    pub fn named_as_docker_does(text: &str) -> String {
        let is_kept = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '_' | '/');
        text.to_lowercase().chars().filter(is_kept).collect()
    }
}

impl FromStr for Repository {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: String| {
            let rule = "A name is 2 to 255 characters: parts joined by '/', each of lower-case letters and digits, \
                        separated inside by '.', '_', '__' or hyphens.";
            let repaired = Self::named_as_docker_does(text);
            // Repaired once more it stays as it is.
            let is_name = repaired != text && repaired.parse::<Self>().is_ok();
            let cure = if is_name { format!("{rule} With --docker-naming it is {repaired}.") } else { rule.to_owned() };
            Err(Error::usage(format!("{:?} is not a repository name: {why}", shorten(text))).hint(cure))
        };
        if let Some(upper) = text.chars().find(char::is_ascii_uppercase) {
            return refuse(format!("it has the upper-case letter {upper:?}"));
        }
        if text.is_empty() || text.len() > 255 {
            return refuse(format!("it has {} characters", text.len()));
        }
        if !text.split('/').all(is_path_component) {
            return refuse("a part of it breaks the rule".into());
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, the rule of the OCI distribution specification ("Pulling manifests") and of ECR.
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

/// Where a tag comes from a pipeline, that is what went wrong.
const EMPTY_TAG: &str = "Is a variable empty? Without a tag it is `latest`.";

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Tag(String);

impl Tag {
    /// The tag that is meant where none is given.
    pub fn latest() -> Self {
        Self("latest".into())
    }

    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let starts_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if text.is_empty() {
            return Err(Error::usage("a tag is empty").hint(EMPTY_TAG));
        }
        if !starts_well || text.len() > 128 || !text.bytes().all(allowed) {
            return Err(Error::usage(format!("{:?} is not a tag", shorten(text)))
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

/// Where an image is to go: `[HOST/]REPOSITORY[:TAG]`, as typed.
///
/// Without a host it is the caller's own ECR registry, whose account only AWS can tell.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// The registry, if the target names one.
    pub host: Option<Host>,
    /// The repository.
    pub repository: Repository,
    /// The tags that are named: none or one where it was typed, more where targets were joined.
    pub tags: Vec<Tag>,
}

impl Target {
    /// Joins targets of the same repository, so that its layers are sent there once, in the order of the first of each.
    pub fn join(targets: Vec<Self>) -> Vec<Self> {
        let mut joined: Vec<Self> = Vec::new();
        for target in targets {
            let same = |known: &&mut Self| known.host == target.host && known.repository == target.repository;
            match joined.iter_mut().find(same) {
                Some(known) => {
                    // A target that names no tag means the default one, also beside others.
                    let named = |tags: Vec<Tag>| if tags.is_empty() { vec![Tag::latest()] } else { tags };
                    known.tags = named(std::mem::take(&mut known.tags));
                    known.tags.extend(named(target.tags));
                }
                None => joined.push(target),
            }
        }
        joined
    }
}

impl Target {
    /// Reads a target whose repository is renamed if it breaks the rule for names, and says what became of which name.
    ///
    /// # Errors
    /// If it is none all the same.
    pub fn with_docker_naming(text: &str) -> Result<(Self, Option<String>)> {
        let (host, name, tags) = Self::parts(text)?;
        let renamed = Repository::named_as_docker_does(name);
        if renamed.is_empty() {
            return Err(Error::usage(format!("{:?} has nothing that a repository name can have", shorten(name))).hint(
                "--docker-naming keeps letters, digits, '-', '.', '_' and '/': name the repository with these.",
            ));
        }
        let change = (renamed != name).then(|| format!("the repository {:?} is called {renamed}", shorten(name)));
        Ok((Self::of_parts(host, &renamed, tags)?, change))
    }

    fn of_parts(host: Option<Host>, repository: &str, tags: Vec<Tag>) -> Result<Self> {
        // ECR Public user guide, "Service quotas", and RegistryAlias in its API reference.
        let fits = |(alias, name): (&str, &str)| (2..=50).contains(&alias.len()) && (2..=205).contains(&name.len());
        if host.as_ref().is_some_and(Host::is_ecr_public) && !repository.split_once('/').is_some_and(fits) {
            return Err(Error::usage(format!("the target {:?} cannot be in ECR Public", shorten(repository))).hint(
                "It has public.ecr.aws/ALIAS/REPOSITORY, with 2 to 50 and 2 to 205 characters. Which aliases are yours:\n  \
                 aws ecr-public describe-registries --region us-east-1",
            ));
        }
        Ok(Self { host, repository: repository.parse()?, tags })
    }

    /// The host, the text for the repository and the tags.
    fn parts(text: &str) -> Result<(Option<Host>, &str, Vec<Tag>)> {
        if let Some((scheme, rest)) = text.split_once("://") {
            return Err(Error::usage(format!("the target {:?} starts with {scheme}://", shorten(text)))
                .hint(format!("Leave it out: {}", shorten(rest))));
        }
        if text.contains('@') {
            return Err(Error::usage(format!("the target {:?} has a digest", shorten(text)))
                .hint("A target names a place, HOST/REPOSITORY:TAG; the digest follows from what is pushed there."));
        }
        let (host, rest) = match text.split_once('/') {
            Some((first, rest)) if is_host(first) => (Some(first), rest),
            None if can_only_be_a_host(text) => (Some(text), ""),
            _ => (None, text),
        };
        let (repository, tag) = rest.rsplit_once(':').map_or((rest, None), |(before, tag)| (before, Some(tag)));
        if let Some(host) = host.filter(|_| repository.is_empty()) {
            // Behind a name of Amazon's no port is meant, but a tag.
            let is_amazons = |name: &&str| name.parse().is_ok_and(|host: Host| host.is_amazons());
            let host = host.split(':').next().filter(is_amazons).unwrap_or(host);
            return Err(Error::usage(format!("{:?} names no repository", shorten(text)))
                .hint(format!("Write {}/REPOSITORY:TAG.", shorten(host))));
        }
        if tag == Some("") {
            return Err(Error::usage(format!("{:?} ends with a colon and no tag", shorten(text))).hint(EMPTY_TAG));
        }
        let host = host.map(Host::from_str).transpose()?;
        if let Some(host) = host.as_ref().filter(|host| host.is_misspelt_ecr()) {
            return Err(Error::usage(format!("{host} is under Amazon's name and none of ECR's registries")).hint(
                "Theirs are ACCOUNT.dkr.ecr.REGION.amazonaws.com, with the twelve digits of the account and a region such as \
                 eu-west-1.",
            ));
        }
        Ok((host, repository, tag.map(str::parse).transpose()?.into_iter().collect()))
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if ["/", "./", "../"].iter().any(|start| text.starts_with(start)) {
            return Err(Error::usage(format!("the target {:?} is a path", shorten(text))).hint(
                "The archive comes first, behind it the targets, [HOST/]REPOSITORY[:TAG]; --help lists what else there is. \
                 Or what was to stand in front of the / is empty.",
            ));
        }
        let (host, repository, tags) = Self::parts(text)?;
        Self::of_parts(host, repository, tags)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host) = &self.host {
            write!(f, "{host}/")?;
        }
        write!(f, "{}", self.repository)?;
        self.tags.first().map_or(Ok(()), |tag| write!(f, ":{tag}"))
    }
}

/// Another repository of the target's registry to mount layers from: `REPOSITORY[:TAG]`, as typed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MountSource {
    /// The repository.
    pub repository: Repository,
    /// The image of it that is looked at; without one, all of its blobs count.
    pub tag: Option<Tag>,
}

impl FromStr for MountSource {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Target { host, repository, mut tags } = text.parse()?;
        match host {
            None => Ok(Self { repository, tag: tags.pop() }),
            Some(host) => {
                Err(Error::usage(format!("{:?} names the registry {host} to mount layers from", shorten(text)))
                    .hint("A registry mounts from its own repositories only: write REPOSITORY or REPOSITORY:TAG."))
            }
        }
    }
}

impl fmt::Display for MountSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        self.tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))
    }
}

/// Docker's rule: the first component is a host if it has a `.` or `:` or is `localhost`.
fn is_host(component: &str) -> bool {
    component.contains(['.', ':']) || component == "localhost"
}

/// Whether a target of one component is a host whose repository is missing. `team.app:1` is a repository.
fn can_only_be_a_host(text: &str) -> bool {
    let name = text.split(':').next().unwrap_or(text);
    name == "localhost" || name.parse().is_ok_and(|host: Host| host.is_amazons())
}

#[cfg(test)]
mod tests;
