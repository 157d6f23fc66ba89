//! One request to a registry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Body, Method, Url};

use crate::error::{Error, Result};
use crate::oci::Repository;

/// One request, which can be sent repeatedly.
pub(super) struct ApiRequest {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) payload: Arc<dyn Fn() -> Body + Send + Sync>,
    /// The expected statuses; every other one is an error.
    pub(super) expect: &'static [u16],
    /// The additional expected statuses if credentials were sent.
    pub(super) expect_of_login: &'static [u16],
    /// Whether its body is produced while it is sent. Then it takes no permit, since its producer may be waiting for one.
    pub(super) is_stream: bool,
    /// Whether it puts a manifest, for which a registry may limit the rate.
    pub(super) is_manifest: bool,
    /// Another repository that it reads from.
    pub(super) source: Option<Repository>,
    /// The maximum size of the response in bytes. With 0 its body is not read.
    pub(super) limit: usize,
    /// The number of bytes of its body that were sent.
    pub(super) sent: Arc<AtomicU64>,
    /// The number of times it was sent.
    pub(super) times: AtomicU32,
}

impl ApiRequest {
    /// Creates a request without a body.
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
            is_manifest: false,
            source: None,
            limit: 0,
            sent: Arc::default(),
            times: AtomicU32::new(0),
        }
    }

    /// Returns whether it has no body, so that its response takes no longer than the latency of the registry.
    pub(super) fn has_no_body(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD | Method::POST)
    }

    /// Sets the media types that the response may have.
    pub(super) fn accept(mut self, media_types: &'static str) -> Self {
        self.headers.insert(ACCEPT, HeaderValue::from_static(media_types));
        self
    }

    /// Reads the body of the response, up to `limit` bytes.
    pub(super) fn read(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// Sets the body.
    ///
    /// # Errors
    /// Fails if the media type is not valid in a header.
    pub(super) fn body(mut self, media_type: &str, bytes: Bytes) -> Result<Self> {
        let value = HeaderValue::from_str(media_type)
            .map_err(|_| Error::input(format!("the media type {media_type:?} is not valid in a header")))?;
        self.headers.insert(CONTENT_TYPE, value);
        self.sent.store(bytes.len() as u64, Ordering::Relaxed);
        self.payload = Arc::new(move || Body::from(bytes.clone()));
        Ok(self)
    }
}
