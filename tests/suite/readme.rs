//! The README holds: its quick start gives what it shows, and its options are those of the program.

use std::collections::BTreeSet;
use std::path::Path;

use ecr_push::output::report::ci::{CiSystem, SYSTEMS};
use ecr_push::sandbox::{Absent, Rules};

use super::docker_registry::second_opinion;
use super::ecr::Ecr;
use super::harness::{TestEnv, finish, testdata};
use super::markdown::{README, rows, section};

/// Lines without what differs from run to run: the port and the time.
fn alike(text: &str) -> BTreeSet<String> {
    let line = |line: &str| {
        let line = match line.split_once("127.0.0.1:") {
            Some((before, after)) => format!("{before}PORT{}", after.trim_start_matches(|c: char| c.is_ascii_digit())),
            None => line.to_owned(),
        };
        match line.rsplit_once("; ") {
            Some((before, time)) if time.ends_with(" ms") || time.ends_with(" s") => format!("{before}; TIME"),
            _ => line,
        }
    };
    text.lines().map(line).collect()
}

#[test]
fn the_quick_start_gives_what_the_readme_shows() {
    let section = section("## Try it");
    let line = section.lines().find(|line| line.starts_with("ecr-push --sandbox ")).unwrap();
    let shown = section.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    let arguments: Vec<_> = line.split(' ').skip(1).collect();
    let mut command = TestEnv::new().command(&arguments);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    let run = finish(command, String::new).succeeds();
    assert_eq!(alike(&(run.stderr.clone() + &run.stdout)), alike(shown));
}

#[test]
fn what_is_inside_is_what_the_readme_shows() {
    let section = section("### What is inside");
    let line = section.lines().find(|line| line.starts_with("ecr-push inspect ")).unwrap();
    let shown = section.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    let mut command = TestEnv::new().command(&line.split(' ').skip(1).collect::<Vec<_>>());
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert_eq!(finish(command, String::new).succeeds().stdout_is(shown).stderr, "");
}

#[test]
fn the_metadata_are_what_the_readme_shows() {
    let section = section("### What comes out");
    let line = section.lines().find(|line| line.starts_with("ecr-push --sandbox ")).unwrap();
    let (arguments, file) = line.rsplit_once(' ').unwrap();
    let env = TestEnv::new();
    let written = env.scratch(file);
    let mut command = env.command(&[&arguments.split(' ').skip(1).collect::<Vec<_>>()[..], &[&written]].concat());
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    let _run = finish(command, String::new).succeeds();
    let shown = section.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(std::fs::read_to_string(written).unwrap(), shown);
}

/// The properties of an object of a schema, and of the objects in it.
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
        ("### What comes out", include_str!("../../src/output/report/report.schema.json")),
        ("### What is inside", include_str!("../../src/output/report/inspect.schema.json")),
    ] {
        let mut found = BTreeSet::new();
        fields(&serde_json::from_str(schema).unwrap(), &mut found);
        let missing = found.iter().filter(|field| !["version", "tool"].contains(&field.as_str())).filter(|field| {
            !section(title).contains(&format!("`{field}`")) && !section(title).contains(&format!("`{field}[]`"))
        });
        let missing: Vec<_> = missing.collect();
        assert!(missing.is_empty(), "{title} lacks {missing:?}");
    }
}

#[test]
fn the_policy_is_what_the_readme_shows() {
    let section = section("### The IAM policy");
    let line = section.lines().find(|line| line.starts_with("ecr-push policy ")).unwrap();
    let shown = section.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let run = TestEnv::new().run(&line.split(' ').skip(1).collect::<Vec<_>>());
    assert_eq!(run.succeeds().stdout_is(shown).stderr, "");
}

#[test]
fn a_no_of_ecr_is_told_as_the_readme_shows() {
    // Without the ID of the request.
    let alike = |text: &str| {
        let (before, rest) = text.split_once("(request ").unwrap();
        format!("{before}{}", rest.split_once(')').unwrap().1)
    };
    let mut shown =
        section("### When ECR says no").split("```text\n").skip(1).map(|it| it.split("```").next().unwrap());
    for (denied, absent_repository) in
        [("ecr:PutImage", Absent::NameUnknown), ("ecr:InitiateLayerUpload", Absent::HangUp)]
    {
        let rules = Rules { deny: vec![denied.into()], absent_repository, ..Rules::default() };
        let ecr = Ecr::with(&["team/app"], rules);
        let run = ecr.run(&[&testdata("docker-20.10-save.tar"), "team/app:1", "--retries", "0"]).fails_with(3);
        let error = run.stderr.find("error: ").unwrap();
        assert_eq!(alike(&run.stderr[error..]), alike(shown.next().unwrap()));
    }
}

