//! Additional tags for an image that is in a repository: `ecr-push tag`.

use ecr_push::sandbox::{Fault, Options as SandboxOptions, Sandbox};
use ecr_push::{
    CancellationToken, ImageReference, Options, PushRequest, Pusher, Source as Archive, TagRequest, TagState, Target,
};

use super::docker_registry::DockerRegistry;
use super::ecr::{Ecr, HOST, status};
use super::harness::{Run, TestEnv, finish, testdata};

const ARCHIVE: &str = "docker-20.10-save.tar";
const OTHER: &str = "docker-20.10-save-by-id-untagged.tar";
const INDEX: &str = "skopeo-oci-layout-multiarch";

/// A registry in which `team/app:1` is this image, and its digest.
fn pushed(archive: &str) -> (Ecr, String) {
    let ecr = Ecr::new();
    let digest = ecr.run(&[&testdata(archive), "team/app:1"]).succeeds().digest();
    (ecr, digest)
}

/// Tags, and returns what was asked meanwhile.
fn tag(ecr: &Ecr, arguments: &[&str]) -> (Run, Vec<String>) {
    let before = ecr.log().len();
    let run = ecr.run(&[&["tag"], arguments].concat());
    (run, ecr.log()[before..].iter().map(|entry| entry.operation.clone()).collect())
}

fn count(asked: &[String], operation: &str) -> usize {
    asked.iter().filter(|it| *it == operation).count()
}

#[test]
fn an_image_gets_tags_with_one_login_and_two_requests_for_each() {
    for archive in [ARCHIVE, INDEX] {
        let (ecr, digest) = pushed(archive);
        let uploads = ecr.count("ecr:InitiateLayerUpload");
        let by_digest = format!("team/app@{digest}");
        let as_printed = format!("{HOST}/team/app:1@{digest}");
        let full = format!("{HOST}/team/app:d");
        for (image, new, tags) in [
            ("team/app:1", &["a", "team/app:b"][..], &["a", "b"][..]),
            (&by_digest, &["c"], &["c"]),
            // What a push printed.
            (&as_printed, &[&full], &["d"]),
        ] {
            let (run, asked) = tag(&ecr, &[&[image], new].concat());
            let lines: String = tags.iter().map(|tag| format!("{HOST}/team/app:{tag}@{digest}\n")).collect();
            let summary = format!("tagged {HOST}/team/app ({}); ", tags.join(", "));
            run.succeeds().stdout_is(&lines).stderr_has(&[&summary]).output_has_none(&["layer", "moved"]);
            // The image once, and each tag.
            assert_eq!(count(&asked, "ecr:BatchGetImage"), 1 + tags.len(), "{asked:?}");
            assert_eq!(count(&asked, "ecr:PutImage"), tags.len(), "{asked:?}");
            assert_eq!(asked.len(), 2 + 2 * tags.len(), "with one login: {asked:?}");
            for tag in tags {
                assert_eq!(ecr.image("team/app", tag), ecr.image("team/app", "1"), "bytes and media type of {tag}");
            }
        }
        assert_eq!(ecr.count("ecr:InitiateLayerUpload"), uploads);
    }
}

#[test]
fn the_tag_latest_is_the_default() {
    let ecr = Ecr::new();
    ecr.run(&[&testdata(ARCHIVE), "team/app"]).succeeds();
    tag(&ecr, &["team/app", "1"]).0.succeeds();
    assert_eq!(ecr.image("team/app", "1"), ecr.image("team/app", "latest"));
}

#[test]
fn a_tag_moves_or_stays_as_in_a_push() {
    for (how, code, moves, says) in [
        ("overwrite", 0, true, "team/app:old moved from sha256:"),
        ("same-ok", 1, false, "which is another image"),
        ("skip", 0, false, "existing tags unchanged; nothing was sent"),
        ("fail", 1, false, "and existing tags are not allowed"),
    ] {
        let (ecr, digest) = pushed(ARCHIVE);
        let before = ecr.run(&[&testdata(OTHER), "team/app:old"]).succeeds().digest();
        let (run, asked) = tag(&ecr, &["team/app:1", "old", "--if-exists", how]);
        run.exits_with(code).stderr_has(&[says]);
        let now = ecr.image("team/app", "old").unwrap().0.to_string();
        assert_eq!(now, if moves { digest } else { before }, "{how}");
        assert_eq!(count(&asked, "ecr:PutImage"), usize::from(moves), "{how}: {asked:?}");
        // One that points there already.
        let (run, asked) = tag(&ecr, &["team/app:1", "1", "--if-exists", how]);
        if how != "fail" {
            run.succeeds().stderr_has(&["already up to date; nothing was sent"]);
        }
        assert_eq!(count(&asked, "ecr:PutImage"), 0, "{how}: {asked:?}");
    }
}

