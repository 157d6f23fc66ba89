//! The outcome as `docker buildx build --metadata-file` writes it, for pipelines that read that.
//!
//! The keys are those of BuildKit's exporter
//! (<https://github.com/moby/buildkit/blob/master/exporter/containerimage/exptypes/types.go>), and so are their values (<https://github.com/moby/buildkit/blob/master/exporter/containerimage/export.go>): `image.name` has all names with
//! commas between, and an index has no `containerimage.config.digest`. Docker documents the file
//! (<https://docs.docker.com/reference/cli/docker/buildx/build/#metadata-file>).

use std::collections::BTreeMap;

use serde::Serialize;

use super::json::escaped;
use crate::error::Result;
use crate::oci::{Digest, Family};
use crate::push::{Outcome, TagOutcome, TagState};

#[derive(Serialize)]
struct Metadata<'a> {
    #[serde(rename = "containerimage.config.digest", skip_serializing_if = "Option::is_none")]
    config: Option<Digest>,
    #[serde(rename = "containerimage.descriptor")]
    descriptor: Descriptor<'a>,
    #[serde(rename = "containerimage.digest")]
    digest: Digest,
    /// All digests by their references, if there are several: BuildKit's keys hold one.
    #[serde(rename = "ecr-push.digests", skip_serializing_if = "BTreeMap::is_empty")]
    digests: BTreeMap<String, Digest>,
    #[serde(rename = "image.name")]
    name: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'a> {
    media_type: &'a str,
    digest: Digest,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform<'a>>,
}

#[derive(Serialize)]
struct Platform<'a> {
    architecture: &'a str,
    os: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
}

/// Returns what the first target's first tag points at, with the names of all tags that point at the same. `None` if the push
/// failed or was a dry run.
pub(crate) fn metadata(outcome: &Outcome) -> Result<Option<String>> {
    let Some(first) = outcome.first() else { return Ok(None) };
    let TagOutcome { digest, media_type, size, state, .. } = first;
    let of_image = outcome.targets.iter().flat_map(|target| target.of_image().map(move |placed| (target, placed)));
    let digests = of_image.map(|(target, placed)| (format!("{}:{}", target.name, placed.tag), placed.digest));
    let placed = outcome.targets.iter().flat_map(|target| target.placed.iter().map(move |placed| (target, placed)));
    let names = placed.filter(|(_, placed)| placed.digest == *digest);
    let names: Vec<String> = names.map(|(target, placed)| format!("{}:{}", target.name, placed.tag)).collect();
    // A skipped tag points at another image, which is not known. An index has no config, as in BuildKit.
    let is_manifest = [Family::Docker, Family::Oci].iter().any(|family| family.manifest() == media_type);
    let image = outcome.image.as_ref().filter(|_| is_manifest && *state != TagState::Skipped);
    let platform = image.and_then(|image| image.platforms.first()).and_then(|platform| Platform::of(platform));
    let metadata = Metadata {
        config: image.and_then(|image| image.image_ids.first().copied()),
        descriptor: Descriptor { media_type, digest: *digest, size: *size, platform },
        digest: *digest,
        digests: if outcome.digests().len() > 1 { digests.collect() } else { BTreeMap::new() },
        name: names.join(","),
    };
    escaped(serde_json::to_string_pretty(&metadata)).map(Some)
}

impl<'a> Platform<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let mut words = text.splitn(3, '/');
        Some(Self { os: words.next()?, architecture: words.next()?, variant: words.next() })
    }
}

/// Returns the digest of what the first target's first tag points at, as podman, skopeo, buildah and kaniko write it: without a
/// line end (<https://github.com/containers/skopeo/blob/main/cmd/skopeo/copy.go>). If the image has several digests, each is on
/// a line of its own: a script that expects one must not mistake the first for all. `None` if the push failed or was a dry run.
pub(crate) fn digest(outcome: &Outcome) -> Option<String> {
    let first = outcome.first()?.digest;
    let others = outcome.digests().into_iter().filter(|digest| *digest != first);
    Some(std::iter::once(first).chain(others).map(|digest| digest.to_string()).collect::<Vec<_>>().join("\n"))
}
