//! A blob in a single streamed request: where the registry accepts no chunks, or where they would not use the line.
//!
//! Nothing of it is retained, so that what breaks is lost: the blob starts over, and in chunks if the registry accepts them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Body, Method};
use tokio::time::Instant;
use tracing::debug;

use super::api_request::ApiRequest;
use super::body::{Ended, StallDetector, StreamBody};
use super::line::Reason;
use super::reply::Reply;
use super::request_error::RequestError;
use super::resume_store::{MIN_RESUMABLE_SIZE, ResumeEntry};
use super::session::Session;
use super::upload_job::{RetryBudget, UploadError};
use super::upload_strategy::UploadStrategy;
use super::window::Window;
use crate::compress::{Meter, size};

/// When a stream begins to be observed, plus some times the latency, but not after the latest time: the buffers on the way are
/// full by then, and TCP has opened its window.
const OBSERVED_FROM: Duration = Duration::from_secs(2);
const LATENCIES: u32 = 8;
const OBSERVED_FROM_LATEST: Duration = Duration::from_secs(5);

/// By which factor layers are compressed at best, but for rare ones.
const BEST_COMPRESSION: u64 = 6;

/// When it is too late to end a stream because chunks would use the line as well: that would lose too much.
const COMPARED_UNTIL: Duration = Duration::from_secs(10);

/// How much longer than so far a stream must still take if it is ended: what was sent is sent again.
const WORTHWHILE: f64 = 4.0;

/// How long an observation takes.
const OBSERVATION: Duration = Duration::from_millis(500);

/// How many observations show what is left of a stream: 20 s of them, so that a short interruption ends none.
const RECENT: usize = 40;

/// A request with the rest of a blob.
struct Rest {
    request: ApiRequest,
    stall: Arc<StallDetector>,
    ended: Ended,
}

impl Session<'_> {
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
            reason = observe(self.client.strategy(), &self.blob.meter, &rest.stall) => {
                let (subject, why) = (&self.blob.subject, explain(reason));
                debug!("{subject}: sending chunks instead of a stream: {why}");
                return Err(UploadError::StreamEnded);
            }
        };
        let Err(error) = self.finish(rest, sent, window) else { return Ok(()) };
        let is_broken = !error.is_too_large() && (error.is_lost_session() || error.is_transient());
        if !is_broken && !error.rejects_stream() {
            return Err(UploadError::Permanent(error));
        }
        if !error.is_too_many_requests() {
            self.client.strategy().line().note_unfit();
        }
        if !is_broken {
            return Err(UploadError::StreamRejected);
        }
        budget.wait(error).await?;
        Err(UploadError::StreamBroken(self.location.clone()))
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
        let (body, ended) = StreamBody::new(window.take_rest(), watch, self.client.strategy().line().streamed());
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
        window.finish_rest(summary, self.blob.meter.total());
        self.blob.meter.set(self.blob.meter.total(), summary.size);
        Ok(())
    }
}

/// Measures the rate of a stream as long as it is sent. Returns only if the stream should be ended, with the reason.
async fn observe(strategy: &UploadStrategy, meter: &Meter, stall: &StallDetector) -> Reason {
    let line = strategy.line();
    // A request that waits for its turn, a login or a connection says nothing about the line.
    let started = loop {
        match stall.handed_out() {
            Some((started, _)) => break started,
            None => tokio::time::sleep(OBSERVATION / 10).await,
        }
    };
    let from = (OBSERVED_FROM + LATENCIES * line.latency()).min(OBSERVED_FROM_LATEST);
    tokio::time::sleep_until(started + from).await;
    let (total, mut progress) = (meter.total(), VecDeque::from([(started, 0)]));
    line.begin_window();
    loop {
        let _earlier = stall.take_starved();
        tokio::time::sleep(OBSERVATION).await;
        if stall.is_all_sent() {
            return std::future::pending().await;
        }
        // A stream that waits for the archive says nothing about the line.
        if stall.take_starved() < OBSERVATION / 4 {
            line.end_window();
        } else {
            line.begin_window();
        }
        let (now, position) = (Instant::now(), meter.position());
        progress.push_back((now, position));
        let (since, before) = progress[0];
        if progress.len() > RECENT {
            progress.pop_front();
        }
        let (sent, remaining) = (position.saturating_sub(before).max(1), total.saturating_sub(position));
        let left = (now - since).as_secs_f64() * remaining as f64 / sent as f64;
        match strategy.rejects_stream(total, Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX)) {
            Some(reason @ Reason::TooLong(_)) => return reason,
            Some(reason) if now - started < COMPARED_UNTIL && remaining as f64 > WORTHWHILE * position as f64 => {
                return reason;
            }
            _ => {}
        }
    }
}

