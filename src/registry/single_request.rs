//! A blob in a single streamed request: where the registry accepts no chunks, or where they would not use the line.
//!
//! Nothing of it is retained, so that what breaks is lost: the blob starts over, and in chunks if the registry accepts them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Body, Method, Url};
use tokio::time::Instant;
use tracing::debug;

use super::api_request::ApiRequest;
use super::body::{Ended, StallDetector, StreamBody};
use super::client::Client;
use super::line::Reason;
use super::quirks::StatusReport;
use super::reply::Reply;
use super::request_error::RequestError;
use super::resume::UploadStatus;
use super::resume_store::{MIN_RESUMABLE_SIZE, ResumeEntry};
use super::session::{Session, chunk_size};
use super::upload_job::{Blob, RetryBudget, UploadError};
use super::window::Window;
use crate::compress::size;

/// When a stream begins to be observed, plus some times the latency: the buffers on the way are full by then, and TCP has
/// opened its window.
const OBSERVED_FROM: Duration = Duration::from_secs(2);
const LATENCIES: u32 = 8;

/// By which factor layers are compressed at best, but for rare ones.
const BEST_COMPRESSION: u64 = 6;

/// When it is not observed any more: ending it would lose too much.
const OBSERVED_UNTIL: Duration = Duration::from_secs(10);

/// How much longer than so far a stream must still take if it is ended: what was sent is sent again.
const WORTHWHILE: f64 = 4.0;

/// How long an observation takes.
const OBSERVATION: Duration = Duration::from_millis(500);

/// A request with the rest of a blob.
struct Rest {
    request: ApiRequest,
    stall: Arc<StallDetector>,
    ended: Ended,
}

impl<'a> Session<'a> {
    /// Returns whether the blob will be larger than a chunk, even if it is compressed very well: then a stream need not wait
    /// for a whole chunk.
    pub(super) fn is_surely_large(&self) -> bool {
        let total = self.blob.meter.total();
        total / BEST_COMPRESSION > self.client.strategy().chunk(total)
    }

    /// Returns whether to stream the blob although the registry accepts chunks.
    pub(super) fn should_stream(&self, start: u64, budget: &RetryBudget<'_>) -> bool {
        if !budget.may_stream || start > 0 || self.is_broken || self.is_resumed {
            return false;
        }
        let strategy = self.client.strategy();
        let reason = strategy.prefers_stream(self.blob.meter.total());
        if let Some(reason) = reason.filter(|_| strategy.line().explain()) {
            debug!("layers to {} are streamed: {}", self.client.name(), explain(reason));
        }
        reason.is_some()
    }

    /// Streams the rest, until it is done or turns out to have no advantage.
    pub(super) async fn stream(
        &mut self,
        window: &mut Window,
        budget: &mut RetryBudget<'_>,
        entry: &mut Option<ResumeEntry>,
    ) -> Result<(), UploadError> {
        budget.may_stream = false;
        if let Some(entry) = entry.as_mut().filter(|_| self.blob.meter.total() >= MIN_RESUMABLE_SIZE) {
            entry.note_stream(&self.location);
        }
        let mut rest = self.rest(window);
        let sent = tokio::select! {
            sent = self.send_body(&mut rest.request, &rest.stall) => sent,
            reason = self.observe(&rest.stall) => {
                let (subject, why) = (&self.blob.subject, explain(reason));
                debug!("{subject}: sending chunks instead of a stream: {why}");
                return Err(UploadError::StreamEnded);
            }
        };
        let Err(error) = self.finish(rest, sent, window) else { return Ok(()) };
        if error.is_lost_session() || error.is_transient() {
            if error.is_transport() {
                self.client.strategy().line().note_unfit();
            }
            budget.wait(error).await?;
            return Err(UploadError::StreamBroken(self.location.clone()));
        }
        if error.rejects_chunks() || error.is_too_large() {
            self.client.strategy().line().note_unfit();
            return Err(UploadError::StreamRejected);
        }
        Err(UploadError::Permanent(error))
    }

    /// Sends the rest as one body to a registry that accepts no chunks.
    pub(super) async fn send_as_one(
        &mut self,
        window: &mut Window,
        budget: &mut RetryBudget<'_>,
    ) -> Result<(), UploadError> {
        let mut rest = self.rest(window);
        let sent = self.send_body(&mut rest.request, &rest.stall).await;
        match self.finish(rest, sent, window) {
            Ok(()) => Ok(()),
            Err(error) if error.is_transient() || error.is_lost_session() => {
                budget.wait(error).await?;
                Err(UploadError::SessionLost)
            }
            Err(error) => Err(UploadError::Permanent(error)),
        }
    }

