//! One blob on its way into a registry: a session, chunks, the closing PUT, and what to do when it breaks.
//!
//! A chunk goes out as a PATCH only when a further byte is there, so the closing PUT carries the last chunk and the
//! digest, and a blob that fits into one chunk takes two requests. While one chunk is sent the next is gathered. A registry
//! that takes no chunks gets one body.
//!
//! A chunk stays in the [`Window`] until the registry has acknowledged it. After a break the registry is asked how far
//! it got, and the upload goes on from there; only where the session is gone does a new one start from byte 0. This is
//! the only retry loop around a layer's bytes. A session that is given up is closed, unless the next run goes on with it.

use std::sync::Arc;

use super::client::Client;
use super::delays::Delays;
use super::open_upload::OpenedUpload;
use super::request_error::RequestError;
use super::window::{LayerStream, Window};
use super::{resume, session};
use crate::compress::{LayerSummary, Meter};
use crate::error::{Code, Error, Result};

/// The progress that is worth a retry. A registry that advances by a byte each time would be tried for ever.
const PROGRESS: u64 = 64 << 10;

/// The blob that is to be uploaded.
pub struct Blob {
    /// What it is, for people: `layer sha256:2c26b46b68ff`.
    pub what: String,
    /// What makes it the same blob in another run, byte for byte. Without, no other run goes on with it.
    pub identity: Option<String>,
    /// How far it is. Its total is what the blob is made of.
    pub meter: Arc<Meter>,
    /// Its first feed comes from a reading that feeds others, too, and goes no faster than the slowest of them.
    pub is_shared: bool,
}

/// Uploads the blob that `feed` delivers, in the session that is open for it already, if one is. If it has to start again,
/// `again` opens a feed from byte 0.
///
/// # Errors
/// When the registry refuses, when it keeps failing, when the feed fails, on cancellation. No session is left open where
/// the registry can still be told, but those that the journal keeps.
pub async fn upload(
    client: &Client,
    blob: &Blob,
    mut opened: Option<OpenedUpload>,
    feed: LayerStream,
    again: impl Fn() -> LayerStream,
) -> Result<LayerSummary> {
    let doing = format!("cannot upload {} to {}", blob.what, client.repository());
    let client = &client.about(&blob.what);
    let mut trace = blob.identity.as_deref().and_then(|identity| client.trace(identity));
    let mut tries = RetryBudget::of(client, &blob.meter);
    let mut window = Window::new(feed, blob.is_shared);
    let mut disputed: Option<LayerSummary> = None;
    loop {
        blob.meter.set(0, 0);
        blob.meter.resume_at(0);
        match session::run(client, blob, &mut window, &mut tries, &mut trace, opened.take()).await {
            Ok(packed) => return Ok(packed),
            Err(UploadError::Permanent(fault)) => return Err(client.explain(fault, &doing)),
            Err(UploadError::SessionLost) => {
                tries.lost = true;
                client.reason(format!("{}: {} lost what it had of it, so it begins anew", blob.what, client.name()));
            }
            Err(UploadError::NotResumable) => resume::note_lost(client, blob),
            Err(UploadError::ChunksRejected) => client.reason(format!(
                "{}: {} does not take it in chunks, so it goes again, as one body",
                blob.what,
                client.name()
            )),
            Err(UploadError::DigestMismatch(packed, fault)) => {
                if let Some(before) = disputed.replace(packed) {
                    return Err(client.explain(fault, &doing).hint(blame(&before, &packed)));
                }
            }
        }
        tries.begin_anew();
        window = Window::new(again(), false);
    }
}

/// Whether the registry stores a blob of `size` bytes, which are sent as they are.
///
/// # Errors
/// If it is too large for it in any way, or if it has no bytes and the registry stores none like that.
pub fn check_blob_size(client: &Client, what: &str, size: u64) -> Result<()> {
    if size < client.ways().quirks().least {
        return Err(Error::input(format!("{what} has no bytes, and {} stores no blob without any", client.name()))
            .code(Code::ArchiveUnsupported));
    }
    let largest = client.ways().largest();
    if size <= largest {
        return Ok(());
    }
    let (size, largest) = (crate::compress::size(size), crate::compress::size(largest));
    Err(Error::input(format!("{what} has {size}, and {} takes {largest} at most", client.name()))
        .code(Code::ArchiveUnsupported)
        .hint("Make the image of more and smaller layers."))
}

/// Who is at fault when a registry hashes other bytes than were sent, twice.
fn blame(before: &LayerSummary, now: &LayerSummary) -> &'static str {
    if before == now {
        "Read twice, the bytes were the same: they change on the way to the registry, or in it."
    } else {
        "Read twice, the bytes were not the same: the archive changes, or its drive is failing."
    }
}

/// Why a session ended early.
pub(super) enum UploadError {
    /// The registry does not know it any more. A new one may do.
    SessionLost,
    /// The session of an earlier run accepts nothing more. A new one may do.
    NotResumable,
    /// The registry takes no chunks. One body may do.
    ChunksRejected,
    /// The registry says that it got other bytes than were sent.
    DigestMismatch(LayerSummary, RequestError),
    /// It has been tried often enough, or nothing will help.
    Permanent(RequestError),
}

/// The tries that are left. Whoever gets so much further may try as often again, so that a connection that
/// breaks now and then costs time and no more.
pub(super) struct RetryBudget<'a> {
    client: &'a Client,
    delays: Delays,
    /// The offset at which all tries were left last.
    renewed_at: u64,
    /// Each break is counted there, once.
    meter: &'a Meter,
    /// The last break is counted, and nothing has gone on since.
    is_counted: bool,
    /// A session was lost to a break. From then on every part has a connection of its own, for lines that carry only so
    /// much each.
    pub(super) lost: bool,
}

impl<'a> RetryBudget<'a> {
    fn of(client: &'a Client, meter: &'a Meter) -> Self {
        Self { client, delays: client.delays(), renewed_at: 0, meter, is_counted: false, lost: false }
    }

    pub(super) fn reached(&mut self, offset: u64) {
        self.is_counted = false;
        if offset >= self.renewed_at.saturating_add(PROGRESS) {
            self.renewed_at = offset;
            self.delays = self.client.delays();
        }
    }

    pub(super) async fn wait(&mut self, fault: RequestError) -> Result<(), UploadError> {
        self.client.pause(fault, self.delays.next()).await.map_err(UploadError::Permanent)?;
        self.meter.retry();
        self.is_counted = true;
        Ok(())
    }

    /// A new session begins. That it was waited for is counted already.
    fn begin_anew(&mut self) {
        if !std::mem::take(&mut self.is_counted) {
            self.meter.retry();
        }
    }
}
