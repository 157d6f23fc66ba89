//! The standard library's locks, channels and threads.
//!
//! `tests/shuttle.rs` compiles files of this folder with those of the model checker instead.

pub(super) use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
pub(super) use std::thread;

use std::io;
use std::thread::{Scope, ScopedJoinHandle};

/// Starts a thread of a scope.
pub(super) fn spawn_scoped<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    thread::Builder::new().spawn_scoped(scope, work)
}

/// Locks a mutex, even if a thread panicked while it held the lock: the data is still consistent.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
