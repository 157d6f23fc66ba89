//! Which image of an archive is meant.
//!
//! Never guesses: what fits several images is refused with the list of them, each with the option that chooses it.

use super::model::{Content, Image, Referrer};
use super::selection::{Platforms, Selection, choices};
use super::{Archive, Unusable, quoted, shown};
use crate::error::{Code, Error, Result};
use crate::oci::Digest;

/// How a person says which image they mean.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ImageSelector {
    /// By digest, or the first digits of it: of the config, the manifest or the index.
    ///
    /// What has the digest is what is chosen: a manifest inside an index is pushed without that index.
    Id(String),
    /// By name, as Docker reads names: `app` is `docker.io/library/app:latest`.
    Name(String),
    /// All that a layout's index.json lists, as one image for several platforms.
    Index,
    /// There is only one.
    Only,
}

/// What is listed in an advice; more is counted. Each image costs a look at all others.
const MAX_LISTED: usize = 50;
/// Names of an image that are listed beside its option, and that are tried for one.
const MAX_NAMES: usize = 8;

/// What a name fits.
type Fits<'a> = (Vec<&'a Image>, Vec<&'a Unusable>);

impl Archive {
    /// The image that is meant, or the part of it. Where several fit, only those count that are for the platform of
    /// the part, if it is one platform's.
    ///
    /// # Errors
    /// Of [`Kind::Usage`](crate::error::Kind::Usage) if several fit or if the image has not that platform, and of
    /// [`Kind::Input`](crate::error::Kind::Input) if none fits or if the one that fits cannot be pushed. The advice
    /// lists what there is.
    pub fn select(&self, choice: &ImageSelector, part: &Selection) -> Result<Image> {
        part.of(self.choose(choice, part)?)
    }

    /// The archive with nothing in it but the image that is meant, or its one platform. It may lack what a push would miss.
    ///
    /// # Errors
    /// Those of [`Archive::select`], but for what is missing.
    pub fn narrowed(self, choice: &ImageSelector, part: &Selection) -> Result<Self> {
        let image = match part.platforms {
            Platforms::One(_) => self.select(choice, part)?,
            Platforms::All | Platforms::Present => self.choose(choice, part)?,
        };
        Ok(Self { images: vec![image], unusable: Vec::new(), ..self })
    }

    /// The image that is meant, all of it.
    fn choose(&self, choice: &ImageSelector, part: &Selection) -> Result<Image> {
        match choice {
            ImageSelector::Id(id) => self.select_id(id, part),
            ImageSelector::Name(name) => self.select_name(name, part),
            ImageSelector::Index => self.layout_index(),
            ImageSelector::Only => self.select_only(part),
        }
    }

    fn select_only(&self, part: &Selection) -> Result<Image> {
        let images = of_part(self.images.iter().collect(), part, |image| &image.content);
        if let ([image], []) = (images.as_slice(), self.unusable.as_slice()) {
            return Ok((*image).clone());
        }
        let holds = format!("{} holds {} images", self.source, self.images.len() + self.unusable.len());
        if let Platforms::One(platform) = &part.platforms
            && !images.iter().any(|image| part.is_in(&image.content))
        {
            let platforms: Vec<_> = images.iter().flat_map(|image| image.content.platforms()).collect();
            return Err(Error::usage(format!("{holds}, and none is for {platform}"))
                .code(Code::PlatformNotFound)
                .hint(choices(&platforms)));
        }
        let broken = listed(self.unusable.iter(), |it| format!("\n  ({} cannot be pushed)", it.label()));
        let all = if self.has_layout_index() { "\n  --index  (all of them, as one multi-platform image)" } else { "" };
        let options = self.options("Choose one:", images.into_iter()) + &broken + all;
        Err(Error::usage(format!("{holds}, and none is chosen")).code(Code::ImageAmbiguous).hint(options))
    }

    fn select_name(&self, name: &str, part: &Selection) -> Result<Image> {
        let (images, unusable) = self.fits(name);
        let images = of_part(images, part, |image| &image.content);
        match (images.as_slice(), unusable.as_slice()) {
            ([image], []) => Ok((*image).clone()),
            ([], [unusable]) => Err(unusable.error.clone()),
            ([], []) => self
                .referrer_as_image(|referrer| referrer.names.iter().any(|known| is_same_name(known, name)))
                .ok_or_else(|| {
                    Error::input(format!("{} holds no image {}", self.source, shown(name)))
                        .code(Code::ImageNotFound)
                        .hint(self.options("It holds:", self.images.iter()))
                }),
            (images, _) => Err(Error::usage(format!("several images of {} fit {}", self.source, shown(name)))
                .code(Code::ImageAmbiguous)
                .hint(self.options("Choose one:", images.iter().copied()))),
        }
    }

