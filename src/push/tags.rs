//! What happens to tags that exist already. Pure: it is given what they point at, and sends no request.
//!
//! All tags are decided on before anything is sent. Where the image comes through a pipe it is known last: then they are
//! decided on twice, first without the image.

use std::fmt;

use serde::Serialize;

use crate::archive::{Content, Image};
use crate::ecr::Mutability;
use crate::oci::{Digest, OriginalManifest, Tag};
use crate::registry::RemoteManifest;
use crate::reuse;

/// Policy for a tag that exists.
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// use ecr_push::{CancellationToken, Code, IfExists, Options, PushRequest, Pusher, Source, TagState};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let create = vec!["team/app".parse()?];
/// # let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
/// # let mut options = Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// let image = |path: &str| Source::Path(format!("testdata/{path}").into());
/// let first = PushRequest::new(image("docker-20.10-save.tar"), ["team/app:1".parse()?]);
/// let other = PushRequest::new(image("skopeo-oci-layout-multiarch"), ["team/app:1".parse()?]);
/// let pusher = Pusher::builder().options(options.clone()).start().await?;
/// pusher.push(first, CancellationToken::new()).await.into_result()?;
///
/// options.if_exists = IfExists::SameOk;
/// let pusher = Pusher::builder().options(options.clone()).start().await?;
/// let outcome = pusher.push(other.clone(), CancellationToken::new()).await;
/// assert_eq!(outcome.error().map(|error| error.stable_code()), Some(Code::TagImmutable));
///
/// options.if_exists = IfExists::Skip;
/// let pusher = Pusher::builder().options(options).start().await?;
/// let outcome = pusher.push(other, CancellationToken::new()).await.into_result()?;
/// assert_eq!(outcome.targets[0].placed[0].state, TagState::Skipped);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum IfExists {
    /// It moves, unless it is immutable.
    #[default]
    Overwrite,
    /// It may only point at the same image: equal config and layers, and of an index the digest.
    SameOk,
    /// It stays where it is.
    Skip,
    /// Nothing is pushed.
    Fail,
}

/// How a tag came to point at what it does.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TagState {
    /// It was put there.
    Pushed,
    /// It did so already.
    There,
    /// It points at the same image under another digest, and was left alone.
    Same,
    /// It points at what it did, whatever that is, and was left alone.
    Skipped,
}

impl TagState {
    /// Returns the word for it in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pushed => "pushed",
            Self::There => "there",
            Self::Same => "same",
            Self::Skipped => "skipped",
        }
    }
}

/// The outcome of one tag.
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// # use ecr_push::{CancellationToken, Options, PushRequest, Pusher, Source};
/// use ecr_push::TagState;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let create = vec!["team/app".parse()?];
/// # let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
/// # let mut options = Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// # let pusher = Pusher::builder().options(options).start().await?;
/// # let archive = Source::Path("testdata/docker-20.10-save.tar".into());
/// # let request = PushRequest::new(archive, ["team/app:1.4".parse()?]);
/// let outcome = pusher.push(request.clone(), CancellationToken::new()).await.into_result()?;
/// assert_eq!(outcome.targets[0].placed[0].state, TagState::Pushed);
/// let again = pusher.push(request, CancellationToken::new()).await.into_result()?;
/// assert_eq!(again.targets[0].placed[0].state, TagState::There);
/// assert_eq!(again.targets[0].placed[0].digest, outcome.targets[0].placed[0].digest);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct TagOutcome {
    /// The tag.
    pub tag: Tag,
    /// What it points at.
    pub digest: Digest,
    /// The media type of that.
    pub media_type: String,
    /// The bytes of that: of a manifest or an index.
    pub size: u64,
    /// How that came.
    #[serde(rename = "outcome")]
    pub state: TagState,
}

impl TagOutcome {
    pub(super) fn new(tag: &Tag, root: &OriginalManifest, state: TagState) -> Self {
        let (media_type, size) = (root.media_type.clone(), root.bytes.len() as u64);
        Self { tag: tag.clone(), digest: root.digest, media_type, size, state }
    }
}

