//! The program on a terminal: a pty of a size that may change, and what is to be seen on it after every picture.

use std::fs::File;
use std::io::Read as _;
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::harness::wait_until;

/// Where a picture's rows begin, which a terminal cuts, and where it ends.
const BEGIN: &[u8] = b"\x1b[?7l";
const END: &[u8] = b"\x1b[?7h";

/// What is seen after a picture.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) columns: u16,
    /// The rows of the screen, without blanks at their ends.
    pub(crate) rows: Vec<String>,
    /// Where the cursor waits: the first row of the picture.
    top: usize,
    /// Whether a line of the picture continues in the next row.
    pub(crate) is_broken: bool,
    pub(crate) has_cursor: bool,
}

impl Frame {
    /// The rows that change.
    pub(crate) fn picture(&self) -> &[String] {
        let end = self.rows.iter().rposition(|row| !row.is_empty()).map_or(0, |last| last + 1);
        &self.rows[self.top.min(end)..end]
    }

    /// Whether a row that changes has this.
    pub(crate) fn shows(&self, part: &str) -> bool {
        self.picture().iter().any(|row| row.contains(part))
    }
}

struct Shared {
    parser: vt100::Parser,
    held: Vec<u8>,
    raw: Vec<u8>,
    frames: Vec<Frame>,
}

/// The program on a terminal. It is killed if the test loses interest.
pub(crate) struct Terminal {
    child: Child,
    ours: OwnedFd,
    shared: Arc<Mutex<Shared>>,
    reader: Option<JoinHandle<()>>,
}

/// What was seen in the end.
pub(crate) struct Seen {
    pub(crate) code: Option<i32>,
    /// All that is left in the end, also above the screen, without the breaks that the terminal made.
    pub(crate) text: String,
    /// The same as a terminal of so many columns breaks it.
    pub(crate) screen: String,
    pub(crate) frames: Vec<Frame>,
    pub(crate) raw: String,
}

/// Where stdout goes.
pub(crate) enum Stdout {
    /// To the terminal.
    Terminal,
    /// To a file.
    File(File),
}

impl Terminal {
    /// Starts a command on a terminal of so many columns and rows.
    pub(crate) fn start(mut command: Command, columns: u16, rows: u16, stdout: Stdout) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let path = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        let theirs = File::options().read(true).write(true).open(path).unwrap();
        tcsetwinsize(&ours, size(columns, rows)).unwrap();
        let stdout: Stdio = match stdout {
            Stdout::Terminal => theirs.try_clone().unwrap().into(),
            Stdout::File(file) => file.into(),
        };
        let child = command.stdin(Stdio::null()).stdout(stdout).stderr(theirs).spawn().unwrap();
        // It holds the other end, too, which has to be closed for the reader to come to an end.
        drop(command);
        let parser = vt100::Parser::new(number(rows), number(columns), 0);
        let shared = Shared { parser, held: Vec::new(), raw: Vec::new(), frames: Vec::new() };
        let shared = Arc::new(Mutex::new(shared));
        let (seen, mut from) = (Arc::clone(&shared), File::from(ours.try_clone().unwrap()));
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It ends with an error once the other end is closed.
            while let Ok(read @ 1..) = from.read(&mut bytes) {
                seen.lock().unwrap().take(&bytes[..read]);
            }
            seen.lock().unwrap().end();
        });
        Self { child, ours, shared, reader: Some(reader) }
    }

    /// Makes the terminal larger or smaller.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        let mut shared = self.shared();
        shared.parser.screen_mut().set_size(number(rows), number(columns));
        tcsetwinsize(&self.ours, size(columns, rows)).unwrap();
    }

    /// Waits for a picture, and returns it.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, is_it: impl Fn(&Frame) -> bool) -> Frame {
        let last = || self.shared().frames.last().cloned().filter(|frame| is_it(frame));
        wait_until(what, || last().is_some() || self.reader.as_ref().unwrap().is_finished());
        last().unwrap_or_else(|| panic!("never saw {what}; the last was {:#?}", self.shared().frames.last()))
    }

    /// Types something, which the terminal echoes.
    pub(crate) fn type_text(&self, text: &str) {
        rustix::io::write(&self.ours, text.as_bytes()).unwrap();
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
    }

    /// Whether the program has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) -> Seen {
        wait_until("the program ends", || self.has_ended());
        self.reader.take().unwrap().join().unwrap();
        let code = self.child.wait().unwrap().code();
        let shared = self.shared();
        let screen = shared.parser.screen();
        let mut scroll = vt100::Parser::new(number(300), number(200), 0);
        scroll.process(&shared.raw);
        let mut broken = vt100::Parser::new(number(300), screen.size().1, 0);
        broken.process(&shared.raw);
        let rows = broken.screen().rows(0, screen.size().1.get()).map(|row| row.trim_end().to_owned());
        Seen {
            code,
            text: scroll.screen().contents(),
            screen: rows.collect::<Vec<_>>().join("\n").trim_end().to_owned(),
            frames: shared.frames.clone(),
            raw: String::from_utf8(shared.raw.clone()).unwrap(),
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Shared {
    fn take(&mut self, bytes: &[u8]) {
        self.raw.extend_from_slice(bytes);
        self.held.extend_from_slice(bytes);
        while let Some(at) = find(&self.held, END) {
            let piece: Vec<u8> = self.held.drain(..at + END.len()).collect();
            let begin = find(&piece, BEGIN).unwrap_or(piece.len());
            let (_, columns) = self.parser.screen().size();
            self.parser.process(&piece[..begin]);
            self.parser.process(&cut(&piece[begin..], columns.get().into()));
            // Without rows it is none: they were removed, for lines above them.
            if find(&piece, b"\x1b[K").is_some() {
                self.frames.push(self.frame());
            }
        }
    }

    fn end(&mut self) {
        let rest = std::mem::take(&mut self.held);
        self.parser.process(&rest);
    }

    fn frame(&self) -> Frame {
        let screen = self.parser.screen();
        let (top, columns) = (screen.cursor_position().0, screen.size().1.get());
        let rows: Vec<String> = screen.rows(0, columns).map(|row| row.trim_end().to_owned()).collect();
        let is_broken = (top..screen.size().0.get()).any(|row| screen.row_wrapped(row));
        Frame { columns, rows, top: top.into(), is_broken, has_cursor: !screen.hide_cursor() }
    }
}

/// What a terminal that does not break lines makes of rows without colours that were drawn for a wider one.
fn cut(picture: &[u8], columns: usize) -> Vec<u8> {
    let text = std::str::from_utf8(picture).unwrap();
    let row = |row: &str| {
        let (shown, after) = row.split_once("\x1b[K").unwrap_or((row, ""));
        let (before, shown) = shown.rsplit_once('\r').unwrap_or(("", shown));
        let shown: String = shown.chars().take(columns).collect();
        format!("{before}\r{shown}\x1b[K{after}")
    };
    text.split('\n').map(row).collect::<Vec<_>>().join("\n").into_bytes()
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn number(size: u16) -> NonZeroU16 {
    NonZeroU16::new(size).unwrap()
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
