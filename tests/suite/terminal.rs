//! The output on a terminal: rows that do not move, whatever its size is and becomes, and three lines in the end.

use std::fs::File;
use std::time::Duration;

use ecr_push::sandbox::{Fault, Rules, Trouble};

use super::archive_builder;
use super::ecr::{Ecr, HOST, status};
use super::harness::wait_until;
use super::pty::{Frame, Stdout, Terminal};

/// A push of layers of these KiB on a terminal of that size, without colours.
fn start(ecr: &Ecr, layers: &[usize], (columns, rows): (u16, u16), options: &[&str]) -> Terminal {
    let command = command(ecr, layers, &[options, &["--limit-rate", "1M"]].concat());
    Terminal::start(command, columns, rows, Stdout::Terminal)
}

fn command(ecr: &Ecr, layers: &[usize], options: &[&str]) -> std::process::Command {
    let archive = ecr.env.scratch("image.tar");
    let layer =
        |(at, kib): (usize, &usize)| archive_builder::tar_of("noise", &archive_builder::noise(at as u64, kib << 10));
    archive_builder::docker_save(&archive, &layers.iter().enumerate().map(layer).collect::<Vec<_>>());
    let mut command = ecr.command(&[&[archive.as_str(), "team/app:1"], options].concat());
    command.env("TERM", "xterm").env("NO_COLOR", "1");
    command
}

/// The pictures in which all layers have their rows.
fn whole(frames: &[Frame], rows: usize) -> &[Frame] {
    let first = frames.iter().position(|frame| frame.shows("total") && frame.picture().len() == rows);
    &frames[first.expect("no picture has that many rows")..]
}

/// Asserts that rows fit, and stand still.
#[track_caller]
fn stand_still(frames: &[Frame]) {
    assert!(frames.len() > 5, "there were {} pictures only", frames.len());
    for frame in frames {
        assert!(!frame.is_broken, "{frame:#?}");
        assert!(frame.picture().iter().all(|row| row.chars().count() < frame.columns.into()), "{frame:#?}");
        assert_eq!(frame.picture().len(), frames[0].picture().len(), "{frame:#?}");
    }
}

/// The first words of the rows.
fn names(frame: &Frame) -> Vec<&str> {
    let rows = &frame.picture()[..frame.picture().len() - 1];
    rows.iter().map(|row| row.split(' ').next().unwrap()).collect()
}

#[test]
fn rows_stand_still_and_three_lines_are_left() {
    for size in [(40, 12), (80, 24), (200, 50)] {
        let ecr = Ecr::new();
        ecr.finish(command(&ecr, &[10, 300], &[])).succeeds();
        let seen = start(&ecr, &[10, 300, 500, 800], size, &["--tag", "b"]).end();
        assert_eq!(seen.code, Some(0), "{}", seen.text);
        let frames = whole(&seen.frames, 6);
        stand_still(frames);
        assert!(frames.iter().all(|frame| names(frame) == names(&frames[0])));
        // What need not be sent is shown as such at once.
        assert!(frames.iter().all(|frame| frame.picture().iter().filter(|row| row.ends_with("reused")).count() == 2));
        assert!(frames.iter().any(|frame| frame.shows("MiB/s") || frame.shows("KiB/s")));
        let lines: Vec<&str> = seen.text.trim_end().lines().collect();
        assert_eq!(lines.len(), 7, "{}", seen.text);
        assert!(lines[0].starts_with("note: AWS endpoints are overridden by 127.0.0.1:"));
        assert_eq!(lines[1], "made/up:1 (docker save archive, linux/amd64): 4 layers, 1.6 MiB");
        assert!(lines[2].starts_with("note: ") && lines[2].contains("team/app:1 moved from sha256:"));
        let pushed = format!("pushed {HOST}/team/app (1, b): 2 of 4 layers uploaded, 1.3 MiB sent; ");
        assert!(lines[3].starts_with(&pushed) && lines[3].ends_with(" s"), "{}", lines[3]);
        let saved = "saved compressing and sending 313.0 KiB of the archive: 2 reused; about ";
        assert!(lines[4].starts_with(saved), "{}", lines[4]);
        for (line, tag) in [(lines[5], "1"), (lines[6], "b")] {
            assert!(line.starts_with(&format!("{HOST}/team/app:{tag}@sha256:")), "{line}");
        }
    }
}

