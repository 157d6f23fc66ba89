//! The documentation is complete and consistent: names of the source are on a page, names on a page exist, links resolve,
//! numbers were measured.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ecr_push::internals::{CiSystem, SYSTEMS};
use ecr_push::sandbox::Rules;
use regex_lite::Regex;

use super::archive_builder;
use super::ecr::Ecr;
use super::harness::{TestEnv, finish};
use super::markdown::{Page, page, pages, root, rows};

/// Adds the properties of a schema's object, and of the objects in it.
fn fields(schema: &serde_json::Value, found: &mut BTreeSet<String>) {
    match schema {
        serde_json::Value::Object(keys) => {
            if let Some(serde_json::Value::Object(properties)) = keys.get("properties") {
                found.extend(properties.keys().cloned());
            }
            keys.values().for_each(|key| fields(key, found));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| fields(item, found)),
        _ => {}
    }
}

#[test]
fn the_tables_of_reports_name_every_field() {
    for (title, schema) in [
        ("## Report", include_str!("../../src/output/report/report.schema.json")),
        ("## Inspect as JSON", include_str!("../../src/output/report/inspect.schema.json")),
    ] {
        let section = page("docs/scripting.md").section(title);
        let mut found = BTreeSet::new();
        fields(&serde_json::from_str(schema).unwrap(), &mut found);
        let missing = found
            .iter()
            .filter(|field| !["version", "tool"].contains(&field.as_str()))
            .filter(|field| !section.contains(&format!("`{field}`")) && !section.contains(&format!("`{field}[]`")));
        let missing: Vec<_> = missing.collect();
        assert!(missing.is_empty(), "{title} is missing {missing:?}");
    }
}

/// Returns the options that a text names.
pub(crate) fn options(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let options = words.filter(|word| word.len() > 3 && word.starts_with("--")).map(str::to_owned);
    options.filter(|option| !["--help", "--version"].contains(&option.as_str())).collect()
}

#[test]
fn the_page_of_policies_has_their_options() {
    let help = options(&TestEnv::new().run(&["policy", "--help"]).exits_with(0).stdout);
    let page = options(&page("docs/iam.md").text);
    assert!(help.is_subset(&page), "{:?}", help.difference(&page));
}

/// Words of the source that look like environment variables.
const NOT_VARIABLES: [(&[&str], &str); 2] = [
    (
        &[
            "BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN",
            "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "SIZE_INVALID",
        ],
        "codes of registries",
    ),
    (&["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"], "of cargo, when it compiles"),
];

#[test]
fn every_variable_of_the_source_is_on_a_page() {
    let pages: String = pages().iter().map(|page| page.text.as_str()).collect();
    let mut found = BTreeSet::new();
    variables(&root().join("src"), &mut found);
    assert!(found.len() > 60, "{found:?}");
    let is_known = |name: &str| pages.contains(name) || NOT_VARIABLES.iter().any(|(names, _)| names.contains(&name));
    let missing: Vec<_> = found.iter().filter(|name| !is_known(name)).collect();
    assert!(missing.is_empty(), "no page has {missing:?}");
}

/// Adds the string literals in capitals with a `_`, which names of variables have, except those of options and in tests.
fn variables(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !["sandbox", "tests"].contains(&name) {
                variables(&path, found);
            }
        } else if name.ends_with(".rs") && name != "tests.rs" {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            let is_name = |word: &&str| {
                let is_of_it = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
                word.contains('_') && word.chars().all(is_of_it) && word.starts_with(|c: char| c.is_ascii_uppercase())
            };
            let names = code.split('"').filter(is_name).filter(|name| !name.starts_with("ECR_PUSH_"));
            found.extend(names.map(str::to_owned));
        }
    }
}

/// Pages that name options of other tools, too.
const PAGES_OF_OTHER_TOOLS: [&str; 8] = [
    "CONTRIBUTING.md", "docs/at-scale.md", "docs/build-tools.md", "docs/ci/", "docs/migrating.md", "docs/errors.md",
    "docs/install.md", "docs/trust/",
];

