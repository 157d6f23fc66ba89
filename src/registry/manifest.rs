//! Manifests and indexes: put, looked up, read back.

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Method, StatusCode};

use super::api_request::ApiRequest;
use super::client::Client;
use super::reply::Reply;
use super::request_error::RequestError;
use crate::error::{Code, Error, Kind, Result};
use crate::oci::Digest;

/// The maximum size of a manifest in bytes: ECR's limit on `imageManifest` (ECR API reference, PutImage).
const LIMIT: usize = 4 << 20;

/// Every media type of an image. ECR converts a manifest that is requested by tag into an accepted type, so all are named
/// (ECR user guide, "Container image manifest format support").
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.docker.distribution.manifest.v2+json";

/// A manifest in a registry.
#[derive(Clone, Debug)]
pub(crate) struct RemoteManifest {
    /// The bytes.
    pub bytes: Bytes,
    /// Their digest, computed here.
    pub digest: Digest,
    /// The media type that the registry states.
    pub media_type: String,
    /// The digest that the registry states, if it does.
    pub stated_digest: Option<Digest>,
}

/// The result of the lookup of a tag or a digest.
#[derive(Clone, Debug)]
pub(crate) enum ManifestLookup {
    /// The manifest.
    Found(RemoteManifest),
    /// The image does not exist.
    NoImage,
    /// The repository does not exist.
    NoRepository,
    /// A 404 that does not say what is missing.
    Unclear,
}

impl Client {
    /// Puts a manifest or an index, and nothing else.
    pub(super) async fn put(
        &self,
        reference: &str,
        media_type: &str,
        digest: Digest,
        bytes: Bytes,
    ) -> Result<HeaderMap> {
        let request = ApiRequest::new(Method::PUT, self.url(&format!("manifests/{reference}")), &[200, 201, 202]);
        let request = ApiRequest { is_manifest: true, ..request.body(media_type, bytes)? };
        let doing = format!("cannot put the manifest {}{}", self.repository(), suffix(reference));
        let reply = self.request(&request).await.map_err(|error| self.explain(error, &doing))?;
        match content_digest(&reply.headers) {
            Some(confirmed) if confirmed != digest => {
                let why = format!("it stored {confirmed} where {digest} was sent");
                return Err(Error::new(Kind::Refused, format!("{doing}: {} changed it", self.name()))
                    .code(Code::ProtocolViolation)
                    .because(why));
            }
            Some(_) => {}
            None if reply.status == StatusCode::CREATED && !reply.is_page() => {}
            None => self.confirm(reference, digest, &reply, &doing).await?,
        }
        Ok(reply.headers)
    }

    /// Reads back a manifest whose response is not that of a registry that stored it: a firewall's page and a server that
    /// responds 200 to everything look like a success.
    async fn confirm(&self, reference: &str, digest: Digest, reply: &Reply, doing: &str) -> Result<()> {
        let response = reply.service_error(&Method::PUT);
        let is_page = reply.is_page();
        let found = match self.find(reference).await {
            Ok(ManifestLookup::Found(found)) if found.digest == digest => return Ok(()),
            Ok(ManifestLookup::Found(_)) => "another manifest is there",
            Ok(ManifestLookup::NoImage | ManifestLookup::NoRepository | ManifestLookup::Unclear) => {
                "no such manifest is there"
            }
            // With write access only, nothing can be read back.
            Err(error) if !is_page && error.is_denied_by_registry() => {
                let name = format!("{}/{}{}", self.name(), self.repository(), suffix(reference));
                self.note(format!(
                    "{name} could not be read back: reading is denied, and the registry did not confirm the digest"
                ));
                return Ok(());
            }
            Err(error) if is_page && error.is_denied() => "reading it back is denied",
            Err(error) => return Err(self.explain(error, doing)),
        };
        let what = format!("{doing}: {} did not store it ({found})", self.name());
        let error = Error::new(Kind::Refused, what).with_service_error(response).code(Code::ProtocolViolation);
        Err(error.hint(if is_page {
            "The response is a web page: of a proxy or a firewall, or the address is not that of a registry."
        } else {
            "Check that the address is that of a registry that accepts pushes."
        }))
    }

    /// Reads a manifest or an index. `None` if it does not exist.
    ///
    /// # Errors
    /// Fails if the registry rejects the request or the response is too large.
    pub(crate) async fn manifest(&self, reference: &str) -> Result<Option<RemoteManifest>> {
        Ok(match self.lookup(reference).await? {
            ManifestLookup::Found(manifest) => Some(manifest),
            ManifestLookup::NoImage | ManifestLookup::NoRepository | ManifestLookup::Unclear => None,
        })
    }

    /// Reads a manifest or an index, or finds out what is missing.
    ///
    /// # Errors
    /// Fails if the registry rejects the request or the response is too large.
    pub(crate) async fn lookup(&self, reference: &str) -> Result<ManifestLookup> {
        let doing = format!("cannot read the manifest {}{}", self.repository(), suffix(reference));
        self.find(reference).await.map_err(|error| self.explain(error, &doing))
    }

    async fn find(&self, reference: &str) -> Result<ManifestLookup, RequestError> {
        let request = ApiRequest::new(Method::GET, self.url(&format!("manifests/{reference}")), &[200])
            .accept(ACCEPT)
            .read(LIMIT);
        let reply = match self.request(&request).await {
            Ok(reply) => reply,
            Err(RequestError::Status(response, _)) if response.status == Some(404) => {
                return Ok(match response.code.as_str() {
                    "NAME_UNKNOWN" => ManifestLookup::NoRepository,
                    "MANIFEST_UNKNOWN" => ManifestLookup::NoImage,
                    _ => ManifestLookup::Unclear,
                });
            }
            Err(error) => return Err(error),
        };
        let media_type = reply.header(CONTENT_TYPE.as_str()).unwrap_or_default();
        let stated_digest = content_digest(&reply.headers);
        let bytes = reply.body();
        Ok(ManifestLookup::Found(RemoteManifest { digest: Digest::of(&bytes), bytes, media_type, stated_digest }))
    }
}

/// Formats a tag as `:TAG`, a digest as `@` and its short form.
fn suffix(reference: &str) -> String {
    reference.parse::<Digest>().map_or_else(|_| format!(":{reference}"), |digest| format!("@{}", digest.short()))
}

/// Returns the digest that the registry confirms.
pub(super) fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get("docker-content-digest")?.to_str().ok()?.parse().ok()
}
