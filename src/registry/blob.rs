//! Blobs that are in a registry already: asked for, or read.

use bytes::Bytes;
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Method, Response};

use super::ask::Ask;
use super::fault::Fault;
use super::quirks::Heads;
use super::wire::{Client, REDIRECTS};
use crate::error::{Answer, Result};
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
        let ask = Ask::new(Method::HEAD, self.url(&format!("blobs/{digest}")), &[200, 301, 302, 303, 307, 404]);
        let expect_of_login: &[u16] = if self.ways().quirks().heads == Heads::Withheld { &[401, 403] } else { &[] };
        let ask = Ask { expect_of_login, ..ask };
        let doing = || format!("cannot ask for blob {} in {}", digest.short(), self.repository());
        let response = self.ask(&ask).await.map_err(|fault| self.explain(fault, &doing()))?;
        Ok(match response.status().as_u16() {
            401 | 403 | 404 => Presence::Absent,
            200 => Presence::Present(content_length(&response)),
            _ => Presence::Present(None),
        })
    }

    /// Reads a small blob, such as a config, and checks its digest. `None` if it is not there.
    ///
    /// # Errors
    /// If the registry refuses, or sends more than `limit` bytes or other bytes than the digest says.
    pub async fn small_blob(&self, digest: &Digest, limit: usize) -> Result<Option<Bytes>> {
        let doing = format!("cannot read blob {} in {}", digest.short(), self.repository());
        let mut ask = Ask::new(Method::GET, self.url(&format!("blobs/{digest}")), &[200, 301, 302, 303, 307, 404]);
        for _hop in 0..4 {
            let response = self.ask(&ask).await.map_err(|fault| self.explain(fault, &doing))?;
            if response.status().as_u16() == 404 {
                return Ok(None);
            }
            if REDIRECTS.contains(&response.status()) {
                let next = self.location(&ask.url, &response).map_err(|fault| self.explain(fault, &doing))?;
                ask = Ask::new(Method::GET, next.unwrap_or(ask.url), &[200, 301, 302, 303, 307, 404]);
                continue;
            }
            let bytes = body(response, limit).await.map_err(|fault| self.explain(fault, &doing))?;
            return match Digest::of(&bytes) == *digest {
                true => Ok(Some(bytes)),
                false => Err(self.explain(wrong("the bytes do not have the digest that was asked for"), &doing)),
            };
        }
        Err(self.explain(wrong("it sends us from one address to the next"), &doing))
    }
}

fn wrong(message: &str) -> Fault {
    Fault::Answered(Box::new(Answer { message: message.into(), ..Answer::default() }), None)
}

fn content_length(response: &Response) -> Option<u64> {
    response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A whole small body, refused before it is kept if it is longer than `limit`.
pub(super) async fn body(mut response: Response, limit: usize) -> Result<Bytes, Fault> {
    let mut bytes = Vec::new();
    while let Some(more) = response.chunk().await.map_err(Fault::of_silence)? {
        if bytes.len() + more.len() > limit {
            return Err(wrong(&format!("it sent more than the {limit} bytes that were expected at most")));
        }
        bytes.extend_from_slice(&more);
    }
    Ok(bytes.into())
}
