//! States built from events, and their display.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bars::Bars;
use super::rate::{Throughput, Totals};
use super::rows::{Slots, rows};
use super::state::State;
use super::status::{heartbeat, status_row};
use crate::compress::Meter;
use crate::oci::{Compression, Digest, LayerId};
use crate::output::log::{ColorMode, Level};
use crate::push::plan::{Candidate, Evidence, Stored};
use crate::push::{Event, ImageSummary, LayerAction};
use crate::request_log::{Named, TargetId};

fn upload(layer: &str, bytes: u64) -> (Event, Arc<Meter>) {
    upload_to("h/app", layer, bytes)
}

fn upload_to(target: &str, layer: &str, bytes: u64) -> (Event, Arc<Meter>) {
    let meter = Arc::new(Meter::new(bytes));
    (planned(target, layer, LayerAction::Upload, "new", &meter), meter)
}

fn reuse(target: &str, layer: &str, bytes: u64) -> Event {
    planned(target, layer, LayerAction::Reuse(candidate()), "it is there", &Arc::new(Meter::new(bytes)))
}

fn mount(layer: &str, bytes: u64) -> Event {
    let action = LayerAction::Mount(candidate(), "base".parse().unwrap());
    planned("h/app", layer, action, "from h/base", &Arc::new(Meter::new(bytes)))
}

fn planned(target: &str, layer: &str, action: LayerAction, reason: &str, meter: &Arc<Meter>) -> Event {
    let (target, layer, bytes) = (target_named(target), layer_named(layer), meter.total());
    Event::LayerPlanned { target, layer, bytes, action, reason: reason.into(), meter: Arc::clone(meter) }
}

/// A target whose ID is made of its name.
fn target_named(name: &str) -> Named<TargetId> {
    Named::new(name.bytes().fold(0, |id: usize, byte| id.wrapping_mul(31) + usize::from(byte)), name)
}

/// A layer whose ID is made of its name.
fn layer_named(name: &str) -> Named<LayerId> {
    Named::new(LayerId::Stated(Digest::of(name.as_bytes())), name)
}

/// The event that a planned layer was uploaded.
fn uploaded(target: &str, layer: &str, sent: u64) -> Event {
    Event::LayerUploaded { target: target_named(target), layer: layer_named(layer), bytes: 0, sent }
}

fn candidate() -> Candidate {
    let stored = Stored { digest: Digest::of(b""), size: 0, compression: Compression::Gzip };
    Candidate { stored, why: Evidence::Cached }
}

fn opened() -> Event {
    Event::Opened(ImageSummary {
        format: "OCI layout".into(),
        names: vec!["app:1".into()],
        image_ids: Vec::new(),
        platforms: Vec::new(),
        layers: 2,
        archive_bytes: 3 << 20,
    })
}

/// The state after these events, and a moment one second later.
fn state(targets: usize, events: Vec<Event>) -> (State, Instant) {
    let start = Instant::now();
    let mut state = State::new(targets, start);
    for event in events {
        state.apply(event, start);
    }
    (state, start + Duration::from_secs(1))
}

/// The rows as a terminal of this size shows them.
fn picture(state: &State, now: Instant, size: (usize, usize)) -> Vec<String> {
    Bars::new().draw(rows(state, &mut Slots::default(), size, now, ColorMode::Plain), size.0)
}

/// Layers in all states, with unusual names.
fn many() -> (State, Instant, Vec<Arc<Meter>>) {
    let (mut events, mut meters) = (vec![opened()], Vec::new());
    let names = [
        "日本語のレイヤー名はとても長いのです",
        "\u{1b}[2J\u{202e}evil\r\n\tname",
        "👨\u{200d}👩\u{200d}👧 family",
        "a",
        "##vso[x]",
    ];
    for (at, name) in names.iter().cycle().take(40).enumerate() {
        let name = format!("{name}{at}");
        match at % 4 {
            0 => events.push(reuse("h/app", &name, 1 << at)),
            1 => events.push(mount(&name, 1 << at)),
            _ => {
                let (event, meter) = upload(&name, 1 << at);
                events.push(event);
                meters.push(meter);
            }
        }
    }
    let (state, now) = state(1, events);
    (state, now, meters)
}

