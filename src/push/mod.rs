//! The story of a push: open the archive, reach the targets, plan, send the layers, put the manifests.
//!
//! [`push`] is the program's one door. It reads no environment and keeps no globals; what it is to do stands in the
//! [`Request`], what happens on the way is told by [`Event`]s, and what came of it is the [`Outcome`], also when it
//! failed half-way.

mod connection;
mod delivery;
mod destination;
mod held;
mod outcome;
mod promotion;
mod read_back;
mod trust;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::ecr::Access;
use crate::error::{Error, Result};
use crate::image::{self, Archive, Choice, Content, Image, Part, Referrer, Stated};
use crate::layer::{Meter, Packing, Pool, Recipe};
use crate::plan::{self, Action, Compression, Wanted};
use crate::reference::{Digest, Host, Tag, TagPattern, Target};
use crate::registry::{Patience, Rate};
use crate::reuse::Cache;

use connection::Registries;
use delivery::Delivery;
use destination::Destination;
pub use outcome::{ImageSummary, LayerOutcome, Outcome, TargetOutcome};
pub use read_back::{ReadBack, read_back};

/// What is to be pushed, where to, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// The archive: a file or a folder.
    pub archive: PathBuf,
    /// Which image of it.
    pub choice: Choice,
    /// How much of it.
    pub part: Part,
    /// The only digest that may be tagged, if there is one.
    pub expect_digest: Option<Digest>,
    /// Push what belongs to the image, too: signatures, SBOMs.
    pub referrers: bool,
    /// Where to. Each is tried, each is reported; a layer is packed once for all of them.
    pub targets: Vec<Target>,
    /// Tags beside each target's own.
    pub tags: Vec<Tag>,
    /// How plain layers are packed.
    pub compression: Compression,
    /// Create a missing repository, on ECR.
    pub create_repository: bool,
    /// The region of targets without a host.
    pub region: Option<String>,
    /// Where AWS credentials come from.
    pub access: Access,
    /// A loopback address that stands in for every registry host of ECR.
    pub registry_endpoint: Option<Host>,
    /// Plain http for hosts that are not ECR's.
    pub insecure: bool,
    /// PEM certificates to trust beside the machine's own. Where it is given, loopback and insecure hosts are https, too.
    pub ca_file: Option<PathBuf>,
    /// How many layers are under way at once.
    pub concurrency: usize,
    /// How many of them may be larger than a chunk, each of which holds one and a half chunks in memory.
    pub large_at_once: usize,
    /// How many threads pack.
    pub pack_threads: usize,
    /// How long is waited for a registry, and how often a request is tried again.
    pub patience: Patience,
    /// How many bytes a chunk has, where the choice is not left to us.
    pub chunk_size: Option<u64>,
    /// How many bytes of layers are sent a second at most, over all targets.
    pub limit_rate: Option<u64>,
    /// When the push is given up.
    pub deadline: Option<Duration>,
    /// The own cache, if one is kept.
    pub cache: Option<PathBuf>,
    /// Whether images that the repositories hold are looked at, for layers that need not be sent.
    pub reuse: Reuse,
    /// Which of them, beside what the target's tag points at.
    pub reuse_from: Vec<TagPattern>,
    /// Plan only: look, send nothing.
    pub dry_run: bool,
}

/// What is looked at for layers that need not be packed and sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reuse {
    /// Nothing.
    Off,
    /// The own cache.
    Cache,
    /// The own cache, and images in the target's repository.
    Tag,
}

/// Something that happened, for whoever watches.
#[derive(Clone, Debug)]
pub enum Event {
    /// The archive was opened and the image is known.
    Opened(ImageSummary),
    /// Something worth a line.
    Note(String),
    /// Something that may not be what was wanted.
    Warning(String),
    /// A layer's lot was decided.
    Planned {
        /// The target, in words.
        target: String,
        /// The layer, in words.
        layer: String,
        /// The bytes in the archive.
        bytes: u64,
        /// What will happen, and why.
        action: Planned,
    },
    /// A layer that is uploaded has arrived.
    Arrived {
        /// Its meter, by which it was planned.
        meter: Arc<Meter>,
        /// The bytes sent.
        sent: u64,
    },
    /// All layers are there; manifests are being put.
    Finishing(String),
}

