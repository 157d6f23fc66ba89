//! What happens to each layer, and why. Pure: it is given what is known and asks nobody.

use std::collections::HashMap;
use std::time::Duration;

use crate::archive::{self, Completeness, Content, Image, Layer, Manifest, Origin, Provenance, Selection};
use crate::compress::{Compression, CompressionSpec, ZSTD_LEVEL};
use crate::error::{Code, Error, Result};
use crate::oci::{DiffId, Digest, Family, Host, Repository};
use crate::reuse::{CachedLayer, LayerCache, RemoteImage, RemoteLayer};

/// How plain layers are packed. What is packed already is its author's choice and goes as it lies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CompressionPolicy {
    /// Those of a `docker save` with gzip; those of an OCI layout go as they lie.
    Usual,
    /// With gzip, at this level or the default one.
    Gzip(Option<u32>),
    /// With zstd, at this level or the default one.
    Zstd(Option<u32>),
    /// Not at all.
    Keep,
}

impl CompressionPolicy {
    /// What is done to a plain layer; `None` if it goes as it lies.
    fn recipe(self, provenance: Provenance) -> Option<CompressionSpec> {
        match self {
            Self::Usual if provenance == Provenance::DockerSave => Some(usual_gzip()),
            Self::Usual | Self::Keep => None,
            Self::Gzip(None) => Some(usual_gzip()),
            Self::Gzip(Some(level)) => Some(CompressionSpec::Gzip { level }),
            Self::Zstd(level) => Some(CompressionSpec::Zstd { level: level.unwrap_or(ZSTD_LEVEL) }),
        }
    }

    /// The packing that was asked for, if one was.
    fn asked(self) -> Option<Compression> {
        match self {
            Self::Usual => None,
            Self::Gzip(_) => Some(Compression::Gzip),
            Self::Zstd(_) => Some(Compression::Zstd),
            Self::Keep => Some(Compression::Uncompressed),
        }
    }
}

fn usual_gzip() -> CompressionSpec {
    // A tenth faster than level 3 for a thirtieth more bytes (`benches/packer.rs`).
    CompressionSpec::Gzip { level: 2 }
}

/// Whether the image's layers can be packed so, and its manifests be put.
///
/// # Errors
/// If the archive states a manifest of Docker's family, which knows no zstd, or if a manifest gets too long.
pub fn check(image: &Image, compression: CompressionPolicy) -> Result<()> {
    let is_docker = |manifest: &&Manifest| {
        manifest.base().is_some_and(|stated| Family::of(&stated.media_type) == Family::Docker)
            && manifest.layers.iter().any(|layer| may_be_packed(manifest, layer))
    };
    if matches!(compression, CompressionPolicy::Zstd(_)) && image.manifests().iter().any(is_docker) {
        return Err(Error::input("the archive's manifest is of Docker's types, which know no zstd")
            .code(Code::OptionConflict)
            .hint("Leave --compression zstd out, or write the archive in the OCI format."));
    }
    image.manifests().into_iter().try_for_each(|manifest| {
        let packing = |layer| recipe(manifest, layer, compression).compression();
        archive::check_manifest_size(manifest, &manifest.layers.iter().map(packing).collect::<Vec<_>>())
    })
}

/// What makes two layers of an image the same work.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Key {
    /// It goes as it lies, and the archive states its digest.
    Stated(Digest),
    /// It is known by its plain bytes.
    Plain(DiffId),
    /// Nothing is known of it but where it lies.
    Place(u64),
}

/// A layer as a registry has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stored {
    /// The blob's digest.
    pub digest: Digest,
    /// The blob's size in bytes.
    pub size: u64,
    /// How it is packed.
    pub compression: Compression,
}

