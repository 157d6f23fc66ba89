//! Draws the pictures of the documentation, with `DOCS_UPDATE=pictures`: what a terminal shows during a push, and a timeline.

use std::fmt::Write as _;
use std::num::NonZeroU16;
use std::process::Command;

use ecr_push::sandbox::{BlobMounting, Fault, Interrupted, Rules, Trouble};
use vt100::{Cell, Color, Parser, Screen};
use xmlparser::Tokenizer;

use super::archive_builder;
use super::ecr::Ecr;
use super::markdown::{check_file, root};
use super::pty::{Stdout, Terminal};
use super::timeline_page::screenshot;

const COLUMNS: u16 = 96;
const ROWS: u16 = 24;
const PROGRESS: &str = "docs/images/progress.svg";
const TIMELINE: &str = "docs/images/timeline.png";

/// The sizes of the layers in KiB. Some layers exist in the target's repository, one in another.
const LAYERS: [usize; 7] = [24 << 10, 8 << 10, 6 << 10, 4 << 10, 2 << 10, 300, 40];

/// Starts a registry, and returns a push that uploads, reuses and mounts layers.
fn push(options: &[&str], faults: Vec<Fault>) -> (Ecr, Command) {
    let (blob_mounting, interrupted) = (BlobMounting::Enabled, Interrupted::Resumable);
    let ecr = Ecr::with(&["team/base", "team/app"], Rules { blob_mounting, interrupted, ..Rules::default() });
    std::fs::create_dir_all(root().join("docs/images")).unwrap();
    let folder = ecr.env.scratch("build");
    std::fs::create_dir(&folder).unwrap();
    let archive = |of: &[usize]| {
        let layer = |at: &usize| {
            let text = archive_builder::noise(*at as u64, LAYERS[*at] << 9);
            archive_builder::tar_of("content", &[text.as_slice(), &vec![b'.'; LAYERS[*at] << 9]].concat())
        };
        let path = format!("{folder}/image.tar");
        archive_builder::docker_save(&path, &of.iter().map(layer).collect::<Vec<_>>());
        name_image(&path);
    };
    let command = |target: &str, options: &[&str]| {
        let mut command = ecr.command(&[&["image.tar", target], options].concat());
        command.current_dir(&folder);
        command
    };
    for (layers, target) in [(&[3, 6][..], "team/app:latest"), (&[4], "team/base:1")] {
        archive(layers);
        ecr.finish(command(target, &["--reuse", "off"])).succeeds();
    }
    archive(&[0, 1, 2, 3, 4, 5, 6]);
    ecr.set_rules(|rules| rules.faults = faults);
    let cache = ecr.env.scratch("no-cache.jsonl");
    let usual = ["--reuse-from", "latest", "--mount-from", "team/base:1", "--cache", &cache];
    let command = command("team/app:1.4.2", &[&usual[..], options].concat());
    (ecr, command)
}

/// Gives the image of the test archive a name that readers expect.
fn name_image(path: &str) {
    let mut archive = std::fs::read(path).unwrap();
    let (before, after) = (b"made/up:1", b"app:1.4.2");
    let at = archive.windows(before.len()).rposition(|bytes| bytes == before).unwrap();
    archive[at..][..after.len()].copy_from_slice(after);
    std::fs::write(path, archive).unwrap();
}

/// Returns the screens that a terminal shows, one for each frame: a frame is complete when the cursor goes up for the next one.
fn screens(raw: &str) -> Vec<Screen> {
    let size = |size| NonZeroU16::new(size).unwrap();
    let mut parser = Parser::new(size(ROWS), size(COLUMNS), 0);
    let mut found = Vec::new();
    let mut rest = raw;
    while let Some(at) = next_cursor_up(rest) {
        parser.process(&rest.as_bytes()[..at]);
        found.push(parser.screen().clone());
        let (up, behind) = rest[at..].split_at(rest[at..].find('A').unwrap() + 1);
        parser.process(up.as_bytes());
        rest = behind;
    }
    found
}

fn next_cursor_up(text: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + text[from..].find("\x1b[")?;
        let digits = text[at + 2..].chars().take_while(char::is_ascii_digit).count();
        if text[at + 2 + digits..].starts_with('A') {
            return Some(at);
        }
        from = at + 2;
    }
}

