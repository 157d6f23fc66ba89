//! `-v`: what was decided, and why, a line each.

use std::io::Write as _;
use std::process::Stdio;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ecr_push::sandbox::{Asks, Locations, Parts, Rules, TokenService};

use super::archive_builder;
use super::ecr::{Ecr, HOST};
use super::harness::{Run, Running, testdata};

const ARCHIVE: &str = "docker-29-overlay2-save.tar";

#[track_caller]
fn explained(ecr: &Ecr, arguments: &[&str]) -> Run {
    ecr.run(&[arguments, &["-v"]].concat()).succeeds()
}

#[test]
fn a_first_push_is_explained() {
    let ecr = Ecr::new();
    let run = explained(&ecr, &[&testdata(ARCHIVE), "team/app:1", "--pack-threads", "2"]);
    let sts = ecr.url().replace("http://", "");
    let run = run.stderr_has(&[
        &format!("note: AWS endpoints are overridden by {sts} (AWS_ENDPOINT_URL_ECR, AWS_ENDPOINT_URL_STS, "),
        "\nmemory: 58 MiB at most: ",
        "\nlayers at once: 3, of which 3 may be larger than a chunk; compression threads: 2\n",
        "\nlayer cache: no layers yet in ",
        "\nresume store: interrupted uploads of earlier runs: none\n",
        "\ncredentials from the environment; region us-east-1 from the command line\n",
        "\nlogged in to ECR as account 000000000000 by GetAuthorizationToken, valid for 11 h 59 min\n",
        &format!("\nchunks of 5 MiB to {HOST}: 3 large layers share 24 MiB; it accepts 5 MiB to 10 MiB\n"),
        "\nlayers by compression: 3 with gzip (recipe gzip/",
        &format!("\nno image of {HOST}/team/app is read for layers: its tags do not exist yet\n"),
        &format!("\nno mount at {HOST}: neither the options nor the archive name a repository to mount from\n"),
        "\nlayer sha256:c37a06bee251: not in the layer cache, and not in an image that was checked\n",
    ]);
    run.output_has_none(&["uses the proxy"]);
}

#[test]
fn why_a_layer_is_reused_or_not_is_explained() {
    let ecr = Ecr::with(&["team/app", "team/other"], Rules::default());
    let archive = testdata(ARCHIVE);
    ecr.run(&[&archive, "team/app:1"]).succeeds();
    let there = "\nlayer sha256:c37a06bee251: exists in the repository as sha256:4a89c0c3e367, 127.1 KiB\n";
    explained(&ecr, &[&archive, "team/app:2"]).stderr_has(&["\nlayer cache: 3 layers in ", there]);
    // Known, and not there.
    let absent = "\nlayer sha256:c37a06bee251: sha256:4a89c0c3e367 is not in the repository (exists in the repository, known from the layer cache)\n";
    explained(&ecr, &[&archive, "team/other:1"]).stderr_has(&[absent]);
    let read = format!("\n{HOST}/team/app:1 was read for layer reuse: 3 layers\n");
    let options = ["--reuse-from", "1", "--mount-from", "team/other"];
    let run = explained(&ecr, &[&[archive.as_str(), "team/app:3"][..], &options].concat());
    run.stderr_has(&[&read, there]).output_has_none(&["no mount at"]);
    let off = explained(&ecr, &[&archive, "team/app:4", "--reuse", "off"]);
    let reasons = [
        "\nlayer cache: not used, layer reuse is off\n".to_owned(),
        format!("\nno image of {HOST}/team/app is read for layers: layer reuse is off\n"),
        format!("\nno mount at {HOST}: layer reuse is off\n"),
    ];
    off.stderr_has(&reasons.each_ref().map(String::as_str));
}

#[test]
fn what_is_selected_by_options_is_reported_as_that() {
    let ecr = Ecr::new();
    let archive = ecr.env.scratch("a.tar");
    archive_builder::docker_save(&archive, &[archive_builder::tar_of("noise", &archive_builder::noise(7, 1 << 20))]);
    let options = ["--chunk-size", "6M", "--compression", "zstd", "--concurrency", "2"];
    let mut command = ecr.command(&[&[archive.as_str(), "team/app:1", "-v"][..], &options].concat());
    command.env("HTTPS_PROXY", "http://me:a-word@proxy.invalid:3128").env("NO_PROXY", "a.example");
    let run = ecr.finish(command).succeeds();
    let run = run.stderr_has(&[
        "https uses the proxy proxy.invalid:3128 (HTTPS_PROXY), except for this machine and the hosts of NO_PROXY\n",
        &format!("\nchunks of 6 MiB to {HOST}: as requested; it accepts "),
        "\nlayers by compression: 1 with zstd (recipe zstd/",
        "\nlayers at once: 1, of which 1 may be larger than a chunk; ",
    ]);
    run.output_has_none(&["a-word"]);
}

