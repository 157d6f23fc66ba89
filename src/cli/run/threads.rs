//! How many threads there are for a run: a container may have few.
//!
//! The operating system refuses threads and processes beyond a limit (`pids.max` of a cgroup, `ulimit -u`). tokio panics
//! without its first thread and waits for ever where all of its threads wait for work that needs one more. So the threads
//! are counted first, and where they are few, as many layers are under way as there are threads for.

use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use crate::archive::Source;
use crate::error::{Code, Error, Kind, Result};
use crate::file::FileId;
use crate::push::{LayerOptions, PushRequest};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinError;

/// More are not counted: with so many nothing is short.
const ENOUGH: usize = 64;

/// More workers gain nothing: they only move bytes between sockets.
const MOST_WORKERS: usize = 8;

/// Threads that wait for something other than a layer: an archive that is streamed, and a name server or a file.
const BESIDE_LAYERS: usize = 2;

/// Starts the runtime of pushes, and has fewer layers under way where there are few threads. So many `others` stay free for the
/// run.
///
/// # Errors
/// If there are too few for one layer.
pub(super) fn for_push(request: &PushRequest, options: &mut LayerOptions, others: usize) -> Result<Runtime> {
    let workers = workers();
    let layers = options.concurrency.max(1);
    // A layer is read on a thread, and sent on another one where there is one.
    let all = workers.saturating_add(layers.saturating_mul(2)).saturating_add(options.threads + BESIDE_LAYERS + 1);
    let wanted = all.min(ENOUGH) + others;
    let available = available(wanted)?.saturating_sub(others);
    if available + others == wanted {
        return start(Builder::new_multi_thread().worker_threads(workers));
    }
    // Each target may read a layer for itself; what is streamed is written to a file by one more thread.
    let is_in_place =
        request.sources().all(|(source, _)| matches!(source, Source::Path(path) if FileId::of(path).is_some()));
    let a_layer = request.targets.len() + usize::from(!is_in_place);
    let least = BESIDE_LAYERS + a_layer;
    if available < least {
        return Err(too_few(format!("{available} threads can be started, but a push needs at least {least}")));
    }
    let layers = ((available / 2).saturating_sub(BESIDE_LAYERS) / a_layer).clamp(1, layers);
    let blocking = BESIDE_LAYERS + layers * a_layer;
    options.concurrency = layers;
    options.large_concurrency = options.large_concurrency.min(layers);
    options.threads = options.threads.min((available - blocking) / 2);
    let runtime = start(
        // The calling thread does the work of the workers. A thread that was started stays, so there is always one.
        Builder::new_current_thread().max_blocking_threads(blocking).thread_keep_alive(Duration::from_secs(1 << 30)),
    )?;
    let all_started = Arc::new(Barrier::new(blocking));
    for _ in 0..blocking {
        let all_started = Arc::clone(&all_started);
        runtime.spawn_blocking(move || all_started.wait());
    }
    Ok(runtime)
}

/// Starts the runtime of what moves no layers, and needs no threads beside its workers.
pub(super) fn for_requests() -> Result<Runtime> {
    let workers = workers();
    if available(workers)? == workers {
        return start(Builder::new_multi_thread().worker_threads(workers));
    }
    start(&mut Builder::new_current_thread())
}

/// Runs a push to its end, on a worker: connections are served there, so a request changes threads less often than it would
/// between a worker and the calling thread.
pub(super) fn run<T: Send + 'static>(
    runtime: &Runtime,
    push: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    result_of(runtime.block_on(runtime.spawn(push)))?
}

/// Returns the result of a task that ended. A panic goes on.
///
/// # Errors
/// If the task was aborted.
pub(super) fn result_of<T>(ended: std::result::Result<T, JoinError>) -> Result<T> {
    ended.map_err(|ended| match ended.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Error::interrupted(),
    })
}

fn workers() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(MOST_WORKERS)
}

fn start(builder: &mut Builder) -> Result<Runtime> {
    builder.enable_all().build().map_err(too_few)
}

/// Returns the error of a thread that cannot be started.
pub(super) fn too_few(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Kind::Unavailable, "cannot start: the limit of threads or processes is too low")
        .code(Code::ResourcesExhausted)
        .because(why)
        .hint("Raise the limit of the container or the user (pids limit, ulimit -u), or end other processes.")
}

/// Counts how many threads, up to `wanted`, can run at the same time.
fn available(wanted: usize) -> Result<usize> {
    let (end, ended) = mpsc::channel::<()>();
    let ended = Arc::new(std::sync::Mutex::new(ended));
    let mut threads = Vec::new();
    for _ in 0..wanted {
        let ended = Arc::clone(&ended);
        // It ends when the sender is gone.
        let wait = move || drop(ended.lock().map(|ended| ended.recv()));
        match thread::Builder::new().stack_size(64 << 10).spawn(wait) {
            Ok(thread) => threads.push(thread),
            Err(_) => break,
        }
    }
    drop(end);
    let count = threads.len();
    for thread in threads {
        thread.join().map_err(|_| Error::internal("a thread that only waits died"))?;
    }
    Ok(count)
}
