//! Parsing and validation of option values.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;

use crate::archive::ImageSelector;
use crate::compress::GzipEncoder;
use crate::error::{Error, Result};
use crate::oci::{Digest, Host, Target, region_code};
use crate::push::CompressionPolicy;
use crate::registry::{ECR, Quirks};

/// The values of environment variables.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The compression of uncompressed layers.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum CompressionArg {
    /// gzip, supported by every client
    Gzip,
    /// zstd: smaller and faster; clients need Docker 23 or containerd 1.5 or later
    Zstd,
    /// None: layers are pushed as is
    Keep,
}

/// The recipe of gzip.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum RecipeArg {
    /// That of this version
    #[value(name = "gzip/3")]
    Gzip3,
    /// That of version 0.1, for fleets that run both; ends with version 0.3
    #[value(name = "gzip/2-2")]
    Gzip2,
}

impl From<RecipeArg> for GzipEncoder {
    fn from(argument: RecipeArg) -> Self {
        match argument {
            RecipeArg::Gzip3 => Self::Own,
            RecipeArg::Gzip2 => Self::Zlib { level: 2 },
        }
    }
}

/// Returns a value without surrounding spaces, or an error if it is empty.
pub(super) fn not_empty(option: &str, value: String) -> Result<String> {
    match value.trim() {
        "" => Err(Error::invalid(format!("{option} is empty"))
            .about_option(option)
            .hint("Is a shell variable unset? Set it, or leave the option out.")),
        value => Ok(value.to_owned()),
    }
}

/// Returns the selector of an image, from an option or from the transport of the archive argument.
pub(super) fn image_selector(
    image: Option<String>,
    image_id: Option<String>,
    index: bool,
    in_transport: Option<ImageSelector>,
) -> Result<ImageSelector> {
    let selected = match (image, image_id) {
        (None, None) if index => ImageSelector::Index,
        (Some(name), _) => ImageSelector::Name(not_empty("--image", name)?),
        (None, Some(id)) => ImageSelector::Id(not_empty("--image-id", id)?),
        (None, None) => return Ok(in_transport.unwrap_or_default()),
    };
    match in_transport {
        None => Ok(selected),
        Some(_) => {
            Err(Error::conflict("both the archive argument and an option select an image")
                .hint("Use only one of them."))
        }
    }
}

/// Returns the name of a file for people, or of standard input.
pub(super) fn input_name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

pub(super) fn digest(text: &str) -> Result<Digest> {
    text.trim().parse().map_err(|_| {
        Error::invalid(format!("--expect-digest {text:?} is not a digest"))
            .about_option("--expect-digest")
            .hint("Use sha256: followed by 64 lower-case hex digits.")
    })
}

/// Returns a value, or an error if it is zero.
pub(super) fn at_least_one(option: &str, value: usize) -> Result<usize> {
    if value == 0 {
        return Err(Error::invalid(format!("{option} must be at least 1")).about_option(option));
    }
    Ok(value)
}

/// Parses a whole number. The error text replaces the one of the standard library.
pub(super) fn number<N: FromStr>(text: &str) -> std::result::Result<N, &'static str> {
    text.trim().parse().map_err(|_| match text.trim().parse() {
        Ok(i64::MIN..0) => "the value must not be negative",
        _ => "the value must be a whole number without a unit",
    })
}

/// Parses a duration with units (`90s`, `1h30m`, `500ms`), or a number of seconds. It is not zero.
pub(super) fn seconds(text: &str) -> std::result::Result<Duration, &'static str> {
    let duration = duration(text, Duration::from_secs(1))?;
    if duration.is_zero() { Err("the value must be more than 0s") } else { Ok(duration) }
}

/// Parses a duration with units, or a number of milliseconds.
#[cfg(feature = "sandbox")]
pub(super) fn milliseconds(text: &str) -> std::result::Result<Duration, &'static str> {
    duration(text, Duration::from_millis(1))
}

fn duration(text: &str, default_unit: Duration) -> std::result::Result<Duration, &'static str> {
    const RULE: &str = "the value must be a duration such as 90s, 10m or 1h30m";
    let text = text.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().and_then(|count| default_unit.checked_mul(count)).ok_or(RULE);
    }
    // An upper-case M is a month, which is hardly intended.
    let is_lower = !text.contains(|c: char| c.is_ascii_uppercase());
    humantime::parse_duration(text).ok().filter(|_| is_lower).ok_or(RULE)
}

