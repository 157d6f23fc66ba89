//! One upload session: opened or taken over from an earlier run, fed, closed; and what to do after a break.

use std::sync::{Arc, Mutex, PoisonError};

use reqwest::header::{CONNECTION, CONTENT_RANGE, CONTENT_TYPE, HeaderValue};
use reqwest::{Body, Method, Url};

use super::api_request::ApiRequest;
use super::blob::Presence;
use super::body::{ChunkBody, Pulse, Watch};
use super::client::Client;
use super::manifest::content_digest;
use super::open_upload::OpenedUpload;
use super::quirks::Last;
use super::reply::Reply;
use super::request_error::RequestError;
use super::resume::{self, UploadStatus};
use super::resume_store::ResumeEntry;
use super::upload::{Blob, RetryBudget, UploadError};
use super::upload_strategy::{Chunks, StrategyProbe};
use super::window::{Chunk, Window};
use crate::compress::LayerSummary;
use crate::error::{Error, Kind, Result};

/// How often a session is continued at the old place without the registry having said that it may be. More than once,
/// since that try can break like any other, on another connection of the pool for one.
const HOPES: u32 = 3;

/// The largest chunk that is held in memory because a registry asks for no smaller ones. Above, a blob goes as one body.
const LARGEST_MINIMUM: u64 = 16 << 20;

/// Runs one session to its end: that of an earlier run, else `opened`, else a new one. If it ends early it is closed,
/// unless the next run is to go on with it.
pub(super) async fn run(
    client: &Client,
    blob: &Blob,
    window: &mut Window,
    tries: &mut RetryBudget<'_>,
    trace: &mut Option<ResumeEntry>,
    opened: Option<OpenedUpload>,
) -> Result<LayerSummary, UploadError> {
    let taken_over = match trace.as_mut().and_then(ResumeEntry::take) {
        Some(mark) => {
            let taken_over = Session::take_over(client, blob, window, tries, mark).await;
            if matches!(taken_over, Ok(None)) {
                resume::note_lost(client, blob);
            }
            taken_over
        }
        None => Ok(None),
    };
    let opened = match opened {
        Some(unused) if !matches!(taken_over, Ok(None)) => {
            client.forget(unused.location).await;
            None
        }
        opened => opened,
    };
    let mut session = match taken_over? {
        Some(session) => session,
        None => Session::open(client, blob, window, tries, opened).await?,
    };
    let done = session.run(window, tries, trace).await;
    let goes_on = matches!(&done, Err(UploadError::Permanent(fault)) if fault.may_pass())
        && trace.as_ref().is_some_and(ResumeEntry::is_kept);
    if !goes_on {
        if let Some(trace) = trace {
            trace.forget();
        }
        if done.is_err() {
            client.forget(session.location).await;
        }
    }
    done
}

/// An open upload session.
pub(super) struct Session<'a> {
    pub(super) client: &'a Client,
    pub(super) blob: &'a Blob,
    pub(super) location: Url,
    /// The offset at which the session was continued without the registry having said that it may be, and how often.
    pub(super) hoped: Option<(u64, u32)>,
    /// The offset that a 416 named last. It is believed once.
    pub(super) told: Option<u64>,
    /// Every part has a connection of its own.
    pub(super) alone: bool,
    /// Held while this session finds out for all others whether the registry takes chunks.
    pub(super) finds_out: Option<StrategyProbe<'a>>,
    /// Chunks were sent in it.
    pub(super) is_chunked: bool,
    /// An earlier run opened the session.
    pub(super) is_taken_over: bool,
    /// The session of an earlier run has so many bytes, and is not known to accept more yet.
    pub(super) resumes_at: Option<u64>,
    /// Nothing has been accepted in it by this run.
    pub(super) is_untried: bool,
    /// A request broke in it.
    pub(super) is_broken: bool,
}

/// Where an upload stands.
enum SessionState {
    /// The registry has everything up to here.
    At(u64),
    /// The registry has the blob.
    Complete(LayerSummary),
}

impl<'a> Session<'a> {
    pub(super) fn at(client: &'a Client, blob: &'a Blob, tries: &RetryBudget<'_>, location: Url) -> Self {
        Session {
            client,
            blob,
            location,
            hoped: None,
            told: None,
            alone: tries.lost,
            finds_out: None,
            is_chunked: false,
            is_taken_over: false,
            resumes_at: None,
            is_untried: true,
            is_broken: false,
        }
    }

