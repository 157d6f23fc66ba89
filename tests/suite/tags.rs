//! Tags that exist: which of them move, which stay, and what is refused before anything is sent.

use std::fs;

use ecr_push::sandbox::{Absent, Fault, Rules, Trouble};
use serde_json::json;

use super::archive_builder;
use super::ecr::{Ecr, HOST};
use super::harness::{Run, Running, report, testdata};

const CREATE: [&str; 2] = ["team/app:1", "--create-repository"];

/// A layer that no other one is like.
fn layer(seed: u64) -> Vec<u8> {
    archive_builder::tar_of("file", &archive_builder::noise(seed, 40_000))
}

/// Writes an archive with these layers.
fn saved(ecr: &Ecr, seeds: &[u64]) -> String {
    let path = ecr.env.scratch(&format!("{seeds:?}.tar"));
    archive_builder::docker_save(&path, &seeds.iter().map(|seed| layer(*seed)).collect::<Vec<_>>());
    path
}

/// Pushes as if from a fresh machine, and returns what was asked meanwhile.
fn push(ecr: &Ecr, arguments: &[&str]) -> (Run, Vec<String>) {
    let before = ecr.log().len();
    let run = ecr.run(&[arguments, &["--cache", "/proc/nonexistent/cache"]].concat());
    (run, ecr.log()[before..].iter().map(|entry| entry.operation.clone()).collect())
}

/// Whether nothing was sent or put.
fn only_looked(asked: &[String]) -> bool {
    let touches = ["ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:CreateRepository"];
    !asked.is_empty() && !asked.iter().any(|operation| touches.contains(&operation.as_str()))
}

#[test]
fn a_tag_moves_where_the_repository_lets_it_and_is_refused_before_a_byte_elsewhere() {
    let excepted = ["--tag-mutability-exclusion", "dev-*", "--tag-mutability-exclusion", "latest"];
    for (how, filters, tag, moves) in [
        ("mutable", &[][..], "1", true),
        ("immutable", &[], "1", false),
        ("immutable-with-exclusion", &excepted[..], "1", false),
        ("immutable-with-exclusion", &excepted, "dev-1", true),
        ("mutable-with-exclusion", &excepted, "1", true),
        ("mutable-with-exclusion", &excepted, "latest", false),
    ] {
        let ecr = Ecr::empty();
        let (first, other) = (saved(&ecr, &[1, 2]), saved(&ecr, &[1, 3]));
        let target = format!("team/app:{tag}");
        let create = [&[first.as_str(), &target, "--create-repository", "--tag-mutability", how], filters].concat();
        let before = ecr.run(&create).succeeds().digest();
        // The same again is there, whatever the rule.
        let (again, asked) = push(&ecr, &[&first, &target]);
        again.succeeds().stdout_is(&format!("{HOST}/{target}@{before}\n")).stderr_has(&[": already up to date; "]);
        assert_eq!(asked, ["ecr:GetAuthorizationToken", "ecr:BatchGetImage"], "{how} {tag}");
        let (run, asked) = push(&ecr, &[&other, &target]);
        assert_eq!(asked.iter().filter(|it| *it == "ecr:DescribeRepositories").count(), 1, "{how} {tag}");
        let now = ecr.image("team/app", tag).unwrap().0.to_string();
        if moves {
            run.succeeds().stderr_has(&[&format!("{HOST}/{target} moved from {}", &before[..19])]);
            assert_ne!(now, before, "{how} {tag}");
        } else {
            let run = run
                .fails_with(1)
                .stdout_is("")
                .stderr_has(&[&format!("{HOST}/{target} points at {before}, which is another")]);
            run.stderr_has(&["the tag is immutable", "hint: Push under another tag, or skip existing tags"]);
            assert!(only_looked(&asked) && now == before, "{how} {tag}: {asked:?}");
        }
    }
}

