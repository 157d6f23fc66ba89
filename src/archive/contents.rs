//! An archive and its contents: the images, and the referrers that its descriptors refer to.

use std::collections::HashSet;
use std::collections::hash_map::{Entry, HashMap};
use std::fmt;
use std::sync::OnceLock;

use super::model::{Content, Image, Manifest, Referrer};
use super::source::Source;
use crate::compress::ByteSource;
use crate::error::{Code, Error, Result, shown};
use crate::oci::{Descriptor, DiffId, Digest, OriginalManifest};

/// An archive and the images in it.
#[derive(Clone, Debug)]
pub struct Archive {
    /// The source.
    pub source: Source,
    /// The images, in the archive's order: at least one if the archive was opened for a push.
    pub images: Vec<Image>,
    /// The name of the format.
    pub format: &'static str,
    /// Notes for the user about the archive: one sentence each, without a full stop.
    pub notes: Vec<String>,
    /// The listed images that cannot be pushed. They do not affect the others.
    pub unusable: Vec<Unusable>,
    /// The referrers.
    pub(super) referrers: ReferrerIndex,
    /// The index.json of an OCI layout.
    pub(super) index_json: Option<OriginalManifest>,
    /// The documents that are not in memory.
    pub(super) released: HashMap<Digest, ByteSource>,
    /// The positions of the images that have a manifest, an index or a config with a digest, once that is asked.
    positions: OnceLock<HashMap<Digest, Vec<usize>>>,
    /// The layers that several images have, once that is asked.
    shared_layers: OnceLock<HashSet<DiffId>>,
}

/// Referrers by their subject, with the error of those that cannot be pushed.
pub(super) type ReferrerIndex = HashMap<Digest, Vec<Result<Referrer>>>;

impl Archive {
    pub(super) fn new(
        source: Source,
        format: &'static str,
        contents: Contents,
        released: HashMap<Digest, ByteSource>,
    ) -> Self {
        let Contents { images, notes, unusable, referrers, index_json, .. } = contents;
        let (positions, shared_layers) = (OnceLock::new(), OnceLock::new());
        Self { source, images, format, notes, unusable, referrers, index_json, released, positions, shared_layers }
    }

    /// Returns whether several images have a layer.
    pub(crate) fn is_shared(&self, layer: &DiffId) -> bool {
        let shared = self.shared_layers.get_or_init(|| {
            let (mut seen, mut shared) = (HashSet::new(), HashSet::new());
            for image in &self.images {
                let layers = image.content.manifests().into_iter().flat_map(|manifest| &manifest.layers);
                let own: HashSet<DiffId> = layers.filter_map(|layer| layer.diff_id).collect();
                shared.extend(own.into_iter().filter(|layer| !seen.insert(*layer)));
            }
            shared
        });
        shared.contains(layer)
    }

    /// Returns the images that have a manifest, an index or a config with this digest, in their order.
    pub(super) fn images_with(&self, digest: &Digest) -> Vec<&Image> {
        let positions = self.positions.get_or_init(|| {
            let mut positions: HashMap<Digest, Vec<usize>> = HashMap::new();
            for (at, image) in self.images.iter().enumerate() {
                let all = image.content.all().into_iter().flat_map(|it| [it.id(), it.identity()]);
                let digests: HashSet<Digest> = all.collect();
                digests.into_iter().for_each(|digest| positions.entry(digest).or_default().push(at));
            }
            positions
        });
        positions.get(digest).into_iter().flatten().map(|at| &self.images[*at]).collect()
    }

    /// Returns the archive with only this image.
    pub(super) fn with_only(self, image: Image) -> Self {
        Self {
            images: vec![image],
            unusable: Vec::new(),
            positions: OnceLock::new(),
            shared_layers: OnceLock::new(),
            ..self
        }
    }

    /// Checks that at least one image can be pushed.
    ///
    /// # Errors
    /// The error of the first image, if none can be pushed.
    pub fn has_image(&self) -> Result<()> {
        match (self.images.as_slice(), self.unusable.as_slice()) {
            ([], []) => Err(Error::input(format!("{} lists no image", self.source))
                .code(Code::ImageNotFound)
                .hint("Save it again, with an image.")),
            ([], [unusable, ..]) => Err(unusable.error.clone()),
            _ => Ok(()),
        }
    }
}

