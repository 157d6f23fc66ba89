//! Resumes the upload session of an earlier run, or of a stream that broke: one request at most finds out at which offset.
//!
//! A registry that reports the offset of a session is asked. With others the offset that was acknowledged last is tried; if
//! the registry has more, its 416 names the right one.

use reqwest::header::RANGE;
use reqwest::{Method, Url};

use super::api_request::ApiRequest;
use super::client::Client;
use super::quirks::RangeEnd;
use super::request_error::RequestError;
use super::resume_store::Checkpoint;
use super::session::{Session, chunk_size};
use super::upload_job::{Blob, RetryBudget, UploadError};
use super::window::{Chunk, Window};
use crate::compress::size;

/// What a registry reports about the offset of a session.
pub(super) enum UploadStatus {
    /// It has this many bytes.
    Bytes(u64),
    /// It knows no such session.
    NoSession,
    /// Nothing usable.
    Unclear,
}

/// Reports that a blob is uploaded from its first byte although an earlier run uploaded a part of it.
pub(super) fn note_not_resumable(client: &Client, blob: &Blob) {
    client.note(format!("{}: cannot resume the upload; uploading all of it", blob.subject));
}

impl<'a> Session<'a> {
    /// Resumes the session of an earlier run. `None` if the registry no longer has it.
    pub(super) async fn resume(
        client: &'a Client,
        blob: &'a Blob,
        window: &mut Window,
        budget: &RetryBudget<'_>,
        checkpoint: Checkpoint,
    ) -> Result<Option<Self>, UploadError> {
        let location = Url::parse(&checkpoint.location).ok().and_then(|location| client.allowed(location).ok());
        let Some(location) = location else { return Ok(None) };
        let mut session = Self::at(client, blob, budget, location);
        let offset = match session.reported_status().await {
            UploadStatus::Bytes(offset) => offset,
            // Nothing was acknowledged of a stream, and the session may have any part of it.
            UploadStatus::Unclear if checkpoint.is_stream => {
                client.abort_session(session.location).await;
                return Ok(None);
            }
            // Acknowledged bytes exist. If there are more, a 416 names the offset.
            UploadStatus::Unclear => checkpoint.offset,
            UploadStatus::NoSession => return Ok(None),
        };
        if !session.continue_at(window, offset).await? {
            return Err(UploadError::NotResumable);
        }
        blob.meter.resume_at(offset);
        (session.is_resumed, session.resumes_at) = (true, Some(offset));
        Ok(Some(session))
    }

    /// Continues the session of a stream that broke. `None` if the registry does not keep it.
    pub(super) async fn after_stream(
        client: &'a Client,
        blob: &'a Blob,
        window: &mut Window,
        budget: &RetryBudget<'_>,
        location: Url,
    ) -> Result<Option<Self>, UploadError> {
        let mut session = Self::at(client, blob, budget, location);
        let UploadStatus::Bytes(offset) = session.reported_status().await else {
            client.abort_session(session.location).await;
            return Ok(None);
        };
        if !session.continue_at(window, offset).await? {
            return Err(UploadError::SessionLost);
        }
        session.is_broken = true;
        Ok(Some(session))
    }

    /// Continues in chunks from an offset. Returns whether the blob is that long: if not, the session is aborted.
    async fn continue_at(&mut self, window: &mut Window, offset: u64) -> Result<bool, UploadError> {
        let chunk = chunk_size(self.client, self.blob, None);
        window.set_chunk(chunk, self.client.strategy().retained(chunk));
        self.client.or_cancelled(window.skip_to(offset)).await?.map_err(RequestError::from)?;
        self.is_chunked = true;
        let is_inside = window.start() == offset;
        if !is_inside {
            self.client.abort_session(self.location.clone()).await;
        }
        Ok(is_inside)
    }

    /// Interprets the first rejection of a resumed session: it names another offset, or ends the session. `None` for any
    /// other error.
    pub(super) fn correct_resume(&mut self, error: &RequestError, chunk: &Chunk) -> Result<Option<u64>, UploadError> {
        if self.resumes_at.is_none() || error.is_transient() || error.is_local() || error.is_already_uploaded() {
            return Ok(None);
        }
        let is_inside = |offset: &u64| (chunk.start..=chunk.end()).contains(offset);
        match error.expected_offset().filter(is_inside) {
            // After a rejection at the offset that a 416 named, a retry cannot help.
            Some(offset) if self.named_offset.is_none() => {
                self.named_offset = Some(offset);
                self.resumes_at = Some(offset);
                self.blob.meter.resume_at(offset);
                Ok(Some(offset))
            }
            _ => Err(UploadError::NotResumable),
        }
    }

    /// Reports once that the session of an earlier run accepts more data.
    pub(super) fn note_resumed(&mut self) {
        if let Some(offset) = self.resumes_at.take() {
            self.client.note(format!("resuming {}: {} already uploaded", self.blob.subject, size(offset)));
        }
    }

    /// Asks the registry how many bytes it has, if it is known to report that.
    async fn reported_status(&mut self) -> UploadStatus {
        if self.client.reports_upload_status() { self.upload_status().await } else { UploadStatus::Unclear }
    }

    /// Asks the registry how many bytes it has.
    pub(super) async fn upload_status(&mut self) -> UploadStatus {
        let request = ApiRequest::new(Method::GET, self.location.clone(), &[200, 202, 204]);
        let reply = match self.client.send_once(&request).await {
            Ok(reply) => reply,
            Err(error) if error.is_lost_session() && self.client.reports_upload_status() => {
                return UploadStatus::NoSession;
            }
            Err(_) => return UploadStatus::Unclear,
        };
        if let Ok(Some(location)) = self.client.location(&request.url, &reply) {
            self.location = location;
        }
        let range_end = self.client.strategy().quirks().range_end;
        let range = reply.headers.get(RANGE).and_then(|range| range.to_str().ok());
        range.and_then(|range| received(range, range_end)).map_or(UploadStatus::Unclear, UploadStatus::Bytes)
    }
}

/// Returns the number of bytes that a `Range` reports. `None` for `0-0`, which means no byte or one byte.
fn received(range: &str, range_end: RangeEnd) -> Option<u64> {
    let end = range.trim_start_matches("bytes=").strip_prefix("0-")?.parse::<u64>().ok().filter(|end| *end > 0)?;
    match range_end {
        RangeEnd::LastByte => end.checked_add(1),
        RangeEnd::Count => Some(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_reports_the_last_byte_or_the_number_of_bytes() {
        for (range, last_byte, count) in [
            ("0-99", Some(100), Some(99)),
            ("bytes=0-99", Some(100), Some(99)),
            ("0-0", None, None),
            ("bytes=0--1", None, None),
            ("5-99", None, None),
            ("0-18446744073709551615", None, Some(u64::MAX)),
            ("0-many", None, None),
        ] {
            assert_eq!(received(range, RangeEnd::LastByte), last_byte, "{range}");
            assert_eq!(received(range, RangeEnd::Count), count, "{range}");
        }
    }
}
