//! The content of an archive as JSON. The shape is stable: fields may be added, a change of meaning raises `version`.

use serde::Serialize;

use super::super::json::{TOOL, Tool, escaped};
use crate::archive::inspect::{Inspection, Verified};
use crate::archive::{self, Child, Content, Role, shown};
use crate::error::{Error, Result};
use crate::oci::{DiffId, Digest, OriginalManifest};
use crate::output::log::Failure;
use crate::push::{ManifestAction, compression};

/// The version of the shape.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    tool: Tool,
    archive: String,
    format: &'static str,
    notes: &'a [String],
    /// Whether everything matches the archive; null if the layers were not read.
    verified: Option<bool>,
    exit_code: u8,
    /// How many images the archive lists, selected or not.
    listed: usize,
    images: Vec<Image<'a>>,
    referrers: Vec<Referrer<'a>>,
    unusable: Vec<Unusable>,
}

#[derive(Serialize)]
struct Image<'a> {
    names: &'a [String],
    image_id: Digest,
    /// The index of which a platform was selected.
    part_of: Option<Digest>,
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
    absent: Vec<Absent>,
}

/// An entry of an index that cannot be pushed.
#[derive(Serialize)]
struct Absent {
    digest: Digest,
    role: &'static str,
    platform: Option<String>,
    attests: Option<Digest>,
    error: Failure,
}

/// A referrer. Of one that cannot be pushed only the error is known.
#[derive(Default, Serialize)]
struct Referrer<'a> {
    names: &'a [String],
    #[serde(flatten)]
    document: Document,
    artifact_type: Option<String>,
    subject: Option<Digest>,
    tag: Option<String>,
    layers: Vec<Layer<'a>>,
    error: Option<Failure>,
}

#[derive(Serialize)]
struct Manifest<'a> {
    #[serde(flatten)]
    document: Document,
    #[serde(flatten)]
    push: Push,
    role: &'static str,
    /// The platform as the index states it, normalized.
    listed_for: Option<String>,
    platform: Option<String>,
    attests: Option<Digest>,
    config: Document,
    layers: Vec<Layer<'a>>,
    foreign: Vec<Foreign>,
}

/// A non-distributable layer.
#[derive(Serialize)]
struct Foreign {
    /// Its position among all layers.
    at: usize,
    digest: String,
    size: i64,
    media_type: String,
    urls: Vec<String>,
    in_archive: bool,
}

/// A manifest, an index or a config. All fields are null if the archive states none.
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
    in_archive: bool,
    packing: &'static str,
    media_type: Option<String>,
    digest: Option<Digest>,
    diff_id: Option<DiffId>,
    origins: Vec<String>,
    found: Option<Found>,
}

/// The content that was read.
#[derive(Serialize)]
struct Found {
    digest: Option<Digest>,
    diff_id: Option<DiffId>,
    error: Option<Failure>,
}

#[derive(Serialize)]
struct Unusable {
    names: Vec<String>,
    /// The digest of the config, manifest or index that the archive lists.
    id: Option<Digest>,
    error: Failure,
}

/// Returns the content of an archive, pretty-printed, with a line end.
pub(crate) fn json(inspection: &Inspection) -> Result<String> {
    let Inspection { archive, all, verified } = inspection;
    let faults = inspection.faults();
    let report = Report {
        version: VERSION,
        tool: TOOL,
        archive: archive.source.to_string(),
        format: archive.format,
        notes: &archive.notes,
        verified: verified.as_ref().map(|_| faults.is_empty()),
        exit_code: faults.first().map_or(0, |fault| fault.kind().exit_code()),
        listed: *all,
        images: archive.images.iter().map(|it| image(it, verified.as_ref())).collect(),
        referrers: archive.referrers_of_all().into_iter().map(|(_, it)| referrer(it, verified.as_ref())).collect(),
        unusable: archive.unusable.iter().map(unusable).collect(),
    };
    escaped(serde_json::to_string_pretty(&report))
}

fn image<'a>(image: &'a archive::Image, verified: Option<&Verified>) -> Image<'a> {
    let (mut indexes, mut manifests) = (Vec::new(), Vec::new());
    collect(&image.content, None, verified, &mut indexes, &mut manifests);
    let archive::Image { names, content, part_of, .. } = image;
    Image {
        names,
        image_id: content.id(),
        part_of: part_of.first().copied(),
        platforms: content.platforms().iter().map(ToString::to_string).collect(),
        indexes,
        manifests,
    }
}

