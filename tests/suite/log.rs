//! The log of a CI job: lines that each make sense alone, or objects.

use std::collections::BTreeSet;
use std::time::Duration;

use ecr_push::sandbox::{Fault, Rules, Trouble};
use serde_json::Value;

use super::archive_builder;
use super::ecr::{Ecr, HOST, status};
use super::harness::{Run, TestEnv, testdata};

const ARCHIVE: &str = "docker-29-overlay2-save.tar";

/// The lines of stderr, each of which is an object with what all of them have.
#[track_caller]
fn objects(run: &Run) -> Vec<Value> {
    let object = |line: &str| {
        let read: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?} is no JSON: {error}"));
        let time = read["time"].as_str().unwrap();
        assert!(time.len() == 24 && time.starts_with("20") && time.ends_with('Z'), "{line}");
        assert!(["debug", "info", "warning", "error"].contains(&read["level"].as_str().unwrap()), "{line}");
        assert!(read["event"].is_string() && read["message"].is_string(), "{line}");
        read
    };
    run.stderr.lines().map(object).collect()
}

fn of<'a>(objects: &'a [Value], event: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["event"] == event).collect()
}

/// Asserts that the documentation has this event, with these keys.
#[track_caller]
fn is_documented(object: &Value) {
    let table = super::markdown::page("docs/scripting.md").section("## JSON log");
    let event = object["event"].as_str().unwrap();
    let row = table.lines().find(|line| line.starts_with(&format!("| `{event}` |")));
    let row = row.unwrap_or_else(|| panic!("no page has the event {event}"));
    for key in object.as_object().unwrap().keys() {
        let is_common = ["time", "level", "event", "message"].contains(&key.as_str());
        assert!(is_common || row.contains(&format!("`{key}`")), "no page has that {event} has {key}");
    }
}

#[test]
fn every_line_is_an_object() {
    let ecr = Ecr::with(&["team/app", "team/other"], Rules::default());
    let archive = testdata(ARCHIVE);
    ecr.run(&[&archive, "team/app:1"]).succeeds();
    let run =
        ecr.run(&[&archive, "team/app:1", "team/other:1", "--log-format", "json", "-v", "--cache", "."]).succeeds();
    let objects = objects(&run);
    objects.iter().for_each(is_documented);
    let opened = of(&objects, "opened");
    assert_eq!((&opened[0]["layers"], &opened[0]["bytes"]), (&3.into(), &453_632.into()), "{opened:?}");
    assert_eq!(opened[0]["names"][0], "localhost/fixture/app:v1");
    let layers = of(&objects, "layer");
    assert_eq!(layers.len(), 6);
    let (app, other) = (format!("{HOST}/team/app"), format!("{HOST}/team/other"));
    let sent: Vec<_> = layers.iter().filter(|layer| layer["action"] == "upload").collect();
    assert!(sent.iter().all(|layer| layer["target"] == other.as_str()) && sent.len() == 3, "{layers:?}");
    assert!(layers.iter().all(|layer| layer["layer"].as_str().unwrap().starts_with("sha256:")));
    let arrived: u64 = of(&objects, "arrived").iter().map(|layer| layer["sent"].as_u64().unwrap()).sum();
    let summaries = of(&objects, "summary");
    assert_eq!(summaries.len(), 2);
    let (first, second) = (summaries[0], summaries[1]);
    assert_eq!((&first["target"], &first["tags"]), (&app.as_str().into(), &serde_json::json!(["1"])));
    assert_eq!((&first["uploaded"], &first["reused"], &first["sent"]), (&0.into(), &3.into(), &0.into()));
    assert_eq!(first["saved_bytes"], 453_632);
    assert_eq!((&second["uploaded"], &second["sent"]), (&3.into(), &arrived.into()));
    let printed: Vec<&str> = run.stdout.lines().collect();
    assert_eq!((&first["references"][0], &second["references"][0]), (&printed[0].into(), &printed[1].into()));
    assert_eq!(of(&objects, "warning").len(), 1, "the cache is a folder");
    assert!(!of(&objects, "detail").is_empty() && of(&objects, "detail").iter().all(|it| it["level"] == "debug"));
}

