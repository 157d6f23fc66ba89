//! AWS's own clients against the sandbox: boto3, and the AWS CLI; and moto beside it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::docker_registry::{is_installed, not_run};
use super::ecr::{Ecr, SECRET_KEY};
use super::harness::testdata;
use super::markdown::blocks;

const ARCHIVE: &str = "docker-20.10-save.tar";

/// Returns a program of a virtual environment that `tests/run.sh` made.
fn installed(variable: &str, name: &str, what: &str) -> Option<PathBuf> {
    let known = std::env::var_os(variable).map(PathBuf::from);
    let program = known.map(|known| known.with_file_name(name)).filter(|path| path.is_file());
    if program.is_none() {
        not_run(&format!("{what} (not installed; tests/run.sh installs it where there is Python and PyPI)"));
    }
    program
}

/// Points a client of AWS at the sandbox.
fn pointed(ecr: &Ecr, program: &PathBuf) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null()).env("PATH", std::env::var_os("PATH").unwrap());
    command.env("HOME", ecr.env.home()).env("AWS_EC2_METADATA_DISABLED", "true").env("NO_PROXY", "127.0.0.1");
    command.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    for service in ["AWS_ENDPOINT_URL_ECR", "AWS_ENDPOINT_URL_ECR_PUBLIC", "AWS_ENDPOINT_URL_STS"] {
        command.env(service, ecr.url());
    }
    command.env("ECR_PUSH_REGISTRY_ENDPOINT", ecr.url()).env("AWS_DEFAULT_REGION", "us-east-1");
    command
}

fn succeeds(mut command: Command, ecr: &Ecr) -> String {
    let ended = command.output().unwrap();
    let [stdout, stderr] = [ended.stdout, ended.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(ended.status.success(), "{command:?}\n{stdout}{stderr}\n{}", ecr.story());
    stdout
}

#[test]
fn boto3_sees_a_repository_through_its_whole_life() {
    let Some(python) = installed("ECR_PUSH_MOTO", "python", "boto3") else { return };
    let ecr = Ecr::empty();
    let skopeo = if is_installed("skopeo", "skopeo") { "skopeo" } else { "" };
    let mut command = pointed(&ecr, &python);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/boto3_life.py");
    command.args(["-B", script, env!("CARGO_BIN_EXE_ecr-push"), &testdata(ARCHIVE), skopeo]);
    succeeds(command, &ecr);
    assert_eq!((ecr.repositories().len(), ecr.open_uploads(), ecr.leaked_credentials()), (0, 0, 0));
    // Pulls are the clients' own, and each operation was asked for.
    for operation in ["ecr:DescribeImageScanFindings", "ecr:BatchDeleteImage", "ecr:DeleteRepository", "ecr:PutImage"] {
        assert!(ecr.count(operation) > 0, "{operation}\n{}", ecr.story());
    }
}

/// moto has no registry: what it has of ECR's API is compared.
#[test]
fn moto_answers_in_the_same_words() {
    let Some(python) = installed("ECR_PUSH_MOTO", "python", "moto") else { return };
    let ecr = Ecr::empty();
    let mut command = pointed(&ecr, &python);
    command.args(["-B", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/boto3_moto.py")]);
    succeeds(command, &ecr);
    assert!(ecr.count("ecr:GetRegistryPolicy") == 2, "{}", ecr.story());
}

#[test]
fn the_documentation_s_use_of_boto3_works() {
    let Some(python) = installed("ECR_PUSH_MOTO", "python", "boto3") else { return };
    let ecr = Ecr::empty();
    let examples: Vec<_> = blocks().into_iter().filter(|block| block.language == "python").collect();
    for block in &examples {
        let mut command = pointed(&ecr, &python);
        command.args(["-c", block.text]);
        succeeds(command, &ecr);
    }
    assert_eq!((examples.len(), ecr.repositories().len()), (1, 1));
}

/// The calls that the documentation names.
#[test]
fn the_aws_cli_makes_the_calls_of_the_documentation() {
    let Some(aws) = installed("ECR_PUSH_AWS_CLI", "aws", "the AWS CLI") else { return };
    let ecr = Ecr::empty();
    let call = |arguments: &str| {
        let mut command = pointed(&ecr, &aws);
        command.args(arguments.split(' ')).args(["--output", "text"]);
        succeeds(command, &ecr)
    };
    call("ecr create-repository --repository-name team/app --tags Key=team,Value=web");
    ecr.run(&[&testdata(ARCHIVE), "team/app:1"]).succeeds();
    assert!(call("ecr get-login-password").len() > 1000);
    assert!(call("ecr-public get-login-password --region us-east-1").len() > 1000);
    let digest = call("ecr describe-images --repository-name team/app --query imageDetails[0].imageDigest");
    assert!(digest.starts_with("sha256:"), "{digest}");
    assert!(call("ecr list-images --repository-name team/app").contains(digest.trim()));
    assert!(call("ecr batch-get-image --repository-name team/app --image-ids imageTag=1").contains("schemaVersion"));
    call("ecr batch-delete-image --repository-name team/app --image-ids imageTag=1");
    call("ecr delete-repository --repository-name team/app");
    assert!(call("sts get-caller-identity").contains("000000000000"));
}
