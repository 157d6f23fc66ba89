//! The images of an archive that are pushed together, and where: their names decide. Pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::options::{ImageOptions, PushRequest};
use super::shard::Shard;
use crate::archive::{Archive, Image, ImageSelector, NameParts, OpenedArchive, Source, shown};
use crate::error::{Advice, Code, Error, Result, Setting};
use crate::oci::{Digest, Host, Repository, Tag, Target, TargetPrefix, glob};

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
    /// The pushes of images that the archive lists and that cannot be pushed.
    pub unusable: Vec<(PushRequest, Error)>,
    /// Notes about images that are not pushed, and about converted names.
    pub notes: Vec<String>,
}

impl ListedReference {
    /// Parses a list of names: one a line; empty lines and everything after a `#` at the start or after a blank are ignored.
    pub fn list(text: &str) -> Vec<Self> {
        let name = |line: &str| {
            line.split_whitespace().take_while(|word| !word.starts_with('#')).collect::<Vec<_>>().join(" ")
        };
        let lines = text.trim_start_matches('\u{feff}').lines().enumerate();
        let all = lines.map(|(at, line)| Self { line: at + 1, name: name(line) });
        all.filter(|reference| !reference.name.is_empty()).collect()
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
        let mut names = self.names(contents)?;
        let mut bundle = Bundle { notes: self.unmatched(contents), ..Bundle::default() };
        let (mut owners, mut collisions) = (Owners::new(), Vec::new());
        for (at, image) in contents.images.iter().enumerate() {
            let own = names.images.remove(&at).unwrap_or_default();
            let identity = image.content.identity();
            let is_tagged = |name: &String| NameParts::of(name).tag.is_some();
            if own.is_empty() {
                if self.references.is_none() && !image.names.iter().any(is_tagged) {
                    let option = Setting::with("image-id", identity.hex());
                    bundle.notes.push(format!(
                        "an image without a name that has a tag is not pushed; {option} pushes it to a target"
                    ));
                }
                continue;
            }
            let targets = self.targets(&own, identity, &mut owners, &mut collisions, &mut bundle.notes)?;
            let selector = ImageSelector::Id(identity.to_string());
            bundle.requests.extend(self.request(archive, selector, targets));
        }
        for (at, unusable) in contents.unusable.iter().enumerate() {
            let Some(own) = names.unusable.remove(&at) else { continue };
            let identity = unusable.id.unwrap_or_else(|| Digest::of(own.concat().as_bytes()));
            let targets = self.targets(&own, identity, &mut owners, &mut collisions, &mut bundle.notes)?;
            let request = self.request(archive, ImageSelector::Name(own[0].clone()), targets);
            bundle.unusable.extend(request.map(|request| (request, unusable.error.clone())));
        }
        if !collisions.is_empty() {
            let error = Error::conflict("several images would get the same tag of a repository");
            let error = error.because(listed(collisions, "; "));
            let advice = if !self.tags.is_empty() {
                // Every image gets an additional tag, also two of one repository.
                Advice::new("Push without additional tags, or leave one of them out")
            } else if self.keep_registry || self.docker_naming {
                Advice::new("Leave one of them out")
            } else {
                Advice::new("Keep their registries in the names, or leave one of them out").setting("keep-registry")
            };
            return Err(error.hint(advice.setting_with("exclude", "NAME")));
        }
        if bundle.requests.is_empty() && bundle.unusable.is_empty() && self.shard.is_none() {
            return Err(Error::usage(format!("no image of {} is to be pushed", contents.source))
                .code(Code::ImageNotFound)
                .hint("Images without a name are not pushed, and neither are excluded ones."));
        }
        Ok(bundle)
    }

