//! The appearance of everything on stderr.

use std::time::SystemTime;

use super::entry::Entry;
use super::sanitize::sanitize_line;

/// The format of the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verbosity {
    /// Events.
    Normal,
    /// Also explanations: `-v`.
    Details,
    /// Also every request: `-vv`.
    Requests,
}

/// How progress is displayed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    /// A bar a layer and a total.
    Bars,
    /// Lines.
    Plain,
    /// Not at all.
    Quiet,
}

/// Whether colors are used. They never carry meaning that words do not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ColorMode {
    /// A few.
    Colored,
    /// None.
    Plain,
}

/// The appearance of everything on stderr.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Style {
    /// How progress is displayed.
    pub mode: Mode,
    /// How much is logged.
    pub verbosity: Verbosity,
    /// The format of the log. Bars are for text only.
    pub format: LogFormat,
    /// Whether colors are used.
    pub color: ColorMode,
}

impl Style {
    /// Formats an entry, with its line end. Text is never wrapped: terminals and CI systems do that, and `grep` finds whole
    /// lines.
    pub(crate) fn line(self, entry: &Entry) -> String {
        match self.format {
            LogFormat::Json => entry.json(SystemTime::now()),
            LogFormat::Text => {
                let lines: Vec<String> = entry.text().lines().map(sanitize_line).collect();
                self.marked(&lines.join("\n"), "warning:", "33") + "\n"
            }
        }
    }

    /// Colors the first word of an error's text.
    pub(crate) fn failure(self, text: &str) -> String {
        self.marked(text, "error:", "1;31")
    }

    /// Colors the first word, if it is this one, with a code of ECMA-48.
    fn marked(self, text: &str, mark: &str, code: &str) -> String {
        match text.strip_prefix(mark) {
            Some(rest) if self.color == ColorMode::Colored => format!("\x1b[{code}m{mark}\x1b[0m{rest}"),
            _ => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::log::Level;

    #[test]
    fn an_entry_is_one_line() {
        let (mode, verbosity, color) = (Mode::Plain, Verbosity::Normal, ColorMode::Plain);
        let style = Style { mode, verbosity, format: LogFormat::Text, color };
        let entry = Entry::note("word ".repeat(50).trim_end());
        assert_eq!(style.line(&entry), format!("note: {}\n", "word ".repeat(50).trim_end()));
        let objects = Style { format: LogFormat::Json, ..style };
        assert_eq!(objects.line(&entry).lines().count(), 1);
        let colored = Style { color: ColorMode::Colored, ..style };
        assert_eq!(colored.failure("error: no\n  hint: x\n"), "\x1b[1;31merror:\x1b[0m no\n  hint: x\n");
        assert_eq!(colored.line(&Entry::new(Level::Warning, "warning", "x")), "\x1b[33mwarning:\x1b[0m x\n");
    }
}
