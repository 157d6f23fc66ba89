//! Targets of a push and sources of mounts, as the user writes them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use super::name::EMPTY_TAG;
use super::quote::{shorten, strip_credentials};
use super::{Host, Repository, Tag};
use crate::error::{Advice, Error, Result};

/// The target of a push: `[HOST/]REPOSITORY[:TAG]`, as the user writes it.
///
/// Without a host it is in the caller's own ECR registry. Only AWS knows its account.
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
    /// The region of the caller's own registry, for a target without a host. `None` means that of the environment.
    pub region: Option<String>,
    /// The repository.
    pub repository: Repository,
    /// The tags: none or one as parsed, several after [`join`](Self::join).
    pub tags: Vec<Tag>,
}

impl Target {
    /// Joins targets with the same repository, so that layers are uploaded to it once. Preserves their order.
    ///
    /// ```
    /// use ecr_push::{Tag, Target};
    ///
    /// let targets = Target::join(vec!["team/app:1.4".parse()?, "team/app:stable".parse()?, "team/other".parse()?]);
    /// assert_eq!(targets.len(), 2);
    /// assert_eq!(targets[0].tags.iter().map(Tag::as_str).collect::<Vec<_>>(), ["1.4", "stable"]);
    /// # Ok::<(), ecr_push::Error>(())
    /// ```
    pub fn join(targets: Vec<Self>) -> Vec<Self> {
        let mut joined: Vec<Self> = Vec::new();
        for target in targets {
            let key = |target: &Self| (target.host.clone(), target.region.clone(), target.repository.clone());
            let is_same = |known: &&mut Self| key(known) == key(&target);
            match joined.iter_mut().find(is_same) {
                Some(known) => {
                    // A target without a tag means the default one, also together with others.
                    let or_latest = |tags: Vec<Tag>| if tags.is_empty() { vec![Tag::latest()] } else { tags };
                    known.tags = or_latest(std::mem::take(&mut known.tags));
                    known.tags.extend(or_latest(target.tags));
                }
                None => joined.push(target),
            }
        }
        joined
    }

    /// Parses a target and renames its repository if the name is invalid. Returns a note about the new name.
    ///
    /// ```
    /// use ecr_push::Target;
    ///
    /// let (target, note) = Target::with_docker_naming("Team/My App:1")?;
    /// assert_eq!(target.to_string(), "team/myapp:1");
    /// assert_eq!(note.as_deref(), Some("the repository \"Team/My App\" is called team/myapp"));
    /// # Ok::<(), ecr_push::Error>(())
    /// ```
    ///
    /// # Errors
    /// Fails if the target is invalid all the same.
    pub fn with_docker_naming(text: &str) -> Result<(Self, Option<String>)> {
        let (host, name, tags) = Self::split(text)?;
        let renamed = Repository::docker_normalized(name);
        if renamed.is_empty() {
            return Err(Error::invalid_target(format!(
                "{:?} has nothing that a repository name can have",
                shorten(name)
            ))
            .hint("Docker naming keeps letters, digits, '-', '.', '_' and '/' only: use these in the name."));
        }
        let change = (renamed != name).then(|| format!("the repository {:?} is called {renamed}", shorten(name)));
        Ok((Self::of_parts(host, &renamed, tags)?, change))
    }

    fn of_parts(host: Option<Host>, repository: &str, tags: Vec<Tag>) -> Result<Self> {
        // ECR Public user guide, "Service quotas", and RegistryAlias in its API reference.
        let is_valid = |(alias, name): (&str, &str)| (2..=50).contains(&alias.len()) && (2..=205).contains(&name.len());
        if host.as_ref().is_some_and(Host::is_ecr_public) && !repository.split_once('/').is_some_and(is_valid) {
            let advice = Advice::new(
                "Use public.ecr.aws/ALIAS/REPOSITORY, of 2 to 50 and 2 to 205 characters. List your aliases:",
            );
            return Err(Error::invalid_target(format!("the target {:?} cannot be in ECR Public", shorten(repository)))
                .hint(advice.command("aws ecr-public describe-registries --region us-east-1")));
        }
        Ok(Self { host, region: None, repository: repository.parse()?, tags })
    }

