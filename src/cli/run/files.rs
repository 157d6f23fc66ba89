//! Files that are written for programs: checked and opened before the push, so that a bad path costs none.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::cli::files::{self as paths, OutputFile};
use crate::error::{Advice, Code, Error, Kind, Result};
use crate::file::{self, FileId};
use crate::output::report;
use crate::push::Outcome;

/// More of a file is not read to recognize it.
const HEAD: u64 = 64 << 10;

/// The files that a run reads and writes, by their identity: none is written that is another one, too.
#[derive(Default)]
pub(super) struct Claims {
    files: Vec<(FileId, String)>,
    layouts: Vec<PathBuf>,
}

impl Claims {
    /// Adds what is read: a file, or a folder with an image layout. `what` is its name for people.
    pub(super) fn read(&mut self, what: &str, path: &Path) {
        if let Some(id) = FileId::of(path) {
            self.files.push((id, format!("{what} {}", path.display())));
        }
        if path.is_dir() {
            self.layouts.push(path.to_owned());
        }
    }

    /// Adds the standard input, which may be a file.
    pub(super) fn read_standard_input(&mut self) {
        let id = file::standard_input().ok().and_then(|file| FileId::of_open(&file));
        self.files.extend(id.map(|id| (id, "the standard input".to_owned())));
    }

    /// Adds what is written.
    ///
    /// # Errors
    /// If it is one of the files that were added before.
    pub(super) fn write(&mut self, what: &str, path: &Path) -> Result<()> {
        let Some(id) = FileId::of(path) else { return Ok(()) };
        let same = self.files.iter().find(|(other, _)| *other == id);
        let same = same.map(|(_, other)| format!("it is the same file as {other}"));
        let inside = || self.layouts.iter().find(|layout| is_part_of(layout, path, &id));
        let inside = || inside().map(|layout| format!("it is part of the image layout {}", layout.display()));
        if let Some(cause) = same.or_else(inside) {
            return Err(Error::usage(format!("cannot write the {what} to {}", path.display()))
                .code(Code::OutputFailed)
                .because(cause)
                .hint("Use another file."));
        }
        self.files.push((id, format!("the {what} {}", path.display())));
        Ok(())
    }
}

/// Whether a path leads to a file that an image layout consists of.
fn is_part_of(layout: &Path, path: &Path, id: &FileId) -> bool {
    let blobs = layout.join("blobs");
    let folder = path.parent().and_then(|folder| fs::canonicalize(folder).ok());
    if folder.is_some_and(|folder| fs::canonicalize(&blobs).is_ok_and(|blobs| folder.starts_with(blobs))) {
        return true;
    }
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    // skopeo's `dir:` names blobs and manifests by their digests.
    let is_named = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let hex = name.strip_suffix(".manifest.json").unwrap_or(name);
        ["index.json", "manifest.json", "oci-layout", "version"].contains(&name)
            || hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let mut files = entries(layout).filter(is_named).chain(entries(&blobs).flat_map(|algorithm| entries(&algorithm)));
    // Links are followed: the blobs of some layouts lie elsewhere.
    files.any(|file| FileId::of(&file).as_ref() == Some(id))
}

impl OutputFile {
    /// Returns whether a file that begins so is one that an earlier run can have written.
    fn is_one(self, text: &str) -> bool {
        match self {
            Self::Report => text.starts_with('{') && text.contains("\"tool\"") && text.contains("\"ecr-push\""),
            Self::Digest => {
                let hex = text.trim().strip_prefix("sha256:");
                hex.is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
            }
            // BuildKit's own have further keys.
            Self::Metadata => {
                let keys = ["\"containerimage.", "\"image.name\"", "\"buildx.build."];
                text.trim() == "{}" || text.starts_with('{') && keys.iter().any(|key| text.contains(key))
            }
            Self::Timeline => {
                let policy = "default-src 'none'; style-src 'unsafe-inline'";
                text.starts_with("<!DOCTYPE html>") && text.contains(policy)
            }
            Self::Variable => text.contains(':') && !text.trim().contains(char::is_whitespace),
        }
    }

