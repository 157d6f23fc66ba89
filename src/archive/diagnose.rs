//! What something is that is no image archive, told by its first bytes or by the names in it, and what to do about it.

use std::io::{self, Read};

use super::document::{MAX_LIST, SavedImage, parse};
use super::entries::BLOBS;
use super::source::Source;
use super::tar_index::TarIndex;
use super::{INDEX_JSON, MANIFEST_JSON, OCI_LAYOUT, quoted, shown};
use crate::compress::FileCompression;
use crate::error::{Advice, Code, Error};

/// Whether the block is a tar header: its checksum says so. An empty tar starts with zeros and is no image.
pub(super) fn is_tar_header(start: &[u8]) -> bool {
    let Ok(block) = <&[u8; 512]>::try_from(start) else { return false };
    let digits = block[148..156].trim_ascii().split(|byte| matches!(byte, 0 | b' ')).next().unwrap_or_default();
    let stated = str::from_utf8(digits).ok().and_then(|digits| u32::from_str_radix(digits, 8).ok());
    let others = block[..148].iter().chain(&block[156..]);
    stated == Some(others.map(|byte| u32::from(*byte)).sum::<u32>() + 8 * u32::from(b' '))
}

/// Whether the block is the label that GNU tar writes in front of all entries (`tar --label`).
pub(super) fn is_volume_label(block: &[u8]) -> bool {
    block.get(156) == Some(&b'V') && is_tar_header(block)
}

/// Whether these first bytes of a file are binary data that a program took for text and wrote as UTF-8: no binary format has
/// bytes above 7F only where UTF-8 has them. A block may end inside a character.
pub(super) fn is_reencoded(start: &[u8]) -> bool {
    let mut check = TextCheck::default();
    check.add(start);
    check.is_reencoded() && start.iter().any(|byte| byte.is_ascii_control() && !byte.is_ascii_whitespace())
}

/// Checks whether bytes that go by are UTF-8.
#[derive(Debug, Default)]
pub(super) struct TextCheck {
    is_binary: bool,
    has_non_ascii: bool,
    /// The beginning of a character.
    rest: Vec<u8>,
}

impl TextCheck {
    /// Takes the next bytes.
    pub(super) fn add(&mut self, mut bytes: &[u8]) {
        while let (false, false, [byte, others @ ..]) = (self.is_binary, self.rest.is_empty(), bytes) {
            self.rest.push(*byte);
            bytes = others;
            match str::from_utf8(&self.rest) {
                Ok(_) => self.rest.clear(),
                Err(error) => self.is_binary = error.error_len().is_some(),
            }
        }
        if self.is_binary {
            return;
        }
        self.has_non_ascii |= !bytes.is_ascii();
        if let Err(error) = str::from_utf8(bytes) {
            self.is_binary = error.error_len().is_some();
            self.rest = bytes[error.valid_up_to()..].to_vec();
        }
    }

    /// Whether all bytes so far are UTF-8, and not only ASCII.
    pub(super) fn is_reencoded(&self) -> bool {
        self.has_non_ascii && !self.is_binary
    }
}

/// Whether all of `bytes` are UTF-8, and not only ASCII.
pub(super) fn is_reencoded_whole(mut bytes: impl Read, mut check: TextCheck) -> bool {
    let mut buffer = vec![0; 64 << 10];
    while !check.is_binary {
        match bytes.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => check.add(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    check.is_reencoded()
}

/// Returns the error that PowerShell took an archive for text.
pub(super) fn reencoded(name: &str, how: &str) -> Error {
    Error::input(format!("{name} is {how}, not an image archive"))
        .code(Code::ArchiveDamaged)
        .because("PowerShell's > and pipes likely wrote it: before version 7.4 they spoil binary output")
        .hint(Advice::new("Let docker write the file itself:").command("docker save -o image.tar IMAGE"))
}

/// Returns the advice to load an archive with the command `load`, and to save its image again.
pub(super) fn resave(text: &str, load: &str) -> Advice {
    Advice::new(text).command(format!("{load} && docker save -o image.tar IMAGE"))
}

/// What to do about an archive without manifest.json.
pub(super) const OLD_FORMAT: &str =
    "Docker 1.9 or older wrote it, without manifest.json. Load it into a newer Docker and save it again:";

/// Says what bytes are that are no tar: those of `source`, or those that are `packed` in it.
pub(super) fn no_image(source: &Source, packed: Option<FileCompression>, start: &[u8]) -> Error {
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
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => reencoded(&name, "text in UTF-16"),
        // gzip and zstd after `?` has replaced what is not ASCII.
        [0x1f, b'?', 8, ..] | [b'(', b'?', b'/', b'?', ..] => {
            reencoded(&name, "binary data that was turned into ASCII")
        }
        start if is_reencoded(start) => reencoded(&name, "binary data that was turned into text in UTF-8"),
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

/// Returns the folder in which an image lies, of several the one that is the least deep.
fn nested<'a>(names: &[&'a str], index: &TarIndex) -> Option<&'a str> {
    let has = |folder: &str, name: &str| names.binary_search(&format!("{folder}/{name}").as_str()).is_ok();
    let has_blobs = |folder: &str| {
        let prefix = format!("{folder}/{BLOBS}");
        names.get(names.partition_point(|name| *name < prefix.as_str())).is_some_and(|name| name.starts_with(&prefix))
    };
    // Other programs have files of this name, too: in a file system many.
    let mut left = 100;
    let mut lists_images = |name: &str| {
        left = u32::checked_sub(left, 1)?;
        let range = index.find(name).ok().flatten()?;
        let bytes = range.read_all(MAX_LIST).ok()?;
        parse::<Vec<SavedImage>>(&bytes, name).ok()
    };
    let folders = names.iter().filter_map(|name| {
        let (folder, file) = name.rsplit_once('/')?;
        let is_image = match file {
            OCI_LAYOUT => true,
            INDEX_JSON => !has(folder, OCI_LAYOUT) && has_blobs(folder),
            MANIFEST_JSON => lists_images(name).is_some(),
            _ => false,
        };
        is_image.then_some(folder)
    });
    folders.min_by_key(|folder| folder.split('/').count())
}

/// Says what a tar is that holds no image.
pub(super) fn tar_without_image(source: &Source, index: &TarIndex) -> Error {
    let mut names: Vec<_> = index.names().collect();
    names.sort_unstable();
    let has = |name: &str| names.binary_search(&name).is_ok();
    if has(INDEX_JSON) {
        return Error::input(format!("{source} is an incomplete OCI layout: it has index.json, but no oci-layout"))
            .code(Code::ArchiveIncomplete)
            .hint("Save the image again.");
    }
    let error =
        Error::input(format!("{source} is a tar, but of no image: it has neither manifest.json nor index.json"))
            .code(Code::ArchiveUnrecognized);
    // What came through a pipe has no name.
    let archive = if *source == Source::StandardInput { " ARCHIVE".to_owned() } else { source.operand() };
    match nested(&names, index) {
        Some(folder) => {
            let (folder, quoted) = (shown(folder), quoted(folder));
            let text =
                format!("The image is in the folder {folder}/ of the tar. Extract it, and archive that folder alone:");
            error.hint(Advice::new(text).command(format!("tar -xf{archive} && tar -C {quoted} -cf packed.tar .")))
        }
        None if has("repositories") => error.hint(resave(OLD_FORMAT, &format!("docker load -i{archive}"))),
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
