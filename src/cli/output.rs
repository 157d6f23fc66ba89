//! What stderr looks like.

use std::ffi::OsString;

use clap::ValueEnum;

use crate::log::Format;

/// How stderr is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people
    #[default]
    Text,
    /// An object a line, for programs
    Json,
}

impl From<LogFormat> for Format {
    fn from(argument: LogFormat) -> Self {
        match argument {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Show {
    /// Rows on a terminal, lines elsewhere
    Auto,
    /// Rows, if it is a terminal
    Bars,
    /// Lines
    Plain,
    /// Nothing
    None,
}

/// How stderr is to be written, as far as the arguments of a push say so, whatever else is wrong with them.
pub fn log_format(arguments: &[OsString], environment: &dyn Fn(&str) -> Option<OsString>) -> Format {
    let words: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    let is_verb = |first: &str| first != "push" && super::command().find_subcommand(first).is_some();
    if words.first().is_some_and(|first| is_verb(first)) {
        return Format::Text;
    }
    let mut named = None;
    for (at, word) in words.iter().take_while(|word| *word != "--").enumerate() {
        let Some(value) = word.strip_prefix("--log-format") else { continue };
        let next = words.get(at + 1).map(|next| next.to_string());
        named = if value.is_empty() { next } else { value.strip_prefix('=').map(str::to_owned) };
    }
    let named = named.or_else(|| Some(environment("ECR_PUSH_LOG_FORMAT")?.to_string_lossy().into_owned()));
    if named.as_deref() == Some("json") { Format::Json } else { Format::Text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(arguments: &[&str], variable: &str) -> Format {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        log_format(&arguments, &|name| (name == "ECR_PUSH_LOG_FORMAT").then(|| variable.into()))
    }

    #[test]
    fn the_format_is_known_whatever_else_is_wrong() {
        let objects: [&[&str]; 4] = [
            &["a.tar", "--log-format", "json", "--nonsense"],
            &["push", "--log-format=json"],
            &["--log-format=text", "--log-format", "json"],
            &["--image", "-x", "--log-format=json"],
        ];
        objects.iter().for_each(|arguments| assert_eq!(format(arguments, ""), Format::Json, "{arguments:?}"));
        assert_eq!(format(&["a.tar"], "json"), Format::Json);
        let text: [&[&str]; 6] = [
            &["a.tar", "--log-format"],
            &["--log-format=text"],
            &["--log-format", "json", "--log-format", "text"],
            &["--", "--log-format=json"],
            &["--log-formats=json"],
            &["inspect", "--log-format=json"],
        ];
        text.iter().for_each(|arguments| assert_eq!(format(arguments, ""), Format::Text, "{arguments:?}"));
        assert_eq!(format(&["a.tar", "--log-format=text"], "json"), Format::Text);
        assert_eq!(format(&["inspect", "a.tar"], "json"), Format::Text);
    }
}
