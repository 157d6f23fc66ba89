//! Token files, of a web identity or of a container.

use std::io::{self, Read as _};
use std::path::Path;

use super::access::Secret;
use crate::error::{Code, Error, Kind, Result};
use crate::file;

/// The maximum size of a token file in bytes. Tokens are some kilobytes.
const MAX_SIZE: u64 = 1 << 20;

/// Reads a token. `variable` is the environment variable that names the file.
///
/// # Errors
/// Fails if the file cannot be read or contains no token.
pub(super) async fn read(path: &Path, variable: &str) -> Result<Secret> {
    let owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || contents(&owned));
    let text = read.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    text.map(Secret::new).map_err(|why| {
        Error::new(Kind::Permission, format!("cannot read the token file {} ({variable})", path.display()))
            .code(Code::CredentialsRejected)
            .because(why)
            .hint("Mount the file into this container, readable by its user.")
    })
}

fn contents(path: &Path) -> io::Result<String> {
    // Opened without waiting: a pipe may have no writer, and anything but a regular file may never end.
    let file = file::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    file.take(MAX_SIZE + 1).read_to_string(&mut text)?;
    let token = text.trim();
    match token.len() as u64 {
        0 => Err(io::Error::other("it is empty")),
        1..=MAX_SIZE => Ok(token.to_owned()),
        _ => Err(io::Error::other("it is longer than a token can be")),
    }
}

#[cfg(all(test, unix))]
mod tests;
