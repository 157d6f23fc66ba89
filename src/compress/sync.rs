//! The standard library's locks, channels and threads, as this folder uses them.
//!
//! `tests/shuttle.rs` compiles the files above this one with the model checker's own in their place.

pub(super) use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
pub(super) use std::thread;

use std::io;
use std::thread::{Scope, ScopedJoinHandle};

/// Starts a thread of a scope, or returns why the operating system starts none.
pub(super) fn spawn_scoped<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    thread::Builder::new().spawn_scoped(scope, work)
}

/// Locks a mutex. A panic while one of these locks was held leaves plain data behind that is still right.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
