//! `--sandbox` and `ecr-push sandbox`: to try things without an account, whatever this machine is set up for.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;

use super::archive_contents::Source;
use super::docker_registry::{second_opinion, skopeo_copy};
use super::ecr::HOST;
#[cfg(unix)]
use super::faults::signal;
use super::harness::{Run, Running, TestEnv, finish, testdata, wait_until};
use super::markdown::check_output;
use super::stored_image::StoredImage;

const ARCHIVE: &str = "docker-29-overlay2-save.tar";

#[track_caller]
fn is_a_quick_start(run: &Run) {
    let digest = run.digest();
    assert_eq!(run.stdout, format!("{HOST}/demo/app:1@{digest}\n"));
    let read_back = run.stderr.split_once("read back ").expect("it is read back").1;
    let lines: Vec<_> = read_back.lines().map(str::trim).collect();
    assert_eq!(lines[0], run.stdout.trim_end());
    assert!(lines[1].starts_with(&digest) && lines[1].ends_with("manifest.v1+json"), "{lines:?}");
    assert!(lines[2].starts_with("config sha256:92c112f97a4b"), "{lines:?}");
    let layers = &lines[3..];
    assert_eq!(layers.len(), 3);
    assert!(layers.iter().all(|line| line.starts_with("layer  sha256:")), "{lines:?}");
    assert!(layers.iter().all(|line| line.ends_with(" KiB") || line.ends_with(" B")), "{lines:?}");
}

#[test]
fn the_quick_start_pushes_and_reads_back() {
    let env = TestEnv::new();
    let run = env.run(&["--sandbox", &testdata(ARCHIVE), "demo/app:1"]).succeeds();
    is_a_quick_start(&run);
    assert_eq!(env.written(), Vec::<String>::new(), "no file is written");
}

#[test]
fn the_quick_start_needs_nothing_of_the_machine_s_settings() {
    let env = TestEnv::new();
    let mut command = env.command(&["--sandbox", &testdata(ARCHIVE), "demo/app:1"]);
    for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
        command.env(proxy, "http://127.0.0.1:9");
    }
    let settings = env.scratch("aws-config");
    std::fs::write(&settings, "[default]\nregion = eu-north-1\nendpoint_url = http://127.0.0.1:9\n").unwrap();
    let output = env.scratch("github-output");
    std::fs::write(&output, "").unwrap();
    command.env("AWS_PROFILE", "nothing").env("AWS_CONFIG_FILE", settings).env_remove("AWS_EC2_METADATA_DISABLED");
    command.env("AWS_ENDPOINT_URL", "http://127.0.0.1:9").env("AWS_REGION", "ap-south-1");
    command.env("GITHUB_OUTPUT", &output).env("CI", "true");
    command.env("HOME", "/nonexistent").env("TMPDIR", "/nonexistent");
    let run = finish(command, String::new).succeeds();
    is_a_quick_start(&run);
    assert_eq!(env.written(), Vec::<String>::new());
    assert_eq!(std::fs::read(output).unwrap(), b"", "the output variables of others are left alone");
}

#[test]
fn the_demo_pushes_an_image_of_its_own_and_depends_on_no_setting() {
    let env = TestEnv::new();
    let mut command = env.command(&["demo"]);
    command
        .env("ECR_PUSH_REPORT", env.scratch("report.json"))
        .env("AWS_REGION", "eu-west-1")
        .env("AWS_PROFILE", "nothing");
    let run = finish(command, String::new).succeeds().stderr_has(&["sandbox: using the built-in fake ECR", "2 of 2"]);
    let digest = "sha256:c111ac083cad14443087aeabbe6928984a0d8cb7f87d3d10629a876eef4091e9";
    assert_eq!(run.stdout, format!("{HOST}/demo/app:1@{digest}\n"), "the same image everywhere");
    run.stderr_has(&[&format!("read back {HOST}/demo/app:1@{digest}")]);
    assert_eq!(env.written(), Vec::<String>::new(), "the temporary file is deleted");
    assert!(!std::path::Path::new(&env.scratch("report.json")).exists());
    let mut command = env.command(&["demo"]);
    command.env("TMPDIR", "/nonexistent");
    finish(command, String::new).fails_with(1).stdout_is("").stderr_has(&[
        "error: cannot write the image of the demo to /nonexistent",
        "because: No such file or directory",
    ]);
}