/// Parses a number of bytes with an optional K, M or G: powers of 1024, as in curl and rsync.
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
    let problem = match bytes {
        Some(bytes @ 1024..) => return Ok(bytes),
        Some(_) => "is below the minimum of 1K",
        None => "is not a number of bytes",
    };
    Err(Error::invalid(format!("{option} {text} {problem}"))
        .about_option(option)
        .hint("Use a number with an optional unit: 500K, 10M, 1G."))
}

/// Parses a chunk size, and checks that the registries of all targets accept it.
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
            let problem = if size < *sizes.start() { "small" } else { "large" };
            return Err(Error::invalid(format!("--chunk-size {text} is too {problem} for {} ({target})", quirks.name))
                .about_option("--chunk-size")
                .hint(format!("Use {least}M to {most}M.")));
        }
    }
    Ok(size)
}

/// Returns the policy for uncompressed layers. Only one of `level` and `recipe` is given.
pub(super) fn compression(
    algorithm: Option<CompressionArg>,
    level: Option<u32>,
    recipe: Option<RecipeArg>,
) -> Result<CompressionPolicy> {
    let gzip = recipe.map_or_else(GzipEncoder::default, GzipEncoder::from);
    match (algorithm, level, recipe) {
        (Some(CompressionArg::Keep), Some(_), _) => Err(conflict("keep", "--compression-level")),
        (Some(CompressionArg::Keep), _, Some(_)) => Err(conflict("keep", "--compression-recipe")),
        (Some(CompressionArg::Zstd), _, Some(_)) => Err(conflict("zstd", "--compression-recipe")),
        (Some(CompressionArg::Keep), None, None) => Ok(CompressionPolicy::Keep),
        (Some(CompressionArg::Zstd), level, None) => {
            level.map_or(Ok(()), |level| check_level(level, 1..=19, "zstd"))?;
            Ok(CompressionPolicy::Zstd(level))
        }
        (None | Some(CompressionArg::Gzip), Some(level), _) => {
            check_level(level, 1..=9, "gzip")?;
            Ok(CompressionPolicy::Gzip(GzipEncoder::Zlib { level }))
        }
        (Some(CompressionArg::Gzip), None, _) => Ok(CompressionPolicy::Gzip(gzip)),
        (None, None, _) => Ok(CompressionPolicy::Usual(gzip)),
    }
}

fn conflict(algorithm: &str, other: &str) -> Error {
    Error::conflict(format!("--compression {algorithm} and {other} cannot be used together"))
        .about_option("--compression")
        .about_option(other)
        .hint("Use only one of them.")
}

fn check_level(level: u32, levels: RangeInclusive<u32>, algorithm: &str) -> Result<()> {
    if levels.contains(&level) {
        return Ok(());
    }
    let (least, most) = (levels.start(), levels.end());
    let what = format!("--compression-level must be {least} to {most} for {algorithm}");
    Err(Error::invalid(what).about_option("--compression-level"))
}

/// Parses an AWS region.
pub(super) fn region(text: String) -> Result<String> {
    region_code(&text).ok_or_else(|| {
        Error::invalid(format!("{text:?} is not an AWS region"))
            .about_option("--region")
            .hint("Use a region code such as eu-west-1.")
    })
}

/// The variable that overrides the address of every registry, for tests.
pub(super) const REGISTRY_ENDPOINT: &str = "ECR_PUSH_REGISTRY_ENDPOINT";

/// Returns that address. It must be a loopback address, since it receives the credentials.
pub(super) fn registry_endpoint(environment: Environment<'_>) -> Result<Option<Host>> {
    let Some(value) = environment(REGISTRY_ENDPOINT).filter(|value| !value.is_empty()) else { return Ok(None) };
    let text = value.to_string_lossy();
    let reject = |what: String| {
        Err(Error::invalid(what).hint("It is for tests: use a loopback address such as http://127.0.0.1:5050"))
    };
    // An invalid address is not quoted: it may contain a login.
    match text.trim_start_matches("http://").trim_end_matches('/').parse::<Host>() {
        Ok(host) if host.is_loopback() => Ok(Some(host)),
        Ok(host) => reject(format!("{REGISTRY_ENDPOINT} is {host}, which is not a loopback address")),
        Err(_) => reject(format!("{REGISTRY_ENDPOINT} is not an address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_or_are_numbers() {
        for (text, read) in [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), (" 2min ", 120)] {
            assert_eq!(seconds(text), Ok(Duration::from_secs(read)), "{text}");
        }
        assert_eq!(seconds("1500ms"), Ok(Duration::from_millis(1500)));
        #[cfg(feature = "sandbox")]
        assert_eq!([milliseconds("50"), milliseconds("1s")], [50, 1000].map(|count| Ok(Duration::from_millis(count))));
        for bad in ["", "0", "0s", "x", "-1", "10M", "5 parsecs", "99999999999999999999"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
