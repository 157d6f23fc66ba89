//! What a target has already, and what happens to each layer and tag there.

use futures_util::future::join;

use super::availability::ask;
use super::blob_upload::check_size;
use super::compose::{root_digest, stated_digest};
use super::lookup::{TagLookup, conflict, decide, look_up_rule, report_unchanged};
use super::mount::{blob_mounting, find_mounts};
use super::plan::{self, LayerAction, PlannedLayer};
use super::producer::{missing, streamed_otherwise};
use super::record::Record;
use super::remote::{Known, read_images};
use super::run_blobs::{self, Mounting};
use super::session::TargetSession;
use super::source::SourceImage;
use super::tags::{IfExists, ImageMatch, decide_tags};
use crate::archive::{Content, Image, Layer, Manifest};
use crate::error::Result;
use crate::oci::{Digest, LayerId, OriginalManifest};
use crate::registry;
use crate::request_log::Subject;

/// Finds out what a target has before anything is known of the image, and decides on the tags as far as that goes.
///
/// # Errors
/// If a tag forbids the push, or if the registry does not answer.
pub(super) async fn look_ahead(session: &TargetSession, lookup: &mut TagLookup) -> Result<Known> {
    let may_move = session.options().if_exists == IfExists::Overwrite && !lookup.found.is_empty();
    let images = async { if lookup.is_only_planned { Vec::new() } else { read_images(session, lookup, None).await } };
    let (images, rule) = join(images, look_up_rule(session, &lookup.rule, may_move)).await;
    lookup.rule = rule;
    let mut known = Known { images, ..Known::default() };
    let existing = lookup.existing(None, None, false);
    let tags = decide_tags(&existing, session.options().if_exists, &lookup.rule);
    let tags = tags.map_err(|it| conflict(session, &it))?;
    report_unchanged(session, &tags.unchanged, &known.tags);
    known.tags = tags;
    if !known.tags.leaves_all(&session.tags) && !lookup.is_only_planned {
        let mut digests: Vec<Digest> =
            known.images.iter().flat_map(|image| &image.layers).map(|layer| layer.digest).collect();
        digests.sort_unstable();
        digests.dedup();
        known.blobs = ask(session, &digests).await?;
    }
    Ok(known)
}

/// Finds out which layers a target has, decides what happens to each, and to the tags. Returns the layers and configs to send,
/// or `None` if nothing is to be done at all.
///
/// # Errors
/// If the registry cannot store something, if a tag forbids the push, or if a layer is nowhere.
pub(super) async fn plan_image(
    session: &TargetSession,
    source: &SourceImage,
    lookup: &mut TagLookup,
    known: &mut Known,
    record: &mut Record,
) -> Result<Option<Vec<LayerId>>> {
    let image = &source.image;
    let is_up_to_date = |known: &Known| known.tags.leaves_all(&session.tags) && image.referrers.is_empty();
    if is_up_to_date(known) {
        return Ok(None);
    }
    let is_streamed = |layer: &&PlannedLayer| record.layer(&layer.id).is_some();
    let (streamed, new): (Vec<&PlannedLayer>, Vec<&PlannedLayer>) = source.layers.iter().partition(is_streamed);
    if let Some(layer) = new.iter().find(|layer| layer.layer.bytes.is_consumed()) {
        return Err(streamed_otherwise(layer));
    }
    let new: Vec<PlannedLayer> = new.into_iter().cloned().collect();
    let new = learn(session, image, new, streamed.is_empty(), lookup, known).await?;
    for Manifest { config, .. } in image.manifests() {
        registry::check_blob_size(&session.client, &Subject::Config(config.digest), config.bytes.len() as u64)
            .map_err(|error| error.hint("An artifact without a config uses `{}`: save it with that."))?;
    }
    let mut planned = plan::decide_layers(new, &known.blobs);
    share(session, &planned);
    // What this repository cannot store, no other one of the registry can have.
    for (layer, _) in planned.iter().filter(|(_, action)| *action == LayerAction::Upload) {
        check_size(session, layer)?;
    }
    plan_tags(session, image, &planned, lookup, known, record).await?;
    if is_up_to_date(known) {
        return Ok(None);
    }
    find_mounts(session, &mut planned, image).await;
    session.agree(&mut planned).await;
    let is_missing = |(layer, action): &&(PlannedLayer, LayerAction)| {
        *action == LayerAction::Upload && layer.layer.bytes.is_missing()
    };
    if let Some((layer, _)) = planned.iter().find(is_missing) {
        return Err(missing(layer));
    }
    // What was streamed and is not in the image is left out.
    record.layers.retain_mut(|layer| {
        let known = source.layers.iter().find(|known| known.id == layer.planned.id);
        known.is_some_and(|known| {
            layer.planned.settle(known);
            true
        })
    });
    Ok(Some(record.plan(session, planned, &known.blobs)))
}

/// Has other pushes know which layers the repository has, if they are the same blobs as those that would be sent.
fn share(session: &TargetSession, planned: &[(PlannedLayer, LayerAction)]) {
    for (layer, action) in planned {
        if let (LayerAction::Reuse(candidate), Some(key)) = (action, run_blobs::key(layer))
            && plan::is_as_sent(layer, &candidate.stored, &session.run.cache)
        {
            session.blobs.found(key, candidate.stored);
        }
    }
}

