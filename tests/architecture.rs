//! The order of the modules: each uses only those before it, as `src/lib.rs` lists them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules in their order: each may use those before it. `lib`, `main` and tests may use all; `sandbox` is used by
/// `main` alone, and shares newtypes and constants only.
const ORDER: [&str; 13] = [
    "error",
    "file",
    "request_log",
    "proxy",
    "oci",
    "compress",
    "archive",
    "registry",
    "ecr",
    "reuse",
    "push",
    "output",
    "cli",
];

/// What modules may not use, though it stands before them.
const NEVER: [(&str, &[&str]); 4] = [
    ("ecr", &["archive", "registry"]),
    ("request_log", &["file"]),
    ("proxy", &["request_log", "file"]),
    ("registry", &["archive"]),
];

/// What the sandbox may use: a parser shared by product and fake would hide its own faults.
const SANDBOX: [&str; 3] = ["error", "file", "oci"];

/// Whether code in one module may name the other.
fn may_use(module: &str, other: &str) -> bool {
    let place = |name| ORDER.iter().position(|it| *it == name);
    match module {
        "lib" | "main" => true,
        "sandbox" => SANDBOX.contains(&other),
        _ => {
            let forbidden = NEVER.iter().any(|(name, never)| *name == module && never.contains(&other));
            !forbidden && place(other).is_some_and(|before| place(module).is_some_and(|at| before < at))
        }
    }
}

/// Crates that only one module may name, since it is what that module is for.
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
    ("bzip2", "compress"),
    ("clap", "cli"),
    ("console", "output"),
    ("flate2", "compress"),
    ("hyper", "registry"),
    ("lzma_rust2", "compress"),
    ("regex_lite", "proxy"),
    ("rustix", "file"),
    ("rustls", "registry"),
    ("rustls_platform_verifier", "registry"),
    ("tar", "archive"),
    ("webpki", "registry"),
    ("aws_lc_rs", "compress"),
    ("zstd", "compress"),
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
                let module = inside.components().next().unwrap().as_os_str().to_str().unwrap();
                let text = fs::read_to_string(&path).unwrap();
                files.push((module.trim_end_matches(".rs").to_owned(), inside, text));
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

/// The modules that a file's code names: `crate::module`, also inside `use crate::{a, b}`.
fn used(text: &str) -> BTreeSet<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join(" ");
    let mut modules = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        let (list, single) = match after.strip_prefix('{') {
            Some(list) => (list.split('}').next().unwrap_or_default(), false),
            None => (after, true),
        };
        for item in list.split(',').take(if single { 1 } else { usize::MAX }) {
            let name: String = item.trim().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            modules.insert(name);
        }
    }
    modules
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| ["tests", "tests.rs"].contains(&part.as_os_str().to_str().unwrap()))
}

#[test]
fn a_module_uses_only_modules_before_it() {
    for (module, path, text) in sources() {
        let known = |name: &str| ORDER.contains(&name) || ["lib", "main", "sandbox"].contains(&name);
        assert!(known(&module), "{} is in no module of the order: add it here and in src/lib.rs", path.display());
        if is_test(&path) {
            continue;
        }
        for other in used(&code(&text)).iter().filter(|other| **other != module && known(other)) {
            assert!(may_use(&module, other), "{} uses {other}, which {module} may not use", path.display());
        }
    }
}

#[test]
fn every_crate_is_used_by_its_module_alone() {
    for (module, path, text) in sources().into_iter().filter(|(_, path, _)| !is_test(path)) {
        let code = code(&text);
        for (name, home) in ONLY_IN.iter().filter(|(_, home)| *home != module) {
            let named = code.lines().any(|line| {
                let line = line.trim_start();
                !line.starts_with("//")
                    && line
                        .split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':')
                        .any(|word| word.starts_with(&format!("{name}::")))
            });
            assert!(!named, "{} names {name}, which only {home} may name", path.display());
        }
    }
}

#[test]
fn only_main_ends_the_process_and_only_main_prints() {
    for (module, path, text) in sources().into_iter().filter(|(module, path, _)| module != "main" && !is_test(path)) {
        let code = code(&text);
        // The libraries read the proxies of the environment themselves, and `proxy` does it in their place.
        let variables = if module == "proxy" { None } else { Some("env::var") };
        for word in ["process::exit(", "println!(", "print!("].into_iter().chain(variables) {
            assert!(!code.contains(word), "{} has {word}, which is not for {module}", path.display());
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
fn the_documentation_of_the_crate_names_every_module() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    for module in ORDER {
        assert!(lib.contains(&format!("`{module}`")), "the list in src/lib.rs lacks {module}");
    }
}