#[test]
fn no_row_is_wider_than_the_terminal_and_no_picture_higher() {
    let (state, now, meters) = many();
    for (at, meter) in meters.iter().enumerate() {
        meter.set(meter.total() / 10 * (at as u64 % 11), meter.total() / 20 * (at as u64 % 11));
    }
    let mut bars = Bars::new();
    let mut slots = Slots::default();
    for columns in [1, 2, 3, 9, 20, 38, 40, 41, 63, 64, 65, 80, 119, 120, 121, 122, 200] {
        for height in [1, 2, 5, 6, 7, 12, 24, 43, 44, 45, 100] {
            let rows = rows(&state, &mut slots, (columns, height), now, ColorMode::Plain);
            let rows = bars.draw(rows, columns);
            assert!(rows.len() <= (height - 1).max(1), "{columns} x {height}: {rows:#?}");
            for row in &rows {
                assert!(console::measure_text_width(row) < columns.max(2), "{columns} x {height}: {row:?}");
                assert!(!row.contains(|c: char| c.is_control()) && !row.contains("##"), "{row:?}");
            }
        }
    }
}

#[test]
fn a_terminal_that_is_high_enough_has_a_row_for_each_layer() {
    let (state, now, _meters) = many();
    assert_eq!(picture(&state, now, (80, 43)).len(), 42);
    let folded = picture(&state, now, (80, 42));
    assert_eq!(folded.len(), 41);
    assert!(folded[0].ends_with("done") && folded[38].ends_with("to come"), "{folded:#?}");
}

#[test]
fn a_row_shows_the_state_of_its_layer() {
    let (first, meter) = upload("sha256:0123456789ab", 1 << 20);
    let (second, _waiting) = upload("sha256:cccccccccccc", 5 << 10);
    let events = vec![
        opened(),
        first,
        second,
        reuse("h/app", "sha256:dddddddddddd", 70),
        mount("sha256:eeeeeeeeeeee", 80),
        mount("sha256:ffffffffffff", 90),
        Event::LayerMounted { target: target_named("h/app"), layer: layer_named("sha256:ffffffffffff"), bytes: 9 },
    ];
    let (mut state, now) = state(1, events);
    meter.set(1 << 19, 1 << 18);
    assert_eq!(
        picture(&state, now, (80, 24)),
        [
            "0123456789ab     1.0 MiB  [==============>             ]  50 %   256.0 KiB sent",
            "cccccccccccc     5.0 KiB  waiting",
            "dddddddddddd        70 B  reused",
            "eeeeeeeeeeee        80 B  to be mounted",
            "ffffffffffff        90 B  mounted",
            "total            1.0 MiB  [=============>              ]  49 %   256.0 KiB sent",
            " 0:01  0 of 2 sent",
        ]
    );
    meter.set(1 << 20, 1 << 19);
    state.apply(uploaded("h/app", "sha256:0123456789ab", 1 << 19), now);
    let rows = picture(&state, now, (40, 24));
    assert_eq!(rows[0], "0123456789ab  sent: 512.0 KiB");
    assert_eq!(rows[5], "total         [================>]  99 %");
    assert_eq!(rows[6], " 0:01  1 of 2 sent");
}