/// A layer's lot, as it is told.
#[derive(Clone, Debug)]
pub enum Planned {
    /// Taken over from the repository.
    Reuse(&'static str),
    /// Sent. The meter tells how far it is.
    Upload {
        /// Why, and how it is packed.
        why: &'static str,
        /// How far it is.
        meter: Arc<Meter>,
    },
}

/// Who is told.
pub type Events = Arc<dyn Fn(Event) + Send + Sync>;

/// Pushes an image from an archive to every target of the request.
///
/// Nothing is tagged before everything it refers to is there, and nothing is tagged at a target where something failed.
pub async fn push(request: Request, events: Events, cancel: CancellationToken) -> Outcome {
    let Some(deadline) = request.deadline else { return push_at_leisure(request, events, cancel).await };
    let in_time = cancel.child_token();
    let mut pushing = std::pin::pin!(push_at_leisure(request, events, in_time.clone()));
    match tokio::time::timeout(deadline, &mut pushing).await {
        Ok(outcome) => outcome,
        Err(_) => {
            // In good order, as after Ctrl-C: sessions are closed.
            in_time.cancel();
            let outcome = pushing.await;
            if cancel.is_cancelled() { outcome } else { outcome.too_late(deadline) }
        }
    }
}

async fn push_at_leisure(request: Request, events: Events, cancel: CancellationToken) -> Outcome {
    let mut outcome = Outcome::new(&request);
    let opening = async {
        let trust = trust::of(&request).await?;
        Ok((open(&request).await?, trust))
    };
    let (opened, trust) = match unless_cancelled(&cancel, opening).await {
        Ok(opened) => opened,
        Err(error) => return outcome.of_failure(error),
    };
    let Opened { archive, image, said } = &opened;
    let summary = ImageSummary::of(archive, image);
    events(Event::Opened(summary.clone()));
    archive.notes.iter().chain(&image.notes).for_each(|note| events(Event::Note(note.clone())));
    said.iter().for_each(|event| events(event.clone()));
    outcome.image = Some(summary);

    let own = request.cache.clone().filter(|_| request.reuse != Reuse::Off);
    let cache = Cache::open(own).unwrap_or_else(|error| {
        events(Event::Warning(format!("the cache cannot be read and is not used: {error}")));
        Cache::default()
    });
    let wanted = plan::wanted(image, &cache, request.compression);
    let rate = request.limit_rate.map(|limit| Arc::new(Rate::new(limit)));
    let registries = Registries::of(&request, wanted.len(), trust, rate, &events);
    let arrivals = request.targets.iter().map(|target| async {
        let arrival = async {
            let destination =
                Destination::reach(&registries, target, image, &wanted, &events, cancel.child_token()).await?;
            destination.plan(image, &wanted, &events).await?;
            Ok(destination)
        };
        unless_cancelled(&cancel, arrival).await
    });
    let destinations: Vec<Result<Destination>> = futures_util::future::join_all(arrivals).await;

    if !request.dry_run {
        let reached: Vec<&Destination> = destinations.iter().flatten().collect();
        match Pool::start(request.pack_threads) {
            Ok(pool) => {
                let delivery = Delivery::new(Arc::new(pool), &cache, &events, &request);
                delivery.run(&wanted, &image.manifests(), &reached).await;
                let finishing = reached.iter().map(|destination| finish(destination, image, &wanted, &delivery));
                futures_util::future::join_all(finishing).await;
            }
            Err(error) => {
                let error = Error::input("no packing thread can be started").because(error);
                reached.iter().for_each(|destination| destination.fail(error.clone()));
            }
        }
    }
    for (target, destination) in outcome.targets.iter_mut().zip(destinations) {
        match destination {
            Ok(destination) => destination.report(target),
            Err(error) => target.error = Some(error),
        }
    }
    outcome
}

/// What comes of `doing`, if it is done before the push is cancelled.
async fn unless_cancelled<T>(cancel: &CancellationToken, doing: impl Future<Output = Result<T>>) -> Result<T> {
    cancel.run_until_cancelled(doing).await.unwrap_or_else(|| Err(Error::interrupted()))
}

/// An archive, the image of it that is pushed, and what is to be said about that.
struct Opened {
    archive: Archive,
    image: Image,
    said: Vec<Event>,
}

/// Opens the archive and chooses the image, before anybody else is asked anything.
async fn open(request: &Request) -> Result<Opened> {
    let request = request.clone();
    let opening = tokio::task::spawn_blocking(move || {
        let archive = image::open(&request.archive)?;
        let mut image = archive.select(&request.choice, &request.part)?;
        plan::check(&image, request.compression)?;
        let said = promotion::prepare(&archive, &mut image, &request)?;
        Ok(Opened { archive, image, said })
    });
    opening.await.unwrap_or_else(|died| Err(Error::input("reading the archive failed").because(died)))
}

/// Puts the config, the manifests and last the tags, where all layers arrived.
///
/// If the registry says that a blob is missing after all, because it was collected meanwhile, that one is sent and the
/// manifest put again, once.
async fn finish(destination: &Destination, image: &Image, wanted: &[Wanted], delivery: &Delivery<'_>) {
    if destination.has_failed() {
        return;
    }
    let events = delivery.events();
    events(Event::Finishing(destination.name()));
    let mut put = put_image(destination, image, events).await;
    if let Err(error) = &put
        && error.answer().is_some_and(|answer| is_missing_blob(&answer.code))
    {
        events(Event::Warning(format!("{} lost a layer meanwhile: what is missing is sent again", destination.name())));
        put = match destination.look_again(image, events).await {
            Ok(()) => {
                delivery.run(wanted, &[], &[destination]).await;
                if destination.has_failed() {
                    return;
                }
                put_image(destination, image, events).await
            }
            Err(error) => Err(error),
        };
    }
    if let Err(error) = put {
        destination.fail(error);
    }
}

/// What registries say of a manifest whose blob they do not have: the specification's word, its older one, and that of
/// ECR's API (ECR API reference, PutImage).
fn is_missing_blob(code: &str) -> bool {
    matches!(code, "MANIFEST_BLOB_UNKNOWN" | "BLOB_UNKNOWN" | "LayersNotFoundException")
}

async fn put_image(destination: &Destination, image: &Image, events: &Events) -> Result<()> {
    if let Some(root) = destination.has_all_of(image) {
        return destination.put_tags(root).await;
    }
    for manifest in image.manifests() {
        destination.put_config(&manifest.config).await?;
    }
    let root = put_content(destination, &image.content, Rank::Root).await?;
    if let Some(stated) = image.content.stated()
        && stated.digest != root.digest
    {
        let (before, after) = (stated.digest.short(), root.digest.short());
        let sort = match &image.content {
            Content::Manifest(_) => "manifest",
            Content::Index(_) => "index",
        };
        events(Event::Note(format!("plain layers were packed, so the {sort} {before} of the archive becomes {after}")));
    }
    if !image.referrers.is_empty() {
        // What belongs to it comes after it, and both before a tag leads there: whoever finds it finds it signed.
        destination.put_manifest(&root.digest.to_string(), &root).await?;
    }
    for Referrer { tag, content } in &image.referrers {
        let stated = put_content(destination, content, Rank::Root).await?;
        match tag {
            Some(tag) => destination.put_tag(tag, &stated).await?,
            None => destination.put_manifest(&stated.digest.to_string(), &stated).await?,
        }
    }
    destination.put_tags(&root).await
}

/// Where a manifest or index stands.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Rank {
    /// A tag will point at it, or it belongs to something: putting it is left to the caller.
    Root,
    /// An index lists it.
    Child,
}