/// Draws the rows of a screen that have text, without those about the test environment.
fn svg(screen: &Screen) -> String {
    const WIDTH: f64 = 8.4;
    const HEIGHT: usize = 20;
    let text: Vec<String> = screen.rows(0, COLUMNS).map(|row| row.trim_end().to_owned()).collect();
    let is_shown = |row: &String| !row.is_empty() && !row.contains("127.0.0.1") && !row.contains("REGISTRY_ENDPOINT");
    let shown: Vec<u16> = (0..ROWS).filter(|row| is_shown(&text[usize::from(*row)])).collect();
    let width = f64::from(COLUMNS) * WIDTH + 32.0;
    let height = (shown.len() + 1) * HEIGHT + 32;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height}\" width=\"{width:.0}\" height=\"{height}\" \
         role=\"img\" aria-label=\"Progress of a push\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#0d1117\"/>\n\
         <g font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace\" font-size=\"14\" \
         fill=\"#e6edf3\" xml:space=\"preserve\">\n<text x=\"16\" y=\"34\" fill=\"#8b949e\">\
         $ ecr-push image.tar team/app:1.4.2 --reuse-from latest --mount-from team/base:1</text>\n"
    );
    for (at, row) in shown.iter().enumerate() {
        let y = 34 + (at + 1) * HEIGHT;
        for (column, text, style) in runs(screen, *row) {
            let x = 16.0 + f64::from(column) * WIDTH;
            let length = text.chars().count() as f64 * WIDTH;
            let text = text.replace('&', "&amp;").replace('<', "&lt;");
            let text = format!("<text x=\"{x:.1}\" y=\"{y}\" textLength=\"{length:.1}\"{style}>{text}</text>");
            writeln!(out, "{text}").unwrap();
        }
    }
    out + "</g>\n</svg>\n"
}

/// Returns the parts of a row that have one style, without blanks around them.
fn runs(screen: &Screen, row: u16) -> Vec<(u16, String, String)> {
    let mut found: Vec<(u16, String, String)> = Vec::new();
    let mut end = 0;
    for column in 0..COLUMNS {
        let Some(cell) = screen.cell(row, column).filter(|cell| !cell.contents().trim().is_empty()) else { continue };
        let style = style(cell);
        match found.last_mut() {
            Some((_, text, last)) if *last == style && column - end < 2 => {
                text.extend(std::iter::repeat_n(' ', (column - end).into()));
                text.push_str(cell.contents());
            }
            _ => found.push((column, cell.contents().to_owned(), style)),
        }
        end = column + 1;
    }
    found
}

fn style(cell: &Cell) -> String {
    const COLORS: [&str; 8] = ["#484f58", "#ff7b72", "#3fb950", "#d29922", "#58a6ff", "#bc8cff", "#39c5cf", "#b1bac4"];
    let mut style = match cell.fgcolor() {
        Color::Idx(color) => format!(" fill=\"{}\"", COLORS[usize::from(color) % 8]),
        Color::Rgb(red, green, blue) => format!(" fill=\"#{red:02x}{green:02x}{blue:02x}\""),
        Color::Default => String::new(),
    };
    if cell.bold() {
        style += " font-weight=\"600\"";
    }
    if cell.dim() {
        style += " opacity=\"0.6\"";
    }
    style
}

/// Returns whether the pictures are to be drawn. They show times, so they differ after each run.
fn is_drawn() -> bool {
    std::env::var_os("DOCS_UPDATE").is_some_and(|value| value == "pictures")
}

#[test]
fn the_picture_of_the_progress_is_drawn_by_the_program() {
    if is_drawn() {
        let (ecr, mut command) = push(&["--limit-rate", "3M"], Vec::new());
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        let seen = Terminal::start(command, COLUMNS, ROWS, Stdout::Terminal).end();
        assert_eq!(seen.code, Some(0), "{}", seen.text);
        let screens = screens(&seen.raw);
        // Among the screens with the most rows that show some progress, an early one.
        let is_started = |row: &String| row.contains("[=") || row.contains(" sent ");
        let bars = |screen: &Screen| screen.rows(0, COLUMNS).filter(is_started).count();
        let most = screens.iter().map(bars).max().unwrap();
        let best: Vec<&Screen> = screens.iter().filter(|screen| bars(screen) == most).collect();
        check_file(PROGRESS, &svg(best[best.len() / 4]));
        drop(ecr);
    }
    let picture = std::fs::read_to_string(root().join(PROGRESS)).unwrap();
    assert!(Tokenizer::from(picture.as_str()).all(|token| token.is_ok()), "{PROGRESS} is not well-formed");
    assert!(picture.contains('%') && picture.matches("<text").count() > 20, "{PROGRESS} has no rows");
}

#[test]
fn the_picture_of_the_timeline_is_drawn_by_the_program() {
    if is_drawn() {
        let faults = vec![Fault::once("ecr:UploadLayerPart", Trouble::Throttle { retry_after: None }).after(2)];
        let (ecr, mut command) = push(&["--timeline", "timeline.html", "--limit-rate", "20M"], faults);
        command.arg("--chunk-size").arg("5M");
        ecr.finish(command).succeeds();
        let page = ecr.env.scratch("build/timeline.html");
        if screenshot(&page, (1200, 960), "--blink-settings=preferredColorScheme=1").is_none() {
            return;
        }
        std::fs::copy(format!("{page}.png"), root().join(TIMELINE)).unwrap();
    }
    let picture = std::fs::read(root().join(TIMELINE)).unwrap();
    assert!(picture.starts_with(b"\x89PNG") && picture.len() > 10_000);
}
