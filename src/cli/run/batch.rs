//! Runs a batch. An archive of several lines is opened once.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::frame::Frame;
use super::many::{Pushes, THREADS, events_of_many, read_list};
#[cfg(feature = "sandbox")]
use super::sandbox;
use super::threads;
use crate::archive::Source;
use crate::cli::batch::{Batch, BatchArgs, Line, batch};
use crate::cli::values::input_name;
use crate::error::Result;
use crate::file::FileId;
use crate::push::{Outcome, PushRequest, Pusher};

pub(super) fn run(args: BatchArgs) -> Result<ExitCode> {
    let name = input_name(&args.file);
    let text = read_list("batch", &args.file)?;
    let mut batch = batch(&text, args, &|name| std::env::var_os(name))?;
    drop(text);
    // A batch without lines is that of a shard that has none of them.
    let largest = batch.lines.iter().max_by_key(|line| line.request.targets.len());
    let request = largest.map_or_else(|| PushRequest::new(Source::StandardInput, []), |line| line.request.clone());
    let Some(options) = batch.options.values_mut().next() else { return Ok(ExitCode::SUCCESS) };
    let runtime = threads::for_push(&request, &mut options.layers, THREADS)?;
    let (concurrency, large, threads) =
        (options.layers.concurrency, options.layers.large_concurrency, options.layers.threads);
    for options in batch.options.values_mut() {
        (options.layers.concurrency, options.layers.large_concurrency) = (concurrency, large);
        options.layers.threads = threads;
    }
    let done = threads::run(&runtime, push_all(batch, name));
    // As after one push, the process does not wait for a thread that hangs.
    runtime.shutdown_background();
    done
}

async fn push_all(batch: Batch, name: String) -> Result<ExitCode> {
    let Batch { lines, mut options, output, reporting, sandbox, fail_fast } = batch;
    let verbosity = reporting.verbosity;
    let all_targets = || lines.iter().flat_map(|line| line.request.targets.iter().cloned());
    let Some(first) = options.values().next().cloned() else { return Ok(ExitCode::SUCCESS) };
    let dry_run = first.dry_run;
    let sources = lines.iter().flat_map(|line| line.request.sources()).map(|(source, _)| source);
    let frame = Frame::start(sources, 1, &first, reporting)?;
    #[cfg(feature = "sandbox")]
    let _sandboxes = {
        let everything = PushRequest::new(Source::StandardInput, all_targets());
        let mut shared = first;
        let sandboxes = sandbox::endpoint_override(sandbox, &everything, &mut shared, frame.log()).await?;
        if sandboxes.is_some() {
            options.values_mut().for_each(|options| options.registries.access = shared.registries.access.clone());
        }
        sandboxes
    };
    #[cfg(not(feature = "sandbox"))]
    let (_, _, _, _) = (sandbox, all_targets, first, &mut options);
    let mut pushers = HashMap::new();
    for (roles, options) in options {
        let events = events_of_many(&frame.events, verbosity);
        let pusher = Pusher::builder().options(options).on_event(move |event| events(event)).start().await?;
        pushers.insert(roles, pusher);
    }
    let pushes = Pushes::new(&frame, output, name, lines.len()).with(fail_fast, dry_run);
    let archives = Arc::new(Archives::of(&lines));
    let push = |Line { number, mut request, roles }: Line| {
        // The roles of each line have a pusher.
        let (pusher, archives, stop) = (pushers[&roles].clone(), Arc::clone(&archives), frame.cancel.clone());
        async move {
            let name = request.targets.first().map(ToString::to_string).unwrap_or_default();
            let name = format!("line {number}: {name}");
            let sources: Vec<Source> = request.sources().map(|(source, _)| source.clone()).collect();
            let mut opened = Ok(());
            for source in std::iter::once(&mut request.source).chain(request.join.iter_mut().map(|(source, _)| source))
            {
                match archives.open(&pusher, source, &stop).await {
                    Ok(archive) => *source = archive,
                    Err(error) => opened = Err(error),
                }
            }
            let outcome = match opened {
                Ok(()) => pusher.push(request, stop).await,
                Err(error) => Outcome::failed(&request, pusher.options(), error),
            };
            for source in &sources {
                archives.release(source).await;
            }
            (name, outcome)
        }
    };
    pushes.run(lines.into_iter().map(push)).await
}

/// The most archives of several lines that are open at a time. Others are opened by each of their pushes.
const MAX_OPEN: usize = 16;

/// The archives of several lines, whatever their paths. Each is open from the first of its pushes to the last.
struct Archives {
    shared: HashMap<FileId, Shared>,
    open: AtomicUsize,
}

struct Shared {
    /// The lines that still need it.
    lines: AtomicUsize,
    opened: Mutex<Option<Source>>,
}

impl Archives {
    /// Counts the lines of each archive. One of a single line is opened by its push.
    fn of(lines: &[Line]) -> Self {
        let mut counts: HashMap<FileId, usize> = HashMap::new();
        for (source, _) in lines.iter().flat_map(|line| line.request.sources()) {
            if let Some(id) = id(source) {
                *counts.entry(id).or_default() += 1;
            }
        }
        counts.retain(|_, lines| *lines > 1);
        let shared = |(id, lines)| (id, Shared { lines: AtomicUsize::new(lines), opened: Mutex::default() });
        Self { shared: counts.into_iter().map(shared).collect(), open: AtomicUsize::new(0) }
    }

    /// Returns the archive of a line, open if other lines need it as well. They wait for the first that opens it.
    async fn open(&self, pusher: &Pusher, source: &Source, stop: &CancellationToken) -> Result<Source> {
        let Some(shared) = id(source).and_then(|id| self.shared.get(&id)) else { return Ok(source.clone()) };
        let mut opened = shared.opened.lock().await;
        match &*opened {
            Some(opened) => Ok(opened.clone()),
            None if self.open.load(Ordering::Relaxed) >= MAX_OPEN => Ok(source.clone()),
            None => {
                let archive = Source::Opened(pusher.open(source, stop).await?);
                self.open.fetch_add(1, Ordering::Relaxed);
                *opened = Some(archive.clone());
                Ok(archive)
            }
        }
    }

    /// Notes that a line is done.
    async fn release(&self, source: &Source) {
        if let Some(shared) = id(source).and_then(|id| self.shared.get(&id))
            && shared.lines.fetch_sub(1, Ordering::Relaxed) == 1
            && shared.opened.lock().await.take().is_some()
        {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Returns the identity of an archive, unless it can be read only once.
fn id(source: &Source) -> Option<FileId> {
    match source {
        Source::Path(path) => FileId::of(path),
        Source::StandardInput | Source::Engine(_) | Source::Opened(_) => None,
    }
}
