//! What refers to an image and is not part of it: signatures, SBOMs, attestations.
//!
//! A layout has four ways to express that:
//!
//! - a manifest has a `subject`, and index.json names it, or nothing does, as in what cosign 3 saves;
//! - the tag that index.json gives it names a digest: `sha256-HEX.sig`, `.att`, `.sbom`
//!   (<https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md>);
//! - index.json says `"kind": "dev.cosignproject.cosign/sigs"` and no tag: `cosign save` writes one image, and beside it
//!   its referrers (<https://github.com/sigstore/cosign/blob/main/pkg/oci/layout/write.go>);
//! - an index with the tag `sha256-HEX` lists it: the referrers tag schema, for registries without the referrers API
//!   (<https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#referrers-tag-schema>).
//!
//! What refers to something that the archive does not contain is an image of its own.

use std::collections::{HashSet, VecDeque};
use std::ptr;

use super::contents::{Archive, ReferrerIndex};
use super::model::{Child, Content, Image, Provenance, Referrer};
use super::root::{Fault, Root};
use crate::error::{Code, Error, Result};
use crate::oci::{Digest, Tag};

/// The kinds of `cosign save`, each with the end of the tag that it had.
const KINDS: [(&str, &str); 3] = [
    ("dev.cosignproject.cosign/sigs", "sig"),
    ("dev.cosignproject.cosign/atts", "att"),
    ("dev.cosignproject.cosign/sboms", "sbom"),
];
/// The kinds of what `cosign save` signed.
const SIGNED: [&str; 2] = ["dev.cosignproject.cosign/image", "dev.cosignproject.cosign/imageIndex"];

impl Archive {
    /// Returns what refers to one of these digests, directly or not, each after its subject; in place of one that cannot be
    /// pushed, the reason. What is among the digests is left out.
    pub fn referrers(&self, subjects: &[Digest]) -> Vec<Result<&Referrer, &Error>> {
        let mut found = Vec::new();
        let given: HashSet<Digest> = subjects.iter().copied().collect();
        let is_given = |referrer: &Referrer| referrer.content.digest().is_some_and(|digest| given.contains(&digest));
        let (mut subjects, mut seen) = (VecDeque::from(subjects.to_vec()), HashSet::new());
        while let Some(subject) = subjects.pop_front() {
            // Each subject once, so it ends, whatever tags claim.
            if seen.insert(subject) {
                let referrers = self.referrers.get(&subject).into_iter().flatten().map(Result::as_ref);
                for it in referrers.filter(|it| !it.is_ok_and(is_given)) {
                    subjects.extend(it.iter().flat_map(|referrer| digests(&referrer.content)));
                    found.push(it);
                }
            }
        }
        found
    }

    /// Returns what refers to an image or to a part of it.
    pub fn referrers_of(&self, image: &Image) -> Vec<Result<&Referrer, &Error>> {
        self.referrers(&digests(&image.content))
    }

    /// Returns what refers to the images, each once, with the index of the first image that it refers to: thousands of
    /// images may have thousands of referrers in common.
    pub fn referrers_of_all(&self) -> Vec<(usize, Result<&Referrer, &Error>)> {
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for (at, image) in self.images.iter().enumerate() {
            for it in self.referrers_of(image) {
                let place = match it {
                    Ok(referrer) => ptr::from_ref(referrer).cast::<()>(),
                    Err(error) => ptr::from_ref(error).cast(),
                };
                if seen.insert(place) {
                    found.push((at, it));
                }
            }
        }
        found
    }

    /// Returns the one referrer that fits, as an image of its own.
    pub(super) fn referrer_as_image(&self, fits: impl Fn(&Referrer) -> bool) -> Option<Image> {
        let mut found = self.referrers.values().flatten().flatten().filter(|referrer| fits(referrer));
        let first = found.next()?;
        found
            .all(|it| it.content.digest() == first.content.digest())
            .then(|| Image::new(first.names.clone(), first.content.clone()))
    }
}

/// Separates images from their referrers.
pub(super) fn separate(roots: Vec<Root>, unlisted: Vec<Root>) -> (Vec<Root>, ReferrerIndex) {
    let known: HashSet<Digest> = roots.iter().chain(&unlisted).flat_map(listed).collect();
    let mut signed = roots.iter().filter(|root| root.kind().is_some_and(|kind| SIGNED.contains(&kind)));
    let signed = signed.next().filter(|_| signed.next().is_none()).and_then(|root| root.descriptor.digest.sha256());
    let (mut images, mut referrers) = (Vec::new(), Referrers::default());
    let claim = |root: &Root| {
        let is_here =
            |claim: &Claim| known.contains(&claim.subject) && Some(claim.subject) != root.descriptor.digest.sha256();
        root.claim(signed).filter(is_here)
    };
    let claims: Vec<_> = roots.iter().map(claim).collect();
    // Of those that name each other and nothing else, none is the subject.
    let is_circle = claims.iter().all(Option::is_some);
    for (root, claim) in roots.into_iter().zip(claims) {
        match claim.filter(|_| !is_circle) {
            Some(claim) => referrers.file(root, claim),
            None => images.push(root),
        }
    }
    // What an index lists may refer to something else in it, too: BuildKit's attestations, as OCI artifacts.
    for root in &images {
        for content in root.read.iter().flat_map(Content::all).skip(1) {
            if let Some(subject) = content.original().and_then(|stated| stated.subject).filter(|it| known.contains(it))
            {
                referrers.add(subject, None, Vec::new(), content.clone());
            }
        }
    }
    for root in unlisted {
        if let Some(claim) = root.claim(None) {
            referrers.file(root, claim);
        }
    }
    (images, referrers.index)
}

