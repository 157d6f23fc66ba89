//! Blobs that are in a registry already: asked for, or read.

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::CONTENT_LENGTH;

use super::api_request::ApiRequest;
use super::client::{Client, REDIRECTS};
use super::quirks::Heads;
use super::reply::Reply;
use super::request_error::RequestError;
use crate::error::{Result, ServiceError};
use crate::oci::Digest;

/// Whether a registry has a blob.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Presence {
    /// It has not.
    Absent,
    /// It has; the size where it said so.
    Present(Option<u64>),
}

impl Client {
    /// Asks whether the repository has a blob.
    ///
    /// # Errors
    /// If the registry gives neither a yes nor a no.
    pub async fn presence(&self, digest: &Digest) -> Result<Presence> {
        // A registry with its storage elsewhere answers a HEAD with where the blob is, which is a yes.
        let ask = ApiRequest::new(Method::HEAD, self.url(&format!("blobs/{digest}")), &[200, 301, 302, 303, 307, 404]);
        let expect_of_login: &[u16] = if self.ways().quirks().heads == Heads::Withheld { &[401, 403] } else { &[] };
        let ask = ApiRequest { expect_of_login, ..ask };
        let doing = || format!("cannot ask for blob {} in {}", digest.short(), self.repository());
        let reply = self.ask(&ask).await.map_err(|fault| self.explain(fault, &doing()))?;
        Ok(match reply.status.as_u16() {
            401 | 403 | 404 => Presence::Absent,
            200 => Presence::Present(content_length(&reply)),
            _ => Presence::Present(None),
        })
    }

    /// Reads a small blob, such as a config, and checks its digest. `None` if it is not there.
    ///
    /// # Errors
    /// If the registry refuses, or sends more than `limit` bytes or other bytes than the digest says.
    pub async fn small_blob(&self, digest: &Digest, limit: usize) -> Result<Option<Bytes>> {
        let doing = format!("cannot read blob {} in {}", digest.short(), self.repository());
        let ask = |url| ApiRequest::new(Method::GET, url, &[200, 301, 302, 303, 307, 404]).read(limit);
        let mut url = self.url(&format!("blobs/{digest}"));
        for _hop in 0..4 {
            let reply = self.ask(&ask(url.clone())).await.map_err(|fault| self.explain(fault, &doing))?;
            if reply.status.as_u16() == 404 {
                return Ok(None);
            }
            if REDIRECTS.contains(&reply.status) {
                let next = self.location(&url, &reply).map_err(|fault| self.explain(fault, &doing))?;
                url = next.unwrap_or(url);
                continue;
            }
            let bytes = reply.body();
            return match Digest::of(&bytes) == *digest {
                true => Ok(Some(bytes)),
                false => Err(self.explain(wrong("the bytes do not have the digest that was asked for"), &doing)),
            };
        }
        Err(self.explain(wrong("it sends us from one address to the next"), &doing))
    }
}

fn wrong(message: &str) -> RequestError {
    RequestError::Status(Box::new(ServiceError { message: message.into(), ..ServiceError::default() }), None)
}

fn content_length(reply: &Reply) -> Option<u64> {
    reply.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
