//! A command line that makes no sense is refused with exit code 2 before anything is opened or asked.

use std::fs;

use super::ecr::{Ecr, HOST};
use super::harness::{TestEnv, finish, testdata};

/// A secret where a command line has none. No output of any test may contain it.
pub(crate) const SECRET: &str = "misplaced-secret";

/// Runs the program with these invalid arguments.
#[track_caller]
fn refused(arguments: &[&str], says: &[&str]) {
    let ecr = Ecr::new();
    let run = ecr.run(arguments).fails_with(2).stdout_is("").stderr_has(says);
    assert!(run.stderr.lines().any(|line| line.starts_with("error: ")));
    assert!(ecr.log().is_empty());
}

#[test]
fn both_ways_to_choose_an_image() {
    let archive = testdata("docker-20.10-save-many.tar");
    refused(&[&archive, "team/app:1", "--image", "app", "--image-id", "92c112f97a4b"], &["--image", "--image-id"]);
}

#[test]
fn something_is_missing_or_unknown() {
    let run = TestEnv::new().run(&[]).fails_with(2).stdout_is("");
    run.stderr_has(&["Usage: ecr-push", "--create-repository", "ecr-push --help"]);
    refused(&["image.tar"], &["TARGET"]);
    refused(&["image.tar", "team/app:1", "--colour", "red"], &["--colour"]);
    refused(&["image.tar", "team/app:1", "--progress", "loud"], &["loud", "plain"]);
}

#[test]
fn an_option_for_one_value_is_given_twice() {
    let archive = testdata("docker-20.10-save.tar");
    for (option, value) in [("--image-id", "92c112f97a4b"), ("--platform", "linux/amd64"), ("--deadline", "100")] {
        let says = format!("{option} can be used only once");
        refused(&[&archive, "team/app:1", option, value, option, value], &[&says, "hint: Use it once"]);
    }
}

#[test]
fn options_may_stand_before_the_command() {
    let env = TestEnv::new();
    let after = env.run(&["policy", "team/app", "--region", "eu-west-1"]).succeeds();
    let before = env.run(&["--region", "eu-west-1", "policy", "team/app"]).succeeds().stdout_is(&after.stdout);
    assert!(before.stdout.contains("eu-west-1"));
    let ecr = Ecr::new();
    ecr.run(&["--tag", "2", "push", &testdata("docker-20.10-save.tar"), "team/app:1"]).succeeds();
    assert!(ecr.image("team/app", "2").is_some());
}

#[test]
fn a_command_that_is_misspelled() {
    refused(&["inspct", "image.tar"], &["inspct is neither a command nor a file", "\n  ecr-push inspect"]);
    refused(
        &["--region", "eu-west-1", "polici", "team/app"],
        &["polici is neither a command nor a file", "\n  ecr-push policy"],
    );
}

#[test]
fn a_command_of_another_tool() {
    refused(&["login"], &["there is no command login", "hint: No login is needed: "]);
    refused(&["pull", "app:1"], &["there is no command pull", "\n  skopeo copy docker://IMAGE "]);
}

#[test]
fn a_value_that_is_too_small_or_has_another_form() {
    let archive = testdata("docker-20.10-save.tar");
    for (option, value, why) in [
        ("--limit-rate", "1", "--limit-rate 1 is below the minimum of 1K"),
        ("--limit-rate", "x", "--limit-rate x is not a number of bytes"),
        ("--deadline", "0s", "the value must be more than 0s"),
        ("--stall-timeout", "0", "the value must be more than 0s"),
    ] {
        refused(&[&archive, "team/app:1", option, value], &[why]);
    }
    for (arguments, words) in [
        (
            ["sandbox", "--listen=127.0.0.1"],
            ["does not accept \"127.0.0.1\"", "must be a port or ADDRESS:PORT, such as 5050 or 127.0.0.1:5050"],
        ),
        (["completions", "sh"], ["unknown shell \"sh\"", "Use one of bash, "]),
    ] {
        TestEnv::new().run(&arguments).fails_with(2).stdout_is("").stderr_has(&words);
    }
}

#[test]
fn a_repository_name_is_rejected_with_the_part_that_is_wrong() {
    let archive = testdata("docker-20.10-save.tar");
    for (target, why) in [
        ("team//app", "a component of it is empty"),
        ("team/-app", "its component \"-app\" breaks the rule"),
        ("team/a,app", "',' is not allowed"),
    ] {
        refused(&[&archive, target], &[&format!("is not a repository name: {why}")]);
    }
}

