//! The rows at the foot of a terminal that change, below lines that stay.
//!
//! The cursor waits at the beginning of the first row. A terminal that breaks its lines anew when it gets narrower keeps the
//! cursor with that row, and one that does not keeps it there as well: so the next picture covers the last one whatever
//! became of it. It is never hidden: a program that is stopped or killed could not give it back.

use std::io::{self, Write as _};

use console::Term;

/// A terminal on stderr.
pub(super) struct Screen {
    terminal: Term,
    /// What stands there now.
    shown: Vec<String>,
    size: (usize, usize),
}

/// A terminal that has become narrower a moment ago cuts a row that is too long for it.
const CUT_LINES: &str = "\x1b[?7l";
const BREAK_LINES: &str = "\x1b[?7h";
const TO_END_OF_LINE: &str = "\x1b[K";
const TO_END_OF_SCREEN: &str = "\x1b[J";

/// Asks for a line on the terminal, which does not show what is typed.
///
/// # Errors
/// If the terminal cannot be read.
pub fn ask_secret(prompt: &str) -> io::Result<String> {
    let terminal = Term::stderr();
    terminal.write_str(prompt)?;
    terminal.read_secure_line()
}

impl Screen {
    /// Nothing is shown yet.
    pub(super) fn new() -> Self {
        let terminal = Term::stderr();
        // Asking turns on what these sequences need, where they are not a terminal's mother tongue.
        let _ = terminal.features().colors_supported();
        Self { terminal, shown: Vec::new(), size: (0, 0) }
    }

    /// Its columns and rows now.
    pub(super) fn size(&self) -> (usize, usize) {
        // One that does not say is taken for the smallest that was ever usual.
        let (rows, columns) = self.terminal.size_checked().filter(|size| size.0 > 0 && size.1 > 0).unwrap_or((24, 80));
        (columns.into(), rows.into())
    }

    /// Shows rows in place of those before, in one piece, unless nothing changed. They are narrower than the screen, and fewer
    /// than its rows.
    pub(super) fn show(&mut self, rows: Vec<String>, size: (usize, usize)) {
        if rows != self.shown || size != self.size {
            write(&picture(&rows));
            (self.shown, self.size) = (rows, size);
        }
    }

    /// Writes lines that stay above the rows.
    pub(super) fn say(&self, lines: &str) {
        let clear = if self.shown.is_empty() { String::new() } else { format!("\r{TO_END_OF_SCREEN}") };
        write(&format!("{clear}{lines}\n{}", picture(&self.shown)));
    }

    /// Takes the rows away. What is shown afterwards starts anew.
    pub(super) fn clear(&mut self) {
        if !std::mem::take(&mut self.shown).is_empty() {
            write(&format!("\r{TO_END_OF_SCREEN}"));
        }
    }
}

impl Drop for Screen {
    /// Whatever ends the program in good order, a panic too, leaves no rows behind.
    fn drop(&mut self) {
        self.clear();
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

/// Writes in one go, so that no half picture is ever seen.
fn write(text: &str) {
    let _closed_terminal = io::stderr().lock().write_all(text.as_bytes());
}
