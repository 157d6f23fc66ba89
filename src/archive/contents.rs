//! An archive, and what is found in it.

use std::collections::HashSet;
use std::collections::hash_map::{Entry, HashMap};
use std::fmt;

use super::model::{Image, Referrer};
use super::source::Source;
use crate::error::{Code, Error, Result, shown};
use crate::oci::{Digest, OriginalManifest};

/// An archive, and the images in it.
#[derive(Clone, Debug)]
pub struct Archive {
    /// Where it comes from.
    pub source: Source,
    /// The images, in the archive's order. At least one, except when they are only listed.
    pub images: Vec<Image>,
    /// The name of its format.
    pub format: &'static str,
    /// What a user should know about it: one sentence each, without a full stop.
    pub notes: Vec<String>,
    /// Images that it lists and that cannot be pushed. They do not affect others, unless they are selected.
    pub unusable: Vec<Unusable>,
    /// What refers to the images.
    pub(super) referrers: ReferrerIndex,
    /// The index.json of an OCI layout.
    pub(super) index_json: Option<OriginalManifest>,
}

/// Referrers by their subject; for those that cannot be pushed, the reason.
pub(super) type ReferrerIndex = HashMap<Digest, Vec<Result<Referrer>>>;

impl Archive {
    pub(super) fn new(source: Source, format: &'static str, contents: Contents) -> Self {
        let Contents { images, notes, unusable, referrers, index_json, .. } = contents;
        Self { source, images, format, notes, unusable, referrers, index_json }
    }

    /// Checks that there is an image that can be pushed.
    ///
    /// # Errors
    /// What is wrong with the first one, if none can be pushed.
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

/// What the reader of a format finds in an archive.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) images: Vec<Image>,
    /// The index of each image in `images`, by what it is.
    places: HashMap<(Digest, Option<Digest>), usize>,
    pub(super) notes: Vec<String>,
    pub(super) unusable: Vec<Unusable>,
    /// Whether something was left out because the archive does not contain it.
    pub(super) is_partial: bool,
    referrers: ReferrerIndex,
    /// The index.json of an OCI layout.
    pub(super) index_json: Option<OriginalManifest>,
}

impl Contents {
    /// Adds what refers to images.
    pub(super) fn attach_referrers(&mut self, referrers: ReferrerIndex) {
        self.is_partial |= referrers.values().flatten().any(Result::is_err);
        self.referrers = referrers;
    }

    /// Adds an image, or only its names if it is known. A name may then be there twice: to search for each among all others
    /// would take time in the square of their number.
    pub(super) fn add(&mut self, mut image: Image) {
        for name in image.names.extract_if(.., |name| name.contains(char::is_control)) {
            self.notes.push(format!("a name with control characters is ignored, {}", shown(&name)));
        }
        match self.places.entry((image.content.id(), image.content.digest())) {
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

    pub(super) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Removes names that an image has twice.
    pub(super) fn remove_repeated_names(&mut self) {
        for image in &mut self.images {
            let mut seen = HashSet::new();
            image.names.retain(|name| seen.insert(name.clone()));
        }
    }
}
