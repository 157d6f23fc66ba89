//! Reader of the descriptors of a layout, from `index.json` down.
//!
//! It verifies the digests of manifests, indexes and configs. Of a layer it compares only the length: the push hashes layers
//! anyway. `index.json` itself is a table of contents, not an image.

use std::collections::HashSet;
use std::collections::hash_map::{Entry, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::contents::{Fault, ReferrerIndex, Root};
use super::document::{MAX_LIST, MAX_MANIFEST, document, image_config, into_oci, origins as origins_of, role};
use super::file_names::{BlobPaths, INDEX_JSON};
use super::files::Files;
use super::layer_format::detect;
use super::model::{
    Absent, Child, Config, Content, Index, IndexOrigin, Layer, LayerFacts, Manifest, NonDistributableLayer, Origin,
    Provenance,
};
use super::referrers::separate;
use crate::compress::{ByteSource, Compression};
use crate::error::{Advice, Code, Error, Result, shown};
use crate::oci::{Descriptor, DiffId, Digest, Document, DocumentKind, MediaType, OriginalManifest};

/// The limit for the depth of nested indexes. One level is common, two are rare.
const MAX_DEPTH: usize = 8;
/// The limit for descriptors of manifests and indexes that are followed: a few small indexes can expand to any number. Each
/// image of index.json counts twice.
const MAX_DESCRIPTORS: usize = 40_000;
/// The limit for the bytes of blobs without a descriptor, which are read since they may be referrers.
const MAX_UNLISTED: u64 = 16 << 20;
/// The annotation with a full name, written by containerd, Docker and BuildKit.
const NAME: &str = "io.containerd.image.name";
/// The specification's annotation with a name, which is often only a tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The hint for an incomplete layout.
pub(super) const INCOMPLETE: &str = "The layout is incomplete: write or copy it again, whole.";

/// The contents of a layout.
pub(super) struct LayoutContents {
    /// The entries of index.json, one root per digest, without referrers.
    pub(super) roots: Vec<Root>,
    pub(super) referrers: ReferrerIndex,
    pub(super) index_json: OriginalManifest,
}

/// A reader of one layout.
pub(super) struct Layout<'a> {
    files: &'a Files,
    paths: BlobPaths,
    provenance: Provenance,
    followed: usize,
    /// The blobs that a descriptor refers to.
    listed: HashSet<Digest>,
}

impl<'a> Layout<'a> {
    /// Creates a reader. `provenance` is that of the manifests.
    pub(super) fn new(files: &'a Files, paths: BlobPaths, provenance: Provenance) -> Self {
        Self { files, paths, provenance, followed: 0, listed: HashSet::new() }
    }

    /// Reads everything that index.json refers to, or returns `None` if there is no index.json.
    pub(super) fn read(mut self) -> Result<Option<LayoutContents>> {
        let Some((bytes, digest)) = self.files.document(INDEX_JSON, MAX_LIST)? else { return Ok(None) };
        let listing = document(&bytes, INDEX_JSON)?;
        if listing.media_type.as_deref().is_some_and(|it| MediaType(it).document() != Some(DocumentKind::Index)) {
            return Err(Error::input("index.json of the archive has a media type that is not an index's")
                .code(Code::ArchiveUnsupported));
        }
        let listed = listing.manifests.unwrap_or_default();
        self.files.expect(listed.len());
        let (mut roots, mut positions): (Vec<Root>, HashMap<String, usize>) = (Vec::new(), HashMap::new());
        for descriptor in listed {
            let names = names(&descriptor);
            self.follow(0, INDEX_JSON)?;
            let position = positions.entry(descriptor.digest.to_string());
            if let Entry::Occupied(position) = &position
                && let Some(root) = roots.get_mut(*position.get())
            {
                let new = names.into_iter().filter(|name| !root.names.contains(name)).collect::<Vec<_>>();
                root.names.extend(new);
                continue;
            }
            let user =
                names.first().map_or_else(|| INDEX_JSON.to_owned(), |name| format!("{INDEX_JSON} for {}", shown(name)));
            position.insert_entry(roots.len());
            roots.push(self.root(names, descriptor, &user));
        }
        let unlisted = self.unlisted();
        let (roots, referrers) = separate(roots, unlisted);
        let index_json = OriginalManifest { bytes, digest, media_type: MediaType::INDEX.0.to_owned(), subject: None };
        Ok(Some(LayoutContents { roots, referrers, index_json }))
    }

