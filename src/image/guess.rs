//! What something is that is no image archive, told by its first bytes or by the names in it, and what to do about it.

use super::source::Source;
use super::tar_index::TarIndex;
use super::{INDEX_JSON, MANIFEST_JSON, OCI_LAYOUT, quoted, shown};
use crate::error::{Code, Error};
use crate::layer::Codec;

/// Whether the block is a tar header: its checksum says so. An empty tar starts with zeros and is no image.
pub(super) fn is_tar_header(start: &[u8]) -> bool {
    let Ok(block) = <&[u8; 512]>::try_from(start) else { return false };
    let digits = block[148..156].trim_ascii().split(|byte| matches!(byte, 0 | b' ')).next().unwrap_or_default();
    let stated = str::from_utf8(digits).ok().and_then(|digits| u32::from_str_radix(digits, 8).ok());
    let others = block[..148].iter().chain(&block[156..]);
    stated == Some(others.map(|byte| u32::from(*byte)).sum::<u32>() + 8 * u32::from(b' '))
}

/// Says what bytes are that are no tar: those of `source`, or those that are `packed` in it.
pub(super) fn no_image(source: &Source, packed: Option<Codec>, start: &[u8]) -> Error {
    const SAVE: &str =
        "Give a tar written by `docker save`, `podman save`, kaniko, crane or BuildKit, or an OCI layout.";
    let name = packed
        .map_or_else(|| source.to_string(), |codec| format!("what is in {source}, packed with {},", codec.name()));
    let other = |what: &str| {
        Error::input(format!("{name} is {what}, not an image archive")).code(Code::ArchiveUnrecognized).hint(SAVE)
    };
    let unread = |what: &str, command: &str| {
        let hint = match packed {
            None => format!("Unpack it first:\n  {command}{}", source.operand()),
            Some(_) => "Only one packing is undone. Unpack the file first.".into(),
        };
        Error::input(format!("{name} is compressed with {what}, which is not read"))
            .code(Code::ArchiveUnsupported)
            .hint(hint)
    };
    match start {
        [] if *source == Source::StandardInput && packed.is_none() => {
            other("empty").hint("Pipe an archive into it:\n  docker save app:1 | ecr-push - REPOSITORY:TAG")
        }
        [] => other("empty"),
        [0x04, 0x22, 0x4d, 0x18, ..] => unread("lz4", "lz4 -d"),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => unread("zip", "unzip"),
        [b'7', b'z', 0xbc, 0xaf, ..] => unread("7-Zip", "7z x"),
        [0x7f, b'E', b'L', b'F', ..] => other("a program (ELF)"),
        [b'M', b'Z', ..] => other("a Windows program"),
        [b'h', b's', b'q', b's', ..] => other("a SquashFS file system"),
        start if start.iter().all(|byte| *byte == 0) => other("nothing but zeros, like an empty tar"),
        start => no_image_but_text(start).map_or_else(
            || {
                let first: Vec<_> = start.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
                let short = if start.len() < 512 { " (shorter than the smallest tar; perhaps cut off)" } else { "" };
                other(&format!("no tar: it starts with {}{short}", first.join(" ")))
            },
            |(what, hint)| other(what).hint(if hint.is_empty() { SAVE } else { hint }),
        ),
    }
}

/// What a text is, and what to do about it.
fn no_image_but_text(start: &[u8]) -> Option<(&'static str, &'static str)> {
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
        text if text.starts_with(['{', '[']) => ("JSON", "Give the archive or the folder that this file belongs to."),
        text if text.starts_with('<') => ("a web page or XML", "Perhaps a download that failed: look into it."),
        _ if ["FROM", "ARG"].contains(&word(first).as_str()) => {
            ("a Dockerfile", "Build the image first, into an archive.")
        }
        _ => ("text", ""),
    })
}

/// Says what a tar is that holds no image.
pub(super) fn tar_without_image(source: &Source, index: &TarIndex) -> Error {
    let mut names: Vec<_> = index.names().collect();
    names.sort_unstable();
    let has = |name: &str| names.binary_search(&name).is_ok();
    let nested = names.iter().filter_map(|name| name.split_once('/'));
    let nested = nested.filter(|(_, rest)| [MANIFEST_JSON, OCI_LAYOUT].contains(rest)).map(|(folder, _)| folder).next();
    if has(INDEX_JSON) {
        return Error::input(format!("{source} is an incomplete OCI layout: it has index.json, but no oci-layout"))
            .code(Code::ArchiveIncomplete)
            .hint("Save the image again.");
    }
    let error =
        Error::input(format!("{source} is a tar, but of no image: it has neither manifest.json nor index.json"))
            .code(Code::ArchiveUnrecognized);
    match nested {
        Some(folder) => {
            let (folder, quoted) = (shown(folder), quoted(folder));
            // What came through a pipe has no name.
            let unpack = if *source == Source::StandardInput { " ARCHIVE".to_owned() } else { source.operand() };
            error.hint(format!(
                "The image lies in its folder {folder}/. Unpack the tar, then pack what is in there:\n  \
                 tar -xf{unpack} && tar -C {quoted} -cf packed.tar ."
            ))
        }
        None if has("Dockerfile") || has("Containerfile") => {
            error.hint("This looks like what an image is built from. Build it first, into an archive.")
        }
        None if names.iter().any(|name| name.starts_with("etc/") || name.starts_with("usr/")) => {
            error.hint("This looks like a file system, as `docker export` writes it. Use `docker save` on the image.")
        }
        None => error
            .hint("Give a tar written by `docker save`, `podman save`, kaniko, crane or BuildKit, or an OCI layout."),
    }
}
