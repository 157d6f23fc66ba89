//! OCI image layouts: `oci-layout`, `index.json` and `blobs/sha256/`, as
//! <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md> has them, and what names its files
//! otherwise ([`Naming`]).
//!
//! Follows descriptors from `index.json` down. Manifests, indexes and configs are hashed here; of a layer only its
//! length is compared, since the push hashes it anyway. `index.json` itself is a table of contents and never an image.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::archive::Entries;
use super::document::{
    Descriptor, Documents, LayoutMarker, Listing, MAX_LIST, MAX_MANIFEST, Sort, image_config, parse,
};
use super::model::{Config, Content, Foreign, Image, Index, Layer, Manifest, Origin, Stated};
use super::{Contents, INDEX_JSON, MANIFEST_JSON, OCI_LAYOUT, Unusable, shown};
use crate::error::{Error, Result};
use crate::layer::{FileRange, Packing};
use crate::reference::{DiffId, Digest};

/// Indexes below indexes. One is common, two are rare, more are nobody's.
const MAX_DEPTH: usize = 8;
/// Descriptors of manifests and indexes that are followed, since a few small indexes can ask for any number of them.
const MAX_DESCRIPTORS: usize = 10_000;
/// Platforms that a sentence names; more are counted.
const MAX_SHOWN: usize = 8;
/// A full name, written by containerd, Docker and BuildKit.
const NAME: &str = "io.containerd.image.name";
/// The specification's annotation: often only a tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Reads a layout.
pub(super) fn read(entries: &Entries) -> Result<Contents> {
    let mut documents = Documents::new(entries);
    let Some((marker, _)) = documents.find(OCI_LAYOUT, MAX_LIST)? else {
        return Err(Error::input("the archive has no file oci-layout"));
    };
    let version = parse::<LayoutMarker>(&marker, OCI_LAYOUT)?.image_layout_version;
    if !version.starts_with("1.") {
        return Err(Error::input(format!("the archive is an OCI layout of version {}", shown(&version)))
            .hint("Only versions 1.x are understood."));
    }
    let mut contents = Contents::default();
    let roots = Layout::new(&mut documents, Naming::Oci, false).roots()?;
    let roots = roots.ok_or_else(|| Error::input("the archive is an OCI layout without index.json"))?;
    for root in roots {
        root.add_to(&mut contents);
    }
    Ok(contents)
}

/// What the files are called that descriptors point at.
#[derive(Clone, Copy, Debug)]
pub(super) enum Naming {
    /// `blobs/sha256/HEX`
    Oci,
    /// `HEX`, but `HEX.manifest.json` where it is a manifest, and `manifest.json` where it is the root.
    Skopeo {
        /// The digest of `manifest.json`.
        root: Digest,
    },
}

impl Naming {
    /// The file with a config or a layer.
    fn blob(self, digest: Digest) -> String {
        match self {
            Self::Oci => format!("blobs/sha256/{}", digest.hex()),
            Self::Skopeo { .. } => digest.hex(),
        }
    }

    /// The file with a manifest or an index.
    fn manifest(self, digest: Digest) -> String {
        match self {
            Self::Oci => self.blob(digest),
            Self::Skopeo { root } if root == digest => MANIFEST_JSON.to_owned(),
            Self::Skopeo { .. } => format!("{}.{MANIFEST_JSON}", digest.hex()),
        }
    }
}

/// Why something could not be read.
pub(super) enum Fault {
    /// The archive lacks a blob. An index that names it may be good in part.
    Absent(Error),
    /// The archive is broken, or lies.
    Broken(Error),
    /// It may be good for something, but nothing that we know.
    Unknown(Error),
}

