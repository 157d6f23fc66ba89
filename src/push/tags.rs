//! Tags that exist already: what they point at, whether they may move, and what becomes of them.
//!
//! All of them are judged before anything is sent. Where the image comes through a pipe it is known last: then what can be
//! told without it is told first.

use super::destination::Destination;
use super::held::{in_time, said};
use super::manifests::compose;
use super::{Event, Events, Request, Reuse};
use crate::archive::{Content, Image};
use crate::ecr::{Mutability, RepositoryLocation, RepositoryState};
use crate::error::{Code, Error, Kind, Result};
use crate::oci::{Digest, Tag};
use crate::push::plan::{self, Key, Stored, Wanted};
use crate::registry::{ManifestLookup, RemoteManifest};
use crate::reuse;

/// What becomes of a tag that exists.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum IfExists {
    /// It moves, unless it must not.
    #[default]
    Overwrite,
    /// It may only be there if it points at the same image: equal config and layers, and of an index the digest.
    SameOk,
    /// It stays where it is.
    Skip,
    /// Nothing is pushed.
    Fail,
}

/// A tag that stays where it is.
#[derive(Clone, Debug)]
pub(super) struct Stay {
    pub(super) tag: Tag,
    pub(super) digest: Digest,
    pub(super) media_type: String,
    /// The bytes of what it points at.
    pub(super) size: u64,
    /// It points at the same image, under another digest.
    pub(super) is_same: bool,
}

impl Stay {
    fn of(tag: &Tag, RemoteManifest { bytes, digest, media_type }: &RemoteManifest, is_same: bool) -> Self {
        let (media_type, size) = (media_type.clone(), bytes.len() as u64);
        Self { tag: tag.clone(), digest: *digest, media_type, size, is_same }
    }
}

/// What a tag points at, beside the image that is pushed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Likeness {
    /// The very manifest.
    Identical,
    /// The same config and layers, in another manifest.
    Same,
    /// Another image, as far as that can be told.
    Other,
}

/// What was found under the tags.
#[derive(Default)]
pub(super) struct Found {
    /// Whether the repository exists, if that became known.
    pub(super) exists: Option<bool>,
    /// Why what a tag points at is not known, if it is not.
    unseen: Option<Error>,
}

impl Destination {
    /// Looks what all tags point at.
    ///
    /// # Errors
    /// If the registry cannot be spoken to at all, and that will not change: its certificate is not trusted, for one. If the
    /// tags have to be known, and are not.
    pub(super) async fn look_at_tags(&mut self, request: &Request, events: &Events) -> Result<Found> {
        let looks = self.tags.iter().map(|tag| in_time(self.client.lookup(tag.as_str())));
        let looks = futures_util::future::join_all(looks).await;
        let (mut found, mut unseen, mut absent) = (Found::default(), Vec::new(), Vec::new());
        for (tag, look) in self.tags.iter().zip(looks) {
            match look {
                Ok(ManifestLookup::Found(root)) => {
                    found.exists = Some(true);
                    self.there.push((tag.clone(), root));
                }
                Ok(ManifestLookup::NoImage) => {
                    found.exists = Some(true);
                    absent.push(tag.clone());
                }
                Ok(ManifestLookup::NoRepository) => found.exists = found.exists.or(Some(false)),
                Ok(ManifestLookup::Unclear) => {}
                Err(error) if error.service_error().is_none() && error.kind() == Kind::Refused => return Err(error),
                Err(error) => {
                    unseen.push(format!("{}:{tag}", self.name()));
                    found.unseen.get_or_insert(error);
                }
            }
        }
        if let Some(error) = &found.unseen {
            let (tags, why) = (unseen.join(", "), said(error));
            if request.if_exists != IfExists::Overwrite {
                let kind = if error.kind() == Kind::Permission { Kind::Permission } else { Kind::Unavailable };
                return Err(Error::new(
                    kind,
                    format!("what {tags} points at cannot be learned, and --if-exists wants that known"),
                )
                .because(why)
                .hint(match self.ecr {
                    Some(_) => "Allow ecr:BatchGetImage if that is missing, or leave --if-exists out: then tags move.",
                    None => "Give a login that may read there, or leave --if-exists out: then tags move.",
                }));
            }
            events(Event::Note(match request.reuse {
                Reuse::Tag => format!("layers of {tags} are not reused: {why}; what that points at was not checked"),
                Reuse::Off | Reuse::Cache => format!("what {tags} points at was not checked: {why}"),
            }));
        }
        if self.wants_tags_seen(request) {
            self.archived = self.archived_of(absent, events).await?;
        }
        Ok(found)
    }

