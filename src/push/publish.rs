//! The end of a push: configs, manifests and referrers, and last the tags.

use super::Event;
use super::lookup::TagLookup;
use super::planning::look_again;
use super::publication::{Facts, Publication, Step, note_of_change, publication};
use super::record::Record;
use super::remote::Known;
use super::session::TargetSession;
use super::source::TargetSource;
use super::tags::{TagOutcome, TagState};
use super::upload::Uploader;
use crate::archive::{Config, Image};
use crate::error::{Advice, Code, Error, Kind, Result};
use crate::oci::{OriginalManifest, Tag};

/// Puts the configs, the manifests and last the tags of an image whose layers are all there.
///
/// If the registry says that a blob is missing after all, because it was collected meanwhile, that one is sent and the
/// manifest put again, once.
///
/// # Errors
/// If the registry refuses, or does not answer.
pub(super) async fn publish(
    session: &TargetSession,
    source: &TargetSource,
    image: &Image,
    lookup: &TagLookup,
    known: &mut Known,
    record: &mut Record,
) -> Result<()> {
    let publication = compose(session, image, lookup, known, record)?;
    if publication.steps.iter().any(|step| !matches!(step, Step::Leave(_))) {
        session.emit(Event::Publishing { target: session.target() });
    }
    let change = note_of_change(image, &publication.root);
    let mut put = put_all(session, publication, change, record).await;
    if put.as_ref().is_err_and(is_missing_blob) {
        let name = session.name();
        session.emit(Event::Warning(format!("{name} does not have a layer any more; uploading it again")));
        let lost = look_again(session, image, known, record).await?;
        let layers = lost.iter().filter_map(|id| record.layer(id));
        session.blobs.lost(&layers.filter_map(|layer| layer.key).collect::<Vec<_>>());
        let configs = configs(image);
        Uploader::new(session, source, record, known).send(lost, configs).await?;
        let publication = compose(session, image, lookup, known, record)?;
        let change = note_of_change(image, &publication.root);
        put = put_all(session, publication, change, record).await;
    }
    put.map_err(|error| explain(error, image))?;
    session.blobs.published();
    Ok(())
}

/// Returns the configs of an image, to be sent after its layers.
pub(super) fn configs(image: &Image) -> Vec<Config> {
    image.manifests().into_iter().map(|manifest| manifest.config.clone()).collect()
}

/// What registries say of a manifest whose blob they do not have: the specification's word, its older one, and that of
/// ECR's API (ECR API reference, PutImage).
fn is_missing_blob(error: &Error) -> bool {
    let code = error.service_error().map(|answer| answer.code.as_str());
    matches!(code, Some("MANIFEST_BLOB_UNKNOWN" | "BLOB_UNKNOWN" | "LayersNotFoundException"))
}

/// Adds what may help to an error of the registry.
fn explain(error: Error, image: &Image) -> Error {
    let has_foreign = image.manifests().into_iter().any(|manifest| !manifest.non_distributable.is_empty());
    match error.service_error() {
        Some(_) if has_foreign && error.advice().is_none() => error.code(Code::ManifestRejected).hint(
            Advice::new(
                "The image has non-distributable layers, which not every registry accepts. Allow the URL in its \
                 configuration (distribution: validation.manifests.urls.allow), or send those that the archive has",
            )
            .setting("foreign-layers"),
        ),
        Some(answer) if answer.code == "MANIFEST_INVALID" && error.advice().is_none() => error
            .code(Code::ManifestRejected)
            .hint(Advice::new("Correct wrong media types and remove what ECR is known to reject").setting("repair")),
        _ => error,
    }
}

/// Returns what is put, in its order, now that every layer is there.
fn compose(
    session: &TargetSession,
    image: &Image,
    lookup: &TagLookup,
    known: &Known,
    record: &Record,
) -> Result<Publication> {
    let facts = Facts {
        image,
        compression: session.options().layers.compression,
        images: session.manifests_to_keep(&known.images),
        name: &session.name(),
        tags: &session.tags,
        lookup,
        plan: &known.tags,
        is_verbatim: record.layers.iter().all(|layer| layer.planned.is_verbatim()),
    };
    let publication = publication(&facts, &|id| record.stored(id))?;
    session.agreement.as_ref().map_or(Ok(()), |agreement| agreement.check_root(publication.root.digest))?;
    Ok(publication)
}

/// Puts everything in its order. `change` is a note about the root, for which all below it has to be there.
///
/// # Errors
/// If the registry refuses, or does not answer.
pub(super) async fn put_all(
    session: &TargetSession,
    Publication { root, steps }: Publication,
    mut change: Option<String>,
    record: &mut Record,
) -> Result<()> {
    for step in steps {
        if !matches!(step, Step::Manifest(..)) {
            change.take().into_iter().for_each(|note| session.note(note));
        }
        match step {
            Step::Manifest(manifest, note) => {
                put_manifest(session, &manifest.digest.to_string(), &manifest, record).await?;
                note.into_iter().for_each(|note| session.note(note));
            }
            Step::Referrer(tag, manifest) => put_tag(session, &tag, &manifest, record).await?,
            Step::Tag(tag, before) => {
                put_tag(session, &tag, &root, record).await?;
                if let Some(before) = before {
                    session.note(format!("tag {}:{tag} moved from {} to this image", session.name(), before.short()));
                }
                record.place(TagOutcome::new(&tag, &root, TagState::Pushed), &root);
            }
            Step::Leave(outcome) => record.place(outcome, &root),
        }
    }
    Ok(())
}

/// Puts a manifest under a digest or a tag.
async fn put_manifest(
    session: &TargetSession,
    reference: &str,
    manifest: &OriginalManifest,
    record: &mut Record,
) -> Result<()> {
    let OriginalManifest { bytes, digest, media_type, .. } = manifest;
    // Before the request goes out, an interruption leaves no doubt.
    let is_sent = !session.stop.is_cancelled();
    let put = session.client.put_manifest(reference, media_type, *digest, bytes.clone()).await;
    record.is_changed |= put.is_ok();
    put.map_err(|error| match error.kind() {
        Kind::Interrupted if is_sent => error.because(format!(
            "no answer came to the manifest {reference} of {}: the registry may have accepted it",
            session.name()
        )),
        _ => session.explain_manifest(error, manifest),
    })
}

/// Puts a manifest under a tag. One that is immutable is refused even if it points here already, as after an answer that got
/// lost (aws/containers-roadmap#2179).
async fn put_tag(session: &TargetSession, tag: &Tag, manifest: &OriginalManifest, record: &mut Record) -> Result<()> {
    let Err(error) = put_manifest(session, tag.as_str(), manifest, record).await else { return Ok(()) };
    let is_immutable = error.service_error().is_some_and(|answer| answer.code == "TAG_INVALID");
    let there = if is_immutable { session.client.manifest(tag.as_str()).await.ok().flatten() } else { None };
    if there.is_some_and(|there| there.digest == manifest.digest) { Ok(()) } else { Err(error) }
}
