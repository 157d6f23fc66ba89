//! The upload of one blob: a session, chunks, the closing PUT, and the recovery from failures.
//!
//! A chunk is sent as a PATCH only if at least one more byte follows: the closing PUT carries the last chunk and the digest,
//! and a blob that fits into one chunk takes two requests. While one chunk is sent, the next is gathered. A registry that
//! accepts no chunks gets a single request, and so does one to which chunks would not use the line.
//!
//! A chunk stays in the [`Window`] until the registry has acknowledged it. After a failure the registry is asked for the
//! offset, and the upload resumes there; it restarts from byte 0 only if the session is gone. This is the only retry loop
//! around a layer's bytes. A session that is abandoned is closed, unless the next run can resume it.

use reqwest::Url;
use tracing::debug;

use super::client::Client;
use super::open_upload::OpenedUpload;
use super::resume::note_not_resumable;
use super::resume_store::{Checkpoint, Noted, ResumeEntry};
use super::session::Session;
use super::stream::LayerStream;
use super::upload_job::{Blob, RetryBudget, UploadError};
use super::window::Window;
use crate::compress::{LayerSummary, size};
use crate::error::{Code, Error, Result};
use crate::request_log::Subject;

/// Uploads the blob that `stream` delivers and returns its summary. Uses the session that is open already, if there is one.
/// To start over, `restart` opens a stream from byte 0.
///
/// # Errors
/// Fails if the registry rejects the blob or keeps failing, if the stream fails, and on cancellation. No session stays open
/// while the registry can be reached, except those in the store of interrupted uploads.
pub(crate) async fn upload(
    client: &Client,
    blob: &Blob,
    opened: Option<OpenedUpload>,
    stream: LayerStream,
    restart: impl Fn() -> LayerStream,
) -> Result<LayerSummary> {
    let doing = format!("cannot upload {} to {}", blob.subject, client.repository());
    let client = &client.about(&blob.subject);
    let mut entry = blob.identity.as_deref().and_then(|identity| client.resume_entry(identity));
    let _in_progress = client.strategy().line().begin_blob(blob.meter.total());
    let mut budget = RetryBudget::new(client, blob);
    let mut start = Start::New(opened);
    let mut window = Window::new(stream);
    let mut mismatch: Option<LayerSummary> = None;
    loop {
        blob.meter.set(0, 0);
        blob.meter.resume_at(0);
        match run_session(client, blob, &mut window, &mut budget, &mut entry, std::mem::take(&mut start)).await {
            Ok(summary) => return Ok(summary),
            Err(UploadError::Permanent(error)) => return Err(client.explain(error, &doing)),
            Err(UploadError::SessionLost) => {
                budget.separate_connections = true;
                debug!("{}: {} lost the upload session; starting over", blob.subject, client.name());
            }
            Err(UploadError::StreamBroken(location)) => {
                debug!("{}: the stream broke; continuing in chunks", blob.subject);
                start = Start::AfterStream(location);
            }
            Err(UploadError::StreamRejected) => {
                debug!("{}: {} does not accept a stream; sending it again in chunks", blob.subject, client.name());
            }
            Err(UploadError::StreamEnded) => {
                window = Window::new(restart());
                continue;
            }
            Err(UploadError::NotResumable) => note_not_resumable(client, blob),
            Err(UploadError::ChunksRejected) => debug!(
                "{}: {} does not accept chunks; sending it again in a single request",
                blob.subject,
                client.name()
            ),
            Err(UploadError::DigestMismatch(summary, error)) => {
                if let Some(before) = mismatch.replace(summary) {
                    return Err(client.explain(error, &doing).hint(advice_on_mismatch(before == summary)));
                }
            }
        }
        budget.start_over();
        window = Window::new(restart());
    }
}

/// Where an upload begins.
enum Start {
    /// In a session without data, which may be open already.
    New(Option<OpenedUpload>),
    /// In the session of a stream that broke, if the registry keeps it.
    AfterStream(Url),
}

impl Default for Start {
    fn default() -> Self {
        Self::New(None)
    }
}

