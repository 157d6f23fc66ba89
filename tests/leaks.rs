//! Two hundred pushes in one process: no memory and no descriptor is left behind.
//!
//! In a process of its own, since what other tests hold would count too, and the sandbox in another.

#![cfg(all(target_os = "linux", feature = "sandbox"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ecr_push::{EndpointOverride, Options, PushRequest, Pusher, Source};
use tokio_util::sync::CancellationToken;

/// After so many pushes everything that is made once has been made.
const WARM: usize = 20;
const ALL: usize = 200;
const MEMORY: u64 = 4 << 20;

/// A sandbox in a process of its own. It ends when it is dropped.
struct Sandbox {
    child: Child,
    url: String,
}

impl Sandbox {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ecr-push"));
        let repositories: Vec<_> = (0..ALL).flat_map(|n| ["--repository".to_owned(), repository(n)]).collect();
        command.args(["sandbox", "--listen", "127.0.0.1:0"]).args(repositories).env_clear();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let url = lines.find_map(|line| line.split(' ').find(|word| word.starts_with("http://")).map(str::to_owned));
        Self { child, url: url.expect("the sandbox says where it listens") }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Every push has a repository of its own, so that it sends everything.
fn repository(n: usize) -> String {
    format!("team/app{n}")
}

fn request(archive: &str, n: usize) -> PushRequest {
    PushRequest::new(Source::Path(archive.into()), [format!("{}:1", repository(n)).parse().unwrap()])
}

fn options(sandbox: &Sandbox) -> Options {
    let address = sandbox.url.strip_prefix("http://").unwrap().parse().unwrap();
    let own = EndpointOverride { address, account: "000000000000".into(), region: "us-east-1".into() };
    let mut options = Options::default();
    options.registries.access = own.into();
    options.layers.threads = 1;
    options
}

/// The memory that this process has in use.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() << 10
}

/// What this process has open.
fn descriptors() -> Vec<String> {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let named = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let mut named: Vec<_> = named.map(|name| name.display().to_string()).collect();
    // Sockets have numbers of their own each time; the kind is what counts.
    named.iter_mut().for_each(|name| name.truncate(name.find('[').unwrap_or(name.len())));
    named.retain(|name| !name.starts_with("/proc/"));
    named.sort();
    named
}

/// Returns what is open now beside what was open before. Idle connections may have been closed since.
fn additional(now: &[String], before: &[String]) -> Vec<String> {
    let mut rest = before.to_vec();
    let is_new = |name: &&String| rest.iter().position(|other| other == *name).map(|at| rest.swap_remove(at)).is_none();
    now.iter().filter(is_new).cloned().collect()
}

/// Waits until nothing that was dropped is still being cleared away by another thread.
fn settled(expected: Option<&[String]>) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut last = descriptors();
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let now = descriptors();
        let done = expected.map_or(now == last, |expected| additional(&now, expected).is_empty());
        if done || Instant::now() > deadline {
            return now;
        }
        last = now;
    }
}

#[test]
fn two_hundred_pushes_leave_nothing_behind() {
    let sandbox = Sandbox::start();
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/docker-20.10-save.tar");
    let archive = archive.to_str().unwrap();
    // Each thread has a heap of its own, whose first use would count.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).max_blocking_threads(2).enable_all().build().unwrap();
    let start = async || Pusher::builder().options(options(&sandbox)).start().await.unwrap();
    let shared = runtime.block_on(start());
    let mut before = None;
    for n in 0..ALL {
        // One that pushes again and again, and one that pushes once.
        let pusher = if n % 2 == 0 { shared.clone() } else { runtime.block_on(start()) };
        let outcome = runtime.block_on(pusher.push(request(archive, n), CancellationToken::new()));
        assert!(outcome.error().is_none(), "push {n}: {:?}", outcome.error());
        assert!(outcome.targets[0].sent() > 0, "push {n} sends its layers");
        if n + 1 == WARM {
            before = Some((settled(None), memory()));
        }
    }
    let (open, used) = before.unwrap();
    let left = additional(&settled(Some(&open)), &open);
    assert!(left.is_empty(), "after {ALL} pushes {left:?} are open beside what was open after {WARM}: {open:?}");
    let grown = memory().saturating_sub(used);
    assert!(grown <= MEMORY, "{used} bytes after {WARM} pushes and {grown} more after {ALL}");
}