    /// Reads the content of one descriptor; `user` is the document that contains it.
    pub(super) fn root(&mut self, names: Vec<String>, descriptor: Descriptor, user: &str) -> Root {
        let mut read = self.content(&descriptor, user, 0, &Arc::default());
        if let Ok(content) = &mut read
            && let Err(error) = content.release(self.files, self.paths)
        {
            read = Err(error.into());
        }
        let subject = match &read {
            Ok(content) => content.original().and_then(|stated| stated.subject),
            Err(_) => self.listing(&descriptor, user, 0).ok().and_then(|(stated, ..)| stated.subject),
        };
        Root { names, descriptor, subject, read }
    }

    /// Returns manifests with a subject that no descriptor refers to: cosign 3 saves signatures in this way
    /// (<https://github.com/sigstore/cosign/issues/4695>).
    fn unlisted(&mut self) -> Vec<Root> {
        let files = self.files;
        let mut digests = files.blobs();
        digests.retain(|digest| !self.listed.contains(digest));
        digests.sort_unstable();
        let (mut found, mut left) = (Vec::new(), MAX_UNLISTED);
        for digest in digests.into_iter().take(MAX_DESCRIPTORS) {
            let Ok(Some(range)) = files.find_once(&self.paths.blob(digest)) else { continue };
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

    /// Reads everything that a descriptor refers to; `user` is the document that contains it, with these `origins`.
    fn content(
        &mut self,
        descriptor: &Descriptor,
        user: &str,
        depth: usize,
        origins: &Arc<[Origin]>,
    ) -> Result<Content, Fault> {
        let (stated, kind, listing) = self.listing(descriptor, user, depth)?;
        let origins = origins_of(descriptor, origins);
        Ok(match kind {
            DocumentKind::Manifest => Content::Manifest(Box::new(self.manifest(stated, listing, &origins)?)),
            DocumentKind::Index => Content::Index(Box::new(self.index(stated, listing, depth, &origins)?)),
        })
    }

    /// Reads the entries of an index, with these `origins`. An index without any of its images counts as absent.
    fn index(
        &mut self,
        stated: OriginalManifest,
        listing: Document,
        depth: usize,
        origins: &Arc<[Origin]>,
    ) -> Result<Index, Fault> {
        let user = self.paths.manifest(stated.digest);
        let mut index = Index {
            original: stated,
            origin: IndexOrigin::Stated,
            repaired: None,
            children: Vec::new(),
            absent: Vec::new(),
        };
        for descriptor in listing.manifests.unwrap_or_default() {
            let digest = supported(&descriptor, &user)?;
            let role = role(&descriptor);
            match self.content(&descriptor, &user, depth + 1, origins) {
                Ok(content) => {
                    let role = role.of(&content);
                    index.children.push(Child { role, content });
                }
                Err(Fault::Absent(error) | Fault::Unsupported(error)) => {
                    index.absent.push(Absent { role, digest, error });
                }
                Err(Fault::Broken(error)) => return Err(Fault::Broken(error)),
            }
        }
        match index.absent.first() {
            Some(absent) if index.images().is_empty() => Err(Fault::Absent(absent.error.clone())),
            _ => Ok(index),
        }
    }

    /// Reads a manifest or an index, without following its descriptors.
    fn listing(
        &mut self,
        descriptor: &Descriptor,
        user: &str,
        depth: usize,
    ) -> Result<(OriginalManifest, DocumentKind, Document), Fault> {
        self.follow(depth, user)?;
        let described = descriptor.media_type().document();
        let blob = self.paths.manifest(supported(descriptor, user)?);
        if described.is_none() && !descriptor.media_type.is_empty() {
            return Err(unsupported(&blob, &descriptor.media_type));
        }
        let (bytes, digest) = self.checked(descriptor, &blob, MAX_MANIFEST, user, "a manifest")?;
        let listing = document(&bytes, &blob)?;
        let own = listing.media_type.as_deref();
        if described.is_some() && own.is_some_and(|own| own != descriptor.media_type) {
            return Err(
                Error::input(format!("the media type in {blob} is not the one in {user}, which names it")).into()
            );
        }
        let media_type = own.unwrap_or(&descriptor.media_type).to_owned();
        let kind = MediaType(&media_type).document().ok_or_else(|| unsupported(&blob, &media_type))?;
        if listing.schema_version != Some(2) {
            return Err(Error::input(format!("{blob} of the archive does not have schemaVersion 2"))
                .code(Code::ArchiveUnsupported)
                .into());
        }
        // The same bytes must not be an image to one reader and an index to another.
        if listing.is_ambiguous(kind) {
            return Err(Error::input(format!("{blob} of the archive is a manifest and an index at once")).into());
        }
        Ok((OriginalManifest { bytes, digest, media_type, subject: listing.subject() }, kind, listing))
    }

    /// Counts a descriptor before it is followed.
    fn follow(&mut self, depth: usize, user: &str) -> Result<()> {
        self.followed += 1;
        if depth > MAX_DEPTH {
            return Err(Error::input(format!("indexes of the archive are nested too deep, down to {user}"))
                .code(Code::ArchiveUnsupported));
        }
        if self.followed > MAX_DESCRIPTORS {
            return Err(Error::input(format!("the archive names more than {MAX_DESCRIPTORS} manifests and indexes"))
                .code(Code::ArchiveUnsupported));
        }
        Ok(())
    }

    /// Reads the config of a manifest, with these `origins`, and finds its layers.
    fn manifest(
        &mut self,
        stated: OriginalManifest,
        listing: Document,
        origins: &Arc<[Origin]>,
    ) -> Result<Manifest, Fault> {
        let user = self.paths.manifest(stated.digest);
        let descriptor =
            listing.config.ok_or_else(|| Error::input(format!("the manifest {user} of the archive has no config")))?;
        let descriptors = listing.layers.unwrap_or_default();
        let name = self.paths.blob(supported(&descriptor, &user)?);
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
            if !descriptor.is_non_distributable() {
                layers.push(layer?);
                continue;
            }
            let layer = match layer {
                Err(Fault::Absent(_)) => None,
                layer => Some(layer?).filter(|layer| !layer.bytes.is_missing()),
            };
            non_distributable.push(NonDistributableLayer { at, descriptor: into_oci(descriptor), layer });
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

    /// Finds a layer and detects its compression.
    fn layer(
        &mut self,
        descriptor: &Descriptor,
        diff_id: Option<DiffId>,
        user: &str,
        origins: &Arc<[Origin]>,
    ) -> Result<Layer, Fault> {
        let digest = supported(descriptor, user)?;
        let name = self.paths.blob(digest);
        let media_type = descriptor.media_type();
        let bytes = match self.blob(descriptor, &name, user, "a layer") {
            // The repository may have it: shallow layouts omit layers of a base image that was pushed before.
            Err(Fault::Absent(_)) if self.provenance == Provenance::Layout => {
                ByteSource::missing(&name, descriptor.size)
            }
            bytes => bytes?,
        };
        let detected = if bytes.is_missing() {
            Ok(media_type.compression().unwrap_or(Compression::Uncompressed))
        } else {
            detect(&bytes, &name)?
        };
        Ok(self.files.shared(LayerFacts {
            // The content of an encrypted layer is unknown, and so is that of a compression that images do not have.
            diff_id: diff_id.filter(|_| detected.is_ok() && !media_type.is_encrypted()),
            compression: detected.unwrap_or(Compression::Uncompressed),
            bytes,
            digest: Some(digest),
            named_digest: None,
            origins: origins_of(descriptor, origins),
            name,
            media_type: Some(descriptor.media_type.clone()),
        }))
    }

    fn absent(&self, name: &str, user: &str, role: &str) -> Fault {
        let error = missing_file(name, user, role, 0);
        Fault::Absent(if self.provenance == Provenance::Layout { error.hint(INCOMPLETE) } else { error })
    }

    /// Reads a document and compares its size and digest with the descriptor.
    fn checked(
        &mut self,
        descriptor: &Descriptor,
        name: &str,
        limit: u64,
        user: &str,
        role: &str,
    ) -> Result<(Bytes, Digest), Fault> {
        self.blob(descriptor, name, user, role)?;
        let read = self.files.document(name, limit)?.ok_or_else(|| self.absent(name, user, role))?;
        if Some(read.1) != descriptor.digest.sha256() {
            return Err(Error::input(format!("{name} of the archive has the digest {}", read.1))
                .code(Code::ArchiveDamaged)
                .hint("A blob's name is its digest, so this one was changed or damaged. Save the image again.")
                .into());
        }
        Ok(read)
    }

    /// Finds a blob and compares its size with the descriptor.
    fn blob(&mut self, descriptor: &Descriptor, name: &str, user: &str, role: &str) -> Result<ByteSource, Fault> {
        self.listed.insert(supported(descriptor, user)?);
        let range = self.files.find(name)?;
        let range = range.ok_or_else(|| self.absent(name, user, role))?;
        if range.len() != descriptor.size {
            let text =
                format!("{name} of the archive is {} bytes long, but {user} states {}", range.len(), descriptor.size);
            return Err(Error::input(text)
                .code(Code::ArchiveDamaged)
                .hint("The archive is damaged or was written in part. Save the image again.")
                .into());
        }
        Ok(range)
    }
}

/// Returns the digest in a descriptor of `user`, if its algorithm is supported.
fn supported(descriptor: &Descriptor, user: &str) -> Result<Digest, Fault> {
    descriptor.digest.supported().map_err(|digest| {
        let algorithm = digest.split(':').next().unwrap_or_default();
        let what = format!("{user} of the archive refers to {}: {algorithm} is not supported", shown(digest));
        Fault::Unsupported(
            Error::input(what).code(Code::ArchiveUnsupported).hint(
                "Amazon ECR and most registries store content by sha256 only: write the image with sha256 digests.",
            ),
        )
    })
}

/// Returns the names in a descriptor's annotations, full names first. BuildKit writes several names into one annotation,
/// separated by commas (names have none) (<https://github.com/moby/buildkit/issues/5572>).
fn names(descriptor: &Descriptor) -> Vec<String> {
    let list = |key| {
        let names = descriptor.annotation(key).into_iter().flat_map(|value| value.split(',')).map(str::trim);
        names.filter(|name| !name.is_empty())
    };
    let mut names: Vec<String> = list(NAME).map(str::to_owned).collect();
    // `v1` adds nothing to `host/app:v1`.
    let is_new = |name: &&str| {
        names.iter().all(|full| full != name && full.strip_suffix(name).is_none_or(|rest| !rest.ends_with(':')))
    };
    let short: Vec<String> = list(REF_NAME).filter(is_new).map(str::to_owned).collect();
    names.extend(short);
    names
}

/// Returns the error that a list of layers and a config do not match.
pub(super) fn miscount(list: &str, layers: usize, config: &str, diff_ids: usize) -> Error {
    Error::input(format!(
        "{} lists {layers} layers, but its config {} lists {diff_ids} diff_ids",
        shown(list),
        shown(config)
    ))
    .hint("They contradict each other, so the archive is broken. Save the image again.")
}

/// Returns the error that a file that `user` refers to is missing, and `more` of the same role.
pub(super) fn missing_file(name: &str, user: &str, role: &str, more: usize) -> Error {
    let others = if more == 0 { String::new() } else { format!(" ({more} more are missing)") };
    let error =
        Error::input(format!("the archive does not contain {}, which {user} names as {role}{others}", shown(name)))
            .code(Code::ArchiveIncomplete);
    if name.starts_with("blobs/") {
        error.hint(
            Advice::new(
                "Docker's containerd store saves only what was pulled, without a warning. Pull the whole image for that \
                 platform, then save it again:",
            )
            .command("docker pull --platform OS/ARCH IMAGE"),
        )
    } else {
        error.hint("The archive is incomplete. Save the image again.")
    }
}

fn unsupported(name: &str, media_type: &str) -> Fault {
    let media_type = if media_type.is_empty() {
        "no media type".to_owned()
    } else {
        format!("the media type {}", shown(media_type))
    };
    let error = Error::input(format!("{name} of the archive has {media_type}, which is not an image's"))
        .code(Code::ArchiveUnsupported);
    Fault::Unsupported(error.hint("Supported are manifests and indexes of OCI and of Docker's schema 2."))
}