/// One layer of the image, once for each way in which it is needed.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What makes it this layer.
    pub key: Key,
    /// The layer.
    pub layer: Layer,
    /// What is done to it if it has to be uploaded.
    pub recipe: CompressionSpec,
    /// The blobs that would do in its place, best first.
    pub candidates: Vec<Candidate>,
    /// How long it took when it was packed and sent from here before, if that is remembered.
    pub took: Option<Duration>,
    family: Family,
    /// What the manifest calls it if it goes as it lies, where that is stated.
    media_type: Option<String>,
    /// The only packing that will do.
    asked: Option<Compression>,
}

impl Wanted {
    /// What the manifest that is put calls the layer, stored like this.
    pub fn media_type(&self, stored: &Stored) -> Option<String> {
        self.media_type.clone().or_else(|| self.family.layer(stored.compression).map(str::to_owned))
    }

    /// What was sent before its image was known, as what it is in that.
    pub fn settle(&mut self, known: &Self) {
        (self.family, self.media_type) = (known.family, known.media_type.clone());
    }

    /// Whether the archive states the digest of the very blob that has to be there.
    pub fn is_verbatim(&self) -> bool {
        matches!(self.key, Key::Stated(_))
    }

    /// What makes it the same blob in another run, byte for byte; nothing if not even we know what it will be.
    pub fn identity(&self) -> Option<String> {
        match self.key {
            Key::Stated(digest) => Some(digest.to_string()),
            Key::Plain(diff_id) => Some(format!("{diff_id} {}", self.recipe.name())),
            Key::Place(_) => None,
        }
    }
}

/// A blob that would do in a layer's place, if the registry has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Candidate {
    /// The blob.
    pub stored: Stored,
    /// How we know.
    pub why: Why,
}

/// How we know that a blob is a layer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// An earlier run packed this layer to it.
    Cached,
    /// The layer's name in the archive is that digest.
    Named,
    /// The archive's manifest says so.
    Stated,
    /// An image that the repository holds has this layer.
    Held,
    /// The archive says that it came from that repository.
    Origin,
}

impl Why {
    /// The reason for people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Cached => "an earlier run packed it to this digest",
            Self::Named => "its file name is this digest",
            Self::Stated => "the archive's manifest lists this digest",
            Self::Held => "an image in the repository has it",
            Self::Origin => "the archive says that it came from there",
        }
    }
}

/// What is done about one layer for one target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// The repository has it: it is taken over by its descriptor.
    Reuse(Candidate),
    /// Another repository of the registry has it: the registry is asked to link it.
    Mount(Candidate, Repository),
    /// It is sent.
    Upload,
}

impl Action {
    /// What is done, in a word for reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Reuse(_) => "reuse",
            Self::Mount(..) => "mount",
            Self::Upload => "upload",
        }
    }
}

/// What a layer is known by when it is sent with a recipe.
pub fn key(layer: &Layer, recipe: CompressionSpec) -> Key {
    match (recipe, layer.digest, layer.diff_id) {
        (CompressionSpec::Keep { .. }, Some(digest), _) => Key::Stated(digest),
        (_, _, Some(diff_id)) => Key::Plain(diff_id),
        _ => Key::Place(layer.bytes.start()),
    }
}

/// What is done to a layer on its way: a plain layer of a `docker save` is packed, since ECR bills and serves what it
/// stores; everything else is its author's choice and goes as it lies.
pub fn recipe(manifest: &Manifest, layer: &Layer, compression: CompressionPolicy) -> CompressionSpec {
    let packed = may_be_packed(manifest, layer).then(|| compression.recipe(manifest.provenance)).flatten();
    let unpack = layer.digest.is_none() && layer.diff_id.is_some();
    packed.unwrap_or(CompressionSpec::Keep { compression: layer.compression, decompress: unpack })
}

/// What becomes of a manifest or an index of the archive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It goes as it lies, and its digest stays.
    Kept,
    /// It is corrected, since layers are packed.
    Repacked,
    /// The index is corrected, since a manifest that it lists is.
    Relisted,
    /// The archive states none, so one of this family is made.
    Made(Family),
    /// The index is not pushed, but the one image that it lists: the archive lacks attestations.
    Alone,
    /// The index is not pushed: the archive lacks some of what it lists.
    Refused,
}

