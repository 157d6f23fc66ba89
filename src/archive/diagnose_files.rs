//! Diagnosis of a tar or a folder that is not an image archive, by its file names.

use super::diagnose_bytes::SUPPORTED;
use super::document::{MAX_LIST, SavedImage, parse};
use super::file_names::{BLOBS, INDEX_JSON, MANIFEST_JSON, OCI_LAYOUT};
use super::files::{Folder, Place};
use super::shell::quoted;
use super::source::Source;
use super::tar_index::TarIndex;
use crate::error::{Advice, Code, Error, shown};

const BUILD_FIRST: &str = "This looks like what an image is built from. Build it first, into an archive.";

/// Returns the error that no archive format matches.
pub(super) fn unrecognized(source: &Source, place: &Place) -> Error {
    match place {
        Place::Folder(folder) => unrecognized_folder(folder),
        Place::Tar(index) if index.has_end_mark() => unrecognized_tar(source, index),
        Place::Tar(index) => {
            index.cut_off(source, "it has no end mark, and neither manifest.json nor index.json with oci-layout")
        }
    }
}

/// Returns advice to load an archive with the command `load`, and to save its image again.
pub(super) fn resave(text: &str, load: &str) -> Advice {
    Advice::new(text).command(format!("{load} && docker save -o image.tar IMAGE"))
}

/// Returns advice about an archive without manifest.json.
fn resave_old_format(load: &str) -> Advice {
    resave("Docker 1.9 or older wrote it, without manifest.json. Load it into a newer Docker and save it again:", load)
}

fn unrecognized_folder(folder: &Folder) -> Error {
    let path = folder.path().display().to_string();
    let error = Error::input(format!("the folder {path} is not an OCI layout: it has no file oci-layout"))
        .code(Code::ArchiveUnrecognized);
    let (has, quoted) = (|name: &str| folder.path().join(name).exists(), quoted(&path));
    if has(MANIFEST_JSON) {
        error.hint(
            Advice::new("This looks like an extracted `docker save`. Archive it again:")
                .command(format!("tar -C {quoted} -cf image.tar .")),
        )
    } else if has("repositories") {
        error.hint(resave_old_format(&format!("tar -C {quoted} -c . | docker load")))
    } else if has("Dockerfile") || has("Containerfile") {
        error.hint(BUILD_FIRST)
    } else {
        error.hint(
            "Use the folder that holds oci-layout, index.json and blobs/, one that skopeo wrote with `dir:`, or a tar \
             written by `docker save`.",
        )
    }
}

fn unrecognized_tar(source: &Source, index: &TarIndex) -> Error {
    let mut names: Vec<_> = index.names().collect();
    names.sort_unstable();
    let has = |name: &str| names.binary_search(&name).is_ok();
    if has(INDEX_JSON) {
        return Error::input(format!("{source} is an incomplete OCI layout: it has index.json, but no oci-layout"))
            .code(Code::ArchiveIncomplete)
            .hint("Save the image again.");
    }
    let error =
        Error::input(format!("{source} is a tar, but not of an image: it has neither manifest.json nor index.json"))
            .code(Code::ArchiveUnrecognized);
    // Standard input has no path.
    let archive = if *source == Source::StandardInput { " ARCHIVE".to_owned() } else { source.operand() };
    match nested(&names, index) {
        Some(folder) => {
            let (folder, quoted) = (shown(folder), quoted(folder));
            let text =
                format!("The image is in the folder {folder}/ of the tar. Extract it, and archive that folder alone:");
            error.hint(Advice::new(text).command(format!("tar -xf{archive} && tar -C {quoted} -cf image.tar .")))
        }
        None if has("repositories") => error.hint(resave_old_format(&format!("docker load -i{archive}"))),
        None if has("Dockerfile") || has("Containerfile") => error.hint(BUILD_FIRST),
        None if names.iter().any(|name| name.starts_with("etc/") || name.starts_with("usr/")) => {
            error.hint("This looks like a file system, as `docker export` writes it. Use `docker save` on the image.")
        }
        None => error.hint(SUPPORTED),
    }
}

/// Returns the folder of the tar that contains an image archive; of several, the one nearest to the root.
fn nested<'a>(names: &[&'a str], index: &TarIndex) -> Option<&'a str> {
    let has = |folder: &str, name: &str| names.binary_search(&format!("{folder}/{name}").as_str()).is_ok();
    let has_blobs = |folder: &str| {
        let prefix = format!("{folder}/{BLOBS}");
        names.get(names.partition_point(|name| *name < prefix.as_str())).is_some_and(|name| name.starts_with(&prefix))
    };
    // Other programs use this file name, too: a file system may have many such files.
    let mut left = 100;
    let mut lists_images = |name: &str| {
        left = u32::checked_sub(left, 1)?;
        let range = index.find(name).ok().flatten()?;
        let bytes = range.read_all(MAX_LIST).ok()?;
        parse::<Vec<SavedImage>>(&bytes, name).ok()
    };
    let folders = names.iter().filter_map(|name| {
        let (folder, file) = name.rsplit_once('/')?;
        let is_image = match file {
            OCI_LAYOUT => true,
            INDEX_JSON => !has(folder, OCI_LAYOUT) && has_blobs(folder),
            MANIFEST_JSON => lists_images(name).is_some(),
            _ => false,
        };
        is_image.then_some(folder)
    });
    folders.min_by_key(|folder| folder.split('/').count())
}