#[test]
fn every_option_that_a_page_names_exists() {
    let commands =
        [&["--help"][..], &["tag", "--help"], &["inspect", "--help"], &["policy", "--help"], &["sandbox", "--help"]];
    let help = commands.map(|arguments| options(&TestEnv::new().run(arguments).exits_with(0).stdout));
    let help: BTreeSet<String> = help.into_iter().flatten().collect();
    let own = pages().iter().filter(|page| !PAGES_OF_OTHER_TOOLS.iter().any(|path| page.path.starts_with(path)));
    for page in own {
        // Between backticks, except for commands of other tools.
        let prose = page.prose();
        let spans =
            prose.split('`').skip(1).step_by(2).filter(|span| span.starts_with("--") || span.starts_with("ecr-push "));
        let unknown: Vec<_> = spans.flat_map(options).filter(|option| !help.contains(option)).collect();
        assert_eq!(unknown, Vec::<String>::new(), "{}", page.path);
    }
}

#[test]
fn the_table_of_ci_systems_is_complete() {
    let section = page("docs/ci/README.md").section("## Variables for later steps");
    for CiSystem { name, title, link, .. } in SYSTEMS {
        assert!(section.contains(&format!("| [{title}]({link}) | `{name}` |")), "{title}");
    }
    assert_eq!(section.matches("\n| [").count(), SYSTEMS.len());
}

/// Returns what a link to a heading has after its `#`.
fn anchor(line: &str) -> String {
    let title = line.trim_start_matches('#').trim().to_lowercase();
    title.chars().filter(|c| c.is_alphanumeric() || " -".contains(*c)).collect::<String>().replace(' ', "-")
}

#[test]
fn links_resolve() {
    let anchors = |path: &str| -> BTreeSet<String> {
        page(path).prose().lines().filter(|line| line.starts_with('#')).map(anchor).collect()
    };
    let mut count = 0;
    for page in pages() {
        let folder = Path::new(&page.path).parent().unwrap();
        let prose = page.prose();
        for link in prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            count += 1;
            if link.starts_with("https://") {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let path = if path.is_empty() { page.path.clone() } else { joined(folder, path) };
            let resolves = root().join(&path).exists() && (heading.is_empty() || anchors(&path).contains(heading));
            assert!(resolves, "{}: {link} does not exist", page.path);
        }
    }
    assert!(count > 100, "{count} links");
}

#[test]
fn paths_of_the_repository_exist() {
    let mut count = 0;
    for page in pages() {
        let prose = page.prose();
        for path in prose.split('`').skip(1).step_by(2) {
            let is_path =
                ["src/", "tests/", "benches/", "testdata/", ".ci/"].iter().any(|start| path.starts_with(start));
            if is_path && !path.contains(' ') {
                assert!(root().join(path).exists(), "{}: there is no {path}", page.path);
                count += 1;
            }
        }
    }
    assert!(count > 20, "{count} paths");
}

