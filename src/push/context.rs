//! What all targets of a push have in common, whatever phase they are in.

use std::sync::Arc;

use super::agreement::Agreement;
use super::event::{Event, Events};
use super::policies::Policies;
use super::request::Request;
use crate::reuse::LayerCache;

/// What all targets of a push have in common.
pub(super) struct PushContext {
    /// What is to be pushed, and how.
    pub(super) request: Arc<Request>,
    /// Takes what happens.
    pub(super) events: Events,
    /// The policies of a repository that is created.
    pub(super) policies: Policies,
    /// The local layer cache.
    pub(super) cache: LayerCache,
    /// What the layers of all targets become, if the image is to have one digest.
    pub(super) agreement: Option<Agreement>,
}

impl PushContext {
    /// Reports an event.
    pub(super) fn emit(&self, event: Event) {
        (self.events)(event);
    }
}
