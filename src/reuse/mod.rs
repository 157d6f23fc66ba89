//! What is known already: which packed blobs a plain layer has become before, here or in the registry.

mod cache;
mod remote_image;

pub use cache::{CachedLayer, LayerCache};
pub use remote_image::{RemoteImage, RemoteLayer, is_image_with, layer_blobs, read_images, read_manifests};
