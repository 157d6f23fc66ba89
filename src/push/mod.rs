//! The story of a push: open the archive, reach the targets, plan, send the layers, put the manifests.
//!
//! [`push`] is the program's one door. It reads no environment and keeps no globals; what it is to do stands in the
//! [`Request`], what happens on the way is told by [`Event`]s, and what came of it is the [`Outcome`], also when it
//! failed half-way.

mod agent;
mod connection;
mod delivery;
mod destination;
mod doubts;
mod held;
mod kept;
mod logins;
mod manifests;
mod mount;
mod outcome;
mod passing;
pub mod plan;
mod policies;
mod promotion;
mod read_back;
mod reasons;
mod repository;
mod saved;
mod tags;
mod trust;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::archive::{self, Archive, Image, ImageSelector, Selection, Source, Spool, StreamedLayer};
use crate::compress::{Compression, CompressionSpec, Meter, Pool, ReadTimeline};
use crate::ecr::{Access, NewRepository};
use crate::error::{Error, Result};
use crate::oci::{Digest, Host, MountSource, Tag, TagPattern, Target};
use crate::registry::{Keychain, Rate, RetryConfig};
use crate::request_log::RequestRecord;
use crate::reuse::LayerCache;
use plan::{Action, CompressionPolicy, Wanted};

use connection::Registries;
use delivery::Delivery;
use destination::Destination;
pub use logins::Given;
use manifests::finish;
pub use outcome::{ImageSummary, LayerOutcome, Outcome, TagFate, TagOutcome, TargetOutcome};
use passing::Reading;
use policies::Policies;
pub use read_back::{ReadBack, read_back};
pub use saved::Saved;
pub use tags::IfExists;
pub use trust::CaBundle;

/// What is to be pushed, where to, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// The archive.
    pub archive: Source,
    /// The folder for temporary files, of which an archive takes one that cannot be read where it lies.
    pub temp_dir: PathBuf,
    /// Which image of it.
    pub choice: ImageSelector,
    /// How much of it.
    pub part: Selection,
    /// The only digest that may be tagged, if there is one.
    pub expect_digest: Option<Digest>,
    /// Push what belongs to the image, too: signatures, SBOMs.
    pub referrers: bool,
    /// Where to. Each is tried, each is reported; a layer is packed once for all of them.
    pub targets: Vec<Target>,
    /// Tags beside each target's own.
    pub tags: Vec<Tag>,
    /// How plain layers are packed.
    pub compression: CompressionPolicy,
    /// Send foreign layers that the archive has, which are kept by reference otherwise.
    pub foreign_layers: bool,
    /// Take out of stated manifests what is wrong with them, though they get another digest by that.
    pub repair: bool,
    /// Create a missing repository, on ECR.
    pub create_repository: bool,
    /// The account of targets without a host, where it is not the caller's own.
    pub registry_id: Option<String>,
    /// How a repository is set up that this push creates.
    pub new_repository: NewRepository,
    /// The file with the lifecycle policy of such a repository: which images are removed, and when.
    pub lifecycle_policy: Option<PathBuf>,
    /// The file with its policy: who may do what.
    pub repository_policy: Option<PathBuf>,
    /// What becomes of tags that exist.
    pub if_exists: IfExists,
    /// Where AWS credentials come from.
    pub access: Access,
    /// Ask STS who that is, to tell it.
    pub tell_caller: bool,
    /// The login for the one registry that is not Amazon's, if the user gave one.
    pub login: Option<Given>,
    /// Where docker and podman keep logins.
    pub keychain: Keychain,
    /// A loopback address that stands in for every registry host of ECR.
    pub registry_endpoint: Option<Host>,
    /// Plain http for hosts that are not ECR's.
    pub insecure: bool,
    /// PEM certificates to trust beside the machine's own. Where it is given, loopback and insecure hosts are https, too.
    pub ca_file: Option<PathBuf>,
    /// More of them, which change nothing else: `AWS_CA_BUNDLE`, or `ca_bundle` of the profile.
    pub ca_bundle: Option<CaBundle>,
    /// How many layers are under way at once.
    pub concurrency: usize,
    /// How many of them may be larger than a chunk, of each of which a chunk and more is held in memory.
    pub large_at_once: usize,
    /// How many threads pack.
    pub compress_threads: usize,
    /// How long is waited for a registry, and how often a request is tried again.
    pub patience: RetryConfig,
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
    /// Other repositories of a target's registry, to mount layers from that the target lacks.
    pub mount_from: Vec<MountSource>,
    /// The CI system in which this runs, which those who are asked are told. Nothing else about the user is.
    pub ci: Option<&'static str>,
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
    /// So many bytes of the archive are in a temporary file by now.
    Spooled(u64),
    /// The archive was opened and the image is known.
    Opened(ImageSummary),
    /// Something that explains what happens, for those who want to know.
    Detail(String),
    /// A request came to its end.
    Asked(RequestRecord),
    /// Something worth a line.
    Note(String),
    /// Something that may not be what was wanted.
    Warning(String),
    /// A target is looked at: whether it is there, and what it has.
    Looking(String),
    /// A target has failed, and nothing more is sent to it. Its error is part of the outcome.
    GivenUp {
        /// The target, in words.
        target: String,
        /// The first words of the error.
        why: String,
    },
    /// A request is tried again, and not at once.
    Waiting {
        /// Whom it went to, and why it has to be.
        why: String,
        /// How long nothing happens.
        pause: Duration,
        /// Which retry comes next, counted from 1.
        retry: usize,
        /// How many retries there are at most.
        retries: usize,
    },
    /// A layer's lot was decided, or decided anew.
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
    /// A layer begins to be read, for all targets that take it.
    Reading {
        /// The layer, in words.
        layer: String,
        /// What that waits for, and when.
        course: Arc<ReadTimeline>,
    },
    /// A layer that is uploaded has arrived.
    Arrived {
        /// Its meter, by which it was planned.
        meter: Arc<Meter>,
        /// The bytes sent.
        sent: u64,
    },
    /// A layer was linked from another repository.
    Mounted {
        /// The target, in words.
        target: String,
        /// The layer, in words.
        layer: String,
        /// The bytes that it has there.
        bytes: u64,
    },
    /// All layers are there; manifests are being put.
    Finishing(String),
}

