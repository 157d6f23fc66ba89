//! The model of images, the same for all archive formats.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytes::Bytes;
use oci_client::manifest::OciDescriptor;
use serde_json::{Map, Value};

use crate::compress::{ByteSource, Compression, CompressionSpec, LayerSummary, ThreadPanicked};
use crate::error::{Code, Error, Result, shown};
use crate::oci::{DiffId, Digest, Host, MediaType, OriginalManifest, Platform, Repository, Tag};

/// An image of an archive.
#[derive(Clone, Debug)]
pub struct Image {
    /// The names in the archive, as written: `localhost/app:v1`, or only `v1`. May be empty.
    pub names: Vec<String>,
    /// The manifest or index.
    pub content: Content,
    /// The indexes of which `content` has only a part, or which were joined to it. They are not pushed.
    pub part_of: Vec<Digest>,
    /// The referrers that are pushed with the image, each after its subject.
    pub referrers: Vec<Referrer>,
    /// Notes for the user about the push of this image: one sentence each, without a full stop.
    pub notes: Vec<String>,
}

/// A manifest or an index with a subject: a signature, an SBOM, an attestation.
///
/// It is pushed unchanged, layers included.
#[derive(Clone, Debug)]
pub struct Referrer {
    /// The manifest or index that it refers to.
    pub subject: Digest,
    /// The names in the archive. A referrer can be selected like an image.
    pub names: Vec<String>,
    /// The tag by which clients find it, if not by its `subject`: `sha256-HEX.sig`, as cosign writes it.
    pub tag: Option<Tag>,
    /// The manifest or index.
    pub content: Content,
}

/// A manifest, or an index of several.
#[derive(Clone, Debug)]
pub enum Content {
    /// An image for one platform.
    Manifest(Box<Manifest>),
    /// An image for several platforms.
    Index(Box<Index>),
}

/// A list of manifests, usually one a platform.
#[derive(Clone, Debug)]
pub struct Index {
    /// The index in the archive, or a new one for a selected part of it or for several archives.
    pub original: OriginalManifest,
    /// Where `original` is from.
    pub origin: IndexOrigin,
    /// The repaired index, if it was repaired.
    pub repaired: Option<OriginalManifest>,
    /// The listed entries that the archive contains, in their order.
    pub children: Vec<Child>,
    /// The listed entries that cannot be pushed. Empty once the image is selected.
    pub absent: Vec<Absent>,
}

/// The origin of an index.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IndexOrigin {
    /// The archive states it, or it is a selected part of one that the archive states.
    Stated,
    /// It is new: it joins the images of several archives.
    Joined,
    /// As [`Joined`](Self::Joined), and it lists image IDs where an archive states no manifest, so that its digest means nothing.
    Draft,
}

/// A manifest or an index that an index lists.
#[derive(Clone, Debug)]
pub struct Child {
    /// The role in the index.
    pub role: Role,
    /// The manifest or index.
    pub content: Content,
}

/// An entry of an index that cannot be pushed.
#[derive(Clone, Debug)]
pub struct Absent {
    /// The role in the index.
    pub role: Role,
    /// The digest in the index.
    pub digest: Digest,
    /// The reason. Usually the archive does not contain it.
    pub error: Error,
}

/// The role of an entry of an index.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Role {
    /// An image for this platform, as stated by the index, else by the config.
    Image(Option<Platform>),
    /// BuildKit's attestation of the manifest with this digest
    /// (<https://docs.docker.com/build/metadata/attestations/attestation-storage/>).
    Attestation(Option<Digest>),
}

impl Role {
    /// Completes the role with the platform of the entry's config.
    pub(super) fn of(self, content: &Content) -> Self {
        match (self, content) {
            (Self::Image(None), Content::Manifest(manifest)) => Self::Image(manifest.config.platform.clone()),
            (role, _) => role,
        }
    }
}

/// An image for one platform.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The manifest in the archive, if there is one.
    pub original: Option<OriginalManifest>,
    /// The repaired manifest, if it was repaired.
    pub repaired: Option<OriginalManifest>,
    /// The image config, or the config of an artifact.
    pub config: Config,
    /// The layers, lowest first, except the non-distributable ones.
    pub layers: Vec<Layer>,
    /// The non-distributable layers, which are not uploaded, lowest first.
    pub non_distributable: Vec<NonDistributableLayer>,
    /// The origin of the layers.
    pub provenance: Provenance,
}