impl Fate {
    /// What a push does to it, for people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Kept => "kept, byte for byte",
            Self::Repacked => "gets a new digest: plain layers of a docker save are packed",
            Self::Relisted => "gets a new digest: a manifest that it lists gets one",
            Self::Made(Family::Docker) => "made anew, of Docker schema 2: the archive states none",
            Self::Made(Family::Oci) => "made anew, of OCI, for zstd: the archive states none",
            Self::Alone => "its image alone: the archive lacks attestations",
            Self::Refused => "refused, unless a part is chosen: the archive lacks some of it",
        }
    }
}

/// What becomes of a manifest or an index if nothing is asked for: neither a compression, nor images to reuse.
pub fn fate(content: &Content) -> Fate {
    match content {
        Content::Manifest(manifest) => {
            let goes_as_it_lies = |layer: &Layer| {
                matches!(recipe(manifest, layer, CompressionPolicy::Usual), CompressionSpec::Keep { .. })
            };
            match manifest.original {
                Some(_) if manifest.layers.iter().all(goes_as_it_lies) => Fate::Kept,
                Some(_) => Fate::Repacked,
                None if manifest.layers.iter().any(|layer| layer.compression == Compression::Zstd) => {
                    Fate::Made(Family::Oci)
                }
                None => Fate::Made(Family::Docker),
            }
        }
        Content::Index(index) if !index.absent().is_empty() => match Selection::default().completeness(index) {
            Completeness::OnlyImage(_) => Fate::Alone,
            Completeness::Complete | Completeness::Missing(_) => Fate::Refused,
        },
        Content::Index(index) if index.children.iter().all(|child| fate(&child.content) == Fate::Kept) => Fate::Kept,
        Content::Index(_) => Fate::Relisted,
    }
}

/// Whether the layer is one that is packed if somebody asks.
fn may_be_packed(manifest: &Manifest, layer: &Layer) -> bool {
    layer.compression == Compression::Uncompressed && layer.is_tar() && manifest.provenance != Provenance::Referrer
}

/// Whether layers get packed, or the archive states no manifest: then its digest is not known before that is done.
pub fn is_packed(content: &Content, compression: CompressionPolicy) -> bool {
    content.manifests().into_iter().any(|manifest| {
        let is_packed = |layer: &Layer| !matches!(recipe(manifest, layer, compression), CompressionSpec::Keep { .. });
        manifest.original.is_none() || manifest.layers.iter().any(is_packed)
    })
}

/// Whether it goes up as other bytes than the archive states, or the archive states none. What was repaired is rewritten,
/// too.
pub fn is_rewritten(content: &Content, compression: CompressionPolicy) -> bool {
    is_packed(content, compression) || content.is_repaired()
}

/// The layers of an image, each once, largest first.
pub fn wanted(image: &Image, cache: &LayerCache, compression: CompressionPolicy) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> = Vec::new();
    for manifest in image.manifests() {
        let family = family(manifest, compression);
        for layer in &manifest.layers {
            let recipe = recipe(manifest, layer, compression);
            let key = key(layer, recipe);
            if wanted.iter().any(|known| known.key == key) {
                continue;
            }
            let asked = compression.asked().filter(|_| may_be_packed(manifest, layer));
            let mut candidates = candidates(layer, recipe, family, cache);
            candidates.retain(|candidate| asked.is_none_or(|asked| candidate.stored.compression == asked));
            let is_corrected = manifest.repaired.is_some() && layer.is_tar();
            let stated = layer.media_type.as_deref().filter(|_| matches!(key, Key::Stated(_)) && !is_corrected);
            let (took, media_type) = (took(layer, cache), stated.map(archive::shown));
            wanted.push(Wanted { key, layer: layer.clone(), recipe, candidates, took, family, media_type, asked });
        }
    }
    wanted.sort_by_key(|wanted| std::cmp::Reverse(wanted.layer.bytes.len()));
    wanted
}