    /// Splits a target into host, repository and tags. The repository is not parsed.
    fn split(text: &str) -> Result<(Option<Host>, &str, Vec<Tag>)> {
        if matches!(strip_credentials(text), Cow::Owned(_)) {
            let advice = Advice::new("Leave the login out of the target, and name the user");
            return Err(Error::invalid_target(format!("the target {:?} contains a login", shorten(text)))
                .hint(advice.setting_with("username", "NAME").command("docker login HOST")));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return Err(Error::invalid_target(format!("the target {:?} starts with {scheme}://", shorten(text)))
                .hint(format!("Leave it out: {}", shorten(rest))));
        }
        if text.contains('@') {
            return Err(Error::invalid_target(format!("the target {:?} has a digest", shorten(text)))
                .hint("A target names a place, HOST/REPOSITORY:TAG; the digest follows from what is pushed there."));
        }
        let (host, rest) = match text.split_once('/') {
            Some((first, rest)) if is_host(first) => (Some(first), rest),
            None if is_only_a_host(text) => (Some(text), ""),
            _ => (None, text),
        };
        let (repository, tag) = rest.rsplit_once(':').map_or((rest, None), |(before, tag)| (before, Some(tag)));
        if let Some(host) = host.filter(|_| repository.is_empty()) {
            // After a host of Amazon's, a colon precedes a tag, not a port.
            let is_amazon = |name: &&str| name.parse().is_ok_and(|host: Host| host.is_amazon());
            let host = host.split(':').next().filter(is_amazon).unwrap_or(host);
            return Err(Error::invalid_target(format!("{:?} names no repository", shorten(text)))
                .hint(format!("Write {}/REPOSITORY:TAG.", shorten(host))));
        }
        if tag == Some("") {
            return Err(
                Error::invalid_target(format!("{:?} ends with a colon and no tag", shorten(text))).hint(EMPTY_TAG)
            );
        }
        let host = host.map(Host::from_str).transpose()?;
        if let Some(host) = host.as_ref().filter(|host| host.is_misspelt_ecr()) {
            return Err(Error::invalid_target(format!("{host} is under Amazon's name and none of ECR's registries")).hint(
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
            let advice = Advice::new(
                "The archive comes first, then the targets as [HOST/]REPOSITORY[:TAG]; is the shell variable before \
                 the / unset? List all options:",
            );
            return Err(Error::invalid_target(format!("the target {:?} is a path", shorten(text)))
                .hint(advice.command("ecr-push --help")));
        }
        let (host, repository, tags) = Self::split(text)?;
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

/// A place for the repositories of several images: `[HOST/][PATH]/`, as the user writes it, with a slash at its end.
///
/// ```
/// use ecr_push::{Target, TargetPrefix};
///
/// let prefix: TargetPrefix = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/mirror/".parse()?;
/// let target = prefix.target("rancher/pause", vec!["3.6".parse()?])?;
/// assert_eq!(target.to_string(), "123456789012.dkr.ecr.eu-west-1.amazonaws.com/mirror/rancher/pause:3.6");
/// assert!("mirror".parse::<TargetPrefix>().is_err(), "a prefix ends with a slash");
/// # Ok::<(), ecr_push::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TargetPrefix {
    /// The registry, if the prefix names one.
    pub host: Option<Host>,
    /// The region of the caller's own registry, for a prefix without a host.
    pub region: Option<String>,
    /// The text before each repository: empty, or with a slash at its end.
    path: String,
}

/// The name of a repository that completes a prefix to a target.
const ANY_NAME: &str = "image";

impl TargetPrefix {
    /// Returns the target for a repository.
    ///
    /// # Errors
    /// Fails if the registry accepts no repository of that name.
    pub fn target(&self, repository: &str, tags: Vec<Tag>) -> Result<Target> {
        let target = Target::of_parts(self.host.clone(), &format!("{}{repository}", self.path), tags)?;
        Ok(Target { region: self.region.clone(), ..target })
    }
}

impl TargetPrefix {
    /// Returns a target below the prefix `text`, which stands for all of them. [`of_example`](Self::of_example) makes it a prefix again.
    ///
    /// # Errors
    /// Fails if `text` is no prefix.
    pub(crate) fn example(text: &str) -> Result<Target> {
        Self::completed(text)?.parse()
    }

    /// Returns the same with a path that is converted by Docker's rules, and a note if that changed it.
    ///
    /// # Errors
    /// Fails if `text` is no prefix.
    pub(crate) fn example_with_docker_naming(text: &str) -> Result<(Target, Option<String>)> {
        let (target, note) = Target::with_docker_naming(&Self::completed(text)?)?;
        let name = target.repository.as_str();
        let path = name.strip_suffix(ANY_NAME).unwrap_or(name);
        let note = note.map(|_| format!("the prefix {:?} is called {path}", shorten(text)));
        Ok((target, note))
    }

    /// Returns a target in which only the name of the repository is not from `text`.
    fn completed(text: &str) -> Result<String> {
        let shown = shorten(text);
        let Some(stem) = text.strip_suffix('/') else {
            if text.is_empty() {
                return Err(Error::invalid_target("the target is empty".to_owned()).hint("Is a shell variable unset?"));
            }
            // Without a slash, it may be a host with a port.
            let path = shown.rsplit_once('/').map_or(&*shown, |(parent, name)| {
                let name = name.split([':', '@']).next().unwrap_or_default();
                shown[..parent.len() + 1 + name.len()].trim_end_matches('/')
            });
            return Err(Error::invalid_target(format!(
                "the target {shown:?} is one repository, and several images are pushed"
            ))
            .hint(format!("Write a prefix for their repositories, with a slash at its end: {path}/")));
        };
        if stem.is_empty() || stem.starts_with(['/', '.']) || stem.split('/').any(str::is_empty) {
            return Err(Error::invalid_target(format!("the target {shown:?} is not a prefix for repositories"))
                .hint("Write [HOST/][PATH]/, as in HOST/mirror/; is a shell variable unset?"));
        }
        Ok(format!("{text}{ANY_NAME}"))
    }
}

impl TargetPrefix {
    /// Returns the prefix of an [`example`](Self::example).
    pub(crate) fn of_example(Target { host, region, repository, .. }: Target) -> Self {
        let name = repository.as_str();
        Self { host, region, path: name.strip_suffix(ANY_NAME).unwrap_or(name).to_owned() }
    }
}

impl FromStr for TargetPrefix {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::example(text).map(Self::of_example)
    }
}

/// Another repository of the target's registry to mount layers from: `REPOSITORY[:TAG]`, as the user writes it.
///
/// ```
/// use ecr_push::{MountSource, Options};
///
/// let base: MountSource = "team/base:1".parse()?;
/// assert_eq!(base.tag, Some("1".parse()?));
/// assert!("ghcr.io/team/base".parse::<MountSource>().is_err(), "a registry mounts from its own repositories only");
///
/// let mut options = Options::default();
/// options.layers.mount_from.push(base);
/// # Ok::<(), ecr_push::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MountSource {
    /// The repository.
    pub repository: Repository,
    /// The tag of the image whose layers may be mounted. Without one, all blobs of the repository may be.
    pub tag: Option<Tag>,
}

impl FromStr for MountSource {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Target { host, repository, mut tags, .. } = text.parse()?;
        match host {
            None => Ok(Self { repository, tag: tags.pop() }),
            Some(host) => {
                Err(Error::invalid(format!("{:?} names the registry {host} to mount layers from", shorten(text)))
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

/// Returns whether the first component is a host. Docker's rule: it contains a `.` or `:`, or is `localhost`.
fn is_host(component: &str) -> bool {
    component.contains(['.', ':']) || component == "localhost"
}

/// Returns whether a target with one component is a host whose repository is missing. `team.app:1` is a repository.
fn is_only_a_host(text: &str) -> bool {
    let name = text.split(':').next().unwrap_or(text);
    name == "localhost" || name.parse().is_ok_and(|host: Host| host.is_amazon())
}
