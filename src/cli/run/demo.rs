//! The demo: a push of a small image into the sandbox.

use std::ffi::OsString;
use std::io::Write as _;

use crate::archive::demo_archive;
use crate::cli::parse::{Command, parse};
use crate::error::{Code, Error, Kind, Result};

/// Where the image is pushed.
const TARGET: &str = "demo/app:1";

/// Writes the image to a temporary file and returns the push of it, which depends on no setting of the environment. The file
/// is deleted when it is dropped.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn demo() -> Result<(Command, tempfile::NamedTempFile)> {
    let written = tempfile::Builder::new().prefix("ecr-push-demo-").suffix(".tar").tempfile();
    let written = written.and_then(|mut file| file.write_all(&demo_archive()?).map(|()| file));
    let file = written.map_err(|error| {
        let what = format!("cannot write the image of the demo to {}", std::env::temp_dir().display());
        Error::new(Kind::Input, what).code(Code::OutputFailed).because(error)
    })?;
    let arguments: [OsString; 3] = ["--sandbox".into(), file.path().into(), TARGET.into()];
    Ok((parse(arguments.into(), &|_| None)?, file))
}
