//! Statuses built from events, and their lines.

use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::PushStatus;
use super::fixtures::{layer_named, opened, reuse, status, target_named, upload, upload_to, uploaded};
use crate::output::log::{Entry, Level};
use crate::push::Event;

fn beat(status: &mut PushStatus, now: Instant) -> Entry {
    status.measured(now).entry(now)
}

/// The line of a log at a moment.
fn line(status: &PushStatus, now: Instant) -> String {
    beat(&mut status.clone(), now).text()
}

#[test]
fn every_phase_has_a_status() {
    let (mut push, now) = status(1, Vec::new());
    let step = |push: &mut PushStatus, event, expected: &str| {
        push.apply(event, now);
        assert_eq!(line(push, now + Duration::from_secs(5)), expected);
    };
    step(&mut push, Event::Spooled { bytes: 5 << 20 }, "copying the archive to a temporary file: 5.0 MiB (5 s)");
    let looking_up = |target| Event::LookingUp { target: target_named(target) };
    step(&mut push, looking_up("team/app:1"), "checking what already exists in team/app:1 (5 s)");
    step(&mut push, looking_up("team/b:1"), "checking what already exists in team/b:1 (5 s)");
    let (planned, _meter) = upload("a", 100);
    step(&mut push, planned, "0 B sent, 0 of 1 uploads done, 0 % of 100 B");
    step(&mut push, uploaded("h/app", "a", 9), "reading the archive (5 s)");
    step(&mut push, opened(), "checking what already exists (5 s)");
    let (planned, _meter) = upload("b", 100);
    push.apply(planned, now);
    step(&mut push, uploaded("h/app", "b", 9), "uploading the image config (5 s)");
    let publishing = Event::Publishing { target: target_named("h/app") };
    step(&mut push, publishing, "uploading the manifest to h/app (5 s)");
    push.is_stopping = true;
    assert_eq!(line(&push, now), "interrupted: closing upload sessions");
}

#[test]
fn a_pause_is_reported_while_nothing_moves() {
    let (planned, meter) = upload("a", 1_000);
    let (mut push, now) = status(1, vec![opened(), planned]);
    let waiting =
        Event::Retrying { reason: "h: HTTP 429".into(), pause: Duration::from_secs(60), retry: 2, retries: 4 };
    assert_eq!(push.apply(waiting, now).unwrap().text(), "warning: h: HTTP 429; retry 2 of 4 in 60.0 s");
    meter.set(100, 50);
    let mut beat = |seconds| beat(&mut push, now + Duration::from_secs(seconds)).text();
    assert!(beat(0).starts_with("50 B sent"), "another layer moves");
    assert_eq!(beat(10), "retry 2 of 4 in 50 seconds: h: HTTP 429");
    assert!(beat(61).starts_with("50 B sent, stalled for 61 seconds"));
}

#[test]
fn layers_of_a_target_that_failed_are_no_longer_counted() {
    let ((one, meter), (other, _other)) = (upload_to("h/app", "a", 1_000), upload_to("i/app", "a", 1_000));
    let given_up = || Event::TargetFailed { target: target_named("i/app"), reason: "no answer".into() };
    let (mut push, now) = status(2, vec![opened(), one.clone(), other]);
    meter.set(500, 250);
    assert!(line(&push, now).ends_with(", 0 of 2 uploads done, 25 % of 2.0 KiB"), "{}", line(&push, now));
    let entry = push.apply(given_up(), now).unwrap();
    assert_eq!(entry.text(), "i/app failed, the other targets continue: no answer");
    assert!(line(&push, now).ends_with(", 0 of 1 uploads done, 50 % of 1000 B"), "{}", line(&push, now));
    push.apply(uploaded("h/app", "a", 250), now);
    assert!(line(&push, now).starts_with("uploading the image config"));
    // The error of a single target is logged anyway.
    assert!(status(1, vec![opened(), one]).0.apply(given_up(), now).is_none());
}

#[test]
fn a_repeated_reason_for_retries_is_one_warning() {
    let (mut push, now) = status(1, vec![opened()]);
    let mut level = |why: &str, seconds, at| {
        let waiting = Event::Retrying { reason: why.into(), pause: Duration::from_secs(seconds), retry: 1, retries: 4 };
        push.apply(waiting, now + Duration::from_secs(at)).unwrap().level()
    };
    assert_eq!(level("h: HTTP 503", 4, 0), Level::Warning);
    assert_eq!(level("h: HTTP 503", 9, 1), Level::Debug);
    assert_eq!(level("i: HTTP 503", 4, 1), Level::Warning, "another registry");
    assert_eq!(level("h: HTTP 503", 9, 2), Level::Debug);
    assert_eq!(level("h: HTTP 503", 9, 4), Level::Warning, "it lasts");
}

