//! How much of an image for several platforms is pushed.
//!
//! An index goes up whole or not at all, unless somebody says otherwise: its digest stands for all that it lists. What an
//! archive really has of it is another matter, since Docker's containerd store saves the index as it was pulled and with
//! it only the platforms that were pulled. So this is the rule:
//!
//! | the index lists | of that the archive has | pushed |
//! |---|---|---|
//! | anything | everything | the index, byte for byte |
//! | one platform and attestations | the platform | its manifest, byte for byte, with a note: `docker pull` leaves attestations behind |
//! | several platforms and attestations | all platforms | nothing: refused, [`Attestations::Dropped`] is the cure |
//! | several platforms | not all | nothing: refused, [`Platforms::One`] and [`Platforms::Present`] are the cures |
//!
//! A part that is an index is a new index: its entries, in their order, without those that are not wanted; everything else
//! in it is kept. Its digest is a new one, and that is said.

use super::image_selector::listed;
use super::model::{Absent, Child, Content, Image, Index, Role};
use super::{compose, quoted, shown};
use crate::error::{Code, Error, Result};
use crate::oci::{Digest, MediaType, Platform};

/// As many platforms as no image has; more are not named one by one.
const MOST_NAMED: usize = 20;

/// How much of an image is pushed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Selection {
    /// Which platforms.
    pub platforms: Platforms,
    /// Whether with what BuildKit states about them.
    pub attestations: Attestations,
}

/// Which platforms of an image are pushed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Platforms {
    /// All that the image has, or nothing.
    #[default]
    All,
    /// This one: its manifest, and not the index.
    One(Platform),
    /// Those that are in the archive, as a new index where some are not; an index also if it is one only, since its
    /// attestations need it.
    Present,
}

/// Whether the attestations in an index are pushed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Attestations {
    /// With the image.
    #[default]
    Kept,
    /// Not, and an index that then lists a single image is not either: AWS Lambda takes no index
    /// (<https://github.com/docker/build-push-action/issues/755>).
    Dropped,
}

/// How much of an index the archive has.
#[derive(Debug)]
pub enum Completeness<'a> {
    /// All of it.
    Complete,
    /// Its one image, and not all attestations.
    OnlyImage(&'a Content),
    /// Not this.
    Missing(Vec<&'a Absent>),
}

impl Selection {
    /// This part of the image.
    ///
    /// # Errors
    /// Of [`Kind::Usage`](crate::error::Kind::Usage) if it has not that platform, and of
    /// [`Kind::Input`](crate::error::Kind::Input) if the archive lacks what belongs to it.
    pub(super) fn of(&self, image: Image) -> Result<Image> {
        let name = name(&image);
        match (&self.platforms, &image.content) {
            (Platforms::One(platform), content) => {
                let manifest = one(content, platform, &name)?.clone();
                Ok(part(image, manifest, Vec::new()))
            }
            (_, Content::Manifest(_)) => Ok(image),
            (Platforms::All, Content::Index(index)) => match self.completeness(index) {
                Completeness::Complete => self.reduced(image.clone(), index, &name),
                Completeness::OnlyImage(manifest) => {
                    let note = format!("the archive lacks attestations of {name}, so its image is pushed alone");
                    let manifest = manifest.clone();
                    Ok(part(image, manifest, vec![note]))
                }
                Completeness::Missing(missing) => Err(incomplete(&image, index, &missing)),
            },
            (Platforms::Present, Content::Index(index)) => self.reduced(image.clone(), &complete(index, &name), &name),
        }
    }

    /// How much of an index the archive has, where all platforms are wanted.
    pub fn completeness<'a>(&self, index: &'a Index) -> Completeness<'a> {
        let missing: Vec<_> = index.absent().into_iter().filter(|absent| !self.drops(&absent.role)).collect();
        let are_attestations = || missing.iter().all(|absent| matches!(absent.role, Role::Attestation(_)));
        match only_image(index) {
            _ if missing.is_empty() => Completeness::Complete,
            Some(image) if are_attestations() => Completeness::OnlyImage(image),
            _ => Completeness::Missing(missing),
        }
    }

    /// Whether the image may have this part.
    pub(super) fn is_in(&self, content: &Content) -> bool {
        match &self.platforms {
            Platforms::One(platform) => content.platforms().iter().any(|its| its.matches(platform)),
            Platforms::All | Platforms::Present => true,
        }
    }

    fn drops(&self, role: &Role) -> bool {
        self.attestations == Attestations::Dropped && matches!(role, Role::Attestation(_))
    }

    /// The image with what is there and wanted of its index.
    fn reduced(&self, image: Image, index: &Index, name: &str) -> Result<Image> {
        if let (Attestations::Dropped, Some(manifest)) = (self.attestations, only_image(index)) {
            return Ok(part(image, manifest.clone(), Vec::new()));
        }
        let present: Vec<_> = index.images().iter().filter_map(|(_, manifest)| digest(manifest)).collect();
        // Where all is there, the attestation of something else is its author's affair.
        let is_all_there = index.absent().is_empty();
        let is_there = |about: Digest| is_all_there || present.contains(&about);
        let keeps = |role: &Role| match role {
            Role::Image(_) => true,
            Role::Attestation(about) => !self.drops(role) && about.is_none_or(is_there),
        };
        let reduced = reduce(index, &keeps)?;
        if digest(&reduced) == Some(index.original.digest) {
            return Ok(image);
        }
        let platforms: Vec<_> = reduced.platforms().iter().map(ToString::to_string).collect();
        let only =
            if self.attestations == Attestations::Dropped { "without attestations" } else { "with what is there" };
        let note = format!("a new index of {name} is pushed, {only}: {}", platforms.join(", "));
        Ok(part(image, reduced, vec![note]))
    }
}

