//! One upload session: opened, or resumed from an earlier run; filled, closed; and recovered after a failure.

use std::sync::Arc;

use reqwest::header::{CONNECTION, CONTENT_RANGE, CONTENT_TYPE, HeaderValue};
use reqwest::{Body, Method, Url};
use tracing::debug;

use super::api_request::ApiRequest;
use super::body::{ChunkBody, StallDetector, Watch};
use super::client::Client;
use super::manifest::content_digest;
use super::open_upload::OpenedUpload;
use super::quirks::LastChunk;
use super::reply::Reply;
use super::request_error::RequestError;
use super::resume::UploadStatus;
use super::resume_store::ResumeEntry;
use super::upload_job::{Blob, RetryBudget, UploadError};
use super::upload_strategy::{Chunks, StrategyProbe};
use super::window::{Chunk, Window};
use crate::compress::LayerSummary;
use crate::error::{Error, Kind, Result};

/// How often a session is continued at the old offset although the registry did not confirm it. More than once, since that
/// attempt can fail like any other, for example on another connection of the pool.
const MAX_ASSUMPTIONS: u32 = 3;

/// The largest chunk in bytes that is held in memory because a registry asks for it. Above that, a blob is sent in a single
/// request.
const LARGEST_MINIMUM: u64 = 16 << 20;

/// An open upload session.
pub(super) struct Session<'a> {
    pub(super) client: &'a Client,
    pub(super) blob: &'a Blob,
    pub(super) location: Url,
    /// The offset at which the session was continued although the registry did not confirm it, and how often.
    pub(super) assumed: Option<(u64, u32)>,
    /// The offset that a 416 named last. It is trusted once.
    pub(super) named_offset: Option<u64>,
    /// Whether every chunk has a separate connection.
    pub(super) separate_connections: bool,
    /// The probe, while this session finds out for all others whether the registry accepts chunks.
    pub(super) probe: Option<StrategyProbe<'a>>,
    /// Whether chunks were sent.
    pub(super) is_chunked: bool,
    /// Whether an earlier run opened the session.
    pub(super) is_resumed: bool,
    /// The offset at which the session of an earlier run resumes, until it has accepted more data.
    pub(super) resumes_at: Option<u64>,
    /// Whether a request failed.
    pub(super) is_broken: bool,
}

/// The state of an upload.
enum SessionState {
    /// The registry has everything up to this offset.
    At(u64),
    /// The registry has the blob.
    Complete(LayerSummary),
}

impl<'a> Session<'a> {
    /// Creates the state of a session that is open at `location`.
    pub(super) fn at(client: &'a Client, blob: &'a Blob, budget: &RetryBudget<'_>, location: Url) -> Self {
        Session {
            client,
            blob,
            location,
            assumed: None,
            named_offset: None,
            separate_connections: budget.separate_connections,
            probe: None,
            is_chunked: false,
            is_resumed: false,
            resumes_at: None,
            is_broken: false,
        }
    }

    /// Opens a session, unless one is open already.
    pub(super) async fn open(
        client: &'a Client,
        blob: &'a Blob,
        window: &mut Window,
        budget: &RetryBudget<'_>,
        opened: Option<OpenedUpload>,
    ) -> Result<Self, UploadError> {
        let OpenedUpload { location, min_chunk_size } = match opened {
            Some(opened) => opened,
            None => client.open().await?,
        };
        let chunk = chunk_size(client, blob, min_chunk_size);
        window.set_chunk(chunk, client.strategy().retained(chunk));
        Ok(Self::at(client, blob, budget, location))
    }

    /// Uploads everything in the window and closes the session.
    pub(super) async fn run(
        &mut self,
        window: &mut Window,
        budget: &mut RetryBudget<'_>,
        entry: &mut Option<ResumeEntry>,
    ) -> Result<LayerSummary, UploadError> {
        let client = self.client;
        loop {
            if self.is_surely_large() && self.should_stream(window.start(), budget) {
                self.stream(window, budget, entry).await?;
            }
            client.or_cancelled(window.fill()).await?.map_err(RequestError::from)?;
            let (chunk, end) = window.chunk();
            let sent = match end {
                Some(summary)
                    if chunk.start == 0
                        || chunk.len == 0
                        || client.strategy().quirks().last_chunk == LastChunk::Put =>
                {
                    self.close(&chunk, &summary).await.map(|()| SessionState::Complete(summary))
                }
                Some(_) => self.patch(&chunk).await.map(|()| SessionState::At(chunk.end())),
                None => {
                    if self.should_stream(chunk.start, budget) {
                        self.stream(window, budget, entry).await?;
                        continue;
                    }
                    self.probe(window.is_shared()).await?;
                    if client.strategy().chunks() == Chunks::Rejected {
                        if chunk.start > 0 {
                            // The bytes in the session were sent as chunks.
                            return Err(UploadError::ChunksRejected);
                        }
                        self.send_as_one(window, budget).await?;
                        continue;
                    }
                    // If the stream fails, the request is still finished: its response says how to close the session.
                    let ahead = client.or_cancelled(window.fill_ahead());
                    let (sent, ahead) = futures_util::future::join(self.patch(&chunk), ahead).await;
                    match ahead {
                        Ok(Err(error)) => Err(RequestError::Local(error)),
                        Ok(Ok(())) | Err(_) => sent.map(|()| SessionState::At(chunk.end())),
                    }
                }
            };
            let state = match sent {
                Err(error) if self.shrink_chunks(&error, &chunk, window) => continue,
                Err(error) => match self.correct_resume(&error, &chunk)? {
                    Some(offset) => SessionState::At(offset),
                    None => self.recover(error, &chunk, end, budget).await?,
                },
                Ok(state) => {
                    self.note_resumed();
                    state
                }
            };
            match state {
                SessionState::Complete(summary) => {
                    self.confirm(&summary).await?;
                    return Ok(summary);
                }
                SessionState::At(offset) => {
                    if chunk.start > 0 && self.probe.take().is_some() {
                        client.strategy().note_chunks(Chunks::Accepted);
                    }
                    window.advance(offset);
                    budget.reached(offset);
                    if let Some(entry) = entry {
                        entry.note(&self.location, offset);
                    }
                }
            }
        }
    }

