//! The structure of the source: which module uses which, which files use each other, and what belongs where.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

use std::fs;
use std::path::Path;

use graph::SourceFile;

#[path = "architecture/graph.rs"]
mod graph;

/// The modules in their order: each may use those before it. `lib`, `internals` and tests may use all, `main` only `cli`;
/// `sandbox` is used by `cli` alone, and shares newtypes and constants only.
const ORDER: [&str; 15] = [
    "error", "file", "sync", "proxy", "tls", "oci", "request_log", "compress", "archive", "registry", "ecr", "reuse",
    "push", "output", "cli",
];

/// What modules may not use, though it stands before them.
const NEVER: [(&str, &[&str]); 4] = [
    ("ecr", &["archive", "registry"]),
    ("request_log", &["file", "proxy", "tls"]),
    ("proxy", &["file"]),
    ("registry", &["archive"]),
];

/// What the sandbox may use: a parser shared by product and fake would hide its own faults.
const SANDBOX: [&str; 4] = ["error", "file", "oci", "sync"];

/// Whether code in one module may name the other.
fn may_use(module: &str, other: &str) -> bool {
    let place = |name| ORDER.iter().position(|it| *it == name);
    match module {
        "lib" | "internals" => true,
        "main" => other == "cli",
        "cli" if other == "sandbox" => true,
        "sandbox" => SANDBOX.contains(&other),
        _ => {
            let forbidden = NEVER.iter().any(|(name, never)| *name == module && never.contains(&other));
            !forbidden && place(other).is_some_and(|before| place(module).is_some_and(|at| before < at))
        }
    }
}

/// Crates that only these modules may name, since it is what they are for.
const ONLY_IN: [(&str, &str); 29] = [
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
    ("indicatif", "output"),
    ("lzma_rust2", "compress"),
    ("regex_lite", "proxy"),
    ("regex_lite", "sandbox"),
    ("rustix", "cli"),
    ("rustix", "file"),
    ("rustls", "tls"),
    ("rustls_platform_verifier", "tls"),
    ("tar", "archive"),
    ("webpki", "tls"),
    ("aws_lc_rs", "compress"),
    ("zstd", "compress"),
];

/// Files that may be longer than the rule, with the reason.
const LONG: [(&str, &str); 0] = [];
const LONGEST: usize = 500;

/// Files that use each other, directly or by way of others, may be two. Folders that still have more of them: the
/// most that one cycle spans. Only ever lower a number.
const CYCLES: [(&str, usize); 0] = [];
const LARGEST_CYCLE: usize = 2;

/// `mod.rs` holds only `mod`, `use` and documentation. Those that still define items, and how many. Only ever lower a
/// number.
const DEFINING: [(&str, usize); 0] = [];

fn allowed(table: &[(&str, usize)], name: &str, otherwise: usize) -> usize {
    table.iter().find(|(known, _)| *known == name).map_or(otherwise, |(_, number)| *number)
}

fn production() -> Vec<SourceFile> {
    graph::read().into_iter().filter(|file| !file.is_test).collect()
}

/// A file without its tests and comments.
fn code(text: &str) -> String {
    let text = text.replace("#[cfg(test)]\nmod tests;", "");
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.map(|line| line.to_owned() + "\n").collect()
}

#[test]
fn a_module_uses_only_modules_before_it() {
    for SourceFile { module, path, modules, .. } in production() {
        let known = |name: &str| ORDER.contains(&name) || ["lib", "main", "internals", "sandbox"].contains(&name);
        assert!(known(&module), "{} is in no module of the order: add it here and in src/lib.rs", path.display());
        for other in modules.iter().filter(|other| **other != module && known(other)) {
            assert!(may_use(&module, other), "{} uses {other}, which {module} may not use", path.display());
        }
    }
}

#[test]
fn every_crate_is_used_by_its_module_alone() {
    for SourceFile { module, path, crates, .. } in production() {
        for (name, home) in ONLY_IN.iter().filter(|(name, _)| !ONLY_IN.contains(&(name, module.as_str()))) {
            assert!(!crates.contains(*name), "{} names {name}, which only {home} may name", path.display());
        }
    }
}

