//! A command line that makes no sense is refused with exit code 2 before anything is opened or asked.

use super::bench::{Bench, finish, testdata};
use super::ecr::Ecr;

/// Runs the program with these arguments, which nobody can mean.
#[track_caller]
fn refused(arguments: &[&str], says: &[&str]) {
    let ecr = Ecr::new();
    let run = ecr.run(arguments).exits(2).prints("").says(says);
    assert!(run.stderr.starts_with("error: "));
    assert!(ecr.log().is_empty());
    drop(run);
}

#[test]
fn both_ways_to_choose_an_image() {
    let archive = testdata("docker-20.10-save-many.tar");
    refused(&[&archive, "team/app:1", "--image", "app", "--image-id", "92c112f97a4b"], &["--image", "--image-id"]);
}

#[test]
fn something_is_missing_or_unknown() {
    refused(&[], &["ARCHIVE", "TARGET"]);
    refused(&["image.tar"], &["TARGET"]);
    refused(&["image.tar", "team/app:1", "--colour", "red"], &["--colour"]);
    refused(&["image.tar", "team/app:1", "--progress", "loud"], &["loud", "plain"]);
}

#[test]
fn a_target_that_cannot_be() {
    let archive = testdata("docker-20.10-save.tar");
    for (target, says) in [
        ("Team/App:1", "\"Team/App\" is not a repository name: it has the upper-case letter 'T'"),
        ("team//app:1", "\"team//app\" is not a repository name"),
        ("team/app:-", "\"-\" is not a tag"),
        ("team/app:a b", "\"a b\" is not a tag"),
        ("team/app@sha256:12", "the target \"team/app@sha256:12\" has a digest"),
        (":1", "is not a repository name"),
        ("", "is not a repository name"),
    ] {
        refused(&[&archive, target], &[says, "hint: A "]);
    }
    refused(&[&archive, "team/app:1", "--tag", "no/tag"], &["no/tag"]);
}