/// Text with `N` for all that is a number or an ID.
fn without_numbers(line: &str) -> String {
    let is_id = |word: &str| word.len() == 36 && word.split('-').count() == 5;
    let word = |word: &str| if is_id(word) { "ID".to_owned() } else { word.replace(|c: char| c.is_ascii_digit(), "N") };
    let parts: Vec<String> =
        line.split_inclusive([' ', '/']).map(|part| word(part.trim_end_matches(['/', ' ']))).collect();
    let mut text = parts.join(" ");
    while text.contains("NN") {
        text = text.replace("NN", "N");
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn what_is_explained_is_what_the_readme_shows() {
    let section = section("### Why, and what was asked");
    let line = section.lines().find(|line| line.starts_with("ecr-push --sandbox ")).unwrap();
    let shown = section.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    let mut command = TestEnv::new().command(&line.split(' ').skip(1).collect::<Vec<_>>());
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    let run = finish(command, String::new).succeeds();
    let told: BTreeSet<String> = run.stderr.lines().map(without_numbers).collect();
    for line in shown.lines() {
        assert!(told.contains(&without_numbers(line)), "nobody says {line:?}");
    }
}

/// The options that a text names.
fn options(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let options = words.filter(|word| word.len() > 3 && word.starts_with("--")).map(str::to_owned);
    options.filter(|option| !["--help", "--version"].contains(&option.as_str())).collect()
}

#[test]
fn the_tables_of_options_are_those_of_the_program() {
    for (arguments, title) in [(&["--help"][..], "### Options"), (&["inspect", "--help"], "### What is inside")] {
        let help = TestEnv::new().run(arguments).succeeds().stdout.clone();
        assert_eq!(options(section(title)), options(&help), "{title}");
    }
    // A policy takes those of a push as well, which its help leaves to that.
    let help = |arguments: &[&str]| options(&TestEnv::new().run(arguments).succeeds().stdout);
    let (named, own) = (options(section("### The IAM policy")), help(&["policy", "--help"]));
    assert!(own.is_subset(&named), "{own:?}");
    assert!(named.is_subset(&own.union(&help(&["--help"])).cloned().collect()), "{named:?}");
}

#[test]
fn every_parameter_of_the_task_has_a_counterpart() {
    let rows = rows(section("### Coming from the Amazon ECR Push task"));
    for (parameter, name) in [
        ("Display name", "displayName"),
        ("AWS Credentials", "awsCredentials"),
        ("AWS Region", "regionName"),
        ("Image Identity", "imageSource"),
        ("Source Image Name", "sourceImageName"),
        ("Source Image Tag", "sourceImageTag"),
        ("Source Image ID", "sourceImageId"),
        ("Target Repository Name", "repositoryName"),
        ("Target Repository Tag", "pushTag"),
        ("Create repository if it does not exist", "autoCreateRepository"),
        ("Force repository name to follow Docker naming conventions", "forceDockerNamingConventions"),
        ("Remove Docker image after ECR push", "removeDockerImage"),
        ("Image Tag Output Variable", "outputVariable"),
        ("Log Request", "logRequest"),
        ("Log Response", "logResponse"),
        ("Task Permissions", "|"),
    ] {
        let is_it = |(first, rest): &(&str, &str)| {
            let (names, here) = rest.split_once("| ").unwrap_or_default();
            first.contains(parameter) && (names.contains(&format!("`{name}`")) || name == "|") && here.len() > 5
        };
        assert!(rows.iter().any(is_it), "{parameter}");
    }
}

/// Where people come from, and what they have known there.
const ELSEWHERE: [(&str, &[&str]); 4] = [
    ("### Coming from the Amazon ECR Push task", &[]),
    // https://github.com/google/go-containerregistry/blob/main/cmd/crane/doc/crane_push.md, and `crane_auth_login.md`
    (
        "### Coming from crane",
        &[
            "--allow-nondistributable-artifacts",
            "--image-refs",
            "--index",
            "--insecure",
            "--password-stdin",
            "--platform",
            "--verbose",
        ],
    ),
    // https://github.com/containers/skopeo/blob/main/docs/skopeo-copy.1.md: what is newer than the one that may be here.
    ("### Coming from skopeo", &["--dry-run", "--image-parallel-copies", "--retry-delay", "--sign-by-sigstore"]),
    // https://docs.docker.com/reference/cli/docker/image/push/
    ("### Coming from docker and the AWS CLI", &["--all-tags", "--disable-content-trust", "--platform", "--quiet"]),
];

#[test]
fn what_other_tools_know_has_a_counterpart_that_is_there_or_a_reason() {
    let help = options(&TestEnv::new().run(&["--help"]).succeeds().stdout);
    for (title, flags) in ELSEWHERE {
        let rows = rows(section(title));
        let there = rows.iter().flat_map(|(first, _)| options(first)).collect::<BTreeSet<_>>();
        let missing: Vec<_> = flags.iter().filter(|flag| !there.contains(**flag)).collect();
        assert!(missing.is_empty() && !rows.is_empty(), "{title}: {missing:?}");
        for (first, rest) in rows {
            assert_eq!(rest.contains("ot here"), rest.contains("because"), "{title}, {first}: why not?");
            // Between backticks, but for other tools' commands.
            let ours = |span: &&str| {
                !["aws ", "cosign ", "crane ", "docker ", "podman ", "skopeo "]
                    .iter()
                    .any(|tool| span.starts_with(tool))
            };
            let named = rest.split('`').skip(1).step_by(2).filter(ours).flat_map(options).collect::<BTreeSet<_>>();
            assert!(named.is_subset(&help), "{title}, {first}: {named:?}");
        }
    }
}

#[test]
fn every_option_of_skopeo_copy_has_a_row() {
    if !second_opinion("skopeo") {
        return;
    }
    let help = std::process::Command::new("skopeo").args(["copy", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let flags = help.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with("--")));
    let flags: BTreeSet<_> = flags.flat_map(options).collect();
    let rows = rows(section("### Coming from skopeo"));
    let there: BTreeSet<_> = rows.iter().flat_map(|(first, _)| options(first)).collect();
    assert!(flags.len() > 40 && flags.is_subset(&there), "{:?}", flags.difference(&there));
}

#[test]
fn the_table_of_ci_systems_is_the_program_s() {
    let section = section("### In a pipeline");
    for CiSystem { name, title, link, .. } in &SYSTEMS {
        assert!(section.contains(&format!("| [{title}]({link}) | `{name}` |")), "{title}");
    }
    assert_eq!(section.matches("\n| [").count(), SYSTEMS.len());
}

/// What a link to a heading has behind its `#`.
fn anchor(line: &str) -> String {
    let title = line.trim_start_matches('#').trim().to_lowercase();
    title.chars().filter(|c| c.is_alphanumeric() || " -".contains(*c)).collect::<String>().replace(' ', "-")
}

#[test]
fn links_lead_somewhere() {
    // Without blocks of code, which have lines with a # in front.
    let text: String = README.split("```").step_by(2).collect();
    let headings: BTreeSet<_> = text.lines().filter(|line| line.starts_with("##")).map(anchor).collect();
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect::<Vec<_>>();
    assert!(links.len() > 20);
    for link in links.into_iter().filter(|link| !link.starts_with("https://")) {
        let leads = match link.strip_prefix('#') {
            Some(heading) => headings.contains(heading),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join(link).is_file(),
        };
        assert!(leads, "{link} leads nowhere");
    }
}

#[test]
fn the_changelog_tells_of_this_version() {
    let changelog = include_str!("../../CHANGELOG.md");
    let heading = format!("\n## [{}]", env!("CARGO_PKG_VERSION"));
    assert!(changelog.contains("\n## [Unreleased]\n") && changelog.contains(&heading), "{heading}");
}

#[test]
fn every_crate_has_its_place_in_what_it_is_made_of() {
    let manifest = include_str!("../../Cargo.toml");
    let tables = manifest.split("\n[").filter(|table| {
        let head = table.lines().next().unwrap_or_default();
        head.ends_with("dependencies]") && !head.contains("dev-")
    });
    let crates = tables.flat_map(|table| table.lines().skip(1)).filter_map(|line| line.split_once(" = "));
    let crates: BTreeSet<_> = crates.map(|(name, _)| name).collect();
    let section = section("### What it is made of");
    let there: BTreeSet<_> =
        rows(section).iter().flat_map(|(_, crates)| crates.split('`').skip(1).step_by(2)).collect();
    assert_eq!(there, crates);
}

#[test]
fn the_contents_lead_to_every_section() {
    let (contents, rest) = README.split_once("\n## Install\n").unwrap();
    let rest: String = rest.split("```").step_by(2).collect();
    let headings = rest.lines().filter(|line| line.starts_with("## ") || line.starts_with("### ")).map(anchor);
    let missing: Vec<_> = headings.filter(|it| !contents.contains(&format!("(#{it})"))).collect();
    assert_eq!(missing, ["licence"]);
}
