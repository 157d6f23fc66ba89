//! `--ca-file`, read before anything else.

use std::fs::File;
use std::io::Read as _;

use super::Request;
use crate::error::{Error, Result};
use crate::registry::Trust;

/// More than every list of certificates has. Whoever names an archive instead is not to wait until it is read.
const LONGEST: u64 = 16 << 20;

/// Whom the request trusts beside those whom the machine trusts.
pub(super) async fn of(request: &Request) -> Result<Trust> {
    let Some(path) = request.ca_file.clone() else { return Ok(Trust::default()) };
    let reading = tokio::task::spawn_blocking(move || {
        let name = format!("the CA file {}", path.display());
        let mut pem = Vec::new();
        // Once: it may be a pipe.
        let read = File::open(&path).and_then(|file| file.take(LONGEST).read_to_end(&mut pem));
        read.map_err(|error| {
            let error = Error::usage(format!("cannot read {name}")).because(error);
            error.hint("--ca-file takes a file of PEM certificates.")
        })?;
        Trust::of_pem(&name, &pem)
    });
    reading.await.unwrap_or_else(|died| Err(Error::usage("reading the CA file failed").because(died)))
}
