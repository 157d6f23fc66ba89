//! The rows at the bottom of a terminal that change, below lines that stay.
//!
//! The cursor waits at the beginning of the first row. A terminal that reflows its lines when it gets narrower keeps the
//! cursor with that row, and one that does not keeps it there as well, so the next rows always cover the last ones. The
//! cursor is never hidden: a program that is stopped or killed could not restore it.

use std::io;

use console::Term;

use crate::output::stderr::write;

/// A terminal on stderr.
pub(super) struct Screen {
    terminal: Term,
    /// What it shows now.
    rows: Vec<String>,
    size: (usize, usize),
}

/// A terminal that has just become narrower cuts rows that are too long for it.
const CUT_LINES: &str = "\x1b[?7l";
const BREAK_LINES: &str = "\x1b[?7h";
const TO_END_OF_LINE: &str = "\x1b[K";
const TO_END_OF_SCREEN: &str = "\x1b[J";

/// Reads a line from the terminal without showing what is typed.
///
/// # Errors
/// If the terminal cannot be read.
pub(crate) fn ask_secret(prompt: &str) -> io::Result<String> {
    let terminal = Term::stderr();
    terminal.write_str(prompt)?;
    terminal.read_secure_line()
}

impl Screen {
    pub(super) fn new() -> Self {
        let terminal = Term::stderr();
        // On Windows this query turns on support for escape sequences.
        let _ = terminal.features().colors_supported();
        Self { terminal, rows: Vec::new(), size: (0, 0) }
    }

    /// Its columns and rows now; where they are not known, 80 and 24.
    pub(super) fn size(&self) -> (usize, usize) {
        let (rows, columns) = self.terminal.size_checked().filter(|size| size.0 > 0 && size.1 > 0).unwrap_or((24, 80));
        (columns.into(), rows.into())
    }

    /// Replaces the rows, unless nothing changed. They must be narrower than the terminal, and fewer than its rows.
    pub(super) fn show(&mut self, rows: Vec<String>, size: (usize, usize)) {
        if rows != self.rows || size != self.size {
            write(&picture(&rows));
            (self.rows, self.size) = (rows, size);
        }
    }

    /// Writes lines above the rows, or wherever stderr leads if there are none.
    pub(super) fn print(&self, lines: &str) {
        match self.rows.is_empty() {
            true => write(lines),
            false => write(&format!("\r{TO_END_OF_SCREEN}{lines}{}", picture(&self.rows))),
        }
    }

    /// Removes the rows.
    pub(super) fn clear(&mut self) {
        if !std::mem::take(&mut self.rows).is_empty() {
            write(&format!("\r{TO_END_OF_SCREEN}"));
        }
    }
}

/// The rows, from the beginning of the first and back to it.
fn picture(rows: &[String]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let lines: Vec<String> = rows.iter().map(|row| format!("\r{row}{TO_END_OF_LINE}")).collect();
    let up = if rows.len() > 1 { format!("\x1b[{}A", rows.len() - 1) } else { String::new() };
    format!("{CUT_LINES}{}{TO_END_OF_SCREEN}\r{up}{BREAK_LINES}", lines.join("\n"))
}