    /// A new session, unless one was opened already.
    async fn open(
        client: &'a Client,
        blob: &'a Blob,
        window: &mut Window,
        tries: &RetryBudget<'_>,
        opened: Option<OpenedUpload>,
    ) -> Result<Self, UploadError> {
        let OpenedUpload { location, least } = match opened {
            Some(opened) => opened,
            None => client.open().await.map_err(UploadError::Permanent)?,
        };
        let chunk = chunk_size(client, blob, least);
        window.set_chunk(chunk, client.ways().retained(chunk));
        Ok(Self::at(client, blob, tries, location))
    }

    async fn run(
        &mut self,
        window: &mut Window,
        tries: &mut RetryBudget<'_>,
        trace: &mut Option<ResumeEntry>,
    ) -> Result<LayerSummary, UploadError> {
        let client = self.client;
        loop {
            let filled = client.or_cancelled(window.fill()).await.map_err(UploadError::Permanent)?;
            filled.map_err(|error| UploadError::Permanent(RequestError::Local(error)))?;
            let (chunk, end) = window.chunk();
            let sent = match end {
                Some(packed) if chunk.start == 0 || chunk.len == 0 || client.ways().quirks().last == Last::Put => {
                    self.close(&chunk, &packed).await.map(|()| SessionState::Complete(packed))
                }
                Some(_) => self.patch(&chunk).await.map(|()| SessionState::At(chunk.end())),
                None => {
                    self.find_out(window.is_shared).await?;
                    if client.ways().chunks() == Chunks::Refused {
                        if chunk.start > 0 {
                            // What is there came in chunks.
                            return Err(UploadError::ChunksRejected);
                        }
                        self.stream(window, tries).await?;
                        continue;
                    }
                    // If the feed fails the request is still brought to its end: its answer says how to close the session.
                    let ahead = client.or_cancelled(window.fill_ahead());
                    let (sent, ahead) = futures_util::future::join(self.patch(&chunk), ahead).await;
                    match ahead {
                        Ok(Err(error)) => Err(RequestError::Local(error)),
                        Ok(Ok(())) | Err(_) => sent.map(|()| SessionState::At(chunk.end())),
                    }
                }
            };
            let stand = match sent {
                Err(fault) if self.takes_smaller(&fault, &chunk, window) => continue,
                Err(fault) => match self.correct_resume(&fault, &chunk)? {
                    Some(offset) => SessionState::At(offset),
                    None => self.ask(fault, &chunk, end, tries).await?,
                },
                Ok(stand) => {
                    self.note_resumed();
                    stand
                }
            };
            match stand {
                SessionState::Complete(packed) => {
                    self.confirm(&packed).await?;
                    return Ok(packed);
                }
                SessionState::At(offset) => {
                    if chunk.start > 0 && self.finds_out.take().is_some() {
                        client.ways().saw(Chunks::Accepted);
                    }
                    self.is_untried &= offset == chunk.start;
                    window.advance(offset);
                    tries.reached(offset);
                    if let Some(trace) = trace {
                        trace.note(&self.location, offset);
                    }
                }
            }
        }
    }

    /// Makes chunks smaller if the first one was too large, and says so.
    fn takes_smaller(&self, fault: &RequestError, chunk: &Chunk, window: &mut Window) -> bool {
        let ways = self.client.ways();
        if chunk.start > 0 || !fault.is_too_large() || !ways.shrink(chunk.len) {
            return false;
        }
        let size = ways.chunk(self.blob.meter.total());
        window.set_chunk(size, ways.retained(size));
        let (what, name) = (&self.blob.what, self.client.name());
        let refused = crate::compress::size(chunk.len);
        self.client.reason(format!(
            "{what}: {refused} in one request is too large for {name}; sending chunks of {}",
            crate::compress::size(size)
        ));
        true
    }

    /// Finds out for all blobs whether the registry takes chunks, or waits until another has found out. Where the feed is
    /// shared it does not wait, which would keep others from theirs.
    async fn find_out(&mut self, is_shared: bool) -> Result<(), UploadError> {
        if self.finds_out.is_none() {
            let finding = self.client.ways().find_out(!is_shared);
            self.finds_out = self.client.or_cancelled(finding).await.map_err(UploadError::Permanent)?;
        }
        Ok(())
    }

