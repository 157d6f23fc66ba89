//! States built from events, and their display.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressDrawTarget, TermLike};
use serde_json::Value;

use super::bars::Bars;
use super::state::State;
use crate::compress::Meter;
use crate::oci::{Compression, Digest, LayerId};
use crate::output::log::{ColorMode, Entry, Level};
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

/// A terminal of so many columns, and what indicatif wrote on it last: of each row the text, then blanks.
#[derive(Clone, Debug)]
struct Canvas(u16, Arc<Mutex<(Vec<String>, Vec<String>)>>);

impl TermLike for Canvas {
    fn width(&self) -> u16 {
        self.0
    }

    fn height(&self) -> u16 {
        u16::MAX
    }

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.1.lock().unwrap().0.push(text.to_owned());
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let mut drawing = self.1.lock().unwrap();
        let writes = std::mem::take(&mut drawing.0);
        drawing.1 = writes.into_iter().step_by(2).map(|row| row.trim_end().to_owned()).collect();
        Ok(())
    }
}

/// A terminal of this size with the bars of a push.
fn terminal(columns: u16, height: u16) -> (Bars, impl FnMut(&mut Bars, &State) -> Vec<String>) {
    let canvas = Canvas(columns, Arc::default());
    let bars = Bars::new(ProgressDrawTarget::term_like(Box::new(canvas.clone())), Instant::now());
    let rows = move |bars: &mut Bars, state: &State| {
        let status = beat(bars, state, Instant::now());
        bars.update(state, &status, height.into(), ColorMode::Plain);
        bars.status.tick();
        canvas.1.lock().unwrap().1.clone()
    };
    (bars, rows)
}

/// The rows as a terminal of this size shows them.
fn picture(state: &State, columns: u16, height: u16) -> Vec<String> {
    let (mut bars, mut rows) = terminal(columns, height);
    rows(&mut bars, state)
}

fn beat(bars: &mut Bars, state: &State, now: Instant) -> Entry {
    bars.measure(&state.layers, now);
    bars.status(state, now)
}

/// The line of a log at a moment.
fn line(state: &State, now: Instant) -> String {
    beat(&mut Bars::new(ProgressDrawTarget::hidden(), now), state, now).text()
}

/// Layers in all states, with unusual names.
fn many() -> (State, Vec<Arc<Meter>>) {
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
    (state(1, events).0, meters)
}

#[test]
fn no_row_is_wider_than_the_terminal_and_no_picture_higher() {
    let (state, meters) = many();
    for (at, meter) in meters.iter().enumerate() {
        meter.set(meter.total() / 10 * (at as u64 % 11), meter.total() / 20 * (at as u64 % 11));
    }
    for columns in [32, 38, 40, 64, 80, 119, 120] {
        for height in [1, 2, 3, 4, 5, 6, 7, 12, 24, 42, 43, 44, 100] {
            let rows = picture(&state, columns, height);
            assert!(rows.len() <= usize::from(height - 1).max(1), "{columns} x {height}: {rows:#?}");
            assert!(rows.last().unwrap().starts_with("00:00:0"), "{columns} x {height}: {rows:#?}");
            for row in &rows {
                assert!(console::measure_text_width(row) <= columns.into(), "{columns} x {height}: {row:?}");
                assert!(!row.contains(|c: char| c.is_control()) && !row.contains("##"), "{row:?}");
            }
        }
    }
}