    /// Returns the targets of an image with these names, and notes which image owns each tag.
    fn targets(
        &self,
        names: &[String],
        identity: Digest,
        owners: &mut Owners,
        collisions: &mut Vec<String>,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Target>> {
        let mut targets = Vec::new();
        for name in names {
            for prefix in &self.prefixes {
                let named = |error: Error| error.about(&format!("cannot push the image {}", shown(name)));
                let (target, note) = self.target(prefix, name).map_err(named)?;
                notes.extend(note.filter(|note| !notes.contains(note)));
                for tag in target.tags.iter().chain(&self.tags) {
                    let key = (target.host.clone(), target.region.clone(), target.repository.clone(), tag.clone());
                    match owners.entry(key) {
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
        Ok(Target::join(targets))
    }

    /// Returns the push of an image to those targets that are in the shard, if any are.
    fn request(
        &self,
        archive: &OpenedArchive,
        selector: ImageSelector,
        mut targets: Vec<Target>,
    ) -> Option<PushRequest> {
        targets.retain(|target| self.shard.is_none_or(|shard| shard.takes(&target.repository)));
        (!targets.is_empty()).then(|| PushRequest {
            source: Source::Opened(archive.clone()),
            join: Vec::new(),
            image: ImageOptions { selector, ..self.image.clone() },
            targets,
            tags: self.tags.clone(),
        })
    }

    /// Returns the target of a name, and a note if its repository is converted.
    fn target(&self, prefix: &TargetPrefix, name: &str) -> Result<(Target, Option<String>)> {
        let parts = NameParts::of(name);
        let stated = match self.keep_registry {
            true => format!("{}/{}", parts.host, parts.path),
            false => parts.familiar_path().to_owned(),
        };
        let repository = if self.docker_naming { Repository::docker_normalized(&stated) } else { stated.clone() };
        let note =
            (repository != stated).then(|| format!("the repository {:?} is called {repository}", shown(&stated)));
        let tags = parts.tag.map(|tag| tag.parse()).transpose()?;
        Ok((prefix.target(&repository, tags.into_iter().collect())?, note))
    }

    fn is_excluded(&self, name: &str) -> bool {
        let forms = forms(name);
        self.exclude.iter().any(|pattern| forms.iter().any(|form| glob(pattern, form)))
    }

    /// Returns a note for each pattern that excludes nothing.
    fn unmatched(&self, archive: &Archive) -> Vec<String> {
        let in_archive = archive.images.iter().flat_map(|image| &image.names);
        let in_archive = in_archive.chain(archive.unusable.iter().flat_map(|image| &image.names));
        let listed = self.references.iter().flatten().map(|reference| &reference.name);
        let mut patterns: Vec<&String> = self.exclude.iter().collect();
        for name in in_archive.chain(listed) {
            if patterns.is_empty() {
                break;
            }
            let forms = forms(name);
            patterns.retain(|pattern| !forms.iter().any(|form| glob(pattern, form)));
        }
        patterns.into_iter().map(|pattern| format!("{} matches no image", Setting::with("exclude", pattern))).collect()
    }

    /// Returns the names that are pushed, by the position of their image.
    fn names(&self, archive: &Archive) -> Result<Names> {
        let mut names = Names::default();
        let is_wanted = |name: &&String| NameParts::of(name).tag.is_some() && !self.is_excluded(name);
        let Some(references) = &self.references else {
            for (at, image) in archive.images.iter().enumerate() {
                names.images.insert(at, image.names.iter().filter(is_wanted).cloned().collect());
            }
            for (at, unusable) in archive.unusable.iter().enumerate() {
                let own: Vec<_> = unusable.names.iter().filter(is_wanted).cloned().collect();
                if !own.is_empty() {
                    names.unusable.insert(at, own);
                }
            }
            return Ok(names);
        };
        let known = by_name(archive);
        let mut missing = Vec::new();
        for ListedReference { line, name } in references.iter().filter(|reference| !self.is_excluded(&reference.name)) {
            let parts = NameParts::of(name);
            let digest = parts.digest.as_ref().map(|digest| digest.parse::<Digest>()).transpose();
            let digest = digest.map_err(|error| {
                Error::invalid(format!("line {line} of the list: {error}"))
                    .hint("Use sha256: followed by 64 lower-case hex digits.")
            })?;
            let named = known.get(&parts.canonical()).map(Vec::as_slice).unwrap_or_default();
            let has_digest = |image: &Image| {
                digest.is_some_and(|digest| image.content.all().into_iter().any(|it| it.digest() == Some(digest)))
            };
            let by_digest = || {
                let is_it = |found: &&Found| matches!(found, Found::Image(at) if has_digest(&archive.images[*at]));
                let position = || archive.images.iter().position(has_digest).map(Found::Image);
                named.iter().find(is_it).copied().or_else(|| position().filter(|_| parts.tag.is_none()))
            };
            match by_digest().or_else(|| named.last().copied()) {
                None => missing.push(format!("{} (line {line})", shown(name))),
                Some(Found::Unusable(at)) => names.unusable.entry(at).or_default().push(name.clone()),
                Some(Found::Image(at)) => {
                    let image = &archive.images[at];
                    check_digest(image, name, *line, digest)?;
                    let own = names.images.entry(at).or_default();
                    if parts.tag.is_some() {
                        own.push(name.clone());
                        continue;
                    }
                    let is_of_repository = |known: &&String| {
                        let known = NameParts::of(known);
                        known.tag.is_some() && (&known.host, &known.path) == (&parts.host, &parts.path)
                    };
                    let tagged: Vec<_> = image.names.iter().filter(is_of_repository).cloned().collect();
                    if tagged.is_empty() {
                        let what = format!("the image {} of line {line} has no tag", shown(name));
                        let hint = "Add its tag to the list: NAME:TAG@sha256:...";
                        return Err(Error::invalid(what).hint(hint));
                    }
                    own.extend(tagged);
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

/// Returns the forms of a name that a pattern may match: as it is written, in full, and without the registry.
fn forms(name: &str) -> [String; 4] {
    let full = NameParts::of(name);
    let (path, tag) = (full.familiar_path().to_owned(), full.tag.as_deref().unwrap_or_default());
    [name.to_owned(), full.canonical(), format!("{path}:{tag}"), path]
}

/// The image of each tag, and the name that it has from.
type Owners = HashMap<(Option<Host>, Option<String>, Repository, Tag), (Digest, String)>;

/// The names that are pushed.
#[derive(Default)]
struct Names {
    images: HashMap<usize, Vec<String>>,
    unusable: HashMap<usize, Vec<String>>,
}

/// Returns what an archive has, by the names as Docker normalizes them, without digests.
fn by_name(archive: &Archive) -> HashMap<String, Vec<Found>> {
    let mut known: HashMap<String, Vec<Found>> = HashMap::new();
    let unusable = archive.unusable.iter().enumerate().map(|(at, it)| (&it.names, Found::Unusable(at)));
    let images = archive.images.iter().enumerate().map(|(at, it)| (&it.names, Found::Image(at)));
    for (names, found) in unusable.chain(images) {
        names.iter().for_each(|name| known.entry(NameParts::of(name).canonical()).or_default().push(found));
    }
    known
}

/// Checks that an image has the digest of the list.
fn check_digest(image: &Image, name: &str, line: usize, digest: Option<Digest>) -> Result<()> {
    let Some(listed) = digest else { return Ok(()) };
    if image.content.all().into_iter().any(|content| content.digest() == Some(listed)) {
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
