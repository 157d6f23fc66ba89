//! Images of several archives as one multi-platform image: a new index with the entries of all of them.
//!
//! The index depends on the images only, not on the order of the archives: images come first, sorted by platform, then the
//! attestations in the order of the images that they describe. A manifest that its archive does not state has no digest yet:
//! until it is composed, the index lists it by its image ID.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::model::{Child, Content, Image, Index, IndexOrigin, Role};
use crate::error::{Code, Error, Result};
use crate::oci::{Digest, Family, OriginalManifest, Platform};

/// An entry of the index, and the archive that it comes from.
struct Entry<'a> {
    /// The position of the archive, since an archive may be named twice.
    part: usize,
    archive: &'a str,
    descriptor: Map<String, Value>,
    child: Child,
}

/// Joins images of archives, each with the name of its archive. `family` returns the family of a manifest or a nested index
/// when it is pushed: the index is of Docker's if all of them are.
///
/// # Errors
/// Of [`Kind::Input`](crate::error::Kind::Input) if images of two archives are for the same platform, or if one states no
/// platform.
pub(crate) fn join(parts: Vec<(String, Image)>, family: &dyn Fn(&Content) -> Family) -> Result<Image> {
    let (mut names, mut part_of, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    let mut contents = Vec::new();
    for (archive, image) in parts {
        let content = &image.content;
        if let Some(index) = content.index() {
            part_of.extend(content.digest());
            if has_annotations(index) {
                notes.push(format!("the annotations of the index of {archive} are not in the joined index"));
            }
        }
        part_of.extend(image.part_of);
        names.extend(image.names);
        notes.extend(image.notes);
        contents.push((archive, image.content));
    }
    let mut seen = HashSet::new();
    names.retain(|name: &String| seen.insert(name.clone()));
    let mut entries = Vec::new();
    for (part, (archive, content)) in contents.iter().enumerate() {
        entries.extend(entries_of(part, archive, content)?);
    }
    check_platforms(&entries)?;
    for (part, (archive, _)) in contents.iter().enumerate() {
        if !entries.iter().any(|entry| entry.part == part && !entry.platforms().is_empty()) {
            let others = contents.iter().enumerate().find(|(other, _)| *other != part);
            let other = others.map_or("another archive", |(_, (other, _))| other.as_str());
            return Err(Error::input(format!("cannot join {archive} with {other}: it has no image for a platform"))
                .code(Code::PlatformNotFound)
                .hint("Join archives of images, one for each platform."));
        }
    }
    sort(&mut entries);
    let all_docker = entries.iter().all(|entry| family(&entry.child.content) == Family::Docker);
    let family = if all_docker { Family::Docker } else { Family::Oci };
    let is_draft = entries.iter().any(|entry| entry.child.content.digest().is_none());
    let origin = if is_draft { IndexOrigin::Draft } else { IndexOrigin::Joined };
    let (listed, children): (Vec<Value>, Vec<Child>) =
        entries.into_iter().map(|entry| (Value::Object(entry.descriptor), entry.child)).unzip();
    let document = json!({ "schemaVersion": 2, "mediaType": family.index(), "manifests": listed });
    let original = OriginalManifest::serialize(&document, family.index())?;
    let index = Index { original, origin, repaired: None, children, absent: Vec::new() };
    Ok(Image { names, part_of, notes, ..Image::new(Vec::new(), Content::Index(Box::new(index))) })
}

fn has_annotations(index: &Index) -> bool {
    let document: Option<Value> = serde_json::from_slice(&index.base().bytes).ok();
    document.is_some_and(|it| it.get("annotations").and_then(Value::as_object).is_some_and(|it| !it.is_empty()))
}

/// Returns the entries of one image: itself, or those of its index.
fn entries_of<'a>(part: usize, archive: &'a str, content: &Content) -> Result<Vec<Entry<'a>>> {
    match content {
        Content::Manifest(manifest) => {
            let mut descriptor = Map::new();
            let size = manifest.base().map_or(0, |stated| stated.bytes.len());
            let media_type = manifest.base().map_or_else(|| Family::Docker.manifest(), |stated| &stated.media_type);
            descriptor.insert("mediaType".into(), media_type.into());
            descriptor.insert("digest".into(), content.identity().to_string().into());
            descriptor.insert("size".into(), size.into());
            manifest.config.add_platform(&mut descriptor);
            let role = Role::Image(manifest.config.platform.clone());
            Ok(vec![Entry { part, archive, descriptor, child: Child { role, content: content.clone() } }])
        }
        Content::Index(index) => {
            let document: Value = serde_json::from_slice(&index.base().bytes)
                .map_err(|error| Error::internal("cannot read an index again").because(error))?;
            let listed = document.get("manifests").and_then(Value::as_array).cloned().unwrap_or_default();
            let digest = |descriptor: &Value| descriptor.get("digest")?.as_str()?.parse::<Digest>().ok();
            let mut entries: Vec<Entry<'a>> = Vec::new();
            for child in &index.children {
                let of_child = listed.iter().find(|it| digest(it) == child.content.digest());
                let Some(descriptor) = of_child.and_then(Value::as_object) else { continue };
                // Some indexes list an entry twice.
                if entries.iter().any(|known| known.child.content.digest() == child.content.digest()) {
                    continue;
                }
                let mut descriptor = descriptor.clone();
                if let (Role::Image(_), Content::Manifest(manifest)) = (&child.role, &child.content)
                    && descriptor.get("platform").is_none_or(Value::is_null)
                {
                    manifest.config.add_platform(&mut descriptor);
                }
                entries.push(Entry { part, archive, descriptor, child: child.clone() });
            }
            Ok(entries)
        }
    }
}