impl Fault {
    /// What to tell people.
    pub(super) fn into_error(self) -> Error {
        let (Self::Absent(error) | Self::Broken(error) | Self::Unknown(error)) = self;
        error
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

/// A descriptor of index.json, followed.
pub(super) struct Root {
    pub(super) names: Vec<String>,
    pub(super) descriptor: Descriptor,
    pub(super) read: Result<Content, Fault>,
    /// The whole manifests below an index of which other parts are missing.
    pub(super) parts: Vec<Content>,
}

impl Root {
    /// The manifests that can be pushed.
    pub(super) fn manifests(&self) -> Vec<&Manifest> {
        let all = self.read.iter().chain(&self.parts);
        all.flat_map(Content::manifests).collect()
    }

    /// What to say when only parts of an index are taken.
    fn note(&self) -> String {
        let name = self.names.first().map_or_else(|| self.descriptor.digest.short(), |name| shown(name));
        let mut parts: Vec<_> = self.parts.iter().flat_map(Content::platforms).collect();
        let mut known = HashSet::new();
        parts.retain(|platform| known.insert(*platform));
        let (more, kept) = (parts.len().saturating_sub(MAX_SHOWN), parts.len().min(MAX_SHOWN));
        let besides = if more == 0 { String::new() } else { format!(" and {more} more") };
        let parts = parts[..kept].join(", ");
        format!("the index of {name} names images that are not in the archive; only {}{besides} is", shown(&parts))
    }

    /// Announces that only parts of an index are taken, if that is so.
    pub(super) fn announce(&self, contents: &mut Contents) {
        if self.read.is_err() && !self.parts.is_empty() {
            contents.is_partial = true;
            contents.note(self.note());
        }
    }

    /// Files it as what it turned out to be.
    pub(super) fn add_to(self, contents: &mut Contents) {
        self.announce(contents);
        let Self { names, descriptor, read, parts } = self;
        match read {
            Ok(content) => contents.add(Image { names, content }),
            Err(fault) if parts.is_empty() => {
                contents.unusable.push(Unusable { names, id: Some(descriptor.digest), error: fault.into_error() });
            }
            Err(_) => {
                for content in parts {
                    contents.add(Image { names: names.clone(), content });
                }
            }
        }
    }
}

/// Follows the descriptors of one layout.
pub(super) struct Layout<'d, 'a> {
    documents: &'d mut Documents<'a>,
    naming: Naming,
    from_docker_save: bool,
    followed: usize,
}

impl<'d, 'a> Layout<'d, 'a> {
    /// A reader; `from_docker_save` is passed on to the manifests.
    pub(super) fn new(documents: &'d mut Documents<'a>, naming: Naming, from_docker_save: bool) -> Self {
        Self { documents, naming, from_docker_save, followed: 0 }
    }

    /// Everything that index.json names, one root per digest; `None` without an index.json.
    pub(super) fn roots(mut self) -> Result<Option<Vec<Root>>> {
        let Some((bytes, _)) = self.documents.find(INDEX_JSON, MAX_LIST)? else { return Ok(None) };
        let listing: Listing = parse(&bytes, INDEX_JSON)?;
        if listing.media_type.as_deref().is_some_and(|media_type| Sort::of(media_type) != Some(Sort::Index)) {
            return Err(Error::input("index.json of the archive says that it is no index"));
        }
        let mut roots: Vec<Root> = Vec::new();
        for descriptor in listing.manifests.unwrap_or_default() {
            let names = names(&descriptor);
            self.follow(0, INDEX_JSON)?;
            if let Some(root) = roots.iter_mut().find(|root| root.descriptor.digest == descriptor.digest) {
                let new = names.into_iter().filter(|name| !root.names.contains(name)).collect::<Vec<_>>();
                root.names.extend(new);
                continue;
            }
            let user =
                names.first().map_or_else(|| INDEX_JSON.to_owned(), |name| format!("{INDEX_JSON} for {}", shown(name)));
            roots.push(self.root(names, descriptor, &user));
        }
        Ok(Some(roots))
    }

    /// Follows one descriptor as far as it leads; `user` is what names it.
    pub(super) fn root(&mut self, names: Vec<String>, descriptor: Descriptor, user: &str) -> Root {
        let (read, parts) = match self.content(&descriptor, user, 0, &Arc::default()) {
            Err(Fault::Absent(error)) => match self.parts(&descriptor, user, 0, &Arc::default()) {
                Ok(parts) => (Err(Fault::Absent(error)), parts),
                Err(error) => (Err(Fault::Broken(error)), Vec::new()),
            },
            read => (read, Vec::new()),
        };
        Root { names, descriptor, read, parts }
    }

    /// Reads what a descriptor points at, all of it; `user` is what names it, and came from `origins`.
    fn content(
        &mut self,
        descriptor: &Descriptor,
        user: &str,
        depth: usize,
        origins: &Arc<[Origin]>,
    ) -> Result<Content, Fault> {
        let (stated, sort, listing) = self.listing(descriptor, user, depth)?;
        let origins = descriptor.origins(origins);
        match sort {
            Sort::Manifest => {
                self.manifest(stated, listing, &origins).map(|manifest| Content::Manifest(Box::new(manifest)))
            }
            Sort::Index => {
                let user = self.naming.manifest(descriptor.digest);
                let children = listing.manifests.unwrap_or_default();
                let children = children.iter().map(|child| self.content(child, &user, depth + 1, &origins));
                let children = children.collect::<Result<_, _>>()?;
                Ok(Content::Index(Box::new(Index { stated, children })))
            }
        }
    }

    /// The whole manifests below an index that is not whole.
    fn parts(
        &mut self,
        descriptor: &Descriptor,
        user: &str,
        depth: usize,
        origins: &Arc<[Origin]>,
    ) -> Result<Vec<Content>> {
        let listing = match self.listing(descriptor, user, depth) {
            Ok((_, Sort::Index, listing)) => listing,
            Ok(_) | Err(Fault::Absent(_) | Fault::Unknown(_)) => return Ok(Vec::new()),
            Err(Fault::Broken(error)) => return Err(error),
        };
        let (user, origins) = (self.naming.manifest(descriptor.digest), descriptor.origins(origins));
        let mut parts = Vec::new();
        for child in listing.manifests.unwrap_or_default() {
            match self.content(&child, &user, depth + 1, &origins) {
                // Attestations describe a sibling and are nothing by themselves.
                Ok(content) if !content.platforms().is_empty() => parts.push(content),
                Ok(_) | Err(Fault::Unknown(_)) => {}
                Err(Fault::Absent(_)) => parts.extend(self.parts(&child, &user, depth + 1, &origins)?),
                Err(Fault::Broken(error)) => return Err(error),
            }
        }
        Ok(parts)
    }

    /// Reads a manifest or an index, without what it names.
    fn listing(&mut self, descriptor: &Descriptor, user: &str, depth: usize) -> Result<(Stated, Sort, Listing), Fault> {
        self.follow(depth, user)?;
        let described = Sort::of(&descriptor.media_type);
        let blob = self.naming.manifest(descriptor.digest);
        if described.is_none() && !descriptor.media_type.is_empty() {
            return Err(unknown(&blob, &descriptor.media_type));
        }
        let (bytes, digest) = self.checked(descriptor, &blob, MAX_MANIFEST, user, "a manifest")?;
        let listing: Listing = parse(&bytes, &blob)?;
        let own = listing.media_type.as_deref();
        if described.is_some() && own.is_some_and(|own| own != descriptor.media_type) {
            return Err(Error::input(format!("{blob} says another media type than {user}, which names it")).into());
        }
        let media_type = own.unwrap_or(&descriptor.media_type).to_owned();
        let sort = Sort::of(&media_type).ok_or_else(|| unknown(&blob, &media_type))?;
        if listing.schema_version != Some(2) {
            return Err(Error::input(format!("{blob} of the archive has not the schemaVersion 2")).into());
        }
        // The same bytes must not be an image to one reader and an index to another.
        let ambiguous = match sort {
            Sort::Index => listing.config.is_some() || listing.layers.is_some(),
            Sort::Manifest => listing.manifests.is_some(),
        };
        if ambiguous {
            return Err(Error::input(format!("{blob} of the archive is a manifest and an index at once")).into());
        }
        Ok((Stated { bytes, digest, media_type }, sort, listing))
    }

    /// Counts a descriptor that is about to be followed.
    fn follow(&mut self, depth: usize, user: &str) -> Result<()> {
        self.followed += 1;
        if depth > MAX_DEPTH {
            return Err(Error::input(format!("the indexes of the archive are nested too deep, down to {user}")));
        }
        if self.followed > MAX_DESCRIPTORS {
            return Err(Error::input(format!("the archive names more than {MAX_DESCRIPTORS} manifests and indexes")));
        }
        Ok(())
    }

    /// Reads what a manifest names, which came from `origins`.
    fn manifest(&mut self, stated: Stated, listing: Listing, origins: &Arc<[Origin]>) -> Result<Manifest, Fault> {
        let user = self.naming.manifest(stated.digest);
        let descriptor =
            listing.config.ok_or_else(|| Error::input(format!("the manifest {user} of the archive has no config")))?;
        let descriptors = listing.layers.unwrap_or_default();
        let name = self.naming.blob(descriptor.digest);
        let (bytes, digest) = self.checked(&descriptor, &name, MAX_LIST, &user, "its config")?;
        let media_type = Some(descriptor.media_type.clone());
        let (config, diff_ids) = if descriptor.is_image_config() {
            let (config, diff_ids) = image_config(bytes, digest, &name)?;
            if diff_ids.len() != descriptors.len() {
                return Err(miscount(&user, descriptors.len(), &name, diff_ids.len()).into());
            }
            (Config { media_type, ..config }, diff_ids.into_iter().map(Some).collect())
        } else {
            (Config { bytes, digest, media_type, platform: None }, vec![None; descriptors.len()])
        };
        let (mut layers, mut foreign) = (Vec::new(), Vec::new());
        for (at, (descriptor, diff_id)) in descriptors.into_iter().zip(diff_ids).enumerate() {
            let layer = self.layer(&descriptor, diff_id, &user, origins);
            match layer {
                Ok(layer) if descriptor.is_foreign() => {
                    foreign.push(Foreign { at, descriptor: descriptor.into_oci(), layer: Some(layer) });
                }
                Err(Fault::Absent(_)) if descriptor.is_foreign() => {
                    foreign.push(Foreign { at, descriptor: descriptor.into_oci(), layer: None });
                }
                layer => layers.push(layer?),
            }
        }
        let from_docker_save = self.from_docker_save;
        Ok(Manifest { stated: Some(stated), repaired: None, config, layers, foreign, from_docker_save })
    }

    /// Finds a layer, and judges it by its first bytes.
    fn layer(
        &self,
        descriptor: &Descriptor,
        diff_id: Option<DiffId>,
        user: &str,
        origins: &Arc<[Origin]>,
    ) -> Result<Layer, Fault> {
        let name = self.naming.blob(descriptor.digest);
        let bytes = self.blob(descriptor, &name, user, "a layer")?;
        Ok(Layer {
            diff_id,
            packing: packing(&bytes, &name)?,
            bytes,
            digest: Some(descriptor.digest),
            named_digest: None,
            origins: descriptor.origins(origins),
            name,
            media_type: Some(descriptor.media_type.clone()),
        })
    }

    /// A document, with its size and digest compared to the descriptor's.
    fn checked(
        &mut self,
        descriptor: &Descriptor,
        name: &str,
        limit: u64,
        user: &str,
        role: &str,
    ) -> Result<(Bytes, Digest), Fault> {
        self.blob(descriptor, name, user, role)?;
        let read = self.documents.find(name, limit)?.ok_or_else(|| Fault::Absent(lacks(name, user, role, 0)))?;
        if read.1 != descriptor.digest {
            return Err(Error::input(format!("{name} of the archive has the digest {}", read.1))
                .hint("A blob's name is its digest, so this one was changed or damaged. Save the image again.")
                .into());
        }
        Ok(read)
    }

    /// Where a blob lies, with its size compared to the descriptor's.
    fn blob(&self, descriptor: &Descriptor, name: &str, user: &str, role: &str) -> Result<FileRange, Fault> {
        let range = self.documents.entries().find(name)?;
        let range = range.ok_or_else(|| Fault::Absent(lacks(name, user, role, 0)))?;
        if range.len() != descriptor.size {
            let text =
                format!("{name} of the archive is {} bytes long, but {user} says {}", range.len(), descriptor.size);
            return Err(Error::input(text)
                .hint("The archive is damaged or was written in part. Save the image again.")
                .into());
        }
        Ok(range)
    }
}

/// The names that a descriptor's annotations give, the fullest first.
fn names(descriptor: &Descriptor) -> Vec<String> {
    let annotation = |key| descriptor.annotations.as_ref().and_then(|all| all.get(key)).filter(|name| !name.is_empty());
    let mut names: Vec<String> = annotation(NAME).into_iter().cloned().collect();
    // `v1` says nothing beside `host/app:v1`.
    names.extend(
        annotation(REF_NAME)
            .filter(|name| {
                names.iter().all(|full| {
                    full != *name && full.strip_suffix(name.as_str()).is_none_or(|rest| !rest.ends_with(':'))
                })
            })
            .cloned(),
    );
    names
}

/// Judges a layer by its first bytes.
pub(super) fn packing(bytes: &FileRange, name: &str) -> Result<Packing> {
    let mut start = [0; 4];
    let read = bytes.read_at(0, &mut start);
    let read =
        read.map_err(|error| Error::input(format!("cannot read {} of the archive", shown(name))).because(error))?;
    Ok(Packing::of(&start[..read]))
}

/// A layer list and a config that do not belong together.
pub(super) fn miscount(list: &str, layers: usize, config: &str, diff_ids: usize) -> Error {
    Error::input(format!(
        "{} lists {layers} layers, but its config {} lists {diff_ids} diff_ids",
        shown(list),
        shown(config)
    ))
    .hint("The two do not belong together, so the archive is broken. Save the image again.")
}

/// Something is named and not there, and perhaps `more` besides.
pub(super) fn lacks(name: &str, user: &str, role: &str, more: usize) -> Error {
    let besides = if more == 0 { String::new() } else { format!(" ({more} more are missing)") };
    let error = Error::input(format!("the archive lacks {}, which {user} names as {role}{besides}", shown(name)));
    if name.starts_with("blobs/") {
        error.hint(
            "Docker's containerd store saves only what was pulled, and says nothing. Pull the whole image first \
             (docker pull --platform OS/ARCH IMAGE), then save it again with the same --platform.",
        )
    } else {
        error.hint("The archive is incomplete. Save the image again.")
    }
}

fn unknown(name: &str, media_type: &str) -> Fault {
    let media_type = if media_type.is_empty() {
        "no media type".to_owned()
    } else {
        format!("the media type {}", shown(media_type))
    };
    let error = Error::input(format!("{name} of the archive has {media_type}, which is no image"));
    Fault::Unknown(error.hint("Understood are manifests and indexes of OCI images and of Docker's schema 2."))
}
