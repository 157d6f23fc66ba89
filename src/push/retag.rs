//! Additional tags for an image that a repository has: its manifest is read once and put under each of them, and nothing else
//! is sent.

use std::fmt;

use futures_util::future::{BoxFuture, join_all};
use tokio_util::sync::CancellationToken;

use super::Event;
use super::lookup::{archived, decide, look_up_tags};
use super::outcome::{Outcome, TargetOutcome};
use super::publication::{Publication, tag_steps};
use super::publish::put_all;
use super::pusher::{Pusher, settle, unless_stopped};
use super::record::Record;
use super::session::TargetSession;
use super::tags::{TagPlan, TagRule};
use crate::error::{Advice, Code, Error, Kind, Result};
use crate::oci::{Digest, Document, OriginalManifest, Tag, Target};
use crate::registry::{ManifestLookup, RemoteManifest};
use crate::request_log::{Named, TargetId};

/// An image of a repository, and the tags that it gets there.
///
/// ```
/// use ecr_push::{ImageReference, TagRequest, Target};
///
/// let mut target: Target = "team/app:stable".parse()?;
/// target.tags.push("1.4".parse()?);
/// let request = TagRequest::new(ImageReference::Tag("1.4.2".parse()?), [target]);
/// assert_eq!(request.to_string(), "team/app:1.4.2");
/// # Ok::<(), ecr_push::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TagRequest {
    /// The image, in the repository of each target.
    pub image: ImageReference,
    /// The repositories, each with the tags to put: usually one, or the same one in several regions.
    pub targets: Vec<Target>,
}

/// What names an image within its repository.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ImageReference {
    /// A tag that points at it.
    Tag(Tag),
    /// Its digest.
    Digest(Digest),
}

impl TagRequest {
    /// Creates a request.
    pub fn new(image: ImageReference, targets: impl IntoIterator<Item = Target>) -> Self {
        Self { image, targets: targets.into_iter().collect() }
    }
}

impl fmt::Display for TagRequest {
    /// Formats the image, in the repository of the first target.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.targets.first().map(|target| Target { tags: Vec::new(), ..target.clone() });
        write!(f, "{}{}", target.map(|target| target.to_string()).unwrap_or_default(), self.image.suffix())
    }
}