#[test]
fn several_archives_where_a_shell_expands_a_pattern() {
    let ecr = Ecr::empty();
    let (one, other) = (ecr.env.scratch("a.tar"), ecr.env.scratch("b.tar"));
    for path in [&one, &other, &ecr.env.scratch("app")] {
        fs::copy(testdata("docker-20.10-save.tar"), path).unwrap();
    }
    for (targets, says) in [
        (&["b.tar", "app:1"][..], "the target \"b.tar\" is a file"),
        (&["app"], "the target \"app\" is a file"),
        (&["./b.tar"], "the target \"./b.tar\" is a file"),
        (&["c.tgz", "app:1"], "the target \"c.tgz\" looks like an archive"),
        (&["app:1", "images/c.tar.zst"], "the target \"images/c.tar.zst\" looks like an archive"),
    ] {
        let mut command = ecr.command(&[&["a.tar", "--create-repository"], targets].concat());
        command.current_dir(std::path::Path::new(&one).parent().unwrap());
        ecr.finish(command).fails_with(2).stdout_is("").stderr_has(&[says, "hint: A push has one archive"]);
        assert_eq!(ecr.repositories(), [""; 0]);
    }
    // A repository of that name is given a tag.
    ecr.run(&[&one, "b.tar:1", "--create-repository"]).succeeds();
    assert_eq!(ecr.repositories(), ["b.tar"]);
}

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated() {
    let (env, archive) = (TestEnv::new(), testdata("docker-20.10-save.tar"));
    let (login, written) = (format!("me:{SECRET}@registry.invalid"), env.scratch("report.json"));
    for (target, says) in [
        (format!("{login}/team/app:1"), "the target \"***@registry.invalid/team/app:1\" contains a login"),
        (format!("https://{login}/team/app:1"), "\"https://***@registry.invalid/team/app:1\" contains a login"),
        (format!("docker://{login}/team/app"), "contains a login"),
        (format!("{login}/team/app@sha256:12"), "contains a login"),
    ] {
        let run = env.run(&[&archive, &target, "--report", &written, "--output", "json"]).fails_with(2);
        run.stderr_has(&[says]).output_has_none(&[SECRET]);
    }
    let given = format!("--password-stdin={SECRET}");
    let run = env.run(&[&archive, "registry.invalid/app:1", "--username", "me", &given]).fails_with(2);
    run.stderr_has(&["--password-stdin does not take a value"]);
    let run = env.run(&[&archive, "registry.invalid/app:1", &format!("--password={SECRET}")]).fails_with(2);
    run.stderr_has(&["unknown option --password", "--password-stdin"]);
    let run = env.run(&[&archive, "app:1", "--mount-from", &format!("{login}/base")]).fails_with(2);
    run.stderr_has(&["***@registry.invalid"]);
    for (name, value, says) in [
        ("ECR_PUSH_PASSWORD_STDIN", SECRET.to_owned(), "ECR_PUSH_PASSWORD_STDIN must be true or false"),
        ("ECR_PUSH_REGISTRY_ENDPOINT", format!("http://{login}:5000"), "ECR_PUSH_REGISTRY_ENDPOINT"),
        (
            "AWS_SECRET_ACCESS_KEY",
            format!("a$({SECRET})b"),
            "AWS_SECRET_ACCESS_KEY is set and AWS_ACCESS_KEY_ID is not",
        ),
    ] {
        let mut command = env.command(&[&archive, "app:1", "--region", "us-east-1"]);
        command.env(name, value);
        finish(command, String::new).fails_with(2).stderr_has(&[says]).output_has_none(&[SECRET]);
    }
}

#[test]
fn options_of_other_tools_lead_to_ours() {
    let archive = testdata("docker-20.10-save.tar");
    for (option, cure) in [
        ("--all", "--platform linux/arm64"),
        ("--json", "--output json"),
        ("--format", "--output json"),
        ("--timeout", "--deadline 10m or --stall-timeout 90s"),
        ("-j", "--concurrency 8"),
        ("--tls-verify", "--ca-file FILE or --insecure"),
        ("--plain-http", "--insecure"),
        (
            "--dest-creds",
            "\n  printenv PASSWORD | ecr-push IMAGE.tar HOST/REPOSITORY:TAG --username NAME --password-stdin",
        ),
    ] {
        refused(&[&archive, "team/app:1", option], &[&format!("unknown option {option}"), "hint: ", cure]);
    }
    refused(&[&archive, "team/app:1", "--concurency", "2"], &["Did you mean: --concurrency"]);
}

#[test]
fn durations_have_units() {
    let ecr = Ecr::new();
    let archive = testdata("docker-20.10-save.tar");
    ecr.run(&[&archive, "team/app:1", "--deadline", "10m", "--stall-timeout", "90s"]).succeeds();
    ecr.run(&[&archive, "team/app:1", "--deadline", "100", "--stall-timeout", "1h30m"]).succeeds();
    refused(&[&archive, "team/app:1", "--deadline", "10x"], &["--deadline", "90s, 10m or 1h30m"]);
}