#[test]
fn the_policy_for_existing_tags_is_an_option() {
    for (how, archive, code, moves, says) in [
        ("overwrite", "same", 0, false, "already up to date; "),
        ("overwrite", "other", 0, true, "app:1 moved from sha256:"),
        ("same-ok", "same", 0, false, "already up to date; "),
        ("same-ok", "other", 1, false, "which is another image"),
        ("skip", "same", 0, false, "already up to date; "),
        ("skip", "other", 0, false, "existing tags unchanged; nothing was sent"),
        ("fail", "same", 1, false, "and existing tags are not allowed"),
        ("fail", "other", 1, false, "and existing tags are not allowed"),
    ] {
        let ecr = Ecr::new();
        let first = saved(&ecr, &[1, 2]);
        let second = if archive == "same" { first.clone() } else { saved(&ecr, &[1, 3]) };
        let before = ecr.run(&[&first, "team/app:1"]).succeeds().digest();
        let (run, asked) = push(&ecr, &[&second, "team/app:1", "--if-exists", how]);
        let now = ecr.image("team/app", "1").unwrap().0.to_string();
        assert_eq!((now != before, only_looked(&asked)), (moves, !moves), "{how} {archive}: {asked:?}");
        let run = run.exits_with(code).stderr_has(&[says]);
        run.stdout_is(&if code == 0 { format!("{HOST}/team/app:1@{now}\n") } else { String::new() });
        // A tag that is new is pushed whatever is said.
        let (run, _) = push(&ecr, &[&second, "team/app:2", "--if-exists", how]);
        run.succeeds();
        assert!(ecr.image("team/app", "2").is_some(), "{how}");
    }
}

#[test]
fn all_tags_are_judged_before_anything_is_sent() {
    let ecr = Ecr::empty();
    let (first, other) = (saved(&ecr, &[1]), saved(&ecr, &[2]));
    ecr.run(&[&[first.as_str()], &CREATE[..], &["--tag-mutability", "immutable"]].concat()).succeeds();
    let (run, asked) = push(&ecr, &[&other, "team/app:new", "--tag", "1", "--tag", "newer"]);
    run.fails_with(1).stdout_is("").stderr_has(&["team/app:1 points at sha256:"]).output_has_none(&["app:new points"]);
    assert!(only_looked(&asked), "{asked:?}");
    assert_eq!(asked.iter().filter(|operation| *operation == "ecr:BatchGetImage").count(), 3);
    assert!(ecr.image("team/app", "new").is_none() && ecr.image("team/app", "newer").is_none());
}

#[test]
fn of_several_tags_each_gets_what_is_its_own() {
    let ecr = Ecr::new();
    let (first, other, written) = (saved(&ecr, &[1]), saved(&ecr, &[2]), ecr.env.scratch("report.json"));
    let there = ecr.run(&[&first, "team/app:old"]).succeeds().digest();
    ecr.run(&[&other, "team/app:this"]).succeeds();
    let tags = ["team/app:old", "--tag", "this", "--tag", "new"];
    let (run, _) = push(&ecr, &[&[other.as_str(), "--if-exists", "skip", "--report", &written], &tags[..]].concat());
    let this = ecr.image("team/app", "this").unwrap().0.to_string();
    let lines = [("old", &there), ("this", &this), ("new", &this)];
    let lines = lines.map(|(tag, digest)| format!("{HOST}/team/app:{tag}@{digest}\n"));
    run.succeeds().stdout_is(&lines.concat()).stderr_has(&["team/app:old exists as sha256:"]);
    let target = report(&written)["targets"][0].clone();
    assert_eq!(target["pushed_tags"], json!(["this", "new"]));
    let outcome = |tag: &str, digest: &str, outcome: &str| {
        let (_, bytes, media_type) = ecr.image("team/app", tag).unwrap();
        json!({"tag": tag, "digest": digest, "media_type": media_type, "size": bytes.len(), "outcome": outcome})
    };
    let outcomes =
        json!([outcome("old", &there, "skipped"), outcome("this", &this, "there"), outcome("new", &this, "pushed")]);
    assert_eq!((&target["tag_outcomes"], &target["digest"]), (&outcomes, &json!(this)));
}