#[test]
fn layers_that_are_uploaded_have_rows_where_there_are_few() {
    let ecr = Ecr::new();
    let seen = start(&ecr, &[60; 30], (80, 12), &[]).end();
    assert_eq!(seen.code, Some(0), "{}", seen.text);
    let frames = whole(&seen.frames, 11);
    assert!(frames.len() > 5, "there were {} pictures only", frames.len());
    for frame in frames {
        let picture = frame.picture();
        assert!(!frame.is_broken && picture.len() < 12, "{frame:#?}");
        assert!(picture.last().unwrap().starts_with("00:00:0"), "{frame:#?}");
        // While all layers are being uploaded, the total is the last but one, and no layer that is done has a row.
        let others = &picture[..picture.len() - 1];
        assert!(others.iter().all(|row| row.ends_with(" %")), "{frame:#?}");
        assert!(others.last().is_none_or(|row| row.starts_with("total ")), "{frame:#?}");
    }
    let complete = |frame: &Frame| frame.shows(" of 30 uploads d");
    assert!(frames.iter().any(complete), "{:#?}", frames.last());
}

#[test]
fn a_terminal_of_almost_no_size_is_no_problem() {
    for size in [(1, 1), (20, 4)] {
        let ecr = Ecr::new();
        let seen = start(&ecr, &[300, 20], size, &[]).end();
        assert_eq!(seen.code, Some(0), "{}", seen.text);
        assert!(seen.frames.iter().all(|frame| !frame.is_broken && frame.picture().len() <= size.1.into()));
        assert!(seen.frames.iter().any(|frame| frame.shows("0")) && !seen.text.contains("panicked"), "{}", seen.text);
    }
}

#[test]
fn what_is_typed_leaves_no_row_behind() {
    let ecr = Ecr::new();
    let terminal = start(&ecr, &[900, 800], (80, 24), &[]);
    terminal.wait_for("bars", |frame| frame.shows("total"));
    terminal.type_text("^C");
    terminal.wait_for("bars again", |frame| frame.shows("total") && !frame.rows.iter().any(|row| row.contains("^C")));
    terminal.interrupt();
    let seen = terminal.end();
    assert_eq!(seen.code, Some(130));
    assert!(!seen.text.contains('[') && !seen.text.contains("total"), "{}", seen.text);
}

#[test]
fn a_terminal_that_changes_its_size_keeps_no_debris() {
    let ecr = Ecr::new();
    let terminal = start(&ecr, &[900, 800, 700, 600], (80, 24), &[]);
    let four = |frame: &Frame| frame.shows("total") && frame.picture().len() == 6;
    terminal.wait_for("all rows", four);
    for (columns, rows) in [(40, 24), (120, 24), (120, 7), (61, 30)] {
        terminal.resize(columns, rows);
        let frame = terminal.wait_for("rows of the new size", |frame| {
            let longest = frame.picture().iter().map(|row| row.chars().count()).max().unwrap_or_default();
            // A row drawn for the old size is cut at the margin or leaves more of it.
            frame.columns == columns && frame.picture().len() == 6 && longest < usize::from(columns) && fills(frame)
        });
        let all = frame.rows.join("\n");
        assert_eq!(all.matches("total").count(), 1, "{all}");
        assert_eq!(all.matches("made/up:1").count(), 1, "{all}");
        assert!(!frame.is_broken);
    }
    terminal.interrupt();
    let seen = terminal.end();
    assert!(!seen.text.contains("total"), "{}", seen.text);
}

/// Whether the rows are those of a screen like that, and not cut off.
fn fills(frame: &Frame) -> bool {
    let width = usize::from(frame.columns) - 1;
    frame.picture().iter().any(|row| row.starts_with("total") && row.ends_with(" %") && row.len() == width)
}

#[test]
fn ctrl_c_takes_the_rows_away() {
    let ecr = Ecr::new();
    let terminal = start(&ecr, &[900, 800], (80, 24), &[]);
    terminal.wait_for("bars", |frame| frame.shows("["));
    terminal.interrupt();
    let seen = terminal.end();
    assert_eq!(seen.code, Some(130));
    assert!(!seen.text.contains('['), "{}", seen.text);
    assert!(seen.text.contains("interrupted: closing upload sessions") && seen.text.contains("\nerror: interrupted\n"));
}

#[test]
fn the_cursor_is_there_at_any_moment_since_any_may_be_the_last() {
    let ecr = Ecr::new();
    let seen = start(&ecr, &[900, 800], (80, 24), &[]).end();
    assert_eq!(seen.code, Some(0), "{}", seen.text);
    assert!(seen.frames.iter().any(|frame| frame.shows("total")) && seen.frames.iter().all(|frame| frame.has_cursor));
}

#[test]
fn ctrl_c_twice_takes_the_rows_away_too() {
    let ecr = Ecr::faulty(&[Fault::once("ecr:UploadLayerPart", Trouble::Stall).times(9)]);
    let mut terminal = start(&ecr, &[900, 800], (80, 24), &[]);
    terminal.wait_for("bars", |frame| frame.shows("total"));
    terminal.interrupt();
    wait_until("it gives in", || {
        if !terminal.has_ended() {
            terminal.interrupt();
        }
        terminal.has_ended()
    });
    let seen = terminal.end();
    assert_eq!(seen.code, Some(130));
    assert!(!seen.text.contains("total"), "{}", seen.text);
}

