//! What the values of options mean.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use super::arguments::CompressionArg;
use crate::error::{Error, Result};
use crate::image::{Choice, Source};
use crate::oci::{Digest, Host, Target, region_code};
use crate::plan::Compression;
use crate::registry::{ECR, Quirks};

/// By the name of standard input, a file is `./-`.
pub(super) fn archive(path: PathBuf) -> Source {
    if path.as_os_str() == "-" { Source::StandardInput } else { Source::Path(path) }
}

pub(super) fn given(option: &str, value: String) -> Result<String> {
    match value.trim() {
        "" => Err(Error::usage(format!("{option} is empty")).hint("Leave it out, or name the image.")),
        value => Ok(value.to_owned()),
    }
}

/// The image that is meant.
pub(super) fn choice(image: Option<String>, image_id: Option<String>) -> Result<Choice> {
    match (image, image_id) {
        (Some(name), _) => Ok(Choice::Name(given("--image", name)?)),
        (None, Some(id)) => Ok(Choice::Id(given("--image-id", id)?)),
        (None, None) => Ok(Choice::Only),
    }
}

pub(super) fn digest(text: &str) -> Result<Digest> {
    text.trim().parse().map_err(|_| {
        Error::usage(format!("--expect-digest {text:?} is not a digest"))
            .hint("A digest is sha256: and 64 lower-case hex digits.")
    })
}

pub(super) fn at_least_one<N: From<u8> + PartialEq>(option: &str, value: N) -> Result<N> {
    if value == N::from(0) { Err(Error::usage(format!("{option} must be at least 1"))) } else { Ok(value) }
}

/// A whole number, refused in words of ours.
pub(super) fn number<N: FromStr>(text: &str) -> std::result::Result<N, &'static str> {
    text.trim().parse().map_err(|_| "it takes a whole number, without a unit")
}

/// A number of bytes with an optional K, M or G, which stand for powers of 1024 as with curl and rsync.
pub(super) fn bytes(option: &str, text: &str) -> Result<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => Some(1_u64),
        "k" | "kib" | "kb" => Some(1 << 10),
        "m" | "mib" | "mb" => Some(1 << 20),
        "g" | "gib" | "gb" => Some(1 << 30),
        _ => None,
    };
    let bytes = unit.and_then(|unit| digits.trim().parse::<u64>().ok()?.checked_mul(unit));
    bytes.filter(|bytes| *bytes >= 1024).ok_or_else(|| {
        Error::usage(format!("{option} {text:?} is no number of bytes")).hint("Write at least 1K: 500K, 10M, 1G.")
    })
}

pub(super) fn chunk_size(text: &str, targets: &[Target]) -> Result<u64> {
    let size = bytes("--chunk-size", text)?;
    for target in targets {
        let quirks = match target.host.as_ref().filter(|host| host.ecr().is_none()) {
            Some(host) => Quirks::of_host(&host.to_string()),
            None => &ECR,
        };
        let sizes = quirks.chunk_sizes();
        if !sizes.contains(&size) {
            let (least, most) = (sizes.start() >> 20, sizes.end() >> 20);
            return Err(Error::usage(format!("--chunk-size {text:?} is not for {target}"))
                .hint(format!("{} gets {least}M to {most}M in one request.", quirks.name)));
        }
    }
    Ok(size)
}

pub(super) fn compression(how: Option<CompressionArg>, level: Option<u32>) -> Result<Compression> {
    let (range, compression) = match (how, level) {
        (None, None) => return Ok(Compression::Usual),
        (Some(CompressionArg::Keep), None) => return Ok(Compression::Keep),
        (Some(CompressionArg::Keep), Some(_)) => {
            return Err(Error::usage("--compression keep packs nothing, so there is no level").hint("Leave one out."));
        }
        (None | Some(CompressionArg::Gzip), level) => (2..=9, Compression::Gzip(level)),
        (Some(CompressionArg::Zstd), level) => (1..=19, Compression::Zstd(level)),
    };
    match level {
        Some(level) if !range.contains(&level) => Err(Error::usage(format!("--compression-level {level} is none"))
            .hint(format!("It goes from {} to {}.", range.start(), range.end()))),
        _ => Ok(compression),
    }
}

pub(super) fn region(text: String) -> Result<String> {
    let refuse = || Error::usage(format!("{text:?} is not a region")).hint("A region is a code such as eu-west-1.");
    region_code(&text).ok_or_else(refuse)
}

/// The variable with another address for every registry, for tests.
pub(super) const REGISTRY_ENDPOINT: &str = "ECR_PUSH_REGISTRY_ENDPOINT";

/// That address: only loopback, since it is shown the credentials.
pub(super) fn registry_endpoint(environment: &dyn Fn(&str) -> Option<OsString>) -> Result<Option<Host>> {
    let Some(value) = environment(REGISTRY_ENDPOINT).filter(|value| !value.is_empty()) else { return Ok(None) };
    let text = value.to_string_lossy();
    let host: Host = text.trim_start_matches("http://").trim_end_matches('/').parse()?;
    if !host.is_loopback() {
        return Err(Error::usage(format!("{REGISTRY_ENDPOINT} names {host}, which is not this machine"))
            .hint("It is for tests and takes a loopback address only: http://127.0.0.1:5050"));
    }
    Ok(Some(host))
}
