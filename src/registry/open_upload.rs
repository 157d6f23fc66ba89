//! The start of an upload: a session of its own, or a mount of the blob from another repository of the registry (OCI
//! distribution specification, "Mounting a blob from another repository").

use reqwest::header::HeaderMap;
use reqwest::{Method, Url};
use tracing::debug;

use super::api_request::ApiRequest;
use super::client::Client;
use super::reply::Reply;
use super::request_error::RequestError;
use super::resume_store::Checkpoint;
use crate::error::{Code, Error, Kind, Result, ServiceError};
use crate::oci::{Digest, Repository};
use crate::request_log::Subject;

/// An open upload session without data. An upload closes it, whatever the result.
#[derive(Debug)]
#[must_use = "it stays open at the registry"]
pub(crate) struct OpenedUpload {
    pub(super) location: Url,
    /// The smallest chunk in bytes, if the registry states one.
    pub(super) min_chunk_size: Option<u64>,
}

/// The result of mounting a blob.
#[derive(Debug)]
pub(crate) enum Mount {
    /// The repository has the blob.
    Mounted,
    /// The blob has to be uploaded; this session is open for it.
    Open(OpenedUpload),
    /// The registry rejects the request. A plain upload may succeed.
    Refused(ServiceError),
}

impl Client {
    /// Mounts a blob from another repository of the registry. `identity` identifies the blob's upload: a session that an
    /// earlier run left is closed once the blob is mounted.
    ///
    /// # Errors
    /// Fails without a response.
    pub(crate) async fn mount(&self, digest: &Digest, from: &Repository, identity: Option<&str>) -> Result<Mount> {
        let doing = format!("cannot mount the blob {} of {from} in {}", digest.short(), self.repository());
        let mut url = self.url("blobs/uploads/");
        url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from.as_str());
        let request = ApiRequest { source: Some(from.clone()), ..ApiRequest::new(Method::POST, url, &[201, 202]) };
        let mount = match self.request(&request).await {
            Ok(reply) if reply.status.as_u16() == 202 => self.opened(&request, &reply).map(Mount::Open),
            Ok(_) => Ok(Mount::Mounted),
            Err(RequestError::Status(response, _)) => Ok(Mount::Refused(*response)),
            // A token service denies reading the source repository.
            Err(RequestError::Local(error)) => match error.service_error() {
                Some(response) => Ok(Mount::Refused(response.clone())),
                None => Err(error.into()),
            },
            Err(error) => Err(error),
        };
        if let (Ok(Mount::Mounted), Some(mut entry)) =
            (&mount, identity.and_then(|identity| self.resume_entry(identity)))
        {
            let earlier = entry.take();
            entry.remove();
            if let Some(checkpoint) = earlier {
                self.abort_earlier(checkpoint).await;
            }
        }
        mount.map_err(|error| self.explain(error, &doing))
    }

    /// Opens the upload session of a blob in advance: the response may reveal which registry it is.
    ///
    /// # Errors
    /// Fails if the registry rejects the request, and without a response.
    pub(crate) async fn open_upload(&self, subject: &Subject) -> Result<OpenedUpload> {
        let doing = format!("cannot upload {subject} to {}", self.repository());
        self.about(subject).open().await.map_err(|error| self.explain(error, &doing))
    }

    /// Opens an upload session and closes it, which makes a registry that creates repositories on push create this one.
    ///
    /// # Errors
    /// Fails if the registry rejects the request, and without a response.
    pub(crate) async fn check_upload(&self) -> Result<()> {
        let doing = format!("cannot upload to {}", self.repository());
        let OpenedUpload { location, .. } = self.open().await.map_err(|error| self.explain(error, &doing))?;
        self.abort_session(location).await;
        Ok(())
    }

    /// Opens an upload session.
    pub(super) async fn open(&self) -> Result<OpenedUpload, RequestError> {
        // The trailing slash is part of the route (OCI distribution specification, "Pushing blobs").
        let request = ApiRequest::new(Method::POST, self.url("blobs/uploads/"), &[202]);
        self.opened(&request, &self.request(&request).await?)
    }

    fn opened(&self, request: &ApiRequest, reply: &Reply) -> Result<OpenedUpload, RequestError> {
        if self.strategy().learn(&reply.headers) {
            debug!("{} is {}, by its response", self.name(), self.strategy().quirks().name);
            debug!("{}", self.strategy().describe(self.name()));
        }
        let location = self.location(&request.url, reply)?.ok_or_else(|| {
            Error::new(Kind::Refused, format!("{} opened an upload session without a URL", self.name()))
                .code(Code::ProtocolViolation)
        })?;
        Ok(OpenedUpload { location, min_chunk_size: min_chunk_size(&reply.headers) })
    }

    /// Closes a session that the API opened, by its ID.
    pub(crate) async fn cancel_upload(&self, id: &str) {
        self.abort_session(self.url(&format!("blobs/uploads/{id}"))).await;
    }

    /// Closes the session that an earlier run left.
    pub(super) async fn abort_earlier(&self, checkpoint: Checkpoint) {
        let location = Url::parse(&checkpoint.location).ok().and_then(|location| self.allowed(location).ok());
        if let Some(location) = location {
            self.abort_session(location).await;
        }
    }
}

/// Returns the smallest chunk in bytes (OCI distribution specification, "Pushing a blob in chunks").
fn min_chunk_size(headers: &HeaderMap) -> Option<u64> {
    headers.get("oci-chunk-min-length")?.to_str().ok()?.trim().parse().ok()
}
