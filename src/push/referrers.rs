//! What goes along with an image, and what its digest is: signatures hold only for what is pushed byte for byte.

use std::collections::HashSet;
use std::sync::Arc;

use super::Event;
use super::compression::{self, CompressionPolicy};
use super::options::ImageOptions;
use crate::archive::{self, Archive, Content, Image, ImageSelector, Referrer, Role, Selection};
use crate::error::{Advice, Code, Error, Result, Setting};
use crate::oci::Digest;

/// Adds the referrers to the image, if the options ask for them, and returns notes about those that are not pushed or become
/// invalid.
///
/// # Errors
/// If the image is not the expected one, or if a referrer that is wanted cannot be pushed.
pub(super) fn prepare(
    archives: &[Arc<Archive>],
    image: &mut Image,
    options: &ImageOptions,
    compression: CompressionPolicy,
) -> Result<Vec<Event>> {
    if let Some(expected) = options.expect_digest {
        expect(archives, image, expected, compression)?;
    }
    let mut notes = broken_ties(archives, image, options, compression);
    let referrers = referrers_of(archives, &unchanged(&image.content, compression));
    let count = counted(referrers.len(), "referrer (signatures, SBOMs)", "referrers (signatures, SBOMs)");
    let are = if referrers.len() == 1 { "is" } else { "are" };
    match (options.referrers, referrers.is_empty()) {
        (true, true) => {
            notes.push(Event::Warning("the archive has no referrers of this image that fit what is pushed".into()));
        }
        (true, false) => notes.push(Event::Note(format!("{count} of this image {are} pushed with it"))),
        (false, true) => {}
        (false, false) => {
            notes.push(Event::Note(format!(
                "{count} of this image {are} in the archive; {} pushes them",
                Setting::new("referrers")
            )));
        }
    }
    if options.referrers {
        let unusable = |error: Error| {
            Error::input("a referrer of the image cannot be pushed")
                .code(Code::ArchiveIncomplete)
                .because(error)
                .hint("Save the image with its signatures again, or push it without referrers.")
        };
        image.referrers = referrers
            .into_iter()
            .map(|it| it.cloned().map_err(|error| unusable(error.clone())))
            .collect::<Result<_>>()?;
    }
    Ok(notes)
}

/// Compares what will be tagged with what was expected.
fn expect(archives: &[Arc<Archive>], image: &Image, expected: Digest, compression: CompressionPolicy) -> Result<()> {
    let is_packed = compression::is_compressed(&image.content, compression);
    let put = if is_packed { None } else { archive::unchanged(&image.content)? };
    let error = match put {
        Some(put) if put.digest == expected => return Ok(()),
        Some(put) if is_repaired(&image.content) => {
            Error::input(format!("the repair changes the digest to {}, and {expected} is expected", put.digest))
                .code(Code::DigestMismatch)
        }
        Some(put) => {
            Error::input(format!("the image has the digest {}, not {expected}", put.digest)).code(Code::DigestMismatch)
        }
        None => {
            let name = image.names.first().map_or_else(|| "the image".to_owned(), ToString::to_string);
            Error::input(format!("cannot check the digest of {name}: compressing the layers changes it"))
                .code(Code::DigestMismatch)
        }
    };
    let is_config = image.content.manifests().iter().any(|manifest| manifest.config.digest == expected);
    let selector = ImageSelector::Id(expected.hex());
    let is_elsewhere = || archives.iter().any(|archive| archive.select(&selector, &Selection::default()).is_ok());
    Err(if is_config {
        error.hint("That is an image ID, the digest of a config. Expect the digest of the manifest or index instead.")
    } else if is_repaired(&image.content) {
        error.hint("Push it without the repair, or expect the new digest.")
    } else if is_packed && !compression::is_compressed(&image.content, CompressionPolicy::Keep) {
        error.hint(
            Advice::new("Push the image unchanged, with the digest in the archive").setting_with("compression", "keep"),
        )
    } else if image.part_of.contains(&expected) {
        error.hint("That is the archive's whole index, of which only a part is selected.")
    } else if image.content.original().is_none() {
        error.hint("Such an archive states no digest. Expect none, or push an OCI layout.")
    } else if is_elsewhere() {
        error.hint(Advice::new("The archive has that one, too").setting_with("image-id", expected.hex()))
    } else {
        error.hint("Nothing was pushed.")
    })
}

