//! The terminal that indicatif draws on.
//!
//! indicatif's own leaves the cursor behind the last row, at the right margin. The echo of Ctrl-C, or a terminal that becomes
//! narrower and reflows its lines, moves it away from the rows, and some of them are never removed. Here it waits at the
//! beginning of the first row, so the next rows always cover the last ones. It is never hidden: a program that is stopped
//! or killed could not restore it.

use std::io;
use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use console::Term;
use indicatif::TermLike;

use crate::output::stderr::write;

/// A terminal on stderr. Clones share what is to be drawn.
#[derive(Clone, Debug, Default)]
pub(super) struct Terminal(Arc<Mutex<Drawing>>);

#[derive(Debug, Default)]
pub(super) struct Drawing {
    /// What indicatif wrote since it last flushed: for each row its text, and the blanks up to the margin.
    writes: Vec<String>,
    /// Whether rows are being changed. indicatif draws after every change, and only the last drawing is worth writing.
    pub(super) is_unfinished: bool,
}

impl Terminal {
    pub(super) fn lock(&self) -> MutexGuard<'_, Drawing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        // Narrower terminals cut the rows, and wider ones gain nothing by longer bars.
        Term::stderr().size().1.saturating_sub(1).clamp(32, 120)
    }

    fn height(&self) -> u16 {
        // There are never more rows than the terminal has, and none is broken into two.
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
        self.lock().writes.push(text.to_owned());
        Ok(())
    }

    /// Writes the rows in one piece. A terminal that has just become narrower cuts them.
    fn flush(&self) -> io::Result<()> {
        let mut drawing = self.lock();
        let writes = take(&mut drawing.writes);
        let rows: Vec<String> = writes.iter().step_by(2).map(|row| format!("\r{}\x1b[K", row.trim_end())).collect();
        match rows.len() {
            _ if drawing.is_unfinished => {}
            0 => write("\r\x1b[J"),
            1 => write(&format!("\x1b[?7l{}\x1b[J\r\x1b[?7h", rows[0])),
            count => write(&format!("\x1b[?7l{}\x1b[J\r\x1b[{}A\x1b[?7h", rows.join("\n"), count - 1)),
        }
        Ok(())
    }
}