/// The origin of a manifest's layers, which decides whether they are compressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Provenance {
    /// A `docker save` archive (with a manifest.json): docker decompresses layers, so uncompressed ones are compressed.
    DockerSave,
    /// An OCI layout: its author chose the digests, so layers are pushed unchanged by default.
    Layout,
    /// A referrer: its layers are pushed unchanged.
    Referrer,
}

/// The image config.
#[derive(Clone, Debug)]
pub struct Config {
    /// The bytes, which are never serialized again.
    pub bytes: Bytes,
    /// The digest of the bytes, verified. It is the image ID.
    pub digest: Digest,
    /// The media type in the original manifest.
    pub media_type: Option<String>,
    /// The platform, if the config states it.
    pub platform: Option<Platform>,
}

impl Config {
    /// Adds the platform to a descriptor, as an index lists it: with the version of Windows, by which its runtimes select.
    pub(super) fn add_platform(&self, descriptor: &mut Map<String, Value>) {
        let Some(Ok(Value::Object(mut platform))) = self.platform.as_ref().map(serde_json::to_value) else { return };
        let is_empty = |value: &Value| value.is_null() || value.as_str() == Some("");
        for field in ["os.version", "os.features"] {
            let stated = self.field(field).filter(|value| !is_empty(value));
            platform.extend(stated.map(|value| (field.to_owned(), value)));
        }
        descriptor.insert("platform".into(), platform.into());
    }

    /// Returns the version of the operating system, which distinguishes images for Windows.
    pub(super) fn os_version(&self) -> Option<String> {
        self.field("os.version")?.as_str().filter(|version| !version.is_empty()).map(str::to_owned)
    }

    fn field(&self, name: &str) -> Option<Value> {
        let mut document: Map<String, Value> = serde_json::from_slice(&self.bytes).ok()?;
        document.remove(name)
    }
}

/// A layer. Copies share its facts, and so do the images of an archive that have the same layer.
#[derive(Clone, Debug)]
pub struct Layer(Arc<LayerFacts>);

impl From<LayerFacts> for Layer {
    fn from(facts: LayerFacts) -> Self {
        Self(Arc::new(facts))
    }
}

impl Deref for Layer {
    type Target = LayerFacts;

    fn deref(&self) -> &LayerFacts {
        &self.0
    }
}

impl DerefMut for Layer {
    fn deref_mut(&mut self) -> &mut LayerFacts {
        Arc::make_mut(&mut self.0)
    }
}

/// What an archive states about a layer, and where its bytes are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LayerFacts {
    /// The hash of the uncompressed tar, from the config. Absent for artifacts, whose config lists none.
    pub diff_id: Option<DiffId>,
    /// The bytes in the archive.
    pub bytes: ByteSource,
    /// The compression, detected by the bytes.
    pub compression: Compression,
    /// The digest of the bytes, if a manifest in the archive states it.
    pub digest: Option<Digest>,
    /// The digest in the file name of a compressed layer (`HEX.tar.gz`), if no manifest states one. It is not verified: it
    /// only serves to look for such a blob in the registry.
    pub named_digest: Option<Digest>,
    /// The media type, if a manifest in the archive states it.
    pub media_type: Option<String>,
    /// The repositories that the archive states as origins. They are not verified: they only serve for lookups there.
    pub origins: Arc<[Origin]>,
    /// The name in the archive, for messages: `blobs/sha256/c37a...`, `309d.../layer.tar`.
    pub name: String,
}

/// A repository from which content was pulled.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origin {
    /// The registry. containerd omits the port.
    pub host: Host,
    /// The repository.
    pub repository: Repository,
}

/// A layer that is not uploaded: the manifest states its address, and clients that pull the image get it there. Base images of
/// Windows had such layers, whose license did not permit distribution
/// (<https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#non-distributable-layers>).
#[derive(Clone, Debug)]
pub struct NonDistributableLayer {
    /// The index among all layers of the manifest, from 0.
    pub at: usize,
    /// The descriptor, with the addresses.
    pub descriptor: OciDescriptor,
    /// The layer, if the archive contains its bytes.
    pub layer: Option<Layer>,
}

