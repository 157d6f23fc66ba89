//! The order of the house: a room uses only rooms in front of it, as `src/lib.rs` draws it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms, each with what it may use. `main` and tests may use all.
const MAY_USE: [(&str, &[&str]); 20] = [
    ("error", &[]),
    ("file", &[]),
    ("exchange", &["error"]),
    ("log", &["error"]),
    ("proxy", &["error"]),
    ("oci", &["error"]),
    ("layer", &["error", "oci"]),
    ("image", &["error", "file", "layer", "oci"]),
    ("registry", &["error", "exchange", "file", "layer", "oci", "proxy"]),
    ("ecr", &["error", "exchange", "file", "layer", "oci", "proxy"]),
    ("reuse", &["error", "file", "layer", "oci", "registry"]),
    ("plan", &["error", "image", "layer", "oci", "reuse"]),
    ("push", &["ecr", "error", "exchange", "file", "image", "layer", "plan", "oci", "registry", "reuse"]),
    ("inspect", &["error", "image", "layer", "oci"]),
    (
        "progress",
        &["ecr", "error", "exchange", "image", "inspect", "layer", "log", "plan", "push", "oci", "registry", "reuse"],
    ),
    (
        "report",
        &["ecr", "error", "exchange", "image", "inspect", "layer", "log", "plan", "push", "oci", "registry", "reuse"],
    ),
    (
        "cli",
        &[
            "ecr", "error", "exchange", "image", "inspect", "layer", "log", "plan", "progress", "proxy", "push", "oci",
            "registry", "report", "reuse",
        ],
    ),
    ("sandbox", &["error", "file", "oci"]),
    ("lib", &[]),
    ("main", &[]),
];

/// Crates that only one room may name, since it is what the room is for.
const ONLY_IN: [(&str, &str); 26] = [
    ("aws_config", "ecr"),
    ("aws_credential_types", "ecr"),
    ("aws_runtime", "ecr"),
    ("aws_sdk_ecr", "ecr"),
    ("aws_sdk_ecrpublic", "ecr"),
    ("aws_sdk_sso", "ecr"),
    ("aws_sdk_sts", "ecr"),
    ("aws_smithy_http_client", "ecr"),
    ("aws_smithy_runtime_api", "ecr"),
    ("aws_smithy_types", "ecr"),
    ("aws_types", "ecr"),
    ("axum", "sandbox"),
    ("bzip2", "layer"),
    ("clap", "cli"),
    ("console", "progress"),
    ("flate2", "layer"),
    ("hyper", "registry"),
    ("lzma_rust2", "layer"),
    ("regex_lite", "proxy"),
    ("rustix", "file"),
    ("rustls", "registry"),
    ("rustls_platform_verifier", "registry"),
    ("tar", "image"),
    ("webpki", "registry"),
    ("aws_lc_rs", "layer"),
    ("zstd", "layer"),
];

/// Files that may be longer than the rule, with the reason.
const LONG: [(&str, &str); 0] = [];
const LONGEST: usize = 500;

fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut files) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let inside = path.strip_prefix(&root).unwrap().to_owned();
                let room = inside.components().next().unwrap().as_os_str().to_str().unwrap();
                let text = fs::read_to_string(&path).unwrap();
                files.push((room.trim_end_matches(".rs").to_owned(), inside, text));
            }
        }
    }
    files
}

/// A file without its tests.
fn code(text: &str) -> String {
    let text = text.replace("#[cfg(test)]\nmod tests;", "");
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()
}

/// The rooms that a file's code names: `crate::room`, also inside `use crate::{a, b}`.
fn used(text: &str) -> BTreeSet<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join(" ");
    let mut rooms = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        let (list, single) = match after.strip_prefix('{') {
            Some(list) => (list.split('}').next().unwrap_or_default(), false),
            None => (after, true),
        };
        for item in list.split(',').take(if single { 1 } else { usize::MAX }) {
            let name: String = item.trim().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            rooms.insert(name);
        }
    }
    rooms
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| ["tests", "tests.rs"].contains(&part.as_os_str().to_str().unwrap()))
}

#[test]
fn every_room_uses_only_rooms_in_front_of_it() {
    for (room, path, text) in sources() {
        let Some((_, may_use)) = MAY_USE.iter().find(|(name, _)| *name == room) else {
            panic!("{} is in no room of the map: add it here and in src/lib.rs", path.display());
        };
        if is_test(&path) {
            continue;
        }
        let code = code(&text);
        for other in used(&code).iter().filter(|other| **other != room && MAY_USE.iter().any(|(name, _)| name == other))
        {
            assert!(may_use.contains(&other.as_str()), "{} uses {other}, which {room} may not know", path.display());
        }
    }
}

#[test]
fn every_library_lives_in_its_room() {
    for (room, path, text) in sources().into_iter().filter(|(_, path, _)| !is_test(path)) {
        let code = code(&text);
        for (name, home) in ONLY_IN.iter().filter(|(_, home)| *home != room) {
            let named = code.lines().any(|line| {
                let line = line.trim_start();
                !line.starts_with("//")
                    && line
                        .split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':')
                        .any(|word| word.starts_with(&format!("{name}::")))
            });
            assert!(!named, "{} names {name}, which lives in {home}", path.display());
        }
    }
}

#[test]
fn only_main_ends_the_process_and_only_main_prints() {
    for (room, path, text) in sources().into_iter().filter(|(room, path, _)| room != "main" && !is_test(path)) {
        let code = code(&text);
        // The libraries read the proxies of the environment themselves, and `proxy` does it in their place.
        let variables = if room == "proxy" { None } else { Some("env::var") };
        for word in ["process::exit(", "println!(", "print!("].into_iter().chain(variables) {
            assert!(!code.contains(word), "{} has {word}, which is not for {room}", path.display());
        }
    }
}

#[test]
fn a_command_that_cures_has_a_line_of_its_own() {
    for (_, path, text) in sources().into_iter().filter(|(_, path, _)| !is_test(path)) {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//")).map(str::trim_start);
        // Strings that go on in the next line are one.
        let code = code(&lines.collect::<Vec<_>>().join("\n")).replace("\\\n", "");
        for command in [
            "aws ec",
            "aws kms ",
            "aws sso ",
            "aws sts ",
            "aws configure ",
            "docker login {",
            "docker pull ",
            "tar -C ",
        ] {
            for (at, _) in code.match_indices(command) {
                let before = &code[..at];
                // In front of it: the end of a line, the beginning of the text, another command.
                let is_apart = ["\\n", "\\n  ", "\"", "| ", "&& ", "$("].iter().any(|end| before.ends_with(end));
                assert!(is_apart, "{}: {command:?} stands in mid-sentence", path.display());
            }
        }
    }
}

#[test]
fn no_file_is_too_long_to_be_read() {
    for (_, path, text) in sources() {
        let (lines, name) = (text.lines().count(), path.to_str().unwrap());
        let excepted = LONG.iter().any(|(known, _)| *known == name);
        assert!(
            excepted || lines <= LONGEST,
            "{name} has {lines} lines: split it by meaning, or list it with a reason"
        );
    }
}

#[test]
fn the_map_in_lib_rs_names_every_room() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    for (room, _) in MAY_USE.iter().filter(|(room, _)| *room != "lib") {
        assert!(lib.contains(&format!("`{room}`")), "the map in src/lib.rs lacks {room}");
    }
}