fn referrer<'a>(referrer: Result<&'a archive::Referrer, &Error>, verified: Option<&Verified>) -> Referrer<'a> {
    let archive::Referrer { subject, names, tag, content } = match referrer {
        Ok(referrer) => referrer,
        Err(error) => return Referrer { error: Some(error.into()), ..Referrer::default() },
    };
    let layers = content.manifests().into_iter().flat_map(|manifest| &manifest.layers);
    Referrer {
        names,
        document: content.original().map(Document::stated).unwrap_or_default(),
        artifact_type: content.artifact_type(),
        subject: Some(*subject),
        tag: tag.as_ref().map(ToString::to_string),
        layers: layers.map(|it| layer(it, verified)).collect(),
        error: None,
    }
}

/// Returns the role of an entry of an index, and what it attests.
fn role(role: Option<&Role>) -> (&'static str, Option<Digest>) {
    match role {
        Some(Role::Attestation(about)) => ("attestation", *about),
        Some(Role::Image(_)) | None => ("image", None),
    }
}

fn absent(archive::Absent { role: stated, digest, error }: &archive::Absent) -> Absent {
    let (role, attests) = role(Some(stated));
    let platform = match stated {
        Role::Image(platform) => platform.as_ref().map(ToString::to_string),
        Role::Attestation(_) => None,
    };
    Absent { digest: *digest, role, platform, attests, error: error.into() }
}

fn foreign(archive::NonDistributableLayer { at, descriptor, layer }: &archive::NonDistributableLayer) -> Foreign {
    Foreign {
        at: *at,
        digest: descriptor.digest.clone(),
        size: descriptor.size,
        media_type: shown(&descriptor.media_type),
        urls: descriptor.urls.iter().flatten().map(|url| shown(url)).collect(),
        in_archive: layer.is_some(),
    }
}

/// Collects all indexes and manifests below `content`, which an index lists for `stated` if there is one, in the order of the
/// archive.
fn collect<'a>(
    content: &'a Content,
    stated: Option<&Role>,
    verified: Option<&Verified>,
    indexes: &mut Vec<Index>,
    manifests: &mut Vec<Manifest<'a>>,
) {
    let push = Push::of(compression::manifest_action(content));
    match content {
        Content::Index(index) => {
            let lists = index.children.iter().filter_map(|child| Some(child.content.original()?.digest)).collect();
            let absent = index.absent.iter().map(absent).collect();
            indexes.push(Index { document: Document::stated(&index.original), push, lists, absent });
            for Child { role, content } in &index.children {
                collect(content, Some(role), verified, indexes, manifests);
            }
        }
        Content::Manifest(manifest) => {
            let listed_for = match stated {
                Some(Role::Image(platform)) => platform.as_ref().map(ToString::to_string),
                Some(Role::Attestation(_)) | None => None,
            };
            let (role, attests) = role(stated);
            let archive::Manifest { original: stated, config, layers, non_distributable: elsewhere, .. } =
                manifest.as_ref();
            manifests.push(Manifest {
                document: stated.as_ref().map(Document::stated).unwrap_or_default(),
                push,
                role,
                attests,
                listed_for,
                platform: config.platform.as_ref().map(ToString::to_string),
                config: Document::new(config.digest, config.media_type.as_deref(), &config.bytes),
                layers: layers.iter().map(|it| layer(it, verified)).collect(),
                foreign: elsewhere.iter().map(foreign).collect(),
            });
        }
    }
}

fn layer<'a>(layer: &'a archive::Layer, verified: Option<&Verified>) -> Layer<'a> {
    let found = verified.filter(|_| !layer.bytes.is_missing()).map(|verified| {
        let (digest, diff_id) = verified.found(layer).map_or((None, None), |it| (Some(it.digest), it.diff_id));
        Found { digest, diff_id, error: verified.layer(layer).err().as_ref().map(Failure::from) }
    });
    Layer {
        name: &layer.name,
        size: layer.bytes.len(),
        in_archive: !layer.bytes.is_missing(),
        packing: layer.compression.name(),
        media_type: layer.media_type.as_deref().map(shown),
        digest: layer.digest,
        diff_id: layer.diff_id,
        origins: layer.origins.iter().map(|origin| format!("{}/{}", origin.host, origin.repository)).collect(),
        found,
    }
}

fn unusable(unusable: &archive::Unusable) -> Unusable {
    Unusable {
        names: unusable.names.iter().map(|name| shown(name)).collect(),
        id: unusable.id,
        error: (&unusable.error).into(),
    }
}

impl Document {
    fn new(digest: Digest, media_type: Option<&str>, bytes: &[u8]) -> Self {
        Self { digest: Some(digest), media_type: media_type.map(shown), size: Some(bytes.len()) }
    }

    fn stated(stated: &OriginalManifest) -> Self {
        Self::new(stated.digest, Some(&stated.media_type), &stated.bytes)
    }
}

impl Push {
    fn of(action: ManifestAction) -> Self {
        Self { digest_kept: action == ManifestAction::Kept, reason: action.text() }
    }
}
