//! What the pushes of a run know of each other's blobs, so that a blob that many images share is sent to a registry once.

mod state;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OnceCell, watch};
use tokio::time::Instant;

use super::plan::{PlannedLayer, Stored};
use crate::compress::Meter;
use crate::oci::{Digest, Host, Repository};
use crate::sync::lock;
pub(super) use state::{BlobKey, Mounting, Next};
use state::{PushId, State};

/// How often a push that waits looks whether the other one makes progress.
const RECHECK: Duration = Duration::from_millis(250);

/// The blobs of all registries of a run.
#[derive(Default)]
pub(super) struct RunBlobs(Mutex<HashMap<Host, Arc<RegistryBlobs>>>);

struct RegistryBlobs {
    state: Mutex<State>,
    changes: watch::Sender<()>,
    /// Done once: reading whether the registry mounts.
    setting: OnceCell<()>,
}

/// The blobs of a registry, for a push to one of its repositories.
pub(super) struct PushBlobs {
    registry: Arc<RegistryBlobs>,
    push: PushId,
}

/// Changes that another push may have waited for.
pub(super) struct Changes(watch::Receiver<()>);

/// A blob that is being sent.
pub(super) struct Sending {
    blobs: Arc<PushBlobs>,
    key: BlobKey,
    stored: Option<Stored>,
}

impl RunBlobs {
    /// Notes a push to a repository. `needs_manifest` states whether the registry mounts only what a manifest refers to.
    pub(super) fn begin(&self, host: &Host, repository: &Repository, needs_manifest: bool) -> Arc<PushBlobs> {
        let mut registries = lock(&self.0);
        let registry = registries.entry(host.clone()).or_insert_with(|| {
            let (state, changes) = (Mutex::new(State::new(needs_manifest)), watch::Sender::new(()));
            Arc::new(RegistryBlobs { state, changes, setting: OnceCell::new() })
        });
        let push = lock(&registry.state).begin(repository.clone());
        Arc::new(PushBlobs { registry: Arc::clone(registry), push })
    }
}

/// Returns what identifies a layer's blob in all images. `None` if only its place in the archive is known.
pub(super) fn key(layer: &PlannedLayer) -> Option<BlobKey> {
    layer.identity().map(|identity| Digest::of(identity.as_bytes()))
}

impl PushBlobs {
    /// Notes which blobs the push needs. Asks `read` whether the registry mounts if another repository shares one of them,
    /// or if `is_shared` states that other images do, once in a run.
    pub(super) async fn need(&self, keys: &[BlobKey], is_shared: bool, read: impl Future<Output = Mounting>) {
        let is_elsewhere = lock(&self.registry.state).need(self.push, keys);
        if is_elsewhere || is_shared {
            self.mounting(read).await;
        }
    }

    /// Returns whether the registry mounts. Asks `read` for that, once in a run.
    pub(super) async fn mounting(&self, read: impl Future<Output = Mounting>) -> Mounting {
        self.registry
            .setting
            .get_or_init(|| async {
                let mounting = read.await;
                if mounting != Mounting::Unknown {
                    lock(&self.registry.state).set_mounting(mounting);
                }
            })
            .await;
        lock(&self.registry.state).mounting()
    }

    /// Returns whether other pushes send a blob, too, since each repository gets a copy of its own. `is_shared` states whether
    /// other images have it, and `own` are the repositories of all targets of this push, which share one reading.
    pub(super) fn is_copied(&self, key: BlobKey, is_shared: bool, own: &[Repository]) -> bool {
        let mut state = lock(&self.registry.state);
        state.mounting() != Mounting::Works && (is_shared || state.is_in_others(own, &[key]))
    }

    /// Returns the changes from now on.
    pub(super) fn changes(&self) -> Changes {
        Changes(self.registry.changes.subscribe())
    }

    /// Decides about all blobs that the push still has to send, after it has waited for others for `waited`.
    pub(super) fn decide(&self, keys: &[Option<BlobKey>], waited: Duration) -> Vec<Next> {
        lock(&self.registry.state).decide(self.push, keys, waited, Instant::now())
    }

    /// Notes that the push sends a blob now. `None` if it need not.
    pub(super) fn claim(self: &Arc<Self>, key: BlobKey, meter: &Arc<Meter>, waited: Duration) -> Option<Sending> {
        let is_claimed = lock(&self.registry.state).claim(self.push, &key, meter, waited, Instant::now());
        is_claimed.then(|| Sending { blobs: Arc::clone(self), key, stored: None })
    }

    /// Notes that the push sends a blob now, for which a session is open.
    pub(super) fn claim_anyway(self: &Arc<Self>, key: BlobKey, meter: &Arc<Meter>) -> Sending {
        lock(&self.registry.state).claim_anyway(self.push, &key, meter, Instant::now());
        Sending { blobs: Arc::clone(self), key, stored: None }
    }

    /// Notes that the repository has a blob.
    pub(super) fn found(&self, key: BlobKey, stored: Stored) {
        self.change(|state| state.found(self.push, &key, stored));
    }

    /// Notes that a blob was mounted.
    pub(super) fn mounted(&self, key: Option<BlobKey>, stored: Stored) {
        self.change(|state| state.mounted(self.push, key.as_ref(), stored));
    }

    /// Notes that a blob could not be mounted from another repository.
    pub(super) fn not_mounted(&self, key: BlobKey, from: &Repository) {
        self.change(|state| state.not_mounted(self.push, &key, from));
    }

    /// Notes that the repository has lost blobs.
    pub(super) fn lost(&self, keys: &[BlobKey]) {
        self.change(|state| state.lost(self.push, keys));
    }

    /// Notes that the manifests are put.
    pub(super) fn published(&self) {
        self.change(|state| state.published(self.push));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut lock(&self.registry.state));
        self.registry.changes.send_replace(());
    }
}

impl Drop for PushBlobs {
    fn drop(&mut self) {
        self.change(|state| state.end(self.push));
    }
}

impl Changes {
    /// Notes that all changes so far are considered.
    pub(super) fn mark_seen(&mut self) {
        self.0.mark_unchanged();
    }

    /// Waits for a change that is not considered yet, or until it is time to look for progress.
    pub(super) async fn next(&mut self) {
        // The sender lives as long as the run.
        let _changed_or_not = tokio::time::timeout(RECHECK, self.0.changed()).await;
    }
}

impl Sending {
    /// Notes that the repository has the blob.
    pub(super) fn end(mut self, stored: Stored) {
        self.stored = Some(stored);
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.blobs.change(|state| state.end_sending(self.blobs.push, &self.key, self.stored, Instant::now()));
    }
}