    /// Opens the file. What it holds stays.
    ///
    /// # Errors
    /// If it cannot be written, or holds something that no earlier run can have written.
    pub(super) fn open(self, path: &Path) -> Result<File> {
        let fail = || {
            let error = Error::usage(format!("cannot write the {} to {}", self.what(), path.display()));
            error.code(Code::OutputFailed)
        };
        let opened = file::open_to_write(File::options().write(true).create(true).truncate(false), path);
        let file = opened.map_err(|error| {
            let advice = Advice::new("Use a file in an existing, writable folder");
            fail().because(error).hint(advice.setting_with(self.option(), "FILE"))
        })?;
        match self.may_replace(&file, path) {
            Ok(true) => Ok(file),
            Ok(false) => Err(fail()
                .because(format!("the file exists and was not written by ecr-push as a {}", self.what()))
                .hint("Use another file, or remove this one.")),
            Err(error) => Err(fail().because(error)),
        }
    }

    /// Checks that the file may be replaced, if there is one.
    pub(super) fn check(self, path: &Path) -> Result<()> {
        if path.exists() { self.open(path).map(drop) } else { Ok(()) }
    }

    fn may_replace(self, file: &File, path: &Path) -> io::Result<bool> {
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() == 0 {
            return Ok(true);
        }
        let mut head = Vec::new();
        file::open(path)?.take(HEAD).read_to_end(&mut head)?;
        Ok(self.is_one(&String::from_utf8_lossy(&head)))
    }
}

/// Empties a file. What is no file, a pipe or a device, holds nothing.
pub(super) fn clear(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() { file.set_len(0) } else { Ok(()) }
}

/// The files of a push, open and empty.
pub(super) struct Files(Vec<Opened>);

/// A file that is open.
struct Opened {
    holds: OutputFile,
    path: PathBuf,
    file: File,
}

impl Files {
    /// Adds them.
    pub(super) fn claim(files: &paths::Files, claims: &mut Claims) -> Result<()> {
        files.iter().try_for_each(|(holds, path)| claims.write(holds.what(), path))
    }

    /// Opens them. Once all are open, what they held is gone: it is of an earlier push.
    pub(super) fn open(files: paths::Files) -> Result<Self> {
        let open = |(holds, path): (OutputFile, PathBuf)| Ok(Opened { holds, file: holds.open(&path)?, path });
        let files: Vec<Opened> = files.into_iter().map(open).collect::<Result<_>>()?;
        files.iter().try_for_each(|opened| clear(&opened.file).map_err(|error| opened.failed(error)))?;
        Ok(Self(files))
    }

    fn get(&self, holds: OutputFile) -> Option<&Opened> {
        self.0.iter().find(|opened| opened.holds == holds)
    }

    /// Writes the results of a successful push. After a failed one, no file remains that could be mistaken for a result.
    pub(super) fn write_result(&self, outcome: &Outcome) -> Vec<Error> {
        let digest = (OutputFile::Digest, Ok(report::digest(outcome)));
        let results = [digest, (OutputFile::Metadata, report::metadata(outcome))];
        let settle = |opened: &Opened, text: Result<Option<String>>| opened.settle(text?);
        let written = results.into_iter().filter_map(|(holds, text)| Some(settle(self.get(holds)?, text)));
        written.filter_map(Result::err).collect()
    }

    /// Whether a page is wanted that shows what took how long.
    pub(super) fn has_timeline(&self) -> bool {
        self.get(OutputFile::Timeline).is_some()
    }

    /// Writes that page.
    pub(super) fn write_timeline(&self, text: &str) -> Result<()> {
        self.get(OutputFile::Timeline).map_or(Ok(()), |timeline| timeline.write(text))
    }

    /// Writes the report.
    pub(super) fn write_report(&self, text: &str) -> Result<()> {
        self.get(OutputFile::Report).map_or(Ok(()), |report| report.write(text))
    }
}

impl Opened {
    fn settle(&self, text: Option<String>) -> Result<()> {
        match text {
            Some(text) => self.write(&text),
            None => {
                // What is no file, a pipe or a device, stays, and so does what others put in its place. A file that
                // cannot be removed is empty.
                let is_ours =
                    FileId::of(&self.path).is_some_and(|id| FileId::of_open(&self.file).is_none_or(|it| it == id));
                if is_ours && self.path.symlink_metadata().is_ok_and(|it| it.is_file()) {
                    let _it_is_empty = fs::remove_file(&self.path);
                }
                Ok(())
            }
        }
    }

    fn write(&self, text: &str) -> Result<()> {
        file::write_all(&self.file, text.as_bytes()).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> Error {
        let what = format!("cannot write the {} to {}", self.holds.what(), self.path.display());
        Error::new(Kind::Input, what).code(Code::OutputFailed).because(error)
    }
}