/// Puts everything below an index by digest, children first; the root itself is left for the tags.
async fn put_content(destination: &Destination, content: &Content, rank: Rank) -> Result<Stated> {
    let stated = match content {
        Content::Manifest(manifest) => {
            let layers: Vec<_> = manifest
                .layers
                .iter()
                .map(|layer| {
                    let key = plan::key(layer, plan::recipe(manifest, layer, destination.compression));
                    destination.stored(&key).map(|stored| (stored.digest, stored.size, stored.packing))
                })
                .collect::<Result<_>>()?;
            match destination.held(manifest, &layers) {
                Some(held) => held,
                None => image::manifest(manifest, &layers)?,
            }
        }
        Content::Index(index) => {
            let mut children = Vec::new();
            for child in &index.children {
                children.push(Box::pin(put_content(destination, &child.content, Rank::Child)).await?);
            }
            image::index(index, &children)?
        }
    };
    if rank == Rank::Child {
        destination.put_manifest(&stated.digest.to_string(), &stated).await?;
    }
    Ok(stated)
}

/// The words for a layer that is not reused.
fn upload_reason(wanted: &Wanted) -> &'static str {
    let kept = matches!(wanted.recipe, Recipe::Keep { .. });
    match (wanted.candidates.is_empty(), wanted.recipe.packing()) {
        (true, _) if kept => "new, as it lies",
        (true, Packing::Zstd) => "new, packed with zstd",
        (true, _) => "new, packed with gzip",
        (false, _) if kept => "not in the repository, as it lies",
        (false, Packing::Zstd) => "not in the repository, packed with zstd",
        (false, _) => "not in the repository, packed with gzip",
    }
}

impl Planned {
    fn of(action: &Action, wanted: &Wanted, meter: &Arc<Meter>) -> Self {
        match action {
            Action::Reuse(candidate) => Self::Reuse(candidate.why.text()),
            Action::Upload => Self::Upload { why: upload_reason(wanted), meter: Arc::clone(meter) },
        }
    }
}
