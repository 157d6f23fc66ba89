//! Manifests and indexes: put last, read back.

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Method, StatusCode};

use super::api_request::ApiRequest;
use super::client::Client;
use super::referrers::Referrer;
use super::reply::Reply;
use super::request_error::RequestError;
use crate::error::{Code, Error, Kind, Result};
use crate::oci::Digest;

/// What a manifest or index may have at most: ECR's limit on `imageManifest` (ECR API reference, PutImage).
const LIMIT: usize = 4 << 20;

/// Every type that an image can have. ECR converts a manifest that is asked for by tag into a type that is accepted, so
/// all are named (ECR user guide, "Container image manifest format support").
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.docker.distribution.manifest.v2+json";

/// A manifest as a registry has it.
#[derive(Clone, Debug)]
pub struct RemoteManifest {
    /// The bytes.
    pub bytes: Bytes,
    /// Their digest, computed here.
    pub digest: Digest,
    /// The media type, as the registry says.
    pub media_type: String,
}

/// What is under a tag or a digest.
#[derive(Clone, Debug)]
pub enum ManifestLookup {
    /// This.
    Found(RemoteManifest),
    /// Nothing.
    NoImage,
    /// Nothing, since there is no such repository.
    NoRepository,
    /// A 404 that does not say what it is that is not there.
    Unclear,
}

impl Client {
    /// Puts a manifest or an index, whose digest is known, under a tag or under that digest. If it has a `subject` and
    /// the registry keeps no list of what refers to that, the list is kept here.
    ///
    /// # Errors
    /// If the registry refuses, confirms another digest than that of these bytes, or confirms none and does not have them.
    /// Nothing is asked of the answer beyond that: ECR's has no Location (apple/swift-container-plugin#27).
    pub async fn put_manifest(&self, reference: &str, media_type: &str, digest: Digest, bytes: Bytes) -> Result<()> {
        let answer = self.put(reference, media_type, digest, bytes.clone()).await?;
        match Referrer::of(&bytes, media_type, digest) {
            Some(referrer) if !answer.contains_key("oci-subject") => self.list_referrer(referrer).await,
            _ => Ok(()),
        }
    }

    /// Puts a manifest or an index, and no more than that.
    pub(super) async fn put(
        &self,
        reference: &str,
        media_type: &str,
        digest: Digest,
        bytes: Bytes,
    ) -> Result<HeaderMap> {
        let ask = ApiRequest::new(Method::PUT, self.url(&format!("manifests/{reference}")), &[200, 201, 202]);
        let ask = ask.body(media_type, bytes)?;
        let doing = format!("cannot put the manifest {}{}", self.repository(), place(reference));
        let reply = self.ask(&ask).await.map_err(|fault| self.explain(fault, &doing))?;
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

    /// Reads a manifest back that was put, where the answer is not that of a registry that stored it: a firewall's page and a
    /// server that answers 200 to everything look like a success.
    async fn confirm(&self, reference: &str, digest: Digest, reply: &Reply, doing: &str) -> Result<()> {
        let (answer, _) = RequestError::read(reply, &Method::PUT);
        let is_page = reply.is_page();
        let found = match self.find(reference).await {
            Ok(ManifestLookup::Found(found)) if found.digest == digest => return Ok(()),
            Ok(ManifestLookup::Found(_)) => "something else is there",
            Ok(ManifestLookup::NoImage | ManifestLookup::NoRepository | ManifestLookup::Unclear) => {
                "no such manifest is there"
            }
            // Whoever may only write cannot read back.
            Err(fault) if !is_page && fault.is_denial_of_registry() => {
                let place = format!("{}/{}{}", self.name(), self.repository(), place(reference));
                self.note(format!(
                    "{place} could not be read back: reading is denied, and the registry did not confirm the digest"
                ));
                return Ok(());
            }
            Err(fault) if is_page && fault.is_denial() => "reading it back is denied",
            Err(fault) => return Err(self.explain(fault, doing)),
        };
        let what = format!("{doing}: {} did not store it ({found})", self.name());
        let error = Error::new(Kind::Refused, what).with_service_error(answer).code(Code::ProtocolViolation);
        Err(error.hint(if is_page {
            "The answer is a web page: a proxy or a firewall answered, or the address is not that of a registry."
        } else {
            "Check that the address is that of a registry which accepts pushes."
        }))
    }

    /// Reads a manifest or an index. `None` if there is none.
    ///
    /// # Errors
    /// If the registry refuses or sends too much.
    pub async fn manifest(&self, reference: &str) -> Result<Option<RemoteManifest>> {
        Ok(match self.lookup(reference).await? {
            ManifestLookup::Found(manifest) => Some(manifest),
            ManifestLookup::NoImage | ManifestLookup::NoRepository | ManifestLookup::Unclear => None,
        })
    }

    /// Reads a manifest or an index, or learns what is missing.
    ///
    /// # Errors
    /// If the registry refuses or sends too much.
    pub async fn lookup(&self, reference: &str) -> Result<ManifestLookup> {
        let doing = format!("cannot read the manifest {}{}", self.repository(), place(reference));
        self.find(reference).await.map_err(|fault| self.explain(fault, &doing))
    }

    async fn find(&self, reference: &str) -> Result<ManifestLookup, RequestError> {
        let ask = ApiRequest::new(Method::GET, self.url(&format!("manifests/{reference}")), &[200])
            .accept(ACCEPT)
            .read(LIMIT);
        let reply = match self.ask(&ask).await {
            Ok(reply) => reply,
            Err(RequestError::Status(answer, _)) if answer.status == Some(404) => {
                return Ok(match answer.code.as_str() {
                    "NAME_UNKNOWN" => ManifestLookup::NoRepository,
                    "MANIFEST_UNKNOWN" => ManifestLookup::NoImage,
                    _ => ManifestLookup::Unclear,
                });
            }
            Err(fault) => return Err(fault),
        };
        let media_type = reply.header(CONTENT_TYPE.as_str()).unwrap_or_default();
        let bytes = reply.body();
        Ok(ManifestLookup::Found(RemoteManifest { digest: Digest::of(&bytes), bytes, media_type }))
    }
}

/// A tag as people write it, a digest short.
fn place(reference: &str) -> String {
    reference.parse::<Digest>().map_or_else(|_| format!(":{reference}"), |digest| format!("@{}", digest.short()))
}

/// The digest that the registry says it stored, where it says so.
pub(super) fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get("docker-content-digest")?.to_str().ok()?.parse().ok()
}
