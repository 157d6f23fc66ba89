//! Explains decisions: one line each, which can be understood alone. They are `tracing` events of the level debug.

use std::path::Path;

use tracing::debug;

use super::context::PushContext;
use super::options::{LayerOptions, Reuse};
use super::plan::{Blobs, Candidate, Evidence, LayerAction, PlannedLayer};
use crate::compress::{Compression, CompressionSpec, size};
use crate::registry::{self, ResumeStore};
use crate::reuse::LayerCache;

/// The most blobs in a line about a layer.
const BLOBS: usize = 2;

/// Explains the limits and caches of a push, of whose image the number of layers may be known.
pub(super) fn start(context: &PushContext, layers: Option<usize>) {
    let (options, targets) = (&context.options().layers, context.request.targets.len());
    let of = |limit: usize| layers.map_or(limit, |layers| limit.min(layers)).max(1);
    let (lanes, large, threads) = (of(options.concurrency), of(options.large_per_target(targets)), options.threads);
    debug!("{}", memory(options, targets, large, layers));
    debug!("layers at once: {lanes}, of which {large} may be larger than a chunk; compression threads: {threads}");
    debug!("{}", cache(options, &context.run.cache));
    if let Some(cache) = &options.cache {
        debug!("resume store: interrupted uploads of earlier runs: {}", interrupted_uploads(cache));
    }
}

fn interrupted_uploads(cache: &Path) -> String {
    match ResumeStore::beside(cache).len() {
        0 => "none".into(),
        count => count.to_string(),
    }
}

/// Explains how much memory the push may take: the program, the bytes of layers that no registry has acknowledged yet, and
/// the buffers of the compression threads. With several images at a time it is that of all, and each may have other layers.
fn memory(options: &LayerOptions, targets: usize, large: usize, layers: Option<usize>) -> String {
    const PROGRAM: u64 = 24;
    const THREAD: u64 = 2;
    let shares = options.memory_shares(targets, layers.unwrap_or(usize::MAX)).max(1) as u64;
    let layer = registry::retained_bytes(options.chunk_size, shares) >> 20;
    let (of, large) = match options.pushes {
        0 | 1 => (String::new(), large),
        pushes => (format!(" of {pushes} images at a time"), options.large_per_target(targets) * pushes),
    };
    let large = (large * targets.max(1)) as u64;
    let threads = options.threads as u64;
    let all = PROGRAM + large * layer + threads * THREAD;
    let layers = each(large, "layer in progress", "layers in progress");
    let threads = each(threads, "compression thread", "compression threads");
    format!("memory{of}: {all} MiB at most: {PROGRAM} for the program, {layer} for {layers}, {THREAD} for {threads}")
}

fn each(count: u64, one: &str, several: &str) -> String {
    if count == 1 { format!("the one {one}") } else { format!("each of {count} {several}") }
}

fn cache(options: &LayerOptions, cache: &LayerCache) -> String {
    match (&options.cache, options.reuse, cache.len()) {
        (_, Reuse::Off, _) => "layer cache: not used, layer reuse is off".into(),
        (None, ..) => "layer cache: disabled".into(),
        (Some(path), _, 0) => format!("layer cache: no layers yet in {}", path.display()),
        (Some(path), _, count) => format!("layer cache: {count} layers in {}", path.display()),
    }
}

/// Explains by which recipes layers are compressed. Equal recipes give equal digests.
pub(super) fn compression(layers: &[PlannedLayer]) -> String {
    let mut counts: Vec<(CompressionSpec, String, usize)> = Vec::new();
    for PlannedLayer { spec, .. } in layers {
        let name = spec.name();
        match counts.iter_mut().find(|(_, known, _)| *known == name) {
            Some((_, _, count)) => *count += 1,
            None => counts.push((*spec, name, 1)),
        }
    }
    let words: Vec<String> = counts
        .into_iter()
        .map(|(spec, name, count)| match (spec, spec.compression()) {
            (CompressionSpec::Keep { .. }, _) => format!("{count} unchanged"),
            (_, Compression::Zstd) => format!("{count} with zstd (recipe {name})"),
            (..) => format!("{count} with gzip (recipe {name})"),
        })
        .collect();
    format!("layers by compression: {}", if words.is_empty() { "none".into() } else { words.join(", ") })
}

/// Explains the action for a layer in a repository that has the blobs of `available`.
pub(super) fn layer(wanted: &PlannedLayer, action: &LayerAction, available: &Blobs) -> String {
    let why = match action {
        LayerAction::Reuse(Candidate { stored, .. }) => {
            format!("exists in the repository as {}, {}", stored.digest.short(), size(stored.size))
        }
        LayerAction::Mount(Candidate { stored, .. }, from) => {
            format!("{} exists in {from}: asking the registry to mount it", stored.digest.short())
        }
        LayerAction::Upload if wanted.candidates.is_empty() && wanted.layer.diff_id.is_none() => {
            "its digest is known once it is read".into()
        }
        LayerAction::Upload if wanted.candidates.is_empty() => {
            "not in the layer cache, and not in an image that was checked".into()
        }
        LayerAction::Upload => {
            let some: Vec<String> = wanted.candidates.iter().take(BLOBS).map(|it| not_used(it, available)).collect();
            let more = wanted.candidates.len().saturating_sub(BLOBS);
            let more = if more > 0 { format!("; and {more} more") } else { String::new() };
            format!("{}{more}", some.join("; "))
        }
    };
    format!("layer {}: {why}", wanted.label())
}

