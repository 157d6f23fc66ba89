//! What the pushes of a plan would do, summed up over all images.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::ops::AddAssign;

use serde::Serialize;

use crate::compress::size;
use crate::push::{LayerAction, Outcome, TagState, TargetOutcome};

/// The sums. Of a layer or a repository that was counted, eight bytes remain in memory.
#[derive(Debug, Default)]
pub(crate) struct PlannedTotals {
    sums: Planned,
    counted: HashSet<u64>,
}

/// What the pushes would do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub(crate) struct Planned {
    /// Repositories to create.
    repositories: usize,
    /// Layers to upload, each once for a registry: its other repositories mount it. Where the registry does not mount layers,
    /// each once for a repository.
    layers: usize,
    /// The size of these layers in the archive, in bytes.
    archive_bytes: u64,
    /// Manifests to put, under tags and under digests.
    manifests: usize,
    /// The least number of requests that all of this takes.
    requests: usize,
}

impl PlannedTotals {
    /// Returns the sums so far.
    pub(crate) fn sums(&self) -> Planned {
        self.sums
    }

    /// Returns whether something is counted for the first time.
    fn is_new(&mut self, what: impl Hash) -> bool {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        self.counted.insert(hasher.finish())
    }

    fn add(&mut self, target: &TargetOutcome, platforms: usize) {
        let registry = target.name.split('/').next().unwrap_or_default();
        let source = if target.is_mounting_off { target.name.as_str() } else { registry };
        if target.would_create_repository && self.is_new(("repository", &target.name)) {
            self.sums.repositories += 1;
            self.sums.requests += 1;
        }
        for layer in &target.layers {
            // What cannot be identified is no other image's.
            let blob = layer.blob.ok_or(self.counted.len());
            let is_needed = match layer.action {
                LayerAction::Upload | LayerAction::Mount(..) => self.is_new(("needed", &target.name, blob)),
                LayerAction::Reuse(_) => false,
            };
            if is_needed && layer.action == LayerAction::Upload && self.is_new(("uploaded", source, blob)) {
                self.sums.layers += 1;
                self.sums.archive_bytes += layer.archive_bytes;
                // One request begins an upload, and one ends it.
                self.sums.requests += 2;
            } else if is_needed {
                // Mounting takes one.
                self.sums.requests += 1;
            }
        }
        let tags = target.planned_tags.iter().filter(|tag| tag.state == TagState::Pushed).count();
        // Manifests below an index are put by their digests.
        let children = if tags > 0 && platforms > 1 { platforms } else { 0 };
        self.sums.manifests += tags + children;
        self.sums.requests += tags + children;
    }
}

impl AddAssign<&Outcome> for PlannedTotals {
    fn add_assign(&mut self, outcome: &Outcome) {
        let platforms = outcome.image.as_ref().map_or(0, |image| image.image_ids.len());
        let succeeded = outcome.targets.iter().filter(|target| target.error.is_none());
        succeeded.for_each(|target| self.add(target, platforms));
    }
}

impl std::fmt::Display for Planned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count =
            |count: usize, one: &str, several: &str| format!("{count} {}", if count == 1 { one } else { several });
        write!(
            f,
            "{} to create, {} to upload ({} of the archive), {} to put: at least {}",
            count(self.repositories, "repository", "repositories"),
            count(self.layers, "layer", "layers"),
            size(self.archive_bytes),
            count(self.manifests, "manifest", "manifests"),
            count(self.requests, "request", "requests"),
        )
    }
}
