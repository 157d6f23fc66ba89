//! Rows as terminals of many sizes show them.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use indicatif::{ProgressDrawTarget, TermLike};

use super::Rows;
use crate::output::log::PushStatus;
use crate::output::log::fixtures::{
    layer_named, many, mount, opened, reuse, status, target_named, upload, upload_to, uploaded,
};
use crate::push::Event;

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

/// A terminal of this size with the rows of a push.
fn terminal(columns: u16, height: usize) -> impl FnMut(&PushStatus) -> Vec<String> {
    let canvas = Canvas(columns, Arc::default());
    let mut rows = Rows::on(ProgressDrawTarget::term_like(Box::new(canvas.clone())));
    move |push| {
        let now = Instant::now();
        rows.update(&push.clone().measured(now), now, height);
        canvas.1.lock().unwrap().1.clone()
    }
}

/// The rows as a terminal of this size shows them.
fn picture(push: &PushStatus, columns: u16, height: usize) -> Vec<String> {
    terminal(columns, height)(push)
}

#[test]
fn no_row_is_wider_than_the_terminal_and_no_picture_higher() {
    let (push, meters) = many();
    for (at, meter) in meters.iter().enumerate() {
        meter.set(meter.total() / 10 * (at as u64 % 11), meter.total() / 20 * (at as u64 % 11));
    }
    for columns in [32, 38, 40, 64, 80, 119, 120] {
        for height in [1, 2, 3, 4, 5, 6, 7, 12, 24, 42, 43, 44, 100] {
            let rows = picture(&push, columns, height);
            assert!(rows.len() <= (height - 1).max(1), "{columns} x {height}: {rows:#?}");
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
    let (push, meters) = many();
    assert_eq!(picture(&push, 80, 43).len(), 42);
    let shown = |height| picture(&push, 80, height);
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
        reuse("i/app", "sha256:dddddddddddd", 70),
        mount("sha256:eeeeeeeeeeee", 80),
        mount("sha256:ffffffffffff", 90),
        Event::LayerMounted { target: target_named("h/app"), layer: layer_named("sha256:ffffffffffff"), bytes: 9 },
    ];
    let (mut push, now) = status(2, events);
    meter.set(1 << 19, 1 << 18);
    let mut rows = terminal(80, 24);
    let shown = rows(&push);
    assert_eq!(
        shown[..6],
        [
            "0123456789ab   1.00 MiB [========================>                       ]  50 %",
            "cccccccccccc   5.00 KiB [                                                ]   0 %",
            "dddddddddddd       70 B reused",
            "eeeeeeeeeeee       80 B to be mounted",
            "ffffffffffff       90 B mounted",
            "total          1.00 MiB [=======================>                        ]  50 %",
        ]
    );
    assert!(shown[6].starts_with("00:00:00 256.0 KiB sent, 0 of 2 uploads done, 49 %"), "{}", shown[6]);
    push.apply(Event::TargetFailed { target: target_named("i/app"), reason: "no answer".into() }, now);
    meter.set(1 << 20, 1 << 19);
    push.apply(uploaded("h/app", "sha256:0123456789ab", 1 << 19), now);
    let shown = rows(&push);
    assert_eq!((shown.len(), shown[0].as_str()), (6, "0123456789ab   1.00 MiB sent 512.0 KiB"));
    assert!(shown[5].contains(", 1 of 2 uploads done"), "{}", shown[5]);
    let narrow = picture(&push, 39, 24);
    assert_eq!(narrow[4], "total          1.00 MiB [======>] 100 %");
    assert!(narrow[5].starts_with("00:00:00 512.0 KiB sent, 1 of "), "{}", narrow[5]);
    push.apply(uploaded("h/app", "sha256:cccccccccccc", 9), now);
    push.apply(Event::Publishing { target: target_named("h/app") }, now);
    assert_eq!(rows(&push)[5], "00:00:00 uploading the manifest to h/app (0 s)");
}

#[test]
fn a_layer_has_one_row_for_all_targets() {
    let (first, one) = upload_to("h/app", "sha256:a", 100);
    let (second, two) = upload_to("h/other", "sha256:a", 100);
    let events = vec![opened(), first, reuse("h/app", "sha256:b", 70), second, reuse("h/other", "sha256:b", 70)];
    let (mut push, now) = status(2, events);
    one.set(100, 50);
    let rows = picture(&push, 80, 24);
    assert_eq!(rows.len(), 4, "{rows:#?}");
    assert!(rows[0].starts_with("a                 100 B [") && rows[0].ends_with("  50 %"), "{rows:#?}");
    assert_eq!(rows[1], "b                  70 B reused");
    two.set(100, 60);
    for target in ["h/app", "h/other"] {
        push.apply(uploaded(target, "sha256:a", 50), now);
    }
    push.apply(reuse("h/third", "sha256:a", 100), now);
    assert_eq!(picture(&push, 80, 24)[0], "a                 100 B sent 50 B, sent 60 B, reused");
}
