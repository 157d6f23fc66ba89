//! Whatever goes wrong, in whatever order: faults drawn from seeds, each push judged by what the sandbox saw of it.
//!
//! `ECR_PUSH_SCHEDULES=50000` runs more of them, `ECR_PUSH_SEED=7` replays one and tells all about it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ecr_push::cli::{Command, parse};
use ecr_push::ecr::Access;
use ecr_push::error::Kind;
use ecr_push::push::{Event, Request, push};
use ecr_push::reference::Digest;
use ecr_push::registry::{CHUNK, Patience};
use ecr_push::sandbox::{Options, Sandbox};
use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::bench::Bench;
use super::build;
use super::drawn::Schedule;
use super::pushed::Pushed;
use super::source::Source;
use super::traffic::Traffic;

/// How many schedules run at once. They wait more than they work.
const AT_ONCE: usize = 48;

/// How long a push may take before it counts as hanging: far more than all pauses between tries together.
const DEADLINE: Duration = Duration::from_secs(150);

/// An archive, and what a push of it with no fault makes of it.
pub(crate) struct Sample {
    path: String,
    digest: Digest,
    manifest: Vec<u8>,
    blobs: HashMap<Digest, Vec<u8>>,
    /// The one layer that takes more than one chunk.
    large: Option<Digest>,
}

/// The archives: small ones, and last one with a layer of three chunks.
struct Samples {
    all: Vec<Sample>,
    _bench: Bench,
}

impl Samples {
    async fn make() -> Self {
        let bench = Bench::new();
        let names = ["as-it-lies", "packed.tar", "large"].map(|name| bench.scratch(name));
        let noise = |sizes: &[usize]| sizes.iter().map(|len| build::noise(*len as u64, *len)).collect::<Vec<_>>();
        build::oci_layout(&names[0], &noise(&[300, 40_000, 700_000, 130_000]));
        let text = |n: u64| build::tar_of("text", &build::prose(n, 90_000 * n as usize));
        build::docker_save(&names[1], &[text(1), build::tar_of("noise", &build::noise(5, 250_000)), text(3)]);
        build::oci_layout(&names[2], &noise(&[5_000, (17 << 20) + 77, 100_000]));
        let mut all = Vec::new();
        for path in names {
            let sandbox = sandbox(&Schedule::harmless()).await;
            let outcome =
                push(request(&path, &sandbox, &Schedule::harmless()), Arc::new(|_| {}), CancellationToken::new()).await;
            assert!(outcome.error().is_none(), "{:?}", outcome.error());
            Pushed::of_sandbox(&sandbox, "team/app", "1").is(&Source::read(&path, 0));
            let (digest, manifest, _) = sandbox.image("team/app", "1").unwrap();
            let view: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
            let descriptors = view["layers"].as_array().unwrap().iter().chain([&view["config"]]);
            let digests = descriptors.map(|descriptor| descriptor["digest"].as_str().unwrap().parse().unwrap());
            let blobs: HashMap<Digest, Vec<u8>> =
                digests.map(|digest| (digest, sandbox.blob("team/app", &digest).unwrap())).collect();
            let large = blobs.iter().find(|(_, bytes)| bytes.len() as u64 > CHUNK);
            all.push(Sample { path, digest, manifest, large: large.map(|(digest, _)| *digest), blobs });
        }
        Self { all, _bench: bench }
    }
}

async fn sandbox(schedule: &Schedule) -> Sandbox {
    let create = vec!["team/app".parse().unwrap()];
    Sandbox::start(Options { create, rules: schedule.rules.clone(), ..Options::default() }).await.unwrap()
}

