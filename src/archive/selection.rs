//! Selection of the platforms and attestations of an image.
//!
//! By default, an index is pushed completely or not at all: its digest covers all its entries. An archive may contain fewer,
//! since Docker's containerd store saves the original index, but only the platforms that were pulled. So the rule is:
//!
//! | the index lists | the archive contains | pushed |
//! |---|---|---|
//! | anything | everything | the index, byte for byte |
//! | one platform and attestations | the platform | its manifest, byte for byte, with a note: `docker pull` does not pull attestations |
//! | several platforms and attestations | all platforms | nothing: an error, which [`Attestations::Dropped`] avoids |
//! | several platforms | not all | nothing: an error, which [`Platforms::One`] and [`Platforms::Present`] avoid |
//!
//! A selected part that is an index is a new index: with the selected entries, in their order, and everything else unchanged.
//! A note reports its new digest.

use std::collections::BTreeSet;

use super::compose;
use super::model::{Absent, Child, Content, Image, Index, IndexOrigin, Role};
use super::shell::quoted;
use crate::error::{Advice, Code, Error, Result, shown};
use crate::oci::{Digest, Platform};

/// The limit for platforms listed in an error; the others are counted.
const MAX_LISTED: usize = 20;

/// The parts of an image to push.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Selection {
    /// The platforms.
    pub platforms: Platforms,
    /// Whether BuildKit's attestations are pushed.
    pub attestations: Attestations,
}

/// The platforms of an image to push.
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// use ecr_push::{CancellationToken, Options, Platforms, PushRequest, Pusher, Source};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let create = vec!["team/app".parse()?];
/// # let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
/// # let mut options = Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// let pusher = Pusher::builder().options(options).start().await?;
/// let index = Source::Path("testdata/skopeo-oci-layout-multiarch".into());
/// let mut request = PushRequest::new(index, ["team/app:1".parse()?]);
/// request.image.selection.platforms = Platforms::One("linux/arm64".parse()?);
/// let outcome = pusher.push(request, CancellationToken::new()).await.into_result()?;
/// assert_eq!(outcome.image.unwrap().platforms, ["linux/arm64"]);
/// // The manifest is pushed unchanged, so its digest is known.
/// assert!(outcome.targets[0].digest.unwrap().to_string().starts_with("sha256:16e51797989a"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Platforms {
    /// All platforms of the image.
    #[default]
    All,
    /// The manifest of one platform, without the index.
    One(Platform),
    /// The platforms that the archive contains, as a new index if some are missing: an index even for a single platform, since
    /// its attestations need it.
    Present,
}

/// Whether the attestations in an index are pushed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Attestations {
    /// Pushed with the image.
    #[default]
    Kept,
    /// Not pushed, and neither is an index that then lists a single image: AWS Lambda accepts no index
    /// (<https://github.com/docker/build-push-action/issues/755>).
    Dropped,
}

/// The completeness of an index in the archive.
#[derive(Debug)]
pub enum Completeness<'a> {
    /// Everything is there.
    Complete,
    /// The only image is there, but not all attestations.
    OnlyImage(&'a Content),
    /// These entries are missing.
    Missing(Vec<&'a Absent>),
}

impl Selection {
    /// Returns the selected part of an image.
    ///
    /// # Errors
    /// Of [`Kind::Usage`](crate::error::Kind::Usage) if the image is not for the platform, and of
    /// [`Kind::Input`](crate::error::Kind::Input) if the archive does not contain everything.
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
                    let note = format!(
                        "the archive does not contain all attestations of {name}, so its image is pushed alone"
                    );
                    let manifest = manifest.clone();
                    Ok(part(image, manifest, vec![note]))
                }
                Completeness::Missing(missing) => Err(incomplete(&image, index, &missing)),
            },
            (Platforms::Present, Content::Index(index)) => {
                self.reduced(image.clone(), &without_incomplete(index, &name), &name)
            }
        }
    }

    /// Returns the completeness of an index, for a selection of all platforms.
    pub fn completeness<'a>(&self, index: &'a Index) -> Completeness<'a> {
        let missing: Vec<_> = index.absent().into_iter().filter(|absent| !self.drops(&absent.role)).collect();
        let are_attestations = || missing.iter().all(|absent| matches!(absent.role, Role::Attestation(_)));
        match only_image(index) {
            _ if missing.is_empty() => Completeness::Complete,
            Some(image) if are_attestations() => Completeness::OnlyImage(image),
            _ => Completeness::Missing(missing),
        }
    }

    /// Returns whether the image has the selected platform, if one is selected.
    pub(super) fn is_in(&self, content: &Content) -> bool {
        match &self.platforms {
            Platforms::One(platform) => content.platforms().iter().any(|its| its.matches(platform)),
            Platforms::All | Platforms::Present => true,
        }
    }

    fn drops(&self, role: &Role) -> bool {
        self.attestations == Attestations::Dropped && matches!(role, Role::Attestation(_))
    }

    /// Returns the image with the entries of its index that the archive contains and the selection includes.
    fn reduced(&self, image: Image, index: &Index, name: &str) -> Result<Image> {
        if let (Attestations::Dropped, Some(manifest)) = (self.attestations, only_image(index)) {
            return Ok(part(image, manifest.clone(), Vec::new()));
        }
        let present: Vec<_> = index.images().iter().filter_map(|(_, manifest)| manifest.digest()).collect();
        // In a complete index, an attestation may describe anything.
        let is_complete = index.absent().is_empty();
        let is_present = |attested: Digest| is_complete || present.contains(&attested);
        let keeps = |role: &Role| match role {
            Role::Image(_) => true,
            Role::Attestation(attested) => !self.drops(role) && attested.is_none_or(is_present),
        };
        let reduced = reduce(index, &keeps)?;
        if reduced.digest() == Some(index.original.digest) {
            return Ok(image);
        }
        let platforms: Vec<_> = reduced.platforms().iter().map(ToString::to_string).collect();
        let how = if self.attestations == Attestations::Dropped {
            "without attestations"
        } else {
            "with what the archive contains"
        };
        let note = format!("a new index of {name} is pushed, {how}: {}", platforms.join(", "));
        Ok(part(image, reduced, vec![note]))
    }
}

