//! The blob to upload, its retries, and how an upload session can end early.

use std::sync::Arc;

use reqwest::{Method, Url};

use super::client::Client;
use super::request_error::RequestError;
use super::retry::Delays;
use crate::compress::{LayerSummary, Meter};
use crate::request_log::Subject;

/// The progress that renews the retries, in bytes. Without it, a registry that advances by one byte at a time would be retried
/// forever.
const PROGRESS: u64 = 64 << 10;

/// A blob to upload.
pub(crate) struct Blob {
    /// What it is, for messages and the request log.
    pub subject: Subject,
    /// The identity of the bytes across runs. Without it, no other run resumes the upload.
    pub identity: Option<String>,
    /// Whether its bytes can be had again from the first one at no other cost than time. Otherwise it is not streamed.
    pub is_repeatable: bool,
    /// The progress. Its total is the size of the uncompressed blob.
    pub meter: Arc<Meter>,
}

/// Why a session ended early.
pub(super) enum UploadError {
    /// The registry no longer has the session. A new one may succeed.
    SessionLost,
    /// The session of an earlier run accepts no more data. A new one may succeed.
    NotResumable,
    /// A stream broke in the session at this URL, which may continue in chunks.
    StreamBroken(Url),
    /// The registry does not accept a stream. Chunks may succeed.
    StreamRejected,
    /// A stream has no advantage on this line. Nothing is wrong with it.
    StreamEnded,
    /// The registry accepts no chunks. A single request may succeed.
    ChunksRejected,
    /// The registry computed another digest than the one of the bytes that were sent.
    DigestMismatch(LayerSummary, RequestError),
    /// No retries are left, or none can help.
    Permanent(RequestError),
}

impl From<RequestError> for UploadError {
    fn from(error: RequestError) -> Self {
        Self::Permanent(error)
    }
}

/// The retries of one upload. Progress renews them: a connection that breaks now and then costs only time.
pub(super) struct RetryBudget<'a> {
    client: &'a Client,
    delays: Delays,
    /// The offset at which the retries were renewed last.
    renewed_at: u64,
    /// The meter, which counts each retry once.
    meter: &'a Meter,
    /// Whether the last failure is counted, and no progress has been made since.
    is_counted: bool,
    /// Whether a session was lost with a broken connection. From then on, every chunk has a separate connection, for networks
    /// that limit the bytes on each.
    pub(super) separate_connections: bool,
    /// Whether the blob may be streamed although the registry accepts chunks: once at most, in all runs, and not after a chunk
    /// failed.
    pub(super) may_stream: bool,
}

impl<'a> RetryBudget<'a> {
    pub(super) fn new(client: &'a Client, blob: &'a Blob) -> Self {
        Self {
            client,
            delays: client.delays(&Method::PUT),
            renewed_at: 0,
            meter: &blob.meter,
            is_counted: false,
            separate_connections: false,
            may_stream: blob.is_repeatable,
        }
    }

    /// Notes that everything up to `offset` is acknowledged.
    pub(super) fn reached(&mut self, offset: u64) {
        self.is_counted = false;
        if offset >= self.renewed_at.saturating_add(PROGRESS) {
            self.renewed_at = offset;
            self.delays = self.client.delays(&Method::PUT);
        }
    }

    /// Waits before the next retry.
    ///
    /// # Errors
    /// Returns `error` if no retry is left.
    pub(super) async fn wait(&mut self, error: RequestError) -> Result<(), UploadError> {
        self.client.pause(error, &mut self.delays).await?;
        self.meter.retry();
        self.is_counted = true;
        Ok(())
    }

    /// Notes that a new session begins, which counts as a retry unless its delay did.
    pub(super) fn start_over(&mut self) {
        if !std::mem::take(&mut self.is_counted) {
            self.meter.retry();
        }
    }
}
