//! The requests of a lane. Their number is bounded: neighbors are merged.

use std::time::{Duration, Instant};

use crate::request_log::{RequestRecord, Subject};

/// The most requests of a lane that are listed one by one. A layer of 4 GB takes 400 chunks.
const MAX_REQUESTS: usize = 400;

/// The requests of a lane, in the order in which they ended.
#[derive(Debug)]
pub(super) struct RequestList {
    max: usize,
    requests: Vec<Request>,
}

/// One request, or several consecutive ones.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// The first of them.
    pub(super) first: RequestRecord,
    /// How many they are.
    pub(super) count: usize,
    pub(super) from: Instant,
    pub(super) to: Instant,
    /// The bytes of all of them.
    pub(super) sent: u64,
    /// The first of them that failed.
    pub(super) failed: Option<Failed>,
}

/// How a request failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Failed {
    /// With this HTTP status.
    Status(u16),
    /// Without a response, for this reason.
    NoResponse(String),
}

impl Default for RequestList {
    fn default() -> Self {
        Self { max: MAX_REQUESTS, requests: Vec::new() }
    }
}

impl RequestList {
    /// Adds one that has ended.
    pub(super) fn add(&mut self, record: &RequestRecord) {
        self.requests.push(Request::of(record));
        if self.requests.len() > self.max {
            self.merge();
        }
    }

    /// All of them.
    pub(super) fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// Merges pairs of neighbors that succeeded, or if there are none, any.
    fn merge(&mut self) {
        let before = self.requests.len();
        self.merge_if(|one, other| one.failed.is_none() && other.failed.is_none());
        if self.requests.len() == before {
            self.merge_if(|_, _| true);
        }
    }

    fn merge_if(&mut self, may_merge: impl Fn(&Request, &Request) -> bool) {
        let mut merged: Vec<Request> = Vec::with_capacity(self.max + 1);
        let mut is_single = false;
        for request in std::mem::take(&mut self.requests) {
            match merged.last_mut() {
                Some(last) if is_single && may_merge(last, &request) => {
                    last.merge(request);
                    is_single = false;
                }
                _ => {
                    merged.push(request);
                    is_single = true;
                }
            }
        }
        self.requests = merged;
    }
}

impl Request {
    fn of(record: &RequestRecord) -> Self {
        let first = record.clone();
        let (from, sent, failed) = (first.began, first.sent, Failed::of(record));
        let to = from + Duration::try_from_secs_f64(first.seconds).unwrap_or_default();
        Self { first, count: 1, from, to, sent, failed }
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.from = self.from.min(other.from);
        self.to = self.to.max(other.to);
        self.sent += other.sent;
        self.failed = self.failed.take().or(other.failed);
    }

    /// Whether it sends bytes of a layer.
    pub(super) fn sends_layer(&self) -> bool {
        self.sent > 0 && matches!(self.first.subject, Some(Subject::Layer { .. }))
    }
}

impl Failed {
    /// Returns how a request failed, if it did. A missing item is not a failure, nor is a challenge for a login.
    fn of(record: &RequestRecord) -> Option<Self> {
        let is_question = matches!(record.method.as_str(), "GET" | "HEAD");
        match record.status {
            None => Some(Self::NoResponse(record.error.clone().unwrap_or_else(|| "no response".into()))),
            Some(status @ (429 | 500..)) => Some(Self::Status(status)),
            Some(401) if record.sent == 0 => None,
            Some(status @ 400..) if !is_question => Some(Self::Status(status)),
            Some(_) => None,
        }
    }

    /// A label.
    pub(super) fn short(&self) -> String {
        match self {
            Self::Status(status) => status.to_string(),
            Self::NoResponse(_) => "no response".into(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
