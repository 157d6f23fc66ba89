//! The error in the body of a response (OCI distribution specification, "Error Codes"), as text: one line, of limited length,
//! without secrets.

use oci_client::errors::{OciEnvelope, OciErrorCode};
use serde_json::Value;

use crate::error::one_line;

/// The maximum length of a message in characters.
const MAX_MESSAGE: usize = 1000;

/// The maximum length of a detail in characters.
const MAX_DETAIL: usize = 500;

/// Parts of the names of secret values.
const SECRET_NAMES: [&str; 8] =
    ["token", "password", "passwd", "secret", "authorization", "credential", "signature", "api_key"];

/// An error in the registry's own words.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Envelope {
    /// The first code that is not `UNKNOWN`, which distribution puts before the cause.
    pub(crate) code: String,
    /// The messages of all errors.
    pub(crate) message: String,
    /// What `detail` adds to the messages.
    pub(crate) detail: String,
}

impl Envelope {
    /// Parses a body. A body in another format becomes the message.
    pub(crate) fn of(body: &[u8]) -> Self {
        let Ok(OciEnvelope { errors }) = serde_json::from_slice(body) else {
            return Self { message: printable(String::from_utf8_lossy(body).trim()), ..Self::default() };
        };
        let codes = || errors.iter().map(|error| code_text(&error.code));
        let code = codes().find(|code| code != "UNKNOWN").or_else(|| codes().next()).unwrap_or_default();
        let messages: Vec<_> = errors.iter().map(|error| printable(&error.message)).collect();
        let message = messages.join("; ");
        let mut details: Vec<String> = Vec::new();
        for detail in errors.iter().map(|error| one_line(&redact(&flatten(&error.detail)), MAX_DETAIL)) {
            if !detail.is_empty() && !message.contains(&detail) && !details.contains(&detail) {
                details.push(detail);
            }
        }
        Self { code, message, detail: one_line(&details.join("; "), MAX_DETAIL) }
    }
}

fn code_text(code: &OciErrorCode) -> String {
    match serde_json::to_value(code) {
        Ok(Value::String(text)) => printable(&text),
        _ => String::new(),
    }
}

/// Cleans text from the network for a terminal: one line, no control characters, no secrets, limited length.
pub(super) fn printable(text: &str) -> String {
    one_line(&redact(text), MAX_MESSAGE)
}

/// Formats a detail, which may be any JSON: `name: team/app, actions: [pull, push]`.
fn flatten(detail: &Value) -> String {
    match detail {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let all: Vec<String> = list.iter().map(flatten).filter(|text| !text.is_empty()).collect();
            if all.is_empty() { String::new() } else { format!("[{}]", all.join(", ")) }
        }
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                let text = if is_secret(name) { "***".to_owned() } else { flatten(value) };
                (!text.is_empty()).then(|| format!("{name}: {text}"))
            };
            fields.iter().filter_map(field).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|secret| name.contains(secret))
}