#[test]
fn the_same_image_in_another_manifest_is_the_same() {
    for (more, code, stays) in
        [(&[][..], 0, false), (&["--if-exists", "same-ok"], 0, true), (&["--if-exists", "fail"], 1, true)]
    {
        let ecr = Ecr::empty();
        let (packed, layout) = (saved(&ecr, &[1, 2]), ecr.env.scratch("layout"));
        let digest = archive_builder::oci_layout(&layout, &[layer(1), layer(2)]);
        let create = [&[packed.as_str()], &CREATE[..]].concat();
        let before = ecr.run(&create).succeeds().digest();
        assert_ne!(before, digest);
        let (run, asked) = push(&ecr, &[&[layout.as_str(), "team/app:1"], more].concat());
        let run = run.exits_with(code);
        assert_eq!(ecr.image("team/app", "1").unwrap().0.to_string(), if stays { &before } else { &digest }.as_str());
        assert_eq!(only_looked(&asked), stays, "{more:?}: {asked:?}");
        if stays && code == 0 {
            let words = format!("team/app:1 already points at this image, as {}; unchanged", &before[..19]);
            run.stdout_is(&format!("{HOST}/team/app:1@{before}\n"))
                .stderr_has(&[&words, "already up to date; nothing was sent"]);
        }
    }
    // Where it must not move it need not.
    let ecr = Ecr::empty();
    let (packed, layout) = (saved(&ecr, &[1, 2]), ecr.env.scratch("layout"));
    let digest = archive_builder::oci_layout(&layout, &[layer(1), layer(2)]);
    let immutable = [&[packed.as_str()], &CREATE[..], &["--tag-mutability", "immutable"]].concat();
    let before = ecr.run(&immutable).succeeds().digest();
    let (run, asked) = push(&ecr, &[&layout, "team/app:1"]);
    run.succeeds().stdout_is(&format!("{HOST}/team/app:1@{before}\n")).stderr_has(&["already points at this image"]);
    assert!(only_looked(&asked), "{asked:?}");
    // But who wants a digest wants no other.
    let (run, asked) = push(&ecr, &[&layout, "team/app:1", "--expect-digest", &digest]);
    run.fails_with(1).stderr_has(&["which is another image"]);
    assert!(only_looked(&asked), "{asked:?}");
    // The same layers in another order are another image.
    let (run, _) = push(&ecr, &[&saved(&ecr, &[2, 1]), "team/app:1"]);
    run.fails_with(1).stderr_has(&["which is another image"]);
}

#[test]
fn an_index_is_the_same_by_its_digest() {
    let (ecr, archive) = (Ecr::empty(), testdata("skopeo-oci-layout-multiarch"));
    let create = [&[archive.as_str()], &CREATE[..], &["--tag-mutability", "immutable"]].concat();
    let first = ecr.run(&create).succeeds().digest();
    let (again, asked) = push(&ecr, &[&archive, "team/app:1", "--if-exists", "same-ok"]);
    again.succeeds().stdout_is(&format!("{HOST}/team/app:1@{first}\n"));
    assert!(only_looked(&asked), "{asked:?}");
    let (run, asked) = push(&ecr, &[&archive, "team/app:1", "--platform", "linux/amd64"]);
    run.fails_with(1).stderr_has(&["which is another image"]);
    assert!(only_looked(&asked), "{asked:?}");
}

#[test]
fn a_dry_run_judges_tags_too() {
    let ecr = Ecr::empty();
    let (first, other) = (saved(&ecr, &[1]), saved(&ecr, &[2]));
    ecr.run(&[&[first.as_str()], &CREATE[..], &["--tag-mutability", "immutable"]].concat()).succeeds();
    let (run, asked) = push(&ecr, &[&other, "team/app:1", "--dry-run"]);
    run.fails_with(1).stderr_has(&["the tag is immutable"]);
    assert!(only_looked(&asked));
}