#[test]
fn an_immutable_tag_is_refused_before_any_is_put() {
    let ecr = Ecr::empty();
    let create = ["--create-repository", "--tag-mutability", "immutable"];
    ecr.run(&[&[testdata(ARCHIVE).as_str(), "team/app:1"], &create[..]].concat()).succeeds();
    let other = ecr.run(&[&testdata(OTHER), "team/app:2"]).succeeds().digest();
    let (run, asked) = tag(&ecr, &["team/app:1", "new", "2"]);
    let run = run.fails_with(1).stdout_is("").stderr_has(&[&format!("{HOST}/team/app:2 points at {other}")]);
    run.stderr_has(&["the tag is immutable", "--if-exists skip"]);
    assert_eq!(count(&asked, "ecr:PutImage"), 0, "{asked:?}");
    ecr.has_no_image("new");
    // A new one, and one that points there.
    tag(&ecr, &["team/app:1", "new", "1"]).0.succeeds().stderr_has(&["tagged"]);
    tag(&ecr, &["team/app:1", "new", "1"]).0.succeeds().stderr_has(&["already up to date"]);
    // Of several tags, those that may be put are.
    let (run, _) = tag(&ecr, &["team/app:1", "newer", "2", "--if-exists", "skip"]);
    run.succeeds().stderr_has(&["team/app:2 exists as sha256:", "tagged"]);
    assert!(ecr.image("team/app", "newer").is_some());
}

#[test]
fn what_is_not_there_gets_no_tag() {
    let (ecr, digest) = pushed(ARCHIVE);
    let absent = format!("team/app@sha256:{}", "0".repeat(64));
    for (image, says) in [
        ("team/app:missing", &["the image 000000000000.dkr", "team/app:missing does not exist", "list-images"][..]),
        (&absent, &["@sha256:0000", " does not exist", "hint: Check the tag or the digest"]),
        ("team/missing:1", &["the repository ", "team/missing does not exist", "describe-repositories"]),
    ] {
        let (run, asked) = tag(&ecr, &[image, "new"]);
        run.fails_with(1).stdout_is("").stderr_has(says);
        assert_eq!(count(&asked, "ecr:PutImage") + count(&asked, "ecr:CreateRepository"), 0, "{asked:?}");
    }
    assert!(Sandbox::archive(&ecr, "team/app", "1"));
    tag(&ecr, &["team/app:1", "new"]).0.fails_with(1).stderr_has(&["is archived and cannot be read", "Restore it"]);
    tag(&ecr, &[&format!("team/app@{digest}"), "new"]).0.fails_with(1);
    ecr.has_no_image("new");
}

#[test]
fn a_wrong_command_line_is_refused_before_any_request() {
    let env = TestEnv::new();
    let full = format!("{HOST}/team/app:2");
    for (arguments, says) in [
        (&["team/app:1", "team/other:2"][..], "team/other:2 is not in the repository of the image, team/app"),
        (&["team/app:1", &full], "is not in the repository of the image"),
        (&["ghcr.io/team/app:1", "team/app:2"], "is not in the repository of the image, ghcr.io/team/app"),
        (&["team/app:1", "team/app@sha256:1"], "has a digest"),
        (&["team/app@sha256:1", "2"], "is not a digest"),
        (&["team/app:1", "a b"], "\"a b\""),
        (&["team/app:1"], "the new tag is missing"),
        (&["team/app:1", "2", "--tag", "3"], "--tag"),
    ] {
        env.run(&[&["tag"], arguments].concat()).fails_with(2).stdout_is("").stderr_has(&[says]);
    }
}

#[test]
fn a_dry_run_says_what_would_happen_to_each_tag() {
    let (ecr, _) = pushed(ARCHIVE);
    ecr.run(&[&testdata(OTHER), "team/app:old"]).succeeds();
    let (run, asked) = tag(&ecr, &["team/app:1", "new", "old", "1", "--dry-run", "-q"]);
    let lines = [("new", "would be created"), ("old", "would move from sha256:"), ("1", "unchanged")];
    let lines = lines.map(|(tag, what)| format!("tag {HOST}/team/app:{tag} {what}"));
    run.succeeds().stdout_is("").stderr_has(&lines.each_ref().map(String::as_str)).stderr_has(&["nothing was sent"]);
    assert_eq!(count(&asked, "ecr:PutImage"), 0, "{asked:?}");
    tag(&ecr, &["team/app:missing", "new", "--dry-run"]).0.fails_with(1).stderr_has(&["does not exist"]);
}

#[test]
fn a_refused_tag_has_the_exit_code_of_a_push() {
    let (ecr, _) = pushed(ARCHIVE);
    ecr.set_rules(|rules| rules.faults = vec![Fault::once("ecr:PutImage", status(403, "DENIED", "not today"))]);
    tag(&ecr, &["team/app:1", "new"]).0.fails_with(3).stdout_is("").stderr_has(&["not today"]);
    ecr.has_no_image("new");
    // Without the repository in the other region.
    for (dry_run, summary) in
        [(&["--dry-run"][..], "1 of 2 targets would be tagged"), (&[], "1 of 2 targets were tagged")]
    {
        let run = tag(&ecr, &[&["team/app:1", "new", "--region", "eu-west-1"], dry_run].concat()).0;
        run.fails_with(3).stderr_has(&[summary]);
    }
}

