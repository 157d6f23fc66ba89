//! What went over the wire for layers, as a sandbox saw it.

use std::collections::{BTreeMap, HashMap};

use ecr_push::Digest;
use ecr_push::sandbox::LogEntry;

/// The bodies of pushes, each repository's blobs apart.
pub(crate) struct Traffic {
    /// The bytes that arrived.
    pub(crate) sent: u64,
    /// The bytes of them that had arrived before, in whichever session.
    pub(crate) twice: u64,
    /// The bytes of each blob, by its digest.
    pub(crate) blobs: HashMap<String, u64>,
    /// How often the byte arrived that arrived most often in one repository.
    pub(crate) most: u64,
}

impl Traffic {
    /// `large` is the layer that all parts belong to. A closing request names its own.
    pub(crate) fn of(log: &[LogEntry], large: Option<Digest>) -> Self {
        let mut bodies: HashMap<(&str, String), Vec<(u64, u64)>> = HashMap::new();
        for entry in log.iter().filter(|entry| entry.body_bytes > 0) {
            let blob = match entry.operation.as_str() {
                "ecr:UploadLayerPart" => large.expect("only a large layer goes in parts").to_string(),
                "ecr:CompleteLayerUpload" => {
                    let (_, digest) = entry.path.rsplit_once("digest=").unwrap();
                    digest.replace("%3A", ":")
                }
                _ => continue,
            };
            let start =
                entry.content_range.as_deref().map_or(0, |range| range.split('-').next().unwrap().parse().unwrap());
            let (repository, _) = entry.path.split_once("/blobs/").unwrap();
            bodies.entry((repository, blob)).or_default().push((start, start + entry.body_bytes));
        }
        let mut traffic = Self { sent: 0, twice: 0, blobs: HashMap::new(), most: 0 };
        for ((_, blob), ranges) in bodies {
            *traffic.blobs.entry(blob).or_default() += ranges.iter().map(|(start, end)| end - start).sum::<u64>();
            let mut steps: BTreeMap<u64, i64> = BTreeMap::new();
            for (start, end) in ranges {
                *steps.entry(start).or_default() += 1;
                *steps.entry(end).or_default() -= 1;
            }
            let (mut times, mut before) = (0_u64, 0);
            for (at, step) in steps {
                traffic.sent += times * (at - before);
                traffic.twice += times.saturating_sub(1) * (at - before);
                times = times.checked_add_signed(step).unwrap();
                traffic.most = traffic.most.max(times);
                before = at;
            }
        }
        traffic
    }
}
