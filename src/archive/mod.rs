//! What is in the archive.
//!
//! [`open`] reads everything but the layers: it finds them, and leaves their bytes where they lie. Nothing is unpacked
//! and nothing is written, but for what cannot be read by position ([`Spool`]). Nothing that the archive says is
//! believed before it is compared with what is there. What only a pass over the layers can tell (their digests and
//! diff_ids) is left to whoever reads them, and compared by [`Layer::check`].

mod blob_paths;
mod compose;
mod diagnose;
mod disk_space;
mod docker_archive;
mod document;
mod entries;
mod image_selector;
pub mod inspect;
mod layer_format;
mod layout_index;
mod model;
mod non_distributable;
mod oci_layout;
mod referrers;
mod repair;
mod selection;
mod skopeo_dir;
mod source;
mod sparse;
mod spool;
mod streaming;
mod tar_index;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::collections::hash_map::{Entry, HashMap};
use std::fmt;

pub use crate::error::shown;
use crate::error::{Code, Error, Result};
use crate::oci::{Digest, OriginalManifest};

pub use compose::{Replacements, StoredLayer, check_manifest_size, compose_index, compose_manifest, unchanged};
pub use disk_space::DiskSpace;
pub use image_selector::ImageSelector;
pub use model::*;
pub use repair::Flaw;
pub use selection::{Attestations, Completeness, Platforms, Selection};
pub use source::Source;
pub use spool::Spool;
pub use streaming::{HashOf, StreamedLayer};

/// `docker save`'s list of images; with skopeo's `dir:` the manifest itself.
const MANIFEST_JSON: &str = "manifest.json";
/// An OCI layout's table of contents.
const INDEX_JSON: &str = "index.json";
/// What makes a folder an OCI layout.
const OCI_LAYOUT: &str = "oci-layout";

/// An archive, and the images in it.
#[derive(Clone, Debug)]
pub struct Archive {
    /// Where it comes from.
    pub source: Source,
    /// The images, in the archive's order. At least one, but from [`list`].
    pub images: Vec<Image>,
    /// How it is written.
    pub format: Format,
    /// What a person should know about it: one sentence each, without a full stop.
    pub notes: Vec<String>,
    /// Images that it lists and that cannot be pushed. They don't get in the way of others, unless they are chosen.
    pub unusable: Vec<Unusable>,
    /// What belongs to the images.
    referrers: referrers::ReferrerIndex,
    /// The index.json of an OCI layout.
    index_json: Option<OriginalManifest>,
}

/// How an archive is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// `docker save` and its many imitators: a manifest.json.
    DockerSave,
    /// An OCI layout in a tar.
    OciArchive,
    /// An OCI layout in a folder.
    OciFolder,
    /// What skopeo writes with `dir:`.
    SkopeoDir,
}

impl Format {
    /// The words for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::DockerSave => "docker save archive",
            Self::OciArchive => "OCI layout in a tar",
            Self::OciFolder => "OCI layout folder",
            Self::SkopeoDir => "skopeo dir",
        }
    }
}

/// Opens an archive and reads what it lists.
///
/// # Errors
/// Of [`Kind::Input`](crate::error::Kind::Input), if it is no archive of images or a broken one, and those of the
/// [`Spool`], if one is needed.
pub fn open(source: &Source, spool: &Spool<'_>) -> Result<Archive> {
    let archive = list(source, spool)?;
    archive.has_image()?;
    Ok(archive)
}

/// The same, also of an archive in which no image is good.
///
/// # Errors
/// Those of [`open`], but for what is wrong with its images.
pub fn list(source: &Source, spool: &Spool<'_>) -> Result<Archive> {
    let (entries, spooled) = entries::Entries::open(source, spool)?;
    let (format, contents) = match entries.find(MANIFEST_JSON)? {
        Some(manifest) if skopeo_dir::is_manifest(&manifest)? => (Format::SkopeoDir, skopeo_dir::read(&entries)?),
        Some(_) => (Format::DockerSave, docker_archive::read(&entries)?),
        None => {
            let is_folder = matches!(entries, entries::Entries::Folder(_));
            (if is_folder { Format::OciFolder } else { Format::OciArchive }, oci_layout::read(&entries)?)
        }
    };
    let Contents { mut images, mut notes, unusable, is_partial, referrers, index_json, .. } = contents;
    for image in &mut images {
        let mut said = HashSet::new();
        image.names.retain(|name| said.insert(name.clone()));
    }
    if let entries::Entries::Tar(index) = &entries
        && !index.has_end_mark()
    {
        // What is missing can be missing because the end is; without its index.json a save is another image.
        let layers = images.iter().flat_map(Image::manifests).flat_map(|manifest| &manifest.layers);
        let has_blobs = layers.map(|layer| &layer.name).any(|name| name.starts_with("blobs/"));
        if is_partial || !unusable.is_empty() || (has_blobs && entries.find(INDEX_JSON)?.is_none()) {
            return Err(index.cut_off(source, "it has no end mark, and lacks things that belong to its images"));
        }
        notes.push(format!("{source} has no end mark, though it holds all that it lists"));
    }
    notes.splice(..0, spooled);
    Ok(Archive { source: source.clone(), images, format, notes, unusable, referrers, index_json })
}

impl Archive {
    /// Whether there is an image that can be pushed.
    ///
    /// # Errors
    /// What is wrong with the first one, if none is good.
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

/// An image that is listed and cannot be pushed.
#[derive(Clone, Debug)]
pub struct Unusable {
    /// The archive's names for it, as written: with control characters, if it has any.
    pub names: Vec<String>,
    /// The digest by which the archive lists it, if there is one: of its config, manifest or index.
    pub id: Option<Digest>,
    /// Why it cannot be pushed.
    pub error: Error,
}

impl Unusable {
    fn label(&self) -> String {
        let id = || self.id.map_or_else(|| "an image without a name".into(), |id| id.short());
        self.names.first().map_or_else(id, |name| shown(name))
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be pushed: {}", self.label(), self.error)
    }
}

/// What a reader has found.
#[derive(Debug, Default)]
struct Contents {
    images: Vec<Image>,
    /// Where each of them stands, by what it is.
    places: HashMap<(Digest, Option<Digest>), usize>,
    notes: Vec<String>,
    unusable: Vec<Unusable>,
    /// Whether something was left out because it is not there.
    is_partial: bool,
    referrers: referrers::ReferrerIndex,
    /// The index.json of an OCI layout.
    index_json: Option<OriginalManifest>,
}

impl Contents {
    /// Adds what belongs to images.
    fn attach_referrers(&mut self, referrers: referrers::ReferrerIndex) {
        self.is_partial |= referrers.values().flatten().any(Result::is_err);
        self.referrers = referrers;
    }

    /// Adds an image, or only its names if it is there already. A name may then stand there twice: to look for each among
    /// all others would take a long list of them the square of its length.
    fn add(&mut self, mut image: Image) {
        for name in image.names.extract_if(.., |name| name.contains(char::is_control)) {
            self.notes.push(format!("a name with control characters is ignored, {}", shown(&name)));
        }
        match self.places.entry((image.content.id(), image.content.original().map(|stated| stated.digest))) {
            Entry::Occupied(place) => {
                if let Some(known) = self.images.get_mut(*place.get()) {
                    known.names.append(&mut image.names);
                }
            }
            Entry::Vacant(place) => {
                place.insert(self.images.len());
                self.images.push(image);
            }
        }
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

/// Text from an archive, or a path, as a shell takes it.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+=:,@%".contains(&byte);
    let text = shown(text);
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