#[test]
fn no_cycle_of_files_spans_more_than_two() {
    let files = production();
    let folders: std::collections::BTreeSet<_> = files.iter().map(|file| &file.module).collect();
    let mut problems = String::new();
    for folder in folders {
        let inside: Vec<_> = files.iter().filter(|file| file.module == *folder).collect();
        let limit = allowed(&CYCLES, folder, LARGEST_CYCLE);
        for cycle in graph::cycles(&inside).into_iter().filter(|cycle| cycle.len() > limit) {
            problems += &format!("\n{folder}: a cycle of {} files, where {limit} are allowed:\n", cycle.len());
            for file in inside.iter().filter(|file| cycle.contains(&file.path)) {
                for (to, items) in file.uses.iter().filter(|(to, _)| cycle.contains(to)) {
                    let items: Vec<_> = items.iter().map(String::as_str).collect();
                    problems += &format!("  {} -> {}: {}\n", file.path.display(), to.display(), items.join(", "));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{problems}");
}

#[test]
fn mod_rs_only_declares_and_exports() {
    let mut problems = String::new();
    for SourceFile { path, items, .. } in production().iter().filter(|file| file.path.ends_with("mod.rs")) {
        let (name, number) = (path.to_str().unwrap(), items.len());
        let limit = allowed(&DEFINING, name, 0);
        if number > limit {
            problems += &format!("{name} defines {number} items, where {limit} are allowed: {}\n", items.join(", "));
        }
    }
    assert!(problems.is_empty(), "{problems}");
}

#[test]
fn only_the_runner_ends_the_process_and_prints() {
    for SourceFile { module, path, text, .. } in
        production().into_iter().filter(|file| !file.path.starts_with("cli/run"))
    {
        // Examples in documentation may do so.
        let code: String = code(&text).lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        // The libraries read the proxies of the environment themselves, and `proxy` does it in their place.
        let variables = if module == "proxy" { None } else { Some("env::var") };
        for word in ["process::exit(", "println!(", "print!("].into_iter().chain(variables) {
            assert!(!code.contains(word), "{} has {word}, which is not for {module}", path.display());
        }
    }
}

/// The options of the command line, as the reference lists them.
fn options() -> Vec<String> {
    let reference = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference.md")).unwrap();
    let words = reference.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let mut options: Vec<_> =
        words.filter(|word| word.starts_with("--") && word.len() > 2).map(str::to_owned).collect();
    options.sort();
    options.dedup();
    assert!(options.len() > 50, "the reference has only {} options", options.len());
    options
}

/// Parts of commands that are put together.
const COMMANDS: [(&str, &str); 6] = [
    ("archive/engine.rs", "\"oci-archive\""),
    ("ecr/profile.rs", "\" --profile {profile:?}\""),
    ("ecr/profile.rs", "\" --profile {profile}\""),
    ("ecr/advice/denied.rs", "\"--create-repository \""),
    ("ecr/advice/denied.rs", "\"--signing-profile {resource} \""),
    ("push/logins.rs", "\"NAME --password-stdin\""),
];

/// Advice names an option as data (`Setting`), which the command line turns into words. Lines with a command of another
/// program may have options of its own.
#[test]
fn only_the_command_line_names_options() {
    let options = options();
    for SourceFile { module, path, text, .. } in production() {
        if ["cli", "output", "sandbox", "main"].contains(&&*module) {
            continue;
        }
        let code = code(&text);
        let is_other = |line: &str| ["aws ", "docker ", "tar ", "ecr-push "].iter().any(|other| line.contains(other));
        for line in code.lines().filter(|line| !is_other(line)) {
            let mut words = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
            let named = words.find(|word| options.iter().any(|option| option == word));
            let is_command = COMMANDS.iter().any(|(file, part)| path.ends_with(file) && line.contains(part));
            assert!(named.is_none() || is_command, "{} names an option: {}", path.display(), line.trim());
        }
    }
}

#[test]
fn a_command_that_cures_has_a_line_of_its_own() {
    for SourceFile { path, text, .. } in production() {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//")).map(str::trim_start);
        // Strings that go on in the next line are one.
        let code = code(&lines.collect::<Vec<_>>().join("\n")).replace("\\\n", "");
        for command in [
            "aws ec", "aws kms ", "aws sso ", "aws sts ", "aws configure ", "docker login {", "docker pull ", "tar -C ",
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
    for SourceFile { path, text, .. } in graph::read() {
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