#[test]
fn a_target_of_which_a_part_is_missing() {
    let archive = testdata("docker-20.10-save.tar");
    for (target, says) in [
        ("team/app:", ["\"team/app:\" ends with a colon and no tag", "hint: Is a variable empty?"]),
        ("localhost:5000", ["\"localhost:5000\" names no repository", "localhost:5000/REPOSITORY:TAG"]),
        ("localhost:5000/", ["\"localhost:5000/\" names no repository", "localhost:5000/REPOSITORY:TAG"]),
        ("ghcr.io/:1", ["\"ghcr.io/:1\" names no repository", "ghcr.io/REPOSITORY:TAG"]),
        (
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com:1.4",
            ["names no repository", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/REPOSITORY:TAG"],
        ),
    ] {
        refused(&[&archive, target], &says);
    }
    refused(&[&archive, "team/app:1", "--tag", ""], &["a tag is empty", "hint: Is a variable empty?"]);
}

#[test]
fn a_host_of_amazon_s_that_ecr_cannot_have() {
    let archive = testdata("docker-20.10-save.tar");
    for host in [
        "12345678901.dkr.ecr.eu-west-1.amazonaws.com",
        "123456789012.dkr.ecr.ireland.amazonaws.com",
        "123456789012.dkr.ecr.amazonaws.com",
        "123456789012.dkr-ecr.eu-west-1.amazonaws.com",
        "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn:8443",
    ] {
        let says = format!("{host} is under Amazon's name and none of ECR's registries");
        refused(&[&archive, &format!("{host}/team/app:1")], &[&says, "hint: Theirs are ACCOUNT.dkr.ecr.REGION."]);
    }
}

#[test]
fn a_place_to_mount_from_that_cannot_be() {
    let archive = testdata("docker-20.10-save.tar");
    for (source, says) in [
        ("ghcr.io/team/base", "\"ghcr.io/team/base\" names the registry ghcr.io to mount layers from"),
        ("Base", "\"Base\" is not a repository name"),
        ("base:a b", "\"a b\" is not a tag"),
    ] {
        refused(&[&archive, "team/app:1", "--mount-from", source], &[says, "hint: A "]);
    }
}

#[test]
fn an_id_that_is_none() {
    refused(
        &[&testdata("docker-20.10-save.tar"), "team/app:1", "--image-id", "latest"],
        &["is not an image ID", "hint: "],
    );
}

#[test]
fn numbers_that_make_no_sense() {
    let archive = testdata("docker-20.10-save.tar");
    refused(&[&archive, "team/app:1", "--concurrency", "0"], &["--concurrency must be at least 1"]);
    refused(&[&archive, "team/app:1", "--pack-threads", "0"], &["--pack-threads must be at least 1"]);
    refused(&[&archive, "team/app:1", "--retries", "many"], &["--retries", "many"]);
}

#[test]
fn a_region_that_is_none_or_another_than_the_host_s() {
    let (bench, archive) = (Bench::new(), testdata("docker-20.10-save.tar"));
    let run = bench.run(&[&archive, "team/app:1", "--region", "eu/west"]).exits(2).prints("");
    drop(run.says(&["\"eu/west\" is not a region", "hint: A region is a code such as eu-west-1."]));
    let target = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app:1";
    let run = bench.run(&[&archive, target, "--region", "us-east-1"]).exits(2).prints("");
    drop(run.says(&["is in region eu-west-1, but --region says us-east-1", "hint: Leave --region out"]));
}

#[test]
fn no_region_at_all() {
    let (bench, archive) = (Bench::new(), testdata("docker-20.10-save.tar"));
    let run = bench.run(&[&archive, "team/app:1"]).exits(2).prints("");
    drop(run.says(&["no AWS region is known", "hint: Give --region "]));
}

#[test]
fn a_variable_that_nobody_filled_in() {
    let (bench, archive) = (Bench::new(), testdata("docker-20.10-save.tar"));
    let run = bench.run(&[&archive, "team/app:$(Build.BuildId)"]).exits(2).prints("");
    drop(run.says(&["$(Build.BuildId)", "hint: Define the pipeline variable Build.BuildId"]));
    let mut command = bench.command(&[&archive, "team/app:1"]);
    command.env("ECR_PUSH_REGION", "$(AWS_REGION)");
    drop(finish(command, String::new).exits(2).says(&["ECR_PUSH_REGION holds $(AWS_REGION)"]));
}

#[test]
fn a_variable_that_stands_for_no_option() {
    let ecr = Ecr::new();
    let mut command = ecr.command(&[&testdata("docker-20.10-save.tar"), "team/app:1"]);
    command.env("ECR_PUSH_REGOIN", "eu-west-1").env("ECR_PUSH_VERIFY", "true");
    let run = ecr.finish(command).exits(0).says(&["note: ECR_PUSH_REGOIN is set and stands for no option"]);
    drop(run.never_says(&["ECR_PUSH_VERIFY", "ECR_PUSH_REGISTRY_ENDPOINT is set"]));
}

#[test]
fn a_registry_for_tests_that_is_not_on_this_machine() {
    let (bench, archive) = (Bench::new(), testdata("docker-20.10-save.tar"));
    let mut command = bench.command(&[&archive, "team/app:1", "--region", "us-east-1"]);
    command.env("ECR_PUSH_REGISTRY_ENDPOINT", "http://example.com");
    drop(finish(command, String::new).exits(2).says(&["ECR_PUSH_REGISTRY_ENDPOINT names example.com"]));
}

#[test]
fn help_and_version_go_to_stdout() {
    let bench = Bench::new();
    let run = bench.run(&["--help"]).exits(0);
    assert!(run.stdout.contains("--create-repository") && run.stderr.is_empty());
    let run = bench.run(&["--version"]).exits(0);
    assert_eq!(run.stdout, format!("ecr-push {}\n", env!("CARGO_PKG_VERSION")));
}
