//! OCI image layouts: `oci-layout`, `index.json` and `blobs/sha256/`, as
//! <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md> has them, and what names its files
//! otherwise ([`BlobPaths`]).
//!
//! Follows descriptors from `index.json` down. Manifests, indexes and configs are hashed here; of a layer only its
//! length is compared, since the push hashes it anyway. `index.json` itself is a table of contents and never an image.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::blob_paths::BlobPaths;
use super::document::{
    Documents, LayoutMarker, MAX_LIST, MAX_MANIFEST, document, image_config, into_oci, origins as origins_of, parse,
    role,
};
use super::entries::Entries;
use super::layer_format::encoding;
use super::model::{
    Absent, Child, Config, Content, Image, Index, Layer, Manifest, NonDistributableLayer, Origin, Provenance,
};
use super::referrers::{ReferrerIndex, sort_out};
use super::{Contents, INDEX_JSON, OCI_LAYOUT, Unusable, shown};
use crate::compress::{ByteSource, Compression};
use crate::error::{Code, Error, Result};
use crate::oci::{Descriptor, DiffId, Digest, Document, DocumentKind, MediaType, OriginalManifest};

/// Indexes below indexes. One is common, two are rare, more are nobody's.
const MAX_DEPTH: usize = 8;
/// Descriptors of manifests and indexes that are followed, since a few small indexes can ask for any number of them.
pub(super) const MAX_DESCRIPTORS: usize = 10_000;
/// What is read of blobs that nothing names, to see whether they are referrers.
const MAX_UNLISTED: u64 = 16 << 20;
/// A full name, written by containerd, Docker and BuildKit.
const NAME: &str = "io.containerd.image.name";
/// The specification's annotation: often only a tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Reads a layout.
pub(super) fn read(entries: &Entries) -> Result<Contents> {
    let mut documents = Documents::new(entries);
    // Layouts without this file are pushed by others, too: what matters is what index.json leads to.
    if let Some((marker, _)) = documents.find(OCI_LAYOUT, MAX_LIST)? {
        let version = parse::<LayoutMarker>(&marker, OCI_LAYOUT)?.image_layout_version;
        if !version.starts_with("1.") {
            return Err(Error::input(format!("the archive is an OCI layout of version {}", shown(&version)))
                .code(Code::ArchiveUnsupported)
                .hint("Versions 1.x are supported."));
        }
    }
    let mut contents = Contents::default();
    let found = Layout::new(&mut documents, BlobPaths::Oci, Provenance::Layout).read()?;
    let (roots, referrers, index_json) =
        found.ok_or_else(|| Error::input("the archive is an OCI layout without index.json").hint(INCOMPLETE))?;
    for root in roots {
        root.add_to(&mut contents);
    }
    contents.attach_referrers(referrers);
    contents.index_json = Some(index_json);
    Ok(contents)
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

/// A descriptor of index.json, followed; or a manifest that nothing names.
pub(super) struct Root {
    pub(super) names: Vec<String>,
    pub(super) descriptor: Descriptor,
    /// What it says it belongs to, as far as it could be read.
    pub(super) subject: Option<Digest>,
    pub(super) read: Result<Content, Fault>,
}

impl Root {
    /// The manifests that can be pushed.
    pub(super) fn manifests(&self) -> Vec<&Manifest> {
        self.read.iter().flat_map(Content::manifests).collect()
    }

    /// Whether something of it is not there.
    pub(super) fn is_partial(&self) -> bool {
        match &self.read {
            Ok(Content::Index(index)) if !index.absent().is_empty() => true,
            Ok(content) => content.manifests().into_iter().any(Manifest::lacks_layers),
            Err(_) => true,
        }
    }

    /// Files it as what it turned out to be.
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

/// Follows the descriptors of one layout.
pub(super) struct Layout<'d, 'a> {
    documents: &'d mut Documents<'a>,
    naming: BlobPaths,
    provenance: Provenance,
    followed: usize,
    /// The blobs that something names.
    named: HashSet<Digest>,
}

impl<'d, 'a> Layout<'d, 'a> {
    /// A reader; `provenance` is passed on to the manifests.
    pub(super) fn new(documents: &'d mut Documents<'a>, naming: BlobPaths, provenance: Provenance) -> Self {
        Self { documents, naming, provenance, followed: 0, named: HashSet::new() }
    }

    /// Everything that index.json names, one root per digest, apart from it what belongs to others, and index.json itself;
    /// `None` without an index.json.
    pub(super) fn read(mut self) -> Result<Option<(Vec<Root>, ReferrerIndex, OriginalManifest)>> {
        let Some((bytes, digest)) = self.documents.find(INDEX_JSON, MAX_LIST)? else { return Ok(None) };
        let listing = document(&bytes, INDEX_JSON)?;
        if listing
            .media_type
            .as_deref()
            .is_some_and(|media_type| MediaType(media_type).document() != Some(DocumentKind::Index))
        {
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
        let unlisted = self.unlisted();
        let (roots, referrers) = sort_out(roots, unlisted);
        let index_json = OriginalManifest { bytes, digest, media_type: MediaType::INDEX.0.to_owned(), subject: None };
        Ok(Some((roots, referrers, index_json)))
    }

    /// Follows one descriptor as far as it leads; `user` is what names it.
    pub(super) fn root(&mut self, names: Vec<String>, descriptor: Descriptor, user: &str) -> Root {
        let read = self.content(&descriptor, user, 0, &Arc::default());
        let subject = match &read {
            Ok(content) => content.original().and_then(|stated| stated.subject),
            Err(_) => self.listing(&descriptor, user, 0).ok().and_then(|(stated, ..)| stated.subject),
        };
        Root { names, descriptor, subject, read }
    }

    /// The manifests that nothing names, but that name a subject themselves: so cosign 3 saves signatures
    /// (<https://github.com/sigstore/cosign/issues/4695>).
    fn unlisted(&mut self) -> Vec<Root> {
        let entries = self.documents.entries();
        let mut digests = entries.blobs();
        digests.retain(|digest| !self.named.contains(digest));
        digests.sort_unstable();
        let (mut found, mut left) = (Vec::new(), MAX_UNLISTED);
        for digest in digests.into_iter().take(MAX_DESCRIPTORS) {
            let Ok(Some(range)) = entries.glance(&self.naming.blob(digest)) else { continue };
            let mut start = [0];
            let is_json = matches!(range.read_at(0, &mut start), Ok(1)) && start == *b"{";
            if !is_json || range.len() > left {
                continue;
            }
            let Ok(bytes) = range.read_all(MAX_MANIFEST) else { continue };
            left -= range.len();
            let Ok(listing) = Document::parse(&bytes) else { continue };
            let Some(subject) = listing.subject() else { continue };
            let descriptor = Descriptor::new(listing.own_media_type(), digest, range.len());
            let read = self.content(&descriptor, "its name", 0, &Arc::default());
            found.push(Root { names: Vec::new(), descriptor, subject: Some(subject), read });
        }
        found
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
        let origins = origins_of(descriptor, origins);
        match sort {
            DocumentKind::Manifest => {
                self.manifest(stated, listing, &origins).map(|manifest| Content::Manifest(Box::new(manifest)))
            }
            DocumentKind::Index => {
                self.index(stated, listing, depth, &origins).map(|index| Content::Index(Box::new(index)))
            }
        }
    }

    /// Reads what an index names, as far as it is there, and which came from `origins`. An index of which no image is there is not there.
    fn index(
        &mut self,
        stated: OriginalManifest,
        listing: Document,
        depth: usize,
        origins: &Arc<[Origin]>,
    ) -> Result<Index, Fault> {
        let user = self.naming.manifest(stated.digest);
        let mut index = Index { original: stated, repaired: None, children: Vec::new(), absent: Vec::new() };
        for descriptor in listing.manifests.unwrap_or_default() {
            let digest = supported(&descriptor, &user)?;
            let role = role(&descriptor);
            match self.content(&descriptor, &user, depth + 1, origins) {
                Ok(content) => {
                    let role = role.of(&content);
                    index.children.push(Child { role, content });
                }
                Err(Fault::Absent(error) | Fault::Unknown(error)) => index.absent.push(Absent { role, digest, error }),
                Err(Fault::Broken(error)) => return Err(Fault::Broken(error)),
            }
        }
        match index.absent.first() {
            Some(absent) if index.images().is_empty() => Err(Fault::Absent(absent.error.clone())),
            _ => Ok(index),
        }
    }

    /// Reads a manifest or an index, without what it names.
    fn listing(
        &mut self,
        descriptor: &Descriptor,
        user: &str,
        depth: usize,
    ) -> Result<(OriginalManifest, DocumentKind, Document), Fault> {
        self.follow(depth, user)?;
        let described = descriptor.media_type().document();
        let blob = self.naming.manifest(supported(descriptor, user)?);
        if described.is_none() && !descriptor.media_type.is_empty() {
            return Err(unknown(&blob, &descriptor.media_type));
        }
        let (bytes, digest) = self.checked(descriptor, &blob, MAX_MANIFEST, user, "a manifest")?;
        let listing = document(&bytes, &blob)?;
        let own = listing.media_type.as_deref();
        if described.is_some() && own.is_some_and(|own| own != descriptor.media_type) {
            return Err(Error::input(format!("{blob} says another media type than {user}, which names it")).into());
        }
        let media_type = own.unwrap_or(&descriptor.media_type).to_owned();
        let sort = MediaType(&media_type).document().ok_or_else(|| unknown(&blob, &media_type))?;
        if listing.schema_version != Some(2) {
            return Err(Error::input(format!("{blob} of the archive has not the schemaVersion 2")).into());
        }
        // The same bytes must not be an image to one reader and an index to another.
        if listing.is_ambiguous(sort) {
            return Err(Error::input(format!("{blob} of the archive is a manifest and an index at once")).into());
        }
        Ok((OriginalManifest { bytes, digest, media_type, subject: listing.subject() }, sort, listing))
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
    fn manifest(
        &mut self,
        stated: OriginalManifest,
        listing: Document,
        origins: &Arc<[Origin]>,
    ) -> Result<Manifest, Fault> {
        let user = self.naming.manifest(stated.digest);
        let descriptor =
            listing.config.ok_or_else(|| Error::input(format!("the manifest {user} of the archive has no config")))?;
        let descriptors = listing.layers.unwrap_or_default();
        let name = self.naming.blob(supported(&descriptor, &user)?);
        let (bytes, digest) = self.checked(&descriptor, &name, MAX_LIST, &user, "its config")?;
        let media_type = Some(descriptor.media_type.clone());
        let (config, diff_ids) = if descriptor.media_type().is_image_config() {
            let (config, diff_ids) = image_config(bytes, digest, &name)?;
            let diff_ids = match diff_ids {
                Some(diff_ids) if diff_ids.len() != descriptors.len() => {
                    return Err(miscount(&user, descriptors.len(), &name, diff_ids.len()).into());
                }
                Some(diff_ids) => diff_ids.into_iter().map(Some).collect(),
                // `oras push --config` makes artifacts with this media type.
                None => vec![None; descriptors.len()],
            };
            (Config { media_type, ..config }, diff_ids)
        } else {
            (Config { bytes, digest, media_type, platform: None }, vec![None; descriptors.len()])
        };
        let (mut layers, mut non_distributable) = (Vec::new(), Vec::new());
        for (at, (descriptor, diff_id)) in descriptors.into_iter().zip(diff_ids).enumerate() {
            let layer = self.layer(&descriptor, diff_id, &user, origins);
            match layer {
                Ok(layer) if descriptor.is_non_distributable() => {
                    let layer = Some(layer).filter(|layer| !layer.bytes.is_missing());
                    non_distributable.push(NonDistributableLayer { at, descriptor: into_oci(descriptor), layer });
                }
                Err(Fault::Absent(_)) if descriptor.is_non_distributable() => {
                    non_distributable.push(NonDistributableLayer { at, descriptor: into_oci(descriptor), layer: None });
                }
                layer => layers.push(layer?),
            }
        }
        Ok(Manifest {
            original: Some(stated),
            repaired: None,
            config,
            layers,
            non_distributable,
            provenance: self.provenance,
        })
    }

    /// Finds a layer, and judges it by its first bytes.
    fn layer(
        &mut self,
        descriptor: &Descriptor,
        diff_id: Option<DiffId>,
        user: &str,
        origins: &Arc<[Origin]>,
    ) -> Result<Layer, Fault> {
        let digest = supported(descriptor, user)?;
        let name = self.naming.blob(digest);
        let media_type = descriptor.media_type();
        let bytes = match self.blob(descriptor, &name, user, "a layer") {
            // The repository may have it: shallow layouts leave out the layers of a base image that was pushed before.
            Err(Fault::Absent(_)) if self.provenance == Provenance::Layout => {
                ByteSource::missing(&name, descriptor.size)
            }
            bytes => bytes?,
        };
        let (compression, is_opaque) = if bytes.is_missing() {
            (media_type.compression().unwrap_or(Compression::Uncompressed), false)
        } else {
            encoding(&bytes, &name)?
        };
        Ok(Layer {
            // Nothing is known of what is inside of an encrypted layer, or of one in a format that images do not have.
            diff_id: diff_id.filter(|_| !is_opaque && !media_type.is_encrypted()),
            compression,
            bytes,
            digest: Some(digest),
            named_digest: None,
            origins: origins_of(descriptor, origins),
            name,
            media_type: Some(descriptor.media_type.clone()),
        })
    }

    fn absent(&self, name: &str, user: &str, role: &str) -> Fault {
        let error = lacks(name, user, role, 0);
        Fault::Absent(if self.provenance == Provenance::Layout { error.hint(INCOMPLETE) } else { error })
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
        let read = self.documents.find(name, limit)?.ok_or_else(|| self.absent(name, user, role))?;
        if Some(read.1) != descriptor.digest.sha256() {
            return Err(Error::input(format!("{name} of the archive has the digest {}", read.1))
                .hint("A blob's name is its digest, so this one was changed or damaged. Save the image again.")
                .into());
        }
        Ok(read)
    }

    /// Where a blob lies, with its size compared to the descriptor's.
    fn blob(&mut self, descriptor: &Descriptor, name: &str, user: &str, role: &str) -> Result<ByteSource, Fault> {
        self.named.insert(supported(descriptor, user)?);
        let range = self.documents.entries().find(name)?;
        let range = range.ok_or_else(|| self.absent(name, user, role))?;
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

/// The digest in a descriptor that `user` has.
fn supported(descriptor: &Descriptor, user: &str) -> Result<Digest, Fault> {
    descriptor.digest.supported().map_err(|digest| {
        let algorithm = digest.split(':').next().unwrap_or_default();
        let what = format!("{user} of the archive refers to {}: {algorithm} is not supported", shown(digest));
        Fault::Unknown(
            Error::input(what).code(Code::ArchiveUnsupported).hint(
                "Amazon ECR and most registries store content by sha256 only: write the image with sha256 digests.",
            ),
        )
    })
}

/// The names that a descriptor's annotations give, the fullest first. BuildKit writes several names into one annotation,
/// with commas between them, which no name can have (<https://github.com/moby/buildkit/issues/5572>).
fn names(descriptor: &Descriptor) -> Vec<String> {
    let list = |key| {
        let names = descriptor.annotation(key).into_iter().flat_map(|value| value.split(',')).map(str::trim);
        names.filter(|name| !name.is_empty())
    };
    let mut names: Vec<String> = list(NAME).map(str::to_owned).collect();
    // `v1` says nothing beside `host/app:v1`.
    let is_news = |name: &&str| {
        names.iter().all(|full| full != name && full.strip_suffix(name).is_none_or(|rest| !rest.ends_with(':')))
    };
    let short: Vec<String> = list(REF_NAME).filter(is_news).map(str::to_owned).collect();
    names.extend(short);
    names
}

/// What to do about a layout of which a part is gone.
const INCOMPLETE: &str = "The layout is incomplete: write or copy it again, whole.";

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
    let error = Error::input(format!("the archive lacks {}, which {user} names as {role}{besides}", shown(name)))
        .code(Code::ArchiveIncomplete);
    if name.starts_with("blobs/") {
        error.hint(
            "Docker's containerd store saves only what was pulled, and says nothing. Pull the whole image, then save it again \
             with the same --platform:\n  docker pull --platform OS/ARCH IMAGE",
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