/// Explains why a candidate is not used.
fn not_used(Candidate { stored, why }: &Candidate, available: &Blobs) -> String {
    let blob = stored.digest.short();
    match available.get(&stored.digest) {
        Some(Some(there)) => format!("{blob} exists with {there} bytes instead of {}", stored.size),
        Some(None) => format!("{blob} exists, but the registry does not report its size, and a file name is not proof"),
        None => match why {
            Evidence::Stated => format!("{blob} is not in the repository"),
            Evidence::Cached | Evidence::Named | Evidence::RemoteImage | Evidence::Origin | Evidence::Run => {
                format!("{blob} is not in the repository ({})", why.text())
            }
        },
    }
}

/// Returns how long something is valid, in words.
pub(super) fn lifetime(lifetime: Option<std::time::Duration>) -> String {
    let minutes = lifetime.map(|lifetime| lifetime.as_secs() / 60);
    minutes.map_or_else(String::new, |minutes| match (minutes / 60, minutes % 60) {
        (0, minutes) => format!(", valid for {minutes} min"),
        (hours, 0) => format!(", valid for {hours} h"),
        (hours, minutes) => format!(", valid for {hours} h {minutes} min"),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::oci::{DiffId, Digest};
    use crate::push::fixtures;
    use crate::push::plan::Stored;

    fn planned(diff_id: Option<DiffId>, candidates: Vec<Candidate>) -> PlannedLayer {
        let mut layer = fixtures::layer(1);
        layer.diff_id = diff_id;
        let mut planned = fixtures::planned(layer, &[]);
        planned.candidates = candidates;
        planned
    }

    #[test]
    fn the_memory_of_images_at_a_time_is_that_of_all() {
        let one = LayerOptions { threads: 6, ..LayerOptions::default() };
        assert!(memory(&one, 1, 3, Some(3)).starts_with("memory: "));
        let several = LayerOptions { pushes: 4, ..one };
        assert_eq!(
            memory(&several, 1, 1, Some(1)),
            "memory of 4 images at a time: 100 MiB at most: 24 for the program, 8 for each of 8 layers in progress, 2 for \
             each of 6 compression threads"
        );
    }

    #[test]
    fn the_reason_for_an_upload_names_two_blobs() {
        let sent = |wanted: &PlannedLayer, there: &[(Digest, Option<u64>)]| {
            let line = layer(wanted, &LayerAction::Upload, &there.iter().copied().collect());
            line.split_once(": ").unwrap().1.to_owned()
        };
        let blob = |n: u8, why| {
            let stored = Stored { digest: Digest::of(&[n]), size: 9, compression: Compression::Gzip };
            Candidate { stored, why }
        };
        let id = Some(DiffId::of(b"a"));
        assert_eq!(sent(&planned(None, Vec::new()), &[]), "its digest is known once it is read");
        let nothing = "not in the layer cache, and not in an image that was checked";
        assert_eq!(sent(&planned(id, Vec::new()), &[]), nothing);
        let known =
            planned(id, vec![blob(1, Evidence::Cached), blob(2, Evidence::Named), blob(3, Evidence::RemoteImage)]);
        let [one, two] = [1, 2].map(|n| Digest::of(&[n]));
        assert_eq!(
            sent(&known, &[(one, Some(8)), (two, None)]),
            format!(
                "{} exists with 8 bytes instead of 9; {} exists, but the registry does not report its size, and a file \
                 name is not proof; and 1 more",
                one.short(),
                two.short()
            )
        );
        let stated = planned(id, vec![blob(1, Evidence::Stated)]);
        assert_eq!(sent(&stated, &[]), format!("{} is not in the repository", one.short()));
        let mount = LayerAction::Mount(blob(1, Evidence::RemoteImage), "team/base".parse().unwrap());
        let line = layer(&stated, &mount, &Blobs::new());
        assert!(
            line.ends_with(&format!(": {} exists in team/base: asking the registry to mount it", one.short())),
            "{line}"
        );
    }

    #[test]
    fn layers_are_counted_by_compression() {
        let keep = CompressionSpec::Keep { compression: Compression::Gzip, decompress: false };
        let [a, b, c] = [keep, CompressionSpec::Zstd { level: 3 }, keep].map(|spec| {
            let mut planned = planned(None, Vec::new());
            planned.spec = spec;
            planned
        });
        let zstd = b.spec.name();
        assert_eq!(compression(&[a, b, c]), format!("layers by compression: 2 unchanged, 1 with zstd (recipe {zstd})"));
        assert_eq!(compression(&[]), "layers by compression: none");
    }

    #[test]
    fn a_lifetime_is_in_hours_and_minutes() {
        let text = |seconds| lifetime(Some(Duration::from_secs(seconds)));
        assert_eq!(text(43_199), ", valid for 11 h 59 min");
        assert_eq!(text(43_200), ", valid for 12 h");
        assert_eq!(text(119), ", valid for 1 min");
        assert_eq!(lifetime(None), "");
    }
}
