//! What a registry has under a tag, asked from it afresh.

use tokio_util::sync::CancellationToken;

use super::pusher::Pusher;
use crate::error::{Code, Error, Kind, Result};
use crate::oci::{DescriptorDigest, Digest, Document, Tag, Target};
use crate::registry::{Client, Presence};

/// An image as a registry has it.
#[derive(Clone, Debug)]
pub(crate) struct ReadBack {
    /// The digest of what the tag points at.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// The config digests: one a platform.
    pub image_ids: Vec<Digest>,
    /// The layers, lowest first, platform after platform: digest and size as the registry has them.
    pub layers: Vec<(Digest, u64)>,
}

/// Reads back what `tag` of `target` points at, and asks for every blob below it.
///
/// # Errors
/// If something is not there, or not as its manifest says.
pub(crate) async fn read_back(pusher: &Pusher, target: &Target, tag: &Tag) -> Result<ReadBack> {
    let targets = std::slice::from_ref(target);
    let client = &Box::pin(pusher.registries.connect(target, targets, 1, CancellationToken::new())).await?.client;
    let root = manifest(client, tag.as_str()).await?;
    let mut found = ReadBack {
        digest: root.digest,
        media_type: root.media_type.clone(),
        image_ids: Vec::new(),
        layers: Vec::new(),
    };
    let mut views = vec![view(&root.bytes)?];
    while let Some(next) = views.pop() {
        for child in next.manifests.iter().flatten().rev() {
            views.push(view(&manifest(client, &child.digest.to_string()).await?.bytes)?);
        }
        // A non-distributable layer stays where its URL says.
        for layer in next.layers.iter().flatten().filter(|layer| !layer.is_non_distributable()) {
            let digest = stored(client, &layer.digest)?;
            match client.presence(&digest).await? {
                Presence::Present(Some(size)) if size == layer.size => found.layers.push((digest, size)),
                Presence::Absent if client.withholds_blobs() => found.layers.push((digest, layer.size)),
                _ => return Err(missing(client, &format!("layer {digest}"))),
            }
        }
        if let Some(config) = next.config {
            let limit = usize::try_from(config.size).unwrap_or(usize::MAX);
            let digest = stored(client, &config.digest)?;
            match client.small_blob(&digest, limit).await? {
                Some(_) => found.image_ids.push(digest),
                None => return Err(missing(client, &format!("config {digest}"))),
            }
        }
    }
    Ok(found)
}

async fn manifest(client: &Client, reference: &str) -> Result<crate::registry::RemoteManifest> {
    client.manifest(reference).await?.ok_or_else(|| missing(client, &format!("the manifest {reference}")))
}

/// The digest of a blob that the registry must have.
fn stored(client: &Client, digest: &DescriptorDigest) -> Result<Digest> {
    digest.sha256().ok_or_else(|| missing(client, &format!("the blob {digest}")))
}

fn view(bytes: &[u8]) -> Result<Document> {
    Document::parse(bytes).map_err(|error| {
        Error::new(Kind::Refused, "cannot parse a manifest that was read back")
            .code(Code::ProtocolViolation)
            .because(error)
    })
}

fn missing(client: &Client, what: &str) -> Error {
    Error::new(Kind::Refused, format!("{what} in {} is missing or differs from what was pushed", client.repository()))
        .code(Code::ProtocolViolation)
}
