//! Files that are written for programs: opened before the push, so that a bad path costs none.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use ecr_push::cli;
use ecr_push::error::{Error, Kind, Result};
use ecr_push::push::Outcome;
use ecr_push::report;

/// The files of a push, open and empty.
pub(super) struct Files {
    report: Option<Opened>,
    digest: Option<Opened>,
    metadata: Option<Opened>,
    timeline: Option<Opened>,
}

/// A file that is open.
struct Opened {
    /// What goes in, for people.
    what: &'static str,
    path: PathBuf,
    file: File,
}

impl Files {
    /// Opens them. What they held is gone: it is of an earlier push. `taken` are files that others have.
    pub(super) fn open(files: cli::Files, taken: &[PathBuf]) -> Result<Self> {
        let mut taken = taken.to_vec();
        let mut open = |what, path: Option<PathBuf>| {
            let Some(path) = path else { return Ok(None) };
            if let Some(other) = taken.iter().find(|other| is_same(&path, other)) {
                let (path, other) = (path.display(), other.display());
                return Err(Error::usage(format!("{path}, for the {what}, is the same file as {other}"))
                    .hint("Name another file."));
            }
            let file = create(what, &path)?;
            taken.push(path.clone());
            Ok(Some(Opened { what, path, file }))
        };
        Ok(Self {
            report: open("report", files.report)?,
            digest: open("digest", files.digest)?,
            metadata: open("metadata", files.metadata)?,
            timeline: open("timeline", files.timeline)?,
        })
    }

    /// Writes what is said of a push that went well. Of one that did not, nothing is left that could be taken for it.
    pub(super) fn write_result(&self, outcome: &Outcome) -> Vec<Error> {
        let results = [(&self.digest, report::digest(outcome)), (&self.metadata, report::metadata(outcome))];
        let written = results.into_iter().filter_map(|(opened, text)| Some(opened.as_ref()?.settle(text)));
        written.filter_map(Result::err).collect()
    }

    /// Whether a page is wanted that shows what took how long.
    pub(super) fn has_timeline(&self) -> bool {
        self.timeline.is_some()
    }

    /// Writes that page.
    pub(super) fn write_timeline(&self, text: &str) -> Result<()> {
        self.timeline.as_ref().map_or(Ok(()), |timeline| timeline.write(text))
    }

    /// Writes the report.
    pub(super) fn write_report(&self, text: &str) -> Result<()> {
        self.report.as_ref().map_or(Ok(()), |report| report.write(text))
    }
}

impl Opened {
    fn settle(&self, text: Option<String>) -> Result<()> {
        match text {
            Some(text) => self.write(&text),
            None => {
                // What is no file, a pipe or a device, stays. A file that cannot be removed is empty.
                if self.path.symlink_metadata().is_ok_and(|it| it.is_file()) {
                    let _it_is_empty = fs::remove_file(&self.path);
                }
                Ok(())
            }
        }
    }

    fn write(&self, text: &str) -> Result<()> {
        let what = || format!("cannot write the {} {}", self.what, self.path.display());
        (&self.file).write_all(text.as_bytes()).map_err(|error| Error::new(Kind::Input, what()).because(error))
    }
}

fn create(what: &'static str, path: &Path) -> Result<File> {
    File::create(path).map_err(|error| {
        Error::usage(format!("cannot write the {what} {}", path.display())).because(error).hint(format!(
            "--{} takes a file in a folder that is there and can be written to.",
            if ["report", "timeline"].contains(&what) { what.to_owned() } else { format!("{what}-file") }
        ))
    })
}

/// Whether two paths lead to one file. What is no file, as /dev/null, takes whatever comes.
pub(super) fn is_same(path: &Path, other: &Path) -> bool {
    let file = |path: &Path| fs::canonicalize(path).ok().filter(|path| path.is_file());
    file(path).is_some_and(|path| file(other) == Some(path))
}
