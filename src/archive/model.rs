//! What is in an archive, whatever wrote it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use oci_client::manifest::OciDescriptor;
use serde_json::Value;

use super::shown;
use crate::compress::{ByteSource, Compression, CompressionSpec, LayerSummary, ThreadPanicked};
use crate::error::{Code, Error, Result};
use crate::oci::{DiffId, Digest, Host, MediaType, OriginalManifest, Platform, Repository, Tag};

/// One image of an archive, with the names under which the archive knows it.
#[derive(Clone, Debug)]
pub struct Image {
    /// The archive's names for it, as written: `localhost/app:v1`, or only `v1`. May be empty.
    pub names: Vec<String>,
    /// What it consists of.
    pub content: Content,
    /// The index of the archive of which `content` is only a part, if it is.
    pub part_of: Option<Digest>,
    /// What goes along with it and is no part of it, each after what it belongs to.
    pub referrers: Vec<Referrer>,
    /// What a person should know who pushes it: one sentence each, without a full stop.
    pub notes: Vec<String>,
}

/// A manifest or an index that belongs to another one: a signature, an SBOM, an attestation.
///
/// Whoever made it vouches for every byte of it, so it goes up as it lies, layers included.
#[derive(Clone, Debug)]
pub struct Referrer {
    /// What it belongs to.
    pub subject: Digest,
    /// The archive's names for it: it may be chosen like an image.
    pub names: Vec<String>,
    /// The tag by which it is found, where it is not found by its `subject`: `sha256-HEX.sig`, as cosign has it.
    pub tag: Option<Tag>,
    /// What it consists of.
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
    /// The index's bytes: its author's, unless only a part of it was chosen.
    pub original: OriginalManifest,
    /// The same without its flaws, where a repair was asked for.
    pub repaired: Option<OriginalManifest>,
    /// What it lists and the archive has, in its order.
    pub children: Vec<Child>,
    /// What it lists besides. Nothing, once the image is selected.
    pub absent: Vec<Absent>,
}

/// A manifest or an index that an index lists.
#[derive(Clone, Debug)]
pub struct Child {
    /// What it is there for.
    pub role: Role,
    /// What it consists of.
    pub content: Content,
}

/// What an index lists and cannot be pushed.
#[derive(Clone, Debug)]
pub struct Absent {
    /// What it is there for.
    pub role: Role,
    /// Its digest.
    pub digest: Digest,
    /// Why it cannot be pushed. Mostly, the archive lacks it.
    pub error: Error,
}

/// What an index lists something for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Role {
    /// An image for this platform, as the index says or else the config.
    Image(Option<Platform>),
    /// BuildKit's statement about the manifest with this digest
    /// (<https://docs.docker.com/build/metadata/attestations/attestation-storage/>).
    Attestation(Option<Digest>),
}

impl Role {
    /// The role of what an index lists like this, now that it was read.
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
    /// The manifest that lies in the archive, if one does.
    pub original: Option<OriginalManifest>,
    /// The same without its flaws, where somebody asked for that.
    pub repaired: Option<OriginalManifest>,
    /// The image config, or what an artifact has in its place.
    pub config: Config,
    /// The layers, lowest first, but those that are kept by reference.
    pub layers: Vec<Layer>,
    /// The layers that are kept by reference, lowest first.
    pub non_distributable: Vec<NonDistributableLayer>,
    /// Who decided what its layers are.
    pub provenance: Provenance,
}

/// Who decided what the layers of a manifest are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Provenance {
    /// A `docker save` (has a manifest.json), which unpacks layers. Plain ones get packed.
    DockerSave,
    /// An OCI layout, where every digest is the author's choice. Layers go as they lie, unless somebody asks otherwise.
    Layout,
    /// Whoever signed it. Layers go as they lie.
    Referrer,
}

/// The image config.
#[derive(Clone, Debug)]
pub struct Config {
    /// The bytes: never re-serialised.
    pub bytes: Bytes,
    /// Their digest, checked. It is the image ID.
    pub digest: Digest,
    /// The media type that the stated manifest gives it.
    pub media_type: Option<String>,
    /// What the image runs on, where the config states it.
    pub platform: Option<Platform>,
}