/// The family of the manifest that is put: a new one is of Docker's, unless a layer is zstd.
fn family(manifest: &Manifest, compression: CompressionPolicy) -> Family {
    let is_zstd = |layer: &Layer| recipe(manifest, layer, compression).compression() == Compression::Zstd;
    let has_zstd = || manifest.layers.iter().any(is_zstd);
    let new = || if has_zstd() { Family::Oci } else { Family::Docker };
    manifest.base().map_or_else(new, |stated| Family::of(&stated.media_type))
}

fn candidates(layer: &Layer, recipe: CompressionSpec, family: Family, cache: &LayerCache) -> Vec<Candidate> {
    let as_it_lies = |digest, why| Candidate {
        stored: Stored { digest, size: layer.bytes.len(), compression: layer.compression },
        why,
    };
    // A stated digest is the only one that will do: the manifest goes up byte for byte.
    if let (CompressionSpec::Keep { .. }, Some(digest)) = (recipe, layer.digest) {
        return vec![as_it_lies(digest, Why::Stated)];
    }
    let mut known = layer.diff_id.map(|diff_id| cache.find(&diff_id)).unwrap_or_default();
    known.retain(|known| family.layer(known.compression).is_some());
    // Better packed than plain.
    known.sort_by_key(|known| known.compression == Compression::Uncompressed);
    let cached = known.into_iter().map(|CachedLayer { digest, size, compression, .. }| Candidate {
        stored: Stored { digest, size, compression },
        why: Why::Cached,
    });
    cached.chain(layer.named_digest.map(|digest| as_it_lies(digest, Why::Named))).collect()
}

fn took(layer: &Layer, cache: &LayerCache) -> Option<Duration> {
    layer.diff_id.and_then(|diff_id| cache.took(&diff_id))
}

/// The configs of an image.
pub fn configs(image: &Image) -> Vec<Digest> {
    image.manifests().iter().map(|manifest| manifest.config.digest).collect()
}

/// A layer that goes by before its image is known. A plain one is taken for one of a `docker save`.
pub fn passing(layer: Layer, cache: &LayerCache, compression: CompressionPolicy) -> Wanted {
    let usual = CompressionPolicy::Usual.recipe(Provenance::DockerSave);
    let packed = match (layer.compression, compression) {
        (Compression::Uncompressed, CompressionPolicy::Usual) => usual,
        (Compression::Uncompressed, asked) => asked.recipe(Provenance::DockerSave),
        _ => None,
    };
    let unpack = layer.digest.is_none() && layer.diff_id.is_some();
    let recipe = packed.unwrap_or(CompressionSpec::Keep { compression: layer.compression, decompress: unpack });
    let family = if recipe.compression() == Compression::Zstd { Family::Oci } else { Family::Docker };
    let asked = compression.asked().filter(|_| layer.compression == Compression::Uncompressed);
    let mut candidates = candidates(&layer, recipe, family, cache);
    candidates.retain(|candidate| asked.is_none_or(|asked| candidate.stored.compression == asked));
    let took = took(&layer, cache);
    Wanted { key: key(&layer, recipe), layer, recipe, candidates, took, family, media_type: None, asked }
}

/// The same layers, with what images that the repository holds have become of them. Of an image with the very config that is
/// pushed they are preferred to everything else, so that what is there already is pushed again.
pub fn with_held(wanted: &[Wanted], configs: &[Digest], held: &[RemoteImage]) -> Vec<Wanted> {
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
                why: Why::Held,
            };
            layers.filter(fits).map(candidate).collect::<Vec<_>>()
        };
        wanted.candidates = [of(&same), wanted.candidates.clone(), of(&others)].concat();
    }
    wanted
}

