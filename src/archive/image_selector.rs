//! Selects an image of an archive.
//!
//! Never guesses: if several images match, the error lists them, each with the option that selects it.

use super::contents::{Archive, Unusable};
use super::image_name::{is_end_of, is_same_but_registry, is_same_name};
use super::model::{Content, Image, Referrer};
use super::selection::{Platforms, Selection, platform_advice};
use super::shell::quoted;
use crate::error::{Advice, Code, Error, Result, shown};
use crate::oci::Digest;

/// How an image of an archive is selected.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum ImageSelector {
    /// By digest, or its first digits: of the config, the manifest or the index. A manifest inside an index is selected without
    /// that index.
    Id(String),
    /// By name, as Docker reads names: `app` is `docker.io/library/app:latest`.
    Name(String),
    /// Everything that a layout's index.json lists, as one multi-platform image.
    Index,
    /// The only image.
    #[default]
    Only,
}

/// Images that cannot be pushed and are named in advice.
const MAX_BROKEN: usize = 10;
/// Names of an image that are listed beside its option, and that are tried as its value.
const MAX_NAMES: usize = 8;

/// What a name matches.
type Fits<'a> = (Vec<&'a Image>, Vec<&'a Unusable>);

impl Archive {
    /// Returns the selected image, or the selected part of it. If several match, those count that are for the selected
    /// platform, if there is one.
    ///
    /// # Errors
    /// Of [`Kind::Usage`](crate::error::Kind::Usage) if several match or if the image is not for that platform, and of
    /// [`Kind::Input`](crate::error::Kind::Input) if none matches or if the one that matches cannot be pushed. The advice
    /// lists what there is.
    pub fn select(&self, choice: &ImageSelector, part: &Selection) -> Result<Image> {
        part.of(self.choose(choice, part)?)
    }

    /// Returns the archive with only the selected image, or its selected platform. It need not be complete.
    ///
    /// # Errors
    /// Those of [`Archive::select`], except for what is missing.
    pub fn narrowed(self, choice: &ImageSelector, part: &Selection) -> Result<Self> {
        let image = match part.platforms {
            Platforms::One(_) => self.select(choice, part)?,
            Platforms::All | Platforms::Present => self.choose(choice, part)?,
        };
        Ok(Self { images: vec![image], unusable: Vec::new(), ..self })
    }

    /// Returns the selected image, all of it.
    fn choose(&self, choice: &ImageSelector, part: &Selection) -> Result<Image> {
        match choice {
            ImageSelector::Id(id) => self.select_id(id, part),
            ImageSelector::Name(name) => self.select_name(name, part),
            ImageSelector::Index => self.layout_index(),
            ImageSelector::Only => self.select_only(part),
        }
    }

    fn select_only(&self, part: &Selection) -> Result<Image> {
        let images = with_platform(self.images.iter().collect(), part, |image| &image.content);
        if let ([image], []) = (images.as_slice(), self.unusable.as_slice()) {
            return Ok((*image).clone());
        }
        let contains = format!("{} contains {} images", self.source, self.images.len() + self.unusable.len());
        if let Platforms::One(platform) = &part.platforms
            && !images.iter().any(|image| part.is_in(&image.content))
        {
            let platforms: Vec<_> = images.iter().flat_map(|image| image.content.platforms()).collect();
            return Err(Error::usage(format!("{contains}, and none is for {platform}"))
                .code(Code::PlatformNotFound)
                .hint(platform_advice(&platforms)));
        }
        let broken: Vec<_> = self.unusable.iter().take(MAX_BROKEN).map(Unusable::label).collect();
        let title = match broken.as_slice() {
            [] => "Select one:".to_owned(),
            broken => format!("Select one (cannot be pushed: {}):", broken.join(", ")),
        };
        let mut options = self.options(&title, images.into_iter());
        if self.has_layout_index() {
            options = options.choices([()], |()| ("index", None, "all of them, as one multi-platform image".into()));
        }
        Err(Error::usage(format!("{contains}, and none is selected")).code(Code::ImageAmbiguous).hint(options))
    }

    fn select_name(&self, name: &str, part: &Selection) -> Result<Image> {
        let (images, unusable) = self.fits(name);
        let images = with_platform(images, part, |image| &image.content);
        match (images.as_slice(), unusable.as_slice()) {
            ([image], []) => Ok((*image).clone()),
            ([], [unusable]) => Err(unusable.error.clone()),
            ([], []) => self
                .referrer_as_image(|referrer| referrer.names.iter().any(|known| is_same_name(known, name)))
                .ok_or_else(|| {
                    Error::input(format!("{} contains no image {}", self.source, shown(name)))
                        .code(Code::ImageNotFound)
                        .hint(self.options("It contains:", self.images.iter()))
                }),
            (images, _) => Err(Error::usage(format!("several images of {} match {}", self.source, shown(name)))
                .code(Code::ImageAmbiguous)
                .hint(self.options("Select one:", images.iter().copied()))),
        }
    }

