//! What happens during a push, as data: the source of the log, the progress and the timeline.

use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::outcome::ImageSummary;
use super::plan::LayerAction;
use crate::compress::{Meter, ReadTimeline};
use crate::oci::{Digest, LayerId};
use crate::request_log::{Named, RequestRecord, TargetId};

/// Something that happened. Serialized, it is what a line of the JSON log states beside time, level and message.
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// # use ecr_push::{CancellationToken, Options, PushRequest, Pusher, Source};
/// use std::sync::{Arc, Mutex};
///
/// use ecr_push::Event;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let create = vec!["team/app".parse()?];
/// # let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
/// # let mut options = Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// let (uploaded, lines) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(Vec::new())));
/// let (sum, log) = (uploaded.clone(), lines.clone());
/// let pusher = Pusher::builder()
///     .options(options)
///     .on_event(move |event| {
///         log.lock().unwrap().push(serde_json::to_value(&event).unwrap());
///         match event {
///             Event::LayerUploaded { sent, .. } => *sum.lock().unwrap() += sent,
///             Event::Warning(text) => eprintln!("warning: {text}"),
///             _ => {}
///         }
///     })
///     .start()
///     .await?;
/// # let archive = Source::Path("testdata/docker-20.10-save.tar".into());
/// # let request = PushRequest::new(archive, ["team/app:1.4".parse()?]);
/// let outcome = pusher.push(request, CancellationToken::new()).await.into_result()?;
/// assert_eq!(*uploaded.lock().unwrap(), outcome.targets[0].sent());
///
/// let lines = lines.lock().unwrap();
/// let opened = lines.iter().find(|line| line["event"] == "opened").unwrap();
/// assert_eq!(opened["names"][0], "localhost/fixture/app:v1");
/// assert_eq!(lines.iter().filter(|line| line["event"] == "arrived").count(), 3);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A part of the archive was copied to a temporary file.
    Spooled {
        /// The size of that file so far.
        bytes: u64,
    },
    /// The archive was opened and the image is known.
    Opened(#[serde(serialize_with = "OpenedKeys::serialize")] ImageSummary),
    /// A request ended.
    Request(RequestRecord),
    /// A note, in one line.
    Note(#[serde(skip)] String),
    /// A warning, in one line: the result may not be the intended one.
    Warning(#[serde(skip)] String),
    /// The lookup of what exists in a target began.
    LookingUp {
        /// The target.
        target: Named<TargetId>,
    },
    /// A target failed. The outcome has the whole error.
    #[serde(rename = "given_up")]
    TargetFailed {
        /// The target.
        target: Named<TargetId>,
        /// The message of the error, without its causes.
        #[serde(rename = "why")]
        reason: String,
    },
    /// A request failed, and is sent again after a pause.
    #[serde(rename = "waiting")]
    Retrying {
        /// The registry, and why the request failed.
        #[serde(rename = "why")]
        reason: String,
        /// The time until the retry.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        pause: Duration,
        /// The number of the retry, from 1.
        retry: usize,
        /// The maximum number of retries.
        retries: usize,
    },
    /// The action for a layer was decided, or changed.
    #[serde(rename = "layer")]
    LayerPlanned {
        /// The target.
        target: Named<TargetId>,
        /// The layer.
        layer: Named<LayerId>,
        /// Its size in the archive.
        bytes: u64,
        /// The action.
        action: LayerAction,
        /// The reason for the action.
        #[serde(rename = "why")]
        reason: String,
        /// The progress of its upload.
        #[serde(skip)]
        meter: Arc<Meter>,
    },
    /// The reading of a layer began, for all targets that share it.
    #[serde(rename = "reading")]
    LayerReading {
        /// The layer.
        layer: Named<LayerId>,
        /// When it waits for what.
        #[serde(skip)]
        timeline: Arc<ReadTimeline>,
    },
    /// A layer was uploaded.
    #[serde(rename = "arrived")]
    LayerUploaded {
        /// The target.
        target: Named<TargetId>,
        /// The layer.
        layer: Named<LayerId>,
        /// Its size in the archive.
        bytes: u64,
        /// The bytes that were sent.
        sent: u64,
    },
    /// A layer was mounted from another repository.
    #[serde(rename = "mounted")]
    LayerMounted {
        /// The target.
        target: Named<TargetId>,
        /// The layer.
        layer: Named<LayerId>,
        /// Its size in the registry.
        bytes: u64,
    },
    /// All layers are in a target, and its manifests are uploaded now.
    #[serde(rename = "finishing")]
    Publishing {
        /// The target.
        target: Named<TargetId>,
    },
}

/// Receives the events of a push.
pub type Events = Arc<dyn Fn(Event) + Send + Sync>;

/// The keys of the event `opened`. As in all other events, the size in the archive is `bytes`.
#[derive(Serialize)]
#[serde(remote = "ImageSummary")]
struct OpenedKeys {
    format: String,
    names: Vec<String>,
    image_ids: Vec<Digest>,
    platforms: Vec<String>,
    layers: usize,
    #[serde(rename = "bytes")]
    archive_bytes: u64,
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}