#[test]
fn options_come_from_the_environment_as_for_a_push() {
    let (ecr, digest) = pushed(ARCHIVE);
    let mut command = ecr.command(&["tag", "team/app:1", "1"]);
    command.env("ECR_PUSH_IF_EXISTS", "fail");
    ecr.finish(command).fails_with(1).stderr_has(&[&format!("team/app:1 points at {digest}")]);
    // The log of a CI system has a group of its own, and an error is a command.
    let mut command = ecr.command(&["tag", "team/app:missing", "1"]);
    command.env("GITHUB_ACTIONS", "true");
    ecr.finish(command).fails_with(1).stderr_has(&["::group::Tag Image", "::error"]);
}

#[test]
fn another_registry_is_tagged_with_its_own_login() {
    let Some(registry) = DockerRegistry::start_for_bob() else { return };
    let (env, image) = (TestEnv::new(), registry.target("team/app:1"));
    let run = |arguments: &[&str]| {
        let mut command = env.command(arguments);
        let login = r#"{"auths":{"ADDRESS":{"auth":"Ym9iOmh1bnRlcjI6YW5kIG1vcmU="}}}"#;
        command.env("DOCKER_AUTH_CONFIG", login.replace("ADDRESS", image.split('/').next().unwrap()));
        finish(command, String::new)
    };
    let digest = run(&[&testdata(ARCHIVE), &image]).succeeds().digest();
    let tagged = registry.target("team/app:2");
    run(&["tag", &image, "2"]).succeeds().stdout_is(&format!("{tagged}@{digest}\n"));
    run(&["tag", &image, "2"]).succeeds().stderr_has(&["already up to date"]);
    run(&["tag", &registry.target("team/none:1"), "2"]).fails_with(1).stderr_has(&["does not exist"]);
}

#[test]
fn each_region_tags_in_its_own_registry() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let region = |region: &str| {
            let create = vec!["team/app".parse().unwrap()];
            Sandbox::start(SandboxOptions { create, region: region.to_owned(), ..SandboxOptions::default() })
        };
        let sandboxes = [region("us-east-1").await.unwrap(), region("eu-west-1").await.unwrap()];
        let [own, other] = sandboxes.each_ref().map(Sandbox::endpoint_override);
        let mut options = Options::default();
        options.registries.access = ecr_push::Access::Override { own, others: vec![other] };
        let target = |region: &str, tag: &str| {
            let target: Target = format!("team/app:{tag}").parse().unwrap();
            Target { region: Some(region.to_owned()), ..target }
        };
        let targets = |tag: &str| [target("us-east-1", tag), target("eu-west-1", tag)];
        let pusher = Pusher::builder().options(options).start().await.unwrap();
        let archive = Archive::Path(testdata(ARCHIVE).into());
        let stop = CancellationToken::new;
        pusher.push(PushRequest::new(archive, targets("1")), stop()).await.into_result().unwrap();
        let image = ImageReference::Tag("1".parse().unwrap());
        let request = TagRequest::new(image, targets("2"));
        let outcome = pusher.tag(request.clone(), stop()).await.into_result().unwrap();
        for (target, sandbox) in outcome.targets.iter().zip(&sandboxes) {
            assert_eq!(target.placed[0].state, TagState::Pushed);
            assert!(target.changed && target.layers.is_empty());
            assert_eq!(sandbox.image("team/app", "2"), sandbox.image("team/app", "1"));
        }
        let logins = sandboxes.iter().flat_map(Sandbox::log).filter(|it| it.operation == "ecr:GetAuthorizationToken");
        assert_eq!(logins.count(), 2, "one a registry, for the push and the tags");
        // One that fails does not stop the other.
        let denied = Fault::once("ecr:PutImage", status(403, "DENIED", "not today"));
        sandboxes[0].set_rules(|rules| rules.faults = vec![denied]);
        let again = TagRequest::new(request.image.clone(), targets("3"));
        let outcome = pusher.tag(again, stop()).await;
        assert_eq!(outcome.targets[0].error.as_ref().map(|error| error.kind()), Some(ecr_push::Kind::Permission));
        assert!(sandboxes[0].image("team/app", "3").is_none() && sandboxes[1].image("team/app", "3").is_some());
        // A stopped request puts nothing.
        let stopped = stop();
        stopped.cancel();
        let outcome = pusher.tag(request, stopped).await;
        assert_eq!(outcome.error().map(|error| error.kind()), Some(ecr_push::Kind::Interrupted));
    });
}
