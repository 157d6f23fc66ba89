//! Opens archives.

use std::sync::Arc;

use super::contents::Archive;
use super::diagnose_files::unrecognized;
use super::file_names::INDEX_JSON;
use super::files::{Files, Folder, Place};
use super::formats::FORMATS;
use super::model::Image;
use super::source::Source;
use super::spool::Spool;
use crate::error::Result;

/// Opens an archive and reads its images, without the layers, unless it is open already.
///
/// # Errors
/// Of [`Kind::Input`](crate::error::Kind::Input) if it is not an archive of images, or is damaged, and those of the
/// [`Spool`] if one is needed.
pub fn open(source: &Source, spool: &Spool<'_>) -> Result<Arc<Archive>> {
    if let Source::Opened(archive) = source {
        return Ok(Arc::clone(&archive.0));
    }
    let archive = read(source, spool, true)?;
    archive.has_image()?;
    Ok(Arc::new(archive))
}

/// Opens an archive and reads its images, even if none of them can be pushed.
///
/// # Errors
/// Those of [`open`], except errors about images.
pub(crate) fn list(source: &Source, spool: &Spool<'_>) -> Result<Archive> {
    read(source, spool, false)
}

/// Reads an archive. `may_release` states whether the documents of many images are read again when one is selected.
fn read(source: &Source, spool: &Spool<'_>, may_release: bool) -> Result<Archive> {
    let (place, spooled) = match source {
        Source::Path(path) if path.is_dir() => (Place::Folder(Folder::new(path)), None),
        _ => {
            let (index, note) = spool.tar(source)?;
            (Place::Tar(index), note)
        }
    };
    let files = Files::new(place, may_release);
    let mut formats =
        FORMATS.into_iter().map(|format| (format.matches)(&files).map(|matches| matches.then_some(format)));
    let format = formats.find_map(Result::transpose).transpose()?;
    let format = format.ok_or_else(|| unrecognized(source, &files.place))?;
    let mut contents = (format.read)(&files)?;
    contents.remove_repeated_names();
    if let Place::Tar(index) = &files.place
        && !index.has_end_mark()
    {
        // Content may be missing because the end of the tar is missing. Without its index.json, a save is another image.
        let layers = contents.images.iter().flat_map(Image::manifests).flat_map(|manifest| &manifest.layers);
        let has_blobs = layers.map(|layer| &layer.name).any(|name| name.starts_with("blobs/"));
        let is_index_missing = has_blobs && files.find(INDEX_JSON)?.is_none();
        if contents.is_partial || !contents.unusable.is_empty() || is_index_missing {
            return Err(index.cut_off(source, "it has no end mark, and parts of its images are missing"));
        }
        contents.notes.push(format!("{source} has no end mark, but it contains everything that it lists"));
    }
    contents.notes.splice(..0, spooled);
    let released = files.into_released();
    Ok(Archive::new(source.clone(), format.name, contents, released))
}