fn request(archive: &str, sandbox: &Sandbox, schedule: &Schedule) -> Request {
    let (concurrency, retries) = (schedule.concurrency.to_string(), schedule.retries.to_string());
    let arguments =
        [archive, "team/app:1", "--concurrency", &concurrency, "--retries", &retries, "--pack-threads", "1"];
    let parsed = parse(arguments.map(Into::into).to_vec(), &|_| None).unwrap();
    let Command::Push(push) = parsed else { panic!("these are the arguments of a push") };
    Request {
        access: Access::StandIn { endpoint: sandbox.url(), region: "us-east-1".into() },
        registry_endpoint: Some(sandbox.address().to_string().parse().unwrap()),
        cache: None,
        chunk_size: Some(CHUNK),
        // As patient as ever, but in a hurry.
        patience: Patience {
            first_pause: Duration::from_millis(20),
            longest_pause: Duration::from_secs(1),
            small_request: Duration::from_secs(3),
            stall: Duration::from_secs(1),
            ..push.request.patience
        },
        ..push.request
    }
}

/// What one schedule came to.
#[derive(Default)]
struct Figures {
    faults: u64,
    requests: usize,
    sent: u64,
    twice: u64,
    longest: Duration,
    failed: usize,
}

impl Figures {
    fn add(&mut self, other: &Self) {
        self.faults += other.faults;
        self.requests += other.requests;
        self.sent += other.sent;
        self.twice += other.twice;
        self.longest = self.longest.max(other.longest);
        self.failed += other.failed;
    }
}

/// Runs a schedule and judges what came of it. `story` is told everything.
async fn run(schedule: Schedule, samples: Arc<Samples>, story: Arc<Mutex<String>>) -> Result<Figures, String> {
    let sample = &samples.all[schedule.sample];
    let sandbox = sandbox(&schedule).await;
    let told = Arc::clone(&story);
    let started = Instant::now();
    let events = Arc::new(move |event: Event| {
        if let Event::Note(line) | Event::Warning(line) = event {
            let line = format!("{:6} ms: {line}", started.elapsed().as_millis());
            writeln!(told.lock().unwrap(), "{line}").unwrap();
        }
    });
    let pushing = push(request(&sample.path, &sandbox, &schedule), events, CancellationToken::new());
    let outcome = tokio::time::timeout(DEADLINE, pushing).await;
    let took = started.elapsed();
    let log = sandbox.log();
    {
        let mut story = story.lock().unwrap();
        for (n, entry) in log.iter().enumerate() {
            let range = entry.content_range.as_deref().unwrap_or_default();
            let path = entry.path.split("?digest").next().unwrap();
            let bytes = entry.body_bytes;
            writeln!(story, "{n:3} {:3} {} {path} [{}] {bytes} {range}", entry.status, entry.method, entry.operation)
                .unwrap();
        }
    }
    let outcome = outcome.map_err(|_| format!("it hangs: {} s", DEADLINE.as_secs()))?;
    let mut left = Vec::new();
    sandbox.set_rules(|rules| left.clone_from(&rules.faults));
    let fired = schedule.fired(&left);

    let error = outcome.error();
    match error {
        Some(error) => writeln!(story.lock().unwrap(), "{:?}: {error:?}", error.kind()).unwrap(),
        None => writeln!(story.lock().unwrap(), "pushed").unwrap(),
    }
    let allowed = schedule.errors_that_fit(&fired);
    if let Some(error) = error
        && !allowed.contains(&error.kind())
    {
        return Err(format!("an error of kind {:?}, where {allowed:?} would fit: {error}", error.kind()));
    }
    let image = sandbox.image("team/app", "1");
    match (error, &image) {
        (None, None) => return Err("it says that it pushed, and nothing is tagged".into()),
        (Some(_), Some(_)) if !log.iter().any(|entry| entry.operation == "ecr:PutImage" && entry.status == 0) => {
            return Err("it failed and tagged all the same".into());
        }
        _ => {}
    }
    if let Some((digest, manifest, _)) = image {
        if digest != sample.digest || manifest != sample.manifest {
            return Err(format!("the tag names {digest} where {} was pushed", sample.digest));
        }
        for (digest, bytes) in &sample.blobs {
            if sandbox.blob("team/app", digest).as_ref() != Some(bytes) {
                return Err(format!("the image is tagged, and {digest} is not there as it should be"));
            }
        }
    }
    let traffic = Traffic::of(&log, sample.large);
    schedule.judge_traffic(&fired, &traffic)?;
    let (open, allowed) = (sandbox.open_uploads(), schedule.sessions_lost(&fired, &log));
    if open > allowed {
        return Err(format!("{open} sessions are left open, where {allowed} could not be closed"));
    }
    if sandbox.leaked_credentials() > 0 {
        return Err("the bucket was shown credentials".into());
    }
    let said = format!("{}{error:?}", story.lock().unwrap());
    if ["QVdTO", "Basic ", "X-Amz-Signature"].iter().any(|secret| said.contains(secret)) {
        return Err("a secret is told".into());
    }
    Ok(Figures {
        faults: fired.iter().map(|times| u64::from(*times)).sum(),
        requests: log.len(),
        sent: traffic.sent,
        twice: traffic.twice,
        longest: took,
        failed: usize::from(error.is_some()),
    })
}

