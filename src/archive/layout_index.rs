//! A layout's index.json as a multi-platform image.
//!
//! index.json is a table of contents, usually of one image. If it lists one image per platform (apko, folders that skopeo
//! filled platform by platform, layouts written by hand), it can be pushed as their index.

use super::contents::Archive;
use super::document::{MAX_MANIFEST, TOO_LARGE, document, role};
use super::file_names::INDEX_JSON;
use super::model::{Absent, Child, Content, Image, Index, IndexOrigin, Role};
use crate::error::{Code, Error, Result};
use crate::oci::{Digest, OriginalManifest, Platform};

/// The limit for the platforms of an image. A layout with more images is not offered as one index.
const MAX_PLATFORMS: usize = 64;

impl Archive {
    /// Returns all images of index.json as one: index.json itself if it states the platform of each, else with the platforms
    /// of the configs added.
    ///
    /// # Errors
    /// Of [`Kind::Usage`](crate::error::Kind::Usage) if the archive is not an OCI layout, and of
    /// [`Kind::Input`](crate::error::Kind::Input) if two images are for the same platform, or one states no platform.
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
        let mut index = Index {
            original: stated.clone(),
            origin: IndexOrigin::Stated,
            repaired: None,
            children: Vec::new(),
            absent: Vec::new(),
        };
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

    /// Returns whether all images of index.json have different platforms, so that they can be pushed as one image.
    pub(super) fn has_layout_index(&self) -> bool {
        (2..=MAX_PLATFORMS).contains(&self.images.len()) && self.layout_index().is_ok()
    }

    /// Returns the image or referrer with this digest, which index.json lists.
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

    /// Rejects an index with several images for one platform: clients could pull only the first of them.
    fn check_platforms(&self, index: &Index) -> Result<()> {
        let mut platforms: Vec<&Platform> = Vec::new();
        for (platform, _) in index.images().into_iter().filter(|(_, content)| content.is_image()) {
            let what = match platform {
                None => format!("an image of {} states no platform, so it cannot be part of an index", self.source),
                Some(platform) if platforms.iter().any(|known| known.matches(platform)) => {
                    format!("several images of {} are for {platform}, so they cannot be one index", self.source)
                }
                Some(platform) => {
                    platforms.push(platform);
                    continue;
                }
            };
            let options = self.options("Select one:", self.images.iter());
            return Err(Error::input(what).code(Code::ImageAmbiguous).hint(options));
        }
        Ok(())
    }
}

/// Returns the index with a platform for each image: runtimes select by it.
fn with_platforms(index: &Index) -> Result<OriginalManifest> {
    let mut changed = false;
    let edited = index.original.edit(|json| {
        for descriptor in json.get_mut("manifests")?.as_array_mut()? {
            if descriptor.get("platform").is_some_and(|platform| !platform.is_null()) {
                continue;
            }
            let digest = descriptor.get("digest")?.as_str()?;
            let is_it = |child: &&Child| child.content.digest().is_some_and(|it| it.to_string() == digest);
            // An artifact has no platform, so it stays without one.
            let Some(Child { role: Role::Image(Some(_)), content: Content::Manifest(manifest) }) =
                index.children.iter().find(is_it)
            else {
                continue;
            };
            manifest.config.add_platform(descriptor.as_object_mut()?);
            changed = true;
        }
        Some(())
    })?;
    Ok(if changed { edited } else { index.original.clone() })
}
