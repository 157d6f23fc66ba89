//! Selection of an image of an archive.
//!
//! It never guesses: if several images match, the error lists them, each with the option that selects it.

use super::contents::{Archive, Unusable};
use super::image_name::{is_end_of, is_same_but_registry, is_same_name};
use super::model::{Content, Image, Referrer};
use super::selection::{Platforms, Selection, platform_advice};
use super::shell::quoted;
use crate::error::{Advice, Code, Error, Result, shown};
use crate::oci::Digest;

/// How an image of an archive is selected.
///
/// ```
/// # use ecr_push::sandbox::{self, Sandbox};
/// use ecr_push::{CancellationToken, Code, ImageSelector, Options, PushRequest, Pusher, Source};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> ecr_push::Result<()> {
/// # let create = vec!["team/app".parse()?];
/// # let sandbox = Sandbox::start(sandbox::Options { create, ..Default::default() }).await?;
/// # let mut options = Options::default();
/// # options.registries.access = sandbox.endpoint_override().into();
/// let pusher = Pusher::builder().options(options).start().await?;
/// let archive = Source::Path("testdata/docker-20.10-save-many.tar".into());
/// let mut request = PushRequest::new(archive, ["team/app:1".parse()?]);
///
/// // The archive contains two images.
/// let outcome = pusher.push(request.clone(), CancellationToken::new()).await;
/// let error = outcome.error().expect("none is selected");
/// assert_eq!(error.stable_code(), Code::ImageAmbiguous);
/// assert!(error.advice().is_some_and(|advice| advice.to_string().contains("--image localhost/fixture/base:1")));
///
/// request.image.selector = ImageSelector::Name("base:1".into());
/// let outcome = pusher.push(request, CancellationToken::new()).await.into_result()?;
/// assert_eq!(outcome.image.unwrap().names, ["localhost/fixture/base:1"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum ImageSelector {
    /// By the digest of the config, the manifest or the index, or its first digits. A manifest inside an index is selected
    /// without that index.
    Id(String),
    /// By name, by Docker's rules: `app` is `docker.io/library/app:latest`.
    Name(String),
    /// All images of a layout's index.json, as one multi-platform image.
    Index,
    /// The only image.
    #[default]
    Only,
}

/// The limit for images in advice that cannot be pushed.
const MAX_BROKEN: usize = 10;
/// The limit for names of one image in advice.
const MAX_NAMES: usize = 8;

/// The images that a name matches.
type Matches<'a> = (Vec<&'a Image>, Vec<&'a Unusable>);

impl Archive {
    /// Returns the selected image, or the selected part of it. If several match, those for the selected platform are
    /// preferred.
    ///
    /// # Errors
    /// Of [`Kind::Usage`](crate::error::Kind::Usage) if several match or if the image is not for that platform, and of
    /// [`Kind::Input`](crate::error::Kind::Input) if none matches or if the one that matches cannot be pushed. The advice
    /// lists the images.
    pub fn select(&self, selector: &ImageSelector, selection: &Selection) -> Result<Image> {
        let mut image = self.select_whole(selector, selection)?;
        self.load(&mut image)?;
        selection.of(image)
    }

    /// Returns the archive with only the selected image, or its selected platform. The image may be incomplete.
    ///
    /// # Errors
    /// Those of [`Archive::select`], except that content is missing.
    pub fn narrowed(self, selector: &ImageSelector, selection: &Selection) -> Result<Self> {
        let image = match selection.platforms {
            Platforms::One(_) => self.select(selector, selection)?,
            Platforms::All | Platforms::Present => self.select_whole(selector, selection)?,
        };
        Ok(self.with_only(image))
    }

    /// Returns the whole selected image.
    fn select_whole(&self, selector: &ImageSelector, selection: &Selection) -> Result<Image> {
        match selector {
            ImageSelector::Id(id) => self.select_id(id, selection),
            ImageSelector::Name(name) => self.select_name(name, selection),
            ImageSelector::Index => self.layout_index(),
            ImageSelector::Only => self.select_only(selection),
        }
    }

    fn select_only(&self, selection: &Selection) -> Result<Image> {
        let images = with_platform(self.images.iter().collect(), selection, |image| &image.content);
        if let ([image], []) = (images.as_slice(), self.unusable.as_slice()) {
            return Ok((*image).clone());
        }
        let contains = format!("{} contains {} images", self.source, self.images.len() + self.unusable.len());
        if let Platforms::One(platform) = &selection.platforms
            && !images.iter().any(|image| selection.is_in(&image.content))
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

    fn select_name(&self, name: &str, selection: &Selection) -> Result<Image> {
        let (images, unusable) = self.matches(name);
        let images = with_platform(images, selection, |image| &image.content);
        match (images.as_slice(), unusable.as_slice()) {
            ([image], []) => Ok((*image).clone()),
            ([], [unusable]) => Err(unusable.error.clone()),
            ([], []) => self
                .referrer_as_image(|referrer| referrer.names.iter().any(|known| is_same_name(known, name)))
                .ok_or_else(|| self.not_found(&shown(name))),
            (images, _) => Err(Error::usage(format!("several images of {} match {}", self.source, shown(name)))
                .code(Code::ImageAmbiguous)
                .hint(self.options("Select one:", images.iter().copied()))),
        }
    }

    /// Returns the images that the name matches: literally, else by Docker's rules, else, if it has no registry, in any
    /// registry, else as the end of a name: `app:2` is `docker.io/made/app:2` if no other name ends like that.
    fn matches(&self, name: &str) -> Matches<'_> {
        let rules: [fn(&str, &str) -> bool; 4] =
            [|known, name| known == name, is_same_name, is_same_but_registry, is_end_of];
        for rule in rules {
            let matches = |names: &[String]| names.iter().any(|known| rule(known, name));
            let images: Vec<_> = self.images.iter().filter(|image| matches(&image.names)).collect();
            let unusable: Vec<_> = self.unusable.iter().filter(|it| matches(&it.names)).collect();
            if !images.is_empty() || !unusable.is_empty() {
                return (images, unusable);
            }
        }
        (Vec::new(), Vec::new())
    }

