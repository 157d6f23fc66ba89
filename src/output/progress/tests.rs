//! Boards made of events, and what is shown of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::board::Board;
use super::fit::width;
use super::flow::Pace;
use super::rows::{ColorMode, Places, rows};
use crate::compress::Meter;
use crate::output::log::{Entry, Level, LogFormat};
use crate::push::{Event, ImageSummary, Planned};

fn upload(layer: &str, bytes: u64) -> (Event, Arc<Meter>) {
    upload_to("h/app", layer, bytes)
}

fn upload_to(target: &str, layer: &str, bytes: u64) -> (Event, Arc<Meter>) {
    let meter = Arc::new(Meter::new(bytes));
    let action = Planned::Upload { why: "new".into(), meter: Arc::clone(&meter) };
    (Event::Planned { target: target.into(), layer: layer.into(), bytes, action }, meter)
}

fn reuse(target: &str, layer: &str, bytes: u64) -> Event {
    let action = Planned::Reuse("it is there".into());
    Event::Planned { target: target.into(), layer: layer.into(), bytes, action }
}

fn mount(layer: &str, bytes: u64) -> Event {
    let action = Planned::Mount("from h/base".into());
    Event::Planned { target: "h/app".into(), layer: layer.into(), bytes, action }
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

/// A board to which this happened, a second after its beginning.
fn board(targets: usize, events: Vec<Event>) -> (Board, Instant) {
    let start = Instant::now();
    let mut board = Board::new(targets, start);
    events.into_iter().for_each(|event| drop(board.take(event, start)));
    (board, start + Duration::from_secs(1))
}

fn picture(board: &Board, now: Instant, size: (usize, usize)) -> Vec<String> {
    rows(board, &mut Places::default(), size, now, ColorMode::Plain)
}

/// Layers in all states, of names that nobody would give them.
fn many() -> (Board, Instant, Vec<Arc<Meter>>) {
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
    let (board, now) = board(1, events);
    (board, now, meters)
}

#[test]
fn no_picture_is_wider_or_higher_than_the_screen() {
    let (board, now, meters) = many();
    for (at, meter) in meters.iter().enumerate() {
        meter.set(meter.total() / 10 * (at as u64 % 11), meter.total() / 20 * (at as u64 % 11));
    }
    for columns in 1..=200 {
        for height in [1, 2, 5, 6, 7, 12, 24, 43, 44, 45, 100] {
            let rows = picture(&board, now, (columns, height));
            assert!(rows.len() <= (height - 1).max(1), "{columns} x {height}: {rows:#?}");
            for row in &rows {
                assert!(width(row) < columns || columns == 1, "{columns} x {height}: {row:?}");
                assert!(!row.contains(|c: char| c.is_control()) && !row.contains("##"), "{row:?}");
            }
        }
    }
}

#[test]
fn a_screen_that_is_high_enough_has_a_row_for_each_layer() {
    let (board, now, _meters) = many();
    assert_eq!(picture(&board, now, (80, 43)).len(), 42);
    let folded = picture(&board, now, (80, 42));
    assert_eq!(folded.len(), 41);
    assert!(folded[0].ends_with("done") && folded[38].ends_with("to come"), "{folded:#?}");
}

#[test]
fn what_becomes_of_a_layer_is_said_in_words() {
    let (first, meter) = upload("sha256:0123456789ab", 1 << 20);
    let (second, _waits) = upload("sha256:cccccccccccc", 5 << 10);
    let events = vec![
        opened(),
        first,
        second,
        reuse("h/app", "sha256:dddddddddddd", 70),
        mount("sha256:eeeeeeeeeeee", 80),
        mount("sha256:ffffffffffff", 90),
        Event::Mounted { target: "h/app".into(), layer: "sha256:ffffffffffff".into(), bytes: 9 },
    ];
    let (mut board, now) = board(1, events);
    meter.set(1 << 19, 1 << 18);
    assert_eq!(
        picture(&board, now, (80, 24)),
        [
            "0123456789ab     1.0 MiB  [=============>              ]  50 %   256.0 KiB sent",
            "cccccccccccc     5.0 KiB  waits",
            "dddddddddddd        70 B  reused",
            "eeeeeeeeeeee        80 B  to be mounted",
            "ffffffffffff        90 B  mounted",
            "to send          1.0 MiB  [============>               ]  49 %   256.0 KiB sent",
            " 0:01  0 of 2 sent",
        ]
    );
    meter.set(1 << 20, 1 << 19);
    drop(board.take(Event::Arrived { meter, sent: 1 << 19 }, now));
    let rows = picture(&board, now, (40, 24));
    assert_eq!(rows[0], "0123456789ab     1.0 MiB  sent");
    assert_eq!(rows[5], "to send          1.0 MiB  [===> ]  99 %");
    assert_eq!(rows[6], " 0:01  1 of 2 sent");
}

#[test]
fn a_layer_has_one_row_for_all_targets() {
    let (first, one) = upload_to("h/app", "sha256:a", 100);
    let (second, two) = upload_to("h/other", "sha256:a", 100);
    let events = vec![opened(), first, second, reuse("h/app", "sha256:b", 70), reuse("h/other", "sha256:b", 70)];
    let (mut board, now) = board(2, events);
    one.set(100, 50);
    let rows = picture(&board, now, (80, 24));
    assert_eq!(rows.len(), 4, "{rows:#?}");
    assert!(rows[0].starts_with("a              100 B  [") && rows[0].contains("  50 %"), "{rows:#?}");
    assert_eq!(rows[1], "b               70 B  reused in 2");
    two.set(100, 50);
    for meter in [one, two] {
        drop(board.take(Event::Arrived { meter, sent: 50 }, now));
    }
    drop(board.take(reuse("h/third", "sha256:a", 100), now));
    assert!(picture(&board, now, (80, 24))[0].starts_with("a              100 B  sent to 2, reused in 1"));
}

/// The words of a heartbeat.
fn beat(board: &mut Board, now: Instant) -> String {
    board.beat(now).text()
}

#[test]
fn every_phase_has_words() {
    let (mut board, now) = board(1, Vec::new());
    let mut step = |event, expected: &str| {
        drop(board.take(event, now));
        assert_eq!(beat(&mut board, now + Duration::from_secs(5)), expected);
    };
    step(Event::Spooled(5 << 20), "5.0 MiB of the archive are in a temporary file (5 s)");
    step(Event::Looking("team/app:1".into()), "asking team/app:1 what is there already (5 s)");
    step(Event::Looking("team/other:1".into()), "asking 2 targets what is there already (5 s)");
    let (planned, meter) = upload("a", 100);
    step(planned, "  0 % of 100 B packed and sent as 0 B, 0 of 1 layers arrived");
    step(Event::Arrived { meter, sent: 9 }, "reading the archive (5 s)");
    step(opened(), "asking what is there already (5 s)");
    let (planned, meter) = upload("b", 100);
    drop(board.take(planned, now));
    drop(board.take(Event::Arrived { meter, sent: 9 }, now));
    assert_eq!(beat(&mut board, now), "putting the image's config (0 s)");
    drop(board.take(Event::Finishing("h/app".into()), now));
    assert_eq!(beat(&mut board, now), "putting the manifest into h/app (0 s)");
    board.end();
    assert_eq!(beat(&mut board, now), "interrupted: closing uploads");
}

#[test]
fn a_pause_is_told_while_nothing_moves() {
    let (planned, meter) = upload("a", 1_000);
    let (mut board, now) = board(1, vec![opened(), planned]);
    let waiting = Event::Waiting { why: "h: HTTP 429".into(), pause: Duration::from_secs(60), retry: 2, retries: 4 };
    assert_eq!(board.take(waiting, now).unwrap().text(), "warning: h: HTTP 429; retry 2 of 4 in 60.0 s");
    meter.set(100, 50);
    assert!(beat(&mut board, now).starts_with(" 10 % of 1000 B packed and sent as 50 B"), "another layer moves");
    assert_eq!(beat(&mut board, now + Duration::from_secs(10)), "h: HTTP 429; retry 2 of 4 in 50 s");
    assert!(beat(&mut board, now + Duration::from_secs(61)).starts_with(" 10 %"));
}

#[test]
fn what_a_target_was_to_get_that_is_given_up_is_no_longer_to_come() {
    let ((one, meter), (other, _other)) = (upload_to("h/app", "a", 1_000), upload_to("i/app", "a", 1_000));
    let given_up = || Event::GivenUp { target: "i/app".into(), why: "no answer".into() };
    let (mut board, now) = board(2, vec![opened(), one.clone(), other]);
    meter.set(500, 250);
    assert_eq!(picture(&board, now, (80, 24))[1].split_whitespace().nth(2), Some("2.0"), "to send to both");
    let entry = board.take(given_up(), now).unwrap();
    assert_eq!(entry.text(), "i/app is given up, the others go on: no answer");
    assert!(beat(&mut board, now).starts_with(" 50 % of 1000 B packed"), "{}", beat(&mut board, now));
    drop(board.take(Event::Arrived { meter, sent: 250 }, now));
    assert!(beat(&mut board, now).starts_with("putting the image's config"));
    // One alone says so itself.
    assert!(self::board(1, vec![opened(), one]).0.take(given_up(), now).is_none());
}

#[test]
fn a_reason_that_many_lanes_meet_is_told_once_while_it_holds() {
    let (mut board, now) = board(1, vec![opened()]);
    let mut level = |why: &str, seconds, at| {
        let waiting = Event::Waiting { why: why.into(), pause: Duration::from_secs(seconds), retry: 1, retries: 4 };
        board.take(waiting, now + Duration::from_secs(at)).unwrap().level()
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
    let (mut board, start) = board(1, vec![opened(), planned]);
    for second in 0..=10 {
        meter.set(second * 1_000, second * 500);
        board.look(start + Duration::from_secs(second));
    }
    assert!(board.pace.rate.is_some() && board.pace.left.is_some());
    board.pace = Pace { rate: Some(500), left: Some(Duration::from_secs(90)), stalled: None };
    let now = start + Duration::from_secs(10);
    let entry = board.beat(now);
    assert_eq!(
        entry.text(),
        " 10 % of 97.7 KiB packed and sent as 4.9 KiB at 500 B/s, 0 of 1 layers arrived, about 1 min 30 s left"
    );
    let read: serde_json::Value = serde_json::from_str(&entry.json(std::time::SystemTime::now())).unwrap();
    assert_eq!((&read["event"], &read["percent"], &read["rate"]), (&"progress".into(), &10.into(), &500.into()));
    assert_eq!((&read["seconds_left"], &read["sent"]), (&90.into(), &5_000.into()));
    assert_eq!(board.status(now)[1..], ["500 B/s", "about 1 min 30 s left", "0 of 1 sent"]);
}

#[test]
fn a_line_says_which_target_is_meant_where_there_are_several() {
    let (planned, _meter) = upload("a", 100);
    let text = |targets, event| Board::new(targets, Instant::now()).take(event, Instant::now()).unwrap().text();
    assert_eq!(text(2, planned.clone()), "layer a       100 B  upload to h/app: new");
    assert_eq!(text(1, planned), "layer a       100 B  upload: new");
    assert_eq!(text(2, reuse("h/app", "a", 7)), "layer a         7 B  reused in h/app: it is there");
    let mounted = Event::Mounted { target: "h/app".into(), layer: "a".into(), bytes: 7 };
    assert_eq!(text(2, mounted), "layer a         7 B  mounted in h/app");
}

#[test]
fn a_log_is_text_of_lines_that_fit_or_objects() {
    let style = super::Style {
        mode: super::Mode::Plain,
        verbosity: super::Verbosity::Normal,
        format: LogFormat::Text,
        color: ColorMode::Plain,
    };
    let entry = Entry::note("word ".repeat(50));
    assert!(style.line(&entry).lines().count() == 3 && style.line(&entry).lines().all(|line| line.len() <= 120));
    let bars = super::Style { mode: super::Mode::Bars, ..style };
    assert_eq!(bars.line(&entry).lines().count(), 1, "a terminal breaks lines itself");
    let objects = super::Style { format: LogFormat::Json, ..style };
    assert_eq!(objects.line(&entry).lines().count(), 1);
    assert_eq!(entry.level(), Level::Info);
    let coloured = super::Style { color: ColorMode::Colored, ..style };
    assert_eq!(coloured.failure("error: no\n  hint: x\n"), "\x1b[1;31merror:\x1b[0m no\n  hint: x\n");
    assert_eq!(coloured.line(&Entry::warning("x")), "\x1b[33mwarning:\x1b[0m x\n");
}
