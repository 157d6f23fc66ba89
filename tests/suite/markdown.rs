//! Parses the documentation: `README.md`, `CONTRIBUTING.md` and everything below `docs/`. Outputs in it are generated.
//!
//! A block of code that follows `<!-- output: NAME -->` has the output of the program. With `DOCS_UPDATE=1`, tests write such
//! blocks and generated files instead of comparing them.

use std::fmt::Debug;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// A page of the documentation.
#[derive(Debug)]
pub(crate) struct Page {
    /// Relative to the repository.
    pub(crate) path: String,
    pub(crate) text: String,
}

static PAGES: LazyLock<Vec<Page>> = LazyLock::new(|| {
    let mut paths = vec![PathBuf::from("README.md"), PathBuf::from("CONTRIBUTING.md")];
    list(Path::new("docs"), &mut paths);
    paths.sort();
    let page = |path: PathBuf| Page {
        text: fs::read_to_string(root().join(&path)).unwrap(),
        path: path.to_str().unwrap().into(),
    };
    paths.into_iter().map(page).collect()
});

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn list(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = folder.join(entry.file_name());
        if entry.path().is_dir() {
            list(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// All pages, sorted by path.
pub(crate) fn pages() -> &'static [Page] {
    &PAGES
}

/// The page at a path.
#[track_caller]
pub(crate) fn page(path: &str) -> &'static Page {
    pages().iter().find(|page| page.path == path).unwrap_or_else(|| panic!("there is no page {path}"))
}

impl Page {
    /// Returns the text without blocks of code, which may have lines that look like headings.
    pub(crate) fn prose(&self) -> String {
        self.text.split("```").step_by(2).collect()
    }

    /// Returns the text without the outputs in it.
    pub(crate) fn without_outputs(&self) -> String {
        let mut parts = self.text.split("<!-- output: ");
        let mut text = parts.next().unwrap().to_owned();
        parts.for_each(|part| text += part.splitn(3, "```").nth(2).unwrap());
        text
    }

    /// Returns what stands under a heading, up to the next one of its rank or above.
    #[track_caller]
    pub(crate) fn section(&self, heading: &str) -> &str {
        let rest = self.text.split_once(&format!("\n{heading}\n"));
        let (_, rest) = rest.unwrap_or_else(|| panic!("there is no {heading} in {}", self.path));
        let rank = heading.bytes().take_while(|byte| *byte == b'#').count();
        let ends = (2..=rank).filter_map(|rank| rest.find(&format!("\n{} ", "#".repeat(rank))));
        &rest[..ends.min().unwrap_or(rest.len())]
    }
}

/// A block of code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) path: &'static str,
    /// The line of its fence, from 1.
    pub(crate) line: usize,
    /// The word after the fence.
    pub(crate) language: &'static str,
    pub(crate) text: &'static str,
}

impl Block {
    /// Counts the calls of the program: as a word of a script, as the image of a container, or by an integration.
    pub(crate) fn calls(&self) -> usize {
        let code = self.text.lines().map(|line| line.split(" #").next().unwrap_or_default());
        let calls = |line: &str| {
            let words = line.split_whitespace().filter_map(|word| word.rsplit("$(").next());
            let words = words.map(|word| word.trim_matches(['\'', '"']));
            let line = line.trim_start().trim_start_matches("- ");
            let is_container = line.starts_with("image: registry.example/tools/ecr-push:") && !line.contains("-debug");
            let is_integration = line.starts_with("uses: ecr-push/ecr-push@")
                || line.contains("/ecr-push/push@")
                || line.starts_with("task: EcrPush@");
            let is_call = !line.contains("ecr-push --version");
            words.filter(|word| *word == "ecr-push" && is_call).count() + usize::from(is_container || is_integration)
        };
        code.map(calls).sum()
    }

    /// Returns where the block is, for messages.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.path, self.line)
    }
}

/// Returns all blocks of code.
pub(crate) fn blocks() -> Vec<Block> {
    pages().iter().flat_map(blocks_of).collect()
}

fn blocks_of(page: &'static Page) -> Vec<Block> {
    let (mut found, mut line) = (Vec::new(), 1);
    let mut parts = page.text.split("```");
    line += parts.next().unwrap().matches('\n').count();
    while let Some(block) = parts.next() {
        let (language, text) = block.split_once('\n').expect("a fence ends its line");
        found.push(Block { path: &page.path, language, line, text });
        line += block.matches('\n').count();
        line += parts.next().expect("every block is closed").matches('\n').count();
    }
    found
}

/// Returns the first cells and the rest of the rows of a section's tables, without their heads.
pub(crate) fn rows(section: &str) -> Vec<(&str, &str)> {
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    rows.filter(|(first, _)| !first.starts_with("---")).skip(1).collect()
}

/// Compares the block after `<!-- output: NAME -->` with the actual output; both are made comparable first, by removing what
/// differs from run to run.
#[track_caller]
pub(crate) fn check_output<T: Debug + PartialEq>(name: &str, actual: &str, comparable: impl Fn(&str) -> T) {
    let marker = format!("<!-- output: {name} -->\n```");
    let find = |text: &str| {
        let start = text.find(&marker)? + marker.len();
        let start = start + text[start..].find('\n')? + 1;
        Some(start..start + text[start..].find("```")?)
    };
    let page = pages().iter().find(|page| find(&page.text).is_some());
    let page = page.unwrap_or_else(|| panic!("no page has the output {name}"));
    let shown = comparable(&page.text[find(&page.text).unwrap()]);
    let expected = comparable(actual);
    if shown == expected {
        return;
    }
    if !is_update() {
        assert_eq!(shown, expected, "{}: the output {name} is out of date; {HOW}", page.path);
    }
    let path = root().join(&page.path);
    locked(|| {
        let text = fs::read_to_string(&path).unwrap();
        let range = find(&text).unwrap();
        fs::write(&path, format!("{}{actual}{}", &text[..range.start], &text[range.end..])).unwrap();
    });
}

/// Compares a generated file.
#[track_caller]
pub(crate) fn check_file(path: &str, expected: &str) {
    let file = root().join(path);
    if fs::read_to_string(&file).unwrap_or_default() == expected {
        return;
    }
    assert!(is_update(), "{path} is out of date; {HOW}");
    fs::write(file, expected).unwrap();
}

const HOW: &str = "to update it: DOCS_UPDATE=1 cargo test --test suite docs";

/// Returns whether generated parts are to be written.
fn is_update() -> bool {
    std::env::var_os("DOCS_UPDATE").is_some_and(|value| !value.is_empty())
}

/// Runs something while no other test, in any process, does.
fn locked(run: impl FnOnce()) {
    let lock = File::create(std::env::temp_dir().join("ecr-push-docs.lock")).unwrap();
    lock.lock().unwrap();
    run();
}
