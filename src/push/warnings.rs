//! Warnings about an image that is pushed as its author wrote it. They come before anything is sent, and reject nothing.

use super::compression::{self, CompressionPolicy};
use super::outcome::Outcome;
use crate::archive::{Content, Flaw, Image, Layer, Manifest};
use crate::compress::{Compression, CompressionSpec, size};
use crate::error::Setting;
use crate::oci::{Digest, Host, MediaType, StrictField, Target};

/// The most layers that Docker's overlay2 mounts, and that ECR accepted as long as it documented a limit
/// (<https://github.com/moby/buildkit/issues/3067>).
const MOST_LAYERS: usize = 127;

/// The largest config that podman, buildah and skopeo read
/// (<https://github.com/containers/image/blob/main/internal/iolimits/iolimits.go>).
const LARGEST_CONFIG: usize = 4 << 20;

/// What a person should know, a sentence each.
pub(super) fn of(image: &Image, targets: &[Target], compression: CompressionPolicy) -> Vec<String> {
    let is_for_ecr = targets.iter().any(|target| target.host.as_ref().is_none_or(Host::is_amazon));
    let of_manifest = |manifest: &Manifest| {
        let media_types = manifest.flaws().into_iter().filter_map(|flaw| match flaw {
            Flaw::MediaType { layer, stated } if manifest.repaired.is_none() => {
                media_type(compression, manifest, &manifest.layers[layer], &stated)
            }
            Flaw::MediaType { .. } | Flaw::Strict(_) => None,
        });
        let rejected = no_layers(manifest).filter(|_| is_for_ecr);
        media_types.chain(rejected).chain(many_layers(manifest)).chain(large_config(manifest)).collect::<Vec<_>>()
    };
    let strict = image.content.all().into_iter().filter(|_| is_for_ecr).flat_map(strict);
    strict.chain(image.content.manifests().into_iter().flat_map(of_manifest)).collect()
}

/// Fields that ECR rejects, in what is put if no layer changes.
fn strict(content: &Content) -> Vec<String> {
    let (what, base) = match content {
        Content::Manifest(manifest) => ("manifest", manifest.base()),
        Content::Index(index) => ("index", Some(index.base())),
    };
    let Some(base) = base else { return Vec::new() };
    let sentence = |field: &StrictField| {
        let cure = match field.is_repairable() {
            true => format!("{} removes it, which changes the digest", Setting::new("repair")),
            false => field.fix().to_owned(),
        };
        format!(
            "the {what} {} has {}, which ECR rejects: {cure}. Likely cause: {}",
            base.digest.short(),
            field.field,
            field.writer
        )
    };
    StrictField::find_all(&base.bytes).into_iter().map(sentence).collect()
}

/// ECR stores no image without layers (<https://github.com/werf/werf/issues/2544>).
fn no_layers(manifest: &Manifest) -> Option<String> {
    let is_image = manifest.config.media_type.as_deref().is_none_or(|it| MediaType(it).is_image_config());
    (is_image && manifest.layers.is_empty() && manifest.non_distributable.is_empty()).then(|| {
        let config = manifest.config.digest.short();
        format!("the image {config} has no layers, and ECR rejects such an image: build it with at least one")
    })
}

/// Warns about an image that has another digest at one target than at another, which matters to deployments by digest.
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
        "the image has {} digests: {}. Likely cause: layers that exist in a repository with another compression were reused. Deploy to each \
         target by its own digest, or push with {}, which gives the image one digest",
        digests.len(),
        all.join(", "),
        Setting::new("same-digest")
    ))
}

fn many_layers(manifest: &Manifest) -> Option<String> {
    let (count, config) = (manifest.layers.len() + manifest.non_distributable.len(), manifest.config.digest.short());
    (count > MOST_LAYERS).then(|| {
        format!("the image {config} has {count} layers: Docker and podman cannot run images with more than {MOST_LAYERS}, and ECR may refuse it")
    })
}

fn large_config(manifest: &Manifest) -> Option<String> {
    let (bytes, config) = (manifest.config.bytes.len(), manifest.config.digest.short());
    (bytes > LARGEST_CONFIG).then(|| {
        let (bytes, most) = (size(bytes as u64), size(LARGEST_CONFIG as u64));
        format!("the config {config} has {bytes}: podman, buildah and skopeo read at most {most}")
    })
}

fn media_type(policy: CompressionPolicy, manifest: &Manifest, layer: &Layer, says: &str) -> Option<String> {
    // Compression sets the right type.
    let CompressionSpec::Keep { .. } = compression::spec(manifest, layer, policy) else { return None };
    let (name, is) =
        (layer.digest.map_or_else(|| layer.name.clone(), |digest| digest.short()), layer.compression.name());
    let pack = if layer.compression == Compression::Uncompressed {
        format!("; {} compresses it", Setting::with("compression", "gzip"))
    } else {
        String::new()
    };
    Some(format!(
        "layer {name} is {is}, but the manifest declares it as {says}, and Docker may fail to unpack it: {} corrects \
         that and changes the manifest's digest{pack}",
        Setting::new("repair")
    ))
}