    /// Shrinks the chunks if the first one was too large.
    fn shrink_chunks(&self, error: &RequestError, chunk: &Chunk, window: &mut Window) -> bool {
        let strategy = self.client.strategy();
        if chunk.start > 0 || !error.is_too_large() || !strategy.shrink(chunk.len) {
            return false;
        }
        let size = strategy.chunk(self.blob.meter.total());
        window.set_chunk(size, strategy.retained(size));
        let (subject, name) = (&self.blob.subject, self.client.name());
        let rejected = crate::compress::size(chunk.len);
        debug!(
            "{subject}: {rejected} in one request is too large for {name}; sending chunks of {}",
            crate::compress::size(size)
        );
        true
    }

    /// Finds out for all blobs whether the registry accepts chunks, or waits until another session has. With a shared stream
    /// it does not wait, which would block the other targets.
    async fn probe(&mut self, is_shared: bool) -> Result<(), UploadError> {
        if self.probe.is_none() {
            let finding = self.client.strategy().probe(!is_shared);
            self.probe = self.client.or_cancelled(finding).await?;
        }
        Ok(())
    }

    /// Checks that an unknown registry has stored all chunks of the first blobs, not only the last.
    async fn confirm(&self, summary: &LayerSummary) -> Result<(), UploadError> {
        let strategy = self.client.strategy();
        if !self.is_chunked || strategy.chunks() == Chunks::Proven {
            return Ok(());
        }
        let stored = self.client.presence(&summary.digest).await.map_err(RequestError::from)?;
        if stored.has_size(summary.size) {
            strategy.note_chunks(Chunks::Proven);
            return Ok(());
        }
        strategy.note_chunks(Chunks::Rejected);
        Err(UploadError::ChunksRejected)
    }

    /// Waits after a failure, and finds out where to continue.
    async fn recover(
        &mut self,
        error: RequestError,
        chunk: &Chunk,
        end: Option<LayerSummary>,
        budget: &mut RetryBudget<'_>,
    ) -> Result<SessionState, UploadError> {
        if let Some(summary) = end.filter(|_| error.is_already_uploaded()) {
            self.client.abort_session(self.location.clone()).await;
            return Ok(SessionState::Complete(summary));
        }
        // What broke once may break again, and chunks can be resumed.
        budget.may_stream = false;
        let is_in_chunk = |offset: &u64| (chunk.start..=chunk.end()).contains(offset);
        let named_offset = error.expected_offset().filter(is_in_chunk);
        // The data of the earlier run is different after all.
        if self.is_resumed && error.is_wrong_digest() {
            return Err(UploadError::SessionLost);
        }
        if let Some(summary) = end
            && error.is_wrong_digest()
        {
            if self.is_chunked && self.client.strategy().chunks() != Chunks::Proven {
                // The registry may assemble chunks wrongly, as ECR Public was seen to do.
                self.client.strategy().note_chunks(Chunks::Rejected);
                return Err(UploadError::ChunksRejected);
            }
            return Err(UploadError::DigestMismatch(summary, error));
        }
        // A session that is lost after a failure says nothing about chunks.
        let is_lost_in_break = self.is_broken && error.is_lost_session();
        if self.probe.is_some() && error.rejects_chunks() && !is_lost_in_break {
            self.client.strategy().note_chunks(Chunks::Rejected);
            return Err(UploadError::ChunksRejected);
        }
        if error.is_transient() {
            // Another session may probe meanwhile.
            self.probe = None;
            self.is_broken = true;
        }
        if !error.is_transient() && !error.is_lost_session() {
            return Err(UploadError::Permanent(error));
        }
        if error.expected_offset().is_none() {
            self.named_offset = None;
        }
        // After a rejection at the offset that a 416 named, a retry cannot help.
        let is_misled = self.named_offset == Some(chunk.start);
        let is_lost = error.is_lost_session();
        budget.wait(error).await?;
        // The closing PUT may have succeeded, and only its response was lost.
        if let Some(summary) = end
            && self.client.presence(&summary.digest).await.is_ok_and(|stored| stored.has_size(summary.size))
        {
            // Or another client uploaded the same blob meanwhile, and this session is still open.
            self.client.abort_session(self.location.clone()).await;
            return Ok(SessionState::Complete(summary));
        }
        if is_misled {
            return Err(UploadError::SessionLost);
        }
        let offset = match named_offset {
            Some(offset) => {
                self.named_offset = named_offset;
                Some(offset)
            }
            None => match self.upload_status().await {
                UploadStatus::Bytes(offset) => Some(offset).filter(is_in_chunk),
                UploadStatus::NoSession | UploadStatus::Unclear => None,
            },
        };
        match offset {
            Some(offset) => {
                self.assumed = None;
                Ok(SessionState::At(offset))
            }
            // ECR may keep a session without reporting its offset: the old offset is tried, where a 416 names the right one.
            None if !is_lost && self.assumed != Some((chunk.start, MAX_ASSUMPTIONS)) => {
                let before = self.assumed.filter(|(start, _)| *start == chunk.start).map_or(0, |(_, times)| times);
                self.assumed = Some((chunk.start, before + 1));
                Ok(SessionState::At(chunk.start))
            }
            None => Err(UploadError::SessionLost),
        }
    }

