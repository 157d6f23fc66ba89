//! What happens to each layer, and why. Pure: it is given what is known, and sends no request.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::compression::{CompressionPolicy, family, may_be_compressed, spec};
use crate::archive::{self, Image, Layer, Manifest, Origin, Provenance};
use crate::compress::{Compression, CompressionSpec, LayerSummary};
use crate::oci::{Digest, Family, Host, LayerId, Repository};
use crate::request_log::Named;
use crate::reuse::{CachedLayer, LayerCache, RemoteImage, RemoteLayer};

/// The blobs that a repository has, with their sizes where it reports them.
pub(crate) type Blobs = std::collections::HashMap<Digest, Option<u64>>;

/// A layer as a registry has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stored {
    /// The blob's digest.
    pub digest: Digest,
    /// The blob's size in bytes.
    pub size: u64,
    /// How it is compressed.
    pub compression: Compression,
}

/// One layer of the image, once for each way in which it is needed.
#[derive(Clone, Debug)]
pub struct PlannedLayer {
    /// What makes it this layer.
    pub id: LayerId,
    /// The layer.
    pub layer: Layer,
    /// What is done to it if it has to be uploaded.
    pub spec: CompressionSpec,
    /// The blobs that would do in its place, best first.
    pub candidates: Vec<Candidate>,
    /// How long it took when it was compressed and sent from here before, if the layer cache has that.
    pub took: Option<Duration>,
    /// Whether other images of the run have it, as far as that is known.
    pub(super) is_shared: bool,
    family: Family,
    /// Its media type in the manifest if it is pushed as is, where the archive states one.
    media_type: Option<String>,
    /// The only compression that will do.
    asked: Option<Compression>,
}

impl PlannedLayer {
    /// What the manifest that is put calls the layer, stored like this.
    pub fn media_type(&self, stored: &Stored) -> Option<String> {
        self.media_type.clone().or_else(|| self.family.layer(stored.compression).map(str::to_owned))
    }

    /// Returns what the layer is in the registry, once it is sent.
    pub(super) fn stored(&self, sent: &LayerSummary) -> Stored {
        Stored { digest: sent.digest, size: sent.size, compression: self.spec.compression() }
    }

    /// What was sent before its image was known, as what it is in that.
    pub fn settle(&mut self, known: &Self) {
        (self.family, self.media_type) = (known.family, known.media_type.clone());
    }

    /// Whether the archive states the digest of the very blob that has to be there.
    pub fn is_verbatim(&self) -> bool {
        matches!(self.id, LayerId::Stated(_))
    }

    /// Returns what the layer is called in front of people: its hash, since the archive's names say little.
    pub fn label(&self) -> String {
        match (self.layer.diff_id, self.layer.digest) {
            (Some(diff_id), _) => diff_id.short(),
            (None, Some(digest)) => digest.short(),
            (None, None) => self.layer.name.clone(),
        }
    }

    /// Returns the layer's ID with its label.
    pub fn named(&self) -> Named<LayerId> {
        Named::new(self.id, self.label())
    }

    /// What makes it the same blob in another run, byte for byte; nothing if not even we know what it will be.
    pub fn identity(&self) -> Option<String> {
        match self.id {
            LayerId::Stated(digest) => Some(digest.to_string()),
            LayerId::Plain(diff_id) => Some(format!("{diff_id} {}", self.spec.name())),
            LayerId::Place(_) => None,
        }
    }
}

/// A blob that would do in a layer's place, if the registry has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Candidate {
    /// The blob.
    pub stored: Stored,
    /// How we know.
    pub why: Evidence,
}

/// How we know that a blob is a layer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Evidence {
    /// An earlier run compressed this layer to it.
    Cached,
    /// The layer's name in the archive is that digest.
    Named,
    /// The archive's manifest says so.
    Stated,
    /// An image that the repository holds has this layer.
    RemoteImage,
    /// The archive says that it came from that repository.
    Origin,
    /// Another push of the run has sent it, or found it.
    Run,
}

impl Evidence {
    /// The reason for people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Cached => "exists in the repository, known from the layer cache",
            Self::Named => "exists in the repository under its file name",
            Self::Stated => "exists in the repository",
            Self::RemoteImage => "part of an image in the repository",
            Self::Origin => "the archive names this repository as its source",
            Self::Run => "seen in another push of this run",
        }
    }
}

