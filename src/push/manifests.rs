//! The end of a push: configs, manifests and referrers, and last the tags.

use super::delivery::Delivery;
use super::destination::Destination;
use super::{Event, Events};
use crate::archive::{self, Content, Image, Layer, Referrer, Replacements};
use crate::error::{Advice, Code, Result};
use crate::oci::OriginalManifest;
use crate::push::plan::{self, Wanted};

/// Puts the config, the manifests and last the tags, where all layers arrived.
///
/// If the registry says that a blob is missing after all, because it was collected meanwhile, that one is sent and the
/// manifest put again, once.
pub(super) async fn finish(destination: &Destination, image: &Image, wanted: &[Wanted], delivery: &Delivery<'_>) {
    if destination.has_failed() || destination.settle() {
        return;
    }
    let events = delivery.events();
    if !destination.is_up_to_date(image) {
        events(Event::Finishing(destination.name()));
    }
    let mut put = put_image(destination, image, events).await;
    if let Err(error) = &put
        && error.service_error().is_some_and(|answer| is_missing_blob(&answer.code))
    {
        events(Event::Warning(format!("{} lost a layer meanwhile: what is missing is sent again", destination.name())));
        put = match destination.look_again(image, events).await {
            Ok(()) => {
                delivery.run(wanted, &[], &[destination]).await;
                if destination.has_failed() {
                    return;
                }
                put_image(destination, image, events).await
            }
            Err(error) => Err(error),
        };
    }
    if let Err(error) = put {
        let has_foreign = image.manifests().into_iter().any(|manifest| !manifest.non_distributable.is_empty());
        destination.fail(match error.service_error() {
            Some(_) if has_foreign && error.advice().is_none() => error.code(Code::ManifestRejected).hint(
                Advice::new(
                    "The image has layers that stay at a URL, which not every registry accepts. Allow the URL in its \
                     configuration (distribution: validation.manifests.urls.allow), or send those that the archive has",
                )
                .setting("foreign-layers"),
            ),
            Some(answer) if answer.code == "MANIFEST_INVALID" && error.advice().is_none() => {
                error.code(Code::ManifestRejected).hint(
                    Advice::new("Correct wrong media types and remove what ECR is known to reject").setting("repair"),
                )
            }
            _ => error,
        });
    }
}

/// What registries say of a manifest whose blob they do not have: the specification's word, its older one, and that of
/// ECR's API (ECR API reference, PutImage).
fn is_missing_blob(code: &str) -> bool {
    matches!(code, "MANIFEST_BLOB_UNKNOWN" | "BLOB_UNKNOWN" | "LayersNotFoundException")
}

async fn put_image(destination: &Destination, image: &Image, events: &Events) -> Result<()> {
    if let Some(root) = destination.has_all_of(image) {
        return destination.put_tags(root).await;
    }
    for manifest in image.manifests() {
        destination.put_config(&manifest.config).await?;
    }
    let root = put_content(destination, &image.content, events).await?;
    if image.content.original().is_some_and(|stated| stated.digest != root.digest) {
        events(changed(
            if image.content.is_repaired() { REPAIRED } else { "plain layers were packed" },
            &image.content,
            &root,
        ));
    }
    if !image.referrers.is_empty() {
        // What belongs to it comes after it, and both before a tag leads there: whoever finds it finds it signed.
        destination.put_manifest(&root.digest.to_string(), &root).await?;
    }
    for Referrer { tag, content, .. } in &image.referrers {
        let stated = put_content(destination, content, events).await?;
        match tag {
            Some(tag) => destination.put_tag(tag, &stated).await?,
            None => destination.put_manifest(&stated.digest.to_string(), &stated).await?,
        }
    }
    destination.put_tags(&root).await
}

const REPAIRED: &str = "what was wrong was corrected";

/// Something has another digest than the archive says.
fn changed(why: &str, content: &Content, put: &OriginalManifest) -> Event {
    let what = if matches!(content, Content::Index(_)) { "index" } else { "manifest" };
    let before = content.original().map_or_else(|| content.id(), |stated| stated.digest);
    let (before, after) = (before.short(), put.digest.short());
    Event::Note(format!("{why}, so the {what} {before} of the archive becomes {after}"))
}

/// What an image becomes.
pub(super) struct Composed {
    /// What a tag will point at, or what belongs to something.
    pub(super) root: OriginalManifest,
    /// Everything below that, children first, each with what is to be said of it.
    below: Vec<(OriginalManifest, Option<Event>)>,
}

/// Makes the manifests and indexes of an image out of the layers as the registry has them.
///
/// # Errors
/// If one of these is not there, or if something gets too long.
pub(super) fn compose(
    destination: &Destination,
    content: &Content,
    stored: &dyn Fn(&plan::Key) -> Result<plan::Stored>,
) -> Result<Composed> {
    let mut composing = Composing { destination, stored, became: Replacements::new(), below: Vec::new() };
    let root = composing.of(content)?;
    Ok(Composed { root, below: composing.below })
}

/// What is made, and what was made of it so far.
struct Composing<'a> {
    destination: &'a Destination,
    stored: &'a dyn Fn(&plan::Key) -> Result<plan::Stored>,
    became: Replacements,
    below: Vec<(OriginalManifest, Option<Event>)>,
}

impl Composing<'_> {
    fn of(&mut self, content: &Content) -> Result<OriginalManifest> {
        let root = match content {
            Content::Manifest(manifest) => {
                let layer = |layer: &Layer| {
                    let key = plan::key(layer, plan::recipe(manifest, layer, self.destination.compression));
                    (self.stored)(&key).map(|stored| (stored.digest, stored.size, stored.compression))
                };
                let layers = manifest.layers.iter().map(layer).collect::<Result<Vec<_>>>()?;
                match self.destination.held(manifest, &layers) {
                    Some(held) => held,
                    None => archive::compose_manifest(manifest, &layers)?,
                }
            }
            Content::Index(index) => {
                for child in &index.children {
                    self.child(&child.content)?;
                }
                archive::compose_index(index, &self.became)?
            }
        };
        self.became.extend(content.original().map(|before| (before.digest, root.clone())));
        Ok(root)
    }

    /// What an index lists is made and put once, however often it is listed.
    fn child(&mut self, content: &Content) -> Result<()> {
        if content.original().is_some_and(|before| self.became.contains_key(&before.digest)) {
            return Ok(());
        }
        let root = self.of(content)?;
        let is_repaired = matches!(content, Content::Manifest(manifest) if manifest.repaired.is_some());
        let said = is_repaired.then(|| changed(REPAIRED, content, &root));
        self.below.push((root, said));
        Ok(())
    }
}

/// Puts everything below an index by digest, children first; the root itself is left for the tags.
async fn put_content(destination: &Destination, content: &Content, events: &Events) -> Result<OriginalManifest> {
    let Composed { root, below } = compose(destination, content, &|key| destination.stored(key))?;
    for (stated, said) in below {
        destination.put_manifest(&stated.digest.to_string(), &stated).await?;
        said.into_iter().for_each(|said| events(said));
    }
    Ok(root)
}
