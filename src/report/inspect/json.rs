//! What is in an archive, as JSON. The shape is a contract: fields may be added, and a change of meaning raises `version`.

use serde::Serialize;

use super::super::json::{Failure, TOOL, Tool, failure};
use crate::image::{self, Content, Stated, shown};
use crate::inspect::{Inspection, Verified};
use crate::plan::{self, Fate};
use crate::reference::{DiffId, Digest};

/// The version of the shape.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    tool: Tool,
    archive: String,
    format: &'static str,
    notes: &'a [String],
    /// Whether all is as the archive says; nothing where the layers were not read.
    verified: Option<bool>,
    exit_code: u8,
    images: Vec<Image<'a>>,
    unusable: Vec<Unusable>,
}

#[derive(Serialize)]
struct Image<'a> {
    names: &'a [String],
    image_id: Digest,
    platforms: Vec<String>,
    indexes: Vec<Index>,
    manifests: Vec<Manifest<'a>>,
}

#[derive(Serialize)]
struct Index {
    #[serde(flatten)]
    document: Document,
    #[serde(flatten)]
    push: Push,
    lists: Vec<Digest>,
}

#[derive(Serialize)]
struct Manifest<'a> {
    #[serde(flatten)]
    document: Document,
    #[serde(flatten)]
    push: Push,
    platform: Option<&'a str>,
    config: Document,
    layers: Vec<Layer<'a>>,
}

/// A manifest, an index or a config. Where the archive states none, all of it is nothing.
#[derive(Default, Serialize)]
struct Document {
    digest: Option<Digest>,
    media_type: Option<String>,
    size: Option<usize>,
}

/// What a push without options does to a manifest or an index.
#[derive(Serialize)]
struct Push {
    digest_kept: bool,
    reason: &'static str,
}

#[derive(Serialize)]
struct Layer<'a> {
    name: &'a str,
    size: u64,
    packing: &'static str,
    media_type: Option<String>,
    digest: Option<Digest>,
    diff_id: Option<DiffId>,
    origins: Vec<String>,
    found: Option<Found>,
}

/// What the bytes are.
#[derive(Serialize)]
struct Found {
    digest: Option<Digest>,
    diff_id: Option<DiffId>,
    error: Option<Failure>,
}

#[derive(Serialize)]
struct Unusable {
    names: Vec<String>,
    /// By which the archive lists it: of a config, a manifest or an index.
    id: Option<Digest>,
    error: Failure,
}

/// What is in an archive, pretty-printed, with a line end.
pub fn json(inspection: &Inspection) -> String {
    let Inspection { archive, verified } = inspection;
    let faults = inspection.faults();
    let report = Report {
        version: VERSION,
        tool: TOOL,
        archive: archive.source.to_string(),
        format: archive.format.name(),
        notes: &archive.notes,
        verified: verified.as_ref().map(|_| faults.is_empty()),
        exit_code: faults.first().map_or(0, |fault| fault.kind().exit_code()),
        images: archive.images.iter().map(|it| image(it, verified.as_ref())).collect(),
        unusable: archive.unusable.iter().map(unusable).collect(),
    };
    // Text, numbers and lists only: nothing in it can fail to become JSON.
    serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
}

fn image<'a>(image: &'a image::Image, verified: Option<&Verified>) -> Image<'a> {
    let (mut indexes, mut manifests) = (Vec::new(), Vec::new());
    collect(&image.content, verified, &mut indexes, &mut manifests);
    let image::Image { names, content, .. } = image;
    Image {
        names,
        image_id: content.id(),
        platforms: content.platforms().iter().map(ToString::to_string).collect(),
        indexes,
        manifests,
    }
}

/// Files everything below `content` as what it is, in the order in which the archive lists it.
fn collect<'a>(
    content: &'a Content,
    verified: Option<&Verified>,
    indexes: &mut Vec<Index>,
    manifests: &mut Vec<Manifest<'a>>,
) {
    let push = Push::of(plan::fate(content));
    match content {
        Content::Index(index) => {
            let lists = index.children.iter().filter_map(|child| Some(child.content.stated()?.digest)).collect();
            indexes.push(Index { document: Document::stated(&index.stated), push, lists });
            index.children.iter().for_each(|child| collect(&child.content, verified, indexes, manifests));
        }
        Content::Manifest(manifest) => {
            let image::Manifest { stated, config, layers, .. } = manifest.as_ref();
            manifests.push(Manifest {
                document: stated.as_ref().map(Document::stated).unwrap_or_default(),
                push,
                platform: config.platform.as_deref(),
                config: Document::new(config.digest, config.media_type.as_deref(), &config.bytes),
                layers: layers.iter().map(|it| layer(it, verified)).collect(),
            });
        }
    }
}

fn layer<'a>(layer: &'a image::Layer, verified: Option<&Verified>) -> Layer<'a> {
    let found = verified.map(|verified| {
        let (digest, diff_id) = verified.found(layer).map_or((None, None), |it| (Some(it.digest), it.diff_id));
        Found { digest, diff_id, error: verified.layer(layer).err().as_ref().map(failure) }
    });
    Layer {
        name: &layer.name,
        size: layer.bytes.len(),
        packing: layer.packing.name(),
        media_type: layer.media_type.as_deref().map(shown),
        digest: layer.digest,
        diff_id: layer.diff_id,
        origins: layer.origins.iter().map(|origin| format!("{}/{}", origin.host, origin.repository)).collect(),
        found,
    }
}

fn unusable(unusable: &image::Unusable) -> Unusable {
    Unusable {
        names: unusable.names.iter().map(|name| shown(name)).collect(),
        id: unusable.id,
        error: failure(&unusable.error),
    }
}

impl Document {
    fn new(digest: Digest, media_type: Option<&str>, bytes: &[u8]) -> Self {
        Self { digest: Some(digest), media_type: media_type.map(shown), size: Some(bytes.len()) }
    }

    fn stated(stated: &Stated) -> Self {
        Self::new(stated.digest, Some(&stated.media_type), &stated.bytes)
    }
}

impl Push {
    fn of(fate: Fate) -> Self {
        Self { digest_kept: fate == Fate::Kept, reason: fate.text() }
    }
}
