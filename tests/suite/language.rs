//! The words of help, output and documentation: the terms of the field, no private ones.

use std::collections::BTreeMap;
use std::fs;

use regex_lite::Regex;

use super::harness::TestEnv;
use super::markdown::{pages, root};

/// Words that are not written, and what is written for them.
const TERMS: [(&str, &str); 27] = [
    (r"packs?|packed|packing|packers?", "compress, compressed, compression"),
    (r"plain layers?", "uncompressed layers"),
    (r"lies?|lying", "is pushed as is; is in place; mismatch"),
    (r"told|tells?|said|says so|hears|heard", "reported, logged, printed; warns"),
    (r"own cache", "the local layer cache"),
    (r"further", "additional, more"),
    (r"rights|a right", "permissions"),
    (r"look(s|ed)? (at|into)|a look|looks", "checked, read; a lookup"),
    (r"held", "exists in the registry; cached"),
    (r"go(es)? on|went on", "resumes, continues"),
    (r"anew|once more", "again"),
    (r"stands? in( for)?", "replaces; overrides"),
    (r"lacks?|lacked|lacking", "is missing"),
    (r"nobody|somebody|somebody else", "offline; no network access; another client"),
    (r"(becomes?|became|come|comes|came) of", "what happens to; policy for; the result of"),
    (r"a lot|lots|fates?", "action, state"),
    (r"noise", "incompressible data"),
    (r"kept by reference", "non-distributable, not uploaded"),
    (r"belong(s|ed|ings?)?", "referrers; is part of"),
    (r"goes by|pass(es|ed)? by", "streamed"),
    (r"quicker", "first"),
    (r"houses?|rooms?|doors?", "architecture, module, entry point, space"),
    (r"doubts?|doubted", "warning"),
    (r"but for|of such", "except"),
    (r"is none|are none", "what the value must be"),
    (r"whoever|whatever it is|of its own making", "users who, clients that"),
    (r"colours?|behaviours?|licences?", "color, behavior, license"),
];

/// Where a word of the list is meant: an interface that is kept, or a name of others.
const EXCEPTIONS: [(&str, &str); 7] = [
    ("\"packing\":", "keys are not renamed"),
    (r"\-\-pack\-threads", "options are not renamed"),
    ("--colour", "an option that does not exist"),
    ("--pack-threads", "options are not renamed"),
    ("ECR_PUSH_PACK_THREADS", "variables are not renamed"),
    ("pack_threads", "keys are not renamed"),
    ("`packing`", "keys are not renamed"),
];

/// How many of these words are left where. Only ever lower a number.
const LEFT: [(&str, usize); 0] = [];

/// Markdown files and snapshots, each under the name that `LEFT` has for it.
fn texts() -> Vec<(String, String)> {
    // What is generated is in the other texts.
    let pages = pages().iter().filter(|page| page.path != "docs/reference.md");
    let mut texts: Vec<(String, String)> = pages.map(|page| (page.path.clone(), page.without_outputs())).collect();
    let changes = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let unreleased = changes.split("\n## ").nth(1).unwrap_or_default();
    texts.push(("CHANGELOG.md".into(), unreleased.to_owned()));
    let mut snapshots = String::new();
    for entry in fs::read_dir(root().join("tests/suite/snapshots")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "snap") {
            // Without the head of the file and the command.
            let text = fs::read_to_string(&path).unwrap();
            snapshots += text.splitn(3, "---\n").last().unwrap_or_default();
        }
    }
    texts.push(("snapshots".into(), snapshots));
    texts
}

/// Prints the words in a text, each with its line.
fn found(text: &str) -> Vec<String> {
    let mut text = text.to_owned();
    for (exception, _) in EXCEPTIONS {
        text = text.replace(exception, "");
    }
    let mut found = Vec::new();
    for (word, instead) in TERMS {
        let pattern = Regex::new(&format!(r"(?i)\b({word})\b")).unwrap();
        for line in text.lines() {
            found.extend(pattern.find_iter(line).map(|hit| format!("{:?} ({instead}): {}", hit.as_str(), line.trim())));
        }
    }
    found
}

#[test]
fn texts_use_the_terms_of_the_field() {
    let env = TestEnv::new();
    let mut texts = texts();
    for command in [&[][..], &["tag"], &["inspect"], &["policy"], &["sandbox"], &["demo"], &["completions"], &["man"]] {
        let help = env.run(&[command, &["--help"]].concat()).succeeds().stdout;
        let short = env.run(&[command, &["-h"]].concat()).succeeds().stdout;
        texts.push((["help"].iter().chain(command).copied().collect::<Vec<_>>().join(" "), help + &short));
    }
    texts.push(("manual".into(), env.run(&["man"]).succeeds().stdout.replace("\\-", "-")));
    let left: BTreeMap<_, _> = LEFT.into_iter().collect();
    let mut problems = String::new();
    for (name, text) in texts {
        let (words, limit) = (found(&text), left.get(&*name).copied().unwrap_or_default());
        if words.len() > limit {
            problems += &format!("\n{name}: {} words, where {limit} may be left\n  ", words.len());
            problems += &words.join("\n  ");
        }
    }
    assert!(problems.is_empty(), "{problems}");
}
