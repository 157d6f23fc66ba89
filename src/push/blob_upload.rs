//! One blob of a target on its way: a layer of a file or a pipe, or a config.

use std::sync::Arc;
use std::time::Duration;

use super::plan::PlannedLayer;
use super::record::LayerRecord;
use super::session::TargetSession;
use super::source::OfferedLayer;
use crate::archive::Config;
use crate::compress::{CompressionSpec, DataBlock, LayerSummary, Meter};
use crate::error::{Advice, Result, Setting};
use crate::registry::{self, Blob, LayerStream, OpenedUpload};
use crate::request_log::Subject;
use crate::reuse::CachedLayer;

/// Checks that the registry stores a layer of that size, as far as it is known before the layer is compressed.
///
/// # Errors
/// If it does not.
pub(super) fn check_size(session: &TargetSession, planned: &PlannedLayer) -> Result<()> {
    if !matches!(planned.spec, CompressionSpec::Keep { .. }) {
        return Ok(());
    }
    let advice = || {
        Advice::new("With gzip it is not empty, and the manifest gets another digest")
            .setting_with("compression", "gzip")
    };
    registry::check_blob_size(&session.client, &session.subject(planned), planned.layer.bytes.len())
        .map_err(|error| if error.advice().is_none() { error.hint(advice()) } else { error })
}

/// Sends a layer of a pipe: as it comes, or from a file where the registry may ask for it again.
pub(super) async fn send_streamed(
    session: &TargetSession,
    layer: &LayerRecord,
    streamed: &OfferedLayer,
    opened: Option<OpenedUpload>,
) -> Result<LayerSummary> {
    let (client, total) = (&session.client, layer.planned.layer.bytes.len());
    // The response may show whether the registry can ever ask for the layer again.
    let opened = match opened {
        None if client.may_reject_chunks(total) => Some(client.open_upload(&session.subject(&layer.planned)).await?),
        opened => opened,
    };
    let reason_to_spool = if !client.reports_upload_status() {
        Some(
            "each layer is in a temporary file until it is uploaded, because the registry may lose an interrupted upload",
        )
    } else if client.may_reject_chunks(total) {
        Some("large layers are in a temporary file until one is uploaded, because this registry is unknown")
    } else {
        None
    };
    let first = streamed.open(reason_to_spool);
    let blob = Blob { is_repeatable: streamed.is_spooled(), ..blob(session, layer) };
    registry::upload(client, &blob, opened, first, || streamed.open(None)).await
}

/// Uploads a config.
///
/// # Errors
/// If the registry refuses it, or does not answer.
pub(super) async fn send_config(session: &TargetSession, config: &Config) -> Result<()> {
    let size = config.bytes.len() as u64;
    let stream = || {
        let summary = LayerSummary { digest: config.digest, size, diff_id: None };
        LayerStream::in_memory(DataBlock { bytes: config.bytes.clone(), position: size }, summary)
    };
    let subject = Subject::Config(config.digest);
    let blob = Blob { subject, identity: None, is_repeatable: true, meter: Arc::new(Meter::new(size)) };
    match registry::upload(&session.client, &blob, None, stream(), stream).await {
        Ok(_) => Ok(()),
        Err(error) => Err(session.explain_upload(error).await),
    }
}

/// Returns what identifies the upload of a layer for the next run. `None` if that cannot resume it, or would not.
pub(super) fn resume_identity(planned: &PlannedLayer) -> Option<String> {
    planned.identity().filter(|_| registry::may_be_resumed(planned.layer.bytes.len()))
}

pub(super) fn blob(session: &TargetSession, layer: &LayerRecord) -> Blob {
    let subject = session.subject(&layer.planned);
    Blob { subject, identity: resume_identity(&layer.planned), is_repeatable: true, meter: Arc::clone(&layer.meter) }
}

/// Notes in the layer cache what a layer has become.
pub(super) fn remember(session: &TargetSession, planned: &PlannedLayer, sent: &LayerSummary, took: Option<Duration>) {
    let Some(diff_id) = sent.diff_id else { return };
    let known = CachedLayer::new(diff_id, sent.digest, sent.size, planned.spec);
    let known = match took {
        Some(took) => known.with_time(took),
        None => known,
    };
    if let Err(error) = session.run.cache.record(known) {
        session.note(format!("layer cache disabled: {error} ({})", Setting::with("cache", "FILE")));
    }
}