/// Returns the image with only `content` of it.
fn part(image: Image, content: Content, mut notes: Vec<String>) -> Image {
    let (Some(before), Some(after)) = (image.content.digest(), content.digest()) else { return image };
    if before == after {
        return image;
    }
    notes.push(format!("the digest of the archive's index, {before}, becomes {after}"));
    Image { content, part_of: vec![before], notes: [image.notes, notes].concat(), ..image }
}

/// Returns whether an index is complete, at any depth, and `keeps` accepts all entries.
fn is_whole(index: &Index, keeps: &dyn Fn(&Role) -> bool) -> bool {
    let is_whole = |child: &Child| match &child.content {
        Content::Index(index) => is_whole(index, keeps),
        Content::Manifest(_) => true,
    };
    index.absent.is_empty() && index.children.iter().all(|child| keeps(&child.role) && is_whole(child))
}

/// Returns the index with incomplete manifests marked as absent.
fn without_incomplete(index: &Index, name: &str) -> Index {
    let mut result = Index { children: Vec::new(), ..index.clone() };
    for Child { role, content } in index.children.clone() {
        match content {
            Content::Manifest(manifest) if manifest.is_incomplete() => {
                let error = Error::input(format!("the archive does not contain all layers of {name}"));
                let error = error.code(Code::ArchiveIncomplete);
                result.absent.extend(manifest.original.map(|it| Absent { role, digest: it.digest, error }));
            }
            Content::Index(index) => {
                let content = Content::Index(Box::new(without_incomplete(&index, name)));
                result.children.push(Child { role, content });
            }
            content @ Content::Manifest(_) => result.children.push(Child { role, content }),
        }
    }
    result
}

/// Returns the index with only those entries that the archive contains and that `keeps` accepts.
fn reduce(index: &Index, keeps: &dyn Fn(&Role) -> bool) -> Result<Content> {
    // Not edited: its list may be `null`, or a nested index empty, and its bytes must not change.
    if is_whole(index, keeps) {
        return Ok(Content::Index(Box::new(index.clone())));
    }
    let mut children = Vec::new();
    let mut replacements = compose::Replacements::new();
    for Child { role, content } in index.children.iter().filter(|child| keeps(&child.role)) {
        let reduced = match content {
            Content::Index(index) => reduce(index, keeps)?,
            Content::Manifest(_) => content.clone(),
        };
        if matches!(&reduced, Content::Index(index) if index.children.is_empty()) {
            continue;
        }
        replacements.extend(content.digest().zip(reduced.original().cloned()));
        children.push(Child { role: role.clone(), content: reduced });
    }
    let stated = compose::reduced_index(&index.original, &replacements.keys().copied().collect(), &replacements)?;
    Ok(Content::Index(Box::new(Index {
        original: stated,
        origin: IndexOrigin::Stated,
        repaired: None,
        children,
        absent: Vec::new(),
    })))
}