/// What the runtimes select an image by: its platform, and the version of Windows.
type Selector<'a> = (Option<&'a Platform>, String);

/// Returns the selector of an image: from its config, or if that states no platform, from the index.
fn selector<'a>(listed: Option<&'a Platform>, listed_version: &str, content: &'a Content) -> Selector<'a> {
    let config = match content {
        Content::Manifest(manifest) => Some(&manifest.config),
        Content::Index(_) => None,
    };
    let version = config.and_then(|config| config.os_version()).unwrap_or_else(|| listed_version.to_owned());
    (config.and_then(|config| config.platform.as_ref()).or(listed), version)
}

impl Entry<'_> {
    /// Returns the version of the operating system, which distinguishes images for Windows.
    fn os_version(&self) -> &str {
        let platform = self.descriptor.get("platform");
        platform.and_then(|platform| platform.get("os.version")?.as_str()).unwrap_or_default()
    }

    /// Returns the selectors of the images, without artifacts and attestations.
    fn platforms(&self) -> Vec<Selector<'_>> {
        match &self.child {
            Child { role: Role::Attestation(_), .. } => Vec::new(),
            Child { content: Content::Index(index), .. } => {
                let images = index.images().into_iter().filter(|(_, image)| image.is_image());
                images.map(|(listed, image)| selector(listed, self.os_version(), image)).collect()
            }
            Child { role: Role::Image(listed), content } if content.is_image() => {
                vec![selector(listed.as_ref(), self.os_version(), content)]
            }
            Child { .. } => Vec::new(),
        }
    }
}

/// Rejects images for one platform from two archives: clients could pull only the first of them.
fn check_platforms(entries: &[Entry<'_>]) -> Result<()> {
    let mut known: Vec<(&Platform, String, &Entry<'_>)> = Vec::new();
    for entry in entries {
        for (platform, version) in entry.platforms() {
            let Some(platform) = platform else {
                let others = entries.iter().find(|other| other.part != entry.part).map(|other| other.archive);
                return Err(Error::input(format!(
                    "cannot join {} with {}: its image states no platform",
                    entry.archive,
                    others.unwrap_or("another archive")
                ))
                .code(Code::PlatformNotFound)
                .hint("Build it again for a platform: the config of an image states its os and architecture."));
            };
            let same = |(its, its_version, other): &&(&Platform, String, &Entry<'_>)| {
                its.matches(platform) && *its_version == version && other.part != entry.part
            };
            if let Some((.., other)) = known.iter().find(same) {
                let (one, other) = (other.archive, entry.archive);
                return Err(Error::input(format!("cannot join {one} with {other}: both are for {platform}"))
                    .code(Code::ImageAmbiguous)
                    .hint("Join one archive for each platform."));
            }
            known.push((platform, version, entry));
        }
    }
    Ok(())
}

/// Sorts images by platform, and attestations after them in the same order.
fn sort(entries: &mut [Entry<'_>]) {
    let image_key = |entry: &Entry<'_>| match &entry.child.role {
        Role::Image(Some(platform)) => format!("{platform} {}", entry.os_version()),
        Role::Image(None) | Role::Attestation(_) => String::new(),
    };
    let of_images: Vec<(Digest, String)> =
        entries.iter().map(|entry| (entry.child.content.identity(), image_key(entry))).collect();
    entries.sort_by_cached_key(|entry| {
        let (is_attestation, key) = match &entry.child.role {
            Role::Attestation(described) => {
                let image = of_images.iter().find(|(digest, _)| Some(*digest) == *described);
                (true, image.map(|(_, key)| key.clone()).unwrap_or_default())
            }
            Role::Image(_) => (false, image_key(entry)),
        };
        (is_attestation, key, entry.child.content.identity())
    });
}
