//! What is decided and why, for those who want to know: a line each, which can be understood alone.

use std::collections::HashMap;

use super::outcome::label;
use super::{Request, Reuse};
use crate::compress::{Compression, CompressionSpec, size};
use crate::oci::Digest;
use crate::push::plan::{Action, Candidate, Wanted, Why};
use crate::registry::{self, ResumeStore};
use crate::reuse::LayerCache;

/// As many blobs as a line about a layer has room for.
const BLOBS: usize = 2;

/// What is settled before anybody is asked, for an image of so many layers, if that is known by then.
pub(super) fn at_start(request: &Request, cache: &LayerCache, layers: Option<usize>) -> Vec<String> {
    let of = |limit: usize| layers.map_or(limit, |layers| limit.min(layers)).max(1);
    let (lanes, large, threads) = (of(request.concurrency), of(request.large_at_once), request.compress_threads);
    let at_once =
        format!("layers at once: {lanes}, of which {large} may be larger than a chunk; threads that pack: {threads}");
    let journal = request.cache.as_deref().map(|cache| match ResumeStore::beside(cache).len() {
        0 => "journal: half-sent layers of earlier runs: none".to_owned(),
        count => format!("journal: half-sent layers of earlier runs: {count}"),
    });
    [memory(request, large), at_once, self::cache(request, cache)].into_iter().chain(journal).collect()
}

/// How much memory the push may take: what the program is, what is kept of layers until a registry has acknowledged it, and
/// what the packing threads have in hand.
fn memory(request: &Request, large: usize) -> String {
    const PROGRAM: u64 = 24;
    const THREAD: u64 = 2;
    let large = large as u64;
    let layer = registry::retained_bytes(request.chunk_size, large) >> 20;
    let threads = request.compress_threads as u64;
    let all = PROGRAM + large * layer + threads * THREAD;
    let layers = each(large, "layer under way", "layers under way");
    let threads = each(threads, "packing thread", "packing threads");
    format!("memory: {all} MiB at most: {PROGRAM} for the program, {layer} for {layers}, {THREAD} for {threads}")
}

fn each(count: u64, one: &str, several: &str) -> String {
    if count == 1 { format!("the one {one}") } else { format!("each of {count} {several}") }
}

fn cache(request: &Request, cache: &LayerCache) -> String {
    match (&request.cache, request.reuse, cache.len()) {
        (_, Reuse::Off, _) => "cache: not read: --reuse off".into(),
        (None, ..) => "cache: none is kept".into(),
        (Some(path), _, 0) => format!("cache: no layer is known yet in {}", path.display()),
        (Some(path), _, count) => format!("cache: packed layers that are known: {count}, in {}", path.display()),
    }
}

/// By which recipes layers are packed. Equal recipes give equal digests.
pub(super) fn packing(wanted: &[Wanted]) -> String {
    let mut counts: Vec<(CompressionSpec, String, usize)> = Vec::new();
    for Wanted { recipe, .. } in wanted {
        let name = recipe.name();
        match counts.iter_mut().find(|(_, known, _)| *known == name) {
            Some((_, _, count)) => *count += 1,
            None => counts.push((*recipe, name, 1)),
        }
    }
    let words: Vec<String> = counts
        .into_iter()
        .map(|(recipe, name, count)| match (recipe, recipe.compression()) {
            (CompressionSpec::Keep { .. }, _) => format!("{count} as they lie"),
            (_, Compression::Zstd) => format!("{count} with zstd (recipe {name})"),
            (..) => format!("{count} with gzip (recipe {name})"),
        })
        .collect();
    format!("packing of the layers: {}", if words.is_empty() { "there are none".into() } else { words.join(", ") })
}

/// Why that is done about a layer, where the repository has these blobs.
pub(super) fn of_layer(wanted: &Wanted, action: &Action, available: &HashMap<Digest, Option<u64>>) -> String {
    let why = match action {
        Action::Reuse(Candidate { stored, .. }) => {
            format!("the repository has it as {}, {}", stored.digest.short(), size(stored.size))
        }
        Action::Mount(Candidate { stored, .. }, from) => {
            format!("{from} has {}, so the registry is asked to link it", stored.digest.short())
        }
        Action::Upload if wanted.candidates.is_empty() && wanted.layer.diff_id.is_none() => {
            "what it is will be known once it is read".into()
        }
        Action::Upload if wanted.candidates.is_empty() => {
            "no earlier run packed it, and no image that was looked at has it".into()
        }
        Action::Upload => {
            let some: Vec<String> = wanted.candidates.iter().take(BLOBS).map(|it| refused(it, available)).collect();
            let more = wanted.candidates.len().saturating_sub(BLOBS);
            let more = if more > 0 { format!("; and {more} more") } else { String::new() };
            format!("{}{more}", some.join("; "))
        }
    };
    format!("layer {}: {why}", label(wanted))
}