#[test]
fn the_quick_start_needs_no_certificates_of_the_machine() {
    let env = TestEnv::new();
    let mut command = env.command(&["--sandbox", &testdata(ARCHIVE), "demo/app:1"]);
    command.env("SSL_CERT_FILE", "/nonexistent").env("SSL_CERT_DIR", "/nonexistent");
    is_a_quick_start(&finish(command, String::new).succeeds());
}

#[test]
fn a_quiet_quick_start_prints_the_reference_only() {
    let env = TestEnv::new();
    let run = env.run(&["--sandbox", &testdata(ARCHIVE), "demo/app:1", "-q"]).succeeds();
    assert_eq!((run.stderr.as_str(), run.stdout.lines().count()), ("", 1));
}

#[test]
fn every_archive_is_a_quick_start() {
    let env = TestEnv::new();
    for archive in ["crane-tarball.tar", "podman-oci-archive.tar", "skopeo-oci-layout-multiarch"] {
        let run = env.run(&["--sandbox", &testdata(archive), "demo/app:1"]).succeeds();
        assert!(run.stderr.contains(&format!("read back {HOST}/demo/app:1@{}", run.digest())));
    }
}

#[test]
fn a_sandbox_is_in_the_region_that_is_named() {
    let env = TestEnv::new();
    let named = "123456789012.dkr.ecr.eu-west-3.amazonaws.com/team/app:1";
    for (targets, registries) in [
        (&["demo/app:1"][..], &["000000000000.dkr.ecr.us-west-2"][..]),
        (&["demo/app:1", named], &["123456789012.dkr.ecr.us-west-2", "123456789012.dkr.ecr.eu-west-3"]),
        (&[named, "demo/app:1"], &["123456789012.dkr.ecr.eu-west-3", "123456789012.dkr.ecr.us-west-2"]),
    ] {
        let run = env.run(&[&["--sandbox", &testdata(ARCHIVE), "--region", "us_west_2"], targets].concat()).succeeds();
        let starts = run.stdout.lines().zip(registries).filter(|(line, start)| line.starts_with(*start)).count();
        assert_eq!(starts, registries.len(), "{}", run.stdout);
    }
}

#[test]
fn a_sandbox_in_a_folder_leaves_a_layout_that_others_can_read() {
    let env = TestEnv::new();
    let dir = env.scratch("images");
    let archive = testdata(ARCHIVE);
    let run = env.run(&[&format!("--sandbox={dir}"), &archive, "demo/app:1"]).succeeds();
    let layout: Value = serde_json::from_slice(&std::fs::read(format!("{dir}/demo/app/oci-layout")).unwrap()).unwrap();
    assert_eq!(layout["imageLayoutVersion"], "1.0.0");
    // What was left is an archive: it goes up as it is, and another run finds it.
    let again = env.run(&["--sandbox", &format!("{dir}/demo/app"), "demo/app:1"]).succeeds();
    assert_eq!(again.digest(), run.digest());
    let third = env.run(&[&format!("--sandbox={dir}"), &format!("{dir}/demo/app"), "demo/app:1"]).succeeds();
    third.stderr_has(&["already up to date; nothing was sent", "3 reused"]);
    if !second_opinion("skopeo") {
        return;
    }
    let copy = tempfile::tempdir().unwrap();
    skopeo_copy(copy.path(), &[&format!("oci:{dir}/demo/app:1")]);
    let image = copy.path().join("image");
    let root = std::fs::read(image.join("manifest.json")).unwrap();
    let pushed = StoredImage::of_skopeo(root, image);
    assert_eq!(pushed.digest(), run.digest());
    pushed.is(&Source::read(&archive, 0));
}

