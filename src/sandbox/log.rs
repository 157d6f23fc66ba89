//! The log of requests: the newest ones in memory, and all of them in a file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::SystemTime;

use axum::http::{HeaderMap, Method, Uri, header};
use serde::Serialize;
use serde_json::{Value, json};

use super::faults::utc;
use super::sessions::access_key;
use crate::error::{Error, Result};
use crate::sync::lock;

/// A request that reached the sandbox.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct LogEntry {
    /// The HTTP method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The IAM action that the request requires: `ecr:UploadLayerPart`. Requests that need none are `v2:Check`,
    /// `v2:Token`, `v2:UploadStatus`, `v2:CancelUpload`, `v2:Unknown` and, on the bucket, `s3:GetObject`.
    pub operation: String,
    /// The status of the response; 0 if none was sent (yet), because the connection was closed or the request stalls.
    pub status: u16,
    /// The number of bytes of the body that arrived, also of cut and rejected requests.
    pub body_bytes: u64,
    /// The request's `Content-Range`.
    pub content_range: Option<String>,
    /// The request's `User-Agent`.
    pub user_agent: Option<String>,
    /// Whether the request carried an `Authorization` header.
    pub authorized: bool,
    /// The host that the request is for.
    pub host: Option<String>,
    /// The access key that signed it.
    pub access_key: Option<String>,
}

/// The maximum length of the log: a sandbox may run for weeks.
pub(super) const LOG_LIMIT: usize = 10_000;

/// The maximum length of a client's text in the log in bytes.
const TEXT_LIMIT: usize = 2 << 10;

/// The newest requests, in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Log(Mutex<Newest>);

#[derive(Debug, Default)]
struct Newest {
    entries: VecDeque<LogEntry>,
    /// The number of older requests that were removed.
    forgotten: usize,
    file: Option<File>,
}

impl Log {
    /// Opens a log that is also appended to a file.
    pub(super) fn open(file: Option<&Path>) -> Result<Self> {
        let open = |path: &Path| {
            let opened = File::options().create(true).append(true).open(path);
            opened.map_err(|why| Error::usage(format!("cannot write the log to {}", path.display())).because(why))
        };
        let file = file.map(open).transpose()?;
        Ok(Self(Mutex::new(Newest { file, ..Newest::default() })))
    }

    /// Writes the entry with this number to the file, in one piece.
    pub(super) fn end(&self, number: usize) {
        let mut log = lock(&self.0);
        let Newest { entries, forgotten, file: Some(file) } = &mut *log else { return };
        let Some(entry) = number.checked_sub(*forgotten).and_then(|index| entries.get(index)) else { return };
        let mut line = json!({"time": utc(SystemTime::now())});
        if let (Value::Object(line), Ok(Value::Object(entry))) = (&mut line, serde_json::to_value(entry)) {
            line.extend(entry);
        }
        // A full disk costs the log, and not the answer.
        file.write_all(format!("{line}\n").as_bytes()).ok();
    }

    pub(super) fn entries(&self) -> Vec<LogEntry> {
        lock(&self.0).entries.iter().cloned().collect()
    }

    /// Adds the entry of a request that just arrived, and returns its number.
    pub(super) fn begin(&self, method: &Method, uri: &Uri, headers: &HeaderMap, operation: &str) -> usize {
        let text =
            |name| headers.get(name).map(|value| limited(String::from_utf8_lossy(value.as_bytes()).into_owned()));
        let entry = LogEntry {
            method: limited(method.to_string()),
            path: limited(uri.path_and_query().map_or_else(|| uri.path().to_owned(), ToString::to_string)),
            operation: limited(operation.to_owned()),
            content_range: text(header::CONTENT_RANGE),
            user_agent: text(header::USER_AGENT),
            authorized: headers.contains_key(header::AUTHORIZATION),
            host: text(header::HOST),
            access_key: access_key(headers).map(limited),
            ..LogEntry::default()
        };
        let mut log = lock(&self.0);
        log.entries.push_back(entry);
        if log.entries.len() > LOG_LIMIT {
            log.entries.pop_front();
            log.forgotten += 1;
        }
        log.forgotten + log.entries.len() - 1
    }

    /// Changes the entry with this number, unless it was removed.
    pub(super) fn change(&self, number: usize, change: impl FnOnce(&mut LogEntry)) {
        let mut log = lock(&self.0);
        let index = number.checked_sub(log.forgotten);
        if let Some(entry) = index.and_then(|index| log.entries.get_mut(index)) {
            change(entry);
        }
    }
}

fn limited(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_LIMIT));
    text.shrink_to_fit();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_bounded() {
        let log = Log::default();
        let begin = |path: &str| log.begin(&Method::GET, &path.parse().unwrap(), &HeaderMap::new(), "v2:Check");
        let first = begin("/0");
        (1..LOG_LIMIT).for_each(|n| assert_eq!(begin("/"), n));
        let last = begin(&format!("/{}", "a".repeat(5000)));
        // The response to a request that takes longer than all others arrives after its entry was removed.
        log.change(first, |entry| entry.status = 200);
        log.change(last, |entry| entry.status = 201);
        let entries = log.entries();
        assert_eq!((entries.len(), entries[0].path.as_str(), entries[0].status), (LOG_LIMIT, "/", 0));
        assert_eq!((entries[LOG_LIMIT - 1].path.len(), entries[LOG_LIMIT - 1].status), (TEXT_LIMIT, 201));
    }
}