/// Finds out what the repository has of these layers, and adds to each which blobs would do in its place.
async fn learn(
    session: &TargetSession,
    image: &Image,
    layers: Vec<PlannedLayer>,
    is_first: bool,
    lookup: &mut TagLookup,
    known: &mut Known,
) -> Result<Vec<PlannedLayer>> {
    let all_stated = |layers: &[PlannedLayer]| layers.iter().all(PlannedLayer::is_verbatim);
    let moves_for_sure = has_another(session, lookup, image);
    // Where every digest is stated, other images have nothing to tell. What was streamed has been looked up.
    let is_open = !all_stated(&layers) && known.images.is_empty() && !lookup.is_only_planned;
    let images = async { if is_open { read_images(session, lookup, Some(image)).await } else { Vec::new() } };
    let (images, rule) = join(images, look_up_rule(session, &lookup.rule, moves_for_sure)).await;
    known.images.extend(images);
    lookup.rule = rule;
    let layers = plan::with_remote(&layers, &plan::configs(image), &known.images);
    let covered = match has_all_of(lookup, image) {
        Some(_) if all_stated(&layers) => Some(plan::stated(image, &layers)),
        _ => plan::covered(image, &layers, &known.images),
    };
    match covered {
        Some(blobs) => known.blobs = blobs,
        None if lookup.is_only_planned => {}
        None => {
            let manifests = if is_first { image.manifests() } else { Vec::new() };
            known.blobs.extend(ask(session, &plan::questions(&manifests, &layers)).await?);
        }
    }
    Ok(layers)
}

/// Decides on the tags that exist, now that the image is known, and its digest if that can be.
async fn plan_tags(
    session: &TargetSession,
    image: &Image,
    planned: &[(PlannedLayer, LayerAction)],
    lookup: &mut TagLookup,
    known: &mut Known,
    record: &Record,
) -> Result<()> {
    let options = session.options();
    if known.tags.leaves_all(&session.tags) {
        return Ok(());
    }
    let stored = |id: &LayerId| match planned.iter().find(|(layer, _)| layer.id == *id) {
        Some((_, LayerAction::Reuse(candidate))) => Some(candidate.stored),
        Some((_, LayerAction::Mount(..) | LayerAction::Upload)) => None,
        None => record.layer(id).and_then(|layer| layer.stored),
    };
    let root = root_digest(image, options.layers.compression, session.manifests_to_keep(&known.images), &stored);
    let existing = lookup.existing(Some(image), root, session.is_digest_expected);
    known.tags = decide(session, lookup, &existing, &known.tags).await?;
    Ok(())
}

/// Notes what a push would do with the tags, for a dry run.
pub(super) fn note_tags(
    session: &TargetSession,
    image: &Image,
    lookup: &TagLookup,
    known: &Known,
    record: &mut Record,
) {
    let (compression, images) = (session.options().layers.compression, session.manifests_to_keep(&known.images));
    let root = root_digest(image, compression, images, &|id| record.stored(id).ok());
    record.planned_tags = lookup.planned_tags(&session.tags, &known.tags, root);
    if known.tags.leaves_all(&session.tags) && image.referrers.is_empty() {
        record.layers.clear();
    }
}

/// Notes for a dry run of several pushes whether the registry forbids them to mount each other's layers.
pub(super) async fn note_mounting(session: &TargetSession, record: &mut Record) {
    if session.options().layers.pushes > 1 && record.layers.iter().any(|layer| layer.action == LayerAction::Upload) {
        record.is_mounting_off = session.blobs.mounting(blob_mounting(session)).await == Mounting::Off;
    }
}

/// Returns whether a tag points at another image for sure, before anything is known but the archive.
fn has_another(session: &TargetSession, lookup: &TagLookup, image: &Image) -> bool {
    let options = session.options();
    let stated = stated_digest(image, options.layers.compression);
    // What an index becomes is only known when its manifests are.
    let is_sure = stated.is_some() || matches!(image.content, Content::Manifest(_));
    let existing = lookup.existing(Some(image), stated, session.is_digest_expected);
    let is_other = existing.iter().any(|tag| !tag.is_archived && tag.image == ImageMatch::Other);
    options.if_exists == IfExists::Overwrite && is_sure && is_other
}

/// Returns the root of the image, if a tag points at it: then everything below it is there. Of referrers that says nothing.
pub(super) fn has_all_of<'a>(lookup: &TagLookup, image: &'a Image) -> Option<&'a OriginalManifest> {
    let is_there = |root: &&OriginalManifest| lookup.found.iter().any(|(_, found)| found.digest == root.digest);
    let root = image.content.original().filter(is_there)?;
    let is_another =
        |manifest: &Manifest| manifest.repaired.is_some() || manifest.layers.iter().any(Layer::is_non_distributable);
    let has_more = !image.referrers.is_empty() || image.manifests().into_iter().any(is_another);
    (!has_more).then_some(root)
}

/// Asks again what is there, now that a manifest was refused because a blob is missing. Returns what has to be sent again.
///
/// # Errors
/// If the registry does not answer.
pub(super) async fn look_again(
    session: &TargetSession,
    image: &Image,
    known: &mut Known,
    record: &mut Record,
) -> Result<Vec<LayerId>> {
    let stored = record.layers.iter().filter_map(|layer| Some(layer.stored?.digest));
    let configs = image.manifests().into_iter().map(|manifest| manifest.config.digest);
    let mut digests: Vec<Digest> = stored.chain(configs).collect();
    digests.sort_unstable();
    digests.dedup();
    known.blobs = ask(session, &digests).await?;
    Ok(record.send_again(&known.blobs))
}