#[test]
fn an_error_is_an_object_whenever_it_comes() {
    let ecr = Ecr::faulty(&[Fault::once("ecr:PutImage", status(403, "DENIED", "not for you")).times(9)]);
    let archive = testdata(ARCHIVE);
    let missing = ["no.tar", "team/app:1", "--log-format=json"];
    let unknown = [archive.as_str(), "team/app:1", "--log-format", "json", "--nonsense"];
    let senseless = [
        archive.as_str(),
        "team/app:1",
        "--log-format",
        "json",
        "--retries",
        "1",
        "--reuse",
        "off",
        "--reuse-from",
        "a",
    ];
    let refused = [archive.as_str(), "team/app:1", "--log-format", "json", "--quiet"];
    for (arguments, code, kind) in
        [(&missing[..], 1, "input"), (&unknown, 2, "usage"), (&senseless, 2, "usage"), (&refused, 3, "permission")]
    {
        let run = ecr.run(arguments).exits_with(code);
        let objects = objects(&run);
        let error = objects.last().unwrap();
        is_documented(error);
        assert_eq!(
            (&error["level"], &error["event"], &error["kind"]),
            (&"error".into(), &"error".into(), &kind.into())
        );
        assert_eq!(error["exit_code"], code);
        assert!(error["causes"].is_array() && error.as_object().unwrap().contains_key("hint"));
        if kind == "permission" {
            assert_eq!(objects.len(), 1, "nothing else is said");
            assert!(error["causes"][0].as_str().unwrap().contains("not for you"), "{error}");
        }
        assert_eq!(run.stdout, "");
    }
}

#[test]
fn the_environment_asks_for_objects_as_well() {
    let env = TestEnv::new();
    let mut command = env.command(&["no.tar"]);
    command.env("ECR_PUSH_LOG_FORMAT", "json");
    let run = super::harness::finish(command, String::new).fails_with(2);
    assert_eq!(objects(&run)[0]["kind"], "usage");
}

#[test]
fn a_plan_and_a_failure_of_one_target_are_objects() {
    let ecr = Ecr::new();
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--log-format", "json", "--dry-run"]).succeeds();
    let plan = objects(&run);
    plan.iter().for_each(is_documented);
    assert_eq!(of(&plan, "layer").len(), 3);
    assert_eq!((&of(&plan, "summary")[0]["dry_run"], &of(&plan, "summary")[0]["uploaded"]), (&true.into(), &3.into()));
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1", "team/missing:1", "--log-format", "json"]).fails_with(1);
    let events = objects(&run);
    events.iter().for_each(is_documented);
    assert_eq!((of(&events, "summary").len(), of(&events, "error").len()), (1, 1));
    assert_eq!((&of(&events, "targets")[0]["pushed"], &of(&events, "targets")[0]["targets"]), (&1.into(), &2.into()));
}

#[test]
fn manifests_follow_the_layers_and_a_lost_layer_follows_them() {
    let ecr = Ecr::new();
    ecr.set_rules(|rules| rules.faults = vec![Fault::once("ecr:PutImage", Trouble::LoseLayer)]);
    let push = || objects(&ecr.run(&[&testdata(ARCHIVE), "team/app:1", "--log-format", "json"]).succeeds());
    let objects = push();
    let events = objects.iter().filter_map(|object| object["event"].as_str());
    let events: Vec<&str> = events.filter(|event| !["note", "opened", "layer"].contains(event)).collect();
    assert_eq!(events, ["arrived", "arrived", "arrived", "finishing", "warning", "arrived", "summary"]);
    // Nothing is put where the tag points at the image already.
    assert_eq!(of(&push(), "finishing").len(), 0);
}

#[test]
fn a_failed_target_of_several_is_logged_when_it_fails() {
    let refusal = Fault::once("ecr:PutImage", status(403, "DENIED", "not for you"));
    let ecr = Ecr::with(&["team/app", "team/other"], Rules { faults: vec![refusal], ..Rules::default() });
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1", "team/other:1", "--log-format", "json"]).fails_with(3);
    let events = objects(&run);
    let given_up = of(&events, "given_up");
    assert_eq!((given_up.len(), of(&events, "error").len(), of(&events, "summary").len()), (1, 1, 1), "{events:?}");
    is_documented(given_up[0]);
    assert_eq!(given_up[0]["why"], of(&events, "error")[0]["message"]);
    assert_ne!(given_up[0]["target"], of(&events, "summary")[0]["target"]);
}

