//! One request, ready to be sent as often as need be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Body, Method, Url};

use crate::error::{Error, Result};
use crate::oci::Repository;

/// One request, ready to be sent as often as need be.
pub(super) struct ApiRequest {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) payload: Arc<dyn Fn() -> Body + Send + Sync>,
    /// The statuses that are an answer; every other one is a fault.
    pub(super) expect: &'static [u16],
    /// The statuses that are an answer where a login was shown.
    pub(super) expect_of_login: &'static [u16],
    /// Its body comes from the archive while it is sent. It takes no turn: whoever it waits for may wait for a turn.
    pub(super) is_stream: bool,
    /// Another repository that it reads from.
    pub(super) source: Option<Repository>,
    /// The most bytes of the answer's body. With 0 it is not read.
    pub(super) limit: usize,
    /// Counts the bytes of its body.
    pub(super) sent: Arc<AtomicU64>,
    /// How often it was sent.
    pub(super) times: AtomicU32,
}

impl ApiRequest {
    pub(super) fn new(method: Method, url: Url, expect: &'static [u16]) -> Self {
        let payload = Arc::new(|| Body::from(Bytes::new()));
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            payload,
            expect,
            expect_of_login: &[],
            is_stream: false,
            source: None,
            limit: 0,
            sent: Arc::default(),
            times: AtomicU32::new(0),
        }
    }

    pub(super) fn accept(mut self, media_types: &'static str) -> Self {
        self.headers.insert(ACCEPT, HeaderValue::from_static(media_types));
        self
    }

    /// Reads the answer's body, of so many bytes at most.
    pub(super) fn read(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    pub(super) fn body(mut self, media_type: &str, bytes: Bytes) -> Result<Self> {
        let value = HeaderValue::from_str(media_type)
            .map_err(|_| Error::input(format!("the media type {media_type:?} cannot be sent in a header")))?;
        self.headers.insert(CONTENT_TYPE, value);
        self.sent.store(bytes.len() as u64, Ordering::Relaxed);
        self.payload = Arc::new(move || Body::from(bytes.clone()));
        Ok(self)
    }
}
