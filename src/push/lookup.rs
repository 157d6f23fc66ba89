//! What the tags of a target point at, and whether that may change.

use super::options::Reuse;
use super::session::TargetSession;
use super::tags::{
    ExistingTag, IfExists, ImageMatch, PlannedTag, TagConflict, TagOutcome, TagPlan, TagRule, TagState, decide_tags,
    image_match,
};
use super::time_limit::{described, in_time};
use crate::archive::Image;
use crate::ecr::RepositoryState;
use crate::error::{Advice, Code, Error, Kind, Result};
use crate::oci::{Digest, Tag};
use crate::registry::{ManifestLookup, RemoteManifest};

/// What was found under the tags of a target.
#[derive(Debug, Default)]
pub(super) struct TagLookup {
    /// Whether the repository exists, if that became known.
    pub(super) repository_exists: Option<bool>,
    /// The repository does not exist yet, and this is only a plan.
    pub(super) is_only_planned: bool,
    /// What the tags point at that exist.
    pub(super) found: Vec<(Tag, RemoteManifest)>,
    /// The tags that lead to an image in ECR's archive storage class, with what is known of it.
    pub(super) archived: Vec<(Tag, RemoteManifest)>,
    /// The tags of which it is not known whether they exist.
    pub(super) unread: Vec<Tag>,
    /// Whether tags may move.
    pub(super) rule: TagRule,
}

impl TagLookup {
    /// Returns what a tag pointed at.
    pub(super) fn points_at(&self, tag: &Tag) -> Option<&RemoteManifest> {
        self.found.iter().find(|(found, _)| found == tag).map(|(_, root)| root)
    }

    /// Returns what a push would do with each tag. `root` is the digest of the image, if it is known.
    pub(super) fn planned_tags(&self, tags: &[Tag], plan: &TagPlan, root: Option<Digest>) -> Vec<PlannedTag> {
        let planned = |tag: &Tag| {
            if let Some(unchanged) = plan.unchanged(tag) {
                let (state, exists, digest) = (unchanged.state, Some(true), Some(unchanged.digest));
                return PlannedTag { tag: tag.clone(), state, exists, digest, moved_from: None };
            }
            let is_this = |there: &RemoteManifest| Some(there.digest) == root;
            let archived = self.archived.iter().find(|(archived, _)| archived == tag).map(|(_, there)| there);
            let before = self.points_at(tag).or(archived);
            PlannedTag {
                tag: tag.clone(),
                state: if self.points_at(tag).is_some_and(is_this) { TagState::There } else { TagState::Pushed },
                exists: (!self.unread.contains(tag)).then_some(before.is_some()),
                digest: root,
                moved_from: before.filter(|there| !is_this(there)).map(|there| there.digest),
            }
        };
        tags.iter().map(planned).collect()
    }

    /// Returns the tags that exist, compared with the image and with its digest `root`, as far as these are known. If only the
    /// digest is, another digest is another image.
    pub(super) fn existing(
        &self,
        image: Option<&Image>,
        root: Option<Digest>,
        is_digest_expected: bool,
    ) -> Vec<ExistingTag> {
        let of = |tag: &Tag, there: &RemoteManifest, is_archived, image| ExistingTag {
            tag: tag.clone(),
            there: there.clone(),
            is_archived,
            image,
        };
        let by_digest = |there: &RemoteManifest| match root {
            Some(root) if root == there.digest => ImageMatch::Identical,
            Some(_) => ImageMatch::Other,
            None => ImageMatch::Unknown,
        };
        let found = self.found.iter().map(|(tag, there)| {
            let matches = |image| image_match(there, image, root, is_digest_expected);
            of(tag, there, false, image.map_or_else(|| by_digest(there), matches))
        });
        // What an archived image is made of cannot be read.
        let archived = self.archived.iter().map(|(tag, there)| of(tag, there, true, by_digest(there)));
        found.chain(archived).collect()
    }
}

/// Returns whether what the tags point at has to be known where nothing is reused from it.
pub(super) fn is_needed(session: &TargetSession, rule: &TagRule) -> bool {
    session.options().if_exists != IfExists::Overwrite || session.tags.iter().any(|tag| rule.is_immutable(tag))
}

