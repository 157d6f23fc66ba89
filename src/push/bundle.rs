//! The images of an archive that are pushed together, and where: their names decide. Pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::options::{ImageOptions, PushRequest};
use super::shard::Shard;
use crate::archive::{Archive, Image, ImageSelector, NameParts, OpenedArchive, Source, shown};
use crate::error::{Advice, Code, Error, Result, Setting};
use crate::oci::{Digest, Repository, Tag, Target, TargetPrefix, glob};

/// The most names in an error.
const MAX_LISTED: usize = 20;

/// Which images of an archive are pushed, and where.
///
/// ```no_run
/// # use ecr_push::{BundleOptions, CancellationToken, Pusher, Source};
/// # async fn push(pusher: &Pusher, stop: CancellationToken) -> ecr_push::Result<()> {
/// let mut options = BundleOptions::default();
/// options.prefixes.push("123456789012.dkr.ecr.eu-west-1.amazonaws.com/mirror/".parse()?);
/// let archive = pusher.open(&Source::Path("images.tar.zst".into()), &stop).await?;
/// for request in options.pushes(&archive)?.requests {
///     let outcome = pusher.push(request, stop.clone()).await;
///     println!("{:?}", outcome.digests());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct BundleOptions {
    /// The prefixes of the targets. Every image is pushed to each.
    pub prefixes: Vec<TargetPrefix>,
    /// The only names that are pushed. Without it, all are.
    pub references: Option<Vec<ListedReference>>,
    /// Patterns of names that are not pushed, with `*` for any number of characters.
    pub exclude: Vec<String>,
    /// Whether the registry of a name becomes the first part of its repository: `quay.io/org/app`.
    pub keep_registry: bool,
    /// Whether repository names that no registry accepts are converted by Docker's rules.
    pub docker_naming: bool,
    /// How much of each image is pushed. Its selector is not used.
    pub image: ImageOptions,
    /// Additional tags for every image.
    pub tags: Vec<Tag>,
    /// The part of the run that is done. Targets in other parts are left out.
    pub shard: Option<Shard>,
}

/// The name of an image in a list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListedReference {
    /// The number of its line, from 1.
    pub line: usize,
    /// The name: `docker.io/rancher/pause:3.6`, or with a digest, which the image must have.
    pub name: String,
}

/// The pushes of several images of an archive.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Bundle {
    /// The pushes, one an image, in the archive's order.
    pub requests: Vec<PushRequest>,
    /// The images that cannot be pushed, each by its name.
    pub unusable: Vec<(String, Error)>,
    /// Notes about images that are not pushed.
    pub notes: Vec<String>,
}

impl ListedReference {
    /// Parses a list of names: one a line; empty lines and everything after a `#` at the start or after a blank are ignored.
    pub fn list(text: &str) -> Vec<Self> {
        let name = |line: &str| {
            let line = line.split_once(" #").map_or(line, |(name, _)| name).trim();
            (!line.is_empty() && !line.starts_with('#')).then(|| line.to_owned())
        };
        let lines = text.trim_start_matches('\u{feff}').lines().enumerate();
        lines.filter_map(|(at, line)| Some(Self { line: at + 1, name: name(line)? })).collect()
    }
}

/// What the archive has under a name.
#[derive(Clone, Copy)]
enum Found {
    Image(usize),
    Unusable(usize),
}

impl BundleOptions {
    /// Returns the pushes of the images.
    ///
    /// # Errors
    /// Fails if a listed image is missing or has another digest, if two images would get the same tag of a repository, or if a
    /// registry accepts no repository of a name.
    pub fn pushes(&self, archive: &OpenedArchive) -> Result<Bundle> {
        let contents = &*archive.0;
        let mut bundle = Bundle::default();
        let mut names = self.names(contents)?;
        let mut owners: HashMap<(usize, Repository, Tag), (Digest, String)> = HashMap::new();
        let mut collisions = Vec::new();
        for (at, image) in contents.images.iter().enumerate() {
            let names = names.images.remove(&at).unwrap_or_default();
            if names.is_empty() {
                if image.names.is_empty() && self.references.is_none() {
                    let id = image.content.identity();
                    let option = Setting::with("image-id", id.hex());
                    bundle.notes.push(format!("an image without a name is not pushed; {option} pushes it to a target"));
                }
                continue;
            }
            let identity = image.content.identity();
            let mut targets = Vec::new();
            for name in &names {
                for (place, prefix) in self.prefixes.iter().enumerate() {
                    let target = self.target(prefix, name)?;
                    let tags = target.tags.iter().chain(&self.tags);
                    for tag in tags {
                        match owners.entry((place, target.repository.clone(), tag.clone())) {
                            Entry::Vacant(entry) => drop(entry.insert((identity, name.clone()))),
                            Entry::Occupied(entry) if entry.get().0 == identity => {}
                            Entry::Occupied(entry) => {
                                let other = &entry.get().1;
                                collisions.push(format!("{} and {} to {target}", shown(other), shown(name)));
                            }
                        }
                    }
                    targets.push(target);
                }
            }
            targets.retain(|target| self.shard.is_none_or(|shard| shard.takes(&target.repository)));
            if targets.is_empty() {
                continue;
            }
            let selector = ImageSelector::Id(identity.to_string());
            bundle.requests.push(PushRequest {
                source: Source::Opened(archive.clone()),
                join: Vec::new(),
                image: ImageOptions { selector, ..self.image.clone() },
                targets: Target::join(targets),
                tags: self.tags.clone(),
            });
        }
        if !collisions.is_empty() {
            let error = Error::usage("several images would get the same tag of a repository");
            let error = error.code(Code::OptionConflict).because(listed(collisions, "; "));
            let advice = Advice::new("Keep their registries in the names, or leave one of them out");
            return Err(error.hint(advice.setting("keep-registry").setting_with("exclude", "NAME")));
        }
        let unusable =
            contents.unusable.iter().enumerate().filter_map(|(at, it)| Some((names.unusable.remove(&at)?, it)));
        bundle.unusable = unusable.map(|(name, it)| (name, it.error.clone())).collect();
        if bundle.requests.is_empty() && bundle.unusable.is_empty() && self.shard.is_none() {
            return Err(Error::usage(format!("no image of {} is to be pushed", contents.source))
                .code(Code::ImageNotFound)
                .hint("Images without a name are not pushed, and neither are excluded ones."));
        }
        Ok(bundle)
    }

