//! Lookups that only save time: they get a limit, and a failure is a note.

use std::time::Duration;

use crate::error::{Error, Kind, Result};

/// How long a lookup may take that only saves time.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// Returns an error with what the registry answered, in one line.
pub(super) fn described(error: &Error) -> String {
    error.service_error().map_or_else(|| error.to_string(), |answer| format!("{error}: {answer}"))
}

/// Gives a lookup that only saves time a limit.
pub(super) async fn in_time<T>(lookup: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Error::new(Kind::Unavailable, format!("no answer within {} s", TIME_LIMIT.as_secs()));
    tokio::time::timeout(TIME_LIMIT, lookup).await.map_err(late)?
}