/// Replaces credentials, signed queries, tokens and values of secret parameters by `***`.
fn redact(text: &str) -> String {
    let mut is_after_scheme = false;
    let words = text.split_whitespace().map(|word| {
        let hides = std::mem::replace(&mut is_after_scheme, is_scheme(word));
        if hides { "***".to_owned() } else { redact_word(word) }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Returns whether the next word is a credential: `Authorization: Basic dXNlcjpwYXNz`.
fn is_scheme(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    word.eq_ignore_ascii_case("basic") || word.eq_ignore_ascii_case("bearer")
}

fn redact_word(word: &str) -> String {
    const ENDS: [char; 7] = ['"', '\'', ')', '>', ']', '}', ','];
    if let Some((scheme, rest)) = word.split_once("://") {
        let (url, after) = rest.split_at(rest.find(ENDS).unwrap_or(rest.len()));
        let (authority, path) = url.split_at(url.find(['/', '?', '#']).unwrap_or(url.len()));
        let authority =
            authority.rsplit_once('@').map_or_else(|| authority.to_owned(), |(_, host)| format!("***@{host}"));
        let (path, query) = path.split_at(path.find(['?', '#']).unwrap_or(path.len()));
        let query = if query.is_empty() { "" } else { "?***" };
        return format!("{scheme}://{authority}{path}{query}{after}");
    }
    // A JSON Web Token, or another secret that is JSON in base64: it starts with `{"`.
    if let Some((before, rest)) = word.split_once("eyJ") {
        let is_of_it = |c: char| c.is_ascii_alphanumeric() || "-_=+/.".contains(c);
        let after = rest.trim_start_matches(is_of_it);
        if rest.len() - after.len() >= 10 {
            return format!("{before}***{after}");
        }
    }
    match word.split_once('=') {
        Some((name, value)) if is_secret(name) && !value.is_empty() => format!("{name}=***"),
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(body: &str) -> (String, String, String) {
        let Envelope { code, message, detail } = Envelope::of(body.as_bytes());
        (code, message, detail)
    }

    #[test]
    fn unknown_codes_several_errors_and_web_pages_are_parsed() {
        let body = r#"{"errors":[{"code":"STRANGE","message":"a\nb"},{"code":"DENIED","message":"c"}]}"#;
        assert_eq!(parsed(body), ("STRANGE".into(), "a b; c".into(), String::new()));
        let body = r#"{"errors":[{"code":"UNKNOWN","message":"a"},{"code":"DENIED","message":"b"}]}"#;
        assert_eq!(parsed(body), ("DENIED".into(), "a; b".into(), String::new()));
        let page = Envelope::of(b"<html>\x1b[31mBad gateway");
        assert_eq!(page, Envelope { message: "<html>[31mBad gateway".into(), ..Envelope::default() });
    }

    #[test]
    fn details_of_any_shape_are_formatted_unless_they_are_empty() {
        for (detail, text) in [
            (r#""blob is quarantined""#, "blob is quarantined"),
            (
                r#"{"description":"Circuit Breaker Threshold Reached"}"#,
                "description: Circuit Breaker Threshold Reached",
            ),
            (r#"[{"Type":"repository","Action":"push"}]"#, "[Action: push, Type: repository]"),
            (r#"{"size":5,"ok":false,"none":null,"empty":{}}"#, "ok: false, size: 5"),
            ("null", ""),
            ("{}", ""),
            ("[]", ""),
            (r#""m""#, ""),
        ] {
            let body = format!(r#"{{"errors":[{{"code":"C","message":"m","detail":{detail}}}]}}"#);
            assert_eq!(parsed(&body), ("C".into(), "m".into(), text.into()), "{detail}");
        }
        let long = format!(r#"{{"errors":[{{"code":"C","detail":"{}"}}]}}"#, "x".repeat(9000));
        assert_eq!(parsed(&long).2.len(), MAX_DETAIL);
    }

    #[test]
    fn secrets_are_redacted() {
        for (text, shown) in [
            ("sent Authorization: Basic dXNlcjpwYXNz twice", "sent Authorization: Basic *** twice"),
            ("no \"Bearer abc\" here", "no \"Bearer *** here"),
            ("see https://bob:word@s.example/a?X-Amz-Signature=1, or", "see https://***@s.example/a?***, or"),
            ("at http://h/path", "at http://h/path"),
            ("jwt=eyJhbGciOiJIUzI1NiJ9.e30.x; old", "jwt=***; old"),
            ("password=hunter2 user=bob", "password=*** user=bob"),
            ("token expired", "token expired"),
        ] {
            assert_eq!(printable(text), shown);
        }
        let body = r#"{"errors":[{"code":"C","message":"m","detail":{"AccessToken":"abc","a":[{"secret":{"b":1}}]}}]}"#;
        assert_eq!(parsed(body).2, "AccessToken: ***, a: [secret: ***]");
    }
}