    /// The tags of these that lead to an archived image. A registry does not serve one, and says that there is no image.
    async fn archived_of(&self, absent: Vec<Tag>, events: &Events) -> Result<Vec<(Tag, RemoteManifest)>> {
        let Some((ecr, RepositoryLocation { host, repository })) = &self.ecr else { return Ok(Vec::new()) };
        let asked = absent.iter().map(|tag| ecr.archived(&host.account, repository, tag));
        let answers = futures_util::future::try_join_all(asked).await?;
        let archived = absent.into_iter().zip(answers).filter_map(|(tag, answer)| {
            let (digest, media_type) = answer?;
            events(Event::Note(format!(
                "{}:{tag} exists as {} and is archived: it cannot be pulled until it is restored or pushed again",
                self.name(),
                digest.short()
            )));
            // What it is made of cannot be read.
            Some((tag, RemoteManifest { bytes: Vec::new().into(), digest, media_type }))
        });
        Ok(archived.collect())
    }

    /// The tags that exist, archived or not.
    fn existing(&self) -> impl Iterator<Item = &(Tag, RemoteManifest)> {
        self.there.iter().chain(&self.archived)
    }

    /// Whether what the tags point at has to be known where nothing is reused from it.
    pub(super) fn wants_tags_seen(&self, request: &Request) -> bool {
        request.if_exists != IfExists::Overwrite || self.tags.iter().any(|tag| self.must_stay(tag))
    }

    /// What a tag pointed at.
    pub(super) fn points_at(&self, tag: &Tag) -> Option<&RemoteManifest> {
        self.there.iter().find(|(there, _)| there == tag).map(|(_, root)| root)
    }

    /// Whether tags may move, if that can be learned and was not asked before: where it cannot, the registry says so when a
    /// tag is put.
    pub(super) async fn whether_tags_move(&self, events: &Events) -> Option<Option<Mutability>> {
        let (ecr, place) = self.ecr.as_ref().filter(|_| self.mutability.is_none())?;
        let why = match in_time(ecr.find_repository(&place.host.account, &place.repository)).await {
            Ok(RepositoryState::Exists(mutability)) => return Some(Some(mutability)),
            Ok(RepositoryState::AccessDenied) => "ecr:DescribeRepositories is not allowed".to_owned(),
            Ok(RepositoryState::Missing) => "the repository is gone".to_owned(),
            Err(error) => said(&error),
        };
        events(Event::Note(format!("whether tags of {} may move was not checked: {why}", self.name())));
        Some(None)
    }

    /// Whether a tag points at another image for sure, before anything is known but the archive.
    pub(super) fn has_another(&self, image: &Image, request: &Request) -> bool {
        let stated = self.stated(image);
        // What an index becomes is only known when its manifests are.
        let is_sure = stated.is_some() || matches!(image.content, Content::Manifest(_));
        let is_other = |(_, root): &(Tag, RemoteManifest)| likeness(root, image, stated, request) == Likeness::Other;
        request.if_exists == IfExists::Overwrite && is_sure && self.there.iter().any(is_other)
    }

    /// The digest of what will be put, if the archive states it.
    fn stated(&self, image: &Image) -> Option<Digest> {
        let is_kept = !plan::is_rewritten(&image.content, self.compression);
        image.content.original().filter(|_| is_kept).map(|stated| stated.digest)
    }

