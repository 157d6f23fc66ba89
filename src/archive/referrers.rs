//! Referrers of an image: signatures, SBOMs, attestations.
//!
//! A layout expresses them in four ways:
//!
//! - a manifest has a `subject`; index.json lists the manifest, or does not, as with cosign 3;
//! - its tag in index.json contains the digest of the subject: `sha256-HEX.sig`, `.att`, `.sbom`
//!   (<https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md>);
//! - its entry in index.json has `"kind": "dev.cosignproject.cosign/sigs"` and no tag: `cosign save` writes one image with
//!   its referrers (<https://github.com/sigstore/cosign/blob/main/pkg/oci/layout/write.go>);
//! - an index with the tag `sha256-HEX` lists it by the referrers tag schema, for registries without the referrers API
//!   (<https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#referrers-tag-schema>).
//!
//! A referrer whose subject is not in the archive counts as an image.

use std::collections::{HashSet, VecDeque};
use std::ptr;

use super::contents::{Archive, Fault, ReferrerIndex, Root};
use super::model::{Child, Content, Image, Index, Provenance, Referrer};
use crate::error::{Code, Error, Result};
use crate::oci::{Digest, Tag};

/// The kinds of referrers in `cosign save`, each with the suffix of its tag.
const KINDS: [(&str, &str); 3] = [
    ("dev.cosignproject.cosign/sigs", "sig"),
    ("dev.cosignproject.cosign/atts", "att"),
    ("dev.cosignproject.cosign/sboms", "sbom"),
];
/// The kinds of signed images in `cosign save`.
const SIGNED: [&str; 2] = ["dev.cosignproject.cosign/image", "dev.cosignproject.cosign/imageIndex"];

impl Archive {
    /// Returns the direct and indirect referrers of these digests, each after its subject; for one that cannot be pushed, the
    /// reason. Referrers that are among the digests are omitted.
    pub fn referrers(&self, subjects: &[Digest]) -> Vec<Result<&Referrer, &Error>> {
        let mut found = Vec::new();
        let given: HashSet<Digest> = subjects.iter().copied().collect();
        let is_given = |referrer: &Referrer| referrer.content.digest().is_some_and(|digest| given.contains(&digest));
        let (mut subjects, mut seen) = (VecDeque::from(subjects.to_vec()), HashSet::new());
        while let Some(subject) = subjects.pop_front() {
            // Each subject once, so that circular tags end, too.
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

    /// Returns the referrers of an image and of its parts.
    pub fn referrers_of(&self, image: &Image) -> Vec<Result<&Referrer, &Error>> {
        self.referrers(&digests(&image.content))
    }

    /// Returns the referrers of all images, each once, with the position of the first image that it refers to: thousands of
    /// images may share thousands of referrers.
    pub fn referrers_of_all(&self) -> Vec<(usize, Result<&Referrer, &Error>)> {
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for (at, image) in self.images.iter().enumerate() {
            for it in self.referrers_of(image) {
                let identity = match it {
                    Ok(referrer) => ptr::from_ref(referrer).cast::<()>(),
                    Err(error) => ptr::from_ref(error).cast(),
                };
                if seen.insert(identity) {
                    found.push((at, it));
                }
            }
        }
        found
    }

    /// Returns the only referrer that `matches` accepts, as an image.
    pub(super) fn referrer_as_image(&self, matches: impl Fn(&Referrer) -> bool) -> Option<Image> {
        let mut found = self.referrers.values().flatten().flatten().filter(|referrer| matches(referrer));
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
    // If all refer to each other, none of them is a referrer.
    let is_circle = claims.iter().all(Option::is_some);
    for (root, claim) in roots.into_iter().zip(claims) {
        match claim.filter(|_| !is_circle) {
            Some(claim) => referrers.add_root(root, claim),
            None => images.push(root),
        }
    }
    // An entry of an index may refer to another one: BuildKit's attestations in the form of OCI artifacts.
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
            referrers.add_root(root, claim);
        }
    }
    (images, referrers.index)
}

/// The subject of a root.
struct Claim {
    subject: Digest,
    /// How clients find the root by its subject.
    kind: ClaimKind,
}

enum ClaimKind {
    /// By its `subject`.
    Subject,
    /// By this tag.
    Tag(Tag),
    /// It is a list of referrers, not one itself.
    List,
}

impl Root {
    fn kind(&self) -> Option<&str> {
        self.descriptor.annotation("kind")
    }