#[test]
fn a_terminal_that_is_not_high_enough_shows_layers_to_upload_only() {
    let (state, meters) = many();
    assert_eq!(picture(&state, 80, 43).len(), 42);
    let shown = |height| picture(&state, 80, height);
    let rows = shown(42);
    assert!(rows.len() == 22 && rows.iter().rev().skip(1).all(|row| row.ends_with("0 %")), "{rows:#?}");
    // The last ones are being uploaded.
    meters[17..].iter().for_each(|meter| meter.set(meter.total() / 2, 1));
    let rows = shown(8);
    assert!(rows.len() == 7 && rows[..3].iter().all(|row| row.ends_with("50 %")), "{rows:#?}");
    assert!(rows[3..5].iter().all(|row| row.ends_with(" 0 %")), "{rows:#?}");
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
    let (mut bars, mut rows) = terminal(80, 24);
    let shown = rows(&mut bars, &state);
    assert_eq!(
        shown[..6],
        [
            "0123456789ab   1.00 MiB [========================>                       ]  50 %",
            "cccccccccccc   5.00 KiB [                                                ]   0 %",
            "dddddddddddd       70 B reused",
            "eeeeeeeeeeee       80 B to be mounted",
            "ffffffffffff       90 B mounted",
            "total          1.00 MiB [=======================>                        ]  49 %",
        ]
    );
    assert!(shown[6].starts_with("00:00:00 256.0 KiB sent at "), "{}", shown[6]);
    state.layers.retain(|layer| &*layer.layer.name != "sha256:dddddddddddd");
    meter.set(1 << 20, 1 << 19);
    state.apply(uploaded("h/app", "sha256:0123456789ab", 1 << 19), now);
    let shown = rows(&mut bars, &state);
    assert_eq!((shown.len(), shown[0].as_str()), (6, "0123456789ab   1.00 MiB sent 512.0 KiB"));
    assert!(shown[5].contains(", 1 of 2 uploads done"), "{}", shown[5]);
    let narrow = picture(&state, 39, 24);
    assert_eq!(narrow[4], "total          1.00 MiB [======>]  99 %");
    assert!(narrow[5].starts_with("00:00:00 512.0 KiB sent at "), "{}", narrow[5]);
    state.apply(uploaded("h/app", "sha256:cccccccccccc", 9), now);
    state.apply(Event::Publishing { target: target_named("h/app") }, now);
    assert_eq!(rows(&mut bars, &state)[5], "00:00:00 uploading the manifest to h/app (0 s)");
}

#[test]
fn a_layer_has_one_row_for_all_targets() {
    let (first, one) = upload_to("h/app", "sha256:a", 100);
    let (second, two) = upload_to("h/other", "sha256:a", 100);
    let events = vec![opened(), first, reuse("h/app", "sha256:b", 70), second, reuse("h/other", "sha256:b", 70)];
    let (mut state, now) = state(2, events);
    one.set(100, 50);
    let rows = picture(&state, 80, 24);
    assert_eq!(rows.len(), 4, "{rows:#?}");
    assert!(rows[0].starts_with("a                 100 B [") && rows[0].ends_with("  50 %"), "{rows:#?}");
    assert_eq!(rows[1], "b                  70 B reused");
    two.set(100, 60);
    for target in ["h/app", "h/other"] {
        state.apply(uploaded(target, "sha256:a", 50), now);
    }
    state.apply(reuse("h/third", "sha256:a", 100), now);
    assert_eq!(picture(&state, 80, 24)[0], "a                 100 B sent 50 B, sent 60 B, reused");
}

#[test]
fn every_phase_has_a_status() {
    let (mut state, now) = state(1, Vec::new());
    let step = |state: &mut State, event, expected: &str| {
        state.apply(event, now);
        assert_eq!(line(state, now + Duration::from_secs(5)), expected);
    };
    step(&mut state, Event::Spooled { bytes: 5 << 20 }, "copying the archive to a temporary file: 5.0 MiB (5 s)");
    let looking_up = |target| Event::LookingUp { target: target_named(target) };
    step(&mut state, looking_up("team/app:1"), "checking what already exists in team/app:1 (5 s)");
    step(&mut state, looking_up("team/b:1"), "checking what already exists in team/b:1 (5 s)");
    let (planned, _meter) = upload("a", 100);
    step(&mut state, planned, "0 B sent, 0 of 1 uploads done, 0 % of 100 B");
    step(&mut state, uploaded("h/app", "a", 9), "reading the archive (5 s)");
    step(&mut state, opened(), "checking what already exists (5 s)");
    let (planned, _meter) = upload("b", 100);
    state.apply(planned, now);
    step(&mut state, uploaded("h/app", "b", 9), "uploading the image config (5 s)");
    let publishing = Event::Publishing { target: target_named("h/app") };
    step(&mut state, publishing, "uploading the manifest to h/app (5 s)");
    state.is_stopping = true;
    assert_eq!(line(&state, now), "interrupted: closing upload sessions");
}

