//! Whatever goes wrong, in whatever order: faults drawn from seeds, each push judged by what the sandbox saw of it.
//!
//! `ECR_PUSH_SCHEDULES=50000` runs more of them, `ECR_PUSH_FIRST=1000` others, `ECR_PUSH_SEED=7` replays one and prints
//! all about it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use ecr_push::sandbox::{self, LogEntry, Sandbox};
use ecr_push::{Event, Kind, Options, Outcome, PushRequest, Pusher, RequestRecord, Reuse, Source};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::fault_schedule::{Moment, Schedule, Shape, Struck};
use super::faulty_proxy::{FaultyProxy, How};
use super::schedule_archives::Samples;
use super::schedule_verdict::{Case, Ended, SinceCtrlC};

/// How many schedules run at once. They wait more than they work; with twice as many, two busy cores
/// let some of them wait for longer than their pushers do.
const AT_ONCE: usize = 48;

/// How long a push may send no request before it counts as hanging: far more than any pause between attempts.
const DEADLINE: Duration = Duration::from_secs(150);

/// How long a push waits after Ctrl-C for requests in flight, and for the responses that close its sessions.
const GRACE: Duration = Duration::from_millis(800);

/// How long the sandbox may take to notice that a request was given up.
const LATE: Duration = Duration::from_secs(10);

/// How many requests a push may send before it counts as endless. The most that a schedule takes are a few hundred.
const MOST_REQUESTS: usize = 5000;

/// The shortest time limit of a request where connections stall. On a busy machine it may pass although this one does not.
const STALL_TIMEOUT: Duration = Duration::from_secs(1);

/// Returns why the rest is not waited for, once that is so.
async fn hangs(sandbox: &Sandbox) -> String {
    let (mut count, mut since) = (0, Instant::now());
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = sandbox.log().len();
        if now > count {
            (count, since) = (now, Instant::now());
        }
        if since.elapsed() > DEADLINE || count > MOST_REQUESTS {
            return format!("it hangs: no request for {} s, {count} in all", since.elapsed().as_secs());
        }
    }
}

/// A sandbox with both repositories.
pub(crate) async fn sandbox(schedule: &Schedule) -> Sandbox {
    let create = ["team/app", "team/two"].map(|name| name.parse().unwrap()).to_vec();
    Sandbox::start(sandbox::Options { create, rules: schedule.rules.clone(), ..Default::default() }).await.unwrap()
}

/// The push of an archive that a schedule describes.
pub(crate) fn request(archive: &str, schedule: &Schedule) -> PushRequest {
    let targets = schedule.targets().into_iter().map(|target| target.parse().unwrap());
    PushRequest::new(Source::Path(archive.into()), targets)
}

/// The options of a push that a schedule describes.
pub(crate) fn options(sandbox: &Sandbox, schedule: &Schedule) -> Options {
    let mut options = Options::default();
    options.registries.access = sandbox.endpoint_override().into();
    let retry = &mut options.registries.retry;
    retry.retries = schedule.retries;
    retry.initial_delay = Duration::from_millis(20);
    retry.max_delay = Duration::from_secs(1);
    // Where nothing stalls, the usual time limits are not reached, however busy the machine is.
    if schedule.can_stall() {
        (retry.request_timeout, retry.stall_timeout) = (Duration::from_secs(3), STALL_TIMEOUT);
    }
    options.layers.concurrency = schedule.concurrency;
    options.layers.large_concurrency = schedule.concurrency;
    options.layers.threads = 1;
    options.layers.chunk_size = schedule.chunk_size();
    // Otherwise the lookup of the tag shows whether the repository exists, and no other request does.
    options.layers.reuse = if schedule.again { Reuse::Tag } else { Reuse::Cache };
    options
}

/// Pushes, and reports to `events`.
pub(crate) async fn push(
    request: PushRequest,
    options: Options,
    events: impl Fn(Event) + Send + Sync + 'static,
    stop: CancellationToken,
) -> Outcome {
    let pusher = Pusher::builder().options(options).on_event(events).start().await.unwrap();
    pusher.push(request, stop).await
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
    interrupted: usize,
    longest_ctrl_c: Duration,
    races: usize,
    again: usize,
    slow: u32,
}

impl Figures {
    fn add(&mut self, other: &Self) {
        self.faults += other.faults;
        self.requests += other.requests;
        self.sent += other.sent;
        self.twice += other.twice;
        self.longest = self.longest.max(other.longest);
        self.failed += other.failed;
        self.interrupted += other.interrupted;
        self.longest_ctrl_c = self.longest_ctrl_c.max(other.longest_ctrl_c);
        self.races += other.races;
        self.again += other.again;
        self.slow += other.slow;
    }
}