/// What a push would do with a tag, as a dry run decides it.
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// # use ecr_push::{CancellationToken, Options, PushRequest, Pusher, Source};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let create = vec!["team/app".parse()?];
/// # let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
/// # let mut options = Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// # let archive = Source::Path("testdata/docker-20.10-save.tar".into());
/// # let request = PushRequest::new(archive, ["team/app:1".parse()?]);
/// options.dry_run = true;
/// let pusher = Pusher::builder().options(options).start().await?;
/// let plan = pusher.push(request, CancellationToken::new()).await.into_result()?;
/// let tag = &plan.targets[0].planned_tags[0];
/// assert_eq!(tag.to_string(), "would be created");
/// assert_eq!((tag.exists, tag.moved_from), (Some(false), None));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct PlannedTag {
    /// The tag.
    pub tag: Tag,
    /// How it would come to point at what it does.
    #[serde(rename = "outcome")]
    pub state: TagState,
    /// Whether it exists, if the registry says so.
    pub exists: Option<bool>,
    /// What it would point at, if that is known before layers are compressed.
    pub digest: Option<Digest>,
    /// The image that it would move from.
    pub moved_from: Option<Digest>,
}

impl fmt::Display for PlannedTag {
    /// Formats what would happen, without the tag.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.state, self.moved_from, self.exists) {
            (TagState::There | TagState::Same | TagState::Skipped, ..) => f.write_str("unchanged"),
            (TagState::Pushed, Some(before), _) => write!(f, "would move from {}", before.short()),
            (TagState::Pushed, None, Some(false)) => f.write_str("would be created"),
            // Archived, or of unknown state.
            (TagState::Pushed, None, _) => f.write_str("would be pushed"),
        }
    }
}

/// What a tag points at, compared with the image that is pushed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ImageMatch {
    /// The same manifest.
    Identical,
    /// The same config and layers, in another manifest.
    Same,
    /// Another image, as far as that is known.
    Other,
    /// Not known before the image is.
    Unknown,
}

/// A tag that exists.
#[derive(Clone, Debug)]
pub(super) struct ExistingTag {
    pub(super) tag: Tag,
    pub(super) there: RemoteManifest,
    /// It points at an image in ECR's archive storage class, which cannot be read.
    pub(super) is_archived: bool,
    pub(super) image: ImageMatch,
}

/// What was learned about whether tags may move.
#[derive(Clone, Debug, Default)]
pub(super) enum TagRule {
    /// Nothing yet.
    #[default]
    NotAsked,
    /// It cannot be learned: the registry decides when a tag is put.
    Unknown,
    /// The repository's setting.
    Known(Mutability),
}

/// What happens to tags that exist. Those that are not named here are put.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct TagPlan {
    /// They stay where they are.
    pub(super) unchanged: Vec<TagOutcome>,
    /// They may only be there if they turn out to point at this image.
    pub(super) must_match: Vec<(Tag, Digest)>,
}

/// Tags that forbid the push, with what they point at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct TagConflict(pub(super) Vec<(Tag, Digest)>);

impl TagRule {
    /// Returns whether a tag is known to be immutable.
    pub(super) fn is_immutable(&self, tag: &Tag) -> bool {
        matches!(self, Self::Known(mutability) if mutability.is_immutable(tag))
    }
}

impl TagPlan {
    /// Returns the outcome of a tag that stays where it is, if it does.
    pub(super) fn unchanged(&self, tag: &Tag) -> Option<&TagOutcome> {
        self.unchanged.iter().find(|unchanged| unchanged.tag == *tag)
    }

    /// Returns whether every one of these tags stays where it is.
    pub(super) fn leaves_all(&self, tags: &[Tag]) -> bool {
        tags.iter().all(|tag| self.unchanged(tag).is_some())
    }
}

/// Decides what happens to the tags that exist.
///
/// # Errors
/// If one of them must not move, or must not exist.
pub(super) fn decide_tags(existing: &[ExistingTag], policy: IfExists, rule: &TagRule) -> Result<TagPlan, TagConflict> {
    let (mut plan, mut conflicts) = (TagPlan::default(), Vec::new());
    for it in existing {
        let ExistingTag { tag, there: RemoteManifest { bytes, digest, media_type, .. }, .. } = it;
        let named = || (tag.clone(), *digest);
        let unchanged = |state| {
            let (tag, media_type) = (tag.clone(), media_type.clone());
            TagOutcome { tag, digest: *digest, media_type, size: bytes.len() as u64, state }
        };
        let may_move = policy == IfExists::Overwrite && !rule.is_immutable(&it.tag);
        match (policy, it.image) {
            (IfExists::Fail, _) => conflicts.push(named()),
            // An archived image is not restored then, whichever it is.
            (IfExists::Skip, ImageMatch::Identical) if it.is_archived => {
                plan.unchanged.push(unchanged(TagState::Skipped));
            }
            (_, ImageMatch::Identical) => {}
            (IfExists::Skip, ImageMatch::Same) => plan.unchanged.push(unchanged(TagState::Same)),
            (IfExists::Skip, _) => plan.unchanged.push(unchanged(TagState::Skipped)),
            (_, _) if may_move => {}
            (_, ImageMatch::Unknown) => plan.must_match.push(named()),
            (_, ImageMatch::Same) => plan.unchanged.push(unchanged(TagState::Same)),
            (_, ImageMatch::Other) => conflicts.push(named()),
        }
    }
    if conflicts.is_empty() { Ok(plan) } else { Err(TagConflict(conflicts)) }
}

