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
pub(super) mod tests {
    use super::*;

    /// A request that began so many milliseconds after `start` and took 8 of them.
    pub(in super::super) fn record(start: Instant, millis: u64, method: &str, status: u16) -> RequestRecord {
        RequestRecord {
            method: method.into(),
            url: "https://r.example/v2/a/blobs/uploads/1".into(),
            status: (status > 0).then_some(status),
            error: (status == 0).then(|| "connection reset".into()),
            began: start + Duration::from_millis(millis),
            seconds: 0.008,
            is_throttle: false,
            request_id: Some("7".into()),
            sent: if method == "PATCH" { 100 } else { 0 },
            repository: None,
            subject: None,
            attempt: 1,
        }
    }

    #[test]
    fn the_number_of_requests_is_bounded_and_a_failed_one_stays_visible() {
        let start = Instant::now();
        let mut requests = RequestList { max: 10, ..RequestList::default() };
        for n in 0..1000 {
            requests.add(&record(start, n * 10, "PATCH", if n == 500 { 429 } else { 201 }));
        }
        let requests = requests.requests();
        assert!(requests.len() <= 10, "{}", requests.len());
        assert_eq!(requests.iter().map(|it| it.count).sum::<usize>(), 1000);
        assert_eq!(requests.iter().map(|it| it.sent).sum::<u64>(), 100_000);
        assert_eq!((requests[0].from, requests.last().unwrap().to), (start, start + Duration::from_millis(9_998)));
        assert!(requests.windows(2).all(|pair| pair[0].to < pair[1].from), "in their order");
        let failed: Vec<_> = requests.iter().filter(|it| it.failed.is_some()).collect();
        assert_eq!((failed.len(), failed[0].count), (1, 1), "it is not merged");

        let mut requests = RequestList { max: 10, ..RequestList::default() };
        (0..1000).for_each(|n| requests.add(&record(start, n * 10, "PATCH", 0)));
        assert!(requests.requests().len() <= 10, "also if all fail");
    }

    #[test]
    fn a_missing_item_is_no_failure() {
        let start = Instant::now();
        let failed = |method, status| Failed::of(&record(start, 0, method, status));
        for (method, status) in [("HEAD", 404), ("GET", 401), ("GET", 403), ("PUT", 201), ("PATCH", 202), ("POST", 401)]
        {
            assert_eq!(failed(method, status), None, "{method} {status}");
        }
        for (method, status) in
            [("GET", 429), ("GET", 503), ("PATCH", 401), ("PATCH", 416), ("PUT", 400), ("POST", 404)]
        {
            assert_eq!(failed(method, status), Some(Failed::Status(status)), "{method} {status}");
        }
        assert_eq!(failed("HEAD", 0), Some(Failed::NoResponse("connection reset".into())));
    }
}