impl ImageReference {
    /// Returns what follows the name of the repository: `:TAG` or `@DIGEST`.
    fn suffix(&self) -> String {
        match self {
            Self::Tag(tag) => format!(":{tag}"),
            Self::Digest(digest) => format!("@{digest}"),
        }
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl Pusher {
    /// Gives an image of a repository additional tags. Its manifest or index is put as it was read, so the digest stays the same.
    ///
    /// The policy for existing tags is that of a push, and so are the outcome and the effect of `stop`, [`Options::deadline`]
    /// and [`Options::dry_run`]. No repository is created.
    ///
    /// [`Options::deadline`]: super::Options::deadline
    /// [`Options::dry_run`]: super::Options::dry_run
    ///
    /// ```
    /// # use ecr_push::sandbox::{self, Sandbox};
    /// # use ecr_push::{CancellationToken, Options, PushRequest, Pusher, Source};
    /// use ecr_push::{ImageReference, TagRequest};
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
    /// let pushed = pusher.push(request, CancellationToken::new()).await.into_result()?;
    /// let request = TagRequest::new(ImageReference::Tag("1.4".parse()?), ["team/app:stable".parse()?]);
    /// let tagged = pusher.tag(request, CancellationToken::new()).await.into_result()?;
    /// assert_eq!(tagged.digests(), pushed.digests());
    /// assert_eq!(sandbox.image("team/app", "stable"), sandbox.image("team/app", "1.4"));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn tag(&self, request: TagRequest, stop: CancellationToken) -> Outcome {
        let in_time = stop.child_token();
        self.within_deadline(&stop, &in_time, self.tag_all(request, in_time.clone())).await
    }

    async fn tag_all(&self, request: TagRequest, stop: CancellationToken) -> Outcome {
        let mut outcome = Outcome::of_targets(request.to_string(), &request.targets, &self.run.options);
        let targets = outcome.targets.iter_mut().enumerate();
        join_all(targets.map(|(id, outcome)| self.tag_target(&request, id, stop.child_token(), outcome))).await;
        outcome
    }

    /// Tags the image of one target, and fills in its outcome.
    async fn tag_target(
        &self,
        request: &TagRequest,
        id: TargetId,
        stop: CancellationToken,
        outcome: &mut TargetOutcome,
    ) {
        let mut record = Record::default();
        let chain: BoxFuture<'_, Result<()>> = Box::pin(self.put_tags(request, id, stop, &mut record));
        let done = chain.await;
        settle(&self.run, id, done, record, outcome);
    }

    /// The chain: each phase by its name, in the order in which facts become known.
    async fn put_tags(
        &self,
        request: &TagRequest,
        id: TargetId,
        stop: CancellationToken,
        record: &mut Record,
    ) -> Result<()> {
        let target = &request.targets[id];
        self.run.emit(Event::LookingUp { target: Named::new(id, target.to_string()) });
        let connecting: BoxFuture<'_, _> = Box::pin(self.registries.connect(target, &request.targets, 1, stop.clone()));
        let connection = unless_stopped(&stop, connecting).await?;
        let session = TargetSession::new(&self.run, id, target, connection, stop.clone());
        (record.name, record.tags) = (Some(session.name()), session.tags.clone());
        let root = unless_stopped(&stop, read(&session, &request.image)).await?;
        let lookup = unless_stopped(&stop, look_up_tags(&session, TagRule::NotAsked)).await;
        let mut lookup = lookup.map_err(|error| session.explain(error))?;
        let existing = lookup.existing(None, Some(root.digest), true);
        let none = TagPlan::default();
        let plan = unless_stopped(&stop, decide(&session, &mut lookup, &existing, &none)).await?;
        if self.run.options.dry_run {
            record.planned_tags = lookup.planned_tags(&session.tags, &plan, Some(root.digest));
            return Ok(());
        }
        let steps = tag_steps(&session.name(), &session.tags, &lookup, &plan, &root)?;
        put_all(&session, Publication { root, steps }, None, record).await
    }
}

/// Reads the manifest or the index of an image.
///
/// # Errors
/// If it does not exist, or if the bytes that came are not those of the digest, or no manifest.
async fn read(session: &TargetSession, image: &ImageReference) -> Result<OriginalManifest> {
    let (name, lookup) = (session.name(), session.client.lookup(&image.to_string()).await);
    match lookup.map_err(|error| session.explain(error))? {
        ManifestLookup::Found(found) => original(found, image).map_err(|why| {
            let what = format!("cannot tag {name}{}: {} sent no such manifest", image.suffix(), session.host);
            Error::new(Kind::Refused, what).code(Code::ProtocolViolation).because(why)
        }),
        ManifestLookup::NoRepository => {
            let error = Error::new(Kind::Refused, format!("the repository {name} does not exist"));
            Err(error.code(Code::RepositoryNotFound).hint(match &session.place {
                Some(place) => Advice::new("Check its name and the region. List the repositories:").command(format!(
                    "aws ecr describe-repositories --registry-id {} --region {} --query repositories[].repositoryName",
                    place.host.account, place.host.region
                )),
                None => Advice::new("Check its name."),
            }))
        }
        ManifestLookup::NoImage | ManifestLookup::Unclear => Err(missing(session, image).await),
    }
}

/// Returns the manifest that was read, checked.
fn original(found: RemoteManifest, image: &ImageReference) -> Result<OriginalManifest, String> {
    let RemoteManifest { bytes, digest, media_type, stated_digest } = found;
    let named = match image {
        ImageReference::Tag(_) => stated_digest,
        ImageReference::Digest(named) => Some(*named),
    };
    if let Some(named) = named.filter(|named| *named != digest) {
        return Err(format!("the bytes have the digest {digest}, not {named}"));
    }
    let document = Document::parse(&bytes).map_err(|error| format!("it is not valid: {error}"))?;
    let stated = document.media_type.as_deref().unwrap_or(&media_type);
    let media_type = if stated.is_empty() { document.own_media_type() } else { stated }.to_owned();
    let subject = document.subject();
    Ok(OriginalManifest { bytes, digest, media_type, subject })
}

/// Returns the error that an image does not exist. A registry does not serve an archived one, either.
async fn missing(session: &TargetSession, image: &ImageReference) -> Error {
    let name = format!("{}{}", session.name(), image.suffix());
    if let ImageReference::Tag(tag) = image
        && archived(session, vec![tag.clone()]).await.is_ok_and(|found| !found.is_empty())
    {
        return Error::new(Kind::Refused, format!("the image {name} is archived and cannot be read"))
            .code(Code::ImageNotFound)
            .hint("Restore it first, or push it again.");
    }
    let text = "Check the tag or the digest, or push the image first.";
    let advice = match &session.place {
        Some(place) => Advice::new(format!("{text} List the images:")).command(format!(
            "aws ecr list-images --repository-name {} --registry-id {} --region {}",
            place.repository, place.host.account, place.host.region
        )),
        None => Advice::new(text),
    };
    Error::new(Kind::Refused, format!("the image {name} does not exist")).code(Code::ImageNotFound).hint(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_manifest_that_was_meant_is_put() {
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        let found = |bytes: &'static str, media_type: &str, stated_digest| RemoteManifest {
            bytes: bytes.into(),
            digest: Digest::of(bytes.as_bytes()),
            media_type: media_type.to_owned(),
            stated_digest,
        };
        let (digest, another) = (Digest::of(index.as_bytes()), Digest::of(b"another"));
        let tag = ImageReference::Tag(Tag::latest());
        for (stated, image, is_meant) in [
            (None, &tag, true),
            (Some(digest), &tag, true),
            (Some(another), &tag, false),
            (None, &ImageReference::Digest(digest), true),
            (Some(digest), &ImageReference::Digest(another), false),
        ] {
            assert_eq!(original(found(index, "x/y", stated), image).is_ok(), is_meant, "{stated:?} {image:?}");
        }
        assert!(original(found("<html>", "text/html", None), &tag).is_err());
        let typed = r#"{"mediaType":"a/b","schemaVersion":2}"#;
        for (bytes, header, media_type) in
            [(index, "x/y", "x/y"), (index, "", "application/vnd.oci.image.index.v1+json"), (typed, "x/y", "a/b")]
        {
            assert_eq!(original(found(bytes, header, None), &tag).unwrap().media_type, media_type);
        }
    }
}