/// Looks up what all tags point at.
///
/// # Errors
/// If the registry cannot be spoken to at all, and that will not change: its certificate is not trusted, for one. If the
/// tags have to be known, and are not.
pub(super) async fn look_up_tags(session: &TargetSession, rule: TagRule) -> Result<TagLookup> {
    let options = session.options();
    let lookups = session.tags.iter().map(|tag| async {
        let lookup = session.client.lookup(tag.as_str());
        // A plan has no other request to find out by whether the registry answers.
        if options.dry_run { lookup.await } else { in_time(lookup).await }
    });
    let lookups = futures_util::future::join_all(lookups).await;
    let mut lookup = TagLookup { rule, ..TagLookup::default() };
    let (mut unseen, mut why_unseen, mut absent) = (Vec::new(), None, Vec::new());
    for (tag, found) in session.tags.iter().zip(lookups) {
        match found {
            Ok(ManifestLookup::Found(root)) => {
                lookup.repository_exists = Some(true);
                lookup.found.push((tag.clone(), root));
            }
            Ok(ManifestLookup::NoImage) => {
                lookup.repository_exists = Some(true);
                absent.push(tag.clone());
            }
            Ok(ManifestLookup::NoRepository) => lookup.repository_exists = lookup.repository_exists.or(Some(false)),
            Ok(ManifestLookup::Unclear) => {}
            Err(error) if error.service_error().is_none() && error.kind() == Kind::Refused => return Err(error),
            Err(error) if options.dry_run && would_fail(&error) => return Err(error),
            Err(error) => {
                lookup.unread.push(tag.clone());
                unseen.push(format!("{}:{tag}", session.name()));
                why_unseen.get_or_insert(error);
            }
        }
    }
    if let Some(error) = &why_unseen {
        let (tags, why) = (unseen.join(", "), described(error));
        if options.if_exists != IfExists::Overwrite {
            let kind = if error.kind() == Kind::Permission { Kind::Permission } else { Kind::Unavailable };
            return Err(Error::new(
                kind,
                format!("cannot look up {tags}, which the policy for existing tags requires"),
            )
            .because(why)
            .hint(
                Advice::new(match session.ecr {
                    Some(_) => "Allow ecr:BatchGetImage if it is missing, or let tags move",
                    None => "Use a login with read permission, or let tags move",
                })
                .setting_with("if-exists", "overwrite"),
            ));
        }
        session.note(match options.layers.reuse {
            Reuse::Tag => {
                format!("{tags} could not be read: {why}; pushing without layer reuse and without the tag check")
            }
            Reuse::Off | Reuse::Cache => format!("{tags} was not checked: {why}"),
        });
    }
    if is_needed(session, &lookup.rule) {
        lookup.archived = archived(session, absent).await?;
    }
    Ok(lookup)
}

/// Returns whether a push would fail where a lookup did. One that is not allowed says nothing about a push.
fn would_fail(error: &Error) -> bool {
    let is_login = matches!(error.stable_code(), Code::CredentialsMissing | Code::CredentialsRejected);
    is_login || error.kind() == Kind::Unavailable
}

/// Returns the tags of these that lead to an archived image. A registry does not serve one, and says that there is no image.
pub(super) async fn archived(session: &TargetSession, absent: Vec<Tag>) -> Result<Vec<(Tag, RemoteManifest)>> {
    let Some((ecr, place)) = &session.ecr else { return Ok(Vec::new()) };
    let asked = absent.iter().map(|tag| ecr.archived(place, tag));
    let answers = futures_util::future::try_join_all(asked).await?;
    let archived = absent.into_iter().zip(answers).filter_map(|(tag, answer)| {
        let (digest, media_type) = answer?;
        session.note(format!(
            "{}:{tag} exists as {} and is archived: it cannot be pulled until it is restored or pushed again",
            session.name(),
            digest.short()
        ));
        Some((tag, RemoteManifest { bytes: Vec::new().into(), digest, media_type, stated_digest: None }))
    });
    Ok(archived.collect())
}

/// Returns whether tags may move, and asks for that if it is needed and not known. Where it cannot be learned the registry
/// decides when a tag is put.
pub(super) async fn look_up_rule(session: &TargetSession, rule: &TagRule, is_needed: bool) -> TagRule {
    let (Some((ecr, place)), TagRule::NotAsked, true) = (&session.ecr, rule, is_needed) else { return rule.clone() };
    let why = match in_time(ecr.find_repository(place)).await {
        Ok(RepositoryState::Exists(mutability)) => return TagRule::Known(mutability),
        Ok(RepositoryState::AccessDenied) => "ecr:DescribeRepositories is not allowed".to_owned(),
        Ok(RepositoryState::Missing) => "the repository is gone".to_owned(),
        Err(error) => described(&error),
    };
    session.note(format!("tag immutability of {} was not checked: {why}", session.name()));
    TagRule::Unknown
}

