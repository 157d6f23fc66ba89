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

/// What a color marks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Tone {
    /// Done.
    Done,
    /// Still to come.
    Faint,
    /// A warning.
    Warning,
    /// A failure.
    Failure,
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

impl ColorMode {
    /// Colors a text.
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match (self, tone) {
            (Self::Plain, _) => return text.to_owned(),
            (Self::Colored, Tone::Done) => "32",
            (Self::Colored, Tone::Faint) => "2",
            (Self::Colored, Tone::Warning) => "33",
            (Self::Colored, Tone::Failure) => "1;31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

impl Style {
    /// Formats an entry, with its line end. Text is never wrapped: terminals and CI systems do that, and `grep` finds whole
    /// lines.
    pub(crate) fn line(self, entry: &Entry) -> String {
        match self.format {
            LogFormat::Json => entry.json(SystemTime::now()),
            LogFormat::Text => {
                let lines: Vec<String> = entry.text().lines().map(sanitize_line).collect();
                self.marked(&lines.join("\n"), "warning:", Tone::Warning) + "\n"
            }
        }
    }

    /// Colors the first word of an error's text.
    pub(crate) fn failure(self, text: &str) -> String {
        self.marked(text, "error:", Tone::Failure)
    }

    fn marked(self, text: &str, mark: &str, tone: Tone) -> String {
        let marked = text.strip_prefix(mark).map(|rest| format!("{}{rest}", self.color.paint(tone, mark)));
        marked.unwrap_or_else(|| text.to_owned())
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
