//! Escapes values for the commands that CI systems find in a log.

use crate::output::log::replace_controls;

/// Escapes the message of one of Azure's logging commands.
pub(super) fn azure_message(text: &str) -> String {
    replace_controls(text).replace('%', "%AZP25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a property of one of Azure's logging commands.
pub(super) fn azure_property(text: &str) -> String {
    azure_message(text).replace(']', "%5D").replace(';', "%3B")
}

/// Escapes the message of one of GitHub's workflow commands.
pub(super) fn github(text: &str) -> String {
    replace_controls(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a value of one of TeamCity's service messages.
pub(super) fn teamcity(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '\n' => "|n".to_owned(),
        '\r' => "|r".to_owned(),
        '|' | '\'' | '[' | ']' => format!("|{c}"),
        c if !c.is_ascii() => format!("|0x{:04X}", u32::from(c)),
        c => c.to_string(),
    });
    escaped.collect()
}
