//! Repositories: created as they were asked for, by a template, or not at all; and what they say of their layers.

use std::fs;

use ecr_push::sandbox::{Absent, CreationTemplate, Fault, LayerState, Rules, Trouble};
use serde_json::json;

use super::archive_builder;
use super::archive_contents::Source;
use super::ecr::{Ecr, HOST};
use super::harness::{Run, report, testdata};
use super::stored_image::StoredImage;

const ARCHIVE: &str = "docker-20.10-save.tar";

/// A lifecycle policy that is long enough.
fn lifecycle() -> String {
    json!({"rules": [{
        "rulePriority": 1, "description": "keep ten",
        "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 10},
        "action": {"type": "expire"},
    }]})
    .to_string()
}

const POLICY: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"ecr:BatchGetImage"}]}"#;

/// Writes both policies, and returns the options that name them.
fn policies(ecr: &Ecr) -> [String; 4] {
    let [keep, who] = ["keep.json", "who.json"].map(|name| ecr.env.scratch(name));
    fs::write(&keep, lifecycle()).unwrap();
    fs::write(&who, POLICY).unwrap();
    ["--lifecycle-policy".into(), keep, "--repository-policy".into(), who]
}

fn created(ecr: &Ecr, options: &[&str]) -> Run {
    let archive = testdata(ARCHIVE);
    ecr.run(&[&[archive.as_str(), "team/app:1", "--create-repository"], options].concat())
}

#[test]
fn a_repository_is_created_as_it_was_asked_for() {
    let default = json!({
        "mutability": "MUTABLE", "exclusion_filters": [], "scan_on_push": false, "encryption": "AES256", "kms_key": null,
        "tags": {}, "lifecycle_policy": null, "repository_policy": null,
    });
    let mut cases = vec![
        (vec![], json!({})),
        (vec!["--scan-on-push"], json!({"scan_on_push": true})),
        (vec!["--tag-mutability", "mutable"], json!({})),
        (vec!["--tag-mutability", "immutable"], json!({"mutability": "IMMUTABLE"})),
        (vec!["--encryption", "aes256"], json!({})),
        (vec!["--encryption", "kms"], json!({"encryption": "KMS"})),
        (
            vec!["--encryption", "kms", "--kms-key", "alias/images"],
            json!({"encryption": "KMS", "kms_key": "alias/images"}),
        ),
        (vec!["--encryption", "kms-dsse", "--kms-key", "1"], json!({"encryption": "KMS_DSSE", "kms_key": "1"})),
        (
            vec!["--repository-tag", "team=web", "--repository-tag", "cost center=a=b"],
            json!({"tags": {"team": "web", "cost center": "a=b"}}),
        ),
    ];
    for (how, name) in
        [("immutable-with-exclusion", "IMMUTABLE_WITH_EXCLUSION"), ("mutable-with-exclusion", "MUTABLE_WITH_EXCLUSION")]
    {
        let filters = ["--tag-mutability-exclusion", "latest", "--tag-mutability-exclusion", "dev-*"];
        let settings = json!({"mutability": name, "exclusion_filters": ["latest", "dev-*"]});
        cases.push(([&["--tag-mutability", how][..], &filters].concat(), settings));
    }
    for (options, settings) in cases {
        let ecr = Ecr::empty();
        created(&ecr, &options).succeeds().stderr_has(&[&format!("created the repository {HOST}/team/app")]);
        let mut expected = default.clone();
        expected.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        assert_eq!(ecr.settings("team/app").unwrap(), expected, "{options:?}");
    }
    let ecr = Ecr::empty();
    created(&ecr, &policies(&ecr).each_ref().map(String::as_str)).succeeds();
    let settings = ecr.settings("team/app").unwrap();
    assert_eq!((&settings["lifecycle_policy"], &settings["repository_policy"]), (&json!(lifecycle()), &json!(POLICY)));
}