/// One layer, and where its bytes lie.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The hash of the plain tar, from the config. Absent for artifacts, whose config lists none.
    pub diff_id: Option<DiffId>,
    /// The bytes, as they lie in the archive.
    pub bytes: ByteSource,
    /// How the bytes are packed, judged by the bytes.
    pub compression: Compression,
    /// The digest of the bytes as they lie, if a manifest in the archive states it.
    pub digest: Option<Digest>,
    /// The digest that the name of a packed layer claims (`HEX.tar.gz`), where no manifest states one. Nobody checked
    /// it: good for asking the registry whether it holds such a blob, and for nothing else.
    pub named_digest: Option<Digest>,
    /// The media type, if a manifest in the archive states it.
    pub media_type: Option<String>,
    /// Where it came from, as the archive says. Nobody checked it: good for asking that registry, and for nothing else.
    pub origins: Arc<[Origin]>,
    /// What the archive calls it, for messages: `blobs/sha256/c37a...`, `309d.../layer.tar`.
    pub name: String,
}

/// A repository that content came from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origin {
    /// Its registry. containerd leaves the port out.
    pub host: Host,
    /// The repository.
    pub repository: Repository,
}

/// A layer that is kept by reference: the manifest says where it lies, and whoever pulls the image gets it there. Base
/// images of Windows had such layers, whose license forbade to pass them on
/// (<https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#non-distributable-layers>).
#[derive(Clone, Debug)]
pub struct NonDistributableLayer {
    /// Its place among all layers of the manifest, from 0.
    pub at: usize,
    /// Its descriptor, with the addresses where it lies.
    pub descriptor: OciDescriptor,
    /// The layer itself, where the archive has its bytes all the same.
    pub layer: Option<Layer>,
}

impl Layer {
    /// Whether it is a tar of files that can be read. A manifest lists other things as layers, too: BuildKit's attestations,
    /// the parts of artifacts, encrypted layers. Nobody would decompress those.
    pub fn is_tar(&self) -> bool {
        self.media_type
            .as_deref()
            .map(MediaType)
            .is_none_or(|media_type| media_type.0.is_empty() || (media_type.is_layer() && !media_type.is_encrypted()))
    }

    /// Whether a registry takes a manifest that lists it without having its blob.
    pub fn is_non_distributable(&self) -> bool {
        self.media_type.as_deref().is_some_and(|it| MediaType(it).is_non_distributable())
    }

    /// Whether its bytes, which became this by `recipe`, are those that the archive promised.
    ///
    /// # Errors
    /// Of [`Kind::Input`](crate::error::Kind::Input), with what the archive says and what is there.
    pub fn check(&self, recipe: CompressionSpec, packed: &LayerSummary) -> Result<()> {
        let lie = |claim: String, truth: String| {
            Err(Error::input(format!("layer {} does not match {claim}", self.name))
                .code(Code::ArchiveDamaged)
                .because(truth)
                .hint("The archive is damaged or was changed: write it again."))
        };
        // A stated digest is one of the bytes as they lie; a packed layer has another.
        if let (Some(stated), CompressionSpec::Keep { .. }) = (self.digest, recipe)
            && stated != packed.digest
        {
            let claim = format!("the digest {stated} that the archive's manifest states");
            return lie(claim, format!("its bytes have the digest {}", packed.digest));
        }
        match (self.diff_id, packed.diff_id) {
            (Some(stated), Some(found)) if stated != found => {
                let claim = format!("the diff_id {stated} that the image config states");
                lie(claim, format!("its bytes have the diff_id {found}"))
            }
            _ => Ok(()),
        }
    }

    /// The error that its bytes cannot be read or unpacked.
    pub fn unreadable(&self, error: io::Error) -> Error {
        if ThreadPanicked::is(&error) {
            return Error::internal(format!("cannot pack layer {} of the archive", self.name)).because(error);
        }
        Error::input(format!("cannot read layer {} of the archive", self.name))
            .code(Code::ArchiveDamaged)
            .because(error)
            .hint("The archive is damaged: write it again.")
    }
}

