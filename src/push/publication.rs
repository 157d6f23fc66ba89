//! What is put at the end of a push, and in which order. Pure.
//!
//! Children come before their index, what refers to the image after it, and tags last: a tag never points at something that
//! is incomplete, and an image that has its tag has its signatures.

use super::compose::{Composed, REPAIRED, changed, compose};
use super::compression::CompressionPolicy;
use super::lookup::TagLookup;
use super::plan::Stored;
use super::planning::has_all_of;
use super::tags::{TagOutcome, TagPlan, TagState};
use crate::archive::{Content, Image, IndexOrigin, Referrer};
use crate::error::{Code, Error, Kind, Result};
use crate::oci::{Digest, LayerId, OriginalManifest, Tag};
use crate::reuse::RemoteImage;

/// One step of the end of a push.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Put a manifest under its digest, and report the note.
    Manifest(OriginalManifest, Option<String>),
    /// Put what refers to the image under a tag of its own.
    Referrer(Tag, OriginalManifest),
    /// Put the root under a tag, which points at another image before that, or at none.
    Tag(Tag, Option<Digest>),
    /// Leave a tag where it is.
    Leave(TagOutcome),
}

/// What is put, and the root that the tags will point at.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) root: OriginalManifest,
    pub(super) steps: Vec<Step>,
}

/// What is known where an image is published.
pub(super) struct Facts<'a> {
    pub(super) image: &'a Image,
    pub(super) compression: CompressionPolicy,
    /// Images of the repository whose manifests may be taken over.
    pub(super) images: &'a [RemoteImage],
    /// `HOST/REPOSITORY`
    pub(super) name: &'a str,
    pub(super) tags: &'a [Tag],
    pub(super) lookup: &'a TagLookup,
    pub(super) plan: &'a TagPlan,
    /// Whether the archive states the digest of every layer.
    pub(super) is_verbatim: bool,
}

/// Returns what is put at the end of a push, in its order. `stored` says what a layer is in the registry.
///
/// # Errors
/// If a layer is not there, if a manifest gets too long, or if a tag must not point at this image.
pub(super) fn publication(facts: &Facts<'_>, stored: &dyn Fn(&LayerId) -> Result<Stored>) -> Result<Publication> {
    let Facts { image, compression, images, .. } = facts;
    let mut steps = Vec::new();
    // An image with uncompressed layers that are to be compressed is not what was asked for.
    if let Some(root) = has_all_of(facts.lookup, image).filter(|_| facts.is_verbatim) {
        steps.extend(tag_steps(facts.name, facts.tags, facts.lookup, facts.plan, root)?);
        return Ok(Publication { root: root.clone(), steps });
    }
    let put_content = |content: &Content, steps: &mut Vec<Step>| {
        let Composed { root, below } = compose(content, *compression, images, stored)?;
        steps.extend(below.into_iter().map(|(manifest, note)| Step::Manifest(manifest, note)));
        Ok::<_, Error>(root)
    };
    let root = put_content(&image.content, &mut steps)?;
    if facts.lookup.found.iter().any(|(_, found)| found.digest == root.digest) {
        // A registry that has an index has what it lists.
        steps.clear();
    }
    if !image.referrers.is_empty() {
        steps.push(Step::Manifest(root.clone(), None));
    }
    for Referrer { tag, content, .. } in &image.referrers {
        let referrer = put_content(content, &mut steps)?;
        steps.push(match tag {
            Some(tag) => Step::Referrer(tag.clone(), referrer),
            None => Step::Manifest(referrer, None),
        });
    }
    steps.extend(tag_steps(facts.name, facts.tags, facts.lookup, facts.plan, &root)?);
    Ok(Publication { root, steps })
}

/// Returns a line that the image gets another digest than the archive states, if it does.
pub(super) fn note_of_change(image: &Image, root: &OriginalManifest) -> Option<String> {
    let is_joined = matches!(&image.content, Content::Index(index) if index.origin != IndexOrigin::Stated);
    let is_changed = !is_joined && image.content.original().is_some_and(|original| original.digest != root.digest);
    let why = if image.content.is_repaired() { REPAIRED } else { "uncompressed layers were compressed" };
    is_changed.then(|| changed(why, &image.content, root))
}

/// Returns what happens to the tags of a repository, now that the digest of their image is known.
///
/// # Errors
/// If a tag must not point at this image.
pub(super) fn tag_steps(
    name: &str,
    tags: &[Tag],
    lookup: &TagLookup,
    plan: &TagPlan,
    root: &OriginalManifest,
) -> Result<Vec<Step>> {
    let step = |tag: &Tag| {
        let before = lookup.points_at(tag).map(|there| there.digest);
        Ok(match (plan.unchanged(tag), before) {
            (Some(unchanged), _) => Step::Leave(unchanged.clone()),
            (None, Some(before)) if before == root.digest => Step::Leave(TagOutcome::new(tag, root, TagState::There)),
            (None, before) => {
                check_archived(name, lookup, plan, tag, root)?;
                Step::Tag(tag.clone(), before)
            }
        })
    };
    tags.iter().map(step).collect()
}

/// Checks that an archived image under a tag that must not move is the one that is put there.
fn check_archived(name: &str, lookup: &TagLookup, plan: &TagPlan, tag: &Tag, root: &OriginalManifest) -> Result<()> {
    let is_archived = lookup.archived.iter().any(|(archived, _)| archived == tag);
    match plan.must_match.iter().find(|(it, _)| it == tag) {
        Some((_, archived)) if is_archived && *archived != root.digest => {
            let what = format!("{name}:{tag} exists as {archived}, which is another image");
            Err(Error::new(Kind::Refused, what)
                .code(Code::TagImmutable)
                .because("that image is archived, and this one has another digest")
                .hint("Push under another tag."))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