    /// Returns what the name matches: literally, else as Docker reads it, else, if it has no registry, in any registry, else as
    /// the end of a name: `app:2` is `docker.io/made/app:2` if no other name ends like that.
    fn fits(&self, name: &str) -> Fits<'_> {
        let ways: [fn(&str, &str) -> bool; 4] =
            [|known, name| known == name, is_same_name, is_same_but_registry, is_end_of];
        for way in ways {
            let fits = |names: &[String]| names.iter().any(|known| way(known, name));
            let images: Vec<_> = self.images.iter().filter(|image| fits(&image.names)).collect();
            let unusable: Vec<_> = self.unusable.iter().filter(|it| fits(&it.names)).collect();
            if !images.is_empty() || !unusable.is_empty() {
                return (images, unusable);
            }
        }
        (Vec::new(), Vec::new())
    }

    fn select_id(&self, id: &str, part: &Selection) -> Result<Image> {
        let digits = id.strip_prefix("sha256:").unwrap_or(id).to_ascii_lowercase();
        if !(2..=64).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(Error::usage(format!("{:?} is not an image ID", shown(id)))
                .code(Code::ValueInvalid)
                .hint("An ID is 64 hex digits, or the first few of them; `sha256:` may be in front."));
        }
        let nodes = with_platform(self.nodes(&digits), part, |(_, content)| content);
        if let [(image, content)] = nodes.as_slice() {
            // A part of an index is an image of its own, and does not have the names of the index.
            let names = if std::ptr::eq(*content, &raw const image.content) { image.names.clone() } else { Vec::new() };
            return Ok(Image::new(names, (*content).clone()));
        }
        if !nodes.is_empty() {
            let hint = Advice::new("Select one:")
                .choices(nodes.iter(), |(_, content)| ("image-id", Some(identity(content).hex()), String::new()));
            return Err(Error::usage(format!(
                "several images of {} have an ID that starts with {digits}",
                self.source
            ))
            .code(Code::ImageAmbiguous)
            .hint(hint));
        }
        let is_meant = |referrer: &Referrer| digests(&referrer.content).any(|digest| digest.hex().starts_with(&digits));
        if let Some(referrer) = self.referrer_as_image(is_meant) {
            return Ok(referrer);
        }
        let unusable = self.unusable.iter().find(|it| it.id.is_some_and(|id| id.hex().starts_with(&digits)));
        Err(unusable.map_or_else(
            || {
                Error::input(format!("{} contains no image with the ID {digits}", self.source))
                    .code(Code::ImageNotFound)
                    .hint(self.options("It contains:", self.images.iter()))
            },
            |unusable| unusable.error.clone(),
        ))
    }

    /// Returns the manifests and indexes, at any depth, of which a digest starts with `digits`. Whole images come first, so
    /// that one that is also part of an index keeps its names.
    fn nodes(&self, digits: &str) -> Vec<(&Image, &Content)> {
        let mut found: Vec<(&Image, &Content)> = Vec::new();
        let mut level: Vec<_> = self.images.iter().map(|image| (image, &image.content)).collect();
        while !level.is_empty() {
            for (image, content) in &level {
                let is_known = || found.iter().any(|(_, known)| identity(known) == identity(content));
                if digests(content).any(|digest| digest.hex().starts_with(digits)) && !is_known() {
                    found.push((image, content));
                }
            }
            level = level
                .into_iter()
                .flat_map(|(image, content)| children(content).map(move |child| (image, child)))
                .collect();
        }
        found
    }

    /// Returns the option that selects each image, and what it is.
    pub(super) fn options<'a>(&self, title: &str, images: impl Iterator<Item = &'a Image>) -> Advice {
        let choice = |image: &'a Image| {
            let platforms: Vec<_> = image.content.platforms().iter().map(ToString::to_string).collect();
            let platforms = platforms.join(", ");
            let chooses = |name: &&String| {
                // A shortened one cannot be used.
                if shown(name) != **name {
                    return false;
                }
                let (images, unusable) = self.fits(name);
                images.len() == 1 && unusable.is_empty()
            };
            let name = image.names.iter().take(MAX_NAMES).find(chooses);
            let id = || {
                let short = image.content.id().hex()[..12].to_owned();
                if self.nodes(&short).len() == 1 { short } else { identity(&image.content).hex() }
            };
            let option = name.map_or_else(|| ("image-id", id()), |name| ("image", quoted(name)));
            let others = image.names.iter().filter(|other| Some(*other) != name);
            let others = others.take(MAX_NAMES).map(|other| format!("also {}", shown(other)));
            let short = name.map(|_| image.content.id().short());
            let facts: Vec<_> =
                short.into_iter().chain(Some(platforms).filter(|it| !it.is_empty())).chain(others).collect();
            (option.0, Some(option.1), facts.join(", "))
        };
        Advice::new(title).choices(images, choice)
    }
}

/// Returns, of several that match, those that have the selected platform, unless none has.
fn with_platform<T>(mut found: Vec<T>, part: &Selection, content: impl Fn(&T) -> &Content) -> Vec<T> {
    if found.len() > 1 && found.iter().any(|it| part.is_in(content(it))) {
        found.retain(|it| part.is_in(content(it)));
    }
    found
}

/// Returns the digest of a manifest or an index, or else the image ID.
fn identity(content: &Content) -> Digest {
    content.digest().unwrap_or_else(|| content.id())
}

fn digests(content: &Content) -> impl Iterator<Item = Digest> {
    [content.id(), identity(content)].into_iter()
}

fn children(content: &Content) -> impl Iterator<Item = &Content> {
    let index = match content {
        Content::Manifest(_) => None,
        Content::Index(index) => Some(&index.children),
    };
    index.into_iter().flatten().map(|child| &child.content)
}
