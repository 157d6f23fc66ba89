//! What goes wrong on purpose. Data only: tests say what should fail, how often, and after how many successes.

use std::time::Duration;

/// Something that goes wrong on purpose.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// The operation it befalls, as [`LogEntry::operation`](super::LogEntry::operation) names it; `*` is any.
    pub on: String,
    /// How many matching requests still pass unharmed.
    pub skip: u32,
    /// How many matching requests are still to be harmed.
    pub times: u32,
    /// What happens to them.
    pub what: Trouble,
}

/// What happens to a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// It is refused, once its body has been read.
    Status {
        /// The HTTP status.
        status: u16,
        /// The error code: `DENIED`, `ServerException`.
        code: String,
        /// The sentence.
        message: String,
    },
    /// It is one too many: 429 `TOOMANYREQUESTS` "Rate exceeded"
    /// (<https://github.com/google/go-containerregistry/issues/750>), on the JSON face 400 `ThrottlingException`. ECR
    /// was never seen to send a `Retry-After`.
    Throttle {
        /// What `Retry-After` says, in whole seconds.
        retry_after: Option<Duration>,
    },
    /// The connection breaks after so many bytes of its body. A body that is no longer than that is taken whole, the
    /// work is done, and the answer gets lost.
    CutAfter(u64),
    /// Nothing is read and nothing answered until the client goes away.
    Stall,
    /// The connection is closed at once.
    HangUp,
    /// All tokens handed out so far expire, and then the request is served as usual.
    ExpireTokens,
}

impl Fault {
    /// The first matching request goes wrong.
    pub fn once(on: impl Into<String>, what: Trouble) -> Self {
        Self { on: on.into(), skip: 0, times: 1, what }
    }

    /// Lets `skip` matching requests pass first.
    #[must_use]
    pub fn after(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }

    /// Harms `times` requests.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }
}

/// Takes what befalls a request for `operation` off the list. Of several faults that are due, the first one wins.
pub(super) fn next(faults: &mut [Fault], operation: &str) -> Option<Trouble> {
    let mut due = None;
    for fault in faults.iter_mut().filter(|fault| fault.on == "*" || fault.on == operation) {
        if fault.skip > 0 {
            fault.skip -= 1;
        } else if fault.times > 0 && due.is_none() {
            fault.times -= 1;
            due = Some(fault.what.clone());
        }
    }
    due
}
