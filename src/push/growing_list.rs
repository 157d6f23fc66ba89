//! A list that one thread extends while others read it from its start.

use super::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Items, then an end: a summary of type `S`, or an error of type `E`.
pub(super) struct GrowingList<T, S, E> {
    state: Mutex<State<T, S, E>>,
    changed: Condvar,
}

struct State<T, S, E> {
    items: Vec<T>,
    end: Option<Result<S, E>>,
}

/// What a reader gets at an index.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Next<T, S> {
    Item(T),
    End(S),
}

impl<T: Copy, S: Copy, E: Clone> GrowingList<T, S, E> {
    /// Creates an empty list without an end.
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State { items: Vec::new(), end: None }), changed: Condvar::new() }
    }

    /// Appends an item.
    pub(super) fn push(&self, item: T) {
        self.state().items.push(item);
        self.changed.notify_all();
    }

    /// Sets the end. No item follows it.
    pub(super) fn finish(&self, end: Result<S, E>) {
        self.state().end = Some(end);
        self.changed.notify_all();
    }

    /// Returns whether an error ended the list.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.state().end, Some(Err(_)))
    }

    /// Returns the last item so far.
    pub(super) fn last(&self) -> Option<T> {
        self.state().items.last().copied()
    }

    /// Waits for the item at `index` or for the end.
    ///
    /// # Errors
    /// Returns the error that ended the list, also if there is an item at `index`: a reader need not read what is incomplete.
    pub(super) fn wait_for(&self, index: usize) -> Result<Next<T, S>, E> {
        let mut state = self.state();
        loop {
            match (&state.end, state.items.get(index)) {
                (Some(Err(error)), _) => return Err(error.clone()),
                (_, Some(item)) => return Ok(Next::Item(*item)),
                (Some(Ok(summary)), None) => return Ok(Next::End(*summary)),
                (None, None) => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T, S, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