#[test]
fn settings_change_nothing_about_a_repository_that_exists() {
    let ecr = Ecr::new();
    let before = ecr.settings("team/app");
    let policies = policies(&ecr);
    let all =
        [&["--scan-on-push", "--tag-mutability", "immutable"], &policies.each_ref().map(String::as_str)[..]].concat();
    let run = created(&ecr, &all).succeeds();
    let words = "team/app exists: settings for new repositories are ignored";
    assert_eq!(run.stderr.matches(words).count(), 1);
    assert_eq!(ecr.settings("team/app"), before);
    created(&ecr, &[]).succeeds().output_has_none(&["changes nothing"]);
    // Another client created it first.
    let fault = Fault::once("ecr:CreateRepository", Trouble::LoseRace);
    let ecr = Ecr::with(&[], Rules { faults: vec![fault], ..Rules::default() });
    let written = ecr.env.scratch("report.json");
    let run = created(&ecr, &[&all[..], &["--report", &written]].concat()).succeeds();
    run.stderr_has(&["team/app exists: another client created it first: settings for new repositories are ignored"]);
    assert_eq!(ecr.settings("team/app"), before);
    assert_eq!(report(&written)["targets"][0]["created_repository"], false);
}

#[test]
fn a_policy_that_fails_after_the_creation_leaves_the_command_to_finish() {
    for (deny, which, verbs) in [
        ("ecr:PutLifecyclePolicy", "lifecycle policy", &["put-lifecycle-policy"][..]),
        ("ecr:SetRepositoryPolicy", "repository policy", &["set-repository-policy"]),
        ("both", "lifecycle policy", &["put-lifecycle-policy", "set-repository-policy"]),
    ] {
        let both = ["ecr:PutLifecyclePolicy".to_owned(), "ecr:SetRepositoryPolicy".to_owned()];
        let deny: Vec<String> = if deny == "both" { both.to_vec() } else { vec![deny.to_owned()] };
        let ecr = Ecr::with(&[], Rules { deny, ..Rules::default() });
        let (policies, written) = (policies(&ecr), ecr.env.scratch("report.json"));
        let options = [&policies.each_ref().map(String::as_str)[..], &["--report", &written]].concat();
        let run = created(&ecr, &options).fails_with(3).stdout_is("");
        let what = format!("{HOST}/team/app was created without its {which}; nothing was pushed");
        let mut run = run.stderr_has(&[&what, "is not authorized to perform: ecr:", "hint: Allow the action ecr:"]);
        for verb in verbs {
            let command =
                format!("aws ecr {verb} --registry-id 000000000000 --repository-name team/app --region us-east-1");
            run = run.stderr_has(&[&command, "file:///", "Finish with this, then push again:\n  aws ecr "]);
        }
        assert_eq!((ecr.count("ecr:InitiateLayerUpload"), ecr.repositories().len()), (0, 1));
        assert_eq!(report(&written)["targets"][0]["created_repository"], true);
        let settings = ecr.settings("team/app").unwrap();
        assert_eq!(settings["lifecycle_policy"].is_null(), verbs.contains(&"put-lifecycle-policy"));
        assert_eq!(settings["repository_policy"].is_null(), verbs.contains(&"set-repository-policy"));
    }
}

#[test]
fn policies_are_read_and_checked_before_any_request() {
    let ecr = Ecr::empty();
    let path = ecr.env.scratch("policy.json");
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(31_000));
    for (option, text, says) in [
        ("--lifecycle-policy", Some("{"), "is not a JSON object"),
        ("--lifecycle-policy", Some("{}"), "has 2 characters"),
        ("--lifecycle-policy", Some(long.as_str()), "has 31008 characters"),
        ("--lifecycle-policy", None, "cannot read the lifecycle policy"),
        ("--repository-policy", Some("[]"), "is not a JSON object"),
        ("--repository-policy", Some(&long[..]), "characters"),
    ] {
        drop(fs::remove_file(&path));
        if let Some(text) = text {
            fs::write(&path, text).unwrap();
        }
        created(&ecr, &[option, &path]).fails_with(2).stdout_is("").stderr_has(&[says, "hint: "]);
    }
    assert!(ecr.log().is_empty());
}