/// What is done about one layer for one target.
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// # use ecr_push::{CancellationToken, Options, PushRequest, Pusher, Source};
/// use ecr_push::LayerAction;
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
/// pusher.push(request.clone(), CancellationToken::new()).await.into_result()?;
/// let outcome = pusher.push(request, CancellationToken::new()).await.into_result()?;
/// for layer in &outcome.targets[0].layers {
///     let LayerAction::Reuse(candidate) = &layer.action else { panic!("{} is sent again", layer.name) };
///     assert_eq!(Some(candidate.stored.digest), layer.digest);
///     assert_eq!(layer.action.name(), "reuse");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LayerAction {
    /// The repository has it: it is taken over by its descriptor.
    Reuse(Candidate),
    /// Another repository of the registry has it: the registry is asked to link it.
    Mount(Candidate, Repository),
    /// It is sent.
    Upload,
}

impl LayerAction {
    /// Returns why that is done about a layer, for people.
    pub fn reason(&self, layer: &PlannedLayer) -> String {
        match self {
            Self::Reuse(candidate) => candidate.why.text().to_owned(),
            Self::Mount(candidate, from) => format!("from {from}: {}", candidate.why.text()),
            Self::Upload => upload_reason(layer).to_owned(),
        }
    }

    /// Returns the word for it in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Reuse(_) => "reuse",
            Self::Mount(..) => "mount",
            Self::Upload => "upload",
        }
    }
}

impl Serialize for LayerAction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The words for a layer that is not reused.
fn upload_reason(layer: &PlannedLayer) -> &'static str {
    let is_unchanged = matches!(layer.spec, CompressionSpec::Keep { .. });
    match (layer.candidates.is_empty(), layer.spec.compression()) {
        (true, _) if is_unchanged => "new, unchanged",
        (true, Compression::Zstd) => "new, compressed with zstd",
        (true, _) => "new, compressed with gzip",
        (false, _) if is_unchanged => "not in the repository, unchanged",
        (false, Compression::Zstd) => "not in the repository, compressed with zstd",
        (false, _) => "not in the repository, compressed with gzip",
    }
}

/// What a layer is known by when it is sent with a spec.
pub(crate) fn layer_id(layer: &Layer, spec: CompressionSpec) -> LayerId {
    match (spec, layer.digest, layer.diff_id) {
        (CompressionSpec::Keep { .. }, Some(digest), _) => LayerId::Stated(digest),
        (_, _, Some(diff_id)) => LayerId::Plain(diff_id),
        _ => LayerId::Place(layer.bytes.start()),
    }
}

/// The layers of an image, each once, largest first.
pub(crate) fn layers(image: &Image, cache: &LayerCache, compression: CompressionPolicy) -> Vec<PlannedLayer> {
    let mut wanted: Vec<PlannedLayer> = Vec::new();
    for manifest in image.manifests() {
        let family = family(manifest, compression);
        for layer in &manifest.layers {
            let spec = spec(manifest, layer, compression);
            let key = layer_id(layer, spec);
            if wanted.iter().any(|known| known.id == key) {
                continue;
            }
            let asked = compression.asked().filter(|_| may_be_compressed(manifest, layer));
            let mut candidates = candidates(layer, spec, family, cache);
            candidates.retain(|candidate| asked.is_none_or(|asked| candidate.stored.compression == asked));
            let is_corrected = manifest.repaired.is_some() && layer.is_tar();
            let stated = layer.media_type.as_deref().filter(|_| matches!(key, LayerId::Stated(_)) && !is_corrected);
            let (took, media_type) = (took(layer, cache), stated.map(archive::shown));
            wanted.push(PlannedLayer {
                id: key,
                layer: layer.clone(),
                spec,
                candidates,
                took,
                is_shared: false,
                family,
                media_type,
                asked,
            });
        }
    }
    wanted.sort_by_key(|wanted| std::cmp::Reverse(wanted.layer.bytes.len()));
    wanted
}

