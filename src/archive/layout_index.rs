//! A layout's index.json as a multi-platform image.
//!
//! index.json is a table of contents, usually of one image. If it lists an image for each platform (apko, folders that skopeo
//! filled one platform after the other, layouts written by hand), it can be pushed as their index.

use super::contents::Archive;
use super::document::{MAX_MANIFEST, TOO_LARGE, document, role};
use super::file_names::INDEX_JSON;
use super::model::{Absent, Child, Content, Image, Index, Role};
use crate::error::{Code, Error, Result};
use crate::oci::{Digest, OriginalManifest, Platform};

/// More platforms than any image has. Layouts of thousands of images are not checked.
const MOST_PLATFORMS: usize = 64;

impl Archive {
    /// Returns everything that index.json lists as one image: index.json itself if it states the platform of each, else with
    /// the platforms of the configs.
    ///
    /// # Errors
    /// Of [`Kind::Usage`](crate::error::Kind::Usage) if the archive is not an OCI layout, and of
    /// [`Kind::Input`](crate::error::Kind::Input) if two images are for the same platform, or are for none.
    pub(super) fn layout_index(&self) -> Result<Image> {
        let Some(stated) = &self.index_json else {
            return Err(Error::usage(format!(
                "{} is not an OCI layout, so it has no index of its images",
                self.source
            )));
        };
        if stated.bytes.len() as u64 > MAX_MANIFEST {
            return Err(Error::input(format!("{INDEX_JSON} of the archive is too large for an index"))
                .code(Code::ArchiveUnsupported)
                .hint(TOO_LARGE));
        }
        let mut index = Index { original: stated.clone(), repaired: None, children: Vec::new(), absent: Vec::new() };
        for descriptor in document(&stated.bytes, INDEX_JSON)?.manifests.unwrap_or_default() {
            let Some(digest) = descriptor.digest.sha256() else {
                return Err(self.cannot_push(&descriptor.digest.to_string()));
            };
            let listed = role(&descriptor);
            match self.listed(digest) {
                Ok(content) => index.children.push(Child { role: listed.of(&content), content }),
                Err(error) => index.absent.push(Absent { role: listed, digest, error }),
            }
        }
        self.check_platforms(&index)?;
        index.original = with_platforms(&index)?;
        Ok(Image::new(Vec::new(), Content::Index(Box::new(index))))
    }

    /// Returns whether everything that index.json lists has a platform of its own, so that it can be pushed as one image.
    pub(super) fn has_layout_index(&self) -> bool {
        (2..=MOST_PLATFORMS).contains(&self.images.len()) && self.layout_index().is_ok()
    }

    /// Returns what index.json lists by this digest.
    fn listed(&self, digest: Digest) -> Result<Content> {
        let is_it = |content: &Content| content.digest() == Some(digest);
        if let Some(image) = self.images.iter().find(|image| is_it(&image.content)) {
            return Ok(image.content.clone());
        }
        if let Some(referrer) = self.referrer_as_image(|referrer| is_it(&referrer.content)) {
            return Ok(referrer.content);
        }
        let unusable = self.unusable.iter().find(|unusable| unusable.id == Some(digest));
        Err(unusable.map_or_else(|| self.cannot_push(&digest.short()), |unusable| unusable.error.clone()))
    }

    fn cannot_push(&self, digest: &str) -> Error {
        Error::input(format!("{INDEX_JSON} of {} lists {digest}, which cannot be pushed", self.source))
            .code(Code::ArchiveUnsupported)
    }

    /// Rejects an index with several images for one platform: only the first could be pulled by it.
    fn check_platforms(&self, index: &Index) -> Result<()> {
        let mut platforms: Vec<&Platform> = Vec::new();
        for (platform, _) in index.images().into_iter().filter(|(_, content)| content.is_image()) {
            let Some(platform) = platform else {
                let what = format!("an image of {} states no platform, so it cannot be part of an index", self.source);
                return Err(Error::input(what)
                    .code(Code::ImageAmbiguous)
                    .hint(self.options("Select one:", self.images.iter())));
            };
            if platforms.iter().any(|known| known.matches(platform)) {
                let what = format!("several images of {} are for {platform}, so they cannot be one index", self.source);
                return Err(Error::input(what)
                    .code(Code::ImageAmbiguous)
                    .hint(self.options("Select one:", self.images.iter())));
            }
            platforms.push(platform);
        }
        Ok(())
    }
}

/// Returns the index with a platform for each image that it lists: runtimes choose by it.
fn with_platforms(index: &Index) -> Result<OriginalManifest> {
    let mut changed = false;
    let edited = index.original.edit(|json| {
        for descriptor in json.get_mut("manifests")?.as_array_mut()? {
            if descriptor.get("platform").is_some_and(|platform| !platform.is_null()) {
                continue;
            }
            let digest = descriptor.get("digest")?.as_str()?;
            let is_it = |child: &&Child| child.content.digest().is_some_and(|it| it.to_string() == digest);
            let Some(Child { role: Role::Image(Some(platform)), content }) = index.children.iter().find(is_it) else {
                continue;
            };
            if content.is_image() {
                descriptor.as_object_mut()?.insert("platform".into(), serde_json::to_value(platform).ok()?);
                changed = true;
            }
        }
        Some(())
    })?;
    Ok(if changed { edited } else { index.original.clone() })
}