    /// Returns the request with the rest of the blob. It can be sent once.
    fn rest(&self, window: &mut Window) -> Rest {
        let mut request = ApiRequest::new(Method::PATCH, self.location.clone(), &[200, 201, 202, 204]);
        let watch = self.watch(&request);
        let stall = Arc::clone(&watch.stall);
        let (body, ended) = StreamBody::new(window.take_rest(), watch);
        let body = Mutex::new(Some(body));
        request.is_stream = true;
        request.payload = Arc::new(move || match body.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(body) => Body::wrap(body),
            // The login expired during the request, and the stream has no second body.
            None => {
                Body::wrap_stream(futures_util::stream::once(async { Err::<&[u8], _>("the body was already sent") }))
            }
        });
        Rest { request, stall, ended }
    }

    /// Notes that the rest was sent.
    ///
    /// # Errors
    /// Fails if that is not so: because of the registry, or because the blob cannot be read.
    fn finish(
        &mut self,
        rest: Rest,
        sent: Result<Reply, RequestError>,
        window: &mut Window,
    ) -> Result<(), RequestError> {
        let (reply, summary) = match (sent, rest.ended.get().cloned()) {
            (_, Some(Err(error))) => return Err(RequestError::Local(error)),
            (Ok(reply), Some(Ok(summary))) => (reply, summary),
            (Ok(_), None) => {
                return Err(RequestError::Transport("the registry responded before it had received everything".into()));
            }
            (Err(error), _) => return Err(error),
        };
        if let Some(location) = self.client.location(&rest.request.url, &reply)? {
            self.location = location;
        }
        window.finish_rest(summary);
        self.blob.meter.set(self.blob.meter.total(), summary.size);
        Ok(())
    }

    /// Measures the rate of a stream for a while. Returns only if the stream should be ended, with the reason.
    async fn observe(&self, stall: &StallDetector) -> Reason {
        let (strategy, meter) = (self.client.strategy(), &self.blob.meter);
        let (line, started) = (strategy.line(), Instant::now());
        tokio::time::sleep(OBSERVED_FROM + LATENCIES * line.latency()).await;
        while started.elapsed() < OBSERVED_UNTIL {
            let (before, since) = (line.sent().load(Ordering::Relaxed), Instant::now());
            let _earlier = stall.take_starved();
            tokio::time::sleep(OBSERVATION).await;
            if stall.is_all_sent() {
                break;
            }
            // A stream that waits for the archive says nothing about the line.
            if stall.take_starved() < OBSERVATION / 4 {
                line.observe(line.sent().load(Ordering::Relaxed) - before, since.elapsed());
            }
            let (total, position) = (meter.total() as f64, meter.position().max(1) as f64);
            let times = total / position - 1.0;
            let left = Duration::try_from_secs_f64(started.elapsed().as_secs_f64() * times).unwrap_or_default();
            if times > WORTHWHILE
                && let Some(reason) = strategy.rejects_stream(meter.total(), left)
            {
                return reason;
            }
        }
        std::future::pending().await
    }

    /// Continues the session of a stream that broke, in chunks. `None` if the registry does not keep it.
    pub(super) async fn after_stream(
        client: &'a Client,
        blob: &'a Blob,
        window: &mut Window,
        budget: &RetryBudget<'_>,
        location: Url,
    ) -> Result<Option<Self>, UploadError> {
        let mut session = Self::at(client, blob, budget, location);
        let received = match client.strategy().quirks().upload_status {
            StatusReport::Reported => session.upload_status().await,
            StatusReport::Hidden => UploadStatus::Unclear,
        };
        if let UploadStatus::Bytes(offset) = received {
            let chunk = chunk_size(client, blob, None);
            window.set_chunk(chunk, client.strategy().retained(chunk));
            client.or_cancelled(window.skip_to(offset)).await?.map_err(RequestError::from)?;
            if window.start() == offset {
                (session.is_chunked, session.is_broken) = (true, true);
                return Ok(Some(session));
            }
            // The registry has more bytes than the blob.
            client.abort_session(session.location).await;
            return Err(UploadError::SessionLost);
        }
        client.abort_session(session.location).await;
        Ok(None)
    }
}

/// Explains in a few words why a blob is streamed, or is not streamed.
fn explain(reason: Reason) -> String {
    match reason {
        Reason::Latency(latency) => format!("replies take {} ms", latency.as_millis()),
        Reason::Idle(latency, used) => {
            format!("replies take {} ms, so chunks would use {:.0} % of the line", latency.as_millis(), 100.0 * used)
        }
        Reason::Chunks(rate) => format!("they use this line, with {} per second", size(rate)),
        Reason::TooLong(rate, time) => {
            format!("with {} per second it takes {} s, and a break would lose all of it", size(rate), time.as_secs())
        }
    }
}