/// Everything that is logged about a schedule.
type Story = Arc<Mutex<String>>;

/// A Ctrl-C that was pressed.
struct CtrlC {
    pressed: Instant,
    /// For how many microseconds this process did not run when it should have: on a busy machine everything takes longer.
    late: AtomicU64,
}

impl CtrlC {
    /// Measures how long ago it was pressed.
    fn since(&self) -> SinceCtrlC {
        let took = self.pressed.elapsed();
        let late = Duration::from_micros(self.late.load(Ordering::Relaxed));
        SinceCtrlC { took, without_pauses: took.saturating_sub(late) }
    }
}

/// Presses Ctrl-C when the moment has come, then measures how late timers are, and never returns.
async fn ctrl_c(moment: Option<Moment>, sandbox: &Sandbox, cancel: &CancellationToken, pressed: &OnceLock<CtrlC>) {
    const TICK: Duration = Duration::from_millis(5);
    let Some(moment) = moment else { return std::future::pending().await };
    while !moment.has_come(&sandbox.log()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(moment.then).await;
    let ctrl_c = pressed.get_or_init(|| CtrlC { pressed: Instant::now(), late: AtomicU64::new(0) });
    cancel.cancel();
    loop {
        let tick = Instant::now();
        tokio::time::sleep(TICK).await;
        // A timer is a millisecond late at best.
        let late = tick.elapsed().saturating_sub(TICK + Duration::from_millis(1));
        ctrl_c.late.fetch_add(late.as_micros() as u64, Ordering::Relaxed);
    }
}

/// What time limits of the pushers ended, for which no fault need be the cause: a busy machine may be.
#[derive(Default)]
struct Limits {
    /// The number of requests that had no response for [`STALL_TIMEOUT`].
    timeouts: AtomicU32,
    /// Whether a request was given up that is always waited for a moment: sessions may be left open.
    is_cut_short: AtomicBool,
}

impl Limits {
    /// Adds a request without a response.
    fn add(&self, record: &RequestRecord) {
        let is_timeout = record.seconds >= STALL_TIMEOUT.as_secs_f64();
        self.timeouts.fetch_add(u32::from(is_timeout), Ordering::Relaxed);
        // Requests with a layer in them are given up at once.
        let is_small = !["PATCH", "PUT"].contains(&record.method.as_str());
        let is_given_up = record.error.as_deref() == Some("given up");
        self.is_cut_short.fetch_or(is_small && is_given_up, Ordering::Relaxed);
    }
}

/// Writes what a pusher reports into the story, and notes its requests that a time limit ended.
fn events(story: &Story, limits: &Arc<Limits>, who: usize, started: Instant) -> impl Fn(Event) + Send + Sync + use<> {
    let (story, limits) = (Arc::clone(story), Arc::clone(limits));
    move |event: Event| {
        let line = match event {
            Event::Note(line) | Event::Warning(line) => line,
            Event::Request(record) if record.status.is_none() => {
                limits.add(&record);
                record.to_string()
            }
            _ => return,
        };
        let line = format!("{:6} ms, pusher {who}: {line}", started.elapsed().as_millis());
        writeln!(story.lock().unwrap(), "{line}").unwrap();
    }
}

fn tell(story: &Story, log: &[LogEntry]) {
    let mut story = story.lock().unwrap();
    for (n, entry) in log.iter().enumerate() {
        let LogEntry { status, method, operation, body_bytes, .. } = entry;
        let range = entry.content_range.as_deref().unwrap_or_default();
        let path = entry.path.split('?').next().unwrap();
        writeln!(story, "{n:3} {status:3} {method} {path} [{operation}] {body_bytes} {range}").unwrap();
    }
}

/// Runs a schedule and judges the result. Everything is logged to `story`.
async fn run(schedule: Schedule, name: String, samples: Arc<Samples>, story: Story) -> Result<Figures, String> {
    let sandbox = sandbox(&schedule).await;
    let line = (!schedule.line.is_empty()).then(|| FaultyProxy::to(sandbox.address(), &schedule.line));
    let cache = schedule.again.then(|| samples.scratch(&format!("cache of {name}")).into());
    let options = |schedule: &Schedule| {
        let mut options = options(&sandbox, schedule);
        options.layers.cache.clone_from(&cache);
        options
    };
    let started = Instant::now();
    let (cancel, pressed, limits) = (CancellationToken::new(), OnceLock::<CtrlC>::new(), Arc::<Limits>::default());
    let pushing = samples.of(&schedule).into_iter().enumerate().map(|(who, sample)| {
        let (request, mut options) = (request(&sample.path, &schedule), options(&schedule));
        if let Some(line) = &line {
            options.registries.ecr_endpoint = Some(line.address().to_string().parse().unwrap());
        }
        let cancel = if who == 0 { cancel.clone() } else { CancellationToken::new() };
        let (events, pressed) = (events(&story, &limits, who, started), &pressed);
        async move {
            let outcome = push(request, options, events, cancel).await;
            let pressed = pressed.get().filter(|_| who == 0);
            Ended { sample, outcome, ctrl_c: pressed.map(CtrlC::since) }
        }
    });
    let ended = tokio::select! {
        ended = join_all(pushing) => Ok(ended),
        why = hangs(&sandbox) => Err(why),
        () = ctrl_c(schedule.interruption, &sandbox, &cancel, &pressed) => unreachable!("it never returns"),
    };
    let took = started.elapsed();
    // A request that was given up is in the log once the sandbox has noticed. One that it never notices is no reason to fail.
    let _never = tokio::time::timeout(LATE, no_request_is_under_way(&sandbox)).await;
    let log = sandbox.log();
    tell(&story, &log);
    let pushers = ended?;
    for Ended { outcome, ctrl_c, .. } in &pushers {
        let errors: Vec<_> = outcome.targets.iter().map(|target| (&target.name, &target.error)).collect();
        writeln!(story.lock().unwrap(), "{errors:?}, {ctrl_c:?}").unwrap();
    }
    let mut left = Vec::new();
    // What has not happened yet never will, so that who tries again has nothing in the way.
    sandbox.set_rules(|rules| left = std::mem::take(&mut rules.faults));
    let faults = schedule.fired(&left);
    let slow = limits.timeouts.load(Ordering::Relaxed).saturating_sub(schedule.stalls(&faults));
    let is_late = pushers.iter().filter_map(|pusher| pusher.ctrl_c).any(|ctrl_c| ctrl_c.took >= GRACE);
    let is_cut_short = is_late || limits.is_cut_short.load(Ordering::Relaxed);
    let line = line.as_ref().map_or(0, FaultyProxy::struck);
    let struck = Struck { faults, line, slow, is_cut_short };
    writeln!(story.lock().unwrap(), "{struck:?}").unwrap();
    let entries = cache.as_ref().and_then(|cache: &PathBuf| std::fs::read_dir(cache.with_extension("uploads")).ok());
    // A stream that was interrupted leaves a note, and no session.
    let keeps_session = |path: &PathBuf| !std::fs::read_to_string(path).unwrap_or_default().contains("\"is_stream\"");
    let journalled = entries.map_or(0, |all| all.flatten().map(|entry| entry.path()).filter(keeps_session).count());
    let case = Case { schedule: &schedule, sandbox: &sandbox, struck, log, pushers, journalled };
    let traffic = case.judge()?;

    let failed = case.who_failed();
    if let Some(failed) = failed {
        let (complete, open) = (case.complete(failed), sandbox.open_uploads());
        let harmless = schedule.without_faults();
        let events = events(&story, &limits, 9, started);
        let request = request(&failed.sample.path, &harmless);
        let again = tokio::select! {
            outcome = push(request, options(&harmless), events, CancellationToken::new()) => outcome,
            why = hangs(&sandbox) => return Err(format!("pushed again: {why}")),
        };
        tell(&story, &sandbox.log()[case.log.len()..]);
        case.judge_again(failed, &complete, &again, open)?;
    }
    if ["QVdTO", "Basic ", "X-Amz-Signature"].iter().any(|secret| story.lock().unwrap().contains(secret)) {
        return Err("a secret is logged".into());
    }
    let with = |kind: Option<Kind>| {
        let errors = case.pushers.iter().map(|pusher| pusher.outcome.error().map(ecr_push::Error::kind));
        errors.filter(|found| *found == kind).count()
    };
    let interrupted = with(Some(Kind::Interrupted));
    Ok(Figures {
        faults: case.struck.faults.iter().map(|times| u64::from(*times)).sum::<u64>() + u64::from(case.struck.line),
        requests: case.log.len(),
        sent: traffic.sent,
        twice: traffic.twice,
        longest: took,
        failed: case.pushers.len() - with(None) - interrupted,
        interrupted,
        longest_ctrl_c: case.pushers.iter().filter_map(|it| Some(it.ctrl_c?.took)).max().unwrap_or_default(),
        races: usize::from(matches!(schedule.shape, Shape::Race { .. })),
        again: usize::from(failed.is_some()),
        slow: case.struck.slow,
    })
}

/// Waits until the sandbox serves no request.
async fn no_request_is_under_way(sandbox: &Sandbox) {
    while sandbox.requests_under_way() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs the schedules of these seeds, and returns their figures with what was found.
async fn run_all(seeds: impl Iterator<Item = u64>, samples: Arc<Samples>, tell: bool) -> (Figures, Vec<String>) {
    let runs = seeds.map(|seed| {
        let samples = Arc::clone(&samples);
        async move {
            let schedule = Schedule::of(seed);
            let shown = format!("seed {seed}: {schedule:?}");
            let story = Story::default();
            // A task of its own, so that a panic is one seed's affair.
            let ended = tokio::spawn(run(schedule, seed.to_string(), samples, Arc::clone(&story))).await;
            let ended = ended.unwrap_or_else(|died| Err(format!("it panics: {died}")));
            // A replay may run differently, so a failure prints all about it at once.
            if tell || ended.is_err() {
                let verdict = ended.as_ref().err().map(|why| format!("seed {seed}: {why}\n")).unwrap_or_default();
                say(&format!("{shown}\n{}{verdict}\n", story.lock().unwrap()));
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
fn under_every_schedule_a_push_succeeds_or_fails_for_a_reason() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    // A task that yields to others continues after so many of theirs: with 61, as usual, some did not for a second.
    let runtime = runtime.worker_threads(2).event_interval(7).enable_all().build().unwrap();
    let (seed, count) = (number("ECR_PUSH_SEED"), number("ECR_PUSH_SCHEDULES").unwrap_or(1000));
    let first = number("ECR_PUSH_FIRST").unwrap_or(0);
    let seeds = seed.map_or(first..first + count, |seed| seed..seed + 1);
    let schedules = seeds.end - seeds.start;
    let started = Instant::now();
    let (figures, failures) = runtime.block_on(async {
        let samples = Arc::new(Samples::make().await);
        run_all(seeds, samples, seed.is_some()).await
    });
    say(&format!(
        "fault schedules: {schedules} in {:.0} s, {} faults injected, {} requests, {} MB sent, {} MB of it twice, {} \
         pushes given up, longest finish {:.1} s, {} interrupted, longest Ctrl-C {:.1} s, {} races, {} pushed again, {} \
         timeouts without a stall\n",
        started.elapsed().as_secs_f64(),
        figures.faults,
        figures.requests,
        figures.sent / 1_000_000,
        figures.twice / 1_000_000,
        figures.failed,
        figures.longest.as_secs_f64(),
        figures.interrupted,
        figures.longest_ctrl_c.as_secs_f64(),
        figures.races,
        figures.again,
        figures.slow,
    ));
    assert!(failures.is_empty(), "{} of {schedules} schedules:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_kind_of_end_is_drawn() {
    let drawn: Vec<_> = (0..1000).map(Schedule::of).collect();
    let kinds: Vec<_> = drawn.iter().flat_map(|schedule| schedule.errors_that_fit(&schedule.worst())).collect();
    for kind in [Kind::Unavailable, Kind::Permission, Kind::Refused] {
        assert!(kinds.contains(&kind), "{kind:?}");
    }
    for elsewhere in [false, true] {
        assert!(drawn.iter().any(|schedule| schedule.shape == Shape::Two { elsewhere }), "two targets, {elsewhere}");
    }
    for other in [false, true] {
        assert!(drawn.iter().any(|schedule| schedule.shape == Shape::Race { other }), "a race, {other}");
    }
    assert!(drawn.iter().filter(|schedule| schedule.chunk_size().is_none()).count() > 50, "a stream on a long line");
    let again = |schedule: &&Schedule| schedule.again && schedule.interruption.is_some();
    assert!(drawn.iter().filter(again).count() > 50, "Ctrl-C, and another try");
    let hows: Vec<_> = drawn.iter().flat_map(|schedule| &schedule.line).map(|it| it.how).collect();
    for (name, found) in [
        ("close", hows.contains(&How::Close)),
        ("reset", hows.contains(&How::Reset)),
        ("cut", hows.iter().any(|how| matches!(how, How::CutAfter(_)))),
        ("cut answer", hows.iter().any(|how| matches!(how, How::CutAnswer(_)))),
        ("half-close", hows.iter().any(|how| matches!(how, How::Deaf(_)))),
        ("half-close there", hows.iter().any(|how| matches!(how, How::Mute(_)))),
        ("gone", hows.iter().any(|how| matches!(how, How::Gone(_)))),
    ] {
        assert!(found, "{name}");
    }
}