/// The image with only `content` of it.
fn part(image: Image, content: Content, mut notes: Vec<String>) -> Image {
    let (Some(before), Some(after)) = (digest(&image.content), digest(&content)) else { return image };
    if before == after {
        return image;
    }
    notes.push(format!("the digest of the archive's index, {before}, becomes {after}"));
    Image { content, part_of: Some(before), notes: [image.notes, notes].concat(), ..image }
}

/// Whether an index has all that it lists, at any depth, and all of it `keeps`.
fn is_whole(index: &Index, keeps: &dyn Fn(&Role) -> bool) -> bool {
    let is_whole = |child: &Child| match &child.content {
        Content::Index(index) => is_whole(index, keeps),
        Content::Manifest(_) => true,
    };
    index.absent.is_empty() && index.children.iter().all(|child| keeps(&child.role) && is_whole(child))
}

/// The index in which manifests whose layers are not all in the archive are absent.
fn complete(index: &Index, name: &str) -> Index {
    let mut complete = Index { children: Vec::new(), ..index.clone() };
    for Child { role, content } in index.children.clone() {
        match content {
            Content::Manifest(manifest) if manifest.lacks_layers() => {
                let error = Error::input(format!("the archive does not contain all layers of {name}"));
                let error = error.code(Code::ArchiveIncomplete);
                complete.absent.extend(manifest.original.map(|it| Absent { role, digest: it.digest, error }));
            }
            Content::Index(index) => {
                let content = Content::Index(Box::new(self::complete(&index, name)));
                complete.children.push(Child { role, content });
            }
            content @ Content::Manifest(_) => complete.children.push(Child { role, content }),
        }
    }
    complete
}

/// The index with only those of its entries that are there and that `keeps`.
fn reduce(index: &Index, keeps: &dyn Fn(&Role) -> bool) -> Result<Content> {
    // Not read again: its list may be `null`, or an index in it empty, and it stays what its author wrote.
    if is_whole(index, keeps) {
        return Ok(Content::Index(Box::new(index.clone())));
    }
    let mut children = Vec::new();
    let mut became = compose::Replacements::new();
    for Child { role, content } in index.children.iter().filter(|child| keeps(&child.role)) {
        let reduced = match content {
            Content::Index(index) => reduce(index, keeps)?,
            Content::Manifest(_) => content.clone(),
        };
        if matches!(&reduced, Content::Index(index) if index.children.is_empty()) {
            continue;
        }
        became.extend(digest(content).zip(reduced.original().cloned()));
        children.push(Child { role: role.clone(), content: reduced });
    }
    let stated = compose::listing(&index.original, &became.keys().copied().collect(), &became)?;
    Ok(Content::Index(Box::new(Index { original: stated, repaired: None, children, absent: Vec::new() })))
}

/// The image of an index that has no other. One that is listed twice, for the same platform, is no other.
fn only_image(index: &Index) -> Option<&Content> {
    let images = index.images();
    let (platform, first) = images.first()?;
    let is_first = |(its, image): &(Option<&Platform>, &Content)| its == platform && digest(image) == digest(first);
    images.iter().all(is_first).then_some(*first)
}