#[test]
fn places_are_read_as_skopeo_and_aws_write_them() {
    let archive = testdata("docker-20.10-save-many.tar");
    let image = "docker-archive:".to_owned() + &archive + ":app:1";
    let name = first_name(&archive);
    let (arn, ecr) = ("arn:aws:ecr:us-east-1:000000000000:repository/team/app:3", Ecr::new());
    let named = format!("docker-archive:{archive}:{name}");
    let run = ecr.run(&[&named, &format!("docker://{HOST}/team/app:2"), arn]).succeeds();
    let digest = run.digests()[0].clone();
    run.stdout_is(&format!("{HOST}/team/app:2@{digest}\n{HOST}/team/app:3@{digest}\n"));
    refused(&[&image, "team/app:1", "--image", "app"], &["both the archive argument and an option select an image"]);
    refused(&["docker-daemon:app:1", "team/app:1", "--image", "app"], &["both the archive argument and an option"]);
    refused(&["docker:", "team/app:1"], &["docker-daemon: does not name an image", "docker-daemon:NAME:TAG"]);
    refused(&["podman:--help", "team/app:1"], &["containers-storage:--help does not name an image"]);
    refused(
        &["docker://x.invalid/app", "team/app:1"],
        &["skopeo copy --all docker://x.invalid/app oci-archive:image.tar"],
    );
    refused(&[&archive, "docker://team/app:1"], &["has no registry host", "docker.io/team/app:1"]);
    refused(&[&archive, "arn:aws:s3:::bucket"], &["is not the ARN of a private ECR repository"]);
}

/// The first name that an archive has for an image.
fn first_name(archive: &str) -> String {
    let run = TestEnv::new().run(&["inspect", archive, "--output", "json"]).succeeds();
    run.report()["images"][0]["names"][0].as_str().unwrap().to_owned()
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
    ] {
        refused(&[&archive, target], &[says, "hint: A "]);
    }
    for several in ["demo/app:1,demo/app:2", "demo/app:1 demo/app:2"] {
        refused(&[&archive, several], &["is not a repository name", "hint: Write each target as an argument"]);
    }
    for empty in [":1", ""] {
        refused(&[&archive, empty], &["the repository name is empty", "hint: Is a shell variable unset?"]);
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
fn an_invalid_id() {
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
fn an_invalid_region_or_another_than_the_host_s() {
    let (env, archive) = (TestEnv::new(), testdata("docker-20.10-save.tar"));
    let run = env.run(&[&archive, "team/app:1", "--region", "eu/west"]).fails_with(2).stdout_is("");
    run.stderr_has(&["\"eu/west\" is not an AWS region", "hint: Use a region code such as eu-west-1."]);
    let target = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app:1";
    let run = env.run(&[&archive, target, "--region", "us-east-1"]).fails_with(2).stdout_is("");
    run.stderr_has(&["is in region eu-west-1, but --region is us-east-1", "hint: Leave out --region"]);
}

#[test]
fn no_region_at_all() {
    let (env, archive) = (TestEnv::new(), testdata("docker-20.10-save.tar"));
    let run = env.run(&[&archive, "team/app:1"]).fails_with(2).stdout_is("");
    run.stderr_has(&["no AWS region is known", "or give the region: --region "]);
}

#[test]
fn a_variable_that_was_not_substituted() {
    let (env, archive) = (TestEnv::new(), testdata("docker-20.10-save.tar"));
    let run = env.run(&[&archive, "team/app:$(Build.BuildId)"]).fails_with(2).stdout_is("");
    run.stderr_has(&["$(Build.BuildId)", "a variable was not expanded", "hint: Define the variable"]);
    let mut command = env.command(&[&archive, "team/app:1"]);
    command.env("ECR_PUSH_REGION", "$(AWS_REGION)");
    finish(command, String::new).fails_with(2).stderr_has(&["ECR_PUSH_REGION contains $(AWS_REGION)"]);
}

#[test]
fn a_variable_that_stands_for_no_option() {
    let ecr = Ecr::new();
    let mut command = ecr.command(&[&testdata("docker-20.10-save.tar"), "team/app:1"]);
    command.env("ECR_PUSH_REGOIN", "eu-west-1").env("ECR_PUSH_VERIFY", "true");
    let run = ecr.finish(command).succeeds().stderr_has(&["note: ECR_PUSH_REGOIN is not the name of an option"]);
    run.output_has_none(&["ECR_PUSH_VERIFY", "ECR_PUSH_REGISTRY_ENDPOINT is not the name of an option"]);
}

#[test]
fn a_registry_for_tests_that_is_not_on_this_machine() {
    let (env, archive) = (TestEnv::new(), testdata("docker-20.10-save.tar"));
    let mut command = env.command(&[&archive, "team/app:1", "--region", "us-east-1"]);
    command.env("ECR_PUSH_REGISTRY_ENDPOINT", "http://example.com");
    finish(command, String::new).fails_with(2).stderr_has(&["ECR_PUSH_REGISTRY_ENDPOINT is example.com"]);
}

#[test]
fn help_and_version_go_to_stdout() {
    let env = TestEnv::new();
    let run = env.run(&["--help"]).succeeds();
    assert!(run.stdout.contains("--create-repository") && run.stderr.is_empty());
    let run = env.run(&["--version"]).succeeds();
    assert_eq!(run.stdout, format!("ecr-push {}\n", env!("CARGO_PKG_VERSION")));
}
