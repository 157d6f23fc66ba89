//! One blob on its way into a registry: a session, chunks, the closing PUT, and what to do when it breaks.
//!
//! A chunk goes out as a PATCH only when a further byte is there, so the closing PUT carries the last chunk and the
//! digest, and a blob that fits into one chunk takes two requests. While one chunk is sent the next is gathered.
//!
//! A chunk stays in the [`Window`] until the registry has acknowledged it. After a break the registry is asked how far
//! it got, and the upload goes on from there; only where the session is gone does a new one start from byte 0. This is
//! the only retry loop around a layer's bytes. A session that is given up is closed.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONNECTION, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, RANGE};
use reqwest::{Body, Method, Response, Url};

use super::blob::Presence;
use super::fault::Fault;
use super::manifest::content_digest;
use super::window::{Chunk, Feed, Pulse, Window};
use super::wire::{Ask, Client};
use crate::error::{Error, Kind, Result};
use crate::layer::{Meter, Packed};

/// Bytes to a chunk where nothing else is asked for.
///
/// One and a half of them for each of four layers under way are most of the memory that a push takes.
pub const CHUNK: u64 = 6 << 20;

/// What ECR takes with a Content-Range; only the last may be smaller (dotnet/sdk-container-builds#424, openai/tart#179).
pub const ECR_CHUNKS: std::ops::RangeInclusive<u64> = 5 << 20..=10 << 20;

/// How often a session is continued at the old place without the registry having said that it may be. More than once,
/// since that try can break like any other, on another connection of the pool for one.
const HOPES: u32 = 3;

/// Uploads the blob that `feed` delivers. If it has to start again, `again` opens a feed from byte 0.
///
/// # Errors
/// When the registry refuses, when it keeps failing, when the feed fails, on cancellation. No session is left open where
/// the registry can still be told.
pub async fn upload(
    client: &Client,
    what: &str,
    meter: &Arc<Meter>,
    feed: Feed,
    again: impl Fn() -> Feed,
) -> Result<Packed> {
    let doing = format!("cannot upload {what} to {}", client.repository());
    let mut tries = Tries { client, delays: Box::new(client.delays()), furthest: 0, lost: false };
    let mut window = Window::new(feed, client.chunk());
    let mut disputed: Option<Packed> = None;
    loop {
        meter.set(0, 0);
        match session(client, meter, &mut window, &mut tries).await {
            Ok(packed) => return Ok(packed),
            Err(Broken::ForGood(fault)) => return Err(client.explain(fault, &doing)),
            Err(Broken::Lost) => tries.lost = true,
            Err(Broken::Disputed(packed, fault)) => {
                if let Some(before) = disputed.replace(packed) {
                    return Err(client.explain(fault, &doing).hint(blame(&before, &packed)));
                }
            }
        }
        window = Window::new(again(), client.chunk());
    }
}

/// Who is at fault when a registry hashes other bytes than were sent, twice.
fn blame(before: &Packed, now: &Packed) -> &'static str {
    if before == now {
        "Read twice, the bytes were the same: they change on the way to the registry, or in it."
    } else {
        "Read twice, the bytes were not the same: the archive changes, or its drive is failing."
    }
}

/// Why a session ended early.
enum Broken {
    /// The registry does not know it any more. A new one may do.
    Lost,
    /// The registry says that it got other bytes than were sent.
    Disputed(Packed, Fault),
    /// It has been tried often enough, or nothing will help.
    ForGood(Fault),
}

/// The tries that are left. Whoever gets further than ever before may try as often again, so that a connection that
/// breaks now and then costs time and no more.
struct Tries<'a> {
    client: &'a Client,
    delays: Box<dyn Iterator<Item = Duration> + Send + 'a>,
    furthest: u64,
    /// A session was lost to a break. From then on every part has a connection of its own, for lines that carry only so
    /// much each.
    lost: bool,
}

impl Tries<'_> {
    fn reached(&mut self, offset: u64) {
        if offset > self.furthest {
            self.furthest = offset;
            self.delays = Box::new(self.client.delays());
        }
    }

    async fn wait(&mut self, fault: Fault) -> Result<(), Broken> {
        self.client.pause(fault, self.delays.next()).await.map_err(Broken::ForGood)
    }
}

