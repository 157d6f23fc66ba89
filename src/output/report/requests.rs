//! Counts of a push's requests, by operation, and the request IDs of its manifests.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::request_log::{RequestRecord, Subject};

/// The most manifests whose request IDs are recorded.
const MOST: usize = 1000;

/// The requests of a push so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    operations: BTreeMap<String, Count>,
    manifests: Vec<ManifestPut>,
}

/// How often an operation was requested.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub(super) struct Count {
    requests: u64,
    failed: u64,
    throttled: u64,
}

/// An operation with its count.
#[derive(Debug, Serialize)]
pub(super) struct Operation<'a> {
    operation: &'a str,
    #[serde(flatten)]
    count: Count,
}

/// All requests of a push.
#[derive(Debug, Serialize)]
pub(super) struct Summary<'a> {
    #[serde(flatten)]
    total: Count,
    operations: Vec<Operation<'a>>,
}

/// One request that uploaded a manifest.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ManifestPut {
    #[serde(skip)]
    repository: String,
    reference: String,
    status: Option<u16>,
    request_id: Option<String>,
}

impl Requests {
    /// Counts a request that has ended.
    pub(super) fn add(&mut self, record: &RequestRecord) {
        let count = self.operations.entry(operation(record)).or_default();
        count.requests += 1;
        count.failed += u64::from(record.status.is_none_or(|status| status >= 400));
        count.throttled += u64::from(record.is_throttle);
        let Some(repository) = record.repository.as_ref().filter(|_| record.method == "PUT") else { return };
        if let Some((_, reference)) = path(record).rsplit_once("/manifests/")
            && self.manifests.len() < MOST
        {
            self.manifests.push(ManifestPut {
                repository: repository.clone(),
                reference: reference.to_owned(),
                status: record.status,
                request_id: record.request_id.clone(),
            });
        }
    }

    /// The counts of all operations, and their sums.
    pub(super) fn summary(&self) -> Summary<'_> {
        let total = self.operations.values().fold(Count::default(), |sum, count| Count {
            requests: sum.requests + count.requests,
            failed: sum.failed + count.failed,
            throttled: sum.throttled + count.throttled,
        });
        let operations = self.operations.iter().map(|(operation, count)| Operation { operation, count: *count });
        Summary { total, operations: operations.collect() }
    }

    /// The manifests that were uploaded to a target, `HOST/REPOSITORY`, in order.
    pub(super) fn manifests_of(&self, target: &str) -> Vec<&ManifestPut> {
        self.manifests.iter().filter(|put| put.repository == target).collect()
    }
}

/// Names the operation of a request: AWS's own name for calls of its API, else one by method and path.
fn operation(record: &RequestRecord) -> String {
    if record.repository.is_none() {
        return match &record.subject {
            Some(Subject::Operation(name)) => name.clone(),
            Some(Subject::RegistryToken(_)) => "get_token".to_owned(),
            _ => "other".to_owned(),
        };
    }
    let (path, method) = (path(record), record.method.as_str());
    let name = if path.contains("/manifests/") {
        match method {
            "PUT" => "put_manifest",
            "HEAD" => "check_manifest",
            _ => "get_manifest",
        }
    } else if path.contains("/blobs/") && !path.contains("/blobs/uploads") {
        if method == "HEAD" { "check_blob" } else { "get_blob" }
    } else if path.contains("/referrers/") {
        "list_referrers"
    } else if path.ends_with("/tags/list") {
        "list_tags"
    } else if path == "v2/" {
        "ping"
    } else {
        // Also for uploads that the registry redirects to another host, whose paths are not known.
        match method {
            "POST" => "start_upload",
            "PATCH" => "upload_chunk",
            "PUT" => "finish_upload",
            "DELETE" => "cancel_upload",
            _ => "get_upload_status",
        }
    };
    name.to_owned()
}

/// The path of a request, without the slash in front.
fn path(record: &RequestRecord) -> &str {
    let rest = record.url.split_once("://").map_or(record.url.as_str(), |(_, rest)| rest);
    rest.split_once('/').map_or("", |(_, path)| path)
}