/// A listed image that cannot be pushed.
#[derive(Clone, Debug)]
pub struct Unusable {
    /// The names in the archive, as written, possibly with control characters.
    pub names: Vec<String>,
    /// The digest of the config, manifest or index by which the archive lists it, if there is one.
    pub id: Option<Digest>,
    /// The reason.
    pub error: Error,
}

impl Unusable {
    pub(super) fn label(&self) -> String {
        let id = || self.id.map_or_else(|| "an image without a name".into(), |id| id.short());
        self.names.first().map_or_else(id, |name| shown(name))
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be pushed: {}", self.label(), self.error)
    }
}

/// The contents of an archive, as the reader of its format returns them.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) images: Vec<Image>,
    /// The position of each image in `images`, by the image ID and the digest.
    positions: HashMap<(Digest, Option<Digest>), usize>,
    pub(super) notes: Vec<String>,
    pub(super) unusable: Vec<Unusable>,
    /// Whether the archive does not contain everything that it lists.
    pub(super) is_partial: bool,
    referrers: ReferrerIndex,
    /// The index.json of an OCI layout.
    pub(super) index_json: Option<OriginalManifest>,
}

impl Contents {
    /// Sets the referrers.
    pub(super) fn attach_referrers(&mut self, referrers: ReferrerIndex) {
        self.is_partial |= referrers.values().flatten().any(Result::is_err);
        self.referrers = referrers;
    }

    /// Adds an image, or only its names if the same image was added before. A name may then occur twice: a search for
    /// each among all others would take quadratic time.
    pub(super) fn add(&mut self, mut image: Image) {
        for name in image.names.extract_if(.., |name| name.contains(char::is_control)) {
            self.notes.push(format!("a name with control characters is ignored, {}", shown(&name)));
        }
        match self.positions.entry((image.content.id(), image.content.digest())) {
            Entry::Occupied(position) => {
                if let Some(known) = self.images.get_mut(*position.get()) {
                    known.names.append(&mut image.names);
                }
            }
            Entry::Vacant(position) => {
                position.insert(self.images.len());
                self.images.push(image);
            }
        }
    }

    pub(super) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Removes repeated names of each image.
    pub(super) fn remove_repeated_names(&mut self) {
        for image in &mut self.images {
            let mut seen = HashSet::new();
            image.names.retain(|name| seen.insert(name.clone()));
        }
    }
}

/// An error of reading what a descriptor refers to.
pub(super) enum Fault {
    /// The archive does not contain a blob. The other parts of an index that lists it may be usable.
    Absent(Error),
    /// The archive is broken or inconsistent.
    Broken(Error),
    /// It is not a manifest or an index of a supported type.
    Unsupported(Error),
}

impl Fault {
    /// Returns the error to report.
    pub(super) fn into_error(self) -> Error {
        let (Self::Absent(error) | Self::Broken(error) | Self::Unsupported(error)) = self;
        error
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

/// A descriptor of index.json and its content, or a manifest that no document refers to.
pub(super) struct Root {
    pub(super) names: Vec<String>,
    pub(super) descriptor: Descriptor,
    /// The subject in the manifest, if the manifest could be read.
    pub(super) subject: Option<Digest>,
    pub(super) read: Result<Content, Fault>,
}

impl Root {
    /// Returns the manifests that can be pushed.
    pub(super) fn manifests(&self) -> Vec<&Manifest> {
        self.read.iter().flat_map(Content::manifests).collect()
    }

    /// Returns whether the archive does not contain all of the content.
    pub(super) fn is_partial(&self) -> bool {
        match &self.read {
            Ok(Content::Index(index)) if !index.absent().is_empty() => true,
            Ok(content) => content.manifests().into_iter().any(Manifest::is_incomplete),
            Err(_) => true,
        }
    }

    /// Adds the content to the images, or to the images that cannot be pushed.
    pub(super) fn add_to(self, contents: &mut Contents) {
        contents.is_partial |= self.is_partial();
        let Self { names, descriptor, read, .. } = self;
        match read {
            Ok(content) => contents.add(Image::new(names, content)),
            Err(fault) => {
                contents.unusable.push(Unusable { names, id: descriptor.digest.sha256(), error: fault.into_error() });
            }
        }
    }
}
