//! How an upload begins: with a session of its own, or with the question whether the registry will link the blob from
//! another of its repositories instead (OCI distribution specification, "Mounting a blob from another repository").

use reqwest::header::HeaderMap;
use reqwest::{Method, Url};

use super::api_request::ApiRequest;
use super::client::Client;
use super::reply::Reply;
use super::request_error::RequestError;
use super::resume_store::ResumeEntry;
use crate::error::{Code, Error, Kind, Result, ServiceError};
use crate::oci::{Digest, Repository};

/// An upload session in which nothing has been sent. Whoever has one uploads in it, which closes it whatever comes.
#[derive(Debug)]
#[must_use = "it stays open at the registry"]
pub struct OpenedUpload {
    pub(super) location: Url,
    /// The fewest bytes to a chunk, if the registry asks for so many.
    pub(super) least: Option<u64>,
}

/// What a registry makes of the wish to mount a blob.
#[derive(Debug)]
pub enum Mount {
    /// The repository has the blob.
    Mounted,
    /// The blob is to be sent, and this session is open for it.
    Open(OpenedUpload),
    /// It will not even say that. A plain upload may do.
    Refused(ServiceError),
}

impl Client {
    /// Asks the registry to link a blob from another of its repositories. `identity` is that of the blob's upload: if an
    /// earlier run left a session of it behind, nobody will go on with that any more once the blob is mounted.
    ///
    /// # Errors
    /// Without an answer.
    pub async fn mount(&self, digest: &Digest, from: &Repository, identity: Option<&str>) -> Result<Mount> {
        let doing = format!("cannot mount the blob {} of {from} in {}", digest.short(), self.repository());
        let mut url = self.url("blobs/uploads/");
        url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from.as_str());
        let ask = ApiRequest { source: Some(from.clone()), ..ApiRequest::new(Method::POST, url, &[201, 202]) };
        let answer = match self.ask(&ask).await {
            Ok(reply) if reply.status.as_u16() == 202 => self.opened(&ask, &reply).map(Mount::Open),
            Ok(_) => Ok(Mount::Mounted),
            Err(RequestError::Status(answer, _)) => Ok(Mount::Refused(*answer)),
            // By a token service: the source is not for us to read.
            Err(RequestError::Local(error)) if error.service_error().is_some() => {
                Ok(Mount::Refused(error.service_error().cloned().unwrap_or_default()))
            }
            Err(fault) => Err(fault),
        };
        if let (Ok(Mount::Mounted), Some(mut trace)) = (&answer, identity.and_then(|identity| self.trace(identity))) {
            self.abandon(&mut trace).await;
        }
        answer.map_err(|fault| self.explain(fault, &doing))
    }

    /// Opens the upload session of a blob beforehand, since the answer may give away what the registry is.
    ///
    /// # Errors
    /// Without an answer, or if it refuses.
    pub async fn open_upload(&self, what: &str) -> Result<OpenedUpload> {
        let doing = format!("cannot upload {what} to {}", self.repository());
        self.about(what).open().await.map_err(|fault| self.explain(fault, &doing))
    }

    /// Opens an upload session and closes it: a registry that creates repositories by itself does so then.
    ///
    /// # Errors
    /// If the registry refuses, or without an answer.
    pub async fn check_upload(&self) -> Result<()> {
        let doing = format!("cannot upload to {}", self.repository());
        let OpenedUpload { location, .. } = self.open().await.map_err(|fault| self.explain(fault, &doing))?;
        self.forget(location).await;
        Ok(())
    }

    /// Opens an upload session.
    pub(super) async fn open(&self) -> Result<OpenedUpload, RequestError> {
        // The trailing slash is part of the route (OCI distribution specification, "Pushing blobs").
        let ask = ApiRequest::new(Method::POST, self.url("blobs/uploads/"), &[202]);
        self.opened(&ask, &self.ask(&ask).await?)
    }

    fn opened(&self, ask: &ApiRequest, reply: &Reply) -> Result<OpenedUpload, RequestError> {
        if self.ways().learn(&reply.headers) {
            self.reason(format!("{} is {} by its answer", self.name(), self.ways().quirks().name));
            self.reason(self.ways().reason(self.name()));
        }
        let location = self.location(&ask.url, reply)?.ok_or_else(|| {
            RequestError::Local(
                Error::new(Kind::Refused, format!("{} opened an upload without saying where", self.name()))
                    .code(Code::ProtocolViolation),
            )
        })?;
        Ok(OpenedUpload { location, least: least(&reply.headers) })
    }

    /// Closes a session that was opened elsewhere, by its ID.
    pub async fn cancel_upload(&self, id: &str) {
        self.forget(self.url(&format!("blobs/uploads/{id}"))).await;
    }

    /// Closes the session that an earlier run left, if there is one.
    async fn abandon(&self, trace: &mut ResumeEntry) {
        let location = trace.take().and_then(|mark| self.allowed(Url::parse(&mark.location).ok()?).ok());
        trace.forget();
        if let Some(location) = location {
            self.forget(location).await;
        }
    }
}

/// The fewest bytes to a chunk (OCI distribution specification, "Pushing a blob in chunks").
fn least(headers: &HeaderMap) -> Option<u64> {
    headers.get("oci-chunk-min-length")?.to_str().ok()?.trim().parse().ok()
}
