//! Malicious archives: real ones, changed in ways that seeds decide, and everything that reads
//! them: `archive::open`, the choice, the making of manifests, the layers.
//!
//! Whatever comes in, it is read within [`BOUND`] of heap and in time, and either refused in words or found to be
//! true by other code than the reader's. `ECR_PUSH_CASES=200000` runs more cases, `ECR_PUSH_FIRST=5000` others, and
//! `ECR_PUSH_SEED=7` replays one and prints it.
//!
//! `tests/fuzz/guided` has targets that coverage guides, which `.ci/fuzz` runs.
//!
//! The cases run in processes of their own, one for each core: so each knows what it takes of the heap, and what brings
//! a process down is the finding of one seed.
//!
//! Faults that were planted in the reader, with the number of the case that found each first, as cases were drawn then:
//!
//! | fault | case |
//! |---|---|
//! | `RepoTags` unwrapped | 6 |
//! | control characters passed on | 35 |
//! | of several images the first is taken | 37 |
//! | `--platform` takes any | 38 |
//! | a blob's size not compared | 53 |
//! | `..` above the root unwrapped | 77 |
//! | a slice inside a character | 114 |
//! | a document of another digest | 141 |
//! | an entry behind the file's end | 146 |
//! | a zstd archive that breaks off is taken | 200 |
//! | a manifest's `config` unwrapped | 316 |
//! | the end mark never asked for | 324 |
//! | the first gzip member alone | 387 |
//! | links without a limit | 661 |
//! | diff_ids not counted | 705 |
//! | `--image-id` fits every image | 799 |
//! | no limit of depth | 876 |
//! | the end mark always asked for | 1302 |
//! | no limit of descriptors | 2072 |
//! | a zstd layer that breaks off is taken | 2095 |
//! | a zstd window of 2^31 | 2465 |
//! | manifests of 8 MiB | 3635 |
//! | `--image`, `--image-id`, `--platform` take the first of several that fit | none of 5000, but tests of `src/image` |

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "fuzz/archive.rs"]
mod archive;
#[path = "fuzz/damage.rs"]
mod damage;
#[path = "fuzz/dice.rs"]
mod dice;
#[path = "fuzz/json.rs"]
mod json;
#[path = "fuzz/judge.rs"]
mod judge;
#[path = "fuzz/layers.rs"]
mod layers;
#[path = "fuzz/samples.rs"]
mod samples;
#[cfg(feature = "sandbox")]
#[path = "fuzz/sandbox.rs"]
mod sandbox;
#[path = "fuzz/sparse.rs"]
mod sparse;

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use damage::Case;
use judge::{Judge, Seen};
use samples::Samples;

/// The heap as Rust code uses it. libzstd's own is bounded by the window, 128 MiB.
#[global_allocator]
static HEAP: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

/// What a case may take of the heap above its own bytes. A xz file has its window on top, [`XZ_WINDOW`].
const BOUND: usize = 64 << 20;

/// The window that a xz file may ask for, with what its decoder needs besides.
const XZ_WINDOW: usize = 130 << 20;

/// How long a case may take before it counts as hanging. Most take a few milliseconds.
const DEADLINE: Duration = Duration::from_secs(20);

/// Which cases a process runs: `first step end file`. Its figures go into the file.
const SHARE: &str = "ECR_PUSH_SHARE";

/// A share is given up after so many failures.
const ENOUGH: usize = 10;

/// What cases came to.
#[derive(Default)]
struct Figures {
    cases: u64,
    opened: u64,
    reached: u64,
    layers: u64,
    peak: u64,
    longest: u64,
    failures: Vec<String>,
}

impl Figures {
    fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.opened += other.opened;
        self.reached += other.reached;
        self.layers += other.layers;
        self.peak = self.peak.max(other.peak);
        self.longest = self.longest.max(other.longest);
        self.failures.extend(other.failures);
    }

    fn to_json(&self) -> Value {
        json!([self.cases, self.opened, self.reached, self.layers, self.peak, self.longest, self.failures])
    }

    fn of_json(json: &Value) -> Self {
        let number = |at: usize| json[at].as_u64().unwrap();
        let failures = json[6].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect();
        let [cases, opened, reached, layers, peak, longest] = [0, 1, 2, 3, 4, 5].map(number);
        Self { cases, opened, reached, layers, peak, longest, failures }
    }
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

/// A folder in memory, where there is one, that goes away with the test.
fn scratch() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("ecr-push-fuzz-").tempdir_in(folder).unwrap()
}

/// Ends the process if a case hangs, and says which.
fn watch(current: Arc<Mutex<(u64, Instant)>>) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(100));
            let (seed, since) = *current.lock().unwrap();
            if since.elapsed() > DEADLINE {
                say(&format!("ECR_PUSH_SEED={seed}: it hangs: {} s\n", DEADLINE.as_secs()));
                std::process::abort();
            }
        }
    });
}