#[test]
fn facts_about_a_registry_are_logged() {
    let refused = Parts::Refused { status: 405, code: "UNSUPPORTED".into() };
    let finds_out = "the first layer shows whether it accepts them\n";
    for (parts, locations, words) in [
        (Parts::Any, Locations::Query, [" is distribution, by its response\n", "; it accepts 1 MiB to 64 MiB\n"]),
        (refused, Locations::default(), [" does not accept chunks; sending it again in a single request\n", finds_out]),
    ] {
        let registry = Ecr::with(&["team/app"], Rules { parts, locations, anonymous: true, ..Rules::default() });
        let layout = registry.env.scratch("layout");
        archive_builder::oci_layout(&layout, &[archive_builder::noise(1, 30 << 20)]);
        let (place, own) = (registry.address().to_string(), format!("{}/team/app:1", registry.address()));
        let run = registry.finish(registry.env.command(&[&layout, &own, "-v"])).succeeds().stderr_has(&words);
        run.stderr_has(&[&format!("\nchunks of 12 MiB to {place}: one large layer may use 24 MiB; {finds_out}")]);
    }
}

/// How the explanations of a push to ECR, or to a registry with a password, begin.
const EXPLANATIONS: [&str; 14] = [
    "memory: ", "layers at once: ", "layer cache: ", "resume store: ", "credentials from ", "caller ",
    "logged in to ECR ", "chunks of ", "layers by compression: ", "no image of ", "no mount at ", "layer ",
    "127.0.0.1:", "localhost:",
];

/// The SDK and the HTTP client log headers, among them those with credentials, through the same crate.
#[track_caller]
fn logs_only_own_explanations(run: Run, secrets: &[&str]) {
    let run =
        run.output_has_none(secrets).output_has_none(&["AWS4-HMAC-SHA256", "security-token", "Bearer ", "Basic "]);
    let entries = run.stderr.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let details: Vec<String> = entries
        .filter(|entry| entry["event"] == "detail")
        .map(|entry| entry["message"].as_str().unwrap().to_owned())
        .collect();
    assert!(details.len() > 5, "{details:#?}");
    let is_own = |line: &&String| EXPLANATIONS.iter().any(|start| line.starts_with(start));
    let others: Vec<_> = details.iter().filter(|line| !is_own(line)).collect();
    assert!(others.is_empty(), "{others:#?}");
}

#[test]
fn aws_credentials_are_not_logged() {
    const SECRET_KEY: &str = "s3cret/key+of+the+caller";
    const SESSION_TOKEN: &str = "s3ssion/t0ken+of+the+caller";
    let ecr = Ecr::new();
    let mut command = ecr.command(&[&testdata(ARCHIVE), "team/app:1", "-vv", "--log-format", "json"]);
    command.env("AWS_SECRET_ACCESS_KEY", SECRET_KEY).env("AWS_SESSION_TOKEN", SESSION_TOKEN);
    // `QVdTO` begins what ECR's login is in a header: the base64 of `AWS:`.
    logs_only_own_explanations(ecr.finish(command).succeeds(), &[SECRET_KEY, SESSION_TOKEN, "QVdTO"]);
}

#[test]
fn a_password_and_tokens_of_a_registry_are_not_logged() {
    const PASSWORD: &str = "a-password";
    let service = TokenService { users: vec![format!("bob:{PASSWORD}")], ..TokenService::default() };
    let ecr = Ecr::with(&["team/app"], Rules { asks: Asks::Tokens(service), ..Rules::default() });
    let target = format!("{}/team/app:1", ecr.address());
    let mut command = ecr.env.command(&[&testdata(ARCHIVE), &target, "-vv", "--log-format", "json"]);
    command.args(["--username", "bob", "--password-stdin"]);
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(PASSWORD.as_bytes()).unwrap();
    drop(writer);
    let run = Running::fed(command, Stdio::from(reader)).end().succeeds();
    let login = BASE64_STANDARD.encode(format!("bob:{PASSWORD}"));
    logs_only_own_explanations(run, &[PASSWORD, &login]);
}