/// What the repository has for sure, if that is all that the image needs: the blobs of images that it holds with the very
/// configs that are pushed. A registry takes no manifest whose blobs it does not have, so nobody has to be asked.
pub fn covered(image: &Image, wanted: &[Wanted], held: &[RemoteImage]) -> Option<HashMap<Digest, Option<u64>>> {
    let manifests = image.manifests();
    let ours = held.iter().filter(|held| manifests.iter().any(|manifest| manifest.config.digest == held.config));
    let mut blobs = HashMap::new();
    for held in ours {
        blobs.insert(held.config, Some(held.config_size));
        blobs.extend(held.layers.iter().map(|layer| (layer.digest, Some(layer.size))));
    }
    let has_config = |manifest: &&Manifest| blobs.contains_key(&manifest.config.digest);
    let has_layer = |wanted: &Wanted| matches!(action(wanted, &blobs), Action::Reuse(_));
    (manifests.iter().all(has_config) && wanted.iter().all(has_layer)).then_some(blobs)
}

/// The blobs that the archive states: what a repository has that holds the image.
pub fn stated(image: &Image, wanted: &[Wanted]) -> HashMap<Digest, Option<u64>> {
    let layers = wanted.iter().flat_map(|wanted| &wanted.candidates);
    let layers = layers.map(|Candidate { stored, .. }| (stored.digest, Some(stored.size)));
    let configs = image.manifests().into_iter().map(|manifest| (manifest.config.digest, None));
    layers.chain(configs).collect()
}

/// Every digest that is worth asking the registry for: those of the candidates, and of the manifests' configs. Where no
/// layer has a candidate there is nothing: to ask for the configs alone, before anything is sent, takes as long as it takes
/// to send them.
pub fn questions(manifests: &[&Manifest], wanted: &[Wanted]) -> Vec<Digest> {
    let candidates = wanted.iter().flat_map(|wanted| &wanted.candidates).map(|candidate| candidate.stored.digest);
    let mut digests: Vec<Digest> = candidates.collect();
    if !digests.is_empty() {
        digests.extend(manifests.iter().map(|manifest| manifest.config.digest));
    }
    digests.sort_unstable();
    digests.dedup();
    digests
}

/// What is done about a layer where the repository has the blobs of `available`.
pub fn action(wanted: &Wanted, available: &HashMap<Digest, Option<u64>>) -> Action {
    let fits = |candidate: &&Candidate| match available.get(&candidate.stored.digest) {
        Some(Some(size)) => *size == candidate.stored.size,
        // A name is only a hint: without the size to compare it is not believed.
        Some(None) => candidate.why != Why::Named,
        None => false,
    };
    wanted.candidates.iter().find(fits).map_or(Action::Upload, |candidate| Action::Reuse(*candidate))
}

/// The way to mount a layer from another repository that holds these images and has the blobs of `available`.
pub fn mount(
    wanted: &Wanted,
    image: &Image,
    held: &[RemoteImage],
    available: &HashMap<Digest, Option<u64>>,
    from: &Repository,
) -> Option<Action> {
    let known = with_held(std::slice::from_ref(wanted), &configs(image), held);
    known.iter().find_map(|known| match action(known, available) {
        Action::Reuse(candidate) => Some(Action::Mount(candidate, from.clone())),
        Action::Mount(..) | Action::Upload => None,
    })
}

/// The way to mount a layer from where the archive says that it came from, for a repository of `host`. Only a stated digest
/// will do: the archive may say what it likes, and the bytes are those that were meant.
pub fn origin(wanted: &Wanted, host: &Host, repository: &Repository) -> Option<Action> {
    let is_beside =
        |origin: &&Origin| origin.host.without_port() == host.without_port() && origin.repository != *repository;
    let origin = wanted.layer.origins.iter().find(is_beside)?;
    let stated = wanted.candidates.iter().find(|candidate| candidate.why == Why::Stated)?;
    Some(Action::Mount(Candidate { why: Why::Origin, ..*stated }, origin.repository.clone()))
}