    /// Sends a chunk that is not the last.
    async fn patch(&mut self, chunk: &Chunk) -> Result<(), RequestError> {
        // ECR responds 201, the specification says 202 (regclient/regclient#81). Its `Range` stays at the first chunk
        // (aws/containers-roadmap#2831), so bytes are counted here.
        let mut request = ApiRequest::new(Method::PATCH, self.location.clone(), &[200, 201, 202, 204]);
        request.headers.insert(CONTENT_RANGE, content_range(chunk)?);
        let reply = self.send_chunk(&mut request, chunk).await?;
        self.is_chunked = true;
        if let Some(location) = self.client.location(&request.url, &reply)? {
            self.location = location;
        }
        Ok(())
    }

    /// Closes the session, with the last chunk.
    async fn close(&mut self, chunk: &Chunk, summary: &LayerSummary) -> Result<(), RequestError> {
        let mut url = self.location.clone();
        url.query_pairs_mut().append_pair("digest", &summary.digest.to_string());
        let mut request = ApiRequest::new(Method::PUT, url, &[200, 201, 204]);
        // A blob in a single request has no Content-Range: with one, ECR applies the rules for parts.
        if chunk.start > 0 && chunk.len > 0 {
            request.headers.insert(CONTENT_RANGE, content_range(chunk)?);
        }
        let reply = self.send_chunk(&mut request, chunk).await?;
        match content_digest(&reply.headers) {
            Some(confirmed) if confirmed != summary.digest => {
                let what = format!("{} stored {confirmed} where {} was sent", self.client.name(), summary.digest);
                Err(RequestError::Local(Error::new(Kind::Refused, what)))
            }
            _ => Ok(()),
        }
    }

    /// Sends a chunk once.
    async fn send_chunk(&self, request: &mut ApiRequest, chunk: &Chunk) -> Result<Reply, RequestError> {
        let watch = self.watch(request);
        let (body, stall) = (chunk.clone(), Arc::clone(&watch.stall));
        request.payload = Arc::new(move || Body::wrap(ChunkBody::new(&body, watch.clone())));
        let reply = self.send_body(request, &stall).await?;
        if let Some(times) = stall.handed_out() {
            self.client.strategy().line().note_chunk(chunk.len, times);
        }
        chunk.arrived(&self.blob.meter);
        Ok(reply)
    }

    /// Creates the watch of a request's body.
    pub(super) fn watch(&self, request: &ApiRequest) -> Watch {
        Watch::new(&self.blob.meter, self.client.rate(), &request.sent)
    }

    /// Sends a body once, unless it stalls for too long.
    pub(super) async fn send_body(
        &self,
        request: &mut ApiRequest,
        stall: &StallDetector,
    ) -> Result<Reply, RequestError> {
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if self.separate_connections {
            request.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let limit = self.client.retry_config().stall_timeout;
        let timeout = async {
            stall.stalled(limit).await;
            format!("no data was transferred for {} s", limit.as_secs())
        };
        self.client.send(request, timeout).await
    }
}

/// Returns the chunk size in bytes. The response to the POST may ask for more than the usual size.
pub(super) fn chunk_size(client: &Client, blob: &Blob, min: Option<u64>) -> u64 {
    let usual = client.strategy().chunk(blob.meter.total());
    match min {
        Some(min) if min > LARGEST_MINIMUM.max(usual) => {
            client.strategy().note_chunks(Chunks::Rejected);
            usual
        }
        Some(min) => usual.max(min),
        None => usual,
    }
}

/// Formats `START-END`, both inclusive and without a unit (OCI distribution specification, "Pushing a blob in chunks").
fn content_range(chunk: &Chunk) -> Result<HeaderValue, RequestError> {
    HeaderValue::try_from(format!("{}-{}", chunk.start, chunk.end() - 1))
        .map_err(|error| RequestError::Local(Error::internal("cannot write a Content-Range").because(error)))
}