/// A layer's lot, as it is told.
#[derive(Clone, Debug)]
pub enum Planned {
    /// Taken over from the repository.
    Reuse(String),
    /// Linked from another repository, if the registry will.
    Mount(String),
    /// Sent. The meter tells how far it is.
    Upload {
        /// Why, and how it is packed.
        why: String,
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
    let trust = match unless_cancelled(&cancel, trust::of(&request)).await {
        Ok(trust) => trust,
        Err(error) => return outcome.of_failure(error),
    };
    let policies = match unless_cancelled(&cancel, Policies::of(&request)).await {
        Ok(policies) => policies,
        Err(error) => return outcome.of_failure(error),
    };
    let pool = Arc::new(Pool::start(request.compress_threads));
    let own = request.cache.clone().filter(|_| request.reuse != Reuse::Off);
    let opened = if request.dry_run { LayerCache::read(own.clone()) } else { LayerCache::open(own.clone()) };
    let cache = opened.unwrap_or_else(|error| {
        let path = own.unwrap_or_default();
        events(Event::Warning(format!("the cache cannot be read and is not used: {}: {error}", path.display())));
        LayerCache::default()
    });
    let delivery = Delivery::new(Arc::clone(&pool), &cache, &events, &request);
    let announce = |Opened { archive, image, said }: Opened, outcome: &mut Outcome| {
        let summary = ImageSummary::of(&archive, &image);
        events(Event::Opened(summary.clone()));
        let unusable = archive.unusable.iter().map(ToString::to_string);
        let notes = archive.notes.iter().chain(&image.notes).cloned().chain(unusable);
        notes.for_each(|note| events(Event::Note(note)));
        let foreign = image.content.manifests().into_iter().flat_map(|manifest| &manifest.non_distributable);
        foreign.for_each(|layer| events(Event::Note(layer.note())));
        said.into_iter().for_each(&*events);
        doubts::of(&request, &image).into_iter().for_each(|doubt| events(Event::Warning(doubt)));
        outcome.image = Some(summary);
        image
    };

    // Nobody is asked anything before the image is known, unless its layers have to be sent before that.
    let mut reading = Reading::start(&request, &pool, &events, &cancel);
    let begun = match unless_cancelled(&cancel, reading.begin()).await {
        Ok(opened) => opened.map(|opened| announce(opened, &mut outcome)),
        Err(error) => return outcome.of_failure(error),
    };
    let rate = request.limit_rate.map(|limit| Arc::new(Rate::new(limit)));
    let layers =
        begun.as_ref().map_or(request.large_at_once, |image| plan::wanted(image, &cache, request.compression).len());
    reasons::at_start(&request, &cache, begun.as_ref().map(|_| layers))
        .into_iter()
        .for_each(|line| events(Event::Detail(line)));
    let registries = Registries::of(&request, layers, trust, rate, &events);
    let arrivals = request.targets.iter().map(|target| async {
        let reaching = Destination::reach(&registries, target, &policies, &events, cancel.child_token());
        unless_cancelled(&cancel, reaching).await
    });
    let mut destinations: Vec<Result<Destination>> = futures_util::future::join_all(arrivals).await;

    let image = match begun {
        Some(image) => image,
        None => {
            let looks = destinations.iter_mut().flatten().map(|to| async {
                if cancel.run_until_cancelled(to.look_ahead(&request, &events)).await.is_none() {
                    to.fail(Error::interrupted());
                }
            });
            futures_util::future::join_all(looks).await;
            let reached: Vec<&Destination> = destinations.iter().flatten().collect();
            match reading.go_on(&reached, &cache, &delivery).await {
                Ok(opened) => announce(opened, &mut outcome),
                Err(error) => {
                    reached.iter().for_each(|to| to.fail_for_want_of(error.clone()));
                    report(destinations, &mut outcome);
                    return outcome;
                }
            }
        }
    };
    let wanted = plan::wanted(&image, &cache, request.compression);
    events(Event::Detail(reasons::packing(&wanted)));
    let plans = destinations.iter_mut().flatten().filter(|to| !to.has_failed()).map(|to| async {
        let planning = unless_cancelled(&cancel, to.plan(&image, &wanted, &request, &events)).await;
        planning.unwrap_or_else(|error| to.fail(error));
    });
    futures_util::future::join_all(plans).await;

    if !request.dry_run {
        let reached: Vec<&Destination> = destinations.iter().flatten().collect();
        let manifests = image.manifests();
        let looks = reached.iter().map(|it| it.say_what_reuse_would_save(&request, &image, &events));
        let looks = futures_util::future::join_all(looks);
        tokio::select! {
            () = delivery.run(&wanted, &manifests, &reached) => {}
            // It never ends before the delivery does.
            () = async { looks.await; std::future::pending().await } => {}
        }
        let finishing = reached.iter().map(|destination| finish(destination, &image, &wanted, &delivery));
        futures_util::future::join_all(finishing).await;
    }
    report(destinations, &mut outcome);
    doubts::of_digests(&outcome).into_iter().for_each(|warning| events(Event::Warning(warning)));
    outcome
}

/// Says of each target what came of it.
fn report(destinations: Vec<Result<Destination>>, outcome: &mut Outcome) {
    for (target, destination) in outcome.targets.iter_mut().zip(destinations) {
        match destination {
            Ok(destination) => destination.report(target),
            Err(error) => target.error = Some(error),
        }
    }
}

/// What comes of `doing`, if it is done before the push is cancelled.
async fn unless_cancelled<T>(cancel: &CancellationToken, doing: impl Future<Output = Result<T>>) -> Result<T> {
    cancel.run_until_cancelled(doing).await.unwrap_or_else(|| Err(Error::interrupted()))
}

/// Who takes layers that go by.
type Pass = Box<dyn Fn(StreamedLayer<'_>) -> Result<()> + Send>;

/// An archive, the image of it that is pushed, and what is to be said about that.
struct Opened {
    archive: Archive,
    image: Image,
    said: Vec<Event>,
}

/// Opens the archive and chooses the image.
///
/// A pipe may keep that waiting for ever: nobody waits for the thread once the push is cancelled.
async fn open(request: &Request, events: &Events, cancel: &CancellationToken, pass: Option<Pass>) -> Result<Opened> {
    let (request, events, cancel) = (request.clone(), Arc::clone(events), cancel.clone());
    let opening = tokio::task::spawn_blocking(move || {
        let watch = |written| {
            events(Event::Spooled(written));
            if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let archive = archive::open(
            &request.archive,
            &Spool { folder: &request.temp_dir, watch: &watch, pass: pass.as_ref().map(|pass| pass as _) },
        )?;
        let mut image = archive.select(&request.choice, &request.part)?;
        if request.foreign_layers {
            image.include_non_distributable_layers();
        }
        if request.repair {
            image.repair()?;
        }
        plan::check(&image, request.compression)?;
        let said = promotion::prepare(&archive, &mut image, &request)?;
        Ok(Opened { archive, image, said })
    });
    opening.await.unwrap_or_else(|died| Err(Error::internal("reading the archive failed").because(died)))
}

/// The words for a layer that is not reused.
fn upload_reason(wanted: &Wanted) -> &'static str {
    let kept = matches!(wanted.recipe, CompressionSpec::Keep { .. });
    match (wanted.candidates.is_empty(), wanted.recipe.compression()) {
        (true, _) if kept => "new, as it lies",
        (true, Compression::Zstd) => "new, packed with zstd",
        (true, _) => "new, packed with gzip",
        (false, _) if kept => "not in the repository, as it lies",
        (false, Compression::Zstd) => "not in the repository, packed with zstd",
        (false, _) => "not in the repository, packed with gzip",
    }
}

/// Why that is done about a layer.
fn reason(action: &Action, wanted: &Wanted) -> String {
    match action {
        Action::Reuse(candidate) => candidate.why.text().to_owned(),
        Action::Mount(candidate, from) => format!("from {from}: {}", candidate.why.text()),
        Action::Upload => upload_reason(wanted).to_owned(),
    }
}

impl Planned {
    fn of(action: &Action, wanted: &Wanted, meter: &Arc<Meter>) -> Self {
        let why = reason(action, wanted);
        match action {
            Action::Reuse(_) => Self::Reuse(why),
            Action::Mount(..) => Self::Mount(why),
            Action::Upload => Self::Upload { why, meter: Arc::clone(meter) },
        }
    }
}
