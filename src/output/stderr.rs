//! Writes to stderr, and asks on it.

use std::io::{self, Write as _};
use std::thread::sleep;
use std::time::Duration;

use console::Term;

/// Writes to stderr in one piece if that takes it. Whether it is still open does not matter: there is no other place to
/// report to.
pub(super) fn write(text: &str) {
    let (mut stderr, mut bytes) = (io::stderr().lock(), text.as_bytes());
    while !bytes.is_empty() {
        match stderr.write(bytes) {
            Ok(written @ 1..) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Another program made the terminal non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(Duration::from_millis(10)),
            Ok(0) | Err(_) => return,
        }
    }
}

/// Reads a line from the terminal without showing what is typed.
///
/// # Errors
/// If the terminal cannot be read.
pub(crate) fn ask_secret(prompt: &str) -> io::Result<String> {
    let terminal = Term::stderr();
    terminal.write_str(prompt)?;
    terminal.read_secure_line()
}
