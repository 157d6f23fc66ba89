//! Blobs in a registry: lookup and reads.

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::CONTENT_LENGTH;

use super::api_request::ApiRequest;
use super::client::{Client, REDIRECTS};
use super::quirks::BlobLookup;
use super::reply::Reply;
use super::request_error::RequestError;
use crate::error::{Result, ServiceError};
use crate::oci::Digest;

/// The result of the lookup of a blob.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Presence {
    /// It does not exist.
    Absent,
    /// It exists; with its size, if the registry reports it.
    Present(Option<u64>),
}

impl Presence {
    /// Returns whether the blob exists, with this size if the registry reports one.
    pub(super) fn has_size(self, size: u64) -> bool {
        matches!(self, Self::Present(actual) if actual.is_none_or(|actual| actual == size))
    }
}

impl Client {
    /// Returns whether the registry may report an existing blob as absent.
    pub(crate) fn withholds_blobs(&self) -> bool {
        self.strategy().quirks().blob_lookup == BlobLookup::Withheld
    }

    /// Looks up a blob in the repository.
    ///
    /// # Errors
    /// Fails if the response is neither yes nor no.
    pub(crate) async fn presence(&self, digest: &Digest) -> Result<Presence> {
        // A registry with separate storage redirects a HEAD to the blob: it exists.
        let request =
            ApiRequest::new(Method::HEAD, self.url(&format!("blobs/{digest}")), &[200, 301, 302, 303, 307, 404]);
        let expect_of_login: &[u16] = if self.withholds_blobs() { &[401, 403] } else { &[] };
        let request = ApiRequest { expect_of_login, ..request };
        let doing = || format!("cannot look up blob {} in {}", digest.short(), self.repository());
        let reply = self.request(&request).await.map_err(|error| self.explain(error, &doing()))?;
        Ok(match reply.status.as_u16() {
            401 | 403 | 404 => Presence::Absent,
            200 => Presence::Present(content_length(&reply)),
            _ => Presence::Present(None),
        })
    }

    /// Reads a small blob, such as a config, and verifies its digest. `None` if it does not exist.
    ///
    /// # Errors
    /// Fails if the registry rejects the request, sends more than `limit` bytes, or bytes with another digest.
    pub(crate) async fn small_blob(&self, digest: &Digest, limit: usize) -> Result<Option<Bytes>> {
        let doing = format!("cannot read blob {} in {}", digest.short(), self.repository());
        let request = |url| ApiRequest::new(Method::GET, url, &[200, 301, 302, 303, 307, 404]).read(limit);
        let mut url = self.url(&format!("blobs/{digest}"));
        for _hop in 0..4 {
            let reply = self.request(&request(url.clone())).await.map_err(|error| self.explain(error, &doing))?;
            if reply.status.as_u16() == 404 {
                return Ok(None);
            }
            if REDIRECTS.contains(&reply.status) {
                let next = self.location(&url, &reply).map_err(|error| self.explain(error, &doing))?;
                url = next.unwrap_or(url);
                continue;
            }
            let bytes = reply.body();
            return match Digest::of(&bytes) == *digest {
                true => Ok(Some(bytes)),
                false => Err(self.explain(wrong("the bytes do not have the digest that was asked for"), &doing)),
            };
        }
        Err(self.explain(wrong("too many redirects"), &doing))
    }
}

fn wrong(message: &str) -> RequestError {
    RequestError::Status(Box::new(ServiceError { message: message.into(), ..ServiceError::default() }), None)
}

fn content_length(reply: &Reply) -> Option<u64> {
    reply.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