impl Layer {
    /// Returns whether the layer is a tar of files that can be read. A manifest may list other blobs as layers: BuildKit's
    /// attestations, the parts of artifacts, encrypted layers. Clients do not decompress those.
    pub fn is_tar(&self) -> bool {
        self.media_type
            .as_deref()
            .map(MediaType)
            .is_none_or(|it| it.0.is_empty() || (it.is_layer() && !it.is_encrypted()))
    }

    /// Returns whether registries accept a manifest with this layer without having the blob.
    pub fn is_non_distributable(&self) -> bool {
        self.media_type.as_deref().is_some_and(|it| MediaType(it).is_non_distributable())
    }

    /// Checks that the bytes, read by `spec`, have the digest and diff_id that the archive states.
    ///
    /// # Errors
    /// Of [`Kind::Input`](crate::error::Kind::Input), with the stated hash and the computed one.
    pub fn check(&self, spec: CompressionSpec, summary: &LayerSummary) -> Result<()> {
        let mismatch = |claim: String, truth: String| {
            Err(Error::input(format!("layer {} does not match {claim}", self.name))
                .code(Code::ArchiveDamaged)
                .because(truth)
                .hint("The archive is damaged or was changed: write it again."))
        };
        // The stated digest is that of the bytes in the archive, so it does not apply to a layer that was compressed.
        if let (Some(stated), CompressionSpec::Keep { .. }) = (self.digest, spec)
            && stated != summary.digest
        {
            let claim = format!("the digest {stated} that the archive's manifest states");
            return mismatch(claim, format!("its bytes have the digest {}", summary.digest));
        }
        match (self.diff_id, summary.diff_id) {
            (Some(stated), Some(found)) if stated != found => {
                let claim = format!("the diff_id {stated} that the image config states");
                mismatch(claim, format!("its bytes have the diff_id {found}"))
            }
            _ => Ok(()),
        }
    }

    /// Returns the error that the bytes cannot be read or decompressed.
    pub fn unreadable(&self, error: io::Error) -> Error {
        if ThreadPanicked::is(&error) {
            return Error::internal(format!("cannot compress layer {} of the archive", self.name)).because(error);
        }
        let damaged =
            Error::input(format!("cannot read layer {} of the archive", self.name)).code(Code::ArchiveDamaged);
        // The text of the standard library is about a buffer.
        let has_ended = error.kind() == io::ErrorKind::UnexpectedEof && error.get_ref().is_none();
        let damaged = if has_ended { damaged.because("its data ends too early") } else { damaged.because(error) };
        damaged.hint("The archive is damaged: write it again.")
    }
}

impl Image {
    /// Creates an image without referrers and notes.
    pub fn new(names: Vec<String>, content: Content) -> Self {
        Self { names, content, part_of: Vec::new(), referrers: Vec::new(), notes: Vec::new() }
    }

    /// Returns all manifests to push, referrers included, in the order in which they must be pushed.
    pub fn manifests(&self) -> Vec<&Manifest> {
        let referrers = self.referrers.iter().flat_map(|referrer| referrer.content.manifests());
        self.content.manifests().into_iter().chain(referrers).collect()
    }
}

impl Index {
    /// Returns the index to push if nothing below it changes: the original, or the repaired one.
    pub fn base(&self) -> &OriginalManifest {
        self.repaired.as_ref().unwrap_or(&self.original)
    }

    /// Returns the images below, at any depth, each with its platform, without attestations.
    pub fn images(&self) -> Vec<(Option<&Platform>, &Content)> {
        let mut images = Vec::new();
        for Child { role, content } in &self.children {
            match (role, content) {
                (Role::Attestation(_), _) => {}
                (Role::Image(_), Content::Index(index)) => images.extend(index.images()),
                (Role::Image(platform), manifest) => images.push((platform.as_ref(), manifest)),
            }
        }
        images
    }

    /// Returns the entries, at any depth, that cannot be pushed.
    pub fn absent(&self) -> Vec<&Absent> {
        let nested = self.children.iter().filter_map(|child| child.content.index()).flat_map(Self::absent);
        self.absent.iter().chain(nested).collect()
    }
}

