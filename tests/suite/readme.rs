//! The README holds: its first command gives what it shows, and its options are those of the program.

use std::collections::BTreeSet;
use std::path::Path;

use ecr_push::report::ci::{SYSTEMS, System};
use ecr_push::sandbox::{Absent, Rules};

use super::bench::{Bench, finish, testdata};
use super::ecr::Ecr;

const README: &str = include_str!("../../README.md");

/// The README's blocks of a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    README.split(fence.as_str()).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

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
fn the_first_command_gives_what_the_readme_shows() {
    let first = blocks("sh")[0].trim();
    let arguments: Vec<_> = first.strip_prefix("cargo run --release -- ").unwrap().split(' ').collect();
    let mut command = Bench::new().command(&arguments);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    let run = finish(command, String::new).exits(0);
    assert_eq!(alike(&(run.stderr.clone() + &run.stdout)), alike(blocks("text")[0]));
}

#[test]
fn what_is_inside_is_what_the_readme_shows() {
    let section = section("### What is inside");
    let line = section.lines().find(|line| line.starts_with("ecr-push inspect ")).unwrap();
    let shown = section.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    let mut command = Bench::new().command(&line.split(' ').skip(1).collect::<Vec<_>>());
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert_eq!(finish(command, String::new).exits(0).prints(shown).stderr, "");
}

#[test]
fn the_metadata_are_what_the_readme_shows() {
    let section = section("### What comes out");
    let line = section.lines().find(|line| line.starts_with("ecr-push --sandbox ")).unwrap();
    let (arguments, file) = line.rsplit_once(' ').unwrap();
    let bench = Bench::new();
    let written = bench.scratch(file);
    let mut command = bench.command(&[&arguments.split(' ').skip(1).collect::<Vec<_>>()[..], &[&written]].concat());
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    let _run = finish(command, String::new).exits(0);
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
        ("### What comes out", include_str!("../../src/report/report.schema.json")),
        ("### What is inside", include_str!("../../src/report/inspect.schema.json")),
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
    let run = Bench::new().run(&line.split(' ').skip(1).collect::<Vec<_>>());
    assert_eq!(run.exits(0).prints(shown).stderr, "");
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
        let run = ecr.run(&[&testdata("docker-20.10-save.tar"), "team/app:1", "--retries", "0"]).exits(3);
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
    let mut command = Bench::new().command(&line.split(' ').skip(1).collect::<Vec<_>>());
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    let run = finish(command, String::new).exits(0);
    let told: BTreeSet<String> = run.stderr.lines().map(without_numbers).collect();
    for line in shown.lines() {
        assert!(told.contains(&without_numbers(line)), "nobody says {line:?}");
    }
}

/// A section of the README.
fn section(title: &str) -> &'static str {
    README.split(&format!("{title}\n")).nth(1).unwrap().split("\n### ").next().unwrap()
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
        let help = Bench::new().run(arguments).exits(0).stdout.clone();
        assert_eq!(options(section(title)), options(&help), "{title}");
    }
    // A policy takes those of a push as well, which its help leaves to that.
    let help = |arguments: &[&str]| options(&Bench::new().run(arguments).exits(0).stdout);
    let (named, own) = (options(section("### The IAM policy")), help(&["policy", "--help"]));
    assert!(own.is_subset(&named), "{own:?}");
    assert!(named.is_subset(&own.union(&help(&["--help"])).cloned().collect()), "{named:?}");
}

#[test]
fn every_command_line_of_the_readme_is_understood() {
    let lines = blocks("sh").concat();
    let lines = lines.lines().map(|line| line.split(" #").next().unwrap_or_default().trim());
    let pushes: Vec<_> = lines.filter(|line| line.starts_with("ecr-push image.tar")).collect();
    assert!(pushes.len() >= 5, "{pushes:?}");
    for line in pushes {
        let arguments: Vec<_> = line.split_whitespace().skip(1).collect();
        // There is no such archive, which is only found out after the command line made sense.
        let _run = Bench::new().run(&arguments).exits(1).says(&["image.tar"]);
    }
}

#[test]
fn every_parameter_of_the_task_has_a_counterpart() {
    let section = section("### Coming from the Amazon ECR Push task");
    let rows: Vec<_> = section.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | ")).skip(1).collect();
    for parameter in [
        "Display name",
        "AWS Credentials",
        "AWS Region",
        "Image Identity",
        "Source Image Name",
        "Source Image Tag",
        "Source Image ID",
        "Target Repository Name",
        "Target Repository Tag",
        "Create repository if it does not exist",
        "Force repository name to follow Docker naming conventions",
        "Remove Docker image after ECR push",
        "Image Tag Output Variable",
        "Log Request",
        "Log Response",
        "Task Permissions",
    ] {
        assert!(rows.iter().any(|(name, here)| name.contains(parameter) && !here.is_empty()), "{parameter}");
    }
    let help = options(&Bench::new().run(&["--help"]).exits(0).stdout);
    assert!(options(section).is_subset(&help), "{:?}", options(section));
}

#[test]
fn the_table_of_ci_systems_is_the_program_s() {
    let section = section("### In a pipeline");
    for System { name, title, link, .. } in &SYSTEMS {
        assert!(section.contains(&format!("| [{title}]({link}) | `{name}` |")), "{title}");
    }
    assert_eq!(section.matches("\n| [").count(), SYSTEMS.len());
}
