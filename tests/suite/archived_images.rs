//! Images in ECR's archive storage class: the registry says that they are not there, the API describes them, and a push of
//! the same image restores them.

use ecr_push::sandbox::{Rules, Sandbox};

use super::ecr::{Ecr, HOST, status};
use super::harness::{Run, Running, report, testdata};

const ARCHIVE: &str = "docker-20.10-save.tar";
const OTHER: &str = "docker-20.10-save-by-id-untagged.tar";
/// The digest of this one is known before anything is sent.
const STATED: &str = "crane-oci-layout";

/// A registry in which `team/app:1` is an archived image, and its digest.
fn archived(archive: &str, rules: Rules) -> (Ecr, String) {
    let ecr = Ecr::with(&["team/app"], Rules::default());
    let digest = ecr.run(&[&testdata(archive), "team/app:1"]).succeeds().digest();
    assert!(Sandbox::archive(&ecr, "team/app", "1") && ecr.image("team/app", "1").is_none());
    ecr.set_rules(|all| *all = rules);
    (ecr, digest)
}

/// Pushes as if from a fresh machine.
fn push(ecr: &Ecr, archive: &str, options: &[&str]) -> Run {
    let archive = testdata(archive);
    ecr.run(&[&[archive.as_str(), "team/app:1", "--cache", "/proc/nonexistent/cache"], options].concat())
}

#[test]
fn a_tag_of_an_archived_image_exists() {
    let (ecr, digest) = archived(ARCHIVE, Rules::default());
    let put = ecr.count("ecr:PutImage");
    let note = format!("note: {HOST}/team/app:1 exists as {} and is archived: it cannot be pulled", &digest[..19]);
    push(&ecr, OTHER, &["--if-exists", "fail"]).fails_with(1).stderr_has(&[&note, "existing tags are not allowed"]);
    let path = ecr.env.scratch("report.json");
    push(&ecr, OTHER, &["--if-exists", "skip", "--report", &path]).succeeds().stderr_has(&[&note]);
    assert_eq!(report(&path)["targets"][0]["tag_outcomes"][0]["digest"], digest);
    // From a pipe the image is known last.
    for how in ["fail", "skip"] {
        let stdin = std::fs::File::open(testdata(OTHER)).unwrap();
        let command = ecr.command(&["-", "team/app:1", "--if-exists", how]);
        Running::fed(command, stdin).end().exits_with(i32::from(how == "fail")).stderr_has(&[&note]);
    }
    assert_eq!(ecr.count("ecr:PutImage"), put, "{}", ecr.story());
    assert_eq!(ecr.open_uploads(), 0);
}

#[test]
fn an_archived_image_is_restored_by_the_same_one_only() {
    for archive in [ARCHIVE, STATED] {
        let (ecr, digest) = archived(archive, Rules::default());
        let run = push(&ecr, OTHER, &["--if-exists", "same-ok"]).fails_with(1);
        run.stderr_has(&[&format!("{HOST}/team/app:1 "), &digest, "which is another image"]);
        assert!(ecr.image("team/app", "1").is_none());
        assert_eq!(push(&ecr, archive, &["--if-exists", "same-ok"]).succeeds().digest(), digest);
        assert!(ecr.image("team/app", "1").is_some(), "it is restored");
    }
}

#[test]
fn an_archived_image_under_a_tag_that_must_not_move_is_known_before_a_byte_is_sent() {
    let ecr = Ecr::empty();
    let create = [&testdata(ARCHIVE), "team/app:1", "--create-repository", "--tag-mutability", "immutable"];
    let digest = ecr.run(&create).succeeds().digest();
    assert!(Sandbox::archive(&ecr, "team/app", "1"));
    let sent = ecr.count("ecr:InitiateLayerUpload");
    push(&ecr, STATED, &["--reuse", "off"]).fails_with(1).stderr_has(&[&digest, "the tag is immutable"]);
    assert_eq!(ecr.count("ecr:InitiateLayerUpload"), sent, "{}", ecr.story());
    // The same image is restored there, too.
    assert_eq!(push(&ecr, ARCHIVE, &["--reuse", "off"]).succeeds().digest(), digest);
    assert!(ecr.image("team/app", "1").is_some());
}

#[test]
fn without_the_permission_to_describe_images_the_registry_s_word_counts() {
    let rules = Rules { deny: vec!["ecr:DescribeImages".into()], ..Rules::default() };
    let (ecr, _) = archived(ARCHIVE, rules);
    push(&ecr, OTHER, &["--if-exists", "skip"]).succeeds().output_has_none(&["archived"]);
    assert!(ecr.image("team/app", "1").is_some());
}

#[test]
fn a_registry_that_signs_images_takes_a_permission_of_the_pusher() {
    let profile = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/ci";
    let ecr = Ecr::new();
    let run = ecr.env.run(&["policy", &format!("{HOST}/team/app:1"), "--signing-profile", profile]).succeeds();
    assert!(run.stdout.contains("\"signer:SignPayload\"") && run.stdout.contains(profile), "{}", run.stdout);
    let run = ecr.env.run(&["policy", &format!("{HOST}/team/app:1"), "--signing-profile", "ci"]).fails_with(2);
    run.stderr_has(&[
        "--signing-profile ci is not the ARN of a signing profile",
        "\n  aws signer list-signing-profiles",
    ]);
    // What is missing leads there.
    let said = format!(
        "User: arn:aws:iam::000000000000:user/ci is not authorized to perform: signer:SignPayload on resource: {profile}"
    );
    ecr.set_rules(|rules| {
        rules.faults = vec![ecr_push::sandbox::Fault::once("ecr:PutImage", status(403, "DENIED", &said))];
    });
    let run = push(&ecr, ARCHIVE, &[]).fails_with(3);
    run.stderr_has(&[&format!("\n  ecr-push policy --signing-profile {profile} {HOST}/team/app\n")]);
}