async fn session(
    client: &Client,
    meter: &Arc<Meter>,
    window: &mut Window,
    tries: &mut Tries<'_>,
) -> Result<Packed, Broken> {
    // The trailing slash is part of the route (OCI distribution specification, "Pushing blobs").
    let ask = Ask::new(Method::POST, client.url("blobs/uploads/"), &[202]);
    let opened = client.ask(&ask).await.map_err(Broken::ForGood)?;
    let location = client.location(&ask.url, &opened).map_err(Broken::ForGood)?;
    let Some(location) = location else {
        let error = Error::new(Kind::Refused, format!("{} opened an upload without saying where", client.name()));
        return Err(Broken::ForGood(Fault::Ours(error)));
    };
    let mut session = Session { client, meter, location, hoped: None, told: None, alone: tries.lost };
    let done = session.run(window, tries).await;
    if done.is_err() {
        client.forget(session.location).await;
    }
    done
}

/// An open upload session.
struct Session<'a> {
    client: &'a Client,
    meter: &'a Arc<Meter>,
    location: Url,
    /// The offset at which the session was continued without the registry having said that it may be, and how often.
    hoped: Option<(u64, u32)>,
    /// The offset that a 416 named last. It is believed once.
    told: Option<u64>,
    /// Every part has a connection of its own.
    alone: bool,
}

/// Where an upload stands.
enum Stand {
    /// The registry has everything up to here.
    At(u64),
    /// The registry has the blob.
    Complete(Packed),
}