/// The subject that something claims to have.
struct Claim {
    subject: Digest,
    /// How it is found by the subject.
    place: Place,
}

enum Place {
    /// By its `subject`.
    Subject,
    /// By this tag.
    Tag(Tag),
    /// It is not a referrer, but lists them.
    List,
}

impl Root {
    fn kind(&self) -> Option<&str> {
        self.descriptor.annotation("kind")
    }

    /// Returns the subject that it claims; `signed` is what cosign saved.
    fn claim(&self, signed: Option<Digest>) -> Option<Claim> {
        let by_name = self.names.iter().find_map(|name| named(name));
        let by_kind = || {
            let (_, suffix) = KINDS.iter().find(|(kind, _)| self.kind() == Some(kind))?;
            let subject = signed?;
            let tag = format!("sha256-{}.{suffix}", subject.hex()).parse().ok()?;
            Some(Claim { subject, place: Place::Tag(tag) })
        };
        let by_subject = || Some(Claim { subject: self.subject?, place: Place::Subject });
        by_name.or_else(by_kind).or_else(by_subject)
    }
}

/// Returns the subject that a name's tag claims.
fn named(name: &str) -> Option<Claim> {
    let tag = name.rsplit(':').next()?;
    let rest = tag.strip_prefix("sha256-")?;
    let (hex, suffix) = rest.split_once('.').map_or((rest, None), |(hex, suffix)| (hex, Some(suffix)));
    let subject = format!("sha256:{hex}").parse().ok()?;
    let place = match suffix {
        None => Place::List,
        Some(suffix) if KINDS.iter().any(|(_, known)| *known == suffix) => Place::Tag(tag.parse().ok()?),
        Some(_) => return None,
    };
    Some(Claim { subject, place })
}

/// The referrers found so far.
#[derive(Default)]
struct Referrers {
    index: ReferrerIndex,
    /// The tags and digests of those in the index.
    known: HashSet<(Option<String>, Digest)>,
}

impl Referrers {
    /// Adds what `root` is, or lists, under the subject that it claims; each once.
    fn file(&mut self, root: Root, claim: Claim) {
        let Claim { subject, place } = claim;
        let names = root.names.into_iter().filter(|name| !name.contains(char::is_control)).collect();
        let read = root.read.map_err(Fault::into_error).and_then(whole);
        match (place, read) {
            (Place::List, Ok(Content::Index(index))) => {
                for Child { content, .. } in index.children {
                    let subject = content.original().and_then(|stated| stated.subject).unwrap_or(subject);
                    self.add(subject, None, Vec::new(), content);
                }
                let absent = index.absent.into_iter().map(|absent| Err(absent.error));
                self.index.entry(subject).or_default().extend(absent);
            }
            (Place::Tag(tag), Ok(content)) => self.add(subject, Some(tag), names, content),
            (Place::Subject | Place::List, Ok(content)) => self.add(subject, None, names, content),
            (_, Err(error)) => self.index.entry(subject).or_default().push(Err(error)),
        }
    }

    fn add(&mut self, subject: Digest, tag: Option<Tag>, names: Vec<String>, mut content: Content) {
        if content.digest().is_none_or(|digest| self.known.insert((tag.as_ref().map(ToString::to_string), digest))) {
            keep_unchanged(&mut content);
            self.index.entry(subject).or_default().push(Ok(Referrer { subject, names, tag, content }));
        }
    }
}

/// Checks that the archive contains every layer: a referrer is pushed as a whole.
fn whole(content: Content) -> Result<Content> {
    let layers = content.manifests().into_iter().flat_map(|manifest| &manifest.layers);
    match layers.into_iter().find(|layer| layer.bytes.is_missing()).map(|layer| layer.name.clone()) {
        Some(name) => {
            let error = Error::input(format!("the archive does not contain {name}, which a referrer lists as a layer"));
            Err(error.code(Code::ArchiveIncomplete).hint("Save the image again, with its referrers."))
        }
        None => Ok(content),
    }
}

fn keep_unchanged(content: &mut Content) {
    match content {
        Content::Manifest(manifest) => manifest.provenance = Provenance::Referrer,
        Content::Index(index) => index.children.iter_mut().for_each(|child| keep_unchanged(&mut child.content)),
    }
}

/// Returns the digests of everything that can be pushed of it.
fn digests(content: &Content) -> Vec<Digest> {
    content.all().into_iter().filter_map(Content::digest).collect()
}

/// Returns all digests that a root names, whether the archive contains them or not.
fn listed(root: &Root) -> Vec<Digest> {
    let mut listed: Vec<Digest> = root.descriptor.digest.sha256().into_iter().collect();
    if let Ok(content) = &root.read {
        listed.extend(digests(content));
        if let Content::Index(index) = content {
            listed.extend(index.absent().iter().map(|absent| absent.digest));
        }
    }
    listed
}