fn candidates(layer: &Layer, spec: CompressionSpec, family: Family, cache: &LayerCache) -> Vec<Candidate> {
    let as_it_lies = |digest, why| Candidate {
        stored: Stored { digest, size: layer.bytes.len(), compression: layer.compression },
        why,
    };
    // A stated digest is the only one that will do: the manifest goes up byte for byte.
    if let (CompressionSpec::Keep { .. }, Some(digest)) = (spec, layer.digest) {
        return vec![as_it_lies(digest, Evidence::Stated)];
    }
    let mut known = layer.diff_id.map(|diff_id| cache.find(&diff_id)).unwrap_or_default();
    known.retain(|known| family.layer(known.compression).is_some());
    // Better compressed than uncompressed.
    known.sort_by_key(|known| known.compression == Compression::Uncompressed);
    let cached = known.into_iter().map(|CachedLayer { digest, size, compression, .. }| Candidate {
        stored: Stored { digest, size, compression },
        why: Evidence::Cached,
    });
    cached.chain(layer.named_digest.map(|digest| as_it_lies(digest, Evidence::Named))).collect()
}

fn took(layer: &Layer, cache: &LayerCache) -> Option<Duration> {
    layer.diff_id.and_then(|diff_id| cache.took(&diff_id))
}

/// Returns whether a layer would be sent as the very blob that replaces it.
pub(crate) fn is_as_sent(wanted: &PlannedLayer, stored: &Stored, cache: &LayerCache) -> bool {
    if wanted.is_verbatim() {
        return true;
    }
    let known = wanted.layer.diff_id.map(|diff_id| cache.find(&diff_id)).unwrap_or_default();
    known.iter().any(|known| known.digest == stored.digest && known.recipe == wanted.spec.name())
}

/// The configs of an image.
pub(crate) fn configs(image: &Image) -> Vec<Digest> {
    image.manifests().iter().map(|manifest| manifest.config.digest).collect()
}

/// Plans a layer that is streamed before its image is known. An uncompressed one is taken for one of a `docker save`.
pub(crate) fn streamed(layer: Layer, cache: &LayerCache, compression: CompressionPolicy) -> PlannedLayer {
    let is_uncompressed = layer.compression == Compression::Uncompressed;
    let compressed = is_uncompressed.then(|| compression.spec(Provenance::DockerSave)).flatten();
    let decompress = layer.digest.is_none() && layer.diff_id.is_some();
    let spec = compressed.unwrap_or(CompressionSpec::Keep { compression: layer.compression, decompress });
    let family = if spec.compression() == Compression::Zstd { Family::Oci } else { Family::Docker };
    let asked = compression.asked().filter(|_| layer.compression == Compression::Uncompressed);
    let mut candidates = candidates(&layer, spec, family, cache);
    candidates.retain(|candidate| asked.is_none_or(|asked| candidate.stored.compression == asked));
    let took = took(&layer, cache);
    let (id, is_shared, media_type) = (layer_id(&layer, spec), false, None);
    PlannedLayer { id, layer, spec, candidates, took, is_shared, family, media_type, asked }
}

/// Adds to these layers the blobs that images of the repository have of them. Of an image with the very config that is
/// pushed they are preferred to everything else, so that what is there already is pushed again.
pub(crate) fn with_remote(wanted: &[PlannedLayer], configs: &[Digest], held: &[RemoteImage]) -> Vec<PlannedLayer> {
    let (same, others): (Vec<&RemoteImage>, Vec<&RemoteImage>) =
        held.iter().partition(|held| configs.contains(&held.config));
    let mut wanted = wanted.to_vec();
    // A stated digest is the only one that will do.
    for wanted in wanted.iter_mut().filter(|wanted| !wanted.is_verbatim()) {
        let of = |images: &[&RemoteImage]| {
            let layers = images.iter().flat_map(|held| held.layers.clone());
            let fits = |layer: &RemoteLayer| {
                wanted.layer.diff_id == Some(layer.diff_id)
                    && wanted.family.layer(layer.compression).is_some()
                    && wanted.asked.is_none_or(|asked| layer.compression == asked)
            };
            let candidate = |RemoteLayer { digest, size, compression, .. }| Candidate {
                stored: Stored { digest, size, compression },
                why: Evidence::RemoteImage,
            };
            layers.filter(fits).map(candidate).collect::<Vec<_>>()
        };
        wanted.candidates = [of(&same), wanted.candidates.clone(), of(&others)].concat();
    }
    wanted
}

