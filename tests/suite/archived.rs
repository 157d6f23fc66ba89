//! Images in ECR's archive storage class: the registry says that they are not there, the API describes them, and a push of
//! the same image restores them.

use ecr_push::sandbox::{Rules, Sandbox};

use super::bench::{Run, Running, report, testdata};
use super::ecr::{Ecr, HOST, status};

const ARCHIVE: &str = "docker-20.10-save.tar";
const OTHER: &str = "docker-20.10-save-by-id-untagged.tar";
/// The digest of this one is known before anything is sent.
const STATED: &str = "crane-oci-layout";

/// A registry in which `team/app:1` is an archived image, and its digest.
fn archived(archive: &str, rules: Rules) -> (Ecr, String) {
    let ecr = Ecr::with(&["team/app"], Rules::default());
    let digest = ecr.run(&[&testdata(archive), "team/app:1"]).exits(0).digest();
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
    drop(push(&ecr, OTHER, &["--if-exists", "fail"]).exits(1).says(&[&note, "--if-exists fail wants no such tag"]));
    let path = ecr.bench.scratch("report.json");
    drop(push(&ecr, OTHER, &["--if-exists", "skip", "--report", &path]).exits(0).says(&[&note]));
    assert_eq!(report(&path)["targets"][0]["tag_outcomes"][0]["digest"], digest);
    // From a pipe the image is known last.
    for how in ["fail", "skip"] {
        let stdin = std::fs::File::open(testdata(OTHER)).unwrap();
        let command = ecr.command(&["-", "team/app:1", "--if-exists", how]);
        drop(Running::fed(command, stdin).end().exits(i32::from(how == "fail")).says(&[&note]));
    }
    assert_eq!(ecr.count("ecr:PutImage"), put, "{}", ecr.story());
    assert_eq!(ecr.open_uploads(), 0);
}

#[test]
fn an_archived_image_is_restored_by_the_same_one_only() {
    for archive in [ARCHIVE, STATED] {
        let (ecr, digest) = archived(archive, Rules::default());
        let run = push(&ecr, OTHER, &["--if-exists", "same-ok"]).exits(1);
        drop(run.says(&[&format!("{HOST}/team/app:1 "), &digest, "which is another image"]));
        assert!(ecr.image("team/app", "1").is_none());
        assert_eq!(push(&ecr, archive, &["--if-exists", "same-ok"]).exits(0).digest(), digest);
        assert!(ecr.image("team/app", "1").is_some(), "it is restored");
    }
}

#[test]
fn an_archived_image_under_a_tag_that_must_not_move_is_known_before_a_byte_is_sent() {
    let ecr = Ecr::empty();
    let create = [&testdata(ARCHIVE), "team/app:1", "--create-repository", "--tag-mutability", "immutable"];
    let digest = ecr.run(&create).exits(0).digest();
    assert!(Sandbox::archive(&ecr, "team/app", "1"));
    let sent = ecr.count("ecr:InitiateLayerUpload");
    drop(push(&ecr, STATED, &["--reuse", "off"]).exits(1).says(&[&digest, "does not let such tags move"]));
    assert_eq!(ecr.count("ecr:InitiateLayerUpload"), sent, "{}", ecr.story());
    // The same image is restored there, too.
    assert_eq!(push(&ecr, ARCHIVE, &["--reuse", "off"]).exits(0).digest(), digest);
    assert!(ecr.image("team/app", "1").is_some());
}

#[test]
fn without_the_permission_to_describe_images_the_registry_s_word_counts() {
    let rules = Rules { deny: vec!["ecr:DescribeImages".into()], ..Rules::default() };
    let (ecr, _) = archived(ARCHIVE, rules);
    drop(push(&ecr, OTHER, &["--if-exists", "skip"]).exits(0).never_says(&["archived"]));
    assert!(ecr.image("team/app", "1").is_some());
}

#[test]
fn a_registry_that_signs_images_takes_a_permission_of_the_pusher() {
    let profile = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/ci";
    let ecr = Ecr::new();
    let run = ecr.bench.run(&["policy", &format!("{HOST}/team/app:1"), "--signing-profile", profile]).exits(0);
    assert!(run.stdout.contains("\"signer:SignPayload\"") && run.stdout.contains(profile), "{}", run.stdout);
    drop(run);
    let run = ecr.bench.run(&["policy", &format!("{HOST}/team/app:1"), "--signing-profile", "ci"]).exits(2);
    drop(
        run.says(&["--signing-profile ci is not the ARN of a signing profile", "\n  aws signer list-signing-profiles"]),
    );
    // What is missing leads there.
    let said = format!(
        "User: arn:aws:iam::000000000000:user/ci is not authorized to perform: signer:SignPayload on resource: {profile}"
    );
    ecr.set_rules(|rules| {
        rules.faults = vec![ecr_push::sandbox::Fault::once("ecr:PutImage", status(403, "DENIED", &said))];
    });
    let run = push(&ecr, ARCHIVE, &[]).exits(3);
    drop(run.says(&[&format!("\n  ecr-push policy --signing-profile {profile} {HOST}/team/app\n")]));
}