#[test]
fn a_layer_has_one_row_for_all_targets() {
    let (first, one) = upload_to("h/app", "sha256:a", 100);
    let (second, two) = upload_to("h/other", "sha256:a", 100);
    let events = vec![opened(), first, second, reuse("h/app", "sha256:b", 70), reuse("h/other", "sha256:b", 70)];
    let (mut state, now) = state(2, events);
    one.set(100, 50);
    let rows = picture(&state, now, (80, 24));
    assert_eq!(rows.len(), 4, "{rows:#?}");
    assert!(rows[0].starts_with("a              100 B  [") && rows[0].contains("  50 %"), "{rows:#?}");
    assert_eq!(rows[1], "b               70 B  reused in 2");
    two.set(100, 50);
    for target in ["h/app", "h/other"] {
        state.apply(uploaded(target, "sha256:a", 50), now);
    }
    state.apply(reuse("h/third", "sha256:a", 100), now);
    assert!(picture(&state, now, (80, 24))[0].starts_with("a              100 B  sent to 2, reused in 1: 100 B"));
}

#[test]
fn a_layer_keeps_its_row() {
    let (mut events, mut meters) = (vec![opened()], Vec::new());
    for at in 0..9 {
        let (event, meter) = upload(&format!("layer{at}"), 100);
        events.push(event);
        meters.push(meter);
    }
    let (mut state, now) = state(1, events);
    let mut slots = Slots::default();
    let mut shown = |state: &State| -> Vec<String> {
        let rows = rows(state, &mut slots, (80, 8), now, ColorMode::Plain);
        rows.iter().map(|row| row.label.split(' ').next().unwrap().to_owned()).collect()
    };
    assert_eq!(shown(&state)[1..4], ["layer0", "layer1", "layer2"], "the next ones");
    [2, 5, 6].iter().for_each(|at| meters[*at].set(50, 50));
    assert_eq!(shown(&state)[1..4], ["layer5", "layer6", "layer2"], "those that are uploaded");
    state.apply(uploaded("h/app", "layer6", 50), now);
    assert_eq!(shown(&state)[1..4], ["layer5", "layer0", "layer2"], "a layer that is done gives up its row");
}

#[test]
fn every_phase_has_a_status() {
    let (mut state, now) = state(1, Vec::new());
    let beat = |state: &State, now| heartbeat(state, &mut Totals::default(), now).text();
    let step = |state: &mut State, event, expected: &str| {
        state.apply(event, now);
        assert_eq!(beat(state, now + Duration::from_secs(5)), expected);
    };
    step(&mut state, Event::Spooled { bytes: 5 << 20 }, "copied 5.0 MiB of the archive to a temporary file (5 s)");
    step(
        &mut state,
        Event::LookingUp { target: target_named("team/app:1") },
        "checking what already exists in team/app:1 (5 s)",
    );
    step(
        &mut state,
        Event::LookingUp { target: target_named("team/other:1") },
        "checking what already exists in 2 targets (5 s)",
    );
    let (planned, _meter) = upload("a", 100);
    step(&mut state, planned, "  0 % of 100 B compressed and sent as 0 B, 0 of 1 layers uploaded");
    step(&mut state, uploaded("h/app", "a", 9), "reading the archive (5 s)");
    step(&mut state, opened(), "checking what already exists (5 s)");
    let (planned, _meter) = upload("b", 100);
    state.apply(planned, now);
    state.apply(uploaded("h/app", "b", 9), now);
    assert_eq!(beat(&state, now), "uploading the image config (0 s)");
    state.apply(Event::Publishing { target: target_named("h/app") }, now);
    assert_eq!(beat(&state, now), "uploading the manifest to h/app (0 s)");
    state.stop();
    assert_eq!(beat(&state, now), "interrupted: closing upload sessions");
}

#[test]
fn a_pause_is_reported_while_nothing_moves() {
    let (planned, meter) = upload("a", 1_000);
    let (mut state, now) = state(1, vec![opened(), planned]);
    let waiting =
        Event::Retrying { reason: "h: HTTP 429".into(), pause: Duration::from_secs(60), retry: 2, retries: 4 };
    assert_eq!(state.apply(waiting, now).unwrap().text(), "warning: h: HTTP 429; retry 2 of 4 in 60.0 s");
    meter.set(100, 50);
    let mut last = Totals::default();
    let mut beat = |now| heartbeat(&state, &mut last, now).text();
    assert!(beat(now).starts_with(" 10 % of 1000 B compressed and sent as 50 B"), "another layer moves");
    assert_eq!(beat(now + Duration::from_secs(10)), "h: HTTP 429; retry 2 of 4 in 50 s");
    assert!(beat(now + Duration::from_secs(61)).starts_with(" 10 %"));
}