impl Image {
    /// An image of which all is chosen and nothing is to be said.
    pub fn new(names: Vec<String>, content: Content) -> Self {
        Self { names, content, part_of: None, referrers: Vec::new(), notes: Vec::new() }
    }

    /// The manifests of all that is pushed, referrers included, in the order in which they must be pushed: an index's
    /// children are in front of it.
    pub fn manifests(&self) -> Vec<&Manifest> {
        let referrers = self.referrers.iter().flat_map(|referrer| referrer.content.manifests());
        self.content.manifests().into_iter().chain(referrers).collect()
    }
}

impl Index {
    /// The index that is put if nothing below it changes: the stated one, or that without its flaws.
    pub fn base(&self) -> &OriginalManifest {
        self.repaired.as_ref().unwrap_or(&self.original)
    }

    /// The images below, at any depth, each with its platform. Attestations are none.
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

    /// What is listed, at any depth, and cannot be pushed.
    pub fn absent(&self) -> Vec<&Absent> {
        let nested = self.children.iter().filter_map(|child| match &child.content {
            Content::Index(index) => Some(index.absent()),
            Content::Manifest(_) => None,
        });
        self.absent.iter().chain(nested.flatten()).collect()
    }
}

impl Manifest {
    /// Returns whether it lists an uncompressed layer in another place than its config, as those of Docker 25.0.0 do
    /// (<https://github.com/moby/moby/issues/47150>): the digest of an uncompressed layer is its diff_id.
    pub(super) fn contradicts_config(&self) -> bool {
        let is_uncompressed = |layer: &&Layer| layer.compression == Compression::Uncompressed && layer.is_tar();
        let hashes =
            self.layers.iter().filter(is_uncompressed).filter_map(|it| Some((it.digest?.hash(), it.diff_id?.hash())));
        hashes.into_iter().any(|(digest, diff_id)| digest != diff_id)
    }

    /// Returns whether the archive does not contain all layers. The repository must have the others.
    pub fn lacks_layers(&self) -> bool {
        self.layers.iter().any(|layer| layer.bytes.is_missing())
    }
}

impl Content {
    /// All manifests below, in order.
    pub fn manifests(&self) -> Vec<&Manifest> {
        match self {
            Self::Manifest(manifest) => vec![manifest],
            Self::Index(index) => index.children.iter().flat_map(|child| child.content.manifests()).collect(),
        }
    }

    /// This, and all manifests and indexes below.
    pub fn all(&self) -> Vec<&Self> {
        let below: &[Child] = match self {
            Self::Manifest(_) => &[],
            Self::Index(index) => &index.children,
        };
        std::iter::once(self).chain(below.iter().flat_map(|child| child.content.all())).collect()
    }

    /// What people call its ID: the config's digest, or the index's, as Docker 29 shows it.
    pub fn id(&self) -> Digest {
        match self {
            Self::Manifest(manifest) => manifest.config.digest,
            Self::Index(index) => index.original.digest,
        }
    }

    /// What kind of thing it says it is: its `artifactType`, or else the media type of its config.
    pub fn artifact_type(&self) -> Option<String> {
        let view = self.original().and_then(|stated| serde_json::from_slice::<Value>(&stated.bytes).ok());
        let own = view.as_ref().and_then(|view| view.get("artifactType")?.as_str());
        let config = match self {
            Self::Manifest(manifest) => manifest.config.media_type.as_deref(),
            Self::Index(_) => None,
        };
        [own, config].into_iter().flatten().find(|text| !text.is_empty()).map(shown)
    }

    /// The platforms below, each once, in order.
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

    /// The same, to be changed.
    pub(super) fn manifests_mut(&mut self) -> Vec<&mut Manifest> {
        match self {
            Self::Manifest(manifest) => vec![manifest],
            Self::Index(index) => index.children.iter_mut().flat_map(|child| child.content.manifests_mut()).collect(),
        }
    }

    /// The stated bytes of the manifest or index itself.
    pub fn original(&self) -> Option<&OriginalManifest> {
        match self {
            Self::Manifest(manifest) => manifest.original.as_ref(),
            Self::Index(index) => Some(&index.original),
        }
    }
}
