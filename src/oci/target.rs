//! Targets of a push and sources of mounts, as typed.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use super::name::EMPTY_TAG;
use super::quote::{shorten, strip_credentials};
use super::{Host, Repository, Tag};
use crate::error::{Advice, Code, Error, Result};

/// Where an image is to go: `[HOST/]REPOSITORY[:TAG]`, as typed.
///
/// Without a host it is the caller's own ECR registry, whose account only AWS can tell.
///
/// ```
/// let target: ecr_push::Target = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app:1.4".parse()?;
/// assert_eq!(target.repository.as_str(), "team/app");
/// assert!("team/App:1.4".parse::<ecr_push::Target>().is_err(), "names are lowercase");
/// # Ok::<(), ecr_push::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// The registry, if the target names one.
    pub host: Option<Host>,
    /// The region of the caller's own registry, for a target without a host; `None` leaves it to the environment.
    pub region: Option<String>,
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
            let place = |target: &Self| (target.host.clone(), target.region.clone(), target.repository.clone());
            let same = |known: &&mut Self| place(known) == place(&target);
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
        let renamed = Repository::docker_normalized(name);
        if renamed.is_empty() {
            return Err(Error::usage(format!("{:?} has nothing that a repository name can have", shorten(name)))
                .code(Code::TargetInvalid)
                .hint("Docker naming keeps letters, digits, '-', '.', '_' and '/' only: use these in the name."));
        }
        let change = (renamed != name).then(|| format!("the repository {:?} is called {renamed}", shorten(name)));
        Ok((Self::of_parts(host, &renamed, tags)?, change))
    }

    fn of_parts(host: Option<Host>, repository: &str, tags: Vec<Tag>) -> Result<Self> {
        // ECR Public user guide, "Service quotas", and RegistryAlias in its API reference.
        let fits = |(alias, name): (&str, &str)| (2..=50).contains(&alias.len()) && (2..=205).contains(&name.len());
        if host.as_ref().is_some_and(Host::is_ecr_public) && !repository.split_once('/').is_some_and(fits) {
            return Err(Error::usage(format!("the target {:?} cannot be in ECR Public", shorten(repository)))
                .code(Code::TargetInvalid)
                .hint(
                    Advice::new(
                        "Use public.ecr.aws/ALIAS/REPOSITORY, of 2 to 50 and 2 to 205 characters. List your aliases:",
                    )
                    .command("aws ecr-public describe-registries --region us-east-1"),
                ));
        }
        Ok(Self { host, region: None, repository: repository.parse()?, tags })
    }

    /// The host, the text for the repository and the tags.
    fn parts(text: &str) -> Result<(Option<Host>, &str, Vec<Tag>)> {
        if matches!(strip_credentials(text), Cow::Owned(_)) {
            return Err(Error::usage(format!("the target {:?} contains a login", shorten(text)))
                .code(Code::TargetInvalid)
                .hint(
                    Advice::new("Leave the login out of the target, and name the user")
                        .setting_with("username", "NAME")
                        .command("docker login HOST"),
                ));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return Err(Error::usage(format!("the target {:?} starts with {scheme}://", shorten(text)))
                .code(Code::TargetInvalid)
                .hint(format!("Leave it out: {}", shorten(rest))));
        }
        if text.contains('@') {
            return Err(Error::usage(format!("the target {:?} has a digest", shorten(text)))
                .code(Code::TargetInvalid)
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
            let is_amazons = |name: &&str| name.parse().is_ok_and(|host: Host| host.is_amazon());
            let host = host.split(':').next().filter(is_amazons).unwrap_or(host);
            return Err(Error::usage(format!("{:?} names no repository", shorten(text)))
                .code(Code::TargetInvalid)
                .hint(format!("Write {}/REPOSITORY:TAG.", shorten(host))));
        }
        if tag == Some("") {
            return Err(Error::usage(format!("{:?} ends with a colon and no tag", shorten(text)))
                .code(Code::TargetInvalid)
                .hint(EMPTY_TAG));
        }
        let host = host.map(Host::from_str).transpose()?;
        if let Some(host) = host.as_ref().filter(|host| host.is_misspelt_ecr()) {
            return Err(Error::usage(format!("{host} is under Amazon's name and none of ECR's registries")).code(Code::TargetInvalid).hint(
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
            return Err(Error::usage(format!("the target {:?} is a path", shorten(text))).code(Code::TargetInvalid).hint(
                Advice::new(
                    "The archive comes first, then the targets as [HOST/]REPOSITORY[:TAG]; is the shell variable before \
                     the / unset? List all options:",
                )
                .command("ecr-push --help"),
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
        let Target { host, repository, mut tags, .. } = text.parse()?;
        match host {
            None => Ok(Self { repository, tag: tags.pop() }),
            Some(host) => {
                Err(Error::usage(format!("{:?} names the registry {host} to mount layers from", shorten(text)))
                    .code(Code::ValueInvalid)
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
    name == "localhost" || name.parse().is_ok_and(|host: Host| host.is_amazon())
}