#[test]
fn a_pause_is_reported_while_nothing_moves() {
    let (planned, meter) = upload("a", 1_000);
    let (mut state, now) = state(1, vec![opened(), planned]);
    let waiting =
        Event::Retrying { reason: "h: HTTP 429".into(), pause: Duration::from_secs(60), retry: 2, retries: 4 };
    assert_eq!(state.apply(waiting, now).unwrap().text(), "warning: h: HTTP 429; retry 2 of 4 in 60.0 s");
    meter.set(100, 50);
    let mut bars = Bars::new(ProgressDrawTarget::hidden(), now);
    let mut beat = |seconds| beat(&mut bars, &state, now + Duration::from_secs(seconds)).text();
    assert!(beat(0).starts_with("50 B sent"), "another layer moves");
    assert_eq!(beat(10), "retry 2 of 4 in 50 seconds: h: HTTP 429");
    assert!(beat(61).starts_with("50 B sent, stalled for 61 seconds"));
}

#[test]
fn layers_of_a_target_that_failed_are_no_longer_counted() {
    let ((one, meter), (other, _other)) = (upload_to("h/app", "a", 1_000), upload_to("i/app", "a", 1_000));
    let given_up = || Event::TargetFailed { target: target_named("i/app"), reason: "no answer".into() };
    let (mut state, now) = state(2, vec![opened(), one.clone(), other]);
    meter.set(500, 250);
    assert!(line(&state, now).ends_with(", 0 of 2 uploads done, 25 % of 2.0 KiB"), "{}", line(&state, now));
    let entry = state.apply(given_up(), now).unwrap();
    assert_eq!(entry.text(), "i/app failed, the other targets continue: no answer");
    assert!(line(&state, now).ends_with(", 0 of 1 uploads done, 50 % of 1000 B"), "{}", line(&state, now));
    state.apply(uploaded("h/app", "a", 250), now);
    assert!(line(&state, now).starts_with("uploading the image config"));
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
    let (state, now) = state(1, vec![opened(), planned]);
    let mut bars = Bars::new(ProgressDrawTarget::hidden(), now);
    let mut read = |seconds| -> (String, Value) {
        let entry = beat(&mut bars, &state, now + Duration::from_secs(seconds));
        (entry.text(), serde_json::from_str(&entry.json(std::time::SystemTime::now())).unwrap())
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
    assert!(text.starts_with("4.9 KiB sent at ") && text.contains("/s, "), "{text}");
    assert!(text.ends_with(" left, 0 of 1 uploads done, 20 % of 97.7 KiB"), "{text}");
    assert_eq!((&json["event"], &json["percent"], &json["sent"]), (&"progress".into(), &20.into(), &5_000.into()));
    assert_eq!((&json["bytes"], &json["position"]), (&100_000.into(), &20_000.into()));
    assert_eq!((&json["layers"], &json["layers_arrived"]), (&1.into(), &0.into()));
    assert!(json["rate"].as_u64() > Some(0) && json["seconds_left"].as_u64() > Some(0), "{json}");
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
    let (state, now) = state(1, vec![planned]);
    let mut bars = Bars::new(ProgressDrawTarget::hidden(), now);
    beat(&mut bars, &state, now);
    meter.set(10_000, 5_000);
    let text = beat(&mut bars, &state, now).text();
    assert!(text.contains(" sent at ") && !text.contains("left"), "{text}");
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
