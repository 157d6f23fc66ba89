//! What may go wrong with an image that goes as its author wrote it: said before anything is sent, and not refused.

use super::Request;
use crate::image::{Flaw, Image, Layer, Manifest};
use crate::layer::{Packing, Recipe};
use crate::plan;

/// What a person should know, a sentence each.
pub(super) fn of(request: &Request, image: &Image) -> Vec<String> {
    let manifests = image.manifests().into_iter().filter(|manifest| manifest.repaired.is_none());
    let doubts = manifests.flat_map(|manifest| {
        let flaws = manifest.flaws();
        flaws.into_iter().filter_map(move |flaw| match flaw {
            Flaw::ConfigPlatform => config_platform(request, manifest),
            Flaw::MediaType { layer, says } => media_type(request, manifest, &manifest.layers[layer], &says),
        })
    });
    doubts.collect()
}

fn config_platform(request: &Request, manifest: &Manifest) -> Option<String> {
    let is_ecr = request.targets.iter().any(|target| target.host.as_ref().is_none_or(|host| host.ecr().is_some()));
    let digest = manifest.stated.as_ref().filter(|_| is_ecr)?.digest.short();
    Some(format!(
        "the manifest {digest} has a `platform` in the descriptor of its config, as Docker 25.0 and 26.0 write it, and ECR \
         refuses that: add --repair, which takes it out and changes the digest, or save the image with a newer Docker"
    ))
}

fn media_type(request: &Request, manifest: &Manifest, layer: &Layer, says: &str) -> Option<String> {
    // What is packed gets the right type by that.
    let Recipe::Keep { .. } = plan::recipe(manifest, layer, request.compression) else { return None };
    let (name, is) = (layer.digest.map_or_else(|| layer.name.clone(), |digest| digest.short()), layer.packing.name());
    let pack = if layer.packing == Packing::Plain { "; or add --compression gzip, which packs it" } else { "" };
    Some(format!(
        "layer {name} is {is}, but the manifest calls it {says}, so that Docker may fail to unpack it: add --repair, \
         which corrects that and changes the manifest's digest{pack}"
    ))
}
