//! Layers that need not be uploaded: the blobs that an uncompressed layer became before, on this machine or in the registry.

mod cache;
mod remote_image;

pub(crate) use cache::{CachedLayer, LayerCache};
pub(crate) use remote_image::{RemoteImage, RemoteLayer};
pub(crate) use remote_image::{is_image_with, layer_blobs, read_images, read_manifests};