/// Joins a folder and a relative path, and resolves `..`.
fn joined(folder: &Path, path: &str) -> String {
    let mut parts: Vec<&str> = folder.iter().map(|part| part.to_str().unwrap()).collect();
    for part in path.split('/') {
        if part == ".." {
            parts.pop().expect("the path leaves the repository");
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

#[test]
fn the_changelog_has_this_version() {
    let changelog = include_str!("../../CHANGELOG.md");
    let heading = format!("\n## [{}]", env!("CARGO_PKG_VERSION"));
    assert!(changelog.contains("\n## [Unreleased]\n") && changelog.contains(&heading), "{heading}");
}

#[test]
fn the_table_of_crates_is_complete() {
    let manifest = include_str!("../../Cargo.toml");
    let tables = manifest.split("\n[").filter(|table| {
        let head = table.lines().next().unwrap_or_default();
        head.ends_with("dependencies]") && !head.contains("dev-")
    });
    let crates = tables.flat_map(|table| table.lines().skip(1)).filter_map(|line| line.split_once(" = "));
    let crates: BTreeSet<_> = crates.map(|(name, _)| name).collect();
    let section = page("docs/architecture.md").section("## Crates");
    let listed: BTreeSet<_> =
        rows(section).iter().flat_map(|(_, crates)| crates.split('`').skip(1).step_by(2)).collect();
    assert_eq!(listed, crates);
}

#[test]
fn the_readme_is_short() {
    let len = page("README.md").text.len();
    assert!(len <= 12_288, "README.md has {len} bytes");
}

/// Returns the paragraphs and items of a page, each on one line, without headings, tables, links and code.
fn paragraphs(page: &Page) -> Vec<String> {
    let prose = Regex::new(r"\]\([^)]*\)|<!--[^>]*-->").unwrap().replace_all(&page.prose(), "").into_owned();
    let prose: String =
        prose.split('`').enumerate().map(|(at, part)| if at % 2 == 1 { "code" } else { part }).collect();
    let item = Regex::new(r"^ *(-|[0-9]+\.|#+|>|\|) ?").unwrap();
    let mut found = vec![String::new()];
    for line in prose.lines() {
        if line.trim().is_empty() || item.is_match(line) && !line.starts_with('>') {
            found.push(String::new());
        }
        let last = found.last_mut().unwrap();
        *last = format!("{last} {line}").trim().to_owned();
    }
    found.retain(|text| !text.starts_with(['#', '|']));
    found
}

#[test]
fn sentences_have_25_words_at_most() {
    let end = Regex::new(r"[.!?][*)]* ").unwrap();
    let mut long = Vec::new();
    let mut count = 0;
    for page in pages().iter().filter(|page| page.path != "docs/reference.md") {
        for paragraph in paragraphs(page) {
            for sentence in end.split(&paragraph) {
                let words = sentence.split(' ').filter(|word| word.contains(char::is_alphanumeric)).count();
                count += 1;
                if words > 25 {
                    long.push(format!("{}: {words} words: {sentence}", page.path));
                }
            }
        }
    }
    assert!(count > 500 && long.is_empty(), "of {count} sentences these are too long:\n{}", long.join("\n"));
}

#[test]
fn every_page_is_in_the_contents() {
    let contents = &page("docs/README.md").text;
    let pages = pages().iter().filter_map(|page| page.path.strip_prefix("docs/")).filter(|path| *path != "README.md");
    let missing: Vec<_> = pages.filter(|path| !contents.contains(&format!("]({path})"))).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn the_architecture_has_every_module() {
    let source = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let section = page("docs/architecture.md").section("## Modules");
    let modules =
        source.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'));
    let modules: Vec<_> = modules.collect();
    let is_listed = |name: &str| section.contains(&format!("`{name}`")) || section.contains(&format!("`{name}/`"));
    let missing: Vec<_> = modules.iter().filter(|name| !is_listed(name)).collect();
    assert!(modules.len() > 10 && missing.is_empty(), "{missing:?}");
}

#[test]
fn every_measured_time_is_in_the_results() {
    let results = std::fs::read_to_string(root().join("benches/results.md")).unwrap();
    let measured: Vec<f64> = results.split([' ', '|']).filter_map(|word| word.parse().ok()).collect();
    let facts = page("README.md").section("## Facts").to_owned();
    let text = facts + &page("docs/benchmarks.md").text;
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || "*(,;".contains(c)).collect();
    let times = words.windows(2).filter(|pair| pair[1].trim_end_matches(|c: char| !c.is_alphabetic()) == "s");
    let mut count = 0;
    for pair in times {
        let Ok(time) = pair[0].parse::<f64>() else { continue };
        let decimals = pair[0].split_once('.').map_or(0, |(_, decimals)| decimals.len());
        let half = 0.5 / 10_f64.powi(i32::try_from(decimals).unwrap()) + 1e-9;
        assert!(measured.iter().any(|it| (it - time).abs() <= half), "{} s was not measured", pair[0]);
        count += 1;
    }
    assert!(count > 30, "{count} times");
}

/// Words between backticks in the README of 0.1.0 that no page has, each with the reason.
const GONE: [(&[&str], &str); 5] = [
    (&["lacks"], "a word of text output, which is not stable"),
    (&["registry.example/tools/build:1"], "a release has an image with a shell"),
    (
        &[
            "app/ecr-push-0.1.0-github",
            "ecr-push-0.1.0-x86_64-unknown-linux-gnu",
            "ecr-push/0.1.0",
            "registry.example/tools/ecr-push:0.1.0",
        ],
        "names of another version",
    ),
    (
        &["exchange", "error.rs", "exchange.rs", "file.rs", "inspect.rs", "layer/", "log/", "plan.rs", "progress/"],
        "modules that have another name now",
    ),
    (
        &["cli.rs", "main.rs", "CancellationToken", "Outcome", "ecr_push::push::push(Request"],
        "the library is documented by cargo doc",
    ),
];

#[test]
fn no_option_variable_key_or_code_of_the_first_readme_is_lost() {
    let words = std::fs::read_to_string(root().join("tests/suite/docs_words.txt")).unwrap();
    let pages: String = pages().iter().map(|page| page.text.as_str()).collect();
    let known: BTreeMap<&str, &str> =
        GONE.iter().flat_map(|(words, why)| words.iter().map(|word| (*word, *why))).collect();
    let missing: Vec<&str> = words.lines().filter(|word| !pages.contains(word)).collect();
    let lost: Vec<_> = missing.iter().filter(|word| !known.contains_key(**word)).collect();
    assert!(lost.is_empty(), "no page has {lost:?}");
    let present: Vec<_> = known.keys().filter(|word| !missing.contains(word)).collect();
    assert!(present.is_empty(), "not gone: {present:?}");
}

#[test]
fn the_memory_of_several_targets_is_as_shown() {
    let section = page("docs/architecture.md").section("## Memory");
    let names: Vec<String> = (0..20).map(|n| format!("team/app{n}")).collect();
    let ecr = Ecr::with(&names.iter().map(String::as_str).collect::<Vec<_>>(), Rules::default());
    let archive = ecr.env.scratch("image.tar");
    archive_builder::docker_save(&archive, &(0..4).map(|n| vec![n; 512]).collect::<Vec<_>>());
    let mut count = 0;
    for (targets, rest) in rows(section) {
        let memory = rest.split("| ").last().unwrap().trim_end_matches(" |");
        for number in targets.split([',', ' ']).filter_map(|word| word.parse().ok()) {
            let targets = names.iter().take(number).map(String::as_str);
            let arguments =
                [archive.as_str()].into_iter().chain(targets).chain(["--dry-run", "-v", "--pack-threads", "6"]);
            let run = ecr.run(&arguments.collect::<Vec<_>>()).succeeds();
            run.stderr_has(&[&format!("memory: {memory} at most")]);
            count += 1;
        }
    }
    assert!(count > 5, "{count} rows");
}

#[test]
fn artifacts_that_are_not_images_are_pushed_as_is() {
    let ecr = Ecr::new();
    let layout = ecr.env.scratch("chart");
    let config = ("application/vnd.cncf.helm.config.v1+json", br#"{"name":"app","version":"0.1.0"}"#.to_vec());
    let chart = ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", b"the bytes of a chart".to_vec());
    let digest = archive_builder::oci_layout_of(&layout, config, &[chart]);
    assert_eq!(ecr.run(&[&layout, "team/app:0.1.0"]).succeeds().digest(), digest);
}

#[cfg(unix)]
#[test]
fn a_release_has_documentation_manual_pages_and_completions() {
    let env = TestEnv::new();
    let folder = env.scratch("release");
    let mut command = std::process::Command::new(root().join(".ci/contents"));
    command.arg(&folder).arg(super::harness::program());
    finish(command, String::new).succeeds();
    let has = |path: &str| Path::new(&folder).join(path).metadata().is_ok_and(|file| file.len() > 0);
    let help = TestEnv::new().run(&["--help"]).succeeds().stdout;
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let commands = commands.lines().map_while(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    let commands: Vec<_> = commands.filter_map(|line| line.split(' ').next()).filter(|name| *name != "help").collect();
    assert!(commands.len() >= 5, "{commands:?}");
    let pages = commands.iter().map(|command| format!("man/ecr-push-{command}.1"));
    let completions = ["_ecr-push", "ecr-push.bash", "ecr-push.elv", "ecr-push.fish", "ecr-push.ps1"];
    let expected = pages.chain(completions.iter().map(|name| format!("completions/{name}")));
    let more = ["man/ecr-push.1", "LICENSE", "CHANGELOG.md", "docs/images/progress.svg"].map(str::to_owned);
    let expected = expected.chain(more).chain(self::pages().iter().map(|page| page.path.clone()));
    let missing: Vec<_> = expected.filter(|path| !has(path)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn exit_codes_are_the_same_everywhere() {
    let codes = |path: &str| -> Vec<String> {
        rows(page(path).section("## Exit codes")).into_iter().map(|(code, _)| code.to_owned()).collect()
    };
    assert_eq!(codes("README.md"), ["0", "1", "2", "3", "4", "130"]);
    assert_eq!(codes("docs/scripting.md"), codes("README.md"));
}