/// What the repository has for sure, if that is all that the image needs: the blobs of images that it holds with the very
/// configs that are pushed. A registry takes no manifest whose blobs it does not have, so no request is needed.
pub(crate) fn covered(image: &Image, wanted: &[PlannedLayer], held: &[RemoteImage]) -> Option<Blobs> {
    let manifests = image.manifests();
    let ours = held.iter().filter(|held| manifests.iter().any(|manifest| manifest.config.digest == held.config));
    let mut blobs = Blobs::new();
    for held in ours {
        blobs.insert(held.config, Some(held.config_size));
        blobs.extend(held.layers.iter().map(|layer| (layer.digest, Some(layer.size))));
    }
    let has_config = |manifest: &&Manifest| blobs.contains_key(&manifest.config.digest);
    let has_layer = |wanted: &PlannedLayer| matches!(decide_layer(wanted, &blobs), LayerAction::Reuse(_));
    (manifests.iter().all(has_config) && wanted.iter().all(has_layer)).then_some(blobs)
}

/// The blobs that the archive states: what a repository has that holds the image.
pub(crate) fn stated(image: &Image, wanted: &[PlannedLayer]) -> Blobs {
    let layers = wanted.iter().flat_map(|wanted| &wanted.candidates);
    let layers = layers.map(|Candidate { stored, .. }| (stored.digest, Some(stored.size)));
    let configs = image.manifests().into_iter().map(|manifest| (manifest.config.digest, None));
    layers.chain(configs).collect()
}

/// Every digest that is worth asking the registry for: those of the candidates, and of the manifests' configs. Where no
/// layer has a candidate there is nothing: to ask for the configs alone, before anything is sent, takes as long as it takes
/// to send them.
pub(crate) fn questions(manifests: &[&Manifest], wanted: &[PlannedLayer]) -> Vec<Digest> {
    let candidates = wanted.iter().flat_map(|wanted| &wanted.candidates).map(|candidate| candidate.stored.digest);
    let mut digests: Vec<Digest> = candidates.collect();
    if !digests.is_empty() {
        digests.extend(manifests.iter().map(|manifest| manifest.config.digest));
    }
    digests.sort_unstable();
    digests.dedup();
    digests
}

/// Decides what happens to each of these layers in a repository that has the blobs of `available`.
pub(crate) fn decide_layers(layers: Vec<PlannedLayer>, available: &Blobs) -> Vec<(PlannedLayer, LayerAction)> {
    let decide = |layer: PlannedLayer| {
        let action = decide_layer(&layer, available);
        (layer, action)
    };
    layers.into_iter().map(decide).collect()
}

/// Decides what happens to a layer in a repository that has the blobs of `available`.
pub(crate) fn decide_layer(wanted: &PlannedLayer, available: &Blobs) -> LayerAction {
    let fits = |candidate: &&Candidate| match available.get(&candidate.stored.digest) {
        Some(Some(size)) => *size == candidate.stored.size,
        // A name is only a hint: without the size to compare it is not believed.
        Some(None) => candidate.why != Evidence::Named,
        None => false,
    };
    wanted.candidates.iter().find(fits).map_or(LayerAction::Upload, |candidate| LayerAction::Reuse(*candidate))
}

/// The way to mount a layer from another repository that holds these images and has the blobs of `available`.
pub(crate) fn mount(
    wanted: &PlannedLayer,
    image: &Image,
    held: &[RemoteImage],
    available: &Blobs,
    from: &Repository,
) -> Option<LayerAction> {
    let known = with_remote(std::slice::from_ref(wanted), &configs(image), held);
    known.iter().find_map(|known| match decide_layer(known, available) {
        LayerAction::Reuse(candidate) => Some(LayerAction::Mount(candidate, from.clone())),
        LayerAction::Mount(..) | LayerAction::Upload => None,
    })
}

/// The way to mount a layer from where the archive says that it came from, for a repository of `host`. Only a stated digest
/// will do: the archive may say what it likes, and the bytes are those that were meant.
pub(crate) fn origin(wanted: &PlannedLayer, host: &Host, repository: &Repository) -> Option<LayerAction> {
    let is_beside =
        |origin: &&Origin| origin.host.without_port() == host.without_port() && origin.repository != *repository;
    let origin = wanted.layer.origins.iter().find(is_beside)?;
    let stated = wanted.candidates.iter().find(|candidate| candidate.why == Evidence::Stated)?;
    Some(LayerAction::Mount(Candidate { why: Evidence::Origin, ..*stated }, origin.repository.clone()))
}

#[cfg(test)]
mod tests;