/// Runs the schedules of these seeds, and returns their figures with what was found.
async fn run_all(seeds: impl Iterator<Item = u64>, samples: Arc<Samples>, tell: bool) -> (Figures, Vec<String>) {
    let runs = seeds.map(|seed| {
        let samples = Arc::clone(&samples);
        async move {
            let schedule = Schedule::of(seed);
            let shown = format!("seed {seed}: {schedule:?}");
            let story = Arc::default();
            // A task of its own, so that a panic is one seed's affair.
            let ended = tokio::spawn(run(schedule, samples, Arc::clone(&story))).await;
            let ended = ended.unwrap_or_else(|died| Err(format!("it panics: {died}")));
            if tell || ended.is_err() {
                let story = story.lock().unwrap();
                let verdict = ended.as_ref().err();
                say(&format!("{shown}\n{}", if tell { &story[..] } else { "" }));
                if let Some(verdict) = verdict {
                    say(&format!("seed {seed}: {verdict}\n"));
                }
            }
            (seed, ended)
        }
    });
    let mut runs = std::pin::pin!(futures_util::stream::iter(runs).buffer_unordered(AT_ONCE));
    let (mut figures, mut failures) = (Figures::default(), Vec::new());
    while let Some((seed, ended)) = runs.next().await {
        match ended {
            Ok(more) => figures.add(&more),
            Err(why) => failures.push(format!("ECR_PUSH_SEED={seed}: {why}")),
        }
    }
    (figures, failures)
}

/// Past the test harness, which hides what passing tests print.
fn say(text: &str) {
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}

/// A number from the environment, for longer runs than the usual one.
fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

#[test]
fn whatever_goes_wrong_a_push_ends_well_or_says_why() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (seed, count) = (number("ECR_PUSH_SEED"), number("ECR_PUSH_SCHEDULES").unwrap_or(1000));
    let seeds = seed.map_or(0..count, |seed| seed..seed + 1);
    let schedules = seeds.end - seeds.start;
    let started = Instant::now();
    let (figures, failures) = runtime.block_on(async {
        let samples = Arc::new(Samples::make().await);
        run_all(seeds, samples, seed.is_some()).await
    });
    say(&format!(
        "fault schedules: {schedules} in {:.0} s, {} faults injected, {} requests, {} MB sent, {} MB of it twice, {} \
         pushes given up, longest finish {:.1} s\n",
        started.elapsed().as_secs_f64(),
        figures.faults,
        figures.requests,
        figures.sent / 1_000_000,
        figures.twice / 1_000_000,
        figures.failed,
        figures.longest.as_secs_f64(),
    ));
    assert!(failures.is_empty(), "{} of {schedules} schedules:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_kind_of_end_is_drawn() {
    let mut kinds = Vec::new();
    for seed in 0..1000 {
        let schedule = Schedule::of(seed);
        let all: Vec<_> = schedule.rules.faults.iter().map(|fault| fault.times).collect();
        kinds.extend(schedule.errors_that_fit(&all));
    }
    for kind in [Kind::Unavailable, Kind::Permission, Kind::Refused] {
        assert!(kinds.contains(&kind), "{kind:?}");
    }
}