    /// What the name fits: literally, else by Docker's reading of it, else, if it names no registry, in any registry, else as
    /// the end of a name: `app:2` is `docker.io/made/app:2` where no other name ends like that.
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
        let nodes = of_part(self.nodes(&digits), part, |(_, content)| content);
        if let [(image, content)] = nodes.as_slice() {
            // A part of an index is an image of its own, and the index's names are not its names.
            let names = if std::ptr::eq(*content, &raw const image.content) { image.names.clone() } else { Vec::new() };
            return Ok(Image::new(names, (*content).clone()));
        }
        if !nodes.is_empty() {
            let ids = listed(nodes.iter(), |(_, content)| format!("\n  --image-id {}", identity(content).hex()));
            let hint = format!("Choose one:{ids}");
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
                Error::input(format!("{} holds no image with the ID {digits}", self.source))
                    .code(Code::ImageNotFound)
                    .hint(self.options("It holds:", self.images.iter()))
            },
            |unusable| unusable.error.clone(),
        ))
    }

    /// The manifests and indexes, at any depth, of which a digest starts with `digits`. Whole images come first, so
    /// that one that also is part of an index keeps its names.
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

    /// A line for each image: the option that chooses it, and what it is.
    pub(super) fn options<'a>(&self, title: &str, images: impl Iterator<Item = &'a Image>) -> String {
        let line = |image: &'a Image| {
            let platforms: Vec<_> = image.content.platforms().iter().map(ToString::to_string).collect();
            let platforms = platforms.join(", ");
            let chooses = |name: &&String| {
                // An empty or a shortened one is no use to anybody.
                if name.is_empty() || shown(name) != **name {
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
            let option =
                name.map_or_else(|| format!("--image-id {}", id()), |name| format!("--image {}", quoted(name)));
            let others = image.names.iter().filter(|other| Some(*other) != name && !other.is_empty());
            let others = others.take(MAX_NAMES).map(|other| format!("also {}", shown(other)));
            let short = name.map(|_| image.content.id().short());
            let facts: Vec<_> =
                short.into_iter().chain(Some(platforms).filter(|it| !it.is_empty())).chain(others).collect();
            format!("\n  {option}  ({})", facts.join(", "))
        };
        format!("{title}{}", listed(images, line))
    }
}

/// A line for each, as many as anybody reads, and the number of the rest.
pub(super) fn listed<T>(mut items: impl Iterator<Item = T>, line: impl Fn(T) -> String) -> String {
    let mut text: String = items.by_ref().take(MAX_LISTED).map(line).collect();
    let more = items.count();
    if more > 0 {
        text.push_str(&format!("\n  and {more} more"));
    }
    text
}

/// Of several that fit, those that have the part, unless none has.
fn of_part<T>(mut found: Vec<T>, part: &Selection, content: impl Fn(&T) -> &Content) -> Vec<T> {
    if found.len() > 1 && found.iter().any(|it| part.is_in(content(it))) {
        found.retain(|it| part.is_in(content(it)));
    }
    found
}

/// Whether two names mean the same to Docker.
pub(super) fn is_same_name(one: &str, other: &str) -> bool {
    one == other || canonical(one) == canonical(other)
}

#[cfg(test)]
thread_local! {
    /// How often a name was read, which is what a long list of them costs.
    pub(super) static NAMES_READ: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// The name with everything that Docker adds to it: `docker.io/library/app:latest`
/// (<https://pkg.go.dev/github.com/distribution/reference#ParseNormalizedNamed>). No regular expressions: to build those of
/// `oci_client::Reference` takes 12 MiB and 25 ms, more than all else that a second push does.
pub(super) fn canonical(name: &str) -> String {
    #[cfg(test)]
    NAMES_READ.set(NAMES_READ.get() + 1);
    let is_host = |first: &str| first.contains(['.', ':']) || first == "localhost";
    let (host, path) = name.split_once('/').filter(|(first, _)| is_host(first)).unwrap_or(("docker.io", name));
    let host = if host == "index.docker.io" { "docker.io" } else { host };
    let library = if host == "docker.io" && !path.contains('/') { "library/" } else { "" };
    let tag = if path.contains([':', '@']) { "" } else { ":latest" };
    format!("{host}/{library}{path}{tag}")
}

/// Whether `name`, which says no registry, is the name of `known` in whatever registry that is.
fn is_same_but_registry(known: &str, name: &str) -> bool {
    fn registry(text: &str) -> Option<(&str, &str)> {
        text.split_once('/').filter(|(first, _)| first.contains(['.', ':']) || *first == "localhost")
    }
    registry(name).is_none() && registry(known).is_some_and(|(_, bare)| is_same_name(bare, name))
}

/// Whether `name`, which names no registry, is the end of the name `known`, from the begin of one of its parts on.
fn is_end_of(known: &str, name: &str) -> bool {
    let path = canonical(&format!("localhost/{name}"));
    let end = path.strip_prefix("localhost").unwrap_or(&path);
    !name.is_empty() && canonical(known).ends_with(end)
}

/// The digest that only this manifest or index has.
fn identity(content: &Content) -> Digest {
    content.original().map_or_else(|| content.id(), |stated| stated.digest)
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
