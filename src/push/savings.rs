//! What a push saved by what was there already.

use std::time::Duration;

use super::outcome::{LayerOutcome, TargetOutcome};
use super::plan::LayerAction;

/// A run that sent less, or less long, has no rate: latency and the opening of connections would be all of it.
const LEAST_BYTES: u64 = 1 << 20;
const LEAST_TIME: Duration = Duration::from_millis(500);

/// What did not have to be done, since the registry held layers already.
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// # use ecr_push::{CancellationToken, Options, PushRequest, Pusher, Source};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let create = vec!["team/app".parse()?];
/// # let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
/// # let mut options = Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// # let pusher = Pusher::builder().options(options).start().await?;
/// # let archive = Source::Path("testdata/docker-20.10-save.tar".into());
/// # let request = PushRequest::new(archive, ["team/app:1.4".parse()?]);
/// let first = pusher.push(request.clone(), CancellationToken::new()).await.into_result()?;
/// assert_eq!(first.targets[0].saved().bytes, 0);
/// let again = pusher.push(request, CancellationToken::new()).await.into_result()?;
/// assert_eq!(again.targets[0].saved().bytes, again.image.unwrap().archive_bytes);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Saved {
    /// The bytes in the archive of all layers that were reused or mounted: of uncompressed layers their uncompressed bytes. Each layer
    /// counts once, also where it stands in the image twice.
    pub bytes: u64,
    /// About how much longer the push would have taken. `None` if nothing is known.
    pub seconds: Option<f64>,
}

impl TargetOutcome {
    /// What was saved here by layers that were reused or mounted; of a plan, what would be. Nothing if it failed.
    ///
    /// The time is an estimate from below. The layer cache has the times of layers that were compressed and sent before; for
    /// the others this run's rate counts, if it sent 1 MiB or more in half a second or more. Other layers add nothing. Since
    /// layers are uploaded at the same time, the sum of their times is
    /// divided by how many may be so at once; but it is never less than the longest of them takes alone.
    pub fn saved(&self) -> Saved {
        let spared: Vec<&LayerOutcome> = match self.error {
            Some(_) => Vec::new(),
            None => self.layers.iter().filter(|layer| layer.action != LayerAction::Upload).collect(),
        };
        let (known, unknown): (Vec<&LayerOutcome>, Vec<&LayerOutcome>) =
            spared.iter().partition(|layer| layer.took.is_some());
        let times = known.iter().filter_map(|layer| layer.took);
        let longest = times.clone().max().unwrap_or_default();
        let remembered = times.sum::<Duration>().div_f64(self.lanes.max(1) as f64).max(longest);
        let rest: u64 = unknown.iter().map(|layer| layer.archive_bytes).sum();
        let by_rate = self.rate().filter(|_| rest > 0).map(|rate| rest as f64 / rate);
        let seconds = match by_rate {
            Some(seconds) => Some(remembered.as_secs_f64() + seconds),
            None => (!known.is_empty()).then_some(remembered.as_secs_f64()),
        };
        Saved { bytes: spared.iter().map(|layer| layer.archive_bytes).sum(), seconds }
    }

    /// Returns how many bytes of the archive were compressed and sent per second, from the start of the first layer to the end of the last.
    fn rate(&self) -> Option<f64> {
        let sent: Vec<&LayerOutcome> =
            self.layers.iter().filter(|layer| layer.action == LayerAction::Upload && layer.started.is_some()).collect();
        let first = sent.iter().filter_map(|layer| layer.started).min()?;
        let ends = sent.iter().filter_map(|layer| Some(layer.started? + Duration::from_secs_f64(layer.seconds)));
        let time = ends.max()?.saturating_duration_since(first);
        let is_enough = self.sent() >= LEAST_BYTES && time >= LEAST_TIME;
        let bytes: u64 = sent.iter().map(|layer| layer.archive_bytes).sum();
        is_enough.then(|| bytes as f64 / time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::error::Error;
    use crate::push::plan::{Candidate, Evidence};

    fn candidate() -> Candidate {
        Candidate { stored: crate::push::fixtures::stored(1, 9), why: Evidence::Cached }
    }

    fn layer(action: &str, archive_bytes: u64, took: Option<u64>) -> LayerOutcome {
        LayerOutcome {
            name: String::new(),
            diff_id: None,
            blob: None,
            archive_bytes,
            media_type: None,
            digest: None,
            size: None,
            action: match action {
                "reuse" => LayerAction::Reuse(candidate()),
                "mount" => LayerAction::Mount(candidate(), "team/base".parse().unwrap()),
                _ => LayerAction::Upload,
            },
            reason: String::new(),
            sent: 0,
            resumed: 0,
            retries: 0,
            started: None,
            seconds: 0.0,
            took: took.map(Duration::from_secs),
        }
    }

    fn sent(archive_bytes: u64, sent: u64, started: Instant, seconds: f64) -> LayerOutcome {
        LayerOutcome { sent, started: Some(started), seconds, ..layer("upload", archive_bytes, None) }
    }

    fn target(layers: Vec<LayerOutcome>) -> TargetOutcome {
        TargetOutcome {
            name: "h/a".into(),
            tags: Vec::new(),
            placed: Vec::new(),
            planned_tags: Vec::new(),
            digest: None,
            media_type: None,
            created_repository: false,
            would_create_repository: false,
            changed: true,
            layers,
            error: None,
            is_mounting_off: false,
            lanes: 2,
        }
    }

    #[track_caller]
    fn saves(layers: Vec<LayerOutcome>, bytes: u64, seconds: Option<f64>) {
        assert_eq!(target(layers).saved(), Saved { bytes, seconds });
    }

    #[test]
    fn what_is_remembered_is_taken_side_by_side() {
        saves(
            vec![layer("reuse", 10, Some(3)), layer("mount", 5, Some(1)), layer("upload", 7, Some(9))],
            15,
            Some(3.0),
        );
        saves((0..4).map(|_| layer("reuse", 10, Some(3))).collect(), 40, Some(6.0));
    }

    #[test]
    fn nothing_is_made_up() {
        saves(Vec::new(), 0, None);
        saves(vec![layer("reuse", 10, None)], 10, None);
        // Too little, or too quick, to tell a rate by.
        let now = Instant::now();
        saves(vec![layer("reuse", 10, None), sent(1 << 30, LEAST_BYTES - 1, now, 2.0)], 10, None);
        saves(vec![layer("reuse", 10, None), sent(1 << 30, LEAST_BYTES, now, 0.4)], 10, None);
        // The time of one is less than that of both, and is all that is known.
        saves(vec![layer("reuse", 10, None), layer("reuse", 10, Some(2))], 20, Some(2.0));
    }

    #[test]
    fn a_run_s_own_rate_tells_of_what_is_not_remembered() {
        let start = Instant::now();
        // 4 MiB in two seconds: the second layer begins when the first has one second to go.
        let sent = || {
            vec![sent(3 << 20, 1 << 20, start, 1.5), sent(1 << 20, 1 << 10, start + Duration::from_millis(500), 1.5)]
        };
        saves([sent(), vec![layer("reuse", 1 << 20, None)]].concat(), 1 << 20, Some(0.5));
        saves(
            [sent(), vec![layer("reuse", 1 << 20, None), layer("mount", 7, Some(2))]].concat(),
            (1 << 20) + 7,
            Some(2.5),
        );
    }

    #[test]
    fn what_failed_saved_nothing() {
        let mut target = target(vec![layer("reuse", 10, Some(3))]);
        target.error = Some(Error::interrupted());
        assert_eq!(target.saved(), Saved::default());
    }
}