/// Explains in a few words why a blob is streamed, or is not streamed.
fn explain(reason: Reason) -> String {
    match reason {
        Reason::Latency(latency) => format!("responses take {} ms", latency.as_millis()),
        Reason::Idle(latency, used) => {
            format!("responses take {} ms, so chunks would use {:.0} % of the line", latency.as_millis(), 100.0 * used)
        }
        Reason::Chunks(rate) => format!("they use this line, with {} per second", size(rate)),
        Reason::TooLong(time) => format!("it takes another {} s, and a break would lose all of it", time.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::super::body::Watch;
    use super::super::quirks::ECR;
    use super::super::stream::LayerStream;
    use super::super::window::{LayerData, Rest};
    use super::*;
    use crate::compress::DataBlock;

    const MIB: u64 = 1 << 20;

    /// Streams a layer of `total` MiB, of which so many MiB per second are sent at a time. Returns when and why it was ended.
    async fn stream(latency: u64, total: u64, rate: impl Fn(Duration) -> u64) -> Option<(u64, Reason)> {
        let (strategy, began) = (UploadStrategy::new(&ECR, None), Instant::now());
        strategy.line().note_latency(Duration::from_millis(latency));
        let _blob = strategy.line().begin_blob(total * MIB);
        let watch = Watch::new(&Arc::new(Meter::new(total * MIB)), None, &Arc::default());
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let rest = Rest { blocks: VecDeque::new(), stream: LayerStream::own(receiver), end: None };
        let (mut body, _ended) = StreamBody::new(rest, watch.clone(), strategy.line().streamed());
        let sending = async {
            let step = Duration::from_millis(100);
            let mut position = 0;
            while position < total * MIB {
                let now = (began.elapsed(), rate(began.elapsed()) * MIB / 10);
                if now.1 > 0 {
                    position += now.1;
                    let block = DataBlock { bytes: vec![7; 1].into(), position };
                    sender.send(LayerData::Data(block)).await.unwrap();
                    let frame =
                        std::future::poll_fn(|it| http_body::Body::poll_frame(std::pin::Pin::new(&mut body), it));
                    frame.await.unwrap().unwrap();
                    watch.meter.set(position, position);
                    strategy.line().streamed().fetch_add(now.1, Ordering::Relaxed);
                }
                tokio::time::sleep(step).await;
            }
        };
        tokio::select! {
            () = sending => None,
            reason = observe(&strategy, &watch.meter, &watch.stall) => Some((began.elapsed().as_secs(), reason)),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_ended_once_it_would_take_too_long_whatever_the_latency_is() {
        for latency in [50, 800, 1500, 20_000] {
            let ended = stream(latency, 40_000, |_| 10).await;
            assert!(matches!(ended, Some((..=6, Reason::TooLong(_)))), "{latency} ms: {ended:?}");
        }
        let tenth = |now: Duration| if now.as_secs() < 40 { 20 } else { 2 };
        let ended = stream(300, 2_000, tenth).await;
        assert!(matches!(ended, Some((40..=65, Reason::TooLong(_)))), "{ended:?}");
        assert_eq!(stream(300, 2_000, |_| 20).await, None);
        assert_eq!(stream(300, 1_800, |now| if (40..50).contains(&now.as_secs()) { 0 } else { 20 }).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_waits_for_its_turn_is_not_slow() {
        assert_eq!(stream(300, 1_000, |now| if now.as_secs() < 30 { 0 } else { 20 }).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_ended_early_where_chunks_use_the_line() {
        let ended = stream(100, 200, |_| 4).await;
        assert!(matches!(ended, Some((..=4, Reason::Chunks(_)))), "{ended:?}");
    }
}