#[test]
fn layers_of_a_target_that_failed_are_no_longer_counted() {
    let ((one, meter), (other, _other)) = (upload_to("h/app", "a", 1_000), upload_to("i/app", "a", 1_000));
    let given_up = || Event::TargetFailed { target: target_named("i/app"), reason: "no answer".into() };
    let (mut state, now) = state(2, vec![opened(), one.clone(), other]);
    meter.set(500, 250);
    assert_eq!(picture(&state, now, (80, 24))[1].split_whitespace().nth(1), Some("2.0"), "to both");
    let entry = state.apply(given_up(), now).unwrap();
    assert_eq!(entry.text(), "i/app failed, the other targets continue: no answer");
    let beat = |state: &State| heartbeat(state, &mut Totals::default(), now).text();
    assert!(beat(&state).starts_with(" 50 % of 1000 B compressed"), "{}", beat(&state));
    state.apply(uploaded("h/app", "a", 250), now);
    assert!(beat(&state).starts_with("uploading the image config"));
    // The error of a single target is logged anyway.
    assert!(self::state(1, vec![opened(), one]).0.apply(given_up(), now).is_none());
}

#[test]
fn a_repeated_reason_for_retries_is_one_warning() {
    let (mut state, now) = state(1, vec![opened()]);
    let mut level = |why: &str, seconds, at| {
        let waiting = Event::Retrying { reason: why.into(), pause: Duration::from_secs(seconds), retry: 1, retries: 4 };
        state.apply(waiting, now + Duration::from_secs(at)).unwrap().level()
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
    let (mut state, start) = state(1, vec![opened(), planned]);
    for second in 0..=10 {
        meter.set(second * 1_000, second * 500);
        state.measure(start + Duration::from_secs(second));
    }
    assert!(state.throughput.rate.is_some() && state.throughput.left.is_some());
    state.throughput = Throughput { rate: Some(500), left: Some(Duration::from_secs(90)), stalled: None };
    let now = start + Duration::from_secs(10);
    let entry = heartbeat(&state, &mut Totals::default(), now);
    assert_eq!(
        entry.text(),
        " 10 % of 97.7 KiB compressed and sent as 4.9 KiB at 500 B/s, 0 of 1 layers uploaded, about 1 min 30 s left"
    );
    let read: serde_json::Value = serde_json::from_str(&entry.json(std::time::SystemTime::now())).unwrap();
    assert_eq!((&read["event"], &read["percent"], &read["rate"]), (&"progress".into(), &10.into(), &500.into()));
    assert_eq!((&read["seconds_left"], &read["sent"]), (&90.into(), &5_000.into()));
    assert_eq!(status_row(&state, now), " 0:11  500 B/s  about 1 min 30 s left  0 of 1 sent");
}

#[test]
fn a_line_names_the_target_where_there_are_several() {
    let (planned, _meter) = upload("a", 100);
    let text = |targets, event| State::new(targets, Instant::now()).apply(event, Instant::now()).unwrap().text();
    assert_eq!(text(2, planned.clone()), "layer a       100 B  upload to h/app: new");
    assert_eq!(text(1, planned), "layer a       100 B  upload: new");
    assert_eq!(text(2, reuse("h/app", "a", 7)), "layer a         7 B  reused in h/app: it is there");
    let mounted = Event::LayerMounted { target: target_named("h/app"), layer: layer_named("a"), bytes: 7 };
    assert_eq!(text(2, mounted), "layer a         7 B  mounted in h/app");
}