/// Why a blob that would do is not taken.
fn refused(Candidate { stored, why }: &Candidate, available: &HashMap<Digest, Option<u64>>) -> String {
    let blob = stored.digest.short();
    match available.get(&stored.digest) {
        Some(Some(there)) => format!("{blob} is there with {there} bytes, and has {} here", stored.size),
        Some(None) => format!("{blob} is there, but nobody says how large, and a file name is not believed"),
        None => match why {
            Why::Stated => format!("the repository has no {blob}"),
            Why::Cached | Why::Named | Why::Held | Why::Origin => {
                format!("the repository has no {blob} ({})", why.text())
            }
        },
    }
}

/// How long something is good, in words.
pub(super) fn life(life: Option<std::time::Duration>) -> String {
    let minutes = life.map(|life| life.as_secs() / 60);
    minutes.map_or_else(String::new, |minutes| match (minutes / 60, minutes % 60) {
        (0, minutes) => format!(", good for {minutes} min"),
        (hours, 0) => format!(", good for {hours} h"),
        (hours, minutes) => format!(", good for {hours} h {minutes} min"),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::archive::Layer;
    use crate::compress::ByteSource;
    use crate::oci::DiffId;
    use crate::push::plan::{self, CompressionPolicy, Stored};

    fn wanted(diff_id: Option<DiffId>, candidates: Vec<Candidate>) -> Wanted {
        let layer = Layer {
            diff_id,
            digest: None,
            bytes: ByteSource::streamed(bytes::Bytes::new(), 0, 1000),
            compression: Compression::Uncompressed,
            named_digest: None,
            media_type: None,
            name: "a".into(),
            origins: Arc::default(),
        };
        let mut wanted = plan::passing(layer, &LayerCache::default(), CompressionPolicy::Usual);
        wanted.candidates = candidates;
        wanted
    }

    #[test]
    fn why_a_layer_is_sent_is_told_of_two_blobs() {
        let sent = |wanted: &Wanted, there: &[(Digest, Option<u64>)]| {
            let line = of_layer(wanted, &Action::Upload, &there.iter().copied().collect());
            line.split_once(": ").unwrap().1.to_owned()
        };
        let blob = |n: u8, why| {
            let stored = Stored { digest: Digest::of(&[n]), size: 9, compression: Compression::Gzip };
            Candidate { stored, why }
        };
        let id = Some(DiffId::of(b"a"));
        assert_eq!(sent(&wanted(None, Vec::new()), &[]), "what it is will be known once it is read");
        let nothing = "no earlier run packed it, and no image that was looked at has it";
        assert_eq!(sent(&wanted(id, Vec::new()), &[]), nothing);
        let known = wanted(id, vec![blob(1, Why::Cached), blob(2, Why::Named), blob(3, Why::Held)]);
        let [one, two] = [1, 2].map(|n| Digest::of(&[n]));
        assert_eq!(
            sent(&known, &[(one, Some(8)), (two, None)]),
            format!(
                "{} is there with 8 bytes, and has 9 here; {} is there, but nobody says how large, and a file name is not \
                 believed; and 1 more",
                one.short(),
                two.short()
            )
        );
        let stated = wanted(id, vec![blob(1, Why::Stated)]);
        assert_eq!(sent(&stated, &[]), format!("the repository has no {}", one.short()));
        let mount = Action::Mount(blob(1, Why::Held), "team/base".parse().unwrap());
        let line = of_layer(&stated, &mount, &HashMap::new());
        assert!(
            line.ends_with(&format!(": team/base has {}, so the registry is asked to link it", one.short())),
            "{line}"
        );
    }

    #[test]
    fn layers_are_counted_by_how_they_are_packed() {
        let keep = CompressionSpec::Keep { compression: Compression::Gzip, decompress: false };
        let [a, b, c] = [keep, CompressionSpec::Zstd { level: 3 }, keep].map(|recipe| {
            let mut wanted = wanted(None, Vec::new());
            wanted.recipe = recipe;
            wanted
        });
        let zstd = b.recipe.name();
        assert_eq!(packing(&[a, b, c]), format!("packing of the layers: 2 as they lie, 1 with zstd (recipe {zstd})"));
        assert_eq!(packing(&[]), "packing of the layers: there are none");
    }

    #[test]
    fn a_time_is_told_in_hours_and_minutes() {
        let told = |seconds| life(Some(Duration::from_secs(seconds)));
        assert_eq!(told(43_199), ", good for 11 h 59 min");
        assert_eq!(told(43_200), ", good for 12 h");
        assert_eq!(told(119), ", good for 1 min");
        assert_eq!(life(None), "");
    }
}