#[test]
fn each_account_and_region_has_a_registry_of_its_own() {
    let env = TestEnv::new();
    let dir = env.scratch("images");
    let host = |account: &str, region: &str| format!("{account}.dkr.ecr.{region}.amazonaws.com");
    let hosts = [("123456789012", "eu-west-1"), ("123456789012", "eu-central-1"), ("210987654321", "eu-west-1")];
    let hosts = hosts.map(|(account, region)| host(account, region));
    let targets = hosts.each_ref().map(|host| format!("{host}/team/app:1"));
    let sandbox = format!("--sandbox={dir}");
    let mut arguments = vec![sandbox.as_str(), "--output", "json"];
    let archive = testdata(ARCHIVE);
    arguments.push(&archive);
    // One that is in none of them is in the first.
    arguments.extend(targets.iter().map(String::as_str).chain(["team/own:1"]));
    let run = env.run(&arguments).succeeds().stderr_has(&hosts.each_ref().map(String::as_str));
    let report = run.report();
    for (at, host) in hosts.iter().enumerate() {
        let target = &report["targets"][at];
        assert_eq!(target["layers"].as_array().unwrap().len(), 3);
        assert!(target["layers"].as_array().unwrap().iter().all(|layer| layer["action"] == "upload"), "{target}");
        let index = std::fs::read(format!("{dir}/{host}/team/app/index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        assert_eq!(index["manifests"][0]["digest"], target["digest"]);
        assert_eq!(std::path::Path::new(&format!("{dir}/{host}/team/own")).exists(), at == 0);
    }
    // One target in several regions.
    let regions = ["--region", "us-west-2", "--region", "eu-west-1"];
    let run = env.run(&[&[sandbox.as_str(), &archive, "team/app:1"], &regions[..]].concat()).succeeds();
    for region in ["us-west-2", "eu-west-1"] {
        let host = host("000000000000", region);
        assert!(run.stdout.contains(&format!("{host}/team/app:1@")), "{region}");
        assert!(std::path::Path::new(&format!("{dir}/{host}/team/app/index.json")).exists(), "{region}");
    }
}

#[test]
fn skopeo_pulls_from_a_sandbox_under_both_of_its_names() {
    if !second_opinion("skopeo") {
        return;
    }
    let ecr = super::ecr::Ecr::new();
    let archive = testdata(ARCHIVE);
    let pushed = ecr.run(&[&archive, "team/app:1"]).succeeds();
    let (login, port) = (format!("AWS:{}", ecr.token()), ecr.address().port());
    for host in ["127.0.0.1", "localhost"] {
        let copy = tempfile::tempdir().unwrap();
        let source = format!("docker://{host}:{port}/team/app:1");
        skopeo_copy(copy.path(), &["--src-tls-verify=false", "--src-creds", &login, &source]);
        let image = copy.path().join("image");
        let root = std::fs::read(image.join("manifest.json")).unwrap();
        let pulled = StoredImage::of_skopeo(root, image);
        assert_eq!(pulled.digest(), pushed.digest());
        pulled.is(&Source::read(&archive, 0));
    }
    assert_eq!(ecr.leaked_credentials(), 0);
}

/// A program that does not outlive its test.
#[cfg(unix)]
struct Killed(std::process::Child);

#[cfg(unix)]
impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_fault_that_does_not_exist_is_an_error_of_usage() {
    let env = TestEnv::new();
    let (missing, bad) = (env.scratch("missing"), env.scratch("findings"));
    std::fs::write(&bad, "{}").unwrap();
    for (options, texts) in [
        (["--fault", "429:put-coffee"], &["\"429:put-coffee\" is not a fault", "put-manifest"][..]),
        (["--fault", "again:put-manifest"], &["\"again\" is not an effect", "expire-tokens"]),
        (["--faults", &missing], &["cannot read"]),
        (["--scan-findings", &bad], &["the scan findings are malformed"]),
        (["--token-lifetime", "0"], &["--token-lifetime"]),
    ] {
        env.run(&[&["sandbox"][..], &options].concat()).fails_with(2).stderr_has(texts);
    }
}

#[cfg(unix)]
#[test]
fn a_sandbox_runs_until_it_is_stopped_and_prints_how_to_push_into_it() {
    let env = TestEnv::new();
    let (log, faults) = (env.scratch("requests.jsonl"), env.scratch("faults"));
    std::fs::write(&faults, "# once\n429:put-manifest\n").unwrap();
    let more = ["--log", &log, "--faults", &faults, "--fault", "503:get-authorization-token"];
    let arguments = ["sandbox", "--listen", "127.0.0.1:0", "--repository", "team/ready"];
    let mut command = env.command(&[&arguments[..], &more].concat());
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut child = Killed(child);
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map_while(Result::ok);
    let said: Vec<_> = lines.by_ref().take_while(|line| !line.contains("ecr-push IMAGE.tar")).collect();
    let said = said.join("\n");
    let exports: Vec<_> = said.lines().filter_map(|line| line.trim().strip_prefix("export ")).collect();
    let url = exports[0].split_once('=').unwrap().1;
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let shown: String = exports.iter().map(|line| format!("export {line}\n")).collect();
    check_output("sandbox", &shown.replace(url, "http://127.0.0.1:5050"), words);
    let printed = env.run(&["sandbox", "env", url]).succeeds();
    assert_eq!(printed.stdout, shown);
    let exports: Vec<_> = exports.iter().filter_map(|line| line.split_once('=')).collect();
    assert_eq!(exports.len(), 9, "{exports:?}");
    let public = "public.ecr.aws/sandbox/app:1";
    for (target, create) in
        [("team/app:1", &["--create-repository"][..]), ("team/ready:1", &[]), (public, &["--create-repository"])]
    {
        let mut push = env.command(&[&[testdata(ARCHIVE).as_str(), target], create].concat());
        // A proxy that leads nowhere is no hindrance.
        push.env("HTTP_PROXY", "http://127.0.0.1:9").envs(exports.iter().copied());
        push.arg("-v");
        let run = finish(push, String::new).succeeds().stderr_has(&["caller arn:aws:iam::000000000000:user/sandbox"]);
        let start = if target == public { public.to_owned() } else { format!("{HOST}/{target}") };
        assert!(run.stdout.starts_with(&format!("{start}@sha256:")));
    }
    super::faults::interrupt(child.0.id());
    let mut ended = None;
    wait_until("the sandbox stops", || {
        ended = child.0.try_wait().unwrap();
        ended.is_some()
    });
    assert!(ended.unwrap().success());
    let log = std::fs::read_to_string(log).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let statuses = |operation: &str| {
        let asked = lines.iter().filter(|line| line["operation"] == operation);
        asked.map(|line| line["status"].as_u64().unwrap()).take(2).collect::<Vec<_>>()
    };
    assert_eq!((statuses("ecr:PutImage"), statuses("ecr:GetAuthorizationToken")), (vec![429, 201], vec![503, 200]));
}

#[test]
fn a_shell_that_refuses_unset_variables_evaluates_the_exports() {
    let env = TestEnv::new();
    let program = super::harness::text(&super::harness::program());
    let script = r#"eval "$("$0" sandbox env 5077)" && eval "$("$0" sandbox env 5077)"
        echo "$AWS_ENDPOINT_URL_ECR $NO_PROXY ${no_proxy-unset}""#;
    let url = "http://127.0.0.1:5077";
    for (set, hosts) in [
        (&[][..], "127.0.0.1,localhost unset"),
        (&[("NO_PROXY", "*.example,$(a) 'b'")], "127.0.0.1,localhost,*.example,$(a) 'b' unset"),
        (&[("NO_PROXY", "localhost"), ("no_proxy", "a")], "127.0.0.1,localhost 127.0.0.1,localhost"),
        (&[("no_proxy", "a")], "127.0.0.1,localhost,a 127.0.0.1,localhost,a"),
    ] {
        let mut shell = std::process::Command::new("sh");
        shell.env_clear().env("HOME", env.home()).envs(set.iter().copied());
        let run = finish(
            {
                shell.args(["-euc", script, &program]);
                shell
            },
            String::new,
        )
        .succeeds();
        assert_eq!(run.stdout, format!("{url} {hosts}\n"), "{set:?}");
    }
}

#[test]
fn a_sandbox_runs_a_command_and_ends_with_its_exit_code() {
    let env = TestEnv::new();
    let program = super::harness::text(&super::harness::program());
    let script = r#""$1" "$2" team/app:1 --region eu-west-1 && "$1" "$2" team/app:2 -q --region eu-west-1 \
        && test "$AWS_DEFAULT_REGION" = us-east-1 && echo '$(a)' && exit 7"#;
    let command = ["--", "sh", "-c", script, "-", &program, &testdata(ARCHIVE)];
    let run = env.run(&[&["sandbox", "--repository", "team/app"], &command[..]].concat()).fails_with(7);
    let registry = HOST.replace("us-east-1", "eu-west-1");
    assert!(run.stdout.starts_with(&format!("{registry}/team/app:1@sha256:")), "{}", run.stdout);
    assert!(run.stdout.ends_with("\n$(a)\n"));
    run.stderr_has(&[
        "sandbox: using the built-in fake ECR at http://127.0.0.1:",
        "note: AWS endpoints are overridden by",
    ]);
    env.run(&["sandbox", "--", "/nonexistent"]).fails_with(2).stderr_has(&["error: cannot run /nonexistent"]);
    env.run(&["sandbox", "--", "sh", "-c", "kill -9 $$"]).fails_with(137);
    env.run(&["sandbox", "--account", "12", "--", "true"]).fails_with(2).stderr_has(&["twelve digits"]);
}

#[cfg(unix)]
#[test]
fn a_signal_reaches_the_command_which_decides_the_exit_code() {
    use std::os::unix::process::CommandExt as _;
    let env = TestEnv::new();
    let run = |name: &str, script: &str| {
        let started = env.scratch(name);
        let script = format!("{script}; echo > {started}; while :; do sleep 0.01; done");
        let mut command = env.command(&["sandbox", "--", "sh", "-c", &script]);
        // Alone in a group, as no terminal's Ctrl-C finds it.
        command.process_group(0);
        let running = Running::start(command);
        wait_until("the command runs", || std::fs::exists(&started).unwrap());
        signal(name, running.id());
        running.end()
    };
    run("TERM", "trap 'exit 9' TERM").exits_with(9);
    run("INT", ":").exits_with(130);
}

#[test]
fn a_sandbox_listens_on_loopback_only() {
    let env = TestEnv::new();
    let run = env.run(&["sandbox", "--listen", "0.0.0.0:0"]).fails_with(2).stdout_is("");
    run.stderr_has(&["cannot listen on 0.0.0.0:0", "loopback", "--public"]);
    let public = env.run(&["sandbox", "--listen", "0.0.0.0:0", "--public", "--", "true"]).succeeds();
    public.stderr_has(&["warning: the sandbox listens on 0.0.0.0:", "built-in fake ECR at http://127.0.0.1:"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let busy = env.run(&["sandbox", "--listen", &address]).fails_with(2).stdout_is("");
    busy.stderr_has(&[
        &format!("cannot listen on {address}"),
        "in use",
        "hint: Use another port, or --listen 127.0.0.1:0 ",
    ]);
}

#[test]
fn a_sandbox_replaces_ecr_only() {
    let env = TestEnv::new();
    let run = env.run(&["--sandbox", &testdata(ARCHIVE), "ghcr.io/demo/app:1"]).fails_with(2).stdout_is("");
    run.stderr_has(&["the sandbox replaces Amazon ECR only, not ghcr.io/demo/app:1", "REPOSITORY:TAG"]);
}