    /// Sees to it that a registry of which nothing is known has stored all chunks of the first blobs, not only the last.
    async fn confirm(&self, packed: &LayerSummary) -> Result<(), UploadError> {
        let ways = self.client.ways();
        if !self.is_chunked || ways.chunks() == Chunks::Proven {
            return Ok(());
        }
        let there = self.client.presence(&packed.digest).await;
        match there.map_err(|error| UploadError::Permanent(RequestError::Local(error)))? {
            Presence::Present(size) if size.is_none_or(|size| size == packed.size) => {
                ways.saw(Chunks::Proven);
                Ok(())
            }
            Presence::Present(_) | Presence::Absent => {
                ways.saw(Chunks::Refused);
                Err(UploadError::ChunksRejected)
            }
        }
    }

    /// After a break: waits, and finds out where to go on.
    async fn ask(
        &mut self,
        fault: RequestError,
        chunk: &Chunk,
        end: Option<LayerSummary>,
        tries: &mut RetryBudget<'_>,
    ) -> Result<SessionState, UploadError> {
        if let Some(packed) = end.filter(|_| fault.is_already_there()) {
            self.client.forget(self.location.clone()).await;
            return Ok(SessionState::Complete(packed));
        }
        let inside = |offset: &u64| (chunk.start..=chunk.end()).contains(offset);
        let told = fault.expected_offset().filter(inside);
        // What an earlier run left there does not fit after all.
        if self.is_taken_over && fault.is_wrong_digest() {
            return Err(UploadError::SessionLost);
        }
        if let Some(packed) = end
            && fault.is_wrong_digest()
        {
            if self.is_chunked && self.client.ways().chunks() != Chunks::Proven {
                // It may be that chunks are put together wrongly, as ECR Public was seen to do.
                self.client.ways().saw(Chunks::Refused);
                return Err(UploadError::ChunksRejected);
            }
            return Err(UploadError::DigestMismatch(packed, fault));
        }
        // A session that is gone after a break says nothing about chunks.
        let is_lost_in_break = self.is_broken && fault.is_lost_session();
        if self.finds_out.is_some() && fault.refuses_chunks() && !is_lost_in_break {
            self.client.ways().saw(Chunks::Refused);
            return Err(UploadError::ChunksRejected);
        }
        if fault.is_transient() {
            // Another may find out meanwhile.
            self.finds_out = None;
            self.is_broken = true;
        }
        if !fault.is_transient() && !fault.is_lost_session() {
            return Err(UploadError::Permanent(fault));
        }
        if fault.expected_offset().is_none() {
            self.told = None;
        }
        // Who is refused where a 416 sent him gets nowhere.
        let misled = self.told == Some(chunk.start);
        let gone = fault.is_lost_session();
        tries.wait(fault).await?;
        // The closing PUT may have done its work and only the answer was lost.
        if let Some(packed) = end
            && let Ok(Presence::Present(size)) = self.client.presence(&packed.digest).await
            && size.is_none_or(|size| size == packed.size)
        {
            // Or somebody else brought the same blob meanwhile, and this session is still open.
            self.client.forget(self.location.clone()).await;
            return Ok(SessionState::Complete(packed));
        }
        if misled {
            return Err(UploadError::SessionLost);
        }
        let offset = match told {
            Some(offset) => {
                self.told = told;
                Some(offset)
            }
            None => match self.received().await {
                UploadStatus::Bytes(offset) => Some(offset).filter(inside),
                UploadStatus::NoSession | UploadStatus::Unclear => None,
            },
        };
        match offset {
            Some(offset) => {
                self.hoped = None;
                Ok(SessionState::At(offset))
            }
            // ECR may keep a session without telling how far it got: the old place is tried, where a 416 says so.
            None if !gone && self.hoped != Some((chunk.start, HOPES)) => {
                let before = self.hoped.filter(|(start, _)| *start == chunk.start).map_or(0, |(_, times)| times);
                self.hoped = Some((chunk.start, before + 1));
                Ok(SessionState::At(chunk.start))
            }
            None => Err(UploadError::SessionLost),
        }
    }

    async fn patch(&mut self, chunk: &Chunk) -> Result<(), RequestError> {
        // ECR answers 201, the specification says 202 (regclient/regclient#81). Its `Range` answer stays at the first
        // chunk (aws/containers-roadmap#2831), so bytes are counted here.
        let mut ask = ApiRequest::new(Method::PATCH, self.location.clone(), &[200, 201, 202, 204]);
        ask.headers.insert(CONTENT_RANGE, content_range(chunk));
        let reply = self.carry_chunk(&mut ask, chunk).await?;
        self.is_chunked = true;
        if let Some(location) = self.client.location(&ask.url, &reply)? {
            self.location = location;
        }
        Ok(())
    }

