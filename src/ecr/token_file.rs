//! Files that hold a token: of a web identity, of a container.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::access::Secret;
use crate::error::{Code, Error, Kind, Result};

/// The most bytes of a token. Tokens are some kilobytes.
const LONGEST: u64 = 1 << 20;

/// Reads a token. `variable` names the file.
///
/// # Errors
/// If there is no such file, or it holds no token.
pub(super) async fn read(path: &Path, variable: &str) -> Result<Secret> {
    let owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || contents(&owned));
    let text = read.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    text.map(Secret::new).map_err(|why| {
        Error::new(Kind::Permission, format!("cannot read the token file {} ({variable})", path.display()))
            .code(Code::CredentialsRejected)
            .because(why)
            .hint("The file has to be mounted into this container and be readable by its user.")
    })
}

/// Of anything but a regular file the end may never come.
fn contents(path: &Path) -> io::Result<String> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    File::open(path)?.take(LONGEST + 1).read_to_string(&mut text)?;
    let token = text.trim();
    match token.len() as u64 {
        0 => Err(io::Error::other("it is empty")),
        1..=LONGEST => Ok(token.to_owned()),
        _ => Err(io::Error::other("it is longer than a token can be")),
    }
}
