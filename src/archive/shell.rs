//! Quoting for command lines that users paste into a shell.

use crate::error::shown;

/// Quotes a path or text from an archive for a shell.
pub(super) fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+=:,@%".contains(&byte);
    let text = shown(text);
    if text.bytes().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