/// Compares what a tag points at with the image that is pushed, of which `root` is the digest if it is known. If a
/// digest is expected, only that one is the same image.
pub(super) fn image_match(
    there: &RemoteManifest,
    image: &Image,
    root: Option<Digest>,
    is_digest_expected: bool,
) -> ImageMatch {
    match root {
        Some(root) if root == there.digest => ImageMatch::Identical,
        _ if !is_digest_expected && is_same(there, image) => ImageMatch::Same,
        _ => ImageMatch::Other,
    }
}

/// Returns whether a manifest is of this very image: of its config, and of as many layers. An index is the same by its
/// digest only.
pub(super) fn is_same(there: &RemoteManifest, image: &Image) -> bool {
    match &image.content {
        Content::Manifest(manifest) => {
            let layers = manifest.layers.len() + manifest.non_distributable.len();
            reuse::is_image_with(there, &manifest.config.digest, layers)
        }
        Content::Index(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(text: &str) -> RemoteManifest {
        let digest = Digest::of(text.as_bytes());
        RemoteManifest { bytes: Vec::new().into(), digest, media_type: String::new(), stated_digest: None }
    }

    /// Names what happens to one tag.
    fn decided(policy: IfExists, immutable: bool, image: ImageMatch, is_archived: bool) -> &'static str {
        let tag: Tag = "1".parse().unwrap();
        let existing = ExistingTag { tag, there: there("old"), is_archived, image };
        let rule = if immutable { TagRule::Known(Mutability::Immutable) } else { TagRule::Unknown };
        match decide_tags(&[existing], policy, &rule) {
            Err(_) => "conflict",
            Ok(plan) => match (plan.unchanged.first(), plan.must_match.len()) {
                (Some(tag), 0) if tag.state == TagState::Same => "same",
                (Some(_), 0) => "stays",
                (None, 1) => "must match",
                (None, 0) => "put",
                other => panic!("{other:?}"),
            },
        }
    }

    #[test]
    fn every_policy_decides_every_case() {
        use IfExists::{Fail, Overwrite, SameOk, Skip};
        use ImageMatch::{Identical, Other, Same, Unknown};
        let cases = [Identical, Same, Other, Unknown];
        let row = |policy, immutable| cases.map(|image| decided(policy, immutable, image, false));
        assert_eq!(row(Fail, false), ["conflict"; 4]);
        assert_eq!(row(Skip, false), ["put", "same", "stays", "stays"]);
        assert_eq!(row(SameOk, false), ["put", "same", "conflict", "must match"]);
        assert_eq!(row(Overwrite, false), ["put"; 4]);
        assert_eq!(row(Overwrite, true), ["put", "same", "conflict", "must match"]);
        let archived = |policy, immutable| [Identical, Other, Unknown].map(|it| decided(policy, immutable, it, true));
        assert_eq!(archived(Fail, false), ["conflict"; 3]);
        assert_eq!(archived(Skip, false), ["stays"; 3]);
        assert_eq!(archived(SameOk, false), ["put", "conflict", "must match"]);
        assert_eq!(archived(Overwrite, false), ["put"; 3]);
        assert_eq!(archived(Overwrite, true), ["put", "conflict", "must match"]);
    }

    #[test]
    fn all_conflicts_are_named() {
        let existing = |tag: &str| ExistingTag {
            tag: tag.parse().unwrap(),
            there: there(tag),
            is_archived: false,
            image: ImageMatch::Other,
        };
        let TagConflict(tags) =
            decide_tags(&[existing("a"), existing("b")], IfExists::SameOk, &TagRule::NotAsked).unwrap_err();
        assert_eq!(tags.iter().map(|(tag, _)| tag.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }
}
