//! Text in a command line that users paste into a shell.

use crate::error::shown;

/// Returns text from an archive, or a path, as a shell takes it.
pub(super) fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+=:,@%".contains(&byte);
    let text = shown(text);
    if text.bytes().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
