//! Values that are fetched once for all who want them.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use tokio::sync::OnceCell;

use crate::sync::lock;

type Cell<V, E> = Arc<OnceCell<Result<V, E>>>;

/// Values by their keys, each fetched by the first who wants it. An error goes to all who wait for it, and is forgotten then:
/// later callers try again.
pub(super) struct Shared<K, V, E>(Mutex<HashMap<K, Cell<V, E>>>);

impl<K: Clone + Eq + Hash, V: Clone, E: Clone> Shared<K, V, E> {
    /// Returns the value of `key`, fetched by `fetch` unless somebody else has it or is fetching it.
    ///
    /// # Errors
    /// Those of `fetch`.
    pub(super) async fn get(&self, key: K, fetch: impl AsyncFnOnce() -> Result<V, E>) -> Result<V, E> {
        let cell = Arc::clone(lock(&self.0).entry(key.clone()).or_default());
        let value = cell.get_or_init(async || fetch().await).await.clone();
        if value.is_err() {
            let mut cells = lock(&self.0);
            if cells.get(&key).is_some_and(|known| Arc::ptr_eq(known, &cell)) {
                cells.remove(&key);
            }
        }
        value
    }
}

impl<K, V, E> Default for Shared<K, V, E> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_value_is_fetched_once_and_an_error_is_not_remembered() {
        let (shared, count) = (Shared::<u8, usize, usize>::default(), &AtomicUsize::new(0));
        let fetch = |is_good: bool| {
            shared.get(7, async move || {
                let count = count.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                if is_good { Ok(count) } else { Err(count) }
            })
        };
        assert_eq!(tokio::join!(fetch(false), fetch(false)), (Err(0), Err(0)));
        assert_eq!(tokio::join!(fetch(true), fetch(true)), (Ok(1), Ok(1)));
        assert_eq!(fetch(false).await, Ok(1));
    }
}