#[test]
fn a_dry_run_reports_what_would_happen_to_each_tag_of_each_target() {
    let ecr = Ecr::empty();
    let (first, other, written) = (saved(&ecr, &[1]), saved(&ecr, &[2]), ecr.env.scratch("report.json"));
    let old = ecr.run(&[&first, "team/app:old", "--create-repository"]).succeeds().digest();
    let this = ecr.run(&[&other, "team/app:this"]).succeeds().digest();
    let options = ["--tag", "this", "--tag", "new", "--create-repository", "--dry-run", "--report", &written];
    let plan = |more: &[&str]| push(&ecr, &[&[&other, "team/app:old", "team/other"], &options[..], more].concat());
    let (run, asked) = plan(&[]);
    assert!(only_looked(&asked), "{asked:?}");
    let moves = format!("tag {HOST}/team/app:old would move from {}\n", &old[.."sha256:".len() + 12]);
    run.succeeds().stdout_is("").stderr_has(&[
        &moves,
        &format!("tag {HOST}/team/app:this unchanged\n"),
        &format!("tag {HOST}/team/app:new would be created\n"),
        &format!("tag {HOST}/team/other:this would be created\n"),
        &format!("tag {HOST}/team/other:new would be created\n"),
    ]);
    let outcomes = |at: usize| report(&written)["targets"][at]["tag_outcomes"].clone();
    let row = |tag: &str, outcome: &str, exists: bool, digest: Option<&str>, moved_from: Option<&str>| json!({"tag": tag, "outcome": outcome, "exists": exists, "digest": digest, "moved_from": moved_from});
    let new = row("new", "pushed", false, Some(&this), None);
    let unchanged = row("this", "there", true, Some(&this), None);
    assert_eq!(outcomes(0), json!([row("old", "pushed", true, Some(&this), Some(&old)), unchanged, new]));
    // Its layers are compressed first.
    assert_eq!(outcomes(1), json!(["this", "new"].map(|tag| row(tag, "pushed", false, None, None))));

    plan(&["--if-exists", "skip"]).0.succeeds().stderr_has(&[&format!("tag {HOST}/team/app:old unchanged\n")]);
    assert_eq!(outcomes(0)[0], row("old", "skipped", true, Some(&old), None));
    // All tags are unchanged.
    let (run, _) = push(&ecr, &[&other, "team/app:old", "--if-exists", "skip", "--dry-run", "--log-format", "json"]);
    run.succeeds().stderr_has(&[r#""event":"tag""#, r#""moved_from":null,"outcome":"skipped","tag":"old","target":"#]);
}

#[test]
fn a_dry_run_does_not_claim_what_it_may_not_read() {
    let ecr = Ecr::new();
    ecr.set_rules(|rules| rules.deny = vec!["ecr:BatchGetImage".into()]);
    let (run, _) = push(&ecr, &[&saved(&ecr, &[1]), "team/app:1", "--dry-run"]);
    run.succeeds().stderr_has(&[&format!("tag {HOST}/team/app:1 would be pushed\n")]);
}

#[test]
fn a_look_at_the_second_tag_is_as_good_for_layers() {
    let ecr = Ecr::new();
    let (first, other) = (saved(&ecr, &[1, 2]), saved(&ecr, &[1, 3]));
    ecr.run(&[&first, "team/app:latest"]).succeeds();
    let (run, _) = push(&ecr, &[&other, "team/app:1.4", "--tag", "latest"]);
    run.succeeds().stderr_has(&["1 of 2 layers uploaded", "1 reused"]);
}

#[test]
fn without_a_look_at_images_tags_are_judged_all_the_same() {
    for how in ["off", "cache"] {
        let ecr = Ecr::empty();
        let (first, other) = (saved(&ecr, &[1]), saved(&ecr, &[2]));
        ecr.run(&[&[first.as_str()], &CREATE[..], &["--tag-mutability", "immutable"]].concat()).succeeds();
        let (run, asked) = push(&ecr, &[&other, "team/app:1", "--reuse", how]);
        run.fails_with(1).stderr_has(&["the tag is immutable"]);
        assert!(only_looked(&asked), "{asked:?}");
        let (run, _) = push(&ecr, &[&other, "team/app:1", "--reuse", how, "--if-exists", "skip"]);
        run.succeeds().stderr_has(&["existing tags unchanged"]);
    }
}

#[test]
fn a_push_without_the_permission_to_read_continues_with_a_note() {
    let (line, refused) = ("was not checked: ecr:DescribeRepositories is not allowed", "is immutable.");
    let ecr = Ecr::empty();
    let (first, other) = (saved(&ecr, &[1]), saved(&ecr, &[2]));
    ecr.run(&[&[first.as_str()], &CREATE[..], &["--tag-mutability", "immutable"]].concat()).succeeds();
    ecr.set_rules(|rules| rules.deny = vec!["ecr:DescribeRepositories".into()]);
    let (run, _) = push(&ecr, &[&other, "team/app:1"]);
    run.fails_with(1).stderr_has(&[line, refused]);
    // Not even the tags can be looked at.
    ecr.set_rules(|rules| rules.deny = vec!["ecr:BatchGetImage".into()]);
    let (run, _) = push(&ecr, &[&other, "team/app:2", "--tag", "3"]);
    let run = run.succeeds().stderr_has(&[
        "app:2, ",
        "app:3 could not be read: ",
        "; pushing without layer reuse and without the tag check",
    ]);
    assert_eq!(run.stderr.matches("without the tag check").count(), 1);
}

#[test]
fn a_required_check_of_tags_fails_the_push_if_it_is_impossible() {
    let ecr = Ecr::with(&["team/app"], Rules { deny: vec!["ecr:BatchGetImage".into()], ..Rules::default() });
    let archive = saved(&ecr, &[1]);
    for how in ["same-ok", "skip", "fail"] {
        let (run, asked) = push(&ecr, &[&archive, "team/app:1", "--if-exists", how]);
        run.fails_with(3)
            .stderr_has(&["team/app:1, which the policy for existing tags requires", "hint: Allow ecr:BatchGetImage"]);
        assert!(only_looked(&asked));
    }
    let fault = Fault::once("ecr:BatchGetImage", Trouble::Stall);
    ecr.set_rules(|rules| (rules.deny, rules.faults) = (Vec::new(), vec![fault]));
    let (run, _) = push(&ecr, &[&archive, "team/app:1", "--if-exists", "fail"]);
    run.fails_with(4).stderr_has(&["which the policy for existing tags requires", "no answer within 2 s"]);
}

#[test]
fn a_rule_on_tags_that_cannot_be_learned_in_time_costs_two_seconds() {
    let ecr = Ecr::new();
    let (first, other) = (saved(&ecr, &[1]), saved(&ecr, &[2]));
    ecr.run(&[&first, "team/app:1"]).succeeds();
    ecr.set_rules(|rules| rules.faults = vec![Fault::once("ecr:DescribeRepositories", Trouble::Stall)]);
    let (run, _) = push(&ecr, &[&other, "team/app:1"]);
    run.succeeds().stderr_has(&["was not checked: no answer within 2 s", "app:1 moved from"]);
}

#[test]
fn other_registries_report_tags_that_must_not_move() {
    let ecr =
        Ecr::with(&["team/app"], Rules { anonymous: true, absent_repository: Absent::HangUp, ..Rules::default() });
    let (first, other) = (saved(&ecr, &[1]), saved(&ecr, &[2]));
    let target = format!("{}/team/app:1", ecr.address());
    ecr.finish(ecr.env.command(&[&first, &target])).succeeds();
    for (how, code) in [("fail", 1), ("same-ok", 1), ("skip", 0), ("overwrite", 0)] {
        ecr.finish(ecr.env.command(&[&other, &target, "--if-exists", how])).exits_with(code);
    }
    assert_eq!(ecr.count("ecr:DescribeRepositories"), 0);
}

/// A `podman save` with these layers, whose names are their diff_ids, pushed through a pipe.
fn piped(ecr: &Ecr, seeds: &[u64], arguments: &[&str]) -> (Run, Vec<String>) {
    let layers: Vec<Vec<u8>> = seeds.iter().map(|seed| layer(*seed)).collect();
    let diff_ids: Vec<String> = layers.iter().map(|layer| super::archive_contents::sha256(layer)).collect();
    let mut tar = tar::Builder::new(Vec::new());
    let names: Vec<String> = diff_ids.iter().map(|id| format!("{}.tar", id.strip_prefix("sha256:").unwrap())).collect();
    names.iter().zip(&layers).for_each(|(name, layer)| archive_builder::add(&mut tar, name, layer));
    archive_builder::finish_docker_save(&mut tar, &names, &diff_ids);
    let bytes = tar.into_inner().unwrap();
    let path = ecr.env.scratch("piped.tar");
    fs::write(&path, &bytes).unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let writing = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &bytes).is_ok());
    let before = ecr.log().len();
    let cache = ["--cache", "/proc/nonexistent/cache"];
    let run = Running::fed(ecr.command(&[&["-"], arguments, &cache].concat()), reader).end();
    // A writer must be able to write everything where nothing fails.
    assert!(run.code != Some(0) || writing.join().unwrap(), "the pipe was not read to its end");
    (run, ecr.log()[before..].iter().map(|entry| entry.operation.clone()).collect())
}

