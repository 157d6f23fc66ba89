//! `--ca-file`, `AWS_CA_BUNDLE` and `ca_bundle` of a profile, read before anything else.

use std::path::Path;

use super::options::{CaBundle, RegistryOptions};
use crate::ecr::{Access, Network};
use crate::error::{Error, Result, Setting};
use crate::file;
use crate::registry::Trust;

/// The most bytes to read: more than any list of certificates has. An archive that is named by mistake is not read to its end.
const LONGEST: u64 = 16 << 20;

/// Returns the certificates to trust beside the machine's own, for registries and for AWS.
///
/// # Errors
/// If a file cannot be read, or holds no certificates.
pub(super) async fn of(options: &RegistryOptions) -> Result<(Trust, Network)> {
    let is_sandbox = matches!(options.access, Access::Override { .. });
    let bundle = options.ca_bundle.clone().filter(|_| !is_sandbox);
    let file = options.ca_file.clone().map(|path| (Setting::new("ca-file").to_string(), path));
    let files: Vec<_> = file.into_iter().chain(bundle.map(|CaBundle { from, path }| (from, path))).collect();
    if files.is_empty() {
        return Ok(Default::default());
    }
    let reading = tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        for (who, path) in files {
            let pem = read(&who, &path)?;
            Trust::of_pem(&name(&path), &pem)?;
            all.extend(pem);
            all.push(b'\n');
        }
        Ok((Trust::of_pem("the CA files", &all)?, Network::trusting(all)))
    });
    reading.await.unwrap_or_else(|died| Err(Error::usage("reading the CA file failed").because(died)))
}

fn read(who: &str, path: &Path) -> Result<Vec<u8>> {
    // Once: it may be a pipe.
    file::read(path, LONGEST).map_err(|error| {
        let error = Error::invalid(format!("cannot read {}", name(path))).because(error);
        error.hint(format!("{who} must name a file of PEM certificates."))
    })
}

fn name(path: &Path) -> String {
    format!("the CA file {}", path.display())
}
