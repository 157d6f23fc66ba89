//! What happens during a push, for whoever watches.

use std::sync::Arc;
use std::time::Duration;

use super::outcome::ImageSummary;
use super::plan::LayerAction;
use crate::compress::{Meter, ReadTimeline};
use crate::request_log::RequestRecord;

/// Something that happened, for whoever watches.
#[derive(Clone, Debug)]
pub enum Event {
    /// So many bytes of the archive are in a temporary file by now.
    Spooled(u64),
    /// The archive was opened and the image is known.
    Opened(ImageSummary),
    /// Something that explains what happens, for those who want to know.
    Detail(String),
    /// A request came to its end.
    Asked(RequestRecord),
    /// Something worth a line.
    Note(String),
    /// Something that may not be what was wanted.
    Warning(String),
    /// A target is looked at: whether it is there, and what it has.
    Looking(String),
    /// A target has failed, and nothing more is sent to it. Its error is part of the outcome.
    GivenUp {
        /// The target, in words.
        target: String,
        /// The first words of the error.
        why: String,
    },
    /// A request is tried again, and not at once.
    Waiting {
        /// Whom it went to, and why it has to be.
        why: String,
        /// How long nothing happens.
        pause: Duration,
        /// Which retry comes next, counted from 1.
        retry: usize,
        /// How many retries there are at most.
        retries: usize,
    },
    /// It was decided what happens to a layer, or decided again.
    Planned {
        /// The target, in words.
        target: String,
        /// The layer, in words.
        layer: String,
        /// The bytes in the archive.
        bytes: u64,
        /// What will happen.
        action: LayerAction,
        /// Why.
        reason: String,
        /// How far the layer is, if it is uploaded.
        meter: Arc<Meter>,
    },
    /// A layer begins to be read, for all targets that take it.
    Reading {
        /// The layer, in words.
        layer: String,
        /// What that waits for, and when.
        course: Arc<ReadTimeline>,
    },
    /// A layer that is uploaded has arrived.
    Arrived {
        /// Its meter, by which it was planned.
        meter: Arc<Meter>,
        /// The bytes sent.
        sent: u64,
    },
    /// A layer was linked from another repository.
    Mounted {
        /// The target, in words.
        target: String,
        /// The layer, in words.
        layer: String,
        /// The bytes that it has there.
        bytes: u64,
    },
    /// All layers are there; manifests are being put.
    Finishing(String),
}

/// Takes the events of a push.
pub type Events = Arc<dyn Fn(Event) + Send + Sync>;
