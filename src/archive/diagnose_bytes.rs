//! Diagnosis of a file that is not an image archive, by its first bytes.

use super::reencoding::{is_reencoded, reencoded};
use super::source::Source;
use crate::compress::FileCompression;
use crate::error::{Advice, Code, Error};

/// The hint with the supported archives.
pub(super) const SUPPORTED: &str =
    "Use a tar written by `docker save`, `podman save`, kaniko, crane or BuildKit, or an OCI layout.";

/// Returns the error that `source`, or its decompressed content, is not a tar.
pub(super) fn not_a_tar(source: &Source, compression: Option<FileCompression>, start: &[u8]) -> Error {
    let name = compression.map_or_else(
        || source.to_string(),
        |compression| format!("the content of {source}, compressed with {},", compression.name()),
    );
    let other = |what: &str| {
        Error::input(format!("{name} is {what}, not an image archive")).code(Code::ArchiveUnrecognized).hint(SUPPORTED)
    };
    let unsupported = |what: &str, command: &str| {
        let hint = match compression {
            None => Advice::new("Decompress it first:").command(format!("{command}{}", source.operand())),
            Some(_) => "Only one level of compression is supported. Decompress the file first.".into(),
        };
        Error::input(format!("{name} is compressed with {what}, which is not supported"))
            .code(Code::ArchiveUnsupported)
            .hint(hint)
    };
    match start {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => reencoded(&name, "text in UTF-16"),
        // gzip and zstd after all bytes that are not ASCII were replaced by `?`.
        [0x1f, b'?', 8, ..] | [b'(', b'?', b'/', b'?', ..] => {
            reencoded(&name, "binary data that was turned into ASCII")
        }
        start if is_reencoded(start) => reencoded(&name, "binary data that was turned into text in UTF-8"),
        [] if *source == Source::StandardInput && compression.is_none() => other("empty")
            .hint(Advice::new("Pipe an archive into it:").command("docker save app:1 | ecr-push - REPOSITORY:TAG")),
        [] => other("empty"),
        [0x04, 0x22, 0x4d, 0x18, ..] => unsupported("lz4", "lz4 -d"),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => unsupported("zip", "unzip"),
        [b'7', b'z', 0xbc, 0xaf, ..] => unsupported("7-Zip", "7z x"),
        [0x7f, b'E', b'L', b'F', ..] => other("a program (ELF)"),
        [b'M', b'Z', ..] => other("a Windows program"),
        [b'h', b's', b'q', b's', ..] => other("a SquashFS file system"),
        start if start.iter().all(|byte| *byte == 0) => other("nothing but zeros, like an empty tar"),
        start => kind_of_text(start).map_or_else(
            || {
                let first: Vec<_> = start.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
                let short = if start.len() < 512 { " (shorter than the smallest tar; perhaps cut off)" } else { "" };
                other(&format!("not a tar: it starts with {}{short}", first.join(" ")))
            },
            |(what, hint)| other(what).hint(if hint.is_empty() { SUPPORTED } else { hint }),
        ),
    }
}

/// Returns the kind of a text, and a hint.
fn kind_of_text(start: &[u8]) -> Option<(&'static str, &'static str)> {
    // The block may end inside a character.
    let text = match str::from_utf8(start) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => str::from_utf8(&start[..error.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    if text.chars().any(|char| char.is_control() && !char.is_whitespace()) {
        return None;
    }
    let word = |line: &str| line.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or_default();
    Some(match text.trim_start() {
        text if text.starts_with("version https://git-lfs") => {
            ("a Git LFS pointer", "Fetch the file itself: git lfs pull")
        }
        text if text.starts_with(['{', '[']) => ("JSON", "Use the archive or the folder that contains this file."),
        text if text.starts_with('<') => ("a web page or XML", "The download may have failed: open the file."),
        _ if ["FROM", "ARG"].contains(&word(first).as_str()) => {
            ("a Dockerfile", "Build the image first, into an archive.")
        }
        _ => ("text", ""),
    })
}
