//! The packing threads: one set for all layers of a push, with a bound on the blocks in flight.

use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::buffer::Stock;

/// The packing threads: one set for all layers of a push.
#[derive(Debug)]
pub struct Pool {
    pub(super) stock: Stock,
    jobs: Option<mpsc::Sender<Job>>,
    threads: Vec<thread::JoinHandle<()>>,
    permits: Mutex<usize>,
}

/// What a thread does.
type Job = Box<dyn FnOnce() + Send>;

impl Pool {
    /// Starts `threads` packing threads, or as many as the operating system allows. Without one whoever hands in work does it.
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
            thread::Builder::new().name(format!("pack-{n}")).spawn(move || work(queue)).ok()
        });
        let threads: Vec<_> = started.collect();
        let permits = Mutex::new(threads.len() + 2);
        Self { stock: Stock::default(), jobs: Some(jobs).filter(|_| !threads.is_empty()), threads, permits }
    }

    /// Hands work to the threads; its result comes through the receiver.
    pub(super) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
        let (answer, result) = mpsc::sync_channel(1);
        let job: Job = Box::new(move || {
            // Nobody waits any more if the layer was given up.
            let _given_up = answer.send(work());
        });
        match &self.jobs {
            // It fails only if every thread is gone; then the receiver says so.
            Some(jobs) => drop(jobs.send(job)),
            None => job(),
        }
        result
    }

    /// The right to one more block in flight, if there is one left.
    pub(super) fn try_permit(&self) -> Option<Permit<'_>> {
        let mut free = lock(&self.permits);
        *free = free.checked_sub(1)?;
        Some(Permit { pool: Some(self) })
    }

    /// How many rights are left.
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

/// The right to have one block in flight.
pub(super) struct Permit<'a> {
    pool: Option<&'a Pool>,
}

impl Permit<'_> {
    /// The right to the one block that every layer may have, whatever the others do.
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

/// A panic while one of these locks was held leaves plain data behind that is still right.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
