//! The compression threads for all layers of a push, with a limit for the blocks in flight.

use std::{fmt, io};

use super::buffer::BufferStock;
use super::sync::{Arc, Mutex, lock, mpsc, thread};

/// A set of compression threads that all layers of a push share.
pub struct Pool {
    pub(super) stock: BufferStock,
    jobs: Option<mpsc::Sender<Job>>,
    threads: Vec<thread::JoinHandle<()>>,
    permits: Mutex<usize>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Pool {
    /// Starts `threads` threads, or as many as the operating system allows. If there is none, the thread that submits work
    /// does it itself.
    pub fn start(threads: usize) -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let work = |queue: Arc<Mutex<mpsc::Receiver<Job>>>| {
            loop {
                let next = lock(&queue).recv();
                let Ok(job) = next else { return };
                job();
            }
        };
        let started = (0..threads).map_while(|n| {
            let queue = Arc::clone(&queue);
            thread::Builder::new().name(format!("compress-{n}")).spawn(move || work(queue)).ok()
        });
        let threads: Vec<_> = started.collect();
        let permits = Mutex::new(2 * threads.len() + 2);
        Self { stock: BufferStock::default(), jobs: Some(jobs).filter(|_| !threads.is_empty()), threads, permits }
    }

    /// Submits work; its result arrives through the receiver.
    pub(super) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
        let (answer, result) = mpsc::sync_channel(1);
        let job: Job = Box::new(move || {
            // The receiver was dropped if the layer was abandoned.
            let _abandoned = answer.send(work());
        });
        match &self.jobs {
            // It fails only if all threads have ended; then the receiver reports that.
            Some(jobs) => drop(jobs.send(job)),
            None => job(),
        }
        result
    }

    /// Returns the permission to have one more block in flight, unless the limit is reached.
    pub(super) fn try_permit(&self) -> Option<Permit<'_>> {
        let mut free = lock(&self.permits);
        *free = free.checked_sub(1)?;
        Some(Permit { pool: Some(self) })
    }

    /// Returns the number of unused permits.
    #[cfg(test)]
    pub(super) fn permits(&self) -> usize {
        *lock(&self.permits)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

/// The permission to have one block in flight. It returns to the pool when dropped.
pub(super) struct Permit<'a> {
    pool: Option<&'a Pool>,
}

impl Permit<'_> {
    /// Returns the permit for the one block that every layer may always have in flight.
    pub(super) fn own() -> Self {
        Self { pool: None }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(pool) = self.pool {
            *lock(&pool.permits) += 1;
        }
    }
}

/// The error that a thread of this program panicked. It is not an error of the layer.
#[derive(Debug)]
pub(crate) struct ThreadPanicked(&'static str);

impl ThreadPanicked {
    /// Returns the error that the thread of this name panicked.
    pub(super) fn error(thread: &'static str) -> io::Error {
        io::Error::other(Self(thread))
    }

    /// Returns whether `error` is of this type.
    pub(crate) fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

impl fmt::Display for ThreadPanicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} panicked", self.0)
    }
}

impl std::error::Error for ThreadPanicked {}
