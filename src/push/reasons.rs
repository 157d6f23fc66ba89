//! What is decided and why, for those who want to know: a line each, which can be understood alone.

use std::collections::HashMap;

use super::outcome::label;
use super::{Request, Reuse};
use crate::layer::{Packing, Recipe, size};
use crate::plan::{Action, Candidate, Wanted, Why};
use crate::reference::Digest;
use crate::registry::{self, Journal};
use crate::reuse::Cache;

/// As many blobs as a line about a layer has room for.
const BLOBS: usize = 2;

/// What is settled before anybody is asked, for an image of so many layers, if that is known by then.
pub(super) fn at_start(request: &Request, cache: &Cache, layers: Option<usize>) -> Vec<String> {
    let of = |limit: usize| layers.map_or(limit, |layers| limit.min(layers)).max(1);
    let (lanes, large, threads) = (of(request.concurrency), of(request.large_at_once), request.pack_threads);
    let at_once =
        format!("layers at once: {lanes}, of which {large} may be larger than a chunk; threads that pack: {threads}");
    let journal = request.cache.as_deref().map(|cache| match Journal::beside(cache).len() {
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
    let layer = registry::kept(request.chunk_size, large) >> 20;
    let threads = request.pack_threads as u64;
    let all = PROGRAM + large * layer + threads * THREAD;
    format!(
        "memory: {all} MiB at most: {PROGRAM}, {layer} for each of {large} layers under way, {THREAD} for each of {threads} \
         packing threads"
    )
}

fn cache(request: &Request, cache: &Cache) -> String {
    match (&request.cache, request.reuse, cache.len()) {
        (_, Reuse::Off, _) => "cache: not read: --reuse off".into(),
        (None, ..) => "cache: none is kept".into(),
        (Some(path), _, 0) => format!("cache: no layer is known yet in {}", path.display()),
        (Some(path), _, count) => format!("cache: packed layers that are known: {count}, in {}", path.display()),
    }
}

/// By which recipes layers are packed. Equal recipes give equal digests.
pub(super) fn packing(wanted: &[Wanted]) -> String {
    let mut counts: Vec<(Recipe, String, usize)> = Vec::new();
    for Wanted { recipe, .. } in wanted {
        let name = recipe.name();
        match counts.iter_mut().find(|(_, known, _)| *known == name) {
            Some((_, _, count)) => *count += 1,
            None => counts.push((*recipe, name, 1)),
        }
    }
    let words: Vec<String> = counts
        .into_iter()
        .map(|(recipe, name, count)| match (recipe, recipe.packing()) {
            (Recipe::Keep { .. }, _) => format!("{count} as they lie"),
            (_, Packing::Zstd) => format!("{count} with zstd (recipe {name})"),
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