    fn select_id(&self, id: &str, selection: &Selection) -> Result<Image> {
        let digits = id.strip_prefix("sha256:").unwrap_or(id).to_ascii_lowercase();
        if !(2..=64).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(Error::invalid(format!("{:?} is not an image ID", shown(id)))
                .hint("An ID is 64 hex digits, or the first few of them; `sha256:` may be in front."));
        }
        let nodes = with_platform(self.nodes(&digits), selection, |(_, content)| content);
        if let [(image, content)] = nodes.as_slice() {
            // A part of an index does not have the names of the index.
            let names = if std::ptr::eq(*content, &raw const image.content) { image.names.clone() } else { Vec::new() };
            return Ok(Image::new(names, (*content).clone()));
        }
        if !nodes.is_empty() {
            let hint = Advice::new("Select one:")
                .choices(nodes.iter(), |(_, content)| ("image-id", Some(content.identity().hex()), String::new()));
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
        Err(unusable
            .map_or_else(|| self.not_found(&format!("with the ID {digits}")), |unusable| unusable.error.clone()))
    }

    fn not_found(&self, which: &str) -> Error {
        Error::input(format!("{} contains no image {which}", self.source))
            .code(Code::ImageNotFound)
            .hint(self.options("It contains:", self.images.iter()))
    }

    /// Returns the manifests and indexes, at any depth, one of whose digests starts with `digits`. Whole images come first, so
    /// that one that is also part of an index keeps its names.
    fn nodes(&self, digits: &str) -> Vec<(&Image, &Content)> {
        // A whole digest is looked up: each of thousands of images may be selected.
        let whole_digest: Option<Digest> = format!("sha256:{digits}").parse().ok();
        let images: Vec<&Image> = match &whole_digest {
            Some(digest) => self.images_with(digest),
            None => self.images.iter().collect(),
        };
        let whole = images.iter().map(|image| (*image, &image.content));
        let parts = images.iter().flat_map(|image| image.content.all().into_iter().skip(1).map(|it| (*image, it)));
        let mut found: Vec<(&Image, &Content)> = Vec::new();
        let is_meant =
            |digest: Digest| whole_digest.map_or_else(|| digest.hex().starts_with(digits), |it| it == digest);
        for (image, content) in whole.chain(parts) {
            let is_known = || found.iter().any(|(_, known)| known.identity() == content.identity());
            if digests(content).any(is_meant) && !is_known() {
                found.push((image, content));
            }
        }
        // An image without a manifest has no other ID than that of its config, which those with a manifest may share.
        let is_it = |(_, content): &(&Image, &Content)| Some(content.identity()) == whole_digest;
        match found.iter().copied().find(is_it) {
            Some(it) => vec![it],
            None => found,
        }
    }

    /// Returns advice that lists images: the option that selects each, its platforms and other names.
    pub(super) fn options<'a>(&self, title: &str, images: impl Iterator<Item = &'a Image>) -> Advice {
        let choice = |image: &'a Image| {
            let platforms: Vec<_> = image.content.platforms().iter().map(ToString::to_string).collect();
            let platforms = platforms.join(", ");
            let is_unique = |name: &&String| {
                // A shortened name cannot be used.
                shown(name) == **name
                    && matches!(self.matches(name), (images, unusable) if images.len() == 1 && unusable.is_empty())
            };
            let name = image.names.iter().take(MAX_NAMES).find(is_unique);
            let id = || {
                let short = image.content.id().hex()[..12].to_owned();
                if self.nodes(&short).len() == 1 { short } else { image.content.identity().hex() }
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

/// Returns those of several matches that have the selected platform, or all if none has it.
fn with_platform<T>(mut found: Vec<T>, selection: &Selection, content: impl Fn(&T) -> &Content) -> Vec<T> {
    if found.len() > 1 && found.iter().any(|it| selection.is_in(content(it))) {
        found.retain(|it| selection.is_in(content(it)));
    }
    found
}

fn digests(content: &Content) -> impl Iterator<Item = Digest> {
    [content.id(), content.identity()].into_iter()
}