/// Returns the digests of what is pushed unchanged.
fn unchanged(content: &Content, compression: CompressionPolicy) -> Vec<Digest> {
    let unchanged = content.all().into_iter().filter(|content| !compression::is_rewritten(content, compression));
    unchanged.filter_map(|content| Some(content.original()?.digest)).collect()
}

/// Returns notes about referrers of digests that are not pushed: a part is selected, layers are compressed, or a manifest is
/// repaired.
fn broken_ties(
    archives: &[Arc<Archive>],
    image: &Image,
    options: &ImageOptions,
    compression: CompressionPolicy,
) -> Vec<Event> {
    let mut notes = Vec::new();
    for index in &image.part_of {
        let count = referrers_of(archives, &[*index]).len();
        let referrers = counted(count, "referrer", "referrers");
        let text = format!("not pushed: {referrers} of the index {}", index.short());
        if count > 0 {
            notes.push(if options.referrers { Event::Warning(text) } else { Event::Note(text) });
        }
    }
    let (all, mut reported) = (image.content.all(), HashSet::new());
    for content in all.iter().filter(|content| compression::is_rewritten(content, compression)) {
        let Some(stated) = content.original() else { continue };
        // An index may list a manifest twice.
        if !reported.insert(stated.digest) {
            continue;
        }
        let role = Role::Attestation(Some(stated.digest));
        let listed = all.iter().flat_map(|content| match content {
            Content::Manifest(_) => &[],
            Content::Index(index) => index.children.as_slice(),
        });
        let about = listed.filter(|child| child.role == role).filter_map(|child| child.content.digest());
        let about: HashSet<Digest> = about.collect();
        let attestations = about.len();
        // An attestation may have it for its subject besides.
        let is_other = |it: &Referrer| it.content.digest().is_none_or(|digest| !about.contains(&digest));
        let referrers = referrers_of(archives, &[stated.digest]).into_iter();
        let referrers = referrers.filter(|it| it.map_or(true, is_other)).count();
        let mut ties = Vec::new();
        if referrers > 0 {
            ties.push(counted(referrers, "referrer", "referrers"));
        }
        if attestations > 0 {
            ties.push(counted(attestations, "attestation", "attestations"));
        }
        if let Some(subject) = stated.subject {
            ties.push(format!("its link to {}", subject.short()));
        }
        if !ties.is_empty() {
            let (digest, ties) = (stated.digest.short(), ties.join(", "));
            notes.push(Event::Warning(if is_repaired(content) {
                format!("the repair changes {digest}, which invalidates what refers to it: {ties}")
            } else {
                format!(
                    "compressing layers changes {digest}, which invalidates what refers to it: {ties}; {} leaves \
                     it unchanged",
                    Setting::with("compression", "keep")
                )
            }));
        }
    }
    notes
}

/// Returns the referrers of these digests in all archives, each once.
fn referrers_of<'a>(archives: &'a [Arc<Archive>], digests: &[Digest]) -> Vec<Result<&'a Referrer, &'a Error>> {
    let (mut found, mut known) = (Vec::new(), HashSet::new());
    for referrer in archives.iter().flat_map(|archive| archive.referrers(digests)) {
        if referrer.map_or(true, |it| it.content.digest().is_none_or(|digest| known.insert((it.tag.as_ref(), digest))))
        {
            found.push(referrer);
        }
    }
    found
}

/// Whether a manifest below was corrected.
fn is_repaired(content: &Content) -> bool {
    content.manifests().into_iter().any(|manifest| manifest.repaired.is_some())
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
