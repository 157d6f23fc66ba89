//! One line of the log: text for people, or JSON for programs.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value};

use super::sanitize::escape_controls;
use crate::error::Error;
use crate::push::round_seconds;

/// Formats a time in UTC, to the millisecond: `1994-11-06T08:49:37.000Z`.
pub(crate) fn rfc3339(time: std::time::SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// The severity of an entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Shown with `-v` or `-vv` only.
    Debug,
    /// Normal operation.
    Info,
    /// The result may not be the intended one.
    Warning,
    /// A failure.
    Error,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    level: Level,
    event: Cow<'static, str>,
    message: String,
    data: Map<String, Value>,
}

/// An error for programs.
#[derive(Serialize)]
pub(crate) struct Failure {
    kind: &'static str,
    code: &'static str,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    commands: Vec<String>,
    exit_code: u8,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self {
            kind: error.kind().name(),
            code: error.stable_code().name(),
            message: error.to_string(),
            causes: error.causes(),
            hint: error.advice().map(ToString::to_string),
            commands: error.advice().map(|advice| advice.commands().to_vec()).unwrap_or_default(),
            exit_code: error.kind().exit_code(),
        }
    }
}

/// The JSON object of an entry: what all have in common, then the data.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    level: Level,
    event: &'a str,
    message: &'a str,
    #[serde(flatten)]
    data: &'a Map<String, Value>,
}

impl Entry {
    /// Creates an entry of the type `event` with a message of one line.
    pub(crate) fn new(level: Level, event: &'static str, message: impl Into<String>) -> Self {
        Self { level, event: event.into(), message: message.into(), data: Map::new() }
    }

    /// Creates the entry of an event, whose type is the key `event` of its JSON.
    pub(super) fn serialized(level: Level, message: String, event: &impl Serialize) -> Self {
        let mut data = keys(event);
        let event = match data.remove("event") {
            Some(Value::String(event)) => event.into(),
            _ => "internal".into(),
        };
        Self { level, event, message, data }
    }

    /// Creates an entry about normal operation.
    pub(crate) fn info(event: &'static str, message: impl Into<String>) -> Self {
        Self::new(Level::Info, event, message)
    }

    /// Creates a note.
    pub(crate) fn note(message: impl Into<String>) -> Self {
        Self::new(Level::Info, "note", message)
    }

    /// Creates an entry about a failure, with its causes and advice.
    pub(crate) fn error(error: &Error) -> Self {
        let mut data = keys(&Failure::from(error));
        // Every entry has a message.
        data.remove("message");
        Self { data, ..Self::new(Level::Error, "error", error.to_string()) }
    }

    /// Adds a key for programs. Fractions are seconds.
    #[must_use]
    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.data.insert(key.to_owned(), rounded(value.into()));
        self
    }

    /// Returns the entry with the level [`Level::Debug`].
    #[must_use]
    pub(crate) fn at_debug(self) -> Self {
        Self { level: Level::Debug, ..self }
    }

    /// The severity.
    pub(crate) fn level(&self) -> Level {
        self.level
    }

    /// The message as text, with the severity in front.
    pub(crate) fn text(&self) -> String {
        match (&*self.event, self.level) {
            ("note", _) => format!("note: {}", self.message),
            (_, Level::Warning) => format!("warning: {}", self.message),
            (_, Level::Error) => format!("error: {}", self.message),
            _ => self.message.clone(),
        }
    }

    /// The JSON object with a line end. It holds no logging command of a CI system: `##` is escaped.
    pub(crate) fn json(&self, time: std::time::SystemTime) -> String {
        let Self { level, event, message, data } = self;
        let line = Line { time: rfc3339(time), level: *level, event, message: message.trim(), data };
        // Keys are strings and all values are JSON, so this cannot fail; if it did, the line would say so.
        let text = serde_json::to_string(&line).unwrap_or_else(|error| {
            let message = format!("cannot write a line of the log: {error}");
            serde_json::json!({"level": Level::Error, "event": "internal", "message": message}).to_string()
        });
        escape_controls(&text).replace("##", "#\\u0023") + "\n"
    }
}

/// Returns the keys of what is serialized as an object.
fn keys(object: &impl Serialize) -> Map<String, Value> {
    // Keys are strings and all values are JSON, so this cannot fail.
    let keys = match serde_json::to_value(object) {
        Ok(Value::Object(keys)) => keys,
        Ok(_) | Err(_) => Map::new(),
    };
    keys.into_iter().map(|(key, value)| (key, rounded(value))).collect()
}

/// Rounds a fraction, which is a time in seconds.
fn rounded(value: Value) -> Value {
    let fraction = value.as_f64().filter(|_| value.is_f64());
    fraction.map_or(value, |seconds| round_seconds(seconds).into())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn an_object_has_the_message_and_the_data() {
        let entry = Entry::new(Level::Warning, "warning", "a \"b\"\n##vso[x]\u{1b}")
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
    fn an_error_has_causes_and_advice() {
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