/// Decides on the tags that exist, and reports those that stay where they are, except those that were reported before. Asks
/// whether tags may move if one of them would.
///
/// # Errors
/// If a tag forbids the push.
pub(super) async fn decide(
    session: &TargetSession,
    lookup: &mut TagLookup,
    existing: &[ExistingTag],
    reported: &TagPlan,
) -> Result<TagPlan> {
    let if_exists = session.options().if_exists;
    let is_moved = existing.iter().any(|tag| !tag.is_archived && tag.image != ImageMatch::Identical);
    lookup.rule = look_up_rule(session, &lookup.rule, if_exists == IfExists::Overwrite && is_moved).await;
    let tags = decide_tags(existing, if_exists, &lookup.rule).map_err(|it| conflict(session, &it))?;
    report_unchanged(session, &tags.unchanged, reported);
    Ok(tags)
}

/// Reports tags that stay where they are, except those that were reported before.
pub(super) fn report_unchanged(session: &TargetSession, unchanged: &[TagOutcome], reported: &TagPlan) {
    for TagOutcome { tag, digest, state, .. } in unchanged.iter().filter(|it| reported.unchanged(&it.tag).is_none()) {
        let (name, digest) = (session.name(), digest.short());
        session.note(match state {
            TagState::Same => format!("{name}:{tag} already points at this image, as {digest}; unchanged"),
            _ => format!("{name}:{tag} exists as {digest}; unchanged"),
        });
    }
}

/// Returns why nothing is pushed.
pub(super) fn conflict(session: &TargetSession, TagConflict(tags): &TagConflict) -> Error {
    let name = session.name();
    let tags: Vec<String> = tags.iter().map(|(tag, digest)| format!("{name}:{tag} points at {digest}")).collect();
    let tags = tags.join(", ");
    let (why, hint) = match session.options().if_exists {
        IfExists::Fail => (
            "and existing tags are not allowed",
            Advice::new("Push under another tag, or allow tags that point at the same image")
                .setting_with("if-exists", "same-ok"),
        ),
        IfExists::SameOk => (
            "which is another image",
            Advice::new("Push under another tag, or move it").setting_with("if-exists", "overwrite"),
        ),
        IfExists::Overwrite | IfExists::Skip => (
            "which is another image, and the tag is immutable",
            Advice::new("Push under another tag, or skip existing tags").setting_with("if-exists", "skip"),
        ),
    };
    Error::new(Kind::Refused, format!("{tags}, {why}")).code(Code::TagImmutable).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_of_tags_claims_only_what_is_known() {
        let tags = ["new", "this", "other", "archived", "unread", "skipped"].map(|tag| tag.parse::<Tag>().unwrap());
        let [_, this, other, archived, unread, skipped] = tags.clone();
        let there = |text: &str| RemoteManifest {
            bytes: Vec::new().into(),
            digest: Digest::of(text.as_bytes()),
            media_type: String::new(),
            stated_digest: None,
        };
        let (root, before) = (there("this").digest, there("other").digest);
        let lookup = TagLookup {
            found: vec![(this, there("this")), (other, there("other")), (skipped.clone(), there("other"))],
            archived: vec![(archived, there("this"))],
            unread: vec![unread],
            ..TagLookup::default()
        };
        let (media_type, state) = (String::new(), TagState::Skipped);
        let unchanged = TagOutcome { tag: skipped, digest: before, media_type, size: 0, state };
        let plan = TagPlan { unchanged: vec![unchanged], ..TagPlan::default() };
        let short = before.short();
        for (root, words) in [
            (Some(root), ["would be created", "unchanged", &format!("would move from {short}"), "would be pushed"]),
            (
                None,
                [
                    "would be created",
                    &format!("would move from {}", root.short()),
                    &format!("would move from {short}"),
                    &format!("would move from {}", root.short()),
                ],
            ),
        ] {
            let planned = lookup.planned_tags(&tags, &plan, root);
            let texts: Vec<_> = planned.iter().map(ToString::to_string).collect();
            assert_eq!(texts, [&words[..], &["would be pushed", "unchanged"]].concat());
            assert_eq!((planned[4].exists, planned[5].exists), (None, Some(true)));
            assert_eq!((planned[5].state, planned[5].digest), (TagState::Skipped, Some(before)));
        }
    }
}
