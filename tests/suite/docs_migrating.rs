//! The page for users of other tools has each of their options, with a counterpart that exists or the reason why there is none.

use std::collections::BTreeSet;

use super::docker_registry::second_opinion;
use super::docs::options;
use super::harness::TestEnv;
use super::markdown::{page, rows};

#[test]
fn every_parameter_of_the_task_has_a_counterpart() {
    let rows = rows(page("docs/migrating.md").section("## Coming from the Amazon ECR Push task"));
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

/// The sections of other tools, with options that each must have.
const OTHER_TOOLS: [(&str, &[&str]); 5] = [
    ("## Coming from the Amazon ECR Push task", &[]),
    // https://github.com/google/go-containerregistry/blob/main/cmd/crane/doc/crane_push.md, and `crane_auth_login.md`
    (
        "## Coming from crane",
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
    // https://github.com/containers/skopeo/blob/main/docs/skopeo-copy.1.md: options that an installed one may not have yet.
    ("## Coming from skopeo", &["--dry-run", "--image-parallel-copies", "--retry-delay", "--sign-by-sigstore"]),
    // https://docs.docker.com/reference/cli/docker/image/push/
    ("## Coming from docker and the AWS CLI", &["--all-tags", "--disable-content-trust", "--platform", "--quiet"]),
    ("## Coming from GitHub Actions", &[]),
];

#[test]
fn options_of_other_tools_have_a_counterpart_that_exists_or_a_reason() {
    let help = options(&TestEnv::new().run(&["--help"]).succeeds().stdout);
    for (title, flags) in OTHER_TOOLS {
        let rows = rows(page("docs/migrating.md").section(title));
        let listed = rows.iter().flat_map(|(first, _)| options(first)).collect::<BTreeSet<_>>();
        let missing: Vec<_> = flags.iter().filter(|flag| !listed.contains(**flag)).collect();
        assert!(missing.is_empty() && !rows.is_empty(), "{title}: {missing:?}");
        for (first, rest) in rows {
            assert_eq!(rest.contains("ot here"), rest.contains("because"), "{title}, {first}: why not?");
            // Between backticks, except for commands of other tools.
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
    let rows = rows(page("docs/migrating.md").section("## Coming from skopeo"));
    let listed: BTreeSet<_> = rows.iter().flat_map(|(first, _)| options(first)).collect();
    assert!(flags.len() > 40 && flags.is_subset(&listed), "{:?}", flags.difference(&listed));
}
