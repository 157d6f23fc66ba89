use std::ffi::OsString;

use super::escape::{azure_message, azure_property, github, teamcity};
use super::variables::Variable;
use super::variables::set;
use super::*;
use crate::error::Error;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// What a system gets for an image of two tags.
fn written(name: &str) -> String {
    let format = CiSystem::by_name(name).unwrap().format;
    let by_digest = format!("h.example/app@{DIGEST}");
    let values = ["h.example/app:1", DIGEST, &by_digest, "h.example/app:1,h.example/app:latest", &by_digest];
    set("IMAGE", values).iter().map(|variable| format.text(variable)).collect()
}

#[test]
fn every_system_gets_its_bytes() {
    let lines = |before: &str, between: &str, after: &str| {
        let values = [
            ("", "h.example/app:1".to_owned()),
            ("_DIGEST", DIGEST.to_owned()),
            ("_REF", format!("h.example/app@{DIGEST}")),
            ("_ALL", "h.example/app:1,h.example/app:latest".to_owned()),
            ("_REFS", format!("h.example/app@{DIGEST}")),
        ];
        values.map(|(suffix, value)| format!("{before}IMAGE{suffix}{between}{value}{after}")).concat()
    };
    let azure = lines("##vso[task.setvariable variable=", ";isOutput=false;issecret=false;]", "\n");
    let assignments = lines("", "=", "\n");
    let exports = lines("export ", "='", "'\n");
    let expected = [
        ("azure", azure),
        ("github", lines("", "<<(ecr-push)\n", "\n(ecr-push)\n")),
        ("gitlab", assignments.clone()),
        ("circleci", exports.clone()),
        ("bitbucket", assignments.clone()),
        ("teamcity", lines("##teamcity[setParameter name='", "' value='", "']\n")),
        ("drone", assignments.clone()),
        ("jenkins", assignments),
        ("codebuild", exports),
    ];
    for (system, text) in &expected {
        assert_eq!(written(system), *text, "{system}");
    }
    // The others get a value a file, or a value a command.
    let values = format!(
        "h.example/app:1{DIGEST}h.example/app@{DIGEST}h.example/app:1,h.example/app:latesth.example/app@{DIGEST}"
    );
    for system in ["buildkite", "tekton", "argo"] {
        assert_eq!(written(system), values, "{system}");
    }
    assert_eq!(expected.len() + 3, SYSTEMS.len(), "a system without a test");
}

#[test]
fn a_variable_of_azure_pipelines_can_be_for_later_jobs() {
    let variable = Variable { name: "IMAGE".into(), value: "h.example/app:1".into() };
    assert_eq!(
        OutputFormat::AzureCommands(OutputScope::Jobs).text(&variable),
        "##vso[task.setvariable variable=IMAGE;isOutput=true;issecret=false;]h.example/app:1\n"
    );
}

#[test]
fn what_ends_a_command_is_escaped() {
    let odd = "a%b\rc\nd]e;f";
    assert_eq!(azure_property(odd), "a%AZP25b%0Dc%0Ad%5De%3Bf");
    assert_eq!(azure_message(odd), "a%AZP25b%0Dc%0Ad]e;f");
    assert_eq!(github(odd), "a%25b%0Dc%0Ad]e;f");
    assert_eq!(teamcity("a|b'c[d]e\nf\rg\u{e9}"), "a||b|'c|[d|]e|nf|rg|0x00E9");
}

#[test]
fn a_name_is_valid_if_the_system_accepts_it() {
    for name in ["IMAGE", "_image", "Image1"] {
        assert!(SYSTEMS.iter().all(|system| system.format.takes(name)), "{name}");
    }
    for name in ["app.image", "app-image"] {
        assert!(
            OutputFormat::Heredocs.takes(name)
                && OutputFormat::AzureCommands(OutputScope::Job).takes(name)
                && OutputFormat::Files.takes(name)
        );
        assert!(!OutputFormat::Exports.takes(name) && !OutputFormat::Assignments.takes(name), "{name}");
    }
    for name in ["", "1", ".", "..", "-n", "a b", "a=b", "a;b", "a]b", "a\nb", "a/b", "$(A)", "\u{e9}"] {
        assert!(SYSTEMS.iter().all(|system| !system.format.takes(name)), "{name:?}");
    }
}

#[test]
fn the_first_system_that_is_found_counts() {
    let found = |set: &[&str]| {
        let environment = |name: &str| set.contains(&name).then(|| OsString::from("true"));
        CiSystem::detect(&environment).map(|system| system.name)
    };
    for CiSystem { name, detected_by, .. } in SYSTEMS {
        assert_eq!(found(detected_by.as_slice()), detected_by.map(|_| *name));
    }
    assert_eq!(found(&["CODEBUILD_BUILD_ID", "GITHUB_ACTIONS"]), Some("github"), "CodeBuild runs GitHub's jobs");
    assert!(CiSystem::detect(&|_| Some(OsString::new())).is_none(), "an empty value counts as unset");
    assert!(CiSystem::detect(&|_| Some(OsString::from("False"))).is_none());
}

#[test]
fn annotations_are_one_line_with_all_that_is_known() {
    let error = Error::input("100 % wrong").because(Error::input("no\nsuch thing")).hint("Do better.");
    let text = "100 %25 wrong%0A  because: no%0Asuch thing%0A  hint: Do better.\n";
    assert_eq!(LogCommands::GitHub.error(&error), format!("::error::{text}"));
    assert_eq!(
        LogCommands::Azure.error(&error),
        format!("##vso[task.logissue type=error;]{}", text.replace("%25", "%AZP25"))
    );
    assert_eq!(LogCommands::GitHub.warning("a\nb"), "::warning::a%0Ab\n");
    assert_eq!(LogCommands::Azure.warning("a\nb"), "##vso[task.logissue type=warning;]a%0Ab\n");
    let group = |log_commands: LogCommands| log_commands.group("Push Image") + log_commands.group_end();
    assert_eq!(group(LogCommands::GitHub), "::group::Push Image\n::endgroup::\n");
    assert_eq!(group(LogCommands::Azure), "##[group]Push Image\n##[endgroup]\n");
    assert_eq!(azure_summary("/tmp/a.md"), "##vso[task.uploadsummary]/tmp/a.md\n");
}