    async fn close(&mut self, chunk: &Chunk, packed: &LayerSummary) -> Result<(), RequestError> {
        let mut url = self.location.clone();
        url.query_pairs_mut().append_pair("digest", &packed.digest.to_string());
        let mut ask = ApiRequest::new(Method::PUT, url, &[200, 201, 204]);
        // A blob in one piece goes without: with a Content-Range, ECR applies the rules for parts.
        if chunk.start > 0 && chunk.len > 0 {
            ask.headers.insert(CONTENT_RANGE, content_range(chunk));
        }
        let reply = self.carry_chunk(&mut ask, chunk).await?;
        match content_digest(&reply.headers) {
            Some(confirmed) if confirmed != packed.digest => {
                let what = format!("{} stored {confirmed} where {} was sent", self.client.name(), packed.digest);
                Err(RequestError::Local(Error::new(Kind::Refused, what)))
            }
            _ => Ok(()),
        }
    }

    /// Sends all that is left as one body, which cannot be continued: a break loses the session.
    async fn stream(&mut self, window: &mut Window, tries: &mut RetryBudget<'_>) -> Result<(), UploadError> {
        let mut ask = ApiRequest::new(Method::PATCH, self.location.clone(), &[200, 201, 202, 204]);
        let watch = Watch::new(&self.blob.meter, self.client.rate(), &ask.sent);
        let pulse = Arc::clone(&watch.pulse);
        let (body, ended) = window.stream(watch);
        let body = Mutex::new(Some(body));
        ask.is_stream = true;
        ask.payload = Arc::new(move || match body.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(body) => Body::wrap(body),
            // A login that expires right now: there is no second body of the same stream.
            None => Body::wrap_stream(futures_util::stream::once(async { Err::<&[u8], _>("the body is gone") })),
        });
        let sent = self.carry(&mut ask, pulse).await;
        let sent = match (sent, ended.get().cloned()) {
            (_, Some(Err(error))) => Err(RequestError::Local(error)),
            (Ok(reply), Some(Ok(packed))) => Ok((reply, packed)),
            (Ok(_), None) => Err(RequestError::Transport("it answered before it had everything".into())),
            (Err(fault), _) => Err(fault),
        };
        match sent {
            Ok((reply, packed)) => {
                if let Some(location) = self.client.location(&ask.url, &reply).map_err(UploadError::Permanent)? {
                    self.location = location;
                }
                window.was_streamed(packed);
                self.blob.meter.set(self.blob.meter.total(), packed.size);
                Ok(())
            }
            Err(fault) if fault.is_transient() || fault.is_lost_session() => {
                tries.wait(fault).await?;
                Err(UploadError::SessionLost)
            }
            Err(fault) => Err(UploadError::Permanent(fault)),
        }
    }

    /// Sends a chunk once.
    async fn carry_chunk(&self, ask: &mut ApiRequest, chunk: &Chunk) -> Result<Reply, RequestError> {
        let watch = Watch::new(&self.blob.meter, self.client.rate(), &ask.sent);
        let (body, pulse) = (chunk.clone(), Arc::clone(&watch.pulse));
        ask.payload = Arc::new(move || Body::wrap(ChunkBody::new(&body, watch.clone())));
        let reply = self.carry(ask, pulse).await?;
        chunk.arrived(&self.blob.meter);
        Ok(reply)
    }

    /// Sends a body once, unless it stands still for too long.
    async fn carry(&self, ask: &mut ApiRequest, pulse: Arc<Pulse>) -> Result<Reply, RequestError> {
        ask.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if self.alone {
            ask.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let limit = self.client.retry_config().stall_timeout;
        let patience = async {
            pulse.stops(limit).await;
            format!("nothing moved for {} s", limit.as_secs())
        };
        self.client.send(ask, patience).await
    }
}

/// The bytes to a chunk, where the answer to the POST may have asked for more than is usual.
pub(super) fn chunk_size(client: &Client, blob: &Blob, least: Option<u64>) -> u64 {
    let usual = client.ways().chunk(blob.meter.total());
    match least {
        Some(least) if least > LARGEST_MINIMUM.max(usual) => {
            client.ways().saw(Chunks::Refused);
            usual
        }
        Some(least) => usual.max(least),
        None => usual,
    }
}

/// `START-END`, both inclusive and without a unit (OCI distribution specification, "Pushing a blob in chunks").
fn content_range(chunk: &Chunk) -> HeaderValue {
    HeaderValue::try_from(format!("{}-{}", chunk.start, chunk.end().saturating_sub(1)))
        .unwrap_or_else(|_| HeaderValue::from_static("0-0"))
}