#[test]
fn from_a_pipe_tags_are_judged_as_far_as_that_goes_before_anything_is_sent() {
    let ecr = Ecr::empty();
    let create = ["team/app:1", "--create-repository", "--tag-mutability", "immutable"];
    let (run, asked) = piped(&ecr, &[1, 2], &create);
    let before = run.succeeds().digest();
    let created = asked.iter().position(|operation| operation == "ecr:CreateRepository").unwrap();
    let begun = asked.iter().position(|operation| operation == "ecr:InitiateLayerUpload").unwrap();
    assert!(created < begun, "{asked:?}");
    // The same image is there.
    let (run, asked) = piped(&ecr, &[1, 2], &["team/app:1"]);
    run.succeeds().stdout_is(&format!("{HOST}/team/app:1@{before}\n")).stderr_has(&["already up to date; "]);
    assert!(only_looked(&asked), "{asked:?}");
    // Another one is noticed by its first layer.
    for more in [&[][..], &["--if-exists", "same-ok"]] {
        let (run, asked) = piped(&ecr, &[3, 1], &[&["team/app:1"], more].concat());
        run.fails_with(1).stdout_is("").stderr_has(&["which is another image"]);
        assert!(only_looked(&asked), "{asked:?}");
    }
    // Or, if all of its layers are known, at the end.
    let (run, asked) = piped(&ecr, &[1], &["team/app:1"]);
    run.fails_with(1).stdout_is("").stderr_has(&["which is another image"]);
    assert!(only_looked(&asked), "{asked:?}");
    let (run, asked) = piped(&ecr, &[1, 2], &["team/app:1", "--if-exists", "fail"]);
    run.fails_with(1).stderr_has(&["existing tags are not allowed"]);
    assert!(only_looked(&asked), "{asked:?}");
    let (run, asked) = piped(&ecr, &[3], &["team/app:1", "--if-exists", "skip"]);
    run.succeeds()
        .stdout_is(&format!("{HOST}/team/app:1@{before}\n"))
        .stderr_has(&["existing tags unchanged; nothing was sent"]);
    assert!(only_looked(&asked), "{asked:?}");
    let (run, _) = piped(&ecr, &[3], &["team/app:1", "--tag", "2", "--if-exists", "skip"]);
    let run = run.succeeds();
    assert_eq!((&run.digests()[0], run.stderr.matches("; unchanged").count()), (&before, 1));
    assert!(ecr.image("team/app", "2").is_some());
}