#[test]
fn a_heartbeat_has_the_numbers_too() {
    let (planned, meter) = upload("a", 100_000);
    let (mut push, now) = status(1, vec![opened(), planned]);
    let mut read = |seconds| -> (String, Value) {
        let entry = beat(&mut push, now + Duration::from_secs(seconds));
        (entry.text(), serde_json::from_str(&entry.json(SystemTime::now())).unwrap())
    };
    // Bytes of an earlier run do not count.
    meter.resume_at(5_000);
    meter.set(10_000, 5_000);
    let (text, json) = read(0);
    assert_eq!(text, "0 B sent, 0 of 1 uploads done, 10 % of 97.7 KiB");
    assert_eq!(
        (&json["rate"], &json["stalled_seconds"], &json["seconds_left"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    meter.set(20_000, 10_000);
    let (text, json) = read(1);
    assert_eq!(text, "4.9 KiB sent at 4.9 KiB/s, 8 seconds left, 0 of 1 uploads done, 20 % of 97.7 KiB");
    assert_eq!((&json["event"], &json["percent"], &json["sent"]), (&"progress".into(), &20.into(), &5_000.into()));
    assert_eq!((&json["bytes"], &json["position"]), (&100_000.into(), &20_000.into()));
    assert_eq!((&json["layers"], &json["layers_arrived"]), (&1.into(), &0.into()));
    assert_eq!((&json["rate"], &json["seconds_left"]), (&5_000.into(), &8.into()));
    assert_eq!(read(5).1["stalled_seconds"], Value::Null, "a rate is shown until the upload is stalled");
    let (text, json) = read(9);
    assert_eq!(text, "4.9 KiB sent, stalled for 8 seconds, 0 of 1 uploads done, 20 % of 97.7 KiB");
    assert_eq!(
        (&json["rate"], &json["stalled_seconds"], &json["seconds_left"]),
        (&Value::Null, &8.into(), &Value::Null)
    );
    meter.set(30_000, 15_000);
    assert!(read(10).0.starts_with("9.8 KiB sent at "));
    // It starts again.
    meter.set(0, 5_000);
    assert_eq!(read(11).0, "0 B sent, 0 of 1 uploads done, 0 % of 97.7 KiB");
}

#[test]
fn no_time_is_left_to_tell_while_layers_are_planned() {
    let (planned, meter) = upload("a", 100_000);
    let (mut push, now) = status(1, vec![planned]);
    beat(&mut push, now);
    meter.set(10_000, 5_000);
    let text = beat(&mut push, now + Duration::from_secs(1)).text();
    assert!(text.contains(" sent at ") && !text.contains("left"), "{text}");
}

#[test]
fn a_line_names_the_target_where_there_are_several() {
    let (planned, _meter) = upload("a", 100);
    let text = |targets, event| PushStatus::new(targets, Instant::now()).apply(event, Instant::now()).unwrap().text();
    assert_eq!(text(2, planned.clone()), "layer a       100 B  upload to h/app: new");
    assert_eq!(text(1, planned), "layer a       100 B  upload: new");
    assert_eq!(text(2, reuse("h/app", "a", 7)), "layer a         7 B  reused in h/app: it is there");
    let mounted = Event::LayerMounted { target: target_named("h/app"), layer: layer_named("a"), bytes: 7 };
    assert_eq!(text(2, mounted), "layer a         7 B  mounted in h/app");
}

#[test]
fn the_rate_is_that_of_the_last_seconds() {
    let (planned, meter) = upload("a", 100_000_000);
    let (mut push, now) = status(1, vec![opened(), planned]);
    let mut rate = |second: u64, sent| {
        meter.set(sent, sent);
        let entry = beat(&mut push, now + Duration::from_secs(second));
        serde_json::from_str::<Value>(&entry.json(SystemTime::now())).unwrap()["rate"].clone()
    };
    assert_eq!(rate(60, 0), Value::Null);
    (1..=20).for_each(|second| assert_eq!(rate(60 + second, second * 1_000), 1_000, "nothing was sent before"));
    (1..=15).for_each(|second| drop(rate(80 + second, 20_000 + second * 4_000)));
    assert_eq!(rate(96, 84_000), 4_000);
    assert_eq!(rate(97, 0), Value::Null, "it starts again");
    assert_eq!(rate(98, 500), 500);
}
