//! What pushes share: all of a run, and all targets of one push.

use std::sync::Arc;

use super::agreement::Agreement;
use super::event::{Event, Events};
use super::options::{Options, PushRequest};
use super::policies::Policies;
use super::run_blobs::RunBlobs;
use super::shared_layers::SharedLayers;
use super::small_layers::SmallLayers;
use crate::compress::Pool;
use crate::reuse::LayerCache;

/// What all pushes of a run share.
pub(super) struct Run {
    pub(super) options: Options,
    pub(super) events: Events,
    /// The policies of a repository that is created.
    pub(super) policies: Policies,
    /// The local layer cache.
    pub(super) cache: LayerCache,
    /// Where blobs are, and which are being sent.
    pub(super) blobs: RunBlobs,
    /// What compresses.
    pub(super) pool: Arc<Pool>,
    /// Small layers that were sent.
    pub(super) small: Arc<SmallLayers>,
    /// Large layers that several images have.
    pub(super) shared: Arc<SharedLayers>,
}

impl Run {
    /// Reports an event.
    pub(super) fn emit(&self, event: Event) {
        (self.events)(event);
    }
}

/// What all targets of a push share.
pub(super) struct PushContext {
    pub(super) run: Arc<Run>,
    pub(super) request: PushRequest,
    /// The plans of all targets, if the image is to have one digest.
    pub(super) agreement: Option<Arc<Agreement>>,
}

impl PushContext {
    /// Returns the options of the run.
    pub(super) fn options(&self) -> &Options {
        &self.run.options
    }

    /// Reports an event.
    pub(super) fn emit(&self, event: Event) {
        self.run.emit(event);
    }
}
