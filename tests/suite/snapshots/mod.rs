//! The entire output of a run and the files that it writes, compared with a file beside this one.
//!
//! `INSTA_UPDATE=always cargo test --test suite -- snapshots::` writes the files of `snapshots/` again. Read them before they are
//! committed, as a user who has never seen the program. Where `CI=true` nothing is ever written.

use std::fs;

use super::harness::{Run, TestEnv};

mod commands;
mod failures;
#[cfg(unix)]
mod pipelines;
mod pushes;
#[cfg(target_os = "linux")]
mod screens;

/// What differs from run to run: what it is, the words around it, and what stands there instead.
const DIFFERENT: [(&str, &str, &str); 10] = [
    // On a busy machine any run may take longer than that.
    ("lines every five seconds", HEARTBEATS, ""),
    ("ports", r"\b((?:1?2)?7\.0\.0\.1):\d{5}\b", "${1}:PORT"),
    ("times", r"(; |\| )(about )?[0-9.]+ (ms|s)\b", "${1}${2}TIME"),
    ("times of a page", r"(?m)^( *| *\d of \d targets failed\. )[0-9.]+ (ms|s) in total\.$", "${1}TIME in total."),
    ("times of requests", r"(?m)^((?:GET|HEAD|POST|PUT|PATCH|DELETE) +\d+) +[0-9.]+ (ms|s)  ", "${1}  TIME  "),
    ("a system's numbers", r"\(os error \d+\)", "(os error NUMBER)"),
    ("pauses", r"\b(retry \d of \d)(\s+)in(\s+)[0-9.]+ s\b", "${1}${2}in${3}TIME"),
    ("moments", r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "MOMENT"),
    ("seconds of reports", r#""((?:saved_)?seconds(?:_saved)?)":( ?)[0-9.]+"#, r#""${1}":${2}SECONDS"#),
    ("request IDs", r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "REQUEST-ID"),
];

/// How far a push is, why it waits, and for how long it has been doing something.
const HEARTBEATS: &str =
    r"(?m)^(.* sent.*, \d+ of \d+ uploads done, .*|retry \d of \d in \d+ (second|minute)s?: .*|[a-z].* \(\d+ s\))\n";

/// All output of a run.
pub(crate) struct Snapshot {
    text: String,
    filters: Vec<(String, String)>,
}

impl Snapshot {
    /// The arguments, the exit code, and what was said where.
    pub(crate) fn of(run: &Run) -> Self {
        let Run { arguments, code, stdout, stderr, .. } = run;
        let code = shown(*code);
        Self {
            text: format!("ecr-push {arguments}\n== exit code {code}\n== stdout\n{stdout}== stderr\n{stderr}"),
            filters: Vec::new(),
        }
    }

    /// What is left on a terminal.
    #[cfg(target_os = "linux")]
    pub(crate) fn of_screen(name: &str, seen: &super::pty::Seen) -> Self {
        let code = shown(seen.code);
        let text = format!("{name}\n== exit code {code}\n== screen\n{}\n", seen.screen);
        Self { text, filters: Vec::new() }
    }

    /// A file that was written, by a name for people.
    pub(crate) fn file(mut self, name: &str, path: &str) -> Self {
        let held = fs::read_to_string(path).unwrap_or_else(|error| format!("({error})\n"));
        self.text += &format!("== {name}\n{held}");
        if !held.ends_with('\n') {
            self.text += "(no line end)\n";
        }
        self
    }

    /// Something else that differs from run to run.
    pub(crate) fn without(mut self, pattern: &str, instead: &str) -> Self {
        self.filters.push((pattern.into(), instead.into()));
        self
    }

    /// Compares it with `snapshots/NAME.snap`.
    #[track_caller]
    pub(crate) fn is(self, name: &str, env: &TestEnv) {
        let mut settings = insta::Settings::new();
        settings.set_snapshot_path("../snapshots");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.add_filter(&escaped(&env.folder()), "BENCH");
        settings.add_filter(&escaped(env!("CARGO_MANIFEST_DIR")), "PROJECT");
        settings.add_filter(&format!(r"\becr-push/{}\b", escaped(env!("CARGO_PKG_VERSION"))), "ecr-push/VERSION");
        for (pattern, instead) in &self.filters {
            settings.add_filter(pattern, instead.as_str());
        }
        for (_, pattern, instead) in DIFFERENT {
            settings.add_filter(pattern, instead);
        }
        settings.bind(|| insta::assert_snapshot!(name, self.text));
    }
}

fn shown(code: Option<i32>) -> String {
    code.map_or_else(|| "none".to_owned(), |code| code.to_string())
}

/// A pattern for this text and nothing else.
fn escaped(text: &str) -> String {
    let escape = |c: char| if c.is_ascii_alphanumeric() || c == '/' { c.to_string() } else { format!("\\{c}") };
    text.chars().map(escape).collect()
}