/// Runs one session to its end: that of an earlier run, else that of `start`, else a new one. A session that ends early is closed,
/// unless the next run can resume it.
async fn run_session(
    client: &Client,
    blob: &Blob,
    window: &mut Window,
    budget: &mut RetryBudget<'_>,
    entry: &mut Option<ResumeEntry>,
    start: Start,
) -> Result<LayerSummary, UploadError> {
    let (resumed, opened) = match start {
        Start::AfterStream(location) => {
            let resumed = Session::after_stream(client, blob, window, budget, location.clone()).await;
            match &resumed {
                Ok(Some(_)) => {}
                Err(UploadError::Permanent(error))
                    if error.may_succeed_later() && can_resume(client, entry.as_ref()) => {}
                Ok(None) => {
                    if let Some(entry) = entry {
                        entry.abandon();
                    }
                }
                Err(_) => give_up(client, location, entry).await,
            }
            (resumed, None)
        }
        Start::New(opened) => {
            let resumed = match entry.as_mut().and_then(ResumeEntry::take) {
                Some(checkpoint) => resume(client, blob, window, budget, checkpoint).await,
                None => Ok(None),
            };
            match opened {
                Some(unused) if !matches!(resumed, Ok(None)) => {
                    client.abort_session(unused.location).await;
                    (resumed, None)
                }
                opened => (resumed, opened),
            }
        }
    };
    let mut session = match resumed? {
        Some(session) => session,
        None => Session::open(client, blob, window, budget, opened).await?,
    };
    let done = session.run(window, budget, entry).await;
    let can_resume = matches!(&done, Err(UploadError::Permanent(error)) if error.may_succeed_later())
        && can_resume(client, entry.as_ref());
    match (&done, entry) {
        _ if can_resume => {}
        // The session may continue in chunks.
        (Err(UploadError::StreamBroken(_)), _) => {}
        (Ok(_), Some(entry)) => entry.remove(),
        (Ok(_), None) => {}
        (Err(_), entry) => give_up(client, session.location, entry).await,
    }
    done
}

/// Closes a session that is not continued.
async fn give_up(client: &Client, location: Url, entry: &mut Option<ResumeEntry>) {
    if let Some(entry) = entry {
        entry.abandon();
    }
    client.abort_session(location).await;
}

/// Returns whether the next run can resume an upload: at an offset that is stored, or at one that the registry reports.
fn can_resume(client: &Client, entry: Option<&ResumeEntry>) -> bool {
    match entry.and_then(ResumeEntry::noted) {
        Some(Noted::Offset) => true,
        Some(Noted::Stream) => client.reports_upload_status(),
        None => false,
    }
}

/// Resumes the session of an earlier run. `None` if that is not possible.
async fn resume<'a>(
    client: &'a Client,
    blob: &'a Blob,
    window: &mut Window,
    budget: &mut RetryBudget<'_>,
    checkpoint: Checkpoint,
) -> Result<Option<Session<'a>>, UploadError> {
    // A stream was interrupted. It may be again, and chunks can be resumed.
    budget.may_stream &= !checkpoint.was_streamed;
    let is_stream = checkpoint.is_stream;
    if is_stream && !client.reports_upload_status() {
        client.abort_earlier(checkpoint).await;
        return Ok(None);
    }
    let resumed = Session::resume(client, blob, window, budget, checkpoint).await;
    if matches!(resumed, Ok(None)) && !is_stream {
        note_not_resumable(client, blob);
    }
    resumed
}

/// Checks that the registry stores a blob of `bytes` bytes, which are sent unchanged.
///
/// # Errors
/// Fails if the blob is too large for the registry, or if it is empty and the registry stores no empty blobs.
pub(crate) fn check_blob_size(client: &Client, subject: &Subject, bytes: u64) -> Result<()> {
    if bytes < client.strategy().quirks().min_blob_size {
        return Err(Error::input(format!("{subject} is empty, and {} stores no empty blobs", client.name()))
            .code(Code::ArchiveUnsupported));
    }
    let largest = client.strategy().largest_blob();
    if bytes <= largest {
        return Ok(());
    }
    let (actual, largest) = (size(bytes), size(largest));
    Err(Error::input(format!("{subject} has {actual}, and {} stores at most {largest}", client.name()))
        .code(Code::ArchiveUnsupported)
        .hint("Build the image with more and smaller layers."))
}

/// Advises after a registry computed another digest twice.
fn advice_on_mismatch(is_same: bool) -> &'static str {
    if is_same {
        "The layer was sent twice with the same bytes: they change on the way to the registry, or in the registry."
    } else {
        "The layer was read twice with different results: the archive changes, or its drive is failing."
    }
}
