//! Resumes the upload session of an earlier run: one request at most finds out where it goes on.
//!
//! A registry that tells how far a session got is asked. Of others the offset that was acknowledged last is tried, and the 416
//! to that names the right one if the registry has more.

use reqwest::header::RANGE;
use reqwest::{Method, Url};

use super::api_request::ApiRequest;
use super::client::Client;
use super::quirks::{RangeEnd, Status};
use super::request_error::RequestError;
use super::resume_store::Checkpoint;
use super::session::{Session, chunk_size};
use super::upload::{Blob, RetryBudget, UploadError};
use super::window::{Chunk, Window};
use crate::compress::size;

/// What a registry says about how far a session got.
pub(super) enum UploadStatus {
    /// So many bytes.
    Bytes(u64),
    /// It knows no such session.
    NoSession,
    /// Nothing that helps.
    Unclear,
}

/// Notes that a blob starts from its first byte although an earlier run uploaded a part of it.
pub(super) fn note_lost(client: &Client, blob: &Blob) {
    client.note(format!("{}: the upload of an earlier run cannot be resumed; uploading all of it", blob.what));
}

impl<'a> Session<'a> {
    /// Resumes the session of an earlier run, if the registry still has it.
    pub(super) async fn take_over(
        client: &'a Client,
        blob: &'a Blob,
        window: &mut Window,
        tries: &RetryBudget<'_>,
        mark: Checkpoint,
    ) -> Result<Option<Self>, UploadError> {
        let location = Url::parse(&mark.location).ok().and_then(|location| client.allowed(location).ok());
        let Some(location) = location else { return Ok(None) };
        let mut session = Self::at(client, blob, tries, location);
        let received = match client.ways().quirks().status {
            Status::UrlDetail => session.received().await,
            Status::Hidden => UploadStatus::Unclear,
        };
        let offset = match received {
            UploadStatus::Bytes(offset) => offset,
            // What was acknowledged is there. If there is more, a 416 says so.
            UploadStatus::Unclear => mark.offset,
            UploadStatus::NoSession => return Ok(None),
        };
        let chunk = chunk_size(client, blob, None);
        window.set_chunk(chunk, client.ways().retained(chunk));
        let skipped = client.or_cancelled(window.skip_to(offset)).await.map_err(UploadError::Permanent)?;
        skipped.map_err(|error| UploadError::Permanent(RequestError::Local(error)))?;
        if window.start() != offset {
            // It has more than there is of the blob.
            client.forget(session.location).await;
            return Err(UploadError::NotResumable);
        }
        blob.meter.resume_at(offset);
        (session.is_taken_over, session.is_chunked, session.resumes_at) = (true, true, Some(offset));
        Ok(Some(session))
    }

    /// Takes the first refusal of a resumed session for what it is: news about the offset, or the end of the session. `None`
    /// for any other fault.
    pub(super) fn correct_resume(&mut self, fault: &RequestError, chunk: &Chunk) -> Result<Option<u64>, UploadError> {
        if self.resumes_at.is_none() || fault.is_transient() || fault.is_ours() || fault.is_already_there() {
            return Ok(None);
        }
        let is_inside = |offset: &u64| (chunk.start..=chunk.end()).contains(offset);
        match fault.expected_offset().filter(is_inside) {
            // Whoever is refused at the offset that a 416 named gets nowhere.
            Some(offset) if self.told.is_none() => {
                self.told = Some(offset);
                self.resumes_at = Some(offset);
                self.blob.meter.resume_at(offset);
                Ok(Some(offset))
            }
            _ => Err(UploadError::NotResumable),
        }
    }

    /// Notes once that the session of an earlier run accepts more.
    pub(super) fn note_resumed(&mut self) {
        if let Some(offset) = self.resumes_at.take() {
            self.client.note(format!("resuming {}: {} already uploaded", self.blob.what, size(offset)));
        }
    }

    /// How many bytes the registry says it has. `0-0` is unclear: it is both none and one.
    pub(super) async fn received(&mut self) -> UploadStatus {
        let ask = ApiRequest::new(Method::GET, self.location.clone(), &[200, 202, 204]);
        let quirks = self.client.ways().quirks();
        let reply = match self.client.ask_once(&ask).await {
            Ok(reply) => reply,
            Err(fault) if fault.is_lost_session() && quirks.status == Status::UrlDetail => {
                return UploadStatus::NoSession;
            }
            Err(_) => return UploadStatus::Unclear,
        };
        if let Ok(Some(location)) = self.client.location(&ask.url, &reply) {
            self.location = location;
        }
        let range = reply.headers.get(RANGE).and_then(|range| range.to_str().ok());
        let end = range.and_then(|range| range.trim_start_matches("bytes=").strip_prefix("0-")?.parse::<u64>().ok());
        match (end, quirks.range_end) {
            (Some(end @ 1..), RangeEnd::LastByte) => {
                end.checked_add(1).map_or(UploadStatus::Unclear, UploadStatus::Bytes)
            }
            (Some(end @ 1..), RangeEnd::Count) => UploadStatus::Bytes(end),
            _ => UploadStatus::Unclear,
        }
    }
}
