//! What may go wrong with an image that goes as its author wrote it: said before anything is sent, and not refused.

use super::{Outcome, Request};
use crate::image::{Flaw, Image, Layer, Manifest};
use crate::layer::{Packing, Recipe, size};
use crate::oci::{Digest, Host};
use crate::plan;

/// The most layers that Docker's overlay2 mounts, and that ECR took as long as it said
/// (<https://github.com/moby/buildkit/issues/3067>).
const MOST_LAYERS: usize = 127;

/// The largest config that podman, buildah and skopeo read
/// (<https://github.com/containers/image/blob/main/internal/iolimits/iolimits.go>).
const LARGEST_CONFIG: usize = 4 << 20;

/// What a person should know, a sentence each.
pub(super) fn of(request: &Request, image: &Image) -> Vec<String> {
    let doubts = image.content.manifests().into_iter().flat_map(|manifest| {
        let flaws = if manifest.repaired.is_some() { Vec::new() } else { manifest.flaws() };
        let flaws = flaws.into_iter().filter_map(move |flaw| match flaw {
            Flaw::ConfigPlatform => config_platform(request, manifest),
            Flaw::MediaType { layer, says } => media_type(request, manifest, &manifest.layers[layer], &says),
        });
        flaws.chain(many_layers(manifest)).chain(large_config(manifest))
    });
    doubts.collect()
}

/// Warns about an image that has another digest at one target than at another: whoever deploys by digest has to know.
pub(super) fn of_digests(outcome: &Outcome) -> Option<String> {
    let digests = outcome.digests();
    if digests.len() < 2 {
        return None;
    }
    let first = |digest: &Digest| {
        let placed = outcome.targets.iter().flat_map(|to| to.of_image().map(move |placed| (to, placed)));
        let mut of_digest = placed.filter(|(_, placed)| placed.digest == *digest);
        of_digest.next().map(|(to, placed)| format!("{}:{} has {digest}", to.name, placed.tag))
    };
    let all: Vec<String> = digests.iter().filter_map(first).collect();
    Some(format!(
        "the image has {} digests: {}. Likely cause: a registry keeps layers that were compressed another way. Deploy to each \
         target by its own digest, or push with --reuse off, which gives the image one digest",
        digests.len(),
        all.join(", ")
    ))
}

fn many_layers(manifest: &Manifest) -> Option<String> {
    let (count, config) = (manifest.layers.len() + manifest.foreign.len(), manifest.config.digest.short());
    (count > MOST_LAYERS).then(|| {
        format!("the image {config} has {count} layers: Docker and podman run none with more than {MOST_LAYERS}, and ECR may refuse it")
    })
}

fn large_config(manifest: &Manifest) -> Option<String> {
    let (bytes, config) = (manifest.config.bytes.len(), manifest.config.digest.short());
    (bytes > LARGEST_CONFIG).then(|| {
        let (bytes, most) = (size(bytes as u64), size(LARGEST_CONFIG as u64));
        format!("the config {config} has {bytes}: podman, buildah and skopeo read none with more than {most}")
    })
}

fn config_platform(request: &Request, manifest: &Manifest) -> Option<String> {
    let is_ecr = request.targets.iter().any(|target| target.host.as_ref().is_none_or(Host::is_amazons));
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