/// Returns the image of an index with a single one, which may be listed twice for its platform.
fn only_image(index: &Index) -> Option<&Content> {
    let images = index.images();
    let (platform, first) = images.first()?;
    let is_first = |(its, image): &(Option<&Platform>, &Content)| its == platform && image.digest() == first.digest();
    images.iter().all(is_first).then_some(*first)
}

/// Returns the only manifest for a platform.
fn one<'a>(content: &'a Content, platform: &Platform, name: &str) -> Result<&'a Content> {
    let images = match content {
        Content::Manifest(manifest) => vec![(manifest.config.platform.as_ref(), content)],
        Content::Index(index) => index.images(),
    };
    let mut matching: Vec<&Content> = Vec::new();
    for (_, manifest) in images.into_iter().filter(|(its, _)| its.is_some_and(|its| its.matches(platform))) {
        if !matching.iter().any(|known| known.digest() == manifest.digest()) {
            matching.push(manifest);
        }
    }
    // Artifacts may have the platform of an image, such as the indexes of Amazon's SOCI for lazy loading of layers
    // (<https://github.com/awslabs/soci-snapshotter/blob/main/docs/soci-index-manifest-v2.md>).
    if matching.iter().any(|manifest| manifest.is_image()) {
        matching.retain(|manifest| manifest.is_image());
    }
    match matching.as_slice() {
        [manifest] => Ok(manifest),
        [] => Err(no_such_platform(content, platform, name)),
        several => {
            let ids = several.iter().filter_map(|manifest| manifest.digest());
            Err(Error::usage(format!("several images of {name} are for {platform}")).code(Code::ImageAmbiguous).hint(
                Advice::new("Select one by its ID instead:")
                    .choices(ids, |digest| ("image-id", Some(digest.hex()), String::new())),
            ))
        }
    }
}

fn no_such_platform(content: &Content, platform: &Platform, name: &str) -> Error {
    let mut absent = content.index().into_iter().flat_map(Index::absent);
    let listed = absent.find(|absent| matches!(&absent.role, Role::Image(Some(its)) if its.matches(platform)));
    let error = match listed {
        Some(absent) => Error::usage(format!("{name} lists {platform}, which the archive does not contain"))
            .code(Code::PlatformNotFound)
            .because(absent.error.clone()),
        None => Error::usage(format!("{name} is not for {platform}")).code(Code::PlatformNotFound),
    };
    error.hint(platform_advice(&content.platforms()))
}

/// Returns the advice to select one of these platforms.
pub(super) fn platform_advice(platforms: &[Platform]) -> Advice {
    let names: BTreeSet<String> = platforms.iter().map(ToString::to_string).collect();
    if names.is_empty() {
        return "The image states no platform: push it without selecting one.".into();
    }
    Advice::new("Select one:").choices(names, |name| ("platform", Some(name), String::new()))
}

/// Returns the error that the archive does not contain all of an index.
fn incomplete(image: &Image, index: &Index, missing: &[&Absent]) -> Error {
    let name = name(image);
    let of_image = |absent: &&&Absent| matches!(absent.role, Role::Image(_));
    let Some(first) = missing.iter().find(of_image) else {
        let what = format!("the archive does not contain attestations that the index of {name} lists");
        let error = Error::input(what).code(Code::ArchiveIncomplete).hint(
            Advice::new("Push a new index without them, or a single image")
                .setting("no-attestations")
                .setting_with("platform", "OS/ARCH"),
        );
        return match missing.first() {
            Some(absent) => error.because(absent.error.clone()),
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
    if names.len() > MAX_LISTED {
        let more = names.split_off(MAX_LISTED).len();
        names.push(format!("{more} more"));
    }
    let image = image.names.first().map_or_else(|| "IMAGE".into(), |name| quoted(name));
    let absent = match &first.role {
        Role::Image(Some(platform)) => platform.to_string(),
        _ => "OS/ARCH".into(),
    };
    let present = Content::Index(Box::new(index.clone())).platforms();
    let present = present.first().map_or_else(|| "OS/ARCH".into(), ToString::to_string);
    Error::input(format!("the index of {name} lists {}, which the archive does not contain", names.join(", ")))
        .code(Code::ArchiveIncomplete)
        .because(first.error.clone())
        .hint(
            Advice::new("Pull what is missing and save again, or push what the archive contains")
                .setting_with("platform", present)
                .setting("present-platforms")
                .command(format!("docker pull --platform {absent} {image}")),
        )
}

/// Returns the name of an image in messages.
fn name(image: &Image) -> String {
    image.names.first().map_or_else(|| image.content.id().short(), |name| shown(name))
}