#[test]
fn an_error_takes_the_rows_away() {
    let refusal = status(403, "DENIED", "not for you");
    let ecr = Ecr::faulty(&[Fault::once("ecr:PutImage", refusal).times(9)]);
    let seen = start(&ecr, &[900, 20], (80, 24), &[]).end();
    assert_eq!(seen.code, Some(3), "{}", seen.text);
    assert!(seen.frames.iter().any(|frame| frame.shows("total")));
    assert!(!seen.text.contains("total") && seen.text.contains("error: "), "{}", seen.text);
}

#[test]
fn a_pause_that_a_registry_asks_for_is_seen() {
    let pause = Trouble::Throttle { retry_after: Some(Duration::from_secs(3)) };
    let faults = vec![Fault::once("ecr:InitiateLayerUpload", pause)];
    let ecr = Ecr::with(&["team/app"], Rules { faults, ..Rules::default() });
    let seen = start(&ecr, &[20], (80, 24), &[]).end();
    assert_eq!(seen.code, Some(0), "{}", seen.text);
    let next = seen.frames.iter().find(|frame| frame.shows("00:00:01 retry 1 of 4 in 2 seconds: "));
    assert!(next.is_some(), "{:#?}", seen.frames.last());
    assert!(seen.text.contains("warning: ") && seen.text.contains(" in 3.0 s"), "{}", seen.text);
}

#[test]
fn an_archive_that_is_copied_is_seen() {
    let ecr = Ecr::new();
    let archive = ecr.env.scratch("image.tar");
    archive_builder::docker_save(&archive, &[archive_builder::tar_of("noise", &archive_builder::noise(1, 40 << 20))]);
    let mut command = ecr.command(&["-", "team/app:1", "--image", "made/up:1", "--limit-rate", "40M"]);
    command.env("TERM", "xterm").env("NO_COLOR", "1");
    // It comes through a pipe, and slowly.
    let mut outer = std::process::Command::new("sh");
    let script = "(head -c 20000000 \"$ARCHIVE\"; sleep 1; tail -c +20000001 \"$ARCHIVE\") | \"$0\" \"$@\"";
    outer.args(["-c", script]).arg(command.get_program()).args(command.get_args());
    outer.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    outer.env("ARCHIVE", &archive);
    let seen = Terminal::start(outer, 80, 24, Stdout::Terminal).end();
    assert_eq!(seen.code, Some(0), "{}", seen.text);
    let copied =
        |frame: &Frame| frame.picture().len() == 1 && frame.shows(" copying the archive to a temporary file: ");
    assert!(seen.frames.iter().any(copied), "{:#?}", seen.frames.last());
}

#[test]
fn colours_are_few_and_never_against_the_will() {
    for (name, value, has_colours) in [("NO_COLOR", "", true), ("NO_COLOR", "1", false)] {
        let ecr = Ecr::new();
        let mut command = command(&ecr, &[300, 20], &["--cache", ".", "--limit-rate", "1M"]);
        command.env(name, value);
        let seen = Terminal::start(command, 80, 24, Stdout::Terminal).end();
        assert_eq!(seen.raw.contains("\x1b[33mwarning:\x1b[0m the cache"), has_colours, "{}", seen.raw);
        assert_eq!(seen.raw.contains("\x1b[0m"), has_colours, "{}", seen.raw);
        assert!(seen.text.contains("warning: the cache cannot be read"), "{}", seen.text);
    }
}

#[test]
fn a_dumb_terminal_gets_lines() {
    for options in [&[][..], &["--progress", "bars"]] {
        let ecr = Ecr::new();
        let mut command = command(&ecr, &[30, 20], options);
        command.env("TERM", "dumb").env_remove("NO_COLOR");
        let seen = Terminal::start(command, 80, 24, Stdout::Terminal).end();
        assert_eq!(seen.code, Some(0));
        assert!(!seen.raw.contains('\x1b') && seen.text.contains("  sent"), "{}", seen.text);
    }
}

#[test]
fn a_stream_that_is_not_a_terminal_gets_lines_even_if_bars_are_requested() {
    let ecr = Ecr::new();
    let run = ecr.finish(command(&ecr, &[30, 20], &["--progress", "bars"])).succeeds();
    run.stderr_has(&["  upload: new", "  sent"]).output_has_none(&["\x1b"]);
}

#[test]
fn the_reference_is_on_the_terminal_wherever_stdout_goes() {
    let ecr = Ecr::new();
    let path = ecr.env.scratch("reference");
    let command = command(&ecr, &[30, 20], &[]);
    let seen = Terminal::start(command, 200, 24, Stdout::File(File::create(&path).unwrap())).end();
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written.starts_with(&format!("{HOST}/team/app:1@sha256:")) && written.lines().count() == 1);
    assert!(seen.text.ends_with(written.trim_end()), "{}", seen.text);
}