    /// Returns the subject of the root, if it has one; `signed` is the image of `cosign save`.
    fn claim(&self, signed: Option<Digest>) -> Option<Claim> {
        let by_name = self.names.iter().find_map(|name| named(name));
        let by_kind = || {
            let (_, suffix) = KINDS.iter().find(|(kind, _)| self.kind() == Some(kind))?;
            let subject = signed?;
            let tag = format!("sha256-{}.{suffix}", subject.hex()).parse().ok()?;
            Some(Claim { subject, kind: ClaimKind::Tag(tag) })
        };
        let by_subject = || Some(Claim { subject: self.subject?, kind: ClaimKind::Subject });
        by_name.or_else(by_kind).or_else(by_subject)
    }
}

/// Returns the subject in the tag of a name.
fn named(name: &str) -> Option<Claim> {
    let tag = name.rsplit(':').next()?;
    let rest = tag.strip_prefix("sha256-")?;
    let (hex, suffix) = rest.split_once('.').map_or((rest, None), |(hex, suffix)| (hex, Some(suffix)));
    let subject = format!("sha256:{hex}").parse().ok()?;
    let kind = match suffix {
        None => ClaimKind::List,
        Some(suffix) if KINDS.iter().any(|(_, known)| *known == suffix) => ClaimKind::Tag(tag.parse().ok()?),
        Some(_) => return None,
    };
    Some(Claim { subject, kind })
}

/// The referrers found so far.
#[derive(Default)]
struct Referrers {
    index: ReferrerIndex,
    /// The tags and digests of those in the index.
    known: HashSet<(Option<String>, Digest)>,
}

impl Referrers {
    /// Adds a root, or the referrers that it lists; each once.
    fn add_root(&mut self, root: Root, claim: Claim) {
        let Claim { subject, kind } = claim;
        let names = root.names.into_iter().filter(|name| !name.contains(char::is_control)).collect();
        let read = root.read.map_err(Fault::into_error).and_then(complete);
        match (kind, read) {
            (ClaimKind::List, Ok(Content::Index(index))) => {
                for Child { content, .. } in index.children {
                    let subject = content.original().and_then(|stated| stated.subject).unwrap_or(subject);
                    self.add(subject, None, Vec::new(), content);
                }
                let absent = index.absent.into_iter().map(|absent| Err(absent.error));
                self.index.entry(subject).or_default().extend(absent);
            }
            (ClaimKind::Tag(tag), Ok(content)) => self.add(subject, Some(tag), names, content),
            (ClaimKind::Subject | ClaimKind::List, Ok(content)) => self.add(subject, None, names, content),
            (_, Err(error)) => self.index.entry(subject).or_default().push(Err(error)),
        }
    }

    fn add(&mut self, subject: Digest, tag: Option<Tag>, names: Vec<String>, mut content: Content) {
        if content.digest().is_none_or(|digest| self.known.insert((tag.as_ref().map(ToString::to_string), digest))) {
            content.manifests_mut().into_iter().for_each(|manifest| manifest.provenance = Provenance::Referrer);
            self.index.entry(subject).or_default().push(Ok(Referrer { subject, names, tag, content }));
        }
    }
}

/// Checks that the archive contains every layer: a referrer cannot be pushed in part.
fn complete(content: Content) -> Result<Content> {
    let layers = content.manifests().into_iter().flat_map(|manifest| &manifest.layers);
    let Some(layer) = layers.into_iter().find(|layer| layer.bytes.is_missing()) else { return Ok(content) };
    Err(Error::input(format!("the archive does not contain {}, which a referrer lists as a layer", layer.name))
        .code(Code::ArchiveIncomplete)
        .hint("Save the image again, with its referrers."))
}

/// Returns the digests of the manifests and indexes that can be pushed.
fn digests(content: &Content) -> Vec<Digest> {
    content.all().into_iter().filter_map(Content::digest).collect()
}

/// Returns all digests that a root lists, including those that the archive does not contain.
fn listed(root: &Root) -> Vec<Digest> {
    let mut listed: Vec<Digest> = root.descriptor.digest.sha256().into_iter().collect();
    if let Ok(content) = &root.read {
        listed.extend(digests(content));
        listed.extend(content.index().into_iter().flat_map(Index::absent).map(|absent| absent.digest));
    }
    listed
}
