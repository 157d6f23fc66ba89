//! Reuse of blobs: those to which an uncompressed layer was compressed before, known from the local layer cache or from images
//! in the registry.

mod cache;
mod recent;
mod remote_image;

pub(crate) use cache::{CachedLayer, LayerCache};
pub(crate) use recent::Recent;
pub(crate) use remote_image::{RemoteImage, RemoteLayer};
pub(crate) use remote_image::{is_image_with, layer_blobs, read_images, read_manifests};