#[test]
fn objects_leave_no_room_for_groups_and_annotations_but_for_variables() {
    let ecr = Ecr::new();
    let mut command = ecr.command(&[
        &testdata(ARCHIVE),
        "team/app:1",
        "--log-format",
        "json",
        "--output-variable",
        "A",
        "--cache",
        ".",
    ]);
    command.env("TF_BUILD", "True");
    let run = ecr.finish(command).succeeds();
    let (commands, objects): (Vec<&str>, Vec<&str>) = run.stderr.lines().partition(|line| line.starts_with("##"));
    assert_eq!(commands.len(), 5, "{commands:?}");
    assert!(commands.iter().all(|line| line.starts_with("##vso[task.setvariable variable=A")), "{commands:?}");
    assert!(objects.iter().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{objects:?}");
}

#[test]
fn a_line_is_never_wrapped_and_names_its_layer_and_target() {
    let ecr = Ecr::with(&["team/app", "team/other"], Rules::default());
    let run = ecr.run(&[&testdata(ARCHIVE), "team/app:1", "team/other:1", "--mount-from", "team/base"]).succeeds();
    for target in ["team/app", "team/other"] {
        let about = |word: &str| {
            let is_it =
                |line: &&str| line.starts_with("layer sha256:") && line.contains(&format!("{word} to {HOST}/{target}"));
            run.stderr.lines().filter(is_it).count()
        };
        assert_eq!((about("upload"), about("sent")), (3, 3), "{target}");
    }
}

#[test]
fn a_pause_is_shown_as_long_as_it_lasts() {
    let pause = Trouble::Throttle { retry_after: Some(Duration::from_secs(12)) };
    let faults = vec![Fault::once("ecr:InitiateLayerUpload", pause).times(9)];
    let ecr = Ecr::with(&["team/app"], Rules { faults, ..Rules::default() });
    let archive = ecr.env.scratch("image.tar");
    archive_builder::docker_save(&archive, &[archive_builder::tar_of("noise", &archive_builder::noise(1, 100))]);
    let run = ecr.run(&[&archive, "team/app:1", "--log-format", "json", "--deadline", "11"]).fails_with(4);
    let objects = objects(&run);
    objects.iter().for_each(is_documented);
    let waiting = of(&objects, "waiting");
    assert_eq!(waiting[0]["seconds"], 12.0);
    let again: Vec<_> = waiting.iter().filter(|it| it["level"] == "info").collect();
    assert_eq!(again.len(), 2, "{waiting:?}");
    assert!(again[1]["seconds"].as_f64() < again[0]["seconds"].as_f64(), "{waiting:?}");
    let events: BTreeSet<&str> = objects.iter().map(|object| object["event"].as_str().unwrap()).collect();
    assert!(events.contains("error"), "{events:?}");
}

#[test]
fn errors_of_all_connections_at_once_are_logged_in_a_few_lines() {
    let storm = Fault::once("*", status(503, "UNAVAILABLE", "back soon")).after(4).times(10);
    let ecr = Ecr::with(&["team/app"], Rules { faults: vec![storm], ..Rules::default() });
    let archive = ecr.env.scratch("image.tar");
    let layers: Vec<_> = (0..20).map(|n| archive_builder::tar_of("noise", &archive_builder::noise(n, 1000))).collect();
    archive_builder::docker_save(&archive, &layers);
    let run = ecr.run(&[&archive, "team/app:1", "--retries", "9", "-v", "--output", "json"]).succeeds();
    assert_eq!(run.stderr.matches("; retry ").count(), 10, "with -v all pauses are logged");
    // A HEAD has no words in its answer, so there are two reasons.
    let warnings = run.stderr.matches("warning: ").count();
    assert!((1..=12).contains(&warnings), "{}", run.stderr);
    let warnings = run.report()["warnings"].as_array().unwrap().len();
    assert!((1..=2).contains(&warnings), "{}", run.stdout);
}
