//! A line of the log: text for people, or JSON for programs.

mod text;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::Error;
pub use text::{WIDTH, escape_controls, replace_controls, sanitize, sanitize_line, wrapped};

/// A moment in UTC, to the millisecond: `1994-11-06T08:49:37.000Z`.
pub fn rfc3339(time: std::time::SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// Seconds with three decimals: more would be noise.
pub fn millis(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// An object a line.
    Json,
}

/// How much somebody should care.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For those who want to know more.
    Debug,
    /// What happens.
    Info,
    /// It may not be what was wanted.
    Warning,
    /// It failed.
    Error,
}

/// Something that is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    level: Level,
    event: &'static str,
    message: String,
    data: Map<String, Value>,
}

/// What every object has, in front of the data.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    level: Level,
    event: &'static str,
    message: &'a str,
    #[serde(flatten)]
    data: &'a Map<String, Value>,
}

impl Entry {
    /// Something of the name `event`, in one line of words.
    pub fn new(level: Level, event: &'static str, message: impl Into<String>) -> Self {
        Self { level, event, message: message.into(), data: Map::new() }
    }

    /// Something that happens.
    pub fn info(event: &'static str, message: impl Into<String>) -> Self {
        Self::new(Level::Info, event, message)
    }

    /// Something worth a line.
    pub fn note(message: impl Into<String>) -> Self {
        Self::new(Level::Info, "note", message)
    }

    /// Something that may not be what was wanted.
    pub fn warning(message: impl Into<String>) -> Self {
        Self::new(Level::Warning, "warning", message)
    }

    /// A failure, with all that is known of it.
    pub fn error(error: &Error) -> Self {
        Self::new(Level::Error, "error", error.to_string())
            .with("kind", error.kind().name())
            .with("code", error.stable_code().name())
            .with("causes", error.causes())
            .with("hint", error.advice().map(ToString::to_string))
            .with("commands", error.advice().map(|advice| advice.commands().to_vec()).unwrap_or_default())
            .with("exit_code", error.kind().exit_code())
    }

    /// Adds what programs want to know. Fractions are of seconds.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        let fraction = value.as_f64().filter(|_| value.is_f64());
        self.data.insert(key.to_owned(), fraction.map_or(value, |seconds| millis(seconds).into()));
        self
    }

    /// How much somebody should care.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The words, as one line of text has them.
    pub fn text(&self) -> String {
        match (self.event, self.level) {
            ("note", _) => format!("note: {}", self.message),
            (_, Level::Warning) => format!("warning: {}", self.message),
            (_, Level::Error) => format!("error: {}", self.message),
            _ => self.message.clone(),
        }
    }

    /// The object, in a line that ends. No part of it is a command to a CI system: text is escaped in JSON's own way.
    pub fn json(&self, time: std::time::SystemTime) -> String {
        let Self { level, event, message, data } = self;
        let line = Line { time: rfc3339(time), level: *level, event, message: message.trim(), data };
        // Keys are text and all values are JSON's. Were that untrue, the line would say so.
        let text = serde_json::to_string(&line).unwrap_or_else(|error| {
            let message = format!("cannot write a line of the log: {error}");
            serde_json::json!({"level": Level::Error, "event": "internal", "message": message}).to_string()
        });
        escape_controls(&text).replace("##", "#\\u0023") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn an_object_has_all_that_the_text_has_and_the_data() {
        let entry = Entry::warning("a \"b\"\n##vso[x]\u{1b}")
            .with("layer", "c")
            .with("bytes", 7)
            .with("seconds", 1.890_901_029);
        assert_eq!(
            entry.json(SystemTime::UNIX_EPOCH + Duration::from_millis(1_500)),
            "{\"time\":\"1970-01-01T00:00:01.500Z\",\"level\":\"warning\",\"event\":\"warning\",\
             \"message\":\"a \\\"b\\\"\\n#\\u0023vso[x]\\u001b\",\"bytes\":7,\"layer\":\"c\",\"seconds\":1.891}\n"
        );
        let read: Value = serde_json::from_str(&entry.json(SystemTime::now())).unwrap();
        assert_eq!(read["message"], "a \"b\"\n##vso[x]\u{1b}");
    }

    #[test]
    fn an_error_is_whole() {
        let error = Error::usage("no").because(Error::input("why")).hint("do");
        let read: Value = serde_json::from_str(&Entry::error(&error).json(SystemTime::now())).unwrap();
        assert_eq!(
            (&read["level"], &read["event"], &read["message"]),
            (&"error".into(), &"error".into(), &"no".into())
        );
        assert_eq!(
            (&read["kind"], &read["causes"][0], &read["hint"], &read["exit_code"]),
            (&"usage".into(), &"why".into(), &"do".into(), &2.into())
        );
    }
}