impl Manifest {
    /// Returns whether the config lists an uncompressed layer at another position, as with Docker 25.0.0
    /// (<https://github.com/moby/moby/issues/47150>): the digest of an uncompressed layer is its diff_id.
    pub(super) fn contradicts_config(&self) -> bool {
        let is_uncompressed = |layer: &&Layer| layer.compression == Compression::Uncompressed && layer.is_tar();
        let hashes =
            self.layers.iter().filter(is_uncompressed).filter_map(|it| Some((it.digest?.hash(), it.diff_id?.hash())));
        hashes.into_iter().any(|(digest, diff_id)| digest != diff_id)
    }

    /// Returns whether the archive does not contain all layers. The repository must have the others.
    pub fn is_incomplete(&self) -> bool {
        self.layers.iter().any(|layer| layer.bytes.is_missing())
    }
}

impl Content {
    /// Returns the manifests, at any depth, in order.
    pub fn manifests(&self) -> Vec<&Manifest> {
        match self {
            Self::Manifest(manifest) => vec![manifest],
            Self::Index(index) => index.children.iter().flat_map(|child| child.content.manifests()).collect(),
        }
    }

    /// Returns the index, if it is one.
    pub(super) fn index(&self) -> Option<&Index> {
        match self {
            Self::Manifest(_) => None,
            Self::Index(index) => Some(index),
        }
    }

    /// Returns this manifest or index, and all below it.
    pub fn all(&self) -> Vec<&Self> {
        let children = self.index().into_iter().flat_map(|index| &index.children);
        std::iter::once(self).chain(children.flat_map(|child| child.content.all())).collect()
    }

    /// Returns the image ID: the digest of the config, or of the index, as in Docker 29.
    pub fn id(&self) -> Digest {
        match self {
            Self::Manifest(manifest) => manifest.config.digest,
            Self::Index(index) => index.original.digest,
        }
    }

    /// Returns the `artifactType`, else the media type of the config.
    pub fn artifact_type(&self) -> Option<String> {
        let view = self.original().and_then(|stated| serde_json::from_slice::<Value>(&stated.bytes).ok());
        let own = view.as_ref().and_then(|view| view.get("artifactType")?.as_str());
        let config = match self {
            Self::Manifest(manifest) => manifest.config.media_type.as_deref(),
            Self::Index(_) => None,
        };
        [own, config].into_iter().flatten().find(|text| !text.is_empty()).map(shown)
    }

    /// Returns the platforms, each once, in order.
    pub fn platforms(&self) -> Vec<Platform> {
        let mut platforms: Vec<Platform> = Vec::new();
        let found: Vec<_> = match self {
            Self::Manifest(manifest) => manifest.config.platform.clone().into_iter().collect(),
            Self::Index(index) => index.images().into_iter().filter_map(|(platform, _)| platform.cloned()).collect(),
        };
        for platform in found {
            if !platforms.contains(&platform) {
                platforms.push(platform);
            }
        }
        platforms
    }

    /// Returns the manifests, at any depth, mutable.
    pub(super) fn manifests_mut(&mut self) -> Vec<&mut Manifest> {
        match self {
            Self::Manifest(manifest) => vec![manifest],
            Self::Index(index) => index.children.iter_mut().flat_map(|child| child.content.manifests_mut()).collect(),
        }
    }

    /// Returns whether this is an image, by the media type of the config, and not another artifact.
    pub(super) fn is_image(&self) -> bool {
        match self {
            Self::Manifest(manifest) => {
                manifest.config.media_type.as_deref().is_none_or(|it| MediaType(it).is_image_config())
            }
            Self::Index(_) => true,
        }
    }

    /// Returns the digest of the manifest or index in the archive, if there is one.
    pub fn digest(&self) -> Option<Digest> {
        self.original().map(|original| original.digest)
    }

    /// Returns the manifest or index in the archive, if there is one.
    pub fn original(&self) -> Option<&OriginalManifest> {
        match self {
            Self::Manifest(manifest) => manifest.original.as_ref(),
            Self::Index(index) => Some(&index.original).filter(|_| index.origin != IndexOrigin::Draft),
        }
    }

    /// Returns the digest of the manifest or index in the archive, else the image ID.
    pub fn identity(&self) -> Digest {
        self.digest().unwrap_or_else(|| self.id())
    }
}
