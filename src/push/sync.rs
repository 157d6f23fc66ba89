//! The standard library's locks, as the list of a spooled layer uses them.
//!
//! `tests/shuttle.rs` compiles `growing_list.rs` with the model checker's own in their place.

pub(super) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