/// Runs the cases of these seeds.
fn run(seeds: impl Iterator<Item = u64>) -> Figures {
    let samples = Samples::load();
    let scratch = scratch();
    let mut judge = Judge::new(scratch.path());
    let current = Arc::new(Mutex::new((0, Instant::now())));
    watch(Arc::clone(&current));
    let mut figures = Figures::default();
    let alone = number("ECR_PUSH_SEED").is_some();
    if !alone {
        // The message of a panic is printed at the end.
        std::panic::set_hook(Box::new(|panic| match panic.location() {
            Some(place) if place.file().ends_with("fuzz.rs") => say(&format!("{panic}\n")),
            _ => {}
        }));
    }
    for seed in seeds {
        let started = Instant::now();
        *current.lock().unwrap() = (seed, started);
        let case = catch_unwind(|| Case::of(seed, &samples)).unwrap_or_else(|_| panic!("case {seed} cannot be made"));
        let before = HEAP.current_usage();
        HEAP.reset_peak_usage();
        let seen = catch_unwind(AssertUnwindSafe(|| judge.judge(&case))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(format!("it panics: {}", text.unwrap_or_default()))
        });
        let peak = HEAP.peak_usage().saturating_sub(before);
        let bound = BOUND + if case.is_xz() { XZ_WINDOW } else { 0 };
        let seen = seen.and_then(|seen| match peak {
            // The judge has packed, unpacked and compared bytes of its own.
            peak if peak > bound + case.len() + seen.judged => Err(format!("it takes {} MiB", peak >> 20)),
            _ => Ok(seen),
        });
        let took = started.elapsed();
        if alone {
            say(&format!("seed {seed}: {case}\n{seen:?}, {took:?}, {} KiB of heap\n", peak >> 10));
        }
        figures.cases += 1;
        figures.peak = figures.peak.max(peak as u64);
        figures.longest = figures.longest.max(took.as_millis() as u64);
        match seen {
            Ok(Seen { opened, layers, .. }) => {
                figures.opened += u64::from(opened);
                figures.reached += u64::from(layers > 0);
                figures.layers += layers;
            }
            Err(why) => figures.failures.push(format!("ECR_PUSH_SEED={seed} (case {}): {why}", figures.cases)),
        }
        if figures.failures.len() == ENOUGH {
            break;
        }
    }
    figures
}

/// Runs the cases in processes, one for each core.
fn run_apart(first: u64, count: u64) -> Figures {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let scratch = scratch();
    let children: Vec<_> = (0..cores)
        .map(|core| {
            let file = scratch.path().join(core.to_string());
            let share = format!("{} {cores} {} {}", first + core, first + count, file.display());
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "a_hostile_archive_is_refused_or_true", "--nocapture"]);
            command.env_clear().env(SHARE, share).stdin(Stdio::null()).stdout(Stdio::null());
            (file, command.spawn().unwrap())
        })
        .collect();
    let mut figures = Figures::default();
    for (file, mut child) in children {
        let status = child.wait().unwrap();
        match std::fs::read(&file) {
            Ok(bytes) => figures.add(Figures::of_json(&serde_json::from_slice(&bytes).unwrap())),
            Err(_) => figures.failures.push(format!("a process ended with {status}: what it said is above")),
        }
    }
    figures
}

#[test]
fn a_hostile_archive_is_refused_or_true() {
    if let Ok(share) = std::env::var(SHARE) {
        let [first, step, end, file] = share.splitn(4, ' ').collect::<Vec<_>>()[..] else { panic!("{share}") };
        let [first, step, end] = [first, step, end].map(|number| number.parse::<u64>().unwrap());
        let figures = run((first..end).step_by(step as usize));
        return std::fs::write(file, figures.to_json().to_string()).unwrap();
    }
    let started = Instant::now();
    let figures = match number("ECR_PUSH_SEED") {
        Some(seed) => run(std::iter::once(seed)),
        None => run_apart(number("ECR_PUSH_FIRST").unwrap_or(0), number("ECR_PUSH_CASES").unwrap_or(5000)),
    };
    let Figures { cases, opened, reached, layers, peak, longest, failures } = figures;
    say(&format!(
        "hostile archives: {cases} in {:.0} s, {opened} opened, {reached} reached a layer, {layers} layers read, {} MiB of \
         heap at most, longest {:.1} s\n",
        started.elapsed().as_secs_f64(),
        peak >> 20,
        longest as f64 / 1000.0,
    ));
    assert!(failures.is_empty(), "{} of {cases} cases:\n{}", failures.len(), failures.join("\n"));
    assert!(cases < 1000 || reached * 5 >= cases, "a fifth of the cases reach a layer, or they tell too little");
}