/// The one manifest for a platform.
fn one<'a>(content: &'a Content, platform: &Platform, name: &str) -> Result<&'a Content> {
    let images = match content {
        Content::Manifest(manifest) if manifest.config.platform.as_ref().is_some_and(|its| its.matches(platform)) => {
            return Ok(content);
        }
        Content::Manifest(_) => Vec::new(),
        Content::Index(index) => index.images(),
    };
    let mut fits: Vec<&Content> = Vec::new();
    for (_, manifest) in images.into_iter().filter(|(its, _)| its.is_some_and(|its| its.matches(platform))) {
        if !fits.iter().any(|known| digest(known) == digest(manifest)) {
            fits.push(manifest);
        }
    }
    // Artifacts may stand beside an image under its platform, such as the indexes by which Amazon's SOCI loads layers lazily
    // (<https://github.com/awslabs/soci-snapshotter/blob/main/docs/soci-index-manifest-v2.md>).
    if fits.iter().any(|manifest| is_image(manifest)) {
        fits.retain(|manifest| is_image(manifest));
    }
    match fits.as_slice() {
        [manifest] => Ok(manifest),
        [] => Err(no_such_platform(content, platform, name)),
        several => {
            let ids = several.iter().filter_map(|manifest| digest(manifest));
            let ids = listed(ids, |digest| format!("\n  --image-id {}", digest.hex()));
            Err(Error::usage(format!("several images of {name} are for {platform}"))
                .code(Code::ImageAmbiguous)
                .hint(format!("Choose one, without --platform:{ids}")))
        }
    }
}

/// Whether it is an image and not another artifact: its config is one of an image.
pub(super) fn is_image(content: &Content) -> bool {
    match content {
        Content::Manifest(manifest) => {
            manifest.config.media_type.as_deref().is_none_or(|it| MediaType(it).is_image_config())
        }
        Content::Index(_) => true,
    }
}

fn no_such_platform(content: &Content, platform: &Platform, name: &str) -> Error {
    let absent = match content {
        Content::Index(index) => index.absent(),
        Content::Manifest(_) => Vec::new(),
    };
    let listed =
        absent.into_iter().find(|absent| matches!(&absent.role, Role::Image(Some(its)) if its.matches(platform)));
    let error = match listed {
        Some(absent) => Error::usage(format!("{name} lists {platform}, which is not in the archive"))
            .code(Code::PlatformNotFound)
            .because(absent.error.clone()),
        None => Error::usage(format!("{name} is not for {platform}")).code(Code::PlatformNotFound),
    };
    error.hint(choices(&content.platforms()))
}

/// A line for each platform: the option that chooses it.
pub(super) fn choices(platforms: &[Platform]) -> String {
    let mut lines: Vec<String> = platforms.iter().map(|platform| format!("\n  --platform {platform}")).collect();
    lines.sort();
    lines.dedup();
    let options = listed(lines.into_iter(), |line| line);
    if options.is_empty() {
        "It says no platform: leave --platform out.".into()
    } else {
        format!("Choose one:{options}")
    }
}

/// What is said about an index that lists what the archive has not.
fn incomplete(image: &Image, index: &Index, missing: &[&Absent]) -> Error {
    let name = name(image);
    let of_image = |absent: &&&Absent| matches!(absent.role, Role::Image(_));
    let Some(first) = missing.iter().find(of_image) else {
        let what = format!("the archive lacks attestations that the index of {name} lists");
        let first = missing.iter().map(|absent| absent.error.clone()).next();
        let error = Error::input(what)
            .code(Code::ArchiveIncomplete)
            .hint("Push a new index without them with --no-attestations, or one image with --platform OS/ARCH.");
        return match first {
            Some(cause) => error.because(cause),
            None => error,
        };
    };
    let mut names: Vec<String> = Vec::new();
    for absent in missing.iter().filter(of_image) {
        let name = match &absent.role {
            Role::Image(Some(platform)) => platform.to_string(),
            Role::Image(None) | Role::Attestation(_) => absent.digest.short(),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.len() > MOST_NAMED {
        let more = names.split_off(MOST_NAMED).len();
        names.push(format!("{more} more"));
    }
    let image = image.names.first().map_or_else(|| "IMAGE".into(), |name| quoted(name));
    let absent = match &first.role {
        Role::Image(Some(platform)) => platform.to_string(),
        _ => "OS/ARCH".into(),
    };
    let present = Content::Index(Box::new(index.clone())).platforms();
    let present = present.first().map_or_else(|| "OS/ARCH".into(), ToString::to_string);
    Error::input(format!("the index of {name} lists {}, which the archive lacks", names.join(", "))).code(Code::ArchiveIncomplete)
        .because(first.error.clone())
        .hint(format!(
            "Push one image that is there with --platform {present}, or all that are there, as a new index, with \
             --present-platforms. For the rest, pull it first and save again:\n  docker pull --platform {absent} {image}"
        ))
}

fn digest(content: &Content) -> Option<Digest> {
    content.original().map(|stated| stated.digest)
}

/// What an image is called in a sentence.
fn name(image: &Image) -> String {
    image.names.first().map_or_else(|| image.content.id().short(), |name| shown(name))
}
