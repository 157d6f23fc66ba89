//! Images that a repository holds already, read for layers that need neither be compressed nor sent.

use bytes::Bytes;
use tracing::debug;

use super::lookup::{TagLookup, conflict};
use super::options::Reuse;
use super::plan::{Blobs, PlannedLayer};
use super::session::TargetSession;
use super::tags::{TagConflict, TagPlan, is_same};
use super::time_limit::{described, in_time};
use crate::archive::{Image, Layer};
use crate::error::{Code, Error, Kind, Result, Setting};
use crate::oci::{DiffId, Digest, Platform, TagPattern};
use crate::registry::RemoteManifest;
use crate::reuse::{self, RemoteImage};

/// How many uncompressed bytes are compressed before it is worth finding out how that could have been saved.
const WORTH_A_NOTE: u64 = 32 << 20;

/// Reads the images that may have layers of this one, as far as that is known yet. Of those that the tags point at one will
/// do: the same image if it is among them, else the first.
pub(super) async fn read_images(
    session: &TargetSession,
    lookup: &TagLookup,
    image: Option<&Image>,
) -> Vec<RemoteImage> {
    let (options, mut images) = (session.options(), Vec::new());
    let why_not = match options.layers.reuse {
        Reuse::Tag if lookup.found.is_empty() => Some("its tags do not exist yet"),
        Reuse::Tag => None,
        Reuse::Cache => Some("layers are reused from the cache only"),
        Reuse::Off => Some("layer reuse is off"),
    };
    if let Some(why) = why_not {
        debug!("no image of {} is read for layers: {why}", session.name());
    }
    let same = lookup.found.iter().find(|(_, root)| image.is_some_and(|image| is_same(root, image)));
    if let Some((tag, root)) = same.or_else(|| lookup.found.first()).filter(|_| options.layers.reuse == Reuse::Tag) {
        images.extend(read_image(session, tag.as_str(), root.clone(), image).await);
    }
    for pattern in &options.layers.reuse_from {
        match in_time(newest(session, pattern)).await {
            Ok(Some((tag, root))) => images.extend(read_image(session, &tag, root, image).await),
            Ok(None) => session.note(format!("{} has no tag {pattern} to reuse layers from", session.name())),
            Err(error) => note_no_reuse(session, &pattern.to_string(), &error),
        }
    }
    images
}

/// Finds out, while these layers are compressed and sent, whether reading the newest image would have saved that, and notes
/// it. A failed lookup is not reported.
pub(super) async fn suggest_reuse(
    session: &TargetSession,
    lookup: &TagLookup,
    is_new_repository: bool,
    compressed: &[Layer],
    image: &Image,
) {
    let options = session.options();
    let is_worth_it = compressed.iter().map(|layer| layer.bytes.len()).sum::<u64>() >= WORTH_A_NOTE;
    let is_wanted = options.layers.reuse == Reuse::Tag && options.layers.reuse_from.is_empty() && session.ecr.is_some();
    if !is_worth_it || !is_wanted || !lookup.found.is_empty() || is_new_repository {
        return;
    }
    let client = &session.client;
    let reading = in_time(async {
        let Some((tag, root)) = newest(session, &TagPattern::any()).await? else { return Ok(None) };
        let manifests = reuse::read_manifests(client, root, Some(&platforms(image))).await?;
        Ok(Some((tag, reuse::read_images(client, manifests, configs(image)).await?)))
    });
    let Ok(Some((tag, images))) = reading.await else { return };
    let has = |diff_id: DiffId| images.iter().flat_map(|image| &image.layers).any(|layer| layer.diff_id == diff_id);
    let count = compressed.iter().filter(|layer| layer.diff_id.is_some_and(has)).count();
    if count > 0 {
        session.note(format!(
            "{}:{tag} has {count} of the layers that are compressed and sent now: with {}, or a pattern for \
             such tags, they are reused",
            session.name(),
            Setting::with("reuse-from", &tag)
        ));
    }
}

/// The image under a tag, or under the newest of those that match.
async fn newest(session: &TargetSession, pattern: &TagPattern) -> Result<Option<(String, RemoteManifest)>> {
    let tag = match (pattern.tag(), &session.ecr) {
        (Some(tag), _) => Some(tag.to_owned()),
        (None, Some((ecr, place))) => ecr.newest_tag(place, pattern).await?,
        (None, None) => {
            let what = format!(
                "{} does not report when a tag was pushed; use a tag instead of a pattern",
                session.client.name()
            );
            return Err(Error::new(Kind::Refused, what).code(Code::TimedOut));
        }
    };
    let Some(tag) = tag else { return Ok(None) };
    Ok(session.client.manifest(&tag).await?.map(|root| (tag, root)))
}

/// Reads what an image of the repository says about its layers.
async fn read_image(
    session: &TargetSession,
    tag: &str,
    root: RemoteManifest,
    image: Option<&Image>,
) -> Vec<RemoteImage> {
    let client = &session.client;
    let read = in_time(async {
        let platforms = image.map(platforms);
        let manifests = reuse::read_manifests(client, root, platforms.as_deref()).await?;
        let ours = image.map(configs);
        reuse::read_images(client, manifests, |digest| ours.as_ref().and_then(|ours| ours(digest))).await
    });
    match read.await {
        Ok(images) => {
            let count = images.iter().map(|image| image.layers.len()).sum::<usize>();
            debug!("{}:{tag} was read for layer reuse: {count} layers", session.name());
            images
        }
        Err(error) => {
            note_no_reuse(session, tag, &error);
            Vec::new()
        }
    }
}

fn note_no_reuse(session: &TargetSession, tag: &str, error: &Error) {
    session.note(format!(
        "{}:{tag} could not be read: {}; its layers are not reused",
        session.name(),
        described(error)
    ));
}

/// Returns the platforms of an image.
pub(super) fn platforms(image: &Image) -> Vec<Platform> {
    image.manifests().into_iter().filter_map(|manifest| manifest.config.platform.clone()).collect()
}

/// Returns the configs of an image, which no registry has to be asked for.
pub(super) fn configs(image: &Image) -> impl Fn(&Digest) -> Option<Bytes> {
    let manifests = image.manifests();
    move |digest| {
        let same = manifests.iter().find(|manifest| manifest.config.digest == *digest);
        same.map(|manifest| manifest.config.bytes.clone())
    }
}

/// What is known of a target before a layer is sent.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Images that its repository holds.
    pub(super) images: Vec<RemoteImage>,
    /// The blobs that its repository has, as far as it was asked.
    pub(super) blobs: Blobs,
    /// What happens to the tags that exist, as far as that is decided.
    pub(super) tags: TagPlan,
}

impl Known {
    /// Checks that a layer of a pipe may belong to the image that an immutable tag points at. Where it does not, what comes is
    /// another image, whatever else is in it.
    ///
    /// # Errors
    /// If it does not.
    pub(super) fn check_layer(&self, session: &TargetSession, layer: &PlannedLayer) -> Result<()> {
        let Some(diff_id) = layer.layer.diff_id else { return Ok(()) };
        for (tag, digest) in &self.tags.must_match {
            let image = self.images.iter().find(|image| image.manifest.digest == *digest);
            // All of its layers have to be known.
            let image = image.filter(|image| image.layers.len() == reuse::layer_blobs(&image.manifest).len());
            if image.is_some_and(|image| image.layers.iter().all(|layer| layer.diff_id != diff_id)) {
                return Err(conflict(session, &TagConflict(vec![(tag.clone(), *digest)])));
            }
        }
        Ok(())
    }
}