    /// The digest of what will be put, where that is known: the archive states it, or there is no layer to send, of which
    /// `stored` has none then.
    pub(super) fn root_of(&self, image: &Image, stored: &dyn Fn(&Key) -> Option<Stored>) -> Option<Digest> {
        let stored = |key: &Key| stored(key).ok_or_else(|| Error::new(Kind::Refused, "a layer is not there yet"));
        self.stated(image).or_else(|| Some(compose(self, &image.content, &stored).ok()?.root.digest))
    }

    /// Decides what becomes of the tags that exist, now that the image is known, and its digest `root` if that can be.
    ///
    /// # Errors
    /// If one of them must not move, or is not to be there.
    pub(super) async fn judge_tags(
        &mut self,
        image: &Image,
        root: Option<Digest>,
        request: &Request,
        events: &Events,
    ) -> Result<()> {
        if self.existing().next().is_none() || self.is_settled() {
            return Ok(());
        }
        let there: Vec<(Tag, RemoteManifest, Likeness)> = self
            .there
            .iter()
            .map(|(tag, there)| (tag.clone(), there.clone(), likeness(there, image, root, request)))
            .collect();
        if request.if_exists == IfExists::Overwrite
            && there.iter().any(|(.., likeness)| *likeness != Likeness::Identical)
        {
            let rule = self.whether_tags_move(events).await;
            self.mutability = rule.or_else(|| self.mutability.take());
        }
        let (mut stays, mut moves, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for (tag, root, likeness) in there {
            let digest = root.digest;
            let stay = Stay::of(&tag, &root, likeness == Likeness::Same);
            let is_same = stay.is_same;
            match (request.if_exists, likeness) {
                (IfExists::Fail, _) | (IfExists::SameOk, Likeness::Other) => refused.push((tag, digest)),
                (_, Likeness::Identical) => {}
                (IfExists::Skip, _) | (IfExists::SameOk, Likeness::Same) => stays.push(stay),
                (IfExists::Overwrite, _) => match (self.must_stay(&tag), is_same) {
                    (true, true) => stays.push(stay),
                    (true, false) => refused.push((tag, digest)),
                    // Otherwise it is logged when the registry has accepted it.
                    (false, _) if request.dry_run => {
                        moves.push(format!("{}:{tag} would move from {}", self.name(), digest.short()));
                    }
                    (false, _) => {}
                },
            }
        }
        for (tag, image) in std::mem::take(&mut self.archived) {
            let may_move = request.if_exists == IfExists::Overwrite && !self.must_stay(&tag);
            match (request.if_exists, root) {
                (IfExists::Fail, _) => refused.push((tag, image.digest)),
                (IfExists::Skip, _) => stays.push(Stay::of(&tag, &image, false)),
                _ if may_move => {}
                (_, Some(root)) if root != image.digest => refused.push((tag, image.digest)),
                // The same image is restored. Where that is not known yet, it is when the tag is put.
                _ => self.archived.push((tag, image)),
            }
        }
        if !refused.is_empty() {
            return Err(self.refusal(&refused, request));
        }
        self.say_what_stays(&stays, events);
        moves.into_iter().for_each(|text| events(Event::Note(text)));
        self.stays = stays;
        Ok(())
    }

    /// The same before the image is known: which tags stay or may not be there, and which may only be there if it is the same.
    ///
    /// # Errors
    /// If one is not to be there at all.
    pub(super) fn judge_tags_ahead(&mut self, request: &Request, events: &Events) -> Result<()> {
        if self.existing().next().is_none() {
            return Ok(());
        }
        match request.if_exists {
            IfExists::Fail => {
                let there: Vec<_> = self.existing().map(|(tag, root)| (tag.clone(), root.digest)).collect();
                return Err(self.refusal(&there, request));
            }
            IfExists::Skip => {
                let stays: Vec<Stay> = self.existing().map(|(tag, root)| Stay::of(tag, root, false)).collect();
                self.say_what_stays(&stays, events);
                self.stays = stays;
            }
            IfExists::SameOk => self.fixed = self.there.iter().map(|(tag, _)| tag.clone()).collect(),
            IfExists::Overwrite => {
                self.fixed =
                    self.there.iter().filter(|(tag, _)| self.must_stay(tag)).map(|(tag, _)| tag.clone()).collect();
            }
        }
        Ok(())
    }

    /// Sees to it that a layer that goes by may belong to the image that a tag which must not move points at. Where it does
    /// not, what comes is another image, whatever else is in it.
    ///
    /// # Errors
    /// If it does not.
    pub(super) fn may_belong(&self, wanted: &Wanted, request: &Request) -> Result<()> {
        let Some(diff_id) = wanted.layer.diff_id else { return Ok(()) };
        for tag in &self.fixed {
            let Some(root) = self.points_at(tag) else { continue };
            let held = self.held.iter().find(|held| held.manifest.digest == root.digest);
            // All of its layers have to be known.
            let held = held.filter(|held| held.layers.len() == reuse::layer_blobs(root).len());
            if held.is_some_and(|held| held.layers.iter().all(|layer| layer.diff_id != diff_id)) {
                return Err(self.refusal(&[(tag.clone(), root.digest)], request));
            }
        }
        Ok(())
    }

    /// Checks that an archived image under a tag which must not move is the one that is put there.
    ///
    /// # Errors
    /// If it is another one.
    pub(super) fn check_archived(&self, tag: &Tag, root: Digest) -> Result<()> {
        match self.archived.iter().find(|(archived, _)| archived == tag) {
            Some((_, image)) if image.digest != root => {
                let (name, archived) = (self.name(), image.digest);
                Err(Error::new(Kind::Refused, format!("{name}:{tag} exists as {archived}, which is another image"))
                    .code(Code::TagImmutable)
                    .because("that image is archived, and this one has another digest")
                    .hint("Push under another tag."))
            }
            _ => Ok(()),
        }
    }

    fn must_stay(&self, tag: &Tag) -> bool {
        self.mutability.iter().flatten().any(|mutability| mutability.is_immutable(tag))
    }

    fn say_what_stays(&self, stays: &[Stay], events: &Events) {
        // Before the image was known some may have been told.
        for Stay { tag, digest, is_same, .. } in stays.iter().filter(|stay| self.stay(&stay.tag).is_none()) {
            let (name, digest) = (self.name(), digest.short());
            events(Event::Note(match is_same {
                true => format!("{name}:{tag} is this image already, as {digest}, and stays"),
                false => format!("{name}:{tag} exists and stays: it points at {digest}"),
            }));
        }
    }

    /// Why nothing is pushed.
    fn refusal(&self, refused: &[(Tag, Digest)], request: &Request) -> Error {
        let name = self.name();
        let tags: Vec<String> =
            refused.iter().map(|(tag, digest)| format!("{name}:{tag} points at {digest}")).collect();
        let tags = tags.join(", ");
        let (why, hint) = match request.if_exists {
            IfExists::Fail => (
                "and --if-exists fail wants no such tag",
                "Push under another tag, or with --if-exists same-ok if the same image may be there.",
            ),
            IfExists::SameOk => {
                ("which is another image", "Push under another tag, or with --if-exists overwrite to move it.")
            }
            IfExists::Overwrite | IfExists::Skip => (
                "which is another image, and the repository does not let such tags move",
                "Push under another tag, or leave that tag as it is with --if-exists skip.",
            ),
        };
        Error::new(Kind::Refused, format!("{tags}, {why}")).code(Code::TagImmutable).hint(hint)
    }
}

/// Whether a manifest is of that very image: of its config, and of as many layers. An index is the same by its digest only.
pub(super) fn is_same(there: &RemoteManifest, image: &Image) -> bool {
    match &image.content {
        Content::Manifest(manifest) => {
            let layers = manifest.layers.len() + manifest.non_distributable.len();
            reuse::is_image_with(there, &manifest.config.digest, layers)
        }
        Content::Index(_) => false,
    }
}

/// What a tag's image is to the one that is pushed, of which `root` is the digest where it is known.
fn likeness(there: &RemoteManifest, image: &Image, root: Option<Digest>, request: &Request) -> Likeness {
    match root {
        Some(root) if root == there.digest => Likeness::Identical,
        // Who wants a digest wants no other.
        _ if request.expect_digest.is_none() && is_same(there, image) => Likeness::Same,
        _ => Likeness::Other,
    }
}