impl Session<'_> {
    async fn run(&mut self, window: &mut Window, tries: &mut Tries<'_>) -> Result<Packed, Broken> {
        let client = self.client;
        loop {
            let filled = client.or_cancelled(window.fill()).await.map_err(Broken::ForGood)?;
            filled.map_err(|error| Broken::ForGood(Fault::Ours(error)))?;
            let (chunk, end) = window.chunk();
            let sent = match end {
                Some(packed) => self.close(&chunk, &packed).await.map(|()| Stand::Complete(packed)),
                None => {
                    // If the feed fails the request is still brought to its end: its answer says how to close the session.
                    let ahead = client.or_cancelled(window.fill_ahead());
                    let (sent, ahead) = futures_util::future::join(self.patch(&chunk), ahead).await;
                    match ahead {
                        Ok(Err(error)) => Err(Fault::Ours(error)),
                        Ok(Ok(())) | Err(_) => sent.map(|()| Stand::At(chunk.end())),
                    }
                }
            };
            let stand = match sent {
                Err(fault) => self.ask(fault, &chunk, end, tries).await?,
                Ok(stand) => stand,
            };
            match stand {
                Stand::Complete(packed) => return Ok(packed),
                Stand::At(offset) => {
                    window.advance(offset);
                    tries.reached(offset);
                }
            }
        }
    }

    /// After a break: waits, and finds out where to go on.
    async fn ask(
        &mut self,
        fault: Fault,
        chunk: &Chunk,
        end: Option<Packed>,
        tries: &mut Tries<'_>,
    ) -> Result<Stand, Broken> {
        if let Some(packed) = end
            && fault.is_wrong_digest()
        {
            return Err(Broken::Disputed(packed, fault));
        }
        if !fault.is_transient() && !fault.is_lost_session() {
            return Err(Broken::ForGood(fault));
        }
        let inside = |offset: &u64| (chunk.start..=chunk.end()).contains(offset);
        if fault.expected_offset().is_none() {
            self.told = None;
        }
        // Who is refused where a 416 sent him gets nowhere.
        let misled = self.told == Some(chunk.start);
        let told = fault.expected_offset().filter(inside);
        let gone = fault.is_lost_session();
        tries.wait(fault).await?;
        // The closing PUT may have done its work and only the answer was lost.
        if let Some(packed) = end
            && let Ok(Presence::Present(size)) = self.client.presence(&packed.digest).await
            && size.is_none_or(|size| size == packed.size)
        {
            return Ok(Stand::Complete(packed));
        }
        if misled {
            return Err(Broken::Lost);
        }
        let offset = match told {
            Some(offset) => {
                self.told = told;
                Some(offset)
            }
            None => self.received().await.filter(inside),
        };
        match offset {
            Some(offset) => {
                self.hoped = None;
                Ok(Stand::At(offset))
            }
            // ECR may keep a session without telling how far it got: the old place is tried, where a 416 says so.
            None if !gone && self.hoped != Some((chunk.start, HOPES)) => {
                let before = self.hoped.filter(|(start, _)| *start == chunk.start).map_or(0, |(_, times)| times);
                self.hoped = Some((chunk.start, before + 1));
                Ok(Stand::At(chunk.start))
            }
            None => Err(Broken::Lost),
        }
    }

    /// How many bytes the registry says it has. `None` if it does not say, or says `0-0`, which is both none and one.
    async fn received(&mut self) -> Option<u64> {
        let ask = Ask::new(Method::GET, self.location.clone(), &[200, 202, 204]);
        let response = self.client.ask_once(&ask).await.ok()?;
        let range = response.headers().get(RANGE)?.to_str().ok()?;
        let last: u64 = range.trim_start_matches("bytes=").strip_prefix("0-")?.parse().ok()?;
        if let Ok(Some(location)) = self.client.location(&ask.url, &response) {
            self.location = location;
        }
        (last > 0).then_some(last + 1)
    }

    async fn patch(&mut self, chunk: &Chunk) -> Result<(), Fault> {
        // ECR answers 201, the specification says 202 (regclient/regclient#81). Its `Range` answer stays at the first
        // chunk (aws/containers-roadmap#2831), so bytes are counted here.
        let mut ask = Ask::new(Method::PATCH, self.location.clone(), &[200, 201, 202, 204]);
        ask.headers.insert(CONTENT_RANGE, content_range(chunk));
        let response = self.carry(&mut ask, chunk).await?;
        if let Some(location) = self.client.location(&ask.url, &response)? {
            self.location = location;
        }
        Ok(())
    }

    async fn close(&mut self, chunk: &Chunk, packed: &Packed) -> Result<(), Fault> {
        let mut url = self.location.clone();
        url.query_pairs_mut().append_pair("digest", &packed.digest.to_string());
        let mut ask = Ask::new(Method::PUT, url, &[200, 201, 204]);
        // A blob in one piece goes without: with a Content-Range, ECR applies the rules for parts.
        if chunk.start > 0 && chunk.len > 0 {
            ask.headers.insert(CONTENT_RANGE, content_range(chunk));
        }
        let response = self.carry(&mut ask, chunk).await?;
        match content_digest(response.headers()) {
            Some(confirmed) if confirmed != packed.digest => {
                let what = format!("{} stored {confirmed} where {} was sent", self.client.name(), packed.digest);
                Err(Fault::Ours(Error::new(Kind::Refused, what)))
            }
            _ => Ok(()),
        }
    }

    /// Sends a chunk once, unless it stands still for too long.
    async fn carry(&self, ask: &mut Ask, chunk: &Chunk) -> Result<Response, Fault> {
        ask.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if self.alone {
            ask.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let pulse = Arc::new(Pulse::new());
        let (body, meter, beats) = (chunk.clone(), Arc::clone(self.meter), Arc::clone(&pulse));
        let rate = self.client.rate().cloned();
        ask.payload = Arc::new(move || Body::wrap(body.body(&meter, &beats, rate.clone())));
        let limit = self.client.patience().stall;
        let patience = async {
            pulse.stops(limit).await;
            format!("nothing moved for {} s", limit.as_secs())
        };
        let response = self.client.send(ask, patience).await?;
        chunk.arrived(self.meter);
        Ok(response)
    }
}

/// `START-END`, both inclusive and without a unit (OCI distribution specification, "Pushing a blob in chunks").
fn content_range(chunk: &Chunk) -> HeaderValue {
    HeaderValue::try_from(format!("{}-{}", chunk.start, chunk.end().saturating_sub(1)))
        .unwrap_or_else(|_| HeaderValue::from_static("0-0"))
}