#[test]
fn policies_may_be_written_by_windows() {
    let text = json!({"rules": [{
        "rulePriority": 1,
        "selection": {"tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 5},
        "action": {"type": "expire"},
    }]});
    let text = format!("{text:#}").replace('\n', "\r\n");
    let ecr = Ecr::empty();
    let path = ecr.env.scratch("policy.json");
    // PowerShell's Out-File puts a mark in front, that of Windows writes UTF-16.
    fs::write(&path, format!("\u{feff}{text}")).unwrap();
    created(&ecr, &["--lifecycle-policy", &path]).succeeds();
    let policy = ecr.settings("team/app").unwrap()["lifecycle_policy"].clone();
    assert!(policy.to_string().contains("imageCountMoreThan") && !policy.to_string().contains('\u{feff}'), "{policy}");

    let ecr = Ecr::empty();
    let path = ecr.env.scratch("policy.json");
    let wide: Vec<u8> = format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(&path, wide).unwrap();
    let run = created(&ecr, &["--lifecycle-policy", &path]).fails_with(2);
    run.stderr_has(&["is not UTF-8 text", "hint: Write it in UTF-8; PowerShell does with `Out-File -Encoding utf8`."]);
    assert!(ecr.log().is_empty());
}

#[test]
fn settings_that_cannot_be_are_usage_errors() {
    let ecr = Ecr::empty();
    let (archive, long) = (testdata(ARCHIVE), format!("{}=", "k".repeat(129)));
    let six = ["--tag-mutability-exclusion=a"; 6];
    for (options, says) in [
        (&["--tag-mutability", "immutable-with-exclusion"][..], "needs --tag-mutability-exclusion"),
        (&["--tag-mutability-exclusion", "a"], "needs --tag-mutability ...-with-exclusion"),
        (
            &["--tag-mutability", "immutable", "--tag-mutability-exclusion", "a"],
            "needs --tag-mutability ...-with-exclusion",
        ),
        (&[&["--tag-mutability=mutable-with-exclusion"], &six[..]].concat(), "is used 6 times; the limit is 5"),
        (&["--tag-mutability=mutable-with-exclusion", "--tag-mutability-exclusion=a b"], "is not a filter for tags"),
        (&["--kms-key", "k"], "--kms-key needs --encryption kms or kms-dsse"),
        (&["--kms-key", "k", "--encryption", "aes256"], "--kms-key needs --encryption kms or kms-dsse"),
        (&["--kms-key", " ", "--encryption", "kms"], "--kms-key is empty or too long"),
        (&["--repository-tag", "team"], "is not KEY=VALUE"),
        (&["--repository-tag", "aws:x=1"], "is not a tag that ECR accepts"),
        (&["--repository-tag", "=1"], "is not a tag that ECR accepts"),
        (&["--repository-tag", "a=<>"], "is not a tag that ECR accepts"),
        (&["--repository-tag", &long], "is not a tag that ECR accepts"),
        (&["--repository-tag", "a=1", "--repository-tag", "a=2"], "has the key \"a\" twice"),
    ] {
        created(&ecr, options).fails_with(2).stdout_is("").stderr_has(&[says, "hint: "]);
    }
    let many: Vec<String> = (0..51).map(|n| format!("--repository-tag=k{n}=v")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    created(&ecr, &many).fails_with(2).stderr_has(&["--repository-tag is used 51 times; the limit is 50"]);
    for option in [
        &["--scan-on-push"][..],
        &["--tag-mutability", "mutable"],
        &["--encryption", "kms"],
        &["--repository-tag", "a=b"],
        &["--lifecycle-policy", "x"],
        &["--repository-policy", "x"],
    ] {
        let run = ecr.run(&[&[archive.as_str(), "team/app:1"], option].concat()).fails_with(2).stdout_is("");
        let words = format!("{} needs --create-repository", option[0]);
        run.stderr_has(&[&words, "hint: Add --create-repository"]);
    }
    assert!(ecr.log().is_empty());
}

#[test]
fn an_invalid_name_is_repaired_with_the_option_and_reported_without() {
    let (ecr, archive) = (Ecr::new(), testdata(ARCHIVE));
    let run = ecr.run(&[&archive, "Team/My App:1"]).fails_with(2).stdout_is("");
    run.stderr_has(&["it has the upper-case letter 'T'", "Or push to team/myapp: --docker-naming"]);
    let run = ecr.run(&[&archive, "Team/App!:1", "--docker-naming"]).succeeds();
    run.stderr_has(&["note: the repository \"Team/App!\" is called team/app"]);
    assert!(ecr.image("team/app", "1").is_some());
    ecr.run(&[&archive, "team/app:1", "--docker-naming"]).succeeds().output_has_none(&["is called"]);
    let run = ecr.run(&[&archive, "!!:1", "--docker-naming"]).fails_with(2).stdout_is("");
    run.stderr_has(&["\"!!\" has nothing that a repository name can have"]);
}

#[test]
fn a_sandbox_of_the_program_s_own_has_the_repository_created_where_that_is_asked_for() {
    let env = super::harness::TestEnv::new();
    let run = env.run(&["--sandbox", &testdata(ARCHIVE), "team/app:1", "--create-repository", "--scan-on-push"]);
    run.succeeds().stderr_has(&["created the repository"]).output_has_none(&["changes nothing"]);
}

#[test]
fn nothing_is_created_for_an_archive_that_is_broken() {
    let ecr = Ecr::empty();
    let half = ecr.env.scratch("half.tar");
    let bytes = fs::read(testdata(ARCHIVE)).unwrap();
    fs::write(&half, &bytes[..bytes.len() / 2]).unwrap();
    ecr.run(&[&half, "team/app:1", "--create-repository"]).fails_with(1);
    assert!(ecr.log().is_empty());
}

fn templates(prefixes: &[&str]) -> Vec<CreationTemplate> {
    prefixes.iter().map(|prefix| CreationTemplate::on_push(prefix)).collect()
}

#[test]
fn a_template_creates_the_repository_with_the_first_request() {
    for (prefixes, fits) in [
        (&["team"][..], Some("team")),
        (&["ROOT"], Some("ROOT")),
        (&["ROOT", "team/", "other"], Some("team/")),
        (&["other", "te"], None),
        (&[], None),
    ] {
        let ecr = Ecr::with(&[], Rules { templates: templates(prefixes), ..Rules::default() });
        let (archive, written) = (testdata(ARCHIVE), ecr.env.scratch("report.json"));
        let run = ecr.run(&[&archive, "team/app:1", "--report", &written]);
        let Some(prefix) = fits else {
            run.fails_with(1).stderr_has(&[
                "the repository team/app does not exist in",
                "hint: Create it with the push, or before it: --create-repository",
            ]);
            assert_eq!(ecr.count("ecr:InitiateLayerUpload"), 0);
            continue;
        };
        let words = format!("team/app does not exist: the registry's template {prefix} creates it");
        run.succeeds().stderr_has(&[&words, &format!("the registry created the repository {HOST}/team/app")]);
        assert_eq!((ecr.count("ecr:CreateRepository"), ecr.count("v2:CancelUpload")), (0, 1));
        assert_eq!(report(&written)["targets"][0]["created_repository"], true);
        StoredImage::of_sandbox(&ecr, "team/app", "1").is(&Source::read(&archive, 0));
        // Next time templates are not asked for.
        ecr.run(&[&archive, "team/app:2"]).succeeds();
        assert_eq!(ecr.count("ecr:DescribeRepositoryCreationTemplates"), 1);
    }
}

#[test]
fn a_template_does_not_count_for_another_prefix_or_with_create_repository() {
    let template = CreationTemplate { applied_for: vec!["REPLICATION".into()], ..CreationTemplate::on_push("team") };
    let ecr = Ecr::with(&[], Rules { templates: vec![template], ..Rules::default() });
    ecr.run(&[&testdata(ARCHIVE), "team/app:1"])
        .fails_with(1)
        .stderr_has(&["hint: Create it with the push, or before it: --create-repository"]);
    let template = CreationTemplate { immutable: true, ..CreationTemplate::on_push("team") };
    ecr.set_rules(|rules| rules.templates = vec![template]);
    created(&ecr, &["--scan-on-push"]).succeeds();
    let settings = ecr.settings("team/app").unwrap();
    assert_eq!((&settings["mutability"], &settings["scan_on_push"]), (&json!("MUTABLE"), &json!(true)));
}

#[test]
fn without_the_permission_to_read_templates_the_first_upload_shows_them() {
    let words =
        "whether a creation template is for 000000000000.dkr.ecr.us-east-1.amazonaws.com/team/app was not checked: ";
    for absent_repository in [Absent::NameUnknown, Absent::HangUp] {
        for (prefixes, code) in [(&["team"][..], 0), (&[], 1)] {
            let deny = vec!["ecr:DescribeRepositoryCreationTemplates".into()];
            let rules = Rules { deny, absent_repository, templates: templates(prefixes), ..Rules::default() };
            let ecr = Ecr::with(&[], rules);
            let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1"]).exits_with(code).stderr_has(&[words]);
            let run = run.stderr_has(&["ecr:DescribeRepositoryCreationTemplates is not allowed"]);
            if code == 1 {
                run.stderr_has(&[
                    "the repository team/app does not exist in",
                    "hint: Create it with the push, or before it: --create-repository",
                ]);
            }
            assert_eq!(ecr.image("team/app", "1").is_some(), code == 0);
        }
    }
    // One that does not answer is as good as one that may not.
    let fault = Fault::once("ecr:DescribeRepositoryCreationTemplates", Trouble::Stall).times(9);
    let ecr = Ecr::with(&[], Rules { faults: vec![fault], templates: templates(&["team"]), ..Rules::default() });
    ecr.run(&[&testdata(ARCHIVE), "team/app:1"]).succeeds().stderr_has(&[words, "no answer within 2 s"]);
    // Those of another account's registry are not shown to anybody.
    let ecr = Ecr::with(&[], Rules { templates: templates(&["team"]), ..Rules::default() });
    let elsewhere = "111111111111.dkr.ecr.us-east-1.amazonaws.com/team/app:1";
    let run = ecr.run(&[&testdata(ARCHIVE), elsewhere, "--dry-run"]).succeeds();
    run.stderr_has(&["111111111111.dkr.ecr.us-east-1.amazonaws.com/team/app was not checked: ECR does not show"]);
    // A right to upload that is missing is named.
    let deny = ["ecr:DescribeRepositoryCreationTemplates", "ecr:InitiateLayerUpload"].map(String::from);
    let ecr =
        Ecr::with(&["team/other"], Rules { deny: deny.to_vec(), templates: templates(&["team"]), ..Rules::default() });
    ecr.run(&[&testdata(ARCHIVE), "team/app:1"])
        .fails_with(3)
        .stderr_has(&["hint: Allow the action ecr:InitiateLayerUpload"]);
}

#[test]
fn a_dry_run_has_no_template_create_anything() {
    let ecr = Ecr::with(&[], Rules { templates: templates(&["team"]), ..Rules::default() });
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--dry-run"]).succeeds();
    run.stderr_has(&["the registry's template team creates it", "3 of 3 layers would be uploaded"]);
    assert_eq!((ecr.repositories().len(), ecr.count("ecr:InitiateLayerUpload")), (0, 0));
}

#[test]
fn layers_that_are_archived_or_among_the_failures_are_sent_again() {
    for state in [LayerState::Archived, LayerState::ArchivedAndKept, LayerState::Failing] {
        let ecr = Ecr::new();
        let archive = testdata("podman-oci-archive.tar");
        ecr.run(&[&archive, "team/app:1"]).succeeds();
        ecr.set_rules(|rules| rules.layers = state);
        let before = ecr.count("ecr:CompleteLayerUpload");
        let run = ecr.run(&[&archive, "team/app:2", "--cache", "/proc/nonexistent/cache"]).succeeds();
        run.stderr_has(&["not in the repository, unchanged"]);
        assert!(ecr.count("ecr:CompleteLayerUpload") > before, "{state:?}");
        StoredImage::of_sandbox(&ecr, "team/app", "2").is(&Source::read(&archive, 0));
    }
}

#[test]
fn many_layers_are_asked_for_a_hundred_a_call() {
    let ecr = Ecr::new();
    let layout = ecr.env.scratch("layout");
    let layers: Vec<Vec<u8>> =
        (0..120).map(|n| archive_builder::tar_of("file", &archive_builder::noise(n, 100))).collect();
    archive_builder::oci_layout(&layout, &layers);
    ecr.run(&[&layout, "team/app:1"]).succeeds();
    assert_eq!(ecr.count("ecr:BatchCheckLayerAvailability"), 2, "120 layers and a config");
    let before = ecr.count("ecr:InitiateLayerUpload");
    ecr.run(&[&layout, "team/app:2", "--cache", "/proc/nonexistent/cache"]).succeeds().stderr_has(&["120 reused"]);
    assert_eq!(ecr.count("ecr:InitiateLayerUpload"), before);
}