    fn target(&self, prefix: &TargetPrefix, name: &str) -> Result<Target> {
        let parts = NameParts::of(name);
        let mut repository = parts.familiar_path().to_owned();
        if self.keep_registry {
            repository = format!("{}/{}", parts.host, parts.path);
        }
        if self.docker_naming {
            repository = Repository::docker_normalized(&repository);
        }
        let tags = parts.tag.map(|tag| tag.parse()).transpose()?;
        prefix.target(&repository, tags.into_iter().collect())
    }

    fn is_excluded(&self, name: &str) -> bool {
        let full = NameParts::of(name);
        let forms = [name.to_owned(), full.canonical(), full.familiar_path().to_owned()];
        self.exclude.iter().any(|pattern| forms.iter().any(|form| glob(pattern, form)))
    }

    /// Returns the names that are pushed, by the position of their image.
    fn names(&self, archive: &Archive) -> Result<Names> {
        let mut names = Names::default();
        let Some(references) = &self.references else {
            for (at, image) in archive.images.iter().enumerate() {
                let tagged = image.names.iter().filter(|name| NameParts::of(name).tag.is_some());
                let own: Vec<_> = tagged.filter(|name| !self.is_excluded(name)).cloned().collect();
                names.images.insert(at, own);
            }
            for (at, unusable) in archive.unusable.iter().enumerate() {
                let name = unusable.names.first().cloned().unwrap_or_else(|| "an image without a name".into());
                if !self.is_excluded(&name) {
                    names.unusable.insert(at, name);
                }
            }
            return Ok(names);
        };
        let known = by_name(archive);
        let mut missing = Vec::new();
        for ListedReference { line, name } in references.iter().filter(|reference| !self.is_excluded(&reference.name)) {
            let parts = NameParts::of(name);
            let digest = parts.digest.as_ref().map(|digest| digest.parse::<Digest>()).transpose()?;
            let found = known.get(&parts.canonical()).copied().or_else(|| {
                // A name with a digest alone.
                let position = archive.images.iter().position(|image| Some(image.content.identity()) == digest);
                position.filter(|_| parts.tag.is_none()).map(Found::Image)
            });
            match found {
                None => missing.push(format!("{} (line {line})", shown(name))),
                Some(Found::Unusable(at)) => drop(names.unusable.insert(at, name.clone())),
                Some(Found::Image(at)) => {
                    check_digest(&archive.images[at], name, *line, digest)?;
                    let own = names.images.entry(at).or_default();
                    if parts.tag.is_some() {
                        own.push(name.clone());
                    } else {
                        own.extend(archive.images[at].names.iter().cloned());
                    }
                }
            }
        }
        if missing.is_empty() {
            return Ok(names);
        }
        let count = missing.len();
        let error = Error::input(format!("{} does not contain {count} of the listed images", archive.source));
        Err(error
            .code(Code::ImageNotFound)
            .because(listed(missing, ", "))
            .hint(Advice::new("Save the archive with all of them, or leave them out").setting_with("exclude", "NAME")))
    }
}

/// The names that are pushed.
#[derive(Default)]
struct Names {
    images: HashMap<usize, Vec<String>>,
    unusable: HashMap<usize, String>,
}

/// Returns what an archive has, by the names as Docker normalizes them.
fn by_name(archive: &Archive) -> HashMap<String, Found> {
    let mut known = HashMap::new();
    for (at, unusable) in archive.unusable.iter().enumerate() {
        known.extend(unusable.names.iter().map(|name| (NameParts::of(name).canonical(), Found::Unusable(at))));
    }
    for (at, image) in archive.images.iter().enumerate() {
        known.extend(image.names.iter().map(|name| (NameParts::of(name).canonical(), Found::Image(at))));
    }
    known
}

/// Checks that an image has the digest of the list.
fn check_digest(image: &Image, name: &str, line: usize, digest: Option<Digest>) -> Result<()> {
    let Some(listed) = digest else { return Ok(()) };
    let mut own = image.content.all().into_iter().filter_map(|content| content.digest());
    if own.any(|digest| digest == listed) {
        return Ok(());
    }
    let error = Error::input(format!("the image {} of line {line} is not {listed}", shown(name)));
    let error = error.code(Code::DigestMismatch);
    Err(match image.content.digest() {
        Some(own) => error.because(format!("the archive has {own}")),
        None => error
            .because("the archive states no digest of it")
            .hint("Remove the digest from the list, or save the archive as an OCI layout."),
    })
}

/// Joins items, of which only the first ones are named.
fn listed(mut items: Vec<String>, separator: &str) -> String {
    let more = items.len().saturating_sub(MAX_LISTED);
    items.truncate(MAX_LISTED);
    if more > 0 {
        items.push(format!("{more} more"));
    }
    items.join(separator)
}
